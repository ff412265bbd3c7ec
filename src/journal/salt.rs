//! What tells a record of the file from bytes within a record that look like one.
//!
//! Votes and heartbeats hold bytes of a liar's choosing (fields that nobody knows are let through), and lie within records.
//! Where a power loss tears such a record, what looks like a later one behind the tear would turn a crash's leftover into damage
//! in the middle, and hold everything.
//!
//! Rules:
//! * A record's beginning, its mark, is 64 bits of the salt: without it nothing is even looked at. Beginnings that anybody can
//!   write, 8 bytes each, would use up the search behind a tear whatever the checks say.
//! * Its check is 64 bits of SHA-256 over salt and record. A CRC with a salt in front will not do: it is linear, so that whoever
//!   writes a sector can see to it that the sector's loss goes unnoticed, whatever stood in front.
//! * Less than 2^17 bytes of a record are a liar's, so it has less than 2^17 places to guess at: for each torn record its odds to
//!   hit the mark are below 2^-47, and to hit the check as well below 2^-111.

use super::JournalError;
use crate::protocol::types::Digest;
use std::fmt;

/// Bytes of the salt that each record begins with.
pub(super) const MARK: usize = 8;
/// Bytes of a check.
pub(super) const CHECK: usize = 8;

/// A secret of one file, new with each: it lies in the file's header, is told to nobody, and is not shown by `Debug`.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Salt(pub(super) [u8; 16]);

impl Salt {
    /// These bytes, which nobody may be able to guess.
    pub const fn new(bytes: [u8; 16]) -> Self {
        Self(bytes)
    }

    /// From the kernel's randomness.
    ///
    /// # Errors
    /// [`JournalError::Io`] when there is none.
    pub fn random() -> Result<Self, JournalError> {
        let mut bytes = [0; 16];
        let filled = getrandom::fill(&mut bytes).map_err(std::io::Error::other);
        filled.map_err(super::io("draw a salt for"))?;
        Ok(Self(bytes))
    }

    /// What each record of the file begins with.
    pub(super) fn mark(&self) -> &[u8] {
        &self.0[..MARK]
    }

    /// What each record of the file ends with.
    pub(super) fn check_of(&self, record: &[u8]) -> [u8; CHECK] {
        check_of(&[&self.0, record].concat())
    }
}

impl fmt::Debug for Salt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Salt(..)")
    }
}

/// The first bytes of SHA-256.
pub(super) fn check_of(bytes: &[u8]) -> [u8; CHECK] {
    let mut check = [0; CHECK];
    check.copy_from_slice(&Digest::of(bytes).0[..CHECK]);
    check
}
