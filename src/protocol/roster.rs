//! Who may vote, for which vendor, and how many votes move something.
//!
//! Rules implemented here:
//! * a vendor is one vote, however many personas it has;
//! * a subject's own vendor never counts;
//! * n = 2f+1 guardians suffice because the warden counts in one place; with E eligible vendors, `f+1 ≤ q ≤ E`.

use super::signing::{Domain, KeyError, VerifyingKey};
use super::statement::{Codec, Envelope, OpenError, Statement, Verified};
use super::types::{ClusterId, Digest, NodeId, PersonaId, PublicKey, VendorId};
use std::collections::{BTreeMap, BTreeSet};

/// One persona of the roster.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Member {
    /// Its name.
    pub persona: PersonaId,
    /// Its vendor.
    pub vendor: VendorId,
    /// The key that signs its session requests.
    pub key: PublicKey,
}

/// A roster as its operator signed it; not yet checked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RosterStatement {
    /// The cluster it is for.
    pub cluster: ClusterId,
    /// The node it is for.
    pub node: NodeId,
    /// Rises by one with every new roster, from 1.
    pub epoch: u64,
    /// Digest of the roster before it; all zero for the first.
    pub previous: Digest,
    /// The personas, by name.
    pub members: Vec<Member>,
    /// Vendors that may be Byzantine at once.
    pub f: u32,
    /// Vendors that must agree.
    pub q: u32,
    /// The warden's key.
    pub warden: PublicKey,
    /// The operator's key, which signs this statement.
    pub operator: PublicKey,
}

impl Statement for RosterStatement {
    const DOMAIN: Domain = Domain::Roster;
}

/// Why a roster is refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RosterError {
    /// Two members have one name.
    #[error("persona {0} is listed twice")]
    DuplicatePersona(PersonaId),
    /// Two holders have one key: one of them could speak for the other.
    #[error("{first} and {second} have one and the same key: each needs its own")]
    DuplicateKey {
        /// One holder.
        first: String,
        /// The other.
        second: String,
    },
    /// A key cannot be used.
    #[error("the key of {holder} cannot be used: {source}")]
    BadKey {
        /// Whose key.
        holder: String,
        /// What is wrong with it.
        source: KeyError,
    },
    /// Its signature or its bytes do not hold.
    #[error("the roster is not as its operator signed it: {0}")]
    NotSigned(#[from] OpenError),
    /// Somebody else than the operator it names has signed it.
    #[error("the roster names the operator key {named}, but key {signer} has signed it")]
    WrongOperator {
        /// The operator's key in the roster.
        named: PublicKey,
        /// The key that signed.
        signer: PublicKey,
    },
    /// f = 0 tolerates nobody.
    #[error("f must be at least 1: with f = 0 a single liar moves everything")]
    NoFaultTolerated,
    /// Too few vendors for f.
    #[error("f = {f} needs at least {needed} distinct vendors, but there are {vendors}")]
    TooFewVendors {
        /// Vendors in the roster.
        vendors: u32,
        /// The wish.
        f: u32,
        /// 2f+1.
        needed: u32,
    },
    /// q is too small to outvote f liars, or too large to be reached.
    #[error(
        "q = {q} does not fit {vendors} vendors and f = {f}: it must be from {least} (f+1) to {most} (the voters a persona has)"
    )]
    BadThreshold {
        /// The wish.
        q: u32,
        /// Vendors in the roster.
        vendors: u32,
        /// Vendors that may be Byzantine.
        f: u32,
        /// f+1.
        least: u32,
        /// vendors − 1.
        most: u32,
    },
}

/// Checks that `f` liars and a quorum of `q` fit a number of distinct vendors: `n ≥ 2f+1` and `f+1 ≤ q ≤ n−1`.
///
/// # Errors
/// [`RosterError::NoFaultTolerated`], [`RosterError::TooFewVendors`] or [`RosterError::BadThreshold`].
pub fn check_counts(vendors: u32, f: u32, q: u32) -> Result<(), RosterError> {
    if f == 0 {
        return Err(RosterError::NoFaultTolerated);
    }
    let needed = f.saturating_mul(2).saturating_add(1);
    if vendors < needed {
        return Err(RosterError::TooFewVendors { vendors, f, needed });
    }
    let (least, most) = (f + 1, vendors - 1);
    if q < least || q > most {
        return Err(RosterError::BadThreshold { q, vendors, f, least, most });
    }
    Ok(())
}

/// A roster that was checked: what the protocol counts by.
#[derive(Clone, Debug)]
pub struct Roster {
    statement: RosterStatement,
    digest: Digest,
    members: BTreeMap<PersonaId, Member>,
    /// Everybody's key, ready to check statements.
    keys: BTreeMap<PublicKey, VerifyingKey>,
    vendors: BTreeSet<VendorId>,
}

impl Roster {
    /// Checks a roster. `digest` is that of its payload as signed.
    ///
    /// # Errors
    /// [`RosterError`] names the first rule that it breaks.
    pub fn new(statement: RosterStatement, digest: Digest) -> Result<Self, RosterError> {
        let mut members = BTreeMap::new();
        let mut holders_of: BTreeMap<PublicKey, String> = BTreeMap::new();
        let mut keys = BTreeMap::new();
        let holders = [("the warden", statement.warden), ("the operator", statement.operator)]
            .map(|(holder, key)| (holder.to_owned(), key))
            .into_iter()
            .chain(statement.members.iter().map(|m| (m.persona.to_string(), m.key)));
        for (holder, key) in holders {
            let usable =
                VerifyingKey::new(key).map_err(|source| RosterError::BadKey { holder: holder.clone(), source })?;
            keys.insert(key, usable);
            if let Some(first) = holders_of.insert(key, holder.clone()) {
                return Err(RosterError::DuplicateKey { first, second: holder });
            }
        }
        for member in &statement.members {
            if members.insert(member.persona.clone(), member.clone()).is_some() {
                return Err(RosterError::DuplicatePersona(member.persona.clone()));
            }
        }
        let vendors: BTreeSet<_> = members.values().map(|m| m.vendor.clone()).collect();
        let count = u32::try_from(vendors.len()).unwrap_or(u32::MAX);
        check_counts(count, statement.f, statement.q)?;
        Ok(Self { statement, digest, members, keys, vendors })
    }

    /// Opens and checks a signed roster: the operator's key within it must have made the signature.
    ///
    /// That this operator is the right one is for whoever laid the file in its place: it is root's, as is this program.
    ///
    /// # Errors
    /// [`RosterError`] names the first rule that it breaks.
    pub fn open(envelope: &Envelope, codec: &impl Codec<RosterStatement>) -> Result<Self, RosterError> {
        let signer = VerifyingKey::new(envelope.key)
            .map_err(|source| RosterError::BadKey { holder: "the operator".to_owned(), source })?;
        let statement: Verified<RosterStatement> = envelope.open(&signer, codec)?;
        if statement.operator != envelope.key {
            return Err(RosterError::WrongOperator { named: statement.operator, signer: envelope.key });
        }
        Self::new(statement.into_inner(), envelope.digest())
    }

    /// The statement it was made from.
    pub fn statement(&self) -> &RosterStatement {
        &self.statement
    }

    /// Digest of the signed payload.
    pub fn digest(&self) -> Digest {
        self.digest
    }

    /// The cluster.
    pub fn cluster(&self) -> &ClusterId {
        &self.statement.cluster
    }

    /// The node.
    pub fn node(&self) -> &NodeId {
        &self.statement.node
    }

    /// Its number.
    pub fn epoch(&self) -> u64 {
        self.statement.epoch
    }

    /// Vendors that may be Byzantine at once.
    pub fn f(&self) -> usize {
        self.statement.f as usize
    }

    /// Vendors that must agree.
    pub fn q(&self) -> usize {
        self.statement.q as usize
    }

    /// The personas, by name.
    pub fn members(&self) -> impl Iterator<Item = &Member> {
        self.members.values()
    }

    /// One persona.
    pub fn member(&self, persona: &PersonaId) -> Option<&Member> {
        self.members.get(persona)
    }

    /// A key that this roster names, ready to check statements: it was found usable when the roster was loaded.
    ///
    /// # Errors
    /// [`KeyError`] when the roster does not name it and it cannot be used.
    pub fn verifying_key(&self, key: PublicKey) -> Result<VerifyingKey, KeyError> {
        self.keys.get(&key).cloned().map_or_else(|| VerifyingKey::new(key), Ok)
    }

    /// The distinct vendors.
    pub fn vendors(&self) -> &BTreeSet<VendorId> {
        &self.vendors
    }

    /// Vendors that may vote on a subject: all but its own.
    pub fn eligible_vendors<'a>(&'a self, own: Option<&'a VendorId>) -> impl Iterator<Item = &'a VendorId> {
        self.vendors.iter().filter(move |vendor| Some(*vendor) != own)
    }
}

#[cfg(test)]
pub(crate) mod fixture;

#[cfg(test)]
mod tests {
    use super::*;

    fn statement(vendors: &[&str], f: u32, q: u32) -> RosterStatement {
        let names: Vec<_> = (0..vendors.len()).map(|n| format!("p{n}")).collect();
        let personas: Vec<_> = names.iter().map(String::as_str).zip(vendors.iter().copied()).collect();
        RosterStatement { f, q, ..fixture::statement(&personas) }
    }

    fn check(vendors: &[&str], f: u32, q: u32) -> Result<Roster, RosterError> {
        Roster::new(statement(vendors, f, q), Digest::default())
    }

    #[test]
    fn from_3_to_13_vendors_exactly_the_thresholds_that_outvote_f_and_can_be_reached_are_taken() {
        for n in 3..=13u32 {
            let names: Vec<_> = (0..n).map(|i| format!("v{i}")).collect();
            let names: Vec<_> = names.iter().map(String::as_str).collect();
            for f in 0..=n {
                for q in 0..=n + 1 {
                    // f liars never reach q; a subject's n-1 voters do, with f of all n vendors away or not at n = 2f+1.
                    let safe = f >= 1 && q > f;
                    let reachable = q < n;
                    let enough = n > 2 * f;
                    assert_eq!(check(&names, f, q).is_ok(), safe && reachable && enough, "n={n} f={f} q={q}");
                }
            }
        }
    }

    #[test]
    fn too_large_an_f_is_refused_with_the_number_of_vendors_it_needs() {
        let error = check(&["a", "b", "c"], 2, 3).unwrap_err();
        assert_eq!(error, RosterError::TooFewVendors { vendors: 3, f: 2, needed: 5 });
        assert!(error.to_string().contains("needs at least 5 distinct vendors"));
    }

    #[test]
    fn two_personas_of_one_vendor_are_one_vote() {
        assert!(check(&["a", "a", "b"], 1, 2).is_err(), "three personas, but two vendors");
        let roster = check(&["a", "a", "b", "c"], 1, 2).unwrap();
        let own = VendorId::new("a").unwrap();
        assert_eq!((roster.vendors().len(), roster.eligible_vendors(Some(&own)).count()), (3, 2));
    }

    #[test]
    fn two_holders_of_one_key_and_weak_keys_are_refused() {
        let mut twice = statement(&["a", "b", "c"], 1, 2);
        twice.members[2].key = twice.members[0].key;
        let error = Roster::new(twice, Digest::default()).unwrap_err();
        assert_eq!(error, RosterError::DuplicateKey { first: "p0".into(), second: "p2".into() });
        let mut weak = statement(&["a", "b", "c"], 1, 2);
        weak.members[1].key = PublicKey([0; 32]);
        assert!(matches!(Roster::new(weak, Digest::default()), Err(RosterError::BadKey { .. })));
    }
}
