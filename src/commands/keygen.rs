//! `zeta-bft keygen`

use super::ask::print;
use crate::config::paths::Paths;
use crate::error::Failure;
use crate::keys;
use std::path::PathBuf;
use std::process::ExitCode;

/// Makes one key.
///
/// Writes the private key as PKCS#8 PEM, mode 0600, and prints the public key in hexadecimal.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Where the private key goes; a file that exists is not overwritten.
    file: PathBuf,
}

/// Runs the command.
///
/// # Errors
/// [`Failure`] for people.
pub fn run(_paths: &Paths, args: Args) -> Result<ExitCode, Failure> {
    let key = keys::generate();
    keys::save(&args.file, &key)?;
    print(&format!("{}\n", key.public()))?;
    Ok(ExitCode::SUCCESS)
}
