//! `zeta-bft up`

use super::daemon;
use crate::config::paths::Paths;
use crate::error::Failure;
use crate::up::folder::{self, Options};
use crate::up::{self, UpError};
use std::io::Write as _;
use std::path::PathBuf;
use std::process::ExitCode;

/// The whole committee in the foreground, as child processes of this one.
///
/// Without --dir the state folder of this user is taken: $XDG_STATE_HOME/zeta-bft, or ~/.local/state/zeta-bft. Commands in
/// other terminals find it there. Ctrl-C stops everything.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Lift budgets and cool-downs, for experiments.
    #[arg(long)]
    drill: bool,
    /// Tick claude, gemini and codex as installed, instead of a small local command.
    #[arg(long, conflicts_with = "config")]
    vendor_clis: bool,
    /// A configuration to begin with; on a folder that has one, it is laid above that for this run.
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
}

/// Runs the command.
///
/// # Errors
/// [`Failure`] for people.
pub fn run(paths: &Paths, args: Args) -> Result<ExitCode, Failure> {
    daemon::start_log();
    let dir = paths.dir().ok_or_else(|| {
        Failure::new("there is no state folder: neither XDG_STATE_HOME nor HOME is set").hint("name one with --dir")
    })?;
    // Children and sockets must find it wherever they run.
    let dir = std::path::absolute(dir)?;
    let paths = Paths::below(&dir);
    let options = Options { drill: args.drill, vendor_clis: args.vendor_clis, config: args.config };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let run = runtime.block_on(async {
        let folder = folder::take(&paths, &options).await?;
        up::run(folder, &dir, say).await
    });
    run.map_err(explained)?;
    Ok(ExitCode::SUCCESS)
}

/// One line for the operator; whoever does not listen any more does not stop the committee.
fn say(line: &str) {
    let mut out = std::io::stdout().lock();
    let _ = writeln!(out, "{line}").and_then(|()| out.flush());
}

fn explained(error: UpError) -> Failure {
    let hint = match &error {
        UpError::InUse { .. } => Some("stop that one, or give this one another --dir"),
        UpError::StillServed { .. } => Some("stop the process that serves it, or choose another --dir"),
        UpError::PathTooLong { .. } => Some("choose a shorter --dir"),
        UpError::DiedAtOnce { .. } => Some("`zeta-bft check-config` finds what is wrong with the configuration"),
        _ => None,
    };
    let failure = Failure::new(error);
    match hint {
        Some(hint) => failure.hint(hint),
        None => failure,
    }
}
