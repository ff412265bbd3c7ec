//! Counts votes: the latest word of each voter, by vendor.
//!
//! Rules implemented here:
//! * **S1** votes count by distinct eligible vendor, for one fault class; a subject's own vendor never counts;
//! * **S4** a vote counts only while it is its voter's latest word, was not withdrawn, and its observation is not older than
//!   the class allows;
//! * only votes on the current episode, round, nonce, incarnation and rung are kept at all; soft votes on personas also need
//!   the current guardian-set epoch.
//!
//! Upon a vote: it replaces the voter's earlier one. Upon WITHDRAW, or a later heartbeat that no longer says the same: the
//! voter has no vote. Upon a new round: nobody has.

use super::evidence::{Attestation, Evidence, FaultClass, Verdict};
use super::policy::SubjectKind;
use super::roster::Roster;
use super::statement::{Choice, EpisodeStatement, Verified, Vote};
use super::types::{PersonaId, SessionIncarnation, Timestamp, VendorId};
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

/// Why a vote is not kept.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum VoteRejection {
    /// It is about another episode, round or nonce.
    #[error("votes on another episode, round or nonce")]
    OtherRound,
    /// It is about another run of the subject.
    #[error("votes on another incarnation")]
    OtherIncarnation,
    /// It approves another rung.
    #[error("votes for rung {voted}, the episode is at {current}")]
    OtherRung {
        /// What it approves.
        voted: u32,
        /// What is up.
        current: u32,
    },
    /// An action on a persona has been taken since.
    #[error("votes under guardian-set epoch {voted}, the epoch is {current}")]
    OtherSetEpoch {
        /// Its epoch.
        voted: u64,
        /// The epoch.
        current: u64,
    },
    /// The class is none that may be acted on.
    #[error("{0} cannot be voted on")]
    NotVotable(FaultClass),
    /// The attestation in it does not say what the vote says.
    #[error("its attestation does not support it")]
    Unsupported,
    /// The voter's vendor is the subject's.
    #[error("a vendor has no vote on its own subject")]
    OwnVendor,
    /// The observation is from the future or too old.
    #[error("its observation is not between 0 and {ttl:?} old")]
    NotFresh {
        /// How old it may be.
        ttl: Duration,
    },
    /// An older word than one already kept.
    #[error("an older word than the voter's latest")]
    Stale,
}

impl VoteRejection {
    /// The label of `zeta_bft_statements_rejected_total`.
    pub const fn as_str(&self) -> &'static str {
        match self {
            Self::OtherRound => "other_round",
            Self::OtherIncarnation => "other_incarnation",
            Self::OtherRung { .. } => "other_rung",
            Self::OtherSetEpoch { .. } => "other_set_epoch",
            Self::NotVotable(_) => "not_votable",
            Self::Unsupported => "unsupported",
            Self::OwnVendor => "own_vendor",
            Self::NotFresh { .. } => "not_fresh",
            Self::Stale => "stale",
        }
    }
}

/// What a vote is checked against.
#[derive(Clone, Copy, Debug)]
pub struct Ballot<'a> {
    /// The episode as published.
    pub episode: &'a EpisodeStatement,
    /// What the subject is.
    pub kind: &'a SubjectKind,
    /// Its vendor.
    pub vendor: Option<&'a VendorId>,
    /// How old an observation may be.
    pub ttl: Duration,
}

impl Ballot<'_> {
    /// Whether a vote's guardian-set epoch fits: hard votes outlive an action on another persona, soft ones do not.
    fn epoch_fits(&self, vote: &Vote) -> bool {
        let soft_on_persona = vote.class.evidence() == Evidence::Soft && self.kind.persona().is_some();
        if soft_on_persona {
            vote.set_epoch == self.episode.set_epoch
        } else {
            vote.set_epoch <= self.episode.set_epoch
        }
    }

    fn is_fresh(&self, now: Timestamp, attestation: &Attestation) -> bool {
        attestation.observed_at.age_at(now).is_some_and(|age| age <= self.ttl)
    }

    /// Everything about a vote that does not depend on other votes.
    fn admit(&self, now: Timestamp, vote: &Vote, voter: &VendorId) -> Result<(), VoteRejection> {
        let episode = self.episode;
        if (vote.episode, vote.round, vote.nonce) != (episode.id, episode.round, episode.nonce)
            || vote.subject != episode.subject
        {
            return Err(VoteRejection::OtherRound);
        }
        if vote.incarnation != episode.incarnation {
            return Err(VoteRejection::OtherIncarnation);
        }
        if vote.rung != episode.rung {
            return Err(VoteRejection::OtherRung { voted: vote.rung.0, current: episode.rung.0 });
        }
        if self.vendor == Some(voter) {
            return Err(VoteRejection::OwnVendor);
        }
        if vote.choice == Choice::Withdraw {
            return Ok(());
        }
        if !vote.class.is_votable() {
            return Err(VoteRejection::NotVotable(vote.class));
        }
        if !self.epoch_fits(vote) {
            let (voted, current) = (vote.set_epoch.0, episode.set_epoch.0);
            return Err(VoteRejection::OtherSetEpoch { voted, current });
        }
        let said = &vote.attestation;
        let supported = said.subject == vote.subject
            && said.incarnation == vote.incarnation
            && said.verdict == Verdict::Down
            && said.class == Some(vote.class)
            && said.evidence == vote.class.evidence()
            && said.observed_at == vote.header.observed_at;
        if !supported {
            return Err(VoteRejection::Unsupported);
        }
        if !self.is_fresh(now, said) {
            return Err(VoteRejection::NotFresh { ttl: self.ttl });
        }
        Ok(())
    }
}

#[derive(Clone, Debug)]
struct Kept {
    vote: Option<Verified<Vote>>,
    vendor: VendorId,
    session: SessionIncarnation,
    seq: u64,
}

/// The votes of one subject's current round.
#[derive(Clone, Debug, Default)]
pub struct VoteKeeper {
    latest: BTreeMap<PersonaId, Kept>,
}

impl VoteKeeper {
    /// Takes a vote.
    ///
    /// # Errors
    /// [`VoteRejection`] when it does not fit the ballot, or is older than what is kept.
    pub fn take(
        &mut self,
        now: Timestamp,
        vote: Verified<Vote>,
        vendor: &VendorId,
        ballot: Ballot<'_>,
    ) -> Result<(), VoteRejection> {
        ballot.admit(now, &vote, vendor)?;
        let (persona, session, seq) = (vote.header.persona.clone(), vote.header.incarnation, vote.header.seq);
        if let Some(kept) = self.latest.get(&persona)
            && (kept.session, kept.seq) >= (session, seq)
        {
            return Err(VoteRejection::Stale);
        }
        let vote = (vote.choice == Choice::Approve).then_some(vote);
        self.latest.insert(persona, Kept { vote, vendor: vendor.clone(), session, seq });
        Ok(())
    }

    /// A later heartbeat: a voter that no longer says DOWN of the same class and incarnation has no vote.
    pub fn heard(&mut self, persona: &PersonaId, session: SessionIncarnation, seq: u64, word: Option<&Attestation>) {
        let Some(kept) = self.latest.get_mut(persona) else { return };
        if (kept.session, kept.seq) >= (session, seq) {
            return;
        }
        let holds = kept.vote.as_ref().is_some_and(|vote| {
            word.is_some_and(|said| said.repairable_fault() == Some(vote.class) && said.incarnation == vote.incarnation)
        });
        if !holds {
            kept.vote = None;
            (kept.session, kept.seq) = (session, seq);
        }
    }

    /// Whoever it was has no voice any more: its session ended, or it was proven to lie.
    pub fn forget(&mut self, persona: &PersonaId) {
        self.latest.remove(persona);
    }

    /// A new round: nobody has voted.
    pub fn clear(&mut self) {
        self.latest.clear();
    }

    /// Whether any vote counts now.
    pub fn any(&self, now: Timestamp, ballot: Ballot<'_>) -> bool {
        FaultClass::ALL.iter().any(|class| !self.tally(now, *class, ballot).vendors.is_empty())
    }

    /// The votes for a class that count now.
    pub fn tally(&self, now: Timestamp, class: FaultClass, ballot: Ballot<'_>) -> Tally<'_> {
        let mut tally = Tally::default();
        for kept in self.latest.values() {
            let Some(vote) = &kept.vote else { continue };
            if vote.class == class
                && ballot.admit(now, vote, &kept.vendor).is_ok()
                && tally.vendors.insert(kept.vendor.clone())
            {
                tally.votes.push(vote);
            }
        }
        tally
    }

    /// What decides the next tallies: every voter's latest word.
    pub(super) fn hash_future(&self, into: &mut impl std::hash::Hasher) {
        use std::hash::Hash as _;
        for (persona, Kept { vote, vendor, session, seq }) in &self.latest {
            (persona, vote.as_deref(), vendor, session, seq).hash(into);
        }
    }

    /// When the first of the votes that count now stops counting.
    pub fn expires_at(&self, now: Timestamp, ttl: Duration) -> Option<Timestamp> {
        let votes = self.latest.values().filter_map(|kept| kept.vote.as_ref());
        // One nanosecond past the last moment at which it still counts.
        let ends = votes.map(|vote| vote.attestation.observed_at + ttl + Duration::from_nanos(1));
        ends.filter(|end| *end > now).min()
    }
}

/// Votes that count, for one class.
#[derive(Clone, Debug, Default)]
pub struct Tally<'a> {
    /// The distinct eligible vendors behind them.
    pub vendors: BTreeSet<VendorId>,
    /// One vote of each.
    pub votes: Vec<&'a Verified<Vote>>,
}

impl Tally<'_> {
    /// Whether they are a quorum of the roster.
    pub fn is_quorum(&self, roster: &Roster) -> bool {
        self.vendors.len() >= roster.q()
    }

    /// The oldest observation among them.
    pub fn oldest(&self) -> Option<Timestamp> {
        self.votes.iter().map(|vote| vote.attestation.observed_at).min()
    }
}
