//! Steps of the real machines, and what becomes of their effects.

use crate::books::Truth;
use crate::broken::Broken;
use crate::guards::{Guard, Mind};
use crate::node::{Errand, Message, Node};
use crate::scope::{BOOT, CODEC, Scope, key};
use crate::signatures::Scheme;
use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;
use zeta_bft::journal::recover;
use zeta_bft::protocol::cpu::{CpuReading, Standing};
use zeta_bft::protocol::evidence::UnitState;
use zeta_bft::protocol::guardian::{GuardianEffect, GuardianInput};
use zeta_bft::protocol::record::Record;
use zeta_bft::protocol::signing::{Domain, VerifyingKey};
use zeta_bft::protocol::statement::{Codec, Envelope, Heartbeat, Receipt, Session, SessionRequest};
use zeta_bft::protocol::types::{InvocationId, PersonaId, SubjectName};
use zeta_bft::protocol::warden::{
    Answer, PeerFacts, PeerUnit, Recovered, ReplyTo, Warden, WardenConfig, WardenEffect, WardenEvent, WardenInput,
};

/// Statements of one guardian that are under way at once; what is older is lost.
const IN_FLIGHT: usize = 3;

/// A warden over what a journal holds.
pub fn boot(scope: &Scope, recovered: Recovered, run: u8, now: u64) -> (Warden<Scheme>, Vec<WardenEffect>) {
    let config = WardenConfig {
        key: key("warden"),
        roster: scope.roster.clone(),
        policy: scope.policy.clone(),
        boot: BOOT,
        codec: CODEC,
        entropy: [run; 32],
        recovered,
    };
    let clock = zeta_bft::protocol::types::Timestamp::from_nanos(now * 1_000_000_000);
    Warden::new(config, clock, now * 1000)
}

impl Node {
    // ---- the warden ----

    pub fn tell_warden(&mut self, scope: &Scope, input: WardenInput) -> Option<Answer> {
        let mut inputs = VecDeque::from([input]);
        let mut answer = None;
        while let Some(input) = inputs.pop_front() {
            if Arc::get_mut(&mut self.warden).is_none() {
                self.warden = Arc::new(self.warden.fork());
            }
            let now = self.clock();
            let looked = match &input {
                WardenInput::Reread { state, .. } => Some(*state),
                _ => None,
            };
            let warden = Arc::get_mut(&mut self.warden).expect("it was just made the only one");
            let effects = warden.step(now, self.now * 1000, input);
            self.carry_out(scope, effects, looked, &mut inputs, &mut answer);
        }
        answer
    }

    /// Effects of the warden; what answers at once is put among the inputs.
    pub fn carry_out(
        &mut self,
        scope: &Scope,
        effects: Vec<WardenEffect>,
        looked: Option<Option<UnitState>>,
        inputs: &mut VecDeque<WardenInput>,
        answer: &mut Option<Answer>,
    ) {
        for effect in effects {
            match effect {
                WardenEffect::Append { seq, previous, record } => {
                    if let Err(why) = self.disk.append(seq, previous, &record) {
                        self.books.broken("S9", why);
                    }
                    if let Record::Receipt(envelope) = &record {
                        let damaged = self.is_damaged();
                        self.books.receipt(scope, envelope, damaged);
                        self.note_receipt(envelope);
                    }
                    if scope.broken == Some(Broken::ActsBeforeJournal) {
                        inputs.push_back(WardenInput::Synced(self.disk.end()));
                    }
                }
                WardenEffect::Publish { subject, episode } => {
                    self.guards.values_mut().for_each(|guard| guard.told(&episode));
                    self.published.insert(subject, episode);
                }
                WardenEffect::PublishReceipt(envelope) => {
                    let seq = Codec::<Receipt>::decode(&CODEC, &envelope.payload).map_or(0, |receipt| receipt.seq);
                    let told_early = seq > self.disk.synced().seq;
                    if told_early && scope.broken == Some(Broken::ActsBeforeJournal) {
                        // Only the act comes early there: what is told is kept back by whoever broke it.
                        continue;
                    }
                    if told_early {
                        self.books.broken("S9", format!("receipt {seq} is told before it is on the disk"));
                    }
                    self.guards.values_mut().for_each(|guard| guard.told(&envelope));
                }
                WardenEffect::Show(envelope) => self.guards.values_mut().for_each(|guard| guard.told(&envelope)),
                WardenEffect::Reply { answer: said, .. } => *answer = Some(said),
                WardenEffect::Challenge { pid, nonce } => self.challenge = Some((pid, nonce)),
                WardenEffect::ReadCpu { nonce, .. } => {
                    let idle = CpuReading { standing: Standing::Still, ran: Duration::ZERO, waited: Duration::ZERO };
                    inputs.push_back(WardenInput::CpuRead { nonce, reading: Some(idle) });
                }
                WardenEffect::Reread { attempt, subject } => self.rereads.push((attempt, subject)),
                WardenEffect::Act(permit) => {
                    self.fact("act");
                    let (subject, now, damaged) = (permit.subject().clone(), self.clock(), self.is_damaged());
                    let durable = self.disk.synced().seq;
                    let unit = self.units[&subject].state;
                    let truth = Truth { durable, damaged, looked, unit: &unit };
                    self.books.act(scope, &permit, now, truth);
                    let errand = Errand { attempt: permit.attempt(), subject, run: permit.incarnation() };
                    self.errands.push(errand);
                }
                WardenEffect::Page(page) => self.fact(format!("page {}", page.cause)),
                WardenEffect::Event(event) => self.note(scope, event),
            }
        }
    }

    fn note(&mut self, scope: &Scope, event: WardenEvent) {
        match event {
            WardenEvent::StateChanged { to, reason, .. } => {
                self.fact(to.as_str());
                self.fact(reason);
            }
            WardenEvent::Refused { reason, .. } => self.fact(format!("refused {reason}")),
            WardenEvent::Rejected { reason, .. } => self.fact(format!("rejected {reason}")),
            WardenEvent::Repaired { outcome, .. } => self.fact(format!("outcome {outcome}")),
            WardenEvent::Equivocated { persona } => {
                self.fact("quarantined");
                self.books.accused(scope, &persona);
            }
            WardenEvent::VoteCounted { kind, .. } => self.fact(kind),
            WardenEvent::SessionOpened { .. } => {}
        }
    }

    fn note_receipt(&mut self, envelope: &Envelope) {
        if let Ok(receipt) = Codec::<Receipt>::decode(&CODEC, &envelope.payload) {
            self.fact(receipt.kind.as_str());
            if let Some(outcome) = receipt.outcome {
                self.fact(format!("outcome {outcome}"));
            }
            if receipt.kind == zeta_bft::protocol::statement::ReceiptKind::Abort {
                self.fact(format!("abort {}", receipt.detail));
            }
        }
    }

    pub fn is_damaged(&self) -> bool {
        // Of a warden in the middle of its step nothing is asked.
        self.warden.view(self.clock()).journal_damage.is_some()
    }

    /// The warden's process ends, and a new one starts over what the disk has. `keep` of the loose records survive.
    pub fn warden_dies(&mut self, scope: &Scope, keep: usize) {
        self.disk.loose.truncate(keep);
        self.disk.sync();
        self.books.warden_died(self.disk.synced().seq);
        (self.flight, self.rereads, self.errands) = (Vec::new(), Vec::new(), Vec::new());
        (self.challenge, self.published) = (None, BTreeMap::new());
        for guard in self.guards.values_mut() {
            guard.connected = false;
            guard.inbox.clear();
        }
        let guards: Vec<_> = self.guards.keys().cloned().collect();
        for persona in &guards {
            if self.guards[persona].is_honest() {
                self.tell_guard(scope, persona, GuardianInput::WardenLost);
            }
        }
        let records: Vec<_> = self.disk.durable.iter().map(|record| (**record).clone()).collect();
        let key = VerifyingKey::new(scope.roster.statement().warden).expect("a usable key");
        let mut recovered = recover(&records, None, &key, &CODEC);
        if scope.broken == Some(Broken::ForgetsBudgets) {
            recovered.ledgers.clear();
        }
        self.warden_runs += 1;
        let (warden, effects) = boot(scope, recovered, self.warden_runs, self.now);
        self.warden = Arc::new(warden);
        let (mut inputs, mut answer) = (VecDeque::new(), None);
        self.carry_out(scope, effects, None, &mut inputs, &mut answer);
        self.disk.sync();
        self.tell_warden(scope, WardenInput::Synced(self.disk.synced()));
        let view = self.warden.view(self.clock());
        view.subjects.iter().for_each(|subject| self.fact(subject.state.as_str()));
        let units: Vec<_> = self.units.keys().cloned().collect();
        for subject in &units {
            self.warden_sees(scope, subject);
        }
        for persona in guards.iter().filter(|persona| scope.is_liar(persona)) {
            self.connect(scope, persona);
        }
    }

    pub fn warden_sees(&mut self, scope: &Scope, subject: &SubjectName) {
        let Some(unit) = self.units.get_mut(subject) else { return };
        unit.warden_stale = false;
        let state = Some(unit.state);
        self.tell_warden(scope, WardenInput::UnitChanged { subject: subject.clone(), state });
    }

    /// A message reaches the warden: the books note what its author said, and a broken warden may hear something else.
    pub fn arrives(&mut self, scope: &Scope, from: &PersonaId, message: Message) {
        match message {
            Message::Statement(envelope) => {
                self.books.delivered(scope, &envelope);
                if scope.broken == Some(Broken::CountsHearsay) {
                    self.repeat_hearsay(scope, from, &envelope);
                }
                let heard = match scope.broken {
                    Some(broken) => broken.alter(self, &envelope),
                    None => Some(envelope),
                };
                if let Some(envelope) = heard {
                    self.tell_warden(scope, WardenInput::Submitted(envelope));
                }
            }
            Message::Proof(proof) => {
                self.tell_warden(scope, WardenInput::ProofSubmitted(proof));
            }
            Message::Receipt(envelope) => {
                self.tell_warden(scope, WardenInput::ReceiptShown(envelope.clone()));
                let shown = Codec::<Receipt>::decode(&CODEC, &envelope.payload).map_or(0, |receipt| receipt.seq);
                let kept = self.disk.durable.iter().chain(&self.disk.loose).any(|record| {
                    matches!(Codec::<Record>::decode(&CODEC, &record.encoded), Ok(Record::Receipt(known)) if known == envelope)
                });
                if !kept && !self.is_damaged() {
                    self.books.broken("S9", format!("receipt {shown} is gone from the journal, and nobody notices"));
                }
            }
        }
    }

    // ---- the guardians ----

    pub fn tell_guard(&mut self, scope: &Scope, persona: &PersonaId, input: GuardianInput) {
        let now = self.clock();
        let Some(Mind::Honest(guardian)) = self.guards.get_mut(persona).map(|guard| &mut guard.mind) else { return };
        if Arc::get_mut(guardian).is_none() {
            *guardian = Arc::new(guardian.fork());
        }
        let effects = Arc::get_mut(guardian).expect("it was just made the only one").step(now, input);
        for effect in effects {
            match effect {
                GuardianEffect::ToWarden(envelope) => self.send(scope, persona, Message::Statement(envelope)),
                GuardianEffect::ProofToWarden(proof) => self.send(scope, persona, Message::Proof(proof)),
                GuardianEffect::ReceiptToWarden(envelope) => self.send(scope, persona, Message::Receipt(envelope)),
                GuardianEffect::RequestSession(request) => self.ask_session(scope, persona, request),
                GuardianEffect::Observe { subject, challenge } => {
                    self.looks.retain(|(who, of, _)| (who, of) != (persona, &subject));
                    self.looks.push((persona.clone(), subject, challenge));
                }
                GuardianEffect::KeepReceipt(envelope) => {
                    self.guards.get_mut(persona).expect("it was just stepped").receipt = Some(envelope);
                }
                // Between guardians nothing travels here: see the module doc.
                GuardianEffect::Broadcast(_)
                | GuardianEffect::BroadcastProof(_)
                | GuardianEffect::ProofToPeer(..)
                | GuardianEffect::ToPeer(..)
                | GuardianEffect::Fetch { .. }
                | GuardianEffect::Event(_) => {}
            }
        }
    }

    fn send(&mut self, scope: &Scope, persona: &PersonaId, message: Message) {
        let is_heartbeat =
            |message: &Message| matches!(message, Message::Statement(envelope) if envelope.domain == Domain::Heartbeat);
        if scope.broken == Some(Broken::CountsHearsay)
            && let Message::Statement(envelope) = &message
            && let Ok(beat) = Codec::<Heartbeat>::decode(&CODEC, &envelope.payload)
            && let Some(guard) = self.guards.get_mut(persona)
        {
            guard.header = Some(beat.header);
        }
        if is_heartbeat(&message) {
            // Of heartbeats the newest says all.
            self.flight.retain(|(from, older)| from != persona || !is_heartbeat(older));
        }
        self.flight.push((persona.clone(), message));
        if self.flight.iter().filter(|(from, _)| from == persona).count() > IN_FLIGHT
            && let Some(oldest) = self.flight.iter().position(|(from, _)| from == persona)
        {
            self.flight.remove(oldest);
        }
    }

    fn facts_of(persona: &PersonaId, run: u8) -> PeerFacts {
        let number = persona.as_str().bytes().fold(run, |sum, byte| sum.wrapping_add(byte));
        let pid = 1000 + u32::from(number);
        let unit =
            PeerUnit { subject: SubjectName::agent(persona), main_pid: pid, invocation: InvocationId([number; 16]) };
        PeerFacts { uid: 1000, pid, before: Some(unit.clone()), after: Some(unit) }
    }

    /// A connection to the warden, a session, and all that is published.
    pub fn connect(&mut self, scope: &Scope, persona: &PersonaId) {
        let Some(guard) = self.guards.get(persona) else { return };
        let (peer, honest, session_key) =
            (Self::facts_of(persona, guard.run), guard.is_honest(), guard.session_key().public());
        let asked = self.tell_warden(scope, WardenInput::NonceWanted { peer, reply: ReplyTo(0) });
        let Some(Answer::Nonce(nonce)) = asked else { return };
        if honest {
            self.tell_guard(scope, persona, GuardianInput::WardenConnected { nonce });
        } else {
            let request = SessionRequest {
                cluster: scope.roster.cluster().clone(),
                node: scope.roster.node().clone(),
                persona: persona.clone(),
                session_key,
                nonce,
                roster: scope.roster.digest(),
                policy: scope.policy.digest,
            };
            self.ask_session(scope, persona, Envelope::seal(&request, &key(persona.as_str()), &CODEC));
        }
        let published: Vec<_> = self.published.values().cloned().collect();
        if let Some(guard) = self.guards.get_mut(persona) {
            published.iter().for_each(|episode| guard.told(episode));
        }
    }

    fn ask_session(&mut self, scope: &Scope, persona: &PersonaId, request: Envelope) {
        let peer = Self::facts_of(persona, self.guards[persona].run);
        let answer = self.tell_warden(scope, WardenInput::SessionWanted { peer, request, reply: ReplyTo(0) });
        let Some(Answer::Session(envelope)) = answer else { return };
        let Some(guard) = self.guards.get_mut(persona) else { return };
        guard.connected = true;
        match &mut guard.mind {
            Mind::Liar(liar) => {
                if let Ok(session) = Codec::<Session>::decode(&CODEC, &envelope.payload) {
                    liar.session = session.incarnation;
                }
            }
            Mind::Honest(_) => self.tell_guard(scope, persona, GuardianInput::SessionOpened(envelope)),
        }
    }

    /// A new process of a guardian's agent: a new key, what it kept of receipts, and PID 1's word on every unit.
    pub fn guard_dies(&mut self, scope: &Scope, persona: &PersonaId) {
        let Some(old) = self.guards.get(persona) else { return };
        // Who chooses its incarnation itself comes back as the run that it was.
        let run = if scope.broken == Some(Broken::ChoosesIncarnation) { old.run } else { old.run + 1 };
        let receipt = old.receipt.clone();
        self.guards.insert(persona.clone(), Guard::new(scope, persona, run, receipt));
        self.flight.retain(|(from, _)| from != persona);
        self.looks.retain(|(who, ..)| who != persona);
        let units: Vec<_> = self.units.keys().cloned().collect();
        for subject in &units {
            self.guard_sees(scope, persona, subject);
        }
        self.connect(scope, persona);
    }

    pub fn guard_sees(&mut self, scope: &Scope, persona: &PersonaId, subject: &SubjectName) {
        if let Some(guard) = self.guards.get_mut(persona) {
            guard.stale.remove(subject);
        }
        let state = Some(self.units[subject].state);
        self.tell_guard(scope, persona, GuardianInput::UnitChanged { subject: subject.clone(), state });
    }

    pub fn guard_hears(&mut self, scope: &Scope, persona: &PersonaId) {
        let Some(guard) = self.guards.get_mut(persona) else { return };
        for envelope in std::mem::take(&mut guard.inbox) {
            self.tell_guard(scope, persona, GuardianInput::FromWarden(envelope));
        }
    }
}
