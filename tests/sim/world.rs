//! The world: one clock, one queue of events, and every part of a node around the production machines.
//!
//! Deterministic: whatever happens is drawn from the seed, in the order of the queue. Every step feeds the trace hash.

mod events;
mod faults;
mod guardians;
mod healing;
mod links;
mod units;
mod warden;

use crate::actors::Fates;
use crate::agents::{AgentProcess, WardenProcess};
use crate::invariants::{Checker, Truth};
use crate::journal::VirtualJournal;
use crate::k3s::Ailment;
use crate::network::Network;
use crate::pid1::{OnExit, Pid1};
use crate::rng::Rng;
use crate::schedule::{self, Meddling, Plan};
use crate::signatures::Scheme;
use crate::transitions::Seen;
use crate::wrapper::{Work, Wrapper};
use events::Event;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;
use warden::{Doom, Waiting};
use zeta_bft::protocol::evidence::Remedy;
use zeta_bft::protocol::policy::{Policy, SubjectKind};
use zeta_bft::protocol::roster::{Member, Roster, RosterStatement};
use zeta_bft::protocol::signing::SigningKey;
use zeta_bft::protocol::statement::{Codec, Envelope};
use zeta_bft::protocol::types::{BootId, ClusterId, Digest, NodeId, SubjectName, Timestamp};
use zeta_bft::protocol::warden::Attempt;
use zeta_bft::wire::Proto;

const MS: u64 = 1_000_000;
/// When a world begins, on its own clock.
const START: u64 = 10_000 * MS;
/// PID 1's first answer; shorter than any signal takes, so that its words keep their order.
const READ: Duration = Duration::from_micros(300);

fn nanos(d: Duration) -> u64 {
    u64::try_from(d.as_nanos()).unwrap_or(u64::MAX / 4)
}

/// A node, its committee, and whatever befalls them.
pub struct World {
    pub plan: Plan,
    pub now: u64,
    booted_at: u64,
    rng: Rng,
    queue: BTreeMap<(u64, u64), Event>,
    queued: u64,
    roster: Arc<Roster>,
    policy: Arc<Policy>,
    warden_seed: [u8; 32],
    persona_seeds: Vec<[u8; 32]>,
    codec: Scheme,
    pub pid1: Pid1,
    pub network: Network,
    pub journal: VirtualJournal,
    wrappers: BTreeMap<SubjectName, Wrapper>,
    work: Vec<Work>,
    ailment: Ailment,
    /// From when until when k3s was last ailing from each thing that a step answers.
    ailed: BTreeMap<Remedy, (u64, u64)>,
    agents: Vec<Option<AgentProcess>>,
    receipts: Vec<Option<Envelope>>,
    warden: Option<WardenProcess>,
    runs: u32,
    waiting: BTreeMap<u64, Waiting>,
    asked: u64,
    acting: BTreeMap<SubjectName, (u64, Attempt, u32)>,
    slow_start: BTreeMap<SubjectName, Duration>,
    refuse: BTreeMap<SubjectName, u32>,
    slow_disk_until: u64,
    deaf_until: u64,
    disturbed_until: u64,
    wall_offset: i64,
    doom: Option<Doom>,
    meddle: Option<Meddling>,
    booting: bool,
    healed: bool,
    pub checker: Checker,
    pub states: BTreeMap<&'static str, u64>,
    pub transitions: Seen,
    pub fates: Fates,
    pub log: Option<Vec<String>>,
    pub trace: u64,
    /// The trace is over every word of every input and effect, not only over their times, numbers and signatures.
    pub hash_words: bool,
    pub steps: u64,
}

impl World {
    pub fn new(seed: u64, plan: Plan) -> Self {
        let mut rng = Rng::new(seed);
        let warden_seed: [u8; 32] = rng.bytes();
        let operator: [u8; 32] = rng.bytes();
        let codec = if plan.ed25519 { Scheme::Ed25519 } else { Scheme::Symbolic(Digest::of(&operator).0) };
        let persona_seeds: Vec<[u8; 32]> = (0..plan.personas).map(|_| rng.bytes()).collect();
        let members = persona_seeds
            .iter()
            .enumerate()
            .map(|(index, seed)| Member {
                persona: schedule::persona(index),
                vendor: schedule::vendor(index),
                key: SigningKey::from_seed(seed).public(),
            })
            .collect();
        let statement = RosterStatement {
            cluster: ClusterId::new("sim").expect("a valid name"),
            node: NodeId::new("node-1").expect("a valid name"),
            epoch: 1,
            previous: Digest::default(),
            members,
            f: plan.f,
            q: plan.q,
            warden: SigningKey::from_seed(&warden_seed).public(),
            operator: SigningKey::from_seed(&operator).public(),
        };
        let digest = Digest::of(&Codec::<RosterStatement>::encode(&Proto, &statement));
        let roster = Arc::new(Roster::new(statement, digest).expect("the plan's roster is sound"));
        let policy = Arc::new(plan.policy.clone());
        let mut pid1 = Pid1::new(BootId(rng.bytes()));
        for (name, subject) in &policy.subjects {
            let on_exit = match subject.kind {
                SubjectKind::Agent(_) => OnExit::Restart { wait: plan.auto_restart },
                _ => OnExit::Fail,
            };
            pid1.add(name.clone(), subject.kind.clone(), on_exit);
        }
        // Of a stream of its own: no seed changes its course by it.
        let salt = Rng::new(rng.clone().next()).bytes();
        let mut network = Network::new();
        network.weather = plan.weather;
        let checker = Checker::new(roster.clone(), policy.clone(), plan.liars, codec);
        let mut world = Self {
            now: START,
            booted_at: 0,
            queue: BTreeMap::new(),
            queued: 0,
            roster,
            policy,
            warden_seed,
            work: vec![Work::Good; plan.personas],
            ailment: Ailment::default(),
            ailed: BTreeMap::new(),
            agents: (0..plan.personas).map(|_| None).collect(),
            receipts: vec![None; plan.personas],
            persona_seeds,
            codec,
            pid1,
            network,
            journal: VirtualJournal::new(salt),
            wrappers: BTreeMap::new(),
            warden: None,
            runs: 0,
            waiting: BTreeMap::new(),
            asked: 0,
            acting: BTreeMap::new(),
            slow_start: BTreeMap::new(),
            refuse: BTreeMap::new(),
            slow_disk_until: 0,
            deaf_until: 0,
            disturbed_until: 0,
            wall_offset: 0,
            doom: None,
            meddle: None,
            booting: false,
            healed: false,
            checker,
            states: BTreeMap::new(),
            transitions: Seen::default(),
            fates: Fates::default(),
            hash_words: false,
            log: None,
            trace: seed,
            steps: 0,
            rng,
            plan,
        };
        let start = world.now;
        world.disturb(Duration::from_secs(2));
        for (at, fault) in std::mem::take(&mut world.plan.faults) {
            world.at(start + nanos(at), Event::Fault(fault));
        }
        let heal_at = start + nanos(world.plan.heal_at);
        world.at(heal_at, Event::Heal);
        world.after(Duration::from_secs(1), Event::OperatorLooks);
        world.boot();
        world
    }

    /// Virtual time since the world began.
    pub fn lived(&self) -> Duration {
        Duration::from_nanos(self.now - START)
    }

    /// The node's boot clock.
    pub fn boottime(&self) -> Timestamp {
        Timestamp::from_nanos(self.now.saturating_sub(self.booted_at))
    }

    fn wall_ms(&self) -> u64 {
        (1_700_000_000_000 + self.now / MS).saturating_add_signed(self.wall_offset)
    }

    fn at(&mut self, at: u64, event: Event) {
        self.queued += 1;
        self.queue.insert((at.max(self.now), self.queued), event);
    }

    fn after(&mut self, delay: Duration, event: Event) {
        self.at(self.now + nanos(delay), event);
    }

    fn soon(&mut self, least_us: u64, most_us: u64, event: Event) {
        let delay = self.rng.between(Duration::from_micros(least_us), Duration::from_micros(most_us));
        self.after(delay, event);
    }

    /// For so long a wrong suspicion of silence is excused.
    fn disturb(&mut self, lasts: Duration) {
        let until = self.now + nanos(lasts);
        self.disturbed_until = self.disturbed_until.max(until);
    }

    fn note(&mut self, text: impl FnOnce() -> String) {
        if self.log.is_some() {
            let line = format!("{:>10.6} {}", (self.now - START) as f64 / 1e9, text());
            if let Some(log) = &mut self.log {
                log.push(line);
            }
        }
    }

    fn mix(&mut self, value: u64) {
        self.trace = (self.trace ^ value).wrapping_mul(0x0000_0100_0000_01b3).rotate_left(23);
    }

    /// Every word of something, if that is wanted: it costs more than all the rest.
    fn mix_words(&mut self, what: &impl std::fmt::Debug) {
        struct Words<'a>(&'a mut World);
        impl std::fmt::Write for Words<'_> {
            fn write_str(&mut self, text: &str) -> std::fmt::Result {
                text.bytes().for_each(|byte| self.0.mix(byte.into()));
                Ok(())
            }
        }
        if self.hash_words {
            std::fmt::Write::write_fmt(&mut Words(self), format_args!("{what:?}")).expect("hashing does not fail");
        }
    }

    fn mix_envelope(&mut self, envelope: &Envelope) {
        let bytes: [u8; 8] = envelope.signature[..8].try_into().expect("a signature has 64 bytes");
        self.mix(u64::from_le_bytes(bytes));
    }

    /// Runs until `end`, or to the first broken rule.
    pub fn run_until(&mut self, end: u64) {
        while let Some(((at, _), event)) = self.queue.pop_first() {
            if at > end {
                self.queued += 1;
                self.queue.insert((at, 0), event);
                break;
            }
            self.now = at;
            self.steps += 1;
            self.mix(at);
            self.handle(event);
            if self.checker.violation.is_some() {
                return;
            }
        }
        self.now = self.now.max(end);
    }

    pub fn run_for(&mut self, lasts: Duration) {
        self.run_until(self.now + nanos(lasts));
    }

    fn checked(&mut self, check: impl FnOnce(&mut Checker, &Truth<'_>)) {
        let truth = Truth {
            world: self.now,
            now: Timestamp::from_nanos(self.now.saturating_sub(self.booted_at)),
            pid1: &self.pid1,
            wrappers: &self.wrappers,
            disturbed_until: self.disturbed_until,
            ailed: &self.ailed,
        };
        check(&mut self.checker, &truth);
    }
}
