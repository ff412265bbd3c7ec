//! Certificates: the node's own CA, and what it signs.
//!
//! All keys are Ed25519. An agent's certificate is made from the public key that the roster names, so neither its private key nor
//! the agent is needed to renew it. An inspector's can be used to ask and not to serve.

use super::InspectorName;
use crate::protocol::signing::SigningKey;
use crate::protocol::types::{ClusterId, NodeId, PersonaId, PublicKey};
use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyUsagePurpose, PKCS_ED25519,
    PublicKeyData, SanType, SerialNumber, SignatureAlgorithm, date_time_ymd,
};
use std::time::Duration;

/// How long the CA's certificate lasts.
pub const CA_LIFE: Duration = Duration::from_secs(10 * 365 * 24 * 3600);
/// How long a certificate lasts, unless another time is wished.
pub const LEAF_LIFE: Duration = Duration::from_secs(365 * 24 * 3600);
/// How long before its end a certificate is to be renewed.
pub const RENEW_BEFORE: Duration = Duration::from_secs(30 * 24 * 3600);
/// A clock that is behind must not make a fresh certificate useless.
const SKEW: Duration = Duration::from_secs(24 * 3600);

/// It was not made.
#[derive(Debug, thiserror::Error)]
#[error("a certificate cannot be made: {0}")]
pub struct IssueError(#[from] rcgen::Error);

/// From when to when, since 1970.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Validity {
    /// Its first moment.
    pub from: Duration,
    /// Its last.
    pub to: Duration,
}

impl Validity {
    /// From now on; a day is added before.
    pub fn lasting(life: Duration) -> Self {
        let now = crate::clock::unix();
        Self { from: now.saturating_sub(SKEW), to: now + life }
    }
}

/// A CA: its name is that of the node, so that key and node are all that is needed to sign again.
#[derive(Debug)]
pub struct Authority<'a> {
    key: &'a SigningKey,
    cluster: &'a ClusterId,
    node: &'a NodeId,
}

struct Public(PublicKey);

impl PublicKeyData for Public {
    fn der_bytes(&self) -> &[u8] {
        &self.0.0
    }

    fn algorithm(&self) -> &'static SignatureAlgorithm {
        &PKCS_ED25519
    }
}

/// Signs what a certificate says. The bytes begin as those of every certificate do (DER `SEQUENCE`), and the key signs nothing else.
struct CaKey<'a>(&'a SigningKey, PublicKey);

impl PublicKeyData for CaKey<'_> {
    fn der_bytes(&self) -> &[u8] {
        &self.1.0
    }

    fn algorithm(&self) -> &'static SignatureAlgorithm {
        &PKCS_ED25519
    }
}

impl rcgen::SigningKey for CaKey<'_> {
    fn sign(&self, message: &[u8]) -> Result<Vec<u8>, rcgen::Error> {
        use ed25519_dalek::Signer as _;
        Ok(ed25519_dalek::SigningKey::from_bytes(&self.0.seed()).sign(message).to_bytes().to_vec())
    }
}

impl<'a> Authority<'a> {
    /// The CA of a node.
    pub const fn new(key: &'a SigningKey, cluster: &'a ClusterId, node: &'a NodeId) -> Self {
        Self { key, cluster, node }
    }

    fn signer(&self) -> CaKey<'a> {
        CaKey(self.key, self.key.public())
    }

    fn params(&self) -> CertificateParams {
        let mut params = CertificateParams::default();
        params.distinguished_name = rcgen::DistinguishedName::new();
        params.distinguished_name.push(DnType::OrganizationName, format!("zeta-bft {}/{}", self.cluster, self.node));
        params.distinguished_name.push(DnType::CommonName, "zeta-bft CA");
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        params
    }

    /// Its own certificate, in PEM.
    ///
    /// # Errors
    /// [`IssueError`].
    pub fn certificate(&self, validity: Validity) -> Result<String, IssueError> {
        let mut params = self.params();
        limit(&mut params, validity);
        Ok(params.self_signed(&self.signer())?.pem())
    }

    /// A certificate for a persona's agent, in PEM.
    ///
    /// # Errors
    /// [`IssueError`].
    pub fn agent(&self, persona: &PersonaId, key: PublicKey, validity: Validity) -> Result<String, IssueError> {
        let uses = [ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
        self.leaf("agent", persona.as_str(), key, &uses, validity)
    }

    /// A certificate for somebody who may look, in PEM.
    ///
    /// # Errors
    /// [`IssueError`].
    pub fn inspector(&self, name: &InspectorName, key: PublicKey, validity: Validity) -> Result<String, IssueError> {
        self.leaf("inspector", name.as_str(), key, &[ExtendedKeyUsagePurpose::ClientAuth], validity)
    }

    fn leaf(
        &self,
        what: &str,
        name: &str,
        key: PublicKey,
        uses: &[ExtendedKeyUsagePurpose],
        validity: Validity,
    ) -> Result<String, IssueError> {
        let mut params = CertificateParams::default();
        params.distinguished_name = rcgen::DistinguishedName::new();
        params.distinguished_name.push(DnType::CommonName, format!("{what} {name}"));
        let uri = format!("zeta-bft://{}/{}/{what}/{name}", self.cluster, self.node);
        params.subject_alt_names = vec![SanType::URI(uri.try_into()?)];
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = uses.to_vec();
        params.use_authority_key_identifier_extension = true;
        limit(&mut params, validity);
        let issuer = Issuer::new(self.params(), self.signer());
        Ok(params.signed_by(&Public(key), &issuer)?.pem())
    }
}

fn limit(params: &mut CertificateParams, validity: Validity) {
    let day_0 = date_time_ymd(1970, 1, 1);
    (params.not_before, params.not_after) = (day_0 + validity.from, day_0 + validity.to);
    // Of one key there are many certificates: no two have one number. 20 bytes at most, the first bit clear (RFC 5280).
    let mut serial = [0; 16];
    if getrandom::fill(&mut serial).is_ok() {
        serial[0] &= 0x7f;
        params.serial_number = Some(SerialNumber::from_slice(&serial));
    }
}

#[cfg(test)]
mod tests {
    use super::super::files::spki_of;
    use super::*;
    use rustls::pki_types::CertificateDer;
    use rustls::pki_types::pem::PemObject as _;
    use rustls::server::ParsedCertificate;

    #[test]
    fn a_certificate_carries_the_very_key_that_it_is_for_and_never_the_same_number() {
        let (ca, otto) = (SigningKey::from_seed(&[1; 32]), SigningKey::from_seed(&[2; 32]));
        let (cluster, node) = (ClusterId::new("home").unwrap(), NodeId::new("n1").unwrap());
        let authority = Authority::new(&ca, &cluster, &node);
        let made = || {
            let validity = Validity::lasting(LEAF_LIFE);
            authority.agent(&PersonaId::new("otto").unwrap(), otto.public(), validity).unwrap()
        };
        let pem = made();
        assert_ne!(pem, made());
        let der = CertificateDer::from_pem_slice(pem.as_bytes()).unwrap();
        let spki = ParsedCertificate::try_from(&der).unwrap().subject_public_key_info();
        assert_eq!(spki.as_ref(), spki_of(&otto.public()));
    }
}
