//! A virtual wrapper: the process that runs a persona's ticks and answers pings.

use std::time::Duration;
use zeta_bft::protocol::evidence::{FaultClass, Reason, TickEnd, TickState};
use zeta_bft::protocol::types::Timestamp;

/// What becomes of a persona's ticks: the truth, which outlives the process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Work {
    Good,
    /// Every tick fails, until that many restarts were made.
    Broken {
        restarts: u32,
    },
    /// Every tick meets a quota or an auth error.
    Environment,
}

/// One run of a wrapper.
#[derive(Clone, Debug)]
pub struct Wrapper {
    pub pid: u32,
    pub ticks: TickState,
    /// When a tick last failed in this run, on the world's clock.
    pub last_failed: Option<u64>,
}

impl Wrapper {
    pub fn new(pid: u32, interval: Duration) -> Self {
        Self { pid, ticks: TickState { interval, ..TickState::default() }, last_failed: None }
    }

    pub fn begin(&mut self, now: Timestamp) {
        self.ticks.begun += 1;
        self.ticks.running_since = Some(now);
    }

    pub fn end(&mut self, world: u64, now: Timestamp, work: Work) {
        let Some(began_at) = self.ticks.running_since.take() else { return };
        let (fault, reason, exit_code) = match work {
            Work::Good => (None, Reason::TickOk, 0),
            Work::Broken { .. } => (Some(FaultClass::Broken), Reason::TickFailed, 1),
            Work::Environment => (Some(FaultClass::Environment), Reason::Quota, 41),
        };
        match fault {
            None => {
                self.ticks.broken_in_a_row = 0;
                self.ticks.last_good_at = Some(now);
            }
            Some(FaultClass::Broken) => {
                self.ticks.broken_in_a_row += 1;
                self.last_failed = Some(world);
            }
            Some(_) => self.ticks.broken_in_a_row = 0,
        }
        self.ticks.last = Some(TickEnd {
            number: self.ticks.begun,
            began_at,
            duration: now.saturating_since(began_at),
            exit_code: Some(exit_code),
            signal: None,
            fault,
            reason,
            resume_at: None,
        });
    }
}
