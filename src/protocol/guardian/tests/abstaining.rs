//! When a guardian says that it does not know, and when it says nothing.

use super::alone::*;
use super::*;

#[test]
fn the_operators_stop_and_what_cannot_be_seen_are_unknown() {
    let mut alone = Alone::well();
    alone.unit("otto", Some(UnitState { stop_requested: true, ..killed(2) }));
    assert_eq!(alone.says("otto"), (UNKNOWN, Some(FaultClass::Operator), Reason::Stopped));
    alone.unit("otto", None);
    assert_eq!(alone.says("otto"), (UNKNOWN, Some(FaultClass::Unknown), Reason::CannotSee));
    assert_eq!(alone.votes(), []);
}

#[test]
fn a_guardian_that_slept_accuses_nobody_of_its_own_silence() {
    let mut alone = Alone::well();
    alone.now += 60_000;
    for name in PERSONAS.map(|(name, _)| subject(name)) {
        alone.step(GuardianInput::PingSent { subject: name.clone() });
        alone.step(GuardianInput::PingSent { subject: name });
    }
    alone.step(GuardianInput::Timer);
    alone.answering.clear();
    alone.speaking.clear();
    alone.run(2_500);
    assert!(PERSONAS.iter().all(|(name, _)| alone.word(name).verdict != DOWN));
    assert_eq!(alone.votes(), []);
    alone.run(2_500);
    assert_eq!(alone.word("otto").class, Some(FaultClass::Hang), "but the grace ends");
}

#[test]
fn an_unwell_guardian_abstains_from_soft_evidence_but_not_from_pid_1s_word() {
    let mut alone = Alone::well();
    for _ in 0..8 {
        alone.step(GuardianInput::TimerLate(Duration::from_millis(300)));
    }
    assert_eq!(alone.says("otto"), (UNKNOWN, Some(FaultClass::Unknown), Reason::SelfUnwell));
    alone.unit("vera", Some(killed(3)));
    assert_eq!(alone.votes().len(), 1);
    alone.run(5_000);
    assert_eq!(alone.word("otto").verdict, UP, "punctual timers heal it");
}

#[test]
fn a_resume_from_suspend_grants_grace() {
    let mut alone = Alone::well();
    alone.answering.clear();
    alone.run(500);
    alone.step(GuardianInput::Resumed);
    alone.run(2_900);
    assert_ne!(alone.word("otto").verdict, DOWN);
}

#[test]
fn another_policy_or_roster_means_no_votes_and_says_so() {
    type Change = fn(EpisodeStatement) -> EpisodeStatement;
    let other_policy: Change = |e| EpisodeStatement { policy: Digest([1; 32]), ..e };
    let other_roster: Change = |e| EpisodeStatement { roster: Digest([1; 32]), ..e };
    for (change, reason) in [(other_policy, "policy_mismatch"), (other_roster, "roster_mismatch")] {
        let mut alone = Alone::well();
        alone.publish(change(episode("otto", 2, 1, StateName::Suspect)));
        alone.unit("otto", Some(killed(2)));
        assert!(alone.out.contains(&GuardianEffect::Event(GuardianEvent::Abstains { reason })));
        assert_eq!(alone.votes(), []);
    }
}

#[test]
fn episodes_of_another_signer_node_or_boot_are_refused() {
    let mut alone = Alone::well();
    let episode = episode("otto", 2, 1, StateName::Suspect);
    alone.step(GuardianInput::FromWarden(Envelope::seal(&episode, &key("vera"), &Proto)));
    alone.publish(EpisodeStatement { node: NodeId::new("node2").unwrap(), ..episode.clone() });
    alone.publish(EpisodeStatement { boot: BootId([8; 16]), ..episode });
    assert_eq!(alone.rejected(), ["wrong_key", "wrong_node", "wrong_boot"]);
}

#[test]
fn without_a_session_nothing_is_signed() {
    let mut alone = Alone::new();
    alone.start("otto", 2);
    alone.publish(episode("otto", 2, 0, StateName::Healthy));
    alone.unit("otto", Some(killed(2)));
    alone.run(2_000);
    assert!(!alone.out.iter().any(|e| matches!(e, GuardianEffect::ToWarden(_) | GuardianEffect::Broadcast(_))));
}
