//! Who may answer, and as whom is asked: the pinned CA and the credential, read from files and read again when they change.
//!
//! * [`Identity::connect`] is the only way from here to a peer, and gives only one that the pinned CA vouches for: its chain
//!   ends there, its name is the address or, on loopback, `localhost`, it is within its time, and it holds its key.
//! * A peer whose certificate is all of that but past its time is no peer; yet it is known who it is. It is named in the
//!   refusal, so that an expired certificate can be told from a stranger. For that its handshake is let through to the proof of
//!   its key, and nothing is asked.
//! * Files are followed by what `stat` says of them. One that cannot be read, or makes no sense, ends the asking: never is an
//!   older CA or credential used in the place of the one that is there.

use super::stamp::{Stamp, read_bounded};
use super::{Certificate, Credential, K3sSettings, certificates};
use hyper::header::HeaderValue;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{Resumption, WebPkiServerVerifier};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::{AlertDescription, CertificateError, ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme};
use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use zeroize::Zeroizing;

/// Most bytes of a CA file, a certificate, a key or a token.
const FILE_MAX: u64 = 256 * 1024;
/// Most bytes of a token.
const TOKEN_MAX: usize = 16 * 1024;

/// The CA and the credential, as they were read at one time.
pub(super) struct Identity {
    config: Arc<ClientConfig>,
    /// What stands in `Authorization`.
    pub(super) bearer: Option<HeaderValue>,
    /// The certificates of the CA file.
    pub(super) authorities: Vec<Certificate>,
    /// Whether it shows a certificate of its own.
    has_certificate: bool,
}

/// Why there is no connection to a peer that may be asked.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Refusal {
    /// Nobody that the CA vouches for. With the certificate of one for whom it once did.
    Stranger(Option<Certificate>),
    /// The peer does not take our credential.
    Unwelcome(String),
}

impl Identity {
    /// Makes a peer of whom is at the other end.
    pub(super) async fn connect(
        &self,
        tcp: TcpStream,
        address: SocketAddr,
    ) -> Result<(TlsStream<TcpStream>, Certificate), Refusal> {
        let name = ServerName::IpAddress(address.ip().into());
        let stream = match TlsConnector::from(Arc::clone(&self.config)).connect(name, tcp).await {
            Ok(stream) => stream,
            Err(error) => {
                return Err(match self.unwelcome(&error) {
                    Some(reason) => Refusal::Unwelcome(reason),
                    None => Refusal::Stranger(None),
                });
            }
        };
        let shown = stream.get_ref().1.peer_certificates().and_then(<[_]>::first);
        let leaf = shown.and_then(|leaf| certificates::read(leaf, &format!("https://{address}")));
        match leaf {
            None => Err(Refusal::Stranger(None)),
            Some(leaf) if leaf.not_after < crate::clock::unix().as_secs() => Err(Refusal::Stranger(Some(leaf))),
            Some(leaf) => Ok((stream, leaf)),
        }
    }

    /// Whether a connection ended because the peer does not take our certificate, or the lack of one. It says so by an alert. A
    /// reset can overtake that alert: where a certificate was shown, it may be for that, and is not held against the peer.
    pub(super) fn unwelcome(&self, error: &(dyn std::error::Error + 'static)) -> Option<String> {
        let mut source = Some(error);
        while let Some(error) = source {
            if let Some(rustls::Error::AlertReceived(alert)) = error.downcast_ref() {
                return is_about_us(*alert)
                    .then(|| format!("the API server refuses our client certificate: {alert:?}"));
            }
            let io = error.downcast_ref::<io::Error>();
            let reset = [io::ErrorKind::ConnectionReset, io::ErrorKind::BrokenPipe];
            if self.has_certificate && io.is_some_and(|io| reset.contains(&io.kind())) {
                return Some("the API server hung up, perhaps over our client certificate".to_owned());
            }
            // An I/O error shows its cause only here.
            let inner = io.and_then(io::Error::get_ref).map(|inner| inner as &(dyn std::error::Error + 'static));
            source = inner.or_else(|| error.source());
        }
        None
    }
}

/// Whether a TLS alert is about the certificate of who receives it.
fn is_about_us(alert: AlertDescription) -> bool {
    use AlertDescription as Alert;
    matches!(
        alert,
        Alert::BadCertificate
            | Alert::UnsupportedCertificate
            | Alert::CertificateRevoked
            | Alert::CertificateExpired
            | Alert::CertificateUnknown
            | Alert::UnknownCA
            | Alert::AccessDenied
            | Alert::DecryptError
            | Alert::CertificateRequired
    )
}

/// Follows the files of CA and credential.
pub(super) struct Pins {
    ca: PathBuf,
    credential: Credential,
    stamps: Vec<Option<Stamp>>,
    current: Result<Arc<Identity>, String>,
}

impl Pins {
    pub(super) fn new(settings: &K3sSettings) -> Self {
        Self {
            ca: settings.ca.clone(),
            credential: settings.credential.clone(),
            stamps: Vec::new(),
            current: Err("the CA file has not been read yet".to_owned()),
        }
    }

    /// What holds now, read again if a file changed. Blocks on the file system.
    ///
    /// # Errors
    /// What is wrong, where, and what to do, for people.
    pub(super) fn refresh(&mut self) -> Result<Arc<Identity>, String> {
        // Before the reading: a file that changes meanwhile is read again.
        let stamps: Vec<_> = self.files().into_iter().map(|file| Stamp::of(file).ok()).collect();
        if self.current.is_err() || stamps != self.stamps {
            self.current = self.read().map(Arc::new);
            self.stamps = stamps;
        }
        self.current.clone()
    }

    fn files(&self) -> Vec<&Path> {
        let mut files = vec![self.ca.as_path()];
        match &self.credential {
            Credential::Nobody => {}
            Credential::Token { file } => files.push(file),
            Credential::Certificate { certificate, key } => files.extend([certificate.as_path(), key]),
        }
        files
    }

    fn read(&self) -> Result<Identity, String> {
        let ca = bytes(&self.ca)?;
        let mut roots = RootCertStore::empty();
        for root in sections::<CertificateDer<'_>>(&ca, &self.ca)? {
            roots.add(root).map_err(|error| wrong(&self.ca, &error))?;
        }
        if roots.is_empty() {
            return Err(wrong(&self.ca, &"it holds no certificate"));
        }
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let webpki = WebPkiServerVerifier::builder_with_provider(Arc::new(roots), Arc::clone(&provider)).build();
        let vouched = Vouched(webpki.map_err(|error| wrong(&self.ca, &error))?);
        let builder = ClientConfig::builder_with_provider(provider)
            .with_protocol_versions(&[&rustls::version::TLS13, &rustls::version::TLS12])
            .map_err(|error| wrong(&self.ca, &error))?
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(vouched));
        let mut bearer = None;
        let mut config = match &self.credential {
            Credential::Nobody => builder.with_no_client_auth(),
            Credential::Token { file } => {
                bearer = Some(token(file)?);
                builder.with_no_client_auth()
            }
            Credential::Certificate { certificate, key } => {
                let chain = sections(&bytes(certificate)?, certificate)?;
                let secret = PrivateKeyDer::from_pem_slice(&bytes(key)?).map_err(|error| wrong(key, &error))?;
                builder.with_client_auth_cert(chain, secret).map_err(|error| wrong(certificate, &error))?
            }
        };
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        // A resumed session would be vouched for by an older look at the certificate.
        config.resumption = Resumption::disabled();
        let authorities = certificates::read_pem(&ca, &self.ca.display().to_string());
        let has_certificate = matches!(self.credential, Credential::Certificate { .. });
        Ok(Identity { config: Arc::new(config), bearer, authorities, has_certificate })
    }
}

fn wrong(path: &Path, error: &dyn std::fmt::Display) -> String {
    format!("{}: {error}; check that the observer may read it and that it holds PEM", path.display())
}

fn bytes(path: &Path) -> Result<Zeroizing<Vec<u8>>, String> {
    read_bounded(path, FILE_MAX).map(Zeroizing::new).map_err(|error| wrong(path, &error))
}

fn sections<'a, T: rustls::pki_types::pem::PemObject + 'a>(pem: &'a [u8], path: &Path) -> Result<Vec<T>, String> {
    T::pem_slice_iter(pem).collect::<Result<_, _>>().map_err(|error| wrong(path, &error))
}

fn token(path: &Path) -> Result<HeaderValue, String> {
    let bytes = bytes(path)?;
    let text = bytes.trim_ascii();
    if text.is_empty() || text.len() > TOKEN_MAX || !text.iter().all(u8::is_ascii_graphic) {
        return Err(format!("{}: a token is one line of 1 to {TOKEN_MAX} visible characters", path.display()));
    }
    let line = Zeroizing::new([b"Bearer ".as_slice(), text].concat());
    let mut value = HeaderValue::from_bytes(&line).map_err(|error| wrong(path, &error))?;
    value.set_sensitive(true);
    Ok(value)
}

/// Vouches by the pinned CA alone, at the address or as `localhost`.
///
/// It lets a certificate through that is past its time and all right otherwise, so that its holder proves that it is theirs:
/// [`Identity::connect`] then refuses it. The type does not leave this module for that reason.
#[derive(Debug)]
struct Vouched(Arc<WebPkiServerVerifier>);

impl ServerCertVerifier for Vouched {
    fn verify_server_cert(
        &self,
        leaf: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        name: &ServerName<'_>,
        ocsp: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        let at = |now| match self.0.verify_server_cert(leaf, intermediates, name, ocsp, now) {
            Err(rustls::Error::InvalidCertificate(
                error @ (CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. }),
            )) if is_loopback(name) => {
                let localhost = ServerName::try_from("localhost").expect("`localhost` is a host name");
                let judged = self.0.verify_server_cert(leaf, intermediates, &localhost, ocsp, now);
                judged.map_err(|_| rustls::Error::InvalidCertificate(error))
            }
            judged => judged,
        };
        match at(now) {
            Err(
                expired @ rustls::Error::InvalidCertificate(
                    CertificateError::Expired | CertificateError::ExpiredContext { .. },
                ),
            ) => {
                let end =
                    certificates::read(leaf, "").map(|leaf| Duration::from_secs(leaf.not_after)).ok_or(expired)?;
                at(UnixTime::since_unix_epoch(end))
            }
            judged => judged,
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        leaf: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.0.verify_tls12_signature(message, leaf, signature)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        leaf: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.0.verify_tls13_signature(message, leaf, signature)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.supported_verify_schemes()
    }
}

fn is_loopback(name: &ServerName<'_>) -> bool {
    matches!(name, ServerName::IpAddress(ip) if std::net::IpAddr::from(*ip).is_loopback())
}
