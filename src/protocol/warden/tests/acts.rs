//! Claims about what comes between the permit and the outcome.

use super::*;

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
fn what_pid_1_left_untouched_spends_no_rung_and_a_stop_meanwhile_is_the_operators() {
    let mut bench = Bench::new();
    bench.on_act = |_, _| {};
    bench.acts_return = false;
    bench.crash_and_certify("otto");
    let attempt = bench.acts[0].1;
    let stopped = UnitState { stop_requested: true, ..bench.units[&subject("otto")] };
    bench.units.insert(subject("otto"), stopped);
    bench.step(WardenInput::UnitChanged { subject: subject("otto"), state: Some(stopped) });
    let why = "otto.service is the operator's (stopped)".to_owned();
    bench.step(WardenInput::Acted { attempt, result: Err(NotDone::Untouched(why.clone())), output: String::new() });
    bench.tick(MS);
    assert_eq!(bench.state("otto"), StateName::Operator);
    assert_eq!(bench.receipts(ReceiptKind::Abort)[0].detail, why);
    assert_eq!(bench.receipts(ReceiptKind::Outcome).len(), 0);
    assert_eq!(bench.episodes[&subject("otto")].rung, Rung(0));
}

#[test]
fn a_change_that_overtakes_the_last_look_is_not_forgotten_for_it() {
    let mut bench = Bench::new();
    bench.on_act = |_, _| {};
    bench.acts_return = false;
    bench.stalled = true;
    bench.crash_and_certify("otto");
    let synced = |input: &WardenInput| matches!(input, WardenInput::Synced(_));
    while let Some(at) = bench.waiting.iter().position(synced) {
        let input = bench.waiting.remove(at);
        bench.step(input);
    }
    let stopped = UnitState { stop_requested: true, ..bench.units[&subject("otto")] };
    bench.step(WardenInput::UnitChanged { subject: subject("otto"), state: Some(stopped) });
    // What the last look saw comes after what happened later.
    bench.unstall();
    let attempt = bench.acts[0].1;
    let result = Err(NotDone::Untouched("a job is queued".to_owned()));
    bench.step(WardenInput::Acted { attempt, result, output: String::new() });
    bench.tick(MS);
    assert_eq!(bench.state("otto"), StateName::Operator, "PID 1's newest word counts");
}
