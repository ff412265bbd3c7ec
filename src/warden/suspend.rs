//! Notices that the node slept: `CLOCK_BOOTTIME` went on, `CLOCK_MONOTONIC` did not.

use crate::clock;
use std::time::Duration;

/// A shorter sleep is not worth a reset of everybody's patience.
const LEAST: Duration = Duration::from_millis(100);

/// Remembers how far the two clocks were apart.
#[derive(Debug)]
pub struct SuspendWatch {
    apart: Duration,
}

impl SuspendWatch {
    /// As the clocks stand now.
    pub fn begin() -> Self {
        Self { apart: apart() }
    }

    /// Whether the node slept since the last question.
    pub fn resumed(&mut self) -> bool {
        self.moved_to(apart())
    }

    fn moved_to(&mut self, apart: Duration) -> bool {
        let slept = apart.saturating_sub(self.apart) > LEAST;
        if slept {
            self.apart = apart;
        }
        slept
    }
}

/// How far the clocks are apart, or less: a pause between the two readings must not look like a sleep of the node.
fn apart() -> Duration {
    let boottime = clock::now();
    boottime.saturating_since(clock::monotonic())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sleep_is_told_once_and_jitter_never() {
        let mut watch = SuspendWatch { apart: Duration::from_secs(5) };
        assert!(!watch.moved_to(Duration::from_millis(5050)));
        assert!(watch.moved_to(Duration::from_secs(6)));
        assert!(!watch.moved_to(Duration::from_secs(6)));
        assert!(!watch.moved_to(Duration::from_secs(5)));
    }
}
