//! gRPC over Unix sockets, and over TCP with mutual TLS ([`tls`]): servers, clients, limits.
//!
//! The transport is a seam: services and callers see [`Peer`], [`tls::Holder`], `Routes` and `Channel` only. What listens and
//! what dials is behind [`server::serve`] and [`client::connect`], [`tls::serve`] and [`tls::Identity::connect`].

mod calls;
pub mod client;
pub mod limits;
mod running;
pub mod server;
pub mod tls;

#[cfg(test)]
mod tests;

/// Largest message in either direction, in bytes. Every service is made with
/// `.max_decoding_message_size(MAX_MESSAGE)`; of what a guest sends, most methods take far less (`calls`).
pub const MAX_MESSAGE: usize = 256 * 1024;

/// Longest path of a Unix socket, in bytes: `sun_path` of unix(7) holds 108 with the closing zero.
pub const MAX_SOCKET_PATH: usize = 107;

/// The process at the other end of a connection, as the kernel tells (`SO_PEERCRED`). It cannot be forged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Peer {
    /// Its effective user, when it connected or began to listen.
    pub uid: u32,
    /// Its process id, then.
    pub pid: u32,
}

impl Peer {
    fn of(stream: &tokio::net::UnixStream) -> std::io::Result<Self> {
        let credentials = stream.peer_cred()?;
        let pid = credentials.pid().and_then(|pid| u32::try_from(pid).ok());
        let pid = pid.ok_or_else(|| std::io::Error::other("the kernel does not tell the peer's process"))?;
        Ok(Self { uid: credentials.uid(), pid })
    }
}
