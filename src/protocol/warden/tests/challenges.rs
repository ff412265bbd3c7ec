//! What a challenge asks, of a silent process or of voters, and what its answer means.

use super::bench::*;
use super::*;

#[test]
fn a_silent_process_is_challenged_and_then_replaced() {
    let mut bench = Bench::new();
    bench.accuse("otto", FaultClass::Hang);
    assert_eq!((bench.state("otto"), bench.acts.len()), (StateName::Challenged, 0));
    assert_eq!(bench.challenges.len(), 1);
    bench.tick(200 * MS);
    assert_eq!(bench.acts.len(), 1);
}

#[test]
fn a_process_that_answers_its_challenge_is_left_alone_and_needs_more_patience_next_time() {
    let mut bench = Bench::new();
    bench.accuse("otto", FaultClass::Hang);
    let (pid, nonce) = bench.challenges[0];
    bench.step(WardenInput::ChallengeAnswered { pid: pid + 1, nonce });
    assert_eq!(bench.state("otto"), StateName::Challenged, "nobody answers for another process");
    bench.step(WardenInput::ChallengeAnswered { pid, nonce });
    assert_eq!(bench.state("otto"), StateName::Healthy);
    bench.accuse("otto", FaultClass::Hang);
    assert_eq!(bench.challenges.len(), 1, "its patience was doubled");
    bench.tick(S);
    bench.accuse("otto", FaultClass::Hang);
    assert_eq!(bench.challenges.len(), 2);
}

#[test]
fn a_process_that_got_no_cpu_is_not_called_silent() {
    let mut bench = Bench::new();
    bench.accuse("otto", FaultClass::Hang);
    bench.run_delay = Some(100 * MS);
    bench.tick(200 * MS);
    assert!(bench.acts.is_empty() && bench.refused("starved"));
}

#[test]
fn when_nobody_can_tell_whether_it_had_a_cpu_it_is_left_alone_and_paged() {
    let mut bench = Bench::new();
    bench.run_delay = None;
    bench.accuse("otto", FaultClass::Hang);
    bench.tick(200 * MS);
    assert!(bench.acts.is_empty());
    assert_eq!(bench.pages, ["run_delay_unknown"]);
}

#[test]
fn a_warden_that_was_late_itself_calls_nobody_silent() {
    let mut bench = Bench::new();
    bench.accuse("otto", FaultClass::Hang);
    // The answer may lie unread: the warden did not run when it came.
    bench.tick(400 * MS);
    assert_eq!((bench.acts.len(), bench.challenges.len()), (0, 1));
    bench.tick(S);
    bench.accuse("otto", FaultClass::Hang);
    assert_eq!(bench.challenges.len(), 2, "it asks again");
    bench.tick(200 * MS);
    assert_eq!(bench.acts.len(), 1);
}

#[test]
fn broken_counts_only_when_it_was_observed_again_after_the_challenge() {
    let mut bench = Bench::new();
    bench.accuse("otto", FaultClass::Broken);
    assert_eq!(bench.state("otto"), StateName::Challenged);
    for voter in ["lior", "vera"] {
        let mut vote = bench.make_vote(voter, "otto", FaultClass::Broken);
        vote.challenge = None;
        bench.submit_vote(voter, &vote);
    }
    assert!(bench.acts.is_empty());
    bench.accuse("otto", FaultClass::Broken);
    assert_eq!(bench.acts.len(), 1);
}
