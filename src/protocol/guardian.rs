//! The guardian: one persona's sidecar. Observes every subject, signs, gossips, votes.

use super::evidence::{Attestation, TickState, UnitState};
use super::policy::Policy;
use super::roster::Roster;
use super::signing::SigningKey;
use super::statement::{Envelope, EquivocationProof, StateName, StatementCodec};
use super::types::{BootId, Digest, EpisodeId, Nonce, PersonaId, PublicKey, SubjectName, Timestamp};
use std::sync::Arc;
use std::time::Duration;

/// What a guardian is made from.
pub struct GuardianConfig<C: StatementCodec> {
    /// Who it speaks for.
    pub persona: PersonaId,
    /// Its long-lived key, which signs session requests only.
    pub persona_key: SigningKey,
    /// The fresh key of this run, which signs everything else.
    pub session_key: SigningKey,
    /// The roster it counts by.
    pub roster: Arc<Roster>,
    /// Its policy.
    pub policy: Arc<Policy>,
    /// This boot.
    pub boot: BootId,
    /// Turns statements into bytes.
    pub codec: C,
    /// The highest receipt kept from an earlier run, to catch a rolled-back journal.
    pub last_receipt: Option<Envelope>,
}

/// Everything that can happen to a guardian.
#[derive(Clone, Debug)]
pub enum GuardianInput {
    /// A connection to the warden stands, and the warden handed out this number for it.
    WardenConnected {
        /// The number to be signed.
        nonce: Nonce,
    },
    /// The connection to the warden is gone.
    WardenLost,
    /// The warden's answer to the session request.
    SessionOpened(Envelope),
    /// The warden published an episode, or a receipt.
    FromWarden(Envelope),
    /// A statement of a peer's, straight from it: session, heartbeat or vote.
    FromPeer {
        /// Whose connection it came over.
        from: PersonaId,
        /// The statement.
        envelope: Envelope,
    },
    /// A peer sent a proof against another.
    ProofFromPeer(EquivocationProof),
    /// A connection to a peer stands: it must hear our session, and our proofs.
    PeerConnected(PersonaId),
    /// The connection to a peer is gone.
    PeerLost(PersonaId),
    /// A peer's answer to a fetch: the statement under that number, with the session that it was made under.
    Fetched {
        /// The session.
        session: Envelope,
        /// The statement.
        statement: Envelope,
    },
    /// PID 1's word on a unit; `None`: it cannot be seen.
    UnitChanged {
        /// Which.
        subject: SubjectName,
        /// Its state.
        state: Option<UnitState>,
    },
    /// A ping was sent to a wrapper.
    PingSent {
        /// To whom.
        subject: SubjectName,
    },
    /// A wrapper answered a ping, on a connection whose peer is the given process.
    PingAnswered {
        /// Who.
        subject: SubjectName,
        /// The process at the other end, as the kernel tells.
        pid: u32,
        /// How long it took.
        round_trip: Duration,
    },
    /// A wrapper said how its ticks go.
    TicksRead {
        /// Who.
        subject: SubjectName,
        /// The process at the other end, as the kernel tells.
        pid: u32,
        /// What it said.
        ticks: TickState,
        /// The challenge this reading was made for, if any.
        challenge: Option<Nonce>,
    },
    /// How late this guardian's own timers are; feeds its own health score.
    TimerLate(Duration),
    /// The node resumed from suspend.
    Resumed,
    /// A deadline named by [`Guardian::next_deadline`] has come.
    Timer,
}

/// What a guardian wants done.
#[derive(Clone, Debug, PartialEq)]
pub enum GuardianEffect {
    /// Ask the warden for a session with this signed request.
    RequestSession(Envelope),
    /// Send a statement to the warden: a heartbeat or a vote.
    ToWarden(Envelope),
    /// Send a proof to the warden.
    ProofToWarden(EquivocationProof),
    /// Show the warden a receipt that it should know: its journal may have been rolled back.
    ReceiptToWarden(Envelope),
    /// Send a statement to every connected peer.
    Broadcast(Envelope),
    /// Send a proof to every connected peer.
    BroadcastProof(EquivocationProof),
    /// Send a statement to one peer.
    ToPeer(PersonaId, Envelope),
    /// Fetch one statement from a peer, to compare it with what we hold.
    Fetch {
        /// From whom.
        from: PersonaId,
        /// Made under which session key.
        session_key: PublicKey,
        /// Which number.
        seq: u64,
    },
    /// Read a wrapper's tick state again, for this challenge, and say so with [`GuardianInput::TicksRead`].
    Observe {
        /// Of whom.
        subject: SubjectName,
        /// The challenge to be named in the reading.
        challenge: Nonce,
    },
    /// Keep this receipt across restarts.
    KeepReceipt(Envelope),
    /// Something worth a log line and a metric.
    Event(GuardianEvent),
}

/// Facts for logs and metrics.
#[derive(Clone, Debug, PartialEq)]
pub enum GuardianEvent {
    /// A session stands.
    SessionOpened,
    /// A statement was refused.
    Rejected {
        /// Label of `zeta_bft_statements_rejected_total`.
        reason: &'static str,
        /// Whose connection it came over, when known.
        from: Option<PersonaId>,
    },
    /// The own verdict on a subject changed.
    VerdictChanged(Attestation),
    /// A vote was signed.
    Voted {
        /// On whom.
        subject: SubjectName,
        /// In which episode.
        episode: EpisodeId,
        /// `APPROVE` or `WITHDRAW`.
        kind: &'static str,
    },
    /// A persona was proven to equivocate.
    Equivocated {
        /// Who.
        persona: PersonaId,
        /// Digest of one of the two statements.
        first: Digest,
        /// Digest of the other.
        second: Digest,
    },
    /// The warden published an episode in another state.
    EpisodeChanged {
        /// Of whom.
        subject: SubjectName,
        /// The state.
        state: StateName,
    },
    /// Something keeps this guardian from voting at all.
    Abstains {
        /// `policy_mismatch`, `roster_mismatch`, `no_session`, `self_unwell`.
        reason: &'static str,
    },
}

/// The state machine.
pub struct Guardian<C: StatementCodec> {
    config: GuardianConfig<C>,
}

impl<C: StatementCodec> Guardian<C> {
    /// A guardian that has seen nothing yet.
    pub fn new(config: GuardianConfig<C>) -> Self {
        Self { config }
    }

    /// Takes one input at `now` and says what is to be done.
    pub fn step(&mut self, now: Timestamp, input: GuardianInput) -> Vec<GuardianEffect> {
        let _ = (now, input, &self.config);
        Vec::new()
    }

    /// When [`GuardianInput::Timer`] is due next.
    pub fn next_deadline(&self) -> Option<Timestamp> {
        None
    }

    /// One statement that it holds, its own or another's, with the session it was made under: what a peer's fetch gets.
    pub fn held(&self, _session_key: &PublicKey, _seq: u64) -> Option<(Envelope, Envelope)> {
        None
    }

    /// Everything there is to show, at `now`.
    pub fn view(&self, _now: Timestamp) -> super::view::GuardianView {
        super::view::GuardianView::default()
    }
}
