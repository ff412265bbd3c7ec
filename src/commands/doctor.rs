//! `zeta-bft doctor`

use super::ask::{Silence, block_on, inspect, json_line, print};
use crate::config::paths::Paths;
use crate::doctor::finding::Report;
use crate::doctor::{self, Asked};
use crate::error::Failure;
use crate::wire::v1::{HistoryEntry, HistoryRequest, QuorumRequest};
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
    let sections = block_on(async { Ok(doctor::examine(paths, &asked(paths).await).await) })?;
    let report = Report::of(&sections);
    print(&if args.json { json_line(&report)? } else { report.render() })?;
    Ok(ExitCode::from(report.exit_code()))
}

/// The warden's own word.
async fn asked(paths: &Paths) -> Asked {
    let socket = paths.inspect_socket();
    let everything = QuorumRequest { subject: None };
    let view = inspect(&socket, async |mut client| client.quorum(everything).await).await;
    let history = match &view {
        Ok(_) => history(paths).await,
        Err(silence) => Err(said(silence)),
    };
    Asked { view: view.map_err(|silence| said(&silence)), history }
}

async fn history(paths: &Paths) -> Result<Vec<HistoryEntry>, String> {
    let everything = HistoryRequest { subject: None };
    let entries = inspect(&paths.inspect_socket(), async |mut client| client.history(everything).await).await;
    let mut entries = entries.map_err(|silence| said(&silence))?;
    let mut all = Vec::new();
    while let Some(entry) = entries.message().await.map_err(|status| said(&Silence::Refused(Box::new(status))))? {
        all.push(entry);
    }
    Ok(all)
}

fn said(silence: &Silence) -> String {
    silence.to_string()
}
