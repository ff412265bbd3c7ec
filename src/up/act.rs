//! What the warden may have done: each rung of a ladder, on `up`'s own children and files.
//!
//! Every act first takes the unit in the very run that was voted on (rule S3); a second act on it meanwhile is refused.
//! A HANG is killed before anything else: a stopped process would otherwise use up its whole stop limit.

use super::pid1::{Claim, Pid1, Pid1Error, UnitName};
use crate::backend::process::protocol::{self, ActOrder, ActionOrder, LineError};
use crate::clock;
use crate::config::settings::CommandSettings;
use crate::protocol::evidence::FaultClass;
use rustix::process::WaitStatus;
use std::collections::VecDeque;
use std::fs::OpenOptions;
use std::io::PipeReader;
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::io::AsyncReadExt as _;
use tokio::net::unix::pipe;

/// How much of a command's output is kept: its end, in bytes.
pub const OUTPUT_MAX: usize = 4096;
/// How long the rest of the output is waited for once the command has ended.
const OUTPUT_WAIT: Duration = Duration::from_millis(200);

/// An act was not done, or failed.
#[derive(Debug, thiserror::Error)]
pub enum ActError {
    /// The order makes no sense.
    #[error("the order cannot be read: {0}")]
    Order(#[from] LineError),
    /// PID 1 did not do it.
    #[error(transparent)]
    Pid1(#[from] Pid1Error),
    /// Nothing to run.
    #[error("the command is empty")]
    NoCommand,
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
    /// A file outside of the folder that is `up`'s to touch.
    #[error("{path} is not below {dir}: `up` touches no other file")]
    OutsideOfDir {
        /// The file.
        path: PathBuf,
        /// The folder.
        dir: PathBuf,
    },
    /// A file could not be moved or copied.
    #[error("{path} cannot be put aside: {source}")]
    Aside {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
}

/// Carries out an order. Gives back what a command printed.
///
/// # Errors
/// [`ActError`]; nothing was touched when it is about the order, the run, or another act.
pub async fn act(pid1: &Pid1, dir: &Path, order: &ActOrder) -> Result<String, ActError> {
    let unit = UnitName::Subject(protocol::subject(&order.subject)?);
    let hangs = order.class()? == FaultClass::Hang;
    let claim = pid1.claim(unit, order.incarnation()?)?;
    tracing::info!(unit = %claim.unit, action = ?order.action, class = order.class, "acting");
    match &order.action {
        ActionOrder::Restart | ActionOrder::ResetFailed => pid1.restart(&claim, hangs).await?,
        ActionOrder::Stop => pid1.stop(&claim, hangs).await?,
        ActionOrder::Run { argv, limit_ms } => return run(pid1, argv, Duration::from_millis(*limit_ms)).await,
        ActionOrder::MoveAside { path } => return move_aside(pid1, &claim, dir, Path::new(path), hangs).await,
        ActionOrder::CopyAside { path } => return aside(dir, Path::new(path), copy).await,
        ActionOrder::Page => {}
    }
    Ok(String::new())
}

async fn move_aside(pid1: &Pid1, claim: &Claim, dir: &Path, path: &Path, hangs: bool) -> Result<String, ActError> {
    let moved = aside(dir, path, |from, to| std::fs::rename(from, to)).await?;
    pid1.restart(claim, hangs).await?;
    Ok(moved)
}

/// Puts a file aside. However large it is, units are reaped and started meanwhile.
async fn aside(dir: &Path, path: &Path, put: fn(&Path, &Path) -> std::io::Result<()>) -> Result<String, ActError> {
    let (dir, file) = (dir.to_owned(), path.to_owned());
    let done = tokio::task::spawn_blocking(move || put_aside(&dir, &file, put)).await;
    done.unwrap_or_else(|broken| Err(ActError::Aside { path: path.to_owned(), source: broken.into() }))
}

/// Puts a file aside under a name of its own, if it really lies below the folder.
fn put_aside(dir: &Path, path: &Path, put: fn(&Path, &Path) -> std::io::Result<()>) -> Result<String, ActError> {
    let failed = |source| ActError::Aside { path: path.to_owned(), source };
    let (dir, real) = (dir.canonicalize().map_err(failed)?, path.canonicalize().map_err(failed)?);
    if !real.starts_with(&dir) || real == dir {
        return Err(ActError::OutsideOfDir { path: path.to_owned(), dir });
    }
    let mut name = real.file_name().unwrap_or_default().to_owned();
    name.push(format!(".aside-{}", clock::unix_ms()));
    let target = real.with_file_name(name);
    let text = format!("{} -> {}", real.display(), target.display());
    put(&real, &target).map_err(failed)?;
    Ok(text)
}

/// Copies a regular file to a name that nothing has yet.
fn copy(from: &Path, to: &Path) -> std::io::Result<()> {
    // Not blocking: a pipe may stand in the file's place, and would be waited for without end.
    let nonblock = i32::try_from(rustix::fs::OFlags::NONBLOCK.bits()).unwrap_or(0);
    let mut source = OpenOptions::new().read(true).custom_flags(nonblock).open(from)?;
    let meta = source.metadata()?;
    if !meta.is_file() {
        return Err(std::io::Error::other("it is not a regular file"));
    }
    let mut target = OpenOptions::new().write(true).create_new(true).mode(meta.mode() & 0o777).open(to)?;
    std::io::copy(&mut source, &mut target)?;
    target.sync_all()
}

/// Runs a command to its end or limit, and buries all it started.
async fn run(pid1: &Pid1, argv: &[String], limit: Duration) -> Result<String, ActError> {
    let [program, args @ ..] = argv else { return Err(ActError::NoCommand) };
    let (reader, writer) = std::io::pipe().map_err(Pid1Error::kernel("no pipe for the output"))?;
    let second = writer.try_clone().map_err(Pid1Error::kernel("no pipe for the output"))?;
    let mut command = Command::new(program);
    command.args(args).stdout(writer).stderr(second);
    let (pid, end) = pid1.start_command(command)?;
    let output = Output::collect(reader)?;
    let ended = tokio::time::timeout(limit, end).await;
    if ended.is_err() {
        pid1.kill_command(pid);
    }
    pid1.bury().await?;
    let output = output.finish().await;
    let program = program.clone();
    match ended {
        Ok(Ok(status)) if status.exit_status() == Some(0) => Ok(output),
        Ok(Ok(status)) => Err(ActError::Failed { program, how: how(status), output }),
        Ok(Err(_)) => Err(Pid1Error::Stopping.into()),
        Err(_) => Err(ActError::OverTime { program, limit, output }),
    }
}

fn how(status: WaitStatus) -> String {
    match (status.exit_status(), status.terminating_signal()) {
        (Some(code), _) => format!("exit status {code}"),
        (None, Some(signal)) => format!("signal {signal}"),
        (None, None) => "an unknown status".into(),
    }
}

/// Calls a human: runs the configured command with its limit, not waited for. Output goes to our standard error.
///
/// # Errors
/// [`ActError`] when it cannot be started.
pub fn page(pid1: &Pid1, settings: &CommandSettings, cause: &str, subject: &str, text: &str) -> Result<(), ActError> {
    let [program, args @ ..] = settings.argv.as_slice() else { return Err(ActError::NoCommand) };
    let mut command = Command::new(program);
    command.args(args).arg(text).stdout(Stdio::null());
    command.env("ZETA_BFT_PAGE_CAUSE", cause).env("ZETA_BFT_PAGE_SUBJECT", subject).env("ZETA_BFT_PAGE_TEXT", text);
    let (pid, end) = pid1.start_command(command)?;
    let (pid1, limit, program) = (pid1.clone(), settings.limit, program.clone());
    tokio::spawn(async move {
        match tokio::time::timeout(limit, end).await {
            Ok(Ok(status)) if status.exit_status() == Some(0) => {}
            Ok(Ok(status)) => tracing::warn!(program, end = how(status), "the page command failed"),
            Ok(Err(_)) => {}
            Err(_) => {
                pid1.kill_command(pid);
                tracing::warn!(program, ?limit, "the page command was killed at its limit");
            }
        }
        if let Err(error) = pid1.bury().await {
            tracing::error!(error = %error, "processes of the page command remain");
        }
    });
    Ok(())
}

/// The end of a command's output.
struct Output {
    tail: Arc<Mutex<VecDeque<u8>>>,
    reader: tokio::task::JoinHandle<()>,
}

impl Output {
    fn collect(from: PipeReader) -> Result<Self, Pid1Error> {
        let mut pipe =
            pipe::Receiver::from_owned_fd(from.into()).map_err(Pid1Error::kernel("no pipe for the output"))?;
        let tail = Arc::new(Mutex::new(VecDeque::with_capacity(OUTPUT_MAX)));
        let into = Arc::clone(&tail);
        let reader = tokio::spawn(async move {
            let mut chunk = [0; 4096];
            while let Ok(read @ 1..) = pipe.read(&mut chunk).await {
                let mut tail = into.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
                tail.extend(&chunk[..read]);
                let surplus = tail.len().saturating_sub(OUTPUT_MAX);
                tail.drain(..surplus);
            }
        });
        Ok(Self { tail, reader })
    }

    async fn finish(mut self) -> String {
        if tokio::time::timeout(OUTPUT_WAIT, &mut self.reader).await.is_err() {
            self.reader.abort();
        }
        let mut tail = self.tail.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        String::from_utf8_lossy(tail.make_contiguous()).into_owned()
    }
}
