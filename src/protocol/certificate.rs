//! Checking, offline and with the roster alone, that an action was authorised.
//!
//! Rules implemented here (rules S1, S4, S9):
//! * The warden signed the receipt and the episode in its certificate; both speak of one cluster, node, boot, subject, run,
//!   episode, round and rung.
//! * Every vote in the certificate is sound: signed by a session key whose session is in the certificate, for that very
//!   episode, round, nonce, run and rung, APPROVE, for the receipt's fault class, on the voter's own observation of that
//!   fault, no older than [`MAX_AGE`] when the receipt was written. One bad vote spoils the certificate.
//! * The distinct vendors among the voters number at least q. The subject's own vendor may not be among them.
//! * Guardian-set epoch: a soft vote on a persona holds only in the epoch it names; any other vote also later.
//!
//! What cannot be told offline: that a vote was not withdrawn in between, that nobody was quarantined then, and what the
//! policy was (its digest is compared).
//!
//! What several receipts must show together is told in `sequence`.

mod sequence;

pub use sequence::{ReceiptSequence, SequenceError};

use super::evidence::{Evidence, FaultClass};
use super::roster::Roster;
use super::session::{SessionError, VerifiedSession, verify_session};
use super::signing::KeyError;
use super::statement::{
    ActionCertificate, Choice, Envelope, EpisodeStatement, OpenError, Outcome, Receipt, ReceiptKind, StatementCodec,
    Verified, Vote,
};
use super::types::{Digest, PersonaId, SubjectName, VendorId};
use std::collections::BTreeSet;
use std::time::Duration;

/// The longest `vote_ttl` of any class: no observation behind an action may be older.
pub const MAX_AGE: Duration = Duration::from_secs(12);

/// Why a certificate authorises nothing.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CertificateError {
    /// The warden's key in the roster cannot be used.
    #[error(transparent)]
    WardenKey(#[from] KeyError),
    /// The episode is not the warden's.
    #[error("the episode is not the warden's: {0}")]
    Episode(OpenError),
    /// Receipt and episode speak of different things.
    #[error("receipt and episode differ in `{0}`")]
    EpisodeDiffers(&'static str),
    /// It was made under another roster than the one it is checked with.
    #[error("made under roster {found:?}, but checked with roster {given:?}")]
    OtherRoster {
        /// The episode's.
        found: Digest,
        /// The one at hand.
        given: Digest,
    },
    /// Such a class never leads to an action.
    #[error("{0} is no fault that can be voted on")]
    ClassNotVotable(FaultClass),
    /// A session does not hold.
    #[error("session {index}: {source}")]
    Session {
        /// Its place in the certificate, from 0.
        index: usize,
        /// What is wrong.
        source: SessionError,
    },
    /// No session in the certificate has the key that signed a vote.
    #[error("vote {index} is signed by a key without a session")]
    NoSession {
        /// The vote's place in the certificate, from 0.
        index: usize,
    },
    /// A vote does not open.
    #[error("the vote of {persona} does not hold: {source}")]
    Vote {
        /// Whose session signed it.
        persona: PersonaId,
        /// What is wrong.
        source: OpenError,
    },
    /// A vote is for something else.
    #[error("the vote of {persona} does not fit in `{field}`")]
    VoteDiffers {
        /// Whose.
        persona: PersonaId,
        /// In what.
        field: &'static str,
    },
    /// The subject's own vendor voted.
    #[error("{persona} voted on {subject}, which is of its own vendor {vendor}")]
    OwnVendor {
        /// Who.
        persona: PersonaId,
        /// On whom.
        subject: SubjectName,
        /// Whose.
        vendor: VendorId,
    },
    /// An observation was too old, or lies after the receipt.
    #[error(
        "the observation of {persona} was made {} the receipt, it must be 0 to {} ms before it",
        age.map_or("after".to_owned(), |age| format!("{} ms before", age.as_millis())), MAX_AGE.as_millis()
    )]
    Stale {
        /// Whose.
        persona: PersonaId,
        /// How old it was; `None`: it lies in the future.
        age: Option<Duration>,
    },
    /// Too few vendors.
    #[error("{voted} of {eligible} eligible vendors voted, {required} are required")]
    NotEnoughVendors {
        /// Distinct eligible vendors with a vote.
        voted: usize,
        /// q.
        required: usize,
        /// Vendors that may vote on this subject.
        eligible: usize,
    },
}

/// Why a receipt proves nothing.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ReceiptError {
    /// The warden's key in the roster cannot be used.
    #[error(transparent)]
    WardenKey(#[from] KeyError),
    /// It is not the warden's.
    #[error("the receipt is not the warden's: {0}")]
    Receipt(#[from] OpenError),
    /// It is of another cluster or node than the roster.
    #[error("the receipt's `{0}` is not the roster's")]
    Elsewhere(&'static str),
    /// A part that this kind of receipt needs is missing, or one that it must not have is there.
    #[error("{kind} with a wrong `{field}`")]
    Misshapen {
        /// The kind.
        kind: ReceiptKind,
        /// The part.
        field: &'static str,
    },
    /// Its certificate does not hold.
    #[error("the certificate does not hold: {0}")]
    Certificate(#[from] CertificateError),
}

/// A vote that counted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CheckedVote {
    /// Whose.
    pub persona: PersonaId,
    /// Of which vendor.
    pub vendor: VendorId,
    /// How old its observation was when the receipt was written.
    pub age: Duration,
}

/// A certificate that holds. Made only by [`ActionCertificate::check`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CheckedCertificate {
    votes: Vec<CheckedVote>,
    vendors: BTreeSet<VendorId>,
    required: usize,
    eligible: usize,
}

impl CheckedCertificate {
    /// The votes, in the certificate's order.
    pub fn votes(&self) -> &[CheckedVote] {
        &self.votes
    }
    /// The distinct vendors that voted.
    pub fn vendors(&self) -> &BTreeSet<VendorId> {
        &self.vendors
    }
    /// How many had to.
    pub fn required(&self) -> usize {
        self.required
    }
    /// How many might have.
    pub fn eligible(&self) -> usize {
        self.eligible
    }
}

/// The vendor that may not vote on a subject: that of the persona it belongs to, by its name.
pub fn vendor_of<'a>(subject: &SubjectName, roster: &'a Roster) -> Option<&'a VendorId> {
    let name = subject.as_str().strip_suffix("/agent").unwrap_or(subject.as_str());
    let persona = PersonaId::new(name).ok()?;
    roster.member(&persona).map(|member| &member.vendor)
}

impl ActionCertificate {
    /// Checks that it authorises what `receipt` says. The receipt's own signature is for [`check_receipt`].
    ///
    /// # Errors
    /// [`CertificateError`] names the first rule that it breaks.
    pub fn check(
        &self,
        receipt: &Receipt,
        roster: &Roster,
        codec: &impl StatementCodec,
    ) -> Result<CheckedCertificate, CertificateError> {
        if !receipt.class.is_votable() {
            return Err(CertificateError::ClassNotVotable(receipt.class));
        }
        let warden = roster.verifying_key(roster.statement().warden)?;
        let episode: Verified<EpisodeStatement> =
            self.episode.open(&warden, codec).map_err(CertificateError::Episode)?;
        if episode.roster != roster.digest() {
            return Err(CertificateError::OtherRoster { found: episode.roster, given: roster.digest() });
        }
        let same = [
            (episode.cluster == receipt.cluster, "cluster"),
            (episode.node == receipt.node, "node"),
            (episode.boot == receipt.boot, "boot"),
            (episode.subject == receipt.subject, "subject"),
            (episode.id == receipt.episode, "episode"),
            (episode.round == receipt.round, "round"),
            (episode.rung == receipt.rung, "rung"),
            (episode.incarnation == receipt.before, "incarnation"),
        ];
        if let Some(field) = first_wrong(&same) {
            return Err(CertificateError::EpisodeDiffers(field));
        }

        let mut sessions = Vec::new();
        for (index, envelope) in self.sessions.iter().enumerate() {
            let session = verify_session(envelope, roster, codec);
            sessions.push(session.map_err(|source| CertificateError::Session { index, source })?);
        }
        let own = vendor_of(&receipt.subject, roster);
        let eligible = roster.eligible_vendors(own).count();
        let mut votes = Vec::new();
        for (index, envelope) in self.votes.iter().enumerate() {
            let mut holders = sessions.iter().filter(|session| session.session_key == envelope.key).peekable();
            let session = *holders.peek().ok_or(CertificateError::NoSession { index })?;
            let persona = session.persona.clone();
            let vote: Verified<Vote> = envelope
                .open(session.key(), codec)
                .map_err(|source| CertificateError::Vote { persona: persona.clone(), source })?;
            // A session key may have been renewed: one of its sessions is the vote's.
            let session = holders.find(|held| held.incarnation == vote.header.incarnation).unwrap_or(session);
            votes.push(check_vote(&vote, session, &episode, receipt, roster)?);
        }
        let vendors: BTreeSet<_> = votes.iter().map(|vote| vote.vendor.clone()).collect();
        if let Some(vote) = votes.iter().find(|vote| Some(&vote.vendor) == own) {
            let (persona, vendor) = (vote.persona.clone(), vote.vendor.clone());
            return Err(CertificateError::OwnVendor { persona, subject: receipt.subject.clone(), vendor });
        }
        let required = roster.q();
        if vendors.len() < required {
            return Err(CertificateError::NotEnoughVendors { voted: vendors.len(), required, eligible });
        }
        Ok(CheckedCertificate { votes, vendors, required, eligible })
    }
}

fn check_vote(
    vote: &Vote,
    session: &VerifiedSession,
    episode: &EpisodeStatement,
    receipt: &Receipt,
    roster: &Roster,
) -> Result<CheckedVote, CertificateError> {
    let persona = session.persona.clone();
    let (header, seen) = (&vote.header, &vote.attestation);
    let soft_on_persona = receipt.class.evidence() == Evidence::Soft && vendor_of(&receipt.subject, roster).is_some();
    let set_epoch_fits =
        if soft_on_persona { vote.set_epoch == episode.set_epoch } else { vote.set_epoch <= episode.set_epoch };
    let same = [
        (header.persona == persona, "persona"),
        (header.incarnation == session.incarnation, "session incarnation"),
        (header.session_key == session.session_key, "session_key"),
        (header.cluster == receipt.cluster, "cluster"),
        (header.node == receipt.node, "node"),
        (header.boot == receipt.boot && session.boot == receipt.boot, "boot"),
        (header.roster_epoch == roster.epoch() && header.roster == roster.digest(), "roster"),
        (header.policy == episode.policy, "policy"),
        (vote.episode == episode.id, "episode"),
        (vote.round == episode.round, "round"),
        (vote.nonce == episode.nonce, "nonce"),
        (set_epoch_fits, "set_epoch"),
        (vote.subject == episode.subject && seen.subject == episode.subject, "subject"),
        (vote.incarnation == episode.incarnation && seen.incarnation == episode.incarnation, "incarnation"),
        (vote.rung == episode.rung, "rung"),
        (vote.choice == Choice::Approve, "choice"),
        (vote.class == receipt.class, "fault_class"),
        (seen.repairable_fault() == Some(receipt.class), "attestation"),
    ];
    if let Some(field) = first_wrong(&same) {
        return Err(CertificateError::VoteDiffers { persona, field });
    }
    let age = seen.observed_at.age_at(receipt.at);
    let Some(age) = age.filter(|age| *age <= MAX_AGE) else {
        return Err(CertificateError::Stale { persona, age });
    };
    let member = roster
        .member(&persona)
        .ok_or_else(|| CertificateError::VoteDiffers { persona: persona.clone(), field: "persona" })?;
    Ok(CheckedVote { persona, vendor: member.vendor.clone(), age })
}

/// A receipt that holds. Made only by [`check_receipt`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CheckedReceipt {
    receipt: Verified<Receipt>,
    certificate: Option<CheckedCertificate>,
}

impl CheckedReceipt {
    /// The certificate (INTENT and WOULD_ACT).
    pub fn certificate(&self) -> Option<&CheckedCertificate> {
        self.certificate.as_ref()
    }
    /// The bytes as signed.
    pub fn envelope(&self) -> &Envelope {
        self.receipt.envelope()
    }
}

impl std::ops::Deref for CheckedReceipt {
    type Target = Receipt;
    fn deref(&self) -> &Receipt {
        &self.receipt
    }
}

/// Checks one receipt, with all that it rests on.
///
/// # Errors
/// [`ReceiptError`] names the first rule that it breaks.
pub fn check_receipt(
    envelope: &Envelope,
    roster: &Roster,
    codec: &impl StatementCodec,
) -> Result<CheckedReceipt, ReceiptError> {
    let warden = roster.verifying_key(roster.statement().warden)?;
    let receipt: Verified<Receipt> = envelope.open(&warden, codec)?;
    let place = [(receipt.cluster == *roster.cluster(), "cluster"), (receipt.node == *roster.node(), "node")];
    if let Some(field) = first_wrong(&place) {
        return Err(ReceiptError::Elsewhere(field));
    }
    let authorises = matches!(receipt.kind, ReceiptKind::Intent | ReceiptKind::WouldAct);
    let outcome_fits = match receipt.kind {
        ReceiptKind::Intent => receipt.outcome.is_none(),
        ReceiptKind::Outcome => receipt.outcome.is_some(),
        ReceiptKind::Abort | ReceiptKind::WouldAct => true,
    };
    // That a repair settled without anybody able to say is told later, of an action that was ended before.
    let afterword = receipt.kind == ReceiptKind::Outcome && receipt.outcome == Some(Outcome::Unconfirmed);
    let shape = [
        (receipt.certificate.is_some() == authorises, "certificate"),
        (afterword || receipt.intent.is_some() != authorises, "intent"),
        (outcome_fits, "outcome"),
    ];
    if let Some(field) = first_wrong(&shape) {
        return Err(ReceiptError::Misshapen { kind: receipt.kind, field });
    }
    let certificate = receipt.certificate.as_ref().map(|c| c.check(&receipt, roster, codec)).transpose()?;
    Ok(CheckedReceipt { receipt, certificate })
}

fn first_wrong(facts: &[(bool, &'static str)]) -> Option<&'static str> {
    facts.iter().find(|(fits, _)| !fits).map(|(_, field)| *field)
}

#[cfg(test)]
mod tests;
