//! What the warden may have done: each rung of a ladder, on `up`'s own children and files.
//!
//! Every act first takes the unit in the very run that was voted on (rule S3); a second act on it meanwhile is refused.
//! A HANG is killed before anything else: a stopped process would otherwise use up its whole stop limit.

use super::pid1::{Claim, Pid1, Pid1Error, UnitName};
use crate::backend::process::protocol::{self, ActOrder, ActionOrder, LineError};
use crate::config::settings::CommandSettings;
use crate::page::Page;
use crate::protocol::evidence::FaultClass;
use crate::rung::{self, Output, Place, RungError};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

/// An act was not done, or failed.
#[derive(Debug, thiserror::Error)]
pub enum ActError {
    /// The order makes no sense.
    #[error("the order cannot be read: {0}")]
    Order(#[from] LineError),
    /// PID 1 did not do it.
    #[error(transparent)]
    Pid1(#[from] Pid1Error),
    /// A command failed, or a file could not be put aside.
    #[error(transparent)]
    Rung(#[from] RungError),
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
        ActionOrder::CopyAside { path } => return aside(dir, Path::new(path), rung::copy_file).await,
        ActionOrder::Page => {}
    }
    Ok(String::new())
}

async fn move_aside(pid1: &Pid1, claim: &Claim, dir: &Path, path: &Path, hangs: bool) -> Result<String, ActError> {
    let moved = aside(dir, path, rung::move_file).await?;
    pid1.restart(claim, hangs).await?;
    Ok(moved)
}

/// Puts a file aside. However large it is, units are reaped and started meanwhile.
async fn aside(dir: &Path, path: &Path, put: rung::Put) -> Result<String, ActError> {
    let (dir, file) = (dir.to_owned(), path.to_owned());
    let done = tokio::task::spawn_blocking(move || {
        // Links that lead to the folder are our own user's; none below it is followed.
        let real = dir.canonicalize().map_err(|source| RungError::Aside { path: dir.clone(), source })?;
        let file = file.strip_prefix(&dir).map_or_else(|_| file.clone(), |rest| real.join(rest));
        Place::open(&[real], &file)?.put(put)
    })
    .await;
    let broken = |broken: tokio::task::JoinError| RungError::Aside { path: path.to_owned(), source: broken.into() };
    Ok(done.unwrap_or_else(|error| Err(broken(error)))?)
}

/// Runs a command to its end or limit, and buries all it started.
async fn run(pid1: &Pid1, argv: &[String], limit: Duration) -> Result<String, ActError> {
    let [program, args @ ..] = argv else { return Err(RungError::NoCommand.into()) };
    let (reader, writer) = std::io::pipe().map_err(Pid1Error::kernel("no pipe for the output"))?;
    let second = writer.try_clone().map_err(Pid1Error::kernel("no pipe for the output"))?;
    let mut command = Command::new(program);
    command.args(args);
    let (pid, end) = pid1.start_command(&command, [writer.into(), second.into()])?;
    let output = Output::collect(reader).map_err(Pid1Error::kernel("no pipe for the output"))?;
    let ended = tokio::time::timeout(limit, end).await;
    if ended.is_err() {
        pid1.kill_command(pid);
    }
    pid1.bury().await?;
    let output = output.finish().await;
    let program = program.clone();
    match ended {
        Ok(Ok(status)) if status.exit_status() == Some(0) => Ok(output),
        Ok(Ok(status)) => {
            let how = rung::how(status.exit_status(), status.terminating_signal());
            Err(RungError::Failed { program, how, output }.into())
        }
        Ok(Err(_)) => Err(Pid1Error::Stopping.into()),
        Err(_) => Err(RungError::OverTime { program, limit, output }.into()),
    }
}

/// Calls a human: runs the configured command with its limit, not waited for. Output goes to our standard error.
///
/// # Errors
/// [`ActError`] when it cannot be started.
pub fn page(pid1: &Pid1, settings: &CommandSettings, page: &Page) -> Result<(), ActError> {
    let command = page.command(settings).ok_or(RungError::NoCommand)?;
    let program = command.get_program().to_string_lossy().into_owned();
    let (pid, end) = pid1.start_command(&command, [Stdio::null(), Stdio::inherit()])?;
    let (pid1, limit) = (pid1.clone(), settings.limit);
    tokio::spawn(async move {
        match tokio::time::timeout(limit, end).await {
            Ok(Ok(status)) if status.exit_status() == Some(0) => {}
            Ok(Ok(status)) => tracing::warn!(
                program,
                end = rung::how(status.exit_status(), status.terminating_signal()),
                "the page command failed"
            ),
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
