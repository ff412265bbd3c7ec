//! PID 1 as the rest of the program sees it: read unit states, watch them, act on one.
//!
//! Two implementations: `process` (under `zeta-bft up`, which plays PID 1 for its children) and systemd over D-Bus.

pub mod cpu;
pub mod process;
pub mod systemd;

use crate::protocol::evidence::UnitState;
use crate::protocol::types::SubjectName;
use crate::protocol::warden::{ActionPermit, PeerUnit};
use std::future::Future;

/// PID 1 could not be asked, or refused.
#[derive(Debug, thiserror::Error)]
pub enum BackendError {
    /// Not reachable: everything is UNKNOWN until it is back.
    #[error("PID 1 cannot be reached at {place}: {why}")]
    Unreachable {
        /// Socket or bus.
        place: String,
        /// What went wrong.
        why: String,
    },
    /// It refused.
    #[error("PID 1 refused: {0}")]
    Refused(String),
    /// Nothing was touched: the unit is no longer what was voted on, or PID 1 would not queue the job.
    #[error("left untouched: {0}")]
    Untouched(String),
    /// Whoever acts for the warden could not be asked: nothing was touched.
    #[error("nobody could be asked to act: {0}")]
    NotAsked(String),
    /// It answered something that makes no sense.
    #[error("PID 1 answered nonsense: {0}")]
    Nonsense(String),
}

/// A change that PID 1 reports.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum BackendEvent {
    /// The state of a unit; `None`: it cannot be seen (any more).
    Unit(SubjectName, Option<UnitState>),
    /// Whether the whole system is going down. A shutdown can be called off.
    Stopping(bool),
}

/// What an action brought.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ActReport {
    /// What a `run` rung printed, cut to the size of a receipt's detail.
    pub output: String,
}

/// PID 1.
pub trait Backend: Send + Sync + 'static {
    /// Every configured unit's state, then every change. Reconnects by itself; while PID 1 cannot be seen, every unit is
    /// reported as `None`. Ends only when the receiver is dropped.
    fn watch(&self) -> tokio::sync::mpsc::Receiver<BackendEvent>;

    /// One unit's state, read now.
    fn read(&self, subject: &SubjectName) -> impl Future<Output = Result<UnitState, BackendError>> + Send;

    /// The unit that a process belongs to, read now; `None`: none that is configured.
    fn unit_of(&self, pid: u32) -> impl Future<Output = Result<Option<PeerUnit>, BackendError>> + Send;

    /// Carries out what the permit allows, if the unit is still the run that was voted on. For a HANG the process is
    /// killed first. Returns when PID 1 has taken the new process on, not when it is well.
    fn act(&self, permit: ActionPermit) -> impl Future<Output = Result<ActReport, BackendError>> + Send;

    /// Calls a human, as configured; does not wait for the command's end.
    fn page(&self, cause: &str, subject: &str, text: &str) -> impl Future<Output = Result<(), BackendError>> + Send;
}
