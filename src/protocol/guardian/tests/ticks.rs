//! What ticks say: broken or the environment, before and after a repair.

use super::alone::*;
use super::*;

#[test]
fn a_quota_is_environment_with_its_time_and_never_voted() {
    let mut alone = Alone::well();
    let quota = tick(9, Some(FaultClass::Environment), Reason::Quota);
    alone.ticks("otto", 2, TickState { last: Some(quota), ..TickState::default() }, None);
    alone.run(10_000);
    assert_eq!(alone.says("otto"), (DOWN, Some(FaultClass::Environment), Reason::Quota));
    assert_eq!(alone.word("otto").resume_at, Some(1_900_000_000));
    assert!(alone.word("otto").counts_as_up());
    assert_eq!(alone.votes(), []);
}

#[test]
fn broken_needs_three_in_a_row_and_lives_only_by_being_read_again() {
    let mut alone = Alone::well();
    alone.ticks("otto", 2, broken(2), None);
    assert_eq!(alone.word("otto").verdict, UP);
    alone.ticks("otto", 2, broken(3), None);
    let read_at = Timestamp::from_nanos(alone.now * MS);
    alone.run(3_000);
    assert_eq!(alone.says("otto"), (DOWN, Some(FaultClass::Broken), Reason::TickFailed));
    assert_eq!(alone.word("otto").observed_at, read_at);
    assert_eq!(alone.votes().len(), 1);
    alone.ticks("otto", 2, broken(3), None);
    assert_eq!(alone.votes().len(), 1);
}

#[test]
fn broken_never_interrupts_a_running_tick() {
    let mut alone = Alone::well();
    alone.ticks("otto", 2, TickState { running_since: Some(Timestamp::ZERO), ..broken(3) }, None);
    assert_eq!(alone.word("otto").class, Some(FaultClass::Broken));
    assert_eq!(alone.votes(), []);
    alone.ticks("otto", 2, broken(4), None);
    assert_eq!(alone.votes().len(), 1);
}

#[test]
fn a_challenge_of_broken_is_answered_only_by_a_reading_made_for_it() {
    let mut alone = Alone::well();
    alone.ticks("otto", 2, broken(3), None);
    alone.votes();
    let challenge = Nonce([77; 16]);
    let asked = EpisodeStatement { challenge: Some(challenge), ..episode("otto", 2, 0, StateName::Challenged) };
    alone.publish(asked);
    let observe = GuardianEffect::Observe { subject: subject("otto"), challenge };
    assert_eq!(alone.out.iter().filter(|effect| **effect == observe).count(), 1);
    alone.ticks("otto", 2, broken(3), None);
    alone.ticks("otto", 2, broken(3), Some(Nonce([78; 16])));
    assert_eq!(alone.votes(), [], "neither reading was made for this challenge");
    alone.ticks("otto", 2, broken(3), Some(challenge));
    let votes = alone.votes();
    assert_eq!((votes.len(), votes[0].challenge), (1, Some(challenge)));
}

#[test]
fn a_challenged_reading_that_is_good_withdraws() {
    let mut alone = Alone::well();
    alone.ticks("otto", 2, broken(3), None);
    let challenge = Nonce([77; 16]);
    alone.publish(EpisodeStatement { challenge: Some(challenge), ..episode("otto", 2, 0, StateName::Challenged) });
    alone.votes();
    let good = TickState { last: Some(tick(4, None, Reason::TickOk)), ..TickState::default() };
    alone.ticks("otto", 2, good, Some(challenge));
    let votes = alone.votes();
    assert_eq!((votes.len(), votes[0].choice), (1, Choice::Withdraw));
}

#[test]
fn after_a_repair_for_broken_the_first_tick_that_ends_decides() {
    for (first, expected) in [
        (tick(1, Some(FaultClass::Broken), Reason::TickFailed), (DOWN, Some(FaultClass::Broken), Reason::TickFailed)),
        (tick(1, None, Reason::TickOk), (UP, None, Reason::TickOk)),
    ] {
        let mut alone = Alone::well();
        alone.ticks("otto", 2, broken(3), None);
        alone.publish(episode("otto", 5, 1, StateName::Settling));
        alone.start("otto", 5);
        alone.run(2_000);
        assert_eq!(alone.says("otto"), (UNKNOWN, Some(FaultClass::Unknown), Reason::Grace));
        alone.ticks("otto", 5, TickState { broken_in_a_row: 1, last: Some(first), ..TickState::default() }, None);
        assert_eq!(alone.says("otto"), expected);
    }
}

#[test]
fn a_vote_on_the_run_after_a_repair_for_broken_does_not_make_it_up_again() {
    let mut alone = Alone::well();
    alone.ticks("otto", 2, broken(3), None);
    alone.publish(episode("otto", 2, 0, StateName::Suspect));
    alone.publish(episode("otto", 5, 1, StateName::Settling));
    alone.start("otto", 5);
    alone.ticks("otto", 5, broken(1), None);
    alone.publish(episode("otto", 5, 1, StateName::Suspect));
    alone.run(1_000);
    assert_eq!(alone.says("otto"), (DOWN, Some(FaultClass::Broken), Reason::TickFailed));
}

/// Of a repair of the run 2 of otto, in its current episode.
fn receipt_for_broken(kind: ReceiptKind, at: Timestamp) -> Envelope {
    let current = episode("otto", 2, 0, StateName::Acting);
    let receipt = Receipt {
        cluster: current.cluster.clone(),
        node: current.node.clone(),
        boot: BOOT,
        warden: WardenInstance(1),
        seq: if kind == ReceiptKind::Intent { 40 } else { 41 },
        previous: Digest([4; 32]),
        kind,
        episode: current.id,
        round: current.round,
        rung: Rung(0),
        subject: subject("otto"),
        action: ActionKind::Restart,
        class: FaultClass::Broken,
        before: incarnation(2),
        after: None,
        outcome: None,
        detail: String::new(),
        certificate: None,
        intent: None,
        at,
        wall_ms: 0,
    };
    Envelope::seal(&receipt, &key("warden"), &Proto)
}

#[test]
fn a_repair_that_starts_no_new_process_is_judged_by_the_first_tick_after_it() {
    let mut alone = Alone::well();
    alone.ticks("otto", 2, broken(3), None);
    alone.publish(episode("otto", 2, 0, StateName::Suspect));
    alone.step(GuardianInput::FromWarden(receipt_for_broken(ReceiptKind::Intent, Timestamp::ZERO)));
    assert_eq!(alone.says("otto"), (DOWN, Some(FaultClass::Broken), Reason::TickFailed));
    let repaired_at = broken(3).last.unwrap().began_at;
    alone.step(GuardianInput::FromWarden(receipt_for_broken(ReceiptKind::Outcome, repaired_at)));
    assert_eq!(alone.says("otto"), (UNKNOWN, Some(FaultClass::Unknown), Reason::Grace));
    let mut later = tick(4, Some(FaultClass::Broken), Reason::TickFailed);
    later.began_at = repaired_at + Duration::from_nanos(1);
    alone.ticks("otto", 2, TickState { last: Some(later), ..broken(4) }, None);
    assert_eq!(alone.says("otto"), (DOWN, Some(FaultClass::Broken), Reason::TickFailed));
}

#[test]
fn a_guardian_that_did_not_vote_learns_from_the_receipt_that_the_repair_was_for_broken() {
    let mut alone = Alone::well();
    let receipt = receipt_for_broken(ReceiptKind::Intent, Timestamp::ZERO);
    alone.step(GuardianInput::FromWarden(receipt.clone()));
    assert!(alone.out.contains(&GuardianEffect::KeepReceipt(receipt.clone())));
    alone.publish(episode("otto", 5, 1, StateName::Settling));
    alone.start("otto", 5);
    alone.run(1_000);
    assert_eq!(alone.says("otto"), (UNKNOWN, Some(FaultClass::Unknown), Reason::Grace));
    alone.out.clear();
    alone.connect(11);
    assert!(alone.out.contains(&GuardianEffect::ReceiptToWarden(receipt)), "every new warden is shown the receipt");
}
