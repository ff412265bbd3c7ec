//! What no ladder may do by itself: refused where the configuration is read, and again where root acts, so that neither
//! the voters' nor the operator's haste can bring it about.
//!
//! A `run` rung is root's own command line, and no list can foresee every way to write harm. This one catches what k3s
//! itself offers, spelled plainly, and the paths whose loss cannot be made good.

use crate::protocol::policy::{Action, Consent, RungPolicy};
use std::path::Path;

/// Why a rung is refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Never {
    /// No consent makes it automatic.
    #[error("`{what}` is never automatic: {why}")]
    Always {
        /// What was found.
        what: &'static str,
        /// Why not.
        why: &'static str,
    },
    /// Only with the operator's approval.
    #[error("`{what}` needs the operator: {why}; write consent = \"quorum+operator\"")]
    WithoutOperator {
        /// What was found.
        what: &'static str,
        /// Why not.
        why: &'static str,
    },
    /// Not a plain absolute path.
    #[error("`{0}` must be an absolute path without `.`, `..`, `//` or a slash at its end")]
    NotNormal(String),
    /// Outside of the folders in which files may be touched.
    #[error("`{path}` lies outside of {allowed}: nothing else may be touched")]
    Outside {
        /// The path.
        path: String,
        /// Where it may lie.
        allowed: String,
    },
}

const LOST_DATA: &str = "what it destroys cannot be made good";
const TRUST: &str = "it breaks the trust of every node in the cluster";

/// Never, whoever consents.
const ALWAYS: &[(&str, &str)] = &[
    ("cluster-reset", "it makes this node forget all others"),
    ("rotate-ca", TRUST),
    ("server/tls", TRUST),
    ("server/cred", TRUST),
    ("server/token", TRUST),
    ("server/node-token", TRUST),
    ("token rotate", TRUST),
    ("node-passwd", TRUST),
    ("server/db", LOST_DATA),
    ("state.db", LOST_DATA),
    ("-wal", LOST_DATA),
    ("-shm", LOST_DATA),
    ("etcd-snapshot delete", LOST_DATA),
    ("etcd-snapshot prune", LOST_DATA),
    ("k3s/storage", LOST_DATA),
    ("k3s-uninstall", LOST_DATA),
    ("k3s-agent-uninstall", LOST_DATA),
    ("get.k3s.io", "a reinstallation hides what was wrong"),
    ("delete node", "the node comes back by itself"),
    ("delete no ", "the node comes back by itself"),
    ("mkfs", LOST_DATA),
    ("wipefs", LOST_DATA),
    ("date -s", "certificates and timers rest on the clock"),
    ("date --set", "certificates and timers rest on the clock"),
    ("set-time", "certificates and timers rest on the clock"),
    ("hwclock", "certificates and timers rest on the clock"),
    ("makestep", "certificates and timers rest on the clock"),
    ("ntpdate", "certificates and timers rest on the clock"),
    ("chronyd -q", "certificates and timers rest on the clock"),
];

/// Only after the operator's approval.
const WITH_OPERATOR: &[(&str, &str)] = &[
    ("k3s-killall", "it ends every container of the node"),
    ("certificate rotate", "every client on the node must take the new ones"),
    ("reboot", "it takes the whole node away"),
    ("poweroff", "it takes the whole node away"),
    ("shutdown", "it takes the whole node away"),
    ("kexec", "it takes the whole node away"),
];

/// Checks a whole rung: what `check-config` refuses, and whoever acts refuses once more, because a rung may have come into
/// force without that check.
///
/// # Errors
/// [`Never`] names what was found.
pub fn check(rung: &RungPolicy, state: &Path) -> Result<(), Never> {
    match &rung.action {
        Action::Run { argv, .. } => check_command(argv, rung.consent == Consent::QuorumAndOperator),
        Action::MoveAside { path } => check_path(path, false, state),
        Action::CopyAside { path } => check_path(path, true, state),
        Action::Restart | Action::ResetFailed | Action::Stop | Action::Page => Ok(()),
    }
}

/// Checks the command of a `run` rung.
///
/// # Errors
/// [`Never`] names what was found.
pub fn check_command(argv: &[String], operator_consents: bool) -> Result<(), Never> {
    // Joined with single spaces and without quotes, so that an argument cut in two or quoted reads the same.
    let joined = argv.join(" ").replace(['"', '\'', '\\'], "").to_lowercase();
    let mut line = joined.split_whitespace().collect::<Vec<_>>().join(" ");
    while line.contains("//") || line.contains("/./") {
        line = line.replace("//", "/").replace("/./", "/");
    }
    if flushes(&line) {
        return Err(Never::Always { what: "flush", why: "it cuts every connection of the node's containers" });
    }
    find(&line, operator_consents)
}

/// Whether it takes all rules of the packet filter away.
fn flushes(line: &str) -> bool {
    let words = || line.split(|c: char| c.is_whitespace() || ";&|()`".contains(c)).filter(|word| !word.is_empty());
    let programs = || words().map(|word| word.rsplit('/').next().unwrap_or(word));
    let tables =
        programs().any(|name| ["iptables", "ip6tables", "ebtables", "arptables"].iter().any(|t| name.starts_with(t)));
    let flag = |word: &str| matches!(word, "-f" | "-x" | "--flush" | "--delete-chain");
    (tables && words().any(flag)) || (programs().any(|name| name == "nft") && words().any(|word| word == "flush"))
}

/// k3s' agent: its files may be moved aside, and of the folder itself what is an empty key.
pub const AGENT: &str = "/var/lib/rancher/k3s/agent";
/// k3s' datastore: it may be copied aside, and never moved.
pub const DATASTORE: &str = "/var/lib/rancher/k3s/server/db";

/// The folders below which files may be moved, or with `copy_only` copied, aside.
pub fn folders(copy_only: bool, state: &Path) -> Vec<std::path::PathBuf> {
    let datastore = copy_only.then(|| DATASTORE.into());
    [AGENT.into(), state.to_owned()].into_iter().chain(datastore).collect()
}

/// The folder that may be named itself: the agent's, of which only empty keys are moved, or with `copy_only` the datastore's.
pub fn whole(copy_only: bool) -> &'static Path {
    Path::new(if copy_only { DATASTORE } else { AGENT })
}

/// Checks the path of a `move-aside` or `copy-aside` rung.
///
/// # Errors
/// [`Never`] when it is not normal, lies outside of `allowed`, or touches what must not be lost.
pub fn check_path(path: &str, copy_only: bool, state: &Path) -> Result<(), Never> {
    let plain = path.starts_with('/')
        && path.len() > 1
        && !path.contains('\0')
        && path[1..].split('/').all(|part| !part.is_empty() && part != "." && part != "..");
    if !plain {
        return Err(Never::NotNormal(path.into()));
    }
    let below = |folder: &Path| Path::new(path) != folder && Path::new(path).starts_with(folder);
    if copy_only && Path::new(path).starts_with(DATASTORE) {
        return Ok(());
    }
    find(path, true)?;
    if below(state) {
        // The warden's own memory: losing it would give every budget back.
        let journal = path.contains("warden.journal");
        let (what, why) = ("warden.journal", "it holds the receipts and the budgets");
        return if journal { Err(Never::Always { what, why }) } else { Ok(()) };
    }
    if below(Path::new(AGENT)) || Path::new(path) == whole(copy_only) {
        return Ok(());
    }
    let datastore = if copy_only { format!(", {DATASTORE}") } else { String::new() };
    Err(Never::Outside { path: path.into(), allowed: format!("{AGENT}/{datastore}, {}", state.display()) })
}

fn find(text: &str, operator_consents: bool) -> Result<(), Never> {
    let found = |list: &'static [(&'static str, &'static str)]| list.iter().find(|(what, _)| text.contains(what));
    if let Some((what, why)) = found(ALWAYS) {
        return Err(Never::Always { what, why });
    }
    match found(WITH_OPERATOR) {
        Some((what, why)) if !operator_consents => Err(Never::WithoutOperator { what, why }),
        _ => Ok(()),
    }
}
