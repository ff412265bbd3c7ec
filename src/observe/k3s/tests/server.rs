//! Servers on loopback that do what a script says.

use super::authority::{Authority, Leaf};
use rustls::ServerConfig;
use rustls::server::WebPkiClientVerifier;
use rustls::sign::{CertifiedKey, SingleCertAndKey};
use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;
use tokio_rustls::TlsAcceptor;

/// What is done with one request.
#[derive(Clone)]
pub enum Reply {
    /// These bytes, and then the next request.
    Say(Vec<u8>),
    /// These bytes, after so long.
    SayLate(Duration, Vec<u8>),
    /// These bytes, and then the connection is closed without a word.
    SayAndClose(Vec<u8>),
    /// The first at once, the second one byte at a time, ever slowly.
    Drip(Vec<u8>, Vec<u8>),
    /// The first, and then the second again and again.
    Endless(Vec<u8>, Vec<u8>),
    /// Nothing, for ever.
    Silence,
}

/// A whole answer that the connection outlives.
pub fn answer(code: u16, body: &str) -> Reply {
    Reply::Say(format!("HTTP/1.1 {code} X\r\nContent-Length: {}\r\n\r\n{body}", body.len()).into_bytes())
}

type Script = Arc<dyn Fn(&str) -> Reply + Send + Sync>;

pub struct Server {
    pub address: SocketAddr,
    accepts: Arc<AtomicUsize>,
    requests: Arc<Mutex<Vec<String>>>,
    task: JoinHandle<()>,
}

impl Drop for Server {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// A configuration that shows one certificate.
pub fn config(leaf: &Leaf) -> ServerConfig {
    builder().with_no_client_auth().with_single_cert(leaf.chain.clone(), leaf.key()).unwrap()
}

/// One that speaks TLS 1.2 and nothing later.
pub fn config_of_old(leaf: &Leaf) -> ServerConfig {
    ServerConfig::builder_with_provider(provider())
        .with_protocol_versions(&[&rustls::version::TLS12])
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(leaf.chain.clone(), leaf.key())
        .unwrap()
}

/// One that wants a client certificate of an authority.
pub fn config_for_clients(leaf: &Leaf, of: &Authority) -> ServerConfig {
    let mut roots = rustls::RootCertStore::empty();
    roots.add(of.der.clone().into()).unwrap();
    let clients = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider()).build().unwrap();
    builder().with_client_cert_verifier(clients).with_single_cert(leaf.chain.clone(), leaf.key()).unwrap()
}

/// One that shows a certificate whose key it does not have.
pub fn config_with_stolen(chain: &Leaf, key: &Leaf) -> ServerConfig {
    let key = provider().key_provider.load_private_key(key.key()).unwrap();
    let shown = SingleCertAndKey::from(CertifiedKey::new(chain.chain.clone(), key));
    builder().with_no_client_auth().with_cert_resolver(Arc::new(shown))
}

fn provider() -> Arc<rustls::crypto::CryptoProvider> {
    Arc::new(rustls::crypto::ring::default_provider())
}

fn builder() -> rustls::ConfigBuilder<ServerConfig, rustls::WantsVerifier> {
    ServerConfig::builder_with_provider(provider()).with_safe_default_protocol_versions().unwrap()
}

impl Server {
    pub async fn tls(leaf: &Leaf, script: impl Fn(&str) -> Reply + Send + Sync + 'static) -> Self {
        Self::configured(config(leaf), script).await
    }

    pub async fn configured(config: ServerConfig, script: impl Fn(&str) -> Reply + Send + Sync + 'static) -> Self {
        Self::start(Some(TlsAcceptor::from(Arc::new(config))), None, Arc::new(script)).await
    }

    pub async fn plain(script: impl Fn(&str) -> Reply + Send + Sync + 'static) -> Self {
        Self::start(None, None, Arc::new(script)).await
    }

    /// Says something to everybody before it is asked, and closes if `None`.
    pub async fn shouting(words: Option<&'static [u8]>) -> Self {
        Self::start(None, Some(words), Arc::new(|_: &str| Reply::Silence)).await
    }

    async fn start(tls: Option<TlsAcceptor>, shout: Option<Option<&'static [u8]>>, script: Script) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (accepts, requests) = (Arc::<AtomicUsize>::default(), Arc::<Mutex<Vec<String>>>::default());
        let (counted, kept) = (Arc::clone(&accepts), Arc::clone(&requests));
        let task = tokio::spawn(async move {
            // They end with the server.
            let mut serving = tokio::task::JoinSet::new();
            loop {
                let (mut tcp, _) = listener.accept().await.unwrap();
                counted.fetch_add(1, Ordering::SeqCst);
                let (tls, script, kept) = (tls.clone(), Arc::clone(&script), Arc::clone(&kept));
                serving.spawn(async move {
                    match (tls, shout) {
                        (Some(tls), _) => {
                            if let Ok(stream) = tls.accept(tcp).await {
                                serve(stream, script, kept).await;
                            }
                        }
                        (None, Some(None)) => drop(tcp),
                        (None, Some(Some(words))) => {
                            let _ = tcp.write_all(words).await;
                            read_on(tcp).await;
                        }
                        (None, None) => serve(tcp, script, kept).await,
                    }
                });
            }
        });
        Self { address, accepts, requests, task }
    }

    pub fn accepts(&self) -> usize {
        self.accepts.load(Ordering::SeqCst)
    }

    pub fn requests(&self) -> Vec<String> {
        self.requests.lock().unwrap().clone()
    }
}

async fn read_on(mut tcp: TcpStream) {
    let mut buffer = [0; 1024];
    while matches!(tcp.read(&mut buffer).await, Ok(1..)) {}
}

async fn serve(mut stream: impl AsyncRead + AsyncWrite + Unpin, script: Script, kept: Arc<Mutex<Vec<String>>>) {
    loop {
        let mut request = Vec::new();
        while !request.ends_with(b"\r\n\r\n") {
            let Ok(byte) = stream.read_u8().await else { return };
            request.push(byte);
        }
        let request = String::from_utf8(request).unwrap();
        kept.lock().unwrap().push(request.clone());
        if follow(&mut stream, script(&request)).await.is_err() {
            return;
        }
    }
}

async fn follow(stream: &mut (impl AsyncWrite + Unpin), reply: Reply) -> std::io::Result<()> {
    match reply {
        Reply::Say(bytes) => {
            stream.write_all(&bytes).await?;
            stream.flush().await
        }
        Reply::SayLate(after, bytes) => {
            tokio::time::sleep(after).await;
            stream.write_all(&bytes).await?;
            stream.flush().await
        }
        Reply::SayAndClose(bytes) => {
            stream.write_all(&bytes).await?;
            stream.flush().await?;
            Err(std::io::ErrorKind::ConnectionAborted.into())
        }
        Reply::Drip(first, then) => {
            stream.write_all(&first).await?;
            for byte in then {
                stream.write_all(&[byte]).await?;
                stream.flush().await?;
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
            std::future::pending().await
        }
        Reply::Endless(first, then) => {
            stream.write_all(&first).await?;
            loop {
                stream.write_all(&then).await?;
            }
        }
        Reply::Silence => std::future::pending().await,
    }
}
