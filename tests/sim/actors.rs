//! The Byzantine actors: one compromised guardian, with a real persona's real session, that knows everything that passes by.
//!
//! Each actor is one way of lying, by name, and has an aim: what must befall its statements, over many seeds, for it to have
//! been more than noise. [`Fates`] counts that; a run of ten thousand seeds asserts it of every actor.
//!
//! | actor | what it does |
//! |---|---|
//! | `silent` | says nothing at all |
//! | `selectively-silent` | says the truth, to some, of some |
//! | `hoarder` | votes rightly, and hands it in when it has become wrong |
//! | `liar-down` | DOWN and APPROVE on everything |
//! | `liar-up` | UP on everything, and WITHDRAW |
//! | `both-sides` | DOWN to one, UP to another, under numbers of their own |
//! | `vote-then-withdraw` | approves what is true, and takes it back at once |
//! | `starver` | keeps whatever waits for a challenge or a slot waiting |
//! | `accomplice` | approves whatever a correct voter would |
//! | `equivocator` | two statements under one number, told apart |
//! | `twins` | two live copies of one session key |
//! | `amnesiac` | forgets its numbers, and begins anew under the old key |
//! | `stale-replayer` | its own and others' statements once more |
//! | `cross-replayer` | what would be true on another node, in another cluster, in another boot |
//! | `flooder` | as much as the line takes |
//! | `impersonator` | others' names and keys over its own signature, and proofs against them |
//! | `key-thief` | another persona's own key, without its process |
//! | `poison-roster` | another roster, another policy, a warden of its own |
//! | `mutator` | one field of one statement, or one bit, that is wrong |
//! | `chameleon` | any of these, each for a while |

mod copies;
mod flood;
mod forgers;
mod quiet;
mod replays;
mod slanders;
mod voice;
mod words;

pub use voice::{Keys, Voice};

use crate::rng::Rng;
use std::collections::BTreeMap;
use zeta_bft::protocol::evidence::FaultClass;
use zeta_bft::protocol::statement::{Envelope, EquivocationProof};
use zeta_bft::protocol::types::{Nonce, SubjectName, Timestamp};

/// A lie, and where it goes.
#[derive(Clone, Debug)]
pub enum Lie {
    ToWarden(Envelope),
    ToPeer(usize, Envelope),
    ProofToWarden(EquivocationProof),
    ProofToPeer(usize, EquivocationProof),
    ReceiptToWarden(Envelope),
}

/// What an actor sees when it is its turn.
pub struct Scene<'a> {
    pub now: Timestamp,
    pub personas: usize,
    /// What is really wrong with a subject.
    pub truth: &'a dyn Fn(&SubjectName) -> Option<FaultClass>,
}

impl Scene<'_> {
    /// The same to the warden and to every peer; the world lets nobody speak to itself.
    pub fn to_all(&self, envelope: &Envelope) -> Vec<Lie> {
        let peers = (0..self.personas).map(|peer| Lie::ToPeer(peer, envelope.clone()));
        std::iter::once(Lie::ToWarden(envelope.clone())).chain(peers).collect()
    }
}

/// A way of lying.
pub trait Actor {
    /// What it says now; called a few times per heartbeat, once it has a session.
    fn speak(&mut self, voice: &mut Voice, scene: &Scene<'_>, rng: &mut Rng) -> Vec<Lie>;

    /// What it asks the warden's number with.
    fn request(&mut self, voice: &Voice, nonce: Nonce, _rng: &mut Rng) -> Envelope {
        voice.request(nonce)
    }
}

/// One actor of the list.
pub struct Kind {
    pub name: &'static str,
    /// What must befall it somewhere: a key of [`Fates`].
    pub aim: &'static str,
    pub make: fn() -> Box<dyn Actor>,
    /// It signs two statements with one number, and is proven to.
    pub is_proven: bool,
}

impl std::fmt::Debug for Kind {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.name)
    }
}

const fn kind(name: &'static str, aim: &'static str, make: fn() -> Box<dyn Actor>) -> Kind {
    Kind { name, aim, make, is_proven: false }
}

const fn proven(name: &'static str, make: fn() -> Box<dyn Actor>) -> Kind {
    Kind { name, aim: "proven", make, is_proven: true }
}

/// All of them but the chameleon.
pub static ALL: [Kind; 19] = [
    kind("silent", "turns", || Box::new(quiet::Silent)),
    kind("selectively-silent", "counted APPROVE", || Box::new(quiet::SelectivelySilent::default())),
    kind("hoarder", "other_round", || Box::new(quiet::Hoarder::default())),
    kind("liar-down", "counted APPROVE", || Box::new(slanders::Down)),
    kind("liar-up", "counted WITHDRAW", || Box::new(slanders::Up)),
    kind("both-sides", "counted APPROVE", || Box::new(slanders::BothSides)),
    kind("vote-then-withdraw", "counted WITHDRAW", || Box::new(slanders::VoteThenWithdraw)),
    kind("starver", "counted WITHDRAW", || Box::new(slanders::Starver::default())),
    kind("accomplice", "counted APPROVE", || Box::new(slanders::Accomplice)),
    proven("equivocator", || Box::new(copies::Equivocator)),
    proven("twins", || Box::new(copies::Twins::default())),
    proven("amnesiac", || Box::new(copies::Amnesiac)),
    kind("stale-replayer", "replay", || Box::new(replays::Stale)),
    kind("cross-replayer", "wrong_node", || Box::new(replays::Cross)),
    kind("flooder", "replay", || Box::new(flood::Flooder)),
    kind("impersonator", "wrong_author", || Box::new(forgers::Impersonator)),
    kind("key-thief", "wrong_key", || Box::new(forgers::KeyThief)),
    kind("poison-roster", "policy_mismatch", || Box::new(forgers::PoisonRoster)),
    kind("mutator", "other_round", || Box::new(forgers::Mutator)),
];

/// Which actor a liar is.
#[derive(Clone, Copy, Debug)]
pub enum Guise {
    Always(&'static Kind),
    /// Another one now and then.
    Chameleon,
}

impl Guise {
    pub fn any(rng: &mut Rng) -> Self {
        if rng.chance(15) { Self::Chameleon } else { Self::Always(&ALL[rng.index(ALL.len())]) }
    }
}

/// A compromised guardian: a voice, and the actor that speaks with it.
pub struct Liar {
    pub voice: Voice,
    guise: Guise,
    kind: &'static Kind,
    actor: Box<dyn Actor>,
    /// As a chameleon, it is proven to lie in this life: not every one may be.
    may_be_proven: bool,
}

impl Liar {
    pub fn new(voice: Voice, guise: Guise, rng: &mut Rng) -> Self {
        let kind = match guise {
            Guise::Always(kind) => kind,
            Guise::Chameleon => Guise::accomplice(),
        };
        Self { voice, guise, kind, actor: (kind.make)(), may_be_proven: rng.chance(25) }
    }

    /// The actor that it is now; of a chameleon nothing is counted.
    pub fn name(&self) -> &'static str {
        match self.guise {
            Guise::Always(kind) => kind.name,
            Guise::Chameleon => "chameleon",
        }
    }

    pub fn request(&mut self, nonce: Nonce, rng: &mut Rng) -> Envelope {
        self.actor.request(&self.voice, nonce, rng)
    }

    pub fn speak(&mut self, scene: &Scene<'_>, rng: &mut Rng) -> Vec<Lie> {
        if !self.voice.has_session() {
            return Vec::new();
        }
        if matches!(self.guise, Guise::Chameleon) && rng.chance(10) {
            let next = &ALL[rng.index(ALL.len())];
            self.kind = if next.is_proven && !self.may_be_proven { Guise::accomplice() } else { next };
            self.actor = (self.kind.make)();
        }
        let lies = self.actor.speak(&mut self.voice, scene, rng);
        for lie in lies.iter().take(3) {
            if let Lie::ToWarden(envelope) | Lie::ToPeer(_, envelope) = lie {
                self.voice.overheard(envelope.clone(), rng);
            }
        }
        lies
    }
}

impl Guise {
    fn accomplice() -> &'static Kind {
        ALL.iter().find(|kind| kind.name == "accomplice").expect("it is in the list")
    }
}

/// What befell the statements of each actor.
#[derive(Clone, Debug, Default)]
pub struct Fates(BTreeMap<&'static str, BTreeMap<String, u64>>);

impl Fates {
    pub fn count(&mut self, actor: &'static str, fate: &str) {
        *self.0.entry(actor).or_default().entry(fate.to_owned()).or_default() += 1;
    }

    pub fn of(&self, actor: &str, fate: &str) -> u64 {
        self.0.get(actor).and_then(|fates| fates.get(fate)).copied().unwrap_or_default()
    }

    pub fn add(&mut self, other: &Self) {
        for (actor, fates) in &other.0 {
            for (fate, count) in fates {
                *self.0.entry(actor).or_default().entry(fate.clone()).or_default() += count;
            }
        }
    }

    /// Actors that reached nothing: no turn, no statement that arrived, or never what they are for.
    pub fn missing(&self) -> Vec<String> {
        let mut missing = Vec::new();
        for Kind { name, aim, .. } in &ALL {
            let wanted = if *name == "silent" { vec!["turns"] } else { vec!["turns", "arrived", aim] };
            missing.extend(wanted.iter().filter(|fate| self.of(name, fate) == 0).map(|fate| format!("{name}: {fate}")));
        }
        if self.of("silent", "arrived") > 0 {
            missing.push("silent: it spoke".to_owned());
        }
        missing
    }

    /// A line for each actor.
    pub fn table(&self) -> String {
        let lines = self.0.iter().map(|(actor, fates)| {
            let fates: Vec<_> = fates.iter().map(|(fate, count)| format!("{fate} {count}")).collect();
            format!("{actor:>20}: {}", fates.join(", "))
        });
        lines.collect::<Vec<_>>().join("\n")
    }
}
