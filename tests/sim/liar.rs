//! The liar: a compromised guardian that signs with a real persona's real session, and knows everything.
//!
//! It is handed the episodes that the warden publishes and everything that passes by, and says whatever hurts most. What it
//! says is well-formed and well-signed unless garbage is the point.

use crate::rng::Rng;
use std::collections::BTreeMap;
use std::sync::Arc;
use zeta_bft::protocol::evidence::{Attestation, Evidence, FaultClass, Reason, Verdict};
use zeta_bft::protocol::roster::Roster;
use zeta_bft::protocol::signing::SigningKey;
use zeta_bft::protocol::statement::{
    Choice, Envelope, EpisodeStatement, Header, Heartbeat, JournalHead, SessionRequest, Vote,
};
use zeta_bft::protocol::types::{
    BootId, Digest, EpisodeId, Incarnation, InvocationId, Nonce, PersonaId, Round, Rung, SessionIncarnation,
    SubjectName, Timestamp,
};
use zeta_bft::wire::Proto;

/// What it does for a while.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Habit {
    /// DOWN and APPROVE on everything.
    AccuseAll,
    /// UP on everything, and WITHDRAW.
    DenyAll,
    /// One thing to one, the other to the other, with numbers of their own.
    BothSides,
    /// Nothing at all.
    Withhold,
    /// Two statements with one number.
    Equivocate,
    /// What was said before, its own and others'.
    Replay,
    /// Votes for other boots, rounds, rungs, nonces, and times.
    Forge,
    /// As much as the line takes.
    Flood,
    /// Approves whatever a correct voter would approve: an honest-looking accomplice.
    Accomplice,
}

const HABITS: [Habit; 9] = [
    Habit::AccuseAll,
    Habit::DenyAll,
    Habit::BothSides,
    Habit::Withhold,
    Habit::Equivocate,
    Habit::Replay,
    Habit::Forge,
    Habit::Flood,
    Habit::Accomplice,
];

/// Where a lie goes.
pub enum To {
    Warden,
    Peer(usize),
}

/// The actor.
pub struct Liar {
    pub persona: PersonaId,
    persona_key: SigningKey,
    session_key: SigningKey,
    roster: Arc<Roster>,
    policy: Digest,
    boot: BootId,
    session: Option<SessionIncarnation>,
    seq: u64,
    habit: Habit,
    /// Equivocates in this life: not every liar may be proven.
    may_equivocate: bool,
    episodes: BTreeMap<SubjectName, EpisodeStatement>,
    seen: Vec<Envelope>,
}

impl Liar {
    pub fn new(
        persona: PersonaId,
        keys: (SigningKey, SigningKey),
        roster: Arc<Roster>,
        policy: Digest,
        boot: BootId,
        rng: &mut Rng,
    ) -> Self {
        Self {
            persona,
            persona_key: keys.0,
            session_key: keys.1,
            roster,
            policy,
            boot,
            session: None,
            seq: 0,
            habit: Habit::Accomplice,
            may_equivocate: rng.chance(25),
            episodes: BTreeMap::new(),
            seen: Vec::new(),
        }
    }

    pub fn request(&self, nonce: Nonce) -> Envelope {
        let request = SessionRequest {
            cluster: self.roster.cluster().clone(),
            node: self.roster.node().clone(),
            persona: self.persona.clone(),
            session_key: self.session_key.public(),
            nonce,
            roster: self.roster.digest(),
            policy: self.policy,
        };
        Envelope::seal(&request, &self.persona_key, &Proto)
    }

    pub fn session_opened(&mut self, incarnation: SessionIncarnation) {
        self.session = Some(incarnation);
    }

    pub fn published(&mut self, episode: EpisodeStatement) {
        self.episodes.insert(episode.subject.clone(), episode);
    }

    pub fn overheard(&mut self, envelope: Envelope) {
        if self.seen.len() < 64 {
            self.seen.push(envelope);
        }
    }

    fn header(&mut self, now: Timestamp) -> Header {
        self.seq += 1;
        Header {
            cluster: self.roster.cluster().clone(),
            node: self.roster.node().clone(),
            boot: self.boot,
            roster_epoch: self.roster.epoch(),
            roster: self.roster.digest(),
            policy: self.policy,
            persona: self.persona.clone(),
            incarnation: self.session.unwrap_or_default(),
            session_key: self.session_key.public(),
            seq: self.seq,
            observed_at: now,
        }
    }

    fn attest(
        subject: &SubjectName,
        incarnation: Incarnation,
        class: Option<FaultClass>,
        now: Timestamp,
    ) -> Attestation {
        Attestation {
            subject: subject.clone(),
            incarnation,
            verdict: if class.is_some() { Verdict::Down } else { Verdict::Up },
            class,
            evidence: class.map_or(Evidence::Soft, FaultClass::evidence),
            reason: match class {
                None => Reason::Running,
                Some(FaultClass::Crash) => Reason::Killed,
                Some(FaultClass::Hang) => Reason::PingSilent,
                Some(_) => Reason::TickFailed,
            },
            observation: Digest::of(b"a lie"),
            observed_at: now,
            resume_at: None,
        }
    }

    fn heartbeat(&mut self, now: Timestamp, class: Option<FaultClass>) -> Envelope {
        let header = self.header(now);
        let attestations =
            self.episodes.values().map(|e| Self::attest(&e.subject, e.incarnation, class, now)).collect();
        let heartbeat =
            Heartbeat { header, attestations, health: 0, heads: Vec::new(), receipt: JournalHead::default() };
        Envelope::seal(&heartbeat, &self.session_key, &Proto)
    }

    fn vote(&mut self, now: Timestamp, episode: &EpisodeStatement, class: FaultClass, choice: Choice) -> Vote {
        Vote {
            header: self.header(now),
            episode: episode.id,
            round: episode.round,
            nonce: episode.nonce,
            set_epoch: episode.set_epoch,
            subject: episode.subject.clone(),
            incarnation: episode.incarnation,
            rung: episode.rung,
            class,
            choice,
            challenge: episode.challenge,
            attestation: Self::attest(&episode.subject, episode.incarnation, Some(class), now),
        }
    }

    fn seal(&self, vote: &Vote) -> Envelope {
        Envelope::seal(vote, &self.session_key, &Proto)
    }

    /// One of a vote's bindings is wrong: none of these may ever count.
    fn forge(&mut self, rng: &mut Rng, now: Timestamp, episode: &EpisodeStatement, class: FaultClass) -> Envelope {
        let mut vote = self.vote(now, episode, class, Choice::Approve);
        match rng.below(12) {
            0 => vote.header.boot = BootId(rng.bytes()),
            1 => vote.round = Round(vote.round.0 + 1),
            2 => vote.rung = Rung(vote.rung.0 + 1),
            3 => vote.nonce = Nonce(rng.bytes()),
            4 => vote.episode = EpisodeId(vote.episode.0 + 1),
            5 => vote.incarnation.invocation = InvocationId(rng.bytes()),
            6 => vote.header.observed_at = now + std::time::Duration::from_secs(60),
            7 => vote.attestation.observed_at = now - std::time::Duration::from_secs(60),
            8 => vote.header.seq = u64::MAX,
            9 => vote.class = FaultClass::Environment,
            10 => vote.header.persona = PersonaId::new("vera").expect("a valid name"),
            _ => vote.header.incarnation = SessionIncarnation(vote.header.incarnation.0 + 1),
        }
        self.seal(&vote)
    }

    /// What it says now, and to whom; called a few times per heartbeat.
    pub fn speak(
        &mut self,
        rng: &mut Rng,
        now: Timestamp,
        personas: usize,
        truth: &dyn Fn(&SubjectName) -> Option<FaultClass>,
    ) -> Vec<(To, Envelope)> {
        if self.session.is_none() {
            return Vec::new();
        }
        if rng.chance(10) {
            self.habit = *rng.pick(&HABITS);
            if self.habit == Habit::Equivocate && !self.may_equivocate {
                self.habit = Habit::Accomplice;
            }
        }
        let class = *rng.pick(&[FaultClass::Crash, FaultClass::Hang, FaultClass::Broken]);
        let episodes: Vec<_> = self.episodes.values().cloned().collect();
        let mut out = Vec::new();
        let everybody = |out: &mut Vec<(To, Envelope)>, envelope: Envelope| {
            out.push((To::Warden, envelope.clone()));
            for index in 0..personas {
                out.push((To::Peer(index), envelope.clone()));
            }
        };
        match self.habit {
            Habit::Withhold => {}
            Habit::AccuseAll => {
                let beat = self.heartbeat(now, Some(class));
                everybody(&mut out, beat);
                for episode in &episodes {
                    let class = if rng.chance(50) { class } else { truth(&episode.subject).unwrap_or(class) };
                    let vote = self.vote(now, episode, class, Choice::Approve);
                    everybody(&mut out, self.seal(&vote));
                }
            }
            Habit::DenyAll => {
                let beat = self.heartbeat(now, None);
                everybody(&mut out, beat);
                for episode in &episodes {
                    let vote = self.vote(now, episode, class, Choice::Withdraw);
                    out.push((To::Warden, self.seal(&vote)));
                }
            }
            Habit::BothSides => {
                let down = self.heartbeat(now, Some(class));
                let up = self.heartbeat(now, None);
                out.push((To::Warden, down.clone()));
                for index in 0..personas {
                    out.push((To::Peer(index), if index % 2 == 0 { down.clone() } else { up.clone() }));
                }
                for episode in &episodes {
                    for choice in [Choice::Approve, Choice::Withdraw, Choice::Approve] {
                        let vote = self.vote(now, episode, class, choice);
                        out.push((To::Warden, self.seal(&vote)));
                    }
                }
            }
            Habit::Equivocate => {
                let down = self.heartbeat(now, Some(class));
                self.seq -= 1;
                let up = self.heartbeat(now, None);
                out.push((To::Warden, down.clone()));
                for index in 0..personas {
                    out.push((To::Peer(index), if rng.chance(50) { down.clone() } else { up.clone() }));
                }
            }
            Habit::Replay => {
                for _ in 0..4 {
                    if !self.seen.is_empty() {
                        everybody(&mut out, rng.pick(&self.seen).clone());
                    }
                }
            }
            Habit::Forge => {
                let beat = self.heartbeat(now, Some(class));
                everybody(&mut out, beat);
                for episode in &episodes {
                    let forged = self.forge(rng, now, episode, class);
                    everybody(&mut out, forged);
                }
                let mut garbage = self.heartbeat(now, None);
                garbage.payload = rng.bytes::<40>().to_vec().into();
                garbage.signature = self.session_key.sign(garbage.domain, &garbage.payload);
                everybody(&mut out, garbage);
            }
            Habit::Flood => {
                let beat = self.heartbeat(now, Some(class));
                for _ in 0..8 {
                    everybody(&mut out, beat.clone());
                }
                for _ in 0..8 {
                    let beat = self.heartbeat(now, Some(class));
                    out.push((To::Warden, beat));
                }
            }
            Habit::Accomplice => {
                let beat = self.heartbeat(now, None);
                everybody(&mut out, beat);
                for episode in &episodes {
                    if let Some(class) = truth(&episode.subject) {
                        let vote = self.vote(now, episode, class, Choice::Approve);
                        everybody(&mut out, self.seal(&vote));
                    }
                }
            }
        }
        for (_, envelope) in out.iter().take(3) {
            self.overheard(envelope.clone());
        }
        out
    }
}
