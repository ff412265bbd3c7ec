//! systemd over D-Bus.
//!
//! * Agents, the warden and the hand watch by the same code ([`observer`]); reading needs no privilege. Acting ([`act`]) does,
//!   and is done by the hand ([`crate::hand`]), which the warden asks ([`deed`]).
//! * What systemd says is turned into a state in one place ([`facts`]), from PID 1's word and never from the service's.
//! * The connection is made anew after any break; until then every unit is unseen and nothing can be done.

mod act;
mod bus;
pub mod deed;
mod door;
mod facts;
mod observer;
mod pages;
mod proxy;
mod watched;

use super::{ActReport, Backend, BackendError, BackendEvent};
use crate::clock;
use crate::config::paths::Paths;
use crate::config::rung;
use crate::protocol::evidence::UnitState;
use crate::protocol::policy::{Mode, Policy};
use crate::protocol::types::{InvocationId, SubjectName};
use crate::protocol::warden::{ActionPermit, PeerUnit};
use deed::Deed;
use observer::{Live, Lost, Memories, Observer, Wanted};
use proxy::{SERVICE, SYSTEMD, UNIT};
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{mpsc, watch};
use zbus::fdo::PropertiesProxy;
use zbus::proxy::CacheProperties;

/// Waits between two attempts to reach the bus: doubling from the first to the second.
const BACKOFF: (Duration, Duration) = (Duration::from_millis(20), Duration::from_secs(1));
/// Changes that may wait for a slow reader.
const EVENTS: usize = 256;
/// Longest that a deed waits for a connection that is being made anew: well within the time that the warden gives an act.
const RECONNECT: Duration = Duration::from_secs(2);
/// Questions that may wait for the task that follows the bus.
const ASKS: usize = 64;

/// systemd's units.
#[derive(Clone, Debug)]
pub struct SystemdBackend {
    policy: Arc<Policy>,
    paths: Paths,
    pages: bool,
    live: Arc<watch::Sender<Option<Live>>>,
}

impl SystemdBackend {
    /// A client of the system bus that reports on the subjects of a policy. Connects when [`Backend::watch`] is called; until
    /// then nothing can be read. `pages`: whether a command is configured that calls a human.
    pub fn new(policy: Arc<Policy>, paths: Paths, pages: bool) -> Self {
        Self { policy, paths, pages, live: Arc::new(watch::Sender::new(None)) }
    }

    /// Carries a deed out itself, with the rights of its own user: what the hand does. `begin` tells
    /// the caller that it begins, and whether that still waits.
    ///
    /// # Errors
    /// [`BackendError::Untouched`] when nothing was done.
    pub async fn perform(&self, deed: &Deed, begin: impl Future<Output = bool>) -> Result<ActReport, BackendError> {
        if self.policy.mode != Mode::Act {
            let why = "this node observes: nothing is done until node.toml says mode = \"act\"";
            return Err(BackendError::Untouched(why.into()));
        }
        if deed.policy != self.policy.digest {
            let why =
                "warden and hand read different configurations: `systemctl restart zeta-bft-hand zeta-bft-warden`";
            return Err(BackendError::Untouched(why.into()));
        }
        // Whoever asks has a connection already; when the bus came back just now, this one's may be a moment late.
        let mut live = self.live.subscribe();
        let live = tokio::time::timeout(RECONNECT, live.wait_for(Option::is_some)).await;
        let live = live.ok().and_then(Result::ok).and_then(|live| live.clone());
        let live = live.ok_or_else(|| BackendError::Untouched(act::gone().to_string()))?;
        if !deed.is_timely(clock::now()) {
            return Err(BackendError::Untouched("the order came too late".into()));
        }
        if !begin.await {
            return Err(BackendError::Untouched("whoever ordered it has gone".into()));
        }
        act::act(&live, &self.policy, &self.paths, deed).await
    }

    fn live(&self) -> Result<Live, BackendError> {
        self.live.borrow().clone().ok_or_else(act::gone)
    }

    fn wanted(&self) -> Vec<Wanted> {
        let rungs = |subject: &SubjectName| {
            rung::of_root(&self.policy)
                .filter(|(whose, ..)| *whose == subject)
                .map(|(whose, number, _)| rung::unit(whose, number))
                .collect()
        };
        let subjects = self.policy.subjects.iter();
        subjects
            .map(|(subject, policy)| Wanted {
                subject: subject.clone(),
                unit: policy.unit.clone(),
                rungs: rungs(subject),
            })
            .collect()
    }
}

impl Backend for SystemdBackend {
    fn watch(&self) -> mpsc::Receiver<BackendEvent> {
        let (events, receiver) = mpsc::channel(EVENTS);
        tokio::spawn(keep_following(self.wanted(), Arc::clone(&self.live), events));
        receiver
    }

    async fn read(&self, subject: &SubjectName) -> Result<UnitState, BackendError> {
        act::read(&self.live()?, subject).await
    }

    async fn unit_of(&self, pid: u32) -> Result<Option<PeerUnit>, BackendError> {
        let live = self.live()?;
        let manager = bus::manager(&live.connection).await.map_err(act::refused)?;
        let path = match manager.get_unit_by_pid(pid).await {
            Ok(path) => path,
            Err(zbus::Error::MethodError(name, ..)) if name.as_str() == "org.freedesktop.systemd1.NoUnitForPID" => {
                return Ok(None);
            }
            Err(error) => return Err(act::refused(error)),
        };
        let Some(subject) = live.units.get(path.as_str()) else { return Ok(None) };
        let unseen = |error: zbus::fdo::Error| act::refused(error.into());
        let unit = PropertiesProxy::builder(&live.connection)
            .destination(SYSTEMD)
            .path(&path)
            .cache_properties(CacheProperties::No)
            .build()
            .await
            .map_err(act::refused)?;
        let of = |interface: &'static str, name: &'static str| {
            let unit = &unit;
            async move { unit.get(interface.try_into()?, name).await }
        };
        let (pid, run) = tokio::join!(of(SERVICE, "MainPID"), of(UNIT, "InvocationID"));
        let nonsense = |what: &str| BackendError::Nonsense(format!("systemd's {what} of {subject}"));
        let main_pid = u32::try_from(pid.map_err(unseen)?).map_err(|_| nonsense("MainPID"))?;
        let run = Vec::<u8>::try_from(run.map_err(unseen)?).map_err(|_| nonsense("InvocationID"))?;
        let invocation = InvocationId::from_slice(&run).ok_or_else(|| nonsense("InvocationID"))?;
        Ok(Some(PeerUnit { subject: subject.clone(), main_pid, invocation }))
    }

    async fn act(&self, permit: ActionPermit) -> Result<ActReport, BackendError> {
        deed::ask(&self.paths.hand_socket(), &Deed::new(&permit, self.policy.digest)).await
    }

    async fn page(&self, cause: &str, subject: &str, text: &str) -> Result<(), BackendError> {
        if !self.pages {
            return Ok(());
        }
        pages::send(&self.live()?, &self.paths, cause, subject, text).await
    }
}

/// Follows every unit until nobody listens any more.
async fn keep_following(
    wanted: Vec<Wanted>,
    live: Arc<watch::Sender<Option<Live>>>,
    events: mpsc::Sender<BackendEvent>,
) {
    let (mut wait, mut memories, mut told) = (BACKOFF.0, Memories::new(), None);
    loop {
        let (asks, mut asked) = mpsc::channel(ASKS);
        let lost = match Observer::connect(&wanted, &memories, asks, events.clone()).await {
            Ok((mut observer, connected)) => {
                (wait, told) = (BACKOFF.0, None);
                tracing::info!("systemd is seen");
                live.send_replace(Some(connected));
                let Err(lost) = observer.run(&mut asked).await;
                memories = observer.memories();
                asked.close();
                while let Ok(ask) = asked.try_recv() {
                    ask.turn_away(&lost);
                }
                lost
            }
            Err(lost) => lost,
        };
        live.send_replace(None);
        if matches!(lost, Lost::Unheard) || events.is_closed() {
            return;
        }
        // One line for each cause, however often it is tried.
        let cause = lost.to_string();
        if told.as_ref() != Some(&cause) {
            tracing::warn!(cause, "systemd cannot be seen");
            told = Some(cause);
        }
        for Wanted { subject, .. } in &wanted {
            if events.send(BackendEvent::Unit(subject.clone(), None)).await.is_err() {
                return;
            }
        }
        tokio::select! {
            () = tokio::time::sleep(wait) => wait = (wait * 2).min(BACKOFF.1),
            () = events.closed() => return,
        }
    }
}
