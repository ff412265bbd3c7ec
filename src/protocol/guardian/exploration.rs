//! For a model checker: a guardian that goes two ways, and what two guardians must have in common to go the same way.
//!
//! Both name every field, so that a new one makes its author decide. Nothing in production calls them.

use super::peers::Peer;
use super::{Guardian, Published};
use crate::protocol::statement::StatementCodec;
use std::hash::{Hash, Hasher};

impl<C: StatementCodec> Guardian<C> {
    /// A copy that goes its own way from here. For exploration only: two guardians of one key would equivocate.
    pub fn fork(&self) -> Self {
        Self {
            config: self.config.clone(),
            warden_key: self.warden_key.clone(),
            link: self.link,
            session: self.session.clone(),
            seq: self.seq,
            said: self.said.clone(),
            observations: self.observations.clone(),
            episodes: self.episodes.clone(),
            casts: self.casts.clone(),
            observing: self.observing.clone(),
            peers: self.peers.clone(),
            health: self.health,
            abstains: self.abstains,
            receipt: self.receipt,
            last_receipt: self.last_receipt.clone(),
            heartbeat_due: self.heartbeat_due,
            stepped_at: self.stepped_at,
            due: self.due,
        }
    }

    /// Feeds what decides the next steps, and leaves out what differs between histories only: signatures, the chain's hashes.
    /// Roster, policy and keys are the same in all of an exploration.
    pub fn hash_future(&self, into: &mut impl Hasher) {
        let Self {
            config: _,
            warden_key: _,
            link,
            session,
            seq,
            said: _,
            observations,
            episodes,
            casts,
            observing,
            peers,
            health,
            abstains,
            receipt,
            last_receipt: _,
            heartbeat_due,
            stepped_at,
            due,
        } = self;
        let run = session.as_ref().map(|session| (session.incarnation, session.session_key));
        (link, run, seq, observations, casts, observing, health, abstains, receipt.seq).hash(into);
        (heartbeat_due, stepped_at, due).hash(into);
        for Published { statement, mismatch } in episodes.values() {
            (&**statement, mismatch).hash(into);
        }
        for (persona, peer) in peers {
            persona.hash(into);
            peer.hash_future(into);
        }
    }
}

impl Peer {
    fn hash_future(&self, into: &mut impl Hasher) {
        let Self { window, heartbeat, heartbeat_at, quarantined, proof, forgiven, unreported } = self;
        let heard = heartbeat.as_ref().map(|heartbeat| (&heartbeat.header, &heartbeat.attestations, heartbeat.health));
        (heard, heartbeat_at, quarantined, proof.is_some(), forgiven, unreported).hash(into);
        if let Some(window) = window {
            window.hash_future(into);
        }
    }
}
