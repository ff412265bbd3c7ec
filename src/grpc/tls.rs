//! TCP with mutual TLS 1.3, beside the Unix sockets, for agents that are configured for it and for those who look from elsewhere.
//!
//! Rules:
//! * A certificate counts when two say so: the node's own CA signed it, and its *key* is pinned. The key of an agent's certificate
//!   is the very key that the roster names for its persona; an inspector's is that of a certificate which root laid into
//!   `tls/inspectors`. So the CA alone makes nobody, least of all a guardian, and a key without a certificate opens nothing.
//!   Sharing the persona's key is sound: what TLS signs begins with 64 spaces, what the protocol signs with a length and a tag.
//! * Both ends show a certificate, and each is judged within the handshake. Who is refused there has sent no byte of gRPC, and no
//!   statement. There is no older version, no resumed session and no early data.
//! * Who dials names whom it wants; the certificate of another member of the roster is a stranger's there.
//! * All files are followed ([`Identity::follow`]). A connection whose holder would not be let in any more is cut, also when its
//!   certificate has ended. An inspector's file that makes no sense pins nobody, and spoils nothing else. While any other makes none
//!   nobody is let in, nobody is dialled, and what is open is judged by what made sense last.
//! * Handshakes that are under way are bounded; when there are too many, the oldest of the network that has the
//!   most gives way: loopback is one, and so is each /64 of IPv6.
//! * Whom a certificate names is no process: sessions with the warden stay with its Unix socket, and the kernel's word.

mod client;
mod files;
mod identity;
pub mod issue;
mod judge;
mod server;
#[cfg(test)]
mod tests;

pub use client::ConnectError;
pub use files::{Material, MaterialError, Place};
pub use identity::{BadKey, Identity};
pub use server::{TcpServer, holder, serve};

use crate::protocol::types::PersonaId;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

/// What is spoken inside: HTTP/2.
const ALPN: &[u8] = b"h2";
/// Longest that a handshake may take, from the first byte on.
pub const HANDSHAKE_LIMIT: Duration = Duration::from_secs(3);
/// Handshakes under way at once.
pub const HANDSHAKES: usize = 64;
/// How often files are looked at, and connections judged anew.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// Whom a pinned key belongs to.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Holder {
    /// A persona's agent.
    Agent(PersonaId),
    /// Somebody who may look.
    Inspector(InspectorName),
}

impl fmt::Display for Holder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Agent(persona) => write!(f, "the agent of {persona}"),
            Self::Inspector(name) => write!(f, "inspector {name}"),
        }
    }
}

/// The name of somebody who may look.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct InspectorName(Arc<str>);

impl InspectorName {
    /// Checks and makes the name: it is also a file's. The rules are a persona's.
    ///
    /// # Errors
    /// What is wrong with it, for people.
    pub fn new(name: &str) -> Result<Self, String> {
        match PersonaId::new(name) {
            Ok(_) => Ok(Self(name.into())),
            Err(_) => Err(format!(
                "bad inspector name `{}`: use 1 to 64 of a-z 0-9 - . _, beginning with a letter or digit",
                name.chars().take(64).filter(|c| !c.is_control()).collect::<String>()
            )),
        }
    }

    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for InspectorName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Who may answer where somebody dials.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Wanted {
    /// This persona's agent and nobody else.
    Agent(PersonaId),
    /// The agent of any member of the roster.
    AnyAgent,
}

impl Wanted {
    fn is(&self, holder: &Holder) -> bool {
        match (self, holder) {
            (Self::Agent(wanted), Holder::Agent(persona)) => wanted == persona,
            (Self::AnyAgent, Holder::Agent(_)) => true,
            (_, Holder::Inspector(_)) => false,
        }
    }
}

/// How a handshake ended for the one who was dialled. Also labels of `zeta_bft_tls_handshakes_total`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// Somebody pinned.
    Welcome,
    /// No certificate was shown.
    NoCertificate,
    /// It has ended, or not begun.
    OutOfTime,
    /// Our CA does not vouch for it: another one signed it, it is not for this use, or who shows it has not its key.
    NotVouched,
    /// Our CA signed it, but nobody pinned its key.
    NotPinned,
    /// An older version of TLS.
    OldVersion,
    /// No TLS at all.
    NotTls,
    /// It took too long, or gave way to others.
    Slow,
    /// It has too many connections.
    Crowded,
    /// Our own certificate cannot be used, so nobody is let in.
    Unable,
    /// It hung up, or something else.
    Broken,
}

impl Outcome {
    /// All of them.
    pub const ALL: &'static [Self] = &[
        Self::Welcome,
        Self::NoCertificate,
        Self::OutOfTime,
        Self::NotVouched,
        Self::NotPinned,
        Self::OldVersion,
        Self::NotTls,
        Self::Slow,
        Self::Crowded,
        Self::Unable,
        Self::Broken,
    ];

    /// The label.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Welcome => "welcome",
            Self::NoCertificate => "no_certificate",
            Self::OutOfTime => "out_of_time",
            Self::NotVouched => "not_vouched",
            Self::NotPinned => "not_pinned",
            Self::OldVersion => "old_version",
            Self::NotTls => "not_tls",
            Self::Slow => "slow",
            Self::Crowded => "crowded",
            Self::Unable => "unable",
            Self::Broken => "broken",
        }
    }

    fn of(error: &std::io::Error) -> Self {
        use rustls::{CertificateError as Bad, Error, PeerIncompatible};
        let Some(error) = error.get_ref().and_then(|inner| inner.downcast_ref::<Error>()) else { return Self::Broken };
        match error {
            Error::NoCertificatesPresented => Self::NoCertificate,
            Error::InvalidCertificate(
                Bad::Expired | Bad::ExpiredContext { .. } | Bad::NotValidYet | Bad::NotValidYetContext { .. },
            ) => Self::OutOfTime,
            Error::InvalidCertificate(Bad::ApplicationVerificationFailure) => Self::NotPinned,
            Error::InvalidCertificate(_) => Self::NotVouched,
            Error::PeerIncompatible(
                PeerIncompatible::Tls12NotOfferedOrEnabled | PeerIncompatible::SupportedVersionsExtensionRequired,
            ) => Self::OldVersion,
            Error::InvalidMessage(_) => Self::NotTls,
            _ => Self::Broken,
        }
    }
}
