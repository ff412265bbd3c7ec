//! Finds and explains what is wrong on a node, with the fix for each finding (`zeta-bft doctor`).
//!
//! Rules:
//! * It reads, and changes nothing.
//! * Each check is a function over facts: the node's files through [`node::Node`], answers of programs and daemons as
//!   arguments. Gathering them is here and in [`tools`].
//! * What may not be read, or does not answer, is [`finding::Level::Skipped`] with the reason: unknown is neither unhealthy
//!   nor healthy.
//! * A finding has a stable `id`, says what was found, where and why it matters, and what to do.

pub mod accounts;
pub mod finding;
pub mod host;
pub mod node;
pub mod rights;
pub mod set_up;
pub mod sudoers;
pub mod tools;
#[cfg(test)]
mod tree;
pub mod users;

use crate::clock;
use crate::config::paths::Paths;
use crate::config::{self, ConfigError, Settings};
use accounts::{Accounts, Cast};
use finding::{Group, Section};
use node::{Node, Unread};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::{Duration, UNIX_EPOCH};

/// Why the checks of a node say nothing about a folder.
const ONLY_OF_A_NODE: &str = "a folder with --dir, or of `zeta-bft up`, has none of its own: this is checked on a node";

/// Examines everything, theme by theme.
pub async fn examine(paths: &Paths) -> Vec<Section> {
    let node = Node::this();
    let on_node = paths.dir().is_none();
    let loaded = config::load(paths);
    let accounts = Accounts::of(&node);
    let mut sections = vec![set_up(&node, paths, &loaded, accounts.as_ref().ok())];
    let settings = loaded.ok();
    if on_node {
        sections.extend(of_node(&node, settings.as_ref(), accounts).await);
    } else {
        sections.extend([Group::Users, Group::Rights].map(|group| Section::skipped_whole(group, ONLY_OF_A_NODE)));
    }
    sections.push(host::clock(&node, &clocks().await));
    sections.push(disk(paths));
    sections.push(host::kernel(&node));
    sections
}

fn set_up(node: &Node, paths: &Paths, loaded: &Result<Settings, ConfigError>, accounts: Option<&Accounts>) -> Section {
    let (mut section, settings) = match loaded {
        Ok(settings) => (set_up::check(settings), Some(settings)),
        Err(error) => (set_up::unreadable(error), None),
    };
    if let Some(accounts) = accounts.filter(|_| paths.dir().is_none()) {
        let cast = settings.map(|settings| Cast::of(settings, accounts)).unwrap_or_default();
        set_up::check_owners(node, paths, &cast, accounts, &mut section);
    }
    section
}

/// Users and their rights.
async fn of_node(node: &Node, settings: Option<&Settings>, accounts: Result<Accounts, Unread>) -> Vec<Section> {
    let mut accounts = match accounts {
        Ok(accounts) => accounts,
        Err(error) => {
            let why = format!("/etc/passwd or /etc/group: {error}");
            return [Group::Users, Group::Rights].map(|group| Section::skipped_whole(group, &why)).into();
        }
    };
    let mut sections = Vec::new();
    let mut rights = Section::new(Group::Rights);
    if let Some(settings) = settings {
        let cast = Cast::of(settings, &accounts);
        cast.names.values().for_each(|name| accounts.ask_for(name));
        sections.push(users::check(&cast, &accounts, !settings.isolation));
        let said = said_by_sudo(&cast, &accounts).await;
        rights::check_users(node, &cast, &accounts, &said, &mut rights);
    } else {
        let why = "there is no configuration that says which users are meant";
        sections.push(Section::skipped_whole(Group::Users, why));
        rights.skipped("not-checked", "users", why);
    }
    let program = std::env::current_exe().unwrap_or_else(|_| PathBuf::from("/usr/bin/zeta-bft"));
    rights::check_files(node, settings, &program, &[], &accounts, &mut rights);
    sections.push(rights.summed_up("no AI is root by group, sudo, socket or file"));
    sections
}

/// What sudo says of each user; who it was not asked about is judged by its files.
async fn said_by_sudo(cast: &Cast, accounts: &Accounts) -> BTreeMap<String, sudoers::SudoRights> {
    let mut said = BTreeMap::new();
    // Anybody else would be asked for a password.
    if !rustix::process::geteuid().is_root() {
        return said;
    }
    for (_, account) in cast.accounts(accounts) {
        let answer = tools::ask(&["sudo", "-n", "-l", "-U", &account.name]).await;
        if let Some(rights) = answer.ok().and_then(|answer| sudoers::of_sudo(&answer)) {
            said.insert(account.name.clone(), rights);
        }
    }
    said
}

async fn clocks() -> host::Clocks {
    let since_1970 = |path: PathBuf| std::fs::metadata(path).ok()?.modified().ok()?.duration_since(UNIX_EPOCH).ok();
    let answer = tools::ask(&["timedatectl", "show", "--property=NTPSynchronized"]).await.unwrap_or_default();
    let monotonic = Duration::from_nanos(clock::monotonic().as_nanos());
    host::Clocks {
        monotonic,
        boottime: Duration::from_nanos(clock::now().as_nanos()),
        unix: clock::unix(),
        program_made: std::env::current_exe().ok().and_then(since_1970),
        synchronised: tools::value(&answer, "NTPSynchronized").map(|said| said == "yes"),
    }
}

fn disk(paths: &Paths) -> Section {
    let space = |path: &Path| (path.display().to_string(), host::Space::of(path));
    let spaces = [space(paths.state()), space(paths.run().parent().unwrap_or(paths.run()))];
    let journal = std::fs::metadata(paths.journal()).map(|meta| meta.len()).map_err(Unread::from);
    host::disk(&spaces, &journal)
}
