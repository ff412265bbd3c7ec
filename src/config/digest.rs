//! The digest of subjects, ladders and budgets as written: guardians whose digests differ abstain.
//!
//! A list of fields of its own, in fixed order: the digest changes when the policy does, and not when a type gains a field
//! that no policy writes. Not covered: mode, f and q (the roster's), deadlines, drill, and the node's addresses.

use crate::protocol::evidence::ExitZero;
use crate::protocol::policy::{Action, Consent, SubjectPolicy};
use crate::protocol::types::{Digest, SubjectName};
use serde::Serialize;
use std::collections::BTreeMap;
use std::time::Duration;

#[derive(Serialize)]
struct Canonical<'a> {
    version: u32,
    node_per_day: u32,
    subjects: BTreeMap<&'a str, Subject<'a>>,
}

#[derive(Serialize)]
struct Subject<'a> {
    kind: &'static str,
    vendor: Option<&'a str>,
    unit: &'a str,
    uid: Option<u32>,
    exit0_is_a_fault: bool,
    ladder: Vec<Rung<'a>>,
    capacity: u32,
    refill_ms: u128,
    per_day: u32,
}

#[derive(Serialize)]
struct Rung<'a> {
    action: &'static str,
    argv: &'a [String],
    limit_ms: u128,
    path: &'a str,
    operator: bool,
}

/// SHA-256 over the canonical JSON.
pub(super) fn of(subjects: &BTreeMap<SubjectName, SubjectPolicy>, node_per_day: u32) -> Digest {
    let subjects = subjects.iter().map(|(name, policy)| (name.as_str(), subject(policy))).collect();
    let canonical = Canonical { version: 1, node_per_day, subjects };
    Digest::of(&serde_json::to_vec(&canonical).expect("maps with text keys always serialise"))
}

fn subject(policy: &SubjectPolicy) -> Subject<'_> {
    let rung = |action, consent| {
        let (argv, limit, path): (&[String], Duration, &str) = match action {
            &Action::Run { ref argv, limit } => (argv, limit, ""),
            Action::MoveAside { path } | Action::CopyAside { path } => (&[], Duration::ZERO, path),
            Action::Restart | Action::ResetFailed | Action::Stop | Action::Page => (&[], Duration::ZERO, ""),
        };
        let operator = consent == Consent::QuorumAndOperator;
        Rung { action: action.kind().as_str(), argv, limit_ms: limit.as_millis(), path, operator }
    };
    Subject {
        kind: policy.kind.as_str(),
        vendor: policy.vendor.as_ref().map(|vendor| vendor.as_str()),
        unit: &policy.unit,
        uid: policy.uid,
        exit0_is_a_fault: policy.exit_zero == ExitZero::Fault,
        ladder: policy.ladder.iter().map(|step| rung(&step.action, step.consent)).collect(),
        capacity: policy.budget.capacity,
        refill_ms: policy.budget.refill.as_millis(),
        per_day: policy.budget.per_day,
    }
}
