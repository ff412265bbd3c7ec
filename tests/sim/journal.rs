//! The virtual journal: records are appended at once, durable later, and a crash keeps any part of what was not synced.
//!
//! What it holds is read back by production's own `recover`.

use crate::rng::Rng;
use crate::signatures::Scheme;
use zeta_bft::journal::{Damage, StoredRecord, recover};
use zeta_bft::protocol::record::{Record, chain_hash};
use zeta_bft::protocol::signing::VerifyingKey;
use zeta_bft::protocol::statement::{Codec, JournalHead, Receipt, ReceiptKind};
use zeta_bft::protocol::types::{Digest, PublicKey};
use zeta_bft::protocol::warden::{Attempt, Recovered};
use zeta_bft::wire::Proto;

/// The file, and how much of it the disk has.
#[derive(Default)]
pub struct VirtualJournal {
    records: Vec<StoredRecord>,
    durable: usize,
    /// How the file is damaged, if it is.
    pub damage: Option<Damage>,
}

impl VirtualJournal {
    /// Appends; refuses what does not follow.
    pub fn append(&mut self, seq: u64, previous: Digest, record: &Record) -> Result<(), String> {
        let head = self.end();
        if seq != head.seq + 1 || previous != head.hash {
            return Err(format!("record {seq} after {previous:?} does not follow {} ({:?})", head.seq, head.hash));
        }
        let encoded = Codec::<Record>::encode(&Proto, record);
        let hash = chain_hash(&previous, seq, &encoded);
        let at = self.records.last().map_or(0, |last| last.at + last.encoded.len() as u64);
        self.records.push(StoredRecord { seq, previous, hash, carried: false, encoded, at });
        Ok(())
    }

    /// Where the file ends.
    pub fn end(&self) -> JournalHead {
        self.records.last().map(|r| JournalHead { seq: r.seq, hash: r.hash }).unwrap_or_default()
    }

    /// All up to `seq` is on the disk.
    pub fn sync(&mut self, seq: u64) -> JournalHead {
        let count = self.records.iter().rposition(|r| r.seq <= seq).map_or(0, |at| at + 1);
        self.durable = self.durable.max(count);
        self.records[..self.durable].last().map(|r| JournalHead { seq: r.seq, hash: r.hash }).unwrap_or_default()
    }

    /// Whether the INTENT of an attempt is on the disk.
    pub fn holds_intent(&self, attempt: Attempt) -> bool {
        self.records[..self.durable].iter().rev().any(|stored| {
            let Ok(Record::Receipt(envelope)) = Codec::<Record>::decode(&Proto, &stored.encoded) else { return false };
            let Ok(receipt) = Codec::<Receipt>::decode(&Proto, &envelope.payload) else { return false };
            receipt.kind == ReceiptKind::Intent
                && Attempt { episode: receipt.episode, rung: receipt.rung, round: receipt.round } == attempt
        })
    }

    /// The warden or the node dies: what was not synced survives in part.
    pub fn crash(&mut self, rng: &mut Rng) {
        let loose = self.records.len() - self.durable;
        let kept = self.durable + rng.index(loose + 1);
        self.records.truncate(kept);
        self.durable = kept;
    }

    /// What a warden that starts reads.
    pub fn recover(&self, warden: &PublicKey, codec: &Scheme) -> Recovered {
        let key = VerifyingKey::new(*warden).expect("the plan's warden has a usable key");
        recover(&self.records, self.damage.as_ref(), &key, codec)
    }
}
