//! `zeta-bft agent`

use super::daemon;
use crate::agent::{self, Agent, AgentError};
use crate::backend::process::ProcessBackend;
use crate::backend::systemd::SystemdBackend;
use crate::config::paths::Paths;
use crate::error::Failure;
use crate::grpc::server::ServeError;
use crate::keys;
use crate::protocol::types::PersonaId;
use std::process::ExitCode;
use std::sync::Arc;

/// The sidecar of one persona: observes, signs, gossips, votes.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Whose sidecar: a persona of the roster.
    #[arg(long, value_name = "NAME", value_parser = PersonaId::new)]
    persona: PersonaId,
    /// The process of `up` that started this one: it drains when that one ends.
    #[arg(long, value_name = "PID", hide = true)]
    parent: Option<u32>,
}

/// Runs the command.
///
/// # Errors
/// [`Failure`] for people.
pub fn run(paths: &Paths, args: Args) -> Result<ExitCode, Failure> {
    daemon::start_log();
    let (settings, roster) = daemon::committee(paths)?;
    let key = keys::load(&keys::place(paths, paths.persona_key(&args.persona)))?;
    let persona = args.persona;
    daemon::block_on(args.parent, |shutdown| async move {
        let policy = Arc::clone(&settings.policy);
        let ended = if paths.dir().is_some() {
            let backend = ProcessBackend::new(paths.pid1_socket(), policy.subjects.keys().cloned());
            agent::run(Agent { persona, key, settings, roster, backend }, shutdown).await
        } else {
            let backend = SystemdBackend::new(policy, paths.clone(), settings.page.is_some());
            agent::run(Agent { persona, key, settings, roster, backend }, shutdown).await
        };
        ended.map_err(explained)
    })?;
    Ok(ExitCode::SUCCESS)
}

fn explained(error: AgentError) -> Failure {
    let hint = match &error {
        AgentError::Socket(ServeError::InUse { .. }) => Some("stop the other agent, or give this one its own --dir"),
        AgentError::Socket(ServeError::PathTooLong { .. }) => Some("choose a shorter --dir"),
        AgentError::NotTheRosters(_) => {
            Some("`zeta-bft keygen` makes a key, `zeta-bft roster sign` signs the next roster with it")
        }
        _ => None,
    };
    let failure = Failure::new(error);
    match hint {
        Some(hint) => failure.hint(hint),
        None => failure,
    }
}
