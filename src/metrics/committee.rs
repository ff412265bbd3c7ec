//! Families that the warden and every agent have: what there is to say of subjects, votes and personas.

use super::{Closed, FloatGauge, REJECTED, closed};
use crate::protocol::evidence::Verdict;
use crate::protocol::policy::Policy;
use crate::protocol::statement::{Choice, StateName};
use crate::protocol::types::{PersonaId, SubjectName};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;

/// What a family means to the one daemon or the other.
pub(super) struct Meanings {
    pub(super) subject_state: &'static str,
    pub(super) verdict: &'static str,
    pub(super) votes: &'static str,
}

/// The families.
#[derive(Clone, Debug)]
pub(super) struct CommitteeMetrics {
    subject_state: Closed<Gauge, 2>,
    pub(super) verdict: Closed<Gauge, 2>,
    pub(super) peer_heartbeat: Closed<FloatGauge, 1>,
    pub(super) votes: Closed<Counter, 2>,
    rejected: Closed<Counter, 1>,
    pub(super) equivocations: Closed<Counter, 1>,
}

impl CommitteeMetrics {
    pub(super) fn new(
        r: &mut Registry,
        policy: &Policy,
        personas: &[PersonaId],
        isolation: bool,
        meanings: &Meanings,
    ) -> Self {
        let isolated = Gauge::<i64>::default();
        isolated.set(isolation.into());
        r.register(
            "zeta_bft_isolation",
            "1 when every wrapper and agent runs as a user of its own, 0 when they share",
            isolated,
        );
        let subjects: Vec<&str> = policy.subjects.keys().map(SubjectName::as_str).collect();
        let of_subjects = |words: &[&'static str]| {
            let pairs = subjects.iter().flat_map(|subject| words.iter().map(move |word| [*subject, *word]));
            pairs.collect::<Vec<_>>()
        };
        let subject_state = Closed::new(
            r,
            "zeta_bft_subject_state",
            meanings.subject_state,
            ["subject", "state"],
            of_subjects(&StateName::ALL.iter().map(|state| state.as_str()).collect::<Vec<_>>()),
        );
        let verdict = Closed::new(
            r,
            "zeta_bft_verdict",
            meanings.verdict,
            ["subject", "verdict"],
            of_subjects(&Verdict::ALL.iter().map(|verdict| verdict.as_str()).collect::<Vec<_>>()),
        );
        let peer_heartbeat = of_personas(
            r,
            "zeta_bft_peer_last_heartbeat_timestamp_seconds",
            "When the persona's last heartbeat came",
            personas,
        );
        let votes = Closed::new(
            r,
            "zeta_bft_votes",
            meanings.votes,
            ["subject", "kind"],
            of_subjects(&Choice::ALL.iter().map(|choice| choice.as_str()).collect::<Vec<_>>()),
        );
        let reasons = REJECTED.iter().map(|reason| [*reason]);
        let rejected = Closed::new(r, "zeta_bft_statements_rejected", "Statements refused", ["reason"], reasons);
        let equivocations = of_personas(
            r,
            "zeta_bft_equivocations",
            "Proofs that the persona signed two statements with one number",
            personas,
        );
        Self { subject_state, verdict, peer_heartbeat, votes, rejected, equivocations }
    }

    /// The state that a subject is in now.
    pub(super) fn show_state(&self, subject: &str, current: &str) {
        for state in StateName::ALL {
            self.subject_state.set([subject, state.as_str()], (state.as_str() == current).into());
        }
    }

    /// A statement was refused.
    pub(super) fn reject(&self, reason: &str) {
        self.rejected.count([closed(REJECTED, reason)]);
    }
}

/// A family with one series for each persona.
pub(super) fn of_personas<M>(r: &mut Registry, name: &str, help: &str, personas: &[PersonaId]) -> Closed<M, 1>
where
    M: Clone + Default + std::fmt::Debug + Send + Sync + 'static,
    prometheus_client::metrics::family::Family<super::Labels<1>, M>: prometheus_client::registry::Metric,
    fn() -> M: prometheus_client::metrics::family::MetricConstructor<M>,
{
    Closed::new(r, name, help, ["persona"], personas.iter().map(|persona| [persona.as_str()]))
}
