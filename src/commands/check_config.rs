//! `zeta-bft check-config`

use super::ask::print;
use crate::config::paths::Paths;
use crate::config::{self, ConfigError, Settings};
use crate::doctor::finding::Level;
use crate::doctor::set_up;
use crate::error::Failure;
use crate::protocol::policy::Mode;
use std::collections::BTreeSet;
use std::io;
use std::path::PathBuf;
use std::process::ExitCode;

/// Reads the configuration and says what is wrong with it.
///
/// Without FILE it checks the whole set-up: configuration, roster, keys and journal.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Check this file alone.
    file: Option<PathBuf>,
}

/// Runs the command.
///
/// # Errors
/// [`Failure`] for people.
pub fn run(paths: &Paths, args: Args) -> Result<ExitCode, Failure> {
    let mut findings = Vec::new();
    let settings = match &args.file {
        Some(file) => config::load_file(paths, file)?,
        None => {
            let settings = config::load(paths).map_err(|error| match &error {
                ConfigError::Unreadable { source, .. } if source.kind() == io::ErrorKind::NotFound => {
                    Failure::new(error).hint("`zeta-bft init` writes a first configuration")
                }
                _ => Failure::new(error),
            })?;
            findings = set_up::check(&settings).findings;
            settings
        }
    };
    let (errors, notes): (Vec<_>, Vec<_>) = findings.iter().partition(|finding| finding.level == Level::Error);
    for note in notes {
        say!("note: {}", note.text);
    }
    for error in &errors {
        complain!("error: {}", error.text);
    }
    if !errors.is_empty() {
        return Ok(ExitCode::FAILURE);
    }
    print(&summary(&settings))?;
    Ok(ExitCode::SUCCESS)
}

/// What is configured, and how much failure it bears (`f+1+s ≤ q ≤ E−f'`).
fn summary(settings: &Settings) -> String {
    let policy = &settings.policy;
    let vendors: BTreeSet<_> = settings.personas.values().map(|persona| &persona.vendor).collect();
    let (f, q) = (settings.f as usize, settings.q as usize);
    let mode = match policy.mode {
        Mode::Observe => "observe: writes what it would do, touches nothing",
        Mode::Act => "act: repairs",
    };
    let margin = |whose: &str, eligible: usize| {
        format!(
            "  {whose}: {eligible} vendors may vote, {q} must agree; bears {} of them silent or faulty, {} wrongly suspicious\n",
            eligible.saturating_sub(q),
            q.saturating_sub(f + 1),
        )
    };
    let listeners: Vec<_> = settings.tcp.iter().map(|(persona, tcp)| format!("{persona} on {}", tcp.listen)).collect();
    let tcp = match listeners[..] {
        [] => String::new(),
        _ => format!("tcp, mutual TLS: {}\n", listeners.join(", ")),
    };
    let subjects: Vec<_> = policy.subjects.keys().map(|subject| subject.as_str()).collect();
    format!(
        "OK: node {} of cluster {}\nmode {mode}{}\n{} personas of {} vendors, f = {f}, q = {q}\n{}{}subjects: {}\n{tcp}policy {}\n",
        settings.node,
        settings.cluster,
        if policy.drill { " (DRILL: budgets or cool-downs are lifted)" } else { "" },
        settings.personas.len(),
        vendors.len(),
        margin("repair of a persona or its agent", vendors.len().saturating_sub(1)),
        margin("repair of anything else", vendors.len()),
        subjects.join(", "),
        policy.digest,
    )
}
