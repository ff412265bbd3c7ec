//! How records lie in the file, and what the bytes of a file say. Nothing here writes, and no bytes make it fail.

use super::salt::{CHECK, MARK, Salt, check_of};
use super::{Damage, MAX_PAYLOAD, StoredRecord};
use crate::protocol::record::chain_hash;
use crate::protocol::statement::JournalHead;
use crate::protocol::types::Digest;
use std::ops::Range;

/// What a journal begins with.
pub const MAGIC: &[u8; 8] = b"zbftjrnl";
/// The one version that is read. Version 1 had no salt.
const VERSION: u32 = 2;
pub(super) const FILE_HEADER: usize = 36;
const RECORD_HEADER: usize = MARK + 53;

/// What the bytes of a journal say. See [`scan`].
#[derive(Clone, Debug, Default)]
pub struct Scan {
    /// Every record before the end or the first that is bad.
    pub records: Vec<StoredRecord>,
    /// Where the last of them ends.
    pub end: u64,
    /// Where the last byte that is not zero ends: beyond [`Scan::end`], a crash left something behind.
    pub written: u64,
    /// A record that was on the disk once is bad, or the file is no journal.
    pub damage: Option<Damage>,
    /// The file's own; `None`: it is no journal.
    pub(super) salt: Option<Salt>,
}

impl Scan {
    /// Where the chain stands.
    pub fn head(&self) -> JournalHead {
        self.records.last().map_or_else(JournalHead::default, |last| JournalHead { seq: last.seq, hash: last.hash })
    }
}

/// Reads the bytes of a journal. Never fails: whatever is wrong is said in [`Scan::damage`].
pub fn scan(bytes: &[u8]) -> Scan {
    let damaged = |at: usize, why: String| Some(Damage { at: at as u64, why });
    let written = bytes.iter().rposition(|byte| *byte != 0).map_or(0, |last| last + 1);
    let mut scan = Scan { written: written as u64, ..Scan::default() };
    let salt = match check_file_header(bytes) {
        Ok(salt) => salt,
        Err(why) => {
            scan.damage = damaged(0, why);
            return scan;
        }
    };
    scan.salt = Some(salt);
    let mut at = FILE_HEADER;
    while at < written {
        let follows = scan.records.last().map(|last| JournalHead { seq: last.seq, hash: last.hash });
        match read_record(bytes, at, &salt, follows) {
            Ok((record, next)) => {
                scan.records.push(record);
                at = next;
            }
            Err(why) => {
                let expected = follows.map_or(1, |head| head.seq.saturating_add(1));
                scan.damage = match durable_witness(bytes, at..written, &salt, expected) {
                    Witness::None => None,
                    Witness::Record(seq) => {
                        damaged(at, format!("record {expected} {why}, though record {seq} was written after it"))
                    }
                    Witness::TooMany => {
                        damaged(at, format!("record {expected} {why}, and too much after it looks like a record"))
                    }
                };
                break;
            }
        }
    }
    scan.end = at as u64;
    scan
}

/// Whether a record was on the disk before a later one was written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Witness {
    /// No later one says so.
    None,
    /// This one does.
    Record(u64),
    /// More looks like one than can be looked at.
    TooMany,
}

/// A record that begins within `places`, written when record `lost` was on the disk already. It may end beyond them, with
/// zeros of its own check. Records do not overlap: when more bytes than the file has would have to be summed, somebody made it up
/// who knows the salt.
pub(super) fn durable_witness(bytes: &[u8], places: Range<usize>, salt: &Salt, lost: u64) -> Witness {
    let mut search = bytes.len();
    for at in places.filter(|at| bytes[*at..].starts_with(salt.mark())) {
        let Ok(header) = parse_header(bytes, at, salt) else { continue };
        if header.seq <= lost || header.durable < lost {
            continue;
        }
        let Some(left) = search.checked_sub(RECORD_HEADER + header.length + CHECK) else { return Witness::TooMany };
        search = left;
        if parse_record(bytes, at, salt).is_ok() {
            return Witness::Record(header.seq);
        }
    }
    Witness::None
}

#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Appended = 1,
    Carried = 2,
}

/// A record whose bytes are whole, not yet compared with the one before it.
struct RawRecord<'a> {
    kind: Kind,
    seq: u64,
    previous: Digest,
    payload: &'a [u8],
    next: usize,
}

pub(super) fn file_header(salt: &Salt) -> Vec<u8> {
    let mut bytes = MAGIC.to_vec();
    bytes.extend_from_slice(&VERSION.to_be_bytes());
    bytes.extend_from_slice(&salt.0);
    bytes.extend_from_slice(&check_of(&bytes));
    bytes
}

fn check_file_header(bytes: &[u8]) -> Result<Salt, String> {
    let header = bytes.get(..FILE_HEADER).ok_or_else(|| format!("{} bytes are too few for a journal", bytes.len()))?;
    if &header[..8] != MAGIC {
        return Err("it does not begin as a journal does".into());
    }
    // First of all: where another version has its check, nobody here knows.
    let version = u32_at(header, 8);
    if version != VERSION {
        return Err(format!(
            "it has version {version}, this program reads {VERSION}: start the program that wrote it, or begin anew"
        ));
    }
    let (summed, check) = header.split_at(FILE_HEADER - CHECK);
    if check != check_of(summed) {
        return Err(format!("its first {FILE_HEADER} bytes are damaged"));
    }
    let mut salt = Salt([0; 16]);
    salt.0.copy_from_slice(&summed[12..]);
    Ok(salt)
}

pub(super) fn record_bytes(
    salt: &Salt,
    kind: Kind,
    seq: u64,
    durable: u64,
    previous: &Digest,
    payload: &[u8],
) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(RECORD_HEADER + payload.len() + CHECK);
    bytes.extend_from_slice(salt.mark());
    bytes.push(kind as u8);
    bytes.extend_from_slice(&u32::try_from(payload.len()).expect("a payload was measured").to_be_bytes());
    bytes.extend_from_slice(&seq.to_be_bytes());
    bytes.extend_from_slice(&durable.to_be_bytes());
    bytes.extend_from_slice(&previous.0);
    bytes.extend_from_slice(payload);
    bytes.extend_from_slice(&salt.check_of(&bytes));
    bytes
}

/// What stands before a record's payload.
struct Header {
    kind: Kind,
    length: usize,
    seq: u64,
    durable: u64,
    previous: Digest,
}

fn parse_header(bytes: &[u8], at: usize, salt: &Salt) -> Result<Header, &'static str> {
    let rest = bytes.get(at..).ok_or("is cut off")?;
    let header = rest.get(..RECORD_HEADER).ok_or("is cut off")?;
    let (mark, header) = header.split_at(MARK);
    let kind = match (mark == salt.mark(), header[0]) {
        (true, 1) => Kind::Appended,
        (true, 2) => Kind::Carried,
        _ => return Err("does not begin as a record does"),
    };
    let length = u32_at(header, 1) as usize;
    if length > MAX_PAYLOAD {
        return Err("has an impossible length");
    }
    if rest.len() < RECORD_HEADER + length + CHECK {
        return Err("is cut off");
    }
    let previous = Digest::from_slice(&header[21..]).ok_or("is cut off")?;
    Ok(Header { kind, length, seq: u64_at(header, 5), durable: u64_at(header, 13), previous })
}

fn parse_record<'a>(bytes: &'a [u8], at: usize, salt: &Salt) -> Result<RawRecord<'a>, &'static str> {
    let Header { kind, length, seq, previous, .. } = parse_header(bytes, at, salt)?;
    let next = at + RECORD_HEADER + length + CHECK;
    let (record, check) = bytes[at..next].split_at(RECORD_HEADER + length);
    if check != salt.check_of(record) {
        return Err("has a wrong checksum");
    }
    Ok(RawRecord { kind, seq, previous, payload: &record[RECORD_HEADER..], next })
}

fn read_record(
    bytes: &[u8],
    at: usize,
    salt: &Salt,
    follows: Option<JournalHead>,
) -> Result<(StoredRecord, usize), &'static str> {
    let raw = parse_record(bytes, at, salt)?;
    if let Some(head) = follows {
        if Some(raw.seq) != head.seq.checked_add(1) {
            return Err("has a wrong number");
        }
        if raw.previous != head.hash {
            return Err("does not chain to the one before it");
        }
    }
    let hash = chain_hash(&raw.previous, raw.seq, raw.payload);
    let (seq, previous, carried) = (raw.seq, raw.previous, raw.kind == Kind::Carried);
    let record = StoredRecord { seq, previous, hash, carried, encoded: raw.payload.to_vec(), at: at as u64 };
    Ok((record, raw.next))
}

fn u32_at(bytes: &[u8], at: usize) -> u32 {
    bytes[at..at + 4].iter().fold(0, |n, byte| n << 8 | u32::from(*byte))
}

fn u64_at(bytes: &[u8], at: usize) -> u64 {
    bytes[at..at + 8].iter().fold(0, |n, byte| n << 8 | u64::from(*byte))
}
