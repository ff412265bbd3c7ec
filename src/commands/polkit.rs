//! `zeta-bft polkit`

use crate::config::polkit;
use crate::error::Failure;
use std::io::Write as _;
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
    std::io::stdout().write_all(polkit::rule().as_bytes())?;
    Ok(ExitCode::SUCCESS)
}
