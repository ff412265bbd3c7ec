//! Takes one [`Look`]: files first, then every port at once, within [`K3sSettings::longest_look`].
//!
//! * PID 1's word on the run is taken before and after: a look that spans two runs names none.
//! * The file system may hang with its disk. It is asked on a thread of its own; a look that waited too long for it goes on
//!   without, and no second thread is sent after the first. The ports are then asked under the CA that was read last.
//! * Other nodes are asked only after a look at which this one was not well, so that healthy clusters do not probe each other.

use super::clock_sync::ClockQuestion;
use super::endpoint::Endpoint;
use super::files::{FileFacts, Files};
use super::tls::{Identity, Pins};
use super::{K3sSettings, Look, Probe, Role, SettingsError, probe};
use crate::clock;
use crate::protocol::types::Incarnation;
use std::sync::Arc;
use std::time::Duration;
use tokio::task::JoinHandle;

/// The API server's own liveness. Its datastore's is left to `/readyz`: it would fail both, and after two seconds of waiting
/// only, which could not be told from a hang.
const LIVEZ: &str = "/livez?exclude=etcd";

/// What PID 1 says of the unit at one moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct UnitRun {
    /// Its run.
    pub run: Incarnation,
    /// For how long it has been starting or running; `None` while it does neither.
    pub age: Option<Duration>,
}

/// The observer of one node's k3s. Dropping it ends its connections.
pub struct Observer {
    settings: K3sSettings,
    api: Endpoint,
    kubelet: Option<Endpoint>,
    kube_proxy: Option<Endpoint>,
    others: Vec<Endpoint>,
    disk: Disk,
    identity: Result<Arc<Identity>, String>,
    clock: Option<ClockQuestion>,
    unwell: bool,
    unseen: Vec<String>,
}

impl Observer {
    /// Nothing is looked at yet.
    ///
    /// # Errors
    /// [`SettingsError`] for settings that contradict themselves.
    pub fn new(settings: K3sSettings) -> Result<Self, SettingsError> {
        settings.check()?;
        let endpoint = |address, owner| Endpoint::new(address, owner, settings.patience());
        let own = |address| endpoint(address, settings.listener_uid);
        Ok(Self {
            api: own(settings.address),
            kubelet: settings.kubelet.map(own),
            kube_proxy: settings.kube_proxy.map(own),
            others: settings.others.iter().map(|address| endpoint(*address, None)).collect(),
            disk: Disk::Idle(Box::new((Files::new(&settings), Pins::new(&settings)))),
            identity: Err("the CA file has not been read yet".to_owned()),
            clock: settings.clock.then(ClockQuestion::default),
            unwell: false,
            unseen: Vec::new(),
            settings,
        })
    }

    /// What the last look could not see, and why, for people.
    pub fn unseen(&self) -> &[String] {
        &self.unseen
    }

    /// One look. `unit` is asked before and after; `fatal` is the journal's last fatal line, from who may read it.
    pub async fn look(&mut self, unit: impl Fn() -> Option<UnitRun>, fatal: Option<String>) -> Look {
        let before = unit();
        let files = self.files().await;
        let clock_synchronised = match &mut self.clock {
            Some(question) => question.synchronised().await,
            None => None,
        };
        let this = &*self;
        let limit = this.settings.limit;
        let api = async |path: &str, limit: Duration| match this.settings.role {
            Role::Server => probe::https(&this.api, &this.identity, path, limit).await,
            Role::Agent => Probe::Off,
        };
        // The first of those on one connection take it first.
        let (ping, livez, readyz, node_ready, kubelet, kube_proxy, others) = tokio::join!(
            api("/ping", limit),
            api(LIVEZ, limit),
            api("/readyz", this.settings.readyz_limit()),
            probe::node_ready(&this.api, &this.identity, this.settings.node.as_deref(), limit),
            probe::http(this.kubelet.as_ref(), "/healthz", limit),
            probe::http(this.kube_proxy.as_ref(), "/livez", limit),
            this.others(),
        );
        let after = unit();
        let same = before.map(|before| before.run) == after.map(|after| after.run);
        let mut certificates = files.certificates;
        if let Ok(identity) = &self.identity {
            certificates.extend(identity.authorities.iter().cloned());
        }
        certificates.extend(self.api.leaf());
        self.unwell = [&ping, &livez, &readyz, &kubelet, &kube_proxy].into_iter().any(Probe::fails);
        self.unseen = files.unseen;
        Look {
            at: clock::now(),
            run: after.filter(|_| same).map(|after| after.run),
            age: after.filter(|_| same).and_then(|after| after.age),
            ping,
            livez,
            readyz,
            kubelet,
            kube_proxy,
            node_ready,
            certificates,
            empty_files: files.empty_files,
            mounts: files.mounts,
            clock_synchronised,
            unix: clock::unix().as_secs(),
            fatal,
            others,
        }
    }

    /// How many of the other API servers could be judged, and how many of those fail. One that cannot be seen is neither.
    async fn others(&self) -> (u32, u32) {
        if !self.unwell {
            return (0, 0);
        }
        let limit = self.settings.readyz_limit();
        let asking = self.others.iter().map(|other| probe::https(other, &self.identity, "/readyz", limit));
        let judged = all(asking).await.into_iter().filter(|probe| probe.answers() || probe.fails());
        judged.fold((0, 0), |(asked, failing), probe| (asked + 1, failing + u32::from(probe.fails())))
    }

    async fn files(&mut self) -> FileFacts {
        match self.disk.look().await {
            Some((facts, identity)) => {
                self.identity = identity;
                facts
            }
            None => FileFacts {
                unseen: vec![format!("no file answers within {:?}: is the disk well?", K3sSettings::FILES_WAIT)],
                ..FileFacts::default()
            },
        }
    }
}

/// Runs all at once, in one task.
async fn all<F: Future>(futures: impl Iterator<Item = F>) -> Vec<F::Output> {
    let mut running: Vec<_> = futures.map(|future| (Box::pin(future), None)).collect();
    std::future::poll_fn(|cx| {
        for (future, output) in &mut running {
            if output.is_none()
                && let std::task::Poll::Ready(ready) = future.as_mut().poll(cx)
            {
                *output = Some(ready);
            }
        }
        if running.iter().all(|(_, output)| output.is_some()) {
            std::task::Poll::Ready(())
        } else {
            std::task::Poll::Pending
        }
    })
    .await;
    running.into_iter().filter_map(|(_, output)| output).collect()
}

type Read = (FileFacts, Result<Arc<Identity>, String>);

/// Where the file system is asked: here, or on a thread that has not come back.
enum Disk {
    Idle(Box<(Files, Pins)>),
    Away(JoinHandle<(Box<(Files, Pins)>, Read)>),
    /// The thread panicked.
    Lost,
}

impl Disk {
    /// `None` when no answer comes soon. A look that is given up in between loses nothing.
    async fn look(&mut self) -> Option<Read> {
        *self = match std::mem::replace(self, Self::Lost) {
            Self::Idle(mut readers) => Self::Away(tokio::task::spawn_blocking(move || {
                let (files, pins) = &mut *readers;
                let read = (files.look(), pins.refresh());
                (readers, read)
            })),
            other => other,
        };
        let Self::Away(thread) = self else { return None };
        match tokio::time::timeout(K3sSettings::FILES_WAIT, thread).await {
            Ok(Ok((readers, read))) => {
                *self = Self::Idle(readers);
                Some(read)
            }
            Ok(Err(_)) => {
                *self = Self::Lost;
                None
            }
            Err(_) => None,
        }
    }
}
