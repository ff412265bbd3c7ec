//! `zeta-bft lookout`

use super::daemon;
use crate::config::paths::Paths;
use crate::error::Failure;
use crate::lookout;
use crate::service_manager::{feed_watchdog, notify};
use sd_notify::NotifyState;
use std::process::ExitCode;

/// Tells the service manager that there is nothing to look at, and no reason to start it again.
const NOTHING_TO_DO: u8 = 77;

/// Looks at what root alone may read, and tells agents: what `zeta-bft-lookout.service` runs.
#[derive(Debug, clap::Args)]
pub struct Args {}

/// Runs the command.
///
/// # Errors
/// [`Failure`] for people.
pub fn run(paths: &Paths, _: Args) -> Result<ExitCode, Failure> {
    daemon::start_log();
    if paths.dir().is_some() {
        return Err(Failure::new("under `zeta-bft up` agents look themselves").hint("the lookout is for a node"));
    }
    let settings = crate::config::load(paths).map_err(|error| Failure::new(error).hint("run zeta-bft check-config"))?;
    let watched = lookout::watched(&settings);
    if watched.is_empty() {
        tracing::info!("no k3s is configured: there is nothing to look at");
        notify(&[NotifyState::Ready, NotifyState::Stopping]);
        return Ok(ExitCode::from(NOTHING_TO_DO));
    }
    daemon::block_on(None, |shutdown| async move {
        notify(&[NotifyState::Ready]);
        tokio::select! {
            ended = lookout::run(watched, shutdown) => ended.map_err(Failure::new)?,
            never = feed_watchdog() => match never {},
        }
        notify(&[NotifyState::Stopping]);
        Ok(())
    })?;
    Ok(ExitCode::SUCCESS)
}
