//! Clients of Unix sockets: one connection to one process, with deadlines and backoff.
//!
//! A [`Connection`] never reconnects behind the caller's back: the process at the other end is known and stays the same,
//! and a break is seen as a failed call. Reconnecting is the caller's, with [`Backoff`].

use super::{MAX_SOCKET_PATH, Peer};
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::UnixStream;
use tonic::transport::{Channel, Endpoint};

/// Longest that connecting may take.
pub const CONNECT_LIMIT: Duration = Duration::from_secs(2);
/// How often an idle connection is tried, and how long the answer may take.
const KEEP_ALIVE: Duration = Duration::from_secs(2);

/// A connection to one process.
#[derive(Clone, Debug)]
pub struct Connection {
    /// For the generated clients. Broken once, it stays broken.
    pub channel: Channel,
    /// The process that listens there.
    pub peer: Peer,
}

/// Why there is no connection.
#[derive(Debug, thiserror::Error)]
pub enum ConnectError {
    /// The path cannot be a socket's.
    #[error("the socket path {path} is {len} bytes long, at most {MAX_SOCKET_PATH} are possible")]
    PathTooLong {
        /// Which.
        path: PathBuf,
        /// Its length.
        len: usize,
    },
    /// Nothing is there.
    #[error("nothing serves {path}")]
    Absent {
        /// Which.
        path: PathBuf,
        /// What the kernel said.
        source: std::io::Error,
    },
    /// The kernel refused.
    #[error("cannot connect to {path}")]
    Refused {
        /// Which.
        path: PathBuf,
        /// What the kernel said.
        source: std::io::Error,
    },
    /// Not in time.
    #[error("{path} took longer than {} s to connect", CONNECT_LIMIT.as_secs())]
    TimedOut {
        /// Which.
        path: PathBuf,
    },
    /// The other end speaks no HTTP/2.
    #[error("{path} does not speak gRPC")]
    Handshake {
        /// Which.
        path: PathBuf,
        /// What went wrong.
        source: tonic::transport::Error,
    },
}

/// Connects, within [`CONNECT_LIMIT`].
///
/// # Errors
/// [`ConnectError`] says what is missing.
pub async fn connect(path: &Path) -> Result<Connection, ConnectError> {
    let len = path.as_os_str().as_bytes().len();
    if len > MAX_SOCKET_PATH {
        return Err(ConnectError::PathTooLong { path: path.to_owned(), len });
    }
    tokio::time::timeout(CONNECT_LIMIT, dial(path))
        .await
        .unwrap_or_else(|_| Err(ConnectError::TimedOut { path: path.to_owned() }))
}

async fn dial(path: &Path) -> Result<Connection, ConnectError> {
    use std::io::ErrorKind;
    let refused = |source: std::io::Error| match source.kind() {
        ErrorKind::NotFound | ErrorKind::ConnectionRefused => ConnectError::Absent { path: path.to_owned(), source },
        _ => ConnectError::Refused { path: path.to_owned(), source },
    };
    let stream = UnixStream::connect(path).await.map_err(refused)?;
    let peer = Peer::of(&stream).map_err(refused)?;
    let channel =
        channel_over(stream).await.map_err(|source| ConnectError::Handshake { path: path.to_owned(), source })?;
    Ok(Connection { channel, peer })
}

/// HTTP/2 over one stream, and over no other once that has broken.
pub(super) async fn channel_over<S>(stream: S) -> Result<Channel, tonic::transport::Error>
where
    S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    let stream = Mutex::new(Some(stream));
    let once = tower::service_fn(move |_: tonic::codegen::http::Uri| {
        let stream = stream.lock().ok().and_then(|mut stream| stream.take());
        std::future::ready(
            stream
                .map(hyper_util::rt::TokioIo::new)
                .ok_or_else(|| std::io::Error::from(std::io::ErrorKind::ConnectionAborted)),
        )
    });
    // The address is never resolved: the connector above ignores it.
    Endpoint::from_static("http://localhost")
        .http2_keep_alive_interval(KEEP_ALIVE)
        .keep_alive_timeout(KEEP_ALIVE)
        .keep_alive_while_idle(true)
        .connect_with_connector(once)
        .await
}

/// How long to wait before the next attempt: 50 ms, doubling to 2 s, each shortened by up to a half at random, so that
/// those who lost one server together do not come back together.
#[derive(Clone, Debug)]
pub struct Backoff {
    next: Duration,
}

impl Backoff {
    /// The first wait.
    pub const FIRST: Duration = Duration::from_millis(50);
    /// The longest wait.
    pub const LONGEST: Duration = Duration::from_secs(2);

    /// Begins with [`Backoff::FIRST`].
    pub const fn new() -> Self {
        Self { next: Self::FIRST }
    }

    /// After a success: begin again.
    pub fn reset(&mut self) {
        self.next = Self::FIRST;
    }

    /// The next wait. Without entropy it is simply not shortened.
    pub fn next_delay(&mut self) -> Duration {
        self.shortened(getrandom::u32().unwrap_or(0))
    }

    fn shortened(&mut self, entropy: u32) -> Duration {
        let delay = self.next;
        self.next = (delay * 2).min(Self::LONGEST);
        let half = u64::try_from((delay / 2).as_nanos()).unwrap_or(u64::MAX);
        delay - Duration::from_nanos(half.saturating_mul(u64::from(entropy)) / u64::from(u32::MAX))
    }
}

impl Default for Backoff {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_backoff_doubles_to_its_limit_and_jitter_takes_at_most_half() {
        let mut backoff = Backoff::new();
        let whole: Vec<_> = (0..8).map(|_| backoff.shortened(0).as_millis()).collect();
        assert_eq!(whole, [50, 100, 200, 400, 800, 1600, 2000, 2000]);
        assert_eq!(backoff.shortened(u32::MAX).as_millis(), 1000);
        backoff.reset();
        assert_eq!(backoff.shortened(u32::MAX).as_millis(), 25);
    }
}
