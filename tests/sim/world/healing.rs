//! The calm after the faults: what heals by itself, and what has to come to rest, where.

use super::events::Event;
use super::{START, World, nanos};
use crate::k3s::Ailment;
use crate::network::{End, Weather};
use crate::pid1::{Breath, Fate, Pid1, Unit};
use crate::schedule::{self, Liars};
use crate::wrapper::{Work, Wrapper};
use std::collections::BTreeMap;
use std::time::Duration;
use zeta_bft::protocol::evidence::{Activity, FaultClass};
use zeta_bft::protocol::policy::{Mode, SubjectKind};
use zeta_bft::protocol::record::OperatorOrder;
use zeta_bft::protocol::statement::StateName;
use zeta_bft::protocol::types::{PersonaId, SubjectName};

impl World {
    /// The hostile part is over: the network is calm, connections are made anew; what is harmed stays harmed until repaired.
    pub(super) fn heal(&mut self) {
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
        self.meddle = None;
        if matches!(self.ailment, Ailment::Environment | Ailment::HostInDoubt) {
            self.ail(Ailment::Nothing);
        }
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

    /// Runs on after the faults heal until everything is where it must be, and stays there for a while.
    pub fn settle(&mut self) {
        let heal_at = START + nanos(self.plan.heal_at);
        self.run_until(heal_at.max(self.now));
        while !self.healed && self.checker.violation.is_none() {
            self.run_for(Duration::from_millis(500));
        }
        if self.plan.liars == Liars::Everybody || self.policy.mode == Mode::Observe {
            return self.run_for(Duration::from_secs(8));
        }
        let mut limit = self.now + nanos(self.plan.recovery);
        let mut calm = 0;
        while self.checker.violation.is_none() && calm < 3 {
            self.run_for(Duration::from_millis(500));
            // A copy of a datastore may take long, and a warden that never hears of its end waits for so long.
            if self.a_voter_crash_loops() || self.state_of(&schedule::k3s()) == Some(StateName::Acting) {
                limit = self.now + nanos(self.plan.recovery);
            }
            let left = self.unfinished();
            calm = if left.is_empty() { calm + 1 } else { 0 };
            if self.now > limit && !left.is_empty() {
                self.show();
                self.checker.broken("L1/L2", format_args!("after {:?}: {}", self.plan.recovery, left.join("; ")));
            }
        }
    }

    /// Whether a guardian is started again and again by PID 1: a second fault, and the last one has not healed. It ends, because
    /// every crash uses one up.
    fn a_voter_crash_loops(&self) -> bool {
        let ended = |unit: &Unit| matches!(unit.state.activity, Activity::Failed | Activity::Inactive);
        let loops = |unit: &Unit| matches!(unit.fate, Fate::CrashLoop(_)) && !ended(unit);
        self.pid1.units.values().any(|unit| matches!(unit.kind, SubjectKind::Agent(_)) && loops(unit))
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

    /// Correct vendors that may vote on a subject, and can.
    pub(super) fn voters(&self, subject: &SubjectName) -> usize {
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

    /// What the warden knows of whatever is not well, into the log.
    pub(super) fn show(&mut self) {
        let now = self.boottime();
        let Some(view) = self.warden.as_ref().map(|w| w.warden.view(now)) else { return };
        self.note(|| format!("now {now:?} frozen {:?} {:#?}", view.frozen_until, view.personas));
        for subject in view.subjects.into_iter().filter(|s| s.state != StateName::Healthy) {
            self.note(|| format!("{subject:#?}"));
        }
    }

    /// What is really wrong with a subject.
    pub fn fault_of(&self, subject: &SubjectName) -> Option<FaultClass> {
        true_fault(&self.pid1, &self.work, self.ailment, &self.wrappers, subject)
    }

    /// What was done to a subject so far, in order.
    pub fn done_to(&self, subject: &SubjectName) -> Vec<&'static str> {
        self.checker.done.iter().filter(|(name, _)| name == subject).map(|(_, action)| *action).collect()
    }

    /// Where the warden says that a subject stands.
    pub fn state_of(&self, subject: &SubjectName) -> Option<StateName> {
        let view = self.warden.as_ref()?.warden.view(self.boottime());
        view.subjects.iter().find(|status| status.subject == *subject).map(|status| status.state)
    }
}

pub(super) fn true_fault(
    pid1: &Pid1,
    work: &[Work],
    ailment: Ailment,
    wrappers: &BTreeMap<SubjectName, Wrapper>,
    subject: &SubjectName,
) -> Option<FaultClass> {
    let unit = pid1.unit(subject);
    if unit.state.main_pid.is_none() {
        return Some(FaultClass::Crash);
    }
    match (&unit.kind, unit.breath) {
        (SubjectKind::K3s, _) => ailment.breaks().then_some(FaultClass::Broken),
        (SubjectKind::Unit, _) => None,
        (_, Breath::Silent) => Some(FaultClass::Hang),
        (SubjectKind::Wrapper(persona), Breath::Well) => {
            let index = work.iter().enumerate().position(|(i, _)| schedule::persona(i) == *persona)?;
            let failing = wrappers.get(subject).is_some_and(|w| w.ticks.broken_in_a_row >= 3);
            (failing && matches!(work[index], Work::Broken { .. })).then_some(FaultClass::Broken)
        }
        _ => None,
    }
}
