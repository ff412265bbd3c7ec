//! The wire: one statement has one encoding, what decodes is within its bounds, and nothing from outside panics.
//!
//! `tests/fixtures/wire/*.hex` guard the bytes: signatures and journals outlive a build. After an intended change of the
//! encoding, `BLESS=1 cargo test --test wire` writes them anew.

mod maker;

use maker::Maker;
use proptest::prelude::*;
use std::fmt::Debug;
use zeta_bft::protocol::evidence::{Attestation, FaultClass, TickState};
use zeta_bft::protocol::record::{CompactedHead, Record};
use zeta_bft::protocol::roster::RosterStatement;
use zeta_bft::protocol::signing::Domain;
use zeta_bft::protocol::statement::{
    ActionCertificate, Choice, Codec, DecodeError, Envelope, EpisodeStatement, EquivocationProof, Head, Header,
    Heartbeat, JournalHead, Receipt, Session, SessionRequest, Vote,
};
use zeta_bft::protocol::types::{ClusterId, NodeId, Nonce, PersonaId, SubjectName};
use zeta_bft::wire::{self, Proto, v1};

fn survives<T: PartialEq + Debug>(statement: &T)
where
    Proto: Codec<T>,
{
    let bytes = Proto.encode(statement);
    assert_eq!(bytes, Proto.encode(statement), "encoding is deterministic");
    assert_eq!(&Proto.decode(&bytes).unwrap(), statement);
}

fn decode_everything(bytes: &[u8]) {
    let _: Result<SessionRequest, _> = Proto.decode(bytes);
    let _: Result<Session, _> = Proto.decode(bytes);
    let _: Result<Heartbeat, _> = Proto.decode(bytes);
    let _: Result<EpisodeStatement, _> = Proto.decode(bytes);
    let _: Result<Vote, _> = Proto.decode(bytes);
    let _: Result<Receipt, _> = Proto.decode(bytes);
    let _: Result<RosterStatement, _> = Proto.decode(bytes);
    let _: Result<CompactedHead, _> = Proto.decode(bytes);
    let _: Result<Record, _> = Proto.decode(bytes);
    let _: Result<EquivocationProof, _> = Proto.decode(bytes);
    let _ = wire::decode_envelope(bytes);
    if let Ok(ticks) = <v1::TicksResponse as prost::Message>::decode(bytes) {
        let _ = TickState::try_from(ticks);
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn every_statement_survives_the_wire(seed: u64) {
        let mut make = Maker(seed);
        survives(&make.request());
        survives(&make.session());
        survives(&make.heartbeat());
        survives(&make.episode());
        survives(&make.vote());
        survives(&make.receipt());
        survives(&make.roster());
        survives(&make.proof());
        survives(&CompactedHead(JournalHead { seq: make.u64(), hash: make.digest() }));
        make.records().iter().for_each(survives);
        let domain = make.pick(Domain::ALL);
        let envelope = make.envelope(domain);
        prop_assert_eq!(wire::decode_envelope(&wire::encode_envelope(&envelope)).unwrap(), envelope);
        let ticks = make.ticks();
        prop_assert_eq!(TickState::try_from(v1::TicksResponse::from(&ticks)).unwrap(), ticks);
    }

    #[test]
    fn no_bytes_from_outside_panic(bytes in prop::collection::vec(any::<u8>(), 0..600)) {
        decode_everything(&bytes);
    }

    #[test]
    fn no_damaged_statement_panics(seed: u64, at: prop::sample::Index, flip in 1u8.., cut: prop::sample::Index) {
        let mut make = Maker(seed);
        for mut bytes in [Proto.encode(&make.vote()), Proto.encode(&make.heartbeat()), Proto.encode(&make.receipt())] {
            decode_everything(&bytes[..cut.index(bytes.len())]);
            let at = at.index(bytes.len());
            bytes[at] ^= flip;
            decode_everything(&bytes);
        }
    }
}

fn guards<T: PartialEq + Debug>(name: &str, statement: &T)
where
    Proto: Codec<T>,
{
    let path = format!("{}/tests/fixtures/wire/{name}.hex", env!("CARGO_MANIFEST_DIR"));
    let hex = data_encoding::HEXLOWER.encode(&Proto.encode(statement));
    let lines: String = hex.as_bytes().chunks(96).flat_map(|line| [line, b"\n"].concat()).map(char::from).collect();
    if std::env::var_os("BLESS").is_some() {
        std::fs::write(&path, &lines).unwrap();
    }
    let kept = std::fs::read_to_string(&path).unwrap_or_default();
    assert_eq!(
        kept, lines,
        "the encoding of {name} changed: old signatures and journals would no longer be read alike"
    );
    let bytes = data_encoding::HEXLOWER.decode(kept.replace('\n', "").as_bytes()).unwrap();
    assert_eq!(&Proto.decode(&bytes).unwrap(), statement, "{name}");
}

#[test]
fn the_bytes_of_every_statement_are_those_of_the_fixtures() {
    guards("session_request", &Maker(1).request());
    guards("session", &Maker(2).session());
    guards("heartbeat", &Maker(3).heartbeat());
    guards("episode", &Maker(4).episode());
    guards("vote", &Maker(5).vote());
    guards("receipt", &Maker(6).receipt());
    guards("roster", &Maker(7).roster());
    guards("proof", &Maker(8).proof());
    for (number, record) in Maker(9).records().iter().enumerate() {
        guards(&format!("record_{number}"), record);
    }
}

fn refusal<T: Debug>(message: impl prost::Message) -> DecodeError
where
    Proto: Codec<T>,
{
    <Proto as Codec<T>>::decode(&Proto, &message.encode_to_vec()).unwrap_err()
}

#[test]
fn each_refusal_names_its_field() {
    let mut make = Maker(10);
    let vote = v1::Vote::from(&make.vote());
    let refused = |change: fn(&mut v1::Vote)| {
        let mut vote = vote.clone();
        change(&mut vote);
        refusal::<Vote>(vote)
    };
    assert_eq!(refused(|v| v.header = None), DecodeError::Missing("header"));
    assert_eq!(refused(|v| v.nonce.truncate(15)), DecodeError::OutOfRange("nonce"));
    assert_eq!(refused(|v| v.nonce.clear()), DecodeError::Missing("nonce"));
    assert_eq!(refused(|v| v.subject = "../etc".into()), DecodeError::OutOfRange("subject"));
    assert_eq!(refused(|v| v.choice = 0), DecodeError::Missing("choice"));
    assert_eq!(refused(|v| v.choice = 77), DecodeError::OutOfRange("choice"));
    assert_eq!(refused(|v| v.challenge = Some(vec![1])), DecodeError::OutOfRange("challenge"));
    assert_eq!(
        refused(|v| v.attestation.as_mut().unwrap().reason = "because".into()),
        DecodeError::OutOfRange("reason")
    );
    assert_eq!(<Proto as Codec<Vote>>::decode(&Proto, &[0xff; 9]), Err(DecodeError::Malformed));
}

#[test]
fn an_approval_for_a_fault_that_is_never_repaired_is_malformed() {
    for class in [FaultClass::Environment, FaultClass::Operator, FaultClass::Unknown] {
        let vote = Vote { class, choice: Choice::Approve, ..Maker(11).vote() };
        let bytes = Proto.encode(&vote);
        assert_eq!(<Proto as Codec<Vote>>::decode(&Proto, &bytes), Err(DecodeError::OutOfRange("fault_class")));
    }
}

#[test]
fn two_words_on_one_subject_make_no_heartbeat() {
    let mut make = Maker(12);
    let said = make.attestation();
    let heartbeat = Heartbeat { attestations: vec![said.clone(), said], ..make.heartbeat() };
    let refused = <Proto as Codec<Heartbeat>>::decode(&Proto, &Proto.encode(&heartbeat));
    assert_eq!(refused, Err(DecodeError::OutOfRange("attestations")));
}

#[test]
fn lists_longer_than_any_correct_author_makes_them_are_refused() {
    let mut make = Maker(13);
    let mut heartbeat = v1::Heartbeat::from(&make.heartbeat());
    heartbeat.attestations = vec![v1::Attestation::from(&make.attestation()); wire::MAX_ATTESTATIONS + 1];
    let error = refusal::<Heartbeat>(heartbeat);
    assert_eq!(error, DecodeError::TooMany { field: "attestations", len: 65, max: 64 });
    let mut certificate = None;
    while certificate.is_none() {
        certificate = make.receipt().certificate;
    }
    let mut receipt = v1::Receipt::from(&Receipt { certificate, ..make.receipt() });
    receipt.certificate.as_mut().unwrap().votes = vec![(&make.envelope(Domain::Vote)).into(); 17];
    assert_eq!(refusal::<Receipt>(receipt), DecodeError::TooMany { field: "votes", len: 17, max: 16 });
}

#[test]
fn a_receipt_around_the_largest_certificate_still_fits_its_envelope() {
    let mut make = Maker(14);
    let mut largest = |domain| Envelope { payload: vec![1; wire::max_payload(domain)].into(), ..make.envelope(domain) };
    let certificate = ActionCertificate {
        episode: largest(Domain::Episode),
        votes: vec![largest(Domain::Vote); wire::MAX_GUARDIANS],
        sessions: vec![largest(Domain::Session); wire::MAX_GUARDIANS],
    };
    let detail = "ü".repeat(Receipt::MAX_DETAIL);
    let receipt = Receipt { certificate: Some(certificate), detail, ..Maker(15).receipt() };
    let bytes = Proto.encode(&receipt);
    assert!(bytes.len() <= wire::max_payload(Domain::Receipt), "{}", bytes.len());
    let read: Receipt = Proto.decode(&bytes).unwrap();
    assert_eq!(read.detail.len(), Receipt::MAX_DETAIL, "what is too long is cut, not refused later");
}

#[test]
fn the_longest_names_fit_the_bounds_of_their_statements() {
    let long = "x".repeat(64);
    let header = Header {
        cluster: ClusterId::new(&long).unwrap(),
        node: NodeId::new(&long).unwrap(),
        persona: PersonaId::new(&long).unwrap(),
        ..Maker(16).header()
    };
    let subject = SubjectName::agent(&header.persona);
    let attestation = Attestation { subject: subject.clone(), resume_at: Some(u64::MAX), ..Maker(17).attestation() };
    let (challenge, request) = (Some(Nonce([1; 16])), Maker(20).request());
    let request = SessionRequest {
        cluster: header.cluster.clone(),
        node: header.node.clone(),
        persona: header.persona.clone(),
        ..request
    };
    let sealed = Envelope { payload: Proto.encode(&request).into(), ..Maker(21).envelope(Domain::SessionRequest) };
    let session = Session {
        request: sealed,
        cluster: header.cluster.clone(),
        node: header.node.clone(),
        persona: header.persona.clone(),
        unit: subject.clone(),
        ..Maker(22).session()
    };
    let episode = EpisodeStatement {
        cluster: header.cluster.clone(),
        node: header.node.clone(),
        subject: subject.clone(),
        challenge,
        ..Maker(23).episode()
    };
    let vote = Vote { header: header.clone(), subject, attestation, challenge, ..Maker(18).vote() };
    let attestations = vec![vote.attestation.clone(); wire::MAX_ATTESTATIONS];
    let head = Head { persona: header.persona.clone(), seq: u64::MAX, ..Maker(24).heartbeat_head() };
    let heads = vec![head; Heartbeat::MAX_HEADS];
    let heartbeat = Heartbeat { header, attestations, heads, ..Maker(19).heartbeat() };
    for (domain, len) in [
        (Domain::SessionRequest, Proto.encode(&request).len()),
        (Domain::Session, Proto.encode(&session).len()),
        (Domain::Episode, Proto.encode(&episode).len()),
        (Domain::Vote, Proto.encode(&vote).len()),
        (Domain::Heartbeat, Proto.encode(&heartbeat).len()),
    ] {
        assert!(len <= wire::max_payload(domain), "{domain:?}: {len}");
    }
}

#[test]
fn an_envelope_of_the_wrong_shape_is_refused() {
    let mut make = Maker(25);
    let message = v1::Envelope::from(&make.envelope(Domain::Vote));
    let refused = |change: fn(&mut v1::Envelope)| {
        let mut message = message.clone();
        change(&mut message);
        Envelope::try_from(message).unwrap_err()
    };
    assert_eq!(refused(|m| m.r#type = 0), DecodeError::Missing("type"));
    assert_eq!(refused(|m| m.r#type = 99), DecodeError::OutOfRange("type"));
    assert_eq!(refused(|m| m.signature.truncate(63)), DecodeError::OutOfRange("signature"));
    assert_eq!(refused(|m| m.key_id.push(0)), DecodeError::OutOfRange("key_id"));
    assert_eq!(refused(|m| m.payload.clear()), DecodeError::Missing("payload"));
    assert_eq!(refused(|m| m.payload = vec![0; 2000]), DecodeError::OutOfRange("payload"));
}
