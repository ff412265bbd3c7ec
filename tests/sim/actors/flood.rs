//! The actor that says as much as the line takes.

use super::{Actor, Lie, Scene, Voice};
use crate::rng::Rng;
use zeta_bft::protocol::evidence::FaultClass;

/// One heartbeat many times to everybody, and many new ones to the warden.
pub struct Flooder;

impl Actor for Flooder {
    fn speak(&mut self, voice: &mut Voice, scene: &Scene<'_>, rng: &mut Rng) -> Vec<Lie> {
        let class = *rng.pick(&[FaultClass::Crash, FaultClass::Hang, FaultClass::Broken]);
        let beat = voice.heartbeat(scene.now, &|_| Some(class));
        let beat = voice.seal(&beat);
        let mut lies: Vec<_> = (0..8).flat_map(|_| scene.to_all(&beat)).collect();
        for _ in 0..8 {
            let beat = voice.heartbeat(scene.now, &|_| Some(class));
            lies.push(Lie::ToWarden(voice.seal(&beat)));
        }
        lies
    }
}
