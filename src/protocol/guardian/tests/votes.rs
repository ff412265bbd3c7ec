//! What a guardian votes on, when, and how often.

use super::alone::*;
use super::*;

#[test]
fn everybody_is_up_when_all_is_well_and_nobody_is_voted_on() {
    let mut alone = Alone::well();
    for (name, _) in PERSONAS {
        assert_eq!(alone.word(name).verdict, UP, "{name}");
        assert_eq!(alone.word(&format!("{name}/agent")).verdict, UP, "{name}");
    }
    alone.run(10_000);
    assert_eq!(alone.votes(), []);
}

#[test]
fn a_killed_wrapper_is_voted_on_at_once_on_hard_evidence() {
    let mut alone = Alone::well();
    alone.unit("otto", Some(killed(2)));
    let votes = alone.votes();
    assert_eq!(votes.len(), 1);
    assert_eq!((votes[0].choice, votes[0].class), (Choice::Approve, FaultClass::Crash));
    assert_eq!((votes[0].attestation.evidence, votes[0].incarnation), (Evidence::Hard, incarnation(2)));
    assert_eq!(votes[0].header.observed_at, Timestamp::from_nanos(alone.now * MS));
}

#[test]
fn a_vote_is_renewed_while_the_fault_lasts_and_no_faster() {
    let mut alone = Alone::well();
    alone.answering.clear();
    alone.unit("otto", Some(killed(2)));
    alone.run(5_000);
    let votes: Vec<_> = alone.votes().into_iter().filter(|vote| vote.subject == subject("otto")).collect();
    assert!((10..=11).contains(&votes.len()), "{} votes in 5 s, one every 500 ms", votes.len());
    assert!(votes.windows(2).all(|pair| pair[0].header.observed_at < pair[1].header.observed_at));
}

#[test]
fn a_withdraw_follows_recovery_once() {
    let mut alone = Alone::well();
    alone.unit("otto", Some(killed(2)));
    alone.unit("otto", Some(running(2)));
    alone.run(1_000);
    let votes = alone.votes();
    assert_eq!(votes.iter().map(|vote| vote.choice).collect::<Vec<_>>(), [Choice::Approve, Choice::Withdraw]);
    assert_eq!((votes[1].class, votes[1].incarnation), (FaultClass::Crash, incarnation(2)));
}

#[test]
fn a_new_round_gets_a_new_vote_and_another_incarnation_none() {
    let mut alone = Alone::well();
    alone.unit("otto", Some(killed(2)));
    alone.votes();
    alone.publish(episode("otto", 2, 1, StateName::Suspect));
    assert_eq!(alone.votes().len(), 1);
    alone.publish(episode("otto", 9, 2, StateName::Suspect));
    assert_eq!(alone.votes(), [], "the published run is not the one that was seen");
    alone.publish(episode("otto", 2, 1, StateName::Suspect));
    assert_eq!(alone.rejected(), ["stale_episode"]);
}

#[test]
fn nothing_is_voted_while_the_operator_holds_it_or_the_warden_acts() {
    let mut alone = Alone::well();
    for state in [StateName::Held, StateName::Operator, StateName::Acting] {
        alone.publish(episode("otto", 2, 0, state));
        alone.unit("otto", Some(killed(2)));
        alone.run(1_000);
        assert_eq!(alone.votes(), [], "{state}");
        alone.unit("otto", Some(running(2)));
    }
}

#[test]
fn the_own_vendors_subjects_are_never_voted_on() {
    let mut alone = Alone::well();
    alone.unit("lior", Some(killed(1)));
    alone.unit("lior/agent", Some(killed(11)));
    alone.run(2_000);
    assert_eq!(alone.says("lior"), (DOWN, Some(FaultClass::Crash), Reason::Killed));
    assert_eq!(alone.votes(), []);
}

#[test]
fn the_timer_is_never_due_in_the_past() {
    let mut alone = Alone::well();
    alone.answering.clear();
    alone.speaking.clear();
    alone.unit("vera", Some(killed(3)));
    for _ in 0..2_000 {
        let before = alone.guardian.next_deadline().unwrap();
        alone.now = alone.now.max(before.as_nanos().div_ceil(MS));
        alone.step(GuardianInput::Timer);
        assert!(alone.guardian.next_deadline().unwrap().as_nanos() > alone.now * MS);
    }
}
