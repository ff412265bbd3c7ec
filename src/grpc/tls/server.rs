//! The listening end: handshakes side by side, each with a deadline, and only then gRPC.

use super::identity::Identity;
use super::{HANDSHAKE_LIMIT, HANDSHAKES, Holder, Outcome};
use crate::clock;
use crate::grpc::calls::Visitor;
use crate::grpc::limits::{Guests, Place, Sparing};
use crate::grpc::running::{Accepted, Phase, Running, reached};
use crate::grpc::server::ServeError;
use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{mpsc, watch};
use tokio::task::{AbortHandle, JoinSet};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;
use tonic::service::Routes;

/// Wait after a failed accept, as when no file descriptor is left.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);
/// How often an address that cannot be had yet is tried again.
const TRY_AGAIN: Duration = Duration::from_secs(5);
/// Handshakes of one origin that are usual: an honest peer dials, and dials again when that was cut.
const A_FEW: usize = 4;

/// A running server. Stops when dropped, without waiting.
#[derive(Debug)]
pub struct TcpServer {
    running: Running,
    bound: watch::Receiver<Option<SocketAddr>>,
    identity: Identity,
}

impl TcpServer {
    /// When the certificate that it shows ends, in seconds since 1970; `None` while it can show none.
    pub fn certificate_end(&self) -> Option<u64> {
        self.identity.standing().map(|standing| standing.material.own_end())
    }

    /// Where it listens, once it does.
    pub async fn address(&self) -> Option<SocketAddr> {
        let mut bound = self.bound.clone();
        bound.wait_for(Option::is_some).await.ok().and_then(|address| *address)
    }

    /// Takes no more connections, lets open calls end (for at most a second), cuts the rest.
    pub async fn stop(mut self) {
        self.running.stop().await;
    }
}

impl Drop for TcpServer {
    fn drop(&mut self) {
        self.running.cut();
    }
}

/// A connection's holder and its place.
#[derive(Clone)]
pub(super) struct Guest {
    pub(super) holder: Holder,
    place: Arc<Place<Holder>>,
}

impl Visitor for Guest {
    type Guest = Holder;

    fn place(&self) -> &Arc<Place<Holder>> {
        &self.place
    }
}

/// Who sent a request over TCP; `None` when it came another way.
pub fn holder<T>(request: &tonic::Request<T>) -> Option<&Holder> {
    request.extensions().get::<Guest>().map(|guest| &guest.holder)
}

/// Serves `routes` on an address, as [`crate::grpc::server::serve`] does on a Unix socket, to holders of pinned certificates.
/// `seen` is told how each handshake ended. An address that cannot be had is tried again for ever: the interface of a container
/// may come later. Must be called inside a runtime.
///
/// # Errors
/// [`ServeError::Reflection`].
pub fn serve(
    address: SocketAddr,
    services: &[&'static str],
    routes: Routes,
    identity: Identity,
    seen: impl Fn(Outcome) + Send + Sync + 'static,
) -> Result<TcpServer, ServeError> {
    let (accepted, incoming) = mpsc::channel(1);
    let running = Running::start(services, routes, incoming, address.to_string())?;
    let door = Arc::new(Door {
        identity: identity.clone(),
        accepted,
        phases: running.phases(),
        guests: Arc::default(),
        seen: Box::new(seen),
        refusals: std::sync::Mutex::default(),
    });
    let (binds, bound) = watch::channel(None);
    tokio::spawn(async move {
        let stopped = reached(door.phases.clone(), Phase::Draining);
        tokio::select! {
            () = stopped => {}
            () = Arc::clone(&door).listen(address, binds) => {}
        }
    });
    Ok(TcpServer { running, bound, identity })
}

struct Door {
    identity: Identity,
    accepted: mpsc::Sender<std::io::Result<Accepted<TlsStream<TcpStream>, Guest>>>,
    phases: watch::Receiver<Phase>,
    guests: Arc<Guests<Holder>>,
    seen: Box<dyn Fn(Outcome) + Send + Sync>,
    refusals: std::sync::Mutex<Sparing>,
}

impl Door {
    async fn listen(self: Arc<Self>, address: SocketAddr, binds: watch::Sender<Option<SocketAddr>>) {
        let mut failed = Sparing::default();
        let listener = loop {
            match TcpListener::bind(address).await {
                Ok(listener) => break listener,
                Err(error) => {
                    if let Some(unsaid) = failed.say(clock::now()) {
                        tracing::warn!(
                            %address, %error, unsaid,
                            "cannot listen yet: peers dial this address and nothing else, so none hears this agent over TCP. \
                             `ss -ltnp` says who has the port; it is tried again by itself"
                        );
                    }
                    tokio::time::sleep(TRY_AGAIN).await;
                }
            }
        };
        let address = listener.local_addr().unwrap_or(address);
        binds.send_replace(Some(address));
        tracing::info!(%address, "listening, mutual TLS");
        let mut under_way = UnderWay::default();
        let mut crowded = Sparing::default();
        loop {
            let next = tokio::select! {
                Some(done) = under_way.tasks.join_next_with_id() => {
                    let id = done.as_ref().map_or_else(tokio::task::JoinError::id, |(id, ())| *id);
                    under_way.by_task.remove(&id);
                    continue;
                }
                next = listener.accept() => next,
            };
            match next {
                Ok((tcp, from)) => {
                    if let Some(ended) = under_way.give_way() {
                        (self.seen)(Outcome::Slow);
                        if let Some(unsaid) = crowded.say(clock::now()) {
                            tracing::warn!(
                                from = %ended, most = HANDSHAKES, unsaid,
                                "too many handshakes under way: one was ended for the next. Who has no business here belongs behind a firewall"
                            );
                        }
                    }
                    under_way.begin(from.ip(), Arc::clone(&self).greet(tcp, from));
                }
                Err(error) => {
                    if let Some(unsaid) = failed.say(clock::now()) {
                        tracing::warn!(%error, unsaid, "accept failed");
                    }
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                }
            }
        }
    }

    async fn greet(self: Arc<Self>, tcp: TcpStream, from: SocketAddr) {
        let outcome = match tokio::time::timeout(HANDSHAKE_LIMIT, self.handshake(tcp)).await {
            Ok(Ok(())) => Outcome::Welcome,
            Ok(Err(outcome)) => outcome,
            Err(_) => Outcome::Slow,
        };
        (self.seen)(outcome);
        if outcome != Outcome::Welcome {
            let mut refusals = self.refusals.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
            if let Some(unsaid) = refusals.say(clock::now()) {
                tracing::warn!(%from, why = outcome.as_str(), unsaid, "not let in");
            }
        }
    }

    async fn handshake(&self, tcp: TcpStream) -> Result<(), Outcome> {
        let standing = self.identity.standing().ok_or(Outcome::Unable)?;
        tcp.set_nodelay(true).map_err(|_| Outcome::Broken)?;
        let acceptor = TlsAcceptor::from(Arc::clone(&standing.server));
        let stream = acceptor.accept(tcp).await.map_err(|error| Outcome::of(&error))?;
        let chain: Vec<_> = stream.get_ref().1.peer_certificates().unwrap_or_default().to_vec();
        let holder = standing.holder(&chain).ok_or(Outcome::NotPinned)?;
        let place = self.guests.admit(holder.clone()).ok_or(Outcome::Crowded)?;
        let fallen = self.identity.clone().fallen(chain, holder.clone());
        let end = reached(self.phases.clone(), Phase::Cut);
        let cut = async move {
            tokio::select! {
                () = fallen => {}
                () = end => {}
            }
        };
        let guest = Guest { holder, place: Arc::new(place) };
        self.accepted.send(Ok(Accepted::new(stream, guest, cut))).await.map_err(|_| Outcome::Broken)
    }
}

/// Handshakes that have not ended.
#[derive(Default)]
pub(super) struct UnderWay {
    tasks: JoinSet<()>,
    /// In the order of their beginning: a task's id is never used twice, and `begun` rises.
    by_task: BTreeMap<tokio::task::Id, Begun>,
    begun: u64,
}

struct Begun {
    number: u64,
    from: IpAddr,
    task: AbortHandle,
}

impl UnderWay {
    pub(super) fn begin(&mut self, from: IpAddr, handshake: impl Future<Output = ()> + Send + 'static) {
        let task = self.tasks.spawn(handshake);
        self.begun += 1;
        self.by_task.insert(task.id(), Begun { number: self.begun, from: origin(from), task });
    }

    /// Makes room for one more, if it must: the oldest of the origin that has the most is ended. Origins that have a few each count
    /// alike, so that among them the oldest of all ends: an honest handshake takes milliseconds, who keeps silent grows old. Whose
    /// was ended.
    pub(super) fn give_way(&mut self) -> Option<IpAddr> {
        if self.by_task.len() < HANDSHAKES {
            return None;
        }
        let mut of_origin: BTreeMap<IpAddr, usize> = BTreeMap::new();
        self.by_task.values().for_each(|begun| *of_origin.entry(begun.from).or_insert(0) += 1);
        let crowd = |begun: &Begun| of_origin.get(&begun.from).copied().unwrap_or(0).max(A_FEW);
        let ends = self.by_task.iter().max_by_key(|(_, begun)| (crowd(begun), Reverse(begun.number)));
        let ended = self.by_task.remove(&ends.map(|(id, _)| *id)?)?;
        ended.task.abort();
        Some(ended.from)
    }
}

/// What counts as one address: anybody on the node has all of loopback's, and whoever has one of IPv6 has its whole /64.
fn origin(from: IpAddr) -> IpAddr {
    match from.to_canonical() {
        loopback if loopback.is_loopback() => Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(address) => Ipv6Addr::from_bits(address.to_bits() & (u128::MAX << 64)).into(),
        address => address,
    }
}
