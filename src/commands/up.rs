//! `zeta-bft up`

use crate::config::paths::Paths;
use crate::error::Failure;
use std::process::ExitCode;

/// The whole committee in the foreground, as child processes of this one.
#[derive(Debug, clap::Args)]
pub struct Args {}

/// Runs the command.
///
/// # Errors
/// [`Failure`] for people.
pub fn run(_paths: &Paths, _args: Args) -> Result<ExitCode, Failure> {
    Err(Failure::new("not built yet"))
}
