//! What the host must have, and the one folder of a run.

use super::command::{await_true, fetch, must, run};
use super::image::Layer;
use super::{Machine, Unfit};
use std::fs::{self, File, TryLockError};
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Programs that are needed, and the Debian packages that bring them.
const TOOLS: [(&str, &str); 7] = [
    ("systemd-nspawn", "systemd-container"),
    ("debootstrap", "debootstrap"),
    ("ip", "iproute2"),
    ("nsenter", "util-linux"),
    ("dpkg-deb", "dpkg"),
    ("gzip", "gzip"),
    ("strip", "binutils"),
];
/// In cgroup, namespace and folder names of a run.
const NAME: &str = "zeta-bft-lab";
/// A machine that has just been set up may still be installing something itself.
const WAIT_FOR_LOCK: &str = "DPkg::Lock::Timeout=300";

/// One run: machines come from here.
#[derive(Debug)]
pub struct Lab {
    id: String,
    cache: PathBuf,
    folder: PathBuf,
    cgroup: PathBuf,
    _lock: File,
}

impl Lab {
    /// Looks whether machines can run here, installs what is missing (as root on Debian, by `apt-get`), and clears away what
    /// runs that died have left.
    ///
    /// Cached is below `$ZETA_BFT_CACHE`, else `$XDG_CACHE_HOME/zeta-bft`, else `~/.cache/zeta-bft`.
    ///
    /// # Errors
    /// [`Unfit`] says why not.
    pub fn open() -> Result<Self, Unfit> {
        let not_here = |why: &str| Err(Unfit::NotHere(why.to_owned()));
        if !rustix::process::geteuid().is_root() {
            return not_here("needs root (for namespaces and mounts)");
        }
        if !Path::new("/etc/debian_version").exists() || !Path::new("/usr/bin/apt-get").exists() {
            return not_here("needs Debian");
        }
        let Some(cgroups) = cgroup2() else { return not_here("no cgroup2 is mounted") };
        let overlay = || {
            fs::read_to_string("/proc/filesystems").is_ok_and(|all| all.lines().any(|line| line.ends_with("overlay")))
        };
        if !overlay() {
            run(Duration::from_secs(10), &["modprobe", "overlay"]);
        }
        if !overlay() {
            return not_here("the kernel has no overlayfs");
        }
        install_tools()?;

        let cache = cache_folder()?;
        let runs = cache.join("runs");
        fs::create_dir_all(&runs)?;
        clear_dead_runs(&runs, &cgroups)?;
        let id: String = fs::read_to_string("/proc/sys/kernel/random/uuid")?.chars().take(6).collect();
        let folder = runs.join(&id);
        fs::create_dir(&folder)?;
        let lock = File::create(folder.join("lock"))?;
        lock.lock()?;
        let cgroup = cgroups.join(format!("{NAME}-{id}"));
        if let Err(error) = fs::create_dir(&cgroup) {
            fs::remove_dir_all(&folder)?;
            return Err(Unfit::NotHere(format!("no cgroup can be made below {}: {error}", cgroups.display())));
        }
        Ok(Self { id, cache, folder, cgroup, _lock: lock })
    }

    /// A Debian 12 with these packages; made once, then cached.
    ///
    /// # Errors
    /// [`Unfit::NotFetched`] without the network.
    pub fn debian(&self, packages: &[&str]) -> Result<Layer, Unfit> {
        super::image::debian(&self.cache, packages)
    }

    /// A layer that `make` fills, in a folder named by `parts`; made once, then cached.
    ///
    /// # Errors
    /// Those of `make`.
    pub fn cached(
        &self,
        name: &str,
        parts: &[&str],
        make: impl FnOnce(&Path) -> Result<(), Unfit>,
    ) -> Result<Layer, Unfit> {
        super::image::cached(&self.cache, name, parts, make)
    }

    /// A machine with a disk over these layers, the uppermost first. It does not run yet.
    ///
    /// # Errors
    /// [`Unfit::Broken`].
    pub fn machine<'lab>(&'lab self, name: &str, layers: &[&Layer]) -> Result<Machine<'lab>, Unfit> {
        Machine::new(self, name, layers)
    }

    /// A folder that goes away with the run.
    pub fn place(&self) -> String {
        self.folder.display().to_string()
    }

    /// Ends everything and removes it. The cache stays.
    pub fn close(&self) {
        clear(&self.folder, &self.cgroup, &self.id);
    }

    pub(super) fn folder(&self) -> &Path {
        &self.folder
    }
    pub(super) fn cgroup(&self) -> &Path {
        &self.cgroup
    }
    /// A name that no other run uses.
    pub(super) fn own_name(&self, name: &str) -> String {
        format!("{NAME}-{}-{name}", self.id)
    }
}

/// Where a cgroup v2 tree is mounted: alone, or beside version 1.
fn cgroup2() -> Option<PathBuf> {
    let mounts = fs::read_to_string("/proc/self/mounts").ok()?;
    let mount = mounts.lines().map(|line| line.split(' ')).find(|fields| fields.clone().nth(2) == Some("cgroup2"));
    mount?.nth(1).map(PathBuf::from)
}

fn cache_folder() -> Result<PathBuf, Unfit> {
    let absolute = |name| std::env::var_os(name).map(PathBuf::from).filter(|path| path.is_absolute());
    absolute("ZETA_BFT_CACHE")
        .or_else(|| Some(absolute("XDG_CACHE_HOME")?.join("zeta-bft")))
        .or_else(|| Some(absolute("HOME")?.join(".cache/zeta-bft")))
        .ok_or_else(|| Unfit::NotHere("no folder to cache in: set ZETA_BFT_CACHE".to_owned()))
}

fn install_tools() -> Result<(), Unfit> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let found = |tool: &str| {
        let folders = std::env::split_paths(&path).chain(["/usr/sbin".into(), "/sbin".into()]);
        folders.into_iter().any(|folder: PathBuf| folder.join(tool).exists())
    };
    let mut missing: Vec<_> = TOOLS.iter().filter(|(tool, _)| !found(tool)).map(|(_, package)| *package).collect();
    missing.dedup();
    if missing.is_empty() {
        return Ok(());
    }
    eprintln!("system tests: installing {}", missing.join(", "));
    let limit = Duration::from_secs(300);
    // Lists that are there may do, and a broken foreign source must not keep us from trying.
    let install = [
        &[
            "env",
            "DEBIAN_FRONTEND=noninteractive",
            "apt-get",
            "-o",
            WAIT_FOR_LOCK,
            "install",
            "-qy",
            "--no-install-recommends",
        ],
        &*missing,
    ]
    .concat();
    fetch(limit, &install).or_else(|_| {
        let _ = run(limit, &["apt-get", "-o", WAIT_FOR_LOCK, "update", "-q"]);
        fetch(limit, &install[2..])
    })
}

fn clear_dead_runs(runs: &Path, cgroups: &Path) -> Result<(), Unfit> {
    for entry in fs::read_dir(runs)? {
        let folder = entry?.path();
        let Some(id) = folder.file_name().and_then(|name| name.to_str()) else { continue };
        // A run that is just being made has no lock file yet, for a moment.
        let Ok(lock) = File::open(folder.join("lock")) else { continue };
        match lock.try_lock() {
            Ok(()) => clear(&folder, &cgroups.join(format!("{NAME}-{id}")), id),
            Err(TryLockError::WouldBlock) => {}
            Err(TryLockError::Error(error)) => return Err(error.into()),
        }
    }
    Ok(())
}

fn clear(folder: &Path, cgroup: &Path, id: &str) {
    remove_cgroup(cgroup);
    let spaces = must(&["ip", "netns", "list"]).unwrap_or_default();
    let mine = format!("{NAME}-{id}-");
    for space in spaces.lines().filter_map(|line| line.split(' ').next()).filter(|name| name.starts_with(&mine)) {
        let _ = must(&["ip", "netns", "del", space]);
    }
    for place in ["/run/systemd/nspawn/propagate", "/run/systemd/nspawn/unix-export"] {
        for entry in fs::read_dir(place).into_iter().flatten().flatten() {
            if entry.file_name().to_string_lossy().starts_with(&mine) {
                let _ = fs::remove_dir(entry.path());
            }
        }
    }
    if let Err(error) = fs::remove_dir_all(folder) {
        eprintln!("system tests: {} stays: {error}", folder.display());
    }
}

/// Ends every process in a cgroup, and removes it with all below it.
pub(super) fn remove_cgroup(cgroup: &Path) {
    if !cgroup.exists() {
        return;
    }
    let _ = fs::write(cgroup.join("cgroup.kill"), "1");
    let populated = || fs::read_to_string(cgroup.join("cgroup.events")).is_ok_and(|text| text.contains("populated 1"));
    if !await_true(Duration::from_secs(20), || !populated()) {
        eprintln!("system tests: {} does not empty", cgroup.display());
    }
    fn remove(folder: &Path) {
        for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
            if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
                remove(&entry.path());
            }
        }
        let _ = fs::remove_dir(folder);
    }
    remove(cgroup);
}
