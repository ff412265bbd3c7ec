//! `zeta-bft hand`

use super::daemon;
use crate::backend::systemd::SystemdBackend;
use crate::config::paths::Paths;
use crate::config::users::{Users, WARDEN};
use crate::error::Failure;
use crate::hand;
use crate::service_manager::{feed_watchdog, notify};
use sd_notify::NotifyState;
use std::process::ExitCode;
use std::sync::Arc;

/// Carries out what the warden decided: what `zeta-bft-hand.service` runs.
#[derive(Debug, clap::Args)]
pub struct Args {}

/// Runs the command.
///
/// # Errors
/// [`Failure`] for people.
pub fn run(paths: &Paths, _: Args) -> Result<ExitCode, Failure> {
    daemon::start_log();
    if paths.dir().is_some() {
        return Err(Failure::new("under `zeta-bft up` it is `up` that acts").hint("the hand is for systemd's units"));
    }
    let settings = crate::config::load(paths).map_err(|error| Failure::new(error).hint("run zeta-bft check-config"))?;
    let warden = Users::OfThisMachine
        .find(WARDEN)
        .map(|user| user.uid)
        .ok_or_else(|| Failure::new(format!("there is no user {WARDEN}")).hint("run systemd-sysusers"))?;
    daemon::block_on(None, |shutdown| async move {
        let listener = hand::passed_in().map_err(Failure::new)?;
        let backend = SystemdBackend::new(Arc::clone(&settings.policy), settings.paths.clone(), false);
        notify(&[NotifyState::Ready]);
        tokio::select! {
            ended = hand::run(backend, listener, warden, shutdown) => ended.map_err(Failure::new)?,
            never = feed_watchdog() => match never {},
        }
        notify(&[NotifyState::Stopping]);
        Ok(())
    })?;
    Ok(ExitCode::SUCCESS)
}
