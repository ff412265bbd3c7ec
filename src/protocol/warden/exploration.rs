//! For a model checker: a warden that goes two ways, and what two wardens must have in common to go the same way.
//!
//! Both name every field, so that a new one makes its author decide. Nothing in production calls them.

use super::{Deferred, Subject, Warden};
use crate::protocol::statement::StatementCodec;
use std::hash::{Hash, Hasher};

impl<C: StatementCodec + Clone> Warden<C> {
    /// A copy that goes its own way from here. For exploration only: two wardens over one journal would break rule S2.
    pub fn fork(&self) -> Self {
        Self {
            key: self.key.clone(),
            roster: self.roster.clone(),
            policy: self.policy.clone(),
            boot: self.boot,
            codec: self.codec.clone(),
            entropy: self.entropy,
            drawn: self.drawn,
            instance: self.instance,
            sessions_opened: self.sessions_opened,
            episodes_opened: self.episodes_opened,
            head: self.head,
            boot_record: self.boot_record,
            booted: self.booted,
            damage: self.damage.clone(),
            stopping: self.stopping,
            started_at: self.started_at,
            accumulated_before: self.accumulated_before,
            now: self.now,
            wall_ms: self.wall_ms,
            set_epoch: self.set_epoch,
            certified: self.certified,
            places: self.places,
            subjects: self.subjects.clone(),
            node: self.node.clone(),
            guardians: self.guardians.clone(),
            nonces: self.nonces.clone(),
            holds: self.holds.clone(),
            after_sync: self.after_sync.clone(),
            known_receipts: self.known_receipts.clone(),
            known_from: self.known_from,
            pages: self.pages.clone(),
            soft_from: self.soft_from,
            mass_accusation: self.mass_accusation,
            disputes: self.disputes.clone(),
            // Every step hands all of it out.
            out: Vec::new(),
        }
    }

    /// Feeds what decides the next steps, and leaves out what differs between histories only: signatures, the chain's hashes,
    /// which pages went out and the reasons for display. Roster, policy, keys and entropy are the same in all of an exploration.
    pub fn hash_future(&self, into: &mut impl Hasher) {
        let Self {
            key: _,
            roster: _,
            policy: _,
            codec: _,
            entropy: _,
            boot,
            drawn,
            instance,
            sessions_opened,
            episodes_opened,
            head,
            boot_record,
            booted,
            damage,
            stopping,
            started_at,
            accumulated_before,
            now,
            wall_ms,
            set_epoch,
            certified,
            places,
            subjects,
            node,
            guardians,
            nonces,
            holds,
            after_sync,
            known_receipts,
            known_from,
            pages: _,
            soft_from,
            mass_accusation,
            disputes,
            out: _,
        } = self;
        (boot, drawn, instance, sessions_opened, episodes_opened, head.seq).hash(into);
        (boot_record, booted, damage.is_some(), stopping, started_at, accumulated_before).hash(into);
        (now, wall_ms, set_epoch, certified, places, node, nonces, holds, known_from).hash(into);
        (soft_from, mass_accusation, disputes).hash(into);
        subjects.values().for_each(|subject| hash_subject(subject, into));
        for (persona, guardian) in guardians {
            persona.hash(into);
            guardian.hash_future(into);
        }
        for (seq, deferred) in after_sync {
            (seq, matches!(deferred, Deferred::PublishReceipt(_))).hash(into);
        }
        for (seq, _) in known_receipts {
            seq.hash(into);
        }
    }
}

fn hash_subject(subject: &Subject, into: &mut impl Hasher) {
    let Subject {
        name,
        policy: _,
        unit,
        ledger,
        votes,
        words,
        state,
        since,
        reason: _,
        episode,
        shown,
        published: _,
        approved,
        acted,
        answered,
        kept,
        soft_from,
        would_have,
    } = subject;
    (name, unit, ledger, words, state, since, episode, shown).hash(into);
    (approved, acted, answered, kept, soft_from, would_have).hash(into);
    votes.hash_future(into);
}
