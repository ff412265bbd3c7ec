//! Takes one [`Look`]: files first, then every port at once, within [`K3sSettings::longest_look`].
//!
//! * PID 1's word on the run is taken before and after: a look that spans two runs names none.
//! * The file system may hang with its disk. It is asked on a thread of its own; a look that waited too long for it goes on
//!   without, and no second thread is sent after the first. The ports are then asked under the CA that was read last.
//! * What root alone may read comes from the lookout, where there is one. It is asked once more when PID 1 speaks of a run that
//!   the lookout had not seen at the first time; one that has still not is said to be behind ([`Observer::is_behind`]). So is one
//!   that does not know the journal of a run that has ended.
//! * Other nodes are asked only after a look at which this one was not well, so that healthy clusters do not probe each other.

use super::aside::Aside;
use super::clock_sync::ClockQuestion;
use super::endpoint::Endpoint;
use super::files::{FileFacts, Files};
use super::lookout::{Lookout, RootFacts, SeenRun, Source};
use super::tls::{Identity, Pins};
use super::{K3sSettings, Look, Probe, Role, SettingsError, probe};
use crate::clock;
use crate::protocol::types::Incarnation;
use std::sync::Arc;
use std::time::Duration;

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
    disk: Aside<(Source, Pins), Read>,
    has_lookout: bool,
    identity: Result<Arc<Identity>, String>,
    clock: Option<ClockQuestion>,
    unwell: bool,
    unseen: Vec<String>,
    behind: bool,
}

impl Observer {
    /// Nothing is looked at yet. It looks at files itself, and sees no journal.
    ///
    /// # Errors
    /// [`SettingsError`] for settings that contradict themselves.
    pub fn new(settings: K3sSettings) -> Result<Self, SettingsError> {
        Self::from(settings, None)
    }

    /// The same, for who may not read k3s' files and journal: what is in them it has from the lookout. It looks at files
    /// itself only while the lookout is not to be believed.
    ///
    /// # Errors
    /// [`SettingsError`] for settings that contradict themselves.
    pub fn with_lookout(settings: K3sSettings, lookout: Lookout) -> Result<Self, SettingsError> {
        Self::from(settings, Some(lookout))
    }

    fn from(settings: K3sSettings, lookout: Option<Lookout>) -> Result<Self, SettingsError> {
        settings.check()?;
        let endpoint = |address, owner| Endpoint::new(address, owner, settings.patience());
        let own = |address| endpoint(address, settings.listener_uid);
        Ok(Self {
            api: own(settings.address),
            kubelet: settings.kubelet.map(own),
            kube_proxy: settings.kube_proxy.map(own),
            others: settings.others.iter().map(|address| endpoint(*address, None)).collect(),
            has_lookout: lookout.is_some(),
            disk: Aside::new((Source::new(Files::new(&settings), lookout), Pins::new(&settings))),
            identity: Err("the CA file has not been read yet".to_owned()),
            clock: settings.clock.then(ClockQuestion::default),
            unwell: false,
            unseen: Vec::new(),
            behind: false,
            settings,
        })
    }

    /// What the last look could not see, and why, for people.
    pub fn unseen(&self) -> &[String] {
        &self.unseen
    }

    /// Whether the lookout had not seen yet what PID 1 said at the last look: the run's end or start. The fatal line that it
    /// ended by may be missing from that look; another one, a moment later, has it. Also of a run that ended while the lookout is
    /// not to be believed, or has no answer from the journal. Never where there is no lookout.
    pub fn is_behind(&self) -> bool {
        self.behind
    }

    /// One look. `unit` is asked before and after.
    pub async fn look(&mut self, unit: impl Fn() -> Option<UnitRun>) -> Look {
        let before = unit();
        let mut root = self.root_facts().await;
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
        if self.lags(&root, after) {
            root = self.root_facts().await;
        }
        self.behind = self.lags(&root, after);
        let RootFacts { files, fatal, .. } = root;
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
            keys_seen: files.keys_seen,
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

    /// Whether these facts are of another state of the unit than PID 1 names, or say nothing of its end.
    fn lags(&self, root: &RootFacts, unit: Option<UnitRun>) -> bool {
        let Some(unit) = unit else { return false };
        let named = SeenRun { invocation: unit.run.invocation, goes_on: unit.age.is_some() };
        match root.run {
            _ if self.has_lookout && !root.journal => !named.goes_on,
            Some(run) => run != named,
            // The lookout began after it had ended.
            None => false,
        }
    }

    async fn root_facts(&mut self) -> RootFacts {
        let read = |(source, pins): &mut (Source, Pins)| (source.look(), pins.refresh());
        match self.disk.work(K3sSettings::FILES_WAIT, read).await {
            Some((facts, identity)) => {
                self.identity = identity;
                facts
            }
            None => {
                let why = format!("no file answers within {:?}: is the disk well?", K3sSettings::FILES_WAIT);
                RootFacts { files: FileFacts { unseen: vec![why], ..FileFacts::default() }, ..RootFacts::default() }
            }
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

type Read = (RootFacts, Result<Arc<Identity>, String>);
