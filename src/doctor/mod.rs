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
pub mod bus;
pub mod filter;
pub mod finding;
pub mod host;
pub mod k3s;
pub mod lookout;
pub mod mode;
pub mod node;
pub mod port;
pub mod rights;
pub mod runtime;
pub mod set_up;
pub mod sudoers;
pub mod tcp;
pub mod tools;
#[cfg(test)]
pub(crate) mod tree;
pub mod units;
pub mod users;

use crate::clock;
use crate::config::paths::Paths;
use crate::config::{self, ConfigError, Settings, polkit};
use crate::wire::v1::{HistoryEntry, QuorumView};
use accounts::{Accounts, Cast};
use finding::{Group, Section};
use node::{Node, Unread};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::{Duration, UNIX_EPOCH};

/// Why the checks of a node say nothing about a folder.
const ONLY_OF_A_NODE: &str = "a folder with --dir, or of `zeta-bft up`, has none of its own: this is checked on a node";
const NO_SETTINGS: &str = "there is no good configuration that says what should be there";
static NOBODY: Accounts = Accounts::none();

/// What the warden says, asked by those who know its services.
#[derive(Debug)]
pub struct Asked {
    /// Its view of the committee, or why there is none.
    pub view: Result<QuorumView, String>,
    /// The receipts that it shows, or why there are none.
    pub history: Result<Vec<HistoryEntry>, String>,
}

/// Examines everything, theme by theme. `asked`: what the warden says.
pub async fn examine(paths: &Paths, asked: &Asked) -> Vec<Section> {
    let node = Node::this();
    let on_node = paths.dir().is_none();
    let loaded = config::load(paths);
    let mut accounts = Accounts::of(&node);
    let settings = loaded.as_ref().ok();
    let mut cast = Cast::default();
    if let (true, Ok(accounts)) = (on_node, &mut accounts) {
        cast = Cast::find(settings, accounts);
    }
    let mut sections = vec![set_up(&node, paths, &loaded, &cast, accounts.as_ref().ok())];
    if on_node {
        let facts = Facts { node: &node, settings, cast: &cast, accounts: accounts.as_ref().map_err(Clone::clone) };
        sections.extend(of_node(&facts).await);
    } else {
        let k3s = settings.is_some_and(|settings| !settings.k3s.is_empty()).then_some(Group::K3s);
        let groups = [Group::Users, Group::Rights, Group::Units].into_iter().chain(k3s).chain([Group::Bus]);
        sections.extend(groups.map(|group| Section::skipped_whole(group, ONLY_OF_A_NODE)));
    }
    sections.push(match settings {
        Some(settings) => {
            let known = (&cast, accounts.as_ref().unwrap_or(&NOBODY));
            let mut section = runtime::check(&node, paths, &runtime::ask(settings).await, &asked.view, known);
            if on_node {
                lookout::check(&lookout::of(settings), clock::now(), &mut section);
            }
            section
        }
        None => Section::skipped_whole(Group::Runtime, NO_SETTINGS),
    });
    sections.push(host::clock(&node, &clocks().await));
    sections.push(disk(paths));
    sections.push(host::kernel(&node));
    sections.push(match settings {
        Some(settings) => mode::check(settings, &asked.history),
        None => Section::skipped_whole(Group::Mode, NO_SETTINGS),
    });
    sections
}

fn set_up(
    node: &Node,
    paths: &Paths,
    loaded: &Result<Settings, ConfigError>,
    cast: &Cast,
    accounts: Option<&Accounts>,
) -> Section {
    let mut section = match loaded {
        Ok(settings) => set_up::check(settings),
        Err(error) => set_up::unreadable(error),
    };
    if let Some(accounts) = accounts.filter(|_| paths.dir().is_none()) {
        set_up::check_owners(node, paths, cast, accounts, &mut section);
    }
    section
}

struct Facts<'a> {
    node: &'a Node,
    settings: Option<&'a Settings>,
    cast: &'a Cast,
    accounts: Result<&'a Accounts, Unread>,
}

/// What there is on a node alone: users, their rights, units, bus.
async fn of_node(facts: &Facts<'_>) -> Vec<Section> {
    let Facts { node, settings, cast, accounts } = facts;
    let accounts = match accounts {
        Ok(accounts) => *accounts,
        Err(error) => {
            let why = format!("/etc/passwd or /etc/group: {error}");
            let groups = [Group::Users, Group::Rights, Group::Units];
            let mut sections: Vec<_> = groups.map(|group| Section::skipped_whole(group, &why)).into();
            sections.push(check_bus(node, *settings, None).await);
            return sections;
        }
    };
    let wanted = settings.map(units::wanted).unwrap_or_default();
    let polkit_unit = "polkit.service".to_owned();
    let said = match bus::is_pid_1(node) {
        true => units::ask(wanted.keys().chain([&polkit_unit])).await,
        false => Err(Unread::Other("systemd is not PID 1 here".into())),
    };
    let files = said.as_ref().map(units::files).unwrap_or_default();

    let mut rights = Section::new(Group::Rights);
    let sudo = said_by_sudo(cast, accounts).await;
    rights::check_users(node, cast, accounts, &sudo, &mut rights);
    let program = std::env::current_exe().unwrap_or_else(|_| PathBuf::from("/usr/bin/zeta-bft"));
    rights::check_files(node, *settings, &program, &files, accounts, &mut rights);
    let mut sections = vec![
        match settings {
            Some(settings) => users::check(cast, accounts, !settings.isolation),
            None => Section::skipped_whole(Group::Users, NO_SETTINGS),
        },
        rights.summed_up("no AI is root by group, sudo, socket or file"),
        match (settings, &said) {
            (None, _) => Section::skipped_whole(Group::Units, NO_SETTINGS),
            (_, Err(error)) => Section::skipped_whole(Group::Units, &error.to_string()),
            (Some(settings), Ok(said)) => {
                let mut section = units::check(&wanted, said, cast, accounts);
                tcp::filters(settings, said, &mut section);
                section
            }
        },
    ];
    if let Some(settings) = settings.filter(|settings| !settings.k3s.is_empty()) {
        let agents = k3s::agents(settings, cast, accounts, said.as_ref().ok());
        let facts = k3s::Facts { node, cast, accounts, agents: &agents, now: clock::unix().as_secs() };
        sections.push(k3s::check(&facts, &settings.k3s));
    }
    sections.push(check_bus(node, *settings, said.ok().and_then(|mut said| said.remove(&polkit_unit))).await);
    sections
}

async fn check_bus(node: &Node, settings: Option<&Settings>, polkit_unit: Option<units::UnitFacts>) -> Section {
    let answers = bus::Answers {
        systemd: tools::ask(&["systemctl", "--version"]).await,
        polkit: tools::ask(&["pkaction", "--version"]).await,
        polkit_unit,
        connected: runtime::connect(Path::new(bus::SOCKET)).await,
    };
    let rule = settings.map(|_| polkit::rule());
    bus::check(node, &answers, rule.as_deref())
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
