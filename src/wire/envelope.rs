//! Envelopes and proofs: the carriers, checked for shape before anybody verifies them.

use super::fields::{bytes, required};
use super::v1;
use crate::protocol::signing::Domain;
use crate::protocol::statement::{DecodeError, Envelope, EquivocationProof};
use crate::protocol::types::PublicKey;
use prost::Message as _;

/// Largest payload of any statement, in bytes.
pub const MAX_PAYLOAD: usize = 64 * 1024;

/// Largest payload of one type of statement, in bytes.
///
/// What goes into a certificate is kept so small that the receipt around [`super::MAX_GUARDIANS`] votes and sessions
/// still keeps [`MAX_PAYLOAD`].
pub const fn max_payload(domain: Domain) -> usize {
    match domain {
        Domain::SessionRequest | Domain::JournalHead => 1024,
        Domain::Session | Domain::Episode | Domain::Vote => 1536,
        Domain::Heartbeat => 32 * 1024,
        Domain::Roster | Domain::Receipt => MAX_PAYLOAD,
    }
}

/// The bytes of an envelope, as files and `history --json` carry it.
pub fn encode_envelope(envelope: &Envelope) -> Vec<u8> {
    v1::Envelope::from(envelope).encode_to_vec()
}

/// The envelope of some bytes. Its signature is not checked.
///
/// # Errors
/// [`DecodeError`] when they are no envelope.
pub fn decode_envelope(bytes: &[u8]) -> Result<Envelope, DecodeError> {
    v1::Envelope::decode(bytes).map_err(|_| DecodeError::Malformed)?.try_into()
}

impl From<Domain> for v1::StatementType {
    fn from(domain: Domain) -> Self {
        match domain {
            Domain::SessionRequest => Self::SessionRequest,
            Domain::Session => Self::Session,
            Domain::Heartbeat => Self::Heartbeat,
            Domain::Episode => Self::Episode,
            Domain::Vote => Self::Vote,
            Domain::Receipt => Self::Receipt,
            Domain::Roster => Self::Roster,
            Domain::JournalHead => Self::JournalHead,
        }
    }
}

fn domain(number: i32) -> Result<Domain, DecodeError> {
    match v1::StatementType::try_from(number) {
        Ok(v1::StatementType::Unspecified) => Err(DecodeError::Missing("type")),
        Ok(v1::StatementType::SessionRequest) => Ok(Domain::SessionRequest),
        Ok(v1::StatementType::Session) => Ok(Domain::Session),
        Ok(v1::StatementType::Heartbeat) => Ok(Domain::Heartbeat),
        Ok(v1::StatementType::Episode) => Ok(Domain::Episode),
        Ok(v1::StatementType::Vote) => Ok(Domain::Vote),
        Ok(v1::StatementType::Receipt) => Ok(Domain::Receipt),
        Ok(v1::StatementType::Roster) => Ok(Domain::Roster),
        Ok(v1::StatementType::JournalHead) => Ok(Domain::JournalHead),
        Err(_) => Err(DecodeError::OutOfRange("type")),
    }
}

impl From<&Envelope> for v1::Envelope {
    fn from(envelope: &Envelope) -> Self {
        Self {
            payload: envelope.payload.to_vec(),
            signature: envelope.signature.to_vec(),
            key_id: envelope.key.0.to_vec(),
            r#type: v1::StatementType::from(envelope.domain).into(),
        }
    }
}

impl TryFrom<v1::Envelope> for Envelope {
    type Error = DecodeError;

    fn try_from(message: v1::Envelope) -> Result<Self, DecodeError> {
        let domain = domain(message.r#type)?;
        if message.payload.is_empty() {
            return Err(DecodeError::Missing("payload"));
        }
        if message.payload.len() > max_payload(domain) {
            return Err(DecodeError::OutOfRange("payload"));
        }
        Ok(Self {
            domain,
            signature: bytes(&message.signature, "signature", |slice| slice.try_into().ok())?,
            key: bytes(&message.key_id, "key_id", PublicKey::from_slice)?,
            payload: message.payload.into(),
        })
    }
}

impl From<&EquivocationProof> for v1::EquivocationProof {
    fn from(proof: &EquivocationProof) -> Self {
        Self {
            session: Some((&proof.session).into()),
            first: Some((&proof.first).into()),
            second: Some((&proof.second).into()),
        }
    }
}

impl TryFrom<v1::EquivocationProof> for EquivocationProof {
    type Error = DecodeError;

    fn try_from(message: v1::EquivocationProof) -> Result<Self, DecodeError> {
        Ok(Self {
            session: required(message.session, "session")?.try_into()?,
            first: required(message.first, "first")?.try_into()?,
            second: required(message.second, "second")?.try_into()?,
        })
    }
}
