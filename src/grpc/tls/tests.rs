//! Who is let in, who is not and why, and what follows the files: over real TCP on loopback.

mod crowds;

use super::issue::{Authority, CA_LIFE, LEAF_LIFE, Validity};
use super::{ConnectError, Holder, Identity, InspectorName, Outcome, Place, TcpServer, Wanted, holder, serve};
use crate::clock;
use crate::config::default_up_toml;
use crate::config::paths::Paths;
use crate::keys;
use crate::protocol::signing::SigningKey;
use crate::protocol::types::{ClusterId, NodeId, PersonaId};
use crate::setup::{self, succession};
use crate::wire::v1;
use crate::wire::v1::wrapper_service_client::WrapperServiceClient;
use crate::wire::v1::wrapper_service_server::{SERVICE_NAME, WrapperService, WrapperServiceServer};
use rustls::ClientConfig;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer, ServerName, UnixTime};
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::sync::mpsc;
use tonic::service::Routes;
use tonic::transport::Channel;
use tonic::{Request, Response, Status, Streaming};

const PATIENCE: Duration = Duration::from_secs(20);

fn persona(name: &str) -> PersonaId {
    PersonaId::new(name).unwrap()
}

fn inspector(name: &str) -> Holder {
    Holder::Inspector(InspectorName::new(name).unwrap())
}

/// A node in a folder, with a CA.
struct Node {
    _dir: tempfile::TempDir,
    paths: Paths,
    ca: SigningKey,
}

impl Node {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let paths = Paths::below(dir.path());
        setup::initialise(&paths, &default_up_toml(false)).unwrap();
        let node = Self { _dir: dir, paths, ca: keys::generate() };
        std::fs::create_dir_all(node.paths.tls_inspectors()).unwrap();
        let authority =
            node.signed_by(&node.ca, |authority| authority.certificate(Validity::lasting(CA_LIFE)).unwrap());
        std::fs::write(node.paths.tls_ca(), authority).unwrap();
        for name in ["lior", "otto", "vera"] {
            node.certify(name, &node.ca, Validity::lasting(LEAF_LIFE));
        }
        node
    }

    fn signed_by<T>(&self, ca: &SigningKey, make: impl FnOnce(&Authority<'_>) -> T) -> T {
        // As in `default_up_toml`.
        make(&Authority::new(ca, &ClusterId::new("local").unwrap(), &NodeId::new("local").unwrap()))
    }

    fn key(&self, name: &str) -> SigningKey {
        keys::load(&self.paths.persona_key(&persona(name))).unwrap()
    }

    fn certificate(&self, name: &str, ca: &SigningKey, validity: Validity) -> String {
        let key = self.key(name).public();
        self.signed_by(ca, |authority| authority.agent(&persona(name), key, validity).unwrap())
    }

    fn certify(&self, name: &str, ca: &SigningKey, validity: Validity) {
        replace(&self.paths.tls_certificate(name), &self.certificate(name, ca, validity));
    }

    /// A key of somebody who may look, with its certificate; pinned here if `pinned`.
    fn inspector(&self, name: &str, pinned: bool) -> (SigningKey, String) {
        let key = keys::generate();
        let name = InspectorName::new(name).unwrap();
        let validity = Validity::lasting(LEAF_LIFE);
        let pem = self.signed_by(&self.ca, |authority| authority.inspector(&name, key.public(), validity).unwrap());
        if pinned {
            replace(&self.paths.tls_inspectors().join(format!("{name}.crt")), &pem);
        }
        (key, pem)
    }

    fn identity(&self, name: &str) -> Identity {
        let identity = Identity::new(Place::of_agent(&self.paths, &persona(name)), &self.key(name)).unwrap();
        tokio::spawn(identity.clone().follow(|_| {}));
        identity
    }

    async fn serve(&self, name: &str) -> Served {
        let (seen, outcomes) = mpsc::unbounded_channel();
        let calls = Arc::new(AtomicU32::new(0));
        let routes = Routes::new(WrapperServiceServer::new(Counter(Arc::clone(&calls))));
        let tell = move |outcome| {
            let _ = seen.send(outcome);
        };
        let any = SocketAddr::from(([127, 0, 0, 1], 0));
        let server = serve(any, &[SERVICE_NAME], routes, self.identity(name), tell).unwrap();
        let address = server.address().await.unwrap();
        Served { server, address, outcomes, calls }
    }
}

/// As an operator does who does it well.
fn replace(path: &Path, text: &str) {
    crate::files::replace(path, text.as_bytes(), 0o644).unwrap();
}

const fn past() -> Validity {
    let hour = 3600;
    Validity { from: Duration::from_secs(hour), to: Duration::from_secs(2 * hour) }
}

/// Counts calls, and says who called.
struct Counter(Arc<AtomicU32>);

#[tonic::async_trait]
impl WrapperService for Counter {
    type PingStream = tokio_stream::Pending<Result<v1::PingResponse, Status>>;

    async fn ping(&self, _: Request<Streaming<v1::PingRequest>>) -> Result<Response<Self::PingStream>, Status> {
        Err(Status::unimplemented("nobody pings here"))
    }

    async fn ticks(&self, request: Request<v1::TicksRequest>) -> Result<Response<v1::TicksResponse>, Status> {
        self.0.fetch_add(1, Ordering::Relaxed);
        let from = holder(&request).ok_or_else(|| Status::unauthenticated("nobody"))?;
        assert!(crate::grpc::server::peer(&request).is_err(), "a holder is no process of this node");
        let begun = if *from == Holder::Agent(persona("lior")) { 1 } else { 2 };
        Ok(Response::new(v1::TicksResponse { begun, ..Default::default() }))
    }
}

struct Served {
    server: TcpServer,
    address: SocketAddr,
    outcomes: mpsc::UnboundedReceiver<Outcome>,
    calls: Arc<AtomicU32>,
}

impl Served {
    /// How the next handshake ended here.
    async fn outcome(&mut self) -> Outcome {
        tokio::time::timeout(PATIENCE, self.outcomes.recv()).await.expect("a handshake ends").unwrap()
    }

    /// A client is refused for a reason, and nothing that it says is heard.
    async fn refuses(&mut self, config: ClientConfig, wanted: Outcome) {
        let heard = self.calls.load(Ordering::Relaxed);
        let tcp = TcpStream::connect(self.address).await.unwrap();
        let name = ServerName::try_from("localhost").unwrap();
        if let Ok(mut stream) = tokio_rustls::TlsConnector::from(Arc::new(config)).connect(name, tcp).await {
            // The client's half of TLS 1.3 ends before it hears what the other end thinks of it.
            let _ = stream.write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n").await;
            let mut answer = Vec::new();
            let read = tokio::time::timeout(PATIENCE, stream.read_to_end(&mut answer)).await.expect("it hangs up");
            assert!(read.is_err() || answer.is_empty(), "a stranger hears {answer:?}");
        }
        assert_eq!(self.outcome().await, wanted);
        assert_eq!(self.calls.load(Ordering::Relaxed), heard);
    }
}

async fn call(channel: &Channel) -> Result<u64, Status> {
    let mut client = WrapperServiceClient::new(channel.clone());
    client.ticks(v1::TicksRequest {}).await.map(|answer| answer.into_inner().begun)
}

async fn until(what: &str, mut holds: impl AsyncFnMut() -> bool) {
    let wait = async {
        while !holds().await {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(PATIENCE, wait).await.unwrap_or_else(|_| panic!("it never came to this: {what}"));
}

/// Believes whoever answers: what is judged here is the other end.
#[derive(Debug)]
struct Credulous;

impl ServerCertVerifier for Credulous {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }
    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &rustls::DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }
    fn verify_tls13_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &rustls::DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }
    fn supported_verify_schemes(&self) -> Vec<rustls::SignatureScheme> {
        rustls::crypto::ring::default_provider().signature_verification_algorithms.supported_schemes()
    }
}

/// A client that shows what it is given. `None`: nothing.
fn client(shown: Option<(&SigningKey, &str)>, versions: &[&'static rustls::SupportedProtocolVersion]) -> ClientConfig {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = ClientConfig::builder_with_provider(provider).with_protocol_versions(versions).unwrap();
    let builder = builder.dangerous().with_custom_certificate_verifier(Arc::new(Credulous));
    let mut config = match shown {
        None => builder.with_no_client_auth(),
        Some((key, pem)) => {
            let chain = vec![CertificateDer::from_pem_slice(pem.as_bytes()).unwrap()];
            let pkcs8 =
                [&data_encoding::HEXLOWER.decode(b"302e020100300506032b657004220420").unwrap()[..], &*key.seed()];
            let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(pkcs8.concat()));
            builder.with_client_auth_cert(chain, key).unwrap()
        }
    };
    config.alpn_protocols = vec![b"h2".to_vec()];
    config
}

const ONLY_13: &[&rustls::SupportedProtocolVersion] = &[&rustls::version::TLS13];

#[tokio::test]
async fn both_ends_of_the_roster_know_each_other_by_certificate() {
    let node = Node::new();
    let mut otto = node.serve("otto").await;
    let (channel, who) = node.identity("lior").connect(otto.address, Wanted::Agent(persona("otto"))).await.unwrap();
    assert_eq!(who, Holder::Agent(persona("otto")));
    assert_eq!(call(&channel).await.unwrap(), 1);
    assert_eq!(otto.outcome().await, Outcome::Welcome);
    otto.server.stop().await;
    assert!(call(&channel).await.is_err(), "a stopped server answers nobody");
}

#[tokio::test]
async fn who_shows_no_certificate_is_refused_in_the_handshake() {
    let node = Node::new();
    node.serve("otto").await.refuses(client(None, ONLY_13), Outcome::NoCertificate).await;
}

#[tokio::test]
async fn a_certificate_that_has_ended_is_refused_in_the_handshake() {
    let node = Node::new();
    let pem = node.certificate("lior", &node.ca, past());
    let shown = client(Some((&node.key("lior"), &pem)), ONLY_13);
    node.serve("otto").await.refuses(shown, Outcome::OutOfTime).await;
}

#[tokio::test]
async fn another_ca_makes_no_guardian_even_with_the_personas_own_key() {
    let node = Node::new();
    let pem = node.certificate("lior", &keys::generate(), Validity::lasting(LEAF_LIFE));
    let shown = client(Some((&node.key("lior"), &pem)), ONLY_13);
    node.serve("otto").await.refuses(shown, Outcome::NotVouched).await;
}

#[tokio::test]
async fn the_ca_alone_makes_neither_guardian_nor_inspector() {
    let node = Node::new();
    let mut otto = node.serve("otto").await;
    let key = keys::generate();
    let forged = node.signed_by(&node.ca, |authority| {
        authority.agent(&persona("lior"), key.public(), Validity::lasting(LEAF_LIFE)).unwrap()
    });
    otto.refuses(client(Some((&key, &forged)), ONLY_13), Outcome::NotPinned).await;
    let (key, unpinned) = node.inspector("laptop", false);
    otto.refuses(client(Some((&key, &unpinned)), ONLY_13), Outcome::NotPinned).await;
}

#[tokio::test]
async fn a_certificate_without_its_key_opens_nothing() {
    let node = Node::new();
    let liors = node.certificate("lior", &node.ca, Validity::lasting(LEAF_LIFE));
    let ottos_key = node.key("otto");
    // rustls refuses to show such a pair unless it is forced to.
    let shown = {
        let pkcs8 =
            [&data_encoding::HEXLOWER.decode(b"302e020100300506032b657004220420").unwrap()[..], &*ottos_key.seed()];
        let key = rustls::crypto::ring::sign::any_eddsa_type(&PrivatePkcs8KeyDer::from(pkcs8.concat())).unwrap();
        let chain = vec![CertificateDer::from_pem_slice(liors.as_bytes()).unwrap()];
        let pair = rustls::sign::SingleCertAndKey::from(rustls::sign::CertifiedKey::new(chain, key));
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        ClientConfig::builder_with_provider(provider)
            .with_protocol_versions(ONLY_13)
            .unwrap()
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(Credulous))
            .with_client_cert_resolver(Arc::new(pair))
    };
    node.serve("vera").await.refuses(shown, Outcome::NotVouched).await;
}

#[tokio::test]
async fn an_older_tls_and_plain_text_are_refused() {
    let node = Node::new();
    let mut otto = node.serve("otto").await;
    let pem = node.certificate("lior", &node.ca, Validity::lasting(LEAF_LIFE));
    otto.refuses(client(Some((&node.key("lior"), &pem)), &[&rustls::version::TLS12]), Outcome::OldVersion).await;

    let mut plain = TcpStream::connect(otto.address).await.unwrap();
    plain.write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n").await.unwrap();
    assert_eq!(otto.outcome().await, Outcome::NotTls);
    let mut answer = Vec::new();
    let _ = plain.read_to_end(&mut answer).await;
    assert!(answer.len() < 16 && !answer.starts_with(b"HTTP"), "no more than an alert: {answer:?}");
    assert_eq!(otto.calls.load(Ordering::Relaxed), 0);
}

#[tokio::test]
async fn who_dials_takes_nobody_but_whom_it_wants() {
    let node = Node::new();
    let vera = node.serve("vera").await;
    let lior = node.identity("lior");
    let error = lior.connect(vera.address, Wanted::Agent(persona("otto"))).await.unwrap_err();
    assert!(matches!(error, ConnectError::NotTrusted { .. }), "{error}");
    lior.connect(vera.address, Wanted::AnyAgent).await.unwrap();

    // Nor another node's otto.
    let other = Node::new().serve("otto").await;
    let error = lior.connect(other.address, Wanted::Agent(persona("otto"))).await.unwrap_err();
    assert!(matches!(error, ConnectError::NotTrusted { .. }), "{error}");
}

#[tokio::test]
async fn a_renewed_certificate_counts_without_a_restart_and_an_ended_one_is_cut() {
    let node = Node::new();
    let otto = node.serve("otto").await;
    let lior = node.identity("lior");
    let wanted = || Wanted::Agent(persona("otto"));
    let now = clock::unix();
    let brief = Validity { from: now - Duration::from_secs(60), to: now + Duration::from_secs(8) };
    node.certify("otto", &node.ca, brief);
    until("otto's certificate is about to end", async || {
        otto.server.certificate_end().is_some_and(|end| end <= brief.to.as_secs())
    })
    .await;
    let (channel, _) = lior.connect(otto.address, wanted()).await.unwrap();
    call(&channel).await.unwrap();
    until("it ends", async || lior.connect(otto.address, wanted()).await.is_err()).await;
    until("what was open is cut", async || call(&channel).await.is_err()).await;
    node.certify("otto", &node.ca, Validity::lasting(LEAF_LIFE));
    until("the renewed one counts", async || match lior.connect(otto.address, wanted()).await {
        Ok((channel, _)) => call(&channel).await.is_ok(),
        Err(_) => false,
    })
    .await;
}

#[tokio::test]
async fn an_inspector_that_is_taken_away_is_cut_and_refused_without_a_restart() {
    let node = Node::new();
    let folder = tempfile::tempdir().unwrap();
    let laptop = looks(&node, folder.path(), &node.inspector("laptop", true));
    let mut otto = node.serve("otto").await;
    let (channel, who) = laptop.connect(otto.address, Wanted::AnyAgent).await.unwrap();
    assert_eq!((who, call(&channel).await.unwrap()), (Holder::Agent(persona("otto")), 2));
    assert_eq!(otto.outcome().await, Outcome::Welcome);
    std::fs::remove_file(node.paths.tls_inspectors().join("laptop.crt")).unwrap();
    until("the open connection is cut", async || call(&channel).await.is_err()).await;
    let error = laptop.connect(otto.address, Wanted::AnyAgent).await.unwrap_err();
    assert!(matches!(error, ConnectError::Unwelcome { alert: rustls::AlertDescription::AccessDenied, .. }), "{error}");
    assert_eq!(otto.outcome().await, Outcome::NotPinned);
}

#[tokio::test]
async fn a_key_that_leaves_the_roster_is_cut_and_refused_without_a_restart() {
    let node = Node::new();
    let mut otto = node.serve("otto").await;
    let lior = node.identity("lior");
    let (channel, _) = lior.connect(otto.address, Wanted::Agent(persona("otto"))).await.unwrap();
    call(&channel).await.unwrap();
    assert_eq!(otto.outcome().await, Outcome::Welcome);
    // Lior's key is stolen: the operator signs the next roster with a new one.
    let (stolen, pem) = (node.key("lior"), node.certificate("lior", &node.ca, Validity::lasting(LEAF_LIFE)));
    std::fs::remove_file(node.paths.persona_key(&persona("lior"))).unwrap();
    keys::save(&node.paths.persona_key(&persona("lior")), &keys::generate()).unwrap();
    let settings = crate::config::load(&node.paths).unwrap();
    succession::sign_next(&settings, &keys::load(&node.paths.operator_key()).unwrap(), false).unwrap();
    until("the open connection is cut", async || call(&channel).await.is_err()).await;
    otto.refuses(client(Some((&stolen, &pem)), ONLY_13), Outcome::NotPinned).await;
    // With its new key and a certificate for it, it is back.
    node.certify("lior", &node.ca, Validity::lasting(LEAF_LIFE));
    let lior = node.identity("lior");
    let (channel, _) = lior.connect(otto.address, Wanted::Agent(persona("otto"))).await.unwrap();
    call(&channel).await.unwrap();
}

#[tokio::test]
async fn while_the_files_make_no_sense_nobody_is_let_in_and_nobody_dialled() {
    let node = Node::new();
    let pem = node.certificate("lior", &node.ca, Validity::lasting(LEAF_LIFE));
    let mut otto = node.serve("otto").await;
    let good = std::fs::read_to_string(node.paths.tls_certificate("otto")).unwrap();
    for bad in ["", "nonsense", &node.certificate("vera", &node.ca, Validity::lasting(LEAF_LIFE))] {
        replace(&node.paths.tls_certificate("otto"), bad);
        let identity = node.identity("otto");
        let error = identity.connect(otto.address, Wanted::AnyAgent).await.unwrap_err();
        assert!(matches!(error, ConnectError::Unable), "{error}");
        until("it is noticed", async || otto.server.certificate_end().is_none()).await;
        otto.refuses(client(Some((&node.key("lior"), &pem)), ONLY_13), Outcome::Unable).await;
        replace(&node.paths.tls_certificate("otto"), &good);
        until("it is mended", async || otto.server.certificate_end().is_some()).await;
    }
    node.identity("lior").connect(otto.address, Wanted::AnyAgent).await.unwrap();
}

/// An inspector that looks from a folder of its own.
fn looks(node: &Node, folder: &Path, (key, pem): &(SigningKey, String)) -> Identity {
    std::fs::create_dir_all(folder).unwrap();
    std::fs::write(folder.join("inspector.crt"), pem).unwrap();
    for (from, to) in [(node.paths.tls_ca(), "ca.crt"), (node.paths.roster(), "roster")] {
        std::fs::copy(from, folder.join(to)).unwrap();
    }
    Identity::new(Place::of_inspector(folder), key).unwrap()
}

#[tokio::test]
async fn an_emptied_pin_cuts_its_holder_and_nobody_else() {
    let node = Node::new();
    let (pins, folder) = (node.paths.tls_inspectors(), tempfile::tempdir().unwrap());
    let [alice, bob] =
        ["alice", "bob"].map(|name| looks(&node, &folder.path().join(name), &node.inspector(name, true)));
    let (otto, lior) = (node.serve("otto").await, node.identity("lior"));
    let connect =
        async |from: &Identity| from.connect(otto.address, Wanted::AnyAgent).await.map(|(channel, _)| channel);
    let (of_alice, of_bob) = (connect(&alice).await.unwrap(), connect(&bob).await.unwrap());
    let of_lior = connect(&lior).await.unwrap();
    std::fs::write(pins.join("bob.crt"), "").unwrap();
    until("bob is cut", async || call(&of_bob).await.is_err()).await;
    assert!(matches!(connect(&bob).await, Err(ConnectError::Unwelcome { .. })), "bob is refused");
    call(&of_alice).await.unwrap();
    call(&of_lior).await.unwrap();
    call(&connect(&lior).await.unwrap()).await.unwrap();
    call(&connect(&alice).await.unwrap()).await.unwrap();
    // Names of nobody, a key that names an agent, and what is no file say nothing of others either.
    std::fs::copy(node.paths.tls_certificate("lior"), pins.join("eve.crt")).unwrap();
    std::fs::write(pins.join("A B.crt"), node.inspector("mallory", false).1).unwrap();
    std::fs::create_dir(pins.join("folder.crt")).unwrap();
    std::fs::remove_file(pins.join("alice.crt")).unwrap();
    until("alice is cut", async || call(&of_alice).await.is_err()).await;
    assert!(matches!(connect(&alice).await, Err(ConnectError::Unwelcome { .. })), "alice is refused");
    call(&of_lior).await.unwrap();
    assert_eq!(call(&connect(&lior).await.unwrap()).await.unwrap(), 1, "its key still names lior");
}

#[tokio::test]
async fn what_has_ended_is_cut_also_while_a_file_makes_no_sense() {
    let node = Node::new();
    let otto = node.serve("otto").await;
    let now = clock::unix();
    node.certify("lior", &node.ca, Validity { from: now - Duration::from_secs(60), to: now + Duration::from_secs(5) });
    let (channel, _) = node.identity("lior").connect(otto.address, Wanted::AnyAgent).await.unwrap();
    replace(&node.paths.tls_certificate("otto"), "nonsense");
    until("it is noticed", async || otto.server.certificate_end().is_none()).await;
    call(&channel).await.unwrap();
    until("what ended is cut", async || call(&channel).await.is_err()).await;
}

#[test]
fn names_of_inspectors_are_file_names_and_nothing_else() {
    for bad in ["", "../otto", "a/b", "A", ".x", &"x".repeat(65)] {
        assert!(InspectorName::new(bad).is_err(), "{bad:?}");
    }
    assert_eq!(inspector("laptop").to_string(), "inspector laptop");
}
