//! The operator wins: holds, stops and approvals.

use super::bench::*;
use super::*;

#[test]
fn a_hold_placed_after_intent_still_wins() {
    let mut bench = Bench::new();
    bench.stalled = true;
    bench.crash_and_certify("otto");
    bench.step(WardenInput::Ordered {
        uid: 0,
        order: OperatorOrder::Hold { subject: Some(subject("otto")), until: None },
        reason: "upgrade".into(),
        reply: ReplyTo(3),
    });
    bench.unstall();
    assert!(bench.acts.is_empty());
    assert_eq!(bench.receipts(ReceiptKind::Abort)[0].detail, "hold");
    assert_eq!(bench.state("otto"), StateName::Held);
}

#[test]
fn a_held_subject_is_left_dead_until_it_is_released_or_the_hold_ends() {
    let mut bench = Bench::new();
    let until = bench.wall_ms / 1000 + 60;
    let hold = OperatorOrder::Hold { subject: Some(subject("otto")), until: Some(until) };
    assert!(matches!(bench.order(hold), Answer::Done(_)));
    bench.crash_and_certify("otto");
    bench.pass_saying(30 * S, &[("otto", FaultClass::Crash)]);
    assert_eq!((bench.acts.len(), bench.state("otto")), (0, StateName::Held));
    bench.pass_saying(31 * S, &[("otto", FaultClass::Crash)]);
    bench.vote("lior", "otto", FaultClass::Crash);
    bench.vote("vera", "otto", FaultClass::Crash);
    assert_eq!(bench.acts.len(), 1);
}

#[test]
fn a_hold_that_ended_wakes_nobody_any_more_and_none_ends_too_late_to_be_counted() {
    let mut bench = Bench::new();
    bench.order(OperatorOrder::Hold { subject: Some(subject("vera")), until: Some(u64::MAX) });
    let until = Some(bench.wall_ms / 1000 + 1);
    bench.order(OperatorOrder::Hold { subject: Some(subject("otto")), until });
    assert!(bench.warden.next_deadline().is_some_and(|at| at <= bench.now + S + MS));
    bench.tick(3 * S);
    assert_eq!((bench.state("otto"), bench.state("vera")), (StateName::Healthy, StateName::Held));
    assert!(bench.warden.next_deadline().is_none_or(|at| at > bench.now + S), "{:?}", bench.warden.next_deadline());
}

#[test]
fn what_the_operator_stopped_stays_stopped_until_it_is_started_again() {
    let mut bench = Bench::new();
    bench.set("otto", |unit| {
        unit.activity = Activity::Inactive;
        unit.last_exit = LastExit::Code(0);
        unit.stop_requested = true;
        unit.main_pid = None;
    });
    assert_eq!(bench.state("otto"), StateName::Operator);
    // The same run now looks like a crash: it is still the operator's.
    bench.crash_and_certify("otto");
    bench.set("otto", |unit| unit.stop_requested = false);
    bench.accuse("otto", FaultClass::Crash);
    assert!(bench.acts.is_empty());
    bench.start("otto");
    assert_eq!(bench.state("otto"), StateName::Healthy);
}

#[test]
fn a_rung_with_consent_waits_for_the_operator_and_for_fresh_votes_after() {
    let mut bench = Bench::with(|policy| {
        let rung = RungPolicy { action: Action::Restart, consent: Consent::QuorumAndOperator };
        policy.subjects.get_mut(&subject("otto")).unwrap().ladder = vec![rung];
    });
    bench.crash_and_certify("otto");
    assert_eq!((bench.state("otto"), bench.acts.len()), (StateName::AwaitingApproval, 0));
    let episode = bench.episodes[&subject("otto")].id;
    assert!(matches!(bench.order(OperatorOrder::Approve { episode }), Answer::Done(_)));
    assert!(bench.acts.is_empty());
    bench.accuse("otto", FaultClass::Crash);
    assert_eq!(bench.acts.len(), 1);
}

#[test]
fn an_approval_is_for_the_fault_at_hand_and_for_no_later_one() {
    for another_run in [true, false] {
        let mut bench = Bench::with(|policy| {
            let rung = RungPolicy { action: Action::Restart, consent: Consent::QuorumAndOperator };
            policy.subjects.get_mut(&subject("otto")).unwrap().ladder = vec![rung];
        });
        bench.crash_and_certify("otto");
        let episode = bench.episodes[&subject("otto")].id;
        bench.order(OperatorOrder::Approve { episode });
        // Before anybody votes again, it is well.
        if another_run {
            bench.start("otto");
        }
        bench.pass(2 * S);
        assert_eq!(bench.state("otto"), StateName::Healthy);
        bench.crash_and_certify("otto");
        assert_eq!((bench.state("otto"), bench.acts.len()), (StateName::AwaitingApproval, 0));
    }
}
