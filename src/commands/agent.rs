//! `zeta-bft agent`

use super::daemon;
use crate::agent::{self, Agent, AgentError};
use crate::backend::process::ProcessBackend;
use crate::config::paths::Paths;
use crate::error::Failure;
use crate::grpc::server::ServeError;
use crate::keys;
use crate::protocol::types::PersonaId;
use std::process::ExitCode;

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
    let (settings, roster) = daemon::committee_of_up(paths)?;
    let key = keys::load(&paths.persona_key(&args.persona))?;
    let backend = ProcessBackend::new(paths.pid1_socket(), settings.policy.subjects.keys().cloned());
    let agent = Agent { persona: args.persona, key, settings, roster, backend };
    daemon::block_on(args.parent, |shutdown| async move { agent::run(agent, shutdown).await.map_err(explained) })?;
    Ok(ExitCode::SUCCESS)
}

fn explained(error: AgentError) -> Failure {
    let hint = match &error {
        AgentError::Socket(ServeError::InUse { .. }) => Some("stop the other agent, or give this one its own --dir"),
        AgentError::Socket(ServeError::PathTooLong { .. }) => Some("choose a shorter --dir"),
        AgentError::NotTheRosters(_) => Some("`zeta-bft keygen` makes a key, `zeta-bft init` signs a roster with it"),
        _ => None,
    };
    let failure = Failure::new(error);
    match hint {
        Some(hint) => failure.hint(hint),
        None => failure,
    }
}
