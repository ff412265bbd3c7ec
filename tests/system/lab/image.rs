//! Layers of disks: a base by `debootstrap`, and what machines left behind.

use super::Unfit;
use super::command::{fetch, must};
use sha2::{Digest as _, Sha256};
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::time::Duration;

const SUITE: &str = "bookworm";
/// Raise it when [`finish`] changes: it names the cached folder.
const RECIPE: &str = "1";

/// One layer of a machine's disk: a folder that only machines read.
#[derive(Clone, Debug)]
pub struct Layer {
    path: PathBuf,
}

impl Layer {
    pub(super) fn at(path: PathBuf) -> Self {
        Self { path }
    }

    /// Where its files lie.
    pub fn path(&self) -> &Path {
        &self.path
    }
}

/// The base with these packages, from the cache or the mirror (`$ZETA_BFT_MIRROR`).
pub(super) fn debian(cache: &Path, packages: &[&str]) -> Result<Layer, Unfit> {
    cached(cache, SUITE, &[&[SUITE, RECIPE], packages].concat(), |half| {
        let mirror = std::env::var("ZETA_BFT_MIRROR").ok();
        eprintln!("system tests: making the base image, once, into {}", cache.display());
        let place = half.to_str().ok_or_else(|| Unfit::NotHere("the cache's path is no text".to_owned()))?;
        let include = format!("--include={}", packages.join(","));
        let mut words = vec!["debootstrap", "--variant=minbase", &include, SUITE, place];
        words.extend(mirror.as_deref());
        fetch(Duration::from_secs(900), &words)?;
        finish(half, place)
    })
}

/// A layer that `make` fills once, in a folder named by all that it is made of.
pub(super) fn cached(
    cache: &Path,
    name: &str,
    parts: &[&str],
    make: impl FnOnce(&Path) -> Result<(), Unfit>,
) -> Result<Layer, Unfit> {
    let mut hash = Sha256::new();
    for part in parts {
        hash.update(part.as_bytes());
        hash.update([0]);
    }
    let key = &data_encoding::HEXLOWER.encode(&hash.finalize())[..16];
    let path = cache.join(format!("{name}-{key}"));
    // Whoever comes second waits for the first one's.
    let lock = File::create(cache.join("lock"))?;
    lock.lock()?;
    if path.exists() {
        return Ok(Layer { path });
    }
    let half = cache.join(format!("{name}-{key}.part"));
    if half.exists() {
        fs::remove_dir_all(&half)?;
    }
    fs::create_dir_all(&half)?;
    make(&half)?;
    fs::rename(&half, &path)?;
    Ok(Layer { path })
}

/// What makes a base a quiet machine: nothing on timers, no console, no identity.
fn finish(root: &Path, place: &str) -> Result<(), Unfit> {
    let below = format!("--root={place}");
    let timers =
        ["apt-daily.timer", "apt-daily-upgrade.timer", "dpkg-db-backup.timer", "e2scrub_all.timer", "fstrim.timer"];
    must(&[&["systemctl", &below, "--quiet", "mask", "console-getty.service"], &timers[..]].concat())?;
    for entry in fs::read_dir(root.join("var/cache/apt/archives"))? {
        let path = entry?.path();
        if path.extension().is_some_and(|extension| extension == "deb") {
            fs::remove_file(path)?;
        }
    }
    fs::write(root.join("etc/machine-id"), "")?;
    fs::write(root.join("etc/hosts"), "127.0.0.1 localhost\n")?;
    Ok(())
}
