//! From a certified fault to a receipt: the only way to act.
//!
//! Rules implemented here:
//! * **S1, S4** the certificate is built from the votes that count at the very step that appends INTENT;
//! * **S2** nothing happens before INTENT is on the disk, and an INTENT is for one (episode, rung, round), which is never
//!   used again: a new round begins after every OUTCOME and ABORT;
//! * **S3** unit, job, incarnation and hold are read again after INTENT is durable; any difference is an ABORT;
//! * **S6** the account is charged, in the journal, before INTENT; an ABORT, which touched nothing, gives that back and begins
//!   a doubled cool-down;
//! * **S9** OUTCOME or ABORT is on the disk before its receipt, or a new nonce, is published.

use super::api::NotDone;
use super::permit::{ActionPermit, Attempt};
use super::{State, Subject, Warden, WardenEffect, WardenEvent, node_budget};
use crate::protocol::episode::{Acting, Phase};
use crate::protocol::evidence::{Activity, FaultClass, UnitReading, UnitState, classify_unit};
use crate::protocol::policy::{Action, SubjectKind};
use crate::protocol::record::{OpenIntent, Record};
use crate::protocol::statement::{
    ActionCertificate, ActionKind, JournalHead, Outcome, Receipt, ReceiptKind, StatementCodec,
};
use crate::protocol::types::{Digest, Incarnation, SubjectName};
use std::time::Duration;

impl<C: StatementCodec> Warden<C> {
    /// Charges the account, writes INTENT with its certificate, and takes a slot.
    pub(super) fn intend(&mut self, name: &SubjectName) {
        let State::Certified(certified) = self.subjects[name].state.clone() else { return };
        let Some(certificate) = self.certificate(&self.subjects[name], certified.class) else { return };
        let accumulated = self.accumulated();
        let timing = self.policy.timing;
        let subject = self.subjects.get_mut(name).expect("callers pass a configured subject");
        subject.ledger.charge(&timing, accumulated);
        subject.ledger.try_rung(subject.episode.rung);
        subject.acted = true;
        let (attempt, incarnation, class) = (subject.attempt(), subject.episode.incarnation, certified.class);
        let on_persona = subject.policy.kind.persona().is_some();
        let rung = subject.policy.ladder.get(attempt.rung.0 as usize);
        let longest = rung.map_or(Duration::ZERO, |rung| subject.policy.longest(&rung.action));
        self.node.charge(&timing, accumulated);
        let node = self.node.entry(None, accumulated);
        self.journal_ledger(name);
        self.append(Record::Ledger(node));

        let blank = self.blank_receipt(name, ReceiptKind::Intent, attempt, class, incarnation);
        let intent = self.append_receipt(|receipt| receipt.certificate = Some(certificate), blank);
        if on_persona {
            self.raise_set_epoch();
        }
        let acting = Acting {
            attempt,
            incarnation,
            class,
            phase: Phase::Intending,
            waits_for: intent,
            intent,
            certified_at: certified.at,
            detection: certified.detection,
            deadline: self.now + timing.act_timeout + longest,
            slot_until: self.now + timing.act_timeout,
            charged_at: accumulated,
            holds_slot: true,
        };
        self.enter(name, State::Acting(acting), "intent");
    }

    /// A record is on the disk: whatever waited for it goes on.
    pub(super) fn continue_action(&mut self, name: &SubjectName, head: JournalHead) {
        let subject = self.subjects.get_mut(name).expect("callers pass a configured subject");
        match &mut subject.state {
            State::Acting(acting) if acting.waits_for <= head.seq => match acting.phase {
                Phase::Intending => {
                    acting.phase = Phase::Rereading;
                    let attempt = acting.attempt;
                    self.out.push(WardenEffect::Reread { attempt, subject: name.clone() });
                }
                Phase::Closing { aborted } => {
                    let (class, attempt) = (acting.class, acting.attempt);
                    if aborted { self.begin_again(name, "aborted") } else { self.settle(name, attempt, class) }
                }
                Phase::Rereading | Phase::Executing => {}
            },
            State::Reconciling { closing: Some((seq, outcome)), attempt, class, .. } if *seq <= head.seq => {
                let (attempt, class, outcome) = (*attempt, *class, *outcome);
                if outcome == Outcome::Inferred {
                    self.settle(name, attempt, class);
                } else {
                    self.begin_again(name, "abandoned");
                }
            }
            _ => {}
        }
    }

    /// The last look before the act: the one place where a permit is minted.
    pub(super) fn reread(&mut self, attempt: Attempt, state: Option<UnitState>) {
        let now = self.now;
        let Some(name) = self.subject_of(attempt, &Phase::Rereading) else { return };
        if let Some(why) = self.why_not(&name, state.as_ref()) {
            self.abort(&name, why, why);
            return;
        }
        // What was read is not kept: PID 1's own changes, in their order, are, and one of them may have overtaken it.
        let subject = self.subjects.get_mut(&name).expect("it was just found");
        let action = subject.policy.ladder.get(attempt.rung.0 as usize).map(|rung| rung.action.clone());
        let State::Acting(acting) = &mut subject.state else { return };
        let Some(action) = action.filter(|_| now < acting.slot_until) else {
            self.abort(&name, "too_late", "too_late");
            return;
        };
        acting.phase = Phase::Executing;
        let acting = acting.clone();
        let permit = ActionPermit::mint(&acting, &self.subjects[&name], action);
        self.out.push(WardenEffect::Act(permit));
    }

    fn why_not(&self, name: &SubjectName, state: Option<&UnitState>) -> Option<&'static str> {
        let subject = &self.subjects[name];
        let State::Acting(acting) = &subject.state else { return Some("not_acting") };
        let Some(unit) = state else { return Some("unit_unseen") };
        let reading = classify_unit(unit, subject.policy.exit_zero, self.now);
        let as_certified = match acting.class {
            FaultClass::Crash => matches!(reading, UnitReading::Crashed(_)),
            _ => subject.policy.may_be_unwell(unit, reading),
        };
        // A start that never ends is a job of its own; any other is somebody's wish.
        let starts = unit.activity == Activity::Activating && as_certified;
        if self.damage.is_some() {
            Some("journal")
        } else if self.stopping {
            Some("system_stopping")
        } else if self.hold_on(name).is_some() {
            Some("hold")
        } else if unit.incarnation != acting.incarnation {
            Some("other_incarnation")
        } else if unit.job_pending && !starts {
            Some("job_pending")
        } else if let UnitReading::Operator(reason) = reading {
            Some(reason.as_str())
        } else if !as_certified {
            Some("state_changed")
        } else {
            None
        }
    }

    /// The act returned.
    pub(super) fn acted(&mut self, attempt: Attempt, result: Result<(), NotDone>, output: &str) {
        let Some(name) = self.subject_of(attempt, &Phase::Executing) else { return };
        match result {
            // As if the last look had shown it: no rung is spent on what nobody touched.
            Err(NotDone::Untouched(text)) => self.abort(&name, "untouched", &text),
            Err(NotDone::NotAsked(text)) => {
                self.page("not_asked", Some(&name), &format!("{name} is to be repaired, and nobody acts: {text}"));
                self.abort(&name, "not_asked", &text);
            }
            Err(NotDone::Failed(text)) => self.close(&name, Outcome::Failed, &text),
            Ok(()) => {
                if self.action_of(&name, attempt).is_some_and(|action| action.is_restart()) {
                    self.new_process_seen(&name);
                } else {
                    // No new process is to be expected: that it was done is all there is to know.
                    self.close(&name, Outcome::Ok, output);
                }
            }
        }
    }

    /// Closes an action as soon as PID 1 shows the new process.
    pub(super) fn new_process_seen(&mut self, name: &SubjectName) {
        let subject = &self.subjects[name];
        let (State::Acting(acting), Some(unit)) = (&subject.state, &subject.unit) else { return };
        let runs_anew = unit.is_running() && unit.incarnation != acting.incarnation;
        let is_the_act = self.action_of(name, acting.attempt).is_some_and(|action| action.is_restart());
        if acting.phase == Phase::Executing && runs_anew && is_the_act {
            self.close(name, Outcome::Ok, "");
        }
    }

    /// PID 1 has not answered in time: not to the last look, so nothing is done, or not with a new process.
    pub(super) fn time_out(&mut self, name: &SubjectName) {
        match &self.subjects[name].state {
            State::Acting(acting) if acting.phase == Phase::Rereading => self.abort(name, "too_late", "too_late"),
            _ => self.close(name, Outcome::Failed, "no new process within act_timeout"),
        }
    }

    /// Writes OUTCOME and gives the slot back. What follows waits until it is on the disk.
    pub(super) fn close(&mut self, name: &SubjectName, outcome: Outcome, detail: &str) {
        let State::Acting(acting) = self.subjects[name].state.clone() else { return };
        if let Some(Action::CopyAside { .. }) = self.action_of(name, acting.attempt) {
            let text = match outcome {
                Outcome::Ok => {
                    format!("the datastore of {name} was copied aside, and {name} is left stopped: {detail}")
                }
                _ => format!("the datastore of {name} was not copied aside, and {name} may be left stopped: {detail}"),
            };
            self.page("copied_aside", Some(name), &text);
        }
        let after = self.subjects[name].unit.map(|unit| unit.incarnation);
        let blank = self.blank_receipt(name, ReceiptKind::Outcome, acting.attempt, acting.class, acting.incarnation);
        let seq = self.append_receipt(
            |receipt| {
                receipt.outcome = Some(outcome);
                receipt.after = after;
                receipt.intent = Some(acting.intent);
                receipt.detail = cut(detail);
            },
            blank,
        );
        let action = self.action_of(name, acting.attempt).map_or(ActionKind::Page, |action| action.kind());
        self.out.push(WardenEffect::Event(WardenEvent::Repaired {
            subject: name.clone(),
            action,
            outcome,
            took: self.now.saturating_since(acting.certified_at),
            detection: acting.detection,
        }));
        self.wait_for_close(name, seq, false);
    }

    fn abort(&mut self, name: &SubjectName, why: &'static str, detail: &str) {
        let State::Acting(acting) = self.subjects[name].state.clone() else { return };
        let accumulated = self.accumulated();
        let timing = self.policy.timing;
        let subject = self.subjects.get_mut(name).expect("it is acting");
        subject.ledger.give_back(&subject.policy.budget, acting.charged_at);
        subject.ledger.untry_rung(acting.attempt.rung);
        subject.ledger.lengthen_cool_down(&timing, accumulated);
        self.node.give_back(&node_budget(&self.policy), acting.charged_at);
        let node = self.node.entry(None, accumulated);
        self.journal_ledger(name);
        self.append(Record::Ledger(node));
        let blank = self.blank_receipt(name, ReceiptKind::Abort, acting.attempt, acting.class, acting.incarnation);
        let seq = self.append_receipt(
            |receipt| {
                receipt.outcome = Some(Outcome::Aborted);
                receipt.intent = Some(acting.intent);
                receipt.detail = cut(detail);
            },
            blank,
        );
        self.refused(name, why);
        self.wait_for_close(name, seq, true);
    }

    fn wait_for_close(&mut self, name: &SubjectName, seq: u64, aborted: bool) {
        if let Some(State::Acting(acting)) = self.subjects.get_mut(name).map(|s| &mut s.state) {
            acting.phase = Phase::Closing { aborted };
            acting.waits_for = seq;
            acting.holds_slot = false;
        }
    }

    /// The action is over and its OUTCOME on the disk: is it well?
    fn settle(&mut self, name: &SubjectName, attempt: Attempt, class: FaultClass) {
        self.follow_incarnation(name);
        let kind = &self.subjects[name].policy.kind;
        let timing = &self.policy.timing;
        let settle = timing.settle(class, kind);
        // A persona's work is judged by the first tick that ends, and a tick may take this long.
        let judged_by_tick = class == FaultClass::Broken && matches!(kind, SubjectKind::Wrapper(_));
        let until = self.now + if judged_by_tick { timing.tick_limit + settle } else { settle };
        if judged_by_tick && let Some(subject) = self.subjects.get_mut(name) {
            // A rung that starts no new process leaves the words on what was before it.
            subject.words.clear();
        }
        if self.hold_on(name).is_some() {
            self.new_episode(name);
            self.enter(name, State::Healthy, "hold");
        } else {
            self.enter(name, State::Settling { attempt, class, until }, "acted");
        }
    }

    fn begin_again(&mut self, name: &SubjectName, reason: &'static str) {
        self.follow_incarnation(name);
        self.enter(name, State::Suspect, reason);
    }

    /// A new round on the run that PID 1 now shows.
    fn follow_incarnation(&mut self, name: &SubjectName) {
        self.new_round(name);
        let soft_from = self.soft_from;
        let subject = self.subjects.get_mut(name).expect("callers pass a configured subject");
        if let Some(unit) = subject.unit
            && unit.incarnation != subject.episode.incarnation
        {
            subject.follow(unit.incarnation, soft_from);
            subject.approved = false;
        }
    }

    /// Observe mode: writes what would have been done, and goes on as if it had been.
    pub(super) fn would_act(&mut self, name: &SubjectName) {
        let State::Certified(certified) = self.subjects[name].state.clone() else { return };
        let subject = &self.subjects[name];
        let Some(certificate) = self.certificate(subject, certified.class) else { return };
        let (attempt, incarnation, class) = (subject.attempt(), subject.episode.incarnation, certified.class);
        let blank = self.blank_receipt(name, ReceiptKind::WouldAct, attempt, class, incarnation);
        self.append_receipt(
            |receipt| {
                receipt.outcome = Some(Outcome::WouldAct);
                receipt.certificate = Some(certificate);
            },
            blank,
        );
        let action = self.action_of(name, attempt).map_or(ActionKind::Page, |action| action.kind());
        self.out.push(WardenEffect::Event(WardenEvent::Repaired {
            subject: name.clone(),
            action,
            outcome: Outcome::WouldAct,
            took: Duration::ZERO,
            detection: certified.detection,
        }));
        if let Some(subject) = self.subjects.get_mut(name) {
            subject.would_have.retain(|(run, _)| *run == incarnation);
            subject.would_have.insert((incarnation, class));
            subject.acted = true;
        }
        let settle = self
            .policy
            .timing
            .class(class, &self.subjects[name].policy.kind)
            .map_or(Duration::ZERO, |timing| timing.settle);
        self.new_round(name);
        self.enter(name, State::Settling { attempt, class, until: self.now + settle }, "would_act");
    }

    /// Settled without anybody able to say: that is part of the record, too.
    pub(super) fn write_unconfirmed(
        &mut self,
        name: &SubjectName,
        attempt: Attempt,
        class: FaultClass,
        run: Incarnation,
    ) {
        let blank = self.blank_receipt(name, ReceiptKind::Outcome, attempt, class, run);
        self.append_receipt(
            |receipt| {
                receipt.outcome = Some(Outcome::Unconfirmed);
                receipt.after = Some(run);
            },
            blank,
        );
    }

    // ---- after a crash of the warden ----

    /// An INTENT of an earlier instance without an end: never executed again.
    pub(super) fn reconcile_later(&mut self, open: &OpenIntent) {
        let Some(receipt) = self
            .roster
            .verifying_key(self.key.public())
            .ok()
            .and_then(|key| open.receipt.open::<Receipt>(&key, &self.codec).ok())
        else {
            self.damage = Some(format!("the INTENT at record {} is not signed by this warden's key", open.seq));
            return;
        };
        let until = self.now + self.policy.timing.act_timeout;
        let Some(subject) = self.subjects.get_mut(&receipt.subject) else { return };
        subject.acted = true;
        subject.reason = "warden_restarted";
        subject.state = State::Reconciling {
            intent: open.seq,
            attempt: Attempt { episode: receipt.episode, rung: receipt.rung, round: receipt.round },
            before: receipt.before,
            class: receipt.class,
            until,
            closing: None,
        };
    }

    pub(super) fn reconcile(&mut self, name: &SubjectName, outcome: Outcome) {
        let State::Reconciling { intent, attempt, before, class, .. } = self.subjects[name].state else { return };
        let after = self.subjects[name].unit.map(|unit| unit.incarnation);
        let blank = self.blank_receipt(name, ReceiptKind::Outcome, attempt, class, before);
        let seq = self.append_receipt(
            |receipt| {
                receipt.outcome = Some(outcome);
                receipt.after = after;
                receipt.intent = Some(intent);
                receipt.detail = "the warden was restarted".to_owned();
            },
            blank,
        );
        if let Some(State::Reconciling { closing, .. }) = self.subjects.get_mut(name).map(|s| &mut s.state) {
            *closing = Some((seq, outcome));
        }
    }

    // ---- parts ----

    fn subject_of(&self, attempt: Attempt, phase: &Phase) -> Option<SubjectName> {
        let acting = |subject: &&Subject| match &subject.state {
            State::Acting(acting) => acting.attempt == attempt && acting.phase == *phase,
            _ => false,
        };
        self.subjects.values().find(acting).map(|subject| subject.name.clone())
    }

    fn action_of(&self, name: &SubjectName, attempt: Attempt) -> Option<Action> {
        let ladder = &self.subjects.get(name)?.policy.ladder;
        ladder.get(attempt.rung.0 as usize).map(|rung| rung.action.clone())
    }

    /// The votes that count now, one of each vendor, with what they rest on.
    fn certificate(&self, subject: &Subject, class: FaultClass) -> Option<ActionCertificate> {
        let tally = subject.votes.tally(self.now, class, self.ballot(subject, class));
        if !tally.is_quorum(&self.roster) {
            return None;
        }
        let mut sessions = Vec::new();
        for vote in &tally.votes {
            let session = self.guardians.get(&vote.header.persona)?.session()?.envelope().clone();
            sessions.push(session);
        }
        let votes = tally.votes.iter().map(|vote| vote.envelope().clone()).collect();
        Some(ActionCertificate { episode: subject.published.clone()?, votes, sessions })
    }

    fn blank_receipt(
        &self,
        name: &SubjectName,
        kind: ReceiptKind,
        attempt: Attempt,
        class: FaultClass,
        before: Incarnation,
    ) -> Receipt {
        Receipt {
            cluster: self.roster.cluster().clone(),
            node: self.roster.node().clone(),
            boot: self.boot,
            warden: self.instance,
            seq: 0,
            previous: Digest::default(),
            kind,
            episode: attempt.episode,
            round: attempt.round,
            rung: attempt.rung,
            subject: name.clone(),
            action: self.action_of(name, attempt).map_or(ActionKind::Page, |action| action.kind()),
            class,
            before,
            after: None,
            outcome: None,
            detail: String::new(),
            certificate: None,
            intent: None,
            at: self.now,
            wall_ms: self.wall_ms,
        }
    }
}

/// Cuts a text to what a receipt may carry, at a character's edge.
fn cut(text: &str) -> String {
    let mut end = text.len().min(Receipt::MAX_DETAIL);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    text[..end].to_owned()
}
