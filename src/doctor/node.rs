//! The node's files as the doctor sees them: read-only, below a root that tests replace.
//!
//! * Links are followed inside the root, by hand, so that every folder and link on the way is seen: who can write any of
//!   them can replace what lies at the end.
//! * What may not be read is [`Unread::Denied`], what is not there [`Unread::Absent`]: never mixed up.

use crate::files;
use std::collections::{BTreeMap, VecDeque};
use std::ffi::OsString;
use std::fmt;
use std::io::{self, Read as _};
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _};
use std::path::{Component, Path, PathBuf};

/// Most of a file that is read, in bytes.
const MOST: u64 = 4 * 1024 * 1024;
/// As many links as the kernel follows.
const MOST_LINKS: usize = 40;

/// Why something was not read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Unread {
    /// It is not there.
    Absent,
    /// It may not be read by this user.
    Denied,
    /// Something else.
    Other(String),
}

impl From<io::Error> for Unread {
    fn from(error: io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::NotFound | io::ErrorKind::NotADirectory => Self::Absent,
            io::ErrorKind::PermissionDenied => Self::Denied,
            _ => Self::Other(error.to_string()),
        }
    }
}

impl fmt::Display for Unread {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Absent => f.write_str("it is not there"),
            Self::Denied => f.write_str("only root may read it: run `zeta-bft doctor` as root"),
            Self::Other(why) => f.write_str(why),
        }
    }
}

/// What kind of file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A folder.
    Folder,
    /// A regular file.
    File,
    /// A symbolic link.
    Link,
    /// A socket.
    Socket,
    /// A device or a pipe.
    Other,
}

/// What a file's inode says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Look {
    /// Where it is on the node.
    pub path: PathBuf,
    /// What it is.
    pub kind: Kind,
    /// Its owner.
    pub uid: u32,
    /// Its group.
    pub gid: u32,
    /// Its permission bits, with setuid, setgid and sticky.
    pub mode: u32,
    /// Its size in bytes.
    pub size: u64,
}

/// Who can change something.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Writer {
    /// Its owner.
    User(u32),
    /// Its group, or those of an access list: its mask shows in the group's bits.
    Group(u32),
    /// Everybody.
    Everybody,
}

/// A place where somebody other than root can change what lies at the end of a path.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Weakness {
    /// The folder, link or file.
    pub path: PathBuf,
    /// Who.
    pub writer: Writer,
}

/// The node's files.
#[derive(Clone, Debug)]
pub struct Node {
    root: PathBuf,
    /// Whose files count as root's.
    root_uid: u32,
    /// Owner and group of files that the tests cannot give away.
    claimed: BTreeMap<PathBuf, (u32, u32)>,
}

impl Node {
    /// This machine.
    pub fn this() -> Self {
        Self { root: PathBuf::from("/"), root_uid: 0, claimed: BTreeMap::new() }
    }

    /// A tree below a folder: what belongs to the user of this process counts as root's.
    pub fn below(root: &Path) -> Self {
        let root_uid = rustix::process::geteuid().as_raw();
        Self { root: root.to_owned(), root_uid, claimed: BTreeMap::new() }
    }

    /// In a tree below a folder: this file belongs to these.
    #[must_use]
    pub fn owned(mut self, path: &str, uid: u32, gid: u32) -> Self {
        self.claimed.insert(path.into(), (uid, gid));
        self
    }

    /// Whether this is the machine itself.
    pub fn is_this(&self) -> bool {
        self.root == Path::new("/")
    }

    /// Where a path of the node lies for this process, its links not followed.
    pub fn real(&self, path: &Path) -> PathBuf {
        self.root.join(path.strip_prefix("/").unwrap_or(path))
    }

    /// Every folder and link on the way to a path, and at last the thing itself.
    ///
    /// # Errors
    /// [`Unread`] of the first step that cannot be made.
    pub fn steps(&self, path: &Path) -> Result<Vec<Look>, Unread> {
        let parts = |path: &Path| path.components().map(|part| part.as_os_str().to_owned()).collect::<Vec<OsString>>();
        let mut todo: VecDeque<_> = parts(path).into();
        let mut at = PathBuf::from("/");
        let mut steps = vec![self.look_at(&at)?];
        let mut links = 0;
        while let Some(part) = todo.pop_front() {
            match Path::new(&part).components().next() {
                Some(Component::RootDir) => at = PathBuf::from("/"),
                Some(Component::ParentDir) => {
                    at.pop();
                }
                Some(Component::Normal(name)) => {
                    let next = at.join(name);
                    let look = self.look_at(&next)?;
                    if look.kind == Kind::Link {
                        links += 1;
                        if links > MOST_LINKS {
                            return Err(Unread::Other(format!("{} leads through too many links", path.display())));
                        }
                        let target = std::fs::read_link(self.real(&next))?;
                        parts(&target).into_iter().rev().for_each(|part| todo.push_front(part));
                    } else {
                        at = next;
                    }
                    steps.push(look);
                }
                _ => {}
            }
        }
        Ok(steps)
    }

    /// The thing at the end of a path, links followed.
    ///
    /// # Errors
    /// [`Unread`].
    pub fn look(&self, path: &Path) -> Result<Look, Unread> {
        // The last step is never a link: its target follows it.
        self.steps(path)?.pop().ok_or(Unread::Absent)
    }

    fn look_at(&self, path: &Path) -> Result<Look, Unread> {
        let meta = std::fs::symlink_metadata(self.real(path))?;
        let (kind, file) = (meta.file_type(), meta.uid());
        let uid = if file == self.root_uid { 0 } else { file };
        let (uid, gid) = self.claimed.get(path).copied().unwrap_or((uid, if self.is_this() { meta.gid() } else { 0 }));
        let kind = match kind {
            kind if kind.is_symlink() => Kind::Link,
            kind if kind.is_dir() => Kind::Folder,
            kind if kind.is_file() => Kind::File,
            kind if kind.is_socket() => Kind::Socket,
            _ => Kind::Other,
        };
        Ok(Look { path: path.to_owned(), kind, uid, gid, mode: meta.mode() & 0o7777, size: meta.len() })
    }

    /// The text of a regular file, whatever bytes it holds; at most 4 MiB of it.
    ///
    /// # Errors
    /// [`Unread`].
    pub fn read(&self, path: impl AsRef<Path>) -> Result<String, Unread> {
        let end = self.look(path.as_ref())?;
        if end.kind != Kind::File {
            return Err(Unread::Other("it is no regular file".into()));
        }
        // Something else may have been put in its place since.
        let mut bytes = Vec::new();
        files::open_plain(&self.real(&end.path))?.take(MOST).read_to_end(&mut bytes)?;
        Ok(String::from_utf8_lossy(&bytes).into_owned())
    }

    /// The names in a folder, sorted.
    ///
    /// # Errors
    /// [`Unread`].
    pub fn names(&self, folder: impl AsRef<Path>) -> Result<Vec<String>, Unread> {
        let end = self.look(folder.as_ref())?;
        let mut names = Vec::new();
        for entry in std::fs::read_dir(self.real(&end.path))? {
            names.push(entry?.file_name().to_string_lossy().into_owned());
        }
        names.sort();
        Ok(names)
    }
}

/// Where somebody other than root could replace or change what these steps lead to.
pub fn weaknesses(steps: &[Look]) -> Vec<Weakness> {
    let mut found = Vec::new();
    let mut sticky = false;
    for step in steps {
        let mut weak = |writer| found.push(Weakness { path: step.path.clone(), writer });
        // The bits of a link mean nothing; its owner can replace it in a sticky folder alone.
        let link = step.kind == Kind::Link;
        if step.uid != 0 && (!link || sticky) {
            weak(Writer::User(step.uid));
        }
        // In a sticky folder nobody replaces what belongs to another.
        let folder_is_sticky = step.kind == Kind::Folder && step.mode & 0o1000 != 0;
        if !link && !folder_is_sticky {
            if step.mode & 0o020 != 0 && step.gid != 0 {
                weak(Writer::Group(step.gid));
            }
            if step.mode & 0o002 != 0 {
                weak(Writer::Everybody);
            }
        }
        if !link {
            sticky = folder_is_sticky;
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::doctor::tree::Tree;

    #[test]
    fn a_link_is_followed_inside_the_tree_and_seen_on_the_way() {
        let tree = Tree::new().file("/opt/cli/bin.js", "x").link("/usr/bin/cli", "/opt/cli/bin.js");
        let steps = tree.node().steps(Path::new("/usr/bin/cli")).unwrap();
        let paths: Vec<_> = steps.iter().map(|step| step.path.to_str().unwrap()).collect();
        assert_eq!(paths, ["/", "/usr", "/usr/bin", "/usr/bin/cli", "/opt", "/opt/cli", "/opt/cli/bin.js"]);
        assert_eq!(tree.node().read("/usr/bin/cli").unwrap(), "x");
    }

    #[test]
    fn links_in_a_ring_end_and_lead_nowhere() {
        let tree = Tree::new().link("/a", "/b").link("/b", "../../a");
        assert!(matches!(tree.node().look(Path::new("/a")), Err(Unread::Other(_))));
    }

    #[test]
    fn what_is_not_there_is_absent_and_a_pipe_is_not_read() {
        let tree = Tree::new().file("/etc/passwd", "");
        assert_eq!(tree.node().read("/etc/group"), Err(Unread::Absent));
        assert_eq!(tree.node().read("/etc/passwd/below"), Err(Unread::Absent));
        assert!(matches!(tree.node().read("/etc"), Err(Unread::Other(_))));
    }

    #[test]
    fn a_folder_on_the_way_that_others_can_write_is_a_weakness() {
        let tree = Tree::new().file("/opt/rung", "x").mode("/opt", 0o777);
        let found = weaknesses(&tree.node().steps(Path::new("/opt/rung")).unwrap());
        assert_eq!(found, [Weakness { path: "/opt".into(), writer: Writer::Everybody }]);
        let tree = tree.mode("/opt", 0o755);
        assert_eq!(weaknesses(&tree.node().steps(Path::new("/opt/rung")).unwrap()), []);
    }

    #[test]
    fn a_sticky_folder_protects_what_belongs_to_root_and_nothing_else() {
        let tree = Tree::new().file("/tmp/rung", "x").mode("/tmp", 0o1777);
        assert_eq!(weaknesses(&tree.node().steps(Path::new("/tmp/rung")).unwrap()), []);
        let node = tree.node().owned("/tmp/rung", 1001, 1001);
        let found = weaknesses(&node.steps(Path::new("/tmp/rung")).unwrap());
        assert_eq!(found, [Weakness { path: "/tmp/rung".into(), writer: Writer::User(1001) }]);
    }

    #[test]
    fn a_file_of_another_user_or_group_is_a_weakness() {
        let tree = Tree::new().file("/opt/rung", "x").mode("/opt/rung", 0o775);
        let node = tree.node().owned("/opt/rung", 1001, 50);
        let found = weaknesses(&node.steps(Path::new("/opt/rung")).unwrap());
        assert_eq!(found.iter().map(|weak| weak.writer).collect::<Vec<_>>(), [Writer::User(1001), Writer::Group(50)]);
    }
}
