//! Receipts as people and programs read them: one entry per action that ended, with the signed receipts themselves.

use super::rfc3339_ms;
use crate::protocol::statement::{Codec, Envelope, Receipt, ReceiptKind, Vote};
use crate::protocol::types::{EpisodeId, SubjectName};
use crate::wire::{Proto, encode_envelope, v1};
use data_encoding::BASE64;
use prost::Message as _;
use std::collections::BTreeMap;
use std::ops::Bound;

/// What a message spends on the tag and length of one entry, in bytes, at most.
const FIELD: usize = 8;

/// The newest receipts, by their place in the journal; bounded.
#[derive(Debug, Default)]
pub struct Receipts {
    held: BTreeMap<u64, (Receipt, Envelope)>,
}

impl Receipts {
    /// How many receipts are held: 256 actions, each an INTENT and its end.
    pub const CAPACITY: usize = 512;

    /// Takes a receipt in. Bytes that are no receipt are passed over: the journal is what counts, this is for show.
    pub fn insert(&mut self, envelope: Envelope) {
        let Ok(receipt) = <Proto as Codec<Receipt>>::decode(&Proto, &envelope.payload) else { return };
        self.held.insert(receipt.seq, (receipt, envelope));
        while self.held.len() > Self::CAPACITY {
            self.held.pop_first();
        }
    }

    /// One entry per action that ended behind the place `after`, oldest first, made as they are taken; receipts above
    /// `durable` are not on the disk yet and not shown.
    pub fn ended(
        &self,
        after: u64,
        durable: u64,
        wanted: impl Fn(&Receipt) -> bool,
    ) -> impl Iterator<Item = v1::HistoryEntry> {
        self.ends(after, durable)
            .filter(move |(receipt, _)| wanted(receipt))
            .map(|(receipt, sealed)| self.entry(receipt, sealed))
    }

    /// As [`Receipts::ended`] from the first, but only the newest that take at most `room` bytes in a message.
    pub fn newest_ended(&self, durable: u64, room: usize, wanted: impl Fn(&Receipt) -> bool) -> Vec<v1::HistoryEntry> {
        let mut taken = 0;
        let mut newest: Vec<_> = self
            .ends(0, durable)
            .rev()
            .filter(|(receipt, _)| wanted(receipt))
            .map(|(receipt, sealed)| self.entry(receipt, sealed))
            .take_while(|entry| {
                taken += entry.encoded_len() + FIELD;
                taken <= room
            })
            .collect();
        newest.reverse();
        newest
    }

    /// The last action on a subject that ended.
    pub fn last_action(&self, durable: u64, subject: &SubjectName) -> Option<v1::ActionView> {
        let (receipt, sealed) = self.ends(0, durable).rev().find(|(receipt, _)| receipt.subject == *subject)?;
        Some(v1::ActionView {
            episode: receipt.episode.to_string(),
            rung: receipt.rung.0,
            action: receipt.action.to_string(),
            outcome: receipt.outcome.map_or_else(String::new, |outcome| outcome.to_string()),
            at: rfc3339_ms(receipt.wall_ms),
            certificate: self.certified_by(receipt).map_or(sealed, |(_, intent)| intent).digest().to_string(),
        })
    }

    /// The subject that an episode was about, if a receipt of it is held.
    pub fn subject_of(&self, episode: EpisodeId) -> Option<&SubjectName> {
        self.held.values().map(|(receipt, _)| receipt).find(|receipt| receipt.episode == episode).map(|r| &r.subject)
    }

    /// The journal's first record is number 1, and no receipt.
    fn ends(&self, after: u64, durable: u64) -> impl DoubleEndedIterator<Item = (&Receipt, &Envelope)> {
        self.held
            .range((Bound::Excluded(after), Bound::Included(durable.max(after))))
            .map(|(_, (receipt, sealed))| (receipt, sealed))
            .filter(|(receipt, _)| receipt.kind != ReceiptKind::Intent)
    }

    fn certified_by(&self, end: &Receipt) -> Option<&(Receipt, Envelope)> {
        self.held.get(&end.intent?).filter(|(intent, _)| intent.kind == ReceiptKind::Intent)
    }

    fn entry(&self, end: &Receipt, sealed: &Envelope) -> v1::HistoryEntry {
        let intent = self.certified_by(end);
        let certificate = intent.map_or(end, |(intent, _)| intent).certificate.as_ref();
        let voters = certificate.map(|certificate| certificate.votes.as_slice()).unwrap_or_default();
        v1::HistoryEntry {
            seq: end.seq,
            kind: end.kind.to_string(),
            episode: end.episode.to_string(),
            round: end.round.0,
            rung: end.rung.0,
            subject: end.subject.to_string(),
            action: end.action.to_string(),
            fault_class: end.class.to_string(),
            outcome: end.outcome.map(|outcome| outcome.to_string()),
            at: rfc3339_ms(end.wall_ms),
            before: end.before.to_string(),
            after: end.after.map(|after| after.to_string()),
            detail: end.detail.clone(),
            voters: voters.iter().filter_map(voter).collect(),
            receipt: base64(sealed),
            intent: intent.map(|(_, sealed)| base64(sealed)),
        }
    }
}

fn voter(vote: &Envelope) -> Option<String> {
    let vote = <Proto as Codec<Vote>>::decode(&Proto, &vote.payload).ok()?;
    Some(vote.header.persona.to_string())
}

fn base64(sealed: &Envelope) -> String {
    BASE64.encode(&encode_envelope(sealed))
}
