//! Checking several receipts of one warden against each other.
//!
//! Rules implemented here (rules S2 and S9): adjacent ones chain, no two claim one place in the journal, no two INTENTs are for
//! one attempt, and every end has its INTENT, which it alone ends.

use super::{CheckedReceipt, first_wrong};
use crate::protocol::record::{Record, chain_hash};
use crate::protocol::statement::{Codec, ReceiptKind};
use crate::protocol::types::{Digest, EpisodeId, Round, Rung, SubjectName};
use crate::protocol::warden::Attempt;
use std::collections::BTreeMap;

/// Why several receipts cannot all be true.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SequenceError {
    /// Two receipts claim one place.
    #[error("two different receipts claim place {seq} of the journal")]
    Forked {
        /// The place.
        seq: u64,
    },
    /// The journal's record before it is another than it says.
    #[error("receipt {seq} does not chain to receipt {}", seq - 1)]
    Unchained {
        /// The place.
        seq: u64,
    },
    /// They are not in the order of their places.
    #[error("receipt {seq} stands after receipt {last}")]
    OutOfOrder {
        /// The place.
        seq: u64,
        /// The place of the receipt before.
        last: u64,
    },
    /// An attempt was made twice (rule S2).
    #[error("episode {episode}, rung {}, round {} was begun twice, in {first} and {second}", rung.0, round.0)]
    BegunTwice {
        /// The episode.
        episode: EpisodeId,
        /// The rung.
        rung: Rung,
        /// The round.
        round: Round,
        /// The place of the one.
        first: u64,
        /// The place of the other.
        second: u64,
    },
    /// An end without a beginning.
    #[error("receipt {seq} ends INTENT {intent}, which is not there")]
    NoIntent {
        /// The end's place.
        seq: u64,
        /// The place that it names.
        intent: u64,
    },
    /// An end that does not fit its beginning.
    #[error("receipt {seq} ends INTENT {intent}, but differs in `{field}`")]
    IntentDiffers {
        /// The end's place.
        seq: u64,
        /// The place that it names.
        intent: u64,
        /// In what.
        field: &'static str,
    },
    /// Two ends of one beginning.
    #[error("INTENT {intent} ended twice, in {first} and {second}")]
    EndedTwice {
        /// The INTENT's place.
        intent: u64,
        /// The place of the one end.
        first: u64,
        /// The place of the other.
        second: u64,
    },
}

/// Several receipts of one warden, taken in the order of their places.
#[derive(Clone, Debug, Default)]
pub struct ReceiptSequence {
    seen: BTreeMap<u64, Seen>,
    begun: BTreeMap<Attempt, u64>,
    ended: BTreeMap<u64, u64>,
}

/// What is kept of a receipt, by its place.
#[derive(Clone, Debug)]
struct Seen {
    digest: Digest,
    /// Chain hash up to and with it.
    hash: Digest,
    kind: ReceiptKind,
    attempt: Attempt,
    subject: SubjectName,
}

impl ReceiptSequence {
    /// Adds a receipt; the very same one again changes nothing. An end whose INTENT lies before the first receipt that was
    /// seen is accepted: a journal keeps only the newest when it is compacted.
    ///
    /// # Errors
    /// [`SequenceError`] when it contradicts one before it.
    pub fn take(&mut self, receipt: &CheckedReceipt, codec: &impl Codec<Record>) -> Result<(), SequenceError> {
        let (seq, digest) = (receipt.seq, receipt.envelope().digest());
        let attempt = Attempt { episode: receipt.episode, rung: receipt.rung, round: receipt.round };
        match self.seen.get(&seq) {
            Some(known) if known.digest == digest => return Ok(()),
            Some(_) => return Err(SequenceError::Forked { seq }),
            None => {}
        }
        let last = self.seen.keys().next_back().copied().unwrap_or(0);
        if seq < last {
            return Err(SequenceError::OutOfOrder { seq, last });
        }
        if let Some(before) = seq.checked_sub(1).and_then(|before| self.seen.get(&before))
            && before.hash != receipt.previous
        {
            return Err(SequenceError::Unchained { seq });
        }
        if let Some(intent) = receipt.intent {
            match self.seen.get(&intent) {
                Some(begun) => {
                    let same = [
                        (begun.kind == ReceiptKind::Intent, "kind"),
                        (begun.attempt == attempt, "attempt"),
                        (begun.subject == receipt.subject, "subject"),
                    ];
                    if let Some(field) = first_wrong(&same) {
                        return Err(SequenceError::IntentDiffers { seq, intent, field });
                    }
                }
                None if self.seen.keys().next().is_none_or(|first| intent < *first) && intent < seq => {}
                None => return Err(SequenceError::NoIntent { seq, intent }),
            }
            if let Some(first) = self.ended.insert(intent, seq) {
                return Err(SequenceError::EndedTwice { intent, first, second: seq });
            }
        }
        if receipt.kind == ReceiptKind::Intent
            && let Some(first) = self.begun.insert(attempt, seq)
        {
            let Attempt { episode, rung, round } = attempt;
            return Err(SequenceError::BegunTwice { episode, rung, round, first, second: seq });
        }
        let encoded = codec.encode(&Record::Receipt(receipt.envelope().clone()));
        let hash = chain_hash(&receipt.previous, seq, &encoded);
        self.seen.insert(seq, Seen { digest, hash, kind: receipt.kind, attempt, subject: receipt.subject.clone() });
        Ok(())
    }
}
