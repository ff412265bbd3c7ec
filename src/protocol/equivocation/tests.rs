use super::super::roster::fixture::{self, cluster, key, node, persona, roster, session_key};
use super::super::statement::{JournalHead, Session, SessionRequest};
use super::super::types::{BootId, InvocationId, NodeId, Nonce, SubjectName, Timestamp, WardenInstance};
use super::*;
use crate::wire::Proto;

/// Of otto, for the session key of this persona.
fn request(session_of: &str) -> SessionRequest {
    SessionRequest {
        cluster: cluster(),
        node: node(),
        persona: persona("otto"),
        session_key: session_key(session_of).public(),
        nonce: Nonce::default(),
        roster: fixture::DIGEST,
        policy: Digest::default(),
    }
}

fn session_of(request: &SessionRequest, persona_key: &str, warden_key: &str, number: u32) -> Envelope {
    let session = Session {
        request: Envelope::seal(request, &key(persona_key), &Proto),
        cluster: request.cluster.clone(),
        node: request.node.clone(),
        boot: BootId([7; 16]),
        persona: persona("otto"),
        session_key: session_key("otto").public(),
        incarnation: SessionIncarnation::new(WardenInstance(1), number),
        uid: 0,
        unit: SubjectName::agent(&persona("otto")),
        invocation: InvocationId::default(),
    };
    Envelope::seal(&session, &key(warden_key), &Proto)
}

fn session(number: u32) -> Envelope {
    session_of(&request("otto"), "otto", "warden", number)
}

fn said(seq: u64, health: u32) -> Envelope {
    said_on("node1", seq, health)
}

fn said_on(node: &str, seq: u64, health: u32) -> Envelope {
    let header = Header {
        cluster: cluster(),
        node: NodeId::new(node).unwrap(),
        boot: BootId([7; 16]),
        roster_epoch: 1,
        roster: fixture::DIGEST,
        policy: Digest::default(),
        persona: persona("otto"),
        incarnation: SessionIncarnation::new(WardenInstance(1), 1),
        session_key: session_key("otto").public(),
        seq,
        observed_at: Timestamp::ZERO,
    };
    let heartbeat = Heartbeat { header, attestations: vec![], health, heads: vec![], receipt: JournalHead::default() };
    Envelope::seal(&heartbeat, &session_key("otto"), &Proto)
}

fn window() -> StatementWindow {
    StatementWindow::new(verify_session(&session(1), &roster(), &Proto).unwrap())
}

fn observe(window: &mut StatementWindow, envelope: &Envelope) -> Observed {
    let statement = window.open(envelope, &Proto).unwrap();
    window.observe(&statement)
}

#[test]
fn two_payloads_with_one_number_are_a_proof_that_anybody_can_check() {
    let mut window = window();
    assert_eq!(observe(&mut window, &said(5, 0)), Observed::Newest);
    assert_eq!(observe(&mut window, &said(5, 0)), Observed::Repeated);
    assert_eq!(observe(&mut window, &said(4, 0)), Observed::Late);
    let Observed::Conflict(proof) = observe(&mut window, &said(5, 1)) else { panic!("a conflict") };
    let proven = proof.check(&roster(), &Proto).unwrap();
    assert_eq!((proven.persona.as_str(), proven.vendor.as_str(), proven.seq), ("otto", "anthropic", 5));
    assert_eq!((proven.first, proven.second), (said(5, 0).digest(), said(5, 1).digest()));
}

#[test]
fn a_window_is_bounded_and_keeps_the_newest() {
    let mut window = window();
    for seq in 1..=1_000 {
        observe(&mut window, &said(seq, 0));
    }
    assert_eq!(window.kept.len(), StatementWindow::CAPACITY);
    assert_eq!(window.head().unwrap().seq, 1_000);
    assert_eq!(window.get(1), None);
    assert_eq!(observe(&mut window, &said(1, 1)), Observed::TooOld, "what is gone cannot be compared");
    assert_eq!(window.bytes, window.kept.values().map(|(_, envelope)| envelope.payload.len()).sum::<usize>());
}

/// A heartbeat with a field that nobody knows, as large as it may be.
fn padded(seq: u64) -> Envelope {
    let mut envelope = said(seq, 0);
    let mut payload = envelope.payload.to_vec();
    let left = crate::wire::max_payload(Domain::Heartbeat) - payload.len();
    // Field 1000, of so many bytes.
    prost::encoding::encode_key(1000, prost::encoding::WireType::LengthDelimited, &mut payload);
    prost::encoding::encode_varint(left as u64 - 5, &mut payload);
    payload.resize(crate::wire::max_payload(Domain::Heartbeat), 0);
    envelope.signature = session_key("otto").sign(Domain::Heartbeat, &payload);
    envelope.payload = payload.into();
    envelope
}

#[test]
fn a_lie_is_kept_though_the_largest_statements_follow_it() {
    let mut window = window();
    observe(&mut window, &said(1, 0));
    // What may come at once.
    for seq in 2..=201 {
        observe(&mut window, &padded(seq));
    }
    assert!(matches!(observe(&mut window, &said(1, 1)), Observed::Conflict(_)));
}

#[test]
fn a_newer_session_of_the_same_key_keeps_the_window_and_an_older_one_changes_nothing() {
    let mut window = window();
    observe(&mut window, &said(5, 0));
    assert!(window.renew(verify_session(&session(2), &roster(), &Proto).unwrap()));
    assert!(!window.renew(verify_session(&session(1), &roster(), &Proto).unwrap()));
    assert!(matches!(observe(&mut window, &said(5, 1)), Observed::Conflict(_)), "under a new number it is still a lie");
}

#[test]
fn a_statement_of_another_node_is_not_the_sessions() {
    assert_eq!(window().open(&said_on("node2", 5, 0), &Proto), Err(WindowError::Inconsistent("node")));
}

#[test]
fn a_statement_under_a_session_that_is_yet_to_come_is_not_the_sessions() {
    let before = StatementWindow::new(verify_session(&session(0), &roster(), &Proto).unwrap());
    assert_eq!(before.open(&said(5, 0), &Proto), Err(WindowError::Inconsistent("incarnation")));
    assert!(window().open(&said(5, 0), &Proto).is_ok());
}

#[test]
fn a_proof_proves_nothing_unless_all_of_it_holds() {
    let proof = EquivocationProof { session: session(1), first: said(5, 0), second: said(5, 1) };
    let check = |proof: EquivocationProof| proof.check(&roster(), &Proto).map(|_| ());
    assert_eq!(check(proof.clone()), Ok(()));
    let same = EquivocationProof { second: said(5, 0), ..proof.clone() };
    assert_eq!(check(same), Err(ProofError::SameStatement(said(5, 0).digest())));
    let apart = EquivocationProof { second: said(6, 1), ..proof.clone() };
    assert_eq!(check(apart), Err(ProofError::DifferentNumbers { first: 5, second: 6 }));
    let elsewhere = EquivocationProof { second: said_on("node2", 5, 1), ..proof.clone() };
    assert_eq!(check(elsewhere), Err(ProofError::Inconsistent("node")));
    let mut damaged = proof;
    damaged.second.signature[3] ^= 1;
    assert!(matches!(check(damaged), Err(ProofError::Statement(OpenError::BadSignature(_)))));
}

#[test]
fn a_session_needs_the_warden_and_the_persona() {
    let check = |envelope: Envelope| verify_session(&envelope, &roster(), &Proto).map(|_| ());
    assert_eq!(check(session(1)), Ok(()));
    assert!(matches!(check(session_of(&request("otto"), "otto", "vera", 1)), Err(SessionError::Session(_))));
    assert!(matches!(check(session_of(&request("otto"), "vera", "warden", 1)), Err(SessionError::Request(_))));
    let foreign_key = check(session_of(&request("vera"), "otto", "warden", 1));
    assert_eq!(foreign_key, Err(SessionError::Inconsistent("session_key")));
    let foreign = SessionRequest { node: NodeId::new("node2").unwrap(), ..request("otto") };
    assert_eq!(check(session_of(&foreign, "otto", "warden", 1)), Err(SessionError::Inconsistent("node")));
}
