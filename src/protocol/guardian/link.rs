//! The guardian's link to the warden: its session, the episodes, the receipts.
//!
//! * Every connection gets a session of its own, for the one session key of this run.
//! * Of each subject the newest episode is kept; an earlier one, or an earlier round, is refused. An episode of another roster
//!   or policy is shown, and nothing is voted under it.
//! * The highest receipt is kept across restarts and shown to every warden: a journal that was rolled back has to face it (S9).

use super::super::record::{Record, chain_hash};
use super::super::session::verify_session;
use super::super::signing::Domain;
use super::super::statement::{
    Envelope, EpisodeStatement, JournalHead, Receipt, ReceiptKind, SessionRequest, StatementCodec, Verified,
};
use super::super::types::{Nonce, Timestamp};
use super::observation::EpisodeFault;
use super::peers::reject;
use super::{Guardian, GuardianEffect, GuardianEvent, Link, Published};

/// Episodes kept at most beyond those of the own subjects.
const MAX_EPISODES: usize = 256;

impl<C: StatementCodec> Guardian<C> {
    pub(super) fn request_session(&mut self, nonce: Nonce, out: &mut Vec<GuardianEffect>) {
        self.link = Link::Asked;
        let request = SessionRequest {
            cluster: self.config.roster.cluster().clone(),
            node: self.config.roster.node().clone(),
            persona: self.config.persona.clone(),
            session_key: self.config.session_key.public(),
            nonce,
            roster: self.config.roster.digest(),
            policy: self.config.policy.digest,
        };
        let envelope = Envelope::seal(&request, &self.config.persona_key, &self.config.codec);
        out.push(GuardianEffect::RequestSession(envelope));
    }

    /// A warden that restarted has forgotten the session; the same run gets a new one for the same key, and its numbers go on.
    pub(super) fn session_opened(&mut self, now: Timestamp, envelope: &Envelope, out: &mut Vec<GuardianEffect>) {
        let session = match verify_session(envelope, &self.config.roster, &self.config.codec) {
            Ok(session) => session,
            Err(error) => return reject(error.as_str(), None, out),
        };
        let newer = self.session.as_ref().is_none_or(|known| session.incarnation > known.incarnation);
        let own = session.persona == self.config.persona
            && session.session_key == self.config.session_key.public()
            && session.boot == self.config.boot;
        // A warden that was away may answer two requests at once: the newer session is the one that it listens to.
        if !own || !newer || self.link == Link::Down {
            return reject(if own { "stale_session" } else { "wrong_author" }, None, out);
        }
        self.session = Some(session);
        self.link = Link::Open;
        // The votes were cast under the older session, and the warden that counted them may be gone.
        self.casts.clear();
        self.observing.clear();
        self.heartbeat_due = now;
        out.push(GuardianEffect::Broadcast(envelope.clone()));
        out.extend(self.last_receipt.clone().map(GuardianEffect::ReceiptToWarden));
        out.extend(self.proofs().cloned().map(GuardianEffect::ProofToWarden));
        out.push(GuardianEffect::Event(GuardianEvent::SessionOpened));
    }

    pub(super) fn hear_warden(&mut self, envelope: &Envelope, out: &mut Vec<GuardianEffect>) {
        let taken = match envelope.domain {
            Domain::Episode => self.episode(envelope, out),
            Domain::Receipt => self.receipt(envelope).map(|newer| {
                if newer {
                    out.push(GuardianEffect::KeepReceipt(envelope.clone()));
                }
            }),
            Domain::Heartbeat | Domain::Vote => self.shown(envelope, out),
            _ => Err("wrong_domain"),
        };
        if let Err(reason) = taken {
            reject(reason, None, out);
        }
    }

    fn episode(&mut self, envelope: &Envelope, out: &mut Vec<GuardianEffect>) -> Result<(), &'static str> {
        let key = self.warden_key.as_ref().ok_or("bad_key")?;
        let statement: Verified<EpisodeStatement> =
            envelope.open(key, &self.config.codec).map_err(|error| error.as_str())?;
        let roster = &self.config.roster;
        if statement.cluster != *roster.cluster() || statement.node != *roster.node() {
            return Err("wrong_node");
        }
        if statement.boot != self.config.boot {
            return Err("wrong_boot");
        }
        if !self.observations.contains_key(&statement.subject) && statement.policy == self.config.policy.digest {
            return Err("unknown_subject");
        }
        let known = self.episodes.get(&statement.subject).map(|published| &published.statement);
        if known.is_some_and(|known| (statement.id, statement.round) < (known.id, known.round)) {
            return Err("stale_episode");
        }
        if known.is_none_or(|known| (known.id, known.state) != (statement.id, statement.state)) {
            out.push(GuardianEffect::Event(GuardianEvent::EpisodeChanged {
                subject: statement.subject.clone(),
                state: statement.state,
            }));
        }
        let mismatch = if statement.roster != roster.digest() {
            Some("roster_mismatch")
        } else if statement.policy != self.config.policy.digest {
            Some("policy_mismatch")
        } else {
            None
        };
        // A warden of another policy may name subjects that are unknown here; what is kept of them stays bounded.
        if self.observations.contains_key(&statement.subject) || self.episodes.len() < MAX_EPISODES {
            self.episodes.insert(statement.subject.clone(), Published { statement, mismatch });
        }
        Ok(())
    }

    /// Takes a receipt of the warden's; says whether it is the highest so far.
    pub(super) fn receipt(&mut self, envelope: &Envelope) -> Result<bool, &'static str> {
        let key = self.warden_key.as_ref().ok_or("bad_key")?;
        let receipt: Verified<Receipt> = envelope.open(key, &self.config.codec).map_err(|error| error.as_str())?;
        if receipt.cluster != *self.config.roster.cluster() || receipt.node != *self.config.roster.node() {
            return Err("wrong_node");
        }
        if self.last_receipt.is_some() && receipt.seq <= self.receipt.seq {
            return Ok(false);
        }
        if matches!(receipt.kind, ReceiptKind::Intent | ReceiptKind::Outcome) {
            let fault = EpisodeFault {
                episode: receipt.episode,
                incarnation: receipt.before,
                class: receipt.class,
                repaired_at: (receipt.kind == ReceiptKind::Outcome).then_some(receipt.at),
            };
            self.observe(&receipt.subject, |seen| seen.fault = Some(fault));
        }
        let encoded = self.config.codec.encode(&Record::Receipt(envelope.clone()));
        self.receipt = JournalHead { seq: receipt.seq, hash: chain_hash(&receipt.previous, receipt.seq, &encoded) };
        self.last_receipt = Some(envelope.clone());
        Ok(true)
    }
}
