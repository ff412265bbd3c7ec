//! `up` as PID 1: what it promises of units, their ends, their process trees and the warden's word, on real processes.
//!
//! There can be one PID 1 per process, since it reaps every child: the claims take turns. PID 1 knows the warden by its
//! process, so a claim starts this very binary as the warden ([`socket::ASK`]). That is why it brings its own `main`.

/// A table of claims, each named as the function that shows it.
macro_rules! claims {
    ($($name:ident),* $(,)?) => {
        pub const CLAIMS: &[crate::Claim] = &[$((stringify!($name), || crate::on_runtime($name()))),*];
    };
}

mod acts;
mod runs;
mod socket;
mod stage;

use libtest_mimic::{Arguments, Trial};
use std::process::ExitCode;

/// A claim, and what shows it.
type Claim = (&'static str, fn());

fn main() -> ExitCode {
    let words: Vec<_> = std::env::args().skip(1).collect();
    if let [socket::ASK, socket, request, answer] = words.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        on_runtime(socket::ask_and_write(socket.as_ref(), request, answer.as_ref()));
        return ExitCode::SUCCESS;
    }
    let mut args = Arguments::from_args();
    args.test_threads = Some(1);
    let claims = [runs::CLAIMS, acts::CLAIMS, socket::CLAIMS].into_iter().flatten();
    let trials = claims.map(|&(name, show)| {
        Trial::test(name, move || {
            show();
            Ok(())
        })
    });
    libtest_mimic::run(&args, trials.collect()).exit_code()
}

fn on_runtime(shown: impl Future<Output = ()>) {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(shown);
}
