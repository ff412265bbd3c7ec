//! The wire: generated messages, and the one implementation of the core's `Codec`.
//!
//! Rules implemented here:
//! * encoding is deterministic: one statement has one encoding, and so one identity;
//! * decoding is strict: every field is checked for presence, length, and membership of its closed set, and every list
//!   for its bound; what is refused is named ([`DecodeError`]);
//! * sizes are bounded per type ([`max_payload`]), so that a receipt with all that it rests on always fits into the
//!   journal, whatever a liar pads its votes with;
//! * unknown fields are let through: they are signed, and newer authors may add some.

mod attestation;
mod envelope;
mod fields;
mod record;
mod statement;
mod ticks;

pub use envelope::{MAX_PAYLOAD, decode_envelope, encode_envelope, max_payload};

use crate::protocol::record::{CompactedHead, Record};
use crate::protocol::roster::RosterStatement;
use crate::protocol::signing::Signatures;
use crate::protocol::statement::{
    Codec, DecodeError, EpisodeStatement, EquivocationProof, Heartbeat, Receipt, Session, SessionRequest, Vote,
};
use prost::Message as _;
use prost::bytes::Bytes;

/// Generated from `proto/zeta/bft/v1`.
#[allow(missing_docs, clippy::all, clippy::pedantic)]
pub mod v1 {
    tonic::include_proto!("zeta.bft.v1");
}

/// All descriptors, for server reflection.
pub const DESCRIPTORS: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/descriptors.bin"));

/// Most attestations in a heartbeat.
pub const MAX_ATTESTATIONS: usize = 64;
/// Most votes or sessions in a certificate, and members of a roster.
pub const MAX_GUARDIANS: usize = 16;
/// Longest reason that an operator gives, in bytes; the encoding cuts what is longer.
pub const MAX_REASON: usize = 4096;

/// Statements as protobuf.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Proto;

/// As they stand in the core: Ed25519, checked strictly.
impl Signatures for Proto {}

macro_rules! codec {
    ($($type:ident as $message:ident,)+) => {$(
        impl Codec<$type> for Proto {
            fn encode(&self, statement: &$type) -> Vec<u8> {
                v1::$message::from(statement).encode_to_vec()
            }

            fn decode(&self, bytes: &[u8]) -> Result<$type, DecodeError> {
                v1::$message::decode(Bytes::copy_from_slice(bytes)).map_err(|_| DecodeError::Malformed)?.try_into()
            }
        }
    )+};
}

codec! {
    SessionRequest as SessionRequest,
    Session as Session,
    Heartbeat as Heartbeat,
    EpisodeStatement as Episode,
    Vote as Vote,
    Receipt as Receipt,
    RosterStatement as Roster,
    CompactedHead as JournalHead,
    Record as Record,
    EquivocationProof as EquivocationProof,
}
