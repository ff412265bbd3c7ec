//! L4 and honest classes: what is acted on has really been harmed, and the step answers that. The one judge is the world.

use super::{Checker, SECOND, Truth};
use crate::pid1::{Breath, Pid1};
use crate::schedule::Liars;
use zeta_bft::protocol::evidence::{FaultClass, Remedy};
use zeta_bft::protocol::policy::{Action, SubjectKind};
use zeta_bft::protocol::statement::StateName;
use zeta_bft::protocol::warden::{ActionPermit, WardenEffect, WardenEvent};

impl Checker {
    /// S10: nobody is called silent who could not have answered.
    pub fn silenced(&mut self, effects: &[WardenEffect], pid1: &Pid1, world: u64) {
        for effect in effects {
            let WardenEffect::Event(WardenEvent::StateChanged { subject, to: StateName::Certified, .. }) = effect
            else {
                continue;
            };
            let unit = pid1.unit(subject);
            if matches!(unit.breath, Breath::Starved | Breath::Blocked) || world < unit.answers_until {
                self.broken("S10", format_args!("calls {subject} silent, which could not answer: {:?}", unit.breath));
            }
        }
    }

    /// L4 and honest classes: what is acted on has really been harmed. Independent of who votes: CRASH; with at most f liars:
    /// the soft classes too.
    pub(super) fn harmed(&self, permit: &ActionPermit, truth: &Truth<'_>) -> Result<(), String> {
        let (subject, class) = (permit.subject(), permit.class());
        let unit = truth.pid1.unit(subject);
        let ended = truth.pid1.ended.contains(&permit.incarnation()) || unit.state.main_pid.is_none();
        if class == FaultClass::Crash && !ended {
            return Err(format!("CRASH of {subject}, whose process never ended"));
        }
        if self.liars != Liars::Everybody && unit.kind == SubjectKind::K3s {
            return ails(permit, truth);
        }
        if class == FaultClass::Crash {
            return Ok(());
        }
        if self.liars == Liars::Everybody || unit.state.incarnation != permit.incarnation() {
            return Ok(());
        }
        match class {
            // Whoever lies may keep silent, and not be there when it is asked: its own agent hangs by its own doing.
            FaultClass::Hang if matches!(&unit.kind, SubjectKind::Agent(persona) if self.is_liar(persona)) => Ok(()),
            FaultClass::Hang => {
                let recent = unit.last_silent.is_some_and(|at| truth.world.saturating_sub(at) < 3 * SECOND);
                let silent = unit.breath != Breath::Well || recent || truth.world < truth.disturbed_until;
                if silent { Ok(()) } else { Err(format!("HANG of {subject}, which answers all the time")) }
            }
            FaultClass::Broken => {
                let failed = truth
                    .wrappers
                    .get(subject)
                    .and_then(|w| w.last_failed)
                    .is_some_and(|at| truth.world.saturating_sub(at) < 20 * SECOND);
                if failed { Ok(()) } else { Err(format!("BROKEN of {subject}, no tick of which failed")) }
            }
            _ => Err(format!("acts on {subject} for {class}")),
        }
    }
}

/// What is done to a k3s answers what ails it: a file is moved, or a datastore copied, only where that was true a moment ago,
/// and nobody starts anew what runs on a damaged datastore.
fn ails(permit: &ActionPermit, truth: &Truth<'_>) -> Result<(), String> {
    let ailed = |remedy: Remedy| {
        truth.ailed.get(&remedy).is_some_and(|(_, until)| truth.world.saturating_sub(*until) < 20 * SECOND)
    };
    let ails_for_long = |remedy: Remedy| {
        truth.ailed.get(&remedy).is_some_and(|(from, until)| *until == u64::MAX && truth.world - from > 5 * SECOND)
    };
    let (subject, class) = (permit.subject(), permit.class());
    let broken = [Remedy::Restart, Remedy::MoveAside, Remedy::Human].into_iter().any(ailed);
    match permit.action() {
        Action::MoveAside { .. } if !ailed(Remedy::MoveAside) => Err(format!("no key of {subject} was empty")),
        Action::CopyAside { .. } if !ailed(Remedy::CopyAside) => Err(format!("the datastore of {subject} was well")),
        Action::Restart if ails_for_long(Remedy::CopyAside) => {
            Err(format!("starts {subject} on a damaged datastore, for {class}"))
        }
        _ if class == FaultClass::Broken && !broken => Err(format!("BROKEN of {subject}, no probe of which failed")),
        _ if class == FaultClass::Hang => Err(format!("HANG of {subject}, which nobody pings")),
        _ => Ok(()),
    }
}
