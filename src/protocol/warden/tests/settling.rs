//! What comes after a repair, and that every episode ends.

use super::bench::*;
use super::*;

#[test]
fn what_hangs_after_its_crash_was_repaired_was_not_helped() {
    let mut bench = Bench::new();
    bench.crash_and_certify("otto");
    bench.pass_saying(6 * S, &[("otto", FaultClass::Hang)]);
    assert_eq!(bench.state("otto"), StateName::Suspect);
    bench.accuse("otto", FaultClass::Hang);
    bench.tick(200 * MS);
    assert_eq!(bench.acts.len(), 2);
    assert_eq!(bench.acts[1].1.rung, Rung(1));
}

#[test]
fn what_is_broken_after_its_crash_was_repaired_runs_and_answers() {
    let mut bench = Bench::new();
    bench.crash_and_certify("otto");
    let crashed = bench.episodes[&subject("otto")].id;
    bench.pass_saying(6 * S, &[("otto", FaultClass::Broken)]);
    assert_eq!(bench.state("otto"), StateName::Suspect);
    assert!(bench.episodes[&subject("otto")].id > crashed, "its work is another episode's matter");
}

#[test]
fn what_crashes_while_nobody_can_confirm_it_is_repaired_at_once() {
    let mut bench = Bench::new();
    bench.accuse("otto", FaultClass::Hang);
    bench.tick(200 * MS);
    bench.tick(6 * S);
    assert_eq!((bench.state("otto"), bench.acts.len()), (StateName::Unconfirmed, 1));
    bench.kill("otto");
    bench.accuse("otto", FaultClass::Crash);
    assert_eq!(bench.acts.len(), 2);
}

/// A rung that puts a program back starts no new process: until its voters hear that it has ended, they say what they saw last.
#[test]
fn what_was_on_its_way_when_a_rung_ended_does_not_say_that_it_was_in_vain() {
    let mut bench = Bench::new();
    for _ in 0..2 {
        for voter in ["lior", "vera"] {
            bench.vote(voter, "otto", FaultClass::Broken);
        }
    }
    assert_eq!((bench.state("otto"), bench.acts.len()), (StateName::Settling, 1));
    bench.pass_saying(500 * MS, &[("otto", FaultClass::Broken)]);
    assert_eq!(bench.state("otto"), StateName::Settling);
    // A tick that failed after it is told again and again.
    bench.pass_saying(S, &[("otto", FaultClass::Broken)]);
    assert_eq!((bench.state("otto"), bench.acts.len()), (StateName::Suspect, 1));
}

#[test]
fn what_stays_broken_climbs_its_ladder_and_ends_held_with_a_page() {
    let mut bench = Bench::new();
    for _ in 0..12 {
        for _ in 0..2 {
            for voter in ["lior", "vera"] {
                if bench.state("otto") != StateName::Held {
                    bench.vote(voter, "otto", FaultClass::Broken);
                }
            }
        }
        bench.pass_saying(2 * S, &[("otto", FaultClass::Broken)]);
    }
    assert_eq!(bench.state("otto"), StateName::Held);
    assert_eq!(bench.acts.len(), 2, "restart, reset-failed, then a human");
    assert!(bench.pages.contains(&"ladder_spent"));
    // And nobody else is blocked by it.
    bench.crash_and_certify("vera");
    assert_eq!(bench.acts.len(), 3);
}

#[test]
fn what_crashes_unjudged_on_its_last_rung_is_held() {
    let mut bench = Bench::with(|policy| policy.subjects.get_mut(&subject("otto")).unwrap().ladder.truncate(1));
    bench.crash_and_certify("otto");
    assert_eq!(bench.acts.len(), 1);
    // Nobody says anything until the time to settle is over.
    bench.tick(6 * S);
    assert_eq!(bench.state("otto"), StateName::Unconfirmed);
    bench.kill("otto");
    bench.tick(MS);
    assert_eq!((bench.state("otto"), bench.acts.len()), (StateName::Held, 1));
    assert!(bench.pages.contains(&"ladder_spent"));
}

#[test]
fn a_word_about_an_earlier_run_settles_nothing() {
    let mut bench = Bench::new();
    let earlier = bench.units[&subject("otto")].incarnation;
    bench.crash_and_certify("otto");
    let names: Vec<_> = bench.policy.subjects.keys().cloned().collect();
    for _ in 0..24 {
        bench.tick(250 * MS);
        for voter in ["lior", "vera"] {
            let mut words: Vec<_> = names.iter().map(|name| bench.word(name.as_str(), None)).collect();
            let about_otto = words.iter_mut().find(|word| word.subject == subject("otto")).expect("a word on each");
            about_otto.incarnation = earlier;
            bench.beat(voter, words, Vec::new());
        }
    }
    assert_eq!(bench.state("otto"), StateName::Unconfirmed);
    bench.pass(S);
    assert_eq!(bench.state("otto"), StateName::Healthy);
}

#[test]
fn k3s_is_given_its_whole_time_to_settle() {
    let mut bench = Bench::with(|policy| {
        let k3s = SubjectPolicy {
            kind: SubjectKind::K3s,
            vendor: None,
            unit: "k3s.service".into(),
            budget: Policy::K3S_BUDGET,
            ..policy.subjects[&subject("otto")].clone()
        };
        policy.subjects.insert(subject("k3s"), k3s);
    });
    for _ in 0..2 {
        for voter in ["lior", "vera"] {
            bench.vote(voter, "k3s", FaultClass::Broken);
        }
    }
    assert_eq!(bench.acts.len(), 1);
    bench.pass_saying(170 * S, &[("k3s", FaultClass::Broken)]);
    assert_eq!(bench.state("k3s"), StateName::Settling);
    bench.pass_saying(11 * S, &[("k3s", FaultClass::Broken)]);
    assert_eq!(bench.state("k3s"), StateName::Suspect);
    assert_eq!(bench.warden.subjects[&subject("k3s")].episode.rung, Rung(1));
}

#[test]
fn nobody_able_to_say_ends_as_unconfirmed_and_not_in_a_loop() {
    let mut bench = Bench::new();
    bench.crash_and_certify("otto");
    // Everybody falls silent.
    bench.tick(6 * S);
    assert_eq!(bench.state("otto"), StateName::Unconfirmed);
    bench.tick(16 * 60 * S);
    assert_eq!(bench.state("otto"), StateName::Healthy);
    assert_eq!(bench.receipts(ReceiptKind::Outcome)[1].outcome, Some(Outcome::Unconfirmed));
    assert_eq!(bench.acts.len(), 1);
}

#[test]
fn every_suspicion_ends_by_a_deadline_of_the_wardens_own() {
    let mut bench = Bench::new();
    bench.vote("lior", "otto", FaultClass::Crash);
    bench.tick(S);
    bench.vote("vera", "otto", FaultClass::Hang);
    for _ in 0..10 {
        if bench.state("otto") == StateName::Healthy {
            return;
        }
        let due = bench.warden.next_deadline().expect("a deadline while it is suspected");
        bench.tick(due.saturating_since(bench.now));
    }
    panic!("{} after ten deadlines", bench.state("otto"));
}

#[test]
fn an_environment_fault_that_a_quorum_sees_calls_a_human_once_and_restarts_nothing() {
    let mut bench = Bench::new();
    bench.heartbeat("lior", &[("otto", FaultClass::Environment)]);
    assert!(bench.pages.is_empty(), "a lone voice pages nobody");
    bench.pass_saying(10 * S, &[("otto", FaultClass::Environment)]);
    assert_eq!(bench.pages, ["environment"]);
    assert!(bench.acts.is_empty());
    assert_eq!(bench.state("otto"), StateName::Healthy);
}

#[test]
fn a_vendors_word_does_not_settle_its_own_subject() {
    let mut bench = Bench::new();
    bench.crash_and_certify("otto");
    assert_eq!(bench.state("otto"), StateName::Settling);
    bench.tick(4900 * MS);
    for name in ["otto", "vera"] {
        bench.heartbeat(name, &[]);
    }
    bench.tick(200 * MS);
    assert_eq!(bench.state("otto"), StateName::Unconfirmed, "one of two voters has said UP");
}

#[test]
fn one_voter_that_still_says_down_sends_nobody_up_the_ladder() {
    let mut bench = Bench::new();
    bench.crash_and_certify("otto");
    bench.tick(4900 * MS);
    bench.heartbeat("lior", &[("otto", FaultClass::Hang)]);
    bench.tick(200 * MS);
    assert_eq!(bench.state("otto"), StateName::Unconfirmed);
    assert_eq!(bench.warden.subjects[&subject("otto")].episode.rung, Rung(0));
}
