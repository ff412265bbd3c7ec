//! The files of one end, and what is made of them: its own certificate, the CA, and the pinned keys.

use super::{Holder, InspectorName};
use crate::config::paths::Paths;
use crate::config::roster::{self, RosterFileError};
use crate::protocol::types::{PersonaId, PublicKey};
use crate::wire::{Proto, decode_envelope};
use rustls::RootCertStore;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;
use rustls::server::ParsedCertificate;
use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use x509_cert::der::Decode as _;

/// Largest file that is read, in bytes.
const MAX_BYTES: u64 = 128 * 1024;
/// Most inspectors.
const MOST_INSPECTORS: usize = 64;
/// What stands before the 32 bytes of an Ed25519 key in its SubjectPublicKeyInfo (RFC 8410).
const ED25519_SPKI: [u8; 12] = [0x30, 0x2a, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x03, 0x21, 0x00];

/// Where the files of one end lie.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    ca: PathBuf,
    certificate: PathBuf,
    roster: PathBuf,
    inspectors: Option<PathBuf>,
}

impl Place {
    /// An agent's.
    pub fn of_agent(paths: &Paths, persona: &PersonaId) -> Self {
        Self {
            ca: paths.tls_ca(),
            certificate: paths.tls_certificate(persona.as_str()),
            roster: paths.roster(),
            inspectors: Some(paths.tls_inspectors()),
        }
    }

    /// An inspector's: the folder that `zeta-bft certify --inspector` made.
    pub fn of_inspector(folder: &Path) -> Self {
        let file = |name| folder.join(name);
        Self { ca: file("ca.crt"), certificate: file("inspector.crt"), roster: file("roster"), inspectors: None }
    }
}

/// Holders by the SubjectPublicKeyInfo of their keys.
pub(super) type Pins = BTreeMap<Vec<u8>, Holder>;

/// Why files make no sense.
#[derive(Debug, thiserror::Error)]
pub enum MaterialError {
    /// The system refused.
    #[error("cannot read {}: {source}", path.display())]
    Unreadable {
        /// Which.
        path: PathBuf,
        /// What it said.
        source: io::Error,
    },
    /// It holds something else.
    #[error("{} holds no certificate in PEM: {why}", path.display())]
    Malformed {
        /// Which.
        path: PathBuf,
        /// What is wrong.
        why: String,
    },
    /// The roster.
    #[error(transparent)]
    Roster(#[from] RosterFileError),
    /// The roster is no roster.
    #[error("{} is no roster", path.display())]
    NoRoster {
        /// Which.
        path: PathBuf,
    },
    /// A certificate's key is not the one that it should be for.
    #[error("the certificate {} is not for the key of its holder: `zeta-bft certify` makes it anew", path.display())]
    OtherKey {
        /// Which.
        path: PathBuf,
    },
    /// A key would name two.
    #[error("{}: {first} and {second} have one and the same key: each needs its own", path.display())]
    DuplicateKey {
        /// The other's file.
        path: PathBuf,
        /// One.
        first: String,
        /// The other.
        second: String,
    },
    /// An inspector's file has a name that names nobody.
    #[error("{}: {why}", path.display())]
    BadName {
        /// Which.
        path: PathBuf,
        /// What is wrong.
        why: String,
    },
}

impl MaterialError {
    /// The file that it is about, where it is about one.
    pub fn path(&self) -> Option<&Path> {
        match self {
            Self::Unreadable { path, .. }
            | Self::Malformed { path, .. }
            | Self::NoRoster { path }
            | Self::OtherKey { path }
            | Self::DuplicateKey { path, .. }
            | Self::BadName { path, .. } => Some(path),
            Self::Roster(_) => None,
        }
    }
}

/// The files' contents: what tells whether anything has changed.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Files {
    ca: Vec<u8>,
    certificate: Vec<u8>,
    roster: Vec<u8>,
    inspectors: BTreeMap<PathBuf, Found>,
}

/// What a file of an inspector's holds, or why it cannot be read: that is no other file's trouble.
type Found = Result<Vec<u8>, (io::ErrorKind, String)>;

impl Files {
    /// Reads all of them. Blocks on the file system.
    pub(super) fn read(place: &Place) -> Result<Self, MaterialError> {
        Ok(Self {
            ca: bytes(&place.ca)?,
            certificate: bytes(&place.certificate)?,
            roster: bytes(&place.roster)?,
            inspectors: place.inspectors.as_deref().map(certificates_in).unwrap_or_default(),
        })
    }
}

/// What one end shows, and whom it believes.
#[derive(Debug)]
pub struct Material {
    pub(super) roots: Arc<RootCertStore>,
    pub(super) chain: Vec<CertificateDer<'static>>,
    pub(super) pins: Arc<Pins>,
    pins_nobody: Vec<MaterialError>,
    /// When the own certificate ends, and when the CA's does: seconds since 1970.
    ends: (u64, u64),
}

impl Material {
    /// Reads what lies at a place. Blocks on the file system.
    ///
    /// # Errors
    /// [`MaterialError`] says what makes no sense. A certificate that has ended makes sense; nobody will take it.
    pub fn read(place: &Place) -> Result<Self, MaterialError> {
        Self::of(&Files::read(place)?, place)
    }

    pub(super) fn of(files: &Files, place: &Place) -> Result<Self, MaterialError> {
        let mut roots = RootCertStore::empty();
        let authorities = chain(&files.ca, &place.ca)?;
        for authority in &authorities {
            roots.add(authority.clone()).map_err(|error| malformed(&place.ca, error))?;
        }
        let chain = chain(&files.certificate, &place.certificate)?;
        let ends = (end_of(&chain, &place.certificate)?, end_of(&authorities, &place.ca)?);
        let envelope =
            decode_envelope(&files.roster).map_err(|_| MaterialError::NoRoster { path: place.roster.clone() })?;
        let roster = roster::open(&envelope, &Proto)?;
        let agents = roster.members().map(|member| (spki_of(&member.key), Holder::Agent(member.persona.clone())));
        let mut pins: Pins = agents.collect();
        let mut pins_nobody = Vec::new();
        for (path, found) in &files.inspectors {
            if let Err(error) = pin_inspector(&mut pins, path, found) {
                pins_nobody.push(error);
            }
        }
        Ok(Self { roots: Arc::new(roots), chain, pins: Arc::new(pins), pins_nobody, ends })
    }

    /// Whether the first certificate of a file is for this key.
    ///
    /// # Errors
    /// [`MaterialError`] when there is none.
    pub fn is_for(path: &Path, key: &PublicKey) -> Result<bool, MaterialError> {
        Ok(key_of(chain(&bytes(path)?, path)?.first(), path)? == spki_of(key))
    }

    /// Checks that the own certificate is for this key.
    ///
    /// # Errors
    /// [`MaterialError::OtherKey`].
    pub fn check_own(&self, key: &PublicKey, place: &Place) -> Result<(), MaterialError> {
        let same = key_of(self.chain.first(), &place.certificate)? == spki_of(key);
        if same { Ok(()) } else { Err(MaterialError::OtherKey { path: place.certificate.clone() }) }
    }

    /// Checks that the CA vouches for the own certificate, as others will.
    ///
    /// # Errors
    /// What they will say.
    pub fn check_vouched(&self) -> Result<(), rustls::Error> {
        let clients = super::judge::client_verifier(&self.roots)?;
        let leaf = self.chain.first().ok_or(rustls::Error::NoCertificatesPresented)?;
        let now = rustls::pki_types::UnixTime::since_unix_epoch(crate::clock::unix());
        clients.verify_client_cert(leaf, self.chain.get(1..).unwrap_or_default(), now).map(drop)
    }

    /// When the own certificate ends, in seconds since 1970.
    pub fn own_end(&self) -> u64 {
        self.ends.0
    }

    /// When the CA's certificate ends, in seconds since 1970; the first of several.
    pub fn ca_end(&self) -> u64 {
        self.ends.1
    }

    /// What makes no sense among the inspectors' files: each pins nobody, and spoils nothing else.
    pub fn pins_nobody(&self) -> &[MaterialError] {
        &self.pins_nobody
    }

    /// Everybody whose key is pinned.
    pub fn holders(&self) -> impl Iterator<Item = &Holder> {
        self.pins.values()
    }
}

/// Pins an inspector's key. A key that names somebody already goes on naming that one.
fn pin_inspector(pins: &mut Pins, path: &Path, found: &Found) -> Result<(), MaterialError> {
    let pem = found.as_ref().map_err(|(kind, said)| MaterialError::Unreadable {
        path: path.to_owned(),
        source: io::Error::new(*kind, said.clone()),
    })?;
    let stem = path.file_stem().and_then(|stem| stem.to_str()).unwrap_or_default();
    let name = InspectorName::new(stem).map_err(|why| MaterialError::BadName { path: path.to_owned(), why })?;
    let holder = Holder::Inspector(name);
    match pins.entry(key_of(chain(pem, path)?.first(), path)?) {
        Entry::Vacant(free) => drop(free.insert(holder)),
        Entry::Occupied(taken) => {
            let path = path.to_owned();
            return Err(MaterialError::DuplicateKey {
                path,
                first: taken.get().to_string(),
                second: holder.to_string(),
            });
        }
    }
    Ok(())
}

/// An Ed25519 key as a certificate carries it.
pub(super) fn spki_of(key: &PublicKey) -> Vec<u8> {
    [ED25519_SPKI.as_slice(), &key.0].concat()
}

fn key_of(leaf: Option<&CertificateDer<'_>>, path: &Path) -> Result<Vec<u8>, MaterialError> {
    let leaf = leaf.ok_or_else(|| malformed(path, "there is none in it"))?;
    let parsed = ParsedCertificate::try_from(leaf).map_err(|error| malformed(path, error))?;
    Ok(parsed.subject_public_key_info().to_vec())
}

fn chain(pem: &[u8], path: &Path) -> Result<Vec<CertificateDer<'static>>, MaterialError> {
    let chain: Vec<_> =
        CertificateDer::pem_slice_iter(pem).collect::<Result<_, _>>().map_err(|error| malformed(path, error))?;
    if chain.is_empty() { Err(malformed(path, "there is none in it")) } else { Ok(chain) }
}

/// When the first of them to end does.
fn end_of(chain: &[CertificateDer<'_>], path: &Path) -> Result<u64, MaterialError> {
    let mut first = u64::MAX;
    for certificate in chain {
        let read = x509_cert::Certificate::from_der(certificate).map_err(|error| malformed(path, error))?;
        first = first.min(read.tbs_certificate().validity().not_after.to_unix_duration().as_secs());
    }
    Ok(first)
}

fn malformed(path: &Path, why: impl std::fmt::Display) -> MaterialError {
    MaterialError::Malformed { path: path.to_owned(), why: why.to_string() }
}

fn bytes(path: &Path) -> Result<Vec<u8>, MaterialError> {
    read(path).map_err(|source| MaterialError::Unreadable { path: path.to_owned(), source })
}

fn read(path: &Path) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    crate::files::open_plain(path)?.take(MAX_BYTES).read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// The certificates of a folder; none where there is no folder.
fn certificates_in(folder: &Path) -> BTreeMap<PathBuf, Found> {
    let mut found = BTreeMap::new();
    match list(folder) {
        Ok(paths) => found.extend(paths.into_iter().map(|path| {
            let read = read(&path).map_err(|error| (error.kind(), error.to_string()));
            (path, read)
        })),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => drop(found.insert(folder.to_owned(), Err((error.kind(), error.to_string())))),
    }
    found
}

fn list(folder: &Path) -> io::Result<Vec<PathBuf>> {
    let mut paths = Vec::new();
    for entry in std::fs::read_dir(folder)? {
        let path = entry?.path();
        if path.extension().is_some_and(|extension| extension == "crt") {
            paths.push(path);
        }
        if paths.len() > MOST_INSPECTORS {
            return Err(io::Error::other(format!("more than {MOST_INSPECTORS} certificates lie there")));
        }
    }
    Ok(paths)
}
