//! When silence is a hang, and what is no sign of life.

use super::alone::*;
use super::*;

#[test]
fn silence_of_a_stopped_wrapper_is_a_hang_after_two_missed_pings_and_within_900_ms() {
    let mut alone = Alone::well();
    alone.answering.remove(&subject("otto"));
    alone.run(550);
    assert_eq!(alone.word("otto").verdict, UP);
    alone.run(350);
    assert_eq!(alone.says("otto"), (DOWN, Some(FaultClass::Hang), Reason::PingSilent));
    let votes = alone.votes();
    assert_eq!((votes.len(), votes[0].class, votes[0].choice), (1, FaultClass::Hang, Choice::Approve));
    alone.answering.insert(subject("otto"), 2);
    alone.run(250);
    assert_eq!(alone.votes().last().unwrap().choice, Choice::Withdraw);
}

#[test]
fn silence_of_an_agent_is_a_hang_and_its_wrappers_answers_do_not_hide_it() {
    let mut alone = Alone::well();
    alone.speaking.remove("otto");
    alone.run(1_200);
    assert_eq!(alone.says("otto/agent"), (DOWN, Some(FaultClass::Hang), Reason::PingSilent));
    assert_eq!(alone.word("otto").verdict, UP);
    assert_eq!(alone.votes()[0].subject, subject("otto/agent"));
}

#[test]
fn answers_of_another_process_are_no_sign_of_life_and_no_fault() {
    let mut alone = Alone::well();
    alone.answering.insert(subject("otto"), 999);
    alone.run(5_000);
    assert_eq!(alone.says("otto"), (UNKNOWN, Some(FaultClass::Unknown), Reason::WrongPeer));
    assert_eq!(alone.votes(), []);
}

#[test]
fn a_strangers_last_answer_hides_no_silence_that_follows_it() {
    let mut alone = Alone::well();
    let stranger = |pid| GuardianInput::PingAnswered { subject: subject("otto"), pid, round_trip: Duration::ZERO };
    // Of the run before, it comes when the new one is known, which then answers nobody.
    alone.answering.remove(&subject("otto"));
    alone.unit("otto", Some(running(3)));
    alone.step(stranger(2));
    assert_eq!(alone.says("otto"), (UNKNOWN, Some(FaultClass::Unknown), Reason::WrongPeer));
    alone.run(60_000);
    assert_eq!(alone.says("otto"), (DOWN, Some(FaultClass::Hang), Reason::PingSilent));
    // Of one that was heard: silence counts from the stranger's answer on.
    alone.start("otto", 4);
    alone.answering.insert(subject("otto"), 4);
    alone.run(2_000);
    alone.answering.remove(&subject("otto"));
    alone.run(400);
    alone.step(stranger(2));
    alone.run(400);
    assert_eq!(alone.says("otto"), (UNKNOWN, Some(FaultClass::Unknown), Reason::WrongPeer));
    alone.run(500);
    assert_eq!(alone.says("otto"), (DOWN, Some(FaultClass::Hang), Reason::PingSilent));
}

#[test]
fn ticks_that_are_read_are_no_sign_of_life() {
    let mut alone = Alone::well();
    alone.answering.remove(&subject("otto"));
    for _ in 0..10 {
        alone.run(100);
        alone.ticks("otto", 2, TickState::default(), None);
    }
    assert_eq!(alone.says("otto"), (DOWN, Some(FaultClass::Hang), Reason::PingSilent));
}

#[test]
fn a_persona_asleep_between_ticks_for_ten_minutes_is_up() {
    let mut alone = Alone::well();
    let idle = TickState { begun: 1, last: Some(tick(1, None, Reason::TickOk)), ..TickState::default() };
    alone.ticks("otto", 2, idle, None);
    alone.run(600_000);
    assert_eq!(alone.says("otto"), (UP, None, Reason::TickOk));
    let long = TickState { begun: 2, running_since: Some(Timestamp::ZERO), ..TickState::default() };
    alone.ticks("otto", 2, long, None);
    alone.run(60_000);
    assert_eq!(alone.word("otto").verdict, UP);
    assert_eq!(alone.votes(), []);
}
