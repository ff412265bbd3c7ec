//! The roster of the tests: three personas of three vendors, with keys that anybody can make again.

use super::{Member, Roster, RosterStatement};
use crate::protocol::signing::SigningKey;
use crate::protocol::types::{ClusterId, Digest, NodeId, PersonaId, SubjectName, VendorId};

/// Personas with their vendors, in the order of a roster.
pub(crate) const PERSONAS: [(&str, &str); 3] = [("lior", "google-gemini"), ("otto", "anthropic"), ("vera", "openai")];
/// Digest of [`roster`].
pub(crate) const DIGEST: Digest = Digest([42; 32]);

pub(crate) fn cluster() -> ClusterId {
    ClusterId::new("home").unwrap()
}

pub(crate) fn node() -> NodeId {
    NodeId::new("node1").unwrap()
}

pub(crate) fn persona(name: &str) -> PersonaId {
    PersonaId::new(name).unwrap()
}

pub(crate) fn subject(name: &str) -> SubjectName {
    SubjectName::new(name).unwrap()
}

pub(crate) fn vendor(name: &str) -> VendorId {
    VendorId::new(name).unwrap()
}

/// The key of a persona, of `warden`, of `operator`, or of anybody else.
pub(crate) fn key(of: &str) -> SigningKey {
    SigningKey::from_seed(&Digest::of(of.as_bytes()).0)
}

/// The session key of a persona.
pub(crate) fn session_key(of: &str) -> SigningKey {
    key(&format!("{of}'s session"))
}

/// The first roster of these personas, with f = 1 and q = 2.
pub(crate) fn statement(personas: &[(&str, &str)]) -> RosterStatement {
    let member =
        |(name, of): &(&str, &str)| Member { persona: persona(name), vendor: vendor(of), key: key(name).public() };
    RosterStatement {
        cluster: cluster(),
        node: node(),
        epoch: 1,
        previous: Digest::default(),
        members: personas.iter().map(member).collect(),
        f: 1,
        q: 2,
        warden: key("warden").public(),
        operator: key("operator").public(),
    }
}

/// The roster of [`PERSONAS`].
pub(crate) fn roster() -> Roster {
    Roster::new(statement(&PERSONAS), DIGEST).unwrap()
}
