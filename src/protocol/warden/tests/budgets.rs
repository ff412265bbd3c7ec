//! How often something is repaired, and how repairs are earned back.

use super::bench::*;
use super::*;

/// Two repairs each, without a cool-down; a minute of active time earns one back.
fn earning() -> Bench {
    Bench::with(|policy| {
        policy.timing.cool_down = Duration::ZERO;
        for subject in policy.subjects.values_mut() {
            subject.budget = BudgetPolicy { capacity: 2, refill: 60 * S, per_day: 100 };
        }
    })
}

#[test]
fn a_spent_budget_holds_the_subject_and_active_time_earns_it_back() {
    let mut bench = earning();
    for _ in 0..3 {
        bench.crash_and_certify("otto");
        bench.pass(6 * S);
    }
    assert_eq!((bench.acts.len(), bench.state("otto")), (2, StateName::Held));
    assert!(bench.pages.contains(&"budget_spent"));
    bench.start("otto");
    bench.pass(61 * S);
    assert_eq!(bench.state("otto"), StateName::Healthy);
    bench.crash_and_certify("otto");
    assert_eq!(bench.acts.len(), 3);
}

#[test]
fn a_lone_liar_keeps_nobody_from_earning_its_repairs_back() {
    let mut bench = earning();
    bench.crash_and_certify("otto");
    bench.pass(6 * S);
    for _ in 0..300 {
        bench.tick(250 * MS);
        bench.heartbeat("vera", &[]);
        bench.heartbeat("lior", &[("otto", FaultClass::Hang)]);
    }
    assert_eq!(bench.warden.subjects[&subject("otto")].ledger.tokens, 2);
}

#[test]
fn what_is_restarted_in_between_was_not_active_without_interruption() {
    let mut bench = earning();
    bench.crash_and_certify("otto");
    bench.pass(6 * S);
    for _ in 0..5 {
        bench.pass(20 * S);
        bench.start("otto");
    }
    assert_eq!(bench.warden.subjects[&subject("otto")].ledger.tokens, 1);
    bench.pass(61 * S);
    assert_eq!(bench.warden.subjects[&subject("otto")].ledger.tokens, 2);
}

#[test]
fn what_is_broken_earns_no_repairs_by_merely_running() {
    let mut bench = earning();
    for _ in 0..3 {
        bench.crash_and_certify("otto");
        bench.pass(6 * S);
    }
    bench.start("otto");
    assert_eq!(bench.state("otto"), StateName::Held);
    bench.pass_saying(90 * S, &[("otto", FaultClass::Broken)]);
    assert_eq!(bench.state("otto"), StateName::Held);
    bench.pass(61 * S);
    assert_eq!(bench.state("otto"), StateName::Healthy);
}

#[test]
fn a_node_with_fewer_repairs_a_day_than_vendors_still_makes_them() {
    let mut bench = Bench::with(|policy| policy.node_per_day = 2);
    for name in ["otto", "vera", "lior"] {
        bench.crash_and_certify(name);
        bench.pass(6 * S);
    }
    assert_eq!((bench.acts.len(), bench.state("lior")), (2, StateName::Held));
}

#[test]
fn a_vendors_subjects_take_no_more_than_its_share_of_the_nodes_day() {
    let mut bench = Bench::with(|policy| {
        policy.timing.cool_down = Duration::ZERO;
        policy.node_per_day = 6;
    });
    for name in ["otto", "otto/agent", "otto", "vera"] {
        bench.crash_and_certify(name);
        bench.pass(6 * S);
    }
    let acted: Vec<_> = bench.acts.iter().map(|(name, ..)| name.as_str()).collect();
    assert_eq!(acted, ["otto", "otto/agent", "vera"]);
    assert!(bench.state("otto") == StateName::Held && bench.refused("budget_vendor"));
}
