//! The warden: the one place that counts votes, and the only one that may act.
//!
//! A reference monitor: f+1 voting in one trusted place lets n = 2f+1 guardians suffice. It believes PID 1, its journal and
//! the kernel's peer credentials; of the guardians it believes only what q vendors say alike.
//!
//! How an action comes about, and where each rule stands:
//!
//! 1. votes are admitted and counted by [`super::vote_keeper`] (S1, S4);
//! 2. [`Warden::next_move`] decides every transition of every subject: the whole life of an episode, in one match;
//! 3. [`action`] writes INTENT with its certificate and waits until it is on the disk (S2, S4, S5, S6);
//! 4. the unit is read again, compared with the run that was voted on (S3), and only then a [`ActionPermit`] is minted;
//! 5. OUTCOME is on the disk before its receipt or a new nonce is published (S2, S9).
//!
//! Whatever is in doubt ends in no action, a reason and a page (S10).

mod action;
mod admission;
mod api;
mod exploration;
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

use super::episode::{Certified, Challenged, Phase, State, Subject};
use super::evidence::{Attestation, FaultClass, Remedy, UnitReading, UnitState, classify_unit};
use super::ladder::Ledger;
use super::policy::{Action, BudgetPolicy, Consent, Mode, Policy, RungPolicy, SubjectKind};
use super::record::Record;
use super::roster::Roster;
use super::signing::SigningKey;
use super::statement::{JournalHead, Outcome, StatementCodec, Verified, Vote};
use super::types::{
    BootId, Digest, Nonce, PersonaId, Rung, SetEpoch, SubjectName, Timestamp, VendorId, WardenInstance,
};
use super::view::HeldBy;
use super::vote_keeper::{Ballot, Tally};
use admission::Guardian;
use orders::Hold;
use records::Deferred;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
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
    mass_accusation: bool,
    /// Pairs of vendors that accused each other of BROKEN, and since when.
    disputes: BTreeMap<(VendorId, VendorId), Timestamp>,
    out: Vec<WardenEffect>,
}

/// What becomes of a subject next. Decided in one place, [`Warden::next_move`]; carried out in another.
#[derive(Debug)]
enum Move {
    /// Another state; votes stay.
    To(State, &'static str),
    /// Another state, and a new round: votes void.
    Void(State, &'static str),
    /// No word and no vote against it is left.
    Quiet,
    /// Ask the accused process (HANG) or the voters (BROKEN) once more.
    Challenge(FaultClass, Duration),
    /// The accused process was silent: has it been starved of CPU?
    Silent,
    /// The quorum holds.
    Certify(FaultClass, BTreeSet<VendorId>, Duration),
    /// Certified on evidence that waits: a place in the queue.
    Intend,
    /// Observe mode: what would have been done.
    WouldAct,
    /// The rung is a page.
    CallHuman,
    /// Out of budget.
    OutOfBudget(super::ladder::BudgetSpent),
    /// Acting has gone on for too long.
    TimeOut,
    /// The repair did not help: next rung.
    NextRung(&'static str),
    /// Another rung answers the fault; beyond the last: none does.
    Rung(usize, &'static str),
    /// The repair helped, or nobody says that it did not: the episode ends.
    Recover(&'static str),
    /// An earlier warden's INTENT was or was not carried out.
    Reconcile(Outcome),
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
            mass_accusation: false,
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
            WardenInput::ChallengeAnswered { pid, nonce } => self.challenge_answered(pid, nonce),
            WardenInput::RunDelay { nonce, delay } => self.run_delay(nonce, delay),
            WardenInput::Reread { attempt, state } => self.reread(attempt, state),
            WardenInput::Acted { attempt, result, output } => self.acted(attempt, result, &output),
            WardenInput::Ordered { uid, order, reason, reply } => self.ordered(uid, order, reason, reply),
            WardenInput::Resumed => self.resumed(),
            WardenInput::SystemStopping(stopping) => self.stopping = stopping,
            WardenInput::Timer => {}
        }
        self.finish()
    }

    /// What becomes of a subject next: the whole life of an episode.
    fn next_move(&self, subject: &Subject) -> Option<Move> {
        let now = self.now;
        let reading = self.reading(subject);
        if subject.state.is_open() || matches!(subject.state, State::Settling { .. } | State::Unconfirmed { .. }) {
            if let Some(UnitReading::Operator(reason)) = reading {
                return Some(Move::Void(State::Operator(subject.episode.incarnation), reason.as_str()));
            }
            if self.hold_on(&subject.name).is_some() && subject.state != State::Healthy {
                return Some(Move::Void(State::Healthy, "hold"));
            }
        }
        if self.damage.is_some() || !self.booted {
            return None;
        }
        let timing = &self.policy.timing;
        match &subject.state {
            State::Healthy => {
                let held = self.hold_on(&subject.name).is_some();
                (!held && self.is_accused(subject)).then_some(Move::To(State::Suspect, "accused"))
            }
            State::Suspect => self.suspect_move(subject, reading),
            State::Challenged(challenged) => self.challenged_move(subject, challenged, reading),
            State::Certified(certified) => self.certified_move(subject, certified, reading),
            State::AwaitingApproval { class, until } => {
                if self.says_up(subject, *class) {
                    Some(Move::Void(State::Healthy, "recovered"))
                } else {
                    (now >= *until).then_some(Move::Void(State::Suspect, "approval_expired"))
                }
            }
            State::Acting(acting) => {
                let due = match acting.phase {
                    Phase::Rereading => now >= acting.slot_until,
                    Phase::Executing => now >= acting.deadline,
                    Phase::Intending | Phase::Closing { .. } => false,
                };
                due.then_some(Move::TimeOut)
            }
            State::Settling { class, until, attempt } => {
                if matches!(reading, Some(UnitReading::Crashed(_))) {
                    return Some(Move::NextRung("crashed_while_settling"));
                }
                let due = now >= *until;
                // A tick that ended tells at once; whatever else was broken gets its whole time.
                let told =
                    due || (*class == FaultClass::Broken && matches!(subject.policy.kind, SubjectKind::Wrapper(_)));
                if told && self.says_up(subject, *class) {
                    Some(Move::Recover("recovered"))
                } else if told && self.says_not_helped(subject, *class) {
                    Some(Move::NextRung("not_helped"))
                } else {
                    due.then(|| {
                        let state = State::Unconfirmed {
                            attempt: *attempt,
                            class: *class,
                            until: now + timing.unconfirmed_max,
                            incarnation: subject.episode.incarnation,
                            active_all_along: matches!(reading, Some(UnitReading::Running)),
                        };
                        Move::To(state, "no_quorum_of_verdicts")
                    })
                }
            }
            State::Unconfirmed { class, until, active_all_along, .. } => {
                if matches!(reading, Some(UnitReading::Crashed(_))) {
                    Some(Move::NextRung("crashed_while_settling"))
                } else if self.says_up(subject, *class) {
                    Some(Move::Recover("recovered"))
                } else if self.says_not_helped(subject, *class) {
                    Some(Move::NextRung("not_helped"))
                } else if now < *until {
                    None
                } else if *active_all_along && matches!(reading, Some(UnitReading::Running)) {
                    Some(Move::Recover("unconfirmed"))
                } else {
                    Some(Move::NextRung("not_active"))
                }
            }
            State::Reconciling { before, closing, .. } => {
                let unit = subject.unit.as_ref().filter(|unit| closing.is_none() && !unit.job_pending)?;
                let carried_out = unit.incarnation != *before;
                Some(Move::Reconcile(if carried_out { Outcome::Inferred } else { Outcome::Abandoned }))
            }
            State::Held(HeldBy::Budget) => {
                self.budget_allows(subject).is_ok().then_some(Move::Void(State::Healthy, "budget_refilled"))
            }
            State::Held(_) => None,
            State::Operator(stopped) => {
                let restarted = subject.episode.incarnation != *stopped;
                let running = matches!(reading, Some(UnitReading::Running));
                let left_alone = matches!(reading, Some(UnitReading::Operator(_)) | None);
                (running || (restarted && !left_alone)).then_some(Move::Void(State::Healthy, "started_again"))
            }
        }
    }

    fn suspect_move(&self, subject: &Subject, reading: Option<UnitReading>) -> Option<Move> {
        for class in VOTABLE {
            let tally = subject.votes.tally(self.now, class, self.ballot(subject, class));
            if !tally.is_quorum(&self.roster) || self.would_have_already(subject, class) {
                continue;
            }
            let detection = tally.oldest().map_or(Duration::ZERO, |oldest| self.now.saturating_since(oldest));
            match (class, reading) {
                (FaultClass::Crash, Some(UnitReading::Crashed(_))) => {
                    return Some(Move::Certify(class, BTreeSet::new(), detection));
                }
                (FaultClass::Hang | FaultClass::Broken, _) if self.may_challenge(subject) => {
                    return Some(Move::Challenge(class, detection));
                }
                _ => {}
            }
        }
        (!self.is_accused(subject)).then_some(Move::Quiet)
    }

    fn challenged_move(
        &self,
        subject: &Subject,
        challenged: &Challenged,
        reading: Option<UnitReading>,
    ) -> Option<Move> {
        let Challenged { class, nonce, deadline, detection, silent, pid, .. } = challenged;
        let same_process = subject.unit.is_some_and(|unit| unit.main_pid == Some(*pid));
        if !Self::may_be_unwell(subject, reading) || !same_process {
            return Some(Move::To(State::Suspect, "unit_changed"));
        }
        if self.soft_block(subject).is_some() {
            return Some(Move::To(State::Suspect, "frozen"));
        }
        let tally = subject.votes.tally(self.now, *class, self.ballot(subject, *class));
        if !tally.is_quorum(&self.roster) {
            return Some(Move::To(State::Suspect, "votes_gone"));
        }
        if *class == FaultClass::Broken {
            let again = |vote: &&&Verified<Vote>| vote.challenge == Some(*nonce);
            let confirmed: BTreeSet<_> = tally
                .votes
                .iter()
                .filter(again)
                .filter_map(|vote| self.roster.member(&vote.header.persona))
                .map(|member| member.vendor.clone())
                .collect();
            if confirmed.len() >= self.roster.q() {
                return Some(Move::Certify(*class, confirmed, *detection));
            }
            return (self.now >= *deadline).then_some(Move::To(State::Suspect, "not_observed_again"));
        }
        match (self.now >= *deadline, silent) {
            (false, _) => None,
            // A warden that was late itself may not have read an answer that came in time.
            (true, false) if self.now.saturating_since(*deadline) > self.policy.timing.hang.challenge / 2 => {
                Some(Move::To(State::Suspect, "warden_late"))
            }
            (true, false) => Some(Move::Silent),
            (true, true) => Some(Move::To(State::Suspect, "run_delay_unknown")),
        }
    }

    fn certified_move(&self, subject: &Subject, certified: &Certified, reading: Option<UnitReading>) -> Option<Move> {
        let class = certified.class;
        let tally = subject.votes.tally(self.now, class, self.ballot(subject, class));
        let still = match class {
            FaultClass::Crash => matches!(reading, Some(UnitReading::Crashed(_))),
            _ => Self::may_be_unwell(subject, reading),
        };
        let confirmed =
            class != FaultClass::Broken || tally.vendors.intersection(&certified.confirmed).count() >= self.roster.q();
        if !still || !tally.is_quorum(&self.roster) || !confirmed {
            return Some(Move::To(State::Suspect, "votes_gone"));
        }
        if class != FaultClass::Crash && self.soft_block(subject).is_some() {
            return Some(Move::To(State::Suspect, "frozen"));
        }
        if self.now >= certified.deadline {
            return Some(Move::Void(State::Suspect, "waited_too_long"));
        }
        // While no quorum agrees on what is wrong another vote may tell; this waits no longer than its certificate.
        let wanted = self.wanted_rung(subject, &tally)?;
        if wanted != subject.episode.rung.0 as usize {
            return Some(Move::Rung(wanted, "another_rung_answers"));
        }
        let Some(rung) = subject.policy.ladder.get(wanted) else {
            return Some(Move::NextRung("ladder_spent"));
        };
        if self.policy.mode == Mode::Observe {
            return Some(Move::WouldAct);
        }
        if rung.action == Action::Page {
            return Some(Move::CallHuman);
        }
        if rung.consent == Consent::QuorumAndOperator && !subject.approved {
            let until = self.now + self.policy.timing.approval;
            return Some(Move::To(State::AwaitingApproval { class, until }, "needs_approval"));
        }
        if let Err(spent) = self.budget_allows(subject) {
            return Some(Move::OutOfBudget(spent));
        }
        let cooled = subject.ledger.cool_down_left(self.accumulated()).is_zero();
        (cooled && !self.stopping && self.has_slot(subject, certified)).then_some(Move::Intend)
    }

    /// Carries out what [`Self::next_move`] decided.
    fn make(&mut self, name: &SubjectName, next: Move) {
        match next {
            Move::To(state, reason) => {
                if let State::AwaitingApproval { .. } = state {
                    let episode = self.subjects[name].episode.id;
                    self.page("approval_wanted", Some(name), &format!("{name} waits: zeta-bft approve {episode}"));
                }
                if let State::Unconfirmed { .. } = state {
                    self.page(
                        "unconfirmed",
                        Some(name),
                        &format!("nobody can say whether the repair of {name} helped"),
                    );
                }
                if matches!(self.subjects[name].state, State::Challenged(_)) {
                    self.no_challenge_for(name, self.policy.timing.broken.challenge);
                }
                self.enter(name, state, reason);
            }
            Move::Void(state, reason) => {
                let ends = matches!(state, State::Healthy | State::Operator(_)) && self.subjects[name].acted;
                if ends {
                    self.new_episode(name)
                } else {
                    self.new_round(name)
                }
                self.enter(name, state, reason);
            }
            Move::Quiet => {
                // An episode in which something was done ends here; a mere suspicion leaves no trace.
                if self.subjects[name].acted {
                    self.new_episode(name);
                }
                self.enter(name, State::Healthy, "quiet");
            }
            Move::Challenge(class, detection) => self.challenge(name, class, detection),
            Move::Silent => self.was_silent(name),
            Move::Certify(class, confirmed, detection) => self.certify(name, class, confirmed, detection),
            Move::Intend => self.intend(name),
            Move::WouldAct => self.would_act(name),
            Move::CallHuman => {
                let subject = &self.subjects[name];
                if subject.episode.rung.0 as usize + 1 < subject.policy.ladder.len() {
                    self.page("ladder_page", Some(name), &format!("the ladder of {name} calls for a human"));
                }
                self.next_rung(name, "called_human");
            }
            Move::OutOfBudget(spent) => {
                self.refused(name, spent.as_str());
                self.page("budget_spent", Some(name), &format!("{name} is not repaired: {spent}"));
                self.enter(name, State::Held(HeldBy::Budget), spent.as_str());
            }
            Move::TimeOut => self.time_out(name),
            Move::NextRung(reason) => self.next_rung(name, reason),
            Move::Rung(rung, reason) => self.climb_to(name, rung, reason),
            Move::Recover(reason) => self.recover(name, reason),
            Move::Reconcile(outcome) => self.reconcile(name, outcome),
        }
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
            subject.episode.incarnation = unit.incarnation;
            subject.words.clear();
            subject.answered = 0;
            subject.soft_from = self.soft_from;
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

    // ---- reading ----

    /// What PID 1 says of it, by the same code that guardians use.
    fn reading(&self, subject: &Subject) -> Option<UnitReading> {
        subject.unit.as_ref().map(|unit| classify_unit(unit, subject.policy.exit_zero, self.now))
    }

    /// Whether soft evidence may speak of it.
    fn may_be_unwell(subject: &Subject, reading: Option<UnitReading>) -> bool {
        let unit = subject.unit.as_ref().zip(reading);
        unit.is_some_and(|(unit, reading)| subject.policy.may_be_unwell(unit, reading))
    }

    /// Rule S7: the rung that answers what is wrong. Of a k3s that is told by the voters' own reasons, signed with their votes:
    /// the first rung that serves and was not taken yet, wherever the ladder stands. `None` while no quorum agrees on the
    /// remedy, so that no single vendor chooses a step or skips one.
    fn wanted_rung(&self, subject: &Subject, tally: &Tally<'_>) -> Option<usize> {
        if subject.policy.kind != SubjectKind::K3s {
            return Some(subject.episode.rung.0 as usize);
        }
        let is_agreed = |remedy: &&Remedy| {
            let votes = tally.votes.iter().filter(|vote| vote.attestation.reason.remedy() == **remedy);
            let members = votes.filter_map(|vote| self.roster.member(&vote.header.persona));
            members.map(|member| &member.vendor).collect::<BTreeSet<_>>().len() >= self.roster.q()
        };
        let remedy = Remedy::ALL.iter().find(is_agreed)?;
        let ladder = &subject.policy.ladder;
        let serves = |(number, rung): (u32, &RungPolicy)| {
            rung.action.serves(*remedy) && (rung.action == Action::Page || !subject.ledger.has_tried(Rung(number)))
        };
        Some((0..).zip(ladder).position(serves).unwrap_or(ladder.len()))
    }

    fn ballot<'a>(&self, subject: &'a Subject, class: FaultClass) -> Ballot<'a> {
        let ttl =
            self.policy.timing.class(class, &subject.policy.kind).map_or(Duration::ZERO, |timing| timing.vote_ttl);
        Ballot { episode: &subject.episode, kind: &subject.policy.kind, vendor: subject.policy.vendor.as_ref(), ttl }
    }

    /// How old a guardian's word may be to count in a judgement.
    fn word_ttl(&self) -> Duration {
        self.policy.timing.heartbeat * 4
    }

    /// Whether any eligible voter says DOWN of its current run, by word or vote.
    fn is_accused(&self, subject: &Subject) -> bool {
        let fault =
            |word: &Attestation| word.repairable_fault().is_some_and(|class| !self.would_have_already(subject, class));
        !subject.vendors_saying(self.now, self.word_ttl(), fault).is_empty()
            || VOTABLE.iter().any(|class| {
                !self.would_have_already(subject, *class)
                    && !subject.votes.tally(self.now, *class, self.ballot(subject, *class)).vendors.is_empty()
            })
    }

    /// Whether a quorum says that a repair for `class` helped. Where a crash or a hang was repaired, running and answering is
    /// enough, and what is BROKEN runs and answers: its work is another episode's matter.
    fn says_up(&self, subject: &Subject, class: FaultClass) -> bool {
        let up = subject.vendors_saying(self.now, self.word_ttl(), |word| {
            let answers = class != FaultClass::Broken && word.repairable_fault() == Some(FaultClass::Broken);
            word.counts_as_up() || answers
        });
        up.len() >= self.roster.q()
    }

    /// Whether a quorum says that a repair for `class` did not help: it still does not run and answer, or, where its work
    /// was BROKEN, that still is. Only equal classes add up.
    fn says_not_helped(&self, subject: &Subject, class: FaultClass) -> bool {
        let unanswering = [FaultClass::Crash, FaultClass::Hang];
        self.says_down(subject, class) || unanswering.iter().any(|class| self.says_down(subject, *class))
    }

    fn says_down(&self, subject: &Subject, class: FaultClass) -> bool {
        let down = subject.vendors_saying(self.now, self.word_ttl(), |word| word.repairable_fault() == Some(class));
        down.len() >= self.roster.q()
    }

    fn would_have_already(&self, subject: &Subject, class: FaultClass) -> bool {
        self.policy.mode == Mode::Observe && subject.would_have.contains(&(subject.episode.incarnation, class))
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
