//! Actors that say too little, or too late.

use super::{Actor, Lie, Scene, Voice};
use crate::rng::Rng;
use zeta_bft::protocol::statement::{Choice, Envelope};
use zeta_bft::protocol::types::{Digest, Timestamp};

/// Says nothing at all, and keeps its session.
pub struct Silent;

impl Actor for Silent {
    fn speak(&mut self, _: &mut Voice, _: &Scene<'_>, _: &mut Rng) -> Vec<Lie> {
        Vec::new()
    }
}

/// Says the truth, but only to some, and votes on some subjects only; whom it favours changes now and then.
#[derive(Default)]
pub struct SelectivelySilent {
    favour: u64,
}

impl Actor for SelectivelySilent {
    fn speak(&mut self, voice: &mut Voice, scene: &Scene<'_>, rng: &mut Rng) -> Vec<Lie> {
        if self.favour == 0 || rng.chance(5) {
            self.favour = rng.next() | 1;
        }
        let favour = self.favour;
        let beat = voice.heartbeat(scene.now, scene.truth);
        let mut all = scene.to_all(&voice.seal(&beat));
        for episode in voice.episodes() {
            let chosen = u64::from(Digest::of(episode.subject.as_str().as_bytes()).0[0]) ^ favour;
            if let Some(class) = (scene.truth)(&episode.subject).filter(|_| chosen.is_multiple_of(2)) {
                let vote = voice.vote(scene.now, &episode, class, Choice::Approve);
                all.extend(scene.to_all(&voice.seal(&vote)));
            }
        }
        all.retain(|lie| match lie {
            Lie::ToPeer(peer, _) => favour >> (8 + peer) & 1 == 1,
            _ => favour >> 4 & 3 != 0,
        });
        all
    }
}

/// Votes on what is true, keeps the votes, others' among them, and hands them in when their time is over.
#[derive(Default)]
pub struct Hoarder {
    kept: Vec<(Timestamp, Envelope)>,
}

impl Actor for Hoarder {
    fn speak(&mut self, voice: &mut Voice, scene: &Scene<'_>, rng: &mut Rng) -> Vec<Lie> {
        let beat = voice.heartbeat(scene.now, scene.truth);
        let mut lies = scene.to_all(&voice.seal(&beat));
        for episode in voice.episodes() {
            let Some(class) = (scene.truth)(&episode.subject) else { continue };
            let vote = voice.vote(scene.now, &episode, class, Choice::Approve);
            let due = scene.now + rng.ms(300, 6000);
            self.kept.push((due, voice.seal(&vote)));
        }
        if rng.chance(20) && !voice.seen.is_empty() {
            self.kept.push((scene.now + rng.ms(2000, 6000), rng.pick(&voice.seen).clone()));
        }
        let (due, kept) = std::mem::take(&mut self.kept).into_iter().partition(|(due, _)| *due <= scene.now);
        self.kept = kept;
        self.kept.truncate(64);
        lies.extend(due.iter().flat_map(|(_, envelope): &(Timestamp, Envelope)| scene.to_all(envelope)));
        lies
    }
}
