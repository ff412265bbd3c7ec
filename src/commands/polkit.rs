//! `zeta-bft polkit`

use super::ask::print;
use crate::config::polkit;
use crate::error::Failure;
use std::process::ExitCode;

/// Prints the polkit rule that lets the warden have pages sent.
///
/// `init` and `init --refresh` write it to /etc/polkit-1/rules.d.
#[derive(Debug, clap::Args)]
pub struct Args {}

/// Runs the command.
///
/// # Errors
/// [`Failure`] for people.
pub fn run(_: Args) -> Result<ExitCode, Failure> {
    print(&polkit::rule())?;
    Ok(ExitCode::SUCCESS)
}
