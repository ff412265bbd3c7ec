//! `zeta-bft check-config`

use crate::config::paths::Paths;
use crate::error::Failure;
use std::process::ExitCode;

/// Reads the configuration and says what is wrong with it.
#[derive(Debug, clap::Args)]
pub struct Args {}

/// Runs the command.
///
/// # Errors
/// [`Failure`] for people.
pub fn run(_paths: &Paths, _args: Args) -> Result<ExitCode, Failure> {
    Err(Failure::new("not built yet"))
}
