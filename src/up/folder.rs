//! The folder of one committee: taken by one `up` at a time, set up once, and adjusted for each run.
//!
//! * `state/up.lock` is locked for as long as `up` runs.
//! * The first run writes configuration, keys, roster and journal; later runs find them, so budgets and receipts go on.
//! * `--config` and `--vendor-clis` on a later run, and `--drill` on any, hold for that run alone: they are written to
//!   `conf.d` and taken away by the next run that does not ask for them.

use super::UpError;
use crate::clock;
use crate::config::paths::Paths;
use crate::config::{self, Settings};
use crate::grpc::MAX_SOCKET_PATH;
use crate::journal::JournalError;
use crate::wire::Proto;
use crate::{keys, setup};
use rustix::fs::FlockOperation;
use std::fs::{DirBuilder, File, OpenOptions, Permissions};
use std::io::ErrorKind;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::time::Duration;

/// What was asked for on the command line.
#[derive(Clone, Debug, Default)]
pub struct Options {
    /// Budgets and cool-downs lifted.
    pub drill: bool,
    /// Tick the vendors' own CLIs, where they are installed.
    pub vendor_clis: bool,
    /// A configuration: on the first run instead of the default, later above what is there.
    pub config: Option<PathBuf>,
}

/// A folder that is ours until this is dropped.
#[derive(Debug)]
pub struct Folder {
    /// Where things lie in it.
    pub paths: Paths,
    /// The configuration in force.
    pub settings: Settings,
    /// Whether this run set it up.
    pub first_run: bool,
    /// Whether this run asked for the vendors' own CLIs.
    pub vendor_clis: bool,
    _lock: File,
}

const RUN_OVERRIDE: &str = "80-up.toml";
const DRILL_OVERRIDE: &str = "90-drill.toml";
const DRILL: &str = "# Written by `zeta-bft up --drill`, and removed by the next `zeta-bft up` without it.\n\
                     [policy.drill]\nenabled = true\n";
/// How long daemons of a killed `up` may take to notice and end.
const LEFTOVERS: Duration = Duration::from_secs(8);

/// Takes the folder and brings it into the state that this run wants.
///
/// # Errors
/// [`UpError`] says what is in the way.
pub async fn take(paths: &Paths, options: &Options) -> Result<Folder, UpError> {
    // Known before any persona is: nothing is made in a folder that is too deep.
    fits(&paths.operator_socket())?;
    for path in [paths.state(), paths.run(), paths.config()] {
        DirBuilder::new().recursive(true).mode(0o700).create(path).map_err(UpError::io(path))?;
    }
    let lock = lock(&paths.state().join("up.lock"))?;
    let first_run = !setup::is_initialised(paths);
    let given = options.config.as_deref().map(|file| std::fs::read_to_string(file).map_err(UpError::io(file)));
    let given = given.transpose()?;
    let conf_d = paths.conf_d();
    DirBuilder::new().recursive(true).mode(0o700).create(&conf_d).map_err(UpError::io(&conf_d))?;
    adjust(&conf_d.join(DRILL_OVERRIDE), options.drill.then_some(DRILL))?;
    if first_run {
        adjust(&conf_d.join(RUN_OVERRIDE), None)?;
        if let Some(file) = &options.config {
            // For complaints that name the file as the operator does.
            config::load_file(paths, file)?;
        }
        let node_toml = given.unwrap_or_else(|| config::up_toml(|cli| options.vendor_clis && is_installed(cli)));
        setup::initialise(paths, &node_toml)?;
    } else {
        let commands = options.vendor_clis.then(|| commands_of(&config::up_toml(is_installed)));
        adjust(&conf_d.join(RUN_OVERRIDE), given.or(commands).as_deref())?;
    }
    let settings = config::load(paths)?;
    config::roster::check_fits(&*config::roster::load(&paths.roster(), &Proto)?, &settings)?;
    // What warden and agents would refuse is refused before anything starts.
    for key in settings.personas.keys().map(|persona| paths.persona_key(persona)).chain([paths.warden_key()]) {
        keys::load(&key)?;
    }
    if !paths.journal().exists() {
        return Err(JournalError::Missing { path: paths.journal() }.into());
    }
    // Sockets are for this user alone.
    std::fs::set_permissions(paths.run(), Permissions::from_mode(0o700)).map_err(UpError::io(paths.run()))?;
    fits_sockets(paths, &settings)?;
    clear_leftovers(paths).await?;
    Ok(Folder { paths: paths.clone(), settings, first_run, vendor_clis: options.vendor_clis, _lock: lock })
}

impl Folder {
    /// Removes the sockets and what is announced beside them.
    pub fn clear(&self) {
        for path in leftovers(&self.paths).unwrap_or_default() {
            let _ = std::fs::remove_file(path);
        }
    }
}

fn lock(path: &Path) -> Result<File, UpError> {
    let mut open = OpenOptions::new();
    let file = open.write(true).create(true).truncate(false).mode(0o600).open(path).map_err(UpError::io(path))?;
    match rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => Ok(file),
        Err(rustix::io::Errno::WOULDBLOCK) => Err(UpError::InUse { lock: path.to_owned() }),
        Err(error) => Err(UpError::io(path)(error.into())),
    }
}

/// Writes an override, or takes it away.
fn adjust(path: &Path, text: Option<&str>) -> Result<(), UpError> {
    let done = match text {
        Some(text) => std::fs::write(path, text),
        None => match std::fs::remove_file(path) {
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
            other => other,
        },
    };
    done.map_err(UpError::io(path))
}

/// The personas' commands alone, so that an override leaves everything else as the operator has it.
fn commands_of(node_toml: &str) -> String {
    let mut kept = toml::Table::new();
    let whole: toml::Table = node_toml.parse().unwrap_or_default();
    if let Some(personas) = whole.get("personas").and_then(toml::Value::as_table) {
        let only_ticks = |persona: &toml::Value| -> toml::Value {
            let options = persona.as_table().into_iter().flatten();
            options
                .filter(|(name, _)| matches!(name.as_str(), "command" | "tick_interval"))
                .map(|(name, value)| (name.clone(), value.clone()))
                .collect::<toml::Table>()
                .into()
        };
        let personas: toml::Table = personas.iter().map(|(name, value)| (name.clone(), only_ticks(value))).collect();
        kept.insert("personas".into(), personas.into());
    }
    format!("# Written by `zeta-bft up --vendor-clis`, for one run.\n{kept}")
}

/// Whether a program is found on the `PATH`, as a tick would find it.
fn is_installed(program: &str) -> bool {
    let executable = |path: PathBuf| {
        std::fs::metadata(path).is_ok_and(|found| found.is_file() && found.permissions().mode() & 0o111 != 0)
    };
    std::env::var_os("PATH").is_some_and(|path| std::env::split_paths(&path).any(|dir| executable(dir.join(program))))
}

fn fits_sockets(paths: &Paths, settings: &Settings) -> Result<(), UpError> {
    let longest = settings.personas.keys().map(|persona| paths.agent_socket(persona)).chain([paths.operator_socket()]);
    longest.max_by_key(|path| path.as_os_str().len()).map_or(Ok(()), |path| fits(&path))
}

fn fits(socket: &Path) -> Result<(), UpError> {
    let fits = socket.as_os_str().as_bytes().len() <= MAX_SOCKET_PATH;
    if fits { Ok(()) } else { Err(UpError::PathTooLong { path: socket.to_owned() }) }
}

/// Sockets and scrape addresses, in `run` itself and in the folders of the daemons.
fn leftovers(paths: &Paths) -> std::io::Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(paths.run())? {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            for inner in std::fs::read_dir(entry.path())? {
                found.push(inner?.path());
            }
        } else {
            found.push(entry.path());
        }
    }
    let left = |path: &PathBuf| {
        path.extension().is_some_and(|kind| kind == "sock") || path.file_name().is_some_and(|name| name == "metrics")
    };
    found.retain(left);
    Ok(found)
}

/// The daemons of an `up` that was killed end by themselves, but not at once: waits for them, then clears the sockets.
async fn clear_leftovers(paths: &Paths) -> Result<(), UpError> {
    let found = leftovers(paths).map_err(UpError::io(paths.run()))?;
    let deadline = clock::deadline(LEFTOVERS);
    for path in found {
        while path.extension().is_some_and(|kind| kind == "sock")
            && std::os::unix::net::UnixStream::connect(&path).is_ok()
        {
            if clock::is_past(deadline) {
                return Err(UpError::StillServed { path });
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        adjust(&path, None)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn paths() -> (tempfile::TempDir, Paths) {
        let dir = tempfile::tempdir().unwrap();
        let paths = Paths::below(dir.path());
        (dir, paths)
    }

    #[tokio::test]
    async fn a_folder_belongs_to_one_up_at_a_time() {
        let (_dir, paths) = paths();
        let first = take(&paths, &Options::default()).await.unwrap();
        assert!(first.first_run);
        assert!(matches!(take(&paths, &Options::default()).await, Err(UpError::InUse { .. })));
        drop(first);
        assert!(!take(&paths, &Options::default()).await.unwrap().first_run);
    }

    #[tokio::test]
    async fn a_drill_and_the_vendors_clis_hold_for_the_run_that_asked_for_them() {
        let (_dir, paths) = paths();
        let quiet = take(&paths, &Options::default()).await.unwrap();
        let ticks = |folder: &Folder| folder.settings.personas.values().map(|p| p.command.clone()).collect::<Vec<_>>();
        let (usual, journal) = (ticks(&quiet), std::fs::read(paths.journal()).unwrap());
        drop(quiet);

        let options = Options { drill: true, vendor_clis: true, config: None };
        let loud = take(&paths, &options).await.unwrap();
        assert!(loud.settings.policy.drill);
        let real = ticks(&loud).iter().filter(|command| command[0] != "/bin/sh").count();
        let installed = ["claude", "gemini", "codex"].iter().filter(|cli| is_installed(cli)).count();
        assert_eq!(real, installed, "the vendors' own where they are installed: {:?}", ticks(&loud));
        drop(loud);

        let quiet = take(&paths, &Options::default()).await.unwrap();
        assert!(!quiet.settings.policy.drill);
        assert_eq!(ticks(&quiet), usual);
        assert_eq!(std::fs::read(paths.journal()).unwrap(), journal, "the journal goes on");
    }

    #[tokio::test]
    async fn a_bad_configuration_is_named_and_leaves_nothing_half_done() {
        let (dir, paths) = paths();
        let file = dir.path().join("mine.toml");
        std::fs::write(&file, "clustre = \"x\"\n").unwrap();
        let options = Options { config: Some(file.clone()), ..Options::default() };
        let error = take(&paths, &options).await.unwrap_err().to_string();
        assert!(error.contains("mine.toml:1") && error.contains("clustre"), "{error}");
        assert!(!paths.roster().exists() && !paths.journal().exists());
        assert!(take(&paths, &Options::default()).await.unwrap().first_run);
    }
}
