//! What systemd says of one unit, and what it means: properties in, [`UnitState`] out. Pure.
//!
//! Rules implemented here:
//! * The run is `InvocationID` on this boot, by PID 1's word; a unit that never ran has none.
//! * Somebody asked for the stop when the unit left `active` *before* its main process ended: after a crash it is the other
//!   way round, however it ended. systemd itself does so when its watchdog or the kernel's OOM killer struck: no stop.
//!   Both times are kept by PID 1, so a warden that was not there reads the same.
//! * A stop that ran into its time limit has the result `timeout` and leaves the unit failed: it is a stop all the same.
//! * A unit that is inactive with a bad result was stopped while it waited for its auto-restart.
//! * What happens inside a job is no end: a restart, systemd's own too, passes through `inactive` and `failed`.
//! * A unit with `Restart=` may be seen `failed` for a moment before it waits for its auto-restart: only after
//!   [`SETTLES`] is that believed. Later systemds name the moment (`failed-before-auto-restart`).
//! * An end that systemd calls a success (exit 0, SIGTERM, whatever `SuccessExitStatus=` says) is read as exit 0.

use crate::protocol::evidence::{Activity, Enablement, LastExit, UnitState};
use crate::protocol::types::{BootId, Incarnation, InvocationId, Timestamp};
use std::time::Duration;
use zbus::Variant;

/// `ExecMainCode` when the main process exited (`CLD_EXITED` of `waitid(2)`).
const CLD_EXITED: i32 = 1;

/// How long a unit that systemd may yet restart must have been down, before it is believed to stay so.
pub(super) const SETTLES: Duration = Duration::from_millis(50);

/// Properties of one unit, as last read or signalled.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Facts {
    load_state: String,
    active_state: String,
    sub_state: String,
    unit_file_state: String,
    freezer_state: String,
    invocation: Vec<u8>,
    job: u32,
    condition_result: bool,
    condition_at: u64,
    state_changed_at: u64,
    inactive_exit_at: u64,
    active_enter_at: u64,
    active_exit_at: u64,
    main_pid: u32,
    result: String,
    main_code: i32,
    main_status: i32,
    main_exit_at: u64,
    restarts: u32,
    restart: String,
    restart_sec: Option<u64>,
    restart_sec_next: Option<u64>,
}

/// What PID 1 says of a unit when it is asked in passing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Glance {
    pub(super) invocation: InvocationId,
    pub(super) active_state: String,
    pub(super) sub_state: String,
    /// Its job's number; 0: none.
    pub(super) job: u32,
    /// `running`, `frozen`, or on the way; empty where systemd has no freezer.
    pub(super) freezer_state: String,
}

/// The two clocks of a node at one moment: systemd stamps with the monotonic one.
#[derive(Clone, Copy, Debug)]
pub(super) struct Clocks {
    /// `CLOCK_BOOTTIME`.
    pub(super) boot: Timestamp,
    /// `CLOCK_MONOTONIC`.
    pub(super) monotonic: Timestamp,
}

impl Clocks {
    /// A moment that systemd names, in microseconds of the monotonic clock, on the clock of the boot. Suspends between that
    /// moment and now make it later than it was.
    fn boot_time(self, micros: u64) -> Timestamp {
        let suspended = self.boot.saturating_since(self.monotonic);
        Timestamp::from_nanos(micros.saturating_mul(1000)) + suspended
    }
}

/// What an observer remembers of a unit beyond its properties.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Memory {
    /// The run on which a stop was seen to be carried out, though nothing of it is left in the properties.
    pub(super) stopped: Option<InvocationId>,
    /// The run after which a start was refused for a dependency.
    pub(super) dependency: Option<InvocationId>,
    /// A rung of its ladder runs.
    pub(super) rung_runs: bool,
}

impl Facts {
    /// Takes one property in. What is not known here, or is of another type than it should be, changes nothing.
    pub(super) fn set(&mut self, name: &str, value: &Variant<'_>) {
        let value = match value {
            Variant::Variant(inner) => inner,
            value => value,
        };
        match name {
            "LoadState" => text(&mut self.load_state, value),
            "ActiveState" => text(&mut self.active_state, value),
            "SubState" => text(&mut self.sub_state, value),
            "UnitFileState" => text(&mut self.unit_file_state, value),
            "FreezerState" => text(&mut self.freezer_state, value),
            "Result" => text(&mut self.result, value),
            "Restart" => text(&mut self.restart, value),
            "InvocationID" => {
                if let Variant::Array(bytes) = value {
                    self.invocation = bytes
                        .iter()
                        .filter_map(|byte| if let Variant::U8(byte) = byte { Some(*byte) } else { None })
                        .collect();
                }
            }
            "Job" => {
                if let Variant::Structure(job) = value
                    && let Some(Variant::U32(id)) = job.fields().first()
                {
                    self.job = *id;
                }
            }
            "ConditionResult" => {
                if let Variant::Bool(met) = value {
                    self.condition_result = *met;
                }
            }
            "ConditionTimestampMonotonic" => number(&mut self.condition_at, value),
            "StateChangeTimestampMonotonic" => number(&mut self.state_changed_at, value),
            "InactiveExitTimestampMonotonic" => number(&mut self.inactive_exit_at, value),
            "ActiveEnterTimestampMonotonic" => number(&mut self.active_enter_at, value),
            "ActiveExitTimestampMonotonic" => number(&mut self.active_exit_at, value),
            "ExecMainExitTimestampMonotonic" => number(&mut self.main_exit_at, value),
            "RestartUSec" => self.restart_sec = some_number(value).or(self.restart_sec),
            "RestartUSecNext" => self.restart_sec_next = some_number(value).or(self.restart_sec_next),
            "MainPID" => small(&mut self.main_pid, value),
            "NRestarts" => small(&mut self.restarts, value),
            "ExecMainCode" => signed(&mut self.main_code, value),
            "ExecMainStatus" => signed(&mut self.main_status, value),
            _ => {}
        }
    }

    /// The run; all zero when there was none on this boot.
    pub(super) fn invocation(&self) -> InvocationId {
        InvocationId::from_slice(&self.invocation).unwrap_or_default()
    }

    /// Whether PID 1 says the same in passing: then no signal is missing.
    pub(super) fn agrees(&self, glance: &Glance) -> bool {
        (self.invocation(), &self.active_state, &self.sub_state, self.job, &self.freezer_state)
            == (glance.invocation, &glance.active_state, &glance.sub_state, glance.job, &glance.freezer_state)
    }

    /// Whether it has a running main process or could have one soon.
    pub(super) fn is_down(&self) -> bool {
        matches!(self.active_state.as_str(), "inactive" | "failed")
    }

    /// For how long it is not to be told yet whether it stays down.
    pub(super) fn settles_in(&self, clocks: Clocks) -> Option<Duration> {
        let may_restart = !matches!(self.restart.as_str(), "" | "no");
        let down_for =
            clocks.monotonic.saturating_since(Timestamp::from_nanos(self.state_changed_at.saturating_mul(1000)));
        let left = SETTLES.saturating_sub(down_for);
        (self.is_down() && self.state_changed_at != 0 && may_restart && !left.is_zero()).then_some(left)
    }

    /// Whether it runs or is being started: what is asked of the unit of a rung.
    pub(super) fn is_busy(&self) -> bool {
        matches!(self.active_state.as_str(), "active" | "activating" | "reloading" | "deactivating")
    }

    /// Whether the operator froze it, or is about to.
    pub(super) fn is_frozen(&self) -> bool {
        !matches!(self.freezer_state.as_str(), "" | "running")
    }

    /// Everything that rules need. `None` when systemd has said nothing that makes sense.
    pub(super) fn state(&self, memory: Memory, boot: BootId, clocks: Clocks) -> Option<UnitState> {
        let invocation = self.invocation();
        let mut activity = self.activity(clocks)?;
        if self.settles_in(clocks).is_some() {
            activity = Activity::Deactivating;
        }
        let remembered = |run: Option<InvocationId>| run == Some(invocation) && self.is_down();
        // Somebody stopped it, and wanted it back since.
        let refused = remembered(memory.dependency);
        Some(UnitState {
            incarnation: Incarnation { boot, invocation },
            activity,
            main_pid: Some(self.main_pid).filter(|pid| *pid != 0),
            last_exit: if refused { LastExit::Dependency } else { self.last_exit() },
            enablement: self.enablement(),
            job_pending: self.job != 0 || memory.rung_runs,
            stop_requested: self.job == 0 && !refused && (remembered(memory.stopped) || self.was_stopped()),
            frozen: self.is_frozen(),
            active_since: (activity == Activity::Active && self.active_enter_at != 0)
                .then(|| clocks.boot_time(self.active_enter_at)),
            began_at: (matches!(activity, Activity::Active | Activity::Activating) && self.inactive_exit_at != 0)
                .then(|| clocks.boot_time(self.inactive_exit_at)),
            restarts: self.restarts,
        })
    }

    fn activity(&self, clocks: Clocks) -> Option<Activity> {
        Some(match (self.active_state.as_str(), self.sub_state.as_str()) {
            ("active" | "reloading" | "refreshing", _) => Activity::Active,
            ("activating", "auto-restart") => {
                let wait = self.restart_sec_next.filter(|wait| *wait != 0).or(self.restart_sec)?;
                Activity::AutoRestart {
                    due: clocks.boot_time(self.state_changed_at.saturating_add(wait)),
                    wait: Duration::from_micros(wait),
                }
            }
            (_, "failed-before-auto-restart" | "dead-before-auto-restart") => Activity::Deactivating,
            ("activating", _) => Activity::Activating,
            // A clean-up or a state that a later systemd may have: not to be told from being stopped.
            ("deactivating" | "maintenance", _) => Activity::Deactivating,
            ("inactive", _) => Activity::Inactive,
            ("failed", _) => Activity::Failed,
            _ => return None,
        })
    }

    fn last_exit(&self) -> LastExit {
        match self.result.as_str() {
            "start-limit-hit" => LastExit::StartLimit,
            // Its own conditions refused it.
            "exec-condition" => LastExit::Dependency,
            _ if self.is_down() && self.condition_at != 0 && !self.condition_result => LastExit::Dependency,
            "success" if self.main_code == 0 => LastExit::None,
            "success" => LastExit::Code(0),
            _ if self.main_code == CLD_EXITED => LastExit::Code(self.main_status),
            _ if self.main_code != 0 => LastExit::Signal(self.main_status),
            // It failed before there was a process: no memory, no user, no program.
            _ => LastExit::Code(1),
        }
    }

    fn enablement(&self) -> Enablement {
        match (self.load_state.as_str(), self.unit_file_state.as_str()) {
            ("masked", _) | (_, "masked" | "masked-runtime") => Enablement::Masked,
            ("loaded", "disabled") => Enablement::Disabled,
            ("loaded", _) => Enablement::Enabled,
            // Not found, or its text makes no sense to systemd: there is nothing that could be started.
            _ => Enablement::NotFound,
        }
    }

    fn was_stopped(&self) -> bool {
        let bad = !matches!(self.result.as_str(), "" | "success");
        if self.active_state == "inactive" && bad && self.result != "exec-condition" {
            return true;
        }
        let by_systemd = matches!(self.result.as_str(), "watchdog" | "oom-kill");
        let was_active = self.active_exit_at > self.inactive_exit_at;
        let ended = self.main_exit_at > self.inactive_exit_at;
        self.is_down() && !by_systemd && was_active && ended && self.active_exit_at < self.main_exit_at
    }
}

fn text(place: &mut String, value: &Variant<'_>) {
    if let Variant::Str(text) = value {
        text.as_str().clone_into(place);
    }
}

fn some_number(value: &Variant<'_>) -> Option<u64> {
    if let Variant::U64(number) = value { Some(*number) } else { None }
}

fn number(place: &mut u64, value: &Variant<'_>) {
    if let Variant::U64(number) = value {
        *place = *number;
    }
}

fn small(place: &mut u32, value: &Variant<'_>) {
    if let Variant::U32(number) = value {
        *place = *number;
    }
}

fn signed(place: &mut i32, value: &Variant<'_>) {
    if let Variant::I32(number) = value {
        *place = *number;
    }
}

#[cfg(test)]
mod tests;
