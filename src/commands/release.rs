//! `zeta-bft release`

use crate::config::paths::Paths;
use crate::error::Failure;
use std::process::ExitCode;

/// End a hold, or bring back what spent its ladder or budget.
#[derive(Debug, clap::Args)]
pub struct Args {}

/// Runs the command.
///
/// # Errors
/// [`Failure`] for people.
pub fn run(_paths: &Paths, _args: Args) -> Result<ExitCode, Failure> {
    Err(Failure::new("not built yet"))
}
