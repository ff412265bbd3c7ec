//! Files written whole or not at all, and on the disk before they count.
//!
//! * Text is written to a new file beside the place, synced, and only then given its name; then the folder is synced.
//! * What an interrupted attempt left beside the place is taken away. The new file is always made anew: a link that
//!   somebody put there is never written through.
//! * What others may have put in a file's place is opened by [`open_plain`].

use std::fs::{File, OpenOptions};
use std::io::{self, ErrorKind, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

/// Writes a file that is not there yet.
///
/// # Errors
/// `AlreadyExists` when it is there, whatever it holds; else what the system says.
pub fn create(path: &Path, bytes: &[u8], mode: u32) -> io::Result<()> {
    let new = write_beside(path, bytes, mode)?;
    // A link refuses an existing name, where a rename would replace it.
    let linked = std::fs::hard_link(&new, path);
    std::fs::remove_file(&new)?;
    linked?;
    sync_folder(path)
}

/// Writes a file, in the place of the one that may be there.
///
/// # Errors
/// What the system says; the older file stays then.
pub fn replace(path: &Path, bytes: &[u8], mode: u32) -> io::Result<()> {
    std::fs::rename(write_beside(path, bytes, mode)?, path)?;
    sync_folder(path)
}

/// Opens a regular file for reading. For places that somebody else may write: a pipe in the file's place hangs nobody, a
/// link at the path's end is not followed, and a device is not read.
///
/// # Errors
/// What the system says; `ELOOP` for a link, `Other` for what is no regular file.
pub fn open_plain(path: &Path) -> io::Result<File> {
    let flags = rustix::fs::OFlags::NONBLOCK | rustix::fs::OFlags::NOFOLLOW;
    let flags = i32::try_from(flags.bits()).map_err(io::Error::other)?;
    let file = OpenOptions::new().read(true).custom_flags(flags).open(path)?;
    if file.metadata()?.is_file() { Ok(file) } else { Err(io::Error::other("it is no regular file")) }
}

/// Makes the name of a file durable.
///
/// # Errors
/// What the system says.
pub fn sync_folder(path: &Path) -> io::Result<()> {
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    File::open(folder)?.sync_all()
}

fn write_beside(path: &Path, bytes: &[u8], mode: u32) -> io::Result<PathBuf> {
    let mut new = path.as_os_str().to_owned();
    new.push(".new");
    let new = PathBuf::from(new);
    match std::fs::remove_file(&new) {
        Err(error) if error.kind() != ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let mut file = OpenOptions::new().write(true).create_new(true).mode(mode).open(&new)?;
    let written = file.write_all(bytes).and_then(|()| file.sync_all());
    if let Err(error) = written {
        // On a full disk a leftover would only take space.
        let _ = std::fs::remove_file(&new);
        return Err(error);
    }
    Ok(new)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn place() -> (tempfile::TempDir, PathBuf) {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("file");
        (dir, path)
    }

    #[test]
    fn a_file_is_created_once_and_never_over_another() {
        let (dir, path) = place();
        std::fs::write(dir.path().join("file.new"), "what an interrupted attempt left").unwrap();
        create(&path, b"first", 0o600).unwrap();
        assert_eq!(create(&path, b"second", 0o600).unwrap_err().kind(), ErrorKind::AlreadyExists);
        assert_eq!(std::fs::read(&path).unwrap(), b"first");
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 1, "nothing is left beside it");
    }

    #[test]
    fn a_link_in_the_way_is_not_written_through() {
        let (dir, path) = place();
        let precious = dir.path().join("precious");
        std::fs::write(&precious, "untouched").unwrap();
        for write in [create, replace] {
            std::os::unix::fs::symlink(&precious, dir.path().join("file.new")).unwrap();
            write(&path, b"text", 0o644).unwrap();
            assert!(std::fs::symlink_metadata(&path).unwrap().is_file());
        }
        assert_eq!(std::fs::read(&precious).unwrap(), b"untouched");
    }

    #[test]
    fn only_a_regular_file_is_opened_and_nothing_waits() {
        let (dir, path) = place();
        std::fs::write(&path, "text").unwrap();
        assert!(open_plain(&path).is_ok());
        let (link, pipe) = (dir.path().join("link"), dir.path().join("pipe"));
        std::os::unix::fs::symlink(&path, &link).unwrap();
        let mode = rustix::fs::Mode::from_raw_mode(0o600);
        rustix::fs::mknodat(rustix::fs::CWD, &pipe, rustix::fs::FileType::Fifo, mode, 0).unwrap();
        for refused in [&link, &pipe, Path::new("/dev/zero"), dir.path()] {
            assert!(open_plain(refused).is_err(), "{}", refused.display());
        }
    }

    #[test]
    fn a_file_that_cannot_be_written_leaves_nothing_and_the_older_one() {
        let (dir, path) = place();
        replace(&path, b"older", 0o644).unwrap();
        std::fs::create_dir(dir.path().join("file.new")).unwrap();
        assert!(replace(&path, b"newer", 0o644).is_err());
        assert_eq!(std::fs::read(&path).unwrap(), b"older");
    }
}
