//! The scrape port: `/metrics`, `/livez`, `/readyz`.
//!
//! * `/metrics` speaks text format 0.0.4, or OpenMetrics to those who prefer it in their `Accept` header.
//! * `/livez` and `/readyz` are latches ([`Health`]): 200 `ok`, or 503 with the reason as plain text.
//! * The bound address is written down for those who look for it. Where it cannot be, as on a full `/run`, that is said, and
//!   keeps no daemon from its work.
//! * Strangers on loopback cannot hurt the daemon: connections are limited in number and in time, and only GET is known, one at
//!   a time on each: who begins to speak HTTP/2, which would have hundreds, is hung up on.

use crate::files;
use crate::metrics::{Exposition, Format};
use axum::extract::State;
use axum::http::header::{ACCEPT, CONTENT_TYPE};
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use std::future::Future;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::task::JoinHandle;
use tokio::time::Sleep;

/// Connections at once; more wait to be accepted.
const CONNECTIONS: usize = 32;
/// Longest life of a connection: a scraper that keeps it alive connects again.
const CONNECTION_LIFE: Duration = Duration::from_secs(60);
/// How HTTP/2 begins (RFC 9113, 3.4), and no method that is known here.
const HTTP_2: &[u8] = b"PRI";
/// How often an address that somebody else holds is tried again.
const TRY_AGAIN: Duration = Duration::from_secs(5);
/// How long answers under way may take once the daemon drains.
const DRAIN: Duration = Duration::from_secs(1);

/// What the daemon says of itself: alive, and ready to do its work. Cheap to clone; all clones share the latches.
#[derive(Clone, Debug)]
pub struct Health(Arc<Mutex<Latches>>);

#[derive(Debug)]
struct Latches {
    live: Result<(), String>,
    ready: Result<(), String>,
}

impl Health {
    /// Alive, but not ready yet.
    pub fn starting() -> Self {
        Self(Arc::new(Mutex::new(Latches { live: Ok(()), ready: Err("starting".into()) })))
    }

    fn latches(&self) -> std::sync::MutexGuard<'_, Latches> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The daemon does its work.
    pub fn ready(&self) {
        self.latches().ready = Ok(());
    }

    /// The daemon does not do its work (any more), and why.
    pub fn not_ready(&self, reason: impl Into<String>) {
        self.latches().ready = Err(reason.into());
    }

    /// The daemon is beyond help: whoever supervises it should restart it.
    pub fn dead(&self, reason: impl Into<String>) {
        self.latches().live = Err(reason.into());
    }

    /// Whether it is ready, or why not.
    ///
    /// # Errors
    /// The reason.
    pub fn readiness(&self) -> Result<(), String> {
        let latches = self.latches();
        latches.live.clone().and(latches.ready.clone())
    }

    /// Whether it is alive, or why not.
    ///
    /// # Errors
    /// The reason.
    pub fn liveness(&self) -> Result<(), String> {
        self.latches().live.clone()
    }
}

/// Why a scrape port does not stand.
#[derive(Debug, thiserror::Error)]
pub enum HttpError {
    /// The address cannot be listened on.
    #[error("the scrape port cannot listen on {addr} (set another address for its metrics in node.toml)")]
    Bind {
        /// As configured.
        addr: SocketAddr,
        /// Why not.
        source: std::io::Error,
    },
    /// What the service manager passed in is no listening socket.
    #[error("the scrape port was to be passed in, but what came is no listening TCP socket")]
    PassedIn(#[source] std::io::Error),
}

/// A scrape port that stands.
#[derive(Debug)]
pub struct Bound {
    /// The address it got: the one that was asked for, with a real port in place of 0.
    pub addr: SocketAddr,
    /// Ends after the shutdown future, when answers under way are out.
    pub task: JoinHandle<()>,
}

/// Listens on `addr` (port 0 takes a free one), writes the bound address to the file `announce`, and serves until
/// `shutdown` is done.
///
/// # Errors
/// [`HttpError`] when the address is taken.
pub async fn serve(
    addr: SocketAddr,
    announce: PathBuf,
    metrics: Exposition,
    health: Health,
    shutdown: impl Future<Output = ()> + Send + 'static,
) -> Result<Bound, HttpError> {
    let listener = TcpListener::bind(addr).await.map_err(|source| HttpError::Bind { addr, source })?;
    serve_on(listener, announce, metrics, health, shutdown)
}

/// As [`serve`], but where anybody may take a port of loopback, an address in use keeps no daemon from its work: it is said
/// once, and tried again until it is free.
///
/// # Errors
/// [`HttpError`] when the listening socket does not say its address.
pub async fn serve_when_free(
    addr: SocketAddr,
    announce: PathBuf,
    metrics: Exposition,
    health: Health,
    shutdown: impl Future<Output = ()> + Send + 'static,
) -> Result<Bound, HttpError> {
    let error = match TcpListener::bind(addr).await {
        Ok(listener) => return serve_on(listener, announce, metrics, health, shutdown),
        Err(error) => error,
    };
    tracing::error!(%addr, %error, "nobody can scrape this daemon until its port is free; everything else goes on");
    let task = tokio::spawn(async move {
        let mut shutdown = Box::pin(shutdown);
        let listener = loop {
            tokio::select! {
                () = tokio::time::sleep(TRY_AGAIN) => {}
                () = &mut shutdown => return,
            }
            if let Ok(listener) = TcpListener::bind(addr).await {
                break listener;
            }
        };
        match serve_on(listener, announce, metrics, health, shutdown) {
            Ok(bound) => {
                tracing::info!(%addr, "the scrape port is free at last");
                let _ = bound.task.await;
            }
            Err(error) => tracing::error!(%error, "nobody can scrape this daemon"),
        }
    });
    Ok(Bound { addr, task })
}

/// The listening socket that the service manager passed in (`LISTEN_FDS`: the first one), for a daemon that may not open one
/// itself; `None` when it passed in nothing. It can be taken once, and no child inherits it.
///
/// # Errors
/// [`HttpError::PassedIn`] when it is something else.
pub fn passed_in() -> Result<Option<TcpListener>, HttpError> {
    if std::env::var_os("LISTEN_FDS").is_none() {
        return Ok(None);
    }
    let taken = listenfd::ListenFd::from_env().take_tcp_listener(0).map_err(HttpError::PassedIn)?;
    let Some(listener) = taken else { return Ok(None) };
    listener.set_nonblocking(true).and_then(|()| TcpListener::from_std(listener)).map(Some).map_err(HttpError::PassedIn)
}

/// As [`serve`], on a socket that listens already.
///
/// # Errors
/// [`HttpError`] when the listening socket does not say its address.
pub fn serve_on(
    listener: TcpListener,
    announce: PathBuf,
    metrics: Exposition,
    health: Health,
    shutdown: impl Future<Output = ()> + Send + 'static,
) -> Result<Bound, HttpError> {
    let bound = listener.local_addr().map_err(HttpError::PassedIn)?;
    write_address(&announce, bound);

    let router = axum::Router::new()
        .route("/metrics", get(scrape))
        .route("/livez", get(|State(state): State<Served>| async move { latch(state.health.liveness()) }))
        .route("/readyz", get(|State(state): State<Served>| async move { latch(state.health.readiness()) }))
        .with_state(Served { metrics, health });
    let listener = Limited { listener, free: Arc::new(Semaphore::new(CONNECTIONS)) };
    let (drain, draining) = tokio::sync::oneshot::channel::<()>();
    let serving = axum::serve(listener, router).with_graceful_shutdown(async move {
        shutdown.await;
        drop(drain);
    });
    let task = tokio::spawn(async move {
        let late = async {
            let _ = draining.await;
            tokio::time::sleep(DRAIN).await;
        };
        tokio::select! {
            _ = serving => {}
            () = late => {}
        }
    });
    Ok(Bound { addr: bound, task })
}

/// Whole or not at all: readers never see half an address. Anybody who fills a tmpfs that we share could keep it from being
/// written, so nothing rests on it.
fn write_address(path: &Path, addr: SocketAddr) {
    let folder = path.parent().map_or(Ok(()), std::fs::create_dir_all);
    let written = folder.and_then(|()| files::replace(path, format!("{addr}\n").as_bytes(), 0o644));
    if let Err(error) = written {
        // Rather no address than an earlier one.
        let _ = std::fs::remove_file(path);
        tracing::warn!(path = %path.display(), %addr, %error, "the scrape address cannot be written down; all else goes on");
    }
}

#[derive(Clone)]
struct Served {
    metrics: Exposition,
    health: Health,
}

async fn scrape(State(served): State<Served>, headers: HeaderMap) -> Response {
    let accepts: Vec<_> = headers.get_all(ACCEPT).iter().filter_map(|value| value.to_str().ok()).collect();
    let format = Format::preferred(&accepts.join(","));
    ([(CONTENT_TYPE, format.content_type())], served.metrics.render(format)).into_response()
}

fn latch(state: Result<(), String>) -> Response {
    match state {
        Ok(()) => (StatusCode::OK, "ok\n").into_response(),
        Err(reason) => (StatusCode::SERVICE_UNAVAILABLE, format!("{reason}\n")).into_response(),
    }
}

/// A listener with at most so many connections, each of limited life.
struct Limited {
    listener: TcpListener,
    free: Arc<Semaphore>,
}

impl axum::serve::Listener for Limited {
    type Io = Connection;
    type Addr = SocketAddr;

    async fn accept(&mut self) -> (Connection, SocketAddr) {
        let permit = Arc::clone(&self.free).acquire_owned().await.expect("the semaphore is never closed");
        let (stream, addr) = axum::serve::Listener::accept(&mut self.listener).await;
        (Connection { stream, life: Box::pin(tokio::time::sleep(CONNECTION_LIFE)), heard: 0, _permit: permit }, addr)
    }

    fn local_addr(&self) -> std::io::Result<SocketAddr> {
        self.listener.local_addr()
    }
}

struct Connection {
    stream: TcpStream,
    life: Pin<Box<Sleep>>,
    /// Bytes of [`HTTP_2`] that it began with so far; [`usize::MAX`] once it began with something else.
    heard: usize,
    _permit: OwnedSemaphorePermit,
}

impl Connection {
    fn spent(&mut self, cx: &mut Context<'_>) -> bool {
        self.life.as_mut().poll(cx).is_ready()
    }

    /// Whether it turns out to speak HTTP/2. The server would, too: whether its library can is for other parts of this program
    /// to choose, and it does not ask.
    fn speaks_http_2(&mut self, bytes: &[u8]) -> bool {
        for byte in bytes {
            match HTTP_2.get(self.heard) {
                Some(next) if next == byte => self.heard += 1,
                Some(_) => self.heard = usize::MAX,
                None => break,
            }
        }
        self.heard == HTTP_2.len()
    }
}

impl AsyncRead for Connection {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<std::io::Result<()>> {
        if self.spent(cx) {
            return Poll::Ready(Err(std::io::ErrorKind::TimedOut.into()));
        }
        let before = buf.filled().len();
        let read = Pin::new(&mut self.stream).poll_read(cx, buf);
        if self.speaks_http_2(&buf.filled()[before..]) {
            return Poll::Ready(Err(std::io::ErrorKind::Unsupported.into()));
        }
        read
    }
}

impl AsyncWrite for Connection {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<std::io::Result<usize>> {
        if self.spent(cx) {
            return Poll::Ready(Err(std::io::ErrorKind::TimedOut.into()));
        }
        Pin::new(&mut self.stream).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}
