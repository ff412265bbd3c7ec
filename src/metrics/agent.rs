//! Metrics of an agent.

use super::committee::{CommitteeMetrics, Meanings, of_personas};
use super::{Closed, Exposition, FloatGauge, registry, unix_seconds};
use crate::grpc::tls::{Material, Outcome};
use crate::observe::k3s::Look;
use crate::observe::k3s::check::Check;
use crate::protocol::evidence::Verdict;
use crate::protocol::guardian::GuardianEvent;
use crate::protocol::policy::{Policy, SubjectKind};
use crate::protocol::types::{PersonaId, SubjectName, Timestamp};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::gauge::Gauge;

/// What an agent shows. Clones share the numbers.
#[derive(Clone, Debug)]
pub struct AgentMetrics {
    exposition: Exposition,
    committee: CommitteeMetrics,
    peer_progress: Closed<FloatGauge, 1>,
    self_health: Gauge,
    k3s_probe: Closed<Gauge, 2>,
    tls_handshakes: Closed<Counter, 1>,
    tls_end: Closed<FloatGauge, 1>,
}

impl AgentMetrics {
    /// All families with all their label sets, at 0. `isolation`: every wrapper and agent has a user of its own.
    pub fn new(policy: &Policy, personas: &[PersonaId], isolation: bool) -> Self {
        let mut r = registry();
        let meanings = Meanings {
            subject_state: "1 for the state that the warden last published of the subject, 0 for all others",
            verdict: "1 for this agent's own verdict on the subject, 0 for all others",
            votes: "Votes signed",
        };
        let committee = CommitteeMetrics::new(&mut r, policy, personas, isolation, &meanings);
        let peer_progress = of_personas(
            &mut r,
            "zeta_bft_peer_last_progress_timestamp_seconds",
            "When the persona's last good tick ended, as this agent read it",
            personas,
        );
        let self_health = Gauge::default();
        r.register(
            "zeta_bft_self_health_score",
            "How unwell this agent is itself: 0 is well, each point lengthens its patience",
            self_health.clone(),
        );
        let k3s = policy.subjects.iter().filter(|(_, subject)| subject.kind == SubjectKind::K3s);
        let k3s_probe = Closed::new(
            &mut r,
            "zeta_bft_k3s_probe",
            "Of this agent's last look at k3s: 1 well, 0 not well, -1 not to be told",
            ["subject", "check"],
            k3s.flat_map(|(name, _)| Check::ALL.iter().map(|check| [name.as_str(), check.as_str()])),
        );
        for (name, _) in policy.subjects.iter().filter(|(_, subject)| subject.kind == SubjectKind::K3s) {
            Check::ALL.iter().for_each(|check| k3s_probe.set([name.as_str(), check.as_str()], -1));
        }
        let tls_handshakes = Closed::new(
            &mut r,
            "zeta_bft_tls_handshakes",
            "Handshakes of who connected over TCP, by how they ended",
            ["result"],
            Outcome::ALL.iter().map(|outcome| [outcome.as_str()]),
        );
        let tls_end = Closed::new(
            &mut r,
            "zeta_bft_tls_certificate_end_timestamp_seconds",
            "When the certificate ends that this agent shows over TCP, and when the one of the CA does; 0 while there is none of use",
            ["certificate"],
            [["own"], ["ca"]],
        );
        let exposition = Exposition::new(r);
        Self { exposition, committee, peer_progress, self_health, k3s_probe, tls_handshakes, tls_end }
    }

    /// What `/metrics` renders.
    pub fn exposition(&self) -> Exposition {
        self.exposition.clone()
    }

    /// Counts a fact of the core's.
    pub fn on_event(&self, event: &GuardianEvent) {
        match event {
            GuardianEvent::Rejected { reason, .. } => self.committee.reject(reason),
            GuardianEvent::VerdictChanged(attestation) => {
                for verdict in Verdict::ALL {
                    let value = (*verdict == attestation.verdict).into();
                    self.committee.verdict.set([attestation.subject.as_str(), verdict.as_str()], value);
                }
            }
            GuardianEvent::Voted { subject, kind, .. } => self.committee.votes.count([subject.as_str(), kind]),
            GuardianEvent::Equivocated { persona, .. } => self.committee.equivocations.count([persona.as_str()]),
            GuardianEvent::EpisodeChanged { subject, state } => {
                self.committee.show_state(subject.as_str(), state.as_str());
            }
            GuardianEvent::SessionOpened | GuardianEvent::Abstains { .. } => {}
        }
    }

    /// A heartbeat of a persona's came now.
    pub fn peer_heartbeat(&self, persona: &PersonaId) {
        self.committee.peer_heartbeat.set_float([persona.as_str()], crate::clock::unix().as_secs_f64());
    }

    /// A persona's last good tick ended then.
    pub fn peer_progress(&self, persona: &PersonaId, at: Timestamp) {
        self.peer_progress.set_float([persona.as_str()], unix_seconds(at));
    }

    /// What a look at a k3s showed.
    pub fn k3s_looked(&self, subject: &SubjectName, look: &Look) {
        for check in Check::ALL {
            let value = check.of(look).map_or(-1, i64::from);
            self.k3s_probe.set([subject.as_str(), check.as_str()], value);
        }
    }

    /// How a handshake over TCP ended.
    pub fn tls_handshake(&self, outcome: Outcome) {
        self.tls_handshakes.count([outcome.as_str()]);
    }

    /// The certificates that are in use, if any.
    pub fn tls_material(&self, material: Option<&Material>) {
        let ends = material.map_or((0, 0), |material| (material.own_end(), material.ca_end()));
        for (certificate, end) in [("own", ends.0), ("ca", ends.1)] {
            self.tls_end.set_float([certificate], std::time::Duration::from_secs(end).as_secs_f64());
        }
    }

    /// How unwell this agent is itself.
    pub fn self_health(&self, score: u32) {
        self.self_health.set(score.into());
    }
}
