//! From certificate to outcome: at most once, on the run that was voted on, a slot at a time.

use super::bench::*;
use super::*;

#[test]
fn a_crash_seen_by_two_vendors_is_repaired_once_with_one_intent_and_one_outcome() {
    let mut bench = Bench::new();
    bench.crash_and_certify("otto");
    assert_eq!(bench.acts.len(), 1);
    assert_eq!(bench.state("otto"), StateName::Settling);
    bench.pass(6 * S);
    assert_eq!(bench.state("otto"), StateName::Healthy);
    assert_eq!((bench.receipts(ReceiptKind::Intent).len(), bench.receipts(ReceiptKind::Outcome).len()), (1, 1));
    let certificate = bench.receipts(ReceiptKind::Intent)[0].certificate.clone().unwrap();
    assert_eq!((certificate.votes.len(), certificate.sessions.len()), (2, 2));
}

#[test]
fn nothing_is_done_before_intent_is_on_the_disk() {
    let mut bench = Bench::new();
    bench.stalled = true;
    bench.crash_and_certify("otto");
    assert_eq!(bench.receipts(ReceiptKind::Intent).len(), 1);
    bench.tick(S);
    assert!(bench.acts.is_empty());
    // What was written before it is on the disk first.
    let last = bench.waiting.pop().expect("INTENT waits for the disk");
    bench.sync();
    assert!(bench.waiting.is_empty(), "nobody looks at the unit yet: {:?}", bench.waiting);
    bench.waiting.push(last);
    bench.unstall();
    assert_eq!(bench.acts.len(), 1);
}

#[test]
fn what_the_last_look_shows_otherwise_than_it_was_certified_is_left_alone() {
    type Change = fn(&mut UnitState);
    let runs: Change = |unit| (unit.activity, unit.main_pid) = (Activity::Active, Some(77));
    let queued: Change = |unit| unit.job_pending = true;
    for (class, change, detail) in
        [(FaultClass::Crash, runs, "state_changed"), (FaultClass::Hang, queued, "job_pending")]
    {
        let mut bench = Bench::new();
        if class == FaultClass::Crash {
            bench.kill("otto");
        }
        bench.stalled = true;
        bench.accuse("otto", class);
        bench.tick(200 * MS);
        assert_eq!(bench.state("otto"), StateName::Acting, "{detail}");
        bench.set("otto", change);
        bench.unstall();
        assert!(bench.acts.is_empty(), "{detail}");
        assert_eq!(bench.receipts(ReceiptKind::Abort)[0].detail, detail);
    }
}

#[test]
fn a_last_look_that_comes_too_late_permits_nothing() {
    let mut bench = Bench::new();
    bench.stalled = true;
    bench.crash_and_certify("otto");
    bench.sync();
    // PID 1 answers before the warden's own timer is served.
    bench.now = bench.now + bench.policy.timing.act_timeout;
    bench.unstall();
    assert!(bench.acts.is_empty());
    assert_eq!(bench.receipts(ReceiptKind::Abort)[0].detail, "too_late");
}

#[test]
fn the_process_that_hung_is_not_the_new_one() {
    let mut bench = Bench::new();
    bench.on_act = |_, _| {};
    bench.accuse("otto", FaultClass::Hang);
    bench.tick(200 * MS);
    assert_eq!((bench.acts.len(), bench.state("otto")), (1, StateName::Acting));
    assert!(bench.receipts(ReceiptKind::Outcome).is_empty());
    bench.start("otto");
    assert_eq!(bench.receipts(ReceiptKind::Outcome)[0].outcome, Some(Outcome::Ok));
}

#[test]
fn what_runs_again_while_its_repair_waits_for_a_slot_is_certified_no_more() {
    let mut bench = Bench::new();
    bench.on_act = |_, _| {};
    bench.crash_and_certify("otto");
    bench.crash_and_certify("vera");
    assert_eq!((bench.acts.len(), bench.state("vera")), (1, StateName::Certified));
    bench.set("vera", |unit| (unit.activity, unit.main_pid) = (Activity::Active, Some(77)));
    assert_eq!(bench.state("vera"), StateName::Suspect);
}

#[test]
fn a_last_look_that_pid_1_never_answers_ends_in_no_action_and_a_free_slot() {
    let mut bench = Bench::new();
    bench.stalled = true;
    bench.crash_and_certify("otto");
    bench.sync();
    bench.tick(11 * S);
    assert!(bench.acts.is_empty());
    assert_eq!(bench.receipts(ReceiptKind::Abort)[0].detail, "too_late");
    bench.unstall();
    assert!(bench.acts.is_empty());
}

#[test]
fn a_unit_that_came_back_by_itself_is_left_alone() {
    let mut bench = Bench::new();
    bench.stalled = true;
    bench.crash_and_certify("otto");
    bench.start("otto");
    bench.unstall();
    assert!(bench.acts.is_empty());
    assert_eq!(bench.receipts(ReceiptKind::Abort)[0].detail, "other_incarnation");
    bench.pass(3 * S);
    assert_eq!(bench.state("otto"), StateName::Healthy);
}

#[test]
fn where_nobody_can_be_asked_to_act_a_human_is_called_and_no_repair_is_spent() {
    let mut bench = Bench::with(|policy| policy.timing.cool_down = Duration::ZERO);
    bench.on_act = |_, _| {};
    bench.acts_return = false;
    let tokens = |bench: &Bench| bench.warden.subjects[&subject("otto")].ledger.tokens;
    let full = tokens(&bench);
    bench.crash_and_certify("otto");
    for tries in 1..=2 * full as usize {
        assert_eq!(bench.acts.len(), tries, "{:?}", bench.state("otto"));
        let attempt = bench.acts[tries - 1].1;
        let result = Err(NotDone::NotAsked("the hand is away".to_owned()));
        // The disk answers after the step, not within it.
        bench.stalled = true;
        bench.step(WardenInput::Acted { attempt, result, output: String::new() });
        bench.unstall();
        assert_eq!(tokens(&bench), full, "nothing was done");
        bench.accuse("otto", FaultClass::Crash);
    }
    assert_eq!(bench.pages.iter().filter(|cause| **cause == "not_asked").count(), 1, "{:?}", bench.pages);
    assert!(!bench.pages.contains(&"budget_spent"));
}

#[test]
fn a_change_that_overtakes_the_last_look_is_not_forgotten_for_it() {
    let mut bench = Bench::new();
    bench.on_act = |_, _| {};
    bench.acts_return = false;
    bench.stalled = true;
    bench.crash_and_certify("otto");
    bench.sync();
    bench.set("otto", |unit| unit.stop_requested = true);
    // What the last look saw comes after what happened later.
    bench.unstall();
    let attempt = bench.acts[0].1;
    let result = Err(NotDone::Untouched("a job is queued".to_owned()));
    bench.step(WardenInput::Acted { attempt, result, output: String::new() });
    bench.tick(MS);
    assert_eq!(bench.state("otto"), StateName::Operator, "PID 1's newest word counts");
}

#[test]
fn what_pid_1_left_untouched_spends_no_rung_and_a_stop_meanwhile_is_the_operators() {
    let mut bench = Bench::new();
    bench.on_act = |_, _| {};
    bench.acts_return = false;
    bench.crash_and_certify("otto");
    let attempt = bench.acts[0].1;
    bench.set("otto", |unit| unit.stop_requested = true);
    let why = "otto.service is the operator's (stopped)".to_owned();
    bench.step(WardenInput::Acted { attempt, result: Err(NotDone::Untouched(why.clone())), output: String::new() });
    bench.tick(MS);
    assert_eq!(bench.state("otto"), StateName::Operator);
    assert_eq!(bench.receipts(ReceiptKind::Abort)[0].detail, why);
    assert_eq!(bench.receipts(ReceiptKind::Outcome).len(), 0);
    assert_eq!(bench.episodes[&subject("otto")].rung, Rung(0));
}

#[test]
fn an_act_that_brings_no_process_gives_its_slot_back_after_act_timeout() {
    let mut bench = Bench::new();
    bench.on_act = |_, _| {};
    bench.crash_and_certify("otto");
    bench.pass_saying(9 * S, &[("otto", FaultClass::Crash)]);
    bench.crash_and_certify("vera");
    assert_eq!(bench.acts.len(), 1);
    bench.tick(S);
    assert_eq!(bench.acts.len(), 2);
    assert_eq!(bench.receipts(ReceiptKind::Outcome)[0].outcome, Some(Outcome::Failed));
}

#[test]
fn a_command_that_takes_longer_than_act_timeout_gives_its_slot_back_and_still_has_its_own_limit() {
    let argv = vec!["/usr/bin/reinstall".into()];
    let mut bench = Bench::with(|policy| {
        let otto = policy.subjects.get_mut(&subject("otto")).unwrap();
        otto.ladder[0].action = Action::Run { argv, limit: 60 * S };
    });
    bench.on_act = |_, _| {};
    bench.acts_return = false;
    bench.crash_and_certify("otto");
    bench.pass_saying(11 * S, &[("otto", FaultClass::Crash)]);
    assert_eq!(bench.state("otto"), StateName::Acting);
    bench.crash_and_certify("vera");
    assert_eq!(bench.acts.len(), 2, "the slot is free after act_timeout");
    let attempt = bench.acts[0].1;
    let output = "reinstalled".to_owned();
    bench.step(WardenInput::Acted { attempt, result: Ok(()), output });
    let outcome = bench.receipts(ReceiptKind::Outcome).into_iter().find(|receipt| receipt.subject == subject("otto"));
    let outcome = outcome.expect("an OUTCOME of otto's");
    assert_eq!((outcome.outcome, outcome.detail.as_str()), (Some(Outcome::Ok), "reinstalled"));
}

#[test]
fn one_at_a_time_is_repaired_and_all_three_come_back() {
    let mut bench = Bench::new();
    bench.on_act = |_, _| {};
    for name in ["otto", "lior", "vera"] {
        bench.kill(name);
    }
    for name in ["otto", "lior", "vera"] {
        bench.accuse(name, FaultClass::Crash);
    }
    let order: Vec<_> = bench.acts.iter().map(|(name, ..)| name.to_string()).collect();
    assert_eq!(order, ["otto"], "the others wait for the slot");
    bench.start("otto");
    assert_eq!(bench.acts.len(), 2, "running gives the slot back");
    bench.start("lior");
    bench.start("vera");
    assert_eq!(bench.acts.len(), 3);
}

#[test]
fn a_subject_that_cools_down_keeps_no_place_from_its_vendors_others() {
    let mut bench = Bench::new();
    for _ in 0..4 {
        bench.crash_and_certify("otto");
        bench.pass(6 * S);
    }
    assert_eq!(bench.acts.len(), 4);
    bench.crash_and_certify("otto");
    assert_eq!((bench.acts.len(), bench.state("otto")), (4, StateName::Certified), "it cools down for 2 s more");
    bench.crash_and_certify("otto/agent");
    assert_eq!(bench.acts.len(), 5);
}

#[test]
fn observe_mode_says_what_it_would_have_done_once_and_touches_nothing() {
    let mut bench = Bench::with(|policy| policy.mode = Mode::Observe);
    for _ in 0..5 {
        bench.crash_and_certify("otto");
        bench.pass_saying(6 * S, &[("otto", FaultClass::Crash)]);
    }
    assert!(bench.acts.is_empty());
    assert_eq!(bench.receipts(ReceiptKind::WouldAct).len(), 1);
    assert_eq!(bench.warden.subjects[&subject("otto")].ledger.tokens, 5);
    assert_ne!(bench.state("otto"), StateName::Held);
}

#[test]
fn observe_mode_repeats_itself_for_no_class_that_it_has_named_already() {
    let mut bench = Bench::with(|policy| policy.mode = Mode::Observe);
    for _ in 0..3 {
        for class in [FaultClass::Hang, FaultClass::Broken] {
            for _ in 0..2 {
                bench.accuse("otto", class);
            }
            bench.tick(200 * MS);
            bench.pass(6 * S);
        }
    }
    assert_eq!(bench.receipts(ReceiptKind::WouldAct).len(), 2);
}
