//! What is acted and called through: systemd as PID 1, the system bus, and for pages polkit and its rule.

use super::finding::{Group, Section};
use super::node::{Kind, Node, Unread};
use super::rights::OUR_RULE;
use super::units::UnitFacts;
use std::path::Path;

/// Where the system bus is.
pub const SOCKET: &str = "/run/dbus/system_bus_socket";
/// `LoadCredential=` came with it.
const LEAST_SYSTEMD: u32 = 247;
/// Rules in JavaScript came with it.
const LEAST_POLKIT: u32 = 106;
/// Where `zeta-bft init` writes the rule; the NixOS module's lies beside the others of the system.
const RULE_FOLDERS: &[&str] =
    &["/etc/polkit-1/rules.d", "/usr/share/polkit-1/rules.d", "/run/current-system/sw/share/polkit-1/rules.d"];

/// What was asked of programs.
#[derive(Clone, Debug)]
pub struct Answers {
    /// `systemctl --version`.
    pub systemd: Result<String, Unread>,
    /// `pkaction --version`.
    pub polkit: Result<String, Unread>,
    /// What systemd says of `polkit.service`.
    pub polkit_unit: Option<UnitFacts>,
    /// Whether somebody answers on the bus's socket.
    pub connected: Result<(), Unread>,
}

/// Checks them. `rule`: the polkit rule that should be there, where that is known.
pub fn check(node: &Node, answers: &Answers, rule: Option<&str>) -> Section {
    let mut section = Section::new(Group::Bus);
    if !is_pid_1(node) {
        section.error(
            "systemd-absent",
            "PID 1",
            "systemd is not PID 1 here (/run/systemd/system is missing): nothing can be watched, and nothing repaired",
            "run this on a node that systemd booted; elsewhere `zeta-bft up` needs none",
        );
    }
    systemd(&answers.systemd, &mut section);
    bus(node, &answers.connected, &mut section);
    polkit(answers, &mut section);
    match rule {
        Some(rule) => compare(node, rule, &mut section),
        None => section.skipped(
            "polkit-rule",
            "polkit",
            "its rule was not compared: there is no good configuration to make it from",
        ),
    }
    section.summed_up("systemd is PID 1, the bus answers, polkit's rule is the configuration's")
}

/// Whether systemd booted this node.
pub fn is_pid_1(node: &Node) -> bool {
    node.look(Path::new("/run/systemd/system")).is_ok_and(|look| look.kind == Kind::Folder)
}

fn systemd(said: &Result<String, Unread>, section: &mut Section) {
    let version = said.as_ref().ok().and_then(|said| said.split_whitespace().nth(1)).and_then(|word| {
        let digits: String = word.chars().take_while(char::is_ascii_digit).collect();
        digits.parse::<u32>().ok()
    });
    match (version, said) {
        (Some(version), _) if version < LEAST_SYSTEMD => section.error(
            "systemd-old",
            "systemd",
            format!("version {version}: keys reach the daemons by LoadCredential=, which {LEAST_SYSTEMD} brought"),
            "upgrade the node: Debian 12 has 252",
        ),
        (Some(_), _) => {}
        (None, Err(error)) => section.skipped("systemd-old", "systemd", format!("`systemctl --version`: {error}")),
        (None, Ok(_)) => section.skipped("systemd-old", "systemd", "`systemctl --version` said nothing that is known"),
    }
}

fn bus(node: &Node, connected: &Result<(), Unread>, section: &mut Section) {
    let start = "`systemctl start dbus.socket`; if it is not installed, `apt-get install dbus`";
    match (node.look(Path::new(SOCKET)), connected) {
        (Err(Unread::Absent), _) => {
            let text =
                format!("there is no {SOCKET}: agents cannot see units, and the warden cannot act; all is UNKNOWN");
            section.error("bus-absent", "system bus", text, start);
        }
        (Err(error), _) => section.skipped("bus-absent", "system bus", error.to_string()),
        (Ok(_), Ok(())) => {}
        (Ok(_), Err(Unread::Denied)) => section.skipped("bus-silent", "system bus", Unread::Denied.to_string()),
        (Ok(_), Err(error)) => {
            let text =
                format!("nobody answers at {SOCKET} ({error}): agents cannot see units, and the warden cannot act");
            section.error("bus-silent", "system bus", text, start);
        }
    }
}

fn polkit(answers: &Answers, section: &mut Section) {
    let install = "`apt-get install polkitd` (NixOS: security.polkit.enable = true)";
    let without = "without it the warden, who is not root, cannot have a page sent";
    match &answers.polkit_unit {
        None => section.skipped("polkit", "polkit", "systemd was not asked about polkit.service"),
        Some(facts) => {
            let get = |property: &str| facts.get(property).map_or("", String::as_str);
            match (get("LoadState"), get("ActiveState")) {
                ("loaded", "failed") => {
                    let text = format!("polkit.service has failed: {without}");
                    section.error(
                        "polkit-failed",
                        "polkit",
                        text,
                        "`systemctl restart polkit`; `journalctl -u polkit` says why",
                    );
                }
                // The bus starts it when somebody asks.
                ("loaded", _) => {}
                ("masked", _) => {
                    let text = format!("polkit.service is masked: {without}");
                    section.error("polkit-absent", "polkit", text, "systemctl unmask polkit.service");
                }
                ("", _) => section.skipped("polkit", "polkit", "systemd did not say whether polkit.service is loaded"),
                (state, _) => {
                    let text = format!("polkit.service is {state}: {without}");
                    section.error("polkit-absent", "polkit", text, install);
                }
            }
        }
    }
    // `pkaction version 0.105`, and after 0.120 `pkaction version 121`.
    let version = answers.polkit.as_ref().ok().and_then(|said| said.split_whitespace().last());
    let minor = version.and_then(|version| version.strip_prefix("0.").unwrap_or(version).parse::<u32>().ok());
    if let (Some(minor), Some(version)) = (minor.filter(|minor| *minor < LEAST_POLKIT), version) {
        let text = format!("version {version} (`{minor}`) does not read rules.d, so the warden's rule is ignored");
        section.error("polkit-old", "polkit", text, "upgrade the node: Debian 12 has 122");
    }
}

fn compare(node: &Node, rule: &str, section: &mut Section) {
    let write = "`zeta-bft init --refresh` writes it anew, and polkit sees it at once";
    for folder in RULE_FOLDERS {
        let path = format!("{folder}/{OUR_RULE}");
        match node.read(&path) {
            Ok(text) if text.trim() == rule.trim() => return,
            Ok(_) => {
                let text = "it is not the rule that `zeta-bft polkit` prints: where it allows less, no page can be sent; where it \
                            allows more, that is a right nobody needs";
                return section.error("polkit-rule-differs", &path, text, write);
            }
            Err(Unread::Absent) => {}
            Err(error) => return section.skipped("polkit-rule-differs", &path, error.to_string()),
        }
    }
    let text = format!("there is no {OUR_RULE}: systemd refuses to start a page for the warden, so nobody is called");
    section.error("polkit-rule-missing", "polkit", text, write);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::doctor::finding::Level;
    use crate::doctor::tree::Tree;

    fn answers() -> Answers {
        let unit = [("LoadState", "loaded"), ("ActiveState", "inactive")];
        Answers {
            systemd: Ok("systemd 252 (252.39-1~deb12u2)\n+PAM".into()),
            polkit: Ok("pkaction version 122\n".into()),
            polkit_unit: Some(unit.map(|(key, value)| (key.to_owned(), value.to_owned())).into()),
            connected: Ok(()),
        }
    }

    fn node() -> Tree {
        Tree::new()
            .folder("/run/systemd/system")
            .file(SOCKET, "")
            .file("/etc/polkit-1/rules.d/49-zeta-bft.rules", "rule\n")
    }

    fn found(tree: &Tree, answers: &Answers) -> Vec<(&'static str, Level)> {
        let section = check(&tree.node(), answers, Some("rule"));
        section.findings.iter().map(|finding| (finding.id, finding.level)).collect()
    }

    #[test]
    fn a_node_with_systemd_bus_and_rule_is_well() {
        assert_eq!(found(&node(), &answers()), []);
    }

    #[test]
    fn a_rule_that_cannot_be_compared_is_skipped_and_not_called_right() {
        let section = check(&node().node(), &answers(), None);
        assert_eq!(section.level(), Level::Skipped);
    }

    #[test]
    fn a_missing_pid_1_or_bus_is_an_error() {
        let tree = Tree::new().file("/etc/polkit-1/rules.d/49-zeta-bft.rules", "rule");
        assert_eq!(found(&tree, &answers()), [("systemd-absent", Level::Error), ("bus-absent", Level::Error)]);
        let refused = Answers { connected: Err(Unread::Other("refused".into())), ..answers() };
        assert_eq!(found(&node(), &refused), [("bus-silent", Level::Error)]);
    }

    #[test]
    fn an_old_systemd_or_polkit_is_an_error_and_an_unknown_one_is_not() {
        let of = |systemd: &str, polkit: &str| {
            found(&node(), &Answers { systemd: Ok(systemd.into()), polkit: Ok(polkit.into()), ..answers() })
        };
        assert_eq!(of("systemd 241 (241)", "pkaction version 122"), [("systemd-old", Level::Error)]);
        assert_eq!(of("systemd 247", "pkaction version 0.105"), [("polkit-old", Level::Error)]);
        assert_eq!(of("systemd 258~rc1", "pkaction version 0.120"), []);
        assert_eq!(of("", ""), [("systemd-old", Level::Skipped)]);
        assert_eq!(of("é 99999999999999999999", "x\u{0}y é"), [("systemd-old", Level::Skipped)]);
    }

    #[test]
    fn a_polkit_that_failed_or_is_not_there_is_an_error() {
        let of = |load: &str, active: &str| {
            let unit = [("LoadState", load), ("ActiveState", active)];
            let unit = unit.map(|(key, value)| (key.to_owned(), value.to_owned())).into();
            found(&node(), &Answers { polkit_unit: Some(unit), ..answers() })
        };
        assert_eq!(of("loaded", "failed"), [("polkit-failed", Level::Error)]);
        assert_eq!(of("not-found", "inactive"), [("polkit-absent", Level::Error)]);
        assert_eq!(of("masked", "inactive"), [("polkit-absent", Level::Error)]);
        assert_eq!(found(&node(), &Answers { polkit_unit: None, ..answers() }), [("polkit", Level::Skipped)]);
    }

    #[test]
    fn a_rule_that_is_missing_or_differs_is_an_error() {
        let rule = "/etc/polkit-1/rules.d/49-zeta-bft.rules";
        assert_eq!(found(&node().file(rule, "older"), &answers()), [("polkit-rule-differs", Level::Error)]);
        assert_eq!(found(&node().gone(rule), &answers()), [("polkit-rule-missing", Level::Error)]);
        let tree = node().gone(rule).file("/usr/share/polkit-1/rules.d/49-zeta-bft.rules", "rule");
        assert_eq!(found(&tree, &answers()), []);
    }
}
