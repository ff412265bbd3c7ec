//! What one compromised guardian can and cannot do.

use crate::control::{Order, Twist};
use crate::runner::Claim;
use crate::stage::{Stage, all_along, resident, until};
use rustix::process::Signal;
use std::future::Future;
use std::time::Duration;

macro_rules! claims {
    ($($name:ident,)+) => { &[$((stringify!($name), || on_runtime($name()))),+] };
}

/// Those that measure time.
pub const ALONE: &[Claim] = claims![a_flood_neither_grows_memory_nor_the_journal_nor_delays_a_repair_beyond_twice,];

/// All others.
pub const BESIDE: &[Claim] = claims![
    alone_it_moves_nothing_and_what_it_accused_for_ever_is_healthy_after,
    votes_for_both_sides_of_a_dispute_move_nothing_and_the_dispute_is_paged,
    old_and_foreign_votes_move_nothing_and_each_is_rejected_by_its_name,
    two_statements_with_one_number_cost_the_vote_until_readmitted,
    two_statements_told_apart_to_warden_and_peer_are_proven_and_spread,
    a_guardian_that_withholds_its_votes_stops_no_repair_that_does_not_need_it,
];

/// The subjects of the others.
const OTHERS: [&str; 4] = ["otto", "otto/agent", "vera", "vera/agent"];

fn on_runtime(claim: impl Future<Output = ()>) {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(claim);
}

async fn alone_it_moves_nothing_and_what_it_accused_for_ever_is_healthy_after() {
    let stage = Stage::set("5s", false).await;
    let runs = stage.runs().await;
    for false_runs in [false, true] {
        for class in ["CRASH", "HANG", "BROKEN"] {
            stage.accuse(&OTHERS, class, false_runs).await;
            all_along(2, "nothing moves", async || stage.runs().await == runs).await;
            if !false_runs {
                assert_eq!(stage.state("otto").await, "suspect", "the accusation itself was heard");
            }
        }
    }
    assert_eq!(stage.intents(), 0);
    assert!(stage.rejected("other_incarnation") > 0);

    // While it goes on, a repair that does not need it is made.
    stage.accuse(&OTHERS, "CRASH", false).await;
    stage.repair_of("lior").await;
    assert_eq!(stage.intents(), 1);
    stage.accuse_nobody().await;
    stage.all_is_well().await;
    let after = stage.runs().await;
    assert!(runs.iter().zip(&after).all(|(then, now)| (then == now) == (then.0 != "lior")), "{runs:?} {after:?}");
    assert_eq!(stage.intents(), 1);
}

async fn votes_for_both_sides_of_a_dispute_move_nothing_and_the_dispute_is_paged() {
    let stage = Stage::set("200ms", false).await;
    let runs = stage.runs().await;
    stage.ticks_fail(true);
    until("otto and vera are in dispute", async || stage.pages("mutual_accusation") == 1).await;
    stage.accuse(&["otto", "vera"], "BROKEN", false).await;
    for subject in ["otto", "vera"] {
        until("it is frozen", async || stage.state(subject).await == "frozen").await;
    }
    let view = stage.view().await.unwrap();
    for subject in view.subjects.iter().filter(|subject| ["otto", "vera"].contains(&subject.name.as_str())) {
        let voters: Vec<_> = subject.votes.iter().map(|vote| vote.persona.as_str()).collect();
        assert!(voters.contains(&"lior"), "{}: {voters:?}", subject.name);
    }
    all_along(6, "nothing moves", async || stage.runs().await == runs).await;
    assert_eq!((stage.intents(), stage.pages("mutual_accusation")), (0, 1));
    stage.ticks_fail(false);
    stage.accuse_nobody().await;
    stage.all_is_well().await;
    assert_eq!(stage.intents(), 0);
}

async fn old_and_foreign_votes_move_nothing_and_each_is_rejected_by_its_name() {
    let stage = Stage::set("5s", true).await;
    // A genuine episode, in which otto is repaired by the votes of lior and vera.
    stage.accuse(&["otto"], "CRASH", false).await;
    stage.repair_of("otto").await;
    stage.accuse_nobody().await;
    stage.all_is_well().await;
    let report = stage.order(Order::Report).await;
    assert!(report.signed > 0 && report.heard.get("vera").is_some_and(|votes| *votes > 0), "{report:?}");
    assert_eq!(stage.intents(), 1);

    // Otto is down again, lior says so truly, and one vote of vera's is missing.
    stage.accuse(&["otto"], "CRASH", false).await;
    let vera = stage.pid("vera/agent").await;
    crate::stage::send(vera, Signal::STOP);
    stage.signal("otto", Signal::KILL).await;
    until("lior's vote stands", async || stage.subject("otto").await.votes.len() == 1).await;
    let replayed = stage.rejected("replay");
    stage.order(Order::Replay).await;
    until("every vote is recognised", async || {
        stage.rejected("replay") >= replayed + u64::try_from(report.signed + report.heard["vera"]).unwrap()
    })
    .await;
    for (twist, reason) in [
        (Twist::OtherCluster, "wrong_cluster"),
        (Twist::OtherNode, "wrong_node"),
        (Twist::OtherBoot, "wrong_boot"),
        (Twist::OtherAuthor, "wrong_author"),
        (Twist::EndedSession, "old_session"),
        (Twist::Earlier, "other_round"),
        (Twist::OtherRound, "other_round"),
        (Twist::OtherNonce, "other_round"),
        (Twist::OtherRun, "other_incarnation"),
        (Twist::OtherBootOfSubject, "other_incarnation"),
        (Twist::OtherRung, "other_rung"),
        (Twist::OtherSetEpoch, "other_set_epoch"),
        (Twist::OldObservation, "not_fresh"),
        (Twist::FutureObservation, "not_fresh"),
        (Twist::TwoTimes, "unsupported"),
        (Twist::Unsupported, "unsupported"),
        (Twist::NotVotable, "malformed"),
        (Twist::ForgedSignature, "bad_signature"),
    ] {
        let before = stage.rejected(reason);
        stage.order(Order::Vote { on: "otto".into(), class: "CRASH".into(), twist }).await;
        until(&format!("{twist:?} is rejected as {reason}"), async || stage.rejected(reason) > before).await;
    }
    for (on, reason) in [("lior", "own_vendor"), ("lior/agent", "own_vendor"), ("nobody", "unknown_subject")] {
        let before = stage.rejected(reason);
        stage.order(Order::Vote { on: on.into(), class: "CRASH".into(), twist: Twist::None }).await;
        until(&format!("a vote on {on} is rejected as {reason}"), async || stage.rejected(reason) > before).await;
    }
    let down = stage.subject("otto").await;
    assert!(down.pid.is_none() && down.votes.len() == 1, "{down:?}");
    assert_eq!(stage.intents(), 1);

    // Nothing but vera's own vote was missing.
    crate::stage::send(vera, Signal::CONT);
    until("otto runs", async || stage.subject("otto").await.pid.is_some()).await;
    stage.accuse_nobody().await;
    stage.all_is_well().await;
}

async fn two_statements_with_one_number_cost_the_vote_until_readmitted() {
    let stage = Stage::set("5s", true).await;
    let session = stage.order(Order::SpeakTwice { apart: false }).await.session;
    let daemons = ["warden", "agent-otto", "agent-vera"];
    until("the warden has the proof", async || stage.equivocations("warden") == 1).await;
    assert_eq!(stage.pages("equivocation"), 1);

    // Vera's repair needs otto and lior, and lior has no vote.
    stage.accuse(&["vera"], "CRASH", false).await;
    stage.signal("vera", Signal::KILL).await;
    let before = stage.rejected("quarantined");
    until("lior's votes are rejected", async || stage.rejected("quarantined") > before + 5).await;
    let down = stage.subject("vera").await;
    assert!(down.pid.is_none() && down.votes.iter().all(|vote| vote.persona == "otto"), "{down:?}");
    assert_eq!(stage.intents(), 0);

    // A new run alone brings it nothing.
    stage.signal("lior/agent", Signal::KILL).await;
    until("lior has a new session", async || stage.order(Order::Report).await.session != session).await;
    stage.accuse(&["vera"], "CRASH", false).await;
    let before = stage.rejected("quarantined");
    until("lior's votes are rejected", async || stage.rejected("quarantined") > before + 5).await;
    assert_eq!(stage.intents(), 0);

    let readmitted = stage.command(&["readmit", "lior", "--reason", "examined"]);
    assert!(readmitted.status.success(), "{}", String::from_utf8_lossy(&readmitted.stderr));
    until("lior's vote counts and vera runs", async || stage.subject("vera").await.pid.is_some()).await;
    stage.accuse_nobody().await;
    stage.all_is_well().await;
    assert_eq!(stage.intents(), 1);
    for daemon in daemons {
        assert!(stage.equivocations(daemon) <= 1, "{daemon} counts one crime twice");
    }
}

async fn two_statements_told_apart_to_warden_and_peer_are_proven_and_spread() {
    let stage = Stage::set("5s", true).await;
    stage.order(Order::SpeakTwice { apart: true }).await;
    for daemon in ["warden", "agent-otto", "agent-vera"] {
        until(&format!("{daemon} knows"), async || stage.equivocations(daemon) == 1).await;
    }
    let view = stage.view().await.unwrap();
    assert!(view.personas.iter().all(|persona| persona.quarantined == (persona.persona == "lior")), "{view:?}");

    // Readmitted while the run that lied goes on: its vote comes with a fresh run.
    let readmitted = stage.command(&["readmit", "lior", "--reason", "examined"]);
    assert!(readmitted.status.success(), "{}", String::from_utf8_lossy(&readmitted.stderr));
    stage.accuse(&["vera"], "CRASH", false).await;
    stage.signal("vera", Signal::KILL).await;
    let before = stage.rejected("unknown_session");
    until("the burnt session is worth nothing", async || stage.rejected("unknown_session") > before + 5).await;
    assert_eq!(stage.intents(), 0);
    stage.signal("lior/agent", Signal::KILL).await;
    stage.accuse(&["vera"], "CRASH", false).await;
    until("lior's vote counts and vera runs", async || {
        stage.accuse(&["vera"], "CRASH", false).await;
        stage.subject("vera").await.pid.is_some()
    })
    .await;
    stage.accuse_nobody().await;
    stage.all_is_well().await;
}

async fn a_guardian_that_withholds_its_votes_stops_no_repair_that_does_not_need_it() {
    let stage = Stage::set("5s", true).await;
    stage.order(Order::Withhold(true)).await;
    until("lior is silent", async || {
        stage.view().await.unwrap().personas.iter().any(|persona| persona.persona == "lior" && !persona.live)
    })
    .await;
    stage.repair_of("lior").await;
    // One that needs it waits, and is shown so: never one vote alone.
    stage.signal("vera", Signal::KILL).await;
    let waits = async || {
        let vera = stage.subject("vera").await;
        vera.state == "suspect" && vera.pid.is_none()
    };
    until("vera waits for a second vote", waits).await;
    all_along(2, "vera waits", waits).await;
    let asked = stage.command(&["quorum", "--json"]);
    assert_ne!(asked.status.code(), Some(0), "{}", String::from_utf8_lossy(&asked.stdout));
    // Its silence is judged like any agent's: it may be asked, or replaced by one that withholds nothing.
    until("lior speaks again", async || {
        stage.order(Order::Withhold(false)).await;
        stage.accuse(&["vera"], "CRASH", false).await;
        stage.subject("vera").await.pid.is_some()
    })
    .await;
    stage.accuse_nobody().await;
    stage.all_is_well().await;
}

/// Longest flood, in milliseconds.
const FLOOD: u64 = 60_000;
const REPAIRS: usize = 5;
/// Below this, twice is no matter: a loaded machine takes as long for anything.
const FLOOR: Duration = Duration::from_millis(100);
/// Most that a daemon may grow, in KiB.
const GROWTH: u64 = 20 * 1024;

async fn a_flood_neither_grows_memory_nor_the_journal_nor_delays_a_repair_beyond_twice() {
    let stage = Stage::set("5s", true).await;
    let processes = [stage.warden_pid().await, stage.pid("otto/agent").await, stage.pid("vera/agent").await];
    let before = processes.map(resident);
    let mut peak = before;
    let mut measure = || peak = std::array::from_fn(|which| peak[which].max(resident(processes[which])));

    let journal = stage.journal_len();
    let begun = stage.order(Order::Flood { millis: FLOOD }).await.thrown;
    all_along(5, "the warden answers", async || {
        measure();
        stage.view().await.is_some()
    })
    .await;
    let thrown = stage.order(Order::Report).await.thrown - begun;
    assert!(thrown >= 10_000, "no flood: {thrown} statements in 5 s");
    assert_eq!(stage.journal_len(), journal, "votes and heartbeats never reach the disk");
    assert_eq!(stage.intents(), 0);

    // In turns, so that whatever else this machine does meets both alike.
    let (mut quiet, mut flooded) = (Vec::new(), Vec::new());
    for _ in 0..REPAIRS {
        stage.order(Order::Flood { millis: 0 }).await;
        quiet.push(repair(&stage).await);
        stage.order(Order::Flood { millis: FLOOD }).await;
        flooded.push(repair(&stage).await);
        measure();
    }
    stage.order(Order::Flood { millis: 0 }).await;
    println!(
        "repairs: {quiet:?} in quiet, {flooded:?} in a flood of {thrown} in 5 s; memory {before:?} to {peak:?} KiB"
    );
    for (before, peak) in before.iter().zip(peak) {
        assert!(peak < before + GROWTH, "memory grew from {before} to {peak} KiB");
    }
    let (quiet, flooded) = (median(quiet), median(flooded));
    assert!(flooded <= (quiet * 2).max(FLOOR), "{quiet:?} became {flooded:?}");
    assert!(stage.rejected("rate_limited") > 0);
    stage.all_is_well().await;
    assert_eq!(stage.intents(), 2 * REPAIRS);
}

/// Of lior's wrapper, which otto and vera repair alone.
async fn repair(stage: &Stage) -> Duration {
    until("lior is healthy", async || stage.state("lior").await == "healthy").await;
    stage.repair_of("lior").await
}

fn median(mut took: Vec<Duration>) -> Duration {
    took.sort();
    took[took.len() / 2]
}
