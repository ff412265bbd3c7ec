//! Configuration, roster, keys and journal: whether they are there, fit each other, and belong to those they should.

use super::accounts::{Accounts, Cast, Role};
use super::finding::{Group, Section};
use super::node::{Kind, Node, Unread};
use super::tcp;
use crate::clock;
use crate::config::paths::Paths;
use crate::config::{self, ConfigError, Settings, roster};
use crate::files;
use crate::journal;
use crate::keys::{self, KeyFileError};
use crate::protocol::roster::Roster;
use crate::protocol::types::PublicKey;
use crate::wire::Proto;
use std::collections::BTreeMap;
use std::io::{self, Read as _};
use std::path::Path;

/// Why there is no configuration to check.
pub fn unreadable(error: &ConfigError) -> Section {
    let mut section = Section::new(Group::Configuration);
    let mut text = error.to_string();
    if let Some(cause) = std::error::Error::source(error).map(ToString::to_string).filter(|cause| !text.contains(cause))
    {
        text = format!("{text}: {cause}");
    }
    match error {
        ConfigError::Unreadable { source, .. } if source.kind() == io::ErrorKind::PermissionDenied => {
            section.skipped("config-unread", "node.toml", text);
        }
        ConfigError::Unreadable { source, .. } if source.kind() == io::ErrorKind::NotFound => {
            section.error("config-missing", "node.toml", text, "`zeta-bft init` writes a first configuration");
        }
        ConfigError::Insecure { path, .. } => {
            let path = path.display();
            section.error(
                "config-insecure",
                &path.to_string(),
                format!("{text}: whoever writes it decides what root does"),
                format!("read what is in it, then `chown root {path}; chmod go-w {path}`"),
            );
        }
        _ => section.error(
            "config-bad",
            "node.toml",
            text,
            "correct it; `zeta-bft check-config` says whether it is good",
        ),
    }
    section
}

/// Checks what goes with a configuration: roster, keys, journal. Also what `check-config` says.
pub fn check(settings: &Settings) -> Section {
    let paths = &settings.paths;
    let mut section = Section::new(Group::Configuration);
    if paths.dir().is_none()
        && paths.roster().exists()
        && let Err(error) = config::owned_by_root(&paths.roster())
    {
        let fix = format!("chown root {0}; chmod 644 {0}", paths.roster().display());
        section.error("roster-insecure", "roster", error.to_string(), fix);
    }
    let roster = match roster::load(&paths.roster(), &Proto) {
        Ok(roster) => {
            if let Err(error) = roster::check_fits(&roster, settings) {
                section.error("roster-misfit", "roster", error.to_string(), "sign a new roster, or correct node.toml");
            }
            let (f, q) = (settings.f as usize, settings.q as usize);
            if (roster.f(), roster.q()) != (f, q) {
                let counts = format!("f = {}, q = {} of the signed roster count", roster.f(), roster.q());
                let text = format!("{counts}, not f = {f}, q = {q} of node.toml");
                section.warning(
                    "roster-counts",
                    "roster",
                    text,
                    "write the roster's numbers in node.toml, or sign a new roster",
                );
            }
            Some(roster)
        }
        Err(error) => {
            section.error(
                "roster-bad",
                "roster",
                error.to_string(),
                "restore it from a copy; on a new node run `zeta-bft init`",
            );
            None
        }
    };
    check_keys(settings, roster.as_deref(), &mut section);
    let operator = paths.operator_key();
    match operator.try_exists() {
        Ok(false) => {}
        Ok(true) => section.warning(
            "operator-key",
            "operator.pem",
            format!("{} is still on this node: it belongs offline", operator.display()),
            "move it off this node: whoever has it decides who votes",
        ),
        Err(error) => {
            let why = format!("whether {} is still on this node is not known: {error}", operator.display());
            section.skipped("operator-key", "operator.pem", why);
        }
    }
    tcp::check(settings, roster.as_deref(), clock::unix().as_secs(), &mut section);
    check_journal(&paths.journal(), &mut section);
    let epoch = roster.map_or_else(String::new, |roster| format!("roster {}, ", roster.epoch()));
    let personas = settings.personas.len();
    section.summed_up(format!("node {}, {epoch}{} keys, journal", settings.node, personas + 1))
}

fn check_keys(settings: &Settings, roster: Option<&Roster>, section: &mut Section) {
    let paths = &settings.paths;
    let warden = ("the warden".to_owned(), paths.warden_key(), roster.map(|roster| roster.statement().warden));
    let personas = settings.personas.keys().map(|persona| {
        let listed = roster.and_then(|roster| roster.member(persona)).map(|member| member.key);
        (persona.to_string(), paths.persona_key(persona), listed)
    });
    let mut holders: BTreeMap<PublicKey, String> = BTreeMap::new();
    for (holder, path, listed) in [warden].into_iter().chain(personas) {
        let file = path.display().to_string();
        let public = match keys::load(&path) {
            Ok(key) => key.public(),
            Err(KeyFileError::Io { source, .. }) if source.kind() == io::ErrorKind::PermissionDenied => {
                let why = format!("the key of {holder} was not checked: only root may read it");
                section.skipped("key-unread", &file, why);
                continue;
            }
            Err(error) => {
                let fix = match &error {
                    KeyFileError::Exposed { path, .. } => {
                        format!("chmod 600 {}; if anybody may have read it, make a new key and roster", path.display())
                    }
                    _ => "restore it from a copy, or make a new key and sign a new roster".to_owned(),
                };
                section.error("key-bad", &file, error.to_string(), fix);
                continue;
            }
        };
        if let Some(listed) = listed.filter(|listed| *listed != public) {
            let text = format!("{file} has public key {public}, but the roster lists {listed} for {holder}");
            section.error("key-misfit", &file, text, "restore the key, or sign a new roster");
        }
        if let Some(first) = holders.insert(public, holder.clone()) {
            let text = format!("{first} and {holder} have one and the same key: each needs its own");
            section.error("key-shared", &file, text, "make a new key (`zeta-bft keygen`) and sign a new roster");
        }
    }
}

fn check_journal(path: &Path, section: &mut Section) {
    let file = path.display().to_string();
    let restore = "restore it from a copy; if there is none, move journal, roster and the warden's key away and run \
                   `zeta-bft init`";
    // Its folder is the warden's, which is not root.
    let mut bytes = Vec::new();
    let most = journal::MAX_FILE + 1;
    match files::open_plain(path).and_then(|file| file.take(most).read_to_end(&mut bytes)) {
        Ok(_) => {
            if let Some(damage) = journal::scan(&bytes).damage {
                let text = format!(
                    "the journal {file} is damaged {damage}: nothing is repaired until it is restored from a copy"
                );
                section.error("journal-damaged", &file, text, restore);
            }
        }
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {
            section.skipped("journal-unread", &file, "the journal was not checked: only root may read it");
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            let text = journal::JournalError::Missing { path: path.into() }.to_string();
            section.error("journal-missing", &file, text, restore);
        }
        Err(error) => {
            let text = format!("cannot read the journal {file}: {error}");
            section.error("journal-unreadable", &file, text, "look for disk errors in `journalctl -k`");
        }
    }
}

/// Checks owners and modes of the folders and keys of a node. Those of a `--dir` folder are its user's own affair.
pub fn check_owners(node: &Node, paths: &Paths, cast: &Cast, accounts: &Accounts, section: &mut Section) {
    let warden = cast.account(&Role::Warden, accounts).map(|account| account.uid);
    let journal = paths.journal();
    let mut places = vec![(paths.config().to_owned(), Some(0), 0o022), (paths.keys(), Some(0), 0o077)];
    places.push((paths.state().to_owned(), Some(0), 0o022));
    // Who owns the warden's own folder is told only where there is such a user.
    places.extend(journal.parent().map(|folder| (folder.to_owned(), warden, 0o077)));
    places.push((journal.clone(), warden, 0o077));
    // Beside the keys: what systemd puts into the environment of a persona's CLI.
    for folder in [paths.keys(), paths.config().join("env")] {
        match node.names(&folder) {
            Ok(names) => places.extend(names.iter().map(|name| (folder.join(name), Some(0), 0o077))),
            Err(Unread::Absent) => {}
            Err(error) => section.skipped("owners", &folder.display().to_string(), error.to_string()),
        }
    }
    for (path, owner, closed) in places {
        let place = path.display().to_string();
        let look = match node.look(&path) {
            Ok(look) => look,
            // What must be there is told by those who look for it.
            Err(Unread::Absent) => continue,
            Err(error) => {
                section.skipped("owners", &place, error.to_string());
                continue;
            }
        };
        if let Some(owner) = owner.filter(|owner| *owner != look.uid) {
            let (is, should) = (accounts.name_of(look.uid), accounts.name_of(owner));
            let text = format!("it belongs to {is}, not to {should}: {}", harm(&path, paths));
            section.error("owner", &place, text, format!("chown {should} {place}"));
        }
        if look.mode & closed != 0 {
            let may = if look.mode & closed & 0o022 != 0 { "write" } else { "read" };
            let text = format!("its mode {:04o} lets others {may} it: {}", look.mode, harm(&path, paths));
            let mode = match (closed, look.kind) {
                (0o022, _) => "755",
                (_, Kind::Folder) => "700",
                _ => "600",
            };
            section.error("mode", &place, text, format!("chmod {mode} {place}"));
        }
    }
}

fn harm(path: &Path, paths: &Paths) -> &'static str {
    if path.starts_with(paths.keys()) {
        "whoever holds a key signs as its persona"
    } else if path.starts_with(paths.config().join("env")) {
        "whoever reads it has the persona's account with its vendor"
    } else if path.starts_with(paths.config()) {
        "whoever writes there decides what root does"
    } else {
        "the journal is the memory of what was done, and only the warden's"
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::doctor::finding::Level;
    use crate::doctor::tree::Tree;
    use crate::{config::default_up_toml, setup};

    #[derive(Debug)]
    struct Findings {
        errors: Vec<String>,
        notes: Vec<String>,
    }

    fn findings(spoil: impl FnOnce(&Paths)) -> Findings {
        let dir = tempfile::tempdir().unwrap();
        let paths = Paths::below(dir.path());
        let made = setup::initialise(&paths, &default_up_toml(false)).unwrap();
        spoil(&paths);
        let section = check(&made.settings);
        let place = dir.path().display().to_string();
        let texts = |error: bool| {
            let wanted = section.findings.iter().filter(|finding| (finding.level == Level::Error) == error);
            wanted.map(|finding| finding.text.replace(&place, "DIR")).collect()
        };
        Findings { errors: texts(true), notes: texts(false) }
    }

    #[test]
    fn a_fresh_set_up_has_no_errors_and_the_operators_key_is_pointed_out() {
        let found = findings(|_| {});
        assert_eq!(found.errors, [""; 0]);
        assert_eq!(found.notes, ["DIR/etc/keys/operator.pem is still on this node: it belongs offline"]);
    }

    #[test]
    fn one_key_for_two_personas_is_found_twice_over() {
        let found = findings(|paths| {
            std::fs::copy(paths.keys().join("otto.pem"), paths.keys().join("vera.pem")).unwrap();
        });
        assert!(found.errors[0].starts_with("DIR/etc/keys/vera.pem has public key "), "{:?}", found.errors);
        assert_eq!(found.errors[1], "otto and vera have one and the same key: each needs its own");
    }

    #[test]
    fn a_key_that_others_can_read_and_a_missing_journal_or_roster_are_found() {
        let found = findings(|paths| {
            use std::os::unix::fs::PermissionsExt as _;
            let open = std::fs::Permissions::from_mode(0o644);
            std::fs::set_permissions(paths.warden_key(), open).unwrap();
            std::fs::remove_file(paths.journal()).unwrap();
            std::fs::remove_file(paths.roster()).unwrap();
        });
        assert_eq!(found.errors[0], "there is no roster at DIR/etc/roster: `zeta-bft init` makes one");
        assert!(found.errors[1].contains("others can read the key file DIR/etc/keys/warden.pem"), "{:?}", found.errors);
        assert!(
            found.errors[2].starts_with("there is no journal at DIR/state/warden/warden.journal"),
            "{:?}",
            found.errors
        );
    }

    #[test]
    fn a_damaged_journal_is_found_and_left_as_it_is() {
        let found = findings(|paths| std::fs::write(paths.journal(), b"not a journal").unwrap());
        assert!(
            found.errors[0].starts_with("the journal DIR/state/warden/warden.journal is damaged at byte 0"),
            "{:?}",
            found.errors
        );
    }

    const WARDEN: &str = "zeta-bft-warden:x:900:900\n";

    fn node() -> Tree {
        Tree::new()
            .file("/etc/zeta-bft/node.toml", "")
            .folder("/etc/zeta-bft/keys")
            .mode("/etc/zeta-bft/keys", 0o700)
            .file("/etc/zeta-bft/keys/otto.pem", "")
            .mode("/etc/zeta-bft/keys/otto.pem", 0o600)
            .file("/var/lib/zeta-bft/warden/warden.journal", "")
            .mode("/var/lib/zeta-bft/warden/warden.journal", 0o600)
            .mode("/var/lib/zeta-bft/warden", 0o700)
            .owner("/var/lib/zeta-bft/warden", 900, 900)
            .owner("/var/lib/zeta-bft/warden/warden.journal", 900, 900)
    }

    fn owners(tree: &Tree) -> Vec<(&'static str, String, Option<String>)> {
        let mut section = Section::new(Group::Configuration);
        let cast = Cast { names: BTreeMap::from([(Role::Warden, "zeta-bft-warden".to_owned())]) };
        let accounts = Accounts::parse(&format!("root:x:0:0\n{WARDEN}"), "");
        check_owners(&tree.node(), &Paths::system(), &cast, &accounts, &mut section);
        section.findings.into_iter().map(|finding| (finding.id, finding.subject, finding.fix)).collect()
    }

    #[test]
    fn a_node_whose_files_belong_where_they_should_is_well() {
        assert_eq!(owners(&node()), []);
    }

    #[test]
    fn folders_and_keys_that_others_can_open_or_own_are_errors() {
        let found = owners(&node().mode("/etc/zeta-bft/keys", 0o750));
        assert_eq!(found, [("mode", "/etc/zeta-bft/keys".into(), Some("chmod 700 /etc/zeta-bft/keys".into()))]);
        let key = "/etc/zeta-bft/keys/otto.pem";
        assert_eq!(owners(&node().mode(key, 0o640)), [("mode", key.into(), Some(format!("chmod 600 {key}")))]);
        assert_eq!(owners(&node().owner(key, 900, 900)), [("owner", key.into(), Some(format!("chown root {key}")))]);
        let found = owners(&node().mode("/etc/zeta-bft", 0o777));
        assert_eq!(found, [("mode", "/etc/zeta-bft".into(), Some("chmod 755 /etc/zeta-bft".into()))]);
    }

    #[test]
    fn a_journal_that_is_not_the_wardens_is_an_error() {
        let journal = "/var/lib/zeta-bft/warden/warden.journal";
        let found = owners(&node().owner(journal, 0, 0));
        assert_eq!(found, [("owner", journal.into(), Some(format!("chown zeta-bft-warden {journal}")))]);
        let folder = "/var/lib/zeta-bft/warden";
        assert_eq!(owners(&node().mode(folder, 0o755)), [("mode", folder.into(), Some(format!("chmod 700 {folder}")))]);
    }

    #[test]
    fn a_configuration_that_is_missing_is_an_error_and_one_that_may_not_be_read_is_skipped() {
        let error = |kind: io::ErrorKind| {
            let error = ConfigError::Unreadable { path: "/etc/zeta-bft/node.toml".into(), source: kind.into() };
            let section = unreadable(&error);
            (section.findings[0].id, section.level())
        };
        assert_eq!(error(io::ErrorKind::NotFound), ("config-missing", Level::Error));
        assert_eq!(error(io::ErrorKind::PermissionDenied), ("config-unread", Level::Skipped));
    }
}
