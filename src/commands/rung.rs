//! `zeta-bft rung`

use super::ask::print;
use crate::config::paths::Paths;
use crate::error::Failure;
use crate::files;
use crate::rung::{RungError, carry_out};
use std::io::{self, ErrorKind, Write as _};
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::ExitCode;

/// Carries one rung of a ladder out: what `zeta-bft-rung@.service` runs.
///
/// The action is the configuration's; the name only says which. What it printed is left where the warden reads it.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The unit's instance: subject and number of the rung, such as `otto-1`.
    instance: String,
}

/// Runs the command.
///
/// # Errors
/// [`Failure`] for people.
pub fn run(paths: &Paths, args: &Args) -> Result<ExitCode, Failure> {
    let instance = args.instance.as_str();
    if instance.contains('/') || ["", ".", ".."].contains(&instance) {
        return Err(Failure::new(RungError::Unknown(instance.into())));
    }
    // First of all: whatever fails from here on, no receipt quotes an earlier run.
    let file = paths.rung_output(instance);
    let gone = std::fs::remove_file(&file).or_else(|error| match error.kind() {
        ErrorKind::NotFound => Ok(()),
        _ => Err(error),
    });
    warn_of("an earlier output cannot be removed", &file, gone);

    let settings = crate::config::load(paths).map_err(|error| Failure::new(error).hint("run zeta-bft check-config"))?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let done = runtime.block_on(carry_out(&settings, instance));
    let output = match &done {
        Ok(output) => output.clone(),
        Err(error) => error.to_string(),
    };
    let _ = print(&output);
    if !matches!(done, Err(RungError::Unknown(_))) {
        warn_of("the output cannot be kept, all else is done", &file, keep(&file, &output));
    }
    done.map(|_| ExitCode::SUCCESS).map_err(Failure::new)
}

/// The warden, who is nobody special, puts it into the receipt, which everybody may read.
fn keep(file: &Path, output: &str) -> io::Result<()> {
    if let Some(folder) = file.parent() {
        std::fs::create_dir_all(folder)?;
    }
    files::replace(file, output.as_bytes(), 0o644)?;
    std::fs::set_permissions(file, std::fs::Permissions::from_mode(0o644))
}

/// What the rung did counts, not whether it can be told: on a full `/run` it is carried out all the same.
fn warn_of(what: &str, file: &Path, done: io::Result<()>) {
    if let Err(error) = done {
        let _ = writeln!(io::stderr(), "warning: {what}: {}: {error}", file.display());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A node whose subject `tunnel` has one rung: say `done`.
    fn node() -> (tempfile::TempDir, Paths) {
        let dir = tempfile::tempdir().unwrap();
        let paths = Paths::below(dir.path());
        std::fs::create_dir_all(paths.config()).unwrap();
        let rung = "[subjects.tunnel]\nkind = \"unit\"\nunit = \"tunnel.service\"\n[[subjects.tunnel.ladder]]\n\
            action = \"run\"\nargv = [\"/bin/echo\", \"done\"]\nlimit = \"1m\"\n";
        let id = |name: &str| crate::protocol::types::NodeId::new(name).unwrap();
        let cluster = crate::protocol::types::ClusterId::new("c").unwrap();
        let text = crate::config::default_node_toml(&cluster, &id("n"));
        std::fs::write(paths.node_toml(), format!("{text}\n{rung}")).unwrap();
        (dir, paths)
    }

    fn carry_out_rung(paths: &Paths, instance: &str) -> Result<ExitCode, Failure> {
        run(paths, &Args { instance: instance.into() })
    }

    #[test]
    fn an_output_that_cannot_be_kept_makes_no_failure_of_a_rung() {
        let (_dir, paths) = node();
        carry_out_rung(&paths, "tunnel-0").unwrap();
        let file = paths.rung_output("tunnel-0");
        assert_eq!(std::fs::read_to_string(&file).unwrap(), "done\n");
        // As on a full disk: the new file cannot be made beside the place.
        std::fs::create_dir(file.with_extension("new")).unwrap();
        carry_out_rung(&paths, "tunnel-0").unwrap();
        assert!(!file.exists(), "and nobody quotes the earlier run");
    }

    #[test]
    fn an_earlier_output_is_gone_before_anything_can_fail() {
        let (_dir, paths) = node();
        carry_out_rung(&paths, "tunnel-0").unwrap();
        std::fs::write(paths.node_toml(), "this is no configuration").unwrap();
        carry_out_rung(&paths, "tunnel-0").unwrap_err();
        assert!(!paths.rung_output("tunnel-0").exists());
    }

    #[test]
    fn an_instance_is_one_name_and_no_path() {
        let (_dir, paths) = node();
        std::fs::create_dir_all(paths.run().join("rung")).unwrap();
        for path in ["../../etc/node.toml", "..", ""] {
            carry_out_rung(&paths, path).unwrap_err();
        }
        assert!(paths.node_toml().exists());
    }
}
