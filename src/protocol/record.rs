//! What the warden's journal holds, and how its records chain.

use super::signing::Domain;
use super::statement::{Envelope, EquivocationProof, JournalHead, Statement};
use super::types::{
    BootId, Digest, EpisodeId, PersonaId, PublicKey, Round, Rung, SessionIncarnation, SubjectName, Timestamp,
    WardenInstance,
};
use std::time::Duration;

/// One record of the journal.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Record {
    /// A warden began. Always the first record of an instance.
    Boot {
        /// Its number: one more than the last.
        instance: WardenInstance,
        /// The boot it began on.
        boot: BootId,
        /// The node's clock then.
        at: Timestamp,
    },
    /// INTENT, OUTCOME, ABORT or WOULD_ACT: the signed receipt itself.
    Receipt(Envelope),
    /// What a subject has left, after it changed.
    Ledger(LedgerEntry),
    /// A persona lost its vote: the proof.
    Quarantine {
        /// Who.
        persona: PersonaId,
        /// Why.
        proof: EquivocationProof,
    },
    /// Something root said.
    Operator {
        /// The user that said it, as the kernel told.
        uid: u32,
        /// What.
        order: OperatorOrder,
        /// Why, in the operator's words.
        reason: String,
        /// When, in seconds of Unix time.
        wall: u64,
        /// Of a readmission: what is forgiven with it.
        forgiveness: Option<Forgiveness>,
    },
    /// The roster in force from here on.
    Roster(Envelope),
    /// The first record of a compacted journal: where the chain stood, signed by the warden.
    Head(Envelope),
}

/// What a readmission forgives: what was signed in earlier sessions, but for a run that goes on with its vote.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Forgiveness {
    /// What was signed in sessions before this one is forgiven.
    pub before: SessionIncarnation,
    /// The session key that was proven to lie: all that it signed is forgiven, and it is never good for a session again.
    pub burnt: Option<PublicKey>,
    /// The session key of the run that was open then, and goes on: it is answered for whole, whichever of its sessions a proof
    /// rests on. Which that is, the liar chooses: it shows its peers those that it likes.
    pub answered: Option<PublicKey>,
}

/// The signed part of a [`Record::Head`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CompactedHead(pub JournalHead);

impl Statement for CompactedHead {
    const DOMAIN: Domain = Domain::JournalHead;
}

/// An order of the operator's, through the operator socket.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum OperatorOrder {
    /// Leave a subject (or all, with `None`) alone.
    Hold {
        /// Which; all with `None`.
        subject: Option<SubjectName>,
        /// Until when, in seconds of Unix time; until released with `None`.
        until: Option<u64>,
    },
    /// End a hold, and whatever else keeps the subject in Held.
    Release {
        /// Which; all with `None`.
        subject: Option<SubjectName>,
    },
    /// Let a rung that waits for approval go on.
    Approve {
        /// The episode.
        episode: EpisodeId,
    },
    /// Give a quarantined persona its vote back.
    Readmit {
        /// Who.
        persona: PersonaId,
    },
}

/// What a subject has left: kept across restarts of the warden and of the node (rule S6).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LedgerEntry {
    /// The subject; `None` for the node as a whole.
    pub subject: Option<SubjectName>,
    /// Repairs left.
    pub tokens: u32,
    /// Repairs in the current day.
    pub spent_today: u32,
    /// Where the current day began, on the accumulated clock.
    pub day_began: Duration,
    /// The accumulated clock: time on `CLOCK_BOOTTIME` over all boots that the warden has seen.
    pub accumulated: Duration,
    /// The rung that comes next.
    pub rung: Rung,
    /// The rungs that were taken since the ladder began, one bit each.
    pub tried: u32,
    /// Cool-down before the next action.
    pub cool_down: Duration,
    /// When that cool-down began, on the accumulated clock.
    pub cool_down_from: Duration,
    /// Its ladder is spent; only the operator ends that.
    pub exhausted: bool,
}

/// An INTENT of an earlier instance for which no OUTCOME or ABORT follows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OpenIntent {
    /// Its place in the journal.
    pub seq: u64,
    /// The signed receipt.
    pub receipt: Envelope,
    /// The episode it was for.
    pub episode: EpisodeId,
    /// The round.
    pub round: Round,
}

/// Hash of a record, over everything before it.
///
/// `SHA-256(previous ‖ seq (8 bytes, big-endian) ‖ encoded record)`.
pub fn chain_hash(previous: &Digest, seq: u64, encoded: &[u8]) -> Digest {
    let mut bytes = Vec::with_capacity(40 + encoded.len());
    bytes.extend_from_slice(&previous.0);
    bytes.extend_from_slice(&seq.to_be_bytes());
    bytes.extend_from_slice(encoded);
    Digest::of(&bytes)
}
