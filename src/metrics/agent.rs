//! Metrics of an agent.

use super::{Closed, Exposition, FloatGauge, REJECTED, closed, registry, unix_seconds};
use crate::protocol::evidence::Verdict;
use crate::protocol::guardian::GuardianEvent;
use crate::protocol::policy::Policy;
use crate::protocol::statement::{Choice, StateName};
use crate::protocol::types::{PersonaId, SubjectName, Timestamp};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::gauge::Gauge;

/// What an agent shows. Clones share the numbers.
#[derive(Clone, Debug)]
pub struct AgentMetrics {
    exposition: Exposition,
    subject_state: Closed<Gauge, 2>,
    verdict: Closed<Gauge, 2>,
    peer_heartbeat: Closed<FloatGauge, 1>,
    peer_progress: Closed<FloatGauge, 1>,
    votes: Closed<Counter, 2>,
    rejected: Closed<Counter, 1>,
    equivocations: Closed<Counter, 1>,
    self_health: Gauge,
}

impl AgentMetrics {
    /// All families with all their label sets, at 0.
    pub fn new(policy: &Policy, personas: &[PersonaId]) -> Self {
        let mut r = registry();
        let subjects: Vec<&str> = policy.subjects.keys().map(SubjectName::as_str).collect();
        let personas: Vec<&str> = personas.iter().map(PersonaId::as_str).collect();

        let subject_state = Closed::new(
            &mut r,
            "zeta_bft_subject_state",
            "1 for the state that the warden last published of the subject, 0 for all others",
            ["subject", "state"],
            subjects.iter().flat_map(|s| StateName::ALL.iter().map(|state| [*s, state.as_str()])),
        );
        let verdict = Closed::new(
            &mut r,
            "zeta_bft_verdict",
            "1 for this agent's own verdict on the subject, 0 for all others",
            ["subject", "verdict"],
            subjects.iter().flat_map(|s| Verdict::ALL.iter().map(|verdict| [*s, verdict.as_str()])),
        );
        let peer_heartbeat = Closed::new(
            &mut r,
            "zeta_bft_peer_last_heartbeat_timestamp_seconds",
            "When the persona's last heartbeat came",
            ["persona"],
            personas.iter().map(|p| [*p]),
        );
        let peer_progress = Closed::new(
            &mut r,
            "zeta_bft_peer_last_progress_timestamp_seconds",
            "When the persona's last good tick ended, as this agent read it",
            ["persona"],
            personas.iter().map(|p| [*p]),
        );
        let votes = Closed::new(
            &mut r,
            "zeta_bft_votes",
            "Votes signed",
            ["subject", "kind"],
            subjects.iter().flat_map(|s| Choice::ALL.iter().map(|kind| [*s, kind.as_str()])),
        );
        let rejected = Closed::new(
            &mut r,
            "zeta_bft_statements_rejected",
            "Statements refused",
            ["reason"],
            REJECTED.iter().map(|reason| [*reason]),
        );
        let equivocations = Closed::new(
            &mut r,
            "zeta_bft_equivocations",
            "Proofs that the persona signed two statements with one number",
            ["persona"],
            personas.iter().map(|p| [*p]),
        );
        let self_health = Gauge::default();
        r.register(
            "zeta_bft_self_health_score",
            "How unwell this agent is itself: 0 is well, each point lengthens its patience",
            self_health.clone(),
        );
        Self {
            exposition: Exposition::new(r),
            subject_state,
            verdict,
            peer_heartbeat,
            peer_progress,
            votes,
            rejected,
            equivocations,
            self_health,
        }
    }

    /// What `/metrics` renders.
    pub fn exposition(&self) -> Exposition {
        self.exposition.clone()
    }

    /// Counts a fact of the core's.
    pub fn on_event(&self, event: &GuardianEvent) {
        match event {
            GuardianEvent::Rejected { reason, .. } => self.rejected.count([closed(REJECTED, reason)]),
            GuardianEvent::VerdictChanged(attestation) => {
                for verdict in Verdict::ALL {
                    let value = (*verdict == attestation.verdict).into();
                    self.verdict.set([attestation.subject.as_str(), verdict.as_str()], value);
                }
            }
            GuardianEvent::Voted { subject, kind, .. } => self.votes.count([subject.as_str(), kind]),
            GuardianEvent::Equivocated { persona, .. } => self.equivocations.count([persona.as_str()]),
            GuardianEvent::EpisodeChanged { subject, state } => {
                for name in StateName::ALL {
                    self.subject_state.set([subject.as_str(), name.as_str()], (name == state).into());
                }
            }
            GuardianEvent::SessionOpened | GuardianEvent::Abstains { .. } => {}
        }
    }

    /// A heartbeat of a persona's came now.
    pub fn peer_heartbeat(&self, persona: &PersonaId) {
        self.peer_heartbeat.set_float([persona.as_str()], crate::clock::unix().as_secs_f64());
    }

    /// A persona's last good tick ended then.
    pub fn peer_progress(&self, persona: &PersonaId, at: Timestamp) {
        self.peer_progress.set_float([persona.as_str()], unix_seconds(at));
    }

    /// How unwell this agent is itself.
    pub fn self_health(&self, score: u32) {
        self.self_health.set(score.into());
    }
}
