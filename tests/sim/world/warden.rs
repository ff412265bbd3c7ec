//! The warden's process: its starts and its deaths, its steps, and the effects of its machine.

use super::events::Event;
use super::{MS, READ, World};
use crate::agents::{Timer, Via, WardenProcess};
use crate::network::End;
use crate::pid1::Breath;
use crate::schedule::Meddling;
use std::collections::BTreeMap;
use std::time::Duration;
use zeta_bft::protocol::guardian::GuardianInput;
use zeta_bft::protocol::policy::SubjectKind;
use zeta_bft::protocol::record::{OperatorOrder, Record};
use zeta_bft::protocol::signing::{Domain, SigningKey};
use zeta_bft::protocol::statement::{Codec, Receipt, ReceiptKind};
use zeta_bft::protocol::types::Nonce;
use zeta_bft::protocol::warden::{
    Answer, PeerFacts, PeerUnit, ReplyTo, Warden, WardenConfig, WardenEffect, WardenEvent, WardenInput,
};
use zeta_bft::wire::Proto;

/// When the warden is to die.
pub(super) enum Doom {
    /// In the midst of a step: so many effects still happen, the rest never do.
    AfterEffects(u32),
    /// Around the time that the next INTENT reaches the disk.
    Intent,
    /// While the next action is under way.
    Act,
}

pub(super) enum Waiting {
    Nonce { pid: u32 },
    Session { pid: u32, via: Via },
    Order { order: OperatorOrder, tries: u32 },
}

impl World {
    pub(super) fn warden_begins(&mut self) {
        if self.warden.is_some() || self.booting {
            return;
        }
        self.runs += 1;
        let key = SigningKey::from_seed(&self.warden_seed).public();
        let Some(recovered) = self.journal.open(&key, &self.codec) else {
            // It cannot begin, and PID 1 starts it again.
            return self.after(Duration::from_millis(300), Event::StartWarden);
        };
        let damaged = recovered.damage.is_some();
        let config = WardenConfig {
            key: SigningKey::from_seed(&self.warden_seed),
            roster: self.roster.clone(),
            policy: self.policy.clone(),
            boot: self.pid1.boot,
            codec: self.codec,
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

    pub(super) fn warden_ends(&mut self, down: Option<Duration>) {
        if self.warden.take().is_none() {
            return;
        }
        self.note(|| "the warden dies".into());
        self.doom = None;
        // A dead process leaves the page cache; a dead node does not, and some disks lie.
        let loses = down.is_none() || self.rng.chance(50);
        self.journal.crash(&mut self.rng, loses);
        let quarantined = self.journal.read(&self.roster.statement().warden, &self.codec).quarantined;
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

    pub(super) fn step_warden(&mut self, via: Option<Via>, input: WardenInput) {
        let (now, wall) = (self.boottime(), self.wall_ms());
        let Some(process) = &mut self.warden else { return };
        if process.frozen {
            process.backlog.push_back((via, input));
            return;
        }
        if let WardenInput::Submitted(envelope) = &input
            && envelope.domain == Domain::Vote
        {
            self.checker.vote_arrives(envelope);
        }
        let timer = matches!(input, WardenInput::Timer);
        self.mix_words(&input);
        let Some(process) = &mut self.warden else { return };
        let judged = matches!(input, WardenInput::CpuRead { .. });
        let effects = process.warden.step(now, wall, input);
        if judged {
            self.checker.silenced(&effects, &self.pid1, self.now);
        }
        if let Some(actor) = via.and_then(|via| self.actor_at(via.from)) {
            self.note_fates(actor, &effects);
        }
        let Some(process) = &mut self.warden else { return };
        if timer {
            let view = process.warden.view(now);
            self.checked(|checker, truth| checker.deadlines(&view, truth));
            for subject in &view.subjects {
                *self.states.entry(subject.state.as_str()).or_default() += 1;
            }
        }
        self.warden_effects(effects);
        self.rearm_warden();
    }

    pub(super) fn rearm_warden(&mut self) {
        let booted_at = self.booted_at;
        let Some(process) = &mut self.warden else { return };
        let due = process.warden.next_deadline().map(|t| t.as_nanos() + booted_at);
        let run = process.run;
        if let Some((due, seq)) = process.timer.arm(due) {
            let late = self.rng.below(MS);
            self.at(due.max(self.now) + late, Event::WardenTimer { run, seq });
        }
    }

    pub(super) fn warden_timer(&mut self, run: u32, seq: u64) {
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
        if process.timer.is_stuck(now) {
            self.checker.broken("L2", "the warden's deadline stays in the past");
        }
    }

    pub(super) fn warden_effects(&mut self, effects: Vec<WardenEffect>) {
        self.mix(effects.len() as u64);
        for effect in effects {
            match &mut self.doom {
                Some(Doom::AfterEffects(0)) => {
                    self.doom = None;
                    let down = self.rng.ms(1, 800);
                    return self.warden_ends(Some(down));
                }
                Some(Doom::AfterEffects(left)) => *left -= 1,
                Some(Doom::Intent) if intent_of(&effect).is_some() => self.die_soon(6_000),
                Some(Doom::Act) if matches!(effect, WardenEffect::Act(_)) => self.die_soon(70_000),
                _ => {}
            }
            let meddled = self.meddle == Some(Meddling::SameFault);
            let intent = if meddled { intent_of(&effect) } else { None };
            self.mix_words(&effect);
            self.warden_effect(effect);
            if let Some(intent) = intent {
                self.meddle = None;
                self.restart_in_vain(&intent.subject, intent.class);
            }
            if self.warden.is_none() {
                return;
            }
        }
    }

    pub(super) fn die_soon(&mut self, within_us: u64) {
        self.doom = None;
        if let Some(run) = self.warden.as_ref().map(|w| w.run) {
            self.soon(0, within_us, Event::WardenDies { run });
        }
    }

    pub(super) fn warden_effect(&mut self, effect: WardenEffect) {
        let Some(run) = self.warden.as_ref().map(|w| w.run) else { return };
        match effect {
            WardenEffect::Append { seq, previous, record } => {
                self.note(|| format!("append {seq} {}", kind_of(&record)));
                self.checked(|checker, truth| checker.appended(&record, truth));
                match &record {
                    Record::Quarantine { .. } => self.transitions.quarantined(),
                    Record::Operator { order: OperatorOrder::Readmit { .. }, .. } => self.transitions.readmitted(),
                    _ => {}
                }
                if let Err(why) = self.journal.append(seq, previous, &record) {
                    self.checker.broken("S9", why);
                }
                if self.now < self.slow_disk_until {
                    self.soon(1_000, 700_000, Event::Synced { run });
                } else {
                    self.soon(50, 4_000, Event::Synced { run });
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
            WardenEffect::ReadCpu { pid, nonce, hear_out: false } => {
                self.soon(20, 500, Event::ReadCpu { run, pid, nonce })
            }
            WardenEffect::ReadCpu { pid, nonce, hear_out: true } => {
                self.soon(5_000, 8_000, Event::ReadCpu { run, pid, nonce });
            }
            WardenEffect::Reread { attempt, subject } => {
                if self.meddle == Some(Meddling::Well) {
                    self.meddle = None;
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
                    self.accused(persona);
                }
                self.transitions.event(&event);
                self.note(|| format!("warden: {event:?}"));
            }
        }
    }

    pub(super) fn challenge(&mut self, run: u32, pid: u32, nonce: Nonce) {
        let Some(subject) = self.pid1.subject_of(pid).cloned() else { return };
        let unit = self.pid1.unit(&subject);
        let connected = match &unit.kind {
            SubjectKind::Wrapper(_) => true,
            SubjectKind::Agent(_) => {
                self.index_of(pid).is_some_and(|index| self.network.link(End::Agent(index), End::Warden).up)
            }
            SubjectKind::K3s | SubjectKind::Unit => false,
        };
        if !connected || unit.state.frozen {
            return;
        }
        if unit.breath == Breath::Well {
            let input = Box::new(WardenInput::ChallengeAnswered { pid, nonce });
            self.soon(100, 60_000, Event::Warden { run, via: None, input });
        } else {
            self.pid1.unit_mut(&subject).unread = Some((run, nonce));
        }
    }

    pub(super) fn ask(&mut self, waiting: Waiting) -> ReplyTo {
        self.asked += 1;
        self.waiting.insert(self.asked, waiting);
        ReplyTo(self.asked)
    }

    pub(super) fn facts(&self, pid: u32) -> PeerFacts {
        let unit = self.pid1.subject_of(pid).map(|subject| {
            let state = &self.pid1.unit(subject).state;
            PeerUnit { subject: subject.clone(), main_pid: pid, invocation: state.incarnation.invocation }
        });
        PeerFacts { uid: 1000, pid, before: unit.clone(), after: unit }
    }

    pub(super) fn answered(&mut self, to: ReplyTo, answer: Answer) {
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

    pub(super) fn replay_episodes(&mut self, index: usize) {
        let published: Vec<_> = self.warden.iter().flat_map(|w| w.published.values().cloned()).collect();
        for episode in published {
            self.send_to_agent(End::Warden, index, || GuardianInput::FromWarden(episode.clone()));
        }
    }
}

impl World {
    /// What the warden made of what an actor sent it.
    fn note_fates(&mut self, actor: &'static str, effects: &[WardenEffect]) {
        self.fates.count(actor, "arrived");
        for effect in effects {
            match effect {
                WardenEffect::Event(WardenEvent::Rejected { reason, .. }) => self.fates.count(actor, reason),
                WardenEffect::Event(WardenEvent::VoteCounted { kind, .. }) => {
                    self.fates.count(actor, &format!("counted {kind}"));
                }
                _ => {}
            }
        }
    }
}

fn intent_of(effect: &WardenEffect) -> Option<Receipt> {
    let WardenEffect::Append { record: Record::Receipt(envelope), .. } = effect else { return None };
    Codec::<Receipt>::decode(&Proto, &envelope.payload).ok().filter(|receipt| receipt.kind == ReceiptKind::Intent)
}

pub(super) fn kind_of(record: &Record) -> String {
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
