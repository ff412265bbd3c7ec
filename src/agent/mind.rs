//! The one task that owns the guardian: inputs in, effects out, deadlines kept, challenges answered.
//!
//! * A challenge is taken before all else, then what this process observed and the warden's word, then what is new about the
//!   lines to peers (one change of each, see `lines`), then what peers say.
//! * Nobody outside this process and the warden can keep the first two full.

use super::lines::{self, Change, Changes, LineNews, LineTeller, Words};
use super::peers::{self, Gossip, PeerLine};
use super::warden::WardenLine;
use crate::clock;
use crate::grpc::limits::{Inbox, InboxSender, Lane, Refused, Visitors, inbox};
use crate::http::Health;
use crate::metrics::AgentMetrics;
use crate::protocol::guardian::{Guardian, GuardianEffect, GuardianEvent, GuardianInput};
use crate::protocol::statement::{DecodeError, Envelope, StatementCodec};
use crate::protocol::types::{Nonce, PersonaId, PublicKey, SubjectName, Timestamp};
use crate::protocol::view::GuardianView;
use crate::warden::suspend::SuspendWatch;
use crate::wire::v1;
use crate::wire::v1::submit_request::Submission;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{mpsc, oneshot, watch};
use tonic::Status;
use tracing::{debug, error, info, warn};

/// Challenges that may wait: the warden asks one at a time.
const CHALLENGES: usize = 4;
/// Own observations and the warden's word that may wait.
const SENSES: usize = 256;
/// Votes of peers that may wait.
const VOTES: usize = 128;
/// Everything else of peers that may wait.
const OTHERS: usize = 128;
/// Longest sleep, so that a resume from suspend is noticed and the watchdog is fed.
const NAP: Duration = Duration::from_millis(250);

/// What reaches the guardian's task.
#[derive(Debug)]
pub(super) enum Message {
    /// Something for the core.
    Input(GuardianInput),
    /// The warden asks this process; the answer goes back from the guardian's own task.
    Challenge { nonce: Nonce, replies: mpsc::Sender<v1::ChallengeReply> },
    /// A line to the warden stands.
    WardenUp { nonce: Nonce, line: WardenLine },
    /// It broke, or could not be had.
    WardenDown,
    /// Lines to peers stand, or broke.
    Lines(Changes),
    /// A peer fetches a statement.
    Fetch { session_key: PublicKey, seq: u64, answer: oneshot::Sender<Option<(Envelope, Envelope)>> },
    /// Somebody wants to look.
    Look(oneshot::Sender<GuardianView>),
}

/// The guardian's task is gone.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the agent is stopping")]
pub(super) struct Gone;

/// Where messages to the guardian's task are put.
#[derive(Clone, Debug)]
pub(super) struct Mouth {
    challenges: mpsc::Sender<Message>,
    senses: mpsc::Sender<Message>,
    pub(super) lines: LineTeller,
    peers: InboxSender<Message>,
    visitors: Visitors,
}

/// Where it takes them from.
#[derive(Debug)]
pub(super) struct Ears {
    challenges: mpsc::Receiver<Message>,
    senses: mpsc::Receiver<Message>,
    lines: LineNews,
    peers: Inbox<Message>,
}

/// Both ends.
pub(super) fn open() -> (Mouth, Ears) {
    let (challenge, challenges) = mpsc::channel(CHALLENGES);
    let (sense, senses) = mpsc::channel(SENSES);
    let (teller, lines) = lines::open();
    let (sender, peers) = inbox(VOTES, OTHERS);
    let visitors = Visitors::default();
    let mouth = Mouth { challenges: challenge, senses: sense, lines: teller, peers: sender, visitors };
    (mouth, Ears { challenges, senses, lines, peers })
}

impl Ears {
    /// The next message, or `None` after a nap. Cancel safe.
    pub(super) async fn next(&mut self, nap: Duration) -> Option<Message> {
        tokio::select! {
            biased;
            Some(challenge) = self.challenges.recv() => Some(challenge),
            Some(sense) = self.senses.recv() => Some(sense),
            changes = self.lines.next() => Some(Message::Lines(changes)),
            Some(heard) = self.peers.recv() => Some(heard),
            () = tokio::time::sleep(nap) => None,
        }
    }
}

impl Mouth {
    /// The warden asks: taken before all else.
    pub(super) async fn challenge(&self, nonce: Nonce, replies: mpsc::Sender<v1::ChallengeReply>) -> Result<(), Gone> {
        self.challenges.send(Message::Challenge { nonce, replies }).await.map_err(|_| Gone)
    }

    /// What this process observed itself or heard from the warden: never lost, and never behind what peers say.
    pub(super) async fn sense(&self, message: Message) -> Result<(), Gone> {
        self.senses.send(message).await.map_err(|_| Gone)
    }

    /// What comes from others: refused when too much of it waits.
    pub(super) fn offer(&self, lane: Lane, message: Message) -> Result<(), Refused> {
        self.peers.offer(lane, message)
    }

    /// What somebody wants to know: few at once, so that the curious never crowd out the peers.
    pub(super) async fn ask<T>(&self, question: impl FnOnce(oneshot::Sender<T>) -> Message) -> Result<T, Status> {
        let _visit = self.visitors.enter().await;
        let (answer, answered) = oneshot::channel();
        self.offer(Lane::Other, question(answer)).map_err(|refused| Status::resource_exhausted(refused.to_string()))?;
        answered.await.map_err(|_| Status::unavailable(Gone.to_string()))
    }
}

/// The guardian with its lines.
pub(super) struct Mind<C: StatementCodec> {
    guardian: Guardian<C>,
    gossip: Arc<Gossip>,
    warden: Option<WardenLine>,
    /// With the number of each.
    peers: BTreeMap<PersonaId, (u64, PeerLine)>,
    words: Words,
    observers: BTreeMap<SubjectName, mpsc::Sender<Nonce>>,
    metrics: AgentMetrics,
    health: Health,
    receipts: watch::Sender<Option<Envelope>>,
    heard: BTreeMap<PersonaId, Timestamp>,
    shown_at: Timestamp,
    suspend: SuspendWatch,
    watchdog: Option<(Duration, Timestamp)>,
}

impl<C: StatementCodec> Mind<C> {
    pub(super) fn new(
        guardian: Guardian<C>,
        gossip: Arc<Gossip>,
        observers: BTreeMap<SubjectName, mpsc::Sender<Nonce>>,
        metrics: AgentMetrics,
        health: Health,
        receipts: watch::Sender<Option<Envelope>>,
    ) -> Self {
        let now = clock::now();
        health.not_ready("no session with the warden");
        Self {
            guardian,
            gossip,
            warden: None,
            peers: BTreeMap::new(),
            words: Words::default(),
            observers,
            metrics,
            health,
            receipts,
            heard: BTreeMap::new(),
            shown_at: now,
            suspend: SuspendWatch::begin(),
            watchdog: sd_notify::watchdog_enabled().map(|limit| (limit / 3, now)),
        }
    }

    /// Runs for ever.
    pub(super) async fn think(mut self, mut ears: Ears) {
        loop {
            let now = clock::now();
            let nap = self.guardian.next_deadline().map_or(NAP, |due| due.saturating_since(now).min(NAP));
            let message = ears.next(nap).await;
            self.notice_resume();
            if let Some(message) = message {
                self.take(message);
            }
            self.keep_deadline();
            self.show();
            self.feed_watchdog();
        }
    }

    fn take(&mut self, message: Message) {
        match message {
            Message::Input(input) => self.step(input),
            Message::Challenge { nonce, replies } => {
                if replies.try_send(v1::ChallengeReply { nonce: nonce.0.to_vec() }).is_err() {
                    warn!("a challenge cannot be answered: the warden does not read");
                }
            }
            Message::WardenUp { nonce, line } => {
                self.warden = Some(line);
                self.step(GuardianInput::WardenConnected { nonce });
            }
            Message::WardenDown => {
                if self.warden.take().is_some() {
                    self.health.not_ready("no session with the warden");
                    self.step(GuardianInput::WardenLost);
                }
            }
            Message::Lines(changes) => changes.into_iter().for_each(|(peer, change)| self.change_line(peer, change)),
            // Who hung up needs no answer.
            Message::Fetch { session_key, seq, answer } => drop(answer.send(self.guardian.held(&session_key, seq))),
            Message::Look(answer) => drop(answer.send(self.guardian.view(clock::now()))),
        }
    }

    fn change_line(&mut self, persona: PersonaId, Change { number, line }: Change) {
        if let Some(line) = line {
            if let Some(unsaid) = self.words.say(&persona, clock::now()) {
                info!(peer = %persona, unsaid, "peer connected");
            }
            if self.peers.insert(persona.clone(), (number, line)).is_some() {
                self.step(GuardianInput::PeerLost(persona.clone()));
            }
            self.step(GuardianInput::PeerConnected(persona));
        } else if self.peers.get(&persona).is_some_and(|(held, _)| *held <= number) {
            if let Some(unsaid) = self.words.say(&persona, clock::now()) {
                info!(peer = %persona, unsaid, "peer lost");
            }
            self.peers.remove(&persona);
            self.step(GuardianInput::PeerLost(persona));
        }
    }

    /// A stream of inputs must not keep a deadline waiting. How late the timer is, the guardian tells from its own deadline.
    fn keep_deadline(&mut self) {
        if self.guardian.next_deadline().is_some_and(|due| due <= clock::now()) {
            self.step(GuardianInput::Timer);
        }
    }

    fn notice_resume(&mut self) {
        if self.suspend.resumed() {
            info!("the node resumed from suspend");
            self.step(GuardianInput::Resumed);
        }
    }

    fn step(&mut self, input: GuardianInput) {
        for effect in self.guardian.step(clock::now(), input) {
            self.carry_out(effect);
        }
    }

    fn submit(&self, submission: Submission) {
        if let Some(warden) = &self.warden {
            warden.submit(submission);
        }
    }

    fn carry_out(&mut self, effect: GuardianEffect) {
        match effect {
            GuardianEffect::RequestSession(request) => {
                if let Some(warden) = &self.warden {
                    warden.request_session(request);
                }
            }
            GuardianEffect::ToWarden(statement) => self.submit(Submission::Statement((&statement).into())),
            GuardianEffect::ProofToWarden(proof) => self.submit(Submission::Proof((&proof).into())),
            GuardianEffect::ReceiptToWarden(receipt) => self.submit(Submission::Receipt((&receipt).into())),
            GuardianEffect::Broadcast(statement) => self.peers.values().for_each(|(_, peer)| peer.send(&statement)),
            GuardianEffect::BroadcastProof(proof) => self.peers.values().for_each(|(_, peer)| peer.send_proof(&proof)),
            GuardianEffect::ProofToPeer(persona, proof) => {
                if let Some((_, peer)) = self.peers.get(&persona) {
                    peer.send_proof(&proof);
                }
            }
            GuardianEffect::ToPeer(persona, statement) => {
                if let Some((_, peer)) = self.peers.get(&persona) {
                    peer.send(&statement);
                }
            }
            GuardianEffect::Fetch { from, session_key, seq } => {
                tokio::spawn(peers::fetch(Arc::clone(&self.gossip), from, session_key, seq));
            }
            GuardianEffect::Observe { subject, challenge } => {
                let asked = self.observers.get(&subject).map(|observer| observer.try_send(challenge));
                if !matches!(asked, Some(Ok(()))) {
                    debug!(%subject, "nobody can observe it again now");
                }
            }
            GuardianEffect::KeepReceipt(receipt) => drop(self.receipts.send_replace(Some(receipt))),
            GuardianEffect::Event(event) => self.on_event(&event),
        }
    }

    fn on_event(&self, event: &GuardianEvent) {
        self.metrics.on_event(event);
        match event {
            GuardianEvent::SessionOpened => {
                self.health.ready();
                info!("session opened");
            }
            GuardianEvent::Rejected { reason, from } => {
                debug!(reason, from = from.as_ref().map(PersonaId::as_str), "statement rejected");
            }
            GuardianEvent::VerdictChanged(said) => {
                let class = said.class.map(|class| class.as_str());
                info!(subject = %said.subject, verdict = %said.verdict, class, reason = %said.reason, "verdict changed");
            }
            GuardianEvent::Voted { subject, episode, kind } => info!(%subject, %episode, kind, "voted"),
            GuardianEvent::Equivocated { persona, first, second } => {
                error!(%persona, ?first, ?second, "proven to equivocate");
            }
            GuardianEvent::EpisodeChanged { subject, state } => info!(%subject, %state, "episode changed"),
            GuardianEvent::Abstains { reason } => warn!(reason, "this guardian does not vote"),
        }
    }

    /// Gauges, now and then.
    fn show(&mut self) {
        let now = clock::now();
        if now.saturating_since(self.shown_at) < NAP {
            return;
        }
        self.shown_at = now;
        let view = self.guardian.view(now);
        self.metrics.self_health(view.health);
        // Its own beats too, while somebody may hear them: a 0 would read as a persona that never spoke.
        if view.session.is_some() {
            self.metrics.peer_heartbeat(&self.gossip.me);
        }
        for peer in view.peers {
            let Some(at) = peer.heartbeat_at else { continue };
            if self.heard.insert(peer.persona.clone(), at) != Some(at) {
                self.metrics.peer_heartbeat(&peer.persona);
            }
        }
    }

    /// Fed by the task that matters: a wedged guardian is restarted.
    fn feed_watchdog(&mut self) {
        let now = clock::now();
        if let Some((every, fed_at)) = &mut self.watchdog
            && now.saturating_since(*fed_at) >= *every
        {
            *fed_at = now;
            super::notify(&[sd_notify::NotifyState::Watchdog]);
        }
    }
}

/// A peer's message as an input; the label of the rejection when it is none.
pub(super) fn heard(from: &PersonaId, message: v1::PeerMessage) -> Result<(Lane, Message), &'static str> {
    use v1::peer_message::Message as Kind;
    match message.message {
        Some(Kind::Statement(statement)) => {
            let envelope = Envelope::try_from(statement).map_err(|_| "malformed")?;
            let lane = Lane::of(&envelope);
            Ok((lane, Message::Input(GuardianInput::FromPeer { from: from.clone(), envelope })))
        }
        Some(Kind::Proof(proof)) => {
            let proof = proof.try_into().map_err(|_: DecodeError| "malformed")?;
            Ok((Lane::Other, Message::Input(GuardianInput::ProofFromPeer(proof))))
        }
        Some(Kind::Hello(_)) | None => Err("malformed"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_challenge_is_taken_before_all_that_waits() {
        let (mouth, mut ears) = open();
        let lost = || Message::Input(GuardianInput::WardenLost);
        while mouth.offer(Lane::Vote, lost()).is_ok() {}
        while mouth.offer(Lane::Other, lost()).is_ok() {}
        for _ in 0..SENSES {
            mouth.sense(Message::WardenDown).await.unwrap();
        }
        let (replies, _reader) = mpsc::channel(1);
        mouth.challenge(Nonce([1; 16]), replies).await.unwrap();
        assert!(matches!(ears.next(NAP).await, Some(Message::Challenge { .. })));
        assert!(matches!(ears.next(NAP).await, Some(Message::WardenDown)));
    }
}
