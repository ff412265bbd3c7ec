//! `zeta-bft wrap`

use crate::config::paths::Paths;
use crate::error::Failure;
use std::process::ExitCode;

/// Runs a persona's command once per tick, with a time limit.
#[derive(Debug, clap::Args)]
pub struct Args {}

/// Runs the command.
///
/// # Errors
/// [`Failure`] for people.
pub fn run(_paths: &Paths, _args: Args) -> Result<ExitCode, Failure> {
    Err(Failure::new("not built yet"))
}
