//! How records lie in the file, and what the bytes of a file say. Nothing here writes, and no bytes make it fail.

use super::{Damage, MAX_PAYLOAD, StoredRecord};
use crate::protocol::record::chain_hash;
use crate::protocol::statement::JournalHead;
use crate::protocol::types::Digest;
use std::ops::Range;

/// What a journal begins with.
pub const MAGIC: &[u8; 8] = b"zbftjrnl";
/// The one version there is.
const VERSION: u32 = 1;
pub(super) const FILE_HEADER: usize = 16;
pub(super) const MARK: &[u8; 3] = b"zbr";
const RECORD_HEADER: usize = 56;
const CRC: usize = 4;
/// Bytes that are summed at most in search of a record after a bad one: what a record can hold, 4096 times.
pub(super) const SEARCH: usize = 4096 * MAX_PAYLOAD;

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
    if let Err(why) = check_file_header(bytes) {
        scan.damage = damaged(0, why);
        return scan;
    }
    let mut at = FILE_HEADER;
    while at < written {
        let follows = scan.records.last().map(|last| JournalHead { seq: last.seq, hash: last.hash });
        match read_record(bytes, at, follows) {
            Ok((record, next)) => {
                scan.records.push(record);
                at = next;
            }
            Err(why) => {
                let expected = follows.map_or(1, |head| head.seq.saturating_add(1));
                scan.damage = match durable_witness(bytes, at..written, expected, SEARCH) {
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
/// zeros of its own checksum. At most `search` bytes are summed: a hostile file could have a beginning at every few bytes.
pub(super) fn durable_witness(bytes: &[u8], places: Range<usize>, lost: u64, mut search: usize) -> Witness {
    for at in places.filter(|at| bytes[*at..].starts_with(MARK)) {
        let Ok(header) = parse_header(bytes, at) else { continue };
        if header.seq <= lost || header.durable < lost {
            continue;
        }
        let Some(left) = search.checked_sub(header.length) else { return Witness::TooMany };
        search = left;
        if parse_record(bytes, at).is_ok() {
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

pub(super) fn file_header() -> Vec<u8> {
    let mut bytes = MAGIC.to_vec();
    bytes.extend_from_slice(&VERSION.to_be_bytes());
    bytes.extend_from_slice(&crc32c::crc32c(&bytes).to_be_bytes());
    bytes
}

fn check_file_header(bytes: &[u8]) -> Result<(), String> {
    let header = bytes.get(..FILE_HEADER).ok_or_else(|| format!("{} bytes are too few for a journal", bytes.len()))?;
    if &header[..8] != MAGIC {
        return Err("it does not begin as a journal does".into());
    }
    let version = u32_at(header, 8);
    if u32_at(header, 12) != crc32c::crc32c(&header[..12]) {
        return Err("its first 16 bytes are damaged".into());
    }
    if version == VERSION { Ok(()) } else { Err(format!("it has version {version}, this program reads {VERSION}")) }
}

pub(super) fn record_bytes(kind: Kind, seq: u64, durable: u64, previous: &Digest, payload: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(RECORD_HEADER + payload.len() + CRC);
    bytes.extend_from_slice(MARK);
    bytes.push(kind as u8);
    bytes.extend_from_slice(&u32::try_from(payload.len()).expect("a payload was measured").to_be_bytes());
    bytes.extend_from_slice(&seq.to_be_bytes());
    bytes.extend_from_slice(&durable.to_be_bytes());
    bytes.extend_from_slice(&previous.0);
    bytes.extend_from_slice(payload);
    bytes.extend_from_slice(&crc32c::crc32c(&bytes).to_be_bytes());
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

fn parse_header(bytes: &[u8], at: usize) -> Result<Header, &'static str> {
    let header = bytes.get(at..).and_then(|rest| rest.get(..RECORD_HEADER)).ok_or("is cut off")?;
    let kind = match (&header[..3] == MARK, header[3]) {
        (true, 1) => Kind::Appended,
        (true, 2) => Kind::Carried,
        _ => return Err("does not begin as a record does"),
    };
    let length = u32_at(header, 4) as usize;
    if length > MAX_PAYLOAD {
        return Err("has an impossible length");
    }
    let previous = Digest::from_slice(&header[24..56]).ok_or("is cut off")?;
    Ok(Header { kind, length, seq: u64_at(header, 8), durable: u64_at(header, 16), previous })
}

fn parse_record(bytes: &[u8], at: usize) -> Result<RawRecord<'_>, &'static str> {
    let Header { kind, length, seq, previous, .. } = parse_header(bytes, at)?;
    let body = RECORD_HEADER + length;
    let whole = bytes[at..].get(..body + CRC).ok_or("is cut off")?;
    if u32_at(whole, body) != crc32c::crc32c(&whole[..body]) {
        return Err("has a wrong checksum");
    }
    Ok(RawRecord { kind, seq, previous, payload: &whole[RECORD_HEADER..body], next: at + body + CRC })
}

fn read_record(bytes: &[u8], at: usize, follows: Option<JournalHead>) -> Result<(StoredRecord, usize), &'static str> {
    let raw = parse_record(bytes, at)?;
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
