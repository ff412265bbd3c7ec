//! The thin end: arguments in, exit code out.
#![forbid(unsafe_code)]

use clap::Parser as _;
use std::process::ExitCode;

fn main() -> ExitCode {
    match zeta_bft::commands::Cli::parse().run() {
        Ok(code) => code,
        Err(failure) => failure.report(),
    }
}
