//! Domain-separated Ed25519 over bytes as they were first produced.
//!
//! Signed bytes are `varint(len(dst)) ‖ dst ‖ payload`, so that a signature made for one type of statement is worth nothing
//! for another. Only `verify_strict` is used; weak public keys never become a [`VerifyingKey`].
//!
//! [`Signatures`] is how every envelope is sealed and opened. The program has one implementation of it, which takes both
//! methods as they stand here; `tests/architecture.rs` holds it to that.

use super::types::PublicKey;
use ed25519_dalek::Signer as _;

/// What a signature is for. The text is part of the signed bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Domain {
    /// [`super::statement::SessionRequest`]
    SessionRequest,
    /// [`super::statement::Session`]
    Session,
    /// [`super::statement::Heartbeat`]
    Heartbeat,
    /// [`super::statement::Episode`]
    Episode,
    /// [`super::statement::Vote`]
    Vote,
    /// [`super::statement::Receipt`]
    Receipt,
    /// [`super::roster::Roster`]
    Roster,
    /// The head of a journal, carried over a compaction.
    JournalHead,
}

impl Domain {
    /// Every domain.
    pub const ALL: &'static [Self] = &[
        Self::SessionRequest,
        Self::Session,
        Self::Heartbeat,
        Self::Episode,
        Self::Vote,
        Self::Receipt,
        Self::Roster,
        Self::JournalHead,
    ];

    /// The separation tag.
    pub const fn tag(self) -> &'static str {
        match self {
            Self::SessionRequest => "zeta-bft/v1/session-request",
            Self::Session => "zeta-bft/v1/session",
            Self::Heartbeat => "zeta-bft/v1/heartbeat",
            Self::Episode => "zeta-bft/v1/episode",
            Self::Vote => "zeta-bft/v1/vote",
            Self::Receipt => "zeta-bft/v1/receipt",
            Self::Roster => "zeta-bft/v1/roster",
            Self::JournalHead => "zeta-bft/v1/journal-head",
        }
    }
}

fn signed_bytes(domain: Domain, payload: &[u8]) -> Vec<u8> {
    let tag = domain.tag().as_bytes();
    // Tags are shorter than 128 bytes, so the varint is one byte.
    let mut bytes = Vec::with_capacity(1 + tag.len() + payload.len());
    bytes.push(u8::try_from(tag.len()).expect("a tag is shorter than 128 bytes"));
    bytes.extend_from_slice(tag);
    bytes.extend_from_slice(payload);
    bytes
}

/// Why a key cannot be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum KeyError {
    /// The bytes are no point of the curve.
    #[error("public key {0} is not a point on the curve")]
    NotAPoint(PublicKey),
    /// The point has small order: anybody could sign for it.
    #[error("public key {0} is weak (small order): anybody could sign for it")]
    Weak(PublicKey),
}

/// A signature that does not hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the signature does not hold under key {0}")]
pub struct BadSignature(pub PublicKey);

/// A public key that was checked to be usable.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VerifyingKey(ed25519_dalek::VerifyingKey);

impl VerifyingKey {
    /// Checks the key.
    ///
    /// # Errors
    /// [`KeyError`] when it is no point or a weak one.
    pub fn new(key: PublicKey) -> Result<Self, KeyError> {
        let parsed = ed25519_dalek::VerifyingKey::from_bytes(&key.0).map_err(|_| KeyError::NotAPoint(key))?;
        if parsed.is_weak() { Err(KeyError::Weak(key)) } else { Ok(Self(parsed)) }
    }

    /// The key as it travels.
    pub fn public(&self) -> PublicKey {
        PublicKey(self.0.to_bytes())
    }

    /// Checks a signature over `payload` in `domain`.
    ///
    /// # Errors
    /// [`BadSignature`] when it does not hold under the strict rules of RFC 8032.
    pub fn verify(&self, domain: Domain, payload: &[u8], signature: &[u8; 64]) -> Result<(), BadSignature> {
        let signature = ed25519_dalek::Signature::from_bytes(signature);
        self.0.verify_strict(&signed_bytes(domain, payload), &signature).map_err(|_| BadSignature(self.public()))
    }
}

/// A private key. Zeroed on drop, and never printed.
pub struct SigningKey(ed25519_dalek::SigningKey);

impl SigningKey {
    /// From 32 bytes of good randomness, or as stored.
    pub fn from_seed(seed: &[u8; 32]) -> Self {
        Self(ed25519_dalek::SigningKey::from_bytes(seed))
    }

    /// The public half.
    pub fn public(&self) -> PublicKey {
        PublicKey(self.0.verifying_key().to_bytes())
    }

    /// Signs `payload` in `domain`. Deterministic.
    pub fn sign(&self, domain: Domain, payload: &[u8]) -> [u8; 64] {
        self.0.sign(&signed_bytes(domain, payload)).to_bytes()
    }

    /// The 32 bytes it is made from, for the one place that writes key files.
    pub fn seed(&self) -> zeroize::Zeroizing<[u8; 32]> {
        zeroize::Zeroizing::new(self.0.to_bytes())
    }
}

impl std::fmt::Debug for SigningKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "SigningKey({:?})", self.public())
    }
}

/// How statements are signed and checked. A codec brings it along, so that whoever makes a machine says by what it signs.
///
/// It is a trait for one reason: a simulation of a million committees cannot pay for a million times Ed25519, and brings
/// a cheaper scheme of its own among its tests. Nothing of this library or its binary can name that one.
pub trait Signatures {
    /// Signs `payload` in `domain`.
    fn sign(&self, key: &SigningKey, domain: Domain, payload: &[u8]) -> [u8; 64] {
        key.sign(domain, payload)
    }

    /// Checks a signature over `payload` in `domain`.
    ///
    /// # Errors
    /// [`BadSignature`] when it does not hold.
    fn verify(
        &self,
        key: &VerifyingKey,
        domain: Domain,
        payload: &[u8],
        signature: &[u8; 64],
    ) -> Result<(), BadSignature> {
        key.verify(domain, payload, signature)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_signature_for_one_domain_is_worth_nothing_in_another() {
        let key = SigningKey::from_seed(&[7; 32]);
        let verifier = VerifyingKey::new(key.public()).unwrap();
        let signature = key.sign(Domain::Heartbeat, b"up");
        for domain in Domain::ALL {
            assert_eq!(verifier.verify(*domain, b"up", &signature).is_ok(), *domain == Domain::Heartbeat, "{domain:?}");
        }
        assert!(verifier.verify(Domain::Heartbeat, b"uq", &signature).is_err());
    }

    #[test]
    fn weak_keys_are_refused() {
        let identity = PublicKey({
            let mut bytes = [0; 32];
            bytes[0] = 1;
            bytes
        });
        assert_eq!(VerifyingKey::new(identity), Err(KeyError::Weak(identity)));
        assert!(VerifyingKey::new(PublicKey([0; 32])).is_err());
    }
}
