//! The hand: the only process of root's that acts.
//!
//! The warden counts votes, keeps the journal and decides; it parses what guardians send, and so it has no privilege. The hand
//! has root's, and parses one line of JSON from one user. Rules:
//! * Only the warden's user is heard: the socket is its own, and the kernel is asked again.
//! * The action is what root's configuration says of the named rung; nothing but its number is taken from the warden.
//! * The unit is looked at right before, on PID 1's word, by the code that voters use: another run, a job, a stop, or a unit
//!   that was disabled, is left untouched. PID 1 obeys root at once, without asking polkit: a daemon that anybody on the bus
//!   can keep busy must not stand between the last look and the act.
//! * An order is for now: one that is late, or whose caller has gone, is not carried out.
//! * A node that observes is left alone, whatever the warden says.
//! * It remembers nothing. That no rung is carried out twice is the warden's journal's matter (rule S2); that no second run is
//!   touched is this one's.

use crate::backend::systemd::SystemdBackend;
use crate::backend::systemd::deed;
use crate::backend::{Backend as _, BackendError};
use crate::clock;
use crate::grpc::limits::Sparing;
use std::future::Future;
use std::io;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::BufReader;
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::{Semaphore, mpsc};
use tracing::{info, warn};

/// Deeds at once: the warden has at most f under way, and a `run` rung may outlive its slot.
const AT_ONCE: usize = 16;
/// Longest wait for a caller's line.
const PATIENCE: Duration = Duration::from_secs(5);

/// Callers that are told that there are too many, at once.
const TOLD: usize = 64;

/// Why the hand cannot work.
#[derive(Debug, thiserror::Error)]
pub enum HandError {
    /// It was not started by systemd.
    #[error("systemd passed no socket in: zeta-bft-hand.socket starts the hand")]
    NoSocket,
    /// The socket is of another kind.
    #[error("what systemd passed in is no Unix socket")]
    Socket(#[source] io::Error),
    /// Nothing follows PID 1 any more.
    #[error("nothing follows PID 1 any more")]
    Blind,
}

/// The socket that systemd passed in.
///
/// # Errors
/// [`HandError`] when there is none.
pub fn passed_in() -> Result<UnixListener, HandError> {
    let taken = listenfd::ListenFd::from_env().take_unix_listener(0).map_err(HandError::Socket)?;
    let listener = taken.ok_or(HandError::NoSocket)?;
    listener.set_nonblocking(true).and_then(|()| UnixListener::from_std(listener)).map_err(HandError::Socket)
}

/// Does what the user `warden` asks for, until `shutdown` is done.
///
/// # Errors
/// [`HandError::Blind`] when it had better be started anew.
pub async fn run(
    backend: SystemdBackend,
    listener: UnixListener,
    warden: u32,
    shutdown: impl Future<Output = ()>,
) -> Result<(), HandError> {
    let mut changes = backend.watch();
    let backend = Arc::new(backend);
    let (free, told) = (Arc::new(Semaphore::new(AT_ONCE)), Arc::new(Semaphore::new(TOLD)));
    let mut complaints = Sparing::default();
    let (failed, mut failures) = mpsc::channel::<io::Error>(1);
    tokio::pin!(shutdown);
    loop {
        tokio::select! {
            () = &mut shutdown => return Ok(()),
            // It acts on what it reads at the moment; that there was a change is of no use to it.
            change = changes.recv() => drop(change.ok_or(HandError::Blind)?),
            Some(error) = failures.recv() => {
                if let Some(unsaid) = complaints.say(clock::now()) {
                    warn!(%error, unsaid, "a caller was not served");
                }
            }
            accepted = listener.accept() => match accepted {
                Ok((stream, _)) => {
                    let (backend, failed) = (Arc::clone(&backend), failed.clone());
                    let (place, busy) = (Arc::clone(&free).try_acquire_owned(), Arc::clone(&told).try_acquire_owned());
                    tokio::spawn(async move {
                        let served = match (&place, &busy) {
                            (Ok(_), _) => serve(&backend, stream, warden).await,
                            (Err(_), Ok(_)) => refuse(stream, warden).await,
                            (Err(_), Err(_)) => Err(io::Error::other("too many callers at once")),
                        };
                        if let Err(error) = served {
                            // One complaint waits: more would say the same.
                            let _ = failed.try_send(error);
                        }
                    });
                }
                Err(error) => {
                    warn!(%error, "accept failed");
                    tokio::time::sleep(Duration::from_millis(50)).await;
                }
            },
        }
    }
}

/// The caller, if it is the warden's user.
fn known(stream: UnixStream, warden: u32) -> io::Result<BufReader<UnixStream>> {
    let caller = stream.peer_cred()?.uid();
    if caller == warden {
        Ok(BufReader::new(stream))
    } else {
        Err(io::Error::other(format!("user {caller} is not the warden's, {warden}")))
    }
}

/// Says that there is too much to be done already.
async fn refuse(stream: UnixStream, warden: u32) -> io::Result<()> {
    let why = format!("{AT_ONCE} deeds are under way: no more are begun");
    deed::tell(&mut known(stream, warden)?, Err(BackendError::Untouched(why))).await
}

async fn serve(backend: &SystemdBackend, stream: UnixStream, warden: u32) -> io::Result<()> {
    let mut stream = known(stream, warden)?;
    let taken = tokio::time::timeout(PATIENCE, deed::take(&mut stream)).await;
    let deed = match taken.map_err(|_| io::Error::from(io::ErrorKind::TimedOut))? {
        Ok(deed) => deed,
        Err(error) => {
            deed::tell(&mut stream, Err(BackendError::Untouched(error.to_string()))).await?;
            return Err(error);
        }
    };
    info!(subject = %deed.subject, rung = deed.rung, run = %deed.run, class = %deed.class, "asked to act");
    let went = backend.perform(&deed, deed::begin(&mut stream)).await;
    if let Err(error) = &went {
        warn!(subject = %deed.subject, %error, "not done");
    }
    deed::tell(&mut stream, went).await
}
