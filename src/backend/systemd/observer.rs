//! One connection to the bus: what systemd says of the configured units, as it says it.
//!
//! Rules implemented here:
//! * Nothing is polled but a frozen unit, of whose thaw systemd before 256 says nothing. Units are read once, then followed by `PropertiesChanged`, `JobNew` and `JobRemoved`; a reload or a
//!   change of unit files makes everything be read again.
//! * A signal counts only when systemd itself sent it ([`super::door`], [`signals`]).
//! * The answer to a question counts after every signal that came before it ([`Observer::attend`], [`ask`]).
//! * While the bus or systemd is away or reloads, every unit is unseen.

mod ask;
mod signals;

use super::bus;
use super::facts::{Clocks, Facts, Memory};
use super::proxy::ManagerProxy;
use super::watched::Watched;
use crate::backend::BackendEvent;
use crate::clock;
use crate::protocol::evidence::UnitState;
use crate::protocol::types::{BootId, SubjectName, Timestamp};
pub(super) use ask::{Ask, Job, Order};
use std::collections::{BTreeMap, VecDeque};
use std::future::Future;
use std::num::NonZeroUsize;
use std::sync::{Arc, OnceLock};
use std::time::Duration;
use tokio::sync::{mpsc, oneshot, watch};
use tokio_stream::StreamExt as _;
use zbus::{Connection, MessageStream};

/// Signals that may wait while something else is done.
const QUEUE: usize = 4096;

/// How often a frozen unit is read.
const THAW_LOOK: Duration = Duration::from_secs(5);

/// What others may do while a connection stands.
#[derive(Clone, Debug)]
pub(super) struct Live {
    pub(super) connection: Connection,
    pub(super) asks: mpsc::Sender<Ask>,
    /// Every configured unit's object.
    pub(super) units: Arc<BTreeMap<String, SubjectName>>,
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
    /// When frozen units were read last.
    thaw_looked_at: Timestamp,
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
        let systemd = Arc::new(OnceLock::new());
        let connection = bus::connect(Arc::clone(&systemd)).await?;
        let mut stream = MessageStream::from(&connection);
        stream.set_max_queued(NonZeroUsize::new(QUEUE).unwrap_or(NonZeroUsize::MIN));
        let calls = bus::bus(&connection).await?;
        let mut observer = Self {
            owner: String::new(),
            boot: clock::boot_id()?,
            units: BTreeMap::new(),
            rungs: BTreeMap::new(),
            reloading: false,
            thaw_looked_at: clock::monotonic(),
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
        let _ = systemd.set(observer.owner.clone());
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
        let live = Live { connection, asks, units: Arc::new(units), states: observer.states.subscribe() };
        Ok((observer, live))
    }

    /// Follows the bus until it is lost, or nobody listens.
    pub(super) async fn run(&mut self, asks: &mut mpsc::Receiver<Ask>) -> Result<std::convert::Infallible, Lost> {
        loop {
            self.ask_whether_stopping().await?;
            self.tell().await?;
            let (settles, thaws) = (self.settles(), self.thaws());
            tokio::select! {
                // Whatever anybody sends, the own questions come first: their answers come after the signals before them.
                biased;
                () = self.events.closed() => return Err(Lost::Unheard),
                Some(ask) = asks.recv() => self.answer(ask).await?,
                path = after(settles) => self.form(&path),
                () = wait(thaws) => self.look_for_a_thaw().await?,
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

    /// In how long frozen units are to be read again; `None` without one.
    fn thaws(&self) -> Option<Duration> {
        let any = self.units.values().any(|watched| watched.facts.is_frozen());
        any.then(|| THAW_LOOK.saturating_sub(clock::monotonic().saturating_since(self.thaw_looked_at)))
    }

    /// Reads every frozen unit.
    async fn look_for_a_thaw(&mut self) -> Result<(), Lost> {
        self.thaw_looked_at = clock::monotonic();
        let frozen = self.units.iter().filter(|(_, watched)| watched.facts.is_frozen());
        for path in frozen.map(|(path, _)| path.clone()).collect::<Vec<_>>() {
            self.read(&path).await?;
        }
        Ok(())
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
}

/// The object, after its time; never without one.
async fn after(settles: Option<(Duration, String)>) -> String {
    let (left, path) = settles.unzip();
    wait(left).await;
    path.unwrap_or_default()
}

/// Waits; for ever without a time.
async fn wait(left: Option<Duration>) {
    match left {
        Some(left) => tokio::time::sleep(left).await,
        None => std::future::pending().await,
    }
}
