//! The only place that reads a clock.

use crate::protocol::types::{BootId, Timestamp};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// Now, on `CLOCK_BOOTTIME`.
pub fn now() -> Timestamp {
    read(rustix::time::ClockId::Boottime)
}

/// Time since boot without suspends, on `CLOCK_MONOTONIC`: against [`now`] it shows a resume.
pub fn monotonic() -> Timestamp {
    read(rustix::time::ClockId::Monotonic)
}

fn read(clock: rustix::time::ClockId) -> Timestamp {
    let t = rustix::time::clock_gettime(clock);
    let nanos = u64::try_from(t.tv_sec).unwrap_or(0) * 1_000_000_000 + u64::try_from(t.tv_nsec).unwrap_or(0);
    Timestamp::from_nanos(nanos)
}

/// Time since 1970, for people: no safety rule rests on it.
#[allow(clippy::disallowed_methods)]
pub fn unix() -> Duration {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default()
}

/// The moment `after` from now, on the runtime's own clock: for how long a shell waits, never for a rule.
#[allow(clippy::disallowed_methods)]
pub fn deadline(after: Duration) -> tokio::time::Instant {
    tokio::time::Instant::now() + after
}

/// Whether a [`deadline`] has come.
pub fn is_past(moment: tokio::time::Instant) -> bool {
    deadline(Duration::ZERO) >= moment
}

/// Milliseconds of [`unix`].
pub fn unix_ms() -> u64 {
    u64::try_from(unix().as_millis()).unwrap_or(u64::MAX)
}

/// This boot, as the kernel names it.
///
/// # Errors
/// When `/proc` is not mounted or its text is no UUID.
pub fn boot_id() -> std::io::Result<BootId> {
    let text = std::fs::read_to_string("/proc/sys/kernel/random/boot_id")?;
    let hex: String = text.trim().chars().filter(|c| *c != '-').collect();
    data_encoding::HEXLOWER_PERMISSIVE
        .decode(hex.as_bytes())
        .ok()
        .and_then(|bytes| BootId::from_slice(&bytes))
        .ok_or_else(|| std::io::Error::other(format!("/proc/sys/kernel/random/boot_id holds no UUID: {text:?}")))
}
