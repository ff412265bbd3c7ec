//! The committee that the targets know: a roster of three vendors with keys that anybody can make again, and one repair of lior,
//! as its warden would have written it.

use std::sync::OnceLock;
use std::time::Duration;
use zeta_bft::protocol::evidence::{Attestation, Evidence, FaultClass, Reason, Verdict};
use zeta_bft::protocol::roster::{Member, Roster, RosterStatement};
use zeta_bft::protocol::signing::SigningKey;
use zeta_bft::protocol::statement::{
    ActionCertificate, ActionKind, Choice, Envelope, EpisodeStatement, EquivocationProof, Header, Heartbeat,
    JournalHead, Outcome, Receipt, ReceiptKind, Session, SessionRequest, StateName, Vote,
};
use zeta_bft::protocol::types::{
    BootId, ClusterId, Digest, EpisodeId, Incarnation, InvocationId, NodeId, Nonce, PersonaId, Round, Rung,
    SessionIncarnation, SetEpoch, SubjectName, Timestamp, VendorId, WardenInstance,
};
use zeta_bft::wire::Proto;

/// Personas with their vendors.
pub(crate) const PERSONAS: [(&str, &str); 3] = [("lior", "google-gemini"), ("otto", "anthropic"), ("vera", "openai")];
/// The run that is repaired.
pub(crate) const RUN: Incarnation = Incarnation { boot: BootId([1; 16]), invocation: InvocationId([2; 16]) };
const POLICY: Digest = Digest([6; 32]);
const INCARNATION: SessionIncarnation = SessionIncarnation(9);

/// The key of a persona, of `warden` or of `operator`.
pub(crate) fn key(of: &str) -> SigningKey {
    SigningKey::from_seed(&Digest::of(of.as_bytes()).0)
}

/// The session key of a persona.
pub(crate) fn session_key(of: &str) -> SigningKey {
    key(&format!("{of}'s session"))
}

/// A statement of these bytes, signed, whatever the bytes say.
pub(crate) fn sealed(domain: zeta_bft::protocol::signing::Domain, payload: &[u8], key: &SigningKey) -> Envelope {
    Envelope { domain, payload: payload.into(), signature: key.sign(domain, payload), key: key.public() }
}

pub(crate) fn roster_statement() -> RosterStatement {
    let member = |(name, of): &(&str, &str)| Member {
        persona: PersonaId::new(name).expect("a persona"),
        vendor: VendorId::new(of).expect("a vendor"),
        key: key(name).public(),
    };
    RosterStatement {
        cluster: ClusterId::new("home").expect("a cluster"),
        node: NodeId::new("node1").expect("a node"),
        epoch: 1,
        previous: Digest::default(),
        members: PERSONAS.iter().map(member).collect(),
        f: 1,
        q: 2,
        warden: key("warden").public(),
        operator: key("operator").public(),
    }
}

/// The roster as its operator signed it.
pub(crate) fn sealed_roster() -> Envelope {
    Envelope::seal(&roster_statement(), &key("operator"), &Proto)
}

/// The roster.
pub(crate) fn roster() -> &'static Roster {
    static ROSTER: OnceLock<Roster> = OnceLock::new();
    ROSTER.get_or_init(|| Roster::open(&sealed_roster(), &Proto).expect("a good roster"))
}

fn at() -> Timestamp {
    Timestamp::from_nanos(9_000_000_000)
}

fn lior() -> SubjectName {
    SubjectName::new("lior").expect("a subject")
}

pub(crate) fn episode(round: u32) -> EpisodeStatement {
    EpisodeStatement {
        cluster: roster().cluster().clone(),
        node: roster().node().clone(),
        boot: RUN.boot,
        roster: roster().digest(),
        policy: POLICY,
        subject: lior(),
        id: EpisodeId::new(WardenInstance(3), 2),
        round: Round(round),
        nonce: Nonce([7; 16]),
        set_epoch: SetEpoch(0),
        incarnation: RUN,
        rung: Rung(0),
        state: StateName::Suspect,
        challenge: None,
        budget: 5,
    }
}

pub(crate) fn request(of: &str) -> SessionRequest {
    SessionRequest {
        cluster: roster().cluster().clone(),
        node: roster().node().clone(),
        persona: PersonaId::new(of).expect("a persona"),
        session_key: session_key(of).public(),
        nonce: Nonce([5; 16]),
        roster: roster().digest(),
        policy: POLICY,
    }
}

pub(crate) fn session(of: &str) -> Session {
    let persona = PersonaId::new(of).expect("a persona");
    Session {
        request: Envelope::seal(&request(of), &key(of), &Proto),
        cluster: roster().cluster().clone(),
        node: roster().node().clone(),
        boot: RUN.boot,
        unit: SubjectName::agent(&persona),
        persona,
        session_key: session_key(of).public(),
        incarnation: INCARNATION,
        uid: 1000,
        invocation: InvocationId([4; 16]),
    }
}

fn header(of: &str, seq: u64) -> Header {
    Header {
        cluster: roster().cluster().clone(),
        node: roster().node().clone(),
        boot: RUN.boot,
        roster_epoch: 1,
        roster: roster().digest(),
        policy: POLICY,
        persona: PersonaId::new(of).expect("a persona"),
        incarnation: INCARNATION,
        session_key: session_key(of).public(),
        seq,
        observed_at: at() - Duration::from_millis(3),
    }
}

fn attestation() -> Attestation {
    Attestation {
        subject: lior(),
        incarnation: RUN,
        verdict: Verdict::Down,
        class: Some(FaultClass::Crash),
        evidence: Evidence::Hard,
        reason: Reason::Killed,
        observation: Digest::default(),
        observed_at: at() - Duration::from_millis(3),
        resume_at: None,
    }
}

pub(crate) fn vote(of: &str, round: u32) -> Vote {
    let episode = episode(round);
    Vote {
        header: header(of, 5),
        episode: episode.id,
        round: episode.round,
        nonce: episode.nonce,
        set_epoch: episode.set_epoch,
        subject: episode.subject,
        incarnation: RUN,
        rung: episode.rung,
        class: FaultClass::Crash,
        choice: Choice::Approve,
        challenge: None,
        attestation: attestation(),
    }
}

pub(crate) fn heartbeat(of: &str, seq: u64, health: u32) -> Heartbeat {
    Heartbeat {
        header: header(of, seq),
        attestations: vec![attestation()],
        health,
        heads: Vec::new(),
        receipt: JournalHead::default(),
    }
}

/// INTENT of a restart of lior, on the votes of these personas.
pub(crate) fn intent(head: JournalHead, round: u32, voters: &[&str]) -> Receipt {
    let episode = episode(round);
    Receipt {
        cluster: episode.cluster.clone(),
        node: episode.node.clone(),
        boot: RUN.boot,
        warden: WardenInstance(3),
        seq: head.seq + 1,
        previous: head.hash,
        kind: ReceiptKind::Intent,
        episode: episode.id,
        round: episode.round,
        rung: Rung(0),
        subject: lior(),
        action: ActionKind::Restart,
        class: FaultClass::Crash,
        before: RUN,
        after: None,
        outcome: None,
        detail: String::new(),
        certificate: Some(ActionCertificate {
            episode: Envelope::seal(&episode, &key("warden"), &Proto),
            votes: voters.iter().map(|of| Envelope::seal(&vote(of, round), &session_key(of), &Proto)).collect(),
            sessions: voters.iter().map(|of| Envelope::seal(&session(of), &key("warden"), &Proto)).collect(),
        }),
        intent: None,
        at: at(),
        wall_ms: 1_700_000_000_000,
    }
}

/// OUTCOME of that INTENT.
pub(crate) fn outcome(intent: &Receipt, head: JournalHead) -> Receipt {
    Receipt {
        seq: head.seq + 1,
        previous: head.hash,
        kind: ReceiptKind::Outcome,
        outcome: Some(Outcome::Ok),
        after: Some(Incarnation { invocation: InvocationId([3; 16]), ..RUN }),
        certificate: None,
        intent: Some(intent.seq),
        ..intent.clone()
    }
}

/// Two statements of otto's under one number.
pub(crate) fn proof() -> EquivocationProof {
    let sealed = |health| Envelope::seal(&heartbeat("otto", 8, health), &session_key("otto"), &Proto);
    EquivocationProof {
        session: Envelope::seal(&session("otto"), &key("warden"), &Proto),
        first: sealed(0),
        second: sealed(1),
    }
}
