//! What the warden writes: records in one chain, receipts, and what subjects earn back.

use super::{Answer, ReplyTo, State, Subject, VOTABLE, Warden, WardenEffect};
use crate::protocol::evidence::UnitState;
use crate::protocol::record::{Record, chain_hash};
use crate::protocol::statement::{Codec, Envelope, JournalHead, Receipt, StatementCodec};
use crate::protocol::types::SubjectName;
use crate::protocol::view::HeldBy;

/// What is told to the world only when a record is on the disk.
#[derive(Clone, Debug)]
pub(super) enum Deferred {
    /// A receipt to every agent.
    PublishReceipt(Envelope),
    /// An answer to a caller.
    Reply {
        /// Which.
        to: ReplyTo,
        /// What.
        answer: Answer,
    },
}

impl From<Deferred> for WardenEffect {
    fn from(deferred: Deferred) -> Self {
        match deferred {
            Deferred::PublishReceipt(envelope) => Self::PublishReceipt(envelope),
            Deferred::Reply { to, answer } => Self::Reply { to, answer },
        }
    }
}

impl<C: StatementCodec> Warden<C> {
    /// Appends a record and gives its place. It is on the disk only after [`WardenInput::Synced`].
    pub(super) fn append(&mut self, record: Record) -> u64 {
        let previous = self.head.hash;
        let seq = self.head.seq + 1;
        let encoded = Codec::<Record>::encode(&self.codec, &record);
        self.head = JournalHead { seq, hash: chain_hash(&previous, seq, &encoded) };
        self.out.push(WardenEffect::Append { seq, previous, record });
        seq
    }

    pub(super) fn append_receipt(&mut self, fill: impl FnOnce(&mut Receipt), blank: Receipt) -> u64 {
        let mut receipt = Receipt { seq: self.head.seq + 1, previous: self.head.hash, ..blank };
        fill(&mut receipt);
        let envelope = Envelope::seal(&receipt, &self.key, &self.codec);
        self.know_receipt(&envelope);
        let seq = self.append(Record::Receipt(envelope.clone()));
        self.after_sync.push_back((seq, Deferred::PublishReceipt(envelope)));
        seq
    }

    pub(super) fn journal_ledger(&mut self, name: &SubjectName) {
        let accumulated = self.accumulated();
        let entry = self.subjects[name].ledger.entry(Some(name.clone()), accumulated);
        self.append(Record::Ledger(entry));
    }

    /// Whether its time counts as active: it runs, nothing is done about it, and no quorum finds fault with it. A lone voice
    /// against it changes nothing.
    fn is_well(&self, subject: &Subject) -> bool {
        matches!(subject.state, State::Healthy | State::Suspect | State::Held(HeldBy::Budget))
            && subject.unit.as_ref().is_some_and(UnitState::is_running)
            && !VOTABLE.iter().any(|class| self.says_down(subject, *class))
    }

    pub(super) fn earn(&mut self) {
        let accumulated = self.accumulated();
        let well: Vec<_> = self.subjects.values().map(|subject| self.is_well(subject)).collect();
        let mut earned = Vec::new();
        for ((name, subject), well) in self.subjects.iter_mut().zip(well) {
            if !well {
                subject.ledger.inactive();
            } else if subject.ledger.active(&subject.policy.budget, &self.policy.timing, accumulated) {
                subject.episode.rung = subject.ledger.rung;
                earned.push(name.clone());
            }
        }
        if self.damage.is_none() && self.booted {
            for name in earned {
                self.journal_ledger(&name);
            }
        }
    }
}
