//! Actors whose statements are false in form: in another's name, under a stolen key, by another roster, or off by one field.

use super::words::attest;
use super::{Actor, Lie, Scene, Voice};
use crate::rng::Rng;
use std::time::Duration;
use zeta_bft::protocol::evidence::{FaultClass, Reason};
use zeta_bft::protocol::roster::RosterStatement;
use zeta_bft::protocol::signing::{Domain, SigningKey};
use zeta_bft::protocol::statement::{
    Choice, Codec as _, Envelope, EpisodeStatement, EquivocationProof, Head, JournalHead, Receipt, Session,
};
use zeta_bft::protocol::types::{
    BootId, Digest, EpisodeId, InvocationId, Nonce, Round, Rung, SessionIncarnation, SetEpoch, SubjectName,
};

/// Others' names and keys over its own signature, their words as if they were its own, and made-up proofs against them.
pub struct Impersonator;

impl Actor for Impersonator {
    fn speak(&mut self, voice: &mut Voice, scene: &Scene<'_>, rng: &mut Rng) -> Vec<Lie> {
        let mut lies = Vec::new();
        let victim = voice.somebody_else(rng, scene.personas);
        // Its name, under our key.
        let mut beat = voice.heartbeat(scene.now, &|_| Some(FaultClass::Crash));
        beat.header.persona = victim.clone();
        lies.extend(scene.to_all(&voice.seal(&beat)));
        for episode in voice.episodes() {
            let mut vote = voice.vote(scene.now, &episode, FaultClass::Crash, Choice::Approve);
            vote.header.persona = victim.clone();
            lies.push(Lie::ToWarden(voice.seal(&vote)));
        }
        // Its key, over our signature.
        let mine = voice.session_key.public();
        let heard = voice.seen.iter().rfind(|e| e.domain == Domain::Heartbeat && e.key != mine).cloned();
        if let Some(heard) = heard {
            let beat = voice.heartbeat(scene.now, &|_| Some(FaultClass::Crash));
            lies.extend(scene.to_all(&Envelope { key: heard.key, ..voice.seal(&beat) }));
            // A proof of two things that were said under two numbers, and one of a thing that was never said.
            let session = voice.seen.iter().find(|e| e.domain == Domain::Session).cloned();
            let other = voice
                .seen
                .iter()
                .find(|e| e.key == heard.key && e.domain == Domain::Heartbeat && **e != heard)
                .cloned();
            let made_up = Envelope { key: heard.key, ..voice.seal(&beat) };
            if let Some(session) = session {
                for second in [other, Some(made_up)].into_iter().flatten() {
                    let proof = EquivocationProof { session: session.clone(), first: heard.clone(), second };
                    lies.push(Lie::ProofToWarden(proof.clone()));
                    lies.extend((0..scene.personas).map(|peer| Lie::ProofToPeer(peer, proof.clone())));
                }
            }
        }
        lies
    }
}

/// Has another persona's own key, but not its process: asks for a session in its name, and signs by that key. Also asks in its
/// own name for a session under the key that another's statements are signed by.
pub struct KeyThief;

impl Actor for KeyThief {
    fn request(&mut self, voice: &Voice, nonce: Nonce, rng: &mut Rng) -> Envelope {
        let (victim, key) = &voice.stolen;
        let mine = voice.session_key.public();
        let anothers = voice.seen.iter().rfind(|e| e.domain == Domain::Heartbeat && e.key != mine).map(|e| e.key);
        match (rng.below(4), anothers) {
            (0, _) => voice.request_as(victim.clone(), key, nonce),
            (1, _) => voice.request_as(voice.persona.clone(), key, nonce),
            (2, Some(anothers)) => voice.request_under(anothers, nonce),
            _ => voice.request(nonce),
        }
    }

    fn speak(&mut self, voice: &mut Voice, scene: &Scene<'_>, _: &mut Rng) -> Vec<Lie> {
        let mut lies = Vec::new();
        let mut beat = voice.heartbeat(scene.now, &|_| Some(FaultClass::Crash));
        beat.header.persona = voice.stolen.0.clone();
        beat.header.session_key = voice.stolen.1.public();
        lies.extend(scene.to_all(&Envelope::seal(&beat, &voice.stolen.1, &voice.codec)));
        // Over our own session's key, in the name of the stolen one.
        lies.extend(scene.to_all(&voice.seal(&beat)));
        for episode in voice.episodes() {
            let mut vote = voice.vote(scene.now, &episode, FaultClass::Crash, Choice::Approve);
            vote.header.persona = voice.stolen.0.clone();
            vote.header.session_key = voice.stolen.1.public();
            lies.push(Lie::ToWarden(Envelope::seal(&vote, &voice.stolen.1, &voice.codec)));
        }
        lies
    }
}

/// Counts by a roster of its own, in which it is warden and operator, and by a policy of its own.
pub struct PoisonRoster;

impl PoisonRoster {
    fn key() -> SigningKey {
        SigningKey::from_seed(&[0x5a; 32])
    }

    fn roster(voice: &Voice) -> Envelope {
        let mine = Self::key();
        let mut statement: RosterStatement = voice.roster.statement().clone();
        statement.epoch += 1;
        statement.previous = voice.roster.digest();
        statement.warden = mine.public();
        statement.operator = mine.public();
        Envelope::seal(&statement, &mine, &voice.codec)
    }
}

impl Actor for PoisonRoster {
    fn speak(&mut self, voice: &mut Voice, scene: &Scene<'_>, rng: &mut Rng) -> Vec<Lie> {
        let mine = Self::key();
        let roster = Self::roster(voice);
        let mut lies = scene.to_all(&roster);
        let mut beat = voice.heartbeat(scene.now, &|_| Some(FaultClass::Crash));
        beat.header.roster = roster.digest();
        beat.header.roster_epoch += 1;
        lies.extend(scene.to_all(&voice.seal(&beat)));
        for mut episode in voice.episodes() {
            let mut vote = voice.vote(scene.now, &episode, FaultClass::Crash, Choice::Approve);
            if rng.chance(50) {
                vote.header.roster = roster.digest();
            } else {
                vote.header.policy = Digest::of(b"a policy of its own");
            }
            lies.push(Lie::ToWarden(voice.seal(&vote)));
            // Its own warden publishes, too.
            episode.rung = Rung(episode.rung.0 + 1);
            episode.nonce = Nonce(rng.bytes());
            lies.extend(
                (0..scene.personas).map(|peer| Lie::ToPeer(peer, Envelope::seal(&episode, &mine, &voice.codec))),
            );
        }
        // A session that its own warden minted for the stolen persona.
        let genuine = voice.seen.iter().find(|e| e.domain == Domain::Session);
        if let Some(session) = genuine.and_then(|e| -> Option<Session> { voice.codec.decode(&e.payload).ok() }) {
            let forged =
                Session { session_key: voice.session_key.public(), persona: voice.stolen.0.clone(), ..session };
            lies.extend(scene.to_all(&Envelope::seal(&forged, &mine, &voice.codec)));
        }
        // A receipt far above the journal's head, by its own warden: a rollback that never was.
        let heard = voice.seen.iter().rfind(|e| e.domain == Domain::Receipt);
        if let Some(receipt) = heard.and_then(|e| -> Option<Receipt> { voice.codec.decode(&e.payload).ok() }) {
            let forged = Receipt { seq: receipt.seq + 1_000_000, ..receipt };
            lies.push(Lie::ReceiptToWarden(Envelope::seal(&forged, &mine, &voice.codec)));
        }
        lies
    }
}

/// One field of a vote or a heartbeat is wrong, or one bit of somebody's envelope.
pub struct Mutator;

impl Mutator {
    fn vote(voice: &mut Voice, scene: &Scene<'_>, rng: &mut Rng, episode: &EpisodeStatement) -> Envelope {
        let class = (scene.truth)(&episode.subject).unwrap_or(FaultClass::Crash);
        let mut vote = voice.vote(scene.now, episode, class, Choice::Approve);
        match rng.below(22) {
            0 => vote.header.boot = BootId(rng.bytes()),
            1 => vote.round = Round(vote.round.0 + 1),
            2 => vote.rung = Rung(vote.rung.0 + 1),
            3 => vote.nonce = Nonce(rng.bytes()),
            4 => vote.episode = EpisodeId(vote.episode.0 + 1),
            5 => vote.incarnation.invocation = InvocationId(rng.bytes()),
            6 => vote.header.observed_at = scene.now + Duration::from_secs(60),
            7 => vote.attestation.observed_at = scene.now - Duration::from_secs(60),
            8 => vote.header.seq = u64::MAX,
            9 => vote.class = FaultClass::Environment,
            10 => vote.header.persona = voice.somebody_else(rng, scene.personas),
            11 => vote.header.incarnation = SessionIncarnation(vote.header.incarnation.0 + 1),
            12 => vote.set_epoch = SetEpoch(vote.set_epoch.0 + 1),
            13 => vote.subject = SubjectName::new("nobody").expect("a valid name"),
            14 => vote.attestation = attest(&vote.subject, vote.incarnation, None, scene.now),
            15 => vote.attestation.class = Some(FaultClass::Operator),
            16 => vote.attestation.subject = SubjectName::agent(&voice.persona),
            17 => vote.attestation.incarnation.invocation = InvocationId(rng.bytes()),
            18 => vote.challenge = Some(Nonce(rng.bytes())),
            19 => vote.header.session_key = voice.stolen.1.public(),
            20 => vote.incarnation.boot = BootId(rng.bytes()),
            _ => vote.attestation.reason = Reason::Running,
        }
        voice.seal(&vote)
    }
}

impl Actor for Mutator {
    fn speak(&mut self, voice: &mut Voice, scene: &Scene<'_>, rng: &mut Rng) -> Vec<Lie> {
        let mut lies = Vec::new();
        let mut beat = voice.heartbeat(scene.now, scene.truth);
        match rng.below(5) {
            0 => beat.attestations.reverse(),
            1 => beat.attestations.extend(beat.attestations.clone()),
            2 => beat.receipt = JournalHead { seq: u64::MAX, hash: Digest::of(b"a head") },
            3 => beat.health = u32::MAX,
            _ => {
                let persona = voice.somebody_else(rng, scene.personas);
                let key = voice.seen.last().map_or(voice.session_key.public(), |e| e.key);
                beat.heads.push(Head { persona, session_key: key, seq: rng.below(40), digest: Digest::of(b"a head") });
            }
        }
        lies.extend(scene.to_all(&voice.seal(&beat)));
        for episode in voice.episodes() {
            let vote = Self::vote(voice, scene, rng, &episode);
            lies.extend(scene.to_all(&vote));
        }
        // One bit of what somebody signed; and what was signed, cut short and signed again.
        if !voice.seen.is_empty() {
            let mut flipped = rng.pick(&voice.seen).clone();
            let mut payload = flipped.payload.to_vec();
            if !payload.is_empty() {
                let (at, bit) = (rng.index(payload.len()), rng.below(8));
                payload[at] ^= 1 << bit;
                flipped.payload = payload.into();
                lies.extend(scene.to_all(&flipped));
            }
            let beat = voice.heartbeat(scene.now, &|_| None);
            let whole = voice.seal(&beat);
            let short = whole.payload[..rng.index(whole.payload.len())].to_vec();
            lies.extend(scene.to_all(&voice.sign_bytes(whole, short)));
        }
        lies
    }
}
