//! Asks `journalctl` for a unit's last fatal line.
//!
//! PID 1 knows of an end before journald has read what was said right before it. So journald is asked first to take in what
//! waits for it: agents judge within milliseconds, and an end whose words are missing is another fault.

use crate::observe::k3s::fatal::{self, Fatal};
use crate::protocol::types::InvocationId;
use rustix::process::Signal;
use std::ffi::OsStr;
use std::fs::File;
use std::io::{self, BufReader};
use std::os::unix::process::ExitStatusExt as _;
use std::path::PathBuf;
use std::process::Stdio;
use std::time::Duration;
use tokio::process::{Child, Command};
use tokio::task::JoinHandle;

/// Where `journalctl` is looked for: not where the caller's own environment says. The last is NixOS's.
const FOLDERS: [&str; 3] = ["/usr/bin", "/bin", "/run/current-system/sw/bin"];
/// Longest wait for journald to take in what waits for it.
const SYNC_LIMIT: Duration = Duration::from_secs(1);

type Reading = JoinHandle<io::Result<Option<Fatal>>>;

/// Asks; one question at a time, also when one hangs.
pub(super) struct Journal {
    program: PathBuf,
    /// A question that had no answer in time, until its process and its reader are gone.
    stuck: Option<(Child, Reading)>,
}

impl Journal {
    /// systemd's.
    pub(super) fn of_systemd() -> Self {
        let found = FOLDERS.iter().map(|folder| PathBuf::from(folder).join("journalctl")).find(|path| path.exists());
        Self::of(found.unwrap_or_else(|| "/usr/bin/journalctl".into()))
    }

    /// Asks this program.
    pub(super) fn of(program: PathBuf) -> Self {
        Self { program, stuck: None }
    }

    fn command(&self, arguments: impl IntoIterator<Item = impl AsRef<OsStr>>) -> Command {
        let mut command = Command::new(&self.program);
        command.args(arguments).env_clear().env("LC_ALL", "C").current_dir("/").kill_on_drop(true);
        command.stdin(Stdio::null());
        command
    }

    /// The last fatal line of the unit's present run, or of the one before it.
    ///
    /// # Errors
    /// For people: why nobody knows.
    pub(super) async fn last_fatal(
        &mut self,
        unit: &str,
        present: Option<InvocationId>,
        limit: Duration,
    ) -> Result<Option<Fatal>, String> {
        if let Some((child, reading)) = &mut self.stuck {
            if !(reading.is_finished() && matches!(child.try_wait(), Ok(Some(_)))) {
                return Err("journalctl was killed and does not end: is the disk well?".to_owned());
            }
            self.stuck = None;
        }
        // Where that fails, the question is asked again later all the same.
        let _ =
            tokio::time::timeout(limit.min(SYNC_LIMIT), self.command(["--sync"]).stdout(Stdio::null()).status()).await;
        let mut command = self.command(fatal::arguments(unit));
        command.stdout(Stdio::piped());
        let failed = |error: io::Error| format!("journalctl: {error}");
        let mut child = command.spawn().map_err(failed)?;
        let output = child.stdout.take().ok_or("journalctl has no output")?.into_owned_fd().map_err(failed)?;
        let unit = unit.to_owned();
        let mut reading =
            tokio::task::spawn_blocking(move || fatal::last_fatal(BufReader::new(File::from(output)), &unit, present));
        let answered = tokio::time::timeout(limit, async {
            let read = (&mut reading).await;
            // With its line found it is not read to its end, and ends by SIGPIPE or this.
            let whole = matches!(&read, Ok(Ok(None)));
            if !whole {
                let _ = child.start_kill();
            }
            (read, child.wait().await, whole)
        });
        let Ok((read, ended, whole)) = answered.await else {
            let _ = child.start_kill();
            self.stuck = Some((child, reading));
            return Err(format!("journalctl did not end within {limit:?}"));
        };
        let found = read.map_err(|_| "its reader panicked".to_owned())?.map_err(failed)?;
        match ended {
            // Two runs count: where a third begins, nobody reads on.
            Ok(status) if whole && !status.success() && status.signal() != Some(Signal::PIPE.as_raw()) => {
                Err(format!("journalctl ended with {status}"))
            }
            Err(error) => Err(failed(error)),
            Ok(_) => Ok(found),
        }
    }
}
