//! The real program over a real network that fails: every agent in a network namespace of its own, TCP with mutual TLS between
//! them, and on the way a router that cuts, a proxy that resets, stalls, slows and misleads.
//!
//! Claimed is safety (nobody is restarted for a fault of the network) and liveness (what can be repaired is, and after the fault
//! all see each other again). Warden and wrappers speak over Unix sockets, which no network can cut.
//!
//! Needs root and `ip` (iproute2). Elsewhere every claim counts as ignored and one line says why. What is made is named
//! `zbftPID-…`, and gone at the end.

mod claims;
mod committee;
mod net;
mod proxy;

use libtest_mimic::{Arguments, Completion, Failed, Trial};
use std::os::unix::process::CommandExt as _;
use std::panic::AssertUnwindSafe;
use std::process::{Command, ExitCode};
use std::sync::{Mutex, PoisonError};

/// The built program.
const PROGRAM: &str = env!("CARGO_BIN_EXE_zeta-bft");

/// One committee for all claims, each of which leaves it well.
static COMMITTEE: Mutex<Option<Result<committee::Committee, String>>> = Mutex::new(None);

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = args.iter().map(String::as_str).collect();
    match words[..] {
        // `up` starts its own program for each unit: this very binary, which puts each agent where it belongs.
        ["--dir", _, "agent", "--persona", persona, ..] => {
            panic!("{}", net::command_in(&net::of_agent(&net::inherited(), persona), PROGRAM).args(&args).exec())
        }
        ["--dir", _, "up", ..] => {
            use clap::Parser as _;
            let words = std::iter::once(&"zeta-bft").chain(&words);
            let done = zeta_bft::commands::Cli::parse_from(words).run();
            done.unwrap_or_else(|failure| failure.report())
        }
        ["--dir", ..] => panic!("{}", Command::new(PROGRAM).args(&args).exec()),
        _ => run(),
    }
}

fn run() -> ExitCode {
    let mut args = Arguments::from_args();
    args.test_threads = Some(1);
    let trials = claims::ALL.iter().map(|(name, show)| Trial::ignorable_test(*name, move || shown(*show)));
    let conclusion = libtest_mimic::run(&args, trials.collect());
    drop(COMMITTEE.lock().unwrap_or_else(PoisonError::into_inner).take());
    conclusion.exit_code()
}

fn shown(show: claims::Show) -> Result<Completion, Failed> {
    let mut committee = COMMITTEE.lock().unwrap_or_else(PoisonError::into_inner);
    let committee = committee.get_or_insert_with(|| {
        let set = net::fit().map(|()| committee::Committee::set());
        if let Err(why) = &set {
            println!("network tests skipped: {why}");
        }
        set
    });
    let committee = match committee {
        Ok(committee) => committee,
        Err(why) => return Ok(Completion::ignored_with(why.clone())),
    };
    let done = std::panic::catch_unwind(AssertUnwindSafe(|| show(committee)));
    if done.is_err() {
        committee.say_last();
    }
    // However it went: the next claim begins with a network that is whole.
    committee.net.heal();
    done.map(|()| Completion::Completed).map_err(|_| "the claim does not hold: see above".into())
}
