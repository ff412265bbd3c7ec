//! Putting aside what is in a folder: the empty keys of k3s' agent by moving, a datastore by copying it whole.
//!
//! Below the folder every step is taken from an open folder to a name in it, and no link is followed: whoever can put
//! something else in a file's place while root works leads root nowhere else.

use super::{Place, READING, RungError, WRITING, aside, named};
use crate::observe::k3s::is_key_or_certificate;
use rustix::fs::{self, AtFlags, Dir, FileType, Mode, OFlags};
use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io::{self, Read as _};
use std::os::fd::{AsFd, AsRawFd as _, OwnedFd};
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;

/// Most entries of one folder, and of all that is copied together.
const ENTRIES: usize = 100_000;
/// Most folders in one another.
const DEPTH: usize = 32;

/// Moves the empty keys, certificates and kubeconfigs of a folder aside, those in its own folders too and no deeper; says what
/// was put where. Nothing else is touched.
///
/// # Errors
/// [`RungError::Aside`]; what was moved before stays so, and is said.
pub(super) fn move_empty(place: &Place) -> Result<String, RungError> {
    let mut moved = Vec::new();
    let done =
        open(&place.folder, &place.name).and_then(|folder| move_empty_in(&folder, &place.real, true, &mut moved));
    let said = moved.join(", ");
    match done {
        Ok(()) if moved.is_empty() => Ok(format!("nothing was empty in {}", place.real.display())),
        Ok(()) => Ok(said),
        Err(error) if moved.is_empty() => Err(place.failed(error)),
        Err(error) => Err(place.failed(io::Error::new(error.kind(), format!("{error}, after {said}")))),
    }
}

fn move_empty_in(folder: &OwnedFd, path: &Path, deeper: bool, moved: &mut Vec<String>) -> io::Result<()> {
    for name in names(folder)? {
        let path = path.join(&name);
        let stat = match fs::statat(folder, &name, AtFlags::SYMLINK_NOFOLLOW) {
            Ok(stat) => stat,
            Err(rustix::io::Errno::NOENT) => continue,
            Err(error) => return Err(error.into()),
        };
        let kind = FileType::from_raw_mode(stat.st_mode);
        if deeper && kind.is_dir() {
            move_empty_in(&open(folder, &name)?, &path, false, moved)?;
        } else if kind.is_file() && stat.st_size == 0 && is_key_or_certificate(Path::new(&name)) {
            let to = aside(&name);
            fs::renameat(folder, &name, folder, &to)?;
            moved.push(format!("{} -> {}", path.display(), path.with_file_name(to).display()));
        }
    }
    Ok(())
}

/// What a folder holds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Content {
    files: usize,
    bytes: u64,
    /// Links, sockets, pipes, devices: not copied.
    others: usize,
}

/// Copies a folder with all its files, for root alone; says where to. Links, sockets, pipes and devices are left out.
///
/// # Errors
/// [`RungError::NoRoom`] when less than twice its size is free where the copy is to lie: beside the folder, which may itself be
/// another file system; [`RungError::Aside`]. Half a copy is removed again.
pub(super) fn copy(place: &Place) -> Result<String, RungError> {
    copy_with(place, free)
}

fn free(folder: &OwnedFd) -> io::Result<u64> {
    let room = fs::fstatvfs(folder)?;
    Ok(room.f_bavail.saturating_mul(room.f_frsize))
}

/// The folder, open, and what it holds.
fn fits(place: &Place, free: impl Fn(&OwnedFd) -> io::Result<u64>) -> Result<(OwnedFd, Content), RungError> {
    let failed = |error| place.failed(error);
    let source = open(&place.folder, &place.name).map_err(failed)?;
    let mut content = Content::default();
    measure(&source, DEPTH, &mut content).map_err(failed)?;
    let (bytes, free) = (content.bytes, free(&place.folder).map_err(failed)?);
    if free / 2 < bytes {
        return Err(RungError::NoRoom { path: place.real.clone(), bytes, free });
    }
    Ok((source, content))
}

fn copy_with(place: &Place, free: impl Fn(&OwnedFd) -> io::Result<u64>) -> Result<String, RungError> {
    let (source, content) = fits(place, free)?;
    let name = aside(&place.name);
    let mut unfinished = name.clone();
    unfinished.push(".unfinished");
    let copied = copy_below(&source, &place.folder, &unfinished, DEPTH)
        .and_then(|()| Ok(fs::renameat(&place.folder, &unfinished, &place.folder, &name)?));
    if let Err(error) = copied {
        // By way of the open folder, and it follows no link either.
        let half = Path::new("/proc/self/fd").join(place.folder.as_raw_fd().to_string()).join(&unfinished);
        let _ = std::fs::remove_dir_all(half);
        return Err(place.failed(error));
    }
    let (from, to) = (place.real.display(), place.real.with_file_name(name));
    let Content { files, bytes, others } = content;
    let left_out = if others == 0 { String::new() } else { format!(", {others} that are no files left out") };
    Ok(format!("{from} -> {} ({files} files, {bytes} bytes{left_out})", to.display()))
}

fn measure(folder: &OwnedFd, depth: usize, content: &mut Content) -> io::Result<()> {
    for name in names(folder)? {
        let stat = match fs::statat(folder, &name, AtFlags::SYMLINK_NOFOLLOW) {
            Ok(stat) => stat,
            Err(rustix::io::Errno::NOENT) => continue,
            Err(error) => return Err(error.into()),
        };
        match FileType::from_raw_mode(stat.st_mode) {
            FileType::Directory => measure(&open(folder, &name)?, deeper(depth)?, content)?,
            FileType::RegularFile => {
                content.files += 1;
                content.bytes = content.bytes.saturating_add(u64::try_from(stat.st_size).unwrap_or_default());
            }
            _ => content.others += 1,
        }
        if content.files + content.others > ENTRIES {
            return Err(too_many());
        }
    }
    Ok(())
}

/// Copies what is in `source` to a new folder of this name.
fn copy_below(source: &OwnedFd, parent: &OwnedFd, name: &OsStr, depth: usize) -> io::Result<()> {
    fs::mkdirat(parent, name, Mode::RWXU)?;
    let target = open(parent, name)?;
    for name in names(source)? {
        let kind = match fs::statat(source, &name, AtFlags::SYMLINK_NOFOLLOW) {
            Ok(stat) => FileType::from_raw_mode(stat.st_mode),
            // k3s works on meanwhile: what it removed is not missed.
            Err(rustix::io::Errno::NOENT) => continue,
            Err(error) => return Err(error.into()),
        };
        match kind {
            FileType::Directory => copy_below(&open(source, &name)?, &target, &name, deeper(depth)?)?,
            FileType::RegularFile => copy_file(source, &target, &name)?,
            _ => {}
        }
    }
    Ok(fs::fsync(&target)?)
}

fn copy_file(source: &OwnedFd, target: &OwnedFd, name: &OsStr) -> io::Result<()> {
    let from = match fs::openat(source, name, READING, Mode::empty()) {
        Ok(file) => File::from(file),
        Err(rustix::io::Errno::NOENT) => return Ok(()),
        Err(error) => return Err(named(error)),
    };
    let meta = from.metadata()?;
    if !meta.is_file() {
        return Ok(());
    }
    let mut to = File::from(fs::openat(target, name, WRITING, Mode::RUSR | Mode::WUSR)?);
    // To the end that it had when it was opened: one that grows all the time has an end, too.
    io::copy(&mut from.take(meta.len()), &mut to)?;
    to.sync_all()
}

fn open(folder: impl AsFd, name: &OsStr) -> io::Result<OwnedFd> {
    let opening = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    fs::openat(folder, name, opening, Mode::empty()).map_err(named)
}

/// The names in a folder, in order.
fn names(folder: &OwnedFd) -> io::Result<Vec<OsString>> {
    let mut names = Vec::new();
    for entry in Dir::read_from(folder)? {
        let entry = entry?;
        let name = OsStr::from_bytes(entry.file_name().to_bytes());
        if name != "." && name != ".." {
            names.push(name.to_owned());
        }
        if names.len() > ENTRIES {
            return Err(too_many());
        }
    }
    names.sort();
    Ok(names)
}

fn deeper(depth: usize) -> io::Result<usize> {
    depth.checked_sub(1).ok_or_else(|| io::Error::other(format!("more than {DEPTH} folders lie in one another")))
}

fn too_many() -> io::Error {
    io::Error::other(format!("it holds more than {ENTRIES} files"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, symlink};
    use std::path::PathBuf;

    /// A folder `db` or `agent`, and a file outside of it.
    struct Bench {
        _dir: tempfile::TempDir,
        folder: PathBuf,
        outside: PathBuf,
    }

    impl Bench {
        fn new() -> Self {
            let dir = tempfile::tempdir().unwrap();
            let real = dir.path().canonicalize().unwrap();
            let (folder, outside) = (real.join("folder"), real.join("outside"));
            std::fs::create_dir(&folder).unwrap();
            std::fs::write(&outside, "not ours").unwrap();
            Self { _dir: dir, folder, outside }
        }

        fn write(&self, name: &str, text: &str) {
            let path = self.folder.join(name);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, text).unwrap();
        }

        fn place(&self) -> Place {
            Place::open(&[self.folder.parent().unwrap().into()], &self.folder).unwrap()
        }

        /// Every path below, with what it holds.
        fn all(folder: &Path) -> Vec<(String, String)> {
            let mut all = Vec::new();
            let mut open = vec![folder.to_owned()];
            while let Some(next) = open.pop() {
                for entry in std::fs::read_dir(next).unwrap().map(Result::unwrap) {
                    let (path, kind) = (entry.path(), entry.file_type().unwrap());
                    let name = path.strip_prefix(folder).unwrap().display().to_string();
                    match () {
                        () if kind.is_dir() => open.push(path),
                        () if kind.is_file() => all.push((name, std::fs::read_to_string(&path).unwrap())),
                        () => all.push((name, "no file".into())),
                    }
                }
            }
            all.sort();
            all
        }

        /// What lies beside the folder and came of it.
        fn copies(&self) -> Vec<PathBuf> {
            let entries = std::fs::read_dir(self.folder.parent().unwrap()).unwrap().map(|entry| entry.unwrap().path());
            entries.filter(|path| *path != self.folder && *path != self.outside).collect()
        }
    }

    #[test]
    fn only_empty_keys_certificates_and_kubeconfigs_are_moved() {
        let bench = Bench::new();
        for empty in ["serving-kubelet.key", "client.crt", "kubelet.kubeconfig", "etc/deeper.key"] {
            bench.write(empty, "");
        }
        for (kept, text) in
            [("full.key", "k"), ("empty.lock", ""), ("empty.db-wal", ""), ("a/b/too-deep.key", ""), ("key", "")]
        {
            bench.write(kept, text);
        }
        std::fs::create_dir(bench.folder.join("folder.key")).unwrap();
        symlink(&bench.outside, bench.folder.join("link.key")).unwrap();
        let said = move_empty(&bench.place()).unwrap();
        assert_eq!(said.matches(" -> ").count(), 4, "{said}");
        assert!(said.contains("/folder/etc/deeper.key -> "), "{said}");
        let (moved, kept): (Vec<_>, Vec<_>) =
            Bench::all(&bench.folder).into_iter().map(|(name, _)| name).partition(|name| name.contains(".aside-"));
        assert_eq!(moved.len(), 4, "{moved:?}");
        assert_eq!(kept, ["a/b/too-deep.key", "empty.db-wal", "empty.lock", "full.key", "key", "link.key"]);
        assert!(bench.folder.join("folder.key").is_dir());
    }

    #[test]
    fn where_nothing_is_empty_nothing_is_moved_and_that_is_said() {
        let bench = Bench::new();
        bench.write("full.key", "k");
        bench.write("full.crt", "c");
        let said = move_empty(&bench.place()).unwrap();
        assert!(said.starts_with("nothing was empty in "), "{said}");
        assert_eq!(Bench::all(&bench.folder).len(), 2);
        // What was moved once is not found again.
        bench.write("client.key", "");
        assert!(move_empty(&bench.place()).unwrap().contains("client.key -> "));
        assert!(move_empty(&bench.place()).unwrap().starts_with("nothing was empty in "));
    }

    #[test]
    fn a_link_to_a_folder_leads_nowhere() {
        let bench = Bench::new();
        let elsewhere = bench.folder.parent().unwrap().join("elsewhere");
        std::fs::create_dir(&elsewhere).unwrap();
        std::fs::write(elsewhere.join("theirs.key"), "").unwrap();
        symlink(&elsewhere, bench.folder.join("inside")).unwrap();
        assert!(move_empty(&bench.place()).unwrap().starts_with("nothing was empty in "));
        let link = bench.folder.parent().unwrap().join("link");
        symlink(&elsewhere, &link).unwrap();
        let place = Place::open(&[bench.folder.parent().unwrap().into()], &link).unwrap();
        for refused in [move_empty(&place), copy(&place)] {
            assert!(refused.unwrap_err().to_string().contains("link"), "the folder itself is a link");
        }
        assert_eq!(Bench::all(&elsewhere), [("theirs.key".to_owned(), String::new())]);
    }

    #[test]
    fn a_folder_is_copied_whole_and_for_its_owner_alone() {
        let bench = Bench::new();
        bench.write("state.db", "rows");
        bench.write("etcd/member/snap/db", "pages");
        std::fs::set_permissions(bench.folder.join("state.db"), std::fs::Permissions::from_mode(0o644)).unwrap();
        let said = copy(&bench.place()).unwrap();
        assert!(said.ends_with("(2 files, 9 bytes)"), "{said}");
        let [copied] = &bench.copies()[..] else { panic!("{:?}", bench.copies()) };
        assert_eq!(Bench::all(copied), Bench::all(&bench.folder));
        assert!(copied.file_name().unwrap().to_str().unwrap().starts_with("folder.aside-"));
        let mode = |path: &Path| path.metadata().unwrap().mode() & 0o7777;
        assert_eq!((mode(copied), mode(&copied.join("etcd/member"))), (0o700, 0o700));
        assert_eq!(mode(&copied.join("state.db")), 0o600);
    }

    #[test]
    fn links_sockets_and_pipes_are_left_out_of_a_copy() {
        let bench = Bench::new();
        bench.write("state.db", "rows");
        symlink(&bench.outside, bench.folder.join("link")).unwrap();
        symlink("/", bench.folder.join("root")).unwrap();
        let _kine = std::os::unix::net::UnixListener::bind(bench.folder.join("kine.sock")).unwrap();
        fs::mknodat(fs::CWD, bench.folder.join("pipe"), FileType::Fifo, Mode::RWXU, 0).unwrap();
        let said = copy(&bench.place()).unwrap();
        assert!(said.ends_with("(1 files, 4 bytes, 4 that are no files left out)"), "{said}");
        assert_eq!(Bench::all(&bench.copies()[0]), [("state.db".to_owned(), "rows".to_owned())]);
    }

    #[test]
    fn nothing_is_copied_where_less_than_twice_its_size_is_free() {
        let bench = Bench::new();
        bench.write("a", "12345");
        bench.write("b/c", "12345");
        let refused = copy_with(&bench.place(), |_| Ok(19)).unwrap_err();
        assert!(matches!(refused, RungError::NoRoom { bytes: 10, free: 19, .. }), "{refused}");
        assert!(refused.to_string().contains("make room"), "{refused}");
        assert!(bench.copies().is_empty());
        copy_with(&bench.place(), |_| Ok(20)).unwrap();
        assert_eq!(bench.copies().len(), 1);
    }

    #[test]
    fn room_is_asked_for_where_the_copy_lands() {
        let bench = Bench::new();
        bench.write("a", "12345");
        let beside = bench.folder.parent().unwrap().metadata().unwrap().ino();
        copy_with(&bench.place(), |asked| {
            assert_eq!(fs::fstat(asked)?.st_ino, beside);
            Ok(u64::MAX)
        })
        .unwrap();
        // The folder is opened for its path alone, and still says how much is free.
        assert!(free(&bench.place().folder).unwrap() > 0);
    }

    #[test]
    fn half_a_copy_is_removed_again() {
        let bench = Bench::new();
        bench.write("a-good-one", "x");
        bench.write("deep/x", "x");
        let deep = (0..DEPTH).fold(PathBuf::from("deep"), |path, _| path.join("d"));
        let place = bench.place();
        // It becomes too deep after it was measured.
        let refused = copy_with(&place, |_| {
            std::fs::create_dir_all(bench.folder.join(&deep))?;
            Ok(u64::MAX)
        });
        assert!(refused.unwrap_err().to_string().contains("in one another"));
        assert_eq!(bench.copies(), Vec::<PathBuf>::new());
    }
}
