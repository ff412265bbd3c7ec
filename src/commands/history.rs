//! `zeta-bft history`

use crate::config::paths::Paths;
use crate::error::Failure;
use std::process::ExitCode;

/// Receipts of what was done, newest last.
#[derive(Debug, clap::Args)]
pub struct Args {}

/// Runs the command.
///
/// # Errors
/// [`Failure`] for people.
pub fn run(_paths: &Paths, _args: Args) -> Result<ExitCode, Failure> {
    Err(Failure::new("not built yet"))
}
