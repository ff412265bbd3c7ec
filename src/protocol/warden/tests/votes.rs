//! Which votes count, and for how long.

use super::bench::*;
use super::*;

#[test]
fn a_lone_liar_restarts_nobody() {
    let mut bench = Bench::new();
    for class in VOTABLE {
        for name in ["otto", "vera", "otto/agent", "vera/agent"] {
            bench.vote("lior", name, class);
        }
    }
    bench.pass(10 * S);
    assert!(bench.acts.is_empty() && bench.challenges.is_empty());
    bench.kill("otto");
    bench.vote("lior", "otto", FaultClass::Crash);
    bench.tick(S);
    assert!(bench.acts.is_empty(), "one vote is no quorum, whatever PID 1 says");
}

#[test]
fn all_guardians_together_cannot_restart_what_pid_1_says_is_running() {
    let mut bench = Bench::new();
    bench.accuse("otto", FaultClass::Crash);
    bench.tick(S);
    assert!(bench.acts.is_empty());
}

#[test]
fn a_vendor_has_no_vote_on_its_own_subject() {
    let mut bench = Bench::new();
    bench.kill("otto");
    bench.vote("otto", "otto", FaultClass::Crash);
    bench.vote("vera", "otto", FaultClass::Crash);
    assert!(bench.acts.is_empty() && bench.rejected("own_vendor"));
}

#[test]
fn a_withdrawn_vote_never_counts() {
    let mut bench = Bench::new();
    bench.kill("otto");
    bench.vote("lior", "otto", FaultClass::Crash);
    let mut withdrawal = bench.make_vote("lior", "otto", FaultClass::Crash);
    withdrawal.choice = Choice::Withdraw;
    bench.submit_vote("lior", &withdrawal);
    bench.vote("vera", "otto", FaultClass::Crash);
    assert!(bench.acts.is_empty());
}

#[test]
fn a_later_heartbeat_that_says_up_withdraws_the_vote() {
    let mut bench = Bench::new();
    bench.kill("otto");
    bench.vote("lior", "otto", FaultClass::Crash);
    bench.heartbeat("lior", &[]);
    bench.vote("vera", "otto", FaultClass::Crash);
    assert!(bench.acts.is_empty());
}

#[test]
fn a_vote_that_comes_after_its_voters_later_word_never_counts() {
    let mut bench = Bench::new();
    bench.kill("otto");
    let late = bench.make_vote("lior", "otto", FaultClass::Crash);
    bench.heartbeat("lior", &[]);
    bench.submit_vote("lior", &late);
    bench.vote("vera", "otto", FaultClass::Crash);
    assert!(bench.acts.is_empty() && bench.rejected("stale"));
    bench.heartbeat("lior", &[("otto", FaultClass::Crash)]);
    bench.vote("lior", "otto", FaultClass::Crash);
    assert_eq!(bench.acts.len(), 1);
}

#[test]
fn a_stale_or_future_observation_never_counts() {
    let mut bench = Bench::new();
    bench.kill("otto");
    let mut old = bench.make_vote("lior", "otto", FaultClass::Crash);
    old.attestation.observed_at = bench.now - 3 * S;
    old.header.observed_at = old.attestation.observed_at;
    bench.submit_vote("lior", &old);
    let mut early = bench.make_vote("lior", "otto", FaultClass::Crash);
    early.attestation.observed_at = bench.now + S;
    early.header.observed_at = early.attestation.observed_at;
    bench.submit_vote("lior", &early);
    bench.vote("vera", "otto", FaultClass::Crash);
    assert!(bench.acts.is_empty() && bench.rejected("not_fresh"));
    bench.tick(1900 * MS);
    bench.vote("lior", "otto", FaultClass::Crash);
    assert_eq!(bench.acts.len(), 1, "vera's vote is 1.9 s old and still counts");
}

#[test]
fn a_vote_whose_header_tells_another_time_than_its_observation_never_counts() {
    let mut bench = Bench::new();
    bench.kill("otto");
    for voter in ["lior", "vera"] {
        let mut vote = bench.make_vote(voter, "otto", FaultClass::Crash);
        vote.header.observed_at = vote.header.observed_at + 60 * S;
        bench.submit_vote(voter, &vote);
    }
    assert!(bench.rejected("unsupported"));
    assert!(bench.acts.is_empty());
}

#[test]
fn votes_of_another_round_rung_incarnation_or_node_move_nothing() {
    let mut bench = Bench::new();
    bench.kill("otto");
    bench.vote("vera", "otto", FaultClass::Crash);
    type Change = fn(&mut Vote);
    let changes: [(&str, Change); 8] = [
        ("other_round", |vote| vote.nonce = Nonce([1; 16])),
        ("other_round", |vote| vote.round = Round(vote.round.0 + 1)),
        ("other_rung", |vote| vote.rung = Rung(1)),
        ("other_incarnation", |vote| vote.incarnation.invocation = InvocationId([77; 16])),
        ("unsupported", |vote| vote.attestation.verdict = Verdict::Up),
        ("unsupported", |vote| vote.attestation.class = Some(FaultClass::Hang)),
        ("other_set_epoch", |vote| vote.set_epoch = SetEpoch(vote.set_epoch.0 + 1)),
        ("inconsistent", |vote| vote.header.node = NodeId::new("n2").unwrap()),
    ];
    for (label, change) in changes {
        let mut vote = bench.make_vote("lior", "otto", FaultClass::Crash);
        change(&mut vote);
        bench.submit_vote("lior", &vote);
        assert!(bench.acts.is_empty(), "{label}");
        let rejections = bench.events.iter().filter(|e| matches!(e, WardenEvent::Rejected { .. })).count();
        assert!(rejections > 0, "{label}");
        if label != "inconsistent" {
            assert!(bench.rejected(label), "{label}");
        }
        bench.events.clear();
    }
}

#[test]
fn a_replayed_vote_never_acts_a_second_time() {
    let mut bench = Bench::new();
    bench.kill("otto");
    let votes =
        [bench.make_vote("lior", "otto", FaultClass::Crash), bench.make_vote("vera", "otto", FaultClass::Crash)];
    bench.submit_vote("lior", &votes[0]);
    bench.submit_vote("vera", &votes[1]);
    assert_eq!(bench.acts.len(), 1);
    bench.pass(6 * S);
    bench.kill("otto");
    bench.submit_vote("lior", &votes[0]);
    bench.submit_vote("vera", &votes[1]);
    assert_eq!(bench.acts.len(), 1);
}

#[test]
fn soft_votes_on_personas_do_not_outlive_an_action_on_one() {
    let mut bench = Bench::new();
    bench.vote("otto", "vera", FaultClass::Hang);
    bench.crash_and_certify("otto");
    assert_eq!(bench.acts.len(), 1);
    bench.vote("lior", "vera", FaultClass::Hang);
    assert_ne!(bench.state("vera"), StateName::Challenged);
}

#[test]
fn an_action_voids_soft_votes_on_other_personas_in_the_very_same_step() {
    // Two slots, three voters on each of two personas.
    let mut bench = Bench::with(|policy| {
        (policy.timing.cool_down, policy.timing.cool_down_max) = (20 * S, 20 * S);
        for name in ["otto", "vera"] {
            policy.subjects.get_mut(&subject(name)).unwrap().vendor = None;
        }
    });
    let five = [&PERSONAS[..], &[("alexa", "alibaba-qwen"), ("riven", "xai-grok")]].concat();
    let statement = RosterStatement { f: 2, q: 3, ..fixture::statement(&five) };
    bench.warden.roster = Arc::new(Roster::new(statement, fixture::DIGEST).unwrap());
    let vote = |bench: &mut Bench, about: &str, class| {
        for (voter, _) in PERSONAS {
            bench.vote(voter, about, class);
        }
    };
    for name in ["otto", "vera"] {
        bench.kill(name);
        vote(&mut bench, name, FaultClass::Crash);
    }
    bench.pass(18 * S);
    assert_eq!(bench.acts.len(), 2);
    for name in ["otto", "vera"] {
        vote(&mut bench, name, FaultClass::Hang);
        bench.tick(200 * MS);
        assert_eq!(bench.state(name), StateName::Certified);
    }
    bench.tick(S);
    for name in ["otto", "vera"] {
        vote(&mut bench, name, FaultClass::Hang);
    }
    bench.tick(S);
    assert_eq!((bench.acts.len(), bench.state("vera")), (3, StateName::Suspect));
}

#[test]
fn an_approval_that_arrives_after_its_voters_withdrawal_never_counts() {
    let mut bench = Bench::new();
    bench.kill("otto");
    let approval = bench.make_vote("lior", "otto", FaultClass::Crash);
    let withdrawal = Vote { choice: Choice::Withdraw, ..bench.make_vote("lior", "otto", FaultClass::Crash) };
    bench.submit_vote("lior", &withdrawal);
    bench.submit_vote("lior", &approval);
    assert!(bench.rejected("stale"));
    bench.vote("vera", "otto", FaultClass::Crash);
    assert!(bench.acts.is_empty());
}

#[test]
fn what_was_signed_under_an_ended_session_never_counts() {
    let mut bench = Bench::new();
    bench.kill("otto");
    let old = bench.make_vote("lior", "otto", FaultClass::Crash);
    // The same process with the same key: only the session is another.
    let number = PERSONAS.iter().position(|(name, _)| *name == "lior").expect("a member");
    bench.open_session("lior", 20 + u8::try_from(number).expect("few"));
    bench.submit_vote("lior", &old);
    bench.vote("vera", "otto", FaultClass::Crash);
    assert!(bench.acts.is_empty() && bench.rejected("old_session"));
}

#[test]
fn a_vote_ends_with_the_session_it_was_cast_under() {
    let mut bench = Bench::new();
    bench.kill("otto");
    bench.vote("lior", "otto", FaultClass::Crash);
    bench.open_session("lior", 60);
    bench.vote("vera", "otto", FaultClass::Crash);
    assert!(bench.acts.is_empty(), "the newer session has said nothing");
    bench.vote("lior", "otto", FaultClass::Crash);
    assert_eq!(bench.acts.len(), 1);
}

#[test]
fn every_round_has_a_number_of_its_own() {
    let mut bench = Bench::new();
    let episode = |bench: &Bench| bench.warden.subjects[&subject("otto")].episode.clone();
    let before = episode(&bench);
    bench.crash_and_certify("otto");
    let after = episode(&bench);
    assert_eq!((bench.acts.len(), before.id), (1, after.id));
    assert!(before.round < after.round && before.nonce != after.nonce, "{before:?} {after:?}");
}

#[test]
fn a_quorum_that_loses_a_vote_while_it_waits_for_a_slot_is_none_any_more() {
    let mut bench = Bench::new();
    bench.on_act = |_, _| {};
    bench.crash_and_certify("otto");
    bench.crash_and_certify("vera");
    assert_eq!((bench.acts.len(), bench.state("vera")), (1, StateName::Certified));
    let withdrawal = Vote { choice: Choice::Withdraw, ..bench.make_vote("lior", "vera", FaultClass::Crash) };
    bench.submit_vote("lior", &withdrawal);
    assert_eq!(bench.state("vera"), StateName::Suspect);
}
