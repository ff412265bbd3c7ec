//! `zeta-bft doctor`

use super::ask::{block_on, json_line, print};
use crate::config::paths::Paths;
use crate::doctor::{self, finding::Report};
use crate::error::Failure;
use std::process::ExitCode;

/// Finds and explains what is wrong on this node, with the fix for each finding.
///
/// Changes nothing. Run it as root: what another user may not read is skipped, with the reason.
///
/// Exit code: 0 nothing wrong, 1 warnings, 2 errors.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// As one JSON object.
    #[arg(long)]
    json: bool,
}

/// Runs the command.
///
/// # Errors
/// [`Failure`] when the report cannot be printed.
pub fn run(paths: &Paths, args: Args) -> Result<ExitCode, Failure> {
    let sections = block_on(async { Ok(doctor::examine(paths).await) })?;
    let report = Report::of(&sections);
    print(&if args.json { json_line(&report)? } else { report.render() })?;
    Ok(ExitCode::from(report.exit_code()))
}
