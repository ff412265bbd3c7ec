//! The NixOS module, evaluated by a real nix against a small stub of nixpkgs (`stub.nix`, `lib.nix`).
//!
//! Needs `nix-instantiate`, but no nixpkgs, no store and no network. As root on Debian `nix-bin` is installed by `apt-get`
//! where it is missing; elsewhere the claims that need it count as ignored and one line says why. With `CI=true` a nix that
//! cannot be fetched is a failure.

mod configuration;
mod k3s;
mod nix;
mod rollout;
mod units;

use libtest_mimic::{Arguments, Completion, Failed, Trial};
use nix::Unfit;
use std::process::ExitCode;
use std::sync::OnceLock;

/// A claim, and what shows it.
type Claim = (&'static str, fn());

static NIX: OnceLock<Result<(), Unfit>> = OnceLock::new();

fn main() -> ExitCode {
    let arguments = Arguments::from_args();
    let evaluated = configuration::CLAIMS.iter().chain(units::CLAIMS).chain(k3s::CLAIMS);
    let trials = evaluated.map(|&(name, show)| Trial::ignorable_test(name, move || with_nix(show)));
    let plain = rollout::CLAIMS.iter().map(|&(name, show)| {
        Trial::test(name, move || {
            show();
            Ok(())
        })
    });
    libtest_mimic::run(&arguments, trials.chain(plain).collect()).exit_code()
}

/// Shows a claim, or says why it cannot be shown here.
fn with_nix(show: fn()) -> Result<Completion, Failed> {
    // Looked for by the first claim that is really run: a list, or a filter that fits none, installs nothing.
    let nix = NIX.get_or_init(|| {
        let nix = nix::install();
        if let Err(unfit) = &nix {
            println!("the NixOS module is not evaluated: {unfit}");
        }
        nix
    });
    let ci = std::env::var_os("CI").is_some_and(|ci| ci == "true");
    match nix {
        Ok(()) => {
            show();
            Ok(Completion::Completed)
        }
        Err(Unfit::NotFetched(why)) if ci => Err((*why).into()),
        Err(unfit) => Ok(Completion::ignored_with(unfit.to_string())),
    }
}
