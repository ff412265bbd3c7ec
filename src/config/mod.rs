//! Configuration: files as written (`fragments`), merged (`inputs`), checked and defaulted ([`settings`]). Only settings
//! reach the program.
//!
//! `node.toml` is read first, then `conf.d/*.toml` by name; of two values for one option the later one counts. Tables merge
//! option by option, lists (a command, a ladder, patterns) are replaced whole. An option that nobody knows is an error:
//! a typo that is accepted in silence is a setting that is ignored in silence.

mod checks;
mod digest;
pub mod faults;
mod fragments;
mod inputs;
pub mod k3s;
pub mod never;
pub mod paths;
pub mod patterns;
pub mod polkit;
pub mod roster;
pub mod rung;
pub mod settings;
mod source;
pub mod tcp;
mod templates;
#[cfg(test)]
mod tests;
pub mod timing;
pub mod users;

pub use settings::Settings;
pub use source::Complaint;
pub use templates::{default_node_toml, default_up_toml, up_toml};

use inputs::Inputs;
use paths::Paths;
use source::Source;
use std::path::{Path, PathBuf};
use users::Users;

/// Why there are no settings.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// A file or folder cannot be read.
    #[error("cannot read {}", path.display())]
    Unreadable {
        /// Which.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// Somebody other than root could have written it.
    #[error("{} cannot be believed: {why}", path.display())]
    Insecure {
        /// Which.
        path: PathBuf,
        /// Why not.
        why: String,
    },
    /// Something is wrong in one place.
    #[error("{0}")]
    Written(Box<Complaint>),
    /// Something is wrong or missing as a whole.
    #[error("{file}: {message}")]
    Whole {
        /// The main file.
        file: String,
        /// What.
        message: String,
    },
}

impl From<Complaint> for ConfigError {
    fn from(complaint: Complaint) -> Self {
        Self::Written(Box::new(complaint))
    }
}

/// The node's configuration: `node.toml` and `conf.d/*.toml`.
///
/// # Errors
/// [`ConfigError`] says what is wrong and where. Without `--dir`, files that others than root can write are refused.
pub fn load(paths: &Paths) -> Result<Settings, ConfigError> {
    load_with(paths, &Users::OfThisMachine)
}

/// The same, with the users that are there.
///
/// # Errors
/// As [`load`].
pub fn load_with(paths: &Paths, users: &Users) -> Result<Settings, ConfigError> {
    let mut files = vec![paths.node_toml()];
    files.extend(further(&paths.conf_d())?);
    if paths.dir().is_none() {
        owned_by_root(paths.config())?;
        if paths.conf_d().exists() {
            owned_by_root(&paths.conf_d())?;
        }
        files.iter().try_for_each(|file| owned_by_root(file))?;
    }
    let sources = files.iter().map(|file| read(file)).collect::<Result<_, _>>()?;
    checks::settings(&Inputs::new(sources)?, paths, users)
}

/// One file and nothing beside it (`up --config FILE`).
///
/// # Errors
/// [`ConfigError`] says what is wrong and where.
pub fn load_file(paths: &Paths, file: &Path) -> Result<Settings, ConfigError> {
    checks::settings(&Inputs::new(vec![read(file)?])?, paths, &Users::OfThisMachine)
}

/// A text, shown in complaints as `name`.
///
/// # Errors
/// [`ConfigError`] says what is wrong and where.
pub fn parse(text: &str, name: &str, paths: &Paths) -> Result<Settings, ConfigError> {
    parse_with(text, name, paths, &Users::OfThisMachine)
}

/// The same, with the users that are there.
///
/// # Errors
/// As [`parse`].
pub fn parse_with(text: &str, name: &str, paths: &Paths, users: &Users) -> Result<Settings, ConfigError> {
    parse_files(&[(name, text)], paths, users)
}

/// `node.toml` and the fragments after it, each with its name and its text.
///
/// # Errors
/// As [`parse`].
pub fn parse_files(files: &[(&str, &str)], paths: &Paths, users: &Users) -> Result<Settings, ConfigError> {
    let sources = files.iter().map(|(name, text)| Source { name: (*name).into(), text: (*text).into() });
    checks::settings(&Inputs::new(sources.collect())?, paths, users)
}

/// Checks that a file or folder may be believed: it belongs to root, and nobody else can write it.
///
/// # Errors
/// [`ConfigError::Insecure`] says why not.
pub fn owned_by_root(path: &Path) -> Result<(), ConfigError> {
    use std::os::unix::fs::MetadataExt as _;
    let meta = std::fs::metadata(path).map_err(|source| ConfigError::Unreadable { path: path.into(), source })?;
    let insecure = |why| Err(ConfigError::Insecure { path: path.into(), why });
    if meta.uid() != 0 {
        return insecure(format!("it belongs to user {}, not to root", meta.uid()));
    }
    if meta.mode() & 0o022 != 0 {
        return insecure(format!("its mode {:04o} lets others than root write it", meta.mode() & 0o7777));
    }
    Ok(())
}

fn read(file: &Path) -> Result<Source, ConfigError> {
    let unreadable = |source| ConfigError::Unreadable { path: file.into(), source };
    let text = std::fs::read_to_string(file).map_err(unreadable)?;
    Ok(Source { name: file.display().to_string(), text })
}

/// The files of `conf.d`, by name. None when there is no such folder.
fn further(folder: &Path) -> Result<Vec<PathBuf>, ConfigError> {
    let unreadable = |source| ConfigError::Unreadable { path: folder.into(), source };
    let entries = match std::fs::read_dir(folder) {
        Ok(entries) => entries,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(unreadable(error)),
    };
    let mut files = Vec::new();
    for entry in entries {
        let path = entry.map_err(unreadable)?.path();
        // Editors leave hidden files behind.
        let hidden = path.file_name().is_some_and(|name| name.as_encoded_bytes().starts_with(b"."));
        if path.extension().is_some_and(|extension| extension == "toml") && !hidden {
            files.push(path);
        }
    }
    files.sort();
    Ok(files)
}
