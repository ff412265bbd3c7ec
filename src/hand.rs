//! The hand: the only process of root's that acts.
//!
//! The warden counts votes, keeps the journal and decides; it parses what guardians send, and so it has no privilege. The hand
//! has root's, and parses one line of JSON from one user. Rules:
//! * Only the warden's user is heard: the socket is its own, and the kernel is asked again.
//! * The action is what root's configuration says of the named rung; nothing but its number is taken from the warden.
//! * The unit is looked at right before, on PID 1's word, by the code that voters use: another run, a job, a stop, or a unit
//!   that was disabled, is left untouched. PID 1 obeys root at once, without asking polkit: a daemon that anybody on the bus
//!   can keep busy must not stand between the last look and the act.
//! * It remembers nothing. That no rung is carried out twice is the warden's journal's matter (rule S2); that no second run is
//!   touched is this one's.

use crate::backend::systemd::SystemdBackend;
use crate::backend::systemd::deed;
use crate::backend::{Backend as _, BackendError};
use std::future::Future;
use std::io;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::BufReader;
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::Semaphore;
use tracing::{info, warn};

/// Deeds at once: the warden has at most f under way, and a `run` rung may outlive its slot.
const AT_ONCE: usize = 16;
/// Longest wait for a caller's line.
const PATIENCE: Duration = Duration::from_secs(5);

/// Why the hand cannot work.
#[derive(Debug, thiserror::Error)]
pub enum HandError {
    /// It was not started by systemd.
    #[error("systemd passed no socket in: zeta-bft-hand.socket starts the hand")]
    NoSocket,
    /// The socket is of another kind.
    #[error("what systemd passed in is no Unix socket")]
    Socket(#[source] io::Error),
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
pub async fn run(backend: SystemdBackend, listener: UnixListener, warden: u32, shutdown: impl Future<Output = ()>) {
    let mut changes = backend.watch();
    let backend = Arc::new(backend);
    let free = Arc::new(Semaphore::new(AT_ONCE));
    tokio::pin!(shutdown);
    loop {
        tokio::select! {
            () = &mut shutdown => return,
            // It acts on what it reads at the moment; that there was a change is of no use to it.
            _ = changes.recv() => {}
            accepted = listener.accept() => match accepted {
                Ok((stream, _)) => {
                    let Ok(place) = Arc::clone(&free).try_acquire_owned() else {
                        warn!("too many deeds at once");
                        continue;
                    };
                    let backend = Arc::clone(&backend);
                    tokio::spawn(async move {
                        let _place = place;
                        if let Err(error) = serve(&backend, stream, warden).await {
                            warn!(%error, "a caller was not served");
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

async fn serve(backend: &SystemdBackend, stream: UnixStream, warden: u32) -> io::Result<()> {
    let caller = stream.peer_cred()?.uid();
    if caller != warden {
        return Err(io::Error::other(format!("user {caller} is not the warden's, {warden}")));
    }
    let mut stream = BufReader::new(stream);
    let taken = tokio::time::timeout(PATIENCE, deed::take(&mut stream)).await;
    let deed = match taken.map_err(|_| io::Error::from(io::ErrorKind::TimedOut))? {
        Ok(deed) => deed,
        Err(error) => {
            deed::tell(&mut stream, Err(BackendError::Untouched(error.to_string()))).await?;
            return Err(error);
        }
    };
    info!(subject = %deed.subject, rung = deed.rung, run = %deed.run, class = %deed.class, "asked to act");
    let went = backend.perform(&deed).await;
    if let Err(error) = &went {
        warn!(subject = %deed.subject, %error, "not done");
    }
    deed::tell(&mut stream, went).await
}
