//! The roster file: one encoded envelope, signed by the operator key that it names.
//!
//! Rules:
//! * it is believed for where it lies (root's folder) and for its signature; a wrong signature, a weak key, or two holders of
//!   one key are refused;
//! * it must fit `node.toml`: the same cluster and node, the same personas with the same vendors.

use super::settings::Settings;
use crate::files;
use crate::protocol::roster::{Member, Roster, RosterError, RosterStatement};
use crate::protocol::signing::{KeyError, SigningKey, VerifyingKey};
use crate::protocol::statement::{Codec, DecodeError, Envelope, OpenError, Statement as _};
use crate::protocol::types::{Digest, PersonaId, PublicKey, VendorId};
use crate::wire::{decode_envelope, encode_envelope};
use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Largest roster file that is read, in bytes.
const MAX_BYTES: u64 = 128 * 1024;

/// Why there is no roster.
#[derive(Debug, thiserror::Error)]
pub enum RosterFileError {
    /// It is not there.
    #[error("there is no roster at {}: `zeta-bft init` makes one", path.display())]
    Missing {
        /// Where.
        path: PathBuf,
    },
    /// The system refused.
    #[error("cannot {doing} the roster {}", path.display())]
    Io {
        /// What was tried.
        doing: &'static str,
        /// Where.
        path: PathBuf,
        /// What it said.
        source: io::Error,
    },
    /// It holds something else.
    #[error("{} is no roster: {source}", path.display())]
    Malformed {
        /// Where.
        path: PathBuf,
        /// What is wrong.
        source: DecodeError,
    },
    /// The key that signed it cannot be used.
    #[error("the roster is signed with a key that cannot be used: {0}")]
    BadKey(#[from] KeyError),
    /// Its signature does not hold, or it is something else that was signed.
    #[error("the roster was changed after it was signed, or is none: {0}")]
    BadSignature(#[from] OpenError),
    /// Somebody else than the operator it names signed it.
    #[error("the roster names operator key {named}, but {signer} signed it")]
    WrongSigner {
        /// The operator's key in the roster.
        named: PublicKey,
        /// Who signed.
        signer: PublicKey,
    },
    /// It breaks a rule.
    #[error("the roster breaks a rule: {0}")]
    Refused(#[from] RosterError),
    /// It is for another cluster or node.
    #[error("the roster is for {what} `{roster}`, but node.toml says `{configured}`")]
    Elsewhere {
        /// `cluster` or `node`.
        what: &'static str,
        /// In the roster.
        roster: String,
        /// In node.toml.
        configured: String,
    },
    /// node.toml has a persona that the roster does not have.
    #[error(
        "persona {0} of node.toml is missing in the roster: sign a new roster with it (`zeta-bft roster sign`), or take it out of node.toml"
    )]
    MissingMember(PersonaId),
    /// The roster has a persona that node.toml does not have.
    #[error(
        "persona {0} of the roster is missing in node.toml: write [personas.{0}], or sign a new roster without it (`zeta-bft roster sign`)"
    )]
    MissingPersona(PersonaId),
    /// The two disagree on a vendor.
    #[error("persona {persona} is of vendor {roster} in the roster, but of {configured} in node.toml")]
    OtherVendor {
        /// Who.
        persona: PersonaId,
        /// In the roster.
        roster: VendorId,
        /// In node.toml.
        configured: VendorId,
    },
    /// A key that the roster needs was not given.
    #[error("there is no key for persona {0}")]
    NoKey(PersonaId),
}

/// Reads and checks a roster file.
///
/// # Errors
/// [`RosterFileError`] says what is wrong with it.
pub fn load(path: &Path, codec: &impl Codec<RosterStatement>) -> Result<Arc<Roster>, RosterFileError> {
    open(&read(path)?, codec)
}

/// Reads the envelope of a roster file, unchecked: what the journal keeps.
///
/// # Errors
/// [`RosterFileError`] when it is missing or no envelope.
pub fn read(path: &Path) -> Result<Envelope, RosterFileError> {
    let io = |source: io::Error| match source.kind() {
        io::ErrorKind::NotFound => RosterFileError::Missing { path: path.into() },
        _ => RosterFileError::Io { doing: "read", path: path.into(), source },
    };
    let mut bytes = Vec::new();
    io::Read::read_to_end(&mut io::Read::take(std::fs::File::open(path).map_err(io)?, MAX_BYTES), &mut bytes)
        .map_err(io)?;
    decode_envelope(&bytes).map_err(|source| RosterFileError::Malformed { path: path.into(), source })
}

/// Checks a roster's envelope: the signature by the operator key that it names, then its rules.
///
/// # Errors
/// [`RosterFileError`] says what is wrong with it.
pub fn open(envelope: &Envelope, codec: &impl Codec<RosterStatement>) -> Result<Arc<Roster>, RosterFileError> {
    let statement = envelope.open::<RosterStatement>(&VerifyingKey::new(envelope.key)?, codec)?.into_inner();
    if statement.operator != envelope.key {
        return Err(RosterFileError::WrongSigner { named: statement.operator, signer: envelope.key });
    }
    Ok(Arc::new(Roster::new(statement, envelope.digest())?))
}

/// Checks that a roster fits the configuration.
///
/// # Errors
/// [`RosterFileError`] names the first difference.
pub fn check_fits(roster: &Roster, settings: &Settings) -> Result<(), RosterFileError> {
    for (what, in_roster, configured) in [
        ("cluster", roster.cluster().as_str(), settings.cluster.as_str()),
        ("node", roster.node().as_str(), settings.node.as_str()),
    ] {
        if in_roster != configured {
            let (roster, configured) = (in_roster.to_owned(), configured.to_owned());
            return Err(RosterFileError::Elsewhere { what, roster, configured });
        }
    }
    for (persona, configured) in &settings.personas {
        let member = roster.member(persona).ok_or_else(|| RosterFileError::MissingMember(persona.clone()))?;
        if member.vendor != configured.vendor {
            let (roster, configured) = (member.vendor.clone(), configured.vendor.clone());
            return Err(RosterFileError::OtherVendor { persona: persona.clone(), roster, configured });
        }
    }
    match roster.members().find(|member| !settings.personas.contains_key(&member.persona)) {
        Some(member) => Err(RosterFileError::MissingPersona(member.persona.clone())),
        None => Ok(()),
    }
}

/// The keys that a roster is made of.
#[derive(Debug)]
pub struct RosterKeys<'a> {
    /// Signs it.
    pub operator: &'a SigningKey,
    /// The warden's.
    pub warden: PublicKey,
    /// The personas'.
    pub personas: BTreeMap<PersonaId, PublicKey>,
}

/// Signs a roster of the configured personas, f and q. The first one has epoch 1 and an all-zero `previous`.
///
/// # Errors
/// [`RosterFileError::NoKey`], or [`RosterFileError::Refused`] when it breaks a rule.
pub fn sign(
    settings: &Settings,
    epoch: u64,
    previous: Digest,
    keys: &RosterKeys<'_>,
    codec: &impl Codec<RosterStatement>,
) -> Result<Envelope, RosterFileError> {
    let member = |(persona, configured): (&PersonaId, &super::settings::PersonaSettings)| {
        let key = keys.personas.get(persona).ok_or_else(|| RosterFileError::NoKey(persona.clone()))?;
        Ok(Member { persona: persona.clone(), vendor: configured.vendor.clone(), key: *key })
    };
    let statement = RosterStatement {
        cluster: settings.cluster.clone(),
        node: settings.node.clone(),
        epoch,
        previous,
        members: settings.personas.iter().map(member).collect::<Result<_, RosterFileError>>()?,
        f: settings.f,
        q: settings.q,
        warden: keys.warden,
        operator: keys.operator.public(),
    };
    let envelope = Envelope::seal(&statement, keys.operator, codec);
    debug_assert_eq!(envelope.domain, RosterStatement::DOMAIN);
    open(&envelope, codec)?;
    Ok(envelope)
}

/// Writes a new roster file: whole or not at all, and never over another.
///
/// # Errors
/// [`RosterFileError::Io`].
pub fn write(path: &Path, envelope: &Envelope) -> Result<(), RosterFileError> {
    let io = |source| RosterFileError::Io { doing: "write", path: path.into(), source };
    files::create(path, &encode_envelope(envelope), 0o644).map_err(io)
}
