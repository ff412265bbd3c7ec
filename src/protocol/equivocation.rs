//! Equivocation: one session that signs two different statements with one number.
//!
//! Rules implemented here (rules S8 and L3):
//! * a statement's place is (cluster, node, session key, seq); two different payloads in one place are proof, whatever they
//!   say and whatever type they are of;
//! * a correct guardian never goes back in its numbers, and a new run has a new key: nothing it does or suffers makes two;
//! * a gap is no fault, a repetition is no fault, an older statement that arrives late is no fault;
//! * a proof is checked whole, with the roster alone, before it has any effect or is passed on;
//! * what is kept to find conflicts is bounded in statements and in bytes; the lowest numbers go first.

use super::roster::Roster;
use super::session::{SessionError, VerifiedSession, verify_session};
use super::signing::{Domain, VerifyingKey};
use super::statement::{
    Codec, Envelope, EquivocationProof, Head, Header, Heartbeat, OpenError, StatementCodec, Verified, Vote,
};
use super::types::{Digest, PersonaId, PublicKey, SessionIncarnation, VendorId};
use std::collections::BTreeMap;

/// A numbered statement of a guardian's: what can equivocate.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum GuardianStatement {
    /// A heartbeat.
    Heartbeat(Verified<Heartbeat>),
    /// A vote.
    Vote(Verified<Vote>),
}

impl GuardianStatement {
    /// Opens a heartbeat or a vote under a session's key; the header must name that key.
    ///
    /// # Errors
    /// [`OpenError`]: of another type, of another signer, badly signed, or malformed.
    pub fn open<C: Codec<Heartbeat> + Codec<Vote>>(
        envelope: &Envelope,
        key: &VerifyingKey,
        codec: &C,
    ) -> Result<Self, OpenError> {
        let statement = match envelope.domain {
            Domain::Vote => Self::Vote(envelope.open(key, codec)?),
            _ => Self::Heartbeat(envelope.open(key, codec)?),
        };
        let named = statement.header().session_key;
        if named == key.public() {
            Ok(statement)
        } else {
            Err(OpenError::WrongKey { wanted: key.public(), found: named })
        }
    }

    /// Its header.
    pub fn header(&self) -> &Header {
        match self {
            Self::Heartbeat(heartbeat) => &heartbeat.header,
            Self::Vote(vote) => &vote.header,
        }
    }

    /// The bytes as signed.
    pub fn envelope(&self) -> &Envelope {
        match self {
            Self::Heartbeat(heartbeat) => heartbeat.envelope(),
            Self::Vote(vote) => vote.envelope(),
        }
    }
}

/// What a statement is to a window.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Observed {
    /// Its number is the highest so far: its author's latest word.
    Newest,
    /// New, but its author has said something later already.
    Late,
    /// The very same statement again.
    Repeated,
    /// Below everything that is kept: nothing can be said of it, and nobody needs it.
    TooOld,
    /// Another statement with the same number: proof.
    Conflict(Box<EquivocationProof>),
}

/// The newest statements of one session key, kept to find conflicts and to serve a peer that asks for one.
#[derive(Clone, Debug)]
pub struct StatementWindow {
    session: VerifiedSession,
    /// By their numbers; each with its digest, which every heartbeat of anybody asks for.
    kept: BTreeMap<u64, (Digest, Envelope)>,
    bytes: usize,
    /// Everything below has been dropped.
    floor: u64,
}

impl StatementWindow {
    /// Statements kept at most.
    pub const CAPACITY: usize = 256;
    /// Payload bytes kept at most: that many of the largest, or a liar would push a lie out by a few large statements before anybody
    /// compares it.
    pub const MAX_BYTES: usize = Self::CAPACITY * 32 * 1024;

    /// An empty window for one session.
    pub fn new(session: VerifiedSession) -> Self {
        Self { session, kept: BTreeMap::new(), bytes: 0, floor: 0 }
    }

    /// The session, as last opened.
    pub fn session(&self) -> &VerifiedSession {
        &self.session
    }

    /// Takes a newer session of the same persona. Under the same key the run goes on and so do its numbers; under another
    /// key a new run begins, with an empty window. An older session changes nothing. Returns whether it was newer.
    pub fn renew(&mut self, session: VerifiedSession) -> bool {
        if session.persona != self.session.persona || session.incarnation <= self.session.incarnation {
            return false;
        }
        if session.session_key == self.session.session_key {
            self.session = session;
        } else {
            *self = Self::new(session);
        }
        true
    }

    /// Opens a statement under the session's key and checks that its header is this session's: its cluster, node and
    /// persona, and an incarnation that the key has had.
    ///
    /// # Errors
    /// [`WindowError`] names what does not fit.
    pub fn open<C: Codec<Heartbeat> + Codec<Vote>>(
        &self,
        envelope: &Envelope,
        codec: &C,
    ) -> Result<GuardianStatement, WindowError> {
        let statement = self.open_of_any_session(envelope, codec)?;
        let header = statement.header();
        let (fits, field) = (header.incarnation <= self.session.incarnation, "incarnation");
        if fits { Ok(statement) } else { Err(WindowError::Inconsistent(field)) }
    }

    /// The same for comparing alone, whichever session of the key its header names: a key has one sequence of numbers, and whoever
    /// brings the statement may know of a session that we were not shown.
    ///
    /// # Errors
    /// [`WindowError`] names what does not fit.
    pub fn open_of_any_session<C: Codec<Heartbeat> + Codec<Vote>>(
        &self,
        envelope: &Envelope,
        codec: &C,
    ) -> Result<GuardianStatement, WindowError> {
        let statement = GuardianStatement::open(envelope, self.session.key(), codec)?;
        let header = statement.header();
        for (fits, field) in [
            (header.cluster == self.session.cluster, "cluster"),
            (header.node == self.session.node, "node"),
            (header.boot == self.session.boot, "boot"),
            (header.persona == self.session.persona, "persona"),
        ] {
            if !fits {
                return Err(WindowError::Inconsistent(field));
            }
        }
        Ok(statement)
    }

    /// Takes a statement that [`Self::open`] let through.
    pub fn observe(&mut self, statement: &GuardianStatement) -> Observed {
        let seq = statement.header().seq;
        if self.kept.contains_key(&seq) {
            return self.conflict(statement).map_or(Observed::Repeated, |proof| Observed::Conflict(Box::new(proof)));
        }
        if seq < self.floor {
            return Observed::TooOld;
        }
        let newest = self.kept.last_key_value().is_none_or(|(highest, _)| seq > *highest);
        let envelope = statement.envelope();
        self.bytes += envelope.payload.len();
        self.kept.insert(seq, (envelope.digest(), envelope.clone()));
        while self.kept.len() > 1 && (self.kept.len() > Self::CAPACITY || self.bytes > Self::MAX_BYTES) {
            if let Some((dropped, (_, envelope))) = self.kept.pop_first() {
                self.bytes -= envelope.payload.len();
                self.floor = dropped.saturating_add(1);
            }
        }
        if newest { Observed::Newest } else { Observed::Late }
    }

    /// Compares a statement that [`Self::open_of_any_session`] let through with the kept one of its number; takes nothing in.
    pub fn conflict(&self, statement: &GuardianStatement) -> Option<EquivocationProof> {
        debug_assert_eq!(statement.header().session_key, self.session.session_key, "opened under this session's key");
        let (digest, kept) = self.kept.get(&statement.header().seq)?;
        (*digest != statement.envelope().digest()).then(|| EquivocationProof {
            session: self.session.envelope().clone(),
            first: kept.clone(),
            second: statement.envelope().clone(),
        })
    }

    /// The newest statement, as peers compare it.
    pub fn head(&self) -> Option<Head> {
        self.head_at(*self.kept.last_key_value()?.0)
    }

    /// One kept statement, as peers compare it.
    pub fn head_at(&self, seq: u64) -> Option<Head> {
        Some(Head {
            persona: self.session.persona.clone(),
            session_key: self.session.session_key,
            seq,
            digest: self.kept.get(&seq)?.0,
        })
    }

    /// One statement, while it is kept.
    pub fn get(&self, seq: u64) -> Option<&Envelope> {
        self.kept.get(&seq).map(|(_, envelope)| envelope)
    }

    /// What decides how the next statements are taken: the session, and which statements are kept.
    pub(super) fn hash_future(&self, into: &mut impl std::hash::Hasher) {
        use std::hash::Hash as _;
        (self.session.incarnation, self.session.session_key, self.floor).hash(into);
        for (seq, (_, envelope)) in &self.kept {
            (seq, &envelope.payload).hash(into);
        }
    }

    /// Whether a head that a peer reports names another statement than the one kept here: worth a fetch.
    pub fn contradicts(&self, head: &Head) -> bool {
        head.session_key == self.session.session_key
            && self.kept.get(&head.seq).is_some_and(|(digest, _)| *digest != head.digest)
    }
}

/// Why a statement does not belong to a session.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum WindowError {
    /// It does not open under the session's key.
    #[error(transparent)]
    Open(#[from] OpenError),
    /// Its header is not the session's.
    #[error("`{0}` is not the session's")]
    Inconsistent(&'static str),
}

impl WindowError {
    /// The label of `zeta_bft_statements_rejected_total`.
    pub fn as_str(&self) -> &'static str {
        match self {
            Self::Open(error) => error.as_str(),
            Self::Inconsistent("cluster") => "wrong_cluster",
            Self::Inconsistent("node") => "wrong_node",
            Self::Inconsistent("boot") => "wrong_boot",
            Self::Inconsistent("persona") => "wrong_author",
            Self::Inconsistent(_) => "wrong_header",
        }
    }
}

/// What a checked proof proves.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProvenEquivocation {
    /// Who.
    pub persona: PersonaId,
    /// Its vendor.
    pub vendor: VendorId,
    /// Under which key.
    pub session_key: PublicKey,
    /// The session that the proof rests on.
    pub incarnation: SessionIncarnation,
    /// The number that was used twice.
    pub seq: u64,
    /// Digest of one statement.
    pub first: Digest,
    /// Digest of the other.
    pub second: Digest,
}

/// Why a proof proves nothing.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ProofError {
    /// Its session does not hold.
    #[error("the proof's session does not hold: {0}")]
    Session(#[from] SessionError),
    /// A statement is not the session's.
    #[error("a statement of the proof does not hold: {0}")]
    Statement(#[from] OpenError),
    /// A statement's header is not the session's.
    #[error("`{0}` of a statement in the proof is not the session's")]
    Inconsistent(&'static str),
    /// The numbers differ: two statements, no conflict.
    #[error("the statements have different numbers, {first} and {second}")]
    DifferentNumbers {
        /// One.
        first: u64,
        /// The other.
        second: u64,
    },
    /// It is one and the same statement twice.
    #[error("both statements are the same, {0}")]
    SameStatement(Digest),
}

impl ProofError {
    /// The label of `zeta_bft_statements_rejected_total`.
    pub const fn as_str(&self) -> &'static str {
        match self {
            Self::Session(error) => error.as_str(),
            Self::Statement(error) => error.as_str(),
            Self::Inconsistent(_) | Self::DifferentNumbers { .. } | Self::SameStatement(_) => "bad_proof",
        }
    }
}

impl EquivocationProof {
    /// Checks the proof with the roster alone: session, both signatures, one place, two payloads.
    ///
    /// # Errors
    /// [`ProofError`] says why it proves nothing.
    pub fn check(&self, roster: &Roster, codec: &impl StatementCodec) -> Result<ProvenEquivocation, ProofError> {
        let session = verify_session(&self.session, roster, codec)?;
        let first = GuardianStatement::open(&self.first, session.key(), codec)?;
        let second = GuardianStatement::open(&self.second, session.key(), codec)?;
        for header in [first.header(), second.header()] {
            for (fits, field) in [
                (header.cluster == session.cluster, "cluster"),
                (header.node == session.node, "node"),
                (header.persona == session.persona, "persona"),
            ] {
                if !fits {
                    return Err(ProofError::Inconsistent(field));
                }
            }
        }
        let (seq, other) = (first.header().seq, second.header().seq);
        if seq != other {
            return Err(ProofError::DifferentNumbers { first: seq, second: other });
        }
        let (first, second) = (self.first.digest(), self.second.digest());
        if first == second {
            return Err(ProofError::SameStatement(first));
        }
        let member = roster
            .member(&session.persona)
            .ok_or_else(|| ProofError::Session(SessionError::UnknownPersona(session.persona.clone())))?;
        Ok(ProvenEquivocation {
            persona: member.persona.clone(),
            vendor: member.vendor.clone(),
            session_key: session.session_key,
            incarnation: session.incarnation,
            seq,
            first,
            second,
        })
    }
}

#[cfg(test)]
mod tests;
