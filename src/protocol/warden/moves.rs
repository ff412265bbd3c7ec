//! What becomes of a subject next, and on what readings of PID 1 and of the guardians' words that rests.
//!
//! What time, PID 1's word, and the words and votes on a subject bring about is decided in [`Warden::next_move`], which changes
//! nothing, and carried out in [`Warden::make`]. What ends a state by itself is taken where it comes in: the answer to a
//! challenge and the reading of a CPU in [`super::challenge`], a new run and a resume in [`super`], an order in
//! [`super::orders`], and each step of an action, from INTENT to its OUTCOME on the disk, in [`super::action`].

use super::{State, Subject, VOTABLE, Warden};
use crate::protocol::episode::{Certified, Phase};
use crate::protocol::evidence::{Activity, Attestation, FaultClass, Remedy, UnitReading, classify_unit};
use crate::protocol::ladder::BudgetSpent;
use crate::protocol::policy::{Action, Consent, Mode, RungPolicy, SubjectKind};
use crate::protocol::statement::{Outcome, StatementCodec};
use crate::protocol::types::{Rung, SubjectName, Timestamp, VendorId};
use crate::protocol::view::HeldBy;
use crate::protocol::vote_keeper::{Ballot, Tally};
use std::collections::BTreeSet;
use std::time::Duration;

/// What becomes of a subject next: decided in [`Warden::next_move`], carried out in [`Warden::make`].
#[derive(Debug)]
pub(super) enum Move {
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
    OutOfBudget(BudgetSpent),
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
    /// What becomes of a subject next: the life of an episode, but for what an input ends by itself.
    pub(super) fn next_move(&self, subject: &Subject) -> Option<Move> {
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
                // A tick that ended tells at once; whatever else was broken gets its whole time. But a rung that starts no new
                // process leaves the same one broken until then, for all who have not heard yet that the rung has ended.
                let told =
                    due || (*class == FaultClass::Broken && matches!(subject.policy.kind, SubjectKind::Wrapper(_)));
                if told && self.says_up(subject, *class) {
                    Some(Move::Recover("recovered"))
                } else if told && self.says_not_helped(subject, *class, subject.since + self.word_ttl()) {
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
                } else if self.says_not_helped(subject, *class, Timestamp::ZERO) {
                    Some(Move::NextRung("not_helped"))
                } else if now < *until {
                    None
                } else if *active_all_along && matches!(reading, Some(UnitReading::Running)) {
                    Some(Move::Recover("unconfirmed"))
                } else {
                    Some(Move::NextRung("not_active"))
                }
            }
            State::Reconciling { before, closing, until, .. } => {
                let unit = subject.unit.as_ref().filter(|_| closing.is_none())?;
                // A start may never end, and what is wrong then is for another round. A stop is waited for: until a new run
                // has begun nobody can tell that none will.
                let starts = unit.activity == Activity::Activating && now >= *until;
                let carried_out = unit.incarnation != *before;
                (starts || !unit.job_pending).then_some(Move::Reconcile(if carried_out {
                    Outcome::Inferred
                } else {
                    Outcome::Abandoned
                }))
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
    pub(super) fn make(&mut self, name: &SubjectName, next: Move) {
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

    // ---- reading ----

    /// What PID 1 says of it, by the same code that guardians use.
    pub(super) fn reading(&self, subject: &Subject) -> Option<UnitReading> {
        subject.unit.as_ref().map(|unit| classify_unit(unit, subject.policy.exit_zero, self.now))
    }

    /// Whether soft evidence may speak of it.
    pub(super) fn may_be_unwell(subject: &Subject, reading: Option<UnitReading>) -> bool {
        let unit = subject.unit.as_ref().zip(reading);
        unit.is_some_and(|(unit, reading)| subject.policy.may_be_unwell(unit, reading))
    }

    /// Rule S7: the rung that answers what is wrong. Of a k3s that is told by the voters' own reasons, signed with their votes:
    /// the first rung that serves and was not taken yet, wherever the ladder stands. `None` while no quorum agrees on the
    /// remedy, so that no single vendor chooses a step or skips one.
    pub(super) fn wanted_rung(&self, subject: &Subject, tally: &Tally<'_>) -> Option<usize> {
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

    pub(super) fn ballot<'a>(&self, subject: &'a Subject, class: FaultClass) -> Ballot<'a> {
        let ttl =
            self.policy.timing.class(class, &subject.policy.kind).map_or(Duration::ZERO, |timing| timing.vote_ttl);
        Ballot { episode: &subject.episode, kind: &subject.policy.kind, vendor: subject.policy.vendor.as_ref(), ttl }
    }

    /// How old a guardian's word may be to count in a judgement.
    pub(super) fn word_ttl(&self) -> Duration {
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
    /// was BROKEN, that still is. Only equal classes add up, and of BROKEN only what was observed from `from` on.
    fn says_not_helped(&self, subject: &Subject, class: FaultClass, from: Timestamp) -> bool {
        let says = |class, from| self.says_down_since(subject, class, from);
        let unanswering = [FaultClass::Crash, FaultClass::Hang];
        unanswering.iter().any(|class| says(*class, Timestamp::ZERO)) || says(class, from)
    }

    pub(super) fn says_down(&self, subject: &Subject, class: FaultClass) -> bool {
        self.says_down_since(subject, class, Timestamp::ZERO)
    }

    fn says_down_since(&self, subject: &Subject, class: FaultClass, from: Timestamp) -> bool {
        let down = subject.vendors_saying(self.now, self.word_ttl(), |word| {
            word.repairable_fault() == Some(class) && word.observed_at >= from
        });
        down.len() >= self.roster.q()
    }

    pub(super) fn would_have_already(&self, subject: &Subject, class: FaultClass) -> bool {
        self.policy.mode == Mode::Observe && subject.would_have.contains(&(subject.episode.incarnation, class))
    }
}
