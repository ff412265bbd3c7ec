//! The warden's journal: any bytes as the file, and files that a warden wrote, torn and damaged.

use super::world::{key, sealed};
use super::{Reader, framed};
use std::cell::RefCell;
use std::io;
use std::rc::Rc;
use zeta_bft::journal::{Disk, Journal, JournalError, Salt, Scan, compact, recover, scan};
use zeta_bft::protocol::record::{Record, chain_hash};
use zeta_bft::protocol::signing::{Domain, VerifyingKey};
use zeta_bft::protocol::statement::{Codec, JournalHead};
use zeta_bft::protocol::warden::Recovered;
use zeta_bft::wire::Proto;

/// Of the journals that are made here: whoever fuzzes knows it, and writes records that are taken for the file's own.
const SALT: Salt = Salt::new(*b"a fuzzer's salt.");
/// Of what a compaction makes of them.
pub(crate) const OTHER_SALT: Salt = Salt::new(*b"salt after that.");
/// Bytes of the file's header, and of what stands before a record's payload.
const HEADERS: (usize, usize) = (36, 61);

/// A file in memory on a disk that is full: nothing is allocated ahead.
#[derive(Clone, Default)]
pub(crate) struct Memory {
    file: Rc<RefCell<Vec<u8>>>,
    beside: Rc<RefCell<Vec<u8>>>,
}

impl Memory {
    fn holding(bytes: &[u8]) -> Self {
        Self { file: Rc::new(RefCell::new(bytes.to_vec())), ..Self::default() }
    }

    pub(crate) fn bytes(&self) -> Vec<u8> {
        self.file.borrow().clone()
    }
}

impl Disk for Memory {
    fn read(&mut self) -> io::Result<Vec<u8>> {
        Ok(self.bytes())
    }
    fn size(&self) -> io::Result<u64> {
        Ok(self.file.borrow().len() as u64)
    }
    fn write_at(&mut self, at: u64, bytes: &[u8]) -> io::Result<()> {
        let (mut file, at) = (self.file.borrow_mut(), usize::try_from(at).expect("a small file"));
        let end = at + bytes.len();
        if file.len() < end {
            file.resize(end, 0);
        }
        file[at..end].copy_from_slice(bytes);
        Ok(())
    }
    fn extend(&mut self, _: u64) -> io::Result<()> {
        Err(io::ErrorKind::StorageFull.into())
    }
    fn sync(&mut self) -> io::Result<()> {
        Ok(())
    }
    fn write_beside(&mut self, bytes: &[u8], _: u64) -> io::Result<()> {
        *self.beside.borrow_mut() = bytes.to_vec();
        Ok(())
    }
    fn sync_beside(&mut self) -> io::Result<()> {
        Ok(())
    }
    fn rename_beside(&mut self) -> io::Result<()> {
        *self.file.borrow_mut() = self.beside.take();
        Ok(())
    }
    fn sync_folder(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// The first byte says whether the rest is a file, or what a warden wrote ([`script`]) and what became of it.
pub(crate) fn journal(data: &[u8]) {
    let mut data = Reader(data);
    if data.byte() == 0 {
        file(data.0);
    } else {
        written(data);
    }
}

/// Any bytes as the file. Returns what they say.
fn file(bytes: &[u8]) -> Scan {
    let found = scan(bytes);
    let len = bytes.len() as u64;
    assert!(found.end <= len && found.written <= len);
    let mut before: Option<JournalHead> = None;
    for record in &found.records {
        if let Some(head) = before {
            assert_eq!((Some(record.seq), record.previous), (head.seq.checked_add(1), head.hash), "a chain");
        }
        assert_eq!(record.hash, chain_hash(&record.previous, record.seq, &record.encoded));
        let at = usize::try_from(record.at).expect("within the file");
        assert_eq!(&bytes[at + HEADERS.1..at + HEADERS.1 + record.encoded.len()], &record.encoded[..], "byte for byte");
        before = Some(JournalHead { seq: record.seq, hash: record.hash });
    }
    assert_eq!(found.head(), before.unwrap_or_default());
    let disk = Memory::holding(bytes);
    let mut opened = Journal::open_on(disk.clone()).expect("a disk that does not fail");
    assert_eq!((&opened.records, &opened.damage), (&found.records, &found.damage));
    let verifier = VerifyingKey::new(key("warden").public()).expect("a key of ours");
    let recovered = recover(&opened.records, opened.damage.as_ref(), &verifier, &Proto);
    if found.damage.is_some() {
        assert!(recovered.damage.is_some(), "damage is never forgotten");
        let head = opened.journal.head();
        let refused = opened.journal.append(head.seq.wrapping_add(1), head.hash, b"more");
        assert!(matches!(refused, Err(JournalError::Damaged(_))), "{refused:?}");
        assert!(compact(&mut opened.journal, OTHER_SALT, &opened.records, &key("warden"), &Proto).is_err());
        assert_eq!(disk.bytes(), bytes, "a damaged journal is never written to");
        return found;
    }
    let end = usize::try_from(found.end).expect("within the file");
    assert_eq!(&disk.bytes()[..end], &bytes[..end]);
    assert!(disk.bytes()[end..].iter().all(|byte| *byte == 0), "what a crash left is erased");
    let again = scan(&disk.bytes());
    assert_eq!((&again.records, &again.damage), (&found.records, &None));
    if recovered.damage.is_none() {
        carried_over(&mut opened.journal, &disk, &opened.records, &verifier, &recovered);
    }
    let head = opened.journal.head();
    if head.seq < u64::MAX {
        opened.journal.append(head.seq + 1, head.hash, b"more").expect("a whole journal is written to");
        opened.journal.sync().expect("it is");
        assert_eq!(scan(&disk.bytes()).records.last().map(|last| last.seq), Some(head.seq + 1));
    }
    found
}

/// A compaction forgets nothing that counts.
fn carried_over(
    journal: &mut Journal<Memory>,
    disk: &Memory,
    records: &[zeta_bft::journal::StoredRecord],
    verifier: &VerifyingKey,
    before: &Recovered,
) {
    let Ok(head) = compact(journal, OTHER_SALT, records, &key("warden"), &Proto) else { return };
    let found = scan(&disk.bytes());
    assert_eq!((found.damage.as_ref(), found.head()), (None, head));
    let after = recover(&found.records, None, verifier, &Proto);
    let (head_after, before_head) = (after.head, before.head);
    assert_eq!(head_after, head);
    let said = |recovered: Recovered| format!("{recovered:?}");
    assert_eq!(
        said(Recovered { head: before_head, ..after }),
        said(before.clone()),
        "what is known after a compaction"
    );
    assert!(head.seq > before.head.seq || records.is_empty());
}

/// What a warden wrote, then what became of it: pairs of a kind and a stretch, and at the end where it was cut and which byte
/// was changed.
fn written(mut data: Reader<'_>) {
    let (disk, mut journal) = empty();
    // Where each record begins, and what was on the disk when it was written.
    let (mut places, mut durable) = (Vec::new(), 0);
    let (cut, flipped, mask) = (data.u16(), data.u16(), data.byte());
    while !data.0.is_empty() && places.len() < 32 {
        let kind = data.byte();
        let payload = data.frame();
        let encoded = match kind & 0x7f {
            0 => payload.to_vec(),
            1 => Proto.encode(&Record::Receipt(sealed(Domain::Receipt, payload, &key("warden")))),
            2 => Proto.encode(&Record::Roster(sealed(Domain::Roster, payload, &key("operator")))),
            _ => Proto.encode(&Record::Head(sealed(Domain::JournalHead, payload, &key("warden")))),
        };
        let head = journal.head();
        places.push((usize::try_from(journal.size()).expect("a small file"), durable));
        journal.append(head.seq + 1, head.hash, &encoded).expect("it follows");
        if kind & 0x80 != 0 {
            durable = journal.sync().expect("a disk that does not fail").seq;
        }
    }
    let bytes = disk.bytes();
    let whole = file(&bytes);
    assert_eq!((whole.records.len(), &whole.damage, whole.end), (places.len(), &None, bytes.len() as u64));
    if bytes.len() <= HEADERS.0 {
        return;
    }

    let cut = HEADERS.0 + usize::from(cut) % (bytes.len() - HEADERS.0);
    let torn = file(&bytes[..cut]);
    assert_eq!(torn.records[..], whole.records[..torn.records.len()], "a beginning of what was written");
    let complete = places.iter().skip(1).filter(|(at, _)| *at <= cut).count();
    assert_eq!(torn.records.len(), complete, "every record that is there in whole");

    let mut damaged = bytes.clone();
    let at = HEADERS.0 + usize::from(flipped) % (bytes.len() - HEADERS.0);
    damaged[at] ^= mask;
    if damaged == bytes {
        return;
    }
    let hit = places.iter().rposition(|(begin, _)| *begin <= at).expect("after the file's header");
    let found = file(&damaged);
    assert_eq!(found.records[..], whole.records[..hit], "all before it, and nothing of it");
    let seq = hit as u64 + 1;
    let witnessed = places[hit + 1..].iter().any(|(_, durable)| *durable >= seq);
    assert!(!witnessed || found.damage.is_some(), "record {seq} was on the disk once, and is gone unnoticed");
}

/// What [`written`] reads.
pub(crate) fn script(records: &[(u8, Vec<u8>)], cut: u16, flipped: u16) -> Vec<u8> {
    let mut bytes = vec![1];
    bytes.extend_from_slice(&cut.to_le_bytes());
    bytes.extend_from_slice(&flipped.to_le_bytes());
    bytes.push(0x10);
    for (kind, payload) in records {
        bytes.push(*kind);
        bytes.extend_from_slice(&framed(payload));
    }
    bytes
}

/// A new journal, and the disk that it is on.
pub(crate) fn empty() -> (Memory, Journal<Memory>) {
    let disk = Memory::default();
    let journal = Journal::create_on(disk.clone(), SALT).expect("a disk that does not fail");
    (disk, journal)
}
