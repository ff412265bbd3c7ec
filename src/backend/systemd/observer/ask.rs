//! What is asked of the task that follows the bus, and its answers: how a unit is, a job for it, how a job ended.
//!
//! A look is a glance ([`bus::glance`]): what it says of run, state and job shows that no signal is missing. Where it
//! contradicts them, all is read anew.
//!
//! Until a job is sent, nothing was begun: what is lost before, a slow PID 1 or the bus itself, leaves the unit untouched.

use super::super::bus;
use super::super::proxy::FAIL;
use super::super::watched::Watched;
use super::{Lost, Observer};
use crate::backend::{BackendError, BackendEvent};
use crate::clock;
use crate::protocol::evidence::UnitState;
use crate::protocol::types::{Incarnation, SubjectName, Timestamp};
use tokio::sync::oneshot;

/// How often a reading is made anew that a change overtook; then what was signalled counts.
const READINGS: usize = 5;

/// A question to the task that follows the bus.
#[derive(Debug)]
pub(in super::super) enum Ask {
    /// Read a unit now.
    Read(SubjectName, oneshot::Sender<Result<UnitState, BackendError>>),
    /// Read a unit, and queue a job for it at once if it is still what was voted on.
    Order(Order, oneshot::Sender<Result<String, BackendError>>),
    /// How a job ended, once it has.
    Job(String, oneshot::Sender<String>),
}

/// Whether a state allows a job.
pub(in super::super) type Check = Box<dyn Fn(&UnitState) -> Result<(), BackendError> + Send>;

/// A job for one unit.
pub(in super::super) struct Order {
    pub(in super::super) subject: SubjectName,
    /// The run that it is for.
    pub(in super::super) run: Incarnation,
    /// Whether the state, read right before, allows it.
    pub(in super::super) check: Check,
    pub(in super::super) job: Job,
}

impl std::fmt::Debug for Order {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:?} of {}", self.job, self.subject)
    }
}

/// An order whose last look allowed it.
struct Allowed {
    /// The unit's object.
    path: String,
    unit: String,
    run: Incarnation,
    job: Job,
    /// When the look began.
    began: Timestamp,
}

/// What is to be done with a unit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in super::super) enum Job {
    Restart,
    /// Forgets systemd's own start limit first.
    ResetAndRestart,
    Stop,
}

impl Observer {
    pub(super) async fn answer(&mut self, ask: Ask) -> Result<(), Lost> {
        match ask {
            Ask::Read(subject, answer) => {
                let looked = self.look(&subject).await?;
                let _ = answer.send(looked.map(|(_, state)| state));
            }
            Ask::Order(order, answer) => match self.last_look(order).await {
                Ok(Ok(allowed)) => {
                    let ordered = self.order(allowed).await?;
                    let _ = answer.send(ordered);
                }
                Ok(Err(refused)) => drop(answer.send(Err(refused))),
                Err(lost) => {
                    let _ = answer.send(Err(unlooked(&lost)));
                    return Err(lost);
                }
            },
            Ask::Job(path, answer) => match self.ended_jobs.iter().find(|(job, _)| *job == path) {
                Some((_, result)) => drop(answer.send(result.clone())),
                None => {
                    self.waiting.retain(|(_, caller)| !caller.is_closed());
                    self.waiting.push((path, answer));
                }
            },
        }
        Ok(())
    }

    /// Asks PID 1 whether the system goes down, if a signal said that it may.
    pub(super) async fn ask_whether_stopping(&mut self) -> Result<(), Lost> {
        while std::mem::take(&mut self.ask_whether_stopping) {
            let manager = self.manager.clone();
            self.stopping = self.attend(manager.system_state()).await?? == "stopping";
            self.news.push(BackendEvent::Stopping(self.stopping));
        }
        Ok(())
    }

    /// How a unit is now, with its object; an error while that cannot be said, and while the whole system goes down.
    async fn look(&mut self, subject: &SubjectName) -> Result<Result<(String, UnitState), BackendError>, Lost> {
        let found = self.units.iter().find(|(_, watched)| watched.subject == *subject);
        let Some(path) = found.map(|(path, _)| path.clone()) else {
            return Ok(Err(BackendError::Refused(format!("{subject} is no configured subject"))));
        };
        if self.confirmed(&path).await?.is_none() {
            self.read(&path).await?;
        }
        self.ask_whether_stopping().await?;
        if self.stopping {
            return Ok(Err(BackendError::Untouched("the system is going down".into())));
        }
        let state = self.units.get(&path).and_then(Watched::state);
        let unseen = || BackendError::Untouched(format!("systemd does not say how {subject} is"));
        Ok(state.map(|state| (path, state)).ok_or_else(unseen))
    }

    /// What the signals say of a unit, once PID 1 has said the same in passing: everything was read, and what changes is
    /// signalled. `None` when it contradicts them.
    async fn confirmed(&mut self, path: &str) -> Result<Option<UnitState>, Lost> {
        let Some(unit) = self.units.get(path).map(|watched| watched.unit.clone()) else { return Ok(None) };
        let glance = self.attend(bus::glance(self.connection.clone(), path.to_owned(), unit)).await??;
        let watched = self.units.get(path).filter(|watched| watched.facts.agrees(&glance));
        Ok(watched.and_then(Watched::state))
    }

    /// Reads all of a unit.
    pub(super) async fn read(&mut self, path: &str) -> Result<(), Lost> {
        // Two calls make one reading: a change between them would leave it half of one moment and half of another.
        for _ in 0..READINGS {
            let before = self.units.get(path).map(|watched| watched.signals);
            let facts = self.attend(bus::properties(self.connection.clone(), path.to_owned())).await??;
            if self.units.get(path).map(|watched| watched.signals) == before {
                self.know(path, facts);
                break;
            }
        }
        Ok(())
    }

    /// Whether the unit, read now, is still what the order is for. Whatever is lost here, nothing was begun.
    async fn last_look(&mut self, order: Order) -> Result<Result<Allowed, BackendError>, Lost> {
        let Order { subject, run, check, job } = order;
        let found = self.units.iter().find(|(_, watched)| watched.subject == subject);
        let Some((path, unit)) = found.map(|(path, watched)| (path.clone(), watched.unit.clone())) else {
            return Ok(Err(BackendError::Refused(format!("{subject} is no configured subject"))));
        };
        let began = clock::monotonic();
        let mut looked = self.confirmed(&path).await?;
        if looked.is_none() {
            self.read(&path).await?;
            looked = self.confirmed(&path).await?;
        }
        if self.stopping || self.ask_whether_stopping {
            return Ok(Err(BackendError::Untouched("the system is going down".into())));
        }
        let unseen = || BackendError::Untouched(format!("systemd does not say how {unit} is"));
        let looked = looked.ok_or_else(unseen).and_then(|state| check(&state));
        Ok(looked.map(|()| Allowed { path, unit, run, job, began }))
    }

    /// The job, with nothing between it and the last look but what has come in from the bus meanwhile.
    ///
    /// PID 1 offers no compare-and-swap. A stop that begins after the look, and ends before PID 1 takes our job, is seen when
    /// its signals come in before the answer to ours: then the unit is stopped again, and the operator has the last word.
    async fn order(&mut self, allowed: Allowed) -> Result<Result<String, BackendError>, Lost> {
        let Allowed { path, unit, run, job, began } = allowed;
        let manager = self.manager.clone();
        if job == Job::ResetAndRestart
            && let Err(error) = self.attend(manager.reset_failed_unit(&unit)).await?
        {
            return refusal(error);
        }
        let queued = match job {
            Job::Restart | Job::ResetAndRestart => self.attend(manager.restart_unit(&unit, FAIL)).await?,
            Job::Stop => self.attend(manager.stop_unit(&unit, FAIL)).await?,
        };
        let window_us = clock::monotonic().saturating_since(began).as_micros();
        let queued = match queued {
            Ok(job) => job.to_string(),
            Err(error) => return refusal(error),
        };
        tracing::info!(unit, ?job, window_us, "the job is queued");
        let stopped = self.units.get(&path).and_then(|watched| watched.memory.stopped);
        if job != Job::Stop && stopped == Some(run.invocation) {
            tracing::warn!(unit, "stopped by the operator in the very moment of the restart: it is stopped again");
            // Not `fail`: this undoes our own job.
            self.attend(manager.stop_unit(&unit, "replace")).await??;
            let why = format!("{unit} was stopped in the very moment of its restart: it was stopped again");
            return Ok(Err(BackendError::Refused(why)));
        }
        Ok(Ok(queued))
    }
}

impl Ask {
    /// Tells whoever asked that nobody looked, let alone acted. A reader hears it by the answer that never comes.
    pub(in super::super) fn turn_away(self, lost: &Lost) {
        if let Self::Order(_, answer) = self {
            let _ = answer.send(Err(unlooked(lost)));
        }
    }
}

fn unlooked(lost: &Lost) -> BackendError {
    BackendError::Untouched(format!("the last look was not answered: {lost}"))
}

/// What PID 1 answered to a job that it did not queue. Only its own word, or the bus's that it may not be asked, says that
/// nothing was begun; an answer that never came does not.
fn refusal<T>(error: zbus::Error) -> Result<Result<T, BackendError>, Lost> {
    match error {
        zbus::Error::MethodError(name, text, _) => {
            let said = format!("{} ({name})", text.unwrap_or_else(|| "no reason given".into()));
            let definite = name.starts_with("org.freedesktop.systemd1.")
                || name.as_str() == "org.freedesktop.DBus.Error.AccessDenied";
            Ok(Err(if definite { BackendError::Untouched(said) } else { BackendError::Refused(said) }))
        }
        error => Err(error.into()),
    }
}
