//! Key files: one Ed25519 private key each, PKCS#8 **version 1** in PEM (OpenSSL 3.0 cannot read version 2), mode 0600.
//!
//! Rules:
//! * a key file is created once and never overwritten;
//! * a file that group or others may read is refused, except what systemd lays into `$CREDENTIALS_DIRECTORY`. On a ramfs
//!   (systemd 252) that belongs to the service's user, mode 0400; on a tmpfs (newer ones) to root, mode 0440, where the group
//!   bits are the mask of an access list that names the service's user alone;
//! * every copy of the private bytes is zeroed.

use crate::config::paths::Paths;
use crate::files;
use crate::protocol::signing::SigningKey;
use crate::protocol::types::PublicKey;
use ed25519_dalek::pkcs8::{DecodePrivateKey as _, EncodePrivateKey as _, KeypairBytes, spki::der::pem::LineEnding};
use std::fs::{Metadata, OpenOptions};
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use zeroize::{Zeroize as _, Zeroizing};

/// Largest key file that is read, in bytes. A real one has about 120.
const MAX_BYTES: u64 = 4096;

/// Why a key file was not read or written.
#[derive(Debug, thiserror::Error)]
pub enum KeyFileError {
    /// It is not there.
    #[error("there is no key file {}", path.display())]
    Missing {
        /// Which.
        path: PathBuf,
    },
    /// Others could read it, and so may already have.
    #[error("others can read the key file {} (mode {mode:04o}): run `chmod 600 {}`", path.display(), path.display())]
    Exposed {
        /// Which.
        path: PathBuf,
        /// Its permission bits.
        mode: u32,
    },
    /// It would have been overwritten.
    #[error("the key file {} exists already; a key is never overwritten", path.display())]
    Exists {
        /// Which.
        path: PathBuf,
    },
    /// It holds something else.
    #[error("{} holds no Ed25519 private key in PKCS#8 PEM: {why}", path.display())]
    Malformed {
        /// Which.
        path: PathBuf,
        /// What is wrong.
        why: String,
    },
    /// Its stated public key is not that of its private key.
    #[error("{} pairs a private key with the public key of another", path.display())]
    Mismatched {
        /// Which.
        path: PathBuf,
    },
    /// The system refused.
    #[error("cannot {doing} the key file {}: {source}", path.display())]
    Io {
        /// What was tried.
        doing: &'static str,
        /// Which.
        path: PathBuf,
        /// What it said.
        source: io::Error,
    },
}

/// A fresh key from the kernel's randomness.
///
/// # Panics
/// When the kernel has no randomness to give: no key may be made then.
pub fn generate() -> SigningKey {
    let mut seed = Zeroizing::new([0; 32]);
    getrandom::fill(&mut *seed).expect("the kernel gives randomness");
    SigningKey::from_seed(&seed)
}

/// Where a daemon finds its key: on a node what systemd laid into its credentials folder as `key`, if it did, else `file`.
pub fn place(paths: &Paths, file: PathBuf) -> PathBuf {
    place_among(paths, file, std::env::var_os("CREDENTIALS_DIRECTORY").map(PathBuf::from))
}

fn place_among(paths: &Paths, file: PathBuf, credentials: Option<PathBuf>) -> PathBuf {
    // Below one folder keys lie in that folder, also when a service starts `up`.
    let credentials = credentials.filter(|folder| paths.dir().is_none() && folder.is_absolute());
    credentials.map_or(file, |folder| folder.join("key"))
}

/// Reads a key file.
///
/// # Errors
/// [`KeyFileError`] when it is missing, readable by others, or holds no key.
pub fn load(path: &Path) -> Result<SigningKey, KeyFileError> {
    let credentials = std::env::var_os("CREDENTIALS_DIRECTORY").map(PathBuf::from);
    let io = |source: io::Error| match source.kind() {
        io::ErrorKind::NotFound => KeyFileError::Missing { path: path.to_owned() },
        _ => KeyFileError::Io { doing: "read", path: path.to_owned(), source },
    };
    let malformed = |why: &str| KeyFileError::Malformed { path: path.to_owned(), why: why.to_owned() };
    // Not blocking, so that a pipe in its place cannot hang us.
    let nonblock = i32::try_from(rustix::fs::OFlags::NONBLOCK.bits()).unwrap_or(0);
    let mut file = OpenOptions::new().read(true).custom_flags(nonblock).open(path).map_err(io)?;
    let meta = file.metadata().map_err(io)?;
    if !meta.is_file() {
        return Err(malformed("it is not a regular file"));
    }
    if !is_private(&meta, path, credentials.as_deref()) {
        return Err(KeyFileError::Exposed { path: path.to_owned(), mode: meta.mode() & 0o7777 });
    }
    if meta.len() > MAX_BYTES {
        return Err(malformed("it is too large"));
    }
    // Room for all of it from the start, so that growing leaves no copy behind.
    let mut pem = Zeroizing::new(String::with_capacity(MAX_BYTES as usize + 1));
    (&mut file).take(MAX_BYTES).read_to_string(&mut pem).map_err(|error| match error.kind() {
        io::ErrorKind::InvalidData => malformed("it is no text"),
        _ => io(error),
    })?;
    let pair = KeypairBytes::from_pkcs8_pem(&pem).map_err(|error| malformed(&error.to_string()))?;
    let key = SigningKey::from_seed(&pair.secret_key);
    match pair.public_key {
        Some(public) if PublicKey(public.to_bytes()) != key.public() => {
            Err(KeyFileError::Mismatched { path: path.to_owned() })
        }
        _ => Ok(key),
    }
}

/// Writes a new key file, mode 0600, and makes it durable.
///
/// # Errors
/// [`KeyFileError::Exists`] when there is one already; [`KeyFileError::Io`] when the system refuses, and then no part of a
/// file is left behind.
pub fn save(path: &Path, key: &SigningKey) -> Result<(), KeyFileError> {
    let error = |doing| {
        move |source: io::Error| match source.kind() {
            io::ErrorKind::AlreadyExists => KeyFileError::Exists { path: path.to_owned() },
            _ => KeyFileError::Io { doing, path: path.to_owned(), source },
        }
    };
    let mut pair = KeypairBytes { secret_key: *key.seed(), public_key: None };
    let pem = pair.to_pkcs8_pem(LineEnding::LF);
    pair.secret_key.zeroize();
    let pem = pem.map_err(|e| error("encode")(io::Error::other(e.to_string())))?;

    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path).map_err(error("create"))?;
    let written = file.write_all(pem.as_bytes()).and_then(|()| file.sync_all()).and_then(|()| files::sync_folder(path));
    written.map_err(|source| {
        // Ours, just created: half a key is worth nothing to anybody.
        let _ = std::fs::remove_file(path);
        error("write")(source)
    })
}

fn is_private(meta: &Metadata, path: &Path, credentials: Option<&Path>) -> bool {
    let open_to_others = meta.mode() & 0o077;
    let credential = credentials.is_some_and(|folder| path.parent() == Some(folder)) && meta.uid() == 0;
    open_to_others == 0 || (credential && open_to_others == 0o040)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt as _;

    fn folder() -> tempfile::TempDir {
        tempfile::tempdir().unwrap()
    }

    fn set_mode(path: &Path, mode: u32) {
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).unwrap();
    }

    #[test]
    fn a_saved_key_comes_back_and_only_its_owner_can_read_it() {
        let dir = folder();
        let path = dir.path().join("otto.pem");
        let key = generate();
        save(&path, &key).unwrap();
        assert_eq!(std::fs::metadata(&path).unwrap().mode() & 0o7777, 0o600);
        assert_eq!(load(&path).unwrap().public(), key.public());
        assert_ne!(generate().public(), key.public());
    }

    #[test]
    fn a_key_file_is_pkcs8_version_1_as_openssl_writes_it() {
        // `openssl genpkey -algorithm ed25519` makes exactly this shape: 48 bytes of DER, version 0 (v1), no public key.
        let dir = folder();
        let path = dir.path().join("k.pem");
        save(&path, &SigningKey::from_seed(&[7; 32])).unwrap();
        let text = std::fs::read_to_string(&path).unwrap();
        let base64: String = text.lines().filter(|line| !line.starts_with("-----")).collect();
        let der = data_encoding::BASE64.decode(base64.as_bytes()).unwrap();
        let mut wanted = data_encoding::HEXLOWER.decode(b"302e020100300506032b657004220420").unwrap();
        wanted.extend([7; 32]);
        assert_eq!(der, wanted);
        assert!(text.starts_with("-----BEGIN PRIVATE KEY-----\n") && text.ends_with("-----END PRIVATE KEY-----\n"));
    }

    #[test]
    fn a_key_file_is_never_overwritten() {
        let dir = folder();
        let path = dir.path().join("k.pem");
        let key = generate();
        save(&path, &key).unwrap();
        assert!(matches!(save(&path, &generate()), Err(KeyFileError::Exists { .. })));
        assert_eq!(load(&path).unwrap().public(), key.public());
    }

    #[test]
    fn a_key_file_that_others_can_read_is_refused_with_its_mode_and_the_cure() {
        let dir = folder();
        let path = dir.path().join("k.pem");
        save(&path, &generate()).unwrap();
        for mode in [0o640, 0o604, 0o660, 0o622, 0o601] {
            set_mode(&path, mode);
            let text = load(&path).unwrap_err().to_string();
            assert!(text.contains(&format!("{mode:04o}")), "{text}");
            assert!(text.contains(&format!("chmod 600 {}", path.display())), "{text}");
        }
        set_mode(&path, 0o400);
        load(&path).unwrap();
    }

    #[test]
    fn a_systemd_credential_may_show_the_mask_of_its_access_list() {
        let dir = folder();
        let path = dir.path().join("warden.pem");
        save(&path, &generate()).unwrap();
        let ours = std::fs::metadata(&path).unwrap().uid();
        set_mode(&path, 0o440);
        let meta = std::fs::metadata(&path).unwrap();
        assert_eq!(is_private(&meta, &path, Some(dir.path())), ours == 0);
        assert!(!is_private(&meta, &path, Some(Path::new("/elsewhere"))) && !is_private(&meta, &path, None));
        set_mode(&path, 0o444);
        assert!(!is_private(&std::fs::metadata(&path).unwrap(), &path, Some(dir.path())));
    }

    #[test]
    fn a_daemon_takes_its_credential_on_a_node_and_its_key_file_anywhere_else() {
        let (node, folder) = (Paths::system(), Paths::below(Path::new("/srv/x")));
        let credentials = Some(PathBuf::from("/run/credentials/zeta-bft-warden.service"));
        let place = |paths: &Paths, credentials| place_among(paths, paths.warden_key(), credentials);
        assert_eq!(place(&node, credentials.clone()), Path::new("/run/credentials/zeta-bft-warden.service/key"));
        assert_eq!(place(&node, None), Path::new("/etc/zeta-bft/keys/warden.pem"));
        assert_eq!(place(&node, Some(PathBuf::new())), Path::new("/etc/zeta-bft/keys/warden.pem"));
        assert_eq!(place(&folder, credentials), Path::new("/srv/x/etc/keys/warden.pem"));
    }

    #[test]
    fn what_is_no_key_is_refused_by_name() {
        let dir = folder();
        assert!(matches!(load(&dir.path().join("none.pem")), Err(KeyFileError::Missing { .. })));
        assert!(matches!(load(dir.path()), Err(KeyFileError::Malformed { .. })));
        let path = dir.path().join("k.pem");
        let junk: [&[u8]; 4] = [b"", b"hello", &[0xff; 300], &[b'A'; 10_000]];
        for junk in junk {
            std::fs::write(&path, junk).unwrap();
            set_mode(&path, 0o600);
            assert!(matches!(load(&path), Err(KeyFileError::Malformed { .. })), "{} bytes", junk.len());
        }
    }
}
