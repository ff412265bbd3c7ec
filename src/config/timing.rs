//! Deadlines: the operator's changes to the defaults, and the inequalities that the protocol needs of them.

use super::ConfigError;
use super::inputs::{At, Inputs};
use super::source::Place;
use crate::protocol::policy::{ClassTiming, Timing};
use std::collections::BTreeMap;
use std::time::Duration;

/// Deadlines that do not fit each other.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{left} = {} must {relation} {right} = {}: {why}", humantime::format_duration(*.left_is), humantime::format_duration(*.right_is))]
pub struct TimingError {
    /// An option below `[policy]`.
    pub left: String,
    /// Its value.
    pub left_is: Duration,
    /// How they must relate.
    pub relation: &'static str,
    /// Another option.
    pub right: String,
    /// Its value.
    pub right_is: Duration,
    /// What goes wrong otherwise.
    pub why: &'static str,
}

/// Checks the inequalities between deadlines.
///
/// # Errors
/// [`TimingError`] names the first pair that does not fit.
pub fn check(t: &Timing) -> Result<(), TimingError> {
    let least = Duration::from_millis(10);
    let rule = |holds: bool, left: (&str, Duration), relation, right: (&str, Duration), why| {
        if holds {
            return Ok(());
        }
        let (left, left_is, right, right_is) = (left.0.to_owned(), left.1, right.0.to_owned(), right.1);
        Err(TimingError { left, left_is, relation, right, right_is, why })
    };
    for (name, value) in [
        ("heartbeat", t.heartbeat),
        ("ping", t.ping),
        ("act_timeout", t.act_timeout),
        ("ladder_reset", t.ladder_reset),
        ("page_interval", t.page_interval),
    ] {
        rule(value >= least, (name, value), "not be below", ("the least", least), "it would keep the node busy")?;
    }
    for (name, class) in classes(t) {
        let of = |option: &str| format!("{name}.{option}");
        let (challenge, ttl) = (of("challenge"), of("vote_ttl"));
        let (challenge, ttl) = ((challenge.as_str(), class.challenge), (ttl.as_str(), class.vote_ttl));
        let act = ("act_timeout", t.act_timeout);
        rule(
            class.challenge < class.vote_ttl / 2,
            challenge,
            "be less than half of",
            ttl,
            "an answer must come while the votes still hold",
        )?;
        rule(class.challenge <= t.act_timeout, challenge, "not exceed", act, "it would outlast the repair itself")?;
        rule(
            class.vote_ttl <= t.act_timeout * 2,
            ttl,
            "not exceed twice",
            act,
            "votes would outlive the repair they were cast for",
        )?;
        rule(
            t.heartbeat * 4 <= class.vote_ttl,
            ("heartbeat", t.heartbeat),
            "not exceed a quarter of",
            ttl,
            "votes must be renewed well before they expire",
        )?;
        let settle = of("settle");
        rule(
            class.settle >= t.heartbeat * 2,
            (&settle, class.settle),
            "be at least twice",
            ("heartbeat", t.heartbeat),
            "nobody could have said a word on the repair",
        )?;
    }
    for (name, class) in [("hang", t.hang), ("broken", t.broken), ("broken_k3s", t.broken_k3s)] {
        rule(
            class.challenge >= least,
            (&format!("{name}.challenge"), class.challenge),
            "not be below",
            ("the least", least),
            "soft evidence is always challenged",
        )?;
    }
    rule(
        t.hang.patience >= t.ping * 2,
        ("hang.patience", t.hang.patience),
        "be at least twice",
        ("ping", t.ping),
        "at least two pings must have been missed",
    )?;
    rule(
        t.cool_down <= t.cool_down_max,
        ("cool_down", t.cool_down),
        "not exceed",
        ("cool_down_max", t.cool_down_max),
        "it doubles up to there",
    )?;
    rule(
        t.unconfirmed_max > t.act_timeout,
        ("unconfirmed_max", t.unconfirmed_max),
        "exceed",
        ("act_timeout", t.act_timeout),
        "an action must have ended before it is given up",
    )?;
    rule(
        t.broken_k3s.settle > t.broken_k3s.vote_ttl,
        ("broken_k3s.settle", t.broken_k3s.settle),
        "exceed",
        ("broken_k3s.vote_ttl", t.broken_k3s.vote_ttl),
        "a new k3s would be judged by votes on the old one",
    )
}

fn classes(t: &Timing) -> [(&'static str, ClassTiming); 4] {
    [("crash", t.crash), ("hang", t.hang), ("broken", t.broken), ("broken_k3s", t.broken_k3s)]
}

/// The defaults with the operator's changes, checked.
pub(super) fn from_inputs(inputs: &Inputs) -> Result<Timing, ConfigError> {
    let mut t = Timing::default();
    let mut places: BTreeMap<&'static str, Place> = BTreeMap::new();
    macro_rules! change {
        ($($name:literal => $($field:ident).+;)*) => { $(
            if let Some(At { value, place }) = inputs.last(|file| file.policy.$($field).+.as_ref()) {
                t.$($field).+ = value.0;
                places.insert($name, place);
            }
        )* };
    }
    change! {
        "heartbeat" => heartbeat;
        "ping" => ping;
        "act_timeout" => act_timeout;
        "cool_down" => cool_down;
        "cool_down_max" => cool_down_max;
        "ladder_reset" => ladder_reset;
        "unconfirmed_max" => unconfirmed_max;
        "approval" => approval;
        "pair_freeze" => pair_freeze;
        "page_interval" => page_interval;
        "start_grace" => start_grace;
        "resume_grace" => resume_grace;
        "crash.patience" => crash.patience;
        "crash.challenge" => crash.challenge;
        "crash.vote_ttl" => crash.vote_ttl;
        "crash.settle" => crash.settle;
        "hang.patience" => hang.patience;
        "hang.challenge" => hang.challenge;
        "hang.vote_ttl" => hang.vote_ttl;
        "hang.settle" => hang.settle;
        "broken.patience" => broken.patience;
        "broken.challenge" => broken.challenge;
        "broken.vote_ttl" => broken.vote_ttl;
        "broken.settle" => broken.settle;
        "broken_k3s.patience" => broken_k3s.patience;
        "broken_k3s.challenge" => broken_k3s.challenge;
        "broken_k3s.vote_ttl" => broken_k3s.vote_ttl;
        "broken_k3s.settle" => broken_k3s.settle;
    }
    if let Some(At { value, place }) = inputs.last(|file| file.policy.broken_ticks.as_ref()) {
        if !(1..=100).contains(value) {
            return Err(place.complain(format!("broken_ticks = {value} must be from 1 to 100")).into());
        }
        t.broken_ticks = *value;
    }
    check(&t).map_err(|error| {
        let place = places.get(error.left.as_str()).or_else(|| places.get(error.right.as_str()));
        inputs.complain_at(place, error.to_string())
    })?;
    Ok(t)
}
