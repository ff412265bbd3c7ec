//! `zeta-bft page`

use crate::config::paths::Paths;
use crate::error::Failure;
use crate::page::Page;
use std::process::ExitCode;
use std::time::Duration;

/// Sends one page: what `zeta-bft-page@.service` runs.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The unit's instance: the number under which the warden left the page.
    #[arg(value_parser = number)]
    number: String,
}

fn number(text: &str) -> Result<String, String> {
    let digits = (1..=32).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_digit());
    if digits { Ok(text.to_owned()) } else { Err("a page has a number".into()) }
}

/// Runs the command.
///
/// # Errors
/// [`Failure`] for people.
pub fn run(paths: &Paths, args: &Args) -> Result<ExitCode, Failure> {
    let settings = crate::config::load(paths).map_err(|error| Failure::new(error).hint("run zeta-bft check-config"))?;
    let Some(command) = &settings.page else {
        return Err(Failure::new("no command is configured that calls a human").hint("write [page] in node.toml"));
    };
    let file = paths.page(&args.number);
    let page = Page::read(&file).map_err(|error| Failure::new(format!("{}: {error}", file.display())))?;
    let Some(run) = page.command(command) else { return Err(Failure::new("the page command is empty")) };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(send(run, command.limit))
}

async fn send(command: std::process::Command, limit: Duration) -> Result<ExitCode, Failure> {
    let mut child = tokio::process::Command::from(command).kill_on_drop(true).spawn()?;
    match tokio::time::timeout(limit, child.wait()).await {
        Ok(Ok(status)) if status.success() => Ok(ExitCode::SUCCESS),
        Ok(Ok(status)) => Err(Failure::new(format!("the page command failed: {status}"))),
        Ok(Err(error)) => Err(error.into()),
        Err(_) => Err(Failure::new(format!("the page command was killed at its limit of {} s", limit.as_secs()))),
    }
}
