//! Certificates for TCP: the CA, one for each persona of the roster, one for each of those who may look.
//!
//! Rules:
//! * the CA's key is made once, mode 0600, beside the operator's, and belongs offline like that one;
//! * an agent's certificate is for the key that the roster names; it is made anew whenever this runs, and replaces the older one
//!   in one step, so that agents that follow the file never see half of one;
//! * an inspector's key is made in a folder of its own that is to be carried away; what stays is the certificate, which pins it.

use crate::config::paths::Paths;
use crate::files;
use crate::grpc::tls::issue::{Authority, CA_LIFE, IssueError, Validity};
use crate::grpc::tls::{InspectorName, Material, MaterialError, Place};
use crate::keys::{self, KeyFileError};
use crate::protocol::roster::Roster;
use crate::protocol::signing::SigningKey;
use std::fs::DirBuilder;
use std::io;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Why no certificate was made.
#[derive(Debug, thiserror::Error)]
pub enum CertifyError {
    /// A key.
    #[error(transparent)]
    Key(#[from] KeyFileError),
    /// There is a CA, and this is not its key.
    #[error("the key {} is not that of the CA {}", key.display(), certificate.display())]
    NotTheCa {
        /// The key file.
        key: PathBuf,
        /// The CA's certificate.
        certificate: PathBuf,
    },
    /// What was made does not hold together: the CA has ended, or is another node's.
    #[error("the CA {} does not vouch for what it signs: {source}", certificate.display())]
    NotVouched {
        /// The CA's certificate.
        certificate: PathBuf,
        /// Why.
        source: rustls::Error,
    },
    /// It was not made.
    #[error(transparent)]
    Issue(#[from] IssueError),
    /// What was made cannot be read again.
    #[error(transparent)]
    Material(#[from] MaterialError),
    /// The system refused.
    #[error("cannot write {}", path.display())]
    Io {
        /// What.
        path: PathBuf,
        /// What it said.
        source: io::Error,
    },
}

/// A CA that is ready to sign.
#[derive(Debug)]
pub struct Ca {
    key: SigningKey,
}

/// What was written.
pub type Written = Vec<PathBuf>;

impl Ca {
    /// The CA of a node, from its key file; made, with its certificate, where there is none yet.
    ///
    /// # Errors
    /// [`CertifyError`]; with [`KeyFileError::Missing`] when there is a CA whose key is not here.
    pub fn of(paths: &Paths, roster: &Roster, key_file: &Path) -> Result<(Self, Written), CertifyError> {
        let (certificate, mut written) = (paths.tls_ca(), Vec::new());
        folder(&paths.tls(), 0o755)?;
        let key = if certificate.exists() || key_file.exists() {
            keys::load(key_file)?
        } else {
            let key = keys::generate();
            keys::save(key_file, &key)?;
            written.push(key_file.to_owned());
            key
        };
        let ca = Self { key };
        if certificate.exists() {
            if !Material::is_for(&certificate, &ca.key.public())? {
                return Err(CertifyError::NotTheCa { key: key_file.to_owned(), certificate });
            }
        } else {
            let pem = ca.authority(roster).certificate(Validity::lasting(CA_LIFE))?;
            write(&certificate, &pem)?;
            written.push(certificate);
        }
        Ok((ca, written))
    }

    fn authority<'a>(&'a self, roster: &'a Roster) -> Authority<'a> {
        let statement = roster.statement();
        Authority::new(&self.key, &statement.cluster, &statement.node)
    }

    /// A fresh certificate for every persona of the roster.
    ///
    /// # Errors
    /// [`CertifyError`].
    pub fn certify_agents(&self, paths: &Paths, roster: &Roster, life: Duration) -> Result<Written, CertifyError> {
        let mut written = Vec::new();
        for member in roster.members() {
            let pem = self.authority(roster).agent(&member.persona, member.key, Validity::lasting(life))?;
            let path = paths.tls_certificate(member.persona.as_str());
            write(&path, &pem)?;
            written.push(path);
            let place = Place::of_agent(paths, &member.persona);
            let made = Material::read(&place)?;
            made.check_own(&member.key, &place)?;
            made.check_vouched().map_err(|source| CertifyError::NotVouched { certificate: paths.tls_ca(), source })?;
        }
        Ok(written)
    }

    /// A folder for somebody who may look, with key, certificate and what tells agents from strangers; and the pin for it here.
    /// A key that is in the folder already is used again.
    ///
    /// # Errors
    /// [`CertifyError`].
    pub fn certify_inspector(
        &self,
        paths: &Paths,
        roster: &Roster,
        name: &InspectorName,
        into: &Path,
        life: Duration,
    ) -> Result<Written, CertifyError> {
        folder(into, 0o700)?;
        let key_file = into.join("inspector.pem");
        let mut written = Vec::new();
        let key = if key_file.exists() {
            keys::load(&key_file)?
        } else {
            let key = keys::generate();
            keys::save(&key_file, &key)?;
            written.push(key_file);
            key
        };
        let pem = self.authority(roster).inspector(name, key.public(), Validity::lasting(life))?;
        let mut put = |path: PathBuf, bytes: &[u8]| {
            files::replace(&path, bytes, 0o644).map_err(|source| CertifyError::Io { path: path.clone(), source })?;
            written.push(path);
            Ok::<_, CertifyError>(())
        };
        put(into.join("inspector.crt"), pem.as_bytes())?;
        for (from, name) in [(paths.tls_ca(), "ca.crt"), (paths.roster(), "roster")] {
            let bytes = std::fs::read(&from).map_err(|source| CertifyError::Io { path: from, source })?;
            put(into.join(name), &bytes)?;
        }
        let place = Place::of_inspector(into);
        let made = Material::read(&place)?;
        made.check_own(&key.public(), &place)?;
        made.check_vouched().map_err(|source| CertifyError::NotVouched { certificate: paths.tls_ca(), source })?;
        // Last: what is not whole is not let in.
        folder(&paths.tls_inspectors(), 0o755)?;
        put(paths.tls_inspectors().join(format!("{name}.crt")), pem.as_bytes())?;
        Ok(written)
    }
}

fn folder(path: &Path, mode: u32) -> Result<(), CertifyError> {
    let made = DirBuilder::new().recursive(true).mode(mode).create(path);
    made.map_err(|source| CertifyError::Io { path: path.to_owned(), source })
}

fn write(path: &Path, pem: &str) -> Result<(), CertifyError> {
    files::replace(path, pem.as_bytes(), 0o644).map_err(|source| CertifyError::Io { path: path.to_owned(), source })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::default_up_toml;
    use crate::grpc::tls::issue::LEAF_LIFE;
    use crate::protocol::types::PersonaId;
    use crate::setup::{self, succession};
    use std::os::unix::fs::PermissionsExt as _;
    use std::sync::Arc;

    fn node() -> (tempfile::TempDir, Paths, Arc<Roster>) {
        let dir = tempfile::tempdir().unwrap();
        let paths = Paths::below(dir.path());
        let made = setup::initialise(&paths, &default_up_toml(false)).unwrap();
        (dir, paths, made.roster)
    }

    fn mode(path: &Path) -> u32 {
        std::fs::metadata(path).unwrap().permissions().mode() & 0o777
    }

    #[test]
    fn a_ca_is_made_once_and_its_key_is_for_nobody_else() {
        let (_dir, paths, roster) = node();
        let (ca, written) = Ca::of(&paths, &roster, &paths.ca_key()).unwrap();
        assert_eq!(written, [paths.ca_key(), paths.tls_ca()]);
        assert_eq!((mode(&paths.ca_key()), mode(&paths.tls_ca())), (0o600, 0o644));
        assert_eq!(ca.certify_agents(&paths, &roster, LEAF_LIFE).unwrap().len(), 3);
        let (again, written) = Ca::of(&paths, &roster, &paths.ca_key()).unwrap();
        assert!(written.is_empty());
        again.certify_agents(&paths, &roster, LEAF_LIFE).unwrap();
    }

    #[test]
    fn a_ca_whose_key_is_away_is_not_replaced_and_another_key_signs_nothing() {
        let (dir, paths, roster) = node();
        Ca::of(&paths, &roster, &paths.ca_key()).unwrap();
        std::fs::rename(paths.ca_key(), dir.path().join("offline")).unwrap();
        let error = Ca::of(&paths, &roster, &paths.ca_key()).unwrap_err();
        assert!(matches!(error, CertifyError::Key(KeyFileError::Missing { .. })), "{error}");
        let error = Ca::of(&paths, &roster, &paths.operator_key()).unwrap_err();
        assert!(matches!(error, CertifyError::NotTheCa { .. }), "{error}");
        Ca::of(&paths, &roster, &dir.path().join("offline")).unwrap();
    }

    #[test]
    fn an_agents_certificate_follows_the_key_of_the_next_roster() {
        let (_dir, paths, roster) = node();
        let (ca, _) = Ca::of(&paths, &roster, &paths.ca_key()).unwrap();
        ca.certify_agents(&paths, &roster, LEAF_LIFE).unwrap();
        let vera = PersonaId::new("vera").unwrap();
        std::fs::remove_file(paths.persona_key(&vera)).unwrap();
        keys::save(&paths.persona_key(&vera), &keys::generate()).unwrap();
        let settings = crate::config::load(&paths).unwrap();
        let operator = keys::load(&paths.operator_key()).unwrap();
        let next = succession::sign_next(&settings, &operator, false).unwrap().after;
        let (place, key) = (Place::of_agent(&paths, &vera), next.member(&vera).unwrap().key);
        let stale = Material::read(&place).unwrap();
        assert!(matches!(stale.check_own(&key, &place), Err(MaterialError::OtherKey { .. })));
        ca.certify_agents(&paths, &next, LEAF_LIFE).unwrap();
        Material::read(&place).unwrap().check_own(&key, &place).unwrap();
    }

    #[test]
    fn an_inspectors_folder_is_whole_its_own_alone_and_pinned_here() {
        let (dir, paths, roster) = node();
        let (ca, _) = Ca::of(&paths, &roster, &paths.ca_key()).unwrap();
        let (name, into) = (InspectorName::new("laptop").unwrap(), dir.path().join("laptop"));
        let written = ca.certify_inspector(&paths, &roster, &name, &into, LEAF_LIFE).unwrap();
        assert_eq!(written.len(), 5, "{written:?}");
        assert_eq!((mode(&into), mode(&into.join("inspector.pem"))), (0o700, 0o600));
        let key = keys::load(&into.join("inspector.pem")).unwrap().public();
        ca.certify_inspector(&paths, &roster, &name, &into, LEAF_LIFE).unwrap();
        assert_eq!(keys::load(&into.join("inspector.pem")).unwrap().public(), key, "renewed, not replaced");
        ca.certify_agents(&paths, &roster, LEAF_LIFE).unwrap();
        let otto = PersonaId::new("otto").unwrap();
        let seen = Material::read(&Place::of_agent(&paths, &otto)).unwrap();
        assert_eq!(seen.holders().filter(|holder| holder.to_string() == "inspector laptop").count(), 1);
    }

    #[test]
    fn an_inspectors_file_that_makes_no_sense_keeps_no_agent_from_its_certificate() {
        let (_dir, paths, roster) = node();
        let (ca, _) = Ca::of(&paths, &roster, &paths.ca_key()).unwrap();
        std::fs::create_dir_all(paths.tls_inspectors()).unwrap();
        std::fs::write(paths.tls_inspectors().join("bob.crt"), "").unwrap();
        assert_eq!(ca.certify_agents(&paths, &roster, LEAF_LIFE).unwrap().len(), 3);
    }
}
