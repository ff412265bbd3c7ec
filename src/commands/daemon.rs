//! What the daemons' commands share: the log, the runtime, and when to stop.

use crate::config::paths::Paths;
use crate::config::{self, Settings};
use crate::error::Failure;
use crate::protocol::roster::Roster;
use crate::up::parent::watch_parent;
use crate::wire::Proto;
use std::future::Future;
use std::sync::Arc;
use tokio::signal::unix::{SignalKind, signal};
use tracing_subscriber::EnvFilter;

/// Log events go to standard error, from `info` up unless `RUST_LOG` says otherwise.
pub fn start_log() {
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new("info"));
    // A second start in one process (tests) keeps the first.
    let _ = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_ansi(std::io::IsTerminal::is_terminal(&std::io::stderr()))
        .try_init();
}

/// What is configured, and who may vote.
///
/// # Errors
/// [`Failure`] when the two cannot be read or do not go together.
pub fn committee(paths: &Paths) -> Result<(Settings, Arc<Roster>), Failure> {
    let hint = "run `zeta-bft check-config`";
    let settings = config::load(paths).map_err(|error| Failure::new(error).hint(hint))?;
    let roster = config::roster::load(&paths.roster(), &Proto)?;
    config::roster::check_fits(&roster, &settings).map_err(|error| Failure::new(error).hint(hint))?;
    Ok((settings, roster))
}

/// Runs a daemon on a current-thread runtime. It is given a future that is done when it should drain: at SIGTERM, SIGINT, or
/// the end of `parent`, the process of `up` that started it.
///
/// # Errors
/// What the daemon says, or that the runtime or the signals cannot be had.
pub fn block_on<D, F>(parent: Option<u32>, daemon: D) -> Result<(), Failure>
where
    D: FnOnce(std::pin::Pin<Box<dyn Future<Output = ()> + Send>>) -> F,
    F: Future<Output = Result<(), Failure>>,
{
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let mut terminate = signal(SignalKind::terminate())?;
        let mut interrupt = signal(SignalKind::interrupt())?;
        let shutdown = async move {
            tokio::select! {
                _ = terminate.recv() => tracing::info!("asked to stop"),
                _ = interrupt.recv() => tracing::info!("interrupted"),
                gone = watch_parent(parent) => match gone {
                    Ok(()) => tracing::info!("the parent is gone"),
                    Err(error) => tracing::error!(%error, "the parent cannot be watched"),
                },
            }
        };
        daemon(Box::pin(shutdown)).await
    })
}
