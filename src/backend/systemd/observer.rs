//! One connection to the bus: what systemd says of the configured units, as it says it.
//!
//! Rules implemented here:
//! * Nothing is polled. Units are read once, then followed by `PropertiesChanged`, `JobNew` and `JobRemoved`; a reload or a
//!   change of unit files makes everything be read again.
//! * A signal counts only when systemd itself sent it: its sender must be the unique name that owns
//!   `org.freedesktop.systemd1`. Anybody on the bus can send a signal with any path to anybody.
//! * systemd sends a unit's service properties before its unit properties; the state is formed after the second, so that it
//!   is never half of one moment and half of another.
//! * The answer to a question counts after every signal that came before it ([`Observer::attend`]). So a look is a glance
//!   ([`bus::glance`]): what it says of run, state and job shows that no signal is missing. Where it contradicts them, all is
//!   read anew.
//! * While the bus or systemd is away or reloads, every unit is unseen.

use super::bus;
use super::facts::{Clocks, Facts, Memory};
use super::proxy::{FAIL, ManagerProxy, SYSTEMD, UNIT};
use super::watched::Watched;
use crate::backend::{BackendError, BackendEvent};
use crate::clock;
use crate::grpc::limits::Sparing;
use crate::protocol::evidence::UnitState;
use crate::protocol::types::{BootId, Incarnation, SubjectName};
use std::collections::{BTreeMap, VecDeque};
use std::future::Future;
use std::num::NonZeroUsize;
use std::time::Duration;
use tokio::sync::{mpsc, oneshot, watch};
use tokio_stream::StreamExt as _;
use zbus::Variant;
use zbus::message::Type;
use zbus::{Connection, Message, MessageStream};

/// Signals that may wait while something else is done.
const QUEUE: usize = 4096;
/// How often a reading is made anew that a change overtook; then what was signalled counts.
const READINGS: usize = 5;
/// Ends of jobs that are remembered for a caller who asks late.
const ENDED_JOBS: usize = 64;

/// A question to the task that follows the bus.
#[derive(Debug)]
pub(super) enum Ask {
    /// Read a unit now.
    Read(SubjectName, oneshot::Sender<Result<UnitState, BackendError>>),
    /// Read a unit, and queue a job for it at once if it is still what was voted on.
    Order(Order, oneshot::Sender<Result<String, BackendError>>),
    /// How a job ended, once it has.
    Job(String, oneshot::Sender<String>),
}

/// Whether a state allows a job.
pub(super) type Check = Box<dyn Fn(&UnitState) -> Result<(), BackendError> + Send>;

/// A job for one unit.
pub(super) struct Order {
    pub(super) subject: SubjectName,
    /// The run that it is for.
    pub(super) run: Incarnation,
    /// Whether the state, read right before, allows it.
    pub(super) check: Check,
    pub(super) job: Job,
}

impl std::fmt::Debug for Order {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:?} of {}", self.job, self.subject)
    }
}

/// What is to be done with a unit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Job {
    Restart,
    /// Forgets systemd's own start limit first.
    ResetAndRestart,
    Stop,
}

/// What others may do while a connection stands.
#[derive(Clone, Debug)]
pub(super) struct Live {
    pub(super) connection: Connection,
    pub(super) asks: mpsc::Sender<Ask>,
    /// Every configured unit's object.
    pub(super) units: std::sync::Arc<BTreeMap<String, SubjectName>>,
    /// The newest state of every unit.
    pub(super) states: watch::Receiver<BTreeMap<SubjectName, Option<UnitState>>>,
}

/// A unit to be watched.
#[derive(Clone, Debug)]
pub(super) struct Wanted {
    pub(super) subject: SubjectName,
    pub(super) unit: String,
    /// The units of its rungs.
    pub(super) rungs: Vec<String>,
}

/// What is remembered of units from one connection to the next.
pub(super) type Memories = BTreeMap<SubjectName, Memory>;

/// See the module.
pub(super) struct Observer {
    connection: Connection,
    manager: ManagerProxy<'static>,
    events: mpsc::Sender<BackendEvent>,
    stream: MessageStream,
    /// The unique name of systemd.
    owner: String,
    boot: BootId,
    units: BTreeMap<String, Watched>,
    /// Objects of rungs: whose they are.
    rungs: BTreeMap<String, (SubjectName, bool)>,
    reloading: bool,
    /// What others made systemd's signals look like.
    forged: Sparing,
    /// A job of `shutdown.target` came or went: a shutdown may have begun, or been called off.
    ask_whether_stopping: bool,
    /// The whole system goes down.
    stopping: bool,
    ended_jobs: VecDeque<(String, String)>,
    waiting: Vec<(String, oneshot::Sender<String>)>,
    states: watch::Sender<BTreeMap<SubjectName, Option<UnitState>>>,
    news: Vec<BackendEvent>,
}

/// Why a connection is given up.
#[derive(Debug, thiserror::Error)]
pub(super) enum Lost {
    #[error("{0}")]
    Bus(#[from] zbus::Error),
    #[error("{0}")]
    Call(#[from] zbus::fdo::Error),
    #[error("the bus closed the connection")]
    Closed,
    #[error("systemd is not on the bus")]
    NoSystemd,
    #[error("systemd was executed anew, or left the bus")]
    OwnerChanged,
    #[error("the bus does not answer")]
    Late,
    #[error("systemd does not list {0}")]
    NoUnit(String),
    #[error("nobody listens any more")]
    Unheard,
    #[error("this boot's id cannot be read: {0}")]
    Boot(#[from] std::io::Error),
}

impl Observer {
    /// Connects, subscribes, and reads every unit.
    pub(super) async fn connect(
        wanted: &[Wanted],
        memories: &Memories,
        asks: mpsc::Sender<Ask>,
        events: mpsc::Sender<BackendEvent>,
    ) -> Result<(Self, Live), Lost> {
        let connection = bus::connect().await?;
        let mut stream = MessageStream::from(&connection);
        stream.set_max_queued(NonZeroUsize::new(QUEUE).unwrap_or(NonZeroUsize::MIN));
        let calls = bus::bus(&connection).await?;
        let mut observer = Self {
            owner: String::new(),
            boot: clock::boot_id()?,
            units: BTreeMap::new(),
            rungs: BTreeMap::new(),
            reloading: false,
            forged: Sparing::default(),
            ask_whether_stopping: true,
            stopping: false,
            ended_jobs: VecDeque::new(),
            waiting: Vec::new(),
            states: watch::Sender::new(BTreeMap::new()),
            news: Vec::new(),
            manager: bus::manager(&connection).await?,
            events,
            connection: connection.clone(),
            stream,
        };
        // First the rules, then the readings: no change falls between.
        observer.owner = bus::follow_systemd(&calls).await?;
        let manager = observer.manager.clone();
        manager.subscribe().await?;
        for wanted in wanted {
            let path = manager.load_unit(&wanted.unit).await?.to_string();
            bus::follow_unit(&calls, &path, &wanted.unit).await?;
            let memory = memories.get(&wanted.subject).copied().unwrap_or_default();
            observer.units.insert(path, Watched::new(wanted, memory));
            for rung in &wanted.rungs {
                let path = manager.load_unit(rung).await?.to_string();
                bus::follow_unit(&calls, &path, rung).await?;
                observer.rungs.insert(path, (wanted.subject.clone(), false));
            }
        }
        observer.fetch_all().await?;
        let units = observer.units.iter().map(|(path, watched)| (path.clone(), watched.subject.clone())).collect();
        let live = Live { connection, asks, units: std::sync::Arc::new(units), states: observer.states.subscribe() };
        Ok((observer, live))
    }

    /// Follows the bus until it is lost, or nobody listens.
    pub(super) async fn run(&mut self, asks: &mut mpsc::Receiver<Ask>) -> Result<std::convert::Infallible, Lost> {
        loop {
            self.ask_whether_stopping().await?;
            self.tell().await?;
            let settles = self.settles();
            tokio::select! {
                // Whatever anybody sends, the own questions come first: their answers come after the signals before them.
                biased;
                () = self.events.closed() => return Err(Lost::Unheard),
                Some(ask) = asks.recv() => self.answer(ask).await?,
                path = after(settles) => self.form(&path),
                message = self.stream.next() => {
                    let message = message.ok_or(Lost::Closed)??;
                    if self.take(&message)? {
                        self.fetch_all().await?;
                    }
                }
            }
        }
    }

    /// What is to be kept for the next connection.
    pub(super) fn memories(&self) -> Memories {
        self.units
            .values()
            .map(|watched| (watched.subject.clone(), Memory { rung_runs: false, ..watched.memory }))
            .collect()
    }

    /// Passes on what is new.
    async fn tell(&mut self) -> Result<(), Lost> {
        for event in std::mem::take(&mut self.news) {
            self.events.send(event).await.map_err(|_| Lost::Unheard)?;
        }
        Ok(())
    }

    async fn answer(&mut self, ask: Ask) -> Result<(), Lost> {
        match ask {
            Ask::Read(subject, answer) => {
                let looked = self.look(&subject).await?;
                let _ = answer.send(looked.map(|(_, state)| state));
            }
            Ask::Order(order, answer) => {
                let ordered = self.order(order).await?;
                let _ = answer.send(ordered);
            }
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
    async fn ask_whether_stopping(&mut self) -> Result<(), Lost> {
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
    async fn read(&mut self, path: &str) -> Result<(), Lost> {
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

    /// The last look and the job, with nothing between them but what has come in from the bus meanwhile.
    ///
    /// PID 1 offers no compare-and-swap. A stop that begins after the look, and ends before PID 1 takes our job, is seen when
    /// its signals come in before the answer to ours: then the unit is stopped again, and the operator has the last word.
    async fn order(&mut self, order: Order) -> Result<Result<String, BackendError>, Lost> {
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
        if let Err(refused) = looked.ok_or_else(unseen).and_then(|state| check(&state)) {
            return Ok(Err(refused));
        }
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

    /// Waits for an answer, and takes every signal in that comes before it. However many come, they delay nothing for ever:
    /// the answer is looked at first, and what came before it fits into the queue.
    async fn attend<T>(&mut self, work: impl Future<Output = T>) -> Result<T, Lost> {
        tokio::pin!(work);
        let mut again = false;
        let done = loop {
            tokio::select! {
                biased;
                done = &mut work => break done,
                message = self.stream.next() => {
                    again |= self.take(&message.ok_or(Lost::Closed)??)?;
                    self.tell().await?;
                }
            }
        };
        for _ in 0..QUEUE {
            let message = tokio::select! {
                biased;
                message = self.stream.next() => message,
                () = std::future::ready(()) => break,
            };
            again |= self.take(&message.ok_or(Lost::Closed)??)?;
        }
        self.tell().await?;
        if again {
            Box::pin(self.fetch_all()).await?;
        }
        Ok(done)
    }

    /// What was read of a unit. Signals that came before the answer are older than it, and were taken in first.
    fn know(&mut self, path: &str, facts: Facts) {
        if let Some(watched) = self.units.get_mut(path) {
            watched.facts = facts;
        }
        self.form(path);
    }

    async fn fetch_all(&mut self) -> Result<(), Lost> {
        if self.reloading {
            return Ok(());
        }
        let paths: Vec<_> = self.units.keys().cloned().collect();
        for path in &paths {
            let connection = self.connection.clone();
            // No signals are taken in here: one that asks for everything anew would never end.
            let facts = bus::properties(connection, path.to_owned()).await?;
            if let Some(watched) = self.units.get_mut(path) {
                watched.facts = facts;
            }
        }
        let rungs: Vec<_> = self.rungs.keys().cloned().collect();
        for path in rungs {
            let facts = bus::properties(self.connection.clone(), path.clone()).await?;
            if let Some((_, runs)) = self.rungs.get_mut(&path) {
                *runs = facts.is_busy();
            }
        }
        paths.iter().for_each(|path| self.form(path));
        Ok(())
    }

    /// The first unit of which it is open whether it stays down, and for how long.
    fn settles(&self) -> Option<(Duration, String)> {
        let clocks = Clocks { boot: clock::now(), monotonic: clock::monotonic() };
        let open = self.units.iter().filter_map(|(path, watched)| Some((watched.settles_in(clocks)?, path)));
        open.min().map(|(left, path)| (left + Duration::from_millis(1), path.clone()))
    }

    /// Forms a unit's state, and tells of it when it is another than before.
    fn form(&mut self, path: &str) {
        let clocks = Clocks { boot: clock::now(), monotonic: clock::monotonic() };
        let Some(watched) = self.units.get_mut(path) else { return };
        watched.memory.rung_runs = self.rungs.values().any(|(whose, runs)| *runs && *whose == watched.subject);
        if watched.form(self.boot, clocks, self.reloading) {
            let (subject, state) = (watched.subject.clone(), watched.state());
            self.states.send_modify(|states| {
                states.insert(subject.clone(), state);
            });
            self.news.push(BackendEvent::Unit(subject, state));
        }
    }

    /// Takes a message in. True when everything must be read again.
    fn take(&mut self, message: &Message) -> Result<bool, Lost> {
        if message.message_type() != Type::Signal {
            return Ok(false);
        }
        let header = message.header();
        let sender = header.sender().map(|name| name.as_str()).unwrap_or_default();
        let member = header.member().map(|name| name.as_str()).unwrap_or_default();
        if sender == "org.freedesktop.DBus" && member == "NameOwnerChanged" {
            let body = message.body();
            let (name, _, _): (&str, &str, &str) = body.deserialize()?;
            return if name == SYSTEMD { Err(Lost::OwnerChanged) } else { Ok(false) };
        }
        if sender != self.owner {
            if sender != "org.freedesktop.DBus"
                && let Some(unsaid) = self.forged.say(clock::now())
            {
                tracing::warn!(sender, member, unsaid, "a signal that systemd did not send");
            }
            return Ok(false);
        }
        let path = header.path().map(|path| path.to_string());
        match member {
            "PropertiesChanged" => {
                if let Some(path) = path {
                    self.properties_changed(&path, message)?;
                }
            }
            "JobNew" => {
                let body = message.body();
                let (id, _, unit): (u32, zbus::ObjectPath<'_>, &str) = body.deserialize()?;
                self.ask_whether_stopping |= unit == bus::SHUTDOWN;
                if let Some(watched) = self.units.values_mut().find(|watched| watched.unit == unit) {
                    watched.job_began(id);
                }
            }
            "JobRemoved" => {
                let body = message.body();
                let (id, job, unit, result): (u32, zbus::ObjectPath<'_>, &str, &str) = body.deserialize()?;
                self.ask_whether_stopping |= unit == bus::SHUTDOWN;
                self.job_removed(id, job.as_str(), unit, result);
            }
            "Reloading" => {
                let body = message.body();
                self.reloading = body.deserialize()?;
                let paths: Vec<_> = self.units.keys().cloned().collect();
                paths.iter().for_each(|path| self.form(path));
                return Ok(!self.reloading);
            }
            "UnitFilesChanged" => return Ok(true),
            _ => {}
        }
        Ok(false)
    }

    fn properties_changed(&mut self, path: &str, message: &Message) -> Result<(), Lost> {
        let body = message.body();
        let (interface, changed, _): (&str, BTreeMap<&str, Variant<'_>>, Vec<&str>) = body.deserialize()?;
        if let Some((subject, runs)) = self.rungs.get_mut(path) {
            if interface == UNIT {
                let mut facts = Facts::default();
                changed.iter().for_each(|(name, value)| facts.set(name, value));
                *runs = facts.is_busy();
                let subject = subject.clone();
                let of_subject = self.units.iter().find(|(_, watched)| watched.subject == subject);
                if let Some(path) = of_subject.map(|(path, _)| path.clone()) {
                    self.form(&path);
                }
            }
            return Ok(());
        }
        let Some(watched) = self.units.get_mut(path) else { return Ok(()) };
        watched.signals += 1;
        changed.iter().for_each(|(name, value)| watched.facts.set(name, value));
        if interface == UNIT {
            self.form(path);
        }
        Ok(())
    }

    fn job_removed(&mut self, id: u32, job: &str, unit: &str, result: &str) {
        let found = self.units.iter_mut().find(|(_, watched)| watched.unit == unit);
        if let Some((path, watched)) = found
            && watched.job_ended(id, result)
        {
            let path = path.clone();
            self.form(&path);
        }
        let (asked, waiting) = std::mem::take(&mut self.waiting).into_iter().partition(|(wanted, _)| wanted == job);
        self.waiting = waiting;
        for (_, caller) in Vec::from_iter(asked) {
            // A caller that gave up needs no answer.
            let _ = caller.send(result.to_owned());
        }
        self.ended_jobs.push_back((job.to_owned(), result.to_owned()));
        if self.ended_jobs.len() > ENDED_JOBS {
            self.ended_jobs.pop_front();
        }
    }
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

/// The object, after its time; never without one.
async fn after(settles: Option<(Duration, String)>) -> String {
    let Some((left, path)) = settles else { return std::future::pending().await };
    tokio::time::sleep(left).await;
    path
}
