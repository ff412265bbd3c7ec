//! One subject's episode: where it stands, until when, and what it waits for.
//!
//! An episode lasts from a fault to Healthy or Held; a new incarnation, an abandoned or an aborted action begins a new
//! round of it, in which no earlier vote counts. Every state has a deadline or an outside event that ends it (rule L2):
//!
//! | state | ends by |
//! |---|---|
//! | Healthy | a DOWN or a vote |
//! | Suspect | a quorum, or the last word and vote against it expiring |
//! | Challenged | the answer, the votes going, or the challenge's deadline |
//! | Certified | INTENT, the votes going, or `act_timeout` + cool-down |
//! | AwaitingApproval | the operator, the fault going, or `approval` |
//! | Acting | the new process, or `act_timeout` |
//! | Settling | hard evidence, or the class's `settle` |
//! | Unconfirmed | q verdicts, or `unconfirmed_max` |
//! | Reconciling | the unit being seen at rest, or, where it starts, `act_timeout`; nothing else waits for it from then on |
//! | Held | the operator; budget also by refill or a new day |
//! | Operator | a new incarnation, or the unit running again |

use super::cpu::CpuReading;
use super::evidence::{Attestation, FaultClass, UnitState};
use super::ladder::Ledger;
use super::policy::SubjectPolicy;
use super::statement::{Envelope, EpisodeStatement, Outcome, StateName};
use super::types::{Incarnation, Nonce, PersonaId, Round, SubjectName, Timestamp, VendorId};
use super::view::HeldBy;
use super::vote_keeper::VoteKeeper;
use super::warden::Attempt;
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

/// How far an action has come.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Phase {
    /// INTENT is being written; nothing may happen before it is on the disk.
    Intending,
    /// The unit is being read for the last time.
    Rereading,
    /// The permit was given out.
    Executing,
    /// OUTCOME or ABORT is being written; the slot is free already, the next round begins when it is on the disk.
    Closing {
        /// It was an ABORT: back to Suspect instead of Settling.
        aborted: bool,
    },
}

/// An action under way.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Acting {
    /// Which attempt (rule S2).
    pub attempt: Attempt,
    /// The run that was voted on (rule S3).
    pub incarnation: Incarnation,
    /// The certified fault.
    pub class: FaultClass,
    /// How far it is.
    pub phase: Phase,
    /// The journal record that the phase waits for.
    pub waits_for: u64,
    /// Where INTENT stands in the journal.
    pub intent: u64,
    /// When the quorum stood.
    pub certified_at: Timestamp,
    /// From the oldest counted observation to the quorum.
    pub detection: Duration,
    /// By when it must have ended: `act_timeout`, and what the action itself may take.
    pub deadline: Timestamp,
    /// `act_timeout`: by then the last look must have been taken, and the slot is free.
    pub slot_until: Timestamp,
    /// When the accounts were charged, on the accumulated clock.
    pub charged_at: Duration,
    /// Whether it still takes one of the node's f slots (rule S5).
    pub holds_slot: bool,
}

/// A certified fault that waits.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Certified {
    /// The fault.
    pub class: FaultClass,
    /// When the quorum stood.
    pub at: Timestamp,
    /// Order of certification on this node.
    pub order: u64,
    /// Its place in the queue for a slot; one per vendor at a time.
    pub place: Option<u64>,
    /// BROKEN: vendors that observed it again after the challenge.
    pub confirmed: BTreeSet<VendorId>,
    /// From the oldest counted observation to the quorum.
    pub detection: Duration,
    /// Past this it starts over.
    pub deadline: Timestamp,
}

/// A challenge under way.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Challenged {
    /// HANG: the accused process is asked. BROKEN: the voters are.
    pub class: FaultClass,
    /// The number to be repeated.
    pub nonce: Nonce,
    /// The accused process.
    pub pid: u32,
    /// By when the answer is due; once it was silent, the second look at its use of the CPU.
    pub deadline: Timestamp,
    /// From the oldest counted observation to the quorum.
    pub detection: Duration,
    /// HANG: the process' use of the CPU before it was asked.
    pub cpu_before: Option<CpuReading>,
    /// HANG: silent until the deadline; waits for the second look at its use of the CPU.
    pub silent: bool,
}

/// Where an episode stands.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum State {
    /// Nothing is wrong.
    Healthy,
    /// Somebody says DOWN, below a quorum: no slot, no hold.
    Suspect,
    /// A quorum on soft evidence was asked back.
    Challenged(Challenged),
    /// A quorum that held; waits for slot and cool-down.
    Certified(Certified),
    /// Waits for the operator: no slot.
    AwaitingApproval {
        /// The fault.
        class: FaultClass,
        /// Until when.
        until: Timestamp,
    },
    /// INTENT written or being written.
    Acting(Acting),
    /// Acted; is it well?
    Settling {
        /// The attempt that is judged.
        attempt: Attempt,
        /// The fault that is judged.
        class: FaultClass,
        /// Until when.
        until: Timestamp,
    },
    /// Nobody can say.
    Unconfirmed {
        /// The attempt that is judged.
        attempt: Attempt,
        /// The fault that is judged.
        class: FaultClass,
        /// Until when.
        until: Timestamp,
        /// The run that has to be active all along.
        incarnation: Incarnation,
        /// It was.
        active_all_along: bool,
    },
    /// What became of an INTENT of an earlier warden?
    Reconciling {
        /// Where it stands in the journal.
        intent: u64,
        /// The attempt.
        attempt: Attempt,
        /// The run it was for.
        before: Incarnation,
        /// The fault.
        class: FaultClass,
        /// Until when it takes a slot and waits for PID 1's job.
        until: Timestamp,
        /// Found out: the record that its end waits for, and what it says.
        closing: Option<(u64, Outcome)>,
    },
    /// Left alone: ladder or budget spent.
    Held(HeldBy),
    /// The operator wants the unit as it is.
    Operator(Incarnation),
}

impl State {
    /// Its name, before holds and freezes are laid over it.
    pub const fn name(&self) -> StateName {
        match self {
            Self::Healthy => StateName::Healthy,
            Self::Suspect => StateName::Suspect,
            Self::Challenged(_) => StateName::Challenged,
            Self::Certified(_) => StateName::Certified,
            Self::AwaitingApproval { .. } => StateName::AwaitingApproval,
            Self::Acting(_) => StateName::Acting,
            Self::Settling { .. } => StateName::Settling,
            Self::Unconfirmed { .. } => StateName::Unconfirmed,
            Self::Reconciling { .. } => StateName::Reconciling,
            Self::Held(_) => StateName::Held,
            Self::Operator(_) => StateName::Operator,
        }
    }

    /// Whether an action is under way or its end unknown: such a state is left by its own rules only.
    pub const fn is_committed(&self) -> bool {
        matches!(self, Self::Acting(_) | Self::Reconciling { .. })
    }

    /// Whether it gathers evidence and may simply be dropped: by a hold, the operator, or a new incarnation.
    pub const fn is_open(&self) -> bool {
        matches!(
            self,
            Self::Healthy | Self::Suspect | Self::Challenged(_) | Self::Certified(_) | Self::AwaitingApproval { .. }
        )
    }

    /// Whether it takes one of the node's slots.
    pub fn holds_slot(&self, now: Timestamp) -> bool {
        match self {
            Self::Acting(acting) => acting.holds_slot && now < acting.slot_until,
            Self::Reconciling { until, closing, .. } => now < *until && closing.is_none(),
            _ => false,
        }
    }

    /// The fault it deals with.
    pub const fn class(&self) -> Option<FaultClass> {
        match self {
            Self::Challenged(Challenged { class, .. })
            | Self::Certified(Certified { class, .. })
            | Self::AwaitingApproval { class, .. }
            | Self::Acting(Acting { class, .. })
            | Self::Settling { class, .. }
            | Self::Unconfirmed { class, .. }
            | Self::Reconciling { class, .. } => Some(*class),
            Self::Healthy | Self::Suspect | Self::Held(_) | Self::Operator(_) => None,
        }
    }

    /// Its deadline, where it has one of its own.
    pub const fn deadline(&self) -> Option<Timestamp> {
        match self {
            Self::Challenged(Challenged { deadline, .. })
            | Self::Certified(Certified { deadline, .. })
            | Self::Acting(Acting { deadline, .. }) => Some(*deadline),
            Self::AwaitingApproval { until, .. }
            | Self::Settling { until, .. }
            | Self::Unconfirmed { until, .. }
            | Self::Reconciling { until, .. } => Some(*until),
            Self::Healthy | Self::Suspect | Self::Held(_) | Self::Operator(_) => None,
        }
    }
}

/// A guardian's latest word on a subject, with its place in what that guardian said.
#[derive(Clone, Debug, Hash)]
pub struct Word {
    /// The word.
    pub attestation: Attestation,
    /// Number of the statement it was said in.
    pub seq: u64,
    /// The voter's vendor.
    pub vendor: VendorId,
    /// When the warden heard it.
    pub heard_at: Timestamp,
}

/// All that the warden knows of one subject.
#[derive(Clone, Debug)]
pub struct Subject {
    /// Its name.
    pub name: SubjectName,
    /// Its configuration.
    pub policy: SubjectPolicy,
    /// PID 1's latest word; `None`: it cannot be seen.
    pub unit: Option<UnitState>,
    /// Its account.
    pub ledger: Ledger,
    /// The votes of this round.
    pub votes: VoteKeeper,
    /// Everybody's latest word.
    pub words: BTreeMap<PersonaId, Word>,
    /// Where it stands.
    pub state: State,
    /// Since when.
    pub since: Timestamp,
    /// Why, from a closed set.
    pub reason: &'static str,
    /// What a vote must match: the current episode as last signed.
    pub episode: EpisodeStatement,
    /// That statement as last published.
    pub shown: Option<EpisodeStatement>,
    /// The bytes of what was last published.
    pub published: Option<Envelope>,
    /// The operator approved the rung, for the fault and the run at hand.
    pub approved: bool,
    /// An action was taken in this episode: it ends with Healthy or Held, not before.
    pub acted: bool,
    /// Answered challenges of this incarnation: each doubles the soft patience, up to 8×.
    pub answered: u32,
    /// Challenges in a row that it could not answer, since it was last well.
    pub kept: u32,
    /// Soft evidence is not acted on before this.
    pub soft_from: Timestamp,
    /// Observe mode: the run and the classes for which WOULD_ACT was written.
    pub would_have: BTreeSet<(Incarnation, FaultClass)>,
}

impl Subject {
    /// A new run: what was said, asked and excused of the one before does not speak of it.
    pub fn follow(&mut self, incarnation: Incarnation, soft_from: Timestamp) {
        self.episode.incarnation = incarnation;
        self.words.clear();
        self.answered = 0;
        self.kept = 0;
        self.soft_from = soft_from;
    }

    /// Next round of the same episode: votes void, fresh nonce.
    pub fn new_round(&mut self, nonce: Nonce) {
        self.episode.round = Round(self.episode.round.0.saturating_add(1));
        self.episode.nonce = nonce;
        self.votes.clear();
    }

    /// The attempt that a quorum would make now.
    pub fn attempt(&self) -> Attempt {
        Attempt { episode: self.episode.id, rung: self.episode.rung, round: self.episode.round }
    }

    /// Distinct eligible vendors whose fresh word on the current run fulfils `test`.
    pub fn vendors_saying(
        &self,
        now: Timestamp,
        fresh: Duration,
        test: impl Fn(&Attestation) -> bool,
    ) -> BTreeSet<&VendorId> {
        self.words
            .values()
            // First what most words do not pass: they say that all is well.
            .filter(|word| word.attestation.incarnation == self.episode.incarnation && test(&word.attestation))
            .filter(|word| word.heard_at.age_at(now).is_some_and(|age| age <= fresh))
            .filter(|word| self.policy.vendor.as_ref() != Some(&word.vendor))
            .map(|word| &word.vendor)
            .collect()
    }
}
