//! Servers on Unix sockets, with peer credentials, limits, health and reflection.
//!
//! * A socket that a dead process left behind is replaced; one that a running process serves is never taken over.
//! * Every connection's process is known ([`peer`]) before a byte of it is read; one that the kernel will not name is closed.
//! * Connections (of each user, and of all), streams, message sizes, and the time until an answer begins are bounded. Streams themselves may live
//!   for ever: HTTP/2 pings find the dead ones.

use super::limits::{Guests, Place, Sparing};
use super::{MAX_SOCKET_PATH, Peer};
use crate::clock;
use crate::wire;
use axum::extract::Request;
use axum::middleware::Next;
use axum::response::Response;
use std::io::ErrorKind;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::{DirBuilderExt as _, FileTypeExt as _, MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;
use tonic::Status;
use tonic::service::Routes;
use tonic::transport::server::Connected;

/// Streams at once on one connection.
const MAX_STREAMS: u32 = 32;
/// Longest until an answer begins.
const ANSWER_LIMIT: Duration = Duration::from_secs(10);
/// How often an idle connection is tried, and how long the answer may take.
const KEEP_ALIVE: Duration = Duration::from_secs(5);
/// Longest that open calls may take once the server is to stop.
const DRAIN_LIMIT: Duration = Duration::from_secs(1);
/// Wait after a failed accept, as when no file descriptor is left.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);
/// The one call whose answer begins when its stream ends.
const UNTIMED: &str = "/zeta.bft.v1.WardenService/Submit";

/// Why a socket is not served.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    /// The path cannot be a socket's.
    #[error("the socket path {path} is {len} bytes long, at most {MAX_SOCKET_PATH} are possible")]
    PathTooLong {
        /// Which.
        path: PathBuf,
        /// Its length.
        len: usize,
    },
    /// Somebody serves it.
    #[error("{path} is in use by a running process{}", pid.map(|pid| format!(" (pid {pid})")).unwrap_or_default())]
    InUse {
        /// Which.
        path: PathBuf,
        /// Who, if the kernel tells.
        pid: Option<u32>,
    },
    /// Something else is there, and is not ours to remove.
    #[error("{path} exists and is no socket")]
    NotASocket {
        /// Which.
        path: PathBuf,
    },
    /// The kernel refused.
    #[error("cannot {what} {path}")]
    Io {
        /// What was tried.
        what: &'static str,
        /// With which.
        path: PathBuf,
        /// What the kernel said.
        source: std::io::Error,
    },
    /// The descriptors in the binary are damaged.
    #[error("the descriptors for server reflection cannot be read")]
    Reflection(#[from] tonic_reflection::server::Error),
}

/// How far a server is. Only ever rises.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Phase {
    /// Takes connections.
    Serving,
    /// Takes no more; open calls may end.
    Draining,
    /// What is still open is cut.
    Cut,
}

/// A running server. Stops when dropped, without waiting.
#[derive(Debug)]
pub struct Server {
    phase: watch::Sender<Phase>,
    task: JoinHandle<()>,
    health: tonic_health::server::HealthReporter,
    path: PathBuf,
    inode: u64,
}

impl Server {
    /// Takes no more connections, lets open calls end (for at most a second), cuts the rest, and removes the socket.
    pub async fn stop(mut self) {
        self.health.set_service_status("", tonic_health::ServingStatus::NotServing).await;
        self.phase.send_replace(Phase::Draining);
        if tokio::time::timeout(DRAIN_LIMIT, &mut self.task).await.is_err() {
            self.phase.send_replace(Phase::Cut);
            let _ = tokio::time::timeout(DRAIN_LIMIT, &mut self.task).await;
        }
    }

    /// The socket.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Returns when the server has ended by itself, which it does not unless something is very wrong.
    pub async fn ended(&mut self) {
        let _ = (&mut self.task).await;
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.phase.send_replace(Phase::Cut);
        // A successor may have bound the path anew.
        if std::fs::symlink_metadata(&self.path).is_ok_and(|file| file.ino() == self.inode) {
            let _ = std::fs::remove_file(&self.path);
        }
    }
}

/// Serves `routes` on a Unix socket, with `grpc.health.v1` and server reflection for `services` (the generated
/// `SERVICE_NAME`s). Parent folders are made with mode 0755, the socket gets `mode`. Must be called inside a runtime.
///
/// # Errors
/// [`ServeError`] when the socket cannot be had.
pub fn serve(path: &Path, mode: u32, services: &[&'static str], routes: Routes) -> Result<Server, ServeError> {
    let (listener, inode) = listen(path, mode)?;
    let (health, health_service) = tonic_health::server::health_reporter();
    let routes = routes.add_service(health_service).add_service(reflection(services).build_v1()?);
    let routes = Routes::from(routes.into_axum_router().layer(axum::middleware::from_fn(limit_time)));

    let (phase, phases) = watch::channel(Phase::Serving);
    let (accepted, incoming) = mpsc::channel(1);
    let server = tonic::transport::Server::builder()
        .max_concurrent_streams(MAX_STREAMS)
        .http2_keepalive_interval(Some(KEEP_ALIVE))
        .http2_keepalive_timeout(Some(KEEP_ALIVE))
        .add_routes(routes)
        .serve_with_incoming_shutdown(
            tokio_stream::wrappers::ReceiverStream::new(incoming),
            reached(phases.clone(), Phase::Draining),
        );
    tokio::spawn(accept(listener, accepted, phases));
    let (reporter, names, place) = (health.clone(), services.to_vec(), path.to_owned());
    let task = tokio::spawn(async move {
        for name in names {
            reporter.set_service_status(name, tonic_health::ServingStatus::Serving).await;
        }
        if let Err(error) = server.await {
            tracing::error!(path = %place.display(), %error, "server ended");
        }
    });
    Ok(Server { phase, task, health, path: path.to_owned(), inode })
}

/// Who sent a request.
///
/// # Errors
/// `UNAUTHENTICATED` when the transport does not tell.
pub fn peer<T>(request: &tonic::Request<T>) -> Result<Peer, Status> {
    let info = request.extensions().get::<Peer>();
    info.copied().ok_or_else(|| Status::unauthenticated("the kernel does not tell who asks"))
}

fn reflection<'a>(services: &[&'static str]) -> tonic_reflection::server::Builder<'a> {
    let builder = tonic_reflection::server::Builder::configure()
        .register_encoded_file_descriptor_set(wire::DESCRIPTORS)
        .register_encoded_file_descriptor_set(tonic_health::pb::FILE_DESCRIPTOR_SET)
        .with_service_name("grpc.health.v1.Health");
    services.iter().fold(builder, |builder, name| builder.with_service_name(*name))
}

async fn limit_time(request: Request, next: Next) -> Response {
    if request.uri().path() == UNTIMED {
        return next.run(request).await;
    }
    tokio::time::timeout(ANSWER_LIMIT, next.run(request))
        .await
        .unwrap_or_else(|_| Status::deadline_exceeded("no answer in time").into_http())
}

async fn reached(mut phases: watch::Receiver<Phase>, wanted: Phase) {
    let _ = phases.wait_for(|phase| *phase >= wanted).await;
}

fn listen(path: &Path, mode: u32) -> Result<(UnixListener, u64), ServeError> {
    let len = path.as_os_str().as_bytes().len();
    if len > MAX_SOCKET_PATH {
        return Err(ServeError::PathTooLong { path: path.to_owned(), len });
    }
    let io = |what| move |source| ServeError::Io { what, path: path.to_owned(), source };
    if let Some(parent) = path.parent() {
        std::fs::DirBuilder::new().recursive(true).mode(0o755).create(parent).map_err(io("make the folder of"))?;
    }
    clear_stale(path)?;
    let listener = std::os::unix::net::UnixListener::bind(path).map_err(|source| match source.kind() {
        ErrorKind::AddrInUse => ServeError::InUse { path: path.to_owned(), pid: None },
        _ => io("listen on")(source),
    })?;
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).map_err(io("set the mode of"))?;
    let inode = std::fs::symlink_metadata(path).map_err(io("look at"))?.ino();
    listener.set_nonblocking(true).map_err(io("listen on"))?;
    Ok((UnixListener::from_std(listener).map_err(io("listen on"))?, inode))
}

/// Removes a socket that nobody serves any more.
fn clear_stale(path: &Path) -> Result<(), ServeError> {
    let io = |what| move |source| ServeError::Io { what, path: path.to_owned(), source };
    match std::fs::symlink_metadata(path) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(io("look at")(error)),
        Ok(file) if !file.file_type().is_socket() => return Err(ServeError::NotASocket { path: path.to_owned() }),
        Ok(_) => {}
    }
    match std::os::unix::net::UnixStream::connect(path) {
        Ok(stream) => {
            let owner = rustix::net::sockopt::socket_peercred(&stream).ok();
            let pid = owner.and_then(|owner| u32::try_from(owner.pid.as_raw_nonzero().get()).ok());
            Err(ServeError::InUse { path: path.to_owned(), pid })
        }
        Err(error) if error.kind() == ErrorKind::ConnectionRefused => {
            std::fs::remove_file(path).map_err(io("remove the stale socket"))
        }
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
        // A full backlog: somebody listens.
        Err(error) if error.kind() == ErrorKind::WouldBlock => {
            Err(ServeError::InUse { path: path.to_owned(), pid: None })
        }
        Err(error) => Err(io("try the existing socket")(error)),
    }
}

async fn accept(
    listener: UnixListener,
    accepted: mpsc::Sender<std::io::Result<Accepted>>,
    phases: watch::Receiver<Phase>,
) {
    let mut stopped = std::pin::pin!(reached(phases.clone(), Phase::Draining));
    let guests = Arc::new(Guests::default());
    let (mut failed, mut crowded, mut unnamed) = (Sparing::default(), Sparing::default(), Sparing::default());
    loop {
        let next = tokio::select! {
            () = &mut stopped => return,
            next = listener.accept() => next,
        };
        let connection = match next {
            Ok((stream, _)) => Peer::of(&stream).map(|peer| (stream, peer, guests.admit(peer.uid))),
            Err(error) => {
                if let Some(unsaid) = failed.say(clock::now()) {
                    tracing::warn!(%error, unsaid, "accept failed");
                }
                tokio::time::sleep(ACCEPT_PAUSE).await;
                continue;
            }
        };
        match connection {
            Ok((stream, peer, Some(place))) => {
                let cut = Box::pin(reached(phases.clone(), Phase::Cut));
                if accepted.send(Ok(Accepted { stream, peer, cut, _place: place })).await.is_err() {
                    return;
                }
            }
            Ok((_, peer, None)) => {
                if let Some(unsaid) = crowded.say(clock::now()) {
                    tracing::warn!(uid = peer.uid, pid = peer.pid, unsaid, "too many connections");
                }
            }
            Err(error) => {
                if let Some(unsaid) = unnamed.say(clock::now()) {
                    tracing::warn!(%error, unsaid, "peer unknown");
                }
            }
        }
    }
}

/// A connection with its process and its place.
struct Accepted {
    stream: UnixStream,
    peer: Peer,
    cut: Pin<Box<dyn Future<Output = ()> + Send>>,
    _place: Place,
}

impl Connected for Accepted {
    type ConnectInfo = Peer;

    fn connect_info(&self) -> Peer {
        self.peer
    }
}

impl AsyncRead for Accepted {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<std::io::Result<()>> {
        // As if the other end had closed it.
        if self.cut.as_mut().poll(cx).is_ready() {
            return Poll::Ready(Ok(()));
        }
        Pin::new(&mut self.stream).poll_read(cx, buf)
    }
}

impl AsyncWrite for Accepted {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<std::io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}
