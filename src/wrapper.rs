//! The wrapper as a process: one command per tick, answers pings, keeps how ticks went.
//!
//! * Liveness and progress are two things: [`service`] answers a ping by itself, and a tick, however it goes, neither makes
//!   nor breaks an answer. Nothing that a tick prints, and nobody who fails to read it, can hold the answers up.
//! * A tick is its whole process tree. It has a process group, and this process is its subreaper: when a tick ends, for
//!   whatever reason, nothing of it lives on ([`family`]).
//! * A tick that leaves open whether the program itself is to blame is followed by the program's [`probe`].
//! * The warden's challenges are answered at once, on a stream held open for them ([`challenge`]).
//! * Exit 0 comes after SIGTERM, SIGINT or the parent's end, and after nothing else.

mod challenge;
mod family;
mod probe;
mod relay;
mod repair;
mod service;
mod tick;

pub use relay::Relay;

use crate::config::paths::Paths;
use crate::config::settings::PersonaSettings;
use crate::grpc::server::{self, ServeError};
use crate::http::{self, Health, HttpError};
use crate::metrics::WrapperMetrics;
use crate::protocol::types::PersonaId;
use crate::service_manager::{feed_watchdog, notify};
use crate::wire::v1::wrapper_service_server::{SERVICE_NAME, WrapperServiceServer};
use service::{Progress, Service};
use std::future::Future;
use std::time::Duration;
use tokio::sync::watch;

/// Agents run as other users; who may reach the socket at all is said by its folder.
const SOCKET_MODE: u32 = 0o666;
/// Longest that a drain may take: systemd's and `up`'s patience is longer.
const DRAIN: Duration = Duration::from_secs(4);

/// What a wrapper is made from.
#[derive(Clone, Debug)]
pub struct WrapperConfig {
    /// Whose.
    pub persona: PersonaId,
    /// Where sockets lie.
    pub paths: Paths,
    /// Command, interval, limit, patterns, scrape address.
    pub settings: PersonaSettings,
}

/// Why a wrapper ends in any other way than asked.
#[derive(Debug, thiserror::Error)]
pub enum WrapperError {
    /// Its socket cannot be had.
    #[error("the wrapper's socket cannot be served")]
    Socket(#[from] ServeError),
    /// Its scrape port cannot be had.
    #[error("the wrapper's metrics cannot be served")]
    Metrics(#[from] HttpError),
    /// The kernel lends no means to end ticks as a whole.
    #[error("cannot become the subreaper of ticks")]
    Subreaper(#[source] std::io::Error),
    /// A part of it ended by itself.
    #[error("{0} ended unexpectedly")]
    Ended(&'static str),
}

/// Runs ticks until `shutdown` is done, then drains.
///
/// # Errors
/// [`WrapperError`] when it cannot start, or cannot go on.
pub async fn run(
    config: WrapperConfig,
    relay: Relay,
    shutdown: impl Future<Output = ()> + Send + 'static,
) -> Result<(), WrapperError> {
    family::adopt_orphans().map_err(WrapperError::Subreaper)?;

    let (stop, stopped) = watch::channel(false);
    let metrics = WrapperMetrics::new();
    let health = Health::starting();
    let progress = Progress::new(config.settings.tick_interval, metrics.clone());

    let socket = config.paths.wrapper_socket(&config.persona);
    let service =
        WrapperServiceServer::new(Service::new(progress.clone())).max_decoding_message_size(crate::grpc::MAX_MESSAGE);
    let mut server = server::serve(&socket, SOCKET_MODE, &[SERVICE_NAME], tonic::service::Routes::new(service))?;
    let announce = config.paths.metrics_address(&format!("wrap-{}", config.persona));
    let (addr, exposition) = (config.settings.wrapper_metrics, metrics.exposition());
    let scrape = if config.paths.dir().is_none() {
        http::serve_when_free(addr, announce, exposition, health.clone(), until(stopped.clone())).await?
    } else {
        http::serve(addr, announce, exposition, health.clone(), until(stopped.clone())).await?
    };

    let answering = tokio::spawn(challenge::answer(config.paths.warden_socket()));
    let mut ticking = tokio::spawn(tick::run_all(config.clone(), progress, relay, stopped));
    tracing::info!(persona = %config.persona, socket = %socket.display(), metrics = %scrape.addr, "wrapper ready");
    health.ready();
    notify(&[sd_notify::NotifyState::Ready]);

    let end = tokio::select! {
        () = shutdown => Ok(()),
        () = server.ended() => Err(WrapperError::Ended("the server")),
        _ = &mut ticking => Err(WrapperError::Ended("the tick loop")),
        never = feed_watchdog() => match never {},
    };
    tracing::info!(persona = %config.persona, "draining");
    health.not_ready("draining");
    if end.is_ok() {
        // Only then: an end by itself that says it stops would look to PID 1 as if somebody had stopped it.
        notify(&[sd_notify::NotifyState::Stopping]);
    }
    let _ = stop.send(true);
    if !ticking.is_finished() && tokio::time::timeout(DRAIN, &mut ticking).await.is_err() {
        tracing::error!(persona = %config.persona, "a tick's processes outlive the drain");
    }
    answering.abort();
    server.stop().await;
    let _ = tokio::time::timeout(DRAIN, scrape.task).await;
    end
}

async fn until(mut stopped: watch::Receiver<bool>) {
    // A sender that is gone means the same.
    let _ = stopped.wait_for(|stopped| *stopped).await;
}
