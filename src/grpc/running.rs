//! What all servers share, whatever they listen on: routes, limits, health, reflection, and how they end.

use super::calls::{self, Visitor};
use super::server::ServeError;
use crate::wire;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;
use tonic::service::Routes;
use tonic::transport::server::Connected;

/// How often an idle connection is tried, and how long the answer may take.
const KEEP_ALIVE: Duration = Duration::from_secs(5);
/// Longest that open calls may take once the server is to stop.
const DRAIN_LIMIT: Duration = Duration::from_secs(1);

/// How far a server is. Only ever rises.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Phase {
    /// Takes connections.
    Serving,
    /// Takes no more; open calls may end.
    Draining,
    /// What is still open is cut.
    Cut,
}

/// Returns when the server is as far as that.
pub(super) async fn reached(mut phases: watch::Receiver<Phase>, wanted: Phase) {
    let _ = phases.wait_for(|phase| *phase >= wanted).await;
}

/// The gRPC half of a server. What is accepted reaches it through a channel.
#[derive(Debug)]
pub(super) struct Running {
    phase: watch::Sender<Phase>,
    task: JoinHandle<()>,
    health: tonic_health::server::HealthReporter,
}

impl Running {
    /// Serves `routes` to whatever comes out of `incoming`, with `grpc.health.v1` and server reflection for `services`. `place`
    /// is for the log.
    pub(super) fn start<S, I>(
        services: &[&'static str],
        routes: Routes,
        incoming: mpsc::Receiver<std::io::Result<Accepted<S, I>>>,
        place: String,
    ) -> Result<Self, ServeError>
    where
        S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
        I: Visitor + Unpin,
    {
        let (health, health_service) = tonic_health::server::health_reporter();
        let routes = routes.add_service(health_service).add_service(reflection(services).build_v1()?);
        let routes = Routes::from(routes.into_axum_router().layer(axum::middleware::from_fn(calls::limit::<I>)));
        let (phase, phases) = watch::channel(Phase::Serving);
        let server = tonic::transport::Server::builder()
            .max_concurrent_streams(calls::OF_ONE_CONNECTION)
            .initial_stream_window_size(calls::STREAM_WINDOW)
            .initial_connection_window_size(calls::CONNECTION_WINDOW)
            .http2_max_header_list_size(calls::HEADERS)
            .http2_keepalive_interval(Some(KEEP_ALIVE))
            .http2_keepalive_timeout(Some(KEEP_ALIVE))
            .add_routes(routes)
            .serve_with_incoming_shutdown(
                tokio_stream::wrappers::ReceiverStream::new(incoming),
                reached(phases, Phase::Draining),
            );
        let (reporter, names) = (health.clone(), services.to_vec());
        let task = tokio::spawn(async move {
            for name in names {
                reporter.set_service_status(name, tonic_health::ServingStatus::Serving).await;
            }
            if let Err(error) = server.await {
                tracing::error!(place, %error, "server ended");
            }
        });
        Ok(Self { phase, task, health })
    }

    pub(super) fn phases(&self) -> watch::Receiver<Phase> {
        self.phase.subscribe()
    }

    /// Takes no more connections, lets open calls end (for at most a second), cuts the rest.
    pub(super) async fn stop(&mut self) {
        self.health.set_service_status("", tonic_health::ServingStatus::NotServing).await;
        self.phase.send_replace(Phase::Draining);
        if tokio::time::timeout(DRAIN_LIMIT, &mut self.task).await.is_err() {
            self.cut();
            let _ = tokio::time::timeout(DRAIN_LIMIT, &mut self.task).await;
        }
    }

    /// At once.
    pub(super) fn cut(&self) {
        self.phase.send_replace(Phase::Cut);
    }

    /// Returns when it has ended by itself.
    pub(super) async fn ended(&mut self) {
        let _ = (&mut self.task).await;
    }
}

fn reflection<'a>(services: &[&'static str]) -> tonic_reflection::server::Builder<'a> {
    let builder = tonic_reflection::server::Builder::configure()
        .register_encoded_file_descriptor_set(wire::DESCRIPTORS)
        .register_encoded_file_descriptor_set(tonic_health::pb::FILE_DESCRIPTOR_SET)
        .with_service_name("grpc.health.v1.Health");
    services.iter().fold(builder, |builder, name| builder.with_service_name(*name))
}

/// A connection that may be cut, with whom it is to. What else is dropped with it is up to `I`.
pub(super) struct Accepted<S, I> {
    stream: S,
    with: I,
    cut: Pin<Box<dyn Future<Output = ()> + Send>>,
}

impl<S, I> Accepted<S, I> {
    pub(super) fn new(stream: S, with: I, cut: impl Future<Output = ()> + Send + 'static) -> Self {
        Self { stream, with, cut: Box::pin(cut) }
    }
}

impl<S, I: Clone + Send + Sync + 'static> Connected for Accepted<S, I> {
    type ConnectInfo = I;

    fn connect_info(&self) -> I {
        self.with.clone()
    }
}

impl<S: AsyncRead + Unpin, I: Unpin> AsyncRead for Accepted<S, I> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<std::io::Result<()>> {
        // As if the other end had closed it.
        if self.cut.as_mut().poll(cx).is_ready() {
            return Poll::Ready(Ok(()));
        }
        Pin::new(&mut self.stream).poll_read(cx, buf)
    }
}

impl<S: AsyncWrite + Unpin, I: Unpin> AsyncWrite for Accepted<S, I> {
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
