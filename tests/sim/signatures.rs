//! How a seed's world signs: by Ed25519 as production does, or symbolically, which costs a fortieth and stands for it.
//!
//! A symbolic signature is a digest of a secret of the world's, the signer's public key, the domain and the payload. It
//! enters by the same door ([`Envelope::open`](zeta_bft::protocol::statement::Envelope::open)); who holds no signing key, or
//! changes a bit, has none. It lives among these tests, where no part of the program can reach it.

use zeta_bft::protocol::signing::{BadSignature, Domain, Signatures, SigningKey, VerifyingKey};
use zeta_bft::protocol::statement::{Codec, DecodeError};
use zeta_bft::protocol::types::PublicKey;
use zeta_bft::wire::Proto;

/// The codec of one world.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scheme {
    Ed25519,
    /// With the secret of the world.
    Symbolic([u8; 32]),
}

fn symbol(secret: &[u8; 32], key: &PublicKey, domain: Domain, payload: &[u8]) -> [u8; 64] {
    use sha2::Digest as _;
    let mut hash = sha2::Sha256::new();
    // All before the payload has a fixed length but the tag, which ends with the only zero that it has.
    for part in [secret, &key.0, domain.tag().as_bytes(), b"\0", payload] {
        hash.update(part);
    }
    let mut signature = [0; 64];
    signature[..32].copy_from_slice(&hash.finalize());
    signature
}

impl Signatures for Scheme {
    fn sign(&self, key: &SigningKey, domain: Domain, payload: &[u8]) -> [u8; 64] {
        match self {
            Self::Ed25519 => Proto.sign(key, domain, payload),
            Self::Symbolic(secret) => symbol(secret, &key.public(), domain, payload),
        }
    }

    fn verify(
        &self,
        key: &VerifyingKey,
        domain: Domain,
        payload: &[u8],
        signature: &[u8; 64],
    ) -> Result<(), BadSignature> {
        match self {
            Self::Ed25519 => Proto.verify(key, domain, payload, signature),
            Self::Symbolic(secret) if symbol(secret, &key.public(), domain, payload) == *signature => Ok(()),
            Self::Symbolic(_) => Err(BadSignature(key.public())),
        }
    }
}

impl<T> Codec<T> for Scheme
where
    Proto: Codec<T>,
{
    fn encode(&self, statement: &T) -> Vec<u8> {
        Proto.encode(statement)
    }

    fn decode(&self, bytes: &[u8]) -> Result<T, DecodeError> {
        Proto.decode(bytes)
    }
}

#[test]
fn a_symbolic_signature_holds_for_one_key_one_domain_and_one_payload() {
    let scheme = Scheme::Symbolic([7; 32]);
    let (key, other) = (SigningKey::from_seed(&[1; 32]), SigningKey::from_seed(&[2; 32]));
    let verifier = |key: &SigningKey| VerifyingKey::new(key.public()).expect("a usable key");
    let signature = scheme.sign(&key, Domain::Vote, b"up");
    assert!(scheme.verify(&verifier(&key), Domain::Vote, b"up", &signature).is_ok());
    for domain in Domain::ALL {
        assert_eq!(scheme.verify(&verifier(&key), *domain, b"up", &signature).is_ok(), *domain == Domain::Vote);
    }
    assert!(scheme.verify(&verifier(&other), Domain::Vote, b"up", &signature).is_err());
    assert!(scheme.verify(&verifier(&key), Domain::Vote, b"uq", &signature).is_err());
    assert!(Scheme::Symbolic([8; 32]).verify(&verifier(&key), Domain::Vote, b"up", &signature).is_err());
    assert!(Scheme::Ed25519.verify(&verifier(&key), Domain::Vote, b"up", &signature).is_err());
}
