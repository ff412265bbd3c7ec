//! What each move does.

use crate::guards::Guard;
use crate::moves::{Deed, Move, Order, Vigour};
use crate::node::{Disk, Message, Node};
use crate::scope::{CODEC, Left, Scope};
use crate::steps::boot;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;
use zeta_bft::protocol::guardian::GuardianInput;
use zeta_bft::protocol::policy::SubjectKind;
use zeta_bft::protocol::record::OperatorOrder;
use zeta_bft::protocol::statement::{Codec, EpisodeStatement};
use zeta_bft::protocol::types::{PersonaId, SubjectName};
use zeta_bft::protocol::warden::{Answer, NotDone, Recovered, ReplyTo, WardenInput};

/// Votes that are kept to be sent once more.
const SEEN: usize = 3;
/// When an exploration begins: late enough that nothing lies before the boot.
const BEGINS: u64 = 1000;

impl Node {
    /// A node at rest: every unit runs, every guardian has a session and has heard its peers' units answer for a while.
    pub fn at_rest(scope: &Scope) -> Self {
        let (warden, effects) = boot(scope, Recovered::default(), 1, BEGINS);
        let guards = scope.roster.members().map(|member| {
            let guard = Guard::new(scope, &member.persona, 1, None);
            (member.persona.clone(), guard)
        });
        let mut node = Self {
            now: BEGINS,
            warden: Arc::new(warden),
            guards: guards.collect(),
            units: BTreeMap::new(),
            disk: Disk::default(),
            flight: Vec::new(),
            seen: Vec::new(),
            published: BTreeMap::new(),
            rereads: Vec::new(),
            errands: Vec::new(),
            challenge: None,
            looks: Vec::new(),
            runs: 0,
            warden_runs: 1,
            left: Left { calms: 6, ..Left::NONE },
            books: Default::default(),
            made: 0,
            facts: BTreeSet::new(),
            print: 0,
        };
        let (mut inputs, mut answer) = (VecDeque::new(), None);
        node.carry_out(scope, effects, None, &mut inputs, &mut answer);
        for subject in scope.subjects() {
            node.start(subject, Vigour::Well);
        }
        let liars: Vec<_> = scope.liars.iter().cloned().collect();
        node.disk.sync();
        node.tell_warden(scope, WardenInput::Synced(node.disk.synced()));
        liars.iter().for_each(|persona| node.connect(scope, persona));
        for _ in 0..6 {
            node.settle(scope);
            node.tick(scope);
        }
        node.settle(scope);
        node.left = scope.left;
        node.facts.clear();
        node.seal();
        node
    }

    /// The node after a move, or `None` when the move is not possible.
    pub fn play(&self, scope: &Scope, step: &Move) -> Option<Self> {
        if self.books.violation.is_some() {
            return None;
        }
        let mut node = self.clone();
        node.facts.clear();
        node.made += 1;
        node.make(scope, step)?;
        node.seal();
        Some(node)
    }

    fn make(&mut self, scope: &Scope, step: &Move) -> Option<()> {
        let spend = |left: &mut u8| {
            *left = left.checked_sub(1)?;
            Some(())
        };
        match step {
            Move::Harm(subject, class) => {
                self.may_suffer(scope, subject, *class).then_some(())?;
                spend(&mut self.left.harms)?;
                self.harm(subject, *class);
            }
            Move::Mend(subject) => {
                let unit = &self.units[subject];
                (unit.state.is_running() && (unit.silent || unit.broken)).then_some(())?;
                spend(&mut self.left.mends)?;
                self.mend(subject);
            }
            Move::Rerun(subject, vigour) => {
                let unit = &self.units[subject];
                let ill = !unit.state.is_running() || unit.silent || unit.broken;
                (ill || *vigour == Vigour::Well).then_some(())?;
                spend(&mut self.left.mends)?;
                self.start(subject, *vigour);
            }
            Move::WardenSees(subject) => {
                self.units[subject].warden_stale.then_some(())?;
                self.warden_sees(scope, subject);
            }
            Move::GuardSees(persona, subject) => {
                self.guards[persona].stale.contains(subject).then_some(())?;
                self.guard_sees(scope, persona, subject);
            }
            Move::GuardHears(persona) => {
                (!self.guards[persona].inbox.is_empty()).then_some(())?;
                self.guard_hears(scope, persona);
            }
            Move::GuardLooks(persona, subject) => self.look(scope, persona, subject)?,
            Move::Deliver(place) => self.deliver(scope, *place)?,
            Move::Replay(place) => {
                let envelope = self.seen.get(*place)?.clone();
                spend(&mut self.left.replays)?;
                let from = self.guards.keys().next()?.clone();
                self.arrives(scope, &from, Message::Statement(envelope));
            }
            Move::Lie(persona, lie) => {
                spend(&mut self.left.lies)?;
                self.lie(scope, persona, lie)?;
            }
            Move::Sync => {
                (!self.disk.loose.is_empty()).then_some(())?;
                self.disk.sync();
                self.tell_warden(scope, WardenInput::Synced(self.disk.synced()));
            }
            Move::Reread(subject) => self.reread(scope, subject)?,
            Move::Act(subject, deed) => self.act(scope, subject, *deed)?,
            Move::Answer => self.answer(scope)?,
            Move::Order(order) => {
                spend(&mut self.left.orders)?;
                self.order(scope, order)?;
            }
            Move::WardenDies(keep) => {
                (*keep <= self.disk.loose.len()).then_some(())?;
                spend(&mut self.left.crashes)?;
                self.warden_dies(scope, *keep);
            }
            Move::RollBack => {
                (self.disk.loose.is_empty() && self.guards.values().any(|guard| guard.receipt.is_some()))
                    .then_some(())?;
                spend(&mut self.left.crashes)?;
                self.disk.durable.pop()?;
                self.warden_dies(scope, 0);
            }
            Move::GuardDies(persona) => {
                self.guards[persona].is_honest().then_some(())?;
                spend(&mut self.left.crashes)?;
                self.guard_dies(scope, persona);
            }
            Move::Connect(persona) => {
                (!self.guards[persona].connected).then_some(())?;
                self.connect(scope, persona);
                self.guards[persona].connected.then_some(())?;
            }
            Move::Tick => {
                spend(&mut self.left.ticks)?;
                self.tick(scope);
            }
            Move::Spread => while self.spread(scope) {},
            Move::Calm => {
                spend(&mut self.left.calms)?;
                self.settle(scope);
                self.tick(scope);
                self.settle(scope);
            }
        }
        Some(())
    }

    fn deliver(&mut self, scope: &Scope, place: usize) -> Option<()> {
        (place < self.flight.len()).then_some(())?;
        let (from, message) = self.flight.remove(place);
        if let Message::Statement(envelope) = &message
            && envelope.domain == zeta_bft::protocol::signing::Domain::Vote
            && self.left.replays > 0
        {
            self.seen.push(envelope.clone());
            if self.seen.len() > SEEN {
                self.seen.remove(0);
            }
        }
        self.arrives(scope, &from, message);
        Some(())
    }

    fn look(&mut self, scope: &Scope, persona: &PersonaId, subject: &SubjectName) -> Option<()> {
        let place = self.looks.iter().position(|(who, of, _)| who == persona && of == subject)?;
        let (_, _, challenge) = self.looks.remove(place);
        let unit = &self.units[subject];
        let pid = unit.state.main_pid.filter(|_| !unit.silent)?;
        let ticks = unit.ticks.clone();
        let input = GuardianInput::TicksRead { subject: subject.clone(), pid, ticks, challenge: Some(challenge) };
        self.tell_guard(scope, persona, input);
        Some(())
    }

    fn reread(&mut self, scope: &Scope, subject: &SubjectName) -> Option<()> {
        let place = self.rereads.iter().position(|(_, of)| of == subject)?;
        let (attempt, _) = self.rereads.remove(place);
        let truth = self.units[subject].state;
        let state = match scope.broken {
            Some(broken) => broken.last_look(self, subject, truth),
            None => truth,
        };
        self.tell_warden(scope, WardenInput::Reread { attempt, state: Some(state) });
        Some(())
    }

    fn act(&mut self, scope: &Scope, subject: &SubjectName, deed: Deed) -> Option<()> {
        let place = self.errands.iter().position(|errand| errand.subject == *subject)?;
        let errand = self.errands[place].clone();
        // Whoever carries it out compares the run once more.
        let same_run = self.units[subject].state.incarnation == errand.run;
        (same_run || deed == Deed::Untouched).then_some(())?;
        self.errands.remove(place);
        let result = match deed {
            Deed::Done | Deed::Unanswered => {
                self.start(subject, Vigour::Well);
                Ok(())
            }
            Deed::InVain => {
                self.start(subject, Vigour::SameFault);
                Ok(())
            }
            Deed::Untouched => {
                self.books.untouched(subject);
                Err(NotDone::Untouched("PID 1 would not".to_owned()))
            }
        };
        if deed != Deed::Unanswered {
            self.tell_warden(scope, WardenInput::Acted { attempt: errand.attempt, result, output: String::new() });
        }
        Some(())
    }

    fn answer(&mut self, scope: &Scope) -> Option<()> {
        let (pid, nonce) = self.challenge.take()?;
        let accused = self.units.values().find(|unit| unit.state.main_pid == Some(pid))?;
        (!accused.silent).then_some(())?;
        self.tell_warden(scope, WardenInput::ChallengeAnswered { pid, nonce });
        Some(())
    }

    fn order(&mut self, scope: &Scope, order: &Order) -> Option<()> {
        let said = match order {
            Order::Stop(subject) => {
                self.units[subject].state.is_running().then_some(())?;
                self.stop(subject);
                return Some(());
            }
            Order::Hold(subject) => OperatorOrder::Hold { subject: Some(subject.clone()), until: None },
            Order::Release(subject) => OperatorOrder::Release { subject: Some(subject.clone()) },
            Order::Readmit(persona) => OperatorOrder::Readmit { persona: persona.clone() },
            Order::Approve(subject) => {
                let published = self.published.get(subject)?;
                let episode: EpisodeStatement = CODEC.decode(&published.payload).ok()?;
                OperatorOrder::Approve { episode: episode.id }
            }
        };
        let before = self.disk.end().seq;
        let input = WardenInput::Ordered { uid: 0, order: said, reason: String::new(), reply: ReplyTo(0) };
        if let Some(Answer::Refused { .. }) = self.tell_warden(scope, input) {
            return None;
        }
        match order {
            Order::Hold(subject) => self.books.held(subject, before + 1),
            Order::Release(subject) => self.books.released(subject),
            Order::Approve(_) => self.fact("approved"),
            Order::Readmit(_) => self.fact("readmitted"),
            Order::Stop(_) => {}
        }
        Some(())
    }

    /// A second passes. Guardians ping and read; what they say stays on its way.
    pub fn tick(&mut self, scope: &Scope) {
        self.now += 1;
        let now = self.clock();
        self.books.forget(now);
        self.work();
        self.tell_warden(scope, WardenInput::Timer);
        let honest: Vec<_> = self.guards.values().filter(|g| g.is_honest()).map(|g| g.persona.clone()).collect();
        for persona in &honest {
            for subject in scope.subjects().filter(|subject| matches!(scope.kind(subject), SubjectKind::Wrapper(_))) {
                let unit = self.units[subject].clone();
                let Some(pid) = unit.state.main_pid else { continue };
                if self.guards[persona].stale.contains(subject) {
                    continue;
                }
                self.tell_guard(scope, persona, GuardianInput::PingSent { subject: subject.clone() });
                if unit.silent {
                    continue;
                }
                let (subject, round_trip) = (subject.clone(), Duration::from_millis(1));
                let ticks = unit.ticks.clone();
                self.tell_guard(
                    scope,
                    persona,
                    GuardianInput::PingAnswered { subject: subject.clone(), pid, round_trip },
                );
                self.tell_guard(scope, persona, GuardianInput::TicksRead { subject, pid, ticks, challenge: None });
            }
            self.tell_guard(scope, persona, GuardianInput::Timer);
        }
    }

    /// Everything under way arrives, until nothing is.
    pub fn settle(&mut self, scope: &Scope) {
        for _ in 0..40 {
            if !self.settle_once(scope) {
                return;
            }
        }
    }

    fn settle_once(&mut self, scope: &Scope) -> bool {
        let mut any = self.spread(scope);
        any |= self.make(scope, &Move::Sync).is_some();
        any |= self.make(scope, &Move::Answer).is_some();
        for subject in scope.subjects() {
            any |= self.make(scope, &Move::Reread(subject.clone())).is_some();
            any |= self.make(scope, &Move::Act(subject.clone(), Deed::Done)).is_some();
        }
        any
    }

    fn spread(&mut self, scope: &Scope) -> bool {
        let subjects: Vec<_> = scope.subjects().cloned().collect();
        let guards: Vec<_> = self.guards.keys().cloned().collect();
        let mut any = false;
        for persona in &guards {
            if !self.guards[persona].connected {
                self.connect(scope, persona);
                any |= self.guards[persona].connected;
            }
            any |= self.make(scope, &Move::GuardHears(persona.clone())).is_some();
        }
        for subject in &subjects {
            any |= self.make(scope, &Move::WardenSees(subject.clone())).is_some();
            for persona in &guards {
                any |= self.make(scope, &Move::GuardSees(persona.clone(), subject.clone())).is_some();
                any |= self.make(scope, &Move::GuardLooks(persona.clone(), subject.clone())).is_some();
            }
        }
        while self.make(scope, &Move::Deliver(0)).is_some() {
            any = true;
        }
        any
    }

    /// Plays a script; every move of it must be possible.
    pub fn script(&self, scope: &Scope, moves: &[Move]) -> Self {
        let mut node = self.clone();
        for (place, step) in moves.iter().enumerate() {
            let Some(next) = node.play(scope, step) else {
                panic!("{}: move {place}, {step:?}, is not possible: {node:?}", scope.name);
            };
            node = next;
        }
        node
    }
}
