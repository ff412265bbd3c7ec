//! Does the program start at all? Asked after a tick that failed for no known reason (`claude --version`).
//!
//! A probe runs as a tick does: nothing on stdin, a time limit, and on return nothing of it is left. It is part of its tick:
//! while it runs, so does the tick.

use super::WrapperConfig;
use super::tick::{command, run as run_command};
use crate::observe::ticks::{Outcome, Probe};
use std::time::Duration;
use tokio::sync::watch;

/// Longest run of a probe. Each of the vendors' CLIs is done in 0.1 to 4 s; gemini took 18 s on a machine with eight times the
/// work that it could do.
const LIMIT: Duration = Duration::from_secs(60);
/// How much of what it said is shown.
const SHOWN: usize = 200;

/// Runs the probe `argv`; `None` when told to stop meanwhile.
pub(super) async fn run(
    config: &WrapperConfig,
    argv: &[String],
    repaired: &str,
    stopped: watch::Receiver<bool>,
) -> Option<Probe> {
    let run = run_command(config, command(config, argv, repaired), LIMIT, None, stopped).await?;
    let (probe, millis, said) = run.outcome(|run| (Probe::read(run), run.duration.as_millis(), last_line(run)));
    let millis = u64::try_from(millis).unwrap_or(u64::MAX);
    tracing::info!(persona = %config.persona, probe = probe.as_str(), millis, said, "the tick's program was probed");
    Some(probe)
}

/// What it said last, on the stream that it complains on if there is anything.
fn last_line(run: Outcome<'_>) -> String {
    let line = [run.stderr, run.stdout].into_iter().find_map(|stream| stream.lines().pop()).unwrap_or_default();
    line.chars().take(SHOWN).collect()
}
