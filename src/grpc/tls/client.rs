//! Dialling over TCP: one connection to one holder of a certificate.

use super::identity::Identity;
use super::{Holder, Wanted};
use crate::grpc::client::{CONNECT_LIMIT, channel_over};
use crate::grpc::running::Accepted;
use rustls::AlertDescription;
use rustls::pki_types::ServerName;
use std::io;
use std::net::SocketAddr;
use tokio::io::{AsyncBufReadExt as _, BufReader};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tonic::transport::Channel;

/// Why there is no connection.
#[derive(Debug, thiserror::Error)]
pub enum ConnectError {
    /// The own files make no sense; the log says which.
    #[error("our own certificates cannot be used: `zeta-bft doctor` says why")]
    Unable,
    /// Nobody is there, or none may reach it.
    #[error("cannot connect to {address}: {source}")]
    Refused {
        /// Where.
        address: SocketAddr,
        /// What the kernel said.
        source: io::Error,
    },
    /// Not in time.
    #[error("{address} took longer than {} s to connect", CONNECT_LIMIT.as_secs())]
    TimedOut {
        /// Where.
        address: SocketAddr,
    },
    /// Whoever is there does not take our certificate.
    #[error("{address} does not take our certificate: {alert:?}")]
    Unwelcome {
        /// Where.
        address: SocketAddr,
        /// What it says.
        alert: AlertDescription,
    },
    /// Whoever is there is not who is wanted, or hung up.
    #[error("{address} is not who is wanted, or hung up: {source}")]
    NotTrusted {
        /// Where.
        address: SocketAddr,
        /// What went wrong.
        source: io::Error,
    },
    /// The other end speaks no HTTP/2.
    #[error("{address} does not speak gRPC")]
    Handshake {
        /// Where.
        address: SocketAddr,
        /// What went wrong.
        source: tonic::transport::Error,
    },
}

impl Identity {
    /// Connects, within [`CONNECT_LIMIT`], to whom is wanted and to nobody else, once that one has let us in; says who it is.
    /// Broken once, the connection stays broken.
    ///
    /// # Errors
    /// [`ConnectError`] says what is missing.
    pub async fn connect(&self, address: SocketAddr, wanted: Wanted) -> Result<(Channel, Holder), ConnectError> {
        let dialled = tokio::time::timeout(CONNECT_LIMIT, self.dial(address, wanted));
        dialled.await.unwrap_or(Err(ConnectError::TimedOut { address }))
    }

    async fn dial(&self, address: SocketAddr, wanted: Wanted) -> Result<(Channel, Holder), ConnectError> {
        let not_trusted = |source: io::Error| match alert_in(&source) {
            Some(alert) => ConnectError::Unwelcome { address, alert },
            None => ConnectError::NotTrusted { address, source },
        };
        let standing = self.standing().ok_or(ConnectError::Unable)?;
        let config = standing.client(wanted).map_err(|error| not_trusted(io::Error::other(error)))?;
        let refused = |source| ConnectError::Refused { address, source };
        let tcp = TcpStream::connect(address).await.map_err(refused)?;
        tcp.set_nodelay(true).map_err(refused)?;
        let name = ServerName::IpAddress(address.ip().into());
        let stream = TlsConnector::from(config).connect(name, tcp).await.map_err(not_trusted)?;
        let chain: Vec<_> = stream.get_ref().1.peer_certificates().unwrap_or_default().to_vec();
        let holder = standing.holder(&chain).ok_or_else(|| not_trusted(io::ErrorKind::PermissionDenied.into()))?;
        // Our half of TLS 1.3 ends before the other end has judged us. Whoever lets us in speaks first (RFC 9113, 3.4).
        let mut stream = BufReader::new(stream);
        if stream.fill_buf().await.map_err(not_trusted)?.is_empty() {
            return Err(not_trusted(io::ErrorKind::UnexpectedEof.into()));
        }
        let fallen = self.clone().fallen(chain, holder.clone());
        let channel = channel_over(Accepted::new(stream, (), fallen)).await;
        Ok((channel.map_err(|source| ConnectError::Handshake { address, source })?, holder))
    }
}

/// The alert by which the other end ended it, if it did.
fn alert_in(error: &io::Error) -> Option<AlertDescription> {
    match error.get_ref()?.downcast_ref()? {
        rustls::Error::AlertReceived(alert) => Some(*alert),
        _ => None,
    }
}
