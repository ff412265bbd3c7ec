//! When a guardian votes, renews its vote, and takes it back.
//!
//! * APPROVE at once, when its own verdict is a DOWN that can be voted on, the published episode is about that very run, the
//!   subject is not of its own vendor, roster and policy are the warden's, and a session stands.
//! * Again when the episode's numbers change, and every quarter of the class's `vote_ttl` as long as the observation itself is
//!   renewed: what PID 1 says and a silence last; a tick state must be read again.
//! * BROKEN does not interrupt a running tick: no vote is made or renewed while one runs. When the voters are challenged, only a
//!   reading made for that challenge leads to a vote that answers it.
//! * One WITHDRAW as soon as the verdict is no longer the voted one.
//! * No APPROVE while the operator has the subject, it is held, or it is being acted on.

use super::super::evidence::FaultClass;
use super::super::statement::{Choice, EpisodeStatement, StateName, StatementCodec, Vote};
use super::super::types::{EpisodeId, Incarnation, Nonce, Round, Rung, SetEpoch, SubjectName, Timestamp};
use super::observation::{EpisodeFault, Observation};
use super::{Guardian, GuardianEffect, GuardianEvent};

/// What a vote approves: while all of this stays the same, it is the same vote.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Ballot {
    episode: EpisodeId,
    round: Round,
    nonce: Nonce,
    set_epoch: SetEpoch,
    incarnation: Incarnation,
    rung: Rung,
    class: FaultClass,
    challenge: Option<Nonce>,
}

/// The own vote that stands on a subject.
#[derive(Clone, Copy, Debug, Hash)]
pub(super) struct Cast {
    ballot: Ballot,
    signed_at: Timestamp,
    observed_at: Timestamp,
    /// When it is due again without any input; `None`: only with a new observation, or not now.
    pub(super) renew_at: Option<Timestamp>,
}

/// What there is to do about a subject now.
enum Stand {
    /// Vote, or keep the vote fresh.
    Approve(Ballot),
    /// First observe again for this challenge.
    Observe(Nonce),
    /// Nothing new; an earlier vote may stand until it expires.
    Abstain,
}

fn stand(observation: &Observation, episode: &EpisodeStatement, cast: Option<&Cast>) -> Stand {
    let attestation = observation.attestation();
    let Some(class) = attestation.repairable_fault() else {
        return Stand::Abstain;
    };
    if attestation.incarnation != episode.incarnation
        || matches!(episode.state, StateName::Operator | StateName::Held | StateName::Acting)
        || (class == FaultClass::Broken && observation.is_ticking())
    {
        return Stand::Abstain;
    }
    let answered = cast
        .filter(|cast| (cast.ballot.episode, cast.ballot.nonce) == (episode.id, episode.nonce))
        .and_then(|cast| cast.ballot.challenge);
    let challenge = match episode.challenge.filter(|_| class == FaultClass::Broken) {
        Some(challenge) if observation.challenge_met() == Some(challenge) => Some(challenge),
        Some(challenge) if episode.state == StateName::Challenged => return Stand::Observe(challenge),
        _ => answered.filter(|_| class == FaultClass::Broken),
    };
    Stand::Approve(Ballot {
        episode: episode.id,
        round: episode.round,
        nonce: episode.nonce,
        set_epoch: episode.set_epoch,
        incarnation: episode.incarnation,
        rung: episode.rung,
        class,
        challenge,
    })
}

impl<C: StatementCodec> Guardian<C> {
    /// Brings the own votes in line with the own attestations.
    pub(super) fn vote(&mut self, now: Timestamp, out: &mut Vec<GuardianEffect>) {
        if !self.link_is_open() {
            return;
        }
        let config = self.config.clone();
        let policy = &config.policy;
        let own_vendor = config.roster.member(&config.persona).map(|member| member.vendor.clone());
        for (subject, subject_policy) in &policy.subjects {
            if own_vendor.is_none() || subject_policy.vendor == own_vendor {
                continue;
            }
            let Some(observation) = self.observations.get(subject) else { continue };
            if observation.attestation().repairable_fault().is_none() && !self.casts.contains_key(subject) {
                // Nothing is wrong with it, and no vote is to be taken back.
                continue;
            }
            let Some(published) = self.episodes.get(subject).filter(|published| published.mismatch.is_none()) else {
                continue;
            };
            let episode = published.statement.clone();
            self.withdraw(now, subject, &episode, out);
            let Some(observation) = self.observations.get(subject) else { continue };
            match stand(observation, &episode, self.casts.get(subject)) {
                Stand::Approve(ballot) => {
                    let ttl = policy.timing.class(ballot.class, &subject_policy.kind).map(|timing| timing.vote_ttl);
                    self.approve(now, subject, ballot, ttl.unwrap_or_default() / 4, out);
                }
                Stand::Observe(challenge) => {
                    self.casts.entry(subject.clone()).and_modify(|cast| cast.renew_at = None);
                    if self.observing.insert(subject.clone(), challenge) != Some(challenge) {
                        out.push(GuardianEffect::Observe { subject: subject.clone(), challenge });
                    }
                }
                Stand::Abstain => {
                    self.casts.entry(subject.clone()).and_modify(|cast| cast.renew_at = None);
                }
            }
        }
    }

    /// One WITHDRAW when the verdict is no longer what was voted; a vote on an earlier round is void by itself.
    fn withdraw(
        &mut self,
        now: Timestamp,
        subject: &SubjectName,
        episode: &EpisodeStatement,
        out: &mut Vec<GuardianEffect>,
    ) {
        let (Some(cast), Some(observation)) = (self.casts.get(subject).copied(), self.observations.get(subject)) else {
            return;
        };
        let attestation = observation.attestation();
        let stands = attestation.repairable_fault() == Some(cast.ballot.class)
            && attestation.incarnation == cast.ballot.incarnation;
        if stands {
            return;
        }
        self.casts.remove(subject);
        if (cast.ballot.episode, cast.ballot.round, cast.ballot.nonce) == (episode.id, episode.round, episode.nonce) {
            self.sign_vote(now, subject, cast.ballot, Choice::Withdraw, out);
        }
    }

    fn approve(
        &mut self,
        now: Timestamp,
        subject: &SubjectName,
        ballot: Ballot,
        renewal: std::time::Duration,
        out: &mut Vec<GuardianEffect>,
    ) {
        let Some(observation) = self.observations.get_mut(subject) else { return };
        let observed_at = observation.attestation().observed_at;
        if let Some(cast) = self.casts.get_mut(subject).filter(|cast| cast.ballot == ballot) {
            // Silence and PID 1's word are observed anew at every look; ticks only when they are read.
            cast.renew_at = (ballot.class != FaultClass::Broken).then_some(cast.signed_at + renewal);
            if now < cast.signed_at + renewal || observed_at <= cast.observed_at {
                return;
            }
        }
        let fault = EpisodeFault {
            episode: ballot.episode,
            incarnation: ballot.incarnation,
            class: ballot.class,
            repaired_at: None,
        };
        let known = observation.fault.filter(|known| EpisodeFault { repaired_at: None, ..*known } == fault);
        observation.fault = Some(known.unwrap_or(fault));
        let renew_at = (ballot.class != FaultClass::Broken).then_some(now + renewal);
        self.casts.insert(subject.clone(), Cast { ballot, signed_at: now, observed_at, renew_at });
        self.sign_vote(now, subject, ballot, Choice::Approve, out);
    }

    fn sign_vote(
        &mut self,
        now: Timestamp,
        subject: &SubjectName,
        ballot: Ballot,
        choice: Choice,
        out: &mut Vec<GuardianEffect>,
    ) {
        let Some(attestation) = self.observations.get(subject).map(|seen| seen.attestation().clone()) else { return };
        let observed_at = if choice == Choice::Approve { attestation.observed_at } else { now };
        let Some(header) = self.next_header(observed_at) else { return };
        let vote = Vote {
            header,
            episode: ballot.episode,
            round: ballot.round,
            nonce: ballot.nonce,
            set_epoch: ballot.set_epoch,
            subject: subject.clone(),
            incarnation: ballot.incarnation,
            rung: ballot.rung,
            class: ballot.class,
            choice,
            challenge: ballot.challenge,
            attestation,
        };
        let envelope = self.seal(&vote);
        out.push(GuardianEffect::ToWarden(envelope.clone()));
        out.push(GuardianEffect::Broadcast(envelope));
        out.push(GuardianEffect::Event(GuardianEvent::Voted {
            subject: subject.clone(),
            episode: ballot.episode,
            kind: choice.as_str(),
        }));
    }
}
