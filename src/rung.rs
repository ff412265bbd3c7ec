//! The hands of a rung: running a command to its end or limit, and putting files aside.
//!
//! `up` uses them on its own children and files. Where PID 1 is systemd, `zeta-bft rung INSTANCE` does, as root in a unit of
//! its own ([`carry_out`]): the action comes from root's configuration, found by the instance's name, and from nowhere else.

use crate::clock;
use crate::config::Settings;
use crate::config::{never, rung};
use crate::protocol::policy::Action;
use std::collections::VecDeque;
use std::fs::OpenOptions;
use std::io::{self, PipeReader};
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::os::unix::process::ExitStatusExt as _;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::io::AsyncReadExt as _;
use tokio::net::unix::pipe;

/// How much of a command's output is kept: its end, in bytes.
pub const OUTPUT_MAX: usize = 4096;
/// How long the rest of the output is waited for once the command has ended.
const OUTPUT_WAIT: Duration = Duration::from_millis(200);

/// A rung was not carried out.
#[derive(Debug, thiserror::Error)]
pub enum RungError {
    /// The configuration has no such rung.
    #[error("no rung of the configuration is called `{0}`")]
    Unknown(String),
    /// Nothing to run.
    #[error("the command is empty")]
    NoCommand,
    /// A command could not be started or waited for.
    #[error("`{program}` cannot be run: {source}")]
    NotRun {
        /// Program.
        program: String,
        /// What the system said.
        source: io::Error,
    },
    /// A command failed.
    #[error("`{program}` ended with {how}: {output}")]
    Failed {
        /// Program.
        program: String,
        /// Exit status or signal.
        how: String,
        /// The end of its output.
        output: String,
    },
    /// A command ran into its limit and was killed with all its children.
    #[error("`{program}` was killed after {limit:?}: {output}")]
    OverTime {
        /// Program.
        program: String,
        /// The limit.
        limit: Duration,
        /// The end of its output.
        output: String,
    },
    /// A file outside of the folders that may be touched.
    #[error("{path} is not below {allowed}: no other file is touched")]
    Outside {
        /// The file.
        path: PathBuf,
        /// The folders.
        allowed: String,
    },
    /// A file could not be moved or copied.
    #[error("{path} cannot be put aside: {source}")]
    Aside {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
}

/// How a process ended, in words.
pub fn how(code: Option<i32>, signal: Option<i32>) -> String {
    match (code, signal) {
        (Some(code), _) => format!("exit status {code}"),
        (None, Some(signal)) => format!("signal {signal}"),
        (None, None) => "an unknown status".into(),
    }
}

/// Carries out the rung of this name; gives back what its command printed, or what was put where.
///
/// # Errors
/// [`RungError`].
pub async fn carry_out(settings: &Settings, instance: &str) -> Result<String, RungError> {
    let mut rungs = rung::of_root(&settings.policy);
    let found = rungs.find(|(subject, number, _)| rung::instance(subject, *number) == instance);
    let (_, _, action) = found.ok_or_else(|| RungError::Unknown(instance.to_owned()))?;
    let state = settings.paths.state();
    match action {
        Action::Run { argv, limit } => run(argv, *limit).await,
        Action::MoveAside { path } => put_aside(&never::folders(false, state), path.as_ref(), move_file),
        Action::CopyAside { path } => put_aside(&never::folders(true, state), path.as_ref(), copy_file),
        Action::Restart | Action::ResetFailed | Action::Stop | Action::Page => {
            Err(RungError::Unknown(instance.to_owned()))
        }
    }
}

/// Runs a command to its end or limit. What it leaves behind is in this process's group and unit, and ends with the unit.
async fn run(argv: &[String], limit: Duration) -> Result<String, RungError> {
    let [program, args @ ..] = argv else { return Err(RungError::NoCommand) };
    let program = program.clone();
    let not_run = |source| RungError::NotRun { program: program.clone(), source };
    let (reader, writer) = io::pipe().map_err(not_run)?;
    let second = writer.try_clone().map_err(not_run)?;
    let mut command = tokio::process::Command::new(&program);
    command.args(args).stdin(Stdio::null()).stdout(writer).stderr(second).process_group(0).kill_on_drop(true);
    let mut child = command.spawn().map_err(not_run)?;
    // The command holds the writing ends; as long as this process does, too, the output has no end.
    drop(command);
    let output = Output::collect(reader).map_err(not_run)?;
    let ended = tokio::time::timeout(limit, child.wait()).await;
    if ended.is_err()
        && let Some(group) = child.id().and_then(|id| rustix::process::Pid::from_raw(i32::try_from(id).ok()?))
    {
        let _ = rustix::process::kill_process_group(group, rustix::process::Signal::KILL);
        let _ = child.wait().await;
    }
    let output = output.finish().await;
    match ended {
        Ok(Ok(status)) if status.success() => Ok(output),
        Ok(Ok(status)) => Err(RungError::Failed { program, how: how(status.code(), status.signal()), output }),
        Ok(Err(source)) => Err(RungError::NotRun { program, source }),
        Err(_) => Err(RungError::OverTime { program, limit, output }),
    }
}

/// Renames a file.
///
/// # Errors
/// What the system says.
pub fn move_file(from: &Path, to: &Path) -> io::Result<()> {
    std::fs::rename(from, to)
}

/// Copies a regular file to a name that nothing has yet.
///
/// # Errors
/// What the system says; `Other` when it is no regular file.
pub fn copy_file(from: &Path, to: &Path) -> io::Result<()> {
    // Not blocking: a pipe may stand in the file's place, and would be waited for without end.
    let nonblock = i32::try_from(rustix::fs::OFlags::NONBLOCK.bits()).unwrap_or(0);
    let mut source = OpenOptions::new().read(true).custom_flags(nonblock).open(from)?;
    let meta = source.metadata()?;
    if !meta.is_file() {
        return Err(io::Error::other("it is not a regular file"));
    }
    let mut target = OpenOptions::new().write(true).create_new(true).mode(meta.mode() & 0o777).open(to)?;
    io::copy(&mut source, &mut target)?;
    target.sync_all()
}

/// Puts a file aside under a name of its own, if it really lies below one of the folders, whatever links lead there.
///
/// # Errors
/// [`RungError::Outside`], [`RungError::Aside`].
pub fn put_aside(
    folders: &[PathBuf],
    path: &Path,
    put: fn(&Path, &Path) -> io::Result<()>,
) -> Result<String, RungError> {
    let failed = |source| RungError::Aside { path: path.to_owned(), source };
    let real = path.canonicalize().map_err(failed)?;
    let below =
        |folder: &PathBuf| folder.canonicalize().is_ok_and(|folder| real.starts_with(&folder) && real != folder);
    if !folders.iter().any(below) {
        let allowed = folders.iter().map(|folder| folder.display().to_string()).collect::<Vec<_>>().join(", ");
        return Err(RungError::Outside { path: path.to_owned(), allowed });
    }
    let mut name = real.file_name().unwrap_or_default().to_owned();
    name.push(format!(".aside-{}", clock::unix_ms()));
    let target = real.with_file_name(name);
    let text = format!("{} -> {}", real.display(), target.display());
    put(&real, &target).map_err(failed)?;
    Ok(text)
}

/// The end of a command's output.
#[derive(Debug)]
pub struct Output {
    tail: Arc<Mutex<VecDeque<u8>>>,
    reader: tokio::task::JoinHandle<()>,
}

impl Output {
    /// Begins to read, in a task of its own.
    ///
    /// # Errors
    /// What the system says of the pipe.
    pub fn collect(from: PipeReader) -> io::Result<Self> {
        let mut pipe = pipe::Receiver::from_owned_fd(from.into())?;
        let tail = Arc::new(Mutex::new(VecDeque::with_capacity(OUTPUT_MAX)));
        let into = Arc::clone(&tail);
        let reader = tokio::spawn(async move {
            let mut chunk = [0; 4096];
            while let Ok(read @ 1..) = pipe.read(&mut chunk).await {
                let mut tail = into.lock().unwrap_or_else(PoisonError::into_inner);
                tail.extend(&chunk[..read]);
                let surplus = tail.len().saturating_sub(OUTPUT_MAX);
                tail.drain(..surplus);
            }
        });
        Ok(Self { tail, reader })
    }

    /// What was read; the rest is waited for a moment.
    pub async fn finish(mut self) -> String {
        if tokio::time::timeout(OUTPUT_WAIT, &mut self.reader).await.is_err() {
            self.reader.abort();
        }
        let mut tail = self.tail.lock().unwrap_or_else(PoisonError::into_inner);
        String::from_utf8_lossy(tail.make_contiguous()).into_owned()
    }
}
