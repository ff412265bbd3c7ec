//! The package as it is shipped, on real Debian 12 nodes with systemd as PID 1.
//!
//! Runs as root on Debian; installs what it needs there by `apt-get`, makes a Debian once with `debootstrap` and keeps it in the
//! cache ([`lab`]). Anywhere else, or with `ZETA_BFT_SYSTEM=0`, every claim counts as ignored and one line says why. With
//! `CI=true` a Debian that cannot be fetched is a failure.
//!
//! What k3s' claims need is built once from Debian's sources ([`kube`]): some five minutes of two cores at the lowest priority,
//! then 130 MB of cache. The same holds for it: not fetched is ignored, or with `CI=true` a failure.
//!
//! Nodes have no network besides `lo`. Each claim gets a node of its own over the same installed disk; at most two run at once.

mod claims;
mod driver;
mod kube;
mod lab;
mod node;
mod stage;
mod vendors;

use lab::{Lab, Unfit};
use libtest_mimic::{Arguments, Completion, Failed, Trial};
use stage::Stage;
use std::process::ExitCode;
use std::sync::OnceLock;

/// Nodes at once: each is a Debian with a committee of seven.
const AT_ONCE: usize = 2;

/// What shows a claim; a node that cannot be had is not its failure.
type Show = fn(&'static Stage) -> Result<(), Unfit>;

static STAGE: OnceLock<Result<Stage, Unfit>> = OnceLock::new();

fn main() -> ExitCode {
    if let Some(done) = driver::run() {
        return done;
    }
    let mut args = Arguments::from_args();
    args.test_threads = Some(args.test_threads.unwrap_or(AT_ONCE).min(AT_ONCE));
    let trials = claims::all().map(|(name, show)| Trial::ignorable_test(name, move || run(show))).collect();
    let conclusion = libtest_mimic::run(&args, trials);
    if let Some(Ok(stage)) = STAGE.get() {
        stage.lab.close();
    }
    conclusion.exit_code()
}

fn run(show: Show) -> Result<Completion, Failed> {
    // Made for the first claim that is really run: a list, or a filter that fits none, installs nothing.
    let stage = STAGE.get_or_init(|| {
        let stage = open();
        if let Err(unfit) = &stage {
            println!("system tests skipped: {unfit}");
        }
        stage
    });
    let ci = std::env::var_os("CI").is_some_and(|ci| ci == "true");
    let shown = match stage {
        Ok(stage) => show(stage),
        Err(Unfit::NotHere(why)) => return Ok(Completion::ignored_with(why)),
        Err(unfit) => Err(unfit.clone()),
    };
    match shown {
        Ok(()) => Ok(Completion::Completed),
        Err(Unfit::NotFetched(why)) if !ci => Ok(Completion::ignored_with(why)),
        Err(unfit) => Err(unfit.to_string().into()),
    }
}

fn open() -> Result<Stage, Unfit> {
    if std::env::var_os("ZETA_BFT_SYSTEM").is_some_and(|wanted| wanted == "0") {
        return Err(Unfit::NotHere("ZETA_BFT_SYSTEM=0".to_owned()));
    }
    Stage::set(Lab::open()?)
}
