//! `zeta-bft rung`

use crate::config::paths::Paths;
use crate::error::Failure;
use crate::files;
use crate::rung::carry_out;
use std::os::unix::fs::PermissionsExt as _;
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
    let settings = crate::config::load(paths).map_err(|error| Failure::new(error).hint("run zeta-bft check-config"))?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let done = runtime.block_on(carry_out(&settings, &args.instance));
    let output = match &done {
        Ok(output) => output.clone(),
        Err(error) => error.to_string(),
    };
    print!("{output}");
    if !matches!(done, Err(crate::rung::RungError::Unknown(_))) {
        let file = paths.rung_output(&args.instance);
        if let Some(folder) = file.parent() {
            std::fs::create_dir_all(folder)?;
        }
        // The warden, who is nobody special, puts it into the receipt, which everybody may read.
        files::replace(&file, output.as_bytes(), 0o644)?;
        std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o644))?;
    }
    done.map(|_| ExitCode::SUCCESS).map_err(Failure::new)
}
