//! `zeta-bft wrap`

use super::daemon;
use crate::config::paths::Paths;
use crate::config::settings::default_probe;
use crate::error::Failure;
use crate::protocol::types::PersonaId;
use crate::wrapper::{Relay, WrapperConfig, WrapperError, run as run_wrapper};
use std::process::ExitCode;
use std::time::Duration;
use tracing_subscriber::EnvFilter;

/// How long the last lines of output may take to be written.
const LAST_LINES: Duration = Duration::from_millis(500);

/// Runs a persona's command once per tick, with a time limit.
///
/// Answers the pings of every agent and the challenges of the warden, and says how ticks went, on its own socket. Ends with
/// exit 0 after SIGTERM or SIGINT, when nothing of a running tick is left.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Whose command.
    #[arg(long, value_parser = PersonaId::new)]
    persona: PersonaId,
    /// End, as after SIGTERM, when this process ends; it must be our parent.
    #[arg(long, value_name = "PID", hide = true)]
    parent: Option<u32>,
    /// The command of one tick; the configured one unless given.
    #[arg(last = true, value_name = "CMD")]
    command: Vec<String>,
}

/// Runs the command.
///
/// # Errors
/// [`Failure`] for people.
pub fn run(paths: &Paths, args: Args) -> Result<ExitCode, Failure> {
    let settings = crate::config::load(paths).map_err(|error| Failure::new(error).hint("run zeta-bft check-config"))?;
    let known: Vec<_> = settings.personas.keys().map(PersonaId::as_str).collect();
    let mut persona = settings.personas.get(&args.persona).cloned().ok_or_else(|| {
        Failure::new(format!("persona `{}` is not configured", args.persona))
            .hint(format!("configured are: {}", known.join(", ")))
    })?;
    if !args.command.is_empty() {
        // A configured probe is of the operator's choice; the default is the command's own.
        if persona.probe == default_probe(&persona.command) {
            persona.probe = default_probe(&args.command);
        }
        persona.command = args.command;
    }
    let config = WrapperConfig { persona: args.persona, paths: paths.clone(), settings: persona };

    let (relay, written) = Relay::start()?;
    log_through(relay.clone());
    let running = relay.clone();
    let result = daemon::block_on(args.parent, |shutdown| async move {
        let result = run_wrapper(config, running, shutdown).await;
        relay.close().await;
        written.wait(LAST_LINES).await;
        result.map_err(explained)
    });
    result.map(|()| ExitCode::SUCCESS)
}

fn explained(error: WrapperError) -> Failure {
    match error {
        WrapperError::Socket(_) => {
            Failure::new(error).hint("is another wrapper of this persona running? `zeta-bft quorum` shows its pid")
        }
        _ => Failure::new(error),
    }
}

/// Log events go the same way as output: a reader of ours who stops reading must not make us look hung.
fn log_through(relay: Relay) {
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new("info"));
    // A subscriber that is there already stays.
    let _ = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_ansi(false)
        .with_writer(move || relay.clone())
        .try_init();
}
