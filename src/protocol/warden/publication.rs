//! What the warden publishes: every subject's episode, ahead of any fault, and the numbers in it.

use super::{State, Subject, Warden, WardenEffect};
use crate::protocol::episode::{Certified, Challenged};
use crate::protocol::evidence::FaultClass;
use crate::protocol::ladder::Ledger;
use crate::protocol::record::LedgerEntry;
use crate::protocol::statement::{Envelope, EpisodeStatement, StateName, StatementCodec};
use crate::protocol::types::{Digest, EpisodeId, Incarnation, Nonce, Round, SetEpoch, SubjectName};
use crate::protocol::view::HeldBy;
use crate::protocol::vote_keeper::VoteKeeper;
use std::collections::{BTreeMap, BTreeSet};

impl<C: StatementCodec> Warden<C> {
    pub(super) fn publish(&mut self) {
        if !self.booted || self.damage.is_some() {
            return;
        }
        let names: Vec<_> = self.subjects.keys().cloned().collect();
        for name in names {
            let subject = &self.subjects[&name];
            let state = match self.state_name(subject) {
                // A label that a lone liar could flip with every heartbeat: not worth a signature.
                StateName::Suspect => StateName::Healthy,
                state => state,
            };
            let challenge = match &subject.state {
                State::Challenged(Challenged { class: FaultClass::Broken, nonce, .. }) => Some(*nonce),
                State::Certified(Certified { class: FaultClass::Broken, .. }) => subject.episode.challenge,
                _ => None,
            };
            let statement = EpisodeStatement {
                set_epoch: self.set_epoch,
                state,
                challenge,
                budget: subject.ledger.tokens,
                ..subject.episode.clone()
            };
            if subject.shown.as_ref() == Some(&statement) {
                continue;
            }
            let envelope = Envelope::seal(&statement, &self.key, &self.codec);
            let subject = self.subjects.get_mut(&name).expect("the name was just listed");
            subject.episode = statement.clone();
            subject.shown = Some(statement);
            subject.published = Some(envelope.clone());
            self.out.push(WardenEffect::Publish { subject: name, episode: envelope });
        }
    }

    pub(super) fn first_episode(&mut self, name: &SubjectName, ledgers: &[LedgerEntry]) -> Subject {
        let policy = self.policy.subjects[name].clone();
        let entry = ledgers.iter().find(|entry| entry.subject.as_ref() == Some(name));
        let accumulated = self.accumulated_before;
        let ledger =
            entry.map_or_else(|| Ledger::full(&policy.budget, accumulated), |e| Ledger::from_entry(e, &policy.budget));
        let spent = ledger.exhausted || ledger.rung.0 as usize >= policy.ladder.len();
        let episode = EpisodeStatement {
            cluster: self.roster.cluster().clone(),
            node: self.roster.node().clone(),
            boot: self.boot,
            roster: self.roster.digest(),
            policy: self.policy.digest,
            subject: name.clone(),
            id: self.next_episode(),
            round: Round(0),
            nonce: self.draw(),
            set_epoch: self.set_epoch,
            incarnation: Incarnation { boot: self.boot, ..Incarnation::default() },
            rung: ledger.rung,
            state: StateName::Healthy,
            challenge: None,
            budget: ledger.tokens,
        };
        Subject {
            name: name.clone(),
            policy,
            unit: None,
            ledger,
            votes: VoteKeeper::default(),
            words: BTreeMap::new(),
            state: if spent { State::Held(HeldBy::Ladder) } else { State::Healthy },
            since: self.now,
            reason: if spent { "ladder_spent" } else { "started" },
            episode,
            shown: None,
            published: None,
            approved: false,
            acted: false,
            answered: 0,
            kept: 0,
            soft_from: self.soft_from,
            would_have: BTreeSet::new(),
        }
    }

    /// Soft votes on personas are void from here on, in this very step.
    pub(super) fn raise_set_epoch(&mut self) {
        self.set_epoch = SetEpoch(self.set_epoch.0 + 1);
        for subject in self.subjects.values_mut() {
            subject.episode.set_epoch = self.set_epoch;
        }
    }

    pub(super) fn new_round(&mut self, name: &SubjectName) {
        let nonce = self.draw();
        if let Some(subject) = self.subjects.get_mut(name) {
            subject.new_round(nonce);
        }
    }

    pub(super) fn new_episode(&mut self, name: &SubjectName) {
        let (id, nonce) = (self.next_episode(), self.draw());
        let subject = self.subjects.get_mut(name).expect("callers pass a configured subject");
        subject.episode.id = id;
        subject.episode.round = Round(0);
        subject.episode.nonce = nonce;
        subject.episode.rung = subject.ledger.rung;
        subject.votes.clear();
        subject.approved = false;
        subject.acted = false;
    }

    pub(super) fn next_episode(&mut self) -> EpisodeId {
        self.episodes_opened += 1;
        EpisodeId::new(self.instance, self.episodes_opened)
    }

    /// A nonce that nobody can foresee: SHA-256 in counter mode over the entropy given at the start.
    pub(super) fn draw(&mut self) -> Nonce {
        self.drawn += 1;
        let mut bytes = [0; 40];
        bytes[..32].copy_from_slice(&self.entropy);
        bytes[32..].copy_from_slice(&self.drawn.to_be_bytes());
        Nonce::from_slice(&Digest::of(&bytes).0[..16]).expect("16 of 32 bytes")
    }
}
