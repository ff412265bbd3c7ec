//! What a compromised guardian can sign, and what it has heard.

use super::words;
use crate::rng::Rng;
use crate::schedule;
use crate::signatures::Scheme;
use std::collections::BTreeMap;
use std::sync::Arc;
use zeta_bft::protocol::evidence::FaultClass;
use zeta_bft::protocol::roster::Roster;
use zeta_bft::protocol::signing::{Signatures as _, SigningKey};
use zeta_bft::protocol::statement::{
    Choice, Envelope, EpisodeStatement, Header, Heartbeat, JournalHead, SessionRequest, Statement, Vote,
};
use zeta_bft::protocol::types::{
    BootId, Digest, Nonce, PersonaId, PublicKey, SessionIncarnation, SubjectName, Timestamp,
};

/// Envelopes that it remembers.
const MEMORY: usize = 96;

/// Everything that an actor speaks with.
pub struct Voice {
    pub persona: PersonaId,
    pub session_key: SigningKey,
    pub codec: Scheme,
    pub roster: Arc<Roster>,
    pub policy: Digest,
    pub boot: BootId,
    /// The number of its latest statement.
    pub seq: u64,
    pub episodes: BTreeMap<SubjectName, EpisodeStatement>,
    pub seen: Vec<Envelope>,
    /// The key of another persona that it has stolen, and whose.
    pub stolen: (PersonaId, SigningKey),
    persona_key: SigningKey,
    session: Option<SessionIncarnation>,
}

/// The keys that one is made with.
pub struct Keys {
    pub persona: SigningKey,
    pub session: SigningKey,
    pub stolen: (PersonaId, SigningKey),
    pub codec: Scheme,
}

impl Voice {
    pub fn new(persona: PersonaId, keys: Keys, roster: Arc<Roster>, policy: Digest, boot: BootId) -> Self {
        Self {
            persona,
            persona_key: keys.persona,
            session_key: keys.session,
            stolen: keys.stolen,
            codec: keys.codec,
            roster,
            policy,
            boot,
            session: None,
            seq: 0,
            episodes: BTreeMap::new(),
            seen: Vec::new(),
        }
    }

    pub fn request(&self, nonce: Nonce) -> Envelope {
        self.request_as(self.persona.clone(), &self.persona_key, nonce)
    }

    pub fn request_as(&self, persona: PersonaId, key: &SigningKey, nonce: Nonce) -> Envelope {
        let request = self.asking(persona, self.session_key.public(), nonce);
        Envelope::seal(&request, key, &self.codec)
    }

    /// For a key that it need not have.
    pub fn request_under(&self, session_key: PublicKey, nonce: Nonce) -> Envelope {
        let request = self.asking(self.persona.clone(), session_key, nonce);
        Envelope::seal(&request, &self.persona_key, &self.codec)
    }

    fn asking(&self, persona: PersonaId, session_key: PublicKey, nonce: Nonce) -> SessionRequest {
        SessionRequest {
            cluster: self.roster.cluster().clone(),
            node: self.roster.node().clone(),
            persona,
            session_key,
            nonce,
            roster: self.roster.digest(),
            policy: self.policy,
        }
    }

    pub fn has_session(&self) -> bool {
        self.session.is_some()
    }

    pub fn session_opened(&mut self, incarnation: SessionIncarnation) {
        self.session = Some(incarnation);
    }

    pub fn published(&mut self, episode: EpisodeStatement) {
        self.episodes.insert(episode.subject.clone(), episode);
    }

    pub fn overheard(&mut self, envelope: Envelope, rng: &mut Rng) {
        if self.seen.len() < MEMORY {
            self.seen.push(envelope);
        } else {
            let place = rng.index(MEMORY);
            self.seen[place] = envelope;
        }
    }

    pub fn episodes(&self) -> Vec<EpisodeStatement> {
        self.episodes.values().cloned().collect()
    }

    /// Another persona than its own.
    pub fn somebody_else(&self, rng: &mut Rng, personas: usize) -> PersonaId {
        loop {
            let persona = schedule::persona(rng.index(personas));
            if persona != self.persona {
                return persona;
            }
        }
    }

    /// The header of its next statement.
    pub fn header(&mut self, now: Timestamp) -> Header {
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

    /// A heartbeat that says of every subject what `says` says: UP where nothing.
    pub fn heartbeat(&mut self, now: Timestamp, says: &dyn Fn(&SubjectName) -> Option<FaultClass>) -> Heartbeat {
        let attestations =
            self.episodes.values().map(|e| words::attest(&e.subject, e.incarnation, says(&e.subject), now)).collect();
        let header = self.header(now);
        Heartbeat { header, attestations, health: 0, heads: Vec::new(), receipt: JournalHead::default() }
    }

    pub fn vote(&mut self, now: Timestamp, episode: &EpisodeStatement, class: FaultClass, choice: Choice) -> Vote {
        words::vote(self.header(now), episode, class, choice)
    }

    /// Signs by its session's key.
    pub fn seal<T: Statement>(&self, statement: &T) -> Envelope
    where
        Scheme: zeta_bft::protocol::statement::Codec<T>,
    {
        Envelope::seal(statement, &self.session_key, &self.codec)
    }

    /// Bytes that are no statement, signed all the same.
    pub fn sign_bytes(&self, mut envelope: Envelope, payload: Vec<u8>) -> Envelope {
        envelope.payload = payload.into();
        envelope.signature = self.codec.sign(&self.session_key, envelope.domain, &envelope.payload);
        envelope
    }
}
