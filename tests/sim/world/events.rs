//! Everything that can be in the queue, and whom it reaches when its time has come.

use super::World;
use super::warden::Waiting;
use crate::agents::Via;
use crate::network::End;
use crate::schedule::Fault;
use crate::wrapper::Work;
use std::time::Duration;
use zeta_bft::protocol::guardian::GuardianInput;
use zeta_bft::protocol::record::OperatorOrder;
use zeta_bft::protocol::signing::Domain;
use zeta_bft::protocol::statement::Envelope;
use zeta_bft::protocol::types::{Nonce, PublicKey, SubjectName};
use zeta_bft::protocol::warden::{ActionPermit, Attempt, WardenInput};

/// What a job of PID 1 does next.
#[derive(Clone, Copy, Debug)]
pub(super) enum JobStep {
    Start,
    Up,
    Crash,
    Silence,
}

pub(super) enum Event {
    Guardian { pid: u32, via: Option<Via>, input: Box<GuardianInput> },
    AgentTimer { pid: u32, seq: u64 },
    LiarSpeaks { pid: u32 },
    Ping { pid: u32 },
    LookAtK3s { pid: u32, challenge: Option<Nonce> },
    DialWarden { pid: u32 },
    DialPeer { pid: u32, peer: usize },
    Fetch { from: usize, asked: usize, via: Via, key: PublicKey, seq: u64 },
    Warden { run: u32, via: Option<Via>, input: Box<WardenInput> },
    WardenTimer { run: u32, seq: u64 },
    AskNonce { run: u32, pid: u32 },
    AskSession { run: u32, pid: u32, via: Via, request: Envelope },
    Synced { run: u32 },
    ReadCpu { run: u32, pid: u32, nonce: Nonce },
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

impl World {
    pub(super) fn handle(&mut self, event: Event) {
        if self.booting && !matches!(event, Event::Boot | Event::Fault(_)) {
            // The node is down: whoever is outside tries again later.
            return self.after(Duration::from_millis(250), event);
        }
        match event {
            Event::Guardian { pid, via, input } => {
                if let Some(index) = self.index_of(pid)
                    && self.arrives(via)
                {
                    // The session that it opened like everybody else is no statement of an actor's.
                    if let Some(actor) = via.and_then(|via| self.actor_at(via.from))
                        && !matches!(&*input, GuardianInput::FromPeer { envelope, .. } if envelope.domain == Domain::Session)
                    {
                        self.fates.count(actor, "arrived");
                    }
                    self.step_agent(index, *input);
                }
            }
            Event::AgentTimer { pid, seq } => self.agent_timer(pid, seq),
            Event::LiarSpeaks { pid } => self.liar_speaks(pid),
            Event::Ping { pid } => self.ping(pid),
            Event::LookAtK3s { pid, challenge } => self.look_at_k3s(pid, challenge),
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
            Event::Synced { run } => {
                if self.warden.as_ref().is_some_and(|w| w.run == run) {
                    match self.journal.sync() {
                        Some(head) => self.step_warden(None, WardenInput::Synced(head)),
                        // As production does: out, and open the journal anew.
                        None => self.warden_ends(Some(Duration::from_millis(500))),
                    }
                }
            }
            Event::ReadCpu { run, pid, nonce } => {
                let reading = self.pid1.subject_of(pid).map(|subject| self.pid1.unit(subject).cpu(self.now));
                if self.warden.as_ref().is_some_and(|w| w.run == run) {
                    self.step_warden(None, WardenInput::CpuRead { nonce, reading });
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
}

pub(super) fn guardian(pid: u32, input: GuardianInput) -> Event {
    Event::Guardian { pid, via: None, input: Box::new(input) }
}
