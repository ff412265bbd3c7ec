//! The commands: one file each. Nothing else parses arguments or prints for people.

/// Says a line on standard output; see [`ask::say`].
macro_rules! say {
    ($($text:tt)*) => { $crate::commands::ask::say(std::io::stdout(), format_args!($($text)*)) };
}

/// Says a line on standard error; see [`ask::say`].
macro_rules! complain {
    ($($text:tt)*) => { $crate::commands::ask::say(std::io::stderr(), format_args!($($text)*)) };
}

pub mod agent;
pub mod approve;
pub mod ask;
pub mod certify;
pub mod check_config;
pub mod completions;
pub mod daemon;
pub mod doctor;
pub mod explain;
pub mod hand;
pub mod history;
pub mod hold;
pub mod init;
pub mod keygen;
pub mod leash;
pub mod lookout;
pub mod man;
pub mod page;
pub mod polkit;
pub mod quorum;
pub mod readmit;
pub mod release;
pub mod roster;
pub mod rung;
pub mod up;
pub mod verify;
pub mod warden;
pub mod wrap;

use crate::config::paths::Paths;
use crate::error::Failure;
use std::path::PathBuf;
use std::process::ExitCode;

/// Three AI personas from three vendors watch over each other and over this node's k3s, and repair by quorum.
#[derive(Debug, clap::Parser)]
#[command(name = "zeta-bft", version)]
pub struct Cli {
    /// Keep configuration, state and sockets below this folder instead of /etc, /var/lib and /run. Without it, a node that
    /// is not configured there means the committee of `zeta-bft up`.
    #[arg(long, global = true, env = "ZETA_BFT_DIR", value_name = "DIR")]
    pub dir: Option<PathBuf>,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, clap::Subcommand)]
enum Command {
    /// The sidecar of one persona: observes, signs, gossips, votes.
    Agent(agent::Args),
    /// Counts vendors, journals, decides; the hand, or `up`, carries it out.
    Warden(warden::Args),
    /// Runs a persona's command once per tick, with a time limit.
    Wrap(wrap::Args),
    /// The whole committee in the foreground, as child processes of this one.
    Up(up::Args),
    /// Who sees what, who voted, and how much failure can still be borne.
    Quorum(quorum::Args),
    /// Why a subject was, or was not, repaired.
    Explain(explain::Args),
    /// Receipts of what was done, newest last.
    History(history::Args),
    /// Checks receipts, certificates, proofs and journals offline, with the roster alone.
    Verify(verify::Args),
    /// Leave a subject alone.
    Hold(hold::Args),
    /// End a hold, or bring back what spent its ladder or budget.
    Release(release::Args),
    /// Let a rung that waits for the operator go on.
    Approve(approve::Args),
    /// Give a quarantined persona its vote back.
    Readmit(readmit::Args),
    /// Writes configuration, keys and roster for this node.
    Init(init::Args),
    /// Makes one key.
    Keygen(keygen::Args),
    /// Makes the certificates for TCP, or renews them.
    Certify(certify::Args),
    /// Signs who may vote, when personas or keys have changed.
    Roster(roster::Args),
    /// Reads the configuration and says what is wrong with it.
    CheckConfig(check_config::Args),
    /// Finds and explains what is wrong on this node, with the fix for each finding.
    Doctor(doctor::Args),
    /// Completions for a shell, on standard output.
    Completions(completions::Args),
    /// The manual page, on standard output.
    Man,
    /// Carries out what the warden decided: what `zeta-bft-hand.service` runs.
    #[command(hide = true)]
    Hand(hand::Args),
    /// Looks at what root alone may read, and tells agents: what `zeta-bft-lookout.service` runs.
    #[command(hide = true)]
    Lookout(lookout::Args),
    /// Carries one rung of a ladder out: what `zeta-bft-rung@.service` runs.
    #[command(hide = true)]
    Rung(rung::Args),
    /// Sends one page: what `zeta-bft-page@.service` runs.
    #[command(hide = true)]
    Page(page::Args),
    /// Runs a command for `zeta-bft up`, and kills it once `up` is gone.
    #[command(hide = true)]
    Leash(leash::Args),
    /// Prints the polkit rule that lets the warden have pages sent.
    Polkit(polkit::Args),
}

impl Cli {
    /// Runs the chosen command.
    ///
    /// # Errors
    /// [`Failure`] for people.
    pub fn run(self) -> Result<ExitCode, Failure> {
        let paths = match (&self.dir, &self.command) {
            (Some(dir), _) => Paths::below(dir),
            (None, Command::Up(_)) => Paths::of_up().unwrap_or_else(Paths::system),
            // What `up` left in this user's folder is no node.
            (None, Command::Init(_)) => Paths::system(),
            (None, _) => Paths::found(),
        };
        match self.command {
            Command::Agent(args) => agent::run(&paths, args),
            Command::Warden(args) => warden::run(&paths, args),
            Command::Wrap(args) => wrap::run(&paths, args),
            Command::Up(args) => up::run(&paths, args),
            Command::Quorum(args) => quorum::run(&paths, args),
            Command::Explain(args) => explain::run(&paths, args),
            Command::History(args) => history::run(&paths, args),
            Command::Verify(args) => verify::run(&paths, args),
            Command::Hold(args) => hold::run(&paths, args),
            Command::Release(args) => release::run(&paths, args),
            Command::Approve(args) => approve::run(&paths, args),
            Command::Readmit(args) => readmit::run(&paths, args),
            Command::Init(args) => init::run(&paths, args),
            Command::Leash(args) => leash::run(&args),
            Command::Keygen(args) => keygen::run(&paths, args),
            Command::Certify(args) => certify::run(&paths, args),
            Command::Roster(args) => roster::run(&paths, args),
            Command::CheckConfig(args) => check_config::run(&paths, args),
            Command::Doctor(args) => doctor::run(&paths, args),
            Command::Completions(args) => completions::run(&args),
            Command::Man => man::run(),
            Command::Hand(args) => hand::run(&paths, args),
            Command::Lookout(args) => lookout::run(&paths, args),
            Command::Rung(args) => rung::run(&paths, &args),
            Command::Page(args) => page::run(&paths, &args),
            Command::Polkit(args) => polkit::run(args),
        }
    }
}
