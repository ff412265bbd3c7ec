//! Actors that say again what was true at another time, or is in another place.

use super::{Actor, Lie, Scene, Voice};
use crate::rng::Rng;
use zeta_bft::protocol::evidence::FaultClass;
use zeta_bft::protocol::statement::{Choice, Header};
use zeta_bft::protocol::types::{BootId, ClusterId, NodeId};

/// Its own and others' statements once more: votes, heartbeats, sessions, episodes.
pub struct Stale;

impl Actor for Stale {
    fn speak(&mut self, voice: &mut Voice, scene: &Scene<'_>, rng: &mut Rng) -> Vec<Lie> {
        // Something of its own to say again later.
        let beat = voice.heartbeat(scene.now, scene.truth);
        let mut lies = scene.to_all(&voice.seal(&beat));
        for episode in voice.episodes() {
            if let Some(class) = (scene.truth)(&episode.subject) {
                let vote = voice.vote(scene.now, &episode, class, Choice::Approve);
                lies.insert(0, Lie::ToWarden(voice.seal(&vote)));
            }
        }
        for _ in 0..4 {
            if !voice.seen.is_empty() {
                lies.extend(scene.to_all(rng.pick(&voice.seen)));
            }
        }
        lies
    }
}

/// What one key could have signed elsewhere: for another node, another cluster, another boot, with fitting votes.
pub struct Cross;

impl Cross {
    fn carry(rng: &mut Rng, header: &mut Header) {
        match rng.below(3) {
            0 => header.node = NodeId::new("node-2").expect("a valid name"),
            1 => header.boot = BootId(rng.bytes()),
            _ => header.cluster = ClusterId::new("elsewhere").expect("a valid name"),
        }
    }
}

impl Actor for Cross {
    fn speak(&mut self, voice: &mut Voice, scene: &Scene<'_>, rng: &mut Rng) -> Vec<Lie> {
        let mut beat = voice.heartbeat(scene.now, &|_| Some(FaultClass::Crash));
        Self::carry(rng, &mut beat.header);
        let mut lies = scene.to_all(&voice.seal(&beat));
        for episode in voice.episodes() {
            let class = (scene.truth)(&episode.subject).unwrap_or(FaultClass::Hang);
            let mut vote = voice.vote(scene.now, &episode, class, Choice::Approve);
            Self::carry(rng, &mut vote.header);
            lies.extend(scene.to_all(&voice.seal(&vote)));
        }
        lies
    }
}
