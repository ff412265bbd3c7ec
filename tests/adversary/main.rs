//! One compromised guardian in a real committee: real warden, real agents of otto and vera, real wrappers, and in place of
//! lior's agent an [`actor`] that signs with lior's real key and does what a test tells it.
//!
//! Sessions are given to the main process of lior's agent unit alone, so the actor must be that process. This very binary
//! is therefore run as `up` ([`stage`]); `up` starts its own program for each unit, which here becomes the actor for
//! lior's agent and the built `zeta-bft` for all others. That is why it brings its own small test runner.

mod actor;
mod claims;
mod control;
mod runner;
mod stage;
mod twists;
#[path = "../sim/actors/words.rs"]
mod words;

use std::ffi::OsString;
use std::os::unix::process::CommandExt as _;
use std::process::ExitCode;

/// The built program.
const PROGRAM: &str = env!("CARGO_BIN_EXE_zeta-bft");

fn main() -> ExitCode {
    let args: Vec<OsString> = std::env::args_os().skip(1).collect();
    let words: Vec<&str> = args.iter().filter_map(|arg| arg.to_str()).collect();
    match words[..] {
        ["--dir", dir, "agent", "--persona", control::ACTOR, "--parent", parent] => {
            actor::run(dir.as_ref(), parent.parse().expect("`up` names its pid"))
        }
        ["--dir", _, "up", ..] => {
            use clap::Parser as _;
            let words = std::iter::once(&"zeta-bft").chain(&words);
            let done = zeta_bft::commands::Cli::parse_from(words).run();
            done.unwrap_or_else(|failure| failure.report())
        }
        ["--dir", ..] => panic!("{}", std::process::Command::new(PROGRAM).args(&args).exec()),
        _ => runner::run(&words, claims::ALONE, claims::BESIDE),
    }
}
