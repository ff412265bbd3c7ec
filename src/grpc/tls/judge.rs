//! Who is let in: a chain that the CA vouches for, and a key that is pinned. Both, always.

use super::files::Pins;
use super::{Holder, Wanted};
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::verify_server_cert_signed_by_trust_anchor;
use rustls::crypto::{CryptoProvider, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::server::{ParsedCertificate, WebPkiClientVerifier};
use rustls::{
    CertificateError, DigitallySignedStruct, DistinguishedName, Error, PeerIncompatible, RootCertStore, SignatureScheme,
};
use std::sync::{Arc, LazyLock};

/// Its signatures are checked by ring. Of the schemes only Ed25519 is ever needed: no other key is pinned.
pub(super) fn provider() -> Arc<CryptoProvider> {
    static PROVIDER: LazyLock<Arc<CryptoProvider>> =
        LazyLock::new(|| Arc::new(rustls::crypto::ring::default_provider()));
    Arc::clone(&PROVIDER)
}

/// Judges by the CA alone, for use as a client.
pub(super) fn client_verifier(roots: &Arc<RootCertStore>) -> Result<Arc<dyn ClientCertVerifier>, Error> {
    WebPkiClientVerifier::builder_with_provider(Arc::clone(roots), provider())
        .build()
        .map_err(|error| Error::General(error.to_string()))
}

/// Judges by CA and pins, as they were at one time.
#[derive(Debug)]
pub(super) struct Judge {
    pub(super) roots: Arc<RootCertStore>,
    pub(super) clients: Arc<dyn ClientCertVerifier>,
    pub(super) pins: Arc<Pins>,
}

impl Judge {
    /// Whose certificates these are, shown by who dialled.
    pub(super) fn client(
        &self,
        leaf: &CertificateDer<'_>,
        rest: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<&Holder, Error> {
        self.clients.verify_client_cert(leaf, rest, now)?;
        self.pinned(leaf)
    }

    /// Whose certificates these are, shown by who was dialled.
    fn server(&self, leaf: &CertificateDer<'_>, rest: &[CertificateDer<'_>], now: UnixTime) -> Result<&Holder, Error> {
        let parsed = ParsedCertificate::try_from(leaf)?;
        let algorithms = provider().signature_verification_algorithms.all;
        verify_server_cert_signed_by_trust_anchor(&parsed, &self.roots, rest, now, algorithms)?;
        self.pinned(leaf)
    }

    fn pinned(&self, leaf: &CertificateDer<'_>) -> Result<&Holder, Error> {
        let parsed = ParsedCertificate::try_from(leaf)?;
        self.pins.get(parsed.subject_public_key_info().as_ref()).ok_or(NOT_PINNED)
    }
}

const NOT_PINNED: Error = Error::InvalidCertificate(CertificateError::ApplicationVerificationFailure);

/// How clients and servers prove alike that the key is theirs: by TLS 1.3, and nothing older.
macro_rules! proof_of_the_key {
    () => {
        fn verify_tls12_signature(
            &self,
            _: &[u8],
            _: &CertificateDer<'_>,
            _: &DigitallySignedStruct,
        ) -> Result<HandshakeSignatureValid, Error> {
            Err(Error::PeerIncompatible(PeerIncompatible::Tls12NotOffered))
        }

        fn verify_tls13_signature(
            &self,
            message: &[u8],
            leaf: &CertificateDer<'_>,
            signed: &DigitallySignedStruct,
        ) -> Result<HandshakeSignatureValid, Error> {
            verify_tls13_signature(message, leaf, signed, &provider().signature_verification_algorithms)
        }

        fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
            provider().signature_verification_algorithms.supported_schemes()
        }
    };
}

/// Lets in whoever is pinned.
#[derive(Debug)]
pub(super) struct PinnedClients(pub(super) Arc<Judge>);

impl ClientCertVerifier for PinnedClients {
    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        self.0.clients.root_hint_subjects()
    }

    fn verify_client_cert(
        &self,
        leaf: &CertificateDer<'_>,
        rest: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        self.0.client(leaf, rest, now).map(|_| ClientCertVerified::assertion())
    }

    proof_of_the_key!();
}

/// Takes nobody but whom one wants. The address says nothing, and is not compared with anything.
#[derive(Debug)]
pub(super) struct PinnedServer {
    pub(super) judge: Arc<Judge>,
    pub(super) wanted: Wanted,
}

impl ServerCertVerifier for PinnedServer {
    fn verify_server_cert(
        &self,
        leaf: &CertificateDer<'_>,
        rest: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let holder = self.judge.server(leaf, rest, now)?;
        if self.wanted.is(holder) { Ok(ServerCertVerified::assertion()) } else { Err(NOT_PINNED) }
    }

    proof_of_the_key!();
}
