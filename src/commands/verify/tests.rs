//! Claims about what `verify` accepts and what it finds.

use super::*;
use crate::journal::{Journal, Salt, compact};
use crate::protocol::evidence::{Attestation, Evidence, FaultClass, Reason, Verdict};
use crate::protocol::roster::RosterStatement;
use crate::protocol::roster::fixture::{self, key, persona, roster, session_key, subject};
use crate::protocol::statement::{
    ActionCertificate, ActionKind, Choice, EpisodeStatement, Header, Outcome, Receipt, Session, SessionRequest,
    StateName, Vote,
};
use crate::protocol::types::*;
use crate::wire::encode_envelope;
use std::time::Duration;

/// INTENT of a restart of lior in a round, on the votes of these personas.
fn intent(roster: &Roster, head: JournalHead, round: u32, voters: &[&str]) -> Receipt {
    let run = Incarnation { boot: BootId([1; 16]), invocation: InvocationId([2; 16]) };
    let (cluster, node, at) = (roster.cluster().clone(), roster.node().clone(), Timestamp::from_nanos(9_000_000_000));
    let subject = subject("lior");
    let episode = EpisodeStatement {
        cluster: cluster.clone(),
        node: node.clone(),
        boot: run.boot,
        roster: roster.digest(),
        policy: Digest([6; 32]),
        subject: subject.clone(),
        id: EpisodeId::new(WardenInstance(3), 2),
        round: Round(round),
        nonce: Nonce([7; 16]),
        set_epoch: SetEpoch(0),
        incarnation: run,
        rung: Rung(0),
        state: StateName::Suspect,
        challenge: None,
        budget: 5,
    };
    let (mut votes, mut sessions) = (Vec::new(), Vec::new());
    for voter in voters {
        let (persona, signer) = (persona(voter), session_key(voter));
        let session_key = signer.public();
        let request = SessionRequest {
            cluster: cluster.clone(),
            node: node.clone(),
            persona: persona.clone(),
            session_key,
            nonce: Nonce([5; 16]),
            roster: roster.digest(),
            policy: episode.policy,
        };
        let session = Session {
            request: Envelope::seal(&request, &key(voter), &Proto),
            cluster: cluster.clone(),
            node: node.clone(),
            boot: run.boot,
            persona: persona.clone(),
            session_key,
            incarnation: SessionIncarnation(9),
            uid: 1000,
            unit: SubjectName::agent(&persona),
            invocation: InvocationId([4; 16]),
        };
        sessions.push(Envelope::seal(&session, &key("warden"), &Proto));
        let attestation = Attestation {
            subject: subject.clone(),
            incarnation: run,
            verdict: Verdict::Down,
            class: Some(FaultClass::Crash),
            evidence: Evidence::Hard,
            reason: Reason::Killed,
            observation: Digest::default(),
            observed_at: at - Duration::from_millis(3),
            resume_at: None,
        };
        let vote = Vote {
            header: Header {
                cluster: cluster.clone(),
                node: node.clone(),
                boot: run.boot,
                roster_epoch: 1,
                roster: roster.digest(),
                policy: episode.policy,
                persona,
                incarnation: SessionIncarnation(9),
                session_key,
                seq: 5,
                observed_at: attestation.observed_at,
            },
            episode: episode.id,
            round: episode.round,
            nonce: episode.nonce,
            set_epoch: episode.set_epoch,
            subject: subject.clone(),
            incarnation: run,
            rung: Rung(0),
            class: FaultClass::Crash,
            choice: Choice::Approve,
            challenge: None,
            attestation,
        };
        votes.push(Envelope::seal(&vote, &signer, &Proto));
    }
    Receipt {
        cluster,
        node,
        boot: run.boot,
        warden: WardenInstance(3),
        seq: head.seq + 1,
        previous: head.hash,
        kind: ReceiptKind::Intent,
        episode: episode.id,
        round: episode.round,
        rung: Rung(0),
        subject,
        action: ActionKind::Restart,
        class: FaultClass::Crash,
        before: run,
        after: None,
        outcome: None,
        detail: String::new(),
        certificate: Some(ActionCertificate {
            episode: Envelope::seal(&episode, &key("warden"), &Proto),
            votes,
            sessions,
        }),
        intent: None,
        at,
        wall_ms: 1,
    }
}

fn outcome(intent: &Receipt, head: JournalHead) -> Receipt {
    Receipt {
        seq: head.seq + 1,
        previous: head.hash,
        kind: ReceiptKind::Outcome,
        outcome: Some(Outcome::Ok),
        certificate: None,
        intent: Some(intent.seq),
        ..intent.clone()
    }
}

struct Bench {
    dir: tempfile::TempDir,
    journal: Journal,
    roster: Roster,
    receipts: Vec<(Receipt, Envelope)>,
}

impl Bench {
    /// A journal with three repairs.
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let journal = Journal::create(&dir.path().join("j"), Salt::new([3; 16])).unwrap();
        let mut bench = Self { dir, journal, roster: roster(), receipts: Vec::new() };
        bench.write(&Record::Boot { instance: WardenInstance(3), boot: BootId([1; 16]), at: Timestamp::ZERO });
        for round in 0..3 {
            let begin = intent(&bench.roster, bench.journal.head(), round, &["otto", "vera"]);
            bench.receipt(begin.clone());
            bench.receipt(outcome(&begin, bench.journal.head()));
        }
        bench
    }

    fn write(&mut self, record: &Record) {
        let head = self.journal.head();
        self.journal.append(head.seq + 1, head.hash, &Proto.encode(record)).unwrap();
        self.journal.sync().unwrap();
    }

    fn receipt(&mut self, receipt: Receipt) {
        let envelope = Envelope::seal(&receipt, &key("warden"), &Proto);
        self.write(&Record::Receipt(envelope.clone()));
        self.receipts.push((receipt, envelope));
    }

    fn bytes(&self) -> Vec<u8> {
        std::fs::read(self.dir.path().join("j")).unwrap()
    }

    fn check(&self, files: &[&[u8]]) -> (usize, String) {
        let mut inspection = Inspection::new(self.roster.clone());
        files.iter().for_each(|bytes| inspection.file("F", bytes));
        inspection.compare_with_journals();
        (inspection.faults, inspection.lines.join("\n"))
    }

    /// What `history --json` prints of the repair with this number.
    fn line(&self, number: usize) -> HistoryEntry {
        let (begin, end) = (&self.receipts[2 * number], &self.receipts[2 * number + 1]);
        let base64 = |envelope| data_encoding::BASE64.encode(&encode_envelope(envelope));
        HistoryEntry {
            seq: end.0.seq,
            kind: "OUTCOME".into(),
            episode: "3.2".into(),
            round: end.0.round.0,
            subject: "lior".into(),
            action: "restart".into(),
            fault_class: "CRASH".into(),
            outcome: Some("ok".into()),
            at: crate::inspect::rfc3339_ms(end.0.wall_ms),
            before: end.0.before.to_string(),
            voters: vec!["otto".into(), "vera".into()],
            receipt: base64(&end.1),
            intent: Some(base64(&begin.1)),
            ..HistoryEntry::default()
        }
    }

    fn history(&self, lines: &[HistoryEntry]) -> Vec<u8> {
        lines.iter().map(|line| serde_json::to_string(line).unwrap() + "\n").collect::<String>().into_bytes()
    }
}

#[test]
fn in_an_empty_file_there_is_nothing_to_verify_and_no_fault() {
    for empty in [&b""[..], b"\n"] {
        let mut inspection = Inspection::new(Bench::new().roster);
        inspection.file("h", empty);
        assert_eq!((inspection.faults, inspection.empty), (0, 1));
        assert_eq!(inspection.lines, ["h: empty: there is nothing to verify"]);
    }
}

#[test]
fn a_journal_is_told_line_by_line() {
    let bench = Bench::new();
    let (faults, text) = bench.check(&[&bench.bytes()]);
    assert_eq!(faults, 0, "{text}");
    let lines: Vec<_> = text.lines().collect();
    assert_eq!(lines.len(), 7, "{text}");
    let first = "receipt 2: restart of lior in episode 3.2 after CRASH: 2 of 2 vendors (anthropic, openai): ok";
    assert_eq!(lines[0], first);
    assert_eq!(lines[1], "receipt 3: restart of lior in episode 3.2 after CRASH: OUTCOME ok, ends receipt 2: ok");
    assert_eq!(lines[6], "F: 7 records, 6 receipts, up to record 7, chained without a gap: ok");
}

#[test]
fn a_flipped_bit_anywhere_in_a_journal_is_found_or_cuts_the_last_record_off() {
    let bench = Bench::new();
    let bytes = bench.bytes();
    let scan = journal::scan(&bytes);
    let last = usize::try_from(scan.records.last().unwrap().at).unwrap();
    for at in (0..last).step_by(97).chain(0..64) {
        let mut bytes = bytes.clone();
        bytes[at] ^= 4;
        assert!(bench.check(&[&bytes]).0 > 0, "byte {at}");
    }
}

#[test]
fn a_compacted_journal_still_holds() {
    let mut bench = Bench::new();
    let records = journal::scan(&bench.bytes()).records;
    compact(&mut bench.journal, Salt::new([4; 16]), &records, &key("warden"), &Proto).unwrap();
    let begin = intent(&bench.roster, bench.journal.head(), 9, &["otto", "vera"]);
    bench.receipt(begin);
    let (faults, text) = bench.check(&[&bench.bytes()]);
    assert_eq!(faults, 0, "{text}");
    assert!(text.contains("compacted after record 7: ok"), "{text}");
}

#[test]
fn a_receipt_without_a_quorum_is_found_with_its_numbers() {
    let mut bench = Bench::new();
    let alone = intent(&bench.roster, bench.journal.head(), 5, &["otto"]);
    bench.receipt(alone);
    let (faults, text) = bench.check(&[&bench.bytes()]);
    assert!(faults > 0 && text.contains("1 of 2 eligible vendors voted, 2 are required"), "{text}");
}

#[test]
fn history_is_checked_against_the_signed_receipts_in_it() {
    let bench = Bench::new();
    let lines: Vec<_> = (0..3).map(|number| bench.line(number)).collect();
    let (faults, text) = bench.check(&[&bench.history(&lines)]);
    assert_eq!((faults, text.lines().count()), (0, 6), "{text}");

    let mut lying = lines.clone();
    lying[1].subject = "vera".into();
    let (faults, text) = bench.check(&[&bench.history(&lying)]);
    assert!(faults == 1 && text.contains("F, line 2: NOT OK: its `subject`"), "{text}");

    type Lie = fn(&mut HistoryEntry);
    let said: [(&str, Lie); 5] = [
        ("at", |line| line.at = "2026-01-02T03:04:05Z".into()),
        ("before", |line| line.before.clear()),
        ("after", |line| line.after = Some("somewhere".into())),
        ("voters", |line| line.voters = vec!["otto".into(), "lior".into()]),
        ("voters", |line| line.intent = None),
    ];
    for (field, lie) in said {
        let mut lying = lines.clone();
        lie(&mut lying[1]);
        let (faults, text) = bench.check(&[&bench.history(&lying)]);
        assert!(faults > 0 && text.contains(&format!("F, line 2: NOT OK: its `{field}`")), "{field}: {text}");
    }
    let mut swapped = lines.clone();
    swapped[1].intent = lines[2].intent.clone();
    let (faults, text) = bench.check(&[&bench.history(&swapped)]);
    assert!(faults > 0 && text.contains("F, line 2: NOT OK: its `intent`"), "{text}");

    let mut forged = lines.clone();
    forged[0].receipt = "AAAA".into();
    assert!(bench.check(&[&bench.history(&forged)]).0 > 0);
    assert!(bench.check(&[b"{}\n"]).0 > 0);
    assert!(bench.check(&[b"{ not json"]).0 > 0);
}

#[test]
fn a_quarantine_rests_on_a_proof_against_that_very_persona() {
    let sealed = |health| {
        let vote = intent(&roster(), JournalHead::default(), health, &["otto"]).certificate.unwrap();
        vote.votes[0].clone()
    };
    let begin = intent(&roster(), JournalHead::default(), 0, &["otto"]).certificate.unwrap();
    let proof = EquivocationProof { session: begin.sessions[0].clone(), first: sealed(0), second: sealed(1) };
    for (name, holds) in [("otto", true), ("vera", false)] {
        let mut bench = Bench::new();
        bench.write(&Record::Quarantine { persona: persona(name), proof: proof.clone() });
        let (faults, text) = bench.check(&[&bench.bytes()]);
        assert_eq!(faults == 0, holds, "{text}");
        assert!(holds || text.contains("quarantine of vera: NOT OK: the proof is against otto"), "{text}");
    }
}

#[test]
fn a_roster_is_good_only_when_it_is_the_nodes_own_or_one_that_this_follows_from() {
    let signed = |epoch, previous, warden: &str, operator: &str| {
        let (warden, operator) = (key(warden), key(operator));
        let statement = RosterStatement {
            epoch,
            previous,
            warden: warden.public(),
            operator: operator.public(),
            ..fixture::statement(&fixture::PERSONAS)
        };
        Envelope::seal(&statement, &operator, &Proto)
    };
    let first = signed(1, Digest::default(), "warden", "operator");
    let second = signed(2, first.digest(), "warden", "operator");
    let strangers = signed(1, Digest::default(), "stranger", "mallory");
    let branch = signed(2, first.digest(), "stranger", "operator");
    let newer = signed(3, second.digest(), "stranger", "mallory");
    let unlinked = "nothing known links it to roster 2";
    let cases = [
        // A stranger's under the same number does not hide the one that is followed from.
        (vec![&strangers, &first, &second], vec!["another one than the roster 1 that roster 2 follows from"]),
        (vec![&first, &second], vec![]),
        (vec![&second], vec![]),
        (vec![&strangers, &second], vec![unlinked]),
        (vec![&first, &branch], vec!["another one than the roster 2 that this is checked with"]),
        (vec![&first, &second, &newer], vec!["newer than roster 2"]),
    ];
    for (rosters, wrong) in cases {
        let mut bench = Bench::new();
        bench.roster = Roster::open(&second, &Proto).unwrap();
        bench.journal = Journal::create(&bench.dir.path().join("k"), Salt::new([5; 16])).unwrap();
        rosters.iter().for_each(|roster| bench.write(&Record::Roster((*roster).clone())));
        let bytes = std::fs::read(bench.dir.path().join("k")).unwrap();
        let (faults, text) = bench.check(&[&bytes]);
        // And the line of the journal itself.
        assert_eq!(faults, if wrong.is_empty() { 0 } else { wrong.len() + 1 }, "{text}");
        assert_eq!(text.matches(": ok").count(), rosters.len() + 1 - faults, "{text}");
        wrong.iter().for_each(|why| assert!(text.contains(why), "{why} is not in {text}"));
    }
    let mut bench = Bench::new();
    bench.roster = Roster::open(&second, &Proto).unwrap();
    for (envelope, holds) in [(&second, true), (&first, false), (&strangers, false), (&newer, false)] {
        let (faults, text) = bench.check(&[&encode_envelope(envelope)]);
        assert_eq!(faults == 0, holds, "{text}");
    }
    let mut inspection = Inspection::new(bench.roster.clone());
    inspection.know_earlier(|_, _| Roster::open(&first, &Proto).ok());
    inspection.file("roster.1", &encode_envelope(&first));
    assert_eq!(inspection.lines, ["roster.1: roster 1 of node node1: ok"]);
}

#[test]
fn one_kept_receipt_holds_alone_and_shows_a_rolled_back_journal() {
    let bench = Bench::new();
    let newest = encode_envelope(&bench.receipts[5].1);
    assert_eq!(bench.check(&[&newest]).0, 0);
    assert_eq!(bench.check(&[&newest, &bench.bytes()]).0, 0);
    let whole = bench.bytes();
    let cut = usize::try_from(journal::scan(&whole).records[4].at).unwrap();
    let (faults, text) = bench.check(&[&newest, &whole[..cut]]);
    assert!(faults == 1 && text.contains("receipt 7 is above its head 4: it was rolled back"), "{text}");
}

#[test]
fn hostile_files_are_refused_without_a_panic() {
    let bench = Bench::new();
    let journal = bench.bytes();
    let (receipt, history) = (encode_envelope(&bench.receipts[0].1), bench.history(&[bench.line(0)]));
    for bytes in [&receipt, &history] {
        for at in (0..bytes.len()).step_by(5) {
            let mut flipped = bytes.clone();
            flipped[at] ^= 0x11;
            bench.check(&[&bytes[..at]]);
            let found = bench.check(&[&flipped]).0;
            assert!(found > 0 || bytes == &history, "byte {at} of {}", bytes.len());
        }
    }
    for junk in [&b"\0\0\0"[..], &[0xff; 100], b"zbftjrnl", &journal[..20]] {
        let (faults, text) = bench.check(&[junk]);
        assert!(faults > 0 || text.contains(" 0 records"), "{text}");
    }
}
