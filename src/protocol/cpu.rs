//! What the kernel's scheduler says of a process that kept silent: whether it could have answered at all.
//!
//! Rule implemented here: silence counts only against a process that could have run. What waits for a CPU, for the disk or for
//! a debugger is left alone, for it may be well (S10: unknown is not unhealthy).
//!
//! The kernel tells of a wait for a CPU only once it is over (`schedstat` grows when the process runs again), so a process that
//! waits through its whole challenge shows no delay: it shows that it wants to run, and did not.

use std::time::Duration;

/// A look at a process' main thread, which is the one that answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct CpuReading {
    /// What it does now, looked at *before* the times: whoever sleeps by then has its last wait in them.
    pub standing: Standing,
    /// CPU time so far.
    pub ran: Duration,
    /// Time so far in which it wanted a CPU and had none, without the wait that is still going on.
    pub waited: Duration,
}

/// What a thread does, as far as an answer depends on it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Standing {
    /// It waits for something to happen, was stopped, or has ended: nothing keeps it but itself.
    Still,
    /// It runs, or waits for a CPU: the kernel tells them apart by its times alone.
    Runnable,
    /// It waits inside the kernel, for the disk or for memory.
    Blocked,
    /// A debugger stopped it.
    Traced,
}

/// Why a process could not answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kept {
    /// It waited for a CPU for half the time or more.
    Starved,
    /// It waits for the disk, or for memory.
    Blocked,
    /// A debugger holds it.
    Traced,
}

impl Kept {
    /// The name in events and metrics.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Starved => "starved",
            Self::Blocked => "blocked",
            Self::Traced => "traced",
        }
    }

    /// What to tell a human that it does.
    pub const fn text(self) -> &'static str {
        match self {
            Self::Starved => "waits for a CPU",
            Self::Blocked => "waits for the disk or for memory",
            Self::Traced => "is held by a debugger",
        }
    }
}

impl CpuReading {
    /// What kept a process from answering within `time`, `before` being read at its begin and `self` at its end; `None`: nothing
    /// did, and its silence is its own.
    pub fn kept_since(self, before: Self, time: Duration) -> Option<Kept> {
        let (ran, waited) = (self.ran.saturating_sub(before.ran), self.waited.saturating_sub(before.waited));
        match self.standing {
            Standing::Traced => Some(Kept::Traced),
            Standing::Blocked => Some(Kept::Blocked),
            _ if waited >= time / 2 => Some(Kept::Starved),
            Standing::Runnable if ran < time / 2 => Some(Kept::Starved),
            Standing::Runnable | Standing::Still => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TIME: Duration = Duration::from_millis(200);

    fn kept(standing: Standing, ran: u64, waited: u64) -> Option<Kept> {
        let before = CpuReading { standing: Standing::Still, ran: TIME, waited: TIME };
        let grown = |by| TIME + Duration::from_millis(by);
        CpuReading { standing, ran: grown(ran), waited: grown(waited) }.kept_since(before, TIME)
    }

    #[test]
    fn whoever_waits_for_a_cpu_is_starved_before_the_kernel_counts_it() {
        assert_eq!(kept(Standing::Runnable, 0, 0), Some(Kept::Starved));
        assert_eq!(kept(Standing::Runnable, 99, 0), Some(Kept::Starved));
        assert_eq!(kept(Standing::Runnable, 100, 0), None, "it runs, and does not answer");
    }

    #[test]
    fn whoever_waited_for_half_the_time_was_starved_whatever_it_does_now() {
        assert_eq!(kept(Standing::Still, 0, 100), Some(Kept::Starved));
        assert_eq!(kept(Standing::Still, 0, 99), None);
        assert_eq!(kept(Standing::Runnable, 100, 100), Some(Kept::Starved));
    }

    #[test]
    fn whoever_waits_for_the_disk_or_is_debugged_is_left_alone() {
        assert_eq!(kept(Standing::Blocked, 150, 0), Some(Kept::Blocked));
        assert_eq!(kept(Standing::Traced, 0, 0), Some(Kept::Traced));
    }

    #[test]
    fn times_that_go_backwards_excuse_nobody() {
        let after = CpuReading { standing: Standing::Still, ran: Duration::ZERO, waited: Duration::ZERO };
        assert_eq!(after.kept_since(CpuReading { waited: TIME, ran: TIME, ..after }, TIME), None);
    }
}
