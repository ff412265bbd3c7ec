//! A k3s: which step of its ladder answers which fault, and when a human is called instead.

use super::bench::*;
use super::*;
use crate::protocol::policy::Consent;

const RESTART: usize = 2;

fn ladder() -> Vec<RungPolicy> {
    let aside = |path: &str| path.to_owned();
    let actions = [
        Action::MoveAside { path: aside("/var/lib/rancher/k3s/agent") },
        Action::CopyAside { path: aside("/var/lib/rancher/k3s/server/db") },
        Action::Restart,
        Action::Page,
    ];
    actions.map(|action| RungPolicy { action, consent: Consent::Quorum }).into()
}

fn with_k3s() -> Bench {
    with_k3s_in(Mode::Act)
}

fn with_k3s_in(mode: Mode) -> Bench {
    let mut bench = Bench::with(|policy| {
        policy.mode = mode;
        let k3s = SubjectPolicy {
            kind: SubjectKind::K3s,
            vendor: None,
            unit: "k3s.service".into(),
            uid: None,
            exit_zero: ExitZero::Operator,
            ladder: ladder(),
            budget: Policy::K3S_BUDGET,
        };
        policy.subjects.insert(subject("k3s"), k3s);
    });
    bench.pages.clear();
    bench
}

impl Bench {
    /// Two vendors vote, for this reason, as often as rungs are skipped.
    fn accuse_k3s(&mut self, class: FaultClass, reason: Reason) {
        for _ in 0..ladder().len() {
            for voter in ["lior", "otto"] {
                self.vote_because(voter, class, reason);
            }
            // The challenge is answered by another look.
            for voter in ["lior", "otto"] {
                if self.episodes[&subject("k3s")].challenge.is_some() {
                    self.vote_because(voter, class, reason);
                }
            }
        }
    }

    fn vote_because(&mut self, voter: &str, class: FaultClass, reason: Reason) {
        let mut vote = self.make_vote(voter, "k3s", class);
        vote.attestation.reason = reason;
        self.submit_vote(voter, &vote);
    }

    fn rungs_taken(&self) -> Vec<usize> {
        self.acts.iter().map(|(_, attempt, _)| attempt.rung.0 as usize).collect()
    }
}

#[test]
fn a_restart_answers_what_fails_and_nothing_is_moved_or_copied() {
    for (class, reason) in [(FaultClass::Broken, Reason::ProbeFailed), (FaultClass::Broken, Reason::CertificateEnds)] {
        let mut bench = with_k3s();
        bench.accuse_k3s(class, reason);
        assert_eq!(bench.rungs_taken(), [RESTART], "{reason}");
    }
    let mut bench = with_k3s();
    bench.kill("k3s");
    bench.accuse_k3s(FaultClass::Crash, Reason::Killed);
    assert_eq!(bench.rungs_taken(), [RESTART]);
}

#[test]
fn an_empty_key_is_moved_aside_and_a_damaged_datastore_copied_but_never_restarted() {
    for (reason, rung) in [(Reason::EmptyFile, 0), (Reason::Datastore, 1)] {
        let mut bench = with_k3s();
        bench.kill("k3s");
        bench.accuse_k3s(FaultClass::Crash, reason);
        assert_eq!(bench.rungs_taken(), [rung], "{reason}");
    }
}

#[test]
fn what_came_back_after_a_restart_is_not_restarted_again_but_paged_and_held() {
    let mut bench = with_k3s();
    bench.accuse_k3s(FaultClass::Broken, Reason::CameBack);
    assert_eq!(bench.acts, []);
    assert_eq!((bench.state("k3s"), bench.pages.as_slice()), (StateName::Held, ["ladder_spent"].as_slice()));
}

#[test]
fn a_damage_that_a_restart_brought_to_light_is_still_copied() {
    let mut bench = with_k3s();
    bench.kill("k3s");
    bench.accuse_k3s(FaultClass::Crash, Reason::Killed);
    assert_eq!(bench.rungs_taken(), [RESTART]);
    bench.pass(2 * S);
    bench.kill("k3s");
    for _ in 0..2 {
        bench.tick(5 * S);
        bench.accuse_k3s(FaultClass::Crash, Reason::Datastore);
    }
    assert_eq!(
        bench.rungs_taken(),
        [RESTART, 1],
        "the copy comes before the restart in the ladder, and is still to be had"
    );
}

#[test]
fn a_damaged_datastore_is_copied_once_however_often_k3s_ends_over_it() {
    let mut bench = with_k3s();
    for _ in 0..3 {
        bench.kill("k3s");
        bench.tick(5 * S);
        bench.accuse_k3s(FaultClass::Crash, Reason::Datastore);
        bench.pass(2 * S);
    }
    assert_eq!(bench.rungs_taken(), [1]);
    assert_eq!((bench.state("k3s"), bench.pages.last().copied()), (StateName::Held, Some("ladder_spent")));
}

#[test]
fn a_restart_that_did_not_help_is_not_made_twice() {
    let mut bench = with_k3s();
    for _ in 0..3 {
        bench.kill("k3s");
        bench.tick(5 * S);
        bench.accuse_k3s(FaultClass::Crash, Reason::Killed);
        bench.pass(2 * S);
    }
    assert_eq!(bench.rungs_taken(), [RESTART]);
    assert_eq!((bench.state("k3s"), bench.pages.as_slice()), (StateName::Held, ["ladder_spent"].as_slice()));
}

#[test]
fn an_observing_node_writes_once_which_step_it_would_have_taken() {
    for (reason, rung) in [(Reason::EmptyFile, 0), (Reason::Datastore, 1), (Reason::Killed, RESTART)] {
        let mut bench = with_k3s_in(Mode::Observe);
        bench.kill("k3s");
        for _ in 0..5 {
            bench.accuse_k3s(FaultClass::Crash, reason);
            bench.tick(S);
        }
        let told: Vec<_> =
            bench.receipts(ReceiptKind::WouldAct).iter().map(|receipt| receipt.rung.0 as usize).collect();
        assert_eq!((told.as_slice(), bench.acts.len()), ([rung].as_slice(), 0), "{reason}");
    }
}

#[test]
fn a_human_is_called_whether_the_copy_was_made_or_not() {
    for result in [Ok(()), Err(NotDone::Failed("no room".into()))] {
        let mut bench = with_k3s();
        bench.acts_return = false;
        bench.on_act = |_, _| {};
        bench.kill("k3s");
        bench.accuse_k3s(FaultClass::Crash, Reason::Datastore);
        let attempt = bench.acts[0].1;
        bench.step(WardenInput::Acted { attempt, result, output: "aside".into() });
        assert_eq!(bench.pages, ["copied_aside"]);
    }
}

#[test]
fn a_restarted_k3s_is_given_its_time_to_start_before_anybody_is_called() {
    let mut bench = with_k3s();
    bench.kill("k3s");
    bench.accuse_k3s(FaultClass::Crash, Reason::Killed);
    let starting = [("k3s", Verdict::Unknown, Some(FaultClass::Unknown), Reason::Grace)];
    for _ in 0..4 * 100 {
        bench.tick(250 * MS);
        ["lior", "otto", "vera"].iter().for_each(|name| bench.speak(name, &starting));
    }
    assert_eq!((bench.state("k3s"), bench.pages.as_slice()), (StateName::Settling, [].as_slice()));
    bench.pass(90 * S);
    assert_eq!((bench.state("k3s"), bench.pages.as_slice()), (StateName::Healthy, [].as_slice()));
    assert_eq!(bench.rungs_taken(), [RESTART]);
}

#[test]
fn one_vendor_neither_chooses_a_step_nor_skips_one() {
    for lie in [Reason::Datastore, Reason::EmptyFile, Reason::WantsHuman] {
        let mut bench = with_k3s();
        bench.kill("k3s");
        let truth = Reason::Killed;
        for _ in 0..ladder().len() {
            bench.vote_because("lior", FaultClass::Crash, lie);
            bench.vote_because("otto", FaultClass::Crash, truth);
            assert!(bench.rungs_taken().iter().all(|rung| *rung == RESTART), "{lie}");
            assert_ne!(bench.state("k3s"), StateName::Held, "{lie}");
            bench.vote_because("vera", FaultClass::Crash, truth);
        }
        assert_eq!(bench.rungs_taken(), [RESTART], "{lie}: the two that agree decide");
    }
}

#[test]
fn a_persona_climbs_its_ladder_whatever_the_reason() {
    let mut bench = Bench::new();
    bench.kill("otto");
    for voter in ["lior", "vera"] {
        let mut vote = bench.make_vote(voter, "otto", FaultClass::Crash);
        vote.attestation.reason = Reason::Datastore;
        bench.submit_vote(voter, &vote);
    }
    assert_eq!(bench.rungs_taken(), [0]);
}

#[test]
fn a_start_that_never_ends_may_be_ended_but_not_one_that_a_wrapper_makes() {
    for (name, acts) in [("k3s", 1), ("otto", 0)] {
        let mut bench = with_k3s();
        bench.set(name, |unit| {
            unit.activity = Activity::Activating;
            unit.job_pending = true;
        });
        for _ in 0..2 * ladder().len() {
            for voter in ["lior", "vera"] {
                bench.vote(voter, name, FaultClass::Broken);
            }
        }
        assert_eq!(bench.acts.len(), acts, "{name}");
    }
}

#[test]
fn a_quorum_that_wants_a_human_pages_once_and_moves_nothing() {
    for reason in [Reason::WrongPeer, Reason::WantsHuman, Reason::Dependency] {
        let mut bench = with_k3s();
        let says = [("k3s", Verdict::Unknown, Some(FaultClass::Unknown), reason)];
        bench.speak("lior", &says);
        assert_eq!(bench.pages, Vec::<&str>::new(), "one vendor alone calls nobody");
        for _ in 0..4 {
            bench.speak("lior", &says);
            bench.speak("otto", &says);
        }
        assert_eq!(bench.pages, ["wants_human"], "{reason}");
        assert_eq!((bench.acts.len(), bench.state("k3s")), (0, StateName::Healthy));
    }
}

#[test]
fn a_host_in_doubt_freezes_its_k3s_and_no_crash() {
    let mut bench = with_k3s();
    let says = [("k3s", Verdict::Unknown, Some(FaultClass::Unknown), Reason::HostInDoubt)];
    for voter in ["lior", "otto"] {
        bench.speak(voter, &says);
    }
    assert_eq!(bench.state("k3s"), StateName::Frozen);
    bench.kill("k3s");
    bench.accuse_k3s(FaultClass::Crash, Reason::Killed);
    assert_eq!(bench.rungs_taken(), [RESTART], "hard evidence is never frozen");
}

#[test]
fn who_did_not_look_again_takes_nobodys_place_among_those_who_did() {
    let mut bench = with_k3s();
    bench.on_act = |_, _| {};
    bench.crash_and_certify("vera");
    bench.accuse_k3s(FaultClass::Broken, Reason::ProbeFailed);
    assert_eq!((bench.acts.len(), bench.state("k3s")), (1, StateName::Certified), "it waits for the slot");
    bench.vote_because("vera", FaultClass::Broken, Reason::ProbeFailed);
    assert_eq!(bench.state("k3s"), StateName::Certified);
    let withdrawal = Vote { choice: Choice::Withdraw, ..bench.make_vote("lior", "k3s", FaultClass::Broken) };
    bench.submit_vote("lior", &withdrawal);
    assert_ne!(bench.state("k3s"), StateName::Certified, "two vendors say so, and one of them looked again");
}

/// Its wrapper and its agent answer the warden's challenges and nobody's pings, or are held after repairs that did not help.
#[test]
fn one_vendor_whose_own_units_are_silent_stops_no_repair_of_k3s() {
    let mut bench = with_k3s();
    let says = [("lior", FaultClass::Hang), ("lior/agent", FaultClass::Hang), ("k3s", FaultClass::Broken)];
    for voter in ["otto", "vera"] {
        bench.heartbeat(voter, &says);
    }
    for _ in 0..2 * ladder().len() {
        for voter in ["otto", "vera"] {
            bench.vote_because(voter, FaultClass::Broken, Reason::ProbeFailed);
        }
    }
    assert_eq!((bench.rungs_taken(), bench.pages.as_slice()), (vec![RESTART], [].as_slice()));
}
