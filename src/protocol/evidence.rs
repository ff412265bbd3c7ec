//! What a guardian or the warden sees of a subject, and what it means.
//!
//! Rules implemented here:
//! * Only `CRASH`, `HANG` and `BROKEN` can be voted on; `ENVIRONMENT`, `OPERATOR` and `UNKNOWN` never lead to an action.
//!
//! Hard evidence is read in `unit`.

mod unit;

pub use unit::{
    AUTO_RESTART_LEFT, AUTO_RESTART_SHORT, Activity, Enablement, ExitZero, LastExit, UnitReading, UnitState,
    classify_unit,
};

use super::types::{Digest, Incarnation, SubjectName, Timestamp};
use std::time::Duration;

macro_rules! closed_set {
    ($(#[$doc:meta])* $type:ident { $($(#[$vdoc:meta])* $variant:ident = $text:literal,)+ }) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum $type { $($(#[$vdoc])* $variant,)+ }

        impl $type {
            /// Every member, in order: metrics start with all label values present.
            pub const ALL: &'static [Self] = &[$(Self::$variant,)+];

            /// The word used in JSON, logs and metric labels.
            pub const fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $text,)+ }
            }

            /// The member with this word.
            pub fn from_word(word: &str) -> Option<Self> {
                Self::ALL.iter().copied().find(|member| member.as_str() == word)
            }
        }

        impl std::fmt::Display for $type {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str(self.as_str())
            }
        }
    };
}
pub(crate) use closed_set;

closed_set!(
    /// What a guardian says of a subject.
    Verdict {
        /// It runs and answers.
        Up = "UP",
        /// It shows the fault named by the class.
        Down = "DOWN",
        /// It cannot be seen well enough: abstain.
        Unknown = "UNKNOWN",
    }
);

closed_set!(
    /// The kind of fault. Only equal classes add up to a quorum.
    FaultClass {
        /// The process is gone or its unit failed: hard.
        Crash = "CRASH",
        /// Alive but silent: soft.
        Hang = "HANG",
        /// It runs and answers, but its work fails again and again: soft.
        Broken = "BROKEN",
        /// Quota, login, vendor, network or disk: never restarted.
        Environment = "ENVIRONMENT",
        /// The operator wants it so: left alone.
        Operator = "OPERATOR",
        /// Not to be told: abstain.
        Unknown = "UNKNOWN",
    }
);

impl FaultClass {
    /// Whether an APPROVE may carry it.
    pub const fn is_votable(self) -> bool {
        matches!(self, Self::Crash | Self::Hang | Self::Broken)
    }

    /// Whether it rests on PID 1's word, which the warden can read itself.
    pub const fn evidence(self) -> Evidence {
        match self {
            Self::Crash => Evidence::Hard,
            _ => Evidence::Soft,
        }
    }
}

closed_set!(
    /// How strong an observation is.
    Evidence {
        /// PID 1 says so.
        Hard = "HARD",
        /// Silence or failing work: needs a challenge.
        Soft = "SOFT",
    }
);

closed_set!(
    /// Why a verdict is what it is: a closed set, never a text from a peer.
    Reason {
        /// Unit active, pings answered, ticks fine or idle between ticks.
        Running = "running",
        /// A tick ended well.
        TickOk = "tick_ok",
        /// Process exited with a failure.
        Exited = "exited",
        /// Process was killed by a signal.
        Killed = "killed",
        /// PID 1 gave up after too many starts.
        StartLimit = "start_limit",
        /// A long wait for PID 1's own restart.
        AutoRestart = "auto_restart",
        /// Being started.
        Starting = "starting",
        /// Being stopped.
        Stopping = "stopping",
        /// A job is queued for the unit.
        JobPending = "job_pending",
        /// Stopped cleanly by somebody.
        Stopped = "stopped",
        /// Disabled while managed.
        Disabled = "disabled",
        /// Masked.
        Masked = "masked",
        /// The unit's definition is gone.
        NotFound = "not_found",
        /// A dependency refused.
        Dependency = "dependency",
        /// Frozen by the operator (cgroup freezer).
        FrozenUnit = "frozen_unit",
        /// Pings unanswered past the deadline.
        PingSilent = "ping_silent",
        /// Too young to be judged.
        Grace = "grace",
        /// Ticks fail again and again.
        TickFailed = "tick_failed",
        /// A tick ended well at once, without a byte of output, where others took seconds.
        TickHollow = "tick_hollow",
        /// Ticks run into their time limit.
        TickTimeout = "tick_timeout",
        /// The tick command cannot be started.
        TickNotStarted = "tick_not_started",
        /// A tick failed, and so does the probe of its program: it does not start at all.
        CliBroken = "cli_broken",
        /// The vendor's quota is used up.
        Quota = "quota",
        /// Not logged in, or no longer.
        Auth = "auth",
        /// The CLI wants a set-up step: trust of a folder, a first run.
        Setup = "setup",
        /// The vendor fails.
        VendorDown = "vendor_down",
        /// A tick hung until its limit without a known word, and its program starts: what it waits for is away.
        VendorSilent = "vendor_silent",
        /// No network.
        NetworkDown = "network_down",
        /// No space or no inodes left.
        DiskFull = "disk_full",
        /// Probes fail.
        ProbeFailed = "probe_failed",
        /// The observer cannot see the subject.
        CannotSee = "cannot_see",
        /// The observer is unwell itself.
        SelfUnwell = "self_unwell",
        /// The answer came from another process than the unit's main process, or from nobody who is vouched for.
        WrongPeer = "wrong_peer",
        /// A key or certificate that it needs is empty.
        EmptyFile = "empty_file",
        /// Its datastore is damaged.
        Datastore = "datastore",
        /// A certificate ends soon, and a start renews it.
        CertificateEnds = "certificate_ends",
        /// What a repair should have ended is there again.
        CameBack = "came_back",
        /// The host is in doubt: its clock, its network.
        HostInDoubt = "host_in_doubt",
        /// Not to be told, or not to be repaired: a human should look.
        WantsHuman = "wants_human",
    }
);

closed_set!(
    /// What may be done about a reason, for a subject whose faults tell that.
    Remedy {
        /// Another start, or what the operator configured to run.
        Restart = "restart",
        /// Only the empty files moved aside, and a start.
        MoveAside = "move-aside",
        /// Only a copy, before anybody touches the data.
        CopyAside = "copy-aside",
        /// Nothing: a human is called.
        Human = "human",
    }
);

impl Reason {
    /// What may be done about it.
    pub const fn remedy(self) -> Remedy {
        match self {
            Self::EmptyFile => Remedy::MoveAside,
            Self::Datastore => Remedy::CopyAside,
            Self::CameBack | Self::HostInDoubt | Self::WantsHuman => Remedy::Human,
            _ => Remedy::Restart,
        }
    }

    /// Whether a human is called although nothing is to be repaired.
    pub const fn calls_human(self) -> bool {
        matches!(self, Self::WrongPeer | Self::Dependency | Self::HostInDoubt | Self::WantsHuman)
    }
}

/// What one guardian says of one subject at one moment.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Attestation {
    /// Of whom.
    pub subject: SubjectName,
    /// Which run of it was seen.
    pub incarnation: Incarnation,
    /// The word.
    pub verdict: Verdict,
    /// The class; `None` with a plain UP.
    pub class: Option<FaultClass>,
    /// Hard or soft.
    pub evidence: Evidence,
    /// Why, from the closed set.
    pub reason: Reason,
    /// Digest of the raw observation it rests on.
    pub observation: Digest,
    /// When it was observed: the reading, not the event behind it.
    pub observed_at: Timestamp,
    /// ENVIRONMENT only: when the vendor says work can go on, in seconds of Unix time.
    pub resume_at: Option<u64>,
}

/// What an observer's own look at a service showed, beyond what PID 1 says of its unit: probes of its ports, its last words.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct ServiceReading {
    /// The run that PID 1 showed before and after the look.
    pub run: Incarnation,
    /// The word.
    pub verdict: Verdict,
    /// The class; `None` with UP.
    pub class: Option<FaultClass>,
    /// Why.
    pub reason: Reason,
    /// Of all that was seen.
    pub digest: Digest,
}

impl Attestation {
    /// The class, if it is a fault that can be voted on.
    pub fn repairable_fault(&self) -> Option<FaultClass> {
        (self.verdict == Verdict::Down).then_some(self.class).flatten().filter(|class| class.is_votable())
    }

    /// Whether it counts as UP when a repair settles: ENVIRONMENT does, because the process runs and answers.
    pub fn counts_as_up(&self) -> bool {
        self.verdict == Verdict::Up || self.class == Some(FaultClass::Environment)
    }
}

/// How one tick of a persona ended, as its wrapper keeps it.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct TickEnd {
    /// Number of the tick, from 1, within this wrapper's life.
    pub number: u64,
    /// When it began.
    pub began_at: Timestamp,
    /// How long it took.
    pub duration: Duration,
    /// Exit status; `None` when it was killed or could not be started.
    pub exit_code: Option<i32>,
    /// Signal that ended it.
    pub signal: Option<i32>,
    /// `None`: a good tick. Otherwise BROKEN or ENVIRONMENT.
    pub fault: Option<FaultClass>,
    /// Why, from the closed set.
    pub reason: Reason,
    /// ENVIRONMENT only: seconds of Unix time at which work can go on, where the output names it.
    pub resume_at: Option<u64>,
}

/// What a wrapper says of its ticks when asked.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct TickState {
    /// Ticks that began in this wrapper's life.
    pub begun: u64,
    /// When the running tick began, while one runs.
    pub running_since: Option<Timestamp>,
    /// BROKEN ticks in a row, at the end.
    pub broken_in_a_row: u32,
    /// The last tick that ended.
    pub last: Option<TickEnd>,
    /// When the last good tick ended.
    pub last_good_at: Option<Timestamp>,
    /// The time between two ticks, as configured.
    pub interval: Duration,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_word_of_a_closed_set_leads_back_to_its_member() {
        for class in FaultClass::ALL {
            assert_eq!(FaultClass::from_word(class.as_str()), Some(*class));
        }
        for reason in Reason::ALL {
            assert_eq!(Reason::from_word(reason.as_str()), Some(*reason));
        }
    }
}
