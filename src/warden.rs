//! The warden as a process: sockets and PID 1 around the core, the journal under it.
//!
//! Rules implemented here:
//! * One task owns the core ([`engine`]); sockets only hand inputs over ([`mailbox`]).
//! * The journal is opened first, alone: a second warden on one folder gets no further. Damage lets the warden run, hold
//!   everything and say so, but write nothing. A failed write or sync ends the process at once ([`journal_thread`]).
//! * The warden calls nobody: it listens on Unix sockets and on its scrape port, and speaks to PID 1 through
//!   [`crate::backend`].
//!
//! ```text
//! agents, wrappers ─▶ agents_socket ──┐
//! root ─────────────▶ operator_socket ┼▶ mailbox ─▶ engine ─▶ journal_thread ─▶ disk
//! people ───────────▶ inspect_socket ─┘               └─────▶ backend (PID 1)
//! ```

pub mod agents_socket;
pub mod audience;
mod engine;
pub mod inspect_socket;
pub mod journal_thread;
pub mod mailbox;
pub mod operator_socket;
pub mod succession;
pub mod suspend;
pub mod timeline;

use crate::backend::Backend;
use crate::clock;
use crate::config::paths::Paths;
use crate::config::settings::Settings;
use crate::grpc::server::{ServeError, Server, serve};
use crate::http::{self, Health, HttpError};
use crate::inspect::receipts::Receipts;
use crate::journal::{Journal, JournalError, Salt, compact, last_roster, recover};
use crate::metrics::WardenMetrics;
use crate::protocol::roster::Roster;
use crate::protocol::signing::{KeyError, SigningKey, VerifyingKey};
use crate::protocol::types::{PersonaId, PublicKey};
use crate::protocol::warden::{Recovered, Warden, WardenConfig};
use crate::service_manager::notify;
use crate::wire::Proto;
use agents_socket::AgentsSocket;
use engine::{Engine, EngineError, Parts};
use inspect_socket::{Committee, InspectSocket};
use journal_thread::{Failed, JournalThread};
use mailbox::Mailbox;
use operator_socket::{Obeyed, OperatorSocket};
use std::future::Future;
use std::path::Path;
use std::sync::Arc;
use succession::SuccessionError;
use tokio::sync::{mpsc, watch};
use tracing::{error, info, warn};

/// A journal larger than this, in bytes, is compacted before the warden begins.
const COMPACT_ABOVE: u64 = 16 * 1024 * 1024;

/// Why a warden did not start, or ended.
#[derive(Debug, thiserror::Error)]
pub enum WardenError {
    /// The journal cannot be opened.
    #[error(transparent)]
    Journal(#[from] JournalError),
    /// The roster names another key.
    #[error("the roster names {named} as the warden's key, but the key file holds {held}")]
    NotTheRosters {
        /// In the roster.
        named: PublicKey,
        /// In the file.
        held: PublicKey,
    },
    /// The roster does not follow from the one that the journal knows.
    #[error(transparent)]
    Succession(#[from] SuccessionError),
    /// The key cannot be used.
    #[error(transparent)]
    Key(#[from] KeyError),
    /// A socket cannot be served.
    #[error(transparent)]
    Serve(#[from] ServeError),
    /// The scrape port does not stand.
    #[error(transparent)]
    Http(#[from] HttpError),
    /// The kernel does not give what every process gets.
    #[error("cannot {what}")]
    System {
        /// What was tried.
        what: &'static str,
        /// What the kernel said.
        source: std::io::Error,
    },
    /// The engine ended by itself.
    #[error(transparent)]
    Engine(#[from] EngineError),
}

/// A journal that was opened, alone, and what it says.
#[derive(Debug)]
pub struct OpenJournal {
    /// To write to; `None` when it is damaged.
    journal: Option<Journal>,
    recovered: Recovered,
    /// The roster that the last warden counted by.
    roster: Option<Roster>,
}

impl OpenJournal {
    /// Opens and reads the journal; compacts it when it has grown large.
    ///
    /// # Errors
    /// [`JournalError`] when it is missing, in use by another warden, or cannot be read. Damage is no error: see
    /// [`Recovered::damage`].
    pub fn open(path: &Path, key: &SigningKey) -> Result<Self, WardenError> {
        let opened = Journal::open(path)?;
        if opened.erased > 0 {
            warn!(bytes = opened.erased, "a half-written record at the journal's end was erased");
        }
        let verifier = VerifyingKey::new(key.public())?;
        let mut recovered = recover(&opened.records, opened.damage.as_ref(), &verifier, &Proto);
        let roster = last_roster(&opened.records, &Proto);
        let mut journal = opened.journal;
        if let Some(damage) = &recovered.damage {
            error!(damage, "everything is held, and nothing is written");
            return Ok(Self { journal: None, recovered, roster });
        }
        if journal.size() > COMPACT_ABOVE {
            match compact(&mut journal, Salt::random()?, &opened.records, key, &Proto) {
                Ok(head) => recovered.head = head,
                Err(JournalError::NoSpace) => warn!("no space to compact the journal; it goes on as it is"),
                Err(error) => return Err(error.into()),
            }
        }
        Ok(Self { journal: Some(journal), recovered, roster })
    }

    /// Goes on under this roster. A damaged journal stays as it is.
    fn take_over(&mut self, roster: &Roster, paths: &Paths) -> Result<(), SuccessionError> {
        let Some(journal) = &mut self.journal else { return Ok(()) };
        let unfinished = !self.recovered.open_intents.is_empty();
        self.recovered.head = succession::take_over(journal, self.roster.as_ref(), unfinished, roster, paths)?;
        Ok(())
    }
}

/// Runs a warden until `shutdown` is done: then it takes no more calls and lets the journal finish.
///
/// # Errors
/// [`WardenError`] when it cannot start, or PID 1 can no longer be watched. A journal that fails ends the process with exit
/// code 1 on the spot (rule S10).
pub async fn run<B: Backend>(
    settings: Settings,
    roster: Arc<Roster>,
    key: SigningKey,
    mut open: OpenJournal,
    backend: B,
    shutdown: impl Future<Output = ()>,
) -> Result<(), WardenError> {
    let named = roster.statement().warden;
    if named != key.public() {
        return Err(WardenError::NotTheRosters { named, held: key.public() });
    }
    let paths = &settings.paths;
    let (policy, backend) = (Arc::clone(&settings.policy), Arc::new(backend));
    let personas: Vec<PersonaId> = roster.members().map(|member| member.persona.clone()).collect();
    let metrics = WardenMetrics::new(&policy, &personas, settings.isolation);
    let health = Health::starting();
    let (stop, stopped) = watch::channel(false);
    let (announce, exposition) = (paths.metrics_address("warden"), metrics.exposition());
    // On a node the warden has no network of its own: the port is passed in.
    let scrape = match http::passed_in()? {
        Some(listener) => http::serve_on(listener, announce, exposition, health.clone(), ended(stopped))?,
        None if paths.dir().is_none() => {
            http::serve_when_free(settings.warden_metrics, announce, exposition, health.clone(), ended(stopped)).await?
        }
        None => http::serve(settings.warden_metrics, announce, exposition, health.clone(), ended(stopped)).await?,
    };
    let (mailbox, inbox) = Mailbox::open();
    let committee =
        Committee { roster: Arc::clone(&roster), policy: Arc::clone(&policy), isolation: settings.isolation };

    let own = rustix::process::geteuid().as_raw();
    // With one folder everything belongs to one user; on a node every persona has its own, and each call is checked.
    let (obeyed, shared) =
        if paths.dir().is_some() { (Obeyed::RootAnd { uid: own }, 0o600) } else { (Obeyed::Root, 0o666) };
    let agents = AgentsSocket::new(Arc::clone(&backend), Arc::clone(&policy), mailbox.clone(), metrics.clone());
    let operator = OperatorSocket::new(obeyed, Arc::clone(&policy), mailbox.clone());
    let inspect = InspectSocket::new(committee, mailbox);
    let servers: [Server; 3] = [
        serve(&paths.warden_socket(), shared, &[AgentsSocket::<B>::NAME], agents.routes())?,
        serve(&paths.operator_socket(), 0o600, &[OperatorSocket::NAME], operator.routes())?,
        serve(&paths.inspect_socket(), shared, &[InspectSocket::NAME], inspect.routes())?,
    ];
    // Only now that nothing of the outside can keep it from starting is anything written.
    open.take_over(&roster, paths)?;
    if let Some(damage) = &open.recovered.damage {
        health.not_ready(damage.clone());
    }
    let returns = mpsc::unbounded_channel();
    let journal = open.journal.map(|journal| JournalThread::start(journal, returns.0.clone(), fail_closed));
    let journal = journal.transpose().map_err(|source| WardenError::System { what: "start a thread", source })?;
    let mut receipts = Receipts::default();
    open.recovered.receipts.iter().cloned().for_each(|receipt| receipts.insert(receipt));
    let parts = Parts {
        roster: Arc::clone(&roster),
        policy: Arc::clone(&policy),
        isolation: settings.isolation,
        backend,
        journal,
        receipts,
        durable: open.recovered.head,
        metrics,
        health: health.clone(),
        returns,
    };
    let config = WardenConfig {
        key,
        roster,
        policy,
        boot: clock::boot_id().map_err(|source| WardenError::System { what: "read the boot id", source })?,
        codec: Proto,
        entropy: entropy()?,
        recovered: open.recovered,
    };
    let (core, born) = Warden::new(config, clock::now(), clock::unix_ms());
    info!(scrape = %scrape.addr, operator = %paths.operator_socket().display(), "the warden listens");
    let ended = Engine::new(core, born, parts).run(inbox, shutdown).await;

    health.not_ready("stopping");
    if ended.is_ok() {
        // Only then: an end by itself that says it stops would look to PID 1 as if somebody had stopped it.
        notify(&[sd_notify::NotifyState::Stopping]);
    }
    let _ = stop.send(true);
    // At once: a stranger who does not let go costs its second once, not on every socket.
    let [agents, operator, inspect] = servers;
    tokio::join!(agents.stop(), operator.stop(), inspect.stop());
    let _ = scrape.task.await;
    info!("the warden has stopped");
    Ok(ended?)
}

/// Rule S10: no retry, no further step.
fn fail_closed(error: Failed<JournalError>) {
    error!(%error, "the journal failed; the warden ends");
    std::process::exit(1);
}

fn entropy() -> Result<[u8; 32], WardenError> {
    let mut bytes = [0; 32];
    getrandom::fill(&mut bytes)
        .map_err(|error| WardenError::System { what: "get randomness", source: std::io::Error::other(error) })?;
    Ok(bytes)
}

async fn ended(mut stopped: watch::Receiver<bool>) {
    let _ = stopped.wait_for(|stopped| *stopped).await;
}
