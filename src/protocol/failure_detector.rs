//! Silence: when a process that runs is said to hang, and when the observer had better say nothing.
//!
//! Rules implemented here:
//! * A sign of life is *due* (a ping was sent, a heartbeat's time has come) and is *late* until it comes.
//! * A process that is pinged is silent since its last answer, but since no longer than one interval before the first ping
//!   that it did not answer: what the observer did not ask for in time is not the process's silence. One that speaks by
//!   itself is silent since its next word was due.
//! * Silent means: at least [`MISSED`] of them missed in a row, *and* the patience is over, *and* the first of them is later
//!   than they usually are (mean and deviation of the observed lateness, as TCP's retransmission timer, RFC 6298). Both are
//!   scaled by the observer's own health; the patience is never above [`LONGEST`] times the configured one.
//! * Nobody is silent in his grace: a young run that has not yet answered [`PROVEN`] times, a resume from suspend, or the
//!   observer's own sleep. Time in which the observer itself was late is not counted at all.
//! * A run that was never heard gets the longest patience: not being seen is not being unwell.
//! * The observer's health is Lifeguard's (Dadgar et al., 2018): late timers raise the score, punctual ones lower it; at
//!   [`SelfHealth::LIMIT`] it abstains from soft evidence.

use super::types::Timestamp;
use std::time::Duration;

/// Signs of life that must be missed in a row.
pub const MISSED: u32 = 2;
/// The patience is at most this many times the configured one.
pub const LONGEST: u32 = 8;
/// After this many signs of life a young run has no more need of its grace.
pub const PROVEN: u32 = 4;

/// What a detector says of a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Liveness {
    /// It has answered, and is not overdue.
    Answering,
    /// Nothing came yet since the run, or the grace, began; too early to say more.
    Unheard,
    /// It misses its deadline.
    Silent,
}

/// Watches one run of one process for signs of life: answers to pings, or heartbeats.
#[derive(Clone, Debug, Hash)]
pub struct HangDetector {
    /// Whether signs of life are asked for, one by one, or come by themselves.
    source: Source,
    /// Time between two of them.
    every: Duration,
    /// Least patience.
    patience: Duration,
    quiet_until: Timestamp,
    /// How often it was heard in this run.
    heard: u32,
    /// Whether it was heard since the last grace began.
    fresh: bool,
    heard_at: Option<Timestamp>,
    /// When the first sign of life that has not come was due.
    due: Option<Timestamp>,
    asked: u32,
    lateness: Lateness,
}

/// Where signs of life come from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Source {
    Pings,
    Heartbeats,
}

impl HangDetector {
    /// For a process that is asked by pings, `every` so often.
    pub fn of_pings(every: Duration, patience: Duration) -> Self {
        Self::new(Source::Pings, every, patience)
    }

    /// For a process that speaks by itself, `every` so often.
    pub fn of_heartbeats(every: Duration, patience: Duration) -> Self {
        Self::new(Source::Heartbeats, every, patience)
    }

    fn new(source: Source, every: Duration, patience: Duration) -> Self {
        Self {
            source,
            every,
            patience,
            quiet_until: Timestamp::ZERO,
            heard: 0,
            fresh: false,
            heard_at: None,
            due: None,
            asked: 0,
            lateness: Lateness::default(),
        }
    }

    /// A new run began, or was first seen, now; it is in grace until `quiet_until`.
    pub fn restart(&mut self, now: Timestamp, quiet_until: Timestamp) {
        *self = Self::new(self.source, self.every, self.patience);
        self.excuse(now, quiet_until);
    }

    /// The same run, but silence so far proves nothing: the node or the observer slept.
    pub fn excuse(&mut self, now: Timestamp, quiet_until: Timestamp) {
        self.quiet_until = self.quiet_until.max(quiet_until);
        self.fresh = false;
        self.asked = 0;
        self.due = self.next_due(now);
    }

    /// When the next sign of life is due that nobody has to ask for.
    fn next_due(&self, now: Timestamp) -> Option<Timestamp> {
        (self.source == Source::Heartbeats).then_some(now + self.every)
    }

    /// The observer was late by `delay`: that time is not the process's silence.
    pub fn forgive(&mut self, now: Timestamp, delay: Duration) {
        self.due = self.due.map(|due| if due < now { (due + delay).min(now) } else { due });
    }

    /// A ping was sent.
    pub fn asked(&mut self, now: Timestamp) {
        self.asked = self.asked.saturating_add(1);
        self.due.get_or_insert(now);
    }

    /// A sign of life came; `round_trip` is how long a ping's answer took.
    pub fn heard(&mut self, now: Timestamp, round_trip: Option<Duration>) {
        let late = round_trip.or_else(|| self.due.filter(|_| self.fresh).map(|due| now.saturating_since(due)));
        if let Some(late) = late {
            self.lateness.note(late);
        }
        self.heard = self.heard.saturating_add(1);
        self.fresh = true;
        self.heard_at = Some(now);
        self.asked = 0;
        self.due = self.next_due(now);
    }

    /// When it was last heard in this run.
    pub fn heard_at(&self) -> Option<Timestamp> {
        self.heard_at
    }

    /// When silence becomes a fault, if nothing comes until then.
    pub fn deadline(&self, health: &SelfHealth) -> Option<Timestamp> {
        let due = self.due?;
        let longest = self.patience * LONGEST;
        let deadline = if self.heard == 0 {
            due + longest
        } else {
            let scaled = |time: Duration| (time * health.multiplier()).min(longest);
            (self.silent_since(due) + scaled(self.patience)).max(due + scaled(self.lateness.bound()))
        };
        Some(if self.heard < PROVEN || !self.fresh { deadline.max(self.quiet_until) } else { deadline })
    }

    /// From when silence is counted, when `due` is the first sign of life that has not come.
    fn silent_since(&self, due: Timestamp) -> Timestamp {
        match (self.source, self.heard_at.filter(|_| self.fresh)) {
            (Source::Pings, Some(heard)) => heard.clamp(due - self.every, due),
            _ => due,
        }
    }

    /// What to say of the run now.
    pub fn liveness(&self, now: Timestamp, health: &SelfHealth) -> Liveness {
        let missed = match (self.source, self.due) {
            (Source::Pings, _) => self.asked,
            (Source::Heartbeats, Some(due)) if due <= now => {
                let more = now.saturating_since(due).as_nanos() / self.every.as_nanos().max(1);
                u32::try_from(more).unwrap_or(u32::MAX).saturating_add(1)
            }
            (Source::Heartbeats, _) => 0,
        };
        if missed >= MISSED && self.deadline(health).is_some_and(|deadline| deadline <= now) {
            Liveness::Silent
        } else if self.fresh {
            Liveness::Answering
        } else {
            Liveness::Unheard
        }
    }
}

/// Mean and mean deviation of how late signs of life are, with the gains of RFC 6298.
#[derive(Clone, Copy, Debug, Default, Hash)]
struct Lateness {
    mean: Duration,
    deviation: Duration,
}

impl Lateness {
    fn note(&mut self, late: Duration) {
        self.deviation = (self.deviation * 3 + self.mean.abs_diff(late)) / 4;
        self.mean = (self.mean * 7 + late) / 8;
    }

    fn bound(&self) -> Duration {
        self.mean + self.deviation * 4
    }
}

/// How well the observer itself is: its own lateness must not become another's fault.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct SelfHealth {
    score: u32,
    lowered_at: Timestamp,
}

impl SelfHealth {
    /// With this score it abstains from soft evidence.
    pub const LIMIT: u32 = 8;
    /// A timer later than this is late.
    pub const LATE: Duration = Duration::from_millis(100);
    /// Lateness beyond this is sleep: what was silent meanwhile is excused.
    pub const SLEPT: Duration = Duration::from_millis(400);
    /// The score falls by one at most this often.
    const RECOVERY: Duration = Duration::from_millis(250);

    /// A timer of its own came `late`.
    pub fn note(&mut self, now: Timestamp, late: Duration) {
        if late > Self::LATE {
            let raise = if late > Self::LATE * 2 { 2 } else { 1 };
            self.score = (self.score + raise).min(Self::LIMIT);
            self.lowered_at = now;
        } else if now.saturating_since(self.lowered_at) >= Self::RECOVERY {
            self.score = self.score.saturating_sub(1);
            self.lowered_at = now;
        }
    }

    /// 0 is well.
    pub fn score(&self) -> u32 {
        self.score
    }

    /// By how much patience is lengthened.
    pub fn multiplier(&self) -> u32 {
        1 + self.score
    }

    /// Whether soft evidence is beyond it for now.
    pub fn is_unwell(&self) -> bool {
        self.score >= Self::LIMIT
    }
}

#[cfg(test)]
mod tests;
