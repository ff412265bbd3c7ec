//! Reads the output of a tick: fault class, reason, resume time. Pure: the wall clock and its zone are arguments.
//!
//! | a tick that | is |
//! |---|---|
//! | fails, and a configured pattern matches what it printed last | ENVIRONMENT, with the pattern's reason |
//! | was killed by a signal, or fails without a match | BROKEN, `tick_failed` |
//! | ran into its limit | ENVIRONMENT if its very last lines match, else BROKEN, `tick_timeout` |
//! | cannot be started | BROKEN, `tick_not_started` |
//! | exits 0 at once without a byte of output | BROKEN, `tick_hollow`: an empty executable does that |
//! | exits 0 with a short text about quota or login alone | ENVIRONMENT: some CLIs exit 0 on it |
//! | exits 0 otherwise | good, whatever words its output has |
//!
//! Where that leaves open whether the program itself is to blame, a probe (`claude --version`) decides ([`probed`]):
//!
//! | a tick that | the program starts | it does not |
//! |---|---|---|
//! | ran into its limit without a known word | ENVIRONMENT, `vendor_silent` | BROKEN, `cli_broken` |
//! | failed without a known word, or was killed by a signal | as above | BROKEN, `cli_broken` |
//! | exits 0 without a byte of output, at once or not | as above | BROKEN, `cli_broken` |
//!
//! A hang is what these CLIs do when their vendor is away: they retry for minutes and say nothing. A restart would not help,
//! and the limit has killed the whole tick already.
//!
//! A wrapper reads hostile bytes here: what is kept is bounded, and nothing in it can be a panic.

mod resume;
mod tail;

pub use resume::resume_at;
pub use tail::{Tail, plain};

use crate::config::settings::FaultPattern;
use crate::protocol::evidence::{FaultClass, Reason};
use std::time::Duration;

/// Exit 0 without a byte of output is hollow below this.
pub const HOLLOW: Duration = Duration::from_millis(250);
/// Exit 0 with at most this much output may still be a refusal.
const SHORT: u64 = 300;
/// How many of the last lines of an over-time tick are read: what it hung on, not what it talked about before.
const LAST_LINES: usize = 20;
/// The resume time is looked for this many lines around the line that matched.
const NEARBY: usize = 5;

/// How a tick ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ended {
    /// By itself, with this status.
    Exited(i32),
    /// By this signal, which was not ours.
    Signalled(i32),
    /// By us, at its time limit.
    TimedOut,
    /// It never began: no such program, or not allowed to run.
    NotStarted,
}

/// What a tick left behind.
#[derive(Clone, Copy, Debug)]
pub struct Outcome<'a> {
    /// How it ended.
    pub ended: Ended,
    /// How long it took.
    pub duration: Duration,
    /// The end of its standard output.
    pub stdout: &'a Tail,
    /// The end of its standard error.
    pub stderr: &'a Tail,
}

/// What it means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Reading {
    /// `None`: a good tick. Otherwise BROKEN or ENVIRONMENT.
    pub fault: Option<FaultClass>,
    /// Why.
    pub reason: Reason,
    /// ENVIRONMENT only: seconds of Unix time at which work can go on, where the output names it.
    pub resume_at: Option<u64>,
}

impl Reading {
    const GOOD: Self = Self { fault: None, reason: Reason::TickOk, resume_at: None };

    const fn broken(reason: Reason) -> Self {
        Self { fault: Some(FaultClass::Broken), reason, resume_at: None }
    }
}

/// Reads a tick. `now` is the wall clock at its end, in the zone that times of day are meant in.
pub fn classify(tick: Outcome<'_>, patterns: &[FaultPattern], now: &jiff::Zoned) -> Reading {
    let printed = tick.stdout.total() + tick.stderr.total();
    let found = |last: usize, relevant: fn(Reason) -> bool| {
        [tick.stderr, tick.stdout]
            .into_iter()
            .filter_map(|stream| environment(&stream.lines(), last, patterns, relevant, now))
            .min_by_key(|(rank, _)| *rank)
            .map(|(_, reading)| reading)
    };
    match tick.ended {
        Ended::NotStarted => Reading::broken(Reason::TickNotStarted),
        Ended::Signalled(_) => Reading::broken(Reason::TickFailed),
        Ended::Exited(0) if printed == 0 && tick.duration < HOLLOW => Reading::broken(Reason::TickHollow),
        Ended::Exited(0) if printed <= SHORT => {
            found(usize::MAX, |reason| matches!(reason, Reason::Quota | Reason::Auth)).unwrap_or(Reading::GOOD)
        }
        Ended::Exited(0) => Reading::GOOD,
        Ended::Exited(_) => found(usize::MAX, |_| true).unwrap_or(Reading::broken(Reason::TickFailed)),
        Ended::TimedOut => found(LAST_LINES, |_| true).unwrap_or(Reading::broken(Reason::TickTimeout)),
    }
}

/// What the probe of a program said of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Probe {
    /// It starts: it ended well, and said something.
    Starts,
    /// It does not.
    Fails,
    /// It did not end in time: not to be told. A starved machine is no broken program.
    Late,
}

impl Probe {
    /// Reads a probe's run.
    pub fn read(run: Outcome<'_>) -> Self {
        match run.ended {
            Ended::Exited(0) if run.stdout.total() > 0 => Self::Starts,
            Ended::TimedOut => Self::Late,
            Ended::Exited(_) | Ended::Signalled(_) | Ended::NotStarted => Self::Fails,
        }
    }

    /// The word for logs.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Starts => "starts",
            Self::Fails => "fails",
            Self::Late => "late",
        }
    }
}

/// Whether a probe has anything to say about a tick that was read so.
pub fn wants_probe(tick: Outcome<'_>, reading: Reading) -> bool {
    let silent = tick.stdout.total() + tick.stderr.total() == 0;
    match reading.fault {
        // What cannot be started needs no second proof.
        Some(FaultClass::Broken) => tick.ended != Ended::NotStarted,
        Some(_) => false,
        None => silent,
    }
}

/// A reading that wanted a probe, with what the probe said.
#[must_use]
pub fn probed(reading: Reading, probe: Probe) -> Reading {
    match (probe, reading.reason) {
        (Probe::Fails, _) => Reading::broken(Reason::CliBroken),
        (Probe::Starts, Reason::TickTimeout) => {
            Reading { fault: Some(FaultClass::Environment), reason: Reason::VendorSilent, resume_at: None }
        }
        (Probe::Starts | Probe::Late, _) => reading,
    }
}

/// The first pattern that matches one of the last lines, with its place among the patterns.
fn environment(
    lines: &[String],
    last: usize,
    patterns: &[FaultPattern],
    relevant: fn(Reason) -> bool,
    now: &jiff::Zoned,
) -> Option<(usize, Reading)> {
    let lines = &lines[lines.len().saturating_sub(last)..];
    let (rank, pattern, at) =
        patterns.iter().enumerate().filter(|(_, pattern)| relevant(pattern.reason)).find_map(|(rank, pattern)| {
            let at = lines.iter().rposition(|line| pattern.regex.is_match(line))?;
            Some((rank, pattern, at))
        })?;
    let nearby = (at..lines.len().min(at + NEARBY + 1)).chain((at.saturating_sub(NEARBY)..at).rev());
    let resume_at = nearby.filter_map(|i| lines.get(i)).find_map(|line| resume_at(line, now));
    Some((rank, Reading { fault: Some(FaultClass::Environment), reason: pattern.reason, resume_at }))
}

#[cfg(test)]
mod tests;
