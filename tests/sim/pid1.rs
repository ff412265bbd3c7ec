//! The virtual PID 1: units, their runs, its own restarts, the operator's hand on them, and what the warden makes it do.
//!
//! Only the state lives here; the world schedules what follows (a start takes time, a crash loop crashes again).

use crate::rng::Rng;
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;
use zeta_bft::protocol::cpu::{CpuReading, Standing};
use zeta_bft::protocol::evidence::{Activity, Enablement, LastExit, UnitState};
use zeta_bft::protocol::policy::SubjectKind;
use zeta_bft::protocol::types::{BootId, Incarnation, InvocationId, Nonce, SubjectName, Timestamp};

/// How the living process of a unit fares.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Breath {
    Well,
    /// Stopped by a signal, or stuck: alive, and silent.
    Silent,
    /// Ready to run, but gets no CPU: silent too. As with the kernel, its wait is told once it is over.
    Starved,
    /// It waits for the disk inside the kernel: silent too.
    Blocked,
}

/// What the next starts of a unit bring.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate {
    Well,
    /// The next so many runs crash soon after their start.
    CrashLoop(u32),
    /// The next so many runs fall silent soon after their start.
    Hangs(u32),
}

/// What PID 1 does when a unit ends by itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OnExit {
    Fail,
    Restart { wait: Duration },
}

/// One unit.
#[derive(Clone, Debug)]
pub struct Unit {
    pub kind: SubjectKind,
    pub state: UnitState,
    pub breath: Breath,
    pub fate: Fate,
    pub on_exit: OnExit,
    /// Rises with every job, start and crash: what was scheduled for an older one is void.
    pub job: u64,
    /// Since when it is active, on the world's clock.
    pub active_from: Option<u64>,
    /// When it was last silent or starved, and how, on the world's clock.
    pub last_silent: Option<u64>,
    pub starved_since: Option<u64>,
    /// Waits for a CPU that are over.
    pub waited: Duration,
    /// A challenge that lies unread: by which run of the warden, and its number.
    pub unread: Option<(u32, Nonce)>,
    /// Until when it runs to answer what it found unread, on the world's clock.
    pub answers_until: u64,
}

impl Unit {
    /// What its scheduler says of it.
    pub fn cpu(&self, world: u64) -> CpuReading {
        let standing = match self.breath {
            Breath::Well if world < self.answers_until => Standing::Runnable,
            Breath::Well | Breath::Silent => Standing::Still,
            Breath::Starved => Standing::Runnable,
            Breath::Blocked => Standing::Blocked,
        };
        CpuReading { standing, ran: Duration::ZERO, waited: self.waited }
    }
}

/// All units.
pub struct Pid1 {
    pub boot: BootId,
    pub units: BTreeMap<SubjectName, Unit>,
    /// Runs that have ended: none of them ever lives again.
    pub ended: BTreeSet<Incarnation>,
    next_pid: u32,
}

impl Pid1 {
    pub fn new(boot: BootId) -> Self {
        Self { boot, units: BTreeMap::new(), ended: BTreeSet::new(), next_pid: 100 }
    }

    pub fn add(&mut self, subject: SubjectName, kind: SubjectKind, on_exit: OnExit) {
        let state = UnitState::never_started(Incarnation { boot: self.boot, invocation: InvocationId::default() });
        let unit = Unit {
            kind,
            state,
            breath: Breath::Well,
            fate: Fate::Well,
            on_exit,
            job: 0,
            active_from: None,
            last_silent: None,
            starved_since: None,
            waited: Duration::ZERO,
            unread: None,
            answers_until: 0,
        };
        self.units.insert(subject, unit);
    }

    pub fn unit(&self, subject: &SubjectName) -> &Unit {
        &self.units[subject]
    }

    pub fn unit_mut(&mut self, subject: &SubjectName) -> &mut Unit {
        self.units.get_mut(subject).expect("the schedule names units that exist")
    }

    pub fn subject_of(&self, pid: u32) -> Option<&SubjectName> {
        self.units.iter().find(|(_, unit)| unit.state.main_pid == Some(pid)).map(|(subject, _)| subject)
    }

    /// The process ends.
    pub fn end_process(&mut self, subject: &SubjectName) {
        let unit = self.units.get_mut(subject).expect("the schedule names units that exist");
        unit.job += 1;
        if unit.state.main_pid.take().is_some() {
            self.ended.insert(unit.state.incarnation);
        }
        unit.state.active_since = None;
        unit.active_from = None;
        unit.breath = Breath::Well;
        unit.starved_since = None;
        unit.last_silent = None;
        unit.waited = Duration::ZERO;
        unit.unread = None;
        unit.answers_until = 0;
    }

    /// A job begins to start it: a new run, no process yet. Returns the job's number.
    pub fn begin_start(&mut self, rng: &mut Rng, subject: &SubjectName) -> u64 {
        self.end_process(subject);
        let boot = self.boot;
        let unit = self.unit_mut(subject);
        unit.state.incarnation = Incarnation { boot, invocation: InvocationId(rng.bytes()) };
        unit.state.activity = Activity::Activating;
        unit.state.job_pending = true;
        unit.state.stop_requested = false;
        unit.job
    }

    /// The new process runs. Returns its pid.
    pub fn finish_start(&mut self, subject: &SubjectName, world: u64, now: Timestamp) -> u32 {
        self.next_pid += 1;
        let pid = self.next_pid;
        let unit = self.unit_mut(subject);
        unit.state.activity = Activity::Active;
        unit.state.main_pid = Some(pid);
        unit.state.job_pending = false;
        unit.state.active_since = Some(now);
        unit.state.last_exit = LastExit::None;
        unit.active_from = Some(world);
        pid
    }

    /// It ends by itself, or is killed. Returns the job's number if PID 1 will start it again.
    pub fn crash(&mut self, subject: &SubjectName, exit: LastExit, now: Timestamp) -> Option<(u64, Duration)> {
        self.end_process(subject);
        let unit = self.unit_mut(subject);
        unit.state.last_exit = exit;
        unit.state.job_pending = false;
        match unit.on_exit {
            OnExit::Restart { wait } => {
                unit.state.activity = Activity::AutoRestart { due: now + wait, wait };
                unit.state.restarts += 1;
                Some((unit.job, wait))
            }
            OnExit::Fail => {
                unit.state.activity = if exit == LastExit::Code(0) { Activity::Inactive } else { Activity::Failed };
                None
            }
        }
    }

    /// The operator stops it.
    pub fn stop(&mut self, subject: &SubjectName, requested: bool) {
        self.end_process(subject);
        let unit = self.unit_mut(subject);
        unit.state.activity = Activity::Inactive;
        unit.state.last_exit = LastExit::Code(0);
        unit.state.stop_requested = requested;
        unit.state.job_pending = false;
    }

    pub fn set_masked(&mut self, subject: &SubjectName, masked: bool) {
        self.unit_mut(subject).state.enablement = if masked { Enablement::Masked } else { Enablement::Enabled };
    }

    /// After a reboot nothing runs, and every number of the old boot is worth nothing.
    pub fn reboot(&mut self, boot: BootId) {
        let subjects: Vec<_> = self.units.keys().cloned().collect();
        for subject in subjects {
            self.end_process(&subject);
            let unit = self.unit_mut(&subject);
            let enablement = unit.state.enablement;
            unit.state = UnitState {
                enablement,
                ..UnitState::never_started(Incarnation { boot, invocation: InvocationId::default() })
            };
        }
        self.boot = boot;
    }
}
