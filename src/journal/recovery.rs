//! What a journal means to a warden that starts, and what of it a compaction keeps.
//!
//! Rules:
//! * Receipts and carried heads count only when this node's warden signed them: with the key given, or with that of any
//!   roster in the journal itself. So every roster is kept.
//! * Whatever cannot be read or does not fit its place is damage: what stood before it is recovered, the rest is not
//!   guessed at, and the warden starts Held (rule S10).
//! * An INTENT is open until an OUTCOME or ABORT names its place.
//! * A hold ends with a release of the same subject; releasing all ends every hold. A quarantine ends with a readmission.

use super::{Damage, Disk, Journal, JournalError, Salt, StoredRecord};
use crate::protocol::record::{CompactedHead, Forgiveness, LedgerEntry, OpenIntent, OperatorOrder, Record};
use crate::protocol::roster::Roster;
use crate::protocol::signing::{SigningKey, VerifyingKey};
use crate::protocol::statement::{
    Codec, Envelope, EquivocationProof, JournalHead, OpenError, Receipt, ReceiptKind, StatementCodec, Verified,
};
use crate::protocol::types::{BootId, Digest, PersonaId, SubjectName, WardenInstance};
use crate::protocol::warden::Recovered;
use std::collections::{BTreeMap, BTreeSet, VecDeque};

/// Everything that the records say, with the place of each record that says it.
#[derive(Default)]
struct Fold {
    head: JournalHead,
    boot: Option<(usize, WardenInstance, BootId)>,
    ledgers: BTreeMap<Option<SubjectName>, (usize, LedgerEntry)>,
    open: BTreeMap<u64, (usize, OpenIntent)>,
    holds: BTreeMap<Option<SubjectName>, (usize, u32, OperatorOrder, String)>,
    quarantined: BTreeMap<PersonaId, (usize, EquivocationProof)>,
    readmitted: BTreeMap<PersonaId, (usize, Forgiveness)>,
    receipts: VecDeque<(usize, Envelope)>,
    rosters: Vec<usize>,
    damage: Option<String>,
}

/// Reads the records that a journal was opened with. `damage` is that of the file, if any.
pub fn recover<C: StatementCodec + Codec<CompactedHead>>(
    records: &[StoredRecord],
    damage: Option<&Damage>,
    warden: &VerifyingKey,
    codec: &C,
) -> Recovered {
    let fold = Fold::of(records, damage, warden, codec);
    Recovered {
        head: fold.head,
        instance: fold.boot.map(|(_, instance, _)| instance).unwrap_or_default(),
        boot: fold.boot.map(|(_, _, boot)| boot),
        ledgers: fold.ledgers.into_values().map(|(_, ledger)| ledger).collect(),
        open_intents: fold.open.into_values().map(|(_, intent)| intent).collect(),
        holds: fold.holds.into_values().map(|(_, uid, order, reason)| (uid, order, reason)).collect(),
        quarantined: fold.quarantined.into_iter().map(|(persona, (_, proof))| (persona, proof)).collect(),
        readmitted: fold.readmitted.into_iter().map(|(persona, (_, forgiveness))| (persona, forgiveness)).collect(),
        receipts: fold.receipts.into_iter().map(|(_, receipt)| receipt).collect(),
        damage: fold.damage,
    }
}

/// The encoded records that a compaction must carry so that [`recover`] says the same afterwards, in order; `None` when the
/// journal is in doubt and must stay as it is.
pub fn compaction_set<C: StatementCodec + Codec<CompactedHead>>(
    records: &[StoredRecord],
    warden: &VerifyingKey,
    codec: &C,
) -> Option<Vec<Vec<u8>>> {
    let fold = Fold::of(records, None, warden, codec);
    if fold.damage.is_some() {
        return None;
    }
    let mut keep: BTreeSet<usize> = fold.receipts.iter().map(|(at, _)| *at).collect();
    keep.extend(fold.boot.map(|(at, ..)| at));
    keep.extend(&fold.rosters);
    keep.extend(fold.ledgers.values().map(|(at, _)| *at));
    keep.extend(fold.open.values().map(|(at, _)| *at));
    keep.extend(fold.holds.values().map(|(at, ..)| *at));
    keep.extend(fold.quarantined.values().map(|(at, _)| *at));
    keep.extend(fold.readmitted.values().map(|(at, _)| *at));
    Some(keep.into_iter().filter_map(|at| records.get(at)).map(|record| record.encoded.clone()).collect())
}

/// Compacts a journal that was just opened with these records, before anything is appended. Returns the head that the
/// warden goes on from: it stands above every receipt that was ever written.
///
/// # Errors
/// [`JournalError::NoSpace`] leaves all as it was; a journal in doubt is refused as [`JournalError::Damaged`].
pub fn compact<D: Disk, C: StatementCodec + Codec<CompactedHead>>(
    journal: &mut Journal<D>,
    salt: Salt,
    records: &[StoredRecord],
    key: &SigningKey,
    codec: &C,
) -> Result<JournalHead, JournalError> {
    let doubt = |why: &str| JournalError::Damaged(Damage { at: 0, why: why.to_owned() });
    let verifier = VerifyingKey::new(key.public()).map_err(|error| doubt(&error.to_string()))?;
    let carried = compaction_set(records, &verifier, codec).ok_or_else(|| doubt("its records are in doubt"))?;
    let head = Record::Head(Envelope::seal(&CompactedHead(journal.head()), key, codec));
    journal.compact(salt, &codec.encode(&head), &carried)
}

/// The roster that the last warden counted by, if the journal knows one.
pub fn last_roster<C: StatementCodec + Codec<CompactedHead>>(records: &[StoredRecord], codec: &C) -> Option<Roster> {
    records.iter().rev().find_map(|stored| roster_in(stored, codec))
}

fn roster_in<C: StatementCodec + Codec<CompactedHead>>(stored: &StoredRecord, codec: &C) -> Option<Roster> {
    match codec.decode(&stored.encoded) {
        Ok(Record::Roster(envelope)) => Roster::open(&envelope, codec).ok(),
        _ => None,
    }
}

impl Fold {
    fn of<C: StatementCodec + Codec<CompactedHead>>(
        records: &[StoredRecord],
        damage: Option<&Damage>,
        warden: &VerifyingKey,
        codec: &C,
    ) -> Self {
        let mut fold = Self::default();
        let rosters = records.iter().filter_map(|stored| roster_in(stored, codec));
        let earlier = rosters.filter_map(|roster| VerifyingKey::new(roster.statement().warden).ok());
        let keys: Vec<_> = std::iter::once(warden.clone()).chain(earlier).collect();
        for (at, stored) in records.iter().enumerate() {
            if let Err(why) = fold.take(at, stored, &keys, codec) {
                fold.damage = Some(format!("the journal is damaged: record {}: {why}", stored.seq));
                return fold;
            }
            fold.head = JournalHead { seq: stored.seq, hash: stored.hash };
        }
        fold.damage = damage.map(|damage| format!("the journal is damaged {damage}"));
        fold
    }

    fn take<C: StatementCodec + Codec<CompactedHead>>(
        &mut self,
        at: usize,
        stored: &StoredRecord,
        keys: &[VerifyingKey],
        codec: &C,
    ) -> Result<(), String> {
        let record: Record = codec.decode(&stored.encoded).map_err(|error| format!("cannot be read: {error}"))?;
        if at == 0 && !matches!(record, Record::Head(_)) && (stored.seq, stored.previous) != (1, Digest::default()) {
            return Err("the journal begins in the middle, without a signed head".into());
        }
        match record {
            Record::Boot { instance, boot, .. } => self.boot = Some((at, instance, boot)),
            Record::Receipt(envelope) => {
                let receipt = open(&envelope, keys, |key| envelope.open(key, codec)).map_err(|e| e.to_string())?;
                self.take_receipt(at, stored, receipt)?;
            }
            Record::Ledger(ledger) => {
                self.ledgers.insert(ledger.subject.clone(), (at, ledger));
            }
            Record::Quarantine { persona, proof } => {
                self.quarantined.insert(persona, (at, proof));
            }
            Record::Operator { uid, order, reason, forgiveness, .. } => match &order {
                OperatorOrder::Hold { subject, .. } => {
                    self.holds.insert(subject.clone(), (at, uid, order, reason));
                }
                OperatorOrder::Release { subject: None } => self.holds.clear(),
                OperatorOrder::Release { subject } => {
                    self.holds.remove(subject);
                }
                OperatorOrder::Readmit { persona } => {
                    self.quarantined.remove(persona);
                    self.readmitted.insert(persona.clone(), (at, forgiveness.unwrap_or_default()));
                }
                OperatorOrder::Approve { .. } => {}
            },
            Record::Roster(envelope) => {
                Roster::open(&envelope, codec).map_err(|error| error.to_string())?;
                self.rosters.push(at);
            }
            Record::Head(envelope) => {
                let head: Verified<CompactedHead> =
                    open(&envelope, keys, |key| envelope.open(key, codec)).map_err(|e| e.to_string())?;
                let claimed = (head.0.seq.checked_add(1), head.0.hash);
                if at != 0 || claimed != (Some(stored.seq), stored.previous) {
                    return Err("a carried head stands in the wrong place".into());
                }
            }
        }
        Ok(())
    }

    fn take_receipt(&mut self, at: usize, stored: &StoredRecord, receipt: Verified<Receipt>) -> Result<(), String> {
        if !stored.carried && (receipt.seq, receipt.previous) != (stored.seq, stored.previous) {
            return Err(format!("a receipt for place {} stands here", receipt.seq));
        }
        let envelope = receipt.envelope().clone();
        match receipt.kind {
            ReceiptKind::Intent => {
                let (seq, episode, round) = (receipt.seq, receipt.episode, receipt.round);
                self.open.insert(seq, (at, OpenIntent { seq, receipt: envelope.clone(), episode, round }));
            }
            ReceiptKind::Outcome | ReceiptKind::Abort => {
                if let Some(intent) = receipt.intent {
                    self.open.remove(&intent);
                }
            }
            ReceiptKind::WouldAct => {}
        }
        self.receipts.push_back((at, envelope));
        if self.receipts.len() > Recovered::RECEIPTS {
            self.receipts.pop_front();
        }
        Ok(())
    }
}

/// Opens with the key that the envelope names, if it is one of these.
fn open<T>(
    envelope: &Envelope,
    keys: &[VerifyingKey],
    open: impl Fn(&VerifyingKey) -> Result<T, OpenError>,
) -> Result<T, OpenError> {
    let key = keys.iter().find(|key| key.public() == envelope.key).unwrap_or(&keys[0]);
    open(key)
}
