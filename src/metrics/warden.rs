//! Metrics of the warden.

use super::committee::{CommitteeMetrics, Meanings};
use super::{Closed, Exposition, PAGES, REFUSED, closed, registry, seconds_histogram};
use crate::protocol::evidence::Verdict;
use crate::protocol::policy::Policy;
use crate::protocol::statement::{Outcome, StateName};
use crate::protocol::types::{PersonaId, SubjectName};
use crate::protocol::warden::WardenEvent;
use crate::wire::v1::QuorumView;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;

/// What the warden shows. Clones share the numbers.
#[derive(Clone, Debug)]
pub struct WardenMetrics {
    exposition: Exposition,
    committee: CommitteeMetrics,
    vendors_live: Gauge,
    threshold: Gauge,
    repairs: Closed<Counter, 3>,
    refused: Closed<Counter, 1>,
    repair_duration: Histogram,
    detection: Histogram,
    budget: Closed<Gauge, 1>,
    held: Closed<Gauge, 1>,
    pages: Closed<Counter, 1>,
}

impl WardenMetrics {
    /// All families with all their label sets, at 0. `isolation`: every wrapper and agent has a user of its own.
    pub fn new(policy: &Policy, personas: &[PersonaId], isolation: bool) -> Self {
        let mut r = registry();
        let subjects: Vec<&str> = policy.subjects.keys().map(SubjectName::as_str).collect();
        let one = |values: &[&'static str]| values.iter().map(|v| [*v]).collect::<Vec<_>>();

        let meanings = Meanings {
            subject_state: "1 for the state that the subject is in, 0 for all others",
            verdict: "Guardians whose latest word on the subject is this verdict",
            votes: "Votes counted",
        };
        let committee = CommitteeMetrics::new(&mut r, policy, personas, isolation, &meanings);
        let vendors_live = Gauge::default();
        r.register("zeta_bft_quorum_vendors_live", "Distinct vendors that can vote now", vendors_live.clone());
        let threshold = Gauge::default();
        r.register("zeta_bft_quorum_threshold", "Distinct vendors that must agree", threshold.clone());
        let repairs = Closed::new(
            &mut r,
            "zeta_bft_repairs",
            "Repairs that ended, by how they ended",
            ["subject", "action", "result"],
            policy.subjects.iter().flat_map(|(subject, policy)| {
                policy.ladder.iter().flat_map(move |rung| {
                    Outcome::ALL
                        .iter()
                        .map(move |outcome| [subject.as_str(), rung.action.kind().as_str(), outcome.as_str()])
                })
            }),
        );
        let refused = Closed::new(&mut r, "zeta_bft_repairs_refused", "Repairs refused", ["reason"], one(REFUSED));
        let repair_duration = seconds_histogram();
        r.register(
            "zeta_bft_repair_duration_seconds",
            "From the certification to the new process",
            repair_duration.clone(),
        );
        let detection = seconds_histogram();
        r.register(
            "zeta_bft_detection_seconds",
            "From the oldest counted observation to the certification",
            detection.clone(),
        );
        let budget = Closed::new(
            &mut r,
            "zeta_bft_repair_budget_remaining",
            "Repairs left in the subject's budget",
            ["subject"],
            subjects.iter().map(|s| [*s]),
        );
        let held = Closed::new(
            &mut r,
            "zeta_bft_held",
            "1 while the subject is left alone until released or refilled",
            ["subject"],
            subjects.iter().map(|s| [*s]),
        );
        let pages = Closed::new(&mut r, "zeta_bft_pages", "Calls for a human", ["cause"], one(PAGES));
        for (subject, policy) in &policy.subjects {
            budget.set([subject.as_str()], policy.budget.capacity.into());
        }
        Self {
            exposition: Exposition::new(r),
            committee,
            vendors_live,
            threshold,
            repairs,
            refused,
            repair_duration,
            detection,
            budget,
            held,
            pages,
        }
    }

    /// What `/metrics` renders.
    pub fn exposition(&self) -> Exposition {
        self.exposition.clone()
    }

    /// Counts a fact of the core's.
    pub fn on_event(&self, event: &WardenEvent) {
        match event {
            WardenEvent::StateChanged { subject, to, .. } => self.committee.show_state(subject.as_str(), to.as_str()),
            WardenEvent::Rejected { reason, .. } => self.committee.reject(reason),
            WardenEvent::VoteCounted { subject, kind, .. } => self.committee.votes.count([subject.as_str(), kind]),
            WardenEvent::SessionOpened { .. } => {}
            WardenEvent::Refused { reason, .. } => self.refused.count([closed(REFUSED, reason)]),
            WardenEvent::Repaired { subject, action, outcome, took, detection } => {
                self.repairs.count([subject.as_str(), action.as_str(), outcome.as_str()]);
                self.repair_duration.observe(took.as_secs_f64());
                self.detection.observe(detection.as_secs_f64());
            }
            WardenEvent::Equivocated { persona } => self.committee.equivocations.count([persona.as_str()]),
        }
    }

    /// Counts a call for a human. `subject` is no label: causes are few, and the log names it.
    pub fn on_page(&self, cause: &str, _subject: &str) {
        self.pages.count([closed(PAGES, cause)]);
    }

    /// Shows how things stand.
    pub fn set_view(&self, view: &QuorumView) {
        self.vendors_live.set(view.vendors_live.into());
        self.threshold.set(view.threshold.into());
        for subject in &view.subjects {
            let name = subject.name.as_str();
            self.committee.show_state(name, &subject.state);
            for verdict in Verdict::ALL {
                let count = subject.verdicts.iter().filter(|v| v.verdict == verdict.as_str()).count();
                self.committee.verdict.set([name, verdict.as_str()], i64::try_from(count).unwrap_or(i64::MAX));
            }
            self.budget.set([name], subject.budget.into());
            let hold = view.holds.iter().any(|hold| hold.subject.as_deref().is_none_or(|held| held == name));
            self.held.set([name], (hold || subject.state == StateName::Held.as_str()).into());
        }
        let now = crate::clock::unix().as_secs_f64();
        for persona in &view.personas {
            if let Some(age) = persona.heartbeat_age_ms {
                let age = std::time::Duration::from_millis(age).as_secs_f64();
                self.committee.peer_heartbeat.set_float([&persona.persona], now - age);
            }
        }
    }
}
