//! One end: its key, its files as they stand, and how it judges others.

use super::files::{Files, Material, MaterialError, Place};
use super::judge::{Judge, PinnedClients, PinnedServer, client_verifier, provider};
use super::{ALPN, Holder, LOOK_EVERY, Wanted};
use crate::protocol::signing::SigningKey;
use crate::protocol::types::PublicKey;
use rustls::client::Resumption;
use rustls::pki_types::{CertificateDer, PrivatePkcs8KeyDer, UnixTime};
use rustls::server::NoServerSessionStorage;
use rustls::sign::{CertifiedKey, SingleCertAndKey};
use rustls::{ClientConfig, Error, ServerConfig};
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use tokio::sync::watch;
use tracing::{error, info, warn};
use zeroize::Zeroizing;

/// What stands before the seed of an Ed25519 key in PKCS#8 version 1 (RFC 8410).
const ED25519_PKCS8: [u8; 16] =
    [0x30, 0x2e, 0x02, 0x01, 0x00, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x04, 0x22, 0x04, 0x20];

/// The key cannot be used for TLS. It never happens to a key that was made from a seed.
#[derive(Debug, thiserror::Error)]
#[error("the key cannot be used for TLS: {0}")]
pub struct BadKey(#[source] Error);

/// One end of TLS connections. Clones share what was read.
#[derive(Clone, Debug)]
pub struct Identity {
    place: Arc<Place>,
    key: Arc<dyn rustls::sign::SigningKey>,
    public: PublicKey,
    /// What was read last, or why nothing was.
    last: Arc<Mutex<Option<Result<Files, String>>>>,
    stood: watch::Sender<Stood>,
}

impl Identity {
    /// Reads the files once. [`Identity::follow`] goes on from there. Blocks on the file system.
    ///
    /// # Errors
    /// [`BadKey`]. Files that make no sense are no error, but said: nobody is let in until they do.
    pub fn new(place: Place, key: &SigningKey) -> Result<Self, BadKey> {
        let pkcs8 = Zeroizing::new([ED25519_PKCS8.as_slice(), key.seed().as_slice()].concat());
        let private = PrivatePkcs8KeyDer::from(pkcs8.as_slice());
        let identity = Self {
            place: Arc::new(place),
            key: rustls::crypto::ring::sign::any_eddsa_type(&private).map_err(BadKey)?,
            public: key.public(),
            last: Arc::default(),
            stood: watch::Sender::default(),
        };
        identity.take(Files::read(&identity.place));
        Ok(identity)
    }

    /// Follows the files for ever. `seen` is told of whatever holds, after every look.
    pub async fn follow(self, mut seen: impl FnMut(Option<&Material>)) {
        loop {
            seen(self.standing().as_deref().map(|standing| &standing.material));
            tokio::time::sleep(LOOK_EVERY).await;
            let place = Arc::clone(&self.place);
            // A disk that does not answer must not hold up the guardian.
            if let Ok(read) = tokio::task::spawn_blocking(move || Files::read(&place)).await {
                self.take(read);
            }
        }
    }

    /// What the other ends of connections are judged by from now on, if anything changed.
    fn take(&self, read: Result<Files, MaterialError>) {
        let read = read.map_err(|error| error.to_string());
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        if last.as_ref() == Some(&read) {
            return;
        }
        let made = read.as_ref().map_err(Clone::clone).and_then(|files| self.stand(files));
        match &made {
            Ok(standing) => {
                info!(
                    ends = standing.material.own_end(),
                    pinned = standing.material.holders().count(),
                    "certificates read"
                );
            }
            Err(error) => {
                error!(%error, "nobody is let in over TCP, and nobody dialled, until this is mended: see `zeta-bft doctor`")
            }
        }
        for error in made.iter().flat_map(|standing| standing.material.pins_nobody()) {
            let file = error.path().unwrap_or(Path::new("it")).display();
            warn!(%error, "an inspector's file pins nobody, all else goes on: `rm {file}`, or `zeta-bft certify --inspector`");
        }
        self.stood.send_modify(|stood| {
            stood.now = made.ok().map(Arc::new);
            if stood.now.is_some() {
                stood.last.clone_from(&stood.now);
            }
        });
        *last = Some(read);
    }

    fn stand(&self, files: &Files) -> Result<Standing, String> {
        let material = Material::of(files, &self.place).map_err(|error| error.to_string())?;
        material.check_own(&self.public, &self.place).map_err(|error| error.to_string())?;
        Standing::new(material, &self.key).map_err(|error| error.to_string())
    }

    /// What it can do now; `None` while the files make no sense.
    pub(super) fn standing(&self) -> Option<Arc<Standing>> {
        self.stood.borrow().now.clone()
    }

    /// Returns when the holder of these certificates would not be let in any more. Files that make no sense say nothing about anybody;
    /// until they do, what made sense last counts, and the ends of certificates with it.
    pub(super) async fn fallen(self, chain: Vec<CertificateDer<'static>>, holder: Holder) {
        let mut changes = self.stood.subscribe();
        loop {
            let last = changes.borrow_and_update().last.clone();
            if let Some(standing) = last
                && standing.holder(&chain).is_none_or(|now| now != holder)
            {
                info!(%holder, "cut: its certificate does not count any more");
                return;
            }
            // Certificates end also while nothing changes.
            let _ = tokio::time::timeout(LOOK_EVERY * 10, changes.changed()).await;
        }
    }
}

/// What an end can do, and what it could when its files made sense last.
#[derive(Debug, Default)]
struct Stood {
    now: Option<Arc<Standing>>,
    last: Option<Arc<Standing>>,
}

/// What an end can do while its files make sense.
#[derive(Debug)]
pub(super) struct Standing {
    pub(super) material: Material,
    pub(super) server: Arc<ServerConfig>,
    certified: Arc<CertifiedKey>,
    judge: Arc<Judge>,
}

impl Standing {
    fn new(material: Material, key: &Arc<dyn rustls::sign::SigningKey>) -> Result<Self, Error> {
        let certified = Arc::new(CertifiedKey::new(material.chain.clone(), Arc::clone(key)));
        let judge = Arc::new(Judge {
            clients: client_verifier(&material.roots)?,
            roots: Arc::clone(&material.roots),
            pins: Arc::clone(&material.pins),
        });
        let mut server = ServerConfig::builder_with_provider(provider())
            .with_protocol_versions(&[&rustls::version::TLS13])?
            .with_client_cert_verifier(Arc::new(PinnedClients(Arc::clone(&judge))))
            .with_cert_resolver(Arc::new(SingleCertAndKey::from(Arc::clone(&certified))));
        server.alpn_protocols = vec![ALPN.to_vec()];
        // Every connection is judged by what holds then.
        server.session_storage = Arc::new(NoServerSessionStorage {});
        server.send_tls13_tickets = 0;
        Ok(Self { material, server: Arc::new(server), certified, judge })
    }

    /// For dialling.
    pub(super) fn client(&self, wanted: Wanted) -> Result<Arc<ClientConfig>, Error> {
        let mut client = ClientConfig::builder_with_provider(provider())
            .with_protocol_versions(&[&rustls::version::TLS13])?
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(PinnedServer { judge: Arc::clone(&self.judge), wanted }))
            .with_client_cert_resolver(Arc::new(SingleCertAndKey::from(Arc::clone(&self.certified))));
        client.alpn_protocols = vec![ALPN.to_vec()];
        client.resumption = Resumption::disabled();
        client.enable_sni = false;
        Ok(Arc::new(client))
    }

    /// Whose certificates these are, if they count now.
    pub(super) fn holder(&self, chain: &[CertificateDer<'_>]) -> Option<Holder> {
        let (leaf, rest) = chain.split_first()?;
        let now = UnixTime::since_unix_epoch(crate::clock::unix());
        self.judge.client(leaf, rest, now).ok().cloned()
    }
}
