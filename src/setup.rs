//! The first set-up of a node or a folder: configuration, keys, journal, and the roster, which is signed last.
//!
//! Rules:
//! * nothing that exists is overwritten: a `node.toml` that is there counts, keys that are there are used;
//! * the roster marks the end: a set-up that was interrupted is taken up again, a finished one is never repeated. So a
//!   journal that is lost later is not quietly replaced by an empty one, which would give every budget back;
//! * on a node the users must be there first, and the journal and its folder belong to the warden's.

pub mod certificates;
pub mod outside;
pub mod succession;

use crate::config::paths::Paths;
use crate::config::roster::{self, RosterFileError, RosterKeys};
use crate::config::users::{self, Account, Users};
use crate::config::{self, ConfigError, Settings};
use crate::files;
use crate::journal::{Journal, JournalError, Salt};
use crate::keys::{self, KeyFileError};
use crate::protocol::roster::Roster;
use crate::protocol::signing::SigningKey;
use crate::protocol::types::Digest;
use crate::wire::Proto;
use std::fs::DirBuilder;
use std::io;
use std::os::unix::fs::{DirBuilderExt as _, lchown};
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// What a set-up made.
#[derive(Debug)]
pub struct Initialised {
    /// The configuration in force.
    pub settings: Settings,
    /// The roster, epoch 1.
    pub roster: Arc<Roster>,
    /// The files that did not exist before.
    pub written: Vec<PathBuf>,
}

/// Why a set-up was not finished.
#[derive(Debug, thiserror::Error)]
pub enum SetupError {
    /// It was finished before.
    #[error("there is a signed roster at {} already: this node is set up", roster.display())]
    Finished {
        /// The roster.
        roster: PathBuf,
    },
    /// A journal of an earlier committee.
    #[error("the journal {} holds {records} records of an earlier committee, whose roster is gone", path.display())]
    EarlierJournal {
        /// Where.
        path: PathBuf,
        /// How many records.
        records: usize,
    },
    /// The users that come with zeta-bft were not made.
    #[error("there is no user `{name}` on this node")]
    NoUser {
        /// Which.
        name: &'static str,
    },
    /// The system refused.
    #[error("cannot make {}", path.display())]
    Io {
        /// What.
        path: PathBuf,
        /// What it said.
        source: io::Error,
    },
    /// The configuration is bad.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// A key.
    #[error(transparent)]
    Key(#[from] KeyFileError),
    /// The roster.
    #[error(transparent)]
    Roster(#[from] RosterFileError),
    /// The journal.
    #[error(transparent)]
    Journal(#[from] JournalError),
}

/// Whether the set-up was finished.
pub fn is_initialised(paths: &Paths) -> bool {
    paths.roster().exists()
}

/// Sets a node or a folder up. `node_toml` is written where there is no `node.toml` yet.
///
/// # Errors
/// [`SetupError`]. Nothing is written when the configuration is bad; after any other error it can be repeated.
pub fn initialise(paths: &Paths, node_toml: &str) -> Result<Initialised, SetupError> {
    if is_initialised(paths) {
        return Err(SetupError::Finished { roster: paths.roster() });
    }
    let users = Users::OfThisMachine;
    let owner = match paths.dir() {
        Some(_) => None,
        None => Some(users.find(users::WARDEN).ok_or(SetupError::NoUser { name: users::WARDEN })?),
    };
    let mut written = Vec::new();
    let file = paths.node_toml();
    if !file.exists() {
        config::parse(node_toml, &file.display().to_string(), paths)?;
        folder(paths.config(), 0o755)?;
        write_new(&file, node_toml)?;
        written.push(file);
    }
    let settings = config::load(paths)?;
    for path in [paths.config(), paths.state(), paths.run()] {
        folder(path, 0o755)?;
    }
    let journal = paths.journal();
    let journal_folder = journal.parent().map(Path::to_owned);
    if let Some(of_warden) = &journal_folder {
        folder(of_warden, 0o700)?;
    }
    folder(&paths.keys(), 0o700)?;
    let mut key = |path: PathBuf| -> Result<SigningKey, SetupError> {
        if path.exists() {
            return Ok(keys::load(&path)?);
        }
        let key = keys::generate();
        keys::save(&path, &key)?;
        written.push(path);
        Ok(key)
    };
    let (operator, warden) = (key(paths.operator_key())?, key(paths.warden_key())?.public());
    let personas = settings
        .personas
        .keys()
        .map(|persona| Ok((persona.clone(), key(paths.persona_key(persona))?.public())))
        .collect::<Result<_, SetupError>>()?;
    match Journal::create(&journal, Salt::random()?) {
        Ok(_) => written.push(journal),
        Err(JournalError::Exists { .. }) => {
            let records = Journal::open(&journal)?.records.len();
            if records > 0 {
                return Err(SetupError::EarlierJournal { path: journal, records });
            }
        }
        Err(error) => return Err(error.into()),
    }
    if let (Some(account), Some(folder)) = (owner, journal_folder.as_deref()) {
        give(folder, account)?;
    }
    let keys = RosterKeys { operator: &operator, warden, personas };
    let envelope = roster::sign(&settings, 1, Digest::default(), &keys, &Proto)?;
    let roster = roster::open(&envelope, &Proto)?;
    roster::write(&paths.roster(), &envelope)?;
    written.push(paths.roster());
    Ok(Initialised { settings, roster, written })
}

fn folder(path: &Path, mode: u32) -> Result<(), SetupError> {
    let made = DirBuilder::new().recursive(true).mode(mode).create(path);
    made.map_err(|source| SetupError::Io { path: path.into(), source })
}

/// Gives a folder and the files in it to a user.
fn give(folder: &Path, Account { uid, gid }: Account) -> Result<(), SetupError> {
    let io = |path: &Path| {
        let path = path.to_owned();
        move |source| SetupError::Io { path, source }
    };
    for entry in std::fs::read_dir(folder).map_err(io(folder))? {
        let path = entry.map_err(io(folder))?.path();
        lchown(&path, Some(uid), Some(gid)).map_err(io(&path))?;
    }
    lchown(folder, Some(uid), Some(gid)).map_err(io(folder))
}

fn write_new(path: &Path, text: &str) -> Result<(), SetupError> {
    files::create(path, text.as_bytes(), 0o644).map_err(|source| SetupError::Io { path: path.into(), source })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{default_node_toml, default_up_toml};
    use crate::protocol::types::{ClusterId, NodeId};
    use std::os::unix::fs::PermissionsExt as _;

    fn place() -> (tempfile::TempDir, Paths) {
        let dir = tempfile::tempdir().unwrap();
        let paths = Paths::below(dir.path());
        (dir, paths)
    }

    #[test]
    fn a_set_up_makes_keys_roster_and_an_empty_journal() {
        let (_dir, paths) = place();
        let made = initialise(&paths, &default_up_toml(false)).unwrap();
        assert_eq!(made.roster.epoch(), 1);
        assert_eq!(made.written.len(), 8, "node.toml, five keys, journal, roster: {:?}", made.written);
        assert_eq!(Journal::open(&paths.journal()).unwrap().records.len(), 0);
        let again = roster::load(&paths.roster(), &Proto).unwrap();
        assert_eq!(again.digest(), made.roster.digest());
        roster::check_fits(&again, &made.settings).unwrap();
        for key in [paths.operator_key(), paths.warden_key()] {
            assert_eq!(std::fs::metadata(key).unwrap().permissions().mode() & 0o777, 0o600);
        }
    }

    #[test]
    fn a_finished_set_up_is_never_repeated_so_a_lost_journal_stays_lost() {
        let (_dir, paths) = place();
        initialise(&paths, &default_up_toml(false)).unwrap();
        std::fs::remove_file(paths.journal()).unwrap();
        assert!(matches!(initialise(&paths, &default_up_toml(false)), Err(SetupError::Finished { .. })));
        assert!(!paths.journal().exists());
    }

    #[test]
    fn an_interrupted_set_up_is_taken_up_again_with_the_same_keys() {
        let (_dir, paths) = place();
        let first = initialise(&paths, &default_up_toml(false)).unwrap();
        std::fs::remove_file(paths.roster()).unwrap();
        std::fs::remove_file(paths.warden_key()).unwrap();
        let second = initialise(&paths, "not read").unwrap();
        assert_eq!(second.written, [paths.warden_key(), paths.roster()]);
        assert_eq!(first.roster.statement().operator, second.roster.statement().operator);
        assert_ne!(first.roster.statement().warden, second.roster.statement().warden);
    }

    #[test]
    fn a_node_toml_that_is_there_counts() {
        let (_dir, paths) = place();
        std::fs::create_dir_all(paths.config()).unwrap();
        let (cluster, node) = (ClusterId::new("home").unwrap(), NodeId::new("mine").unwrap());
        std::fs::write(paths.node_toml(), default_node_toml(&cluster, &node)).unwrap();
        let made = initialise(&paths, &default_up_toml(false)).unwrap();
        assert_eq!(made.roster.node(), &node);
        assert_eq!(std::fs::read_to_string(paths.node_toml()).unwrap(), default_node_toml(&cluster, &node));
    }

    #[test]
    fn a_bad_configuration_leaves_nothing_behind() {
        let (_dir, paths) = place();
        assert!(matches!(initialise(&paths, "moed = 1"), Err(SetupError::Config(_))));
        assert!(!paths.config().exists() && !paths.keys().exists());
    }

    #[test]
    fn a_roster_that_was_changed_or_does_not_fit_is_refused() {
        let (_dir, paths) = place();
        let made = initialise(&paths, &default_up_toml(false)).unwrap();
        let mut envelope = roster::read(&paths.roster()).unwrap();
        let mut payload = envelope.payload.to_vec();
        *payload.last_mut().unwrap() ^= 1;
        envelope.payload = payload.into();
        assert!(matches!(roster::open(&envelope, &Proto), Err(RosterFileError::BadSignature(_))));

        let fewer = default_up_toml(false).replace("personas.vera", "personas.vara");
        let settings = config::parse(&fewer, "node.toml", &paths).unwrap();
        let error = roster::check_fits(&made.roster, &settings).unwrap_err();
        assert_eq!(
            error.to_string(),
            "persona vara of node.toml is missing in the roster: sign a new roster with it (`zeta-bft roster sign`), or take it out of node.toml"
        );
        let other = default_up_toml(false).replace("\"openai\"", "\"mistral\"");
        let settings = config::parse(&other, "node.toml", &paths).unwrap();
        let error = roster::check_fits(&made.roster, &settings).unwrap_err();
        assert_eq!(error.to_string(), "persona vera is of vendor openai in the roster, but of mistral in node.toml");
    }

    #[test]
    fn two_personas_with_one_key_make_no_roster() {
        let (_dir, paths) = place();
        std::fs::create_dir_all(paths.keys()).unwrap();
        let key = keys::generate();
        for name in ["otto.pem", "vera.pem"] {
            keys::save(&paths.keys().join(name), &key).unwrap();
        }
        let error = initialise(&paths, &default_up_toml(false)).unwrap_err();
        assert_eq!(
            error.to_string(),
            "the roster breaks a rule: otto and vera have one and the same key: each needs its own"
        );
        assert!(!paths.roster().exists());
    }
}
