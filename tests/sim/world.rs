//! The world: one clock, one queue of events, and every part of a node around the production machines.
//!
//! Deterministic: whatever happens is drawn from the seed, in the order of the queue. Every step feeds the trace hash.

use crate::agents::{AgentProcess, Mind, Timer, Via, WardenProcess};
use crate::invariants::{Checker, Truth};
use crate::journal::VirtualJournal;
use crate::liar::{Liar, To};
use crate::network::{End, Network, Weather};
use crate::pid1::{Breath, Fate, OnExit, Pid1};
use crate::rng::Rng;
use crate::schedule::{self, Fault, Liars, Plan};
use crate::wrapper::{Work, Wrapper};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;
use zeta_bft::journal::Damage;
use zeta_bft::protocol::evidence::{FaultClass, LastExit};
use zeta_bft::protocol::guardian::{Guardian, GuardianConfig, GuardianEffect, GuardianEvent, GuardianInput};
use zeta_bft::protocol::policy::{Action, Mode, Policy, SubjectKind};
use zeta_bft::protocol::record::{OperatorOrder, Record};
use zeta_bft::protocol::roster::{Member, Roster, RosterStatement};
use zeta_bft::protocol::signing::{Domain, SigningKey};
use zeta_bft::protocol::statement::{Codec, Envelope, EpisodeStatement, Receipt, ReceiptKind, Session, StateName};
use zeta_bft::protocol::types::{
    BootId, ClusterId, Digest, NodeId, Nonce, PersonaId, PublicKey, SubjectName, Timestamp,
};
use zeta_bft::protocol::warden::{
    ActionPermit, Answer, Attempt, PeerFacts, PeerUnit, ReplyTo, Warden, WardenConfig, WardenEffect, WardenEvent,
    WardenInput,
};
use zeta_bft::wire::Proto;

const MS: u64 = 1_000_000;
/// PID 1's first answer; shorter than any signal takes, so that its words keep their order.
const READ: Duration = Duration::from_micros(300);

fn nanos(d: Duration) -> u64 {
    u64::try_from(d.as_nanos()).unwrap_or(u64::MAX / 4)
}

/// What a job of PID 1 does next.
#[derive(Clone, Copy, Debug)]
enum JobStep {
    Start,
    Up,
    Crash,
    Silence,
}

enum Event {
    Guardian { pid: u32, via: Option<Via>, input: Box<GuardianInput> },
    AgentTimer { pid: u32, seq: u64 },
    LiarSpeaks { pid: u32 },
    Ping { pid: u32 },
    DialWarden { pid: u32 },
    DialPeer { pid: u32, peer: usize },
    Fetch { from: usize, asked: usize, via: Via, key: PublicKey, seq: u64 },
    Warden { run: u32, via: Option<Via>, input: Box<WardenInput> },
    WardenTimer { run: u32, seq: u64 },
    AskNonce { run: u32, pid: u32 },
    AskSession { run: u32, pid: u32, via: Via, request: Envelope },
    Synced { run: u32, seq: u64 },
    Reread { run: u32, attempt: Attempt, subject: SubjectName },
    Act { run: u32, permit: ActionPermit },
    Job { subject: SubjectName, job: u64, step: JobStep },
    TickBegin { subject: SubjectName, pid: u32 },
    TickEnd { subject: SubjectName, pid: u32 },
    LinkBreaks { a: End, b: End, epoch: u32 },
    Mend { a: End, b: End },
    Wake { subject: SubjectName, pid: u32 },
    QuotaEnds(usize),
    OperatorStarts(SubjectName),
    Unmask(SubjectName),
    Order { order: OperatorOrder, tries: u32 },
    OperatorLooks,
    StartWarden,
    WardenDies { run: u32 },
    ThawWarden { run: u32 },
    Boot,
    Fault(Fault),
    Heal,
}

/// When the warden is to die.
enum Doom {
    /// In the midst of a step: so many effects still happen, the rest never do.
    AfterEffects(u32),
    /// Around the time that the next INTENT reaches the disk.
    Intent,
    /// While the next action is under way.
    Act,
}

fn is_intent(effect: &WardenEffect) -> bool {
    matches!(effect, WardenEffect::Append { record: Record::Receipt(envelope), .. }
        if Codec::<Receipt>::decode(&Proto, &envelope.payload).is_ok_and(|r| r.kind == ReceiptKind::Intent))
}

enum Waiting {
    Nonce { pid: u32 },
    Session { pid: u32, via: Via },
    Order { order: OperatorOrder, tries: u32 },
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
    pub pid1: Pid1,
    pub network: Network,
    pub journal: VirtualJournal,
    wrappers: BTreeMap<SubjectName, Wrapper>,
    work: Vec<Work>,
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
    meddle: bool,
    booting: bool,
    healed: bool,
    pub checker: Checker,
    pub states: BTreeMap<&'static str, u64>,
    pub log: Option<Vec<String>>,
    pub trace: u64,
    pub steps: u64,
}

impl World {
    pub fn new(seed: u64, plan: Plan) -> Self {
        let mut rng = Rng::new(seed);
        let warden_seed: [u8; 32] = rng.bytes();
        let operator: [u8; 32] = rng.bytes();
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
        let mut network = Network::new();
        network.weather = plan.weather;
        let checker = Checker::new(roster.clone(), policy.clone(), plan.liars);
        let mut world = Self {
            now: 10_000 * MS,
            booted_at: 0,
            queue: BTreeMap::new(),
            queued: 0,
            roster,
            policy,
            warden_seed,
            work: vec![Work::Good; plan.personas],
            agents: (0..plan.personas).map(|_| None).collect(),
            receipts: vec![None; plan.personas],
            persona_seeds,
            pid1,
            network,
            journal: VirtualJournal::default(),
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
            meddle: false,
            booting: false,
            healed: false,
            checker,
            states: BTreeMap::new(),
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

    // ---- time and queue

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
            let line = format!("{:>10.6} {}", (self.now - 10_000 * MS) as f64 / 1e9, text());
            if let Some(log) = &mut self.log {
                log.push(line);
            }
        }
    }

    fn mix(&mut self, value: u64) {
        self.trace = (self.trace ^ value).wrapping_mul(0x0000_0100_0000_01b3).rotate_left(23);
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
        };
        check(&mut self.checker, &truth);
    }

    // ---- the node's life

    fn boot(&mut self) {
        self.booting = false;
        let subjects: Vec<_> = self.pid1.units.keys().cloned().collect();
        self.soon(100, 200_000, Event::StartWarden);
        for subject in subjects {
            let delay = self.rng.ms(1, 300);
            self.begin_start(&subject, delay, Duration::from_millis(5));
        }
    }

    fn begin_start(&mut self, subject: &SubjectName, delay: Duration, takes: Duration) {
        let job = self.pid1.unit(subject).job;
        let takes = self.slow_start.remove(subject).unwrap_or(takes);
        if delay > Duration::ZERO {
            self.after(delay, Event::Job { subject: subject.clone(), job, step: JobStep::Start });
            return;
        }
        self.end_process(subject);
        let job = self.pid1.begin_start(&mut self.rng, subject);
        self.unit_changed(subject);
        self.after(takes, Event::Job { subject: subject.clone(), job, step: JobStep::Up });
    }

    /// Whatever runs in the unit is gone.
    fn end_process(&mut self, subject: &SubjectName) {
        self.checked(|checker, truth| checker.observe_activity(truth));
        self.pid1.end_process(subject);
        self.wrappers.remove(subject);
        if let SubjectKind::Agent(persona) = &self.pid1.unit(subject).kind {
            let index = (0..self.plan.personas).find(|i| schedule::persona(*i) == *persona).expect("a known persona");
            self.agent_ends(index);
        }
        if let Some((_, attempt, run)) = self.acting.remove(subject) {
            self.acted(run, attempt, Err("the job was cancelled".into()), String::new());
        }
    }

    fn agent_ends(&mut self, index: usize) {
        if self.agents[index].take().is_none() {
            return;
        }
        let mine = End::Agent(index);
        self.network.disconnect(mine, End::Warden);
        for peer in 0..self.plan.personas {
            if peer != index && self.network.link(mine, End::Agent(peer)).up {
                self.network.disconnect(mine, End::Agent(peer));
                self.tell(peer, GuardianInput::PeerLost(schedule::persona(index)));
                self.redial(peer, index);
            }
        }
    }

    fn redial(&mut self, from: usize, peer: usize) {
        if let Some(agent) = &self.agents[from] {
            let pid = agent.pid;
            self.soon(20_000, 300_000, Event::DialPeer { pid, peer });
        }
    }

    fn process_begins(&mut self, subject: &SubjectName, pid: u32) {
        match self.pid1.unit(subject).kind.clone() {
            SubjectKind::Wrapper(persona) => {
                let interval = self.rng.ms(300, 900);
                self.wrappers.insert(subject.clone(), Wrapper::new(pid, interval));
                let index =
                    (0..self.plan.personas).find(|i| schedule::persona(*i) == persona).expect("a known persona");
                if let Work::Broken { restarts } = self.work[index] {
                    self.work[index] = if restarts <= 1 { Work::Good } else { Work::Broken { restarts: restarts - 1 } };
                }
                self.soon(10_000, 200_000, Event::TickBegin { subject: subject.clone(), pid });
            }
            SubjectKind::Agent(persona) => {
                let index =
                    (0..self.plan.personas).find(|i| schedule::persona(*i) == persona).expect("a known persona");
                self.agent_begins(index, pid);
            }
            SubjectKind::K3s | SubjectKind::Unit => {}
        }
        let unit = self.pid1.unit_mut(subject);
        let job = unit.job;
        let fate = unit.fate;
        unit.fate = match fate {
            Fate::Well | Fate::CrashLoop(1) | Fate::Hangs(1) | Fate::CrashLoop(0) | Fate::Hangs(0) => Fate::Well,
            Fate::CrashLoop(n) => Fate::CrashLoop(n - 1),
            Fate::Hangs(n) => Fate::Hangs(n - 1),
        };
        let step = match fate {
            Fate::Well => return,
            Fate::CrashLoop(_) => JobStep::Crash,
            Fate::Hangs(_) => JobStep::Silence,
        };
        self.soon(1_000, 400_000, Event::Job { subject: subject.clone(), job, step });
    }

    fn agent_begins(&mut self, index: usize, pid: u32) {
        let persona = schedule::persona(index);
        let persona_key = SigningKey::from_seed(&self.persona_seeds[index]);
        let session_key = SigningKey::from_seed(&self.rng.bytes());
        let mind = if self.checker.is_liar(&persona) {
            let (roster, digest, boot) = (self.roster.clone(), self.policy.digest, self.pid1.boot);
            self.soon(1_000, 300_000, Event::LiarSpeaks { pid });
            let keys = (persona_key, session_key);
            Mind::Liar(Box::new(Liar::new(persona, keys, roster, digest, boot, &mut self.rng)))
        } else {
            Mind::Correct(Box::new(Guardian::new(GuardianConfig {
                persona,
                persona_key,
                session_key,
                roster: self.roster.clone(),
                policy: self.policy.clone(),
                boot: self.pid1.boot,
                codec: Proto,
                last_receipt: self.receipts[index].clone(),
            })))
        };
        self.agents[index] = Some(AgentProcess::new(pid, mind));
        for (subject, unit) in self.pid1.units.clone() {
            let input = GuardianInput::UnitChanged { subject, state: Some(unit.state) };
            self.after(READ, guardian(pid, input));
        }
        for peer in (0..self.plan.personas).filter(|peer| *peer != index) {
            self.soon(500, 20_000, Event::DialPeer { pid, peer });
        }
        self.soon(500, 20_000, Event::DialWarden { pid });
        self.soon(1_000, 300_000, Event::Ping { pid });
        self.rearm_agent(index);
    }

    fn warden_begins(&mut self) {
        if self.warden.is_some() || self.booting {
            return;
        }
        self.runs += 1;
        let recovered = self.journal.recover(&SigningKey::from_seed(&self.warden_seed).public());
        let damaged = recovered.damage.is_some();
        let config = WardenConfig {
            key: SigningKey::from_seed(&self.warden_seed),
            roster: self.roster.clone(),
            policy: self.policy.clone(),
            boot: self.pid1.boot,
            codec: Proto,
            entropy: self.rng.bytes(),
            recovered,
        };
        let (now, wall) = (self.boottime(), self.wall_ms());
        let (warden, effects) = Warden::new(config, now, wall);
        self.note(|| "the warden starts".into());
        self.warden = Some(WardenProcess {
            run: self.runs,
            warden,
            began: self.now,
            frozen: false,
            backlog: Default::default(),
            timer: Timer::default(),
            published: BTreeMap::new(),
            damaged,
        });
        self.warden_effects(effects);
        for (subject, unit) in self.pid1.units.clone() {
            let run = self.runs;
            let input = Box::new(WardenInput::UnitChanged { subject, state: Some(unit.state) });
            self.after(READ, Event::Warden { run, via: None, input });
        }
        self.rearm_warden();
    }

    fn warden_ends(&mut self, down: Option<Duration>) {
        if self.warden.take().is_none() {
            return;
        }
        self.note(|| "the warden dies".into());
        self.doom = None;
        self.journal.crash(&mut self.rng);
        let quarantined = self.journal.recover(&self.roster.statement().warden).quarantined;
        let quarantined = quarantined.into_iter().map(|(persona, _)| persona).collect();
        self.checker.warden_died(|attempt| self.journal.holds_intent(attempt), quarantined);
        for order in std::mem::take(&mut self.waiting).into_values() {
            if let Waiting::Order { order, tries } = order {
                self.soon(100_000, 500_000, Event::Order { order, tries: tries + 1 });
            }
        }
        for index in 0..self.plan.personas {
            if self.network.link(End::Agent(index), End::Warden).up {
                self.network.disconnect(End::Agent(index), End::Warden);
                self.tell(index, GuardianInput::WardenLost);
            }
            if let Some(agent) = &mut self.agents[index] {
                agent.has_session = false;
            }
        }
        if let Some(down) = down {
            self.after(down, Event::StartWarden);
        }
    }

    // ---- inputs

    fn index_of(&self, pid: u32) -> Option<usize> {
        self.agents.iter().position(|agent| agent.as_ref().is_some_and(|agent| agent.pid == pid))
    }

    fn is_silent(&self, index: usize) -> bool {
        self.pid1.unit(&SubjectName::agent(&schedule::persona(index))).breath != Breath::Well
    }

    /// An input from the agent's own side, at once but for a moment.
    fn tell(&mut self, index: usize, input: GuardianInput) {
        if let Some(agent) = &self.agents[index] {
            let pid = agent.pid;
            self.soon(10, 2_000, guardian(pid, input));
        }
    }

    fn send_to_agent(&mut self, from: End, index: usize, input: impl Fn() -> GuardianInput) {
        let to = End::Agent(index);
        let Some(pid) = self.agents[index].as_ref().map(|agent| agent.pid) else { return };
        let via = Via { from, to, epoch: self.network.link(from, to).epoch };
        for at in self.network.arrivals(&mut self.rng, self.now, from, to) {
            self.at(at, Event::Guardian { pid, via: Some(via), input: Box::new(input()) });
        }
    }

    fn send_to_warden(&mut self, index: usize, input: impl Fn() -> WardenInput) {
        let Some(run) = self.warden.as_ref().map(|warden| warden.run) else { return };
        let (from, to) = (End::Agent(index), End::Warden);
        let via = Via { from, to, epoch: self.network.link(from, to).epoch };
        for at in self.network.arrivals(&mut self.rng, self.now, from, to) {
            self.at(at, Event::Warden { run, via: Some(via), input: Box::new(input()) });
        }
    }

    fn arrives(&self, via: Option<Via>) -> bool {
        via.is_none_or(|via| {
            let link = self.network.link(via.from, via.to);
            link.up && link.epoch == via.epoch && !self.network.is_cut(via.from, via.to)
        })
    }

    fn step_agent(&mut self, index: usize, input: GuardianInput) {
        let silent = self.is_silent(index);
        let now = self.boottime();
        let Some(agent) = &mut self.agents[index] else { return };
        if silent {
            if agent.backlog.len() < 4096 {
                agent.backlog.push_back(input);
            }
            return;
        }
        match &mut agent.mind {
            Mind::Correct(guardian) => {
                if let GuardianInput::SessionOpened(_) = &input {
                    agent.has_session = true;
                }
                let effects = guardian.step(now, input);
                self.guardian_effects(index, effects);
            }
            Mind::Liar(liar) => match input {
                GuardianInput::WardenConnected { nonce } => {
                    let request = liar.request(nonce);
                    self.guardian_effects(index, vec![GuardianEffect::RequestSession(request)]);
                }
                GuardianInput::SessionOpened(envelope) => {
                    if let Ok(session) = Codec::<Session>::decode(&Proto, &envelope.payload) {
                        liar.session_opened(session.incarnation);
                    }
                    agent.has_session = true;
                    agent.own = Some(envelope.clone());
                    self.guardian_effects(index, vec![GuardianEffect::Broadcast(envelope)]);
                }
                GuardianInput::PeerConnected(peer) => {
                    if let Some(session) = agent.own.clone() {
                        self.guardian_effects(index, vec![GuardianEffect::ToPeer(peer, session)]);
                    }
                }
                GuardianInput::FromWarden(envelope) => {
                    if let Ok(episode) = Codec::<EpisodeStatement>::decode(&Proto, &envelope.payload)
                        && envelope.domain == Domain::Episode
                    {
                        liar.published(episode);
                    }
                    liar.overheard(envelope);
                }
                GuardianInput::FromPeer { envelope, .. } => liar.overheard(envelope),
                _ => {}
            },
        }
    }

    fn guardian_effects(&mut self, index: usize, effects: Vec<GuardianEffect>) {
        self.mix(effects.len() as u64);
        for effect in effects {
            self.guardian_effect(index, effect);
        }
        self.rearm_agent(index);
    }

    fn guardian_effect(&mut self, index: usize, effect: GuardianEffect) {
        let from = End::Agent(index);
        match effect {
            GuardianEffect::RequestSession(request) => {
                self.mix_envelope(&request);
                let Some(run) = self.warden.as_ref().map(|w| w.run) else { return };
                let Some(pid) = self.agents[index].as_ref().map(|a| a.pid) else { return };
                let via = Via { from, to: End::Warden, epoch: self.network.link(from, End::Warden).epoch };
                self.soon(50, 2_000, Event::AskSession { run, pid, via, request });
            }
            GuardianEffect::ToWarden(envelope) => {
                self.mix_envelope(&envelope);
                self.send_to_warden(index, || WardenInput::Submitted(envelope.clone()));
            }
            GuardianEffect::ProofToWarden(proof) => {
                self.send_to_warden(index, || WardenInput::ProofSubmitted(proof.clone()));
            }
            GuardianEffect::ReceiptToWarden(envelope) => {
                self.send_to_warden(index, || WardenInput::ReceiptShown(envelope.clone()));
            }
            GuardianEffect::Broadcast(envelope) => {
                self.mix_envelope(&envelope);
                for peer in (0..self.plan.personas).filter(|peer| *peer != index) {
                    let from_persona = schedule::persona(index);
                    self.send_to_agent(from, peer, || GuardianInput::FromPeer {
                        from: from_persona.clone(),
                        envelope: envelope.clone(),
                    });
                }
            }
            GuardianEffect::BroadcastProof(proof) => {
                for peer in (0..self.plan.personas).filter(|peer| *peer != index) {
                    self.send_to_agent(from, peer, || GuardianInput::ProofFromPeer(proof.clone()));
                }
            }
            GuardianEffect::ToPeer(persona, envelope) => {
                if let Some(peer) = self.index_of_persona(&persona) {
                    let from_persona = schedule::persona(index);
                    self.send_to_agent(from, peer, || GuardianInput::FromPeer {
                        from: from_persona.clone(),
                        envelope: envelope.clone(),
                    });
                }
            }
            GuardianEffect::Fetch { from: asked, session_key, seq } => {
                let Some(asked) = self.index_of_persona(&asked) else { return };
                let to = End::Agent(asked);
                let via = Via { from, to, epoch: self.network.link(from, to).epoch };
                for at in self.network.arrivals(&mut self.rng, self.now, from, to) {
                    self.at(at, Event::Fetch { from: index, asked, via, key: session_key, seq });
                }
            }
            GuardianEffect::Observe { subject, challenge } => {
                let Some(agent) = &self.agents[index] else { return };
                let pid = agent.pid;
                if let Some(wrapper) = self.wrappers.get(&subject)
                    && self.pid1.unit(&subject).breath == Breath::Well
                {
                    let (ticks, process) = (wrapper.ticks.clone(), wrapper.pid);
                    let input = GuardianInput::TicksRead { subject, pid: process, ticks, challenge: Some(challenge) };
                    self.soon(100, 5_000, guardian(pid, input));
                }
            }
            GuardianEffect::KeepReceipt(envelope) => self.receipts[index] = Some(envelope),
            GuardianEffect::Event(event) => {
                self.note(|| format!("{}: {event:?}", schedule::PERSONAS[index].0));
                if let GuardianEvent::Equivocated { persona, .. } = event {
                    self.checker.accused(&persona);
                }
            }
        }
    }

    fn index_of_persona(&self, persona: &PersonaId) -> Option<usize> {
        (0..self.plan.personas).find(|index| schedule::persona(*index) == *persona)
    }

    fn rearm_agent(&mut self, index: usize) {
        let booted_at = self.booted_at;
        let Some(agent) = &mut self.agents[index] else { return };
        let Mind::Correct(guardian) = &agent.mind else { return };
        let due = guardian.next_deadline().map(|t| t.as_nanos() + booted_at);
        if due != agent.timer.due {
            agent.timer.due = due;
            agent.timer.seq += 1;
            let (pid, seq) = (agent.pid, agent.timer.seq);
            if let Some(due) = due {
                let late = self.rng.below(MS);
                self.at(due.max(self.now) + late, Event::AgentTimer { pid, seq });
            }
        }
    }

    fn step_warden(&mut self, via: Option<Via>, input: WardenInput) {
        let (now, wall) = (self.boottime(), self.wall_ms());
        let Some(process) = &mut self.warden else { return };
        if process.frozen {
            process.backlog.push_back((via, input));
            return;
        }
        if let (WardenInput::Submitted(envelope), Some(Via { from: End::Agent(index), .. })) = (&input, via)
            && envelope.domain == Domain::Vote
            && !self.checker.is_liar(&schedule::persona(index))
        {
            self.checker.vote_arrives(envelope);
        }
        let timer = matches!(input, WardenInput::Timer);
        let effects = process.warden.step(now, wall, input);
        if timer {
            let view = process.warden.view(now);
            self.checker.deadlines(&view, now);
            for subject in &view.subjects {
                *self.states.entry(subject.state.as_str()).or_default() += 1;
            }
        }
        self.warden_effects(effects);
        self.rearm_warden();
    }

    fn rearm_warden(&mut self) {
        let booted_at = self.booted_at;
        let Some(process) = &mut self.warden else { return };
        let due = process.warden.next_deadline().map(|t| t.as_nanos() + booted_at);
        if due != process.timer.due {
            process.timer.due = due;
            process.timer.seq += 1;
            let (run, seq) = (process.run, process.timer.seq);
            if let Some(due) = due {
                let late = self.rng.below(MS);
                self.at(due.max(self.now) + late, Event::WardenTimer { run, seq });
            }
        }
    }

    fn warden_effects(&mut self, effects: Vec<WardenEffect>) {
        self.mix(effects.len() as u64);
        for effect in effects {
            match &mut self.doom {
                Some(Doom::AfterEffects(0)) => {
                    self.doom = None;
                    let down = self.rng.ms(1, 800);
                    return self.warden_ends(Some(down));
                }
                Some(Doom::AfterEffects(left)) => *left -= 1,
                Some(Doom::Intent) if is_intent(&effect) => self.die_soon(6_000),
                Some(Doom::Act) if matches!(effect, WardenEffect::Act(_)) => self.die_soon(70_000),
                _ => {}
            }
            self.warden_effect(effect);
            if self.warden.is_none() {
                return;
            }
        }
    }

    fn die_soon(&mut self, within_us: u64) {
        self.doom = None;
        if let Some(run) = self.warden.as_ref().map(|w| w.run) {
            self.soon(0, within_us, Event::WardenDies { run });
        }
    }

    fn warden_effect(&mut self, effect: WardenEffect) {
        let Some(run) = self.warden.as_ref().map(|w| w.run) else { return };
        match effect {
            WardenEffect::Append { seq, previous, record } => {
                self.note(|| format!("append {seq} {}", kind_of(&record)));
                self.checked(|checker, truth| checker.appended(&record, truth));
                if let Err(why) = self.journal.append(seq, previous, &record) {
                    self.checker.broken("S9", why);
                }
                if self.now < self.slow_disk_until {
                    self.soon(1_000, 700_000, Event::Synced { run, seq });
                } else {
                    self.soon(50, 4_000, Event::Synced { run, seq });
                }
            }
            WardenEffect::Publish { subject, episode } => {
                self.mix_envelope(&episode);
                if let Some(process) = &mut self.warden {
                    process.published.insert(subject, episode.clone());
                }
                for index in 0..self.plan.personas {
                    self.send_to_agent(End::Warden, index, || GuardianInput::FromWarden(episode.clone()));
                }
            }
            WardenEffect::PublishReceipt(envelope) | WardenEffect::Show(envelope) => {
                for index in 0..self.plan.personas {
                    self.send_to_agent(End::Warden, index, || GuardianInput::FromWarden(envelope.clone()));
                }
            }
            WardenEffect::Reply { to, answer } => self.answered(to, answer),
            WardenEffect::Challenge { pid, nonce } => self.challenge(run, pid, nonce),
            WardenEffect::ReadRunDelay { pid, nonce } => {
                let now = self.now;
                let delay = self.pid1.subject_of(pid).map(|subject| {
                    let unit = self.pid1.unit(subject);
                    unit.run_delay + Duration::from_nanos(unit.starved_since.map_or(0, |since| now - since))
                });
                let input = Box::new(WardenInput::RunDelay { nonce, delay });
                self.soon(20, 500, Event::Warden { run, via: None, input });
            }
            WardenEffect::Reread { attempt, subject } => {
                if std::mem::take(&mut self.meddle) {
                    self.begin_start(&subject, Duration::ZERO, Duration::from_micros(10));
                }
                self.soon(50, 4_000, Event::Reread { run, attempt, subject });
            }
            WardenEffect::Act(permit) => {
                self.note(|| format!("acts: {permit:?}"));
                let durable = self.journal.holds_intent(permit.attempt());
                let damaged = self.warden.as_ref().is_some_and(|w| w.damaged);
                self.checked(|checker, truth| checker.act(&permit, durable, damaged, truth));
                self.soon(50, 3_000, Event::Act { run, permit });
            }
            WardenEffect::Page(page) => {
                self.note(|| format!("page: {page:?}"));
                let (now, began) = (self.now, self.warden.as_ref().map_or(0, |w| w.began));
                self.checker.paged(&page, now, began);
            }
            WardenEffect::Event(event) => {
                if let WardenEvent::Equivocated { persona } = &event {
                    self.checker.accused(persona);
                }
                self.note(|| format!("warden: {event:?}"));
            }
        }
    }

    fn challenge(&mut self, run: u32, pid: u32, nonce: Nonce) {
        let Some(subject) = self.pid1.subject_of(pid).cloned() else { return };
        let unit = self.pid1.unit(&subject);
        if unit.breath != Breath::Well || unit.state.frozen {
            return;
        }
        let connected = match &unit.kind {
            SubjectKind::Wrapper(_) => true,
            SubjectKind::Agent(_) => {
                self.index_of(pid).is_some_and(|index| self.network.link(End::Agent(index), End::Warden).up)
            }
            SubjectKind::K3s | SubjectKind::Unit => false,
        };
        if connected {
            let input = Box::new(WardenInput::ChallengeAnswered { pid, nonce });
            self.soon(100, 60_000, Event::Warden { run, via: None, input });
        }
    }

    fn answered(&mut self, to: ReplyTo, answer: Answer) {
        match (self.waiting.remove(&to.0), answer) {
            (Some(Waiting::Nonce { pid }), Answer::Nonce(nonce)) => {
                let Some(index) = self.index_of(pid) else { return };
                self.network.connect(End::Agent(index), End::Warden);
                self.tell(index, GuardianInput::WardenConnected { nonce });
                if self.rng.chance(50) {
                    self.replay_episodes(index);
                }
            }
            (Some(Waiting::Session { pid, via }), Answer::Session(envelope)) => {
                let Some(index) = self.index_of(pid) else { return };
                if self.arrives(Some(via)) {
                    self.tell(index, GuardianInput::SessionOpened(envelope));
                    self.replay_episodes(index);
                }
            }
            (Some(Waiting::Order { order, .. }), Answer::Done(text)) => {
                self.note(|| format!("{order:?}: {text}"));
                self.checker.ordered(&order);
            }
            (Some(Waiting::Order { order, tries }), Answer::Refused { text, .. }) => {
                self.note(|| format!("{order:?} refused: {text}"));
                if tries < 3 {
                    self.soon(200_000, 500_000, Event::Order { order, tries: tries + 1 });
                }
            }
            (Some(Waiting::Session { pid, .. }), Answer::Refused { text, .. }) => {
                self.note(|| format!("no session for {pid}: {text}"));
                let Some(index) = self.index_of(pid) else { return };
                self.network.disconnect(End::Agent(index), End::Warden);
                self.tell(index, GuardianInput::WardenLost);
            }
            _ => {}
        }
    }

    fn replay_episodes(&mut self, index: usize) {
        let published: Vec<_> = self.warden.iter().flat_map(|w| w.published.values().cloned()).collect();
        for episode in published {
            self.send_to_agent(End::Warden, index, || GuardianInput::FromWarden(episode.clone()));
        }
    }

    fn facts(&self, pid: u32) -> PeerFacts {
        let unit = self.pid1.subject_of(pid).map(|subject| {
            let state = &self.pid1.unit(subject).state;
            PeerUnit { subject: subject.clone(), main_pid: pid, invocation: state.incarnation.invocation }
        });
        PeerFacts { uid: 1000, pid, before: unit.clone(), after: unit }
    }

    fn ask(&mut self, waiting: Waiting) -> ReplyTo {
        self.asked += 1;
        self.waiting.insert(self.asked, waiting);
        ReplyTo(self.asked)
    }

    /// PID 1 tells everybody how a unit fares now.
    fn unit_changed(&mut self, subject: &SubjectName) {
        self.checked(|checker, truth| checker.observe_activity(truth));
        let state = Some(self.pid1.unit(subject).state);
        self.note(|| format!("{subject}: {:?} pid {:?}", state.map(|s| s.activity), state.and_then(|s| s.main_pid)));
        for index in 0..self.plan.personas {
            if let Some(agent) = &self.agents[index] {
                let pid = agent.pid;
                // Signals of one bus connection keep their order.
                let input = GuardianInput::UnitChanged { subject: subject.clone(), state };
                self.after(Duration::from_micros(900 + 37 * index as u64), guardian(pid, input));
            }
        }
        if let Some(run) = self.warden.as_ref().map(|w| w.run) {
            let input = Box::new(WardenInput::UnitChanged { subject: subject.clone(), state });
            self.after(Duration::from_micros(1100), Event::Warden { run, via: None, input });
        }
    }

    fn acted(&mut self, run: u32, attempt: Attempt, result: Result<(), String>, output: String) {
        self.checker.returned(attempt);
        if self.now < self.deaf_until {
            return;
        }
        let input = Box::new(WardenInput::Acted { attempt, result, output });
        self.soon(50, 3_000, Event::Warden { run, via: None, input });
    }

    /// PID 1 is told to act. It compares the run once more, and its job mode is `fail`.
    fn act(&mut self, run: u32, permit: &ActionPermit) {
        let alive = self.warden.as_ref().is_some_and(|w| w.run == run);
        if !alive && self.rng.chance(50) {
            return;
        }
        let (attempt, subject) = (permit.attempt(), permit.subject().clone());
        let state = self.pid1.unit(&subject).state;
        let refusals = self.refuse.entry(subject.clone()).or_default();
        let refused = if state.incarnation != permit.incarnation() {
            Some("another run")
        } else if state.job_pending {
            Some("a job is queued")
        } else if *refusals > 0 {
            *refusals -= 1;
            Some("refused")
        } else {
            None
        };
        if let Some(why) = refused {
            return self.acted(run, attempt, Err(why.into()), String::new());
        }
        match permit.action() {
            Action::Restart | Action::ResetFailed | Action::MoveAside { .. } => {
                let takes = self.rng.ms(3, 60);
                self.begin_start(&subject, Duration::ZERO, takes);
                let job = self.pid1.unit(&subject).job;
                self.acting.insert(subject, (job, attempt, run));
            }
            Action::Stop => {
                self.end_process(&subject);
                self.pid1.stop(&subject, false);
                self.unit_changed(&subject);
                self.acted(run, attempt, Ok(()), String::new());
            }
            Action::Run { .. } | Action::CopyAside { .. } | Action::Page => {
                let input = Box::new(WardenInput::Acted { attempt, result: Ok(()), output: "it ran".into() });
                self.checker.returned(attempt);
                self.soon(1_000, 300_000, Event::Warden { run, via: None, input });
            }
        }
    }

    // ---- events

    fn handle(&mut self, event: Event) {
        if self.booting && !matches!(event, Event::Boot | Event::Fault(_)) {
            // The node is down: whoever is outside tries again later.
            return self.after(Duration::from_millis(250), event);
        }
        match event {
            Event::Guardian { pid, via, input } => {
                if let Some(index) = self.index_of(pid)
                    && self.arrives(via)
                {
                    self.step_agent(index, *input);
                }
            }
            Event::AgentTimer { pid, seq } => self.agent_timer(pid, seq),
            Event::LiarSpeaks { pid } => self.liar_speaks(pid),
            Event::Ping { pid } => self.ping(pid),
            Event::DialWarden { pid } => self.dial_warden(pid),
            Event::DialPeer { pid, peer } => self.dial_peer(pid, peer),
            Event::Fetch { from, asked, via, key, seq } => {
                if !self.arrives(Some(via)) || self.is_silent(asked) {
                    return;
                }
                let found = self.agents[asked].as_ref().and_then(|agent| agent.fetch(&key, seq));
                if let Some((session, statement)) = found {
                    self.send_to_agent(End::Agent(asked), from, || GuardianInput::Fetched {
                        session: session.clone(),
                        statement: statement.clone(),
                    });
                }
            }
            Event::Warden { run, via, input } => {
                if self.warden.as_ref().is_some_and(|w| w.run == run) && self.arrives(via) {
                    self.step_warden(via, *input);
                }
            }
            Event::WardenTimer { run, seq } => self.warden_timer(run, seq),
            Event::AskNonce { run, pid } => {
                if self.warden.as_ref().is_some_and(|w| w.run == run) {
                    let reply = self.ask(Waiting::Nonce { pid });
                    let peer = self.facts(pid);
                    self.step_warden(None, WardenInput::NonceWanted { peer, reply });
                }
            }
            Event::AskSession { run, pid, via, request } => {
                if self.warden.as_ref().is_some_and(|w| w.run == run) && self.arrives(Some(via)) {
                    let reply = self.ask(Waiting::Session { pid, via });
                    let peer = self.facts(pid);
                    self.step_warden(None, WardenInput::SessionWanted { peer, request, reply });
                }
            }
            Event::Synced { run, seq } => {
                if self.warden.as_ref().is_some_and(|w| w.run == run) {
                    let head = self.journal.sync(seq);
                    self.step_warden(None, WardenInput::Synced(head));
                }
            }
            Event::Reread { run, attempt, subject } => {
                if self.now < self.deaf_until {
                    return;
                }
                let state = Some(self.pid1.unit(&subject).state);
                self.checker.reread(attempt, state);
                let input = Box::new(WardenInput::Reread { attempt, state });
                self.soon(20, 1_000, Event::Warden { run, via: None, input });
            }
            Event::Act { run, permit } => self.act(run, &permit),
            Event::Job { subject, job, step } => self.job(subject, job, step),
            Event::TickBegin { subject, pid } => self.tick(&subject, pid, true),
            Event::TickEnd { subject, pid } => self.tick(&subject, pid, false),
            Event::LinkBreaks { a, b, epoch } => {
                if self.network.link(a, b).epoch == epoch && self.network.link(a, b).up {
                    self.break_link(a, b);
                }
            }
            Event::Mend { a, b } => {
                self.network.mend(a, b);
                self.break_link(a, b);
                self.disturb(Duration::from_secs(2));
            }
            Event::Wake { subject, pid } => {
                if self.pid1.unit(&subject).state.main_pid == Some(pid) {
                    self.wake(&subject);
                }
            }
            Event::QuotaEnds(persona) => {
                if self.work[persona] == Work::Environment {
                    self.work[persona] = Work::Good;
                }
            }
            Event::OperatorStarts(subject) => {
                if self.pid1.unit(&subject).state.main_pid.is_none() {
                    self.begin_start(&subject, Duration::ZERO, Duration::from_millis(20));
                }
            }
            Event::Unmask(subject) => {
                self.pid1.set_masked(&subject, false);
                self.unit_changed(&subject);
                self.begin_start(&subject, Duration::ZERO, Duration::from_millis(20));
            }
            Event::Order { order, tries } => {
                if self.warden.is_none() {
                    return self.soon(100_000, 300_000, Event::Order { order, tries });
                }
                if let OperatorOrder::Release { subject } = &order {
                    // From here to its answer the hold may or may not be in force.
                    let subject = subject.clone();
                    self.checker.release_asked(&subject);
                }
                let reply = self.ask(Waiting::Order { order: order.clone(), tries });
                let input = WardenInput::Ordered { uid: 0, order, reason: "a test".into(), reply };
                self.step_warden(None, input);
            }
            Event::OperatorLooks => self.operator_looks(),
            Event::StartWarden => self.warden_begins(),
            Event::WardenDies { run } => {
                if self.warden.as_ref().is_some_and(|w| w.run == run) {
                    let down = self.rng.ms(1, 800);
                    self.warden_ends(Some(down));
                }
            }
            Event::ThawWarden { run } => {
                let Some(process) = &mut self.warden else { return };
                if process.run == run {
                    process.frozen = false;
                    for (via, input) in std::mem::take(&mut process.backlog) {
                        self.step_warden(via, input);
                    }
                }
            }
            Event::Boot => self.boot(),
            Event::Fault(fault) => self.fault(fault),
            Event::Heal => self.heal(),
        }
    }

    fn agent_timer(&mut self, pid: u32, seq: u64) {
        let Some(index) = self.index_of(pid) else { return };
        if self.is_silent(index) {
            return;
        }
        let Some(agent) = &mut self.agents[index] else { return };
        if agent.timer.seq != seq {
            return;
        }
        agent.timer.due = None;
        self.step_agent(index, GuardianInput::Timer);
        let now = self.now;
        let Some(agent) = &mut self.agents[index] else { return };
        agent.timer.stuck = if agent.timer.due.is_some_and(|due| due <= now) { agent.timer.stuck + 1 } else { 0 };
        if agent.timer.stuck > 50 {
            self.checker.broken("L2", format_args!("{}'s deadline stays in the past", schedule::PERSONAS[index].0));
        }
    }

    fn warden_timer(&mut self, run: u32, seq: u64) {
        let now = self.now;
        let Some(process) = &mut self.warden else { return };
        if process.run != run || process.timer.seq != seq {
            return;
        }
        if process.frozen {
            return self.after(Duration::from_millis(20), Event::WardenTimer { run, seq });
        }
        process.timer.due = None;
        self.step_warden(None, WardenInput::Timer);
        let Some(process) = &mut self.warden else { return };
        process.timer.stuck = if process.timer.due.is_some_and(|due| due <= now) { process.timer.stuck + 1 } else { 0 };
        if process.timer.stuck > 50 {
            self.checker.broken("L2", "the warden's deadline stays in the past");
        }
    }

    fn liar_speaks(&mut self, pid: u32) {
        let Some(index) = self.index_of(pid) else { return };
        if !self.is_silent(index) {
            let now = self.boottime();
            let (pid1, work, wrappers) = (&self.pid1, &self.work, &self.wrappers);
            let truth = |subject: &SubjectName| true_fault(pid1, work, wrappers, subject);
            let Some(agent) = &mut self.agents[index] else { return };
            if let Mind::Liar(liar) = &mut agent.mind {
                let lies = liar.speak(&mut self.rng, now, self.plan.personas, &truth);
                for (to, envelope) in &lies {
                    self.mix_envelope(envelope);
                    match to {
                        To::Warden => self.send_to_warden(index, || WardenInput::Submitted(envelope.clone())),
                        To::Peer(peer) if *peer != index => {
                            let from = schedule::persona(index);
                            self.send_to_agent(End::Agent(index), *peer, || GuardianInput::FromPeer {
                                from: from.clone(),
                                envelope: envelope.clone(),
                            });
                        }
                        To::Peer(_) => {}
                    }
                }
                if lies.len() > 24 {
                    // A flood pauses now and then, or nobody's tests would end.
                    return self.soon(800_000, 1_500_000, Event::LiarSpeaks { pid });
                }
            }
        }
        self.soon(200_000, 600_000, Event::LiarSpeaks { pid });
    }

    fn ping(&mut self, pid: u32) {
        let Some(index) = self.index_of(pid) else { return };
        if !self.is_silent(index) {
            let wrappers: Vec<_> =
                (0..self.plan.personas).map(|i| SubjectName::wrapper(&schedule::persona(i))).collect();
            for subject in wrappers {
                self.step_agent(index, GuardianInput::PingSent { subject: subject.clone() });
                let unit = self.pid1.unit(&subject);
                if unit.breath != Breath::Well || unit.state.frozen {
                    continue;
                }
                if let Some(wrapper) = self.wrappers.get(&subject) {
                    let (process, ticks) = (wrapper.pid, wrapper.ticks.clone());
                    let round_trip = self.rng.between(Duration::from_micros(100), Duration::from_millis(30));
                    let answer = GuardianInput::PingAnswered { subject: subject.clone(), pid: process, round_trip };
                    self.after(round_trip, guardian(pid, answer));
                    let read = GuardianInput::TicksRead { subject, pid: process, ticks, challenge: None };
                    self.after(round_trip, guardian(pid, read));
                }
            }
        }
        let every = self.policy.timing.ping;
        let jitter = self.rng.ms(0, 10);
        self.after(every + jitter, Event::Ping { pid });
    }

    fn dial_warden(&mut self, pid: u32) {
        let Some(index) = self.index_of(pid) else { return };
        self.soon(250_000, 700_000, Event::DialWarden { pid });
        let (mine, silent) = (End::Agent(index), self.is_silent(index));
        let Some(run) = self.warden.as_ref().map(|w| w.run) else { return };
        if silent || self.network.is_cut(mine, End::Warden) {
            return;
        }
        let has_session = self.agents[index].as_ref().is_some_and(|agent| agent.has_session);
        let up = self.network.link(mine, End::Warden).up;
        if up && has_session {
            return;
        }
        if up {
            // No answer: the connection is given up and made anew.
            self.network.disconnect(mine, End::Warden);
            self.step_agent(index, GuardianInput::WardenLost);
        }
        self.soon(50, 2_000, Event::AskNonce { run, pid });
    }

    fn dial_peer(&mut self, pid: u32, peer: usize) {
        let Some(index) = self.index_of(pid) else { return };
        let (mine, theirs) = (End::Agent(index), End::Agent(peer));
        if self.network.link(mine, theirs).up {
            return;
        }
        if self.agents[peer].is_none() || self.is_silent(index) || self.network.is_cut(mine, theirs) {
            return self.soon(100_000, 400_000, Event::DialPeer { pid, peer });
        }
        self.network.connect(mine, theirs);
        self.tell(index, GuardianInput::PeerConnected(schedule::persona(peer)));
        self.tell(peer, GuardianInput::PeerConnected(schedule::persona(index)));
    }

    fn break_link(&mut self, a: End, b: End) {
        if !self.network.link(a, b).up {
            return;
        }
        self.network.disconnect(a, b);
        for (one, other) in [(a, b), (b, a)] {
            match (one, other) {
                (End::Agent(index), End::Agent(peer)) => {
                    self.tell(index, GuardianInput::PeerLost(schedule::persona(peer)));
                    self.redial(index, peer);
                }
                (End::Agent(index), End::Warden) => {
                    if let Some(agent) = &mut self.agents[index] {
                        agent.has_session = false;
                    }
                    self.tell(index, GuardianInput::WardenLost);
                }
                (End::Warden, _) => {}
            }
        }
    }

    fn job(&mut self, subject: SubjectName, job: u64, step: JobStep) {
        if self.pid1.unit(&subject).job != job {
            return;
        }
        match step {
            JobStep::Start => self.begin_start(&subject, Duration::ZERO, Duration::from_millis(15)),
            JobStep::Up => {
                let (world, now) = (self.now, self.boottime());
                let pid = self.pid1.finish_start(&subject, world, now);
                self.unit_changed(&subject);
                self.process_begins(&subject, pid);
                if let Some((acting, attempt, run)) = self.acting.get(&subject).copied()
                    && acting == job
                {
                    self.acting.remove(&subject);
                    self.acted(run, attempt, Ok(()), String::new());
                }
            }
            JobStep::Crash => self.crash(&subject, LastExit::Code(3)),
            JobStep::Silence => self.silence(&subject, Breath::Silent),
        }
    }

    fn crash(&mut self, subject: &SubjectName, exit: LastExit) {
        if self.pid1.unit(subject).state.main_pid.is_none() {
            return;
        }
        self.end_process(subject);
        let now = self.boottime();
        // `end_process` forgets the pid, so the run is entered here.
        if let Some((job, wait)) = self.pid1.crash(subject, exit, now) {
            self.after(wait, Event::Job { subject: subject.clone(), job, step: JobStep::Start });
        }
        self.unit_changed(subject);
    }

    fn silence(&mut self, subject: &SubjectName, breath: Breath) {
        let now = self.now;
        let unit = self.pid1.unit_mut(subject);
        if unit.state.main_pid.is_none() {
            return;
        }
        unit.breath = breath;
        unit.last_silent = Some(now);
        if breath == Breath::Starved {
            unit.starved_since = Some(now);
        }
        self.note(|| format!("{subject} is {breath:?}"));
        if subject.as_str().ends_with("/agent") {
            self.disturb(Duration::from_secs(2));
        }
    }

    fn wake(&mut self, subject: &SubjectName) {
        let now = self.now;
        let unit = self.pid1.unit_mut(subject);
        if unit.breath == Breath::Well {
            return;
        }
        let slept = Duration::from_nanos(now - unit.last_silent.unwrap_or(now));
        if let Some(since) = unit.starved_since.take() {
            unit.run_delay += Duration::from_nanos(now - since);
        }
        unit.breath = Breath::Well;
        unit.last_silent = Some(now);
        let pid = unit.state.main_pid;
        self.note(|| format!("{subject} wakes"));
        let Some(index) = pid.and_then(|pid| self.index_of(pid)) else { return };
        self.disturb(Duration::from_secs(3));
        let Some(agent) = &mut self.agents[index] else { return };
        let backlog = std::mem::take(&mut agent.backlog);
        agent.timer = Timer { seq: agent.timer.seq + 1, ..Timer::default() };
        self.step_agent(index, GuardianInput::TimerLate(slept));
        self.step_agent(index, GuardianInput::Timer);
        for input in backlog {
            self.step_agent(index, input);
        }
        self.rearm_agent(index);
    }

    fn tick(&mut self, subject: &SubjectName, pid: u32, begins: bool) {
        let (world, now) = (self.now, self.boottime());
        let silent = self.pid1.unit(subject).breath != Breath::Well;
        let Some(index) = (0..self.plan.personas).find(|i| SubjectName::wrapper(&schedule::persona(*i)) == *subject)
        else {
            return;
        };
        let work = self.work[index];
        let Some(wrapper) = self.wrappers.get_mut(subject).filter(|wrapper| wrapper.pid == pid) else { return };
        let subject = subject.clone();
        if silent {
            let event = if begins { Event::TickBegin { subject, pid } } else { Event::TickEnd { subject, pid } };
            return self.soon(50_000, 150_000, event);
        }
        // Agents read the ticks with their next ping.
        if begins {
            wrapper.begin(now);
            self.soon(30_000, 250_000, Event::TickEnd { subject, pid });
        } else {
            wrapper.end(world, now, work);
            let interval = wrapper.ticks.interval;
            self.after(interval, Event::TickBegin { subject, pid });
        }
    }

    fn operator_looks(&mut self) {
        self.soon(300_000, 1_200_000, Event::OperatorLooks);
        let now = self.boottime();
        let Some(process) = &self.warden else { return };
        if process.frozen {
            return;
        }
        let view = process.warden.view(now);
        let wanted = view.subjects.iter().find(|s| s.state == StateName::AwaitingApproval).map(|s| s.episode);
        let chance = if self.healed { 60 } else { 15 };
        if let Some(episode) = wanted
            && self.rng.chance(chance)
        {
            self.soon(1_000, 50_000, Event::Order { order: OperatorOrder::Approve { episode }, tries: 0 });
        }
    }

    // ---- faults

    fn end(index: usize) -> End {
        if index == usize::MAX { End::Warden } else { End::Agent(index) }
    }

    pub fn fault(&mut self, fault: Fault) {
        self.note(|| format!("fault: {fault:?}"));
        if self.booting {
            return;
        }
        match fault {
            Fault::Crash { subject, fate } => {
                self.pid1.unit_mut(&subject).fate = fate;
                self.crash(&subject, LastExit::Signal(9));
            }
            Fault::ExitZero(subject) => self.crash(&subject, LastExit::Code(0)),
            Fault::Silence { subject, wake_after } => {
                self.silence(&subject, Breath::Silent);
                self.wake_later(&subject, wake_after);
            }
            Fault::Starve { subject, wake_after } => {
                self.silence(&subject, Breath::Starved);
                self.wake_later(&subject, Some(wake_after));
            }
            Fault::BreakTicks { persona, restarts } => self.work[persona] = Work::Broken { restarts },
            Fault::Quota { persona, lasts } => {
                self.work[persona] = Work::Environment;
                self.after(lasts, Event::QuotaEnds(persona));
            }
            Fault::SlowStart { subject, takes } => {
                self.slow_start.insert(subject, takes);
            }
            Fault::RefuseActions { subject, times } => {
                self.refuse.insert(subject, times);
            }
            Fault::OperatorStop { subject, start_after } => {
                self.end_process(&subject);
                self.pid1.stop(&subject, true);
                self.unit_changed(&subject);
                self.after(start_after, Event::OperatorStarts(subject));
            }
            Fault::Mask { subject, unmask_after } => {
                self.end_process(&subject);
                self.pid1.stop(&subject, true);
                self.pid1.set_masked(&subject, true);
                self.unit_changed(&subject);
                self.after(unmask_after, Event::Unmask(subject));
            }
            Fault::Hold { subject, release_after } => {
                let until = None;
                self.soon(
                    1,
                    10,
                    Event::Order { order: OperatorOrder::Hold { subject: subject.clone(), until }, tries: 0 },
                );
                if let Some(after) = release_after {
                    self.after(after, Event::Order { order: OperatorOrder::Release { subject }, tries: 0 });
                }
            }
            Fault::CrashWarden { down } => {
                // At any time, or in the midst of a step, or where it hurts most.
                match self.rng.below(4) {
                    0 => self.doom = Some(Doom::AfterEffects(u32::try_from(self.rng.below(6)).unwrap_or(0))),
                    1 => self.doom = Some(Doom::Intent),
                    2 => self.doom = Some(Doom::Act),
                    _ => self.warden_ends(Some(down)),
                }
            }
            Fault::FreezeWarden { lasts } => {
                if let Some(process) = &mut self.warden {
                    process.frozen = true;
                    let run = process.run;
                    self.disturb(lasts + Duration::from_secs(2));
                    self.after(lasts, Event::ThawWarden { run });
                }
            }
            Fault::Partition { a, b, lasts } => {
                let (a, b) = (Self::end(a), Self::end(b));
                if a == b {
                    return;
                }
                self.disturb(lasts + Duration::from_secs(2));
                self.network.cut(a, b);
                let epoch = self.network.link(a, b).epoch;
                self.soon(300_000, 1_500_000, Event::LinkBreaks { a, b, epoch });
                self.after(lasts, Event::Mend { a, b });
            }
            Fault::Isolate { persona, warden, lasts } => {
                let peers = (0..self.plan.personas).filter(|peer| *peer != persona);
                let warden = warden.then_some(usize::MAX);
                for other in peers.chain(warden).collect::<Vec<_>>() {
                    self.fault(Fault::Partition { a: persona, b: other, lasts });
                }
            }
            Fault::Meddle => self.meddle = true,
            Fault::Reconnect { a, b } => {
                let (a, b) = (Self::end(a), Self::end(b));
                if a != b {
                    self.disturb(Duration::from_secs(2));
                    self.break_link(a, b);
                }
            }
            Fault::Suspend { lasts } => self.suspend(lasts),
            Fault::Reboot { down } => self.reboot(down),
            Fault::DeafPid1 { lasts } => self.deaf_until = self.now + nanos(lasts),
            Fault::SlowDisk { lasts } => self.slow_disk_until = self.now + nanos(lasts),
            Fault::WallJump { forward, by } => {
                let by = i64::try_from(by.as_millis()).unwrap_or(0);
                self.wall_offset += if forward { by } else { -by };
            }
        }
    }

    fn wake_later(&mut self, subject: &SubjectName, after: Option<Duration>) {
        if let (Some(after), Some(pid)) = (after, self.pid1.unit(subject).state.main_pid) {
            self.after(after, Event::Wake { subject: subject.clone(), pid });
        }
    }

    fn suspend(&mut self, lasts: Duration) {
        let by = nanos(lasts);
        self.now += by;
        let queue = std::mem::take(&mut self.queue);
        self.queue = queue.into_iter().map(|((at, order), event)| ((at + by, order), event)).collect();
        self.disturb(Duration::from_secs(3));
        for index in 0..self.plan.personas {
            self.step_agent(index, GuardianInput::Resumed);
        }
        self.step_warden(None, WardenInput::Resumed);
    }

    fn reboot(&mut self, down: Duration) {
        self.warden_ends(None);
        self.checked(|checker, truth| checker.observe_activity(truth));
        for index in 0..self.plan.personas {
            self.agent_ends(index);
        }
        self.wrappers.clear();
        self.acting.clear();
        let boot = BootId(self.rng.bytes());
        self.pid1.reboot(boot);
        self.checker.rebooted();
        self.booting = true;
        self.booted_at = self.now + nanos(down) - nanos(down).min(1_000 * MS);
        self.disturb(down + Duration::from_secs(3));
        self.queue.retain(|_, event| {
            matches!(
                event,
                Event::Fault(_)
                    | Event::Heal
                    | Event::Order { .. }
                    | Event::OperatorLooks
                    | Event::OperatorStarts(_)
                    | Event::Unmask(_)
                    | Event::QuotaEnds(_)
                    | Event::Mend { .. }
            )
        });
        self.after(down, Event::Boot);
    }

    /// The hostile part is over: the network is calm, connections are made anew; what is harmed stays harmed until repaired.
    fn heal(&mut self) {
        self.note(|| "heal".into());
        self.healed = true;
        self.disturb(Duration::from_secs(3));
        self.network.weather = Weather { delay: Duration::from_millis(2), ..Weather::default() };
        self.network.mend_all();
        self.slow_disk_until = 0;
        self.deaf_until = 0;
        self.slow_start.clear();
        self.refuse.clear();
        self.doom = None;
        self.meddle = false;
        for a in 0..self.plan.personas {
            self.break_link(End::Agent(a), End::Warden);
            for b in a + 1..self.plan.personas {
                self.break_link(End::Agent(a), End::Agent(b));
            }
        }
        if !self.plan.keep_holds {
            self.soon(1, 200_000, Event::Order { order: OperatorOrder::Release { subject: None }, tries: 0 });
        }
    }

    /// The warden dies, and finds its journal damaged when it is back.
    pub fn damage_journal(&mut self) {
        self.warden_ends(Some(Duration::from_millis(50)));
        self.journal.damage = Some(Damage { at: 512, why: "a test flipped a bit".into() });
        self.run_for(Duration::from_millis(200));
    }

    /// Where the warden says that a subject stands.
    pub fn state_of(&self, subject: &SubjectName) -> Option<StateName> {
        let view = self.warden.as_ref()?.warden.view(self.boottime());
        view.subjects.iter().find(|status| status.subject == *subject).map(|status| status.state)
    }

    // ---- the end

    /// What is really wrong with a subject.
    pub fn fault_of(&self, subject: &SubjectName) -> Option<FaultClass> {
        true_fault(&self.pid1, &self.work, &self.wrappers, subject)
    }

    /// Correct vendors that may vote on a subject, and can.
    fn voters(&self, subject: &SubjectName) -> usize {
        let own = self.policy.subject(subject).and_then(|s| s.vendor.clone());
        (0..self.plan.personas)
            .filter(|index| {
                let persona = schedule::persona(*index);
                Some(schedule::vendor(*index)) != own
                    && !self.checker.is_liar(&persona)
                    && self.agents[*index].is_some()
                    && !self.is_silent(*index)
            })
            .count()
    }

    /// Subjects that are not where they must be in the end, with what is wrong.
    pub fn unfinished(&self) -> Vec<String> {
        let now = self.boottime();
        let Some(process) = &self.warden else { return vec!["the warden is down".into()] };
        let view = process.warden.view(now);
        let mut left = Vec::new();
        for status in &view.subjects {
            let distrusted = |persona: &PersonaId| self.checker.proven.contains(persona);
            // The agent of a proven liar is not asked whether it lives.
            let unheard = matches!(&self.pid1.unit(&status.subject).kind, SubjectKind::Agent(p) if distrusted(p));
            let fault = self.fault_of(&status.subject).filter(|fault| *fault != FaultClass::Hang || !unheard);
            let voters = self.voters(&status.subject);
            let wrong = match status.state {
                StateName::Held | StateName::Operator => false,
                StateName::Healthy => fault.is_some() && voters >= self.roster.q(),
                // With a liar about, a label below the quorum comes and goes.
                StateName::Suspect if self.plan.liars != Liars::Nobody => fault.is_some() && voters >= self.roster.q(),
                StateName::Suspect | StateName::Frozen => voters >= self.roster.q() || fault.is_none(),
                _ => voters >= self.roster.q(),
            };
            if wrong {
                left.push(format!(
                    "{} is {} ({}), in truth {}, {voters} voters",
                    status.subject,
                    status.state,
                    status.reason,
                    fault.map_or("well", FaultClass::as_str)
                ));
            }
        }
        left
    }

    /// What the warden knows of whatever is not well, into the log.
    fn show(&mut self) {
        let now = self.boottime();
        let Some(view) = self.warden.as_ref().map(|w| w.warden.view(now)) else { return };
        self.note(|| format!("now {now:?} frozen {:?} {:#?}", view.frozen_until, view.personas));
        for subject in view.subjects.into_iter().filter(|s| s.state != StateName::Healthy) {
            self.note(|| format!("{subject:#?}"));
        }
    }

    /// Runs on after the faults heal until everything is where it must be, and stays there for a while.
    pub fn settle(&mut self) {
        let heal_at = 10_000 * MS + nanos(self.plan.heal_at);
        self.run_until(heal_at.max(self.now));
        while !self.healed && self.checker.violation.is_none() {
            self.run_for(Duration::from_millis(500));
        }
        if self.plan.liars == Liars::Everybody || self.policy.mode == Mode::Observe {
            return self.run_for(Duration::from_secs(8));
        }
        let limit = self.now + nanos(self.plan.recovery);
        let mut calm = 0;
        while self.checker.violation.is_none() && calm < 3 {
            self.run_for(Duration::from_millis(500));
            let left = self.unfinished();
            calm = if left.is_empty() { calm + 1 } else { 0 };
            if self.now > limit && !left.is_empty() {
                self.show();
                self.checker.broken("L1/L2", format_args!("after {:?}: {}", self.plan.recovery, left.join("; ")));
            }
        }
    }
}

fn guardian(pid: u32, input: GuardianInput) -> Event {
    Event::Guardian { pid, via: None, input: Box::new(input) }
}

fn kind_of(record: &Record) -> String {
    match record {
        Record::Boot { instance, .. } => format!("BOOT {}", instance.0),
        Record::Receipt(envelope) => match Codec::<Receipt>::decode(&Proto, &envelope.payload) {
            Ok(r) => format!(
                "{} {} {}.{}.{} {:?} {}",
                r.kind, r.subject, r.episode, r.rung.0, r.round.0, r.outcome, r.detail
            ),
            Err(_) => "unreadable receipt".into(),
        },
        Record::Ledger(entry) => format!("LEDGER {:?} {}", entry.subject, entry.tokens),
        Record::Quarantine { persona, .. } => format!("QUARANTINE {persona}"),
        Record::Operator { order, .. } => format!("OPERATOR {order:?}"),
        Record::Roster(_) => "ROSTER".into(),
        Record::Head(_) => "HEAD".into(),
    }
}

fn true_fault(
    pid1: &Pid1,
    work: &[Work],
    wrappers: &BTreeMap<SubjectName, Wrapper>,
    subject: &SubjectName,
) -> Option<FaultClass> {
    let unit = pid1.unit(subject);
    if unit.state.main_pid.is_none() {
        return Some(FaultClass::Crash);
    }
    match (&unit.kind, unit.breath) {
        (SubjectKind::Unit | SubjectKind::K3s, _) => None,
        (_, Breath::Silent) => Some(FaultClass::Hang),
        (SubjectKind::Wrapper(persona), Breath::Well) => {
            let index = work.iter().enumerate().position(|(i, _)| schedule::persona(i) == *persona)?;
            let failing = wrappers.get(subject).is_some_and(|w| w.ticks.broken_in_a_row >= 3);
            (failing && matches!(work[index], Work::Broken { .. })).then_some(FaultClass::Broken)
        }
        _ => None,
    }
}
