//! `zeta-bft polkit`

use crate::config::paths::Paths;
use crate::config::{self, polkit};
use crate::error::Failure;
use std::process::ExitCode;

/// Prints the polkit rule that lets the warden act.
///
/// It follows from the configuration in force. `init` and `init --refresh` write it to /etc/polkit-1/rules.d.
#[derive(Debug, clap::Args)]
pub struct Args {}

/// Runs the command.
///
/// # Errors
/// [`Failure`] for people.
pub fn run(paths: &Paths, _: Args) -> Result<ExitCode, Failure> {
    let settings = config::load(paths).map_err(|error| Failure::new(error).hint("run `zeta-bft check-config`"))?;
    print!("{}", polkit::rule(&settings.policy));
    Ok(ExitCode::SUCCESS)
}
