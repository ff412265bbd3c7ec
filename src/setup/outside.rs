//! What follows from the configuration outside of /etc/zeta-bft: the polkit rule, and which units PID 1 starts.
//!
//! Rules:
//! * the rule's file is ours and made anew whenever it differs; where polkit is not installed none is written;
//! * the units are those of the committee and of the configured personas. Of others, only an agent's instance and its wrapper
//!   are taken back, when their persona is configured no more.

use crate::config::polkit;
use crate::files;
use crate::protocol::policy::{Policy, SubjectKind};
use crate::protocol::types::PersonaId;
use std::collections::BTreeSet;
use std::io;
use std::path::{Path, PathBuf};

/// Where polkit looks for rules of this machine.
pub const POLKIT_RULES: &str = "/etc/polkit-1/rules.d";
/// The rule's file.
const RULE: &str = "49-zeta-bft.rules";
/// There when systemd is PID 1 (`sd_booted(3)`).
pub const SYSTEMD: &str = "/run/systemd/system";

/// Where `systemctl enable` leaves a link for each unit of the target.
pub const ENABLED: &str = "/etc/systemd/system/zeta-bft.target.wants";

/// What became of the rule.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RuleFile {
    /// It was made, or made anew.
    Written(PathBuf),
    /// It was as it should be.
    Unchanged(PathBuf),
    /// There is no folder for rules.
    NoPolkit,
}

/// Writes the rule into a folder, unless it is there.
///
/// # Errors
/// What the system says, and about which file.
pub fn write_rule(folder: &Path) -> Result<RuleFile, (PathBuf, io::Error)> {
    if !folder.is_dir() {
        return Ok(RuleFile::NoPolkit);
    }
    let (path, text) = (folder.join(RULE), polkit::rule());
    if std::fs::read(&path).is_ok_and(|there| there == text.as_bytes()) {
        return Ok(RuleFile::Unchanged(path));
    }
    match files::replace(&path, text.as_bytes(), 0o644) {
        Ok(()) => Ok(RuleFile::Written(path)),
        Err(error) => Err((path, error)),
    }
}

/// Every unit that is enabled and started, the target last.
pub fn units(policy: &Policy) -> Vec<String> {
    let ours = ["zeta-bft-hand.socket", "zeta-bft-hand.service", "zeta-bft-warden.socket", "zeta-bft-warden.service"];
    // Without a k3s it has nothing to do.
    let watches_k3s = policy.subjects.values().any(|subject| subject.kind == SubjectKind::K3s);
    let lookout = watches_k3s.then_some("zeta-bft-lookout.service");
    let ours = ours.into_iter().chain(lookout).map(str::to_owned);
    let personas = policy
        .subjects
        .values()
        .filter(|subject| matches!(subject.kind, SubjectKind::Agent(_) | SubjectKind::Wrapper(_)));
    let target = "zeta-bft.target".to_owned();
    ours.chain(personas.map(|subject| subject.unit.clone())).chain([target]).collect()
}

/// Of the units that are enabled (`links`: names in the target's folder), those of personas that are configured no more.
pub fn stale<'a>(links: impl IntoIterator<Item = &'a str>, policy: &Policy) -> Vec<String> {
    let (wanted, names) = (units(policy), links.into_iter().collect::<BTreeSet<_>>());
    let personas = names.iter().filter_map(|name| {
        let persona = name.strip_prefix("zeta-bft-agent@")?.strip_suffix(".service")?;
        PersonaId::new(persona).ok()
    });
    let theirs =
        personas.flat_map(|persona| [format!("zeta-bft-agent@{persona}.service"), format!("zeta-{persona}.service")]);
    theirs.filter(|unit| names.contains(unit.as_str()) && !wanted.contains(unit)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::paths::Paths;
    use crate::config::{default_up_toml, parse};
    use std::sync::Arc;

    fn policy(text: &str) -> Arc<Policy> {
        parse(text, "node.toml", &Paths::below(Path::new("/tmp/x"))).unwrap().policy
    }

    #[test]
    fn the_rule_is_written_once_made_anew_when_it_is_another_and_left_out_without_polkit() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("49-zeta-bft.rules");
        assert_eq!(write_rule(dir.path()).unwrap(), RuleFile::Written(path.clone()));
        assert_eq!(write_rule(dir.path()).unwrap(), RuleFile::Unchanged(path.clone()));
        std::fs::write(&path, "// an older one\n").unwrap();
        assert_eq!(write_rule(dir.path()).unwrap(), RuleFile::Written(path.clone()));
        assert_eq!(std::fs::read_to_string(&path).unwrap(), polkit::rule());
        assert_eq!(write_rule(&dir.path().join("none")).unwrap(), RuleFile::NoPolkit);
    }

    #[test]
    fn foreign_units_are_not_enabled_by_us_and_the_lookout_only_where_there_is_a_k3s() {
        let with_k3s = policy(&(default_up_toml(false) + "[subjects.k3s]\nkind = \"k3s\"\n"));
        assert_eq!(
            units(&with_k3s),
            [
                "zeta-bft-hand.socket",
                "zeta-bft-hand.service",
                "zeta-bft-warden.socket",
                "zeta-bft-warden.service",
                "zeta-bft-lookout.service",
                "zeta-lior.service",
                "zeta-bft-agent@lior.service",
                "zeta-otto.service",
                "zeta-bft-agent@otto.service",
                "zeta-vera.service",
                "zeta-bft-agent@vera.service",
                "zeta-bft.target",
            ]
        );
        let without = units(&policy(&default_up_toml(false)));
        assert!(!without.contains(&"zeta-bft-lookout.service".to_owned()), "{without:?}");
    }

    #[test]
    fn only_units_of_personas_that_left_are_taken_back() {
        let links = [
            "zeta-bft-agent@alexa.service",
            "zeta-alexa.service",
            "zeta-bft-agent@otto.service",
            "zeta-otto.service",
            "zeta-bft-agent@.service",
            "zeta-backup.service",
            "zeta-bft-agent@riven.service",
        ];
        assert_eq!(
            stale(links, &policy(&default_up_toml(false))),
            ["zeta-bft-agent@alexa.service", "zeta-alexa.service", "zeta-bft-agent@riven.service"]
        );
    }
}
