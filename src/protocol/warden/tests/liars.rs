//! Who gets a session, what is done about contradictions, and when everybody is in doubt.

use super::bench::*;
use super::*;

#[test]
fn a_process_that_is_not_the_units_main_process_gets_no_session() {
    let mut bench = Bench::new();
    let unit = SubjectName::agent(&persona("lior"));
    let here = PeerUnit { subject: unit.clone(), main_pid: 4242, invocation: InvocationId([1; 16]) };
    let restarted = PeerUnit { invocation: InvocationId([2; 16]), ..here.clone() };
    for (before, after, label) in [
        (Some(here.clone()), Some(here.clone()), "not_main_process"),
        (Some(here.clone()), Some(restarted), "unit_changed"),
        (None, None, "no_unit"),
        (Some(here.clone()), None, "unit_changed"),
    ] {
        let peer = PeerFacts { uid: 0, pid: 1, before, after };
        bench.step(WardenInput::NonceWanted { peer: peer.clone(), reply: ReplyTo(1) });
        let request = bench.session_request("lior", 50, Nonce::default());
        bench.step(WardenInput::SessionWanted { peer, request, reply: ReplyTo(2) });
        assert!(matches!(bench.answers.pop(), Some(Answer::Refused { reason, .. }) if reason == label), "{label}");
    }
}

#[test]
fn a_request_that_answers_another_number_gets_no_session() {
    let mut bench = Bench::new();
    let name = SubjectName::agent(&persona("lior"));
    let unit = bench.units[&name];
    let pid = unit.main_pid.expect("it runs");
    let here = PeerUnit { subject: name, main_pid: pid, invocation: unit.incarnation.invocation };
    let peer = PeerFacts { uid: 0, pid, before: Some(here.clone()), after: Some(here) };
    bench.step(WardenInput::NonceWanted { peer: peer.clone(), reply: ReplyTo(1) });
    let request = bench.session_request("lior", 60, Nonce([7; 16]));
    bench.step(WardenInput::SessionWanted { peer, request, reply: ReplyTo(2) });
    assert!(matches!(bench.answers.pop(), Some(Answer::Refused { reason: "wrong_nonce", .. })));
}

/// Anybody may ask for a session under a key that it has read in another's: what that one says goes on to count.
#[test]
fn a_session_asked_for_under_anothers_key_silences_nobody() {
    let mut bench = Bench::new();
    // Otto's: lior's name comes before his.
    bench.open_session("lior", 21);
    bench.tick(MS);
    bench.heartbeat("otto", &[]);
    assert_eq!(bench.warden.guardians[&persona("otto")].heartbeat_at, Some(bench.now));
    bench.kill("vera");
    bench.vote("otto", "vera", FaultClass::Crash);
    let counted =
        |event: &WardenEvent| matches!(event, WardenEvent::VoteCounted { persona: by, .. } if *by == persona("otto"));
    assert!(bench.events.iter().any(counted), "{:?}", bench.events);
}

#[test]
fn two_vendors_that_call_each_other_broken_are_both_left_alone_for_a_minute() {
    let mut bench = Bench::new();
    let quarrel = |bench: &mut Bench| {
        bench.heartbeat("vera", &[("otto", FaultClass::Broken)]);
        bench.heartbeat("otto", &[("vera", FaultClass::Broken)]);
        // The liar feeds both sides.
        for (voter, about) in [("lior", "otto"), ("vera", "otto"), ("lior", "vera"), ("otto", "vera")] {
            bench.vote(voter, about, FaultClass::Broken);
        }
    };
    for _ in 0..50 {
        quarrel(&mut bench);
        bench.tick(S);
    }
    assert!(bench.acts.is_empty());
    assert_eq!(bench.state("otto"), StateName::Frozen);
    assert!(bench.pages.contains(&"mutual_accusation"));
    for _ in 0..20 {
        quarrel(&mut bench);
        bench.tick(S);
    }
    assert!(!bench.acts.is_empty(), "the freeze ends by itself");
}

/// Whatever they accuse of HANG of: everybody but themselves.
fn accuse_everybody(bench: &mut Bench) {
    let hang = FaultClass::Hang;
    bench.heartbeat("lior", &[("otto", hang), ("otto/agent", hang), ("vera", hang), ("vera/agent", hang)]);
    bench.heartbeat("vera", &[("otto", hang), ("otto/agent", hang), ("lior", hang), ("lior/agent", hang)]);
}

#[test]
fn a_quorum_that_accuses_most_of_the_node_puts_the_host_in_doubt() {
    let mut bench = Bench::new();
    accuse_everybody(&mut bench);
    bench.accuse("otto", FaultClass::Hang);
    bench.tick(200 * MS);
    assert!(bench.acts.is_empty() && bench.challenges.is_empty());
    assert_eq!((bench.state("otto"), bench.pages.as_slice()), (StateName::Frozen, ["mass_accusation"].as_slice()));
    bench.pass(S);
    assert_eq!(bench.state("otto"), StateName::Healthy, "it ends by itself");
}

#[test]
fn a_host_in_doubt_stops_what_is_soft_for_a_minute_and_not_again_soon() {
    let mut bench = Bench::new();
    let began = bench.now;
    while bench.challenges.is_empty() {
        accuse_everybody(&mut bench);
        bench.accuse("otto", FaultClass::Hang);
        bench.tick(500 * MS);
        assert!(bench.now.saturating_since(began) <= 61 * S, "{:?}", bench.state("otto"));
    }
    assert!(bench.now.saturating_since(began) >= 60 * S);
    // Nor does it begin anew when they fall silent for a while.
    bench.pass(20 * S);
    let asked = bench.challenges.len();
    accuse_everybody(&mut bench);
    bench.accuse("vera", FaultClass::Hang);
    assert_eq!(bench.challenges.len(), asked + 1, "{:?}", bench.state("vera"));
}

#[test]
fn a_head_that_contradicts_the_wardens_own_copy_makes_it_show_that_copy_and_no_other() {
    let mut bench = Bench::new();
    let vote = bench.make_vote("lior", "otto", FaultClass::Crash);
    bench.submit_vote("lior", &vote);
    let held = bench.seal("lior", &vote);
    let head = |digest| Head { persona: persona("lior"), session_key: held.key, seq: vote.header.seq, digest };
    bench.heartbeat_with("vera", &[], vec![head(held.digest())]);
    assert!(bench.shown.is_empty(), "they agree");
    bench.heartbeat_with("vera", &[], vec![head(Digest([7; 32])), head(Digest([8; 32]))]);
    assert_eq!(bench.shown, std::slice::from_ref(&held));
    bench.heartbeat_with("lior", &[], vec![head(Digest([7; 32]))]);
    assert_eq!(bench.shown.len(), 1, "nobody makes it doubt himself");
}

#[test]
fn two_statements_with_one_number_cost_the_vote_until_readmitted() {
    let mut bench = Bench::new();
    let first = bench.make_vote("lior", "otto", FaultClass::Crash);
    let mut second = first.clone();
    second.choice = Choice::Withdraw;
    bench.submit_vote("lior", &first);
    bench.submit_vote("lior", &second);
    assert!(bench.pages.contains(&"equivocation"));
    assert!(bench.records.iter().any(|(_, record)| matches!(record, Record::Quarantine { .. })));
    bench.crash_and_certify("otto");
    assert!(bench.acts.is_empty() && bench.rejected("quarantined"));
    assert!(matches!(bench.order(OperatorOrder::Readmit { persona: persona("lior") }), Answer::Done(_)));
    bench.open_session("lior", 99);
    bench.accuse("otto", FaultClass::Crash);
    assert_eq!(bench.acts.len(), 1);
}

/// Two votes of lior's with one number, as anybody who heard both can prove.
fn proof_against_lior(bench: &mut Bench) -> EquivocationProof {
    let first = bench.make_vote("lior", "otto", FaultClass::Crash);
    let second = Vote { choice: Choice::Withdraw, ..first.clone() };
    let session = bench.warden.guardians[&persona("lior")].session().unwrap().envelope().clone();
    EquivocationProof { session, first: bench.seal("lior", &first), second: bench.seal("lior", &second) }
}

/// What a warden that starts finds of the last readmission in the journal.
fn readmitted(bench: &Bench, name: &str) -> Recovered {
    let forgiven = bench.records.iter().rev().find_map(|(_, record)| match record {
        Record::Operator { order: OperatorOrder::Readmit { persona: who }, forgiveness, .. }
            if *who == persona(name) =>
        {
            *forgiveness
        }
        _ => None,
    });
    let readmitted = vec![(persona(name), forgiven.expect("a readmission"))];
    Recovered { readmitted, instance: WardenInstance(4), ..Recovered::default() }
}

#[test]
fn a_liar_that_restarts_its_agent_before_it_is_proven_loses_its_vote_all_the_same() {
    let mut bench = Bench::new();
    let proof = proof_against_lior(&mut bench);
    bench.open_session("lior", 60);
    bench.step(WardenInput::ProofSubmitted(proof));
    bench.crash_and_certify("otto");
    assert!(bench.acts.is_empty() && bench.rejected("quarantined"));
}

#[test]
fn what_was_forgiven_is_not_held_against_a_readmitted_persona_again_and_what_it_does_now_is() {
    let mut bench = Bench::new();
    bench.open_session("lior", 62);
    let (old, older) = (proof_against_lior(&mut bench), proof_against_lior(&mut bench));
    bench.step(WardenInput::ProofSubmitted(old.clone()));
    assert!(matches!(bench.order(OperatorOrder::Readmit { persona: persona("lior") }), Answer::Done(_)));
    bench.open_session("lior", 61);
    for proof in [old.clone(), older] {
        bench.step(WardenInput::ProofSubmitted(proof));
        assert!(!bench.warden.guardians[&persona("lior")].quarantined);
    }
    // Nor after a restart of the warden, which remembers that it was readmitted.
    let recovered = readmitted(&bench, "lior");
    let mut again = Bench::recovered(policy(|_| {}), recovered);
    again.step(WardenInput::ProofSubmitted(old));
    assert!(!again.warden.guardians[&persona("lior")].quarantined);
    let new = proof_against_lior(&mut again);
    again.step(WardenInput::ProofSubmitted(new));
    assert!(again.warden.guardians[&persona("lior")].quarantined);
}

/// A readmission forgives what was before it, for ever, and nothing that comes after it.
#[test]
fn a_lie_told_after_a_readmission_is_answered_for_whatever_starts_anew_before_it_is_proven() {
    let is_quarantined = |bench: &Bench| bench.warden.guardians[&persona("lior")].quarantined;
    let mut bench = Bench::new();
    bench.open_session("lior", 60);
    let proof = proof_against_lior(&mut bench);
    bench.step(WardenInput::ProofSubmitted(proof));
    assert!(is_quarantined(&bench));
    // This run is open when it is readmitted, and goes on with its vote.
    bench.open_session("lior", 61);
    assert!(matches!(bench.order(OperatorOrder::Readmit { persona: persona("lior") }), Answer::Done(_)));
    let recovered = readmitted(&bench, "lior");
    let of_the_open_run = proof_against_lior(&mut bench);
    bench.open_session("lior", 62);
    let of_a_later_run = proof_against_lior(&mut bench);
    bench.open_session("lior", 63);

    // The warden was restarted three times since.
    for lie in [&of_the_open_run, &of_a_later_run] {
        let mut again = Bench::recovered(policy(|_| {}), recovered.clone());
        again.step(WardenInput::ProofSubmitted(lie.clone()));
        assert!(is_quarantined(&again));
    }
    bench.step(WardenInput::ProofSubmitted(of_the_open_run));
    assert!(is_quarantined(&bench), "its agent was restarted");
}

/// Which of a run's sessions a proof rests on is the liar's choice: it shows its peers which it likes.
#[test]
fn a_run_with_two_sessions_is_answered_for_whole_after_a_readmission() {
    let is_quarantined = |bench: &Bench| bench.warden.guardians[&persona("lior")].quarantined;
    let mut bench = Bench::new();
    bench.open_session("lior", 60);
    let proof = proof_against_lior(&mut bench);
    bench.step(WardenInput::ProofSubmitted(proof));
    bench.open_session("lior", 61);
    let lie = proof_against_lior(&mut bench);
    bench.open_session("lior", 61);
    assert!(matches!(bench.order(OperatorOrder::Readmit { persona: persona("lior") }), Answer::Done(_)));
    let recovered = readmitted(&bench, "lior");
    bench.step(WardenInput::ProofSubmitted(lie.clone()));
    assert!(is_quarantined(&bench));
    // Nor is a restart of the warden, with another run of lior's after it, a way out.
    let mut again = Bench::recovered(policy(|_| {}), recovered);
    again.step(WardenInput::ProofSubmitted(lie));
    assert!(is_quarantined(&again));
}

/// The agent goes on as it did, and so it goes on without a session: else anybody could prove anew, with the new session, what was
/// forgiven.
#[test]
fn a_burnt_key_stays_burnt_after_a_readmission_and_a_restart_of_the_warden() {
    let mut bench = Bench::new();
    bench.open_session("lior", 62);
    let proof = proof_against_lior(&mut bench);
    bench.step(WardenInput::ProofSubmitted(proof));
    assert!(matches!(bench.order(OperatorOrder::Readmit { persona: persona("lior") }), Answer::Done(_)));
    let burnt = |answer| matches!(answer, Answer::Refused { reason: "burnt_key", .. });
    assert!(burnt(bench.ask_session("lior", 62)));
    let mut again = Bench::recovered(policy(|_| {}), readmitted(&bench, "lior"));
    assert!(burnt(again.ask_session("lior", 62)));
    assert!(matches!(again.ask_session("lior", 63), Answer::Session(_)));
}

/// A run that had a session before the readmission, and another one was open then.
#[test]
fn a_key_that_comes_back_after_a_readmission_is_answered_for() {
    let mut bench = Bench::new();
    bench.open_session("lior", 61);
    let lie = proof_against_lior(&mut bench);
    bench.open_session("lior", 62);
    let proof = proof_against_lior(&mut bench);
    bench.step(WardenInput::ProofSubmitted(proof));
    assert!(matches!(bench.order(OperatorOrder::Readmit { persona: persona("lior") }), Answer::Done(_)));
    bench.open_session("lior", 61);
    bench.step(WardenInput::ProofSubmitted(lie));
    assert!(bench.warden.guardians[&persona("lior")].quarantined);
}

#[test]
fn the_words_of_a_quarantined_guardian_settle_nothing() {
    let mut bench = Bench::new();
    bench.crash_and_certify("otto");
    assert_eq!(bench.acts.len(), 1);
    let first = bench.make_vote("lior", "vera", FaultClass::Crash);
    let second = Vote { choice: Choice::Withdraw, ..first.clone() };
    bench.submit_vote("lior", &first);
    bench.submit_vote("lior", &second);
    bench.pass(6 * S);
    assert_eq!(bench.state("otto"), StateName::Unconfirmed, "vera alone is no quorum");
}

#[test]
fn a_heartbeat_that_comes_late_makes_nobody_seem_alive() {
    let mut bench = Bench::new();
    let words = vec![bench.word("otto", None)];
    let header = bench.header("lior");
    let late = Heartbeat { header, attestations: words, health: 7, heads: Vec::new(), receipt: JournalHead::default() };
    let late = bench.seal("lior", &late);
    bench.heartbeat("lior", &[]);
    let last = bench.warden.guardians[&persona("lior")].heartbeat_at;
    bench.tick(S);
    bench.step(WardenInput::Submitted(late));
    let lior = &bench.warden.guardians[&persona("lior")];
    assert_eq!((lior.heartbeat_at, lior.health), (last, 0));
}
