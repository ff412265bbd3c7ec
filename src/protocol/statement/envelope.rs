//! How a statement travels, and how it enters: verified first, parsed after.
//!
//! An [`Envelope`] carries a payload exactly as its author encoded it; it is stored and forwarded byte for byte.
//! [`Envelope::open`] checks the signature over those bytes and only then lets the [`Codec`] parse them. Its result is a
//! [`Verified`] statement, the only form in which the state machines accept one.

use super::{EpisodeStatement, Heartbeat, Receipt, Session, SessionRequest, Vote};
use crate::protocol::record::Record;
use crate::protocol::roster::RosterStatement;
use crate::protocol::signing::{BadSignature, Domain, Signatures, SigningKey, VerifyingKey};
use crate::protocol::types::{Digest, PublicKey};
use std::sync::Arc;

/// A signed statement as it travels.
#[derive(Clone, PartialEq, Eq)]
pub struct Envelope {
    /// What it is, and so what its signature is for.
    pub domain: Domain,
    /// The statement's bytes, as first produced.
    pub payload: Arc<[u8]>,
    /// Ed25519 over the domain's tag and the payload.
    pub signature: [u8; 64],
    /// Public key of the signer; says whom to check against, proves nothing.
    pub key: PublicKey,
}

impl Envelope {
    /// Encodes and signs a statement.
    pub fn seal<T: Statement>(statement: &T, key: &SigningKey, codec: &impl Codec<T>) -> Self {
        let payload: Arc<[u8]> = codec.encode(statement).into();
        let signature = codec.sign(key, T::DOMAIN, &payload);
        Self { domain: T::DOMAIN, payload, signature, key: key.public() }
    }

    /// The statement's identity: SHA-256 of its payload.
    pub fn digest(&self) -> Digest {
        Digest::of(&self.payload)
    }

    /// Checks the signature under `key` and then parses.
    ///
    /// # Errors
    /// [`OpenError`] when it is of another type, signed by another key, badly signed, or malformed.
    pub fn open<T: Statement>(&self, key: &VerifyingKey, codec: &impl Codec<T>) -> Result<Verified<T>, OpenError> {
        if self.domain != T::DOMAIN {
            return Err(OpenError::WrongDomain { wanted: T::DOMAIN, found: self.domain });
        }
        if self.key != key.public() {
            return Err(OpenError::WrongKey { wanted: key.public(), found: self.key });
        }
        codec.verify(key, self.domain, &self.payload, &self.signature)?;
        let statement = codec.decode(&self.payload)?;
        Ok(Verified { statement, envelope: self.clone() })
    }
}

impl std::fmt::Debug for Envelope {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Envelope({}, {:?} by {:?})", self.domain.tag(), self.digest(), self.key)
    }
}

/// A type of statement.
pub trait Statement: Sized {
    /// What its signature is for.
    const DOMAIN: Domain;
}

/// Turns statements into bytes and back, and signs those bytes. Implemented once, in `wire.rs`; the core knows only this.
pub trait Codec<T>: Signatures {
    /// The bytes of a statement.
    fn encode(&self, statement: &T) -> Vec<u8>;
    /// The statement of some bytes.
    ///
    /// # Errors
    /// [`DecodeError`] when a field is missing or out of its range.
    fn decode(&self, bytes: &[u8]) -> Result<T, DecodeError>;
}

/// The codec of every statement that a state machine touches.
pub trait StatementCodec:
    Codec<SessionRequest>
    + Codec<Session>
    + Codec<Heartbeat>
    + Codec<EpisodeStatement>
    + Codec<Vote>
    + Codec<Receipt>
    + Codec<RosterStatement>
    + Codec<Record>
{
}

impl<C> StatementCodec for C where
    C: Codec<SessionRequest>
        + Codec<Session>
        + Codec<Heartbeat>
        + Codec<EpisodeStatement>
        + Codec<Vote>
        + Codec<Receipt>
        + Codec<RosterStatement>
        + Codec<Record>
{
}

/// Bytes that are no statement.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DecodeError {
    /// Not the encoding at all.
    #[error("not a well-formed message")]
    Malformed,
    /// A field is absent.
    #[error("field `{0}` is missing")]
    Missing(&'static str),
    /// A field has a value outside its range.
    #[error("field `{0}` is out of range")]
    OutOfRange(&'static str),
    /// A list is longer than any correct author makes it.
    #[error("field `{field}` has {len} entries, at most {max} are allowed")]
    TooMany {
        /// Which.
        field: &'static str,
        /// How long it is.
        len: usize,
        /// How long it may be.
        max: usize,
    },
}

/// Why an envelope was not opened.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum OpenError {
    /// It is another type of statement.
    #[error("expected {}, found {}", wanted.tag(), found.tag())]
    WrongDomain {
        /// What was wanted.
        wanted: Domain,
        /// What it is.
        found: Domain,
    },
    /// It names another signer.
    #[error("signed by key {found}, expected {wanted}")]
    WrongKey {
        /// Whose signature was wanted.
        wanted: PublicKey,
        /// Whose it claims to be.
        found: PublicKey,
    },
    /// The signature does not hold.
    #[error(transparent)]
    BadSignature(#[from] BadSignature),
    /// The signature holds, but the bytes make no statement.
    #[error("signed, but malformed: {0}")]
    Malformed(#[from] DecodeError),
}

impl OpenError {
    /// The label of `zeta_bft_statements_rejected_total`.
    pub const fn as_str(&self) -> &'static str {
        match self {
            Self::WrongDomain { .. } => "wrong_domain",
            Self::WrongKey { .. } => "wrong_key",
            Self::BadSignature(_) => "bad_signature",
            Self::Malformed(_) => "malformed",
        }
    }
}

/// A statement whose signature was checked, with the bytes that were signed. Made only by [`Envelope::open`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Verified<T> {
    statement: T,
    envelope: Envelope,
}

impl<T> Verified<T> {
    /// The bytes as signed.
    pub fn envelope(&self) -> &Envelope {
        &self.envelope
    }

    /// The statement itself.
    pub fn into_inner(self) -> T {
        self.statement
    }
}

impl<T> std::ops::Deref for Verified<T> {
    type Target = T;
    fn deref(&self) -> &T {
        &self.statement
    }
}
