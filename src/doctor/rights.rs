//! What makes one AI root: groups, sudo, container sockets, polkit rules, files that root runs and others can write.
//!
//! The committee holds one vendor's AI to be possibly hostile. Whichever of them becomes root owns the other two, the warden
//! and its journal: no vote counts for anything then. So these are errors, however the committee itself fares.

use super::accounts::{Account, Accounts, Cast, Role, may_read};
use super::finding::Section;
use super::node::{Kind, Node, Unread, Writer, weaknesses};
use super::sudoers::{self, SudoRights};
use crate::config::Settings;
use crate::protocol::policy::Action;
use std::collections::BTreeMap;
use std::path::Path;

/// What follows from it.
const VOID: &str = "this one AI is then root, and the committee's isolation is void";

/// Groups whose members are root, and by what.
const ROOT_GROUPS: &[(&str, &str)] = &[
    ("sudo", "sudo obeys it"),
    ("wheel", "sudo, su and polkit obey it"),
    ("admin", "sudo and polkit obey it"),
    ("docker", "it starts containers that own the host"),
    ("podman", "it starts containers that own the host"),
    ("lxd", "it starts containers that own the host"),
    ("incus-admin", "it starts containers that own the host"),
    ("libvirt", "it gives virtual machines the host's disks"),
    ("disk", "it writes the raw disks"),
    ("shadow", "it reads the password hashes"),
];
/// Groups that give more than a persona needs.
const WIDE_GROUPS: &[(&str, &str)] =
    &[("root", "it writes what root's group may write"), ("staff", "on Debian it may write /usr/local")];
/// Groups that only read what is not meant for everybody.
const READING_GROUPS: &[(&str, &str)] = &[
    ("adm", "reads the logs in /var/log"),
    ("systemd-journal", "reads the journal of every unit"),
    ("kvm", "uses /dev/kvm"),
];

/// Sockets whose clients are root.
const ROOT_SOCKETS: &[&str] = &[
    "/run/docker.sock",
    "/run/containerd/containerd.sock",
    "/run/k3s/containerd/containerd.sock",
    "/run/podman/podman.sock",
    "/run/crio/crio.sock",
    "/run/incus/unix.socket",
    "/var/lib/incus/unix.socket",
    "/var/lib/lxd/unix.socket",
    "/var/snap/lxd/common/lxd/unix.socket",
    "/run/libvirt/libvirt-sock",
];

/// The cluster administrator's credentials.
const KUBECONFIG: &str = "/etc/rancher/k3s/k3s.yaml";
const POLKIT_RULES: &[&str] = &[
    "/etc/polkit-1/rules.d",
    "/run/polkit-1/rules.d",
    "/usr/local/share/polkit-1/rules.d",
    "/usr/share/polkit-1/rules.d",
];
/// The rule that `zeta-bft init` writes: compared as a whole elsewhere.
pub(super) const OUR_RULE: &str = "49-zeta-bft.rules";
/// Where systemd reads units from; whoever writes there is root at the next reload.
const UNIT_FOLDERS: &[&str] = &["/etc/systemd/system", "/run/systemd/system", "/usr/lib/systemd/system"];

/// Checks what the users of agents and wrappers may do. `said_by_sudo`: what sudo itself said of a user, where it was asked.
pub fn check_users(
    node: &Node,
    cast: &Cast,
    accounts: &Accounts,
    said_by_sudo: &BTreeMap<String, SudoRights>,
    section: &mut Section,
) {
    let (mut seen, mut readers) = (Vec::new(), Vec::new());
    for (role, account) in cast.accounts(accounts) {
        // The same user in two parts is told of once; root is told of elsewhere.
        if *role == Role::Page || account.uid == 0 || seen.contains(&account.uid) {
            continue;
        }
        seen.push(account.uid);
        groups(account, role, accounts, section);
        sudo(node, account, role, accounts, said_by_sudo.get(&account.name), section);
        sockets(node, account, accounts, section);
        polkit(node, account, accounts, section);
        match may_read(node, accounts, account, Path::new(KUBECONFIG)) {
            Ok(true) => readers.push(account.name.as_str()),
            Ok(false) => {}
            Err(error) => section.skipped("kubeconfig-readable", KUBECONFIG, error.to_string()),
        }
    }
    if !readers.is_empty() {
        let who = readers.join(", ");
        let text = format!(
            "the cluster administrator's credentials can be read by {who}: whoever does rules the cluster, and through a \
             privileged pod this node"
        );
        let fix = format!("chmod 600 {KUBECONFIG}, and take `write-kubeconfig-mode` out of k3s's configuration");
        section.warning("kubeconfig-readable", KUBECONFIG, text, fix);
    }
}

fn groups(account: &Account, role: &Role, accounts: &Accounts, section: &mut Section) {
    let find =
        |list: &[(&str, &'static str)], name: &str| list.iter().find(|(known, _)| *known == name).map(|(_, why)| *why);
    for group in accounts.groups_of(account) {
        let (user, name) = (&account.name, &group.name);
        let fix = if group.gid == account.gid {
            format!("give {user} a group of its own as its first one")
        } else {
            format!("gpasswd --delete {user} {name}, then restart its units")
        };
        if let Some(why) = find(ROOT_GROUPS, name) {
            section.error("root-group", user, format!("{role} is in group {name} ({why}): {VOID}"), fix);
        } else if let Some(why) = find(WIDE_GROUPS, name) {
            section.warning("wide-group", user, format!("{role} is in group {name}: {why}"), fix);
        } else if let Some(why) = find(READING_GROUPS, name) {
            section.note("reading-group", user, format!("{role} is in group {name}: {why}"), None);
        }
    }
}

fn sudo(
    node: &Node,
    account: &Account,
    role: &Role,
    accounts: &Accounts,
    said: Option<&SudoRights>,
    section: &mut Section,
) {
    let user = &account.name;
    let found = match said {
        Some(found) => found.clone(),
        None => {
            let names = accounts.groups_of(account).map(|group| group.name.clone()).collect();
            let mut gids: std::collections::BTreeSet<_> = accounts.groups_of(account).map(|group| group.gid).collect();
            gids.insert(account.gid);
            match sudoers::of_files(node, user, account.uid, &names, &gids) {
                Ok(found) => found,
                Err(error) => return section.skipped("sudo", user, format!("/etc/sudoers: {error}")),
            }
        }
    };
    for why in &found.unread {
        section.skipped("sudo", user, why.clone());
    }
    for right in &found.rights {
        let password = if right.nopasswd { "without a password" } else { "with its password" };
        let (place, command) = (&right.place, &right.command);
        let fix = format!("take the right out of sudo's configuration ({place}): an AI asks the operator instead");
        if !right.as_root() {
            let text = format!("{role} may run `{command}` as {} {password}", right.runas);
            section.warning("sudo-other", user, text, fix);
        } else if right.is_everything() {
            let text = format!("{role} may run everything as root through sudo, {password} ({place}): {VOID}");
            section.error("sudo-root", user, text, fix);
        } else {
            let text = format!(
                "{role} may run `{command}` as root {password} ({place}): few commands cannot be turned into a shell, and \
                 one that restarts units acts past the quorum"
            );
            section.warning("sudo-command", user, text, fix);
        }
    }
}

fn sockets(node: &Node, account: &Account, accounts: &Accounts, section: &mut Section) {
    for socket in ROOT_SOCKETS {
        match node.steps(Path::new(socket)) {
            Ok(steps) if accounts.reaches(account, &steps, 2) => section.error(
                "root-socket",
                &account.name,
                format!("it may connect to {socket}, whose clients start containers that own the host: {VOID}"),
                format!("chmod 660 {socket} and take {} out of its group, or switch the socket off", account.name),
            ),
            Ok(_) | Err(Unread::Absent) => {}
            // A folder on the way that this user may not enter is no folder that the other may not.
            Err(error) => section.skipped("root-socket", &account.name, format!("{socket}: {error}")),
        }
    }
}

fn polkit(node: &Node, account: &Account, accounts: &Accounts, section: &mut Section) {
    let groups = accounts.groups_of(account).filter(|group| group.gid != account.gid).map(|group| group.name.as_str());
    let names: Vec<_> = std::iter::once(account.name.as_str()).chain(groups).collect();
    for folder in POLKIT_RULES {
        let files = match node.names(folder) {
            Ok(files) => files,
            Err(Unread::Absent) => continue,
            Err(error) => {
                section.skipped("polkit-rules", folder, error.to_string());
                continue;
            }
        };
        for file in files.iter().filter(|file| file.ends_with(".rules") && *file != OUR_RULE) {
            let path = format!("{folder}/{file}");
            match node.read(&path) {
                Ok(text) => {
                    let named = names
                        .iter()
                        .find(|name| [format!("\"{name}\""), format!("'{name}'")].iter().any(|q| text.contains(q)));
                    if let Some(name) = named {
                        let what = if text.contains("manage-units") { "units" } else { "something of root's" };
                        section.warning(
                            "polkit-rule",
                            &account.name,
                            format!("the polkit rule {path} names `{name}`: it may let this AI manage {what} past the quorum"),
                            format!("read {path}, and take the name out unless you want just that"),
                        );
                    }
                }
                Err(Unread::Absent) => {}
                Err(error) => section.skipped("polkit-rules", &path, error.to_string()),
            }
        }
    }
}

/// Checks the files that root runs or reads: program, units, commands of rungs and pages. `program`: this program's own path;
/// `unit_files`: where systemd has read the units from.
pub fn check_files(
    node: &Node,
    settings: Option<&Settings>,
    program: &Path,
    unit_files: &[String],
    accounts: &Accounts,
    section: &mut Section,
) {
    let mut trust = |what: &str, path: &str, id: &'static str, least: bool| {
        let steps = match node.steps(Path::new(path)) {
            Ok(steps) => steps,
            Err(Unread::Absent) if least => {
                let fix = "install it, or correct the path in node.toml";
                return section.error("command-missing", path, format!("{what} does not exist: it can only fail"), fix);
            }
            Err(Unread::Absent) => return,
            Err(error) => return section.skipped(id, path, error.to_string()),
        };
        for weak in weaknesses(&steps) {
            let place = weak.path.display().to_string();
            let (who, fix) = match weak.writer {
                Writer::User(uid) => (accounts.name_of(uid), format!("chown root {place}")),
                Writer::Group(gid) => {
                    let members: Vec<_> = accounts.members_of(gid).map(|user| user.name.as_str()).collect();
                    let of = if members.is_empty() { "nobody today".to_owned() } else { members.join(", ") };
                    (format!("group {} ({of})", accounts.group_name(gid)), format!("chmod g-w {place}"))
                }
                Writer::Everybody => ("everybody".to_owned(), format!("chmod o-w {place}")),
            };
            let text = format!("{what} can be changed by {who} through {place}: what they write there runs as root");
            section.error(id, path, text, fix);
        }
    };
    trust("the program zeta-bft", &program.display().to_string(), "program-writable", false);
    for folder in UNIT_FOLDERS {
        trust("the folder of units", folder, "unit-writable", false);
    }
    for file in unit_files {
        trust("a unit's file", file, "unit-writable", false);
    }
    let Some(settings) = settings else { return };
    for (subject, policy) in &settings.policy.subjects {
        for (number, rung) in policy.ladder.iter().enumerate() {
            let Action::Run { argv, .. } = &rung.action else { continue };
            for (at, word) in argv.iter().enumerate().filter(|(_, word)| word.starts_with('/')) {
                // Root reads its arguments too: a script, a package to install.
                let is_file = || node.look(Path::new(word)).is_ok_and(|look| look.kind == Kind::File);
                if at == 0 || is_file() {
                    let what = if at == 0 { "the command" } else { "a file" };
                    trust(&format!("{what} of rung {number} of {subject}"), word, "rung-writable", at == 0);
                }
            }
        }
    }
    if let Some(program) = settings.page.as_ref().and_then(|page| page.argv.first()) {
        trust("the command that sends pages", program, "page-writable", true);
    }
}

#[cfg(test)]
mod tests;
