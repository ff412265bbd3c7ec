//! Negative models: each is broken in one rule, and the checker must find just the property that the rule is there for.

use crate::broken::Broken;
use crate::explore::explore;
use crate::moves::{Deed, Lie, Move};
use crate::scope::{Left, S, Scope, persona, rungs, subject, vendor, wrapper};
use std::sync::Arc;
use std::time::Duration;
use zeta_bft::protocol::evidence::FaultClass::{Broken as Failing, Crash, Hang};
use zeta_bft::protocol::policy::Action;

/// Explores until something breaks, and wants it to be this rule.
fn breaks(scope: Scope, rule: &'static str) {
    let found = explore(&Arc::new(scope));
    let rules: Vec<_> = found.broken.iter().map(|(rule, ..)| *rule).collect();
    assert_eq!(rules, [rule], "a rule is void, and the model must find {rule} broken, and nothing else");
}

fn harm(name: &str) -> Move {
    Move::Harm(subject(name), Crash)
}

fn lie(by: &str, what: Lie) -> Move {
    Move::Lie(persona(by), what)
}

/// With two liars where one is tolerated, q is no more than the number of liars.
#[test]
fn a_quorum_of_no_more_than_the_liars_is_found_out() {
    let mut scope = Scope::new("q = f", 3, &["lior", "vera"]);
    scope.is_misled = true;
    scope.classes = vec![Failing];
    let otto = || subject("otto");
    let accuse = |liar| lie(liar, Lie::Approve(otto(), Failing));
    scope.from_rest = false;
    scope.starts = vec![vec![accuse("lior"), accuse("vera")]];
    scope.left = Left { lies: 2, ..Left::NONE };
    scope.moves = 3;
    breaks(scope, "S1");
}

#[test]
fn a_warden_that_hears_no_withdraw_is_found_out() {
    let mut scope = Scope::new("no WITHDRAW", 3, &["vera"]);
    scope.broken = Some(Broken::HearsNoWithdraw);
    scope.from_rest = false;
    scope.starts =
        vec![vec![harm("otto"), Move::WardenSees(subject("otto")), Move::GuardSees(persona("lior"), subject("otto"))]];
    scope.left = Left { lies: 2, ..Left::NONE };
    scope.moves = 4;
    breaks(scope, "S4");
}

#[test]
fn a_warden_that_does_not_look_again_is_found_out() {
    let mut scope = Scope::new("no compare-and-act", 3, &["otto"]);
    scope.broken = Some(Broken::LooksNoMore);
    scope.from_rest = false;
    scope.starts = vec![vec![harm("otto"), Move::Spread]];
    scope.left = Left { mends: 1, ..Left::NONE };
    scope.moves = 4;
    breaks(scope, "S3");
}

#[test]
fn an_agent_that_chooses_its_own_incarnation_is_found_out() {
    let mut scope = Scope::new("self-chosen incarnation", 3, &["vera"]);
    scope.broken = Some(Broken::ChoosesIncarnation);
    scope.left = Left { crashes: 1, calms: 4, ..Left::NONE };
    scope.moves = 6;
    breaks(scope, "S8");
}

#[test]
fn a_warden_that_acts_before_its_journal_is_on_the_disk_is_found_out() {
    let mut scope = Scope::new("act before journal", 3, &["otto"]);
    scope.broken = Some(Broken::ActsBeforeJournal);
    scope.left = Left { harms: 1, ..Left::NONE };
    scope.moves = 8;
    breaks(scope, "S2");
}

/// Two personas are silent. Whoever was heard before the one is restarted must speak again before the other is.
#[test]
fn an_epoch_per_subject_is_found_out() {
    let mut scope = Scope::new("per-subject epoch", 5, &["vera", "riven"]).with_policy(|policy| {
        policy.subjects.insert(subject("lior"), wrapper("lior"));
    });
    scope.broken = Some(Broken::EpochPerSubject);
    scope.classes = vec![Hang];
    scope.from_rest = false;
    let approve = |name: &str| lie("vera", Lie::Approve(subject(name), Hang));
    scope.starts = vec![vec![
        Move::Harm(subject("otto"), Hang),
        Move::Harm(subject("lior"), Hang),
        Move::Tick,
        Move::Tick,
        Move::Spread,
        approve("otto"),
        // Nobody of `otto` answers: INTENT. What was said of `lior` meanwhile is on its way.
        Move::Tick,
        approve("lior"),
    ]];
    scope.left = Left { ticks: 1, ..Left::NONE };
    scope.moves = 4;
    breaks(scope, "S4");
}

#[test]
fn a_vote_without_a_nonce_is_found_out() {
    let mut scope = Scope::new("replay without nonce", 3, &["vera"]).with_policy(|policy| {
        (policy.timing.cool_down, policy.timing.cool_down_max) = (Duration::ZERO, Duration::ZERO);
    });
    scope.broken = Some(Broken::IgnoresNonce);
    scope.from_rest = false;
    let otto = || subject("otto");
    scope.starts = vec![vec![
        harm("otto"),
        Move::WardenSees(otto()),
        Move::GuardSees(persona("lior"), otto()),
        Move::Spread,
        lie("vera", Lie::Approve(otto(), Crash)),
        Move::Sync,
        Move::Reread(otto()),
        Move::Act(otto(), Deed::Untouched),
    ]];
    scope.left = Left { lies: 1, replays: 1, ..Left::NONE };
    scope.moves = 4;
    breaks(scope, "S1");
}

/// Two personas of one vendor, which the warden takes for two vendors.
#[test]
fn a_vendor_that_is_counted_twice_is_found_out() {
    let members = [("lior", "google-gemini"), ("olga", "another"), ("otto", "anthropic"), ("vera", "openai")];
    let mut scope = Scope::new("vendor counted twice", 3, &["otto", "olga"]).misled_roster(&members, 1, 2);
    scope.truth.vendors.insert(persona("olga"), vendor("anthropic"));
    scope.from_rest = false;
    scope.starts = vec![vec![harm("db"), Move::WardenSees(subject("db"))]];
    scope.left = Left { lies: 2, ..Left::NONE };
    scope.moves = 3;
    breaks(scope, "S1");
}

/// The warden does not know whose subject it is.
#[test]
fn a_vendor_that_votes_on_its_own_subject_is_found_out() {
    let mut scope = Scope::new("subject's vendor counted", 3, &["otto"]).misled(|policy| {
        policy.subjects.get_mut(&subject("otto")).expect("it is there").vendor = None;
    });
    scope.from_rest = false;
    scope.starts = vec![vec![harm("otto"), Move::WardenSees(subject("otto"))]];
    scope.left = Left { lies: 1, ..Left::NONE };
    scope.moves = 4;
    breaks(scope, "S1");
}

#[test]
fn a_committee_that_repeats_hearsay_is_found_out() {
    let mut scope = Scope::new("hearsay votes", 3, &["vera"]);
    scope.broken = Some(Broken::CountsHearsay);
    scope.classes = vec![Failing];
    scope.left = Left { lies: 2, ..Left::NONE };
    scope.moves = 3;
    breaks(scope, "S1");
}

#[test]
fn a_budget_that_a_restart_forgets_is_found_out() {
    let mut scope = Scope::new("budget not persisted", 3, &["otto"]).with_policy(|policy| {
        let otto = policy.subjects.get_mut(&subject("otto")).expect("it is there");
        otto.budget.capacity = 1;
        otto.ladder = rungs(&[Action::Restart, Action::Restart]);
    });
    scope.broken = Some(Broken::ForgetsBudgets);
    scope.from_rest = false;
    scope.starts = vec![vec![harm("otto"), Move::Calm, Move::Calm, Move::Calm, Move::Calm]];
    scope.left = Left { harms: 1, crashes: 1, calms: 3, ..Left::NONE };
    scope.moves = 5;
    breaks(scope, "S6");
}

#[test]
fn a_vote_that_lasts_for_ever_is_found_out() {
    let mut scope = Scope::new("TTL ignored", 3, &["vera"]).misled(|policy| policy.timing.crash.vote_ttl = 1000 * S);
    scope.from_rest = false;
    let otto = || subject("otto");
    scope.starts = vec![vec![harm("otto"), Move::WardenSees(otto()), lie("vera", Lie::Approve(otto(), Crash))]];
    scope.left = Left { ticks: 5, ..Left::NONE };
    scope.moves = 7;
    breaks(scope, "S4");
}
