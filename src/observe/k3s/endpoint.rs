//! One port, one held connection, and questions that nobody at the other end can make long or large.
//!
//! * Whoever asks takes the held connection and gives it back. When it does not come back soon, because another question
//!   hangs on it, a second one is made for this question alone: one path that hangs does not hide the others.
//! * The time limit runs from then to the last byte. An answer whose status is in time is an answer; what is missing of its
//!   body is not waited for beyond the limit.
//! * A held connection that its peer has closed is no fault: a fresh one is made at once. After [`HOLD_MAX`], when it was made
//!   under another CA or credential, or when the peer's certificate has ended, it is not used again.
//! * Who answers without TLS is asked only if the kernel says that the listener is k3s'. Who is silent before a handshake is
//!   over is a stranger if the kernel says so.

use super::listener::{self, Owner};
use super::tls::{Identity, Refusal};
use super::{Certificate, Probe};
use crate::clock;
use crate::protocol::types::Timestamp;
use hyper::body::{Body as _, Bytes, Incoming};
use hyper::client::conn::http1::{self, SendRequest};
use hyper::header::{AUTHORIZATION, HOST, USER_AGENT};
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use std::future::poll_fn;
use std::net::SocketAddr;
use std::pin::pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::task::JoinHandle;
use tokio::time::{Instant, timeout, timeout_at};

/// How long a connection is held at most: k3s may renew its certificate meanwhile.
pub(super) const HOLD_MAX: Duration = Duration::from_mins(10);
/// Most bytes of an answer's head.
const HEAD_MAX: usize = 16 * 1024;
/// Most bytes of a body that are read and thrown away, so that the connection can be held.
const DRAIN_MAX: usize = 64 * 1024;

/// A port that is asked again and again.
pub(super) struct Endpoint {
    address: SocketAddr,
    /// Whose listening socket it should be; `None`: anybody's.
    owner: Option<u32>,
    patience: Duration,
    held: tokio::sync::Mutex<Option<Held>>,
    leaf: Mutex<Option<Certificate>>,
}

/// What is asked for.
#[derive(Clone, Copy, Debug)]
pub(super) struct Question<'a> {
    pub(super) path: &'a str,
    /// Most bytes of the body that are kept.
    pub(super) keep: usize,
    /// Longest wait, on the connection that it is asked on.
    pub(super) limit: Duration,
}

/// What came back.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Answer {
    pub(super) code: u16,
    /// As much of the body as was wanted and came in time.
    pub(super) body: Vec<u8>,
    /// Whether that is all of it.
    pub(super) whole: bool,
}

/// Why a question on a connection has no answer.
enum Failed {
    Late,
    /// It was closed; with what the peer said against our certificate.
    Gone(Option<String>),
    Nonsense,
}

impl From<Failed> for Probe {
    fn from(failed: Failed) -> Self {
        match failed {
            Failed::Late | Failed::Gone(None) => Self::TimedOut,
            Failed::Gone(Some(reason)) => Self::Unable(reason),
            Failed::Nonsense => Self::Stranger,
        }
    }
}

/// Asks in the clear, on a connection that is there already.
///
/// # Errors
/// The probe that this comes to, when there is no answer.
pub(super) async fn ask_over<T>(stream: T, question: Question<'_>) -> Result<Answer, Probe>
where
    T: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let Question { path, keep, limit } = question;
    let end = clock::deadline(limit);
    let request = Request::get(path).header(HOST, "127.0.0.1").body(String::new());
    let request = request.map_err(|error| Probe::Unable(format!("{path:?} cannot be asked for: {error}")))?;
    Ok(Held::new(stream, None, None).await?.ask(request, keep, end).await.map_err(Probe::from)?.0)
}

impl Endpoint {
    /// `owner` is looked at on loopback only: of other nodes the kernel knows nothing.
    pub(super) fn new(address: SocketAddr, owner: Option<u32>, patience: Duration) -> Self {
        let owner = owner.filter(|_| address.ip().is_loopback());
        Self { address, owner, patience, held: tokio::sync::Mutex::default(), leaf: Mutex::default() }
    }

    /// The certificate that it showed last; `None` when it showed none that the CA vouches for, or once did.
    pub(super) fn leaf(&self) -> Option<Certificate> {
        self.leaf.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn set_leaf(&self, leaf: Option<Certificate>) {
        *self.leaf.lock().unwrap_or_else(PoisonError::into_inner) = leaf;
    }

    /// Asks, over TLS as `identity` or in the clear.
    ///
    /// # Errors
    /// The probe that this comes to, when there is no answer.
    pub(super) async fn get(&self, identity: Option<&Arc<Identity>>, question: Question<'_>) -> Result<Answer, Probe> {
        let Question { path, keep, limit } = question;
        let request = || self.request(identity, path);
        let Ok(mut held) = timeout(self.patience, self.held.lock()).await else {
            let end = clock::deadline(limit);
            return Ok(self.fresh(identity, request()?, keep, end).await?.0);
        };
        let end = clock::deadline(limit);
        if let Some(mut connection) = held.take().filter(|connection| connection.serves(identity)) {
            match connection.ask(request()?, keep, end).await {
                Ok((answer, true)) => {
                    *held = Some(connection);
                    return Ok(answer);
                }
                Ok((answer, false)) => return Ok(answer),
                Err(Failed::Late) => return Err(Probe::TimedOut),
                Err(Failed::Nonsense) => return Err(Probe::Stranger),
                // It was closed while nobody looked.
                Err(Failed::Gone(_)) => {}
            }
        }
        let (answer, connection) = self.fresh(identity, request()?, keep, end).await?;
        *held = connection;
        Ok(answer)
    }

    fn request(&self, identity: Option<&Arc<Identity>>, path: &str) -> Result<Request<String>, Probe> {
        let mut request = Request::get(path).header(HOST, self.address.to_string()).header(USER_AGENT, "zeta-bft");
        if let Some(bearer) = identity.and_then(|identity| identity.bearer.clone()) {
            request = request.header(AUTHORIZATION, bearer);
        }
        request.body(String::new()).map_err(|error| Probe::Unable(format!("{path:?} cannot be asked for: {error}")))
    }

    /// Asks on a connection of its own. Gives it back when it may be held.
    async fn fresh(
        &self,
        identity: Option<&Arc<Identity>>,
        request: Request<String>,
        keep: usize,
        end: Instant,
    ) -> Result<(Answer, Option<Held>), Probe> {
        let mut connection = match timeout_at(end, self.connect(identity)).await {
            Ok(connected) => connected?,
            Err(_) => {
                self.set_leaf(None);
                return Err(self.vouched().err().unwrap_or(Probe::TimedOut));
            }
        };
        let (answer, reusable) = connection.ask(request, keep, end).await.map_err(Probe::from)?;
        Ok((answer, reusable.then_some(connection)))
    }

    async fn connect(&self, identity: Option<&Arc<Identity>>) -> Result<Held, Probe> {
        let tcp = TcpStream::connect(self.address).await.map_err(|error| {
            self.set_leaf(None);
            match error.kind() {
                std::io::ErrorKind::ConnectionRefused => Probe::Refused,
                std::io::ErrorKind::TimedOut => Probe::TimedOut,
                _ => Probe::Unable(format!("{}: {error}", self.address)),
            }
        })?;
        let Some(identity) = identity else {
            self.vouched()?;
            return Held::new(tcp, None, None).await;
        };
        match identity.connect(tcp, self.address).await {
            Ok((tls, leaf)) => {
                self.set_leaf(Some(leaf.clone()));
                Held::new(tls, Some(Arc::clone(identity)), Some(leaf.not_after)).await
            }
            Err(Refusal::Stranger(leaf)) => {
                self.set_leaf(leaf);
                Err(Probe::Stranger)
            }
            Err(Refusal::Unwelcome(reason)) => {
                self.set_leaf(None);
                Err(Probe::Unable(reason))
            }
        }
    }

    /// Whether the listener is whose it should be, as far as the kernel can tell.
    fn vouched(&self) -> Result<(), Probe> {
        let Some(uid) = self.owner else { return Ok(()) };
        match listener::owner(self.address, uid) {
            Owner::Expected => Ok(()),
            // Whoever opens so many sockets that the kernel's list cannot be looked through is one, wherever it listens.
            Owner::Stranger(_) | Owner::Crowded => Err(Probe::Stranger),
            Owner::Unknown(reason) => Err(Probe::Unable(format!("whose {} is cannot be told: {reason}", self.address))),
        }
    }
}

/// A connection, and what it was made under.
struct Held {
    sender: SendRequest<String>,
    /// What drives it. Ends with it.
    driver: JoinHandle<Result<(), hyper::Error>>,
    identity: Option<Arc<Identity>>,
    until: Timestamp,
    leaf_ends: Option<u64>,
}

impl Drop for Held {
    fn drop(&mut self) {
        self.driver.abort();
    }
}

impl Held {
    async fn new<T>(stream: T, identity: Option<Arc<Identity>>, leaf_ends: Option<u64>) -> Result<Self, Probe>
    where
        T: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let (sender, connection) = http1::Builder::new()
            .max_buf_size(HEAD_MAX)
            .handshake(TokioIo::new(stream))
            .await
            .map_err(|error| Probe::Unable(format!("HTTP cannot begin: {error}")))?;
        let driver = tokio::spawn(connection);
        Ok(Self { sender, driver, identity, until: clock::now() + HOLD_MAX, leaf_ends })
    }

    fn serves(&self, identity: Option<&Arc<Identity>>) -> bool {
        let same = match (&self.identity, identity) {
            (None, None) => true,
            (Some(ours), Some(wanted)) => Arc::ptr_eq(ours, wanted),
            _ => false,
        };
        let in_time = self.leaf_ends.is_none_or(|end| clock::unix().as_secs() <= end) && clock::now() < self.until;
        same && in_time && !self.sender.is_closed()
    }

    /// One question. Says also whether the connection may be used again.
    async fn ask(&mut self, request: Request<String>, keep: usize, end: Instant) -> Result<(Answer, bool), Failed> {
        let asking = async {
            self.sender.ready().await?;
            self.sender.send_request(request).await
        };
        let response = match timeout_at(end, asking).await {
            Err(_) => return Err(Failed::Late),
            Ok(Err(error)) if error.is_parse() => return Err(Failed::Nonsense),
            Ok(Err(error)) => return Err(Failed::Gone(self.said_against_us(&error, end).await)),
            Ok(Ok(response)) => response,
        };
        let code = response.status().as_u16();
        let body = read(response, keep, end).await;
        // After `101` it is no HTTP any more.
        let reusable = body.ended && code >= 200;
        Ok((Answer { code, body: body.kept, whole: body.ended && body.all_kept }, reusable))
    }

    /// What the peer said against our certificate, here or where the connection was driven.
    async fn said_against_us(&mut self, error: &hyper::Error, end: Instant) -> Option<String> {
        let identity = self.identity.clone()?;
        if let Some(reason) = identity.unwelcome(error) {
            return Some(reason);
        }
        let driven = timeout_at(end, &mut self.driver).await.ok()?.ok()?;
        driven.err().and_then(|error| identity.unwelcome(&error))
    }
}

#[derive(Default)]
struct Read {
    kept: Vec<u8>,
    all_kept: bool,
    ended: bool,
}

/// Reads a body until it ends, becomes too long, breaks off, or the time is up.
async fn read(response: Response<Incoming>, keep: usize, end: Instant) -> Read {
    let mut read = Read { all_kept: true, ..Read::default() };
    let mut body = pin!(response.into_body());
    let mut seen = 0_usize;
    loop {
        let frame = match timeout_at(end, poll_fn(|cx| body.as_mut().poll_frame(cx))).await {
            Ok(Some(Ok(frame))) => frame,
            Ok(None) => {
                read.ended = true;
                return read;
            }
            Ok(Some(Err(_))) | Err(_) => return read,
        };
        let data: Bytes = frame.into_data().unwrap_or_default();
        let wanted = &data[..data.len().min(keep.saturating_sub(read.kept.len()))];
        read.kept.extend_from_slice(wanted);
        read.all_kept &= wanted.len() == data.len();
        seen = seen.saturating_add(data.len());
        if seen > keep.max(DRAIN_MAX) {
            return read;
        }
    }
}
