//! What sudo lets a user do, read from sudo itself or from its files.
//!
//! The files are read conservatively: a host list is taken to name this host, an exclusion (`!user`) is not believed, and
//! what cannot be resolved (netgroups, groups of other sources) is said to be unread, never taken for nothing.

use super::node::{Node, Unread};
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

const MAIN: &str = "/etc/sudoers";
/// Includes that lead in a ring end here.
const MOST_FILES: usize = 200;

/// One right.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SudoRight {
    /// Where it was found: a file, or sudo itself.
    pub place: String,
    /// As which users, as written; empty: root.
    pub runas: String,
    /// Without a password.
    pub nopasswd: bool,
    /// The command, as written.
    pub command: String,
}

impl SudoRight {
    /// Whether it reaches root.
    pub fn as_root(&self) -> bool {
        let users = self.runas.split(':').next().unwrap_or_default();
        let mut users = users.split(',').map(str::trim).filter(|user| !user.is_empty()).peekable();
        users.peek().is_none() || users.any(|user| !user.starts_with('!') && is_root(user))
    }

    /// Whether it is every command.
    pub fn is_everything(&self) -> bool {
        self.command == "ALL"
    }
}

fn is_root(user: &str) -> bool {
    // An alias, which is written in capitals, may name root: taken to do so.
    matches!(user, "root" | "#0") || user.chars().all(|c| c.is_ascii_uppercase() || c.is_ascii_digit() || c == '_')
}

/// What is known of one user's rights.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SudoRights {
    /// What it may.
    pub rights: Vec<SudoRight>,
    /// What could not be judged, and why.
    pub unread: Vec<String>,
}

/// Reads what `LC_ALL=C sudo -l -U USER` says; `None` when it is not of the form that is known.
pub fn of_sudo(said: &str) -> Option<SudoRights> {
    if said.contains("is not allowed to run sudo") {
        return Some(SudoRights::default());
    }
    let (_, list) = said.split_once("may run the following commands")?;
    let mut found = SudoRights::default();
    for line in list.lines().skip(1).map(str::trim).filter(|line| line.starts_with('(')) {
        let (runas, commands) = line.strip_prefix('(')?.split_once(')')?;
        push_commands(&mut found.rights, "sudo -l", runas, commands);
    }
    Some(found)
}

/// Splits a list of commands with tags (`NOPASSWD: /bin/a, PASSWD: /bin/b`).
fn push_commands(rights: &mut Vec<SudoRight>, place: &str, runas: &str, commands: &str) {
    let (mut nopasswd, mut runas) = (false, runas.trim().to_owned());
    for command in split_unescaped(commands, ',') {
        let mut command = command.trim();
        if let Some((users, rest)) = command.strip_prefix('(').and_then(|rest| rest.split_once(')')) {
            (runas, command) = (users.trim().to_owned(), rest.trim());
        }
        while let Some((tag, rest)) = tag(command) {
            match tag {
                "NOPASSWD" => nopasswd = true,
                "PASSWD" => nopasswd = false,
                _ => {}
            }
            command = rest.trim();
        }
        if !command.is_empty() && !command.starts_with('!') {
            rights.push(SudoRight { place: place.into(), runas: runas.clone(), nopasswd, command: command.into() });
        }
    }
}

fn tag(command: &str) -> Option<(&str, &str)> {
    let (word, rest) = command.split_once(':')?;
    let word = word.trim();
    (!word.is_empty() && word.bytes().all(|b| b.is_ascii_uppercase() || b == b'_')).then_some((word, rest))
}

/// What the files say of a user, by its name, number and groups.
///
/// # Errors
/// [`Unread`] when the main file may not be read. One that is not there gives no rights.
pub fn of_files(
    node: &Node,
    user: &str,
    uid: u32,
    groups: &BTreeSet<String>,
    gids: &BTreeSet<u32>,
) -> Result<SudoRights, Unread> {
    let mut found = SudoRights::default();
    let lines = match read_all(node, &mut found) {
        Err(Unread::Absent) => return Ok(found),
        lines => lines?,
    };
    let aliases = aliases(&lines);
    let who = Who { user, uid, groups, gids, aliases: &aliases };
    for (place, line) in &lines {
        let Some((users, specs)) = users_and_specs(line) else { continue };
        match who.is_named(users, 0) {
            Named::No => {}
            Named::Unknown(part) => found.unread.push(format!("{place}: whether `{part}` means {user} is not known")),
            Named::Yes => {
                for spec in split_unescaped(specs, ':').iter().fold(Vec::<String>::new(), join_tags) {
                    // A further host list has no `=` only where the line is broken: then nothing is granted by it.
                    if let Some((_, commands)) = spec.split_once('=') {
                        push_commands(&mut found.rights, place, "", commands);
                    }
                }
            }
        }
    }
    Ok(found)
}

/// Puts together what was split at the colon of a tag or inside of `(user:group)`: only `host = …` begins a new list.
fn join_tags(mut specs: Vec<String>, part: &&str) -> Vec<String> {
    let begins = part.split_once('=').is_some_and(|(hosts, _)| {
        !hosts.contains(['(', ')', '/'])
            && !hosts.trim().is_empty()
            && hosts.split(',').all(|h| h.split_whitespace().count() == 1)
    });
    match specs.last_mut() {
        Some(last) if !begins => {
            last.push(':');
            last.push_str(part);
        }
        _ => specs.push((*part).to_owned()),
    }
    specs
}

/// A logical line with the file it is from.
type Line = (String, String);

fn read_all(node: &Node, found: &mut SudoRights) -> Result<Vec<Line>, Unread> {
    let mut lines = Vec::new();
    let mut open = vec![PathBuf::from(MAIN)];
    let mut seen = BTreeSet::new();
    while let Some(path) = open.pop() {
        if !seen.insert(path.clone()) || seen.len() > MOST_FILES {
            continue;
        }
        let text = match node.read(&path) {
            Ok(text) => text,
            Err(error) if path == Path::new(MAIN) => return Err(error),
            Err(Unread::Absent) => continue,
            Err(error) => {
                found.unread.push(format!("{}: {error}", path.display()));
                continue;
            }
        };
        for line in logical_lines(&text) {
            match include(&line) {
                Some((folder, target)) => {
                    let target = path.parent().unwrap_or(Path::new("/")).join(target);
                    if !folder {
                        open.push(target);
                        continue;
                    }
                    match node.names(&target) {
                        // As sudo does: backups of editors and packagers are passed over.
                        Ok(names) => open.extend(
                            names.iter().filter(|n| !n.contains('.') && !n.ends_with('~')).map(|n| target.join(n)),
                        ),
                        Err(Unread::Absent) => {}
                        Err(error) => found.unread.push(format!("{}: {error}", target.display())),
                    }
                }
                None => lines.push((path.display().to_string(), line)),
            }
        }
    }
    Ok(lines)
}

fn include(line: &str) -> Option<(bool, String)> {
    let words = [("@includedir", true), ("#includedir", true), ("@include", false), ("#include", false)];
    words.into_iter().find_map(|(word, folder)| {
        let rest = line.strip_prefix(word)?;
        let target = rest.trim().trim_matches('"');
        (rest.starts_with(char::is_whitespace) && !target.is_empty()).then(|| (folder, target.to_owned()))
    })
}

/// Continued lines joined, comments taken out. `#123` at the beginning of a word is a user's number, not a comment.
fn logical_lines(text: &str) -> Vec<String> {
    let mut lines = Vec::new();
    let mut open = String::new();
    for line in text.lines() {
        if let Some(part) = line.strip_suffix('\\') {
            open.push_str(part);
            open.push(' ');
            continue;
        }
        open.push_str(line);
        let line = std::mem::take(&mut open);
        let line = line.trim();
        let line = if include(line).is_some() { line } else { without_comment(line) };
        if !line.is_empty() {
            lines.push(line.to_owned());
        }
    }
    lines
}

fn without_comment(line: &str) -> &str {
    let comment = line.char_indices().find(|(at, c)| {
        *c == '#' && !line[at + 1..].starts_with(|c: char| c.is_ascii_digit()) && !line[..*at].ends_with(['\\', '%'])
    });
    comment.map_or(line, |(at, _)| &line[..at]).trim()
}

fn split_unescaped(text: &str, separator: char) -> Vec<&str> {
    let (mut parts, mut from, mut escaped) = (Vec::new(), 0, false);
    let mut depth = 0_u32;
    for (at, c) in text.char_indices() {
        match c {
            '\\' if !escaped => {
                escaped = true;
                continue;
            }
            '(' if !escaped => depth += 1,
            ')' if !escaped => depth = depth.saturating_sub(1),
            c if c == separator && !escaped && depth == 0 => {
                parts.push(&text[from..at]);
                from = at + c.len_utf8();
            }
            _ => {}
        }
        escaped = false;
    }
    parts.push(&text[from..]);
    parts
}

fn aliases(lines: &[Line]) -> BTreeMap<String, String> {
    let mut aliases = BTreeMap::new();
    for (_, line) in lines {
        let Some(rest) = line.strip_prefix("User_Alias").filter(|rest| rest.starts_with(char::is_whitespace)) else {
            continue;
        };
        for definition in split_unescaped(rest, ':') {
            if let Some((name, users)) = definition.split_once('=') {
                aliases.insert(name.trim().to_owned(), users.trim().to_owned());
            }
        }
    }
    aliases
}

/// The users and the rest of a line that grants something.
fn users_and_specs(line: &str) -> Option<(&str, &str)> {
    let other = ["Defaults", "User_Alias", "Runas_Alias", "Host_Alias", "Cmnd_Alias", "Cmd_Alias"];
    if other.iter().any(|word| line.starts_with(word)) || !line.contains('=') {
        return None;
    }
    // Users are separated by commas, the hosts follow after a blank that no comma precedes.
    let (mut quoted, mut after_comma) = (false, false);
    for (at, c) in line.char_indices() {
        match c {
            '"' => quoted = !quoted,
            ',' => after_comma = true,
            c if c.is_whitespace() && !quoted => {
                let rest = line[at..].trim_start();
                if !after_comma && !rest.starts_with(',') {
                    return Some((&line[..at], rest));
                }
            }
            _ => after_comma = false,
        }
    }
    None
}

enum Named {
    Yes,
    No,
    Unknown(String),
}

struct Who<'a> {
    user: &'a str,
    uid: u32,
    groups: &'a BTreeSet<String>,
    gids: &'a BTreeSet<u32>,
    aliases: &'a BTreeMap<String, String>,
}

impl Who<'_> {
    fn is_named(&self, users: &str, depth: usize) -> Named {
        let mut unknown = None;
        for part in users.split(',') {
            let part = part.trim().trim_matches('"').replace('\\', "");
            if part.starts_with('!') || part.is_empty() {
                continue;
            }
            let named = match part.strip_prefix('%') {
                Some(group) if group.starts_with(':') => Named::Unknown(part.clone()),
                Some(group) => match group.strip_prefix('#') {
                    Some(gid) => yes(gid.parse().is_ok_and(|gid: u32| self.gids.contains(&gid))),
                    None => yes(self.groups.contains(group)),
                },
                None if part.starts_with('+') => Named::Unknown(part.clone()),
                None if part == "ALL" || part == self.user => Named::Yes,
                None => match (part.strip_prefix('#'), self.aliases.get(&part)) {
                    (Some(uid), _) => yes(uid.parse() == Ok(self.uid)),
                    (None, Some(_)) if depth > 20 => Named::Unknown(part.clone()),
                    (None, Some(users)) => self.is_named(users, depth + 1),
                    (None, None) => Named::No,
                },
            };
            match named {
                Named::Yes => return Named::Yes,
                Named::No => {}
                Named::Unknown(part) => unknown = Some(part),
            }
        }
        unknown.map_or(Named::No, Named::Unknown)
    }
}

const fn yes(is: bool) -> Named {
    if is { Named::Yes } else { Named::No }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::doctor::tree::Tree;
    use proptest::prelude::*;

    fn rights(sudoers: &str) -> SudoRights {
        let tree = Tree::new().file(MAIN, sudoers);
        rights_in(&tree)
    }

    fn rights_in(tree: &Tree) -> SudoRights {
        let groups = BTreeSet::from(["zeta-otto".to_owned(), "ops".to_owned()]);
        of_files(&tree.node(), "zeta-otto", 901, &groups, &BTreeSet::from([901, 50])).unwrap()
    }

    fn commands(sudoers: &str) -> Vec<(String, bool, bool)> {
        rights(sudoers).rights.into_iter().map(|r| (r.command.clone(), r.nopasswd, r.as_root())).collect()
    }

    #[test]
    fn a_right_is_found_by_name_group_number_alias_and_all() {
        for who in
            ["zeta-otto", "%ops", "#901", "%#50", "ALL", "AIS", "ann, zeta-otto", "ann,zeta-otto", "\"zeta-otto\""]
        {
            let text = format!("User_Alias AIS = ann, zeta-otto\n{who} ALL=(ALL:ALL) NOPASSWD: ALL\n");
            assert_eq!(commands(&text), [("ALL".to_owned(), true, true)], "{who}");
        }
    }

    #[test]
    fn what_others_may_is_not_this_users_right() {
        for who in ["ann", "%sudo", "#902", "%#51", "OTHERS", "zeta-ott", "zeta-otto2", "!zeta-otto"] {
            let text = format!("Defaults env_reset\nUser_Alias OTHERS = ann\n{who} ALL=(ALL) ALL # zeta-otto\n");
            assert_eq!(commands(&text), [], "{who}");
        }
    }

    #[test]
    fn tags_runas_and_continued_lines_are_read() {
        let text =
            "zeta-otto ALL = NOPASSWD: /bin/a, \\\n  PASSWD: /bin/b, (ann) /bin/c : other = (root) SETENV: /bin/d\n";
        let wanted =
            [("/bin/a", true, true), ("/bin/b", false, true), ("/bin/c", false, false), ("/bin/d", false, true)];
        assert_eq!(commands(text), wanted.map(|(command, no, root)| (command.to_owned(), no, root)));
    }

    #[test]
    fn included_files_count_and_backups_among_them_do_not() {
        let grant = "zeta-otto ALL=(ALL) ALL\n";
        let tree = Tree::new()
            .file(MAIN, "#includedir /etc/sudoers.d\n@include sudoers.local\n@include sudoers.local\n")
            .file("/etc/sudoers.d/ai", grant)
            .file("/etc/sudoers.d/ai.bak", grant)
            .file("/etc/sudoers.d/ai~", grant)
            .file("/etc/sudoers.local", "@include /etc/sudoers\n%ops ALL=/bin/x\n");
        let found: Vec<_> = rights_in(&tree).rights.into_iter().map(|right| (right.place, right.command)).collect();
        let wanted = [("/etc/sudoers.local", "/bin/x"), ("/etc/sudoers.d/ai", "ALL")];
        assert_eq!(found, wanted.map(|(place, command)| (place.to_owned(), command.to_owned())));
    }

    #[test]
    fn no_sudoers_is_no_right_and_a_netgroup_is_said_to_be_unread() {
        assert_eq!(rights_in(&Tree::new()), SudoRights::default());
        let found = rights("+ais ALL=(ALL) ALL\n");
        assert!(found.rights.is_empty() && found.unread[0].contains("`+ais`"), "{found:?}");
    }

    #[test]
    fn what_sudo_says_is_read() {
        let said = "Matching Defaults entries for zeta-otto on node:\n    env_reset, secure_path=/usr/bin\\:/bin\n\n\
                    User zeta-otto may run the following commands on node:\n    (ALL : ALL) ALL\n    (root) NOPASSWD: \
                    /usr/bin/systemctl restart k3s, /bin/true\n    (ann) /bin/id\n";
        let found = of_sudo(said).unwrap().rights;
        let shown: Vec<_> = found.iter().map(|r| (r.command.as_str(), r.nopasswd, r.as_root())).collect();
        let wanted = [
            ("ALL", false, true),
            ("/usr/bin/systemctl restart k3s", true, true),
            ("/bin/true", true, true),
            ("/bin/id", false, false),
        ];
        assert_eq!(shown, wanted);
        let none = "User zeta-otto is not allowed to run sudo on node.\n";
        assert_eq!(of_sudo(none), Some(SudoRights::default()));
        assert_eq!(of_sudo("sudo: something else"), None);
    }

    proptest! {
        #[test]
        fn no_text_makes_the_reader_of_sudoers_panic(
            text in "([#@%+!\\\\\"(),:=A-Z \n]|zeta-otto|NOPASSWD|User_Alias |#include |é){0,60}"
        ) {
            let _ = rights(&text);
            let _ = of_sudo(&format!("User x may run the following commands on y:\n{text}"));
        }
    }
}
