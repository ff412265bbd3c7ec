//! What the journal asks of a disk: few enough calls that a test can fail, tear or lose each of them.

use super::JournalError;
use std::fs::{File, OpenOptions, TryLockError};
use std::io::{self, Read as _, Seek as _};
use std::os::unix::fs::{FileExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

/// One file, and a second one beside it that can take its place.
pub trait Disk {
    /// The whole file.
    ///
    /// # Errors
    /// What the system says; likewise below.
    fn read(&mut self) -> io::Result<Vec<u8>>;
    /// Its size in bytes.
    fn size(&self) -> io::Result<u64>;
    /// Writes within or at the end of the file; on the disk only after [`Disk::sync`].
    fn write_at(&mut self, at: u64, bytes: &[u8]) -> io::Result<()>;
    /// Makes the file `len` bytes long with zeros that really occupy space. May stop half-way when the disk is full.
    fn extend(&mut self, len: u64) -> io::Result<()>;
    /// Makes everything written durable.
    fn sync(&mut self) -> io::Result<()>;
    /// Begins a second file with these bytes, `len` bytes long; leaves nothing behind when it fails.
    fn write_beside(&mut self, bytes: &[u8], len: u64) -> io::Result<()>;
    /// Makes the second file durable.
    fn sync_beside(&mut self) -> io::Result<()>;
    /// Puts the second file in the place of the first, which is gone then.
    fn rename_beside(&mut self) -> io::Result<()>;
    /// Makes the names durable.
    fn sync_folder(&mut self) -> io::Result<()>;
}

/// A real file, locked by a second one (`.lock`) that outlives every replacement.
#[derive(Debug)]
pub struct FileDisk {
    path: PathBuf,
    file: Option<File>,
    beside: Option<File>,
    _lock: File,
}

impl FileDisk {
    /// Takes the lock. The file itself need not exist.
    ///
    /// # Errors
    /// [`JournalError::InUse`] when somebody else has the lock.
    pub(super) fn lock(path: &Path) -> Result<Self, JournalError> {
        let lock =
            OpenOptions::new().write(true).create(true).truncate(false).mode(0o600).open(with_suffix(path, ".lock"));
        let lock = lock.map_err(super::io("lock"))?;
        match lock.try_lock() {
            Ok(()) => Ok(Self { path: path.to_owned(), file: None, beside: None, _lock: lock }),
            Err(TryLockError::WouldBlock) => Err(JournalError::InUse { path: path.to_owned() }),
            Err(TryLockError::Error(source)) => Err(JournalError::Io { doing: "lock", source }),
        }
    }

    /// Opens the file if it is there.
    pub(super) fn exists(&self) -> Result<bool, JournalError> {
        self.path.try_exists().map_err(super::io("look for"))
    }

    fn file(&mut self) -> io::Result<&mut File> {
        if self.file.is_none() {
            self.file = Some(OpenOptions::new().read(true).write(true).open(&self.path)?);
        }
        self.file.as_mut().ok_or_else(|| io::ErrorKind::NotFound.into())
    }
}

impl Disk for FileDisk {
    fn read(&mut self) -> io::Result<Vec<u8>> {
        let file = self.file()?;
        let mut bytes = Vec::new();
        file.rewind()?;
        file.read_to_end(&mut bytes)?;
        Ok(bytes)
    }

    fn size(&self) -> io::Result<u64> {
        match &self.file {
            Some(file) => Ok(file.metadata()?.len()),
            None => Ok(self.path.metadata()?.len()),
        }
    }

    fn write_at(&mut self, at: u64, bytes: &[u8]) -> io::Result<()> {
        self.file()?.write_all_at(bytes, at)
    }

    fn extend(&mut self, len: u64) -> io::Result<()> {
        extend(self.file()?, len)
    }

    fn sync(&mut self) -> io::Result<()> {
        self.file()?.sync_data()
    }

    fn write_beside(&mut self, bytes: &[u8], len: u64) -> io::Result<()> {
        let path = with_suffix(&self.path, ".new");
        let file = OpenOptions::new().read(true).write(true).create(true).truncate(true).mode(0o600).open(&path)?;
        let written = file.write_all_at(bytes, 0).and_then(|()| extend(&file, len));
        if let Err(error) = written {
            // A leftover would only use up the space that is missing.
            let _ = std::fs::remove_file(&path);
            return Err(error);
        }
        self.beside = Some(file);
        Ok(())
    }

    fn sync_beside(&mut self) -> io::Result<()> {
        self.beside.as_ref().ok_or(io::ErrorKind::NotFound)?.sync_data()
    }

    fn rename_beside(&mut self) -> io::Result<()> {
        std::fs::rename(with_suffix(&self.path, ".new"), &self.path)?;
        self.file = self.beside.take();
        Ok(())
    }

    fn sync_folder(&mut self) -> io::Result<()> {
        crate::files::sync_folder(&self.path)
    }
}

/// Allocates and writes zeros: blocks that were written once need no new metadata when they are written again, so later
/// syncs are quick, and cannot fail for want of space.
fn extend(file: &File, len: u64) -> io::Result<()> {
    let mut at = file.metadata()?.len();
    if at >= len {
        return Ok(());
    }
    match rustix::fs::fallocate(file, rustix::fs::FallocateFlags::KEEP_SIZE, at, len - at) {
        Ok(()) | Err(rustix::io::Errno::OPNOTSUPP | rustix::io::Errno::NOSYS) => {}
        Err(error) => return Err(error.into()),
    }
    let zeros = [0; 64 * 1024];
    while at < len {
        let part = zeros.len().min(usize::try_from(len - at).unwrap_or(usize::MAX));
        file.write_all_at(&zeros[..part], at)?;
        at += part as u64;
    }
    Ok(())
}

fn with_suffix(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    name.into()
}
