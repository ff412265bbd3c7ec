//! A fake node for the tests: files in a temporary folder.

use super::node::Node;
use std::fs::Permissions;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

/// A tree of files that goes with it.
#[derive(Debug)]
pub struct Tree {
    dir: tempfile::TempDir,
    owners: Vec<(String, u32, u32)>,
}

impl Tree {
    pub fn new() -> Self {
        Self { dir: tempfile::tempdir().unwrap(), owners: Vec::new() }
    }

    fn at(&self, path: &str) -> PathBuf {
        let real = self.dir.path().join(path.trim_start_matches('/'));
        let mut folder = self.dir.path().to_owned();
        for part in Path::new(path.trim_start_matches('/')).parent().into_iter().flat_map(Path::components) {
            folder.push(part);
            if !folder.exists() {
                std::fs::create_dir(&folder).unwrap();
                // Whatever the umask of the tests is.
                std::fs::set_permissions(&folder, Permissions::from_mode(0o755)).unwrap();
            }
        }
        real
    }

    pub fn file(self, path: &str, text: &str) -> Self {
        std::fs::write(self.at(path), text).unwrap();
        self.mode(path, 0o644)
    }

    pub fn folder(self, path: &str) -> Self {
        let real = self.at(path);
        if !real.exists() {
            std::fs::create_dir(real).unwrap();
        }
        self.mode(path, 0o755)
    }

    pub fn link(self, path: &str, target: &str) -> Self {
        std::os::unix::fs::symlink(target, self.at(path)).unwrap();
        self
    }

    pub fn mode(self, path: &str, mode: u32) -> Self {
        std::fs::set_permissions(self.at(path), Permissions::from_mode(mode)).unwrap();
        self
    }

    pub fn owner(mut self, path: &str, uid: u32, gid: u32) -> Self {
        self.owners.push((path.into(), uid, gid));
        self
    }

    pub fn gone(self, path: &str) -> Self {
        std::fs::remove_file(self.at(path)).unwrap();
        self
    }

    pub fn node(&self) -> Node {
        let node = Node::below(self.dir.path()).owned("/", 0, 0);
        self.owners.iter().fold(node, |node, (path, uid, gid)| node.owned(path, *uid, *gid))
    }
}
