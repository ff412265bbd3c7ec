//! `zeta-bft warden`

use crate::config::paths::Paths;
use crate::error::Failure;
use std::process::ExitCode;

/// The one process that may act: counts vendors, journals, repairs.
#[derive(Debug, clap::Args)]
pub struct Args {}

/// Runs the command.
///
/// # Errors
/// [`Failure`] for people.
pub fn run(_paths: &Paths, _args: Args) -> Result<ExitCode, Failure> {
    Err(Failure::new("not built yet"))
}
