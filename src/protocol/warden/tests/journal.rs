//! What the journal carries over a restart, and what damage to it means.

use super::bench::*;
use super::*;

fn last_receipt(bench: &Bench) -> (u64, Envelope) {
    let receipt = bench.records.iter().rev().find_map(|(seq, record)| match record {
        Record::Receipt(envelope) => Some((*seq, envelope.clone())),
        _ => None,
    });
    receipt.expect("a receipt was written")
}

fn open_intent(bench: &Bench) -> OpenIntent {
    let (seq, receipt) = last_receipt(bench);
    let attempt = bench.warden.subjects[&subject("otto")].attempt();
    OpenIntent { seq, receipt, episode: attempt.episode, round: attempt.round }
}

#[test]
fn the_journal_carries_budgets_rungs_and_days_over_a_restart() {
    let mut bench = Bench::new();
    bench.crash_and_certify("otto");
    bench.pass(6 * S);
    let ledgers: Vec<_> = bench
        .records
        .iter()
        .filter_map(|(_, record)| match record {
            Record::Ledger(entry) => Some(entry.clone()),
            _ => None,
        })
        .collect();
    let recovered = Recovered { ledgers, instance: WardenInstance(1), ..Recovered::default() };
    let bench = Bench::recovered(policy(|_| {}), recovered);
    assert_eq!(bench.warden.subjects[&subject("otto")].ledger.tokens, 4);
    assert_eq!(bench.warden.node.spent_today(bench.warden.accumulated()), 1);
    assert_eq!(bench.warden.instance, WardenInstance(2));
}

#[test]
fn an_intent_without_an_end_is_never_executed_again() {
    let mut bench = Bench::new();
    bench.on_act = |_, _| {};
    bench.crash_and_certify("otto");
    let recovered =
        Recovered { open_intents: vec![open_intent(&bench)], instance: WardenInstance(1), ..Recovered::default() };
    // The unit has another incarnation by now: it was carried out.
    let bench = Bench::recovered(policy(|_| {}), recovered);
    assert!(bench.acts.is_empty());
    assert_eq!(bench.receipts(ReceiptKind::Outcome)[0].outcome, Some(Outcome::Inferred));
}

#[test]
fn an_open_intent_that_another_key_signed_holds_everything_with_a_page() {
    let mut bench = Bench::new();
    bench.on_act = |_, _| {};
    bench.crash_and_certify("otto");
    let mut open = open_intent(&bench);
    let receipt = Codec::<Receipt>::decode(&Proto, &open.receipt.payload).unwrap();
    open.receipt = Envelope::seal(&receipt, &key("stranger"), &Proto);
    let recovered = Recovered { open_intents: vec![open], instance: WardenInstance(1), ..Recovered::default() };
    let bench = Bench::recovered(policy(|_| {}), recovered);
    assert!(bench.warden.damage.is_some());
    assert_eq!(bench.pages, ["journal"]);
}

#[test]
fn a_damaged_journal_holds_everything_and_nothing_is_appended() {
    let recovered = Recovered { damage: Some("record 7 is damaged".into()), ..Recovered::default() };
    let mut bench = Bench::recovered(policy(|_| {}), recovered);
    bench.kill("otto");
    bench.tick(S);
    assert_eq!(bench.state("otto"), StateName::Held);
    assert!(bench.acts.is_empty() && bench.records.is_empty());
    assert_eq!(bench.pages, ["journal"]);
}

#[test]
fn a_receipt_above_the_journals_head_proves_a_rollback() {
    let mut ahead = Bench::new();
    ahead.crash_and_certify("otto");
    let mut behind = Bench::new();
    behind.step(WardenInput::ReceiptShown(last_receipt(&ahead).1));
    behind.crash_and_certify("otto");
    assert!(behind.acts.is_empty());
    assert_eq!(behind.state("otto"), StateName::Held);
}

#[test]
fn a_rollback_shows_even_when_other_records_took_the_place_of_the_lost_receipt() {
    let mut ahead = Bench::new();
    ahead.crash_and_certify("otto");
    let (_, lost) = last_receipt(&ahead);
    let mut behind = Bench::new();
    for _ in 0..10 {
        behind.order(OperatorOrder::Hold { subject: Some(subject("otto")), until: None });
    }
    behind.crash_and_certify("lior");
    let (_, own) = last_receipt(&behind);
    behind.step(WardenInput::ReceiptShown(own));
    assert_eq!(behind.state("vera"), StateName::Healthy, "its own receipts prove nothing against it");
    behind.step(WardenInput::ReceiptShown(lost));
    assert_eq!(behind.state("vera"), StateName::Held);
    assert!(behind.pages.contains(&"journal"));
}
