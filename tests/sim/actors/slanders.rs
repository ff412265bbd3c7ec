//! Actors that say what is not so, or take back what is, in well-formed statements of their own.

use super::{Actor, Lie, Scene, Voice};
use crate::rng::Rng;
use zeta_bft::protocol::evidence::{FaultClass, Reason};
use zeta_bft::protocol::statement::{Choice, StateName};
use zeta_bft::protocol::types::SubjectName;

const CLASSES: [FaultClass; 3] = [FaultClass::Crash, FaultClass::Hang, FaultClass::Broken];

/// DOWN and APPROVE on everything, by the true fault where there is one.
pub struct Down;

impl Actor for Down {
    fn speak(&mut self, voice: &mut Voice, scene: &Scene<'_>, rng: &mut Rng) -> Vec<Lie> {
        let class = *rng.pick(&CLASSES);
        let beat = voice.heartbeat(scene.now, &|_| Some(class));
        let mut lies = scene.to_all(&voice.seal(&beat));
        for episode in voice.episodes() {
            let class = if rng.chance(50) { class } else { (scene.truth)(&episode.subject).unwrap_or(class) };
            let mut vote = voice.vote(scene.now, &episode, class, Choice::Approve);
            if rng.chance(30) {
                // The reason names the step that is to be taken.
                vote.attestation.reason = *rng.pick(&[Reason::EmptyFile, Reason::Datastore, Reason::WantsHuman]);
            }
            lies.extend(scene.to_all(&voice.seal(&vote)));
        }
        lies
    }
}

/// UP on everything, and WITHDRAW.
pub struct Up;

impl Actor for Up {
    fn speak(&mut self, voice: &mut Voice, scene: &Scene<'_>, rng: &mut Rng) -> Vec<Lie> {
        let beat = voice.heartbeat(scene.now, &|_| None);
        let mut lies = scene.to_all(&voice.seal(&beat));
        for episode in voice.episodes() {
            let vote = voice.vote(scene.now, &episode, *rng.pick(&CLASSES), Choice::Withdraw);
            lies.push(Lie::ToWarden(voice.seal(&vote)));
        }
        lies
    }
}

/// DOWN to the warden and every second peer, UP to the others, each under a number of its own; and votes to and fro.
pub struct BothSides;

impl Actor for BothSides {
    fn speak(&mut self, voice: &mut Voice, scene: &Scene<'_>, rng: &mut Rng) -> Vec<Lie> {
        let class = *rng.pick(&CLASSES);
        let down = voice.heartbeat(scene.now, &|_| Some(class));
        let up = voice.heartbeat(scene.now, &|_| None);
        let (down, up) = (voice.seal(&down), voice.seal(&up));
        let mut lies = vec![Lie::ToWarden(down.clone())];
        lies.extend((0..scene.personas).map(|i| Lie::ToPeer(i, if i % 2 == 0 { down.clone() } else { up.clone() })));
        for episode in voice.episodes() {
            for choice in [Choice::Approve, Choice::Withdraw, Choice::Approve] {
                let vote = voice.vote(scene.now, &episode, class, choice);
                lies.push(Lie::ToWarden(voice.seal(&vote)));
            }
        }
        lies
    }
}

/// Approves what is true, and takes it back at once.
pub struct VoteThenWithdraw;

impl Actor for VoteThenWithdraw {
    fn speak(&mut self, voice: &mut Voice, scene: &Scene<'_>, _: &mut Rng) -> Vec<Lie> {
        let beat = voice.heartbeat(scene.now, scene.truth);
        let mut lies = scene.to_all(&voice.seal(&beat));
        for episode in voice.episodes() {
            let Some(class) = (scene.truth)(&episode.subject) else { continue };
            for choice in [Choice::Approve, Choice::Withdraw] {
                let vote = voice.vote(scene.now, &episode, class, choice);
                lies.extend(scene.to_all(&voice.seal(&vote)));
            }
        }
        lies
    }
}

/// Keeps others waiting: calls everything else silent, so that challenges go round in vain; brings what is true to the brink
/// of a repair, and withdraws there.
#[derive(Default)]
pub struct Starver {
    turn: usize,
}

impl Actor for Starver {
    fn speak(&mut self, voice: &mut Voice, scene: &Scene<'_>, _: &mut Rng) -> Vec<Lie> {
        self.turn += 1;
        let truth = |subject: &SubjectName| (scene.truth)(subject);
        let beat = voice.heartbeat(scene.now, &|subject| truth(subject).or(Some(FaultClass::Hang)));
        let mut lies = scene.to_all(&voice.seal(&beat));
        for (place, episode) in voice.episodes().into_iter().enumerate() {
            let brink = matches!(episode.state, StateName::Certified | StateName::Challenged | StateName::Acting);
            let (class, choice) = match truth(&episode.subject) {
                Some(class) if brink => (class, Choice::Withdraw),
                Some(class) => (class, Choice::Approve),
                None if (self.turn + place).is_multiple_of(2) => (FaultClass::Hang, Choice::Approve),
                None => (FaultClass::Broken, Choice::Approve),
            };
            let vote = voice.vote(scene.now, &episode, class, choice);
            lies.push(Lie::ToWarden(voice.seal(&vote)));
        }
        lies
    }
}

/// Approves whatever a correct voter would: an honest-looking accomplice.
pub struct Accomplice;

impl Actor for Accomplice {
    fn speak(&mut self, voice: &mut Voice, scene: &Scene<'_>, _: &mut Rng) -> Vec<Lie> {
        let beat = voice.heartbeat(scene.now, &|_| None);
        let mut lies = scene.to_all(&voice.seal(&beat));
        for episode in voice.episodes() {
            if let Some(class) = (scene.truth)(&episode.subject) {
                let vote = voice.vote(scene.now, &episode, class, Choice::Approve);
                lies.extend(scene.to_all(&voice.seal(&vote)));
            }
        }
        lies
    }
}
