//! Claims about what a journal means.

use super::super::*;
use crate::protocol::evidence::FaultClass;
use crate::protocol::record::{Forgiveness, LedgerEntry, OperatorOrder, Record};
use crate::protocol::roster::RosterStatement;
use crate::protocol::roster::fixture::{self, subject};
use crate::protocol::signing::{SigningKey, VerifyingKey};
use crate::protocol::statement::{ActionKind, Codec as _, Envelope, EquivocationProof, Outcome, Receipt, ReceiptKind};
use crate::protocol::types::{
    BootId, ClusterId, EpisodeId, Incarnation, NodeId, PersonaId, Round, Rung, SessionIncarnation, Timestamp,
    WardenInstance,
};
use crate::protocol::warden::Recovered;
use crate::wire::Proto;
use std::time::Duration;

struct Bench {
    disk: super::MemoryDisk,
    journal: Journal<super::MemoryDisk>,
    key: SigningKey,
}

impl Bench {
    fn new() -> Self {
        let disk = super::MemoryDisk::new(None);
        let journal = Journal::create_on(disk.clone(), super::SALT).unwrap();
        Self { disk, journal, key: SigningKey::from_seed(&[9; 32]) }
    }

    fn write(&mut self, record: &Record) -> u64 {
        super::append(&mut self.journal, &Proto.encode(record)).unwrap();
        self.journal.sync().unwrap().seq
    }

    fn receipt(&mut self, kind: ReceiptKind, intent: Option<u64>) -> u64 {
        let head = self.journal.head();
        let receipt = Receipt {
            cluster: ClusterId::new("c").unwrap(),
            node: NodeId::new("n").unwrap(),
            boot: BootId([1; 16]),
            warden: WardenInstance(1),
            seq: head.seq + 1,
            previous: head.hash,
            kind,
            episode: EpisodeId(7),
            round: Round(1),
            rung: Rung(0),
            subject: subject("lior"),
            action: ActionKind::Restart,
            class: FaultClass::Crash,
            before: Incarnation::default(),
            after: None,
            outcome: (kind == ReceiptKind::Outcome).then_some(Outcome::Ok),
            detail: String::new(),
            certificate: None,
            intent,
            at: Timestamp::from_nanos(5),
            wall_ms: 5,
        };
        let envelope = Envelope::seal(&receipt, &self.key, &Proto);
        self.write(&Record::Receipt(envelope))
    }

    fn order(&mut self, order: OperatorOrder) {
        let readmits = matches!(order, OperatorOrder::Readmit { .. });
        let before = SessionIncarnation::new(WardenInstance(1), 7);
        let burnt = Some(self.key.public());
        let forgiveness = readmits.then_some(Forgiveness { before, burnt, answered: None });
        self.write(&Record::Operator { uid: 0, order, reason: "because".into(), wall: 1, forgiveness });
    }

    fn ledger(&mut self, subject: &str, tokens: u32) {
        let second = Duration::from_secs(1);
        self.write(&Record::Ledger(LedgerEntry {
            subject: Some(self::subject(subject)),
            tokens,
            spent_today: 1,
            day_began: second,
            accumulated: second,
            rung: Rung(0),
            cool_down: second,
            cool_down_from: second,
            exhausted: false,
            tried: 0,
        }));
    }

    fn records(&self) -> Vec<StoredRecord> {
        Journal::open_on(self.disk.clone()).unwrap().records
    }

    fn recover(&self) -> Recovered {
        recover(&self.records(), None, &VerifyingKey::new(self.key.public()).unwrap(), &Proto)
    }
}

fn hold(name: Option<&str>) -> OperatorOrder {
    OperatorOrder::Hold { subject: name.map(subject), until: None }
}

fn boot(instance: u32) -> Record {
    Record::Boot { instance: WardenInstance(instance), boot: BootId([3; 16]), at: Timestamp::ZERO }
}

fn proof(key: &SigningKey) -> EquivocationProof {
    let envelope = Envelope::seal(&crate::protocol::record::CompactedHead(JournalHead::default()), key, &Proto);
    EquivocationProof { session: envelope.clone(), first: envelope.clone(), second: envelope }
}

/// Everything that a recovery says, comparable.
fn facts(r: &Recovered) -> String {
    format!(
        "{:?} {:?} {:?} {:?} {:?} {:?} {:?} {:?} {:?}",
        r.instance, r.boot, r.ledgers, r.open_intents, r.holds, r.quarantined, r.readmitted, r.receipts, r.damage
    )
}

fn busy() -> (Bench, u64) {
    let mut bench = Bench::new();
    bench.write(&boot(1));
    for round in 0..300 {
        let intent = bench.receipt(ReceiptKind::Intent, None);
        bench.receipt(if round % 2 == 0 { ReceiptKind::Outcome } else { ReceiptKind::Abort }, Some(intent));
        bench.ledger(if round % 3 == 0 { "lior" } else { "vera" }, round);
    }
    bench.write(&boot(2));
    for order in
        [hold(Some("otto")), hold(Some("lior")), OperatorOrder::Release { subject: Some(subject("otto")) }, hold(None)]
    {
        bench.order(order);
    }
    for persona in ["lior", "vera"] {
        let proof = proof(&bench.key);
        bench.write(&Record::Quarantine { persona: PersonaId::new(persona).unwrap(), proof });
    }
    bench.order(OperatorOrder::Readmit { persona: PersonaId::new("lior").unwrap() });
    let open = bench.receipt(ReceiptKind::Intent, None);
    (bench, open)
}

#[test]
fn a_recovery_holds_what_is_in_force_and_nothing_that_ended() {
    let (bench, open) = busy();
    let found = bench.recover();
    assert_eq!((found.head, found.instance), (bench.journal.head(), WardenInstance(2)));
    assert_eq!(found.boot, Some(BootId([3; 16])));
    assert_eq!(found.open_intents.iter().map(|i| (i.seq, i.episode)).collect::<Vec<_>>(), [(open, EpisodeId(7))]);
    let tokens = |name| found.ledgers.iter().find(|l| l.subject == Some(subject(name))).unwrap().tokens;
    assert_eq!((found.ledgers.len(), tokens("lior"), tokens("vera")), (2, 297, 299));
    assert_eq!(
        found.holds.iter().map(|(_, order, _)| order.clone()).collect::<Vec<_>>(),
        [hold(None), hold(Some("lior"))]
    );
    assert_eq!(found.quarantined.iter().map(|(p, _)| p.as_str()).collect::<Vec<_>>(), ["vera"]);
    assert_eq!((found.receipts.len(), found.damage), (Recovered::RECEIPTS, None));
}

#[test]
fn releasing_all_ends_every_hold() {
    let mut bench = Bench::new();
    bench.order(hold(Some("otto")));
    bench.order(hold(None));
    bench.order(OperatorOrder::Release { subject: None });
    assert!(bench.recover().holds.is_empty());
}

#[test]
fn a_compaction_changes_nothing_that_a_recovery_says_and_makes_the_file_small() {
    let (mut bench, _) = busy();
    let (before, size, records) = (bench.recover(), bench.journal.size(), bench.records());
    let head =
        compact(&mut bench.journal, super::OTHER_SALT, &records, &SigningKey::from_seed(&[9; 32]), &Proto).unwrap();
    let after = bench.recover();
    assert_eq!(facts(&before), facts(&after));
    assert_eq!(after.head, head);
    assert!(head.seq > before.head.seq, "no receipt of before stands above the head");
    assert!(bench.journal.size() < size / 2, "{} of {size}", bench.journal.size());
    // And again, with what came since.
    bench.receipt(ReceiptKind::Intent, None);
    let (before, records) = (bench.recover(), bench.records());
    compact(&mut bench.journal, super::OTHER_SALT, &records, &SigningKey::from_seed(&[9; 32]), &Proto).unwrap();
    assert_eq!(facts(&before), facts(&bench.recover()));
}

#[test]
fn a_receipt_of_another_key_or_another_place_is_damage_and_what_stood_before_is_kept() {
    let mut bench = Bench::new();
    bench.write(&boot(4));
    let good = bench.journal.head();
    bench.key = SigningKey::from_seed(&[8; 32]);
    bench.receipt(ReceiptKind::Intent, None);
    bench.key = SigningKey::from_seed(&[9; 32]);
    let found = bench.recover();
    assert!(found.damage.unwrap().contains("record 2"));
    assert_eq!((found.head, found.instance, found.open_intents.len()), (good, WardenInstance(4), 0));
    let records = bench.records();
    let refused = compact(&mut bench.journal, super::OTHER_SALT, &records, &bench.key, &Proto);
    assert!(matches!(refused, Err(JournalError::Damaged(_))));

    let mut bench = Bench::new();
    bench.receipt(ReceiptKind::Intent, None);
    let Record::Receipt(copied) = Proto.decode(&bench.records()[0].encoded).unwrap() else { panic!("a receipt") };
    bench.write(&Record::Receipt(copied));
    assert!(bench.recover().damage.unwrap().contains("receipt for place 1"));
}

#[test]
fn bytes_that_are_no_record_and_a_journal_without_its_beginning_are_damage() {
    let mut bench = Bench::new();
    super::append(&mut bench.journal, b"\xff\xff").unwrap();
    assert!(bench.recover().damage.is_some());

    let mut bench = Bench::new();
    bench.write(&boot(1));
    bench.write(&boot(2));
    let found = recover(&bench.records()[1..], None, &VerifyingKey::new(bench.key.public()).unwrap(), &Proto);
    assert!(found.damage.unwrap().contains("begins in the middle"));
}

fn roster(epoch: u64, warden: &SigningKey) -> Record {
    let statement = RosterStatement { epoch, warden: warden.public(), ..fixture::statement(&fixture::PERSONAS) };
    Record::Roster(Envelope::seal(&statement, &fixture::key("operator"), &Proto))
}

#[test]
fn what_an_earlier_key_of_the_wardens_signed_counts_by_the_rosters_in_the_journal() {
    let mut bench = Bench::new();
    let old = SigningKey::from_seed(&[9; 32]);
    let new = SigningKey::from_seed(&[10; 32]);
    let intent = bench.receipt(ReceiptKind::Intent, None);
    bench.receipt(ReceiptKind::Outcome, Some(intent));
    let recovered = |bench: &Bench| {
        let opened = Journal::open_on(bench.disk.clone()).unwrap();
        recover(&opened.records, None, &VerifyingKey::new(new.public()).unwrap(), &Proto)
    };
    assert!(recovered(&bench).damage.is_some(), "nobody vouches for the key that signed");
    bench.write(&roster(1, &old));
    bench.write(&roster(2, &new));
    bench.key = SigningKey::from_seed(&[10; 32]);
    bench.receipt(ReceiptKind::WouldAct, None);
    assert_eq!((recovered(&bench).damage, recovered(&bench).receipts.len()), (None, 3));

    let Opened { mut journal, records, .. } = Journal::open_on(bench.disk.clone()).unwrap();
    assert_eq!(last_roster(&records, &Proto).unwrap().epoch(), 2);
    compact(&mut journal, super::OTHER_SALT, &records, &bench.key, &Proto).unwrap();
    assert_eq!((recovered(&bench).damage, recovered(&bench).receipts.len()), (None, 3), "and after a compaction");
}
