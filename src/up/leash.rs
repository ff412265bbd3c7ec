//! A command that `up` started does not outlive it: a `run` rung, or one that calls a human.
//!
//! The daemons watch `up` themselves ([`super::parent`]); a command of the operator's does not. So `up` starts `zeta-bft leash
//! --parent PID -- COMMAND`, which runs the command, ends as it does, and kills it with all that it started once `up` is gone:
//! nobody else keeps its limit then, and the next `up` must not repair beside it.

use super::parent::watch_parent;
use super::tree;
use rustix::process::{Pid, Signal, WaitOptions, WaitStatus};
use std::ffi::{OsStr, OsString};
use std::io;
use std::path::Path;
use std::pin::pin;
use std::process::Command;
use std::time::Duration;
use tokio::signal::unix::{SignalKind, signal};

/// The hidden command's name.
pub const NAME: &str = "leash";
/// Longest hunt for what the command started, once `up` is gone. Only what hangs in the kernel outlives it.
const HUNT: Duration = Duration::from_secs(5);
/// From one look for it to the next.
const LOOK: Duration = Duration::from_millis(5);

/// How it ended.
#[derive(Clone, Copy, Debug)]
pub enum End {
    /// The command ended by itself.
    Ended(WaitStatus),
    /// The parent was gone, and nothing is left; or so many processes that would not die.
    Cut {
        /// How many.
        left: usize,
    },
}

/// The same command on a leash, with its arguments and environment; `program` is this program's file. Where its output goes is for
/// the caller to say anew.
pub fn on(program: &Path, command: &Command) -> Command {
    let mut leashed = Command::new(program);
    leashed.args([NAME, "--parent", &std::process::id().to_string(), "--"]);
    leashed.arg(command.get_program()).args(command.get_args());
    for (name, value) in command.get_envs() {
        match value {
            Some(value) => leashed.env(name, value),
            None => leashed.env_remove(name),
        };
    }
    leashed
}

/// Runs a command until it ends, or until the parent of this process does. Must be called inside a runtime; this process starts no
/// other child.
///
/// # Errors
/// When the command cannot be run, or the kernel lends no way to watch.
pub async fn run(parent: u32, program: &OsStr, args: &[OsString]) -> io::Result<End> {
    // What the command leaves behind becomes our child while it runs, whatever session it made: so it can be found.
    rustix::process::set_child_subreaper(Some(rustix::process::getpid()))?;
    let mut ends = signal(SignalKind::child())?;
    let mut gone = pin!(watch_parent(Some(parent)));
    // Nothing is begun for a parent that is gone already.
    tokio::select! {
        biased;
        gone = &mut gone => return gone.map(|()| End::Cut { left: 0 }),
        () = std::future::ready(()) => {}
    }
    let leader = Command::new(program).args(args).spawn()?.id();
    loop {
        if let Some(status) = reap(leader) {
            return Ok(End::Ended(status));
        }
        tokio::select! {
            _ = ends.recv() => {}
            gone = &mut gone => {
                let left = kill_all().await?;
                return gone.map(|()| End::Cut { left });
            }
        }
    }
}

/// Takes note of every child that has ended; gives the status of this one.
fn reap(leader: u32) -> Option<WaitStatus> {
    let mut of_leader = None;
    while let Ok(Some((pid, status))) = rustix::process::wait(WaitOptions::NOHANG) {
        if pid.as_raw_pid().unsigned_abs() == leader {
            of_leader = Some(status);
        }
    }
    of_leader
}

/// Kills every child of this process; each kill hands its own children on to us. Gives how many would not die.
async fn kill_all() -> io::Result<usize> {
    let began = crate::clock::now();
    loop {
        reap(0);
        let children = tree::children_of(std::process::id())?;
        if children.is_empty() || crate::clock::now().saturating_since(began) > HUNT {
            return Ok(children.len());
        }
        for child in children.into_iter().filter_map(|pid| Pid::from_raw(i32::try_from(pid).ok()?)) {
            // Our unreaped child: its number is nobody else's.
            let _ = rustix::process::kill_process(child, Signal::KILL);
        }
        tokio::time::sleep(LOOK).await;
    }
}
