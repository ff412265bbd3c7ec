//! The right to act.

use crate::protocol::episode::{Acting, Subject};
use crate::protocol::evidence::FaultClass;
use crate::protocol::policy::Action;
use crate::protocol::types::{EpisodeId, Incarnation, Round, Rung, SubjectName};

/// One attempt to act: what may happen at most once (rule S2).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Attempt {
    /// The episode.
    pub episode: EpisodeId,
    /// The rung.
    pub rung: Rung,
    /// The round.
    pub round: Round,
}

/// The right to act once: minted only by the warden's core, after INTENT is on the disk and the last check held.
///
/// Not `Clone`: a backend consumes it.
#[derive(Debug, PartialEq, Eq)]
pub struct ActionPermit {
    attempt: Attempt,
    subject: SubjectName,
    unit: String,
    incarnation: Incarnation,
    class: FaultClass,
    action: Action,
}

impl ActionPermit {
    /// Mints the right to carry out an INTENT that is on the disk, after the last check. The only maker of permits.
    pub(super) fn mint(acting: &Acting, subject: &Subject, action: Action) -> Self {
        Self {
            attempt: acting.attempt,
            subject: subject.name.clone(),
            unit: subject.policy.unit.clone(),
            incarnation: acting.incarnation,
            class: acting.class,
            action,
        }
    }

    /// The attempt it is for.
    pub fn attempt(&self) -> Attempt {
        self.attempt
    }
    /// The subject.
    pub fn subject(&self) -> &SubjectName {
        &self.subject
    }
    /// PID 1's name for it.
    pub fn unit(&self) -> &str {
        &self.unit
    }
    /// The run that may be acted on; on any other the backend must refuse.
    pub fn incarnation(&self) -> Incarnation {
        self.incarnation
    }
    /// The certified fault: a HANG is killed first.
    pub fn class(&self) -> FaultClass {
        self.class
    }
    /// What to do.
    pub fn action(&self) -> &Action {
        &self.action
    }
}
