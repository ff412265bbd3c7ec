//! The warden's journal: one plain append file that says what was decided, in order, and cannot be quietly rewritten.
//!
//! Layout, all numbers big-endian:
//! ```text
//! file    "zbftjrnl" (8)  version (4)  salt (16)  SHA-256 of these 28 bytes (its first 8)
//! record  mark (8)  type (1)  length (4)  seq (8)  durable (8)  previous (32)  payload (length)  SHA-256 of the salt and all
//!         before it (its first 8)
//! ```
//! then zeros: the file is allocated ahead, and no record is all zeros. The mark is the first half of the salt.
//!
//! Rules:
//! * A record's chain hash is [`chain_hash`]; `previous` is that of the record before it, so no record can be taken out,
//!   put in or moved. Records that a compaction carried over are marked so; a signed head before them joins the chains.
//! * Only [`Journal::create`] makes a file, whole or not at all. One process holds it ([`JournalError::InUse`]).
//! * [`Journal::sync`] returns only once every record before it is on the disk. Any failed write or sync poisons the
//!   journal: every later call fails, nothing is tried again, the process must exit.
//! * Space for further records is allocated ahead ([`RESERVE`]), so that a full disk does not stop a repair.
//! * Each file has its own [`Salt`], which nobody but the warden and root may read: without it nobody's bytes within a record
//!   pass for a record of the file. A file of another version is read as a damaged one, and not written to.
//! * Each record says up to which record the file was on the disk when it was written (`durable`). A bad record that was
//!   on the disk once is damage: the journal opens for reading only. A bad record that may never have reached the disk is
//!   what a crash leaves behind: it and what follows it are erased, no promise rested on them.

mod disk;
mod layout;
mod recovery;
mod salt;

pub use disk::{Disk, FileDisk};
pub use layout::{MAGIC, Scan, scan};
pub use recovery::{compact, compaction_set, last_roster, recover};
pub use salt::Salt;

use crate::protocol::record::chain_hash;
use crate::protocol::statement::JournalHead;
use crate::protocol::types::Digest;
use layout::{FILE_HEADER, Kind, file_header, record_bytes};
use std::io;
use std::path::{Path, PathBuf};

/// Largest payload of a record, in bytes.
pub const MAX_PAYLOAD: usize = 256 * 1024;
/// Largest file that is opened, in bytes. The warden compacts far below it.
pub const MAX_FILE: u64 = 256 * 1024 * 1024;
/// Bytes kept allocated ahead of the last record: some 200 repairs, each with INTENT, OUTCOME and ledgers.
pub const RESERVE: u64 = 1024 * 1024;
/// Bytes by which the file grows.
const CHUNK: u64 = 256 * 1024;

/// Why the journal did not do what it was asked for.
#[derive(Debug, thiserror::Error)]
pub enum JournalError {
    /// No file.
    #[error(
        "there is no journal at {}: without it nobody knows what was done before; restore it, or run `zeta-bft init` on a \
         new node",
        path.display()
    )]
    Missing {
        /// Where.
        path: PathBuf,
    },
    /// There is one already.
    #[error("there is a journal at {} already", path.display())]
    Exists {
        /// Where.
        path: PathBuf,
    },
    /// Another warden has it.
    #[error("the journal {} is in use: another warden runs on this folder", path.display())]
    InUse {
        /// Where.
        path: PathBuf,
    },
    /// Too large to be ours.
    #[error("the journal has {len} bytes, more than {MAX_FILE}")]
    TooLarge {
        /// Its size.
        len: u64,
    },
    /// It is damaged, and therefore read only.
    #[error("the journal is damaged and is not written to: {0}")]
    Damaged(Damage),
    /// An earlier write failed.
    #[error("the journal failed before ({why}) and is not written to again")]
    Poisoned {
        /// How.
        why: String,
    },
    /// The record does not follow the last one.
    #[error("record {seq} does not follow record {head}")]
    OutOfOrder {
        /// The record's number.
        seq: u64,
        /// The number of the last one.
        head: u64,
    },
    /// The record does not chain to the last one.
    #[error("record {seq} names another record before it than the journal has")]
    WrongPrevious {
        /// The record's number.
        seq: u64,
    },
    /// The record is larger than any correct one.
    #[error("a record of {len} bytes is larger than {MAX_PAYLOAD}")]
    RecordTooLarge {
        /// Its size.
        len: usize,
    },
    /// There is no room for a compacted copy; the journal itself is untouched.
    #[error("no space to compact the journal; it goes on as it is")]
    NoSpace,
    /// The system refused.
    #[error("cannot {doing} the journal: {source}")]
    Io {
        /// What was tried.
        doing: &'static str,
        /// What it said.
        source: io::Error,
    },
}

/// Where and how a journal is damaged.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("at byte {at}: {why}")]
pub struct Damage {
    /// Offset in the file.
    pub at: u64,
    /// What is wrong, for people.
    pub why: String,
}

/// One record as it lies in the file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoredRecord {
    /// Its place in the chain.
    pub seq: u64,
    /// Chain hash of the record before it.
    pub previous: Digest,
    /// Chain hash up to and with it.
    pub hash: Digest,
    /// Carried over by a compaction: a receipt in it names the place it had before.
    pub carried: bool,
    /// The encoded record.
    pub encoded: Vec<u8>,
    /// Its offset in the file.
    pub at: u64,
}

/// A journal that was opened, and what it holds.
#[derive(Debug)]
pub struct Opened<D = FileDisk> {
    /// To write to; refuses when `damage` is set.
    pub journal: Journal<D>,
    /// Every good record, in order.
    pub records: Vec<StoredRecord>,
    /// Bytes that a crash had left half-written and that were erased.
    pub erased: u64,
    /// Why it is read only.
    pub damage: Option<Damage>,
}

/// An open journal.
#[derive(Debug)]
pub struct Journal<D = FileDisk> {
    disk: D,
    salt: Salt,
    head: JournalHead,
    /// Where the next record goes.
    end: u64,
    /// Bytes of the file.
    len: u64,
    /// Number of the last record that is on the disk for certain.
    durable: u64,
    /// The disk would not give more space.
    short: bool,
    damage: Option<Damage>,
    poison: Option<String>,
}

impl Journal<FileDisk> {
    /// Makes a new, empty journal: whole or not at all.
    ///
    /// # Errors
    /// [`JournalError::Exists`], [`JournalError::InUse`], or what the system said.
    pub fn create(path: &Path, salt: Salt) -> Result<Self, JournalError> {
        let disk = FileDisk::lock(path)?;
        if disk.exists()? {
            return Err(JournalError::Exists { path: path.to_owned() });
        }
        Self::create_on(disk, salt)
    }

    /// Opens the journal, alone.
    ///
    /// # Errors
    /// [`JournalError::Missing`], [`JournalError::InUse`], [`JournalError::TooLarge`], or what the system said. Damage is no
    /// error: the good records are there to be read, see [`Opened::damage`].
    pub fn open(path: &Path) -> Result<Opened, JournalError> {
        let disk = FileDisk::lock(path)?;
        if !disk.exists()? {
            return Err(JournalError::Missing { path: path.to_owned() });
        }
        Self::open_on(disk)
    }
}

impl<D: Disk> Journal<D> {
    /// As [`Journal::create`], on any disk.
    ///
    /// # Errors
    /// What the disk said.
    pub fn create_on(mut disk: D, salt: Salt) -> Result<Self, JournalError> {
        let header = file_header(&salt);
        let len = header.len() as u64 + RESERVE + CHUNK;
        replace(&mut disk, &header, len).map_err(|(doing, source)| JournalError::Io { doing, source })?;
        let (head, end) = (JournalHead::default(), FILE_HEADER as u64);
        Ok(Self { disk, salt, head, end, len, durable: 0, short: false, damage: None, poison: None })
    }

    /// As [`Journal::open`], on any disk.
    ///
    /// # Errors
    /// What the disk said.
    pub fn open_on(mut disk: D) -> Result<Opened<D>, JournalError> {
        let len = disk.size().map_err(io("measure"))?;
        if len > MAX_FILE {
            return Err(JournalError::TooLarge { len });
        }
        let bytes = disk.read().map_err(io("read"))?;
        let scan = scan(&bytes);
        let (head, damage) = (scan.head(), scan.damage.clone());
        let erased = if damage.is_some() { 0 } else { scan.written.saturating_sub(scan.end) };
        if damage.is_none() {
            let end = usize::try_from(scan.end).unwrap_or(bytes.len()).min(bytes.len());
            if erased > 0 {
                disk.write_at(scan.end, &vec![0; erased as usize]).map_err(io("mend"))?;
            }
            // What was read may be in memory only, or, after a failed sync of an earlier process, in memory for ever:
            // written again, it is on the disk once this sync returns.
            disk.write_at(0, &bytes[..end]).map_err(io("rewrite"))?;
            disk.sync().map_err(io("sync"))?;
        }
        // Without one there is damage, and nothing is written.
        let salt = scan.salt.unwrap_or(Salt::new([0; 16]));
        let mut journal =
            Self { disk, salt, head, end: scan.end, len, durable: head.seq, short: false, damage, poison: None };
        journal.make_room(0)?;
        Ok(Opened { damage: journal.damage.clone(), journal, records: scan.records, erased })
    }

    /// Where the chain stands, with every record that was appended.
    pub fn head(&self) -> JournalHead {
        self.head
    }

    /// Bytes in use.
    pub fn size(&self) -> u64 {
        self.end
    }

    /// The disk would not give more space ahead: the reserve is being used up, and a human should know.
    pub fn is_short_of_space(&self) -> bool {
        self.short
    }

    /// Writes a record. It is on the disk only after [`Journal::sync`].
    ///
    /// # Errors
    /// A record that does not follow [`Journal::head`], or is too large, is refused and nothing is written. Any failed write
    /// poisons the journal.
    pub fn append(&mut self, seq: u64, previous: Digest, encoded: &[u8]) -> Result<JournalHead, JournalError> {
        self.check_writable()?;
        if Some(seq) != self.head.seq.checked_add(1) {
            return Err(JournalError::OutOfOrder { seq, head: self.head.seq });
        }
        if previous != self.head.hash {
            return Err(JournalError::WrongPrevious { seq });
        }
        if encoded.len() > MAX_PAYLOAD {
            return Err(JournalError::RecordTooLarge { len: encoded.len() });
        }
        let bytes = record_bytes(&self.salt, Kind::Appended, seq, self.durable, &previous, encoded);
        self.make_room(bytes.len() as u64)?;
        if let Err(source) = self.disk.write_at(self.end, &bytes) {
            return Err(self.poison("write", source));
        }
        self.end += bytes.len() as u64;
        self.len = self.len.max(self.end);
        self.head = JournalHead { seq, hash: chain_hash(&previous, seq, encoded) };
        Ok(self.head)
    }

    /// Makes every appended record durable, and says up to where.
    ///
    /// # Errors
    /// A failed sync poisons the journal.
    pub fn sync(&mut self) -> Result<JournalHead, JournalError> {
        self.check_writable()?;
        if self.durable != self.head.seq {
            if let Err(source) = self.disk.sync() {
                return Err(self.poison("sync", source));
            }
            self.durable = self.head.seq;
        }
        Ok(self.head)
    }

    /// Replaces the file by one of another salt that begins with `head_record` (the present head, signed) and `carried`, in
    /// order, whole or not at all. The chain goes on: the returned head is what the next record must follow.
    ///
    /// # Errors
    /// [`JournalError::NoSpace`] leaves all as it was; any other failure poisons the journal.
    pub fn compact(
        &mut self,
        salt: Salt,
        head_record: &[u8],
        carried: &[Vec<u8>],
    ) -> Result<JournalHead, JournalError> {
        self.check_writable()?;
        self.sync()?;
        let mut head = self.head;
        let mut bytes = file_header(&salt);
        let records =
            std::iter::once((Kind::Appended, head_record)).chain(carried.iter().map(|c| (Kind::Carried, &c[..])));
        for (kind, encoded) in records {
            if encoded.len() > MAX_PAYLOAD {
                return Err(JournalError::RecordTooLarge { len: encoded.len() });
            }
            let seq = head.seq.checked_add(1).ok_or(JournalError::OutOfOrder { seq: head.seq, head: head.seq })?;
            // All of the new file is on the disk before its name is: no record of it can be a crash's leftover.
            bytes.extend_from_slice(&record_bytes(&salt, kind, seq, seq - 1, &head.hash, encoded));
            head = JournalHead { seq, hash: chain_hash(&head.hash, seq, encoded) };
        }
        let len = bytes.len() as u64 + RESERVE + CHUNK;
        match replace(&mut self.disk, &bytes, len) {
            Ok(()) => {}
            Err(("write a copy of", source)) if source.kind() == io::ErrorKind::StorageFull => {
                return Err(JournalError::NoSpace);
            }
            Err((doing, source)) => return Err(self.poison(doing, source)),
        }
        self.salt = salt;
        (self.head, self.durable, self.end, self.len, self.short) = (head, head.seq, bytes.len() as u64, len, false);
        Ok(head)
    }

    fn check_writable(&self) -> Result<(), JournalError> {
        match (&self.poison, &self.damage) {
            (Some(why), _) => Err(JournalError::Poisoned { why: why.clone() }),
            (None, Some(damage)) => Err(JournalError::Damaged(damage.clone())),
            (None, None) => Ok(()),
        }
    }

    fn poison(&mut self, doing: &'static str, source: io::Error) -> JournalError {
        self.poison = Some(format!("cannot {doing} it: {source}"));
        JournalError::Io { doing, source }
    }

    /// Keeps [`RESERVE`] bytes allocated beyond the next `wanted`. A full disk is no failure while the reserve lasts.
    fn make_room(&mut self, wanted: u64) -> Result<(), JournalError> {
        if self.damage.is_some() || self.end + wanted + RESERVE <= self.len {
            return Ok(());
        }
        match self.disk.extend(self.end + wanted + RESERVE + CHUNK) {
            Ok(()) => self.short = false,
            Err(error) if is_full(&error) => self.short = true,
            Err(source) => return Err(self.poison("extend", source)),
        }
        match self.disk.size() {
            Ok(len) => self.len = len,
            Err(source) => return Err(self.poison("measure", source)),
        }
        Ok(())
    }
}

/// Puts a whole new file in the journal's place.
fn replace<D: Disk>(disk: &mut D, bytes: &[u8], len: u64) -> Result<(), (&'static str, io::Error)> {
    disk.write_beside(bytes, len).map_err(|error| ("write a copy of", error))?;
    disk.sync_beside().map_err(|error| ("sync a copy of", error))?;
    disk.rename_beside().map_err(|error| ("rename", error))?;
    disk.sync_folder().map_err(|error| ("sync the folder of", error))
}

fn is_full(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded)
}

fn io(doing: &'static str) -> impl Fn(io::Error) -> JournalError {
    move |source| JournalError::Io { doing, source }
}

#[cfg(test)]
mod tests;
