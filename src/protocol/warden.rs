//! The warden: the one place that counts votes, and the only one that decides an act.
//!
//! A reference monitor: f+1 voting in one trusted place lets n = 2f+1 guardians suffice. It believes PID 1, its journal and
//! the kernel's peer credentials; of the guardians it believes only what q vendors say alike.
//!
//! How an action comes about, and where each rule stands:
//!
//! 1. votes are admitted and counted by [`super::vote_keeper`] (S1, S4);
//! 2. [`moves`] decides what becomes of a subject with time, PID 1's word and the guardians': the life of an episode, in one
//!    match; [`challenge`] asks the accused process itself, or the voters again, before soft evidence leads to anything, and takes
//!    the answer. A new run and a resume are taken here, the operator's orders in [`orders`];
//! 3. [`action`] writes INTENT with its certificate and waits until it is on the disk (S2, S4, S5, S6);
//! 4. the unit is read again, compared with the run that was voted on (S3), and only then a [`ActionPermit`] is minted;
//! 5. OUTCOME is on the disk before its receipt or a new nonce is published (S2, S9).
//!
//! Whatever is in doubt ends in no action, a reason and a page (S10).

mod action;
mod admission;
mod api;
mod challenge;
mod exploration;
mod moves;
mod orders;
mod permit;
mod publication;
mod records;
mod schedule;
mod show;
#[cfg(test)]
mod tests;

pub use api::{
    Answer, NotDone, Page, PeerFacts, PeerUnit, Recovered, ReplyTo, WardenConfig, WardenEffect, WardenEvent,
    WardenInput,
};
pub use permit::{ActionPermit, Attempt};

use super::episode::{State, Subject};
use super::evidence::{FaultClass, UnitState};
use super::ladder::Ledger;
use super::policy::{BudgetPolicy, Mode, Policy, SubjectKind};
use super::record::Record;
use super::roster::Roster;
use super::signing::SigningKey;
use super::statement::{JournalHead, StatementCodec};
use super::types::{
    BootId, Digest, Nonce, PersonaId, Rung, SetEpoch, SubjectName, Timestamp, VendorId, WardenInstance,
};
use super::view::HeldBy;
use admission::Guardian;
use orders::Hold;
use records::Deferred;
use schedule::MassAccusation;
use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

/// The fault classes that can be voted on, strongest evidence first.
const VOTABLE: [FaultClass; 3] = [FaultClass::Crash, FaultClass::Hang, FaultClass::Broken];

/// The state machine.
pub struct Warden<C: StatementCodec> {
    key: Arc<SigningKey>,
    roster: Arc<Roster>,
    policy: Arc<Policy>,
    boot: BootId,
    codec: C,
    entropy: [u8; 32],
    drawn: u64,
    instance: WardenInstance,
    sessions_opened: u32,
    episodes_opened: u32,
    /// Where the chain stands with everything appended so far.
    head: JournalHead,
    /// The BOOT record of this instance; nothing is handed out before it is on the disk.
    boot_record: u64,
    booted: bool,
    damage: Option<String>,
    stopping: bool,
    started_at: Timestamp,
    accumulated_before: Duration,
    now: Timestamp,
    wall_ms: u64,
    set_epoch: SetEpoch,
    certified: u64,
    places: u64,
    subjects: BTreeMap<SubjectName, Subject>,
    node: Ledger,
    guardians: BTreeMap<PersonaId, Guardian>,
    nonces: BTreeMap<u32, Nonce>,
    holds: BTreeMap<Option<SubjectName>, Hold>,
    /// What waits for a record to be on the disk.
    after_sync: VecDeque<(u64, Deferred)>,
    known_receipts: VecDeque<(u64, Digest)>,
    /// From this place of the journal on, every receipt is among the known ones.
    known_from: u64,
    pages: BTreeMap<(&'static str, Option<SubjectName>), Timestamp>,
    /// Soft evidence is not acted on before this: after a start, and after a resume.
    soft_from: Timestamp,
    mass_accusation: Option<MassAccusation>,
    /// Pairs of vendors that accused each other of BROKEN, and since when.
    disputes: BTreeMap<(VendorId, VendorId), Timestamp>,
    out: Vec<WardenEffect>,
}

impl<C: StatementCodec> Warden<C> {
    /// A warden over a recovered journal. The effects open its BOOT record; once that is on the disk, every subject's first
    /// episode is published.
    pub fn new(config: WardenConfig<C>, now: Timestamp, wall_ms: u64) -> (Self, Vec<WardenEffect>) {
        let WardenConfig { key, roster, policy, boot, codec, entropy, recovered } = config;
        let accumulated = recovered.ledgers.iter().map(|entry| entry.accumulated).max().unwrap_or_default();
        let grace = now + policy.timing.resume_grace;
        let mut warden = Self {
            key: Arc::new(key),
            boot,
            codec,
            entropy,
            drawn: 0,
            instance: WardenInstance(recovered.instance.0.saturating_add(1)),
            sessions_opened: 0,
            episodes_opened: 0,
            head: recovered.head,
            boot_record: 0,
            booted: false,
            damage: recovered.damage.clone(),
            stopping: false,
            started_at: now,
            accumulated_before: accumulated,
            now,
            wall_ms,
            set_epoch: SetEpoch(0),
            certified: 0,
            places: 0,
            subjects: BTreeMap::new(),
            node: Ledger::full(&node_budget(&policy), accumulated),
            guardians: admission::guardians(&roster, &recovered),
            nonces: BTreeMap::new(),
            holds: orders::recover_holds(&recovered),
            after_sync: VecDeque::new(),
            known_receipts: VecDeque::new(),
            known_from: 0,
            pages: BTreeMap::new(),
            soft_from: grace,
            mass_accusation: None,
            disputes: BTreeMap::new(),
            out: Vec::new(),
            roster,
            policy,
        };
        if let Some(entry) = recovered.ledgers.iter().find(|entry| entry.subject.is_none()) {
            warden.node = Ledger::from_entry(entry, &node_budget(&warden.policy));
        }
        for name in warden.policy.clone().subjects.keys() {
            let subject = warden.first_episode(name, &recovered.ledgers);
            warden.subjects.insert(name.clone(), subject);
        }
        for envelope in &recovered.receipts {
            warden.know_receipt(envelope);
        }
        if recovered.receipts.len() >= Recovered::RECEIPTS {
            // Only then may older ones have been left out. Wherever the journal has got to since, one that is missing between
            // them shows that it was rolled back, to this warden and to every one after it.
            warden.known_from = warden.known_receipts.front().map_or(0, |(seq, _)| *seq);
        }
        if warden.damage.is_none() {
            let record = Record::Boot { instance: warden.instance, boot, at: now };
            warden.boot_record = warden.append(record);
            for open in &recovered.open_intents {
                warden.reconcile_later(open);
            }
        }
        if warden.damage.is_some() {
            warden.page("journal", None, "the journal is damaged: nothing will be repaired until it is restored");
        }
        let effects = warden.finish();
        (warden, effects)
    }

    /// Takes one input at `now` and says what is to be done. `wall_ms` is Unix time: for holds that end at a time of day,
    /// and for people; no safety rule reads it.
    pub fn step(&mut self, now: Timestamp, wall_ms: u64, input: WardenInput) -> Vec<WardenEffect> {
        self.now = self.now.max(now);
        self.wall_ms = wall_ms;
        match input {
            WardenInput::Synced(head) => self.synced(head),
            WardenInput::UnitChanged { subject, state } => self.unit_changed(&subject, state),
            WardenInput::NonceWanted { peer, reply } => self.hand_out_nonce(&peer, reply),
            WardenInput::SessionWanted { peer, request, reply } => self.open_session(&peer, &request, reply),
            WardenInput::Submitted(envelope) => self.submitted(&envelope),
            WardenInput::ProofSubmitted(proof) => self.take_proof(proof),
            WardenInput::ReceiptShown(envelope) => self.receipt_shown(&envelope),
            WardenInput::ChallengeLeft { pid, nonce } => self.challenge_left(pid, nonce),
            WardenInput::ChallengeAnswered { pid, nonce } => self.challenge_answered(pid, nonce),
            WardenInput::CpuRead { nonce, reading } => self.cpu_read(nonce, reading),
            WardenInput::Reread { attempt, state } => self.reread(attempt, state),
            WardenInput::Acted { attempt, result, output } => self.acted(attempt, result, &output),
            WardenInput::Ordered { uid, order, reason, reply } => self.ordered(uid, order, reason, reply),
            WardenInput::Resumed => self.resumed(),
            WardenInput::SystemStopping(stopping) => self.stopping = stopping,
            WardenInput::Timer => {}
        }
        self.finish()
    }

    /// Runs every subject to rest, publishes what changed, and hands out the effects.
    fn finish(&mut self) -> Vec<WardenEffect> {
        self.earn();
        self.look_for_disputes();
        self.look_for_environment();
        let names: Vec<_> = self.subjects.keys().cloned().collect();
        // A move may free a slot or a challenge for another subject: go round until nobody moves. Every cycle of moves
        // passes through a wait, so this ends; the bound is there so that an error of ours cannot hang the warden.
        for _ in 0..32 {
            let mut moved = false;
            self.hand_out_places();
            for name in &names {
                if let Some(next) = self.next_move(&self.subjects[name]) {
                    self.make(name, next);
                    moved = true;
                }
            }
            if !moved {
                break;
            }
        }
        self.publish();
        std::mem::take(&mut self.out)
    }

    fn synced(&mut self, head: JournalHead) {
        if !self.booted && self.damage.is_none() && head.seq >= self.boot_record {
            self.booted = true;
        }
        while let Some((seq, _)) = self.after_sync.front()
            && *seq <= head.seq
        {
            if let Some((_, deferred)) = self.after_sync.pop_front() {
                self.out.push(deferred.into());
            }
        }
        let waiting: Vec<_> = self.subjects.keys().cloned().collect();
        for name in waiting {
            self.continue_action(&name, head);
        }
    }

    fn unit_changed(&mut self, name: &SubjectName, state: Option<UnitState>) {
        let Some(subject) = self.subjects.get_mut(name) else { return };
        subject.unit = state;
        let Some(unit) = state else {
            if let State::Unconfirmed { active_all_along, .. } = &mut subject.state {
                *active_all_along = false;
            }
            return;
        };
        if let State::Unconfirmed { incarnation, active_all_along, .. } = &mut subject.state {
            *active_all_along &= unit.is_running() && unit.incarnation == *incarnation;
        }
        if unit.incarnation != subject.episode.incarnation && !subject.state.is_committed() {
            subject.follow(unit.incarnation, self.soft_from);
            subject.ledger.inactive();
            self.new_round(name);
            if self.subjects[name].state.is_open() {
                self.enter(name, State::Healthy, "new_incarnation");
            }
        }
        self.new_process_seen(name);
    }

    fn resumed(&mut self) {
        self.soft_from = self.now + self.policy.timing.resume_grace;
        let names: Vec<_> = self.subjects.keys().cloned().collect();
        for name in names {
            let subject = self.subjects.get_mut(&name).expect("the name was just listed");
            subject.words.clear();
            if subject.state.is_open() {
                self.new_round(&name);
                self.enter(&name, State::Healthy, "resumed");
            }
        }
    }

    fn accumulated(&self) -> Duration {
        self.accumulated_before + self.now.saturating_since(self.started_at)
    }

    // ---- changing ----

    fn enter(&mut self, name: &SubjectName, state: State, reason: &'static str) {
        let now = self.now;
        let subject = self.subjects.get_mut(name).expect("callers pass a configured subject");
        let (from, to) = (subject.state.name(), state.name());
        if state == State::Healthy {
            // What was approved is over.
            subject.approved = false;
            subject.kept = 0;
        }
        subject.state = state;
        subject.reason = reason;
        if from != to {
            subject.since = now;
            let episode = subject.episode.id;
            let event = WardenEvent::StateChanged { subject: name.clone(), from, to, episode, reason };
            self.out.push(WardenEffect::Event(event));
        }
    }

    fn next_rung(&mut self, name: &SubjectName, reason: &'static str) {
        if self.policy.mode == Mode::Observe {
            self.new_round(name);
            self.enter(name, State::Suspect, reason);
            return;
        }
        let subject = &self.subjects[name];
        let next = subject.ledger.rung.0 as usize + 1;
        let (policy, ledger) = (&subject.policy, &subject.ledger);
        // The votes choose among what a k3s has left.
        let left = (0..).zip(&policy.ladder).any(|(number, _)| !ledger.has_tried(Rung(number)));
        let around = policy.kind == SubjectKind::K3s && next >= policy.ladder.len() && left && reason != "called_human";
        self.climb_to(name, if around { 0 } else { next }, reason);
    }

    /// A new round on this rung, or, beyond the last, the end of the ladder.
    fn climb_to(&mut self, name: &SubjectName, rung: usize, reason: &'static str) {
        self.new_round(name);
        let subject = self.subjects.get_mut(name).expect("callers pass a configured subject");
        subject.ledger.rung = Rung(u32::try_from(rung).unwrap_or(u32::MAX));
        subject.episode.rung = subject.ledger.rung;
        subject.approved = false;
        let spent = rung >= subject.policy.ladder.len();
        subject.ledger.exhausted = spent;
        self.journal_ledger(name);
        if spent {
            self.refused(name, "ladder");
            self.page("ladder_spent", Some(name), &format!("every rung of {name} was tried: it is left alone now"));
            self.enter(name, State::Held(HeldBy::Ladder), reason);
        } else {
            self.enter(name, State::Suspect, reason);
        }
    }

    fn recover(&mut self, name: &SubjectName, reason: &'static str) {
        let subject = self.subjects.get_mut(name).expect("callers pass a configured subject");
        let state = subject.state.clone();
        if let State::Settling { class: FaultClass::Broken, .. } | State::Unconfirmed { class: FaultClass::Broken, .. } =
            state
            && reason == "recovered"
        {
            // Work was done: that, and nothing less, is what BROKEN resets the ladder by.
            subject.ledger.reset_ladder();
            self.journal_ledger(name);
        }
        if let State::Unconfirmed { attempt, class, incarnation, .. } = state
            && reason == "unconfirmed"
        {
            self.write_unconfirmed(name, attempt, class, incarnation);
        }
        self.new_episode(name);
        self.enter(name, State::Healthy, reason);
    }

    fn refused(&mut self, name: &SubjectName, reason: &'static str) {
        self.out.push(WardenEffect::Event(WardenEvent::Refused { subject: name.clone(), reason }));
    }

    /// Calls a human, at most once per cause and subject in a while.
    fn page(&mut self, cause: &'static str, subject: Option<&SubjectName>, text: &str) {
        let key = (cause, subject.cloned());
        let interval = self.policy.timing.page_interval;
        if self.pages.get(&key).is_some_and(|last| self.now.saturating_since(*last) < interval) {
            return;
        }
        self.pages.insert(key, self.now);
        self.out.push(WardenEffect::Page(Page { cause, subject: subject.cloned(), text: text.to_owned() }));
    }
}

/// The node's own account: only its day counts.
fn node_budget(policy: &Policy) -> BudgetPolicy {
    BudgetPolicy { capacity: u32::MAX, refill: super::ladder::DAY, per_day: policy.node_per_day }
}
