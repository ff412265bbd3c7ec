//! Claims about what a certificate must show, each by breaking one thing in one that holds.

use super::super::evidence::{Attestation, Reason, Verdict};
use super::super::roster::fixture::{self, key, persona, session_key, subject};
use super::super::signing::{SigningKey, VerifyingKey};
use super::super::statement::{ActionKind, Header, Session, SessionRequest, StateName};
use super::super::types::{
    BootId, ClusterId, EpisodeId, Incarnation, InvocationId, NodeId, Nonce, PublicKey, Round, Rung, SessionIncarnation,
    SetEpoch, Timestamp, WardenInstance,
};
use super::*;
use crate::wire::Proto;

const NOW: Timestamp = Timestamp::from_nanos(100_000_000_000);

struct Bench {
    roster: Roster,
    episode: EpisodeStatement,
    receipt: Receipt,
    votes: Vec<(Vote, SigningKey)>,
    sessions: Vec<Envelope>,
}

/// Vic is a second persona of vera's vendor.
fn roster() -> Roster {
    let personas = [&fixture::PERSONAS[..], &[("vic", "openai")]].concat();
    Roster::new(fixture::statement(&personas), fixture::DIGEST).unwrap()
}

fn session(roster: &Roster, name: &str, session_key: PublicKey, incarnation: u64) -> Envelope {
    let request = SessionRequest {
        cluster: roster.cluster().clone(),
        node: roster.node().clone(),
        persona: persona(name),
        session_key,
        nonce: Nonce([5; 16]),
        roster: roster.digest(),
        policy: Digest([6; 32]),
    };
    let session = Session {
        request: Envelope::seal(&request, &key(name), &Proto),
        cluster: roster.cluster().clone(),
        node: roster.node().clone(),
        boot: BootId([1; 16]),
        persona: persona(name),
        session_key,
        incarnation: SessionIncarnation(incarnation),
        uid: 1000,
        unit: SubjectName::agent(&persona(name)),
        invocation: InvocationId([4; 16]),
    };
    Envelope::seal(&session, &key("warden"), &Proto)
}

impl Bench {
    /// A restart of `target` after `class`, on the votes of `voters`.
    fn new(target: &str, class: FaultClass, voters: &[&str]) -> Self {
        let roster = roster();
        let run = Incarnation { boot: BootId([1; 16]), invocation: InvocationId([2; 16]) };
        let episode = EpisodeStatement {
            cluster: roster.cluster().clone(),
            node: roster.node().clone(),
            boot: run.boot,
            roster: roster.digest(),
            policy: Digest([6; 32]),
            subject: subject(target),
            id: EpisodeId::new(WardenInstance(3), 2),
            round: Round(1),
            nonce: Nonce([7; 16]),
            set_epoch: SetEpoch(4),
            incarnation: run,
            rung: Rung(0),
            state: StateName::Healthy,
            challenge: None,
            budget: 5,
        };
        let receipt = Receipt {
            cluster: roster.cluster().clone(),
            node: roster.node().clone(),
            boot: run.boot,
            warden: WardenInstance(3),
            seq: 17,
            previous: Digest([8; 32]),
            kind: ReceiptKind::Intent,
            episode: episode.id,
            round: episode.round,
            rung: episode.rung,
            subject: episode.subject.clone(),
            action: ActionKind::Restart,
            class,
            before: run,
            after: None,
            outcome: None,
            detail: String::new(),
            certificate: None,
            intent: None,
            at: NOW,
            wall_ms: 0,
        };
        let mut bench = Self { roster, episode, receipt, votes: Vec::new(), sessions: Vec::new() };
        voters.iter().for_each(|voter| bench.add_vote(voter));
        bench
    }

    fn add_vote(&mut self, voter: &str) {
        let (session_key, e) = (session_key(voter), &self.episode);
        self.sessions.push(session(&self.roster, voter, session_key.public(), 9));
        let attestation = Attestation {
            subject: e.subject.clone(),
            incarnation: e.incarnation,
            verdict: Verdict::Down,
            class: Some(self.receipt.class),
            evidence: self.receipt.class.evidence(),
            reason: Reason::Killed,
            observation: Digest::default(),
            observed_at: NOW - Duration::from_millis(300),
            resume_at: None,
        };
        let vote = Vote {
            header: Header {
                cluster: e.cluster.clone(),
                node: e.node.clone(),
                boot: e.boot,
                roster_epoch: 1,
                roster: e.roster,
                policy: e.policy,
                persona: persona(voter),
                incarnation: SessionIncarnation(9),
                session_key: session_key.public(),
                seq: 5,
                observed_at: attestation.observed_at,
            },
            episode: e.id,
            round: e.round,
            nonce: e.nonce,
            set_epoch: e.set_epoch,
            subject: e.subject.clone(),
            incarnation: e.incarnation,
            rung: e.rung,
            class: self.receipt.class,
            choice: Choice::Approve,
            challenge: None,
            attestation,
        };
        self.votes.push((vote, session_key));
    }

    fn certificate(&self) -> ActionCertificate {
        ActionCertificate {
            episode: Envelope::seal(&self.episode, &key("warden"), &Proto),
            votes: self.votes.iter().map(|(vote, key)| Envelope::seal(vote, key, &Proto)).collect(),
            sessions: self.sessions.clone(),
        }
    }

    fn check(&self) -> Result<CheckedCertificate, CertificateError> {
        self.certificate().check(&self.receipt, &self.roster, &Proto)
    }

    fn sealed(&self, change: impl FnOnce(&mut Receipt)) -> Envelope {
        let mut receipt = Receipt { certificate: Some(self.certificate()), ..self.receipt.clone() };
        change(&mut receipt);
        Envelope::seal(&receipt, &key("warden"), &Proto)
    }
}

fn crash() -> Bench {
    Bench::new("lior", FaultClass::Crash, &["otto", "vera"])
}

#[test]
fn votes_of_two_other_vendors_authorise_a_repair() {
    let checked = crash().check().unwrap();
    assert_eq!(checked.vendors().iter().map(VendorId::as_str).collect::<Vec<_>>(), ["anthropic", "openai"]);
    assert_eq!((checked.required(), checked.eligible()), (2, 2));
    assert_eq!(checked.votes()[0].age, Duration::from_millis(300));
    let k3s = Bench::new("k3s", FaultClass::Broken, &["otto", "lior", "vera"]).check().unwrap();
    assert_eq!((k3s.vendors().len(), k3s.eligible()), (3, 3));
    Bench::new("lior/agent", FaultClass::Hang, &["otto", "vera"]).check().unwrap();
}

#[test]
fn one_vendor_is_one_vote_however_many_personas_it_has() {
    let wanted = CertificateError::NotEnoughVendors { voted: 1, required: 2, eligible: 2 };
    for voters in [&["vera", "vic"][..], &["vera", "vera"], &["vera"]] {
        assert_eq!(Bench::new("lior", FaultClass::Crash, voters).check().unwrap_err(), wanted);
    }
    let nobody = Bench::new("k3s", FaultClass::Crash, &[]).check().unwrap_err();
    assert_eq!(nobody, CertificateError::NotEnoughVendors { voted: 0, required: 2, eligible: 3 });
}

#[test]
fn a_subjects_own_vendor_has_no_vote_not_even_a_persona_beside_it() {
    for (target, voters) in [("lior", ["otto", "lior"]), ("lior/agent", ["otto", "lior"]), ("vera", ["otto", "vic"])] {
        let error = Bench::new(target, FaultClass::Crash, &voters).check().unwrap_err();
        assert!(matches!(error, CertificateError::OwnVendor { .. }), "{target}: {error}");
    }
}

#[test]
fn a_vote_for_anything_else_spoils_the_certificate() {
    type Change = fn(&mut Vote);
    let cases: [(&str, Change); 20] = [
        ("persona", |v| v.header.persona = persona("vera")),
        ("session incarnation", |v| v.header.incarnation = SessionIncarnation(8)),
        ("session_key", |v| v.header.session_key = key("stranger").public()),
        ("cluster", |v| v.header.cluster = ClusterId::new("d").unwrap()),
        ("node", |v| v.header.node = NodeId::new("m").unwrap()),
        ("boot", |v| v.header.boot = BootId([9; 16])),
        ("roster", |v| v.header.roster_epoch = 2),
        ("roster", |v| v.header.roster = Digest([9; 32])),
        ("policy", |v| v.header.policy = Digest([9; 32])),
        ("episode", |v| v.episode = EpisodeId(1)),
        ("round", |v| v.round = Round(0)),
        ("nonce", |v| v.nonce = Nonce([0; 16])),
        ("set_epoch", |v| v.set_epoch = SetEpoch(5)),
        ("subject", |v| v.subject = subject("vera")),
        ("subject", |v| v.attestation.subject = subject("vera")),
        ("incarnation", |v| v.incarnation.invocation = InvocationId([9; 16])),
        ("incarnation", |v| v.attestation.incarnation.boot = BootId([9; 16])),
        ("rung", |v| v.rung = Rung(1)),
        ("choice", |v| v.choice = Choice::Withdraw),
        ("fault_class", |v| v.class = FaultClass::Hang),
    ];
    for (wanted, change) in cases {
        let mut bench = crash();
        change(&mut bench.votes[0].0);
        match bench.check().unwrap_err() {
            CertificateError::VoteDiffers { field, .. } => assert_eq!(field, wanted),
            other => panic!("{wanted}: {other}"),
        }
    }
    let attestations: [fn(&mut Attestation); 3] = [
        |a| (a.verdict, a.class) = (Verdict::Up, None),
        |a| a.verdict = Verdict::Unknown,
        |a| a.class = Some(FaultClass::Broken),
    ];
    for change in attestations {
        let mut bench = crash();
        change(&mut bench.votes[0].0.attestation);
        assert!(matches!(bench.check(), Err(CertificateError::VoteDiffers { field: "attestation", .. })));
    }
}

#[test]
fn an_observation_counts_only_while_it_is_fresh_and_never_from_the_future() {
    let aged = |age: Duration| {
        let mut bench = crash();
        bench.votes[1].0.attestation.observed_at = NOW - age;
        bench.check()
    };
    aged(Duration::ZERO).unwrap();
    aged(MAX_AGE).unwrap();
    let (old, persona) = (MAX_AGE + Duration::from_nanos(1), persona("vera"));
    assert_eq!(aged(old).unwrap_err(), CertificateError::Stale { persona: persona.clone(), age: Some(old) });
    let mut bench = crash();
    bench.votes[1].0.attestation.observed_at = NOW + Duration::from_nanos(1);
    assert_eq!(bench.check().unwrap_err(), CertificateError::Stale { persona, age: None });
}

#[test]
fn a_soft_vote_on_a_persona_does_not_outlive_its_guardian_set() {
    let older = |target: &str, class| {
        let mut bench = Bench::new(target, class, &["otto", "vera"]);
        bench.votes[0].0.set_epoch = SetEpoch(3);
        bench.check()
    };
    assert!(matches!(older("lior", FaultClass::Hang), Err(CertificateError::VoteDiffers { field: "set_epoch", .. })));
    older("lior", FaultClass::Crash).unwrap();
    older("k3s", FaultClass::Broken).unwrap();
}

#[test]
fn a_vote_needs_a_session_that_the_warden_and_the_persona_both_signed() {
    let mut bench = crash();
    bench.sessions.remove(0);
    assert_eq!(bench.check().unwrap_err(), CertificateError::NoSession { index: 0 });

    let mut bench = crash();
    let warden = VerifyingKey::new(key("warden").public()).unwrap();
    let forged = bench.sessions[0].open::<Session>(&warden, &Proto).unwrap();
    bench.sessions[0] = Envelope::seal(&forged.into_inner(), &key("stranger"), &Proto);
    assert!(matches!(bench.check(), Err(CertificateError::Session { index: 0, .. })));

    let mut bench = crash();
    bench.votes[0].1 = session_key("lior");
    assert!(matches!(bench.check(), Err(CertificateError::NoSession { .. })));

    let mut certificate = crash().certificate();
    certificate.votes[0].signature[3] ^= 1;
    let error = certificate.check(&crash().receipt, &roster(), &Proto).unwrap_err();
    assert!(matches!(error, CertificateError::Vote { .. }), "{error}");
}

#[test]
fn a_session_renewed_under_its_key_still_vouches_for_its_votes() {
    let mut bench = crash();
    let renewed = session(&bench.roster, "otto", session_key("otto").public(), 12);
    bench.sessions.insert(0, renewed);
    bench.check().unwrap();
}

#[test]
fn the_episode_must_be_the_wardens_and_the_receipts() {
    type Change = fn(&mut Receipt);
    let cases: [(&str, Change); 8] = [
        ("cluster", |r| r.cluster = ClusterId::new("d").unwrap()),
        ("node", |r| r.node = NodeId::new("m").unwrap()),
        ("boot", |r| r.boot = BootId([9; 16])),
        ("subject", |r| r.subject = subject("vera")),
        ("episode", |r| r.episode = EpisodeId(1)),
        ("round", |r| r.round = Round(2)),
        ("rung", |r| r.rung = Rung(2)),
        ("incarnation", |r| r.before = Incarnation::default()),
    ];
    for (wanted, change) in cases {
        let mut bench = crash();
        change(&mut bench.receipt);
        assert_eq!(bench.check().unwrap_err(), CertificateError::EpisodeDiffers(wanted));
    }
    let mut certificate = crash().certificate();
    certificate.episode = Envelope::seal(&crash().episode, &key("stranger"), &Proto);
    let error = certificate.check(&crash().receipt, &roster(), &Proto).unwrap_err();
    assert!(matches!(error, CertificateError::Episode(_)));
    let mut bench = crash();
    bench.episode.roster = Digest([9; 32]);
    assert!(matches!(bench.check(), Err(CertificateError::OtherRoster { .. })));
}

#[test]
fn environment_operator_and_unknown_never_authorise_anything() {
    for class in [FaultClass::Environment, FaultClass::Operator, FaultClass::Unknown] {
        let mut bench = crash();
        bench.receipt.class = class;
        assert_eq!(bench.check().unwrap_err(), CertificateError::ClassNotVotable(class));
    }
}

#[test]
fn a_receipt_is_the_wardens_and_carries_what_its_kind_needs() {
    let bench = crash();
    let check = |envelope: &Envelope| check_receipt(envelope, &bench.roster, &Proto);
    assert!(check(&bench.sealed(|_| {})).unwrap().certificate().is_some());
    let outcome = |r: &mut Receipt| {
        (r.kind, r.certificate, r.intent, r.outcome) = (ReceiptKind::Outcome, None, Some(17), Some(Outcome::Ok));
    };
    assert!(check(&bench.sealed(outcome)).unwrap().certificate().is_none());
    let afterword = |r: &mut Receipt| {
        (r.kind, r.certificate, r.outcome) = (ReceiptKind::Outcome, None, Some(Outcome::Unconfirmed));
    };
    check(&bench.sealed(afterword)).unwrap();

    let wrong = |envelope: &Envelope| match check(envelope).unwrap_err() {
        ReceiptError::Misshapen { field, .. } => field,
        other => panic!("{other}"),
    };
    assert_eq!(wrong(&bench.sealed(|r| r.certificate = None)), "certificate");
    assert_eq!(wrong(&bench.sealed(|r| r.intent = Some(3))), "intent");
    assert_eq!(wrong(&bench.sealed(|r| r.outcome = Some(Outcome::Ok))), "outcome");
    let endless =
        |r: &mut Receipt| (r.kind, r.certificate, r.outcome) = (ReceiptKind::Outcome, None, Some(Outcome::Ok));
    assert_eq!(wrong(&bench.sealed(endless)), "intent");
    assert_eq!(wrong(&bench.sealed(|r| (r.kind, r.certificate) = (ReceiptKind::Abort, None))), "intent");
    assert!(matches!(
        check(&bench.sealed(|r| r.node = NodeId::new("m").unwrap())),
        Err(ReceiptError::Elsewhere("node"))
    ));
    let forged = Envelope::seal(&bench.receipt, &key("stranger"), &Proto);
    assert!(matches!(check(&forged), Err(ReceiptError::Receipt(_))));
    let mut one_vote = crash();
    one_vote.votes.pop();
    assert!(matches!(
        check(&one_vote.sealed(|_| {})),
        Err(ReceiptError::Certificate(CertificateError::NotEnoughVendors { voted: 1, .. }))
    ));
}

#[test]
fn receipts_that_contradict_each_other_are_named() {
    let bench = crash();
    let intent = |seq| check_receipt(&bench.sealed(|r| r.seq = seq), &bench.roster, &Proto).unwrap();
    let end = |seq, ends, change: fn(&mut Receipt)| {
        let sealed = bench.sealed(|r| {
            (r.kind, r.certificate) = (ReceiptKind::Outcome, None);
            (r.seq, r.intent, r.outcome) = (seq, Some(ends), Some(Outcome::Ok));
            change(r);
        });
        check_receipt(&sealed, &bench.roster, &Proto).unwrap()
    };
    let run = |receipts: &[&CheckedReceipt]| {
        let mut sequence = ReceiptSequence::default();
        receipts.iter().try_for_each(|receipt| sequence.take(receipt, &Proto))
    };
    let begin = intent(17);
    run(&[&begin, &begin, &end(20, 17, |_| {})]).unwrap();
    run(&[&end(20, 17, |_| {}), &end(22, 18, |r| r.round = Round(9))]).unwrap();
    assert_eq!(run(&[&begin, &end(17, 1, |_| {})]), Err(SequenceError::Forked { seq: 17 }));
    assert_eq!(run(&[&begin, &end(9, 1, |_| {})]), Err(SequenceError::OutOfOrder { seq: 9, last: 17 }));
    assert!(matches!(run(&[&begin, &intent(19)]), Err(SequenceError::BegunTwice { first: 17, second: 19, .. })));
    assert_eq!(run(&[&begin, &end(20, 19, |_| {})]), Err(SequenceError::NoIntent { seq: 20, intent: 19 }));
    assert_eq!(
        run(&[&begin, &end(20, 17, |r| r.rung = Rung(1))]),
        Err(SequenceError::IntentDiffers { seq: 20, intent: 17, field: "attempt" })
    );
    assert_eq!(
        run(&[&begin, &end(20, 17, |_| {}), &end(21, 17, |_| {})]).unwrap_err(),
        SequenceError::Unchained { seq: 21 }
    );
    assert_eq!(
        run(&[&begin, &end(20, 17, |_| {}), &end(22, 17, |_| {})]),
        Err(SequenceError::EndedTwice { intent: 17, first: 20, second: 22 })
    );
}
