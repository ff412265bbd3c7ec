//! What the cores show of themselves: plain facts, for `quorum`, `explain` and metrics. No rule reads a view.

use super::evidence::{Attestation, FaultClass, TickState};
use super::statement::{EpisodeStatement, JournalHead, StateName, Vote};
use super::types::{
    EpisodeId, Incarnation, PersonaId, Round, Rung, SessionIncarnation, SubjectName, Timestamp, VendorId,
    WardenInstance,
};

/// The whole warden.
#[derive(Clone, Debug)]
pub struct WardenView {
    /// This run of the warden.
    pub instance: WardenInstance,
    /// Every persona of the roster, by name.
    pub personas: Vec<PersonaStatus>,
    /// Every subject, by name.
    pub subjects: Vec<SubjectStatus>,
    /// Distinct vendors with a session, a fresh heartbeat, and no quarantine.
    pub vendors_live: usize,
    /// Holds in force.
    pub holds: Vec<HoldStatus>,
    /// Why everything is held, if the journal is in doubt.
    pub journal_damage: Option<String>,
    /// Doubts about the host: soft evidence is not acted on until then.
    pub frozen_until: Option<(Timestamp, &'static str)>,
}

/// A hold.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HoldStatus {
    /// Of whom; all with `None`.
    pub subject: Option<SubjectName>,
    /// Who said so.
    pub uid: u32,
    /// Why.
    pub reason: String,
    /// Until when, in seconds of Unix time; until released with `None`.
    pub until: Option<u64>,
}

/// A persona as a guardian.
#[derive(Clone, Debug)]
pub struct PersonaStatus {
    /// Its name.
    pub persona: PersonaId,
    /// Its vendor.
    pub vendor: VendorId,
    /// Its session, if one is open.
    pub session: Option<SessionIncarnation>,
    /// When its last heartbeat came, on the warden's clock.
    pub heartbeat_at: Option<Timestamp>,
    /// Session open and heartbeat fresh.
    pub live: bool,
    /// Proven to equivocate, and not readmitted.
    pub quarantined: bool,
    /// The health score it gives itself.
    pub health: u32,
    /// Whether it counts by the same roster and policy; `None` until it has spoken.
    pub policy_matches: Option<bool>,
}

/// Why a subject is Held.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum HeldBy {
    /// The operator's hold.
    Operator,
    /// The journal is in doubt.
    Journal,
    /// The ladder is spent.
    Ladder,
    /// The budget is spent; ends by refill too.
    Budget,
}

impl HeldBy {
    /// The word used in JSON.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Operator => "operator",
            Self::Journal => "journal",
            Self::Ladder => "ladder",
            Self::Budget => "budget",
        }
    }
}

/// A subject.
#[derive(Clone, Debug)]
pub struct SubjectStatus {
    /// Its name.
    pub subject: SubjectName,
    /// The state to show.
    pub state: StateName,
    /// Why it is Held.
    pub held_by: Option<HeldBy>,
    /// Why it is in this state, from a closed set.
    pub reason: &'static str,
    /// The episode.
    pub episode: EpisodeId,
    /// The round.
    pub round: Round,
    /// The rung.
    pub rung: Rung,
    /// The run that can be voted on.
    pub incarnation: Incarnation,
    /// Its main process.
    pub pid: Option<u32>,
    /// The fault, if there is one: certified, or else what most say.
    pub class: Option<FaultClass>,
    /// Everybody's latest word.
    pub verdicts: Vec<(PersonaId, Attestation)>,
    /// The votes that count now.
    pub votes: Vec<Vote>,
    /// Repairs left.
    pub budget: u32,
    /// Deadline of the state.
    pub deadline: Option<Timestamp>,
    /// Eligible live voters beyond those that are needed: how many more may fail before it cannot be repaired.
    pub margin: i32,
    /// When it entered this state.
    pub since: Timestamp,
}

/// One guardian: its own sight, unverified by anybody else.
#[derive(Clone, Debug, Default)]
pub struct GuardianView {
    /// Its session, if one is open.
    pub session: Option<SessionIncarnation>,
    /// Its own health score.
    pub health: u32,
    /// Why it does not vote at all, if so: `policy_mismatch`, `roster_mismatch`, `no_session`, `self_unwell`.
    pub abstains: Option<&'static str>,
    /// Its word on every subject it watches, by name.
    pub attestations: Vec<Attestation>,
    /// Every wrapper's ticks as last read, by subject.
    pub ticks: Vec<(SubjectName, TickState)>,
    /// The highest receipt of the warden that it has seen.
    pub receipt: JournalHead,
    /// The warden's newest episodes, by subject.
    pub episodes: Vec<EpisodeStatement>,
    /// What it has of every other persona of the roster, by name.
    pub peers: Vec<GuardianPeer>,
}

/// Another guardian, as one guardian sees it.
#[derive(Clone, Debug)]
pub struct GuardianPeer {
    /// Its name.
    pub persona: PersonaId,
    /// Its session, if it showed one that holds.
    pub session: Option<SessionIncarnation>,
    /// When its last heartbeat came.
    pub heartbeat_at: Option<Timestamp>,
    /// What that heartbeat said.
    pub attestations: Vec<Attestation>,
    /// The health score in it.
    pub health: u32,
    /// Proven to equivocate.
    pub guilty: bool,
    /// Whether it counts by the same roster and policy; `None` until it has spoken.
    pub policy_matches: Option<bool>,
}
