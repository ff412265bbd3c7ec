//! `zeta-bft verify`

use crate::config::paths::Paths;
use crate::error::Failure;
use std::process::ExitCode;

/// Checks receipts, certificates, proofs and journals offline, with the roster alone.
#[derive(Debug, clap::Args)]
pub struct Args {}

/// Runs the command.
///
/// # Errors
/// [`Failure`] for people.
pub fn run(_paths: &Paths, _args: Args) -> Result<ExitCode, Failure> {
    Err(Failure::new("not built yet"))
}
