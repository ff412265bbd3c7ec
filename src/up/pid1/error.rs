//! Why PID 1 did not do what was asked.

use super::{STOP_LIMIT, SWEEP_LIMIT, UnitName};
use crate::protocol::types::Incarnation;

/// PID 1 did not do what was asked.
#[derive(Debug, thiserror::Error)]
pub enum Pid1Error {
    /// No such unit.
    #[error("`{0}` is no unit of this `up`")]
    NoSuchUnit(String),
    /// Another run than the one voted on (rule S3).
    #[error("`{unit}` is in run {current}, not in {wanted}")]
    OtherRun {
        /// The unit.
        unit: UnitName,
        /// The run that runs, or ran last.
        current: Incarnation,
        /// The run that was voted on.
        wanted: Incarnation,
    },
    /// Something else is being done to it.
    #[error("`{0}` is being acted on already")]
    Busy(UnitName),
    /// Everything is being stopped.
    #[error("`up` is stopping")]
    Stopping,
    /// A process outlived SIGKILL.
    #[error("process {pid} of `{unit}` is still there {seconds} s after SIGKILL", seconds = STOP_LIMIT.as_secs())]
    WillNotDie {
        /// The unit.
        unit: UnitName,
        /// Its main process.
        pid: u32,
    },
    /// Processes of dead units outlived SIGKILL.
    #[error("{left} processes of dead units are still there after {seconds} s, one of them {example}", seconds = SWEEP_LIMIT.as_secs())]
    StraysRemain {
        /// How many.
        left: usize,
        /// One.
        example: u32,
    },
    /// A program could not be started.
    #[error("`{program}` cannot be started")]
    Start {
        /// Which.
        program: String,
        /// Why.
        source: std::io::Error,
    },
    /// The kernel refused something.
    #[error("{what}")]
    Kernel {
        /// What.
        what: &'static str,
        /// Why.
        source: std::io::Error,
    },
}

impl Pid1Error {
    pub(in crate::up) fn kernel<E: Into<std::io::Error>>(what: &'static str) -> impl FnOnce(E) -> Self {
        move |error| Self::Kernel { what, source: error.into() }
    }
}
