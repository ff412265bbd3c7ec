//! Units and their processes: how they start, end, fall silent, wake and work, and how PID 1 acts and tells of it.

use super::events::{Event, JobStep, guardian};
use super::{World, nanos};
use crate::k3s::Ailment;
use crate::pid1::{Breath, Fate};
use crate::schedule::{self, Fault};
use crate::wrapper::{Work, Wrapper};
use std::time::Duration;
use zeta_bft::protocol::evidence::{FaultClass, LastExit};
use zeta_bft::protocol::guardian::GuardianInput;
use zeta_bft::protocol::policy::{Action, SubjectKind};
use zeta_bft::protocol::types::SubjectName;
use zeta_bft::protocol::warden::{ActionPermit, Attempt, NotDone, WardenInput};

impl World {
    pub(super) fn boot(&mut self) {
        self.booting = false;
        let subjects: Vec<_> = self.pid1.units.keys().cloned().collect();
        self.soon(100, 200_000, Event::StartWarden);
        for subject in subjects {
            let delay = self.rng.ms(1, 300);
            self.begin_start(&subject, delay, Duration::from_millis(5));
        }
    }

    pub(super) fn begin_start(&mut self, subject: &SubjectName, delay: Duration, takes: Duration) {
        let job = self.pid1.unit(subject).job;
        let takes = self.slow_start.remove(subject).unwrap_or(takes);
        if delay > Duration::ZERO {
            self.after(delay, Event::Job { subject: subject.clone(), job, step: JobStep::Start });
            return;
        }
        self.end_process(subject);
        let job = self.pid1.begin_start(&mut self.rng, subject);
        self.unit_changed(subject);
        self.after(takes, Event::Job { subject: subject.clone(), job, step: JobStep::Up });
    }

    pub(super) fn process_begins(&mut self, subject: &SubjectName, pid: u32) {
        match self.pid1.unit(subject).kind.clone() {
            SubjectKind::Wrapper(persona) => {
                let interval = self.rng.ms(300, 900);
                self.wrappers.insert(subject.clone(), Wrapper::new(pid, interval));
                let index =
                    (0..self.plan.personas).find(|i| schedule::persona(*i) == persona).expect("a known persona");
                if let Work::Broken { restarts } = self.work[index] {
                    self.work[index] = if restarts <= 1 { Work::Good } else { Work::Broken { restarts: restarts - 1 } };
                }
                self.soon(10_000, 200_000, Event::TickBegin { subject: subject.clone(), pid });
            }
            SubjectKind::Agent(persona) => {
                let index =
                    (0..self.plan.personas).find(|i| schedule::persona(*i) == persona).expect("a known persona");
                self.agent_begins(index, pid);
            }
            SubjectKind::K3s => self.ail(self.ailment.started()),
            SubjectKind::Unit => {}
        }
        let ends = *subject == schedule::k3s() && self.ailment.ends_each_run();
        let unit = self.pid1.unit_mut(subject);
        let job = unit.job;
        let fate = unit.fate;
        unit.fate = match fate {
            Fate::Well | Fate::CrashLoop(1) | Fate::Hangs(1) | Fate::CrashLoop(0) | Fate::Hangs(0) => Fate::Well,
            Fate::CrashLoop(n) => Fate::CrashLoop(n - 1),
            Fate::Hangs(n) => Fate::Hangs(n - 1),
        };
        let step = match fate {
            _ if ends => JobStep::Crash,
            Fate::Well => return,
            Fate::CrashLoop(_) => JobStep::Crash,
            Fate::Hangs(_) => JobStep::Silence,
        };
        self.soon(1_000, 400_000, Event::Job { subject: subject.clone(), job, step });
    }

    /// Something else ails k3s now, or nothing.
    pub(super) fn ail(&mut self, ailment: Ailment) {
        self.note(|| format!("k3s: {ailment:?}"));
        let now = self.now;
        let (before, after) = (self.ailment.remedy(), ailment.remedy());
        self.ailment = ailment;
        if before == after {
            return;
        }
        if let Some((_, until)) = before.and_then(|remedy| self.ailed.get_mut(&remedy)) {
            *until = now;
        }
        self.ailed.extend(after.map(|remedy| (remedy, (now, u64::MAX))));
    }

    /// Whatever runs in the unit is gone.
    pub(super) fn end_process(&mut self, subject: &SubjectName) {
        self.checked(|checker, truth| checker.observe_activity(truth));
        self.pid1.end_process(subject);
        self.wrappers.remove(subject);
        if let SubjectKind::Agent(persona) = &self.pid1.unit(subject).kind {
            let index = (0..self.plan.personas).find(|i| schedule::persona(*i) == *persona).expect("a known persona");
            self.agent_ends(index);
        }
        if let Some((_, attempt, run)) = self.acting.remove(subject) {
            self.acted(run, attempt, Err(NotDone::Failed("the job was cancelled".into())), String::new());
        }
    }

    pub(super) fn job(&mut self, subject: SubjectName, job: u64, step: JobStep) {
        if self.pid1.unit(&subject).job != job {
            return;
        }
        match step {
            JobStep::Start => self.begin_start(&subject, Duration::ZERO, Duration::from_millis(15)),
            JobStep::Up => {
                let (world, now) = (self.now, self.boottime());
                let pid = self.pid1.finish_start(&subject, world, now);
                self.unit_changed(&subject);
                self.process_begins(&subject, pid);
                if let Some((acting, attempt, run)) = self.acting.get(&subject).copied()
                    && acting == job
                {
                    self.acting.remove(&subject);
                    self.acted(run, attempt, Ok(()), String::new());
                }
            }
            JobStep::Crash => self.crash(&subject, LastExit::Code(3)),
            JobStep::Silence => self.silence(&subject, Breath::Silent),
        }
    }

    /// Somebody else restarts a unit, and its new run has the fault of the old one at once.
    pub(super) fn restart_in_vain(&mut self, subject: &SubjectName, class: FaultClass) {
        self.note(|| format!("somebody restarts {subject} in vain"));
        self.begin_start(subject, Duration::ZERO, Duration::from_micros(10));
        let (subject, fate) = (subject.clone(), self.pid1.unit(subject).fate);
        let fault = match class {
            FaultClass::Crash => Fault::Crash { subject, fate },
            FaultClass::Hang => Fault::Silence { subject, wake_after: None },
            // The work fails, whoever does it.
            _ => return,
        };
        self.after(Duration::from_micros(20), Event::Fault(fault));
    }

    pub(super) fn crash(&mut self, subject: &SubjectName, exit: LastExit) {
        if self.pid1.unit(subject).state.main_pid.is_none() {
            return;
        }
        self.end_process(subject);
        let now = self.boottime();
        // `end_process` forgets the pid, so the run is entered here.
        if let Some((job, wait)) = self.pid1.crash(subject, exit, now) {
            self.after(wait, Event::Job { subject: subject.clone(), job, step: JobStep::Start });
        }
        self.unit_changed(subject);
    }

    pub(super) fn silence(&mut self, subject: &SubjectName, breath: Breath) {
        let now = self.now;
        let unit = self.pid1.unit_mut(subject);
        if unit.state.main_pid.is_none() {
            return;
        }
        unit.breath = breath;
        unit.last_silent = Some(now);
        if breath == Breath::Starved {
            unit.starved_since = Some(now);
        }
        self.note(|| format!("{subject} is {breath:?}"));
        if subject.as_str().ends_with("/agent") {
            self.disturb(Duration::from_secs(2));
        }
    }

    pub(super) fn wake(&mut self, subject: &SubjectName) {
        let now = self.now;
        let unit = self.pid1.unit_mut(subject);
        if unit.breath == Breath::Well {
            return;
        }
        let slept = Duration::from_nanos(now - unit.last_silent.unwrap_or(now));
        if let Some(since) = unit.starved_since.take() {
            unit.waited += Duration::from_nanos(now - since);
        }
        unit.breath = Breath::Well;
        unit.last_silent = Some(now);
        let (pid, unread) = (unit.state.main_pid, unit.unread.take());
        self.note(|| format!("{subject} wakes"));
        if let (Some(pid), Some((run, nonce))) = (pid, unread) {
            let answers = self.rng.between(Duration::from_micros(100), Duration::from_millis(60));
            self.pid1.unit_mut(subject).answers_until = now + nanos(answers);
            let input = Box::new(WardenInput::ChallengeAnswered { pid, nonce });
            self.after(answers, Event::Warden { run, via: None, input });
        }
        let Some(index) = pid.and_then(|pid| self.index_of(pid)) else { return };
        self.disturb(Duration::from_secs(3));
        let Some(agent) = &mut self.agents[index] else { return };
        let backlog = std::mem::take(&mut agent.backlog);
        agent.timer.void();
        self.step_agent(index, GuardianInput::TimerLate(slept));
        self.step_agent(index, GuardianInput::Timer);
        for input in backlog {
            self.step_agent(index, input);
        }
        self.rearm_agent(index);
    }

    pub(super) fn tick(&mut self, subject: &SubjectName, pid: u32, begins: bool) {
        let (world, now) = (self.now, self.boottime());
        let silent = self.pid1.unit(subject).breath != Breath::Well;
        let Some(index) = (0..self.plan.personas).find(|i| schedule::wrapper(*i) == *subject) else {
            return;
        };
        let work = self.work[index];
        let Some(wrapper) = self.wrappers.get_mut(subject).filter(|wrapper| wrapper.pid == pid) else { return };
        let subject = subject.clone();
        if silent {
            let event = if begins { Event::TickBegin { subject, pid } } else { Event::TickEnd { subject, pid } };
            return self.soon(50_000, 150_000, event);
        }
        // Agents read the ticks with their next ping.
        if begins {
            wrapper.begin(now);
            self.soon(30_000, 250_000, Event::TickEnd { subject, pid });
        } else {
            wrapper.end(world, now, work);
            let interval = wrapper.ticks.interval;
            self.after(interval, Event::TickBegin { subject, pid });
        }
    }

    /// PID 1 tells everybody how a unit fares now.
    pub(super) fn unit_changed(&mut self, subject: &SubjectName) {
        self.checked(|checker, truth| checker.observe_activity(truth));
        let state = Some(self.pid1.unit(subject).state);
        self.note(|| format!("{subject}: {:?} pid {:?}", state.map(|s| s.activity), state.and_then(|s| s.main_pid)));
        for index in 0..self.plan.personas {
            if let Some(agent) = &self.agents[index] {
                let pid = agent.pid;
                // Signals of one bus connection keep their order.
                let input = GuardianInput::UnitChanged { subject: subject.clone(), state };
                self.after(Duration::from_micros(900 + 37 * index as u64), guardian(pid, input));
            }
        }
        if let Some(run) = self.warden.as_ref().map(|w| w.run) {
            let input = Box::new(WardenInput::UnitChanged { subject: subject.clone(), state });
            self.after(Duration::from_micros(1100), Event::Warden { run, via: None, input });
        }
    }

    /// PID 1 is told to act. It compares the run once more, and its job mode is `fail`.
    pub(super) fn act(&mut self, run: u32, permit: &ActionPermit) {
        let alive = self.warden.as_ref().is_some_and(|w| w.run == run);
        if !alive && self.rng.chance(50) {
            return;
        }
        let (attempt, subject) = (permit.attempt(), permit.subject().clone());
        let state = self.pid1.unit(&subject).state;
        let refusals = self.refuse.entry(subject.clone()).or_default();
        let refused = if state.incarnation != permit.incarnation() {
            Some("another run")
        } else if state.job_pending {
            Some("a job is queued")
        } else if *refusals > 0 {
            *refusals -= 1;
            Some("refused")
        } else {
            None
        };
        if let Some(why) = refused {
            self.checker.refused(&subject);
            return self.acted(run, attempt, Err(NotDone::Untouched(why.into())), String::new());
        }
        match permit.action() {
            Action::Restart | Action::ResetFailed | Action::MoveAside { .. } => {
                if matches!(permit.action(), Action::MoveAside { .. }) && self.ailment == Ailment::EmptyKey {
                    self.ail(Ailment::Nothing);
                }
                let takes = self.rng.ms(3, 60);
                self.begin_start(&subject, Duration::ZERO, takes);
                let job = self.pid1.unit(&subject).job;
                self.acting.insert(subject, (job, attempt, run));
            }
            Action::Stop => {
                self.end_process(&subject);
                self.pid1.stop(&subject, false);
                self.unit_changed(&subject);
                self.acted(run, attempt, Ok(()), String::new());
            }
            Action::Run { .. } | Action::CopyAside { .. } | Action::Page => {
                let input = Box::new(WardenInput::Acted { attempt, result: Ok(()), output: "it ran".into() });
                self.checker.returned(attempt);
                self.soon(1_000, 300_000, Event::Warden { run, via: None, input });
            }
        }
    }

    pub(super) fn acted(&mut self, run: u32, attempt: Attempt, result: Result<(), NotDone>, output: String) {
        self.checker.returned(attempt);
        if self.now < self.deaf_until {
            return;
        }
        let input = Box::new(WardenInput::Acted { attempt, result, output });
        self.soon(50, 3_000, Event::Warden { run, via: None, input });
    }
}
