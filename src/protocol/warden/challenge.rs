//! Soft evidence is asked about once more before anything is done: the accused process itself (HANG), or the voters (BROKEN).
//!
//! Rules implemented here:
//! * challenges run one at a time, the oldest suspicion first;
//! * nobody answers for another process; an answer voids the votes, and soft patience doubles for this run (at most 8×);
//! * its time to answer begins when the challenge leaves on its line; who has none, or does not take it, had the same time;
//! * silence counts unless the process was kept from answering ([`crate::protocol::cpu`]), or the warden was late itself, and only
//!   when everything that has arrived was heard; who is kept from answering for long is told to a human.

use super::moves::Move;
use super::{State, Subject, VOTABLE, Warden, WardenEffect, WardenEvent};
use crate::protocol::cpu::CpuReading;
use crate::protocol::episode::Challenged;
use crate::protocol::evidence::{Evidence, FaultClass, UnitReading};
use crate::protocol::statement::{StatementCodec, Verified, Vote};
use crate::protocol::types::{Nonce, SubjectName};
use std::collections::BTreeSet;
use std::time::Duration;

/// So many challenges in a row that could not have been answered are told to a human.
const KEPT_FOR_LONG: u32 = 10;

impl<C: StatementCodec> Warden<C> {
    /// Whether soft evidence on this subject may be challenged now: nothing is frozen, and it is its turn.
    pub(super) fn may_challenge(&self, subject: &Subject) -> bool {
        self.ready_for_challenge(subject)
            && !self.subjects.values().any(|other| {
                matches!(other.state, State::Challenged(_))
                    || (other.name != subject.name
                        && (other.since, &other.name) < (subject.since, &subject.name)
                        && self.ready_for_challenge(other))
            })
    }

    fn ready_for_challenge(&self, subject: &Subject) -> bool {
        subject.state == State::Suspect
            && self.soft_block(subject).is_none()
            && self.now >= subject.soft_from
            && Self::may_be_unwell(subject, self.reading(subject))
            && subject.unit.is_some_and(|unit| unit.main_pid.is_some())
            && VOTABLE.iter().filter(|class| class.evidence() == Evidence::Soft).any(|class| {
                !self.would_have_already(subject, *class)
                    && subject.votes.tally(self.now, *class, self.ballot(subject, *class)).is_quorum(&self.roster)
            })
    }

    pub(super) fn challenge(&mut self, name: &SubjectName, class: FaultClass, detection: Duration) {
        let nonce = self.draw();
        let subject = &self.subjects[name];
        let Some(pid) = subject.unit.and_then(|unit| unit.main_pid) else { return };
        let wait = self.policy.timing.class(class, &subject.policy.kind).map_or(Duration::ZERO, |t| t.challenge);
        let deadline = self.now + wait;
        if class == FaultClass::Hang {
            self.out.push(WardenEffect::ReadCpu { pid, nonce, hear_out: false });
            self.out.push(WardenEffect::Challenge { pid, nonce });
        }
        let challenged = Challenged { class, nonce, pid, deadline, detection, cpu_before: None, silent: false };
        self.enter(name, State::Challenged(challenged), "challenged");
    }

    /// Its time to answer begins now, and with it what it makes of its CPU: the warden may have had none since it decided to
    /// ask. What was taken for a silence meanwhile was none.
    pub(super) fn challenge_left(&mut self, pid: u32, nonce: Nonce) {
        let deadline = self.now + self.policy.timing.hang.challenge;
        for subject in self.subjects.values_mut() {
            if let State::Challenged(challenged) = &mut subject.state
                && (challenged.class, challenged.pid, challenged.nonce) == (FaultClass::Hang, pid, nonce)
            {
                (challenged.deadline, challenged.silent) = (deadline, false);
                self.out.push(WardenEffect::ReadCpu { pid, nonce, hear_out: false });
            }
        }
    }

    /// The accused process itself answered: the votes were wrong about it, and next time they need more patience.
    pub(super) fn challenge_answered(&mut self, pid: u32, nonce: Nonce) {
        let asked = self.subjects.values().find(|subject| match &subject.state {
            State::Challenged(c) => c.class == FaultClass::Hang && c.pid == pid && c.nonce == nonce,
            _ => false,
        });
        let Some(name) = asked.map(|subject| subject.name.clone()) else {
            self.out.push(WardenEffect::Event(WardenEvent::Rejected { reason: "unasked_answer", persona: None }));
            return;
        };
        let patience = self.policy.timing.hang.patience;
        let now = self.now;
        self.new_round(&name);
        let subject = self.subjects.get_mut(&name).expect("it was just found");
        subject.answered = (subject.answered + 1).min(3);
        // Doubled for each answer, up to 8×: the first suspicion had one patience already.
        subject.soft_from = now + patience * ((1 << subject.answered) - 1);
        subject.words.clear();
        self.refused(&name, "challenge_answered");
        self.enter(&name, State::Healthy, "challenge_answered");
    }

    /// No new challenge for a while: the last one led to nothing.
    pub(super) fn no_challenge_for(&mut self, name: &SubjectName, wait: Duration) {
        let until = self.now + wait;
        if let Some(subject) = self.subjects.get_mut(name) {
            subject.soft_from = subject.soft_from.max(until);
        }
    }

    /// Silent until the deadline: whether it could have answered at all is asked of the scheduler.
    pub(super) fn was_silent(&mut self, name: &SubjectName) {
        let wait = self.policy.timing.hang.challenge;
        let now = self.now;
        let Some(State::Challenged(challenged)) = self.subjects.get_mut(name).map(|s| &mut s.state) else { return };
        challenged.silent = true;
        challenged.deadline = now + wait;
        let (pid, nonce) = (challenged.pid, challenged.nonce);
        self.out.push(WardenEffect::ReadCpu { pid, nonce, hear_out: true });
    }

    /// The look before the challenge is kept; the one after a silence decides what that silence means.
    pub(super) fn cpu_read(&mut self, nonce: Nonce, reading: Option<CpuReading>) {
        let time = self.policy.timing.hang.challenge;
        let asked = self.subjects.values_mut().find_map(|subject| match &mut subject.state {
            State::Challenged(challenged) if challenged.nonce == nonce => Some((subject.name.clone(), challenged)),
            _ => None,
        });
        let Some((name, challenged)) = asked else { return };
        if !challenged.silent {
            challenged.cpu_before = reading;
            return;
        }
        let (class, detection) = (challenged.class, challenged.detection);
        let Some((before, after)) = challenged.cpu_before.zip(reading) else {
            let text = format!("{name} is silent, but whether it had a CPU cannot be read: it is left alone");
            self.page("cpu_time_unknown", Some(&name), &text);
            return self.left_alone(&name, "cpu_time_unknown");
        };
        match after.kept_since(before, time) {
            None => {
                self.subjects.get_mut(&name).expect("it was just found").kept = 0;
                let subject = &self.subjects[&name];
                if subject.votes.tally(self.now, class, self.ballot(subject, class)).is_quorum(&self.roster) {
                    self.make(&name, Move::Certify(class, BTreeSet::new(), detection));
                }
            }
            Some(kept) => {
                let subject = self.subjects.get_mut(&name).expect("it was just found");
                subject.kept = subject.kept.saturating_add(1);
                if subject.kept >= KEPT_FOR_LONG {
                    let text = format!(
                        "{name} was silent in {} challenges in a row, and each time could not have answered; now it {}: \
                         it is left alone",
                        subject.kept,
                        kept.text()
                    );
                    self.page("kept_from_answering", Some(&name), &text);
                }
                self.left_alone(&name, kept.as_str());
            }
        }
    }

    /// Its silence says nothing of it: the votes are void, and it is challenged again after a while at the earliest.
    fn left_alone(&mut self, name: &SubjectName, reason: &'static str) {
        self.refused(name, reason);
        self.new_round(name);
        self.no_challenge_for(name, self.policy.timing.hang.patience);
        self.enter(name, State::Suspect, reason);
    }

    pub(super) fn challenged_move(
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
            (true, true) => Some(Move::To(State::Suspect, "cpu_time_unknown")),
        }
    }
}
