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
fn an_intent_that_left_its_run_as_it_was_is_abandoned_and_never_executed_again() {
    let mut bench = Bench::new();
    bench.on_act = |_, _| {};
    bench.crash_and_certify("otto");
    // The first instance over again: it finds the very run that INTENT names.
    let recovered = Recovered { open_intents: vec![open_intent(&bench)], ..Recovered::default() };
    let bench = Bench::recovered(policy(|_| {}), recovered);
    assert!(bench.acts.is_empty());
    assert_eq!(bench.receipts(ReceiptKind::Outcome)[0].outcome, Some(Outcome::Abandoned));
}

/// A warden that starts anew and finds otto's restart under way: the new run starts, and its job never ends.
fn reconciling(activity: Activity) -> Bench {
    let mut bench = Bench::new();
    bench.on_act = |_, _| {};
    bench.crash_and_certify("otto");
    let recovered =
        Recovered { open_intents: vec![open_intent(&bench)], instance: WardenInstance(1), ..Recovered::default() };
    let before = bench.units[&subject("otto")].incarnation;
    let bench = Bench::recovered_where(policy(|_| {}), recovered, |bench, name| {
        if name != "otto" {
            return bench.start(name);
        }
        let begun = Incarnation { boot: BootId([9; 16]), invocation: InvocationId([200; 16]) };
        let seen = if activity == Activity::Activating { begun } else { before };
        let job = UnitState { activity, main_pid: Some(200), job_pending: true, ..UnitState::never_started(seen) };
        bench.set(name, |unit| *unit = job);
    });
    assert_eq!(bench.state("otto"), StateName::Reconciling);
    bench
}

#[test]
fn an_intent_whose_start_never_ends_is_reconciled_after_act_timeout() {
    let mut bench = reconciling(Activity::Activating);
    bench.pass(bench.policy.timing.act_timeout);
    assert_eq!(bench.receipts(ReceiptKind::Outcome)[0].outcome, Some(Outcome::Inferred));
    assert_eq!((bench.state("otto"), bench.acts.len()), (StateName::Settling, 0));
}

#[test]
fn an_intent_whose_unit_is_still_being_stopped_is_no_earlier_called_abandoned_than_it_is() {
    let mut bench = reconciling(Activity::Deactivating);
    bench.pass(3 * bench.policy.timing.act_timeout);
    assert_eq!(bench.state("otto"), StateName::Reconciling);
    assert!(!bench.warden.subjects[&subject("otto")].state.holds_slot(bench.now), "it waits alone");
    bench.start("otto");
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
fn over_a_journal_that_was_rolled_back_nobody_is_even_challenged() {
    let mut ahead = Bench::new();
    ahead.crash_and_certify("otto");
    let mut behind = Bench::new();
    behind.step(WardenInput::ReceiptShown(last_receipt(&ahead).1));
    behind.accuse("otto", FaultClass::Hang);
    behind.tick(MS);
    assert!(behind.challenges.is_empty());
    assert_eq!(behind.warden.subjects[&subject("otto")].state, State::Healthy);
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

/// The same receipt at another place.
fn moved(receipt: &Envelope, seq: u64) -> Envelope {
    let receipt = Codec::<Receipt>::decode(&Proto, &receipt.payload).unwrap();
    Envelope::seal(&Receipt { seq, ..receipt }, &key("warden"), &Proto)
}

#[test]
fn a_rollback_shows_to_every_warden_that_starts_after_it() {
    let mut ahead = Bench::new();
    ahead.crash_and_certify("otto");
    let (_, lost) = last_receipt(&ahead);
    // Another warden has written over the lost receipt's place, and ended before any agent came.
    let head = JournalHead { seq: 1000, ..JournalHead::default() };
    let recovered = Recovered { head, instance: WardenInstance(2), ..Recovered::default() };
    let mut behind = Bench::recovered(policy(|_| {}), recovered);
    behind.step(WardenInput::ReceiptShown(lost));
    assert_eq!(behind.state("otto"), StateName::Held);
}

#[test]
fn a_receipt_that_a_full_list_left_out_proves_nothing_and_one_that_it_should_have_does() {
    let mut ahead = Bench::new();
    ahead.crash_and_certify("otto");
    let (_, any) = last_receipt(&ahead);
    let receipts: Vec<_> = (0..Recovered::RECEIPTS as u64).map(|n| moved(&any, 1000 + 2 * n)).collect();
    let head = JournalHead { seq: 5000, ..JournalHead::default() };
    let recovered = Recovered { head, receipts, instance: WardenInstance(2), ..Recovered::default() };
    let mut bench = Bench::recovered(policy(|_| {}), recovered);
    for known_or_older in [999, 1000, 1002] {
        bench.step(WardenInput::ReceiptShown(moved(&any, known_or_older)));
        assert_eq!(bench.state("otto"), StateName::Healthy, "receipt {known_or_older}");
    }
    bench.step(WardenInput::ReceiptShown(moved(&any, 1001)));
    assert_eq!(bench.state("otto"), StateName::Held);
}
