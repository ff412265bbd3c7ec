//! What the harness does to the node, and what the operator does in its course.

use super::events::Event;
use super::warden::Doom;
use super::{MS, World, nanos};
use crate::network::End;
use crate::pid1::Breath;
use crate::schedule::{self, Fault};
use crate::wrapper::Work;
use std::time::Duration;
use zeta_bft::protocol::evidence::LastExit;
use zeta_bft::protocol::guardian::GuardianInput;
use zeta_bft::protocol::record::OperatorOrder;
use zeta_bft::protocol::statement::StateName;
use zeta_bft::protocol::types::{BootId, SubjectName};
use zeta_bft::protocol::warden::WardenInput;

impl World {
    pub(super) fn end(index: usize) -> End {
        if index == usize::MAX { End::Warden } else { End::Agent(index) }
    }

    pub fn fault(&mut self, fault: Fault) {
        self.note(|| format!("fault: {fault:?}"));
        if self.booting {
            return;
        }
        match fault {
            Fault::Crash { subject, fate } => {
                self.pid1.unit_mut(&subject).fate = fate;
                self.crash(&subject, LastExit::Signal(9));
            }
            Fault::ExitZero(subject) => self.crash(&subject, LastExit::Code(0)),
            Fault::Silence { subject, wake_after } => {
                self.silence(&subject, Breath::Silent);
                self.wake_later(&subject, wake_after);
            }
            Fault::Starve { subject, breath, wake_after } => {
                self.silence(&subject, breath);
                self.wake_later(&subject, Some(wake_after));
            }
            Fault::Ail(ailment) => {
                self.ail(ailment);
                if ailment.ends_each_run() {
                    self.crash(&schedule::k3s(), LastExit::Code(1));
                }
            }
            Fault::BreakTicks { persona, restarts } => self.work[persona] = Work::Broken { restarts },
            Fault::Quota { persona, lasts } => {
                self.work[persona] = Work::Environment;
                self.after(lasts, Event::QuotaEnds(persona));
            }
            Fault::SlowStart { subject, takes } => {
                self.slow_start.insert(subject, takes);
            }
            Fault::RefuseActions { subject, times } => {
                self.refuse.insert(subject, times);
            }
            Fault::OperatorStop { subject, start_after } => {
                self.end_process(&subject);
                self.pid1.stop(&subject, true);
                self.unit_changed(&subject);
                self.after(start_after, Event::OperatorStarts(subject));
            }
            Fault::Mask { subject, unmask_after } => {
                self.end_process(&subject);
                self.pid1.stop(&subject, true);
                self.pid1.set_masked(&subject, true);
                self.unit_changed(&subject);
                self.after(unmask_after, Event::Unmask(subject));
            }
            Fault::Hold { subject, release_after } => {
                let until = None;
                self.soon(
                    1,
                    10,
                    Event::Order { order: OperatorOrder::Hold { subject: subject.clone(), until }, tries: 0 },
                );
                if let Some(after) = release_after {
                    self.after(after, Event::Order { order: OperatorOrder::Release { subject }, tries: 0 });
                }
            }
            Fault::CrashWarden { down } => {
                // At any time, or in the midst of a step, or where it hurts most.
                match self.rng.below(4) {
                    0 => self.doom = Some(Doom::AfterEffects(u32::try_from(self.rng.below(6)).unwrap_or(0))),
                    1 => self.doom = Some(Doom::Intent),
                    2 => self.doom = Some(Doom::Act),
                    _ => self.warden_ends(Some(down)),
                }
            }
            Fault::FreezeWarden { lasts } => {
                if let Some(process) = &mut self.warden {
                    process.frozen = true;
                    let run = process.run;
                    self.disturb(lasts + Duration::from_secs(2));
                    self.after(lasts, Event::ThawWarden { run });
                }
            }
            Fault::Partition { a, b, lasts } => {
                let (a, b) = (Self::end(a), Self::end(b));
                if a == b {
                    return;
                }
                self.disturb(lasts + Duration::from_secs(2));
                self.network.cut(a, b);
                let epoch = self.network.link(a, b).epoch;
                self.soon(300_000, 1_500_000, Event::LinkBreaks { a, b, epoch });
                self.after(lasts, Event::Mend { a, b });
            }
            Fault::Isolate { persona, warden, lasts } => {
                let peers = (0..self.plan.personas).filter(|peer| *peer != persona);
                let warden = warden.then_some(usize::MAX);
                for other in peers.chain(warden).collect::<Vec<_>>() {
                    self.fault(Fault::Partition { a: persona, b: other, lasts });
                }
            }
            Fault::Meddle(meddling) => self.meddle = Some(meddling),
            Fault::Reconnect { a, b } => {
                let (a, b) = (Self::end(a), Self::end(b));
                if a != b {
                    self.disturb(Duration::from_secs(2));
                    self.break_link(a, b);
                }
            }
            Fault::Suspend { lasts } => self.suspend(lasts),
            Fault::Reboot { down } => self.reboot(down),
            Fault::DeafPid1 { lasts } => self.deaf_until = self.now + nanos(lasts),
            Fault::FailingDisk => self.journal.fail(),
            Fault::SlowDisk { lasts } => self.slow_disk_until = self.now + nanos(lasts),
            Fault::WallJump { forward, by } => {
                let by = i64::try_from(by.as_millis()).unwrap_or(0);
                self.wall_offset += if forward { by } else { -by };
            }
        }
    }

    pub(super) fn wake_later(&mut self, subject: &SubjectName, after: Option<Duration>) {
        if let (Some(after), Some(pid)) = (after, self.pid1.unit(subject).state.main_pid) {
            self.after(after, Event::Wake { subject: subject.clone(), pid });
        }
    }

    pub(super) fn suspend(&mut self, lasts: Duration) {
        let by = nanos(lasts);
        self.now += by;
        let queue = std::mem::take(&mut self.queue);
        self.queue = queue.into_iter().map(|((at, order), event)| ((at + by, order), event)).collect();
        self.disturb(Duration::from_secs(3));
        for index in 0..self.plan.personas {
            self.step_agent(index, GuardianInput::Resumed);
        }
        self.step_warden(None, WardenInput::Resumed);
    }

    pub(super) fn reboot(&mut self, down: Duration) {
        self.warden_ends(None);
        self.checked(|checker, truth| checker.observe_activity(truth));
        for index in 0..self.plan.personas {
            self.agent_ends(index);
        }
        self.wrappers.clear();
        self.acting.clear();
        let boot = BootId(self.rng.bytes());
        self.pid1.reboot(boot);
        self.checker.rebooted();
        self.booting = true;
        self.booted_at = self.now + nanos(down) - nanos(down).min(1_000 * MS);
        self.disturb(down + Duration::from_secs(3));
        self.queue.retain(|_, event| {
            matches!(
                event,
                Event::Fault(_)
                    | Event::Heal
                    | Event::Order { .. }
                    | Event::OperatorLooks
                    | Event::OperatorStarts(_)
                    | Event::Unmask(_)
                    | Event::QuotaEnds(_)
                    | Event::Mend { .. }
            )
        });
        self.after(down, Event::Boot);
    }

    /// The warden dies, and finds its journal damaged when it is back.
    pub fn damage_journal(&mut self) {
        self.warden_ends(Some(Duration::from_millis(50)));
        self.journal.damage();
        self.run_for(Duration::from_millis(200));
    }

    pub(super) fn operator_looks(&mut self) {
        self.soon(300_000, 1_200_000, Event::OperatorLooks);
        let now = self.boottime();
        let Some(process) = &self.warden else { return };
        if process.frozen {
            return;
        }
        let view = process.warden.view(now);
        let wanted = view.subjects.iter().find(|s| s.state == StateName::AwaitingApproval).map(|s| s.episode);
        let chance = if self.healed { 60 } else { 15 };
        if let Some(episode) = wanted
            && self.rng.chance(chance)
        {
            self.soon(1_000, 50_000, Event::Order { order: OperatorOrder::Approve { episode }, tries: 0 });
        }
        let forgiven = self.checker.quarantined().next().cloned();
        if let Some(persona) = forgiven
            && !self.healed
            && self.rng.chance(10)
        {
            self.soon(1_000, 50_000, Event::Order { order: OperatorOrder::Readmit { persona }, tries: 0 });
        }
    }
}
