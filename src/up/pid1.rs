//! The engine: starts units, learns of their ends at once, restarts those that are always restarted, acts on the warden's
//! word, and leaves no process of a dead unit behind.
//!
//! Rules:
//! * One reaper for every child (`waitpid(-1)` after SIGCHLD); starting and reaping hold the same lock, so no end is lost.
//! * Each start is a new run with a fresh random [`InvocationId`]; an act names the run that was voted on, and on any other
//!   it is refused (rule S3).
//! * Warden and agents are started again by themselves, after [`RESTART_WAIT`], and up to [`RESTART_WAIT_MAX`] later while
//!   they live for less than [`SHORT_LIFE`]. Wrappers start once, then only on the warden's word.
//! * This process is the subreaper: what a dead unit leaves behind becomes our child. Before a unit starts again every child
//!   that is neither a unit nor a running command, nor carries the [`tree::INVOCATION_ENV`] of a run that lives, is killed; each kill
//!   hands its own children on to us; this repeats until nothing is left.

mod ending;
mod error;

pub use error::Pid1Error;

use super::{leash, tree};
use crate::clock;
use crate::protocol::evidence::{Activity, LastExit, UnitState};
use crate::protocol::types::{BootId, Incarnation, InvocationId, SubjectName};
use crate::protocol::warden::PeerUnit;
use rustix::process::{Pid, Signal, WaitOptions, WaitStatus};
use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fmt;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;
use tokio::sync::{broadcast, oneshot, watch};

/// Wait before a unit that is always restarted starts again.
pub const RESTART_WAIT: Duration = Duration::from_millis(100);
/// Longest such wait; it doubles while the unit ends within [`SHORT_LIFE`].
pub const RESTART_WAIT_MAX: Duration = Duration::from_secs(2);
/// A unit that lived less failed at once.
pub const SHORT_LIFE: Duration = Duration::from_secs(1);
/// Time between SIGTERM and SIGKILL, and then for the kernel to finish.
pub const STOP_LIMIT: Duration = Duration::from_secs(5);
/// Longest hunt for what dead units left behind.
const SWEEP_LIMIT: Duration = Duration::from_secs(5);
/// Exit status that stands for "could not be started", as systemd has it (EXIT_EXEC).
const EXIT_EXEC: i32 = 203;

/// A unit: the warden, or a subject.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum UnitName {
    /// The warden: no subject, nobody votes on it.
    Warden,
    /// A wrapper or an agent.
    Subject(SubjectName),
}

impl fmt::Display for UnitName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Warden => f.write_str("warden"),
            Self::Subject(subject) => write!(f, "{subject}"),
        }
    }
}

/// When a unit is started again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Restart {
    /// Always, by PID 1 itself.
    Always,
    /// On the warden's word alone.
    OnWord,
}

/// What a unit runs.
#[derive(Clone, Debug)]
pub struct UnitSpec {
    /// Program.
    pub program: PathBuf,
    /// Arguments.
    pub args: Vec<OsString>,
    /// When it is started again.
    pub restart: Restart,
    /// Units are stopped in this order, lowest first.
    pub stop_order: u8,
}

/// Something changed.
#[derive(Clone, Debug)]
pub enum Change {
    /// A unit.
    Unit(UnitName, UnitState),
    /// Everything is being stopped.
    Stopping,
}

/// PID 1. Clones share everything.
#[derive(Clone)]
pub struct Pid1 {
    shared: Arc<Shared>,
}

struct Shared {
    program: PathBuf,
    boot: BootId,
    table: Mutex<Table>,
    changes: broadcast::Sender<Change>,
    reaps: watch::Sender<u64>,
}

#[derive(Default)]
struct Table {
    units: BTreeMap<UnitName, Unit>,
    /// Commands that run beside the units: `run` rungs and pages, by process.
    commands: BTreeMap<u32, RunningCommand>,
    stopping: bool,
}

struct Unit {
    spec: UnitSpec,
    state: UnitState,
    /// The wait before the next restart by PID 1 itself.
    wait: Duration,
    /// Rises with every start and every decision not to: an older timer finds another number.
    generation: u64,
    /// An act is under way.
    busy: bool,
}

/// A restart that PID 1 makes by itself, unless something else is decided first.
struct Planned {
    wait: Duration,
    generation: u64,
}

struct RunningCommand {
    invocation: InvocationId,
    ended: oneshot::Sender<WaitStatus>,
}

/// The right to change one unit, for one at a time.
pub(super) struct Claim {
    pid1: Pid1,
    pub(super) unit: UnitName,
}

impl Drop for Claim {
    fn drop(&mut self) {
        self.pid1.release(&self.unit);
    }
}

impl Pid1 {
    /// Makes this process the subreaper and begins to reap. Call within a runtime; there is one per process, because it
    /// reaps every child. `program`: the file of zeta-bft, which keeps commands on a leash ([`super::leash`]).
    ///
    /// # Errors
    /// When the kernel refuses, or does not say which boot this is.
    pub fn new(program: &Path) -> Result<Self, Pid1Error> {
        let boot = clock::boot_id().map_err(Pid1Error::kernel("the boot id cannot be read"))?;
        rustix::process::set_child_subreaper(Some(rustix::process::getpid()))
            .map_err(Pid1Error::kernel("this process cannot become the subreaper of its descendants"))?;
        let mut ends = tokio::signal::unix::signal(tokio::signal::unix::SignalKind::child())
            .map_err(Pid1Error::kernel("SIGCHLD cannot be caught"))?;
        let (changes, reaps) = (broadcast::Sender::new(1024), watch::Sender::new(0));
        let pid1 = Self {
            shared: Arc::new(Shared { program: program.to_owned(), boot, table: Mutex::default(), changes, reaps }),
        };
        let reaper = pid1.clone();
        tokio::spawn(async move {
            while ends.recv().await.is_some() {
                reaper.reap();
            }
        });
        Ok(pid1)
    }

    /// Adds a unit without starting it.
    pub fn add(&self, unit: UnitName, spec: UnitSpec) {
        let never = Incarnation { boot: self.shared.boot, invocation: InvocationId::default() };
        let state = UnitState::never_started(never);
        let unit_entry = Unit { spec, state, wait: RESTART_WAIT, generation: 0, busy: false };
        self.table().units.insert(unit, unit_entry);
    }

    /// Starts a unit for the first time.
    ///
    /// # Errors
    /// When it cannot be started, or everything is being stopped.
    pub fn start(&self, unit: &UnitName) -> Result<(), Pid1Error> {
        self.start_if(unit, None)
    }

    /// One unit's state.
    pub fn state(&self, unit: &UnitName) -> Option<UnitState> {
        self.table().units.get(unit).map(|unit| unit.state)
    }

    /// Every subject's state, and what changes from then on.
    pub fn watch(&self) -> (Vec<(SubjectName, UnitState)>, broadcast::Receiver<Change>) {
        let table = self.table();
        let subject = |(name, unit): (&UnitName, &Unit)| match name {
            UnitName::Warden => None,
            UnitName::Subject(subject) => Some((subject.clone(), unit.state)),
        };
        // Changes are announced under the same lock: none falls in between, none is told twice.
        (table.units.iter().filter_map(subject).collect(), self.shared.changes.subscribe())
    }

    /// Whether everything is being stopped.
    pub fn is_stopping(&self) -> bool {
        self.table().stopping
    }

    /// The subject that a process belongs to: its main process or what descends from it.
    pub fn unit_of(&self, pid: u32) -> Option<PeerUnit> {
        let table = self.table();
        table.units.iter().find_map(|(name, unit)| match (name, unit.state.main_pid) {
            (UnitName::Subject(subject), Some(main_pid)) if tree::descends_from(pid, main_pid) => {
                Some(PeerUnit { subject: subject.clone(), main_pid, invocation: unit.state.incarnation.invocation })
            }
            _ => None,
        })
    }

    /// Whether a process is the warden itself, as started here.
    pub fn is_the_warden(&self, pid: u32) -> bool {
        self.state(&UnitName::Warden).is_some_and(|state| state.main_pid == Some(pid))
    }

    /// Takes a unit for an act, if it still is in the run that was voted on. Until it is given back the act shows as a job,
    /// whatever it does: a warden that was restarted meanwhile must not take it for one that never began.
    pub(super) fn claim(&self, unit: UnitName, wanted: Incarnation) -> Result<Claim, Pid1Error> {
        let mut table = self.table();
        if table.stopping {
            return Err(Pid1Error::Stopping);
        }
        let entry = table.units.get_mut(&unit).ok_or_else(|| Pid1Error::NoSuchUnit(unit.to_string()))?;
        if entry.busy {
            return Err(Pid1Error::Busy(unit));
        }
        let current = entry.state.incarnation;
        if current != wanted {
            return Err(Pid1Error::OtherRun { unit, current, wanted });
        }
        entry.busy = true;
        entry.state.job_pending = true;
        self.announce(&unit, entry.state);
        Ok(Claim { pid1: self.clone(), unit })
    }

    /// Starts a unit; with a generation, only if nothing was decided about it since.
    fn start_if(&self, name: &UnitName, generation: Option<u64>) -> Result<(), Pid1Error> {
        let mut table = self.table();
        if table.stopping {
            return Err(Pid1Error::Stopping);
        }
        let unit = table.units.get_mut(name).ok_or_else(|| Pid1Error::NoSuchUnit(name.to_string()))?;
        if generation.is_some_and(|generation| generation != unit.generation) {
            return Ok(());
        }
        let invocation = fresh_invocation()?;
        let mut command = Command::new(&unit.spec.program);
        command.args(&unit.spec.args).env(tree::INVOCATION_ENV, invocation.to_string());
        let spawned = command.stdin(Stdio::null()).process_group(0).spawn();
        let restarts = if generation.is_some() { unit.state.restarts + 1 } else { 0 };
        unit.state =
            UnitState { restarts, ..UnitState::never_started(Incarnation { boot: self.shared.boot, invocation }) };
        let started = match spawned {
            Ok(child) => {
                unit.generation += 1;
                unit.state.activity = Activity::Active;
                unit.state.main_pid = Some(child.id());
                unit.state.active_since = Some(clock::now());
                unit.state.began_at = unit.state.active_since;
                tracing::info!(unit = %name, pid = child.id(), invocation = %invocation, "started");
                Ok(())
            }
            Err(source) => {
                unit.state.activity = Activity::Failed;
                unit.state.last_exit = LastExit::Code(EXIT_EXEC);
                Err(Pid1Error::Start { program: unit.spec.program.display().to_string(), source })
            }
        };
        self.announce(name, unit.state);
        started
    }

    /// Starts a command that is no unit, in a process group of its own, and on a leash: it does not outlive this process. Its end
    /// comes over the channel. `output`: where its standard output and error go.
    pub(super) fn start_command(
        &self,
        command: &Command,
        output: [Stdio; 2],
    ) -> Result<(u32, oneshot::Receiver<WaitStatus>), Pid1Error> {
        let mut table = self.table();
        if table.stopping {
            return Err(Pid1Error::Stopping);
        }
        let invocation = fresh_invocation()?;
        let program = command.get_program().to_string_lossy().into_owned();
        let (mut command, [out, err]) = (leash::on(&self.shared.program, command), output);
        command.env(tree::INVOCATION_ENV, invocation.to_string()).process_group(0);
        command.stdin(Stdio::null()).stdout(out).stderr(err);
        let pid = command.spawn().map_err(|source| Pid1Error::Start { program, source })?.id();
        let (ended, end) = oneshot::channel();
        table.commands.insert(pid, RunningCommand { invocation, ended });
        Ok((pid, end))
    }

    /// Kills a command's whole process group, and gives up what else it left: the next burial takes it.
    pub(super) fn kill_command(&self, pid: u32) {
        self.table().kill_command(pid);
    }

    /// Takes note of every child that has ended.
    fn reap(&self) {
        let mut table = self.table();
        let mut ends = 0;
        while let Ok(Some((pid, status))) = rustix::process::wait(WaitOptions::NOHANG) {
            ends += 1;
            let pid = pid.as_raw_pid().unsigned_abs();
            if let Some(command) = table.commands.remove(&pid) {
                let _ = command.ended.send(status);
            } else if let Some((name, unit)) = table.units.iter_mut().find(|(_, unit)| unit.state.main_pid == Some(pid))
            {
                self.unit_ended(name, unit, status);
            }
        }
        drop(table);
        if ends > 0 {
            self.shared.reaps.send_modify(|count| *count += ends);
        }
    }

    fn unit_ended(&self, name: &UnitName, unit: &mut Unit, status: WaitStatus) {
        let now = clock::now();
        let exit = last_exit(status);
        let lived = unit.state.active_since.map_or(Duration::ZERO, |since| now.saturating_since(since));
        tracing::info!(unit = %name, pid = unit.state.main_pid, exit = ?exit, lived_ms = lived.as_millis(), "ended");
        unit.state.main_pid = None;
        unit.state.active_since = None;
        unit.state.began_at = None;
        unit.state.last_exit = exit;
        unit.state.activity = if exit == LastExit::Code(0) { Activity::Inactive } else { Activity::Failed };
        unit.generation += 1;
        // A claim buries and starts by itself.
        if unit.busy {
            return self.announce(name, unit.state);
        }
        let planned = if unit.spec.restart == Restart::Always && !unit.state.stop_requested {
            let again = lived < SHORT_LIFE && unit.state.restarts > 0;
            let wait = if again { (unit.wait * 2).min(RESTART_WAIT_MAX) } else { RESTART_WAIT };
            Some(self.plan(name, unit, wait))
        } else {
            self.announce(name, unit.state);
            None
        };
        tokio::spawn(self.clone().after_end(name.clone(), planned));
    }

    /// Buries what an ended unit left, and starts it again if that is PID 1's to do.
    async fn after_end(self, name: UnitName, mut restart: Option<Planned>) {
        if let Err(error) = self.bury().await {
            tracing::error!(unit = %name, error = %error, "processes of a dead unit remain");
        }
        while let Some(planned) = restart {
            tokio::time::sleep(planned.wait).await;
            let started = match self.bury().await {
                Ok(()) => self.start_if(&name, Some(planned.generation)),
                Err(error) => Err(error),
            };
            let Err(error) = started else { return };
            tracing::error!(unit = %name, error = %error, "not started again");
            let mut table = self.table();
            let stopping = table.stopping;
            restart = table
                .units
                .get_mut(&name)
                .filter(|unit| !stopping && unit.generation == planned.generation)
                .map(|unit| self.plan(&name, unit, RESTART_WAIT_MAX));
        }
    }

    /// Gives a claimed unit back. One that is always restarted must not stay down because an act on it failed half-way.
    fn release(&self, name: &UnitName) {
        let mut table = self.table();
        let stopping = table.stopping;
        let Some(unit) = table.units.get_mut(name) else { return };
        unit.busy = false;
        unit.state.job_pending = false;
        let down = matches!(unit.state.activity, Activity::Failed | Activity::Inactive);
        if down && unit.spec.restart == Restart::Always && !unit.state.stop_requested && !stopping {
            let planned = self.plan(name, unit, RESTART_WAIT_MAX);
            tokio::spawn(self.clone().after_end(name.clone(), Some(planned)));
        } else {
            self.announce(name, unit.state);
        }
    }

    fn plan(&self, name: &UnitName, unit: &mut Unit, wait: Duration) -> Planned {
        unit.generation += 1;
        unit.wait = wait;
        unit.state.activity = Activity::AutoRestart { due: clock::now() + wait, wait };
        self.announce(name, unit.state);
        Planned { wait, generation: unit.generation }
    }

    fn update(&self, name: &UnitName, change: impl FnOnce(&mut Unit)) {
        let mut table = self.table();
        if let Some(unit) = table.units.get_mut(name) {
            let before = unit.state;
            change(unit);
            if unit.state != before {
                self.announce(name, unit.state);
            }
        }
    }

    /// Always under the table's lock, so that changes are told in their order.
    fn announce(&self, name: &UnitName, state: UnitState) {
        let _ = self.shared.changes.send(Change::Unit(name.clone(), state));
    }

    fn table(&self) -> MutexGuard<'_, Table> {
        self.shared.table.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }
}

impl Table {
    fn kill_command(&mut self, pid: u32) {
        if let Some(target) = kernel_pid(pid).filter(|_| self.commands.remove(&pid).is_some()) {
            let _ = rustix::process::kill_process_group(target, Signal::KILL);
            let _ = rustix::process::kill_process(target, Signal::KILL);
        }
    }
}

fn kernel_pid(pid: u32) -> Option<Pid> {
    i32::try_from(pid).ok().and_then(Pid::from_raw)
}

fn fresh_invocation() -> Result<InvocationId, Pid1Error> {
    let mut bytes = [0; 16];
    getrandom::fill(&mut bytes).map_err(|error| Pid1Error::Kernel {
        what: "no randomness for an invocation id",
        source: std::io::Error::other(error.to_string()),
    })?;
    Ok(InvocationId(bytes))
}

fn last_exit(status: WaitStatus) -> LastExit {
    match (status.exit_status(), status.terminating_signal()) {
        (Some(code), _) => LastExit::Code(code),
        (None, Some(signal)) => LastExit::Signal(signal),
        (None, None) => LastExit::None,
    }
}
