//! Sessions: the warden's word that a key belongs to one run of one persona's agent.
//!
//! Rules implemented here:
//! * a session is signed by the roster's warden key, and carries the request, signed by the persona's key in that roster:
//!   neither the warden nor the persona alone can make one;
//! * request and session agree on cluster, node, persona and session key, and these are the roster's cluster and node;
//! * the session key is a usable Ed25519 key, so that its statements can be checked strictly.
//!
//! What a correct holder of an older session signed stays provable after the newest session ended it; whether a session
//! still counts is for the warden and the peers to say, not for this check.

use super::roster::Roster;
use super::signing::{KeyError, VerifyingKey};
use super::statement::{Codec, Envelope, OpenError, Session, SessionRequest, Verified};
use super::types::PersonaId;

/// Why a session, or the request for one, is refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SessionError {
    /// The session itself does not open under the warden's key.
    #[error("the session is not the warden's: {0}")]
    Session(OpenError),
    /// The request does not open under the persona's key.
    #[error("the session request is not the persona's: {0}")]
    Request(OpenError),
    /// The roster has no such persona.
    #[error("persona {0} is not in the roster")]
    UnknownPersona(PersonaId),
    /// A key cannot be used.
    #[error("the session's key cannot be used: {0}")]
    BadKey(#[from] KeyError),
    /// A field does not fit the roster, or request and session differ in it.
    #[error("`{0}` does not fit the roster or the request")]
    Inconsistent(&'static str),
}

impl SessionError {
    /// The label of `zeta_bft_statements_rejected_total`.
    pub const fn as_str(&self) -> &'static str {
        match self {
            Self::Session(error) | Self::Request(error) => error.as_str(),
            Self::UnknownPersona(_) => "unknown_persona",
            Self::BadKey(_) => "bad_key",
            Self::Inconsistent(_) => "bad_session",
        }
    }
}

/// A session that was checked, with its key ready to check statements.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VerifiedSession {
    session: Verified<Session>,
    key: VerifyingKey,
}

impl VerifiedSession {
    /// The key that signs this run's statements.
    pub fn key(&self) -> &VerifyingKey {
        &self.key
    }

    /// The session as signed.
    pub fn envelope(&self) -> &Envelope {
        self.session.envelope()
    }
}

impl std::ops::Deref for VerifiedSession {
    type Target = Session;
    fn deref(&self) -> &Session {
        &self.session
    }
}

/// Checks a request for a session: signed by the key that the roster has for `persona`, and made for this cluster and node.
/// Returns it with the session key that it asks for, ready to check statements.
///
/// # Errors
/// [`SessionError`] names the first rule that it breaks.
pub fn verify_request(
    envelope: &Envelope,
    persona: &PersonaId,
    roster: &Roster,
    codec: &impl Codec<SessionRequest>,
) -> Result<(Verified<SessionRequest>, VerifyingKey), SessionError> {
    let member = roster.member(persona).ok_or_else(|| SessionError::UnknownPersona(persona.clone()))?;
    let request = envelope.open(&roster.verifying_key(member.key)?, codec).map_err(SessionError::Request)?;
    for (fits, field) in [
        (request.persona == *persona, "persona"),
        (request.cluster == *roster.cluster(), "cluster"),
        (request.node == *roster.node(), "node"),
    ] {
        if !fits {
            return Err(SessionError::Inconsistent(field));
        }
    }
    let key = VerifyingKey::new(request.session_key)?;
    Ok((request, key))
}

/// Checks a session and the request within it.
///
/// # Errors
/// [`SessionError`] names the first rule that it breaks.
pub fn verify_session<C: Codec<Session> + Codec<SessionRequest>>(
    envelope: &Envelope,
    roster: &Roster,
    codec: &C,
) -> Result<VerifiedSession, SessionError> {
    let warden = roster.verifying_key(roster.statement().warden)?;
    let session: Verified<Session> = envelope.open(&warden, codec).map_err(SessionError::Session)?;
    let (request, key) = verify_request(&session.request, &session.persona, roster, codec)?;
    for (fits, field) in [
        (session.cluster == *roster.cluster(), "cluster"),
        (session.node == *roster.node(), "node"),
        (session.session_key == request.session_key, "session_key"),
    ] {
        if !fits {
            return Err(SessionError::Inconsistent(field));
        }
    }
    Ok(VerifiedSession { session, key })
}
