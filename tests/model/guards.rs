//! The guardians' processes: the real machine of a correct one, and what a liar keeps.

use crate::scope::{BOOT, CODEC, Scope, key};
use crate::signatures::Scheme;
use std::collections::{BTreeMap, BTreeSet};
use std::hash::{Hash, Hasher};
use std::sync::Arc;
use zeta_bft::protocol::guardian::{Guardian, GuardianConfig};
use zeta_bft::protocol::signing::{Domain, SigningKey};
use zeta_bft::protocol::statement::{Codec, Envelope, EpisodeStatement, Header};
use zeta_bft::protocol::types::{PersonaId, SessionIncarnation, SubjectName};

/// What thinks in an agent.
#[derive(Clone)]
pub enum Mind {
    Honest(Arc<Guardian<Scheme>>),
    Liar(Liar),
}

/// A liar needs no machine: it knows every episode at once, and signs what it likes under its one session.
#[derive(Clone, Debug, Default, Hash)]
pub struct Liar {
    pub session: SessionIncarnation,
    pub seq: u64,
    pub episodes: BTreeMap<SubjectName, EpisodeStatement>,
}

/// One agent.
#[derive(Clone)]
pub struct Guard {
    pub persona: PersonaId,
    pub mind: Mind,
    pub connected: bool,
    /// Each run has a session key of its own.
    pub run: u8,
    /// Units whose last change it has not heard of.
    pub stale: BTreeSet<SubjectName>,
    /// What the warden told it since it last listened: of each subject the newest episode, and every receipt.
    pub inbox: Vec<Envelope>,
    /// Kept across its restarts.
    pub receipt: Option<Envelope>,
    /// Of its newest heartbeat. Only a broken committee looks at it.
    pub header: Option<Header>,
}

impl Guard {
    pub fn new(scope: &Scope, persona: &PersonaId, run: u8, receipt: Option<Envelope>) -> Self {
        let mind = if scope.is_liar(persona) {
            Mind::Liar(Liar::default())
        } else {
            Mind::Honest(Arc::new(Guardian::new(GuardianConfig {
                persona: persona.clone(),
                persona_key: key(persona.as_str()),
                session_key: session_key(persona, run),
                roster: scope.roster.clone(),
                policy: scope.policy.clone(),
                boot: BOOT,
                codec: CODEC,
                last_receipt: receipt.clone(),
            })))
        };
        Self {
            persona: persona.clone(),
            mind,
            connected: false,
            run,
            stale: BTreeSet::new(),
            inbox: Vec::new(),
            receipt,
            header: None,
        }
    }

    pub fn is_honest(&self) -> bool {
        matches!(self.mind, Mind::Honest(_))
    }

    pub fn session_key(&self) -> SigningKey {
        session_key(&self.persona, self.run)
    }

    /// The warden tells it something. A liar knows at once.
    pub fn told(&mut self, envelope: &Envelope) {
        if !self.connected {
            return;
        }
        let subject = |envelope: &Envelope| {
            let episode = Codec::<EpisodeStatement>::decode(&CODEC, &envelope.payload).ok();
            episode.filter(|_| envelope.domain == Domain::Episode)
        };
        let episode = subject(envelope);
        match &mut self.mind {
            Mind::Liar(liar) => {
                liar.episodes.extend(episode.map(|episode| (episode.subject.clone(), episode)));
            }
            Mind::Honest(_) => {
                if let Some(episode) = episode {
                    self.inbox.retain(|older| subject(older).is_none_or(|older| older.subject != episode.subject));
                }
                self.inbox.push(envelope.clone());
            }
        }
    }
}

pub fn session_key(persona: &PersonaId, run: u8) -> SigningKey {
    key(&format!("{persona}'s session {run}"))
}

impl Hash for Guard {
    fn hash<H: Hasher>(&self, into: &mut H) {
        (self.connected, self.run, &self.stale, self.receipt.is_some()).hash(into);
        match &self.mind {
            Mind::Honest(guardian) => guardian.hash_future(into),
            Mind::Liar(liar) => liar.hash(into),
        }
        for envelope in &self.inbox {
            if envelope.domain == Domain::Episode {
                envelope.payload.hash(into);
            } else {
                envelope.domain.hash(into);
            }
        }
    }
}
