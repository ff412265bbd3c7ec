//! Putting files aside: by another name in the same folder, without following any link.
//!
//! Rules:
//! * Nothing is removed and nothing is written over: what was moved or copied aside bears the time of day in its name.
//! * Root touches only what the configuration could have named, wherever a path leads by now ([`never`]).
//! * Of a folder of k3s' agent only empty keys are moved, never the folder itself ([`folder`]).
//! * A folder that is copied is copied whole, for root alone, or not at all.

use super::RungError;
use crate::clock;
use crate::config::never;
use rustix::fs::{self, AtFlags, FileType, Mode, OFlags, ResolveFlags};
use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io;
use std::os::fd::{AsFd as _, AsRawFd as _, BorrowedFd, OwnedFd};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

mod folder;

/// Not blocking: a pipe may stand in a file's place, and would be waited for without end.
const READING: OFlags = OFlags::RDONLY.union(OFlags::NOFOLLOW).union(OFlags::NONBLOCK).union(OFlags::CLOEXEC);
/// Only what nothing was there before.
const WRITING: OFlags =
    OFlags::WRONLY.union(OFlags::CREATE).union(OFlags::EXCL).union(OFlags::NOFOLLOW).union(OFlags::CLOEXEC);

/// Puts what has the first name in an open folder aside under the second.
pub type Put = fn(BorrowedFd<'_>, &OsStr, &OsStr) -> io::Result<()>;

/// Renames a file or a folder; a link is refused.
///
/// # Errors
/// What the system says; `Other` when it is a link.
pub fn move_file(folder: BorrowedFd<'_>, from: &OsStr, to: &OsStr) -> io::Result<()> {
    let stat = fs::statat(folder, from, AtFlags::SYMLINK_NOFOLLOW)?;
    if FileType::from_raw_mode(stat.st_mode).is_symlink() {
        return Err(io::Error::other("it is a symbolic link"));
    }
    // A link put there since is moved itself: nothing that it leads to is touched.
    Ok(fs::renameat(folder, from, folder, to)?)
}

/// Copies a regular file to a name that nothing has yet.
///
/// # Errors
/// What the system says; `Other` when it is no regular file.
pub fn copy_file(folder: BorrowedFd<'_>, from: &OsStr, to: &OsStr) -> io::Result<()> {
    let mut source = File::from(fs::openat(folder, from, READING, Mode::empty()).map_err(named)?);
    let meta = source.metadata()?;
    if !meta.is_file() {
        return Err(io::Error::other("it is not a regular file"));
    }
    let mode = Mode::from_raw_mode(meta.mode() & 0o777);
    let mut target = File::from(fs::openat(folder, to, WRITING, mode)?);
    io::copy(&mut source, &mut target)?;
    target.sync_all()
}

/// `ELOOP` in words: nobody thinks of a loop when a link is refused.
fn named(error: rustix::io::Errno) -> io::Error {
    match error {
        rustix::io::Errno::LOOP => io::Error::other("a symbolic link lies on the way; mount the place there instead"),
        error => error.into(),
    }
}

/// A file that may be put aside: an open folder, and a name in it.
///
/// Whoever owns a folder on the way can put something else in its place at any moment. So the folder is opened once, without
/// following any link, where it really is is asked of the kernel, and everything is done below it.
#[derive(Debug)]
pub struct Place {
    folder: OwnedFd,
    name: OsString,
    /// Where it really is.
    real: PathBuf,
}

impl Place {
    /// Opens the folder of a file that really lies below one of the folders.
    ///
    /// # Errors
    /// [`RungError::Aside`] also when a link lies on the way, [`RungError::Outside`].
    pub fn open(folders: &[PathBuf], path: &Path) -> Result<Self, RungError> {
        Self::open_or_whole(folders, None, path)
    }

    /// The same, and of one folder also itself.
    fn open_or_whole(folders: &[PathBuf], whole: Option<&Path>, path: &Path) -> Result<Self, RungError> {
        let failed = |source| RungError::Aside { path: path.to_owned(), source };
        let outside = || {
            let allowed = folders.iter().map(|folder| folder.display().to_string()).collect::<Vec<_>>().join(", ");
            RungError::Outside { path: path.to_owned(), allowed }
        };
        let (Some(parent), Some(name)) = (path.parent(), path.file_name()) else { return Err(outside()) };
        let links = ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_MAGICLINKS;
        let opening = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let folder =
            fs::openat2(fs::CWD, parent, opening, Mode::empty(), links).map_err(|error| failed(named(error)))?;
        let real = std::fs::read_link(format!("/proc/self/fd/{}", folder.as_raw_fd())).map_err(failed)?.join(name);
        let below = folders.iter().any(|folder| real.starts_with(folder) && real != *folder);
        if !below && whole != Some(&*real) {
            return Err(outside());
        }
        Ok(Self { folder, name: name.to_owned(), real })
    }

    /// Where it really is.
    pub fn real(&self) -> &Path {
        &self.real
    }

    /// Puts it aside under a name of its own; says what was put where.
    ///
    /// # Errors
    /// [`RungError::Aside`].
    pub fn put(&self, put: Put) -> Result<String, RungError> {
        let name = aside(&self.name);
        put(self.folder.as_fd(), &self.name, &name).map_err(|source| self.failed(source))?;
        Ok(format!("{} -> {}", self.real.display(), self.real.with_file_name(name).display()))
    }

    fn is_folder(&self) -> Result<bool, RungError> {
        let stat = fs::statat(&self.folder, &self.name, AtFlags::SYMLINK_NOFOLLOW);
        let stat = stat.map_err(|error| self.failed(error.into()))?;
        Ok(FileType::from_raw_mode(stat.st_mode).is_dir())
    }

    fn failed(&self, source: io::Error) -> RungError {
        RungError::Aside { path: self.real.clone(), source }
    }
}

/// The name under which something of this name is put aside.
fn aside(name: &OsStr) -> OsString {
    let mut name = name.to_owned();
    name.push(format!(".aside-{}", clock::unix_ms()));
    name
}

/// Root's: only what the configuration could have named is touched, wherever the path leads by now.
pub(super) fn put_aside(state: &Path, path: &str, copy_only: bool) -> Result<String, RungError> {
    let whole = never::whole(copy_only);
    let place = allowed(state, path, copy_only)?;
    match (place.is_folder()?, copy_only) {
        (true, true) => folder::copy(&place),
        (true, false) if place.real().starts_with(whole) => folder::move_empty(&place),
        (_, true) => place.put(copy_file),
        (_, false) => place.put(move_file),
    }
}

fn allowed(state: &Path, path: &str, copy_only: bool) -> Result<Place, RungError> {
    let whole = never::whole(copy_only);
    let place = Place::open_or_whole(&never::folders(copy_only, state), Some(whole), path.as_ref())?;
    let real = place.real().to_string_lossy();
    never::check_path(&real, copy_only, state).map_err(|why| RungError::Never {
        path: path.into(),
        real: real.clone().into_owned(),
        why,
    })?;
    Ok(place)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;

    /// `state/sub/file`, and `elsewhere/file` outside, on real paths.
    struct Files {
        _dir: tempfile::TempDir,
        state: PathBuf,
        elsewhere: PathBuf,
    }

    impl Files {
        fn new() -> Self {
            let dir = tempfile::tempdir().unwrap();
            let real = dir.path().canonicalize().unwrap();
            let (state, elsewhere) = (real.join("state"), real.join("elsewhere"));
            std::fs::create_dir_all(state.join("sub")).unwrap();
            std::fs::create_dir(&elsewhere).unwrap();
            std::fs::write(state.join("sub/file"), "ours").unwrap();
            std::fs::write(elsewhere.join("file"), "not ours").unwrap();
            Self { _dir: dir, state, elsewhere }
        }

        fn aside(&self, path: &str) -> Vec<Result<String, RungError>> {
            let path = self.state.join(path).display().to_string();
            [true, false].map(|copy_only| put_aside(&self.state, &path, copy_only)).into()
        }

        fn names(folder: &Path) -> Vec<String> {
            let names = std::fs::read_dir(folder).unwrap();
            names.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect()
        }

        fn nothing_is_touched(&self) {
            assert_eq!(Self::names(&self.elsewhere), ["file"]);
            assert_eq!(std::fs::read(self.elsewhere.join("file")).unwrap(), b"not ours");
        }
    }

    #[test]
    fn a_file_is_copied_then_moved_aside_in_its_own_folder() {
        let files = Files::new();
        let said: Vec<_> = files.aside("sub/file").into_iter().map(Result::unwrap).collect();
        assert!(said.iter().all(|said| said.contains("sub/file -> ") && said.contains("sub/file.aside-")), "{said:?}");
        assert!(!files.state.join("sub/file").exists());
    }

    #[test]
    fn a_folder_of_ours_is_copied_and_moved_whole() {
        let files = Files::new();
        std::fs::write(files.state.join("sub/empty.key"), "").unwrap();
        let said: Vec<_> = files.aside("sub").into_iter().map(Result::unwrap).collect();
        assert!(said[0].contains("2 files"), "{said:?}");
        assert!(!files.state.join("sub").exists(), "{said:?}");
        assert_eq!(Files::names(&files.state).iter().filter(|name| name.starts_with("sub.aside-")).count(), 2);
    }

    #[test]
    fn only_one_folder_may_be_named_itself() {
        let files = Files::new();
        let open = |whole, path: &Path| Place::open_or_whole(std::slice::from_ref(&files.state), whole, path);
        for whole in [None, Some(&*files.state)] {
            assert!(matches!(open(whole, &files.elsewhere), Err(RungError::Outside { .. })));
        }
        assert!(matches!(open(None, &files.state), Err(RungError::Outside { .. })));
        assert!(matches!(open(Some(&files.elsewhere), &files.state), Err(RungError::Outside { .. })));
        assert!(open(Some(&files.elsewhere), &files.elsewhere).unwrap().is_folder().unwrap());
        let inside = files.elsewhere.join("file");
        assert!(matches!(open(Some(&files.elsewhere), &inside), Err(RungError::Outside { .. })));
    }

    #[test]
    fn a_link_on_the_way_is_refused_wherever_it_leads() {
        let files = Files::new();
        symlink(&files.elsewhere, files.state.join("out")).unwrap();
        symlink("sub", files.state.join("in")).unwrap();
        symlink("/proc/self/root", files.state.join("magic")).unwrap();
        for path in ["out/file".to_owned(), "in/file".into(), format!("magic{}/sub/file", files.state.display())] {
            for refused in files.aside(&path) {
                let error = refused.unwrap_err();
                assert!(
                    matches!(error, RungError::Aside { .. }) && error.to_string().contains("symbolic link"),
                    "{error}"
                );
            }
        }
        files.nothing_is_touched();
        assert_eq!(Files::names(&files.state.join("sub")), ["file"]);
    }

    #[test]
    fn a_link_in_the_files_place_is_refused() {
        let files = Files::new();
        symlink(files.elsewhere.join("file"), files.state.join("sub/link")).unwrap();
        for refused in files.aside("sub/link") {
            let error = refused.unwrap_err();
            assert!(error.to_string().contains("symbolic link"), "{error}");
        }
        assert!(files.state.join("sub/link").is_symlink());
        files.nothing_is_touched();
    }

    #[test]
    fn a_folder_swapped_after_the_look_leads_nowhere_else() {
        for put in [copy_file as Put, move_file] {
            let files = Files::new();
            let path = files.state.join("sub/file");
            let place = Place::open(std::slice::from_ref(&files.state), &path).unwrap();
            std::fs::rename(files.state.join("sub"), files.state.join("away")).unwrap();
            symlink(&files.elsewhere, files.state.join("sub")).unwrap();
            place.put(put).unwrap();
            files.nothing_is_touched();
            assert!(Files::names(&files.state.join("away")).iter().any(|name| name.starts_with("file.aside-")));
        }
    }

    #[test]
    fn what_is_never_touched_is_not_reached_by_another_way() {
        let files = Files::new();
        std::fs::create_dir(files.state.join("warden")).unwrap();
        std::fs::write(files.state.join("warden/warden.journal"), "j").unwrap();
        for refused in files.aside("sub/../warden/warden.journal") {
            assert!(matches!(refused, Err(RungError::Never { .. })), "{refused:?}");
        }
        for refused in files.aside("../elsewhere/file") {
            assert!(matches!(refused, Err(RungError::Outside { .. })), "{refused:?}");
        }
        files.nothing_is_touched();
    }
}
