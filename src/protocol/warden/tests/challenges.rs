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

/// Otto's wrapper is silent through its challenge, at whose end `after` is read of it.
fn silent(bench: &mut Bench, after: Option<CpuReading>) {
    let before = bench.cpu;
    bench.accuse("otto", FaultClass::Hang);
    bench.cpu = after;
    bench.tick(200 * MS);
    bench.cpu = before;
}

fn reading(standing: Standing, ran: Duration, waited: Duration) -> Option<CpuReading> {
    Some(CpuReading { standing, ran, waited })
}

#[test]
fn a_process_that_got_no_cpu_is_not_called_silent() {
    for after in [reading(Standing::Still, 10 * MS, 100 * MS), reading(Standing::Runnable, 10 * MS, Duration::ZERO)] {
        let mut bench = Bench::new();
        silent(&mut bench, after);
        assert!(bench.acts.is_empty() && bench.refused("starved"), "{after:?}");
        assert_eq!(bench.state("otto"), StateName::Suspect);
    }
}

#[test]
fn a_process_that_runs_all_the_time_and_never_answers_is_replaced() {
    let mut bench = Bench::new();
    silent(&mut bench, reading(Standing::Runnable, 190 * MS, 10 * MS));
    assert_eq!(bench.acts.len(), 1);
}

#[test]
fn a_process_that_waits_for_the_disk_or_is_debugged_is_not_called_silent() {
    for (standing, reason) in [(Standing::Blocked, "blocked"), (Standing::Traced, "traced")] {
        let mut bench = Bench::new();
        silent(&mut bench, reading(standing, Duration::ZERO, Duration::ZERO));
        assert!(bench.acts.is_empty() && bench.refused(reason));
    }
}

#[test]
fn an_answer_to_an_earlier_challenge_answers_no_later_one() {
    let mut bench = Bench::new();
    silent(&mut bench, reading(Standing::Blocked, Duration::ZERO, Duration::ZERO));
    bench.tick(600 * MS);
    bench.accuse("otto", FaultClass::Hang);
    let [(pid, earlier), (same, later)] = bench.challenges[..] else { panic!("{:?}", bench.challenges) };
    assert!(pid == same && earlier != later);
    bench.step(WardenInput::ChallengeAnswered { pid, nonce: earlier });
    assert!(bench.state("otto") == StateName::Challenged && bench.rejected("unasked_answer"));
}

#[test]
fn who_is_kept_from_answering_again_and_again_is_told_to_a_human_and_not_who_once_was() {
    let mut bench = Bench::new();
    // The voters' votes are void after each challenge: they vote again at once, and it is challenged when patience is over.
    let challenge_in_vain = |bench: &mut Bench| {
        bench.accuse("otto", FaultClass::Hang);
        if bench.state("otto") != StateName::Challenged {
            bench.tick(600 * MS);
        }
        assert_eq!(bench.state("otto"), StateName::Challenged);
        let before = bench.cpu;
        bench.cpu = reading(Standing::Blocked, Duration::ZERO, Duration::ZERO);
        bench.tick(200 * MS);
        bench.cpu = before;
    };
    for _ in 0..9 {
        challenge_in_vain(&mut bench);
    }
    assert_eq!((bench.pages.len(), bench.acts.len()), (0, 0));
    challenge_in_vain(&mut bench);
    assert_eq!((bench.pages.as_slice(), bench.acts.len()), (&["kept_from_answering"][..], 0));

    bench.accuse("otto", FaultClass::Hang);
    bench.tick(600 * MS);
    let (pid, nonce) = *bench.challenges.last().unwrap();
    bench.step(WardenInput::ChallengeAnswered { pid, nonce });
    // A page of the same cause would be allowed again by now.
    bench.tick(3700 * S);
    challenge_in_vain(&mut bench);
    assert_eq!(bench.pages.len(), 1, "it answered: the count began anew");
}

#[test]
fn when_nobody_can_tell_whether_it_had_a_cpu_it_is_left_alone_and_paged() {
    for (before, after) in [(None, reading(Standing::Still, S, S)), (reading(Standing::Still, S, S), None)] {
        let mut bench = Bench::new();
        bench.cpu = before;
        silent(&mut bench, after);
        assert!(bench.acts.is_empty());
        assert_eq!(bench.pages, ["cpu_time_unknown"]);
    }
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
fn a_challenge_that_left_late_calls_nobody_silent() {
    // Before the deadline, and after it, while it is still asked whether the process had a CPU.
    for late in [190 * MS, 205 * MS] {
        let mut bench = Bench::new();
        bench.accuse("otto", FaultClass::Hang);
        let (pid, nonce) = bench.challenges[0];
        bench.cpu_returns = false;
        bench.tick(late.min(200 * MS));
        bench.tick(late.saturating_sub(200 * MS));
        bench.step(WardenInput::ChallengeLeft { pid, nonce });
        bench.cpu_returns = true;
        bench.step(WardenInput::CpuRead { nonce, reading: bench.cpu });
        for _ in 0..19 {
            bench.tick(10 * MS);
            assert_eq!((bench.state("otto"), bench.acts.len()), (StateName::Challenged, 0), "{late:?}");
        }
        bench.tick(10 * MS);
        assert_eq!(bench.acts.len(), 1, "{late:?}: it had its time");
    }
}

#[test]
fn no_line_but_the_accuseds_own_prolongs_a_challenge() {
    let mut bench = Bench::new();
    bench.accuse("otto", FaultClass::Hang);
    let (pid, nonce) = bench.challenges[0];
    bench.tick(190 * MS);
    bench.step(WardenInput::ChallengeLeft { pid: pid + 1, nonce });
    bench.step(WardenInput::ChallengeLeft { pid, nonce: Nonce([1; 16]) });
    bench.tick(10 * MS);
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
