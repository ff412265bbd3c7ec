//! `zeta-bft leash`

use crate::error::Failure;
use crate::up::leash::{self, End};
use rustix::process::{Signal, getpid, kill_process};
use std::ffi::OsString;
use std::process::ExitCode;

/// Exit status that stands for "could not be started", as systemd has it (EXIT_EXEC).
const EXIT_EXEC: u8 = 203;

/// Runs a command for `zeta-bft up`, and ends as it does; once `up` is gone, kills it with all that it started.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// End when this process does; it must be our parent.
    #[arg(long, value_name = "PID")]
    parent: u32,
    /// The command.
    #[arg(last = true, required = true, value_name = "CMD")]
    command: Vec<OsString>,
}

/// Runs the command.
///
/// # Errors
/// [`Failure`] for people.
pub fn run(args: &Args) -> Result<ExitCode, Failure> {
    let Some((program, arguments)) = args.command.split_first() else {
        return Err(Failure::new("the command is empty"));
    };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    match runtime.block_on(leash::run(args.parent, program, arguments)) {
        Ok(End::Ended(status)) => {
            // As it ended, so do we: whoever waits for us learns by which signal.
            if let Some(signal) = status.terminating_signal().and_then(Signal::from_named_raw) {
                let _ = kill_process(getpid(), signal);
            }
            let code = status.exit_status().or(status.terminating_signal().map(|signal| 128 + signal));
            Ok(ExitCode::from(code.and_then(|code| u8::try_from(code).ok()).unwrap_or(u8::MAX)))
        }
        Ok(End::Cut { left: 0 }) => Err(Failure::new("`zeta-bft up` is gone: its command was killed")),
        Ok(End::Cut { left }) => {
            Err(Failure::new(format!("`zeta-bft up` is gone: {left} processes of its command remain")))
        }
        Err(error) => {
            complain!("`{}` cannot be run: {error}", program.display());
            Ok(ExitCode::from(EXIT_EXEC))
        }
    }
}
