//! What holds: every rule, in all that each scope explores; and every useful path is there to be found.

use crate::explore::explore;
use crate::moves::{Deed, Lie, Move, Order};
use crate::scope::{Left, Scope, persona, rungs, subject, wrapper};
use std::sync::Arc;
use zeta_bft::protocol::evidence::FaultClass::{self, Broken as Failing, Crash, Hang};
use zeta_bft::protocol::policy::{Action, Consent};

/// So many moves more for each, where there is time: `ZETA_BFT_MODEL_DEPTH=1`.
fn deeper() -> usize {
    std::env::var("ZETA_BFT_MODEL_DEPTH").ok().and_then(|text| text.parse().ok()).unwrap_or(0)
}

fn holds(mut scope: Scope) {
    scope.moves += deeper();
    let found = explore(&Arc::new(scope));
    assert!(found.broken.is_empty(), "{:?}", found.broken);
    assert!(found.missed.is_empty(), "never reached: {:?}", found.missed);
}

fn otto() -> zeta_bft::protocol::types::SubjectName {
    subject("otto")
}

fn harm(class: FaultClass) -> Move {
    Move::Harm(otto(), class)
}

fn vera(what: Lie) -> Move {
    Move::Lie(persona("vera"), what)
}

/// The liar's vote is needed, and may come, be taken back, or never come.
#[test]
fn a_crash_under_a_liar_whose_vote_is_needed() {
    let mut scope = Scope::new("crash, a liar votes", 3, &["vera"]);
    let voted = vec![harm(Crash), Move::Spread];
    let intended = [voted.clone(), vec![vera(Lie::Approve(otto(), Crash))]].concat();
    let durable = [intended.clone(), vec![Move::Sync]].concat();
    let permitted = [durable.clone(), vec![Move::Reread(otto())]].concat();
    let settling = [permitted.clone(), vec![Move::Act(otto(), Deed::Done), Move::Spread, Move::Sync]].concat();
    let heard = [settling.clone(), vec![vera(Lie::Deny), Move::Tick]].concat();
    scope.starts = vec![voted, intended, durable, permitted, settling, heard];
    scope.left = Left { harms: 1, mends: 1, lies: 2, replays: 1, crashes: 1, orders: 0, ticks: 1, calms: 1 };
    scope.moves = 3;
    scope.reaches = &[
        "suspect",
        "certified",
        "acting",
        "act",
        "settling",
        "outcome ok",
        "outcome inferred",
        "outcome abandoned",
        "reconciling",
        "abort other_incarnation",
        "refused untouched",
        "WITHDRAW",
        "recovered",
        "quarantined",
        "rejected replay",
        "new_incarnation",
    ];
    holds(scope);
}

/// The liar is the accused: it has no vote on itself, and all the others' subjects.
#[test]
fn crashes_of_two_subjects_while_a_liar_has_none_to_spare() {
    let mut scope = Scope::new("two crashes", 3, &["otto"]);
    let db = || subject("db");
    let both = vec![harm(Crash), Move::Harm(db(), Crash), Move::Spread];
    let first = [both.clone(), vec![Move::Sync, Move::Reread(db())]].concat();
    scope.starts = vec![both, first];
    scope.left = Left { harms: 0, mends: 1, lies: 1, replays: 0, crashes: 1, orders: 0, ticks: 2, calms: 1 };
    scope.moves = 3;
    scope.reaches = &["acting", "act", "settling", "rejected own_vendor", "outcome inferred"];
    holds(scope);
}

#[test]
fn a_silent_process_is_asked_before_it_is_killed() {
    let mut scope = Scope::new("hang", 3, &["vera"]);
    scope.classes = vec![Hang];
    let silent = vec![harm(Hang), Move::Tick, Move::Tick, Move::Spread];
    let challenged = [silent.clone(), vec![vera(Lie::Approve(otto(), Hang))]].concat();
    let breathes = [challenged.clone(), vec![Move::Mend(otto())]].concat();
    let certified = [challenged.clone(), vec![Move::Tick]].concat();
    scope.starts = vec![silent, challenged, breathes, certified];
    scope.left = Left { harms: 1, mends: 1, lies: 1, replays: 0, crashes: 1, orders: 0, ticks: 2, calms: 1 };
    scope.moves = 3;
    scope.reaches = &["challenged", "challenge_answered", "certified", "acting", "act", "votes_gone", "outcome ok"];
    holds(scope);
}

#[test]
fn broken_work_is_observed_again_before_anything_is_done() {
    let mut scope = Scope::new("broken", 3, &["vera"]);
    scope.classes = vec![Failing];
    let failing = vec![harm(Failing), Move::Tick, Move::Spread];
    let challenged = [failing.clone(), vec![vera(Lie::Approve(otto(), Failing))]].concat();
    let again = [challenged.clone(), vec![Move::Spread]].concat();
    let acted = [again.clone(), vec![vera(Lie::Approve(otto(), Failing)), Move::Sync, Move::Reread(otto())]].concat();
    let in_vain = [acted.clone(), vec![Move::Act(otto(), Deed::InVain), Move::Spread, Move::Sync]].concat();
    // Beyond the moments in which a word may still be of before the repair's end.
    let later = [in_vain.clone(), vec![Move::Tick, Move::Spread, Move::Tick, Move::Spread]].concat();
    scope.starts = vec![failing, challenged, again, acted, in_vain, later];
    scope.left = Left { harms: 1, mends: 1, lies: 2, replays: 0, crashes: 0, orders: 0, ticks: 1, calms: 1 };
    scope.moves = 3;
    scope.reaches =
        &["challenged", "not_observed_again", "certified", "acting", "act", "settling", "outcome ok", "not_helped"];
    holds(scope);
}

#[test]
fn the_operator_is_sovereign() {
    let mut scope = Scope::new("operator", 3, &["otto"]).with_policy(|policy| {
        let otto = policy.subjects.get_mut(&otto()).expect("it is there");
        otto.ladder[0].consent = Consent::QuorumAndOperator;
    });
    let waits = vec![harm(Crash), Move::Spread];
    let approved =
        [waits.clone(), vec![Move::Order(Order::Approve(otto())), Move::Spread, Move::Tick, Move::Spread]].concat();
    let durable = [approved.clone(), vec![Move::Sync]].concat();
    let liar = vec![Move::Lie(persona("otto"), Lie::Twice(subject("db"), Crash))];
    scope.starts = vec![waits.clone(), approved, durable, liar, [waits, vec![Move::Tick; 5]].concat()];
    scope.left = Left { harms: 1, mends: 0, lies: 0, replays: 0, crashes: 1, orders: 2, ticks: 2, calms: 1 };
    scope.moves = 3;
    scope.reaches = &[
        "awaiting_approval",
        "approved",
        "approval_expired",
        "acting",
        "act",
        "hold",
        "abort hold",
        "readmitted",
        "operator",
    ];
    holds(scope);
}

#[test]
fn what_is_spent_stays_spent_across_restarts() {
    let mut scope = Scope::new("spent", 3, &["otto"]).with_policy(|policy| {
        policy.subjects.get_mut(&otto()).expect("it is there").budget.capacity = 1;
        policy.subjects.get_mut(&subject("db")).expect("it is there").ladder = rungs(&[Action::Restart]);
    });
    let db = || subject("db");
    let calm = |count| vec![Move::Calm; count];
    let once = [vec![harm(Crash)], calm(3)].concat();
    let again = [once.clone(), vec![harm(Crash)]].concat();
    let in_vain = vec![
        Move::Harm(db(), Crash),
        Move::Spread,
        Move::Sync,
        Move::Reread(db()),
        Move::Act(db(), Deed::InVain),
        Move::Spread,
        Move::Tick,
        Move::Tick,
        Move::Tick,
    ];
    let unheard = [
        vec![
            harm(Crash),
            Move::Spread,
            Move::Sync,
            Move::Reread(otto()),
            Move::Act(otto(), Deed::Done),
            Move::Spread,
            Move::Sync,
        ],
        vec![Move::Tick; 5],
    ]
    .concat();
    scope.starts = vec![once, again, in_vain, unheard];
    scope.left = Left { harms: 1, mends: 0, lies: 0, replays: 0, crashes: 1, orders: 0, ticks: 3, calms: 2 };
    scope.moves = 3;
    scope.reaches =
        &["held", "page budget_spent", "page ladder_spent", "budget", "outcome failed", "outcome unconfirmed"];
    holds(scope);
}

#[test]
fn a_forged_vote_counts_for_nothing() {
    let mut scope = Scope::new("forged", 3, &["vera"]);
    scope.forges = true;
    scope.from_rest = false;
    scope.starts = vec![vec![harm(Crash), Move::Spread]];
    scope.left = Left { harms: 0, mends: 0, lies: 2, replays: 0, crashes: 0, orders: 0, ticks: 0, calms: 0 };
    scope.moves = 3;
    scope.reaches = &[
        "rejected not_fresh",
        "rejected unsupported",
        "rejected other_round",
        "rejected other_rung",
        "rejected other_incarnation",
        "rejected wrong_author",
        "rejected quarantined",
        "act",
    ];
    holds(scope);
}

/// Two wrappers whose personas accuse each other; the third is a liar.
#[test]
fn two_that_accuse_each_other_are_both_left_alone_for_a_while() {
    let mut scope = Scope::new("mutual", 3, &["vera"]).with_policy(|policy| {
        policy.subjects = [(subject("lior"), wrapper("lior")), (otto(), wrapper("otto"))].into();
    });
    scope.classes = vec![Failing];
    let both = vec![harm(Failing), Move::Harm(subject("lior"), Failing), Move::Tick, Move::Spread];
    scope.starts = vec![both];
    scope.left = Left { harms: 1, mends: 1, lies: 2, replays: 0, crashes: 0, orders: 0, ticks: 2, calms: 1 };
    scope.moves = 3;
    scope.reaches = &["page mutual_accusation"];
    holds(scope);
}

/// Three wrappers whose work breaks at once, one of them the liar's.
#[test]
fn a_host_of_which_most_is_accused_is_left_alone_for_a_while() {
    let mut scope = Scope::new("mass", 3, &["vera"]).with_policy(|policy| {
        let wrappers = ["lior", "otto", "vera"].map(|name| (subject(name), wrapper(name)));
        policy.subjects = wrappers.into();
    });
    scope.classes = vec![Failing];
    let all = ["lior", "otto", "vera"].map(|name| Move::Harm(subject(name), Failing));
    scope.starts = vec![all.into_iter().chain([Move::Tick, Move::Spread]).collect()];
    scope.from_rest = false;
    scope.left = Left { harms: 0, mends: 1, lies: 1, replays: 0, crashes: 0, orders: 0, ticks: 2, calms: 1 };
    scope.moves = 3;
    scope.reaches = &["page mass_accusation"];
    holds(scope);
}

#[test]
fn a_journal_that_was_rolled_back_shows() {
    let mut scope = Scope::new("journal", 3, &["otto"]);
    let repaired = vec![harm(Crash), Move::Calm, Move::Calm];
    scope.starts = vec![repaired];
    scope.left = Left { harms: 1, mends: 0, lies: 0, replays: 0, crashes: 2, orders: 0, ticks: 1, calms: 1 };
    scope.moves = 3;
    scope.reaches = &["page journal"];
    holds(scope);
}

#[test]
fn five_vendors_stand_two_liars() {
    let mut scope = Scope::new("five", 5, &["vera", "riven"]);
    let voted = vec![harm(Crash), Move::Spread];
    let two =
        [vec![harm(Crash), Move::Harm(subject("db"), Crash), Move::Spread], vec![vera(Lie::Approve(otto(), Crash))]]
            .concat();
    scope.starts = vec![voted, two];
    scope.left = Left { mends: 1, lies: 1, crashes: 1, ticks: 1, ..Left::NONE };
    scope.moves = 3;
    scope.reaches = &["acting", "act", "settling"];
    holds(scope);
}
