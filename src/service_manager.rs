//! What a daemon tells the service manager that started it, if one did (`sd_notify(3)`).

use sd_notify::NotifyState;
use std::convert::Infallible;

/// Tells it. That it cannot be told is logged, and no more.
pub fn notify(state: &[NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(state) {
        tracing::warn!(%error, "the service manager cannot be told");
    }
}

/// Tells it that the runtime turns, twice per its interval; for ever, and without one never.
pub async fn feed_watchdog() -> Infallible {
    let Some(interval) = sd_notify::watchdog_enabled() else { return std::future::pending().await };
    let mut timer = tokio::time::interval(interval / 2);
    loop {
        timer.tick().await;
        notify(&[NotifyState::Watchdog]);
    }
}
