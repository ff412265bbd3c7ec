//! `zeta-bft quorum`

use crate::config::paths::Paths;
use crate::error::Failure;
use std::process::ExitCode;

/// Who sees what, who voted, and how much failure can still be borne.
#[derive(Debug, clap::Args)]
pub struct Args {}

/// Runs the command.
///
/// # Errors
/// [`Failure`] for people.
pub fn run(_paths: &Paths, _args: Args) -> Result<ExitCode, Failure> {
    Err(Failure::new("not built yet"))
}
