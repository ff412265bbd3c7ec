//! What a guardian or the warden sees of a subject, and what it means.
//!
//! Rules implemented here:
//! * Hard evidence comes from PID 1 alone: [`classify_unit`] is the one function that reads it, and guardian and warden
//!   both call it, so "the warden reads the same from PID 1" is literally the same code.
//! * Only `CRASH`, `HANG` and `BROKEN` can be voted on; `ENVIRONMENT`, `OPERATOR` and `UNKNOWN` never lead to an action.
//! * A restart that PID 1 itself will make soon is PID 1's: a unit that waits for it is a fault only when the wait is long
//!   and enough of it is left.

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

/// What a unit is doing, as PID 1 reports it (systemd's `ActiveState` and `SubState`, reduced to what rules need).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Activity {
    /// Its main process runs.
    Active,
    /// Being started.
    Activating,
    /// Waits for PID 1's own `Restart=`.
    AutoRestart {
        /// When PID 1 will start it.
        due: Timestamp,
        /// How long the whole wait is (`RestartSec=`).
        wait: Duration,
    },
    /// Being stopped.
    Deactivating,
    /// Not running, last run ended well.
    Inactive,
    /// Not running, last run failed, and PID 1 will do nothing about it.
    Failed,
}

/// How the last run of a unit ended (systemd's `Result`, `ExecMainCode`, `ExecMainStatus`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum LastExit {
    /// It has not ended, or never ran.
    None,
    /// Exit status.
    Code(i32),
    /// Killed by a signal.
    Signal(i32),
    /// PID 1 refused to start it again.
    StartLimit,
    /// A dependency or condition refused.
    Dependency,
}

/// Whether the unit is meant to run (systemd's `LoadState` and `UnitFileState`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Enablement {
    /// Enabled, static, or started on demand.
    Enabled,
    /// The operator disabled it.
    Disabled,
    /// The operator masked it.
    Masked,
    /// Its file is gone.
    NotFound,
}

/// Everything a rule may know of a unit, read from PID 1 and never from the service.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct UnitState {
    /// Which run.
    pub incarnation: Incarnation,
    /// What it does.
    pub activity: Activity,
    /// Its main process, while there is one.
    pub main_pid: Option<u32>,
    /// How its last run ended.
    pub last_exit: LastExit,
    /// Whether it is meant to run.
    pub enablement: Enablement,
    /// A job is queued or running for it.
    pub job_pending: bool,
    /// Somebody asked PID 1 to stop it.
    pub stop_requested: bool,
    /// Held in the cgroup freezer by the operator.
    pub frozen: bool,
    /// Since when it has been active without a break, if it is.
    pub active_since: Option<Timestamp>,
    /// When PID 1 began to start it, if it runs or starts.
    pub began_at: Option<Timestamp>,
    /// How often PID 1 restarted it by itself.
    pub restarts: u32,
}

impl UnitState {
    /// The state of a unit that has never run.
    pub fn never_started(incarnation: Incarnation) -> Self {
        Self {
            incarnation,
            activity: Activity::Inactive,
            main_pid: None,
            last_exit: LastExit::None,
            enablement: Enablement::Enabled,
            job_pending: false,
            stop_requested: false,
            frozen: false,
            active_since: None,
            began_at: None,
            restarts: 0,
        }
    }

    /// Whether its main process runs.
    pub fn is_running(&self) -> bool {
        self.activity == Activity::Active
    }
}

/// What PID 1's word alone says of a subject.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum UnitReading {
    /// It runs: whether it answers and works is for soft evidence to tell.
    Running,
    /// Down, by hard evidence.
    Crashed(Reason),
    /// The operator wants it so.
    Operator(Reason),
    /// Between states, or not to be told: abstain.
    Unknown(Reason),
}

/// How exit 0 of a subject is to be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ExitZero {
    /// A clean stop: somebody wanted it.
    Operator,
    /// This service never ends by itself: exit 0 is a fault.
    Fault,
}

/// A wait for PID 1's own restart up to this long belongs to PID 1.
pub const AUTO_RESTART_SHORT: Duration = Duration::from_secs(1);
/// With less than this left of a long wait, PID 1 is let go first.
pub const AUTO_RESTART_LEFT: Duration = Duration::from_millis(500);

/// Reads hard evidence. The one place where PID 1's word is turned into a verdict.
///
/// `now` decides only whether a long auto-restart still has enough time left to be worth a repair.
pub fn classify_unit(state: &UnitState, exit_zero: ExitZero, now: Timestamp) -> UnitReading {
    use UnitReading::{Crashed, Operator, Running, Unknown};
    match state.enablement {
        Enablement::Masked => return Operator(Reason::Masked),
        Enablement::NotFound => return Operator(Reason::NotFound),
        // Running or not: who disables a unit wants nobody to bring it back, so nobody may end it either.
        Enablement::Disabled => return Operator(Reason::Disabled),
        Enablement::Enabled => {}
    }
    if state.frozen {
        return Operator(Reason::FrozenUnit);
    }
    if state.stop_requested {
        return Operator(Reason::Stopped);
    }
    if state.job_pending && !state.is_running() {
        return Unknown(Reason::JobPending);
    }
    let ended = match state.last_exit {
        LastExit::Signal(_) => Reason::Killed,
        LastExit::StartLimit => Reason::StartLimit,
        LastExit::None | LastExit::Code(_) | LastExit::Dependency => Reason::Exited,
    };
    match state.activity {
        Activity::Active => Running,
        Activity::Activating => Unknown(Reason::Starting),
        Activity::Deactivating => Unknown(Reason::Stopping),
        Activity::AutoRestart { due, wait }
            if wait <= AUTO_RESTART_SHORT || due.saturating_since(now) < AUTO_RESTART_LEFT =>
        {
            Unknown(Reason::AutoRestart)
        }
        Activity::AutoRestart { .. } => Crashed(Reason::AutoRestart),
        Activity::Failed if state.last_exit == LastExit::Dependency => Operator(Reason::Dependency),
        Activity::Failed => Crashed(ended),
        Activity::Inactive => match (state.last_exit, exit_zero) {
            // What never ran has not failed, whatever its exit would mean.
            (LastExit::None, _) | (LastExit::Code(0), ExitZero::Operator) => Operator(Reason::Stopped),
            (LastExit::Dependency, _) => Operator(Reason::Dependency),
            _ => Crashed(ended),
        },
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

    fn failed() -> UnitState {
        UnitState {
            activity: Activity::Failed,
            last_exit: LastExit::Signal(9),
            ..UnitState::never_started(Incarnation::default())
        }
    }

    #[test]
    fn a_failed_unit_is_crashed_and_a_stopped_one_is_the_operators() {
        let now = Timestamp::from_nanos(1);
        assert_eq!(classify_unit(&failed(), ExitZero::Operator, now), UnitReading::Crashed(Reason::Killed));
        let stopped = UnitState { stop_requested: true, ..failed() };
        assert_eq!(classify_unit(&stopped, ExitZero::Operator, now), UnitReading::Operator(Reason::Stopped));
        let masked = UnitState { enablement: Enablement::Masked, ..failed() };
        assert_eq!(classify_unit(&masked, ExitZero::Fault, now), UnitReading::Operator(Reason::Masked));
    }

    #[test]
    fn exit_zero_is_the_operators_unless_the_configuration_calls_it_a_fault() {
        let now = Timestamp::from_nanos(1);
        let clean = UnitState { activity: Activity::Inactive, last_exit: LastExit::Code(0), ..failed() };
        assert_eq!(classify_unit(&clean, ExitZero::Operator, now), UnitReading::Operator(Reason::Stopped));
        assert_eq!(classify_unit(&clean, ExitZero::Fault, now), UnitReading::Crashed(Reason::Exited));
        let never = UnitState::never_started(Incarnation::default());
        assert_eq!(classify_unit(&never, ExitZero::Fault, now), UnitReading::Operator(Reason::Stopped));
    }

    #[test]
    fn a_restart_that_pid_1_is_about_to_make_is_left_to_pid_1() {
        let now = Timestamp::from_nanos(10_000_000_000);
        let read = |left, wait| {
            let state = UnitState { activity: Activity::AutoRestart { due: now + left, wait }, ..failed() };
            classify_unit(&state, ExitZero::Operator, now)
        };
        let (short, long) = (Duration::from_millis(800), Duration::from_secs(30));
        assert_eq!(read(short, short), UnitReading::Unknown(Reason::AutoRestart));
        assert_eq!(read(Duration::from_millis(400), long), UnitReading::Unknown(Reason::AutoRestart));
        assert_eq!(read(Duration::from_secs(20), long), UnitReading::Crashed(Reason::AutoRestart));
    }

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
