//! What the file systems show: room, certificates, empty keys. Everything here may block on a disk.
//!
//! An observer without privilege sees less than root: what it cannot see is named in [`FileFacts::unseen`], and is no fault.

use super::stamp::{Stamp, read_bounded};
use super::{Certificate, K3sSettings, Mount, certificates};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsStr;
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

/// Most entries of the agent's folder that are looked at.
const ENTRIES: usize = 1024;
/// Most bytes of a certificate file.
const CERTIFICATE_MAX: u64 = 256 * 1024;
/// Most certificate files.
const CERTIFICATE_FILES: usize = 128;

/// What was seen.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FileFacts {
    /// The file systems, each once.
    pub mounts: Vec<Mount>,
    /// What could be read of certificates.
    pub certificates: Vec<Certificate>,
    /// Keys, certificates and kubeconfigs of the agent's folder that were empty on this look and the one before it.
    pub empty_files: Vec<PathBuf>,
    /// Whether that folder was read on both: what is not named above is then not empty, or not there.
    pub keys_seen: bool,
    /// What could not be looked at, and why, for people.
    pub unseen: Vec<String>,
}

/// Looks at files, and remembers what needs no second reading.
pub struct Files {
    mounts: Vec<PathBuf>,
    agent_folder: PathBuf,
    certificates: Vec<PathBuf>,
    read: BTreeMap<PathBuf, (Stamp, Vec<Certificate>)>,
    /// `None`: the folder was not read on the look before.
    empty_before: Option<BTreeSet<PathBuf>>,
}

impl Files {
    /// Nothing seen yet.
    pub fn new(settings: &K3sSettings) -> Self {
        Self {
            mounts: settings.mounts.clone(),
            agent_folder: settings.agent_folder.clone(),
            certificates: settings.certificates.clone(),
            read: BTreeMap::new(),
            empty_before: None,
        }
    }

    /// One look. Blocks.
    pub fn look(&mut self) -> FileFacts {
        let mut facts = FileFacts::default();
        self.mounts(&mut facts);
        let mut files: BTreeSet<PathBuf> = self.certificates.iter().cloned().collect();
        let before = self.empty_before.take();
        match keys_and_certificates(&self.agent_folder) {
            Ok(found) => {
                let mut empty = BTreeSet::new();
                for (path, size) in found {
                    if size == 0 {
                        empty.insert(path);
                    } else if path.extension() == Some(OsStr::new("crt")) {
                        files.insert(path);
                    }
                }
                // k3s makes its files empty and fills them then: one that is empty at a single look is being written.
                facts.empty_files = before.iter().flat_map(|before| empty.intersection(before)).cloned().collect();
                facts.keys_seen = before.is_some();
                self.empty_before = Some(empty);
            }
            Err(error) => facts.unseen.push(unseen(&self.agent_folder, &error)),
        }
        self.read_certificates(files, &mut facts);
        facts
    }

    fn mounts(&self, facts: &mut FileFacts) {
        let mut devices = BTreeSet::new();
        for path in &self.mounts {
            let looked = std::fs::metadata(path).and_then(|m| Ok((m.dev(), rustix::fs::statvfs(path)?)));
            match looked {
                Ok((device, fs)) if devices.insert(device) => facts.mounts.push(Mount {
                    path: path.clone(),
                    free_bytes: fs.f_bavail.saturating_mul(fs.f_frsize),
                    bytes: fs.f_blocks.saturating_mul(fs.f_frsize),
                    free_inodes: fs.f_favail,
                    inodes: fs.f_files,
                }),
                Ok(_) => {}
                Err(error) => facts.unseen.push(unseen(path, &error)),
            }
        }
    }

    fn read_certificates(&mut self, files: BTreeSet<PathBuf>, facts: &mut FileFacts) {
        let mut kept = BTreeMap::new();
        for path in files.into_iter().take(CERTIFICATE_FILES) {
            let read = Stamp::of(&path).and_then(|stamp| match self.read.remove(&path) {
                Some((before, certificates)) if before == stamp => Ok((stamp, certificates)),
                _ => {
                    let pem = read_bounded(&path, CERTIFICATE_MAX)?;
                    Ok((stamp, certificates::read_pem(&pem, &path.display().to_string())))
                }
            });
            match read {
                Ok((stamp, certificates)) => {
                    facts.certificates.extend(certificates.iter().cloned());
                    kept.insert(path, (stamp, certificates));
                }
                Err(error) => facts.unseen.push(unseen(&path, &error)),
            }
        }
        self.read = kept;
    }
}

fn unseen(path: &Path, error: &io::Error) -> String {
    format!("{}: {error}", path.display())
}

/// Whether a file of the agent's holds a key, a certificate, or both, by its name. What is shown to be empty is what may be
/// moved aside.
pub fn is_key_or_certificate(path: &Path) -> bool {
    ["crt", "key", "kubeconfig"].iter().any(|wanted| path.extension() == Some(OsStr::new(wanted)))
}

/// The files of a folder, not below it, that hold keys or certificates, with their sizes. Links are not followed.
fn keys_and_certificates(folder: &Path) -> io::Result<Vec<(PathBuf, u64)>> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder)?.take(ENTRIES) {
        let entry = entry?;
        let path = entry.path();
        if !is_key_or_certificate(&path) {
            continue;
        }
        match entry.metadata() {
            Ok(metadata) if metadata.is_file() => found.push((path, metadata.len())),
            Ok(_) => {}
            // It went away between the two.
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(error),
        }
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::super::tests::authority::{Authority, END};
    use super::super::{K3sSettings, Role};
    use super::*;

    fn looking_at(folder: &Path) -> Files {
        let mut settings = K3sSettings::new(Role::Server);
        settings.agent_folder = folder.into();
        settings.mounts = vec![folder.into(), "/proc".into(), folder.into(), "/nowhere/at/all".into()];
        Files::new(&settings)
    }

    #[test]
    fn each_file_system_is_named_once_and_a_missing_one_is_said_to_be_unseen() {
        let dir = tempfile::tempdir().unwrap();
        let facts = looking_at(dir.path()).look();
        let paths: Vec<_> = facts.mounts.iter().map(|mount| mount.path.as_path()).collect();
        assert_eq!(paths, [dir.path(), Path::new("/proc")]);
        assert!(facts.mounts[0].free_bytes <= facts.mounts[0].bytes && facts.mounts[0].bytes > 0);
        assert!(facts.unseen.iter().any(|line| line.starts_with("/nowhere/at/all: ")), "{:?}", facts.unseen);
    }

    #[test]
    fn a_key_counts_as_empty_only_when_it_is_so_twice() {
        let dir = tempfile::tempdir().unwrap();
        let (key, being_written) = (dir.path().join("serving-kubelet.key"), dir.path().join("client.crt"));
        let mut files = looking_at(dir.path());
        for empty in [&key, &being_written, &dir.path().join("empty-by-right.lock")] {
            std::fs::write(empty, "").unwrap();
        }
        std::os::unix::fs::symlink("/dev/null", dir.path().join("link.key")).unwrap();
        std::fs::create_dir(dir.path().join("folder.key")).unwrap();
        let first = files.look();
        assert!(first.empty_files.is_empty() && !first.keys_seen, "one look does not tell");
        std::fs::write(&being_written, "now it has text").unwrap();
        assert_eq!(files.look().empty_files, std::slice::from_ref(&key));
        std::fs::remove_file(&key).unwrap();
        let gone = files.look();
        assert!(gone.empty_files.is_empty() && gone.keys_seen);
    }

    #[test]
    fn certificates_are_read_once_and_again_when_they_change() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("client-kubelet.crt");
        let authority = Authority::new();
        std::fs::write(&file, authority.leaf(&["127.0.0.1"]).pem).unwrap();
        let mut files = looking_at(dir.path());
        let first = files.look().certificates;
        assert_eq!(first.iter().map(|c| (c.is_ca, c.not_after)).collect::<Vec<_>>(), [(false, END)]);
        assert_eq!(files.look().certificates, first);
        let new = dir.path().join("new");
        std::fs::write(&new, &authority.pem).unwrap();
        std::fs::rename(&new, &file).unwrap();
        assert!(files.look().certificates[0].is_ca);
    }

    #[test]
    fn a_folder_that_may_not_be_read_is_unseen_and_shows_no_fault() {
        let dir = tempfile::tempdir().unwrap();
        let facts = looking_at(&dir.path().join("missing")).look();
        assert!(facts.empty_files.is_empty() && facts.certificates.is_empty() && !facts.keys_seen);
        assert!(facts.unseen.iter().any(|line| line.contains("missing")));
    }
}
