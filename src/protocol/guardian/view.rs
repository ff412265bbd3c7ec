//! What a guardian shows of itself.

use super::super::statement::StatementCodec;
use super::super::types::Timestamp;
use super::super::view::{GuardianPeer, GuardianView};
use super::Guardian;

impl<C: StatementCodec> Guardian<C> {
    /// Everything there is to show, at `now`.
    pub fn view(&self, _now: Timestamp) -> GuardianView {
        let peers = self.peers.iter().map(|(persona, peer)| {
            let heartbeat = peer.heartbeat.as_ref();
            GuardianPeer {
                persona: persona.clone(),
                session: peer.window.as_ref().map(|window| window.session().incarnation),
                heartbeat_at: peer.heartbeat_at,
                attestations: heartbeat.map(|heartbeat| heartbeat.attestations.clone()).unwrap_or_default(),
                health: heartbeat.map_or(0, |heartbeat| heartbeat.health),
                guilty: peer.quarantined.is_some(),
                policy_matches: heartbeat.map(|heartbeat| {
                    heartbeat.header.policy == self.config.policy.digest
                        && heartbeat.header.roster == self.config.roster.digest()
                }),
            }
        });
        GuardianView {
            session: self.session.as_ref().filter(|_| self.link_is_open()).map(|session| session.incarnation),
            health: self.health.score(),
            abstains: self.abstains,
            attestations: self.observations.values().map(|seen| seen.attestation().clone()).collect(),
            ticks: self
                .observations
                .iter()
                .filter_map(|(subject, seen)| Some((subject.clone(), seen.ticks()?.clone())))
                .collect(),
            receipt: self.receipt,
            episodes: self.episodes.values().map(|published| (*published.statement).clone()).collect(),
            peers: peers.collect(),
        }
    }
}
