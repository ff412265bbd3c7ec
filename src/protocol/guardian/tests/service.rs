//! What a guardian says of a k3s, and when it votes on it.

use super::alone::*;
use super::*;
use crate::protocol::evidence::ServiceReading;

const RUN: u8 = 40;

fn with_k3s() -> Alone {
    let mut policy = Policy::clone(&policy());
    let k3s = SubjectPolicy {
        kind: SubjectKind::K3s,
        vendor: None,
        unit: "k3s.service".into(),
        uid: None,
        exit_zero: ExitZero::Operator,
        ladder: Policy::persona_ladder(),
        budget: Policy::K3S_BUDGET,
    };
    policy.subjects.insert(subject("k3s"), k3s);
    let mut alone = Alone::with(Arc::new(policy));
    alone.connect(10);
    alone.unit("k3s", Some(running(RUN)));
    alone.publish(episode("k3s", RUN, 0, StateName::Healthy));
    alone.run(5_000);
    alone.out.clear();
    alone
}

impl Alone {
    fn look(&mut self, run: u8, class: Option<FaultClass>, reason: Reason, challenge: Option<Nonce>) {
        let verdict = match class {
            None => UP,
            Some(FaultClass::Unknown | FaultClass::Operator) => UNKNOWN,
            Some(_) => DOWN,
        };
        let digest = Digest::of(format!("{class:?} {reason} {}", self.now).as_bytes());
        let reading = ServiceReading { run: incarnation(run), verdict, class, reason, digest };
        self.step(GuardianInput::ServiceRead { subject: subject("k3s"), reading, challenge });
    }
}

fn starting(run: u8) -> UnitState {
    UnitState { activity: Activity::Activating, job_pending: true, active_since: None, ..running(run) }
}

#[test]
fn active_alone_makes_no_k3s_healthy() {
    let mut alone = with_k3s();
    assert_eq!(alone.says("k3s"), (UNKNOWN, Some(FaultClass::Unknown), Reason::CannotSee));
    alone.look(RUN, None, Reason::Running, None);
    assert_eq!(alone.says("k3s"), (UP, None, Reason::Running));
    alone.run(13_000);
    assert_eq!(alone.says("k3s").0, UNKNOWN, "a look that is no longer fresh shows nothing");
}

#[test]
fn a_look_at_another_run_is_worth_nothing() {
    let mut alone = with_k3s();
    alone.look(RUN + 1, Some(FaultClass::Broken), Reason::ProbeFailed, None);
    assert_eq!(alone.says("k3s").0, UNKNOWN);
    alone.look(RUN, Some(FaultClass::Broken), Reason::ProbeFailed, None);
    assert_eq!(alone.says("k3s"), (DOWN, Some(FaultClass::Broken), Reason::ProbeFailed));
    alone.unit("k3s", Some(running(RUN + 1)));
    assert_eq!(alone.says("k3s").0, UNKNOWN, "what the run before showed is forgotten");
}

#[test]
fn a_broken_k3s_is_voted_on_with_its_reason_and_challenged_like_any_other() {
    let mut alone = with_k3s();
    alone.look(RUN, Some(FaultClass::Broken), Reason::EmptyFile, None);
    let votes = alone.votes();
    assert_eq!((votes.len(), votes[0].class, votes[0].attestation.reason), (1, FaultClass::Broken, Reason::EmptyFile));
    let challenge = Nonce([77; 16]);
    alone.publish(EpisodeStatement { challenge: Some(challenge), ..episode("k3s", RUN, 0, StateName::Challenged) });
    assert!(alone.out.contains(&GuardianEffect::Observe { subject: subject("k3s"), challenge }));
    alone.look(RUN, Some(FaultClass::Broken), Reason::EmptyFile, None);
    assert_eq!(alone.votes(), [], "that look was not made for the challenge");
    alone.look(RUN, Some(FaultClass::Broken), Reason::EmptyFile, Some(challenge));
    assert_eq!(alone.votes()[0].challenge, Some(challenge));
}

#[test]
fn an_end_is_a_crash_only_once_a_look_shows_what_it_said_last() {
    let mut alone = with_k3s();
    alone.look(RUN, None, Reason::Running, None);
    alone.unit("k3s", Some(killed(RUN)));
    assert_eq!(alone.says("k3s").0, UNKNOWN, "the look is older than the end");
    assert_eq!(alone.votes(), []);
    alone.look(RUN, Some(FaultClass::Crash), Reason::Killed, None);
    assert_eq!(alone.says("k3s"), (DOWN, Some(FaultClass::Crash), Reason::Killed));
    assert_eq!(alone.word("k3s").evidence, Evidence::Hard);
    assert_eq!(alone.votes().len(), 1);
}

#[test]
fn what_no_restart_helps_against_comes_before_the_crash() {
    for class in [FaultClass::Environment, FaultClass::Unknown] {
        let mut alone = with_k3s();
        alone.unit("k3s", Some(killed(RUN)));
        alone.look(RUN, Some(class), Reason::DiskFull, None);
        assert_eq!(alone.says("k3s").1, Some(class));
        alone.run(3_000);
        assert_eq!(alone.votes(), []);
    }
}

#[test]
fn a_look_that_calls_a_running_k3s_crashed_is_not_believed() {
    let mut alone = with_k3s();
    alone.look(RUN, Some(FaultClass::Crash), Reason::Killed, None);
    assert_eq!(alone.says("k3s").0, UNKNOWN, "whether it ended is PID 1's word alone");
    assert_eq!(alone.votes(), []);
}

#[test]
fn a_k3s_that_starts_for_ever_may_be_voted_on_and_is_never_up() {
    let mut alone = with_k3s();
    alone.unit("k3s", Some(starting(RUN)));
    alone.look(RUN, None, Reason::Running, None);
    assert_eq!(alone.says("k3s").0, UNKNOWN);
    alone.look(RUN, Some(FaultClass::Broken), Reason::ProbeFailed, None);
    assert_eq!(alone.says("k3s").1, Some(FaultClass::Broken));
    assert_eq!(alone.votes().len(), 1);
}

#[test]
fn the_operators_wish_needs_no_look() {
    let mut alone = with_k3s();
    alone.look(RUN, Some(FaultClass::Broken), Reason::ProbeFailed, None);
    alone.votes();
    alone.unit("k3s", Some(UnitState { stop_requested: true, ..killed(RUN) }));
    assert_eq!(alone.says("k3s").1, Some(FaultClass::Operator));
    assert_eq!(alone.votes()[0].choice, Choice::Withdraw);
}
