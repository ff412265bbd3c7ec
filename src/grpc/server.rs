//! Servers on Unix sockets, with peer credentials, limits, health and reflection.
//!
//! * A socket that a dead process left behind is replaced; one that a running process serves is never taken over.
//! * Every connection's process is known ([`peer`]) before a byte of it is read; one that the kernel will not name is closed.
//! * Connections and calls (of each user, and of all), message sizes, and the time until an answer begins are bounded (`calls`).
//!   Streams themselves may live for ever: HTTP/2 pings find the dead ones.

use super::calls::Visitor;
use super::limits::{Guests, Place, Sparing};
use super::running::{Accepted, Phase, Running, reached};
use super::{MAX_SOCKET_PATH, Peer};
use crate::clock;
use std::io::ErrorKind;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::{DirBuilderExt as _, FileTypeExt as _, MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::{mpsc, watch};
use tonic::Status;
use tonic::service::Routes;

/// Wait after a failed accept, as when no file descriptor is left.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);
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

/// A running server. Stops when dropped, without waiting.
#[derive(Debug)]
pub struct Server {
    running: Running,
    path: PathBuf,
    inode: u64,
}

impl Server {
    /// Takes no more connections, lets open calls end (for at most a second), cuts the rest, and removes the socket.
    pub async fn stop(mut self) {
        self.running.stop().await;
    }

    /// The socket.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Returns when the server has ended by itself, which it does not unless something is very wrong.
    pub async fn ended(&mut self) {
        self.running.ended().await;
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.running.cut();
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
    let (accepted, incoming) = mpsc::channel(1);
    let running = Running::start(services, routes, incoming, path.display().to_string())?;
    tokio::spawn(accept(listener, accepted, running.phases()));
    Ok(Server { running, path: path.to_owned(), inode })
}

/// Who sent a request.
///
/// # Errors
/// `UNAUTHENTICATED` when the transport does not tell.
pub fn peer<T>(request: &tonic::Request<T>) -> Result<Peer, Status> {
    let guest = request.extensions().get::<Guest>();
    guest.map(|guest| guest.peer).ok_or_else(|| Status::unauthenticated("the kernel does not tell who asks"))
}

/// A connection's process and its place.
#[derive(Clone)]
struct Guest {
    peer: Peer,
    place: Arc<Place<u32>>,
}

impl Visitor for Guest {
    type Guest = u32;

    fn place(&self) -> &Arc<Place<u32>> {
        &self.place
    }
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
    accepted: mpsc::Sender<std::io::Result<Accepted<UnixStream, Guest>>>,
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
                let guest = Guest { peer, place: Arc::new(place) };
                let connection = Accepted::new(stream, guest, reached(phases.clone(), Phase::Cut));
                if accepted.send(Ok(connection)).await.is_err() {
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
