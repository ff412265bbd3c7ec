//! A daemon that `up` started does not outlive it.
//!
//! `up` names itself to its children with `--parent PID`; each child waits for that process's end on a pidfd and then
//! drains as after SIGTERM. The kernel's own `PR_SET_PDEATHSIG` would have to be set between fork and exec, which only
//! unsafe code can do.

use rustix::process::{Pid, PidfdFlags, getppid, pidfd_open};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

/// Waits until the given parent of this process is gone. Returns at once when it is gone already, or is not our parent
/// (any more); never returns with `None`.
///
/// # Errors
/// When the kernel lends no pidfd: the caller should refuse to start.
// `with_interest` is deprecated for the sake of types whose descriptor may close under it; an `OwnedFd` keeps its own open.
#[expect(deprecated)]
pub async fn watch_parent(pid: Option<u32>) -> std::io::Result<()> {
    let Some(pid) = pid else { return std::future::pending().await };
    let Some(pid) = i32::try_from(pid).ok().and_then(Pid::from_raw) else { return Ok(()) };
    let pidfd = match pidfd_open(pid, PidfdFlags::empty()) {
        Ok(pidfd) => AsyncFd::with_interest(pidfd, Interest::READABLE)?,
        Err(rustix::io::Errno::SRCH) => return Ok(()),
        Err(error) => return Err(error.into()),
    };
    // Asked after the pidfd was taken: if it still is our parent now, the pidfd is surely its own.
    if getppid() != Some(pid) {
        return Ok(());
    }
    pidfd.readable().await.map(drop)
}
