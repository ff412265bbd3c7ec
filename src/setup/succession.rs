//! The next roster: when personas come and go, or keys are replaced.
//!
//! Rules:
//! * it carries the next epoch and the digest of the one before, so that a warden can tell whether it follows from the one
//!   that its journal knows;
//! * the operator's key that signed the present one signs it; another key only when that is said, for one that was lost;
//! * the present one stays beside it as `roster.EPOCH`: older receipts are checked with it;
//! * another cluster or node has no next roster: it begins anew.

use crate::config::Settings;
use crate::config::roster::{self, RosterFileError, RosterKeys};
use crate::files;
use crate::keys::{self, KeyFileError};
use crate::protocol::roster::Roster;
use crate::protocol::signing::SigningKey;
use crate::protocol::types::PublicKey;
use crate::wire::{Proto, encode_envelope};
use std::path::PathBuf;
use std::sync::Arc;

/// A roster that took another's place.
#[derive(Debug)]
pub struct Succession {
    /// The one before.
    pub before: Arc<Roster>,
    /// Where that one lies now.
    pub kept: PathBuf,
    /// The one in force.
    pub after: Arc<Roster>,
}

impl Succession {
    /// What is different, one sentence each.
    pub fn differences(&self) -> Vec<String> {
        differences(&self.before, &self.after)
    }
}

/// Why no roster was signed.
#[derive(Debug, thiserror::Error)]
pub enum SuccessionError {
    /// Somebody else signed the present one.
    #[error("the roster in force names operator key {named}, but this key is {held}")]
    NotTheOperator {
        /// In the roster.
        named: PublicKey,
        /// Given.
        held: PublicKey,
    },
    /// It is another node's.
    #[error("the roster in force is for node {roster}, but node.toml says {configured}: another node begins anew")]
    AnotherNode {
        /// Cluster and node in the roster.
        roster: String,
        /// In node.toml.
        configured: String,
    },
    /// Nothing to sign.
    #[error("the roster in force says all that a new one would: nothing was signed")]
    Nothing,
    /// A key.
    #[error(transparent)]
    Key(#[from] KeyFileError),
    /// A roster.
    #[error(transparent)]
    Roster(#[from] RosterFileError),
    /// The system refused.
    #[error("cannot write {}", path.display())]
    Io {
        /// What.
        path: PathBuf,
        /// What it said.
        source: std::io::Error,
    },
}

/// Signs the next roster of what is configured, with the public halves of the key files, and puts it in force.
/// `operator_is_new`: the key need not be the one that the present roster names.
///
/// # Errors
/// [`SuccessionError`]; the present roster stays in force then.
pub fn sign_next(
    settings: &Settings,
    operator: &SigningKey,
    operator_is_new: bool,
) -> Result<Succession, SuccessionError> {
    let paths = &settings.paths;
    let present = roster::read(&paths.roster())?;
    let before = roster::open(&present, &Proto)?;
    let (named, held) = (before.statement().operator, operator.public());
    if named != held && !operator_is_new {
        return Err(SuccessionError::NotTheOperator { named, held });
    }
    if (before.cluster(), before.node()) != (&settings.cluster, &settings.node) {
        return Err(SuccessionError::AnotherNode {
            roster: format!("{} of cluster {}", before.node(), before.cluster()),
            configured: format!("{} of cluster {}", settings.node, settings.cluster),
        });
    }
    let personas = settings.personas.keys();
    let keys = RosterKeys {
        operator,
        warden: keys::load(&paths.warden_key())?.public(),
        personas: personas
            .map(|persona| Ok((persona.clone(), keys::load(&paths.persona_key(persona))?.public())))
            .collect::<Result<_, KeyFileError>>()?,
    };
    let next = roster::sign(settings, before.epoch().saturating_add(1), before.digest(), &keys, &Proto)?;
    let after = roster::open(&next, &Proto)?;
    if differences(&before, &after).is_empty() {
        return Err(SuccessionError::Nothing);
    }
    let kept = paths.roster_of(before.epoch());
    let io = |path: PathBuf| move |source| SuccessionError::Io { path, source };
    // What an interrupted attempt left there is the same, or of no use.
    files::replace(&kept, &encode_envelope(&present), 0o644).map_err(io(kept.clone()))?;
    files::replace(&paths.roster(), &encode_envelope(&next), 0o644).map_err(io(paths.roster()))?;
    Ok(Succession { before, kept, after })
}

fn differences(before: &Roster, after: &Roster) -> Vec<String> {
    let mut found = Vec::new();
    for member in after.members() {
        match before.member(&member.persona) {
            None => found.push(format!("{} of {} joins", member.persona, member.vendor)),
            Some(old) if old.vendor != member.vendor => {
                found.push(format!("{} is of {} now, not of {}", member.persona, member.vendor, old.vendor));
            }
            Some(old) if old.key != member.key => found.push(format!("{} has a new key", member.persona)),
            Some(_) => {}
        }
    }
    let left = before.members().filter(|member| after.member(&member.persona).is_none());
    found.extend(left.map(|member| format!("{} leaves", member.persona)));
    let (old, new) = (before.statement(), after.statement());
    if old.warden != new.warden {
        found.push("the warden has a new key".into());
    }
    if old.operator != new.operator {
        found.push("the operator has a new key".into());
    }
    if (old.f, old.q) != (new.f, new.q) {
        found.push(format!("f = {}, q = {} instead of f = {}, q = {}", new.f, new.q, old.f, old.q));
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::paths::Paths;
    use crate::config::{self, default_up_toml};
    use crate::protocol::types::PersonaId;
    use crate::setup::initialise;

    fn node() -> (tempfile::TempDir, Paths, SigningKey) {
        let dir = tempfile::tempdir().unwrap();
        let paths = Paths::below(dir.path());
        initialise(&paths, &default_up_toml(false)).unwrap();
        let operator = keys::load(&paths.operator_key()).unwrap();
        (dir, paths, operator)
    }

    fn new_key(path: &std::path::Path) {
        let _ = std::fs::remove_file(path);
        keys::save(path, &keys::generate()).unwrap();
    }

    #[test]
    fn the_next_roster_follows_from_the_one_before_which_is_kept() {
        let (_dir, paths, operator) = node();
        let vera = PersonaId::new("vera").unwrap();
        let alexa = "\n[personas.alexa]\nvendor = \"alibaba-qwen\"\ncommand = [\"qwen\"]\n";
        let text = default_up_toml(false).replace("[personas.vera]", &format!("{alexa}\n[personas.vera]"));
        std::fs::write(paths.node_toml(), text).unwrap();
        new_key(&paths.persona_key(&vera));
        new_key(&paths.persona_key(&PersonaId::new("alexa").unwrap()));
        let settings = config::load(&paths).unwrap();
        let before = roster::load(&paths.roster(), &Proto).unwrap();
        let made = sign_next(&settings, &operator, false).unwrap();
        assert_eq!(made.differences(), ["alexa of alibaba-qwen joins", "vera has a new key"]);
        let in_force = roster::load(&paths.roster(), &Proto).unwrap();
        assert_eq!((in_force.epoch(), in_force.statement().previous), (2, before.digest()));
        roster::check_fits(&in_force, &settings).unwrap();
        assert_eq!(roster::load(&paths.roster_of(1), &Proto).unwrap().digest(), before.digest());

        let error = sign_next(&settings, &operator, false).unwrap_err();
        assert!(matches!(error, SuccessionError::Nothing), "{error}");
        assert_eq!(roster::load(&paths.roster(), &Proto).unwrap().epoch(), 2);
    }

    #[test]
    fn only_the_operator_signs_the_next_roster_unless_the_key_was_lost() {
        let (_dir, paths, _) = node();
        let settings = config::load(&paths).unwrap();
        let stranger = keys::generate();
        let error = sign_next(&settings, &stranger, false).unwrap_err();
        assert!(matches!(error, SuccessionError::NotTheOperator { .. }), "{error}");
        let made = sign_next(&settings, &stranger, true).unwrap();
        assert_eq!(made.differences(), ["the operator has a new key"]);
        assert_eq!(made.after.statement().operator, stranger.public());
    }

    #[test]
    fn a_missing_key_or_another_nodes_name_leaves_the_roster_in_force() {
        let (_dir, paths, operator) = node();
        let settings = config::load(&paths).unwrap();
        std::fs::remove_file(paths.warden_key()).unwrap();
        let error = sign_next(&settings, &operator, false).unwrap_err();
        assert!(matches!(error, SuccessionError::Key(KeyFileError::Missing { .. })), "{error}");
        let text = default_up_toml(false).replace("node = \"local\"", "node = \"clone\"");
        let clone = config::parse(&text, "node.toml", &paths).unwrap();
        let error = sign_next(&clone, &operator, false).unwrap_err();
        assert!(matches!(error, SuccessionError::AnotherNode { .. }), "{error}");
        assert_eq!(roster::load(&paths.roster(), &Proto).unwrap().epoch(), 1);
        assert!(!paths.roster_of(1).exists());
    }
}
