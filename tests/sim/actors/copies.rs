//! Actors that sign two statements with one number: on purpose, by running twice, or by forgetting.

use super::{Actor, Lie, Scene, Voice};
use crate::rng::Rng;
use zeta_bft::protocol::evidence::FaultClass;
use zeta_bft::protocol::statement::Choice;

/// Two heartbeats under one number: DOWN to the warden, to each peer the one or the other.
pub struct Equivocator;

impl Actor for Equivocator {
    fn speak(&mut self, voice: &mut Voice, scene: &Scene<'_>, rng: &mut Rng) -> Vec<Lie> {
        let class = *rng.pick(&[FaultClass::Crash, FaultClass::Hang, FaultClass::Broken]);
        let down = voice.heartbeat(scene.now, &|_| Some(class));
        voice.seq -= 1;
        let up = voice.heartbeat(scene.now, &|_| None);
        let (down, up) = (voice.seal(&down), voice.seal(&up));
        let mut lies = vec![Lie::ToWarden(down.clone())];
        for peer in 0..scene.personas {
            lies.push(Lie::ToPeer(peer, if rng.chance(50) { down.clone() } else { up.clone() }));
        }
        lies
    }
}

/// Two live copies of one session key: each counts for itself, sees what is true, and speaks to its own half.
#[derive(Default)]
pub struct Twins {
    other_seq: u64,
    second: bool,
}

impl Actor for Twins {
    fn speak(&mut self, voice: &mut Voice, scene: &Scene<'_>, rng: &mut Rng) -> Vec<Lie> {
        // The one that speaks now goes on from its own last number.
        std::mem::swap(&mut voice.seq, &mut self.other_seq);
        self.second = !self.second;
        let second = self.second;
        let beat = voice.heartbeat(scene.now, scene.truth);
        let mut lies = scene.to_all(&voice.seal(&beat));
        for episode in voice.episodes() {
            if let Some(class) = (scene.truth)(&episode.subject) {
                let vote = voice.vote(scene.now, &episode, class, Choice::Approve);
                lies.extend(scene.to_all(&voice.seal(&vote)));
            }
        }
        // Mostly they keep apart: each has a half, and the warden listens to one of them.
        if rng.chance(90) {
            lies.retain(|lie| match lie {
                Lie::ToPeer(peer, _) => (peer / 2).is_multiple_of(2) == second,
                _ => second,
            });
        }
        lies
    }
}

/// Loses its memory now and then: begins to count from the start, under the old key.
pub struct Amnesiac;

impl Actor for Amnesiac {
    fn speak(&mut self, voice: &mut Voice, scene: &Scene<'_>, rng: &mut Rng) -> Vec<Lie> {
        if rng.chance(15) {
            voice.seq = 0;
        }
        let beat = voice.heartbeat(scene.now, scene.truth);
        scene.to_all(&voice.seal(&beat))
    }
}
