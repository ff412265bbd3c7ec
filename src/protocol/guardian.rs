//! The guardian: one persona's sidecar. Observes every subject, signs, gossips, votes.
//!
//! Upon every input: judge every subject anew ([`observation`]), vote on what changed or must be renewed ([`voting`]), and
//! speak: a heartbeat at once when a word changed, otherwise every [`super::policy::Timing::heartbeat`].
//!
//! * Without a session it signs nothing. One run has one session key and one sequence of numbers, which never goes back:
//!   a warden that restarts opens a new session for the same key, and nothing is ever signed twice under one number (S8).
//! * Its word is its own observation alone; what peers say ([`peers`]) is compared and shown, and never repeated as its own.
//! * It votes under the warden's published episode only, and only with the warden's roster and policy (S1, S3).
//! * It doubts itself first: late timers lengthen its patience, its own sleep accuses nobody, and when it is unwell it abstains
//!   from soft evidence. PID 1's word needs no punctuality, and the warden reads it again.

mod exploration;
mod link;
mod observation;
mod peers;
mod service;
mod view;
mod voting;

use self::observation::Observation;
use self::peers::{Peer, reject};
use self::voting::Cast;
use super::evidence::{Attestation, ServiceReading, TickState, UnitState};
use super::failure_detector::SelfHealth;
use super::policy::Policy;
use super::roster::Roster;
use super::session::VerifiedSession;
use super::signing::{SigningKey, VerifyingKey};
use super::statement::{
    Codec, Envelope, EpisodeStatement, EquivocationProof, Header, Heartbeat, JournalHead, StateName, Statement,
    StatementCodec, Verified,
};
use super::types::{BootId, Digest, EpisodeId, Nonce, PersonaId, PublicKey, SubjectName, Timestamp};
use std::collections::{BTreeMap, VecDeque};
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
    /// This agent looked at a service itself.
    ServiceRead {
        /// Which.
        subject: SubjectName,
        /// What it saw.
        reading: ServiceReading,
        /// The challenge this look was made for, if any.
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
    /// Send a proof to one peer.
    ProofToPeer(PersonaId, EquivocationProof),
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

/// The link to the warden.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Link {
    /// Not connected.
    Down,
    /// Connected; a session was asked for and is not yet here.
    Asked,
    /// The session was opened over this connection.
    Open,
}

/// An episode as published.
#[derive(Clone, Debug)]
struct Published {
    statement: Verified<EpisodeStatement>,
    /// The warden counts by another roster or policy: nothing can be voted on.
    mismatch: Option<&'static str>,
}

/// The state machine.
pub struct Guardian<C: StatementCodec> {
    config: Arc<GuardianConfig<C>>,
    /// The roster's key of the warden; `None` never happens with a checked roster, and then nothing of it is believed.
    warden_key: Option<VerifyingKey>,
    link: Link,
    session: Option<VerifiedSession>,
    /// Number of the last own statement of this run; never goes back, whatever the warden does.
    seq: u64,
    /// The newest own statements, for a peer that fetches one.
    said: VecDeque<(u64, Envelope)>,
    observations: BTreeMap<SubjectName, Observation>,
    episodes: BTreeMap<SubjectName, Published>,
    casts: BTreeMap<SubjectName, Cast>,
    /// Challenges for which a reading is under way.
    observing: BTreeMap<SubjectName, Nonce>,
    peers: BTreeMap<PersonaId, Peer>,
    health: SelfHealth,
    abstains: Option<&'static str>,
    receipt: JournalHead,
    last_receipt: Option<Envelope>,
    heartbeat_due: Timestamp,
    /// The time of the last step.
    stepped_at: Timestamp,
    /// When the next step was due, to know how late it is.
    due: Option<Timestamp>,
}

/// Own statements kept.
const SAID: usize = 64;
/// Lateness below this is a timer's ordinary coarseness.
const PUNCTUAL: Duration = Duration::from_millis(20);

impl<C: StatementCodec> Guardian<C> {
    /// A guardian that has seen nothing yet.
    pub fn new(mut config: GuardianConfig<C>) -> Self {
        let kept = config.last_receipt.take();
        let timing = &config.policy.timing;
        let observations = config
            .policy
            .subjects
            .iter()
            .map(|(name, policy)| (name.clone(), Observation::new(name, policy, &config.persona, config.boot, timing)))
            .collect();
        let peers = config
            .roster
            .members()
            .filter(|member| member.persona != config.persona)
            .map(|member| (member.persona.clone(), Peer::default()))
            .collect();
        let mut guardian = Self {
            warden_key: VerifyingKey::new(config.roster.statement().warden).ok(),
            link: Link::Down,
            session: None,
            seq: 0,
            said: VecDeque::new(),
            observations,
            episodes: BTreeMap::new(),
            casts: BTreeMap::new(),
            observing: BTreeMap::new(),
            peers,
            health: SelfHealth::default(),
            abstains: None,
            receipt: JournalHead::default(),
            last_receipt: None,
            heartbeat_due: Timestamp::ZERO,
            stepped_at: Timestamp::ZERO,
            due: None,
            config: Arc::new(config),
        };
        if let Some(receipt) = kept {
            // A receipt that does not hold is as good as none.
            let _ = guardian.receipt(&receipt);
        }
        guardian
    }

    /// Takes one input at `now` and says what is to be done.
    pub fn step(&mut self, now: Timestamp, input: GuardianInput) -> Vec<GuardianEffect> {
        let mut out = Vec::new();
        self.notice_own_lateness(now);
        self.take(now, input, &mut out);
        let changed = self.judge(now, &mut out);
        self.notice_abstention(&mut out);
        self.vote(now, &mut out);
        if changed || now >= self.heartbeat_due {
            self.heartbeat(now, &mut out);
        }
        self.stepped_at = now;
        self.due = self.next_deadline();
        out
    }

    /// When [`GuardianInput::Timer`] is due next.
    pub fn next_deadline(&self) -> Option<Timestamp> {
        let silence = self.observations.values().filter_map(|seen| seen.deadline(&self.health));
        let renewal = self.casts.values().filter_map(|cast| cast.renew_at).filter(|_| self.link_is_open());
        silence.chain(renewal).filter(|at| *at > self.stepped_at).chain([self.heartbeat_due]).min()
    }

    fn take(&mut self, now: Timestamp, input: GuardianInput, out: &mut Vec<GuardianEffect>) {
        let timing = self.config.policy.timing;
        match input {
            GuardianInput::WardenConnected { nonce } => self.request_session(nonce, out),
            GuardianInput::WardenLost => self.link = Link::Down,
            GuardianInput::SessionOpened(envelope) => self.session_opened(now, &envelope, out),
            GuardianInput::FromWarden(envelope) => self.hear_warden(&envelope, out),
            GuardianInput::FromPeer { from, envelope } => self.hear_peer(now, &from, &envelope, out),
            GuardianInput::ProofFromPeer(proof) => self.take_proof(&proof, None, out),
            GuardianInput::PeerConnected(persona) => self.peer_connected(&persona, out),
            // A broken connection is silence like any other: the heartbeats that do not come tell.
            GuardianInput::PeerLost(_) => {}
            GuardianInput::Fetched { session, statement } => self.fetched(&session, &statement, out),
            GuardianInput::UnitChanged { subject, state } => {
                self.observe(&subject, |seen| seen.unit_changed(now, state, &timing));
            }
            GuardianInput::PingSent { subject } => {
                self.observe(&subject, |seen| seen.ping_sent(now));
            }
            GuardianInput::PingAnswered { subject, pid, round_trip } => {
                if self.observe(&subject, |seen| seen.ping_answered(now, pid, round_trip)) == Some(false) {
                    reject("wrong_peer", None, out);
                }
            }
            GuardianInput::TicksRead { subject, pid, ticks, challenge } => {
                if self.observe(&subject, |seen| seen.ticks_read(now, pid, ticks, challenge)) == Some(false) {
                    reject("wrong_peer", None, out);
                }
            }
            GuardianInput::ServiceRead { subject, reading, challenge } => {
                self.observe(&subject, |seen| seen.service_read(now, reading, challenge));
            }
            GuardianInput::TimerLate(late) => {
                self.health.note(now, late);
                if late >= SelfHealth::SLEPT {
                    self.excuse_all(now);
                }
            }
            GuardianInput::Resumed => self.excuse_all(now),
            GuardianInput::Timer => {}
        }
    }

    fn observe<T>(&mut self, subject: &SubjectName, see: impl FnOnce(&mut Observation) -> T) -> Option<T> {
        self.observations.get_mut(subject).map(see)
    }

    /// Time in which this guardian itself did not run is nobody's silence; much of it excuses everybody.
    fn notice_own_lateness(&mut self, now: Timestamp) {
        // A step before anything was due says nothing.
        let Some(late) = self.due.and_then(|due| due.age_at(now)) else { return };
        self.health.note(now, late);
        if late >= SelfHealth::SLEPT {
            self.excuse_all(now);
        } else if late > PUNCTUAL {
            self.observations.values_mut().for_each(|seen| seen.forgive(now, late));
        }
    }

    fn excuse_all(&mut self, now: Timestamp) {
        let grace = self.config.policy.timing.resume_grace;
        self.observations.values_mut().for_each(|seen| seen.excuse(now, grace));
    }

    fn judge(&mut self, now: Timestamp, out: &mut Vec<GuardianEffect>) -> bool {
        let mut any = false;
        for (subject, seen) in &mut self.observations {
            // Asked for only where a fault of an episode is remembered.
            let episode = seen.fault.and_then(|_| self.episodes.get(subject)).map(|published| published.statement.id);
            if seen.judge(now, episode, &self.health, &self.config.policy.timing) {
                any = true;
                out.push(GuardianEffect::Event(GuardianEvent::VerdictChanged(seen.attestation().clone())));
            }
        }
        any
    }

    fn notice_abstention(&mut self, out: &mut Vec<GuardianEffect>) {
        let reason = if !self.link_is_open() {
            Some("no_session")
        } else if self.health.is_unwell() {
            Some("self_unwell")
        } else {
            self.episodes.values().find_map(|published| published.mismatch)
        };
        if reason != self.abstains {
            self.abstains = reason;
            out.extend(reason.map(|reason| GuardianEffect::Event(GuardianEvent::Abstains { reason })));
        }
    }

    fn link_is_open(&self) -> bool {
        self.link == Link::Open
    }

    /// The header of the next own statement, with a number that was never used; `None` without a session.
    fn next_header(&mut self, observed_at: Timestamp) -> Option<Header> {
        let session = self.session.as_ref()?;
        self.seq += 1;
        Some(Header {
            cluster: session.cluster.clone(),
            node: session.node.clone(),
            boot: self.config.boot,
            roster_epoch: self.config.roster.epoch(),
            roster: self.config.roster.digest(),
            policy: self.config.policy.digest,
            persona: self.config.persona.clone(),
            incarnation: session.incarnation,
            session_key: session.session_key,
            seq: self.seq,
            observed_at,
        })
    }

    /// Signs a statement whose header is the last one of [`Self::next_header`].
    fn seal<T: Statement>(&mut self, statement: &T) -> Envelope
    where
        C: Codec<T>,
    {
        let envelope = Envelope::seal(statement, &self.config.session_key, &self.config.codec);
        self.said.push_back((self.seq, envelope.clone()));
        if self.said.len() > SAID {
            self.said.pop_front();
        }
        envelope
    }

    fn heartbeat(&mut self, now: Timestamp, out: &mut Vec<GuardianEffect>) {
        // In step with the others of the node, and never later than an interval from now.
        self.heartbeat_due = now.next_multiple_of(self.config.policy.timing.heartbeat);
        let Some(header) = self.next_header(now) else { return };
        let heartbeat = Heartbeat {
            header,
            attestations: self.observations.values().map(|seen| seen.attestation().clone()).collect(),
            health: self.health.score(),
            heads: self.take_heads(),
            receipt: self.receipt,
        };
        let envelope = self.seal(&heartbeat);
        if self.link_is_open() {
            out.push(GuardianEffect::ToWarden(envelope.clone()));
        }
        out.push(GuardianEffect::Broadcast(envelope));
    }
}

#[cfg(test)]
mod tests;
