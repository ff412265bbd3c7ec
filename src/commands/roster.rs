//! `zeta-bft roster`

use crate::config;
use crate::config::paths::Paths;
use crate::error::Failure;
use crate::keys::{self, KeyFileError};
use crate::setup::succession::{SuccessionError, sign_next};
use std::path::PathBuf;
use std::process::ExitCode;

/// Signs who may vote.
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, clap::Subcommand)]
enum Command {
    /// Signs the next roster: the personas, f and q of node.toml, and the keys of the key files.
    ///
    /// The roster in force is kept beside the new one as roster.EPOCH.
    Sign(SignArgs),
}

#[derive(Debug, clap::Args)]
struct SignArgs {
    /// The operator's private key; the one on this node unless given.
    #[arg(long, value_name = "FILE")]
    operator_key: Option<PathBuf>,
    /// The key is a new one, because the one that signed before is lost.
    #[arg(long)]
    new_operator: bool,
}

/// Runs the command.
///
/// # Errors
/// [`Failure`] for people.
pub fn run(paths: &Paths, args: Args) -> Result<ExitCode, Failure> {
    let Command::Sign(args) = args.command;
    let settings = config::load(paths).map_err(|error| Failure::new(error).hint("run `zeta-bft check-config`"))?;
    let file = args.operator_key.unwrap_or_else(|| paths.operator_key());
    let operator = keys::load(&file).map_err(|error| match error {
        KeyFileError::Missing { .. } => Failure::new(error)
            .hint("`--operator-key FILE` names it; if it is lost, `zeta-bft keygen FILE` and `--new-operator`"),
        _ => Failure::new(error),
    })?;
    let made = sign_next(&settings, &operator, args.new_operator).map_err(explained)?;
    for difference in made.differences() {
        say!("{difference}");
    }
    say!("kept roster {} as {}", made.before.epoch(), made.kept.display());
    say!("wrote roster {} to {}", made.after.epoch(), paths.roster().display());
    say!("\nnext:");
    say!("  whoever counts by the old roster abstains: restart the warden, then every agent");
    if paths.dir().is_none() {
        say!("  systemctl restart zeta-bft-warden.service && systemctl restart 'zeta-bft-agent@*.service'");
        say!("  zeta-bft init --refresh     when personas came or went");
    }
    Ok(ExitCode::SUCCESS)
}

fn explained(error: SuccessionError) -> Failure {
    let hint = match &error {
        SuccessionError::NotTheOperator { .. } => {
            Some("name the right one with `--operator-key FILE`; if it is lost, say `--new-operator`".to_owned())
        }
        SuccessionError::Key(KeyFileError::Missing { path }) => {
            Some(format!("`zeta-bft keygen {}` makes it", path.display()))
        }
        _ => None,
    };
    let failure = Failure::new(error);
    match hint {
        Some(hint) => failure.hint(hint),
        None => failure,
    }
}
