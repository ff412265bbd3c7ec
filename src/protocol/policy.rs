//! What may be repaired, how, how often, and by which deadlines: the one table of defaults.
//!
//! A policy comes from root-owned configuration only (rule S7); no message carries any part of it but its digest.

use super::evidence::{Activity, ExitZero, FaultClass, Reason, Remedy, UnitReading, UnitState};
use super::statement::ActionKind;
use super::types::{Digest, PersonaId, SubjectName, VendorId};
use std::collections::BTreeMap;
use std::time::Duration;

/// Whether the warden acts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// Runs the whole protocol and writes WOULD_ACT receipts, but touches nothing.
    Observe,
    /// Acts.
    Act,
}

/// What kind of thing a subject is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SubjectKind {
    /// A persona's wrapper unit.
    Wrapper(PersonaId),
    /// A persona's sidecar unit.
    Agent(PersonaId),
    /// The node's k3s.
    K3s,
    /// Another unit that the operator named.
    Unit,
}

impl SubjectKind {
    /// The word used in JSON.
    pub const fn as_str(&self) -> &'static str {
        match self {
            Self::Wrapper(_) => "persona",
            Self::Agent(_) => "agent",
            Self::K3s => "k3s",
            Self::Unit => "unit",
        }
    }

    /// The persona it belongs to.
    pub const fn persona(&self) -> Option<&PersonaId> {
        match self {
            Self::Wrapper(persona) | Self::Agent(persona) => Some(persona),
            Self::K3s | Self::Unit => None,
        }
    }
}

/// What a rung does.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    /// Kill what hangs, then start again.
    Restart,
    /// Forget PID 1's failure count, then restart.
    ResetFailed,
    /// Run a command, without a shell.
    Run {
        /// Program and arguments.
        argv: Vec<String>,
        /// Longest run.
        limit: Duration,
    },
    /// Stop the unit.
    Stop,
    /// Move a file aside, then restart.
    MoveAside {
        /// Which.
        path: String,
    },
    /// Copy a file aside.
    CopyAside {
        /// Which.
        path: String,
    },
    /// Call a human; nothing else.
    Page,
}

impl Action {
    /// Its kind.
    pub const fn kind(&self) -> ActionKind {
        match self {
            Self::Restart => ActionKind::Restart,
            Self::ResetFailed => ActionKind::ResetFailed,
            Self::Run { .. } => ActionKind::Run,
            Self::Stop => ActionKind::Stop,
            Self::MoveAside { .. } => ActionKind::MoveAside,
            Self::CopyAside { .. } => ActionKind::CopyAside,
            Self::Page => ActionKind::Page,
        }
    }

    /// How long it may take beyond `act_timeout`: what ends with a new process may not.
    pub const fn longest(&self) -> Duration {
        match self {
            Self::Run { limit, .. } => *limit,
            Self::MoveAside { .. } => Duration::from_secs(120),
            // A whole datastore.
            Self::CopyAside { .. } => Duration::from_secs(600),
            Self::Restart | Self::ResetFailed | Self::Stop | Self::Page => Duration::ZERO,
        }
    }

    /// Whether it is what a reason of a k3s calls for. Calling a human always is.
    pub const fn serves(&self, remedy: Remedy) -> bool {
        match self {
            Self::Restart | Self::ResetFailed | Self::Run { .. } | Self::Stop => matches!(remedy, Remedy::Restart),
            Self::MoveAside { .. } => matches!(remedy, Remedy::MoveAside),
            Self::CopyAside { .. } => matches!(remedy, Remedy::CopyAside),
            Self::Page => true,
        }
    }

    /// Whether a new process is all that is to be seen of it.
    pub const fn is_restart(&self) -> bool {
        matches!(self, Self::Restart | Self::ResetFailed)
    }
}

/// Whose consent a rung needs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Consent {
    /// A quorum's.
    Quorum,
    /// A quorum's, and then the operator's.
    QuorumAndOperator,
}

/// One step of a ladder.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RungPolicy {
    /// What it does.
    pub action: Action,
    /// Whose consent it needs.
    pub consent: Consent,
}

/// How often a subject may be repaired (rule S6).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BudgetPolicy {
    /// Repairs at most in hand.
    pub capacity: u32,
    /// Uninterrupted active time, as the warden reads it from PID 1, that earns one back.
    pub refill: Duration,
    /// Repairs at most in 24 h of accumulated boot time.
    pub per_day: u32,
}

/// One subject, as configured.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SubjectPolicy {
    /// What it is.
    pub kind: SubjectKind,
    /// Its vendor, which does not vote on it.
    pub vendor: Option<VendorId>,
    /// PID 1's name for it.
    pub unit: String,
    /// User that its main process must run as; `None`: not checked (`up`, one user).
    pub uid: Option<u32>,
    /// How exit 0 reads.
    pub exit_zero: ExitZero,
    /// Its steps.
    pub ladder: Vec<RungPolicy>,
    /// Its budget.
    pub budget: BudgetPolicy,
}

impl SubjectPolicy {
    /// How long a step may take beyond `act_timeout`. A k3s takes its time to stop (systemd grants it 90 s).
    pub const fn longest(&self, action: &Action) -> Duration {
        match (&self.kind, action) {
            (SubjectKind::K3s, Action::Restart | Action::ResetFailed | Action::Stop) => Duration::from_secs(120),
            _ => action.longest(),
        }
    }

    /// Whether soft evidence may speak of a unit in this state: it runs. A k3s may also be starting for ever.
    pub fn may_be_unwell(&self, unit: &UnitState, reading: UnitReading) -> bool {
        let starts = unit.activity == Activity::Activating && unit.main_pid.is_some();
        let is_left_to_itself = matches!(reading, UnitReading::Unknown(Reason::Starting | Reason::JobPending));
        reading == UnitReading::Running || (self.kind == SubjectKind::K3s && starts && is_left_to_itself)
    }
}

/// Deadlines of one fault class.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ClassTiming {
    /// Silence before a guardian says DOWN (HANG; before scaling by its own health).
    pub patience: Duration,
    /// How long a challenge waits for its answer; zero: not challenged.
    pub challenge: Duration,
    /// How old an observation may be when INTENT is appended.
    pub vote_ttl: Duration,
    /// How long a repair is given before it is judged.
    pub settle: Duration,
}

/// Every deadline of the protocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Timing {
    /// Time between two heartbeats of a guardian.
    pub heartbeat: Duration,
    /// Time between two pings of a wrapper.
    pub ping: Duration,
    /// Longest an action may take; then its slot is free again.
    pub act_timeout: Duration,
    /// First cool-down; doubles with each repair.
    pub cool_down: Duration,
    /// Longest cool-down.
    pub cool_down_max: Duration,
    /// Active time after which a ladder starts from its first rung.
    pub ladder_reset: Duration,
    /// Longest time in Unconfirmed.
    pub unconfirmed_max: Duration,
    /// How long an approval is waited for.
    pub approval: Duration,
    /// Longest freeze of two vendors that accuse each other of BROKEN, and of a node of which most is accused.
    pub pair_freeze: Duration,
    /// Least time between two pages for one cause and subject.
    pub page_interval: Duration,
    /// A wrapper or agent younger than this is not called hanging.
    pub start_grace: Duration,
    /// Grace after a resume from suspend, and for connections after the warden's own start.
    pub resume_grace: Duration,
    /// BROKEN ticks in a row before a guardian says DOWN.
    pub broken_ticks: u32,
    /// Longest a tick may run: bounds how long BROKEN waits for its end.
    pub tick_limit: Duration,
    /// CRASH.
    pub crash: ClassTiming,
    /// HANG.
    pub hang: ClassTiming,
    /// BROKEN, of a persona.
    pub broken: ClassTiming,
    /// BROKEN, of k3s.
    pub broken_k3s: ClassTiming,
}

const MS: fn(u64) -> Duration = Duration::from_millis;
const S: fn(u64) -> Duration = Duration::from_secs;

impl Default for Timing {
    fn default() -> Self {
        Self {
            heartbeat: MS(250),
            ping: MS(250),
            act_timeout: S(10),
            cool_down: S(1),
            cool_down_max: S(5 * 60),
            ladder_reset: S(30 * 60),
            unconfirmed_max: S(15 * 60),
            approval: S(24 * 3600),
            pair_freeze: S(60),
            page_interval: S(3600),
            start_grace: S(3),
            resume_grace: S(3),
            broken_ticks: 3,
            tick_limit: S(30 * 60),
            crash: ClassTiming { patience: S(0), challenge: S(0), vote_ttl: S(2), settle: S(5) },
            hang: ClassTiming { patience: MS(600), challenge: MS(200), vote_ttl: S(2), settle: S(5) },
            broken: ClassTiming { patience: S(0), challenge: MS(500), vote_ttl: S(2), settle: S(5) },
            broken_k3s: ClassTiming { patience: S(0), challenge: S(3), vote_ttl: S(12), settle: S(180) },
        }
    }
}

impl Timing {
    /// The deadlines of a class on a kind of subject; `None` for classes that are never voted on.
    pub const fn class(&self, class: FaultClass, kind: &SubjectKind) -> Option<&ClassTiming> {
        match (class, kind) {
            (FaultClass::Crash, _) => Some(&self.crash),
            (FaultClass::Hang, _) => Some(&self.hang),
            (FaultClass::Broken, SubjectKind::K3s) => Some(&self.broken_k3s),
            (FaultClass::Broken, _) => Some(&self.broken),
            (FaultClass::Environment | FaultClass::Operator | FaultClass::Unknown, _) => None,
        }
    }

    /// How long a repair is given before it is judged. A k3s takes its time to start, whatever it was repaired for.
    pub fn settle(&self, class: FaultClass, kind: &SubjectKind) -> Duration {
        let class = if *kind == SubjectKind::K3s { FaultClass::Broken } else { class };
        self.class(class, kind).map_or(Duration::ZERO, |timing| timing.settle)
    }

    /// For experiments (`up --drill`): repairs judged after a second, no cool-down.
    pub fn drill() -> Self {
        let mut timing = Self { cool_down: S(0), cool_down_max: S(0), ..Self::default() };
        timing.crash.settle = S(1);
        timing.hang.settle = S(1);
        timing
    }
}

/// The whole policy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Policy {
    /// Digest of subjects, ladders and budgets as written; guardians that differ abstain.
    pub digest: Digest,
    /// Observe or act.
    pub mode: Mode,
    /// Every subject, by name.
    pub subjects: BTreeMap<SubjectName, SubjectPolicy>,
    /// Repairs on the node at most in 24 h of accumulated boot time.
    pub node_per_day: u32,
    /// Budgets and cool-downs are lifted, for an experiment. Shown wherever the state is shown.
    pub drill: bool,
    /// Deadlines.
    pub timing: Timing,
}

impl Policy {
    /// Default budget of a persona's wrapper or agent.
    pub const PERSONA_BUDGET: BudgetPolicy =
        BudgetPolicy { capacity: 5, refill: Duration::from_secs(30 * 60), per_day: 12 };
    /// Default budget of k3s.
    pub const K3S_BUDGET: BudgetPolicy =
        BudgetPolicy { capacity: 2, refill: Duration::from_secs(6 * 3600), per_day: 3 };
    /// Default cap for the node.
    pub const NODE_PER_DAY: u32 = 30;
    /// Budget under `--drill`.
    pub const DRILL_BUDGET: BudgetPolicy =
        BudgetPolicy { capacity: 1_000_000, refill: Duration::from_secs(60), per_day: 1_000_000 };

    /// Default ladder of a persona's wrapper: restart, restart once more with PID 1's memory cleared, call a human.
    pub fn persona_ladder() -> Vec<RungPolicy> {
        [Action::Restart, Action::ResetFailed, Action::Page]
            .map(|action| RungPolicy { action, consent: Consent::Quorum })
            .into()
    }

    /// One subject.
    pub fn subject(&self, name: &SubjectName) -> Option<&SubjectPolicy> {
        self.subjects.get(name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_defaults_keep_the_inequalities_that_the_protocol_needs() {
        for t in [Timing::default(), Timing::drill()] {
            for class in [t.crash, t.hang, t.broken, t.broken_k3s] {
                assert!(class.challenge < class.vote_ttl / 2, "an answer must come while the votes still hold");
                assert!(class.challenge <= t.act_timeout && class.vote_ttl <= t.act_timeout * 2);
            }
            assert!(t.hang.patience >= t.ping * 2, "at least two pings must have been missed");
            assert!(t.heartbeat * 4 <= t.crash.vote_ttl, "votes are renewed well before they expire");
            assert!(t.cool_down <= t.cool_down_max);
            assert!(t.unconfirmed_max > t.act_timeout);
            assert!(t.broken_k3s.settle > t.broken_k3s.vote_ttl);
        }
    }
}
