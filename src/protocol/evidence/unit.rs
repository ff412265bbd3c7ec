//! Hard evidence: what PID 1 says of a unit, and what that means.
//!
//! Rules implemented here:
//! * Hard evidence comes from PID 1 alone: [`classify_unit`] is the one function that reads it, and guardian and warden
//!   both call it, so "the warden reads the same from PID 1" is literally the same code.
//! * A restart that PID 1 itself will make soon is PID 1's: a unit that waits for it is a fault only when the wait is long
//!   and enough of it is left.

use super::Reason;
use crate::protocol::types::{Incarnation, Timestamp};
use std::time::Duration;

/// What a unit is doing, as PID 1 reports it (systemd's `ActiveState` and `SubState`, reduced to what rules need).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Activity {
    /// Its main process runs.
    Active,
    /// Being started.
    Activating,
    /// Waits for PID 1's own `Restart=`.
    AutoRestart {
        /// When PID 1 will start it.
        due: Timestamp,
        /// How long the whole wait is (`RestartSec=`).
        wait: Duration,
    },
    /// Being stopped.
    Deactivating,
    /// Not running, last run ended well.
    Inactive,
    /// Not running, last run failed, and PID 1 will do nothing about it.
    Failed,
}

/// How the last run of a unit ended (systemd's `Result`, `ExecMainCode`, `ExecMainStatus`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum LastExit {
    /// It has not ended, or never ran.
    None,
    /// Exit status.
    Code(i32),
    /// Killed by a signal.
    Signal(i32),
    /// PID 1 refused to start it again.
    StartLimit,
    /// A dependency or condition refused.
    Dependency,
}

/// Whether the unit is meant to run (systemd's `LoadState` and `UnitFileState`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Enablement {
    /// Enabled, static, or started on demand.
    Enabled,
    /// The operator disabled it.
    Disabled,
    /// The operator masked it.
    Masked,
    /// Its file is gone.
    NotFound,
}

/// Everything a rule may know of a unit, read from PID 1 and never from the service.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct UnitState {
    /// Which run.
    pub incarnation: Incarnation,
    /// What it does.
    pub activity: Activity,
    /// Its main process, while there is one.
    pub main_pid: Option<u32>,
    /// How its last run ended.
    pub last_exit: LastExit,
    /// Whether it is meant to run.
    pub enablement: Enablement,
    /// A job is queued or running for it.
    pub job_pending: bool,
    /// Somebody asked PID 1 to stop it.
    pub stop_requested: bool,
    /// Held in the cgroup freezer by the operator.
    pub frozen: bool,
    /// Since when it has been active without a break, if it is.
    pub active_since: Option<Timestamp>,
    /// When PID 1 began to start it, if it runs or starts.
    pub began_at: Option<Timestamp>,
    /// How often PID 1 restarted it by itself.
    pub restarts: u32,
}

impl UnitState {
    /// The state of a unit that has never run.
    pub fn never_started(incarnation: Incarnation) -> Self {
        Self {
            incarnation,
            activity: Activity::Inactive,
            main_pid: None,
            last_exit: LastExit::None,
            enablement: Enablement::Enabled,
            job_pending: false,
            stop_requested: false,
            frozen: false,
            active_since: None,
            began_at: None,
            restarts: 0,
        }
    }

    /// Whether its main process runs.
    pub fn is_running(&self) -> bool {
        self.activity == Activity::Active
    }
}

/// What PID 1's word alone says of a subject.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum UnitReading {
    /// It runs: whether it answers and works is for soft evidence to tell.
    Running,
    /// Down, by hard evidence.
    Crashed(Reason),
    /// The operator wants it so.
    Operator(Reason),
    /// Between states, or not to be told: abstain.
    Unknown(Reason),
}

/// How exit 0 of a subject is to be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ExitZero {
    /// A clean stop: somebody wanted it.
    Operator,
    /// This service never ends by itself: exit 0 is a fault.
    Fault,
}

/// A wait for PID 1's own restart up to this long belongs to PID 1.
pub const AUTO_RESTART_SHORT: Duration = Duration::from_secs(1);
/// With less than this left of a long wait, PID 1 is let go first.
pub const AUTO_RESTART_LEFT: Duration = Duration::from_millis(500);

/// Reads hard evidence. The one place where PID 1's word is turned into a verdict.
///
/// `now` decides only whether a long auto-restart still has enough time left to be worth a repair.
pub fn classify_unit(state: &UnitState, exit_zero: ExitZero, now: Timestamp) -> UnitReading {
    use UnitReading::{Crashed, Operator, Running, Unknown};
    match state.enablement {
        Enablement::Masked => return Operator(Reason::Masked),
        Enablement::NotFound => return Operator(Reason::NotFound),
        // Running or not: who disables a unit wants nobody to bring it back, so nobody may end it either.
        Enablement::Disabled => return Operator(Reason::Disabled),
        Enablement::Enabled => {}
    }
    if state.frozen {
        return Operator(Reason::FrozenUnit);
    }
    if state.stop_requested {
        return Operator(Reason::Stopped);
    }
    if state.job_pending && !state.is_running() {
        return Unknown(Reason::JobPending);
    }
    let ended = match state.last_exit {
        LastExit::Signal(_) => Reason::Killed,
        LastExit::StartLimit => Reason::StartLimit,
        LastExit::None | LastExit::Code(_) | LastExit::Dependency => Reason::Exited,
    };
    match state.activity {
        Activity::Active => Running,
        Activity::Activating => Unknown(Reason::Starting),
        Activity::Deactivating => Unknown(Reason::Stopping),
        Activity::AutoRestart { due, wait }
            if wait <= AUTO_RESTART_SHORT || due.saturating_since(now) < AUTO_RESTART_LEFT =>
        {
            Unknown(Reason::AutoRestart)
        }
        Activity::AutoRestart { .. } => Crashed(Reason::AutoRestart),
        Activity::Failed if state.last_exit == LastExit::Dependency => Operator(Reason::Dependency),
        Activity::Failed => Crashed(ended),
        Activity::Inactive => match (state.last_exit, exit_zero) {
            // What never ran has not failed, whatever its exit would mean.
            (LastExit::None, _) | (LastExit::Code(0), ExitZero::Operator) => Operator(Reason::Stopped),
            (LastExit::Dependency, _) => Operator(Reason::Dependency),
            _ => Crashed(ended),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn failed() -> UnitState {
        UnitState {
            activity: Activity::Failed,
            last_exit: LastExit::Signal(9),
            ..UnitState::never_started(Incarnation::default())
        }
    }

    #[test]
    fn a_failed_unit_is_crashed_and_a_stopped_one_is_the_operators() {
        let now = Timestamp::from_nanos(1);
        assert_eq!(classify_unit(&failed(), ExitZero::Operator, now), UnitReading::Crashed(Reason::Killed));
        let stopped = UnitState { stop_requested: true, ..failed() };
        assert_eq!(classify_unit(&stopped, ExitZero::Operator, now), UnitReading::Operator(Reason::Stopped));
        let masked = UnitState { enablement: Enablement::Masked, ..failed() };
        assert_eq!(classify_unit(&masked, ExitZero::Fault, now), UnitReading::Operator(Reason::Masked));
    }

    #[test]
    fn exit_zero_is_the_operators_unless_the_configuration_calls_it_a_fault() {
        let now = Timestamp::from_nanos(1);
        let clean = UnitState { activity: Activity::Inactive, last_exit: LastExit::Code(0), ..failed() };
        assert_eq!(classify_unit(&clean, ExitZero::Operator, now), UnitReading::Operator(Reason::Stopped));
        assert_eq!(classify_unit(&clean, ExitZero::Fault, now), UnitReading::Crashed(Reason::Exited));
        let never = UnitState::never_started(Incarnation::default());
        assert_eq!(classify_unit(&never, ExitZero::Fault, now), UnitReading::Operator(Reason::Stopped));
    }

    #[test]
    fn a_restart_that_pid_1_is_about_to_make_is_left_to_pid_1() {
        let now = Timestamp::from_nanos(10_000_000_000);
        let read = |left, wait| {
            let state = UnitState { activity: Activity::AutoRestart { due: now + left, wait }, ..failed() };
            classify_unit(&state, ExitZero::Operator, now)
        };
        let (short, long) = (Duration::from_millis(800), Duration::from_secs(30));
        assert_eq!(read(short, short), UnitReading::Unknown(Reason::AutoRestart));
        assert_eq!(read(Duration::from_millis(400), long), UnitReading::Unknown(Reason::AutoRestart));
        assert_eq!(read(Duration::from_secs(20), long), UnitReading::Crashed(Reason::AutoRestart));
    }
}
