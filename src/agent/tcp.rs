//! TCP with mutual TLS, where it is configured: how peers that listen there are reached, and listening oneself.
//!
//! * Nothing listens and nobody is dialled over TCP without `[tcp.NAME]`. Who has one is dialled there and nowhere else: a line
//!   that is to go through TLS does not silently take another way.
//! * What is served is what the Unix socket serves. A certificate in the place of the kernel's word says who a peer is; an
//!   inspector may look and nothing else.

use super::AgentError;
use crate::clock;
use crate::config::Settings;
use crate::grpc::tls::issue::RENEW_BEFORE;
use crate::grpc::tls::{Identity, Material, Place, TcpServer, serve};
use crate::metrics::AgentMetrics;
use crate::protocol::signing::SigningKey;
use crate::protocol::types::{PersonaId, Timestamp};
use crate::wire::v1::inspect_service_server::SERVICE_NAME as INSPECT;
use crate::wire::v1::peer_service_server::SERVICE_NAME as PEER;
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::Duration;
use tonic::service::Routes;
use tracing::warn;

/// How often an end that is near is said.
const REMIND: Duration = Duration::from_secs(24 * 3600);

/// How this agent uses TCP.
#[derive(Clone, Debug)]
pub(super) struct Tcp {
    pub(super) identity: Identity,
    listen: Option<SocketAddr>,
    addresses: BTreeMap<PersonaId, SocketAddr>,
}

impl Tcp {
    /// `None` where nobody is configured for it.
    pub(super) fn of(settings: &Settings, me: &PersonaId, key: &SigningKey) -> Result<Option<Self>, AgentError> {
        if settings.tcp.is_empty() {
            return Ok(None);
        }
        Ok(Some(Self {
            identity: Identity::new(Place::of_agent(&settings.paths, me), key)?,
            listen: settings.tcp.get(me).map(|tcp| tcp.listen),
            addresses: settings.tcp.iter().map(|(persona, tcp)| (persona.clone(), tcp.address)).collect(),
        }))
    }

    /// Where a peer is dialled over TCP, if it is.
    pub(super) fn address(&self, peer: &PersonaId) -> Option<SocketAddr> {
        self.addresses.get(peer).copied()
    }

    /// Listens, if this agent is to.
    pub(super) fn serve(&self, routes: Routes, metrics: AgentMetrics) -> Result<Option<TcpServer>, AgentError> {
        let Some(listen) = self.listen else { return Ok(None) };
        let seen = move |outcome| metrics.tls_handshake(outcome);
        Ok(Some(serve(listen, &[PEER, INSPECT], routes, self.identity.clone(), seen)?))
    }

    /// Follows the certificates for ever, and says when the end of one is near.
    pub(super) async fn follow(self, metrics: AgentMetrics) {
        let mut said: Option<Timestamp> = None;
        let seen = move |material: Option<&Material>| {
            metrics.tls_material(material);
            let Some(material) = material else { return };
            let (now, first) = (clock::now(), material.own_end().min(material.ca_end()));
            let near = first < (clock::unix() + RENEW_BEFORE).as_secs();
            if near && said.is_none_or(|at| now.saturating_since(at) >= REMIND) {
                said = Some(now);
                warn!(ends = first, "a certificate for TCP is about to end, or has: `zeta-bft certify` renews it");
            }
        };
        self.identity.follow(seen).await;
    }
}
