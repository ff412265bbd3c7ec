//! What a guardian hears from its peers: sessions, statements, proofs.
//!
//! * A session counts when warden and persona signed it and it is newer than the one known; under the same key the run goes
//!   on, under another a new one begins.
//! * A heartbeat or vote counts when it came over the author's own connection, under its session's key. Only an author's
//!   latest word is taken in; everything goes into the [`StatementWindow`], where two statements of one number meet.
//! * Heartbeats name what their author has of others: everything once, the oldest first. One that names another statement than
//!   ours makes us fetch that one statement, one of each persona, and nothing else. The warden compares likewise, and shows what it
//!   has. What is compared so need not be of a session that we know: a key's numbers are the key's, and a liar shows its sessions
//!   to whom it likes.
//! * A proof, found or received, is checked whole, spread once, told to each peer that connects, and costs its subject our ear until
//!   the warden has minted it a newer session. The warden gets it with every session of our own: it knows what it forgave.
//! * What is kept of a peer is bounded: one window, one heartbeat, one proof.

use super::super::equivocation::{GuardianStatement, Observed, StatementWindow};
use super::super::session::verify_session;
use super::super::signing::Domain;
use super::super::statement::{Envelope, EquivocationProof, Head, Heartbeat, StatementCodec};
use super::super::types::{PersonaId, PublicKey, SessionIncarnation, SubjectName, Timestamp};
use super::{Guardian, GuardianEffect, GuardianEvent};
use std::collections::BTreeSet;

/// Another guardian.
#[derive(Clone, Debug, Default)]
pub(super) struct Peer {
    pub(super) window: Option<StatementWindow>,
    pub(super) heartbeat: Option<Heartbeat>,
    pub(super) heartbeat_at: Option<Timestamp>,
    /// The newest session it had when it was proven to lie.
    pub(super) quarantined: Option<SessionIncarnation>,
    /// Its last lie. Kept also when it has our ear again: which session it shows first is its own choice, and says nothing of whether
    /// the warden has heard of this.
    pub(super) proof: Option<EquivocationProof>,
    /// Sessions up to this one were proven to lie and are done with.
    pub(super) forgiven: Option<SessionIncarnation>,
    /// Statements that came since the own last heartbeat.
    pub(super) unreported: BTreeSet<u64>,
}

impl<C: StatementCodec> Guardian<C> {
    /// One statement that it holds, its own or another's, with the session it was made under: what a peer's fetch gets.
    pub fn held(&self, session_key: &PublicKey, seq: u64) -> Option<(Envelope, Envelope)> {
        if let Some(session) = self.session.as_ref().filter(|session| session.session_key == *session_key) {
            let (_, said) = self.said.iter().find(|(number, _)| *number == seq)?;
            return Some((session.envelope().clone(), said.clone()));
        }
        // Of everybody with a session for that key, whoever signs with it.
        self.windows_of(session_key)
            .find_map(|window| Some((window.session().envelope().clone(), window.get(seq)?.clone())))
    }

    pub(super) fn peer_connected(&mut self, persona: &PersonaId, out: &mut Vec<GuardianEffect>) {
        if !self.peers.contains_key(persona) {
            return;
        }
        if let Some(session) = &self.session {
            out.push(GuardianEffect::ToPeer(persona.clone(), session.envelope().clone()));
        }
        // To nobody else: a liar that connects again and again must not make us spend what we may send to others.
        let guilty = self.peers.values().filter(|peer| peer.quarantined.is_some());
        let proofs = guilty.filter_map(|peer| peer.proof.clone());
        out.extend(proofs.map(|proof| GuardianEffect::ProofToPeer(persona.clone(), proof)));
    }

    pub(super) fn hear_peer(
        &mut self,
        now: Timestamp,
        from: &PersonaId,
        envelope: &Envelope,
        out: &mut Vec<GuardianEffect>,
    ) {
        if !self.peers.contains_key(from) {
            return reject("unknown_persona", Some(from), out);
        }
        let taken = match envelope.domain {
            Domain::Session => self.session_from(from, envelope),
            Domain::Heartbeat | Domain::Vote => self.statement_from(now, from, envelope, out),
            _ => Err("wrong_domain"),
        };
        if let Err(reason) = taken {
            reject(reason, Some(from), out);
        }
    }

    fn session_from(&mut self, from: &PersonaId, envelope: &Envelope) -> Result<(), &'static str> {
        let known = self.peers.get(from).and_then(|peer| peer.window.as_ref());
        if known.is_some_and(|window| window.session().envelope() == envelope) {
            return Ok(());
        }
        let session = verify_session(envelope, &self.config.roster, &self.config.codec).map_err(|e| e.as_str())?;
        if session.persona != *from {
            return Err("wrong_author");
        }
        if session.boot != self.config.boot {
            return Err("wrong_boot");
        }
        let Some(peer) = self.peers.get_mut(from) else { return Err("unknown_persona") };
        let incarnation = session.incarnation;
        let newer = match &mut peer.window {
            Some(window) if peer.quarantined.is_some_and(|last| incarnation > last) => {
                // What was proven is over and done with; it must not be found again in the old window.
                *window = StatementWindow::new(session);
                true
            }
            Some(window) => window.renew(session),
            none => {
                *none = Some(StatementWindow::new(session));
                true
            }
        };
        if !newer {
            return Err("stale_session");
        }
        peer.unreported.clear();
        if let Some(last) = peer.quarantined.take_if(|last| incarnation > *last) {
            peer.forgiven = Some(last);
            self.distrust(from, false);
        }
        Ok(())
    }

    fn statement_from(
        &mut self,
        now: Timestamp,
        from: &PersonaId,
        envelope: &Envelope,
        out: &mut Vec<GuardianEffect>,
    ) -> Result<(), &'static str> {
        let Some(peer) = self.peers.get_mut(from) else { return Err("unknown_persona") };
        if peer.quarantined.is_some() {
            return Err("quarantined");
        }
        let window = peer.window.as_mut().ok_or("no_session")?;
        let statement = window.open(envelope, &self.config.codec).map_err(|e| e.as_str())?;
        let seq = statement.header().seq;
        match window.observe(&statement) {
            Observed::Repeated | Observed::TooOld => return Ok(()),
            Observed::Conflict(proof) => {
                self.take_proof(&proof, Some(from), out);
                return Ok(());
            }
            Observed::Late => {
                peer.report(seq);
                return Ok(());
            }
            Observed::Newest => peer.report(seq),
        }
        if let GuardianStatement::Heartbeat(heartbeat) = statement {
            let heartbeat = heartbeat.into_inner();
            let heads = heartbeat.heads.clone();
            peer.heartbeat = Some(heartbeat);
            peer.heartbeat_at = Some(now);
            if let Some(observation) = self.observations.get_mut(&SubjectName::agent(from)) {
                observation.heartbeat(now);
            }
            self.compare(from, &heads, out);
        }
        Ok(())
    }

    fn compare(&self, from: &PersonaId, heads: &[Head], out: &mut Vec<GuardianEffect>) {
        // Made-up ones contradict too: one question a persona.
        let mut asked = BTreeSet::new();
        for head in heads.iter().take(Heartbeat::MAX_HEADS).filter(|head| head.persona != *from) {
            let Some(peer) = self.peers.get(&head.persona).filter(|peer| peer.quarantined.is_none()) else { continue };
            if peer.window.as_ref().is_some_and(|window| window.contradicts(head)) && asked.insert(&head.persona) {
                out.push(GuardianEffect::Fetch { from: from.clone(), session_key: head.session_key, seq: head.seq });
            }
        }
    }

    pub(super) fn fetched(&mut self, session: &Envelope, statement: &Envelope, out: &mut Vec<GuardianEffect>) {
        let proof = verify_session(session, &self.config.roster, &self.config.codec).map_err(|e| e.as_str()).and_then(
            |session| {
                let window = self.peers.get(&session.persona).and_then(|peer| peer.window.as_ref());
                let window = window.filter(|window| window.session().session_key == session.session_key);
                let window = window.ok_or("no_session")?;
                let statement = window.open_of_any_session(statement, &self.config.codec).map_err(|e| e.as_str())?;
                Ok(window.conflict(&statement))
            },
        );
        match proof {
            Ok(Some(proof)) => self.take_proof(&proof, None, out),
            Ok(None) => {}
            Err(reason) => reject(reason, None, out),
        }
    }

    /// The warden holds this statement, and somebody another under the same number: is it we?
    pub(super) fn shown(&mut self, statement: &Envelope, out: &mut Vec<GuardianEffect>) -> Result<(), &'static str> {
        let (mut proof, mut taken) = (None, Ok(()));
        for window in self.windows_of(&statement.key) {
            match window.open_of_any_session(statement, &self.config.codec) {
                Ok(statement) => {
                    (proof, taken) = (window.conflict(&statement), Ok(()));
                    break;
                }
                Err(error) => taken = Err(error.as_str()),
            }
        }
        if let Some(proof) = proof {
            self.take_proof(&proof, None, out);
        }
        taken
    }

    /// Of everybody with a session for this key: to have asked for one shows no possession of the key.
    fn windows_of(&self, session_key: &PublicKey) -> impl Iterator<Item = &StatementWindow> {
        let windows = self.peers.values().filter_map(|peer| peer.window.as_ref());
        windows.filter(move |window| window.session().session_key == *session_key)
    }

    /// Checks a proof, and if it holds: quarantine, spread, tell the warden. Once per persona until it is readmitted.
    pub(super) fn take_proof(
        &mut self,
        proof: &EquivocationProof,
        from: Option<&PersonaId>,
        out: &mut Vec<GuardianEffect>,
    ) {
        let proven = match proof.check(&self.config.roster, &self.config.codec) {
            Ok(proven) => proven,
            Err(error) => return reject(error.as_str(), from, out),
        };
        let Some(peer) = self.peers.get_mut(&proven.persona) else { return };
        if peer.quarantined.is_some() || peer.forgiven.is_some_and(|last| proven.incarnation <= last) {
            return;
        }
        let newest = peer.window.as_ref().map(|window| window.session().incarnation);
        peer.quarantined = newest.max(Some(proven.incarnation));
        peer.proof = Some(proof.clone());
        self.distrust(&proven.persona, true);
        out.push(GuardianEffect::ProofToWarden(proof.clone()));
        out.push(GuardianEffect::BroadcastProof(proof.clone()));
        out.push(GuardianEffect::Event(GuardianEvent::Equivocated {
            persona: proven.persona,
            first: proven.first,
            second: proven.second,
        }));
    }

    fn distrust(&mut self, persona: &PersonaId, distrusted: bool) {
        if let Some(observation) = self.observations.get_mut(&SubjectName::agent(persona)) {
            observation.distrusted = distrusted;
        }
    }

    /// Proofs that the warden must hear of: it may have restarted since they were found.
    pub(super) fn proofs(&self) -> impl Iterator<Item = &EquivocationProof> {
        self.peers.values().filter_map(|peer| peer.proof.as_ref())
    }

    /// What the own heartbeat says of others: each one's newest statement, then what else came and was not yet named, the oldest of
    /// each in turn. So a statement shown to one peer only is compared, however many follow it, and nobody's crowd out another's.
    pub(super) fn take_heads(&mut self) -> Vec<Head> {
        let mut heads: Vec<Head> = Vec::new();
        for peer in self.peers.values_mut() {
            let Some(head) = peer.window.as_ref().and_then(StatementWindow::head) else { continue };
            peer.unreported.remove(&head.seq);
            heads.push(head);
        }
        heads.truncate(Heartbeat::MAX_HEADS);
        loop {
            let named = heads.len();
            for peer in self.peers.values_mut() {
                if heads.len() < Heartbeat::MAX_HEADS {
                    heads.extend(peer.next_unreported());
                }
            }
            if heads.len() == named {
                return heads;
            }
        }
    }
}

impl Peer {
    fn report(&mut self, seq: u64) {
        self.unreported.insert(seq);
        if self.unreported.len() > StatementWindow::CAPACITY {
            self.unreported.pop_first();
        }
    }

    /// The oldest statement that no heartbeat has named yet. What is no longer kept cannot be compared.
    fn next_unreported(&mut self) -> Option<Head> {
        let window = self.window.as_ref()?;
        std::iter::from_fn(|| self.unreported.pop_first()).find_map(|seq| window.head_at(seq))
    }
}

pub(super) fn reject(reason: &'static str, from: Option<&PersonaId>, out: &mut Vec<GuardianEffect>) {
    out.push(GuardianEffect::Event(GuardianEvent::Rejected { reason, from: from.cloned() }));
}
