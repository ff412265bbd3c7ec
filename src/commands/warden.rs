//! `zeta-bft warden`

use super::daemon;
use crate::backend::process::ProcessBackend;
use crate::backend::systemd::SystemdBackend;
use crate::config::paths::Paths;
use crate::error::Failure;
use crate::keys;
use crate::warden::succession::SuccessionError;
use crate::warden::{self, OpenJournal, WardenError};
use std::process::ExitCode;
use std::sync::Arc;

/// Counts vendors, journals, decides; the hand, or `up`, carries it out.
#[derive(Debug, clap::Args)]
pub struct Args {
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
    let key = keys::load(&keys::place(paths, paths.warden_key()))?;
    let journal = OpenJournal::open(&paths.journal(), &key).map_err(explained)?;
    daemon::block_on(args.parent, |shutdown| async move {
        let policy = Arc::clone(&settings.policy);
        let ended = if paths.dir().is_some() {
            let backend = ProcessBackend::new(paths.pid1_socket(), policy.subjects.keys().cloned());
            warden::run(settings, roster, key, journal, backend, shutdown).await
        } else {
            let backend = SystemdBackend::new(policy, paths.clone(), settings.page.is_some());
            warden::run(settings, roster, key, journal, backend, shutdown).await
        };
        ended.map_err(explained)
    })?;
    Ok(ExitCode::SUCCESS)
}

fn explained(error: WardenError) -> Failure {
    use crate::journal::JournalError;
    let hint = match &error {
        WardenError::Journal(JournalError::Missing { .. }) => Some("run `zeta-bft init` on a new node"),
        WardenError::Journal(JournalError::InUse { .. }) => {
            Some("stop the other warden, or give this one its own --dir")
        }
        WardenError::Succession(SuccessionError::RolledBack { .. } | SuccessionError::Unlinked { .. }) => Some(
            "restore the roster, or sign the next one with `zeta-bft roster sign`; for a cloned machine see the operations page",
        ),
        WardenError::Succession(SuccessionError::Unfinished { .. }) => {
            Some("start the warden once more with the old roster and key: it settles what it began")
        }
        WardenError::NotTheRosters { .. } => Some("sign a roster that names this key, or restore the key it names"),
        _ => None,
    };
    let failure = Failure::new(error);
    match hint {
        Some(hint) => failure.hint(hint),
        None => failure,
    }
}
