//! `zeta-bft init`

use crate::config::default_node_toml;
use crate::config::paths::Paths;
use crate::error::Failure;
use crate::protocol::policy::Mode;
use crate::protocol::types::{ClusterId, NodeId};
use crate::setup::{self, SetupError};
use std::process::ExitCode;

/// Writes configuration, keys and roster for this node.
///
/// Nothing that exists is overwritten: a node.toml that is there counts, and keys that are there are used.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Name of this node; the host's name unless given.
    #[arg(long)]
    node: Option<String>,
    /// Name of the cluster.
    #[arg(long, default_value = "zeta")]
    cluster: String,
}

/// Runs the command.
///
/// # Errors
/// [`Failure`] for people.
pub fn run(paths: &Paths, args: Args) -> Result<ExitCode, Failure> {
    let node = match args.node {
        Some(name) => NodeId::new(&name)?,
        None => NodeId::new(&host_name()).map_err(|error| Failure::new(error).hint("say `--node NAME`"))?,
    };
    let cluster = ClusterId::new(&args.cluster)?;
    let made = setup::initialise(paths, &default_node_toml(&cluster, &node)).map_err(|error| match error {
        SetupError::Finished { .. } => {
            Failure::new(error).hint("`zeta-bft check-config` says whether all is well with it")
        }
        SetupError::EarlierJournal { .. } => {
            Failure::new(error).hint("restore the roster, or move the journal away to begin anew")
        }
        SetupError::Io { .. } if paths.dir().is_none() => {
            Failure::new(error).hint("run it as root, or with `--dir DIR`")
        }
        _ => Failure::new(error),
    })?;
    for path in &made.written {
        println!("wrote {}", path.display());
    }
    println!(
        "roster {} of node {} in cluster {}: {} personas, f = {}, q = {}",
        made.roster.epoch(),
        made.roster.node(),
        made.roster.cluster(),
        made.settings.personas.len(),
        made.roster.f(),
        made.roster.q()
    );
    let again = match paths.dir() {
        Some(dir) => format!("zeta-bft --dir {}", dir.display()),
        None => "zeta-bft".into(),
    };
    println!("\nnext:");
    println!("  move {} off this node: whoever has it decides who votes", paths.operator_key().display());
    println!("  read {}, then run `{again} check-config`", paths.node_toml().display());
    match made.settings.policy.mode {
        Mode::Observe => println!(
            "  it observes and touches nothing: when `{again} history` says WOULD_ACT where you would, set mode = \"act\""
        ),
        Mode::Act => println!("  it acts from its first start on: mode = \"observe\" only watches"),
    }
    Ok(ExitCode::SUCCESS)
}

/// The host's name, as far as it can name a node: lower case, without its domain.
fn host_name() -> String {
    let name = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default().to_lowercase();
    name.trim().split('.').next().unwrap_or_default().to_owned()
}
