//! What is said on the socket where `zeta-bft up` plays PID 1: both ends use this file.
//!
//! One request per connection, newline-delimited JSON. The client writes one [`Request`] line; the server answers with one
//! [`Answer`] line and closes. Only [`Request::Watch`] goes on: [`Answer::Units`] with everything first, then one
//! [`Answer::Unit`] per change, for as long as the connection stands. After [`Answer::Stopping`] nothing is started any
//! more.
//!
//! Anybody who may open the socket may look. [`Request::Act`] and [`Request::Page`] are the warden's: the server takes them
//! only from the process that it started as the warden itself, as `SO_PEERCRED` tells.

use crate::protocol::evidence::{Activity, Enablement, FaultClass, LastExit, UnitState};
use crate::protocol::policy::Action;
use crate::protocol::types::{BootId, Incarnation, InvocationId, SubjectName, Timestamp};
use crate::protocol::warden::{ActionPermit, PeerUnit};
use serde::{Deserialize, Serialize};
use std::time::Duration;
use tokio::io::{AsyncBufRead, AsyncBufReadExt as _, AsyncWrite, AsyncWriteExt as _};

/// Longest line that either end reads, in bytes.
pub const LINE_MAX: usize = 256 * 1024;

/// What a client wants.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Request {
    /// Every unit, then every change.
    Watch,
    /// One unit.
    Read {
        /// Its subject's name.
        subject: String,
    },
    /// The unit that a process belongs to.
    UnitOf {
        /// The process.
        pid: u32,
    },
    /// Act on a unit: the warden's alone.
    Act(ActOrder),
    /// Call a human: the warden's alone.
    Page {
        /// From a closed set.
        cause: String,
        /// Which subject, or empty.
        subject: String,
        /// One sentence.
        text: String,
    },
}

/// What an [`ActionPermit`] allows.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ActOrder {
    /// The subject.
    pub subject: String,
    /// The boot of the run that may be acted on.
    pub boot: String,
    /// That run.
    pub invocation: String,
    /// The certified fault.
    pub class: String,
    /// What to do.
    pub action: ActionOrder,
}

/// What to do.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum ActionOrder {
    /// Start anew.
    Restart,
    /// Forget failures and start anew.
    ResetFailed,
    /// Run a command.
    Run {
        /// Program and arguments.
        argv: Vec<String>,
        /// Longest run.
        limit_ms: u64,
    },
    /// Stop.
    Stop,
    /// Move a file aside, then start anew.
    MoveAside {
        /// Which.
        path: String,
    },
    /// Copy a file aside.
    CopyAside {
        /// Which.
        path: String,
    },
    /// Nothing but the page that the warden sends anyway.
    Page,
}

/// What the server says.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Answer {
    /// Every unit.
    Units(Vec<UnitReport>),
    /// One unit.
    Unit(UnitReport),
    /// Everything is being stopped.
    Stopping,
    /// The unit of a process.
    Owner(Option<OwnerReport>),
    /// Done.
    Done {
        /// What a command printed, its end.
        output: String,
    },
    /// Not done.
    Refused {
        /// Why, for people.
        why: String,
    },
}

/// A unit's state.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct UnitReport {
    /// Its subject's name.
    pub subject: String,
    boot: String,
    invocation: String,
    activity: ActivityReport,
    main_pid: Option<u32>,
    exit: ExitReport,
    job_pending: bool,
    stop_requested: bool,
    active_since_ns: Option<u64>,
    restarts: u32,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
enum ActivityReport {
    Active,
    Activating,
    AutoRestart { due_ns: u64, wait_ms: u64 },
    Deactivating,
    Inactive,
    Failed,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
enum ExitReport {
    None,
    Code(i32),
    Signal(i32),
    StartLimit,
    Dependency,
}

/// A unit, named for one of its processes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct OwnerReport {
    subject: String,
    main_pid: u32,
    invocation: String,
}

/// A line that does not say what it should.
#[derive(Debug, thiserror::Error)]
pub enum LineError {
    /// The connection failed.
    #[error("{0}")]
    Io(#[from] std::io::Error),
    /// Too long.
    #[error("a line of more than {LINE_MAX} bytes")]
    TooLong,
    /// Not JSON, or not of this protocol.
    #[error("{0}")]
    Json(#[from] serde_json::Error),
    /// A field makes no sense.
    #[error("field `{0}` makes no sense")]
    Field(&'static str),
}

impl UnitReport {
    /// Of a unit.
    pub fn new(subject: &SubjectName, state: &UnitState) -> Self {
        Self {
            subject: subject.to_string(),
            boot: state.incarnation.boot.to_string(),
            invocation: state.incarnation.invocation.to_string(),
            activity: match state.activity {
                Activity::Active => ActivityReport::Active,
                Activity::Activating => ActivityReport::Activating,
                Activity::AutoRestart { due, wait } => ActivityReport::AutoRestart {
                    due_ns: due.as_nanos(),
                    wait_ms: u64::try_from(wait.as_millis()).unwrap_or(u64::MAX),
                },
                Activity::Deactivating => ActivityReport::Deactivating,
                Activity::Inactive => ActivityReport::Inactive,
                Activity::Failed => ActivityReport::Failed,
            },
            main_pid: state.main_pid,
            exit: match state.last_exit {
                LastExit::None => ExitReport::None,
                LastExit::Code(code) => ExitReport::Code(code),
                LastExit::Signal(signal) => ExitReport::Signal(signal),
                LastExit::StartLimit => ExitReport::StartLimit,
                LastExit::Dependency => ExitReport::Dependency,
            },
            job_pending: state.job_pending,
            stop_requested: state.stop_requested,
            active_since_ns: state.active_since.map(Timestamp::as_nanos),
            restarts: state.restarts,
        }
    }

    /// Back to what rules read.
    ///
    /// # Errors
    /// [`LineError::Field`] when a name or number has the wrong form.
    pub fn read(&self) -> Result<(SubjectName, UnitState), LineError> {
        let state = UnitState {
            incarnation: incarnation(&self.boot, &self.invocation)?,
            activity: match self.activity {
                ActivityReport::Active => Activity::Active,
                ActivityReport::Activating => Activity::Activating,
                ActivityReport::AutoRestart { due_ns, wait_ms } => {
                    Activity::AutoRestart { due: Timestamp::from_nanos(due_ns), wait: Duration::from_millis(wait_ms) }
                }
                ActivityReport::Deactivating => Activity::Deactivating,
                ActivityReport::Inactive => Activity::Inactive,
                ActivityReport::Failed => Activity::Failed,
            },
            main_pid: self.main_pid,
            last_exit: match self.exit {
                ExitReport::None => LastExit::None,
                ExitReport::Code(code) => LastExit::Code(code),
                ExitReport::Signal(signal) => LastExit::Signal(signal),
                ExitReport::StartLimit => LastExit::StartLimit,
                ExitReport::Dependency => LastExit::Dependency,
            },
            enablement: Enablement::Enabled,
            job_pending: self.job_pending,
            stop_requested: self.stop_requested,
            frozen: false,
            active_since: self.active_since_ns.map(Timestamp::from_nanos),
            // Here a start is over at once.
            began_at: self.active_since_ns.map(Timestamp::from_nanos),
            restarts: self.restarts,
        };
        Ok((subject(&self.subject)?, state))
    }
}

impl From<&PeerUnit> for OwnerReport {
    fn from(unit: &PeerUnit) -> Self {
        Self { subject: unit.subject.to_string(), main_pid: unit.main_pid, invocation: unit.invocation.to_string() }
    }
}

impl OwnerReport {
    /// Back to what rules read.
    ///
    /// # Errors
    /// [`LineError::Field`] when a name or number has the wrong form.
    pub fn read(&self) -> Result<PeerUnit, LineError> {
        let invocation = invocation(&self.invocation)?;
        Ok(PeerUnit { subject: subject(&self.subject)?, main_pid: self.main_pid, invocation })
    }
}

impl From<&ActionPermit> for ActOrder {
    fn from(permit: &ActionPermit) -> Self {
        Self {
            subject: permit.subject().to_string(),
            boot: permit.incarnation().boot.to_string(),
            invocation: permit.incarnation().invocation.to_string(),
            class: permit.class().to_string(),
            action: match permit.action() {
                Action::Restart => ActionOrder::Restart,
                Action::ResetFailed => ActionOrder::ResetFailed,
                Action::Run { argv, limit } => ActionOrder::Run {
                    argv: argv.clone(),
                    limit_ms: u64::try_from(limit.as_millis()).unwrap_or(u64::MAX),
                },
                Action::Stop => ActionOrder::Stop,
                Action::MoveAside { path } => ActionOrder::MoveAside { path: path.clone() },
                Action::CopyAside { path } => ActionOrder::CopyAside { path: path.clone() },
                Action::Page => ActionOrder::Page,
            },
        }
    }
}

impl ActOrder {
    /// The run that may be acted on.
    ///
    /// # Errors
    /// [`LineError::Field`] when it is no incarnation.
    pub fn incarnation(&self) -> Result<Incarnation, LineError> {
        incarnation(&self.boot, &self.invocation)
    }

    /// The certified fault.
    ///
    /// # Errors
    /// [`LineError::Field`] when there is no such class.
    pub fn class(&self) -> Result<FaultClass, LineError> {
        FaultClass::from_word(&self.class).ok_or(LineError::Field("class"))
    }
}

/// A subject's name, as it came over the socket.
///
/// # Errors
/// [`LineError::Field`] when it is none.
pub fn subject(name: &str) -> Result<SubjectName, LineError> {
    SubjectName::new(name).map_err(|_| LineError::Field("subject"))
}

fn incarnation(boot: &str, run: &str) -> Result<Incarnation, LineError> {
    let boot = hex(boot).and_then(|bytes| BootId::from_slice(&bytes)).ok_or(LineError::Field("boot"))?;
    Ok(Incarnation { boot, invocation: invocation(run)? })
}

fn invocation(text: &str) -> Result<InvocationId, LineError> {
    hex(text).and_then(|bytes| InvocationId::from_slice(&bytes)).ok_or(LineError::Field("invocation"))
}

fn hex(text: &str) -> Option<Vec<u8>> {
    data_encoding::HEXLOWER.decode(text.as_bytes()).ok()
}

/// Reads one line; `None` when the other end has closed.
///
/// # Errors
/// [`LineError`] when the connection fails, or the line is too long or not of this protocol.
pub async fn read_line<T, R>(reader: &mut R) -> Result<Option<T>, LineError>
where
    T: for<'de> Deserialize<'de>,
    R: AsyncBufRead + Unpin,
{
    let mut line = Vec::new();
    loop {
        let chunk = reader.fill_buf().await?;
        if chunk.is_empty() {
            return Ok(None);
        }
        let end = chunk.iter().position(|byte| *byte == b'\n');
        let taken = end.map_or(chunk.len(), |at| at + 1);
        if line.len() + taken > LINE_MAX {
            return Err(LineError::TooLong);
        }
        line.extend_from_slice(&chunk[..taken]);
        reader.consume(taken);
        if end.is_some() {
            return Ok(Some(serde_json::from_slice(&line)?));
        }
    }
}

/// Writes one line.
///
/// # Errors
/// [`LineError::Io`] when the connection fails.
pub async fn write_line<T, W>(writer: &mut W, message: &T) -> Result<(), LineError>
where
    T: Serialize,
    W: AsyncWrite + Unpin,
{
    let mut line = serde_json::to_vec(message)?;
    line.push(b'\n');
    writer.write_all(&line).await?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_unit_state_survives_the_socket() {
        let incarnation = Incarnation { boot: BootId([7; 16]), invocation: InvocationId([9; 16]) };
        let waits = Activity::AutoRestart { due: Timestamp::from_nanos(123_456_789), wait: Duration::from_millis(200) };
        for activity in [Activity::Active, Activity::Activating, waits, Activity::Failed, Activity::Inactive] {
            let state = UnitState {
                activity,
                main_pid: Some(17),
                last_exit: LastExit::Signal(9),
                active_since: Some(Timestamp::from_nanos(5)),
                began_at: Some(Timestamp::from_nanos(5)),
                restarts: 3,
                job_pending: true,
                ..UnitState::never_started(incarnation)
            };
            let subject = SubjectName::new("otto/agent").unwrap();
            let line = serde_json::to_string(&Answer::Unit(UnitReport::new(&subject, &state))).unwrap();
            let Answer::Unit(report) = serde_json::from_str(&line).unwrap() else { panic!("{line}") };
            assert_eq!(report.read().unwrap(), (subject, state));
        }
    }

    #[tokio::test]
    async fn a_line_without_an_end_is_refused_before_it_fills_the_memory() {
        let endless = vec![b'x'; LINE_MAX + 1];
        let read = read_line::<Request, _>(&mut endless.as_slice()).await;
        assert!(matches!(read, Err(LineError::TooLong)), "{read:?}");
    }
}
