//! Envelopes and statements: what is decoded has one encoding, and a signed one is carried byte for byte.

use super::Reader;
use super::world::{key, sealed};
use prost::Message as _;
use std::fmt::Debug;
use zeta_bft::protocol::evidence::TickState;
use zeta_bft::protocol::record::{CompactedHead, Record};
use zeta_bft::protocol::roster::{Roster, RosterStatement};
use zeta_bft::protocol::signing::VerifyingKey;
use zeta_bft::protocol::statement::{
    Codec, EpisodeStatement, EquivocationProof, Heartbeat, OpenError, Receipt, Session, SessionRequest, Statement,
    Verified, Vote,
};
use zeta_bft::wire::{Proto, decode_envelope, encode_envelope, max_payload, v1};

/// Any bytes as an envelope.
pub(crate) fn envelope(data: &[u8]) {
    let Ok(envelope) = decode_envelope(data) else { return };
    assert!(!envelope.payload.is_empty() && envelope.payload.len() <= max_payload(envelope.domain));
    let encoded = encode_envelope(&envelope);
    assert_eq!(decode_envelope(&encoded).as_ref(), Ok(&envelope), "one that was read is read again");
    assert_eq!(encode_envelope(&decode_envelope(&encoded).expect("as before")), encoded, "one envelope, one encoding");
    assert!(encoded.len() <= data.len(), "what was read says no more than was there");
    // Whoever signed it: not the key it names, unless it really did.
    if let Ok(key) = VerifyingKey::new(envelope.key) {
        let open = key.verify(envelope.domain, &envelope.payload, &envelope.signature);
        let mut other = envelope.signature;
        other[40] ^= 1;
        assert!(open.is_err() || key.verify(envelope.domain, &envelope.payload, &other).is_err());
    }
}

/// What is decoded comes back.
fn decoded<T: PartialEq + Debug>(bytes: &[u8]) -> Option<T>
where
    Proto: Codec<T>,
{
    let statement: T = Proto.decode(bytes).ok()?;
    let encoded = Proto.encode(&statement);
    assert_eq!(Proto.decode(&encoded).as_ref(), Ok(&statement), "a statement that was read is read again");
    assert_eq!(Proto.encode(&Proto.decode(&encoded).expect("as before")), encoded, "one statement has one encoding");
    Some(statement)
}

/// The same, of a type that is signed: the signature is checked first, and the bytes are kept as they came.
fn signed<T: Statement + Clone + PartialEq + Debug>(bytes: &[u8])
where
    Proto: Codec<T>,
{
    let statement = decoded::<T>(bytes);
    let key = key("warden");
    let verifier = VerifyingKey::new(key.public()).expect("a key of ours");
    let envelope = sealed(T::DOMAIN, bytes, &key);
    let opened: Result<Verified<T>, OpenError> = envelope.open(&verifier, &Proto);
    match (statement, opened) {
        (Some(statement), Ok(verified)) => {
            assert_eq!(*verified, statement);
            assert_eq!(&verified.envelope().payload[..], bytes, "a verified statement keeps its bytes");
            assert_eq!(verified.envelope().digest(), envelope.digest());
        }
        (None, Err(OpenError::Malformed(_))) => {}
        (statement, opened) => panic!("{statement:?} alone, but {opened:?} when signed"),
    }
    let mut forged = envelope;
    forged.signature[3] ^= 0x40;
    let opened: Result<Verified<T>, OpenError> = forged.open(&verifier, &Proto);
    assert!(matches!(opened, Err(OpenError::BadSignature(_))), "{opened:?}");
}

/// Any bytes as the statement that the first byte names.
pub(crate) fn statement(data: &[u8]) {
    let mut data = Reader(data);
    let kind = data.byte();
    let bytes = data.0;
    match kind {
        0 => signed::<SessionRequest>(bytes),
        1 => signed::<Session>(bytes),
        2 => {
            signed::<Heartbeat>(bytes);
            let Some(heartbeat) = decoded::<Heartbeat>(bytes) else { return };
            assert!(heartbeat.attestations.is_sorted_by(|a, b| a.subject < b.subject), "one word on each subject");
        }
        3 => signed::<EpisodeStatement>(bytes),
        4 => signed::<Vote>(bytes),
        5 => signed::<Receipt>(bytes),
        6 => {
            signed::<RosterStatement>(bytes);
            let Some(statement) = decoded::<RosterStatement>(bytes) else { return };
            let digest = zeta_bft::protocol::types::Digest::of(bytes);
            if let Ok(roster) = Roster::new(statement, digest) {
                let vendors = roster.vendors().len();
                assert!(roster.f() >= 1 && vendors > 2 * roster.f() && roster.q() > roster.f() && roster.q() < vendors);
            }
        }
        7 => signed::<CompactedHead>(bytes),
        8 => drop(decoded::<Record>(bytes)),
        9 => drop(decoded::<EquivocationProof>(bytes)),
        _ => ticks(bytes),
    }
}

/// A wrapper's tick state is not signed.
fn ticks(bytes: &[u8]) {
    let Ok(message) = v1::TicksResponse::decode(bytes) else { return };
    let Ok(state) = TickState::try_from(message) else { return };
    assert_eq!(TickState::try_from(v1::TicksResponse::from(&state)).as_ref(), Ok(&state));
}
