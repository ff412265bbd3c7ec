//! `zeta-bft init`

use crate::clock;
use crate::config::paths::Paths;
use crate::config::{self, ConfigError, Settings, default_node_toml, roster};
use crate::error::Failure;
use crate::protocol::policy::Mode;
use crate::protocol::types::{ClusterId, NodeId};
use crate::setup::outside::{self, RuleFile};
use crate::setup::{self, SetupError};
use crate::wire::Proto;
use std::path::Path;
use std::process::{Child, Command, ExitCode, ExitStatus, Stdio};
use std::time::Duration;

/// Longest that systemctl is waited for: a daemon that fails again and again keeps its start job open for ever.
const PATIENCE: Duration = Duration::from_secs(30);
/// Time between two looks at a command that runs.
const GLANCE: Duration = Duration::from_millis(20);
/// What to do when the users are missing.
const MAKE_USERS: &str = "run `systemd-sysusers` first: it makes the users of /usr/lib/sysusers.d/zeta-bft.conf";

/// Writes configuration, keys and roster for this node, then starts the committee.
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
    /// Write, but enable and start nothing.
    #[arg(long)]
    no_start: bool,
    /// On a node that is set up, after node.toml has changed: write the polkit rule anew, and enable and start the units of the
    /// personas that are configured now. Nothing in /etc/zeta-bft is touched.
    #[arg(long, conflicts_with_all = ["node", "cluster"])]
    refresh: bool,
}

/// Runs the command.
///
/// # Errors
/// [`Failure`] for people.
pub fn run(paths: &Paths, args: Args) -> Result<ExitCode, Failure> {
    // Configuration and roster are read by every daemon's user, whatever the shell's mask is.
    rustix::process::umask(rustix::fs::Mode::from_raw_mode(0o022));
    if args.refresh {
        return refresh(paths, args.no_start);
    }
    let node = match &args.node {
        Some(name) => NodeId::new(name)?,
        None => NodeId::new(&host_name()).map_err(|error| Failure::new(error).hint("say `--node NAME`"))?,
    };
    if args.node.is_some() && paths.node_toml().exists() && !setup::is_initialised(paths) {
        let written = config::load(paths).map_err(unreadable)?.node;
        if written != node {
            let file = paths.node_toml().display().to_string();
            return Err(Failure::new(format!("{file} is there and names this node `{written}`, not `{node}`"))
                .hint(format!("change `node` in {file}, or leave `--node` out")));
        }
    }
    let cluster = ClusterId::new(&args.cluster)?;
    let made =
        setup::initialise(paths, &default_node_toml(&cluster, &node)).map_err(|error| explained(paths, error))?;
    for path in &made.written {
        say!("wrote {}", path.display());
    }
    say!(
        "roster {} of node {} in cluster {}: {} personas, f = {}, q = {}",
        made.roster.epoch(),
        made.roster.node(),
        made.roster.cluster(),
        made.settings.personas.len(),
        made.roster.f(),
        made.roster.q()
    );
    let by_tcp = !made.settings.tcp.is_empty();
    if by_tcp {
        super::certify::first(paths, &made.roster)?;
    }
    let done = match paths.dir() {
        Some(_) => ExitCode::SUCCESS,
        None => follow(&made.settings, args.no_start, false),
    };
    let again = match paths.dir() {
        Some(dir) => format!("zeta-bft --dir {}", dir.display()),
        None => "zeta-bft".into(),
    };
    say!("\nnext:");
    say!("  move {} off this node: whoever has it decides who votes", paths.operator_key().display());
    if by_tcp {
        say!("  move {} off this node as well: it signs certificates for TCP", paths.ca_key().display());
    }
    say!("  read {}, then run `{again} check-config`", paths.node_toml().display());
    match made.settings.policy.mode {
        Mode::Observe => say!(
            "  it observes and touches nothing: when `{again} history` says would_act where you would, set mode = \"act\""
        ),
        Mode::Act => say!("  it acts from its first start on: mode = \"observe\" only watches"),
    }
    Ok(done)
}

/// Makes what lies outside of /etc/zeta-bft follow a changed configuration.
fn refresh(paths: &Paths, no_start: bool) -> Result<ExitCode, Failure> {
    if let Some(dir) = paths.dir() {
        let message = format!("nothing outside of {} follows from its configuration", dir.display());
        return Err(Failure::new(message).hint("`--refresh` is for a node, without `--dir`"));
    }
    let settings = config::load(paths).map_err(unreadable)?;
    let fits = roster::load(&paths.roster(), &Proto).and_then(|roster| roster::check_fits(&roster, &settings));
    fits.map_err(|error| Failure::new(error).hint("run `zeta-bft check-config`"))?;
    let done = follow(&settings, no_start, true);
    say!(
        "\nnext: what runs goes on by the configuration it was started with, and abstains from what it knows otherwise:"
    );
    say!(
        "  systemctl restart zeta-bft-hand.service zeta-bft-warden.service && systemctl restart 'zeta-bft-agent@*.service'"
    );
    say!("  scrape ports follow the personas' names: where one came or went, the others' have moved, and only");
    say!(
        "  `systemctl restart zeta-bft.target` restarts all that hold one (agent_metrics and wrapper_metrics fix them)"
    );
    Ok(done)
}

/// The polkit rule and the units. What fails is said; the rest is done all the same.
fn follow(settings: &Settings, no_start: bool, take_back: bool) -> ExitCode {
    let policy = &settings.policy;
    let mut failed = false;
    match outside::write_rule(Path::new(outside::POLKIT_RULES)) {
        Ok(RuleFile::Written(path)) => say!("wrote {}", path.display()),
        Ok(RuleFile::Unchanged(path)) => say!("{} is as it should be", path.display()),
        Ok(RuleFile::NoPolkit) => say!(
            "there is no {}: no page can be sent until polkit is installed and `zeta-bft init --refresh` has run",
            outside::POLKIT_RULES
        ),
        Err((path, error)) => {
            failed = true;
            let path = path.display();
            complain!(
                "error: cannot write {path}: {error}\n  hint: put there what `zeta-bft polkit` prints: until then no page can be sent"
            );
        }
    }
    if no_start {
        say!("nothing is enabled or started, as you said");
    } else if Path::new(outside::SYSTEMD).is_dir() {
        let stale = if take_back { outside::stale(enabled().iter().map(String::as_str), policy) } else { Vec::new() };
        failed |= !tell_systemd(&outside::units(policy), &stale);
    } else {
        say!("systemd is not PID 1 here: nothing is enabled or started");
    }
    if failed { ExitCode::FAILURE } else { ExitCode::SUCCESS }
}

/// The names of the units that the target starts.
fn enabled() -> Vec<String> {
    let links = std::fs::read_dir(outside::ENABLED).into_iter().flatten().flatten();
    links.filter_map(|link| link.file_name().into_string().ok()).collect()
}

/// Enables and starts units, and takes back those that are not wanted any more. Whether all went well.
fn tell_systemd(units: &[String], stale: &[String]) -> bool {
    let mut well = systemctl(&["daemon-reload"], &[]);
    if !stale.is_empty() {
        well &= systemctl(&["disable", "--now"], stale);
    }
    // A unit whose file is missing must not keep the others from starting.
    well &= systemctl(&["enable"], units);
    well &= systemctl(&["start"], units);
    if !well {
        complain!(
            "  hint: what was written is complete and valid; `systemctl status` and `journalctl -u UNIT` say what is wrong, then \
             run `zeta-bft init --refresh`"
        );
    }
    well
}

/// Runs systemctl, and says so.
fn systemctl(verb: &[&str], units: &[String]) -> bool {
    let said = verb.iter().copied().chain(units.iter().map(String::as_str)).collect::<Vec<_>>().join(" ");
    say!("systemctl {said}");
    // It may ask a human for a password otherwise, and wait.
    let mut command = Command::new("systemctl");
    command.arg("--no-ask-password").args(verb).args(units).stdin(Stdio::null());
    let wrong = match command.spawn().and_then(|child| end_of(child, PATIENCE)) {
        Ok(Some(status)) if status.success() => return true,
        Ok(Some(status)) => format!("failed: {status}"),
        Ok(None) => format!("is not done after {} s", PATIENCE.as_secs()),
        Err(error) => format!("cannot be run: {error}"),
    };
    complain!("error: `systemctl {said}` {wrong}");
    false
}

/// The end of a process, or its end by our hand when it takes too long (`None`). What it has asked PID 1 for goes on.
fn end_of(mut child: Child, patience: Duration) -> std::io::Result<Option<ExitStatus>> {
    let begun = clock::now();
    loop {
        if let Some(status) = child.try_wait()? {
            return Ok(Some(status));
        }
        if clock::now().saturating_since(begun) >= patience {
            child.kill()?;
            child.wait()?;
            return Ok(None);
        }
        std::thread::sleep(GLANCE);
    }
}

fn unreadable(error: ConfigError) -> Failure {
    Failure::new(error).hint("run `zeta-bft check-config`")
}

fn explained(paths: &Paths, error: SetupError) -> Failure {
    let hint = match &error {
        SetupError::Finished { .. } if paths.dir().is_none() => {
            "`zeta-bft check-config` says whether all is well with it; after a change of node.toml run `zeta-bft init --refresh`"
        }
        SetupError::Finished { .. } => "`zeta-bft check-config` says whether all is well with it",
        SetupError::EarlierJournal { .. } => "restore the roster, or move the journal away to begin anew",
        SetupError::NoUser { .. } => MAKE_USERS,
        SetupError::Io { .. } if paths.dir().is_none() => "run it as root, or with `--dir DIR`",
        _ => return Failure::new(error),
    };
    Failure::new(error).hint(hint)
}

/// The host's name, as far as it can name a node: lower case, without its domain.
fn host_name() -> String {
    let name = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default().to_lowercase();
    name.trim().split('.').next().unwrap_or_default().to_owned()
}
