//! The agent as a process: senses, peers and warden around one guardian.
//!
//! * One task owns the [`Guardian`](crate::protocol::guardian::Guardian) (`mind`). Everything else only brings it inputs
//!   or carries its effects out, and nothing that can block is done there. It also answers the warden's challenges itself:
//!   an agent whose guardian is wedged does not answer.
//! * Every observation is the agent's own: PID 1's word, pings and ticks of every wrapper, each on a connection whose
//!   process the kernel names.
//! * What peers send is cut to a rate per peer before anything is verified, and waits in bounded queues in which votes come
//!   first; own observations and the warden's word do not wait behind it, and a challenge waits behind nothing.
//! * Every connection is made anew after a break, with backoff. No vendor is ever asked for anything.

mod inspect;
mod k3s;
mod lines;
mod mind;
mod peers;
mod receipt;
mod tcp;
mod units;
mod warden;
mod wrappers;

#[cfg(test)]
mod tests;

use crate::backend::Backend;
use crate::config::Settings;
use crate::grpc::server::{self, ServeError};
use crate::grpc::tls;
use crate::http;
use crate::metrics::AgentMetrics;
use crate::observe::k3s::SettingsError;
use crate::observe::k3s::lookout::Lookout;
use crate::protocol::guardian::{Guardian, GuardianConfig};
use crate::protocol::policy::SubjectKind;
use crate::protocol::roster::Roster;
use crate::protocol::signing::SigningKey;
use crate::protocol::types::PersonaId;
use crate::service_manager::notify;
use crate::wire::Proto;
use crate::wire::v1::inspect_service_server::SERVICE_NAME as INSPECT;
use crate::wire::v1::peer_service_server::SERVICE_NAME as PEER;
use crate::{clock, keys};
use std::collections::BTreeMap;
use std::future::Future;
use std::sync::Arc;
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tracing::info;

/// Everybody on the node may knock: peers are known by their process, and statements prove their authors.
const SOCKET_MODE: u32 = 0o666;

/// Why an agent did not start, or ended by itself.
#[derive(Debug, thiserror::Error)]
pub enum AgentError {
    /// Nobody of this name is configured.
    #[error("there is no persona `{persona}` in the configuration, only {known}")]
    UnknownPersona {
        /// The wish.
        persona: PersonaId,
        /// Who there is.
        known: String,
    },
    /// The key is not the one that the roster names.
    #[error("the key of {0} is not the one that the roster names: restore it, or sign a new roster")]
    NotTheRosters(PersonaId),
    /// The socket cannot be had.
    #[error(transparent)]
    Socket(#[from] ServeError),
    /// The key is of no use for TCP.
    #[error(transparent)]
    Tls(#[from] tls::BadKey),
    /// The scrape port cannot be had.
    #[error(transparent)]
    Scrape(#[from] http::HttpError),
    /// A k3s cannot be looked at as configured.
    #[error(transparent)]
    K3s(#[from] SettingsError),
    /// The kernel does not tell the boot.
    #[error("cannot read this boot's id")]
    Boot(#[source] std::io::Error),
    /// A part of the agent is gone.
    #[error("the agent's {0} ended by itself")]
    Ended(&'static str),
}

/// What an agent is made from.
#[derive(Debug)]
pub struct Agent<B> {
    /// Who it speaks for.
    pub persona: PersonaId,
    /// Its persona's long-lived key.
    pub key: SigningKey,
    /// Everything configured.
    pub settings: Settings,
    /// Who may vote.
    pub roster: Arc<Roster>,
    /// PID 1.
    pub backend: B,
}

/// Runs an agent until `shutdown` is done; then drains.
///
/// # Errors
/// [`AgentError`] says what is missing, or which part ended by itself.
pub async fn run<B: Backend>(agent: Agent<B>, shutdown: impl Future<Output = ()>) -> Result<(), AgentError> {
    let Agent { persona, key, settings, roster, backend } = agent;
    let me = settings.personas.get(&persona).ok_or_else(|| AgentError::UnknownPersona {
        persona: persona.clone(),
        known: settings.personas.keys().map(PersonaId::as_str).collect::<Vec<_>>().join(", "),
    })?;
    if roster.member(&persona).is_none_or(|member| member.key != key.public()) {
        return Err(AgentError::NotTheRosters(persona));
    }
    let (paths, policy) = (&settings.paths, &settings.policy);
    let personas: Vec<_> = roster.members().map(|member| member.persona.clone()).collect();
    let metrics = AgentMetrics::new(policy, &personas, settings.isolation);
    let health = http::Health::starting();
    let receipt = paths.last_receipt(&persona);
    let tcp = tcp::Tcp::of(&settings, &persona, &key)?;
    let guardian = Guardian::new(GuardianConfig {
        persona: persona.clone(),
        persona_key: key,
        session_key: keys::generate(),
        roster: Arc::clone(&roster),
        policy: Arc::clone(policy),
        boot: clock::boot_id().map_err(AgentError::Boot)?,
        codec: Proto,
        last_receipt: receipt::load(&receipt),
    });

    let (mouth, ears) = mind::open();
    let (units, known_units) = units::Units::new();
    let mut tasks = JoinSet::new();
    let mut observers = BTreeMap::new();
    let findings = k3s::Findings::default();
    for (subject, config) in &settings.k3s {
        let Some(configured) = policy.subject(subject) else { continue };
        let (observe, wanted) = mpsc::channel(4);
        observers.insert(subject.clone(), observe);
        let lookout = paths.dir().is_none().then(|| Lookout::new(paths.lookout(subject), subject.clone()));
        let (findings, metrics) = (findings.clone(), metrics.clone());
        let k3s = k3s::K3s::new(subject.clone(), configured.exit_zero, config, lookout, findings, metrics)?;
        tasks.spawn(k3s.watch(mouth.clone(), known_units.clone(), wanted));
    }
    for (subject, configured) in &policy.subjects {
        let SubjectKind::Wrapper(watched) = &configured.kind else { continue };
        let (observe, wanted) = mpsc::channel(4);
        observers.insert(subject.clone(), observe);
        let wrapper = wrappers::Wrapper {
            subject: subject.clone(),
            persona: watched.clone(),
            socket: paths.wrapper_socket(watched),
            ping: policy.timing.ping,
        };
        tasks.spawn(wrapper.watch(mouth.clone(), known_units.clone(), wanted, metrics.clone()));
    }
    tasks.spawn(units::watch(backend, units, mouth.clone()));
    tasks.spawn(warden::keep_connected(paths.warden_socket(), mouth.clone()));
    let gossip = Arc::new(peers::Gossip {
        me: persona.clone(),
        roster: Arc::clone(&roster),
        policy: Arc::clone(policy),
        paths: paths.clone(),
        tcp: tcp.clone(),
        units: known_units,
        mouth: mouth.clone(),
        metrics: metrics.clone(),
        fetches: peers::Fetches::from_each(&personas),
        admissions: std::sync::Mutex::default(),
    });
    for peer in personas.iter().filter(|peer| gossip.dials(peer)) {
        tasks.spawn(Arc::clone(&gossip).keep_dialled(peer.clone()));
    }

    let inspector = inspect::Inspector {
        me: persona.clone(),
        roster: Arc::clone(&roster),
        policy: Arc::clone(policy),
        isolation: settings.isolation,
        mouth: mouth.clone(),
        findings,
    };
    let routes = || peers::routes(Arc::clone(&gossip)).add_service(inspect::service(inspector.clone()));
    let socket = server::serve(&paths.agent_socket(&persona), SOCKET_MODE, &[PEER, INSPECT], routes())?;
    let mut door = None;
    if let Some(tcp) = tcp {
        door = tcp.serve(routes(), metrics.clone())?;
        tasks.spawn(tcp.follow(metrics.clone()));
    }
    let (drain, draining) = tokio::sync::oneshot::channel::<()>();
    let announce = paths.metrics_address(&format!("agent-{persona}"));
    let (addr, exposition) = (me.agent_metrics, metrics.exposition());
    let drained = async {
        let _ = draining.await;
    };
    let scrape = if paths.dir().is_none() {
        http::serve_when_free(addr, announce, exposition, health.clone(), drained).await?
    } else {
        http::serve(addr, announce, exposition, health.clone(), drained).await?
    };
    info!(%persona, socket = %socket.path().display(), metrics = %scrape.addr, "agent started");
    notify(&[sd_notify::NotifyState::Ready]);

    let mind = mind::Mind::new(guardian, gossip, observers, metrics, health, receipt::keeper(receipt));
    let ended = tokio::select! {
        () = shutdown => Ok(()),
        () = mind.think(ears) => Err(AgentError::Ended("guardian")),
        _ = tasks.join_next() => Err(AgentError::Ended("observer")),
    };
    info!(%persona, "agent stops");
    if ended.is_ok() {
        // Only then: an end by itself that says it stops would look to PID 1 as if somebody had stopped it.
        notify(&[sd_notify::NotifyState::Stopping]);
    }
    tasks.abort_all();
    drop(drain);
    if let Some(door) = door {
        door.stop().await;
    }
    socket.stop().await;
    let _ = scrape.task.await;
    ended
}
