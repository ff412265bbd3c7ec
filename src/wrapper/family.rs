//! The processes below this one, and their end.
//!
//! This process is a subreaper: whatever a tick leaves behind, however often it forked and whatever session or group it
//! made, comes to be our child when its parent ends. So a tick's family is all that descends from us, and it is gone when
//! we have no child left.

use rustix::process::{Pid, Signal, WaitOptions, getpid, kill_process, set_child_subreaper, waitpid};
use std::time::Duration;
use tokio::process::Child;

/// From SIGTERM to SIGKILL.
const GRACE: Duration = Duration::from_millis(1500);
/// How long SIGKILL is repeated. Only what belongs to another user, or hangs in the kernel, outlives it.
const KILLING: Duration = Duration::from_secs(1);
/// How often a look is taken.
const LOOK: Duration = Duration::from_millis(5);

/// Becomes the parent of every orphan below.
///
/// # Errors
/// When the kernel refuses, or cannot list children (`CONFIG_PROC_CHILDREN`).
pub fn adopt_orphans() -> std::io::Result<()> {
    set_child_subreaper(Some(getpid()))?;
    children_of(getpid()).map(drop)
}

/// Ends everything below this process and reaps it: SIGTERM, a grace, SIGKILL until nothing is left. At once when nothing
/// is. `leader`: the tick's first process, unless it was reaped already. Gives the number of processes that would not die.
pub async fn end(mut leader: Option<&mut Child>) -> usize {
    let began = crate::clock::now();
    let mut asked = false;
    loop {
        if leader.as_mut().is_some_and(|child| child.try_wait().is_ok_and(|status| status.is_some())) {
            leader = None;
        }
        reap_orphans(leader.as_deref());
        let family = descendants();
        let spent = crate::clock::now().saturating_since(began);
        if family.is_empty() || spent > GRACE + KILLING {
            return family.len();
        }
        let signal = match (asked, spent > GRACE) {
            (false, _) => Some(Signal::TERM),
            (true, true) => Some(Signal::KILL),
            (true, false) => None,
        };
        asked = true;
        for pid in family {
            // It may be gone by now, or another user's: the next look tells.
            let _ = signal.map(|signal| kill_process(pid, signal));
        }
        tokio::time::sleep(LOOK).await;
    }
}

/// Reaps the dead among our children, except the one that tokio waits for.
pub fn reap_orphans(leader: Option<&Child>) {
    let leader = leader.and_then(Child::id).and_then(|pid| i32::try_from(pid).ok());
    for pid in children_of(getpid()).unwrap_or_default() {
        if Some(pid.as_raw_nonzero().get()) != leader {
            let _ = waitpid(Some(pid), WaitOptions::NOHANG);
        }
    }
}

/// All that descends from this process now. Processes that fork meanwhile may be missed: look again.
fn descendants() -> Vec<Pid> {
    let mut family = children_of(getpid()).unwrap_or_default();
    let mut next = 0;
    while let Some(pid) = family.get(next).copied() {
        next += 1;
        for child in children_of(pid).unwrap_or_default() {
            if !family.contains(&child) {
                family.push(child);
            }
        }
    }
    family
}

/// The children of all threads of a process, zombies among them.
fn children_of(pid: Pid) -> std::io::Result<Vec<Pid>> {
    let mut children = Vec::new();
    let mut seen = Err(std::io::Error::from(std::io::ErrorKind::NotFound));
    for thread in std::fs::read_dir(format!("/proc/{}/task", pid.as_raw_nonzero()))? {
        match std::fs::read_to_string(thread?.path().join("children")) {
            Ok(list) => {
                children.extend(list.split_ascii_whitespace().filter_map(|pid| Pid::from_raw(pid.parse().ok()?)));
                seen = Ok(());
            }
            Err(error) if seen.is_err() => seen = Err(error),
            // A thread that ended between the two reads.
            Err(_) => {}
        }
    }
    seen.map(|()| children)
}
