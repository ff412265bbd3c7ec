//! What the warden shows of itself. No rule reads it.

use super::{State, Subject, Warden};
use crate::protocol::evidence::Evidence;
use crate::protocol::statement::{StateName, StatementCodec};
use crate::protocol::types::Timestamp;
use crate::protocol::view::{HeldBy, HoldStatus, PersonaStatus, SubjectStatus, WardenView};
use std::collections::BTreeSet;

impl<C: StatementCodec> Warden<C> {
    /// The state to show: holds and freezes lie over what goes on below.
    pub(super) fn state_name(&self, subject: &Subject) -> StateName {
        let own = subject.state.name();
        if self.damage.is_some() {
            return StateName::Held;
        }
        if !subject.state.is_committed() && self.hold_on(&subject.name).is_some() {
            return StateName::Held;
        }
        let soft = subject
            .state
            .class()
            .or_else(|| self.spoken_class(&subject.words))
            .is_some_and(|class| class.evidence() == Evidence::Soft && class.is_votable());
        let gathering = matches!(own, StateName::Suspect | StateName::Challenged);
        let in_doubt = own == StateName::Healthy && self.host_is_in_doubt(subject);
        if in_doubt || (gathering && soft && self.soft_block(subject).is_some()) { StateName::Frozen } else { own }
    }

    fn held_by(&self, subject: &Subject) -> Option<HeldBy> {
        if self.damage.is_some() {
            Some(HeldBy::Journal)
        } else if !subject.state.is_committed() && self.hold_on(&subject.name).is_some() {
            Some(HeldBy::Operator)
        } else if let State::Held(by) = subject.state {
            Some(by)
        } else {
            None
        }
    }

    /// Everything there is to show, at `now`.
    pub fn view(&self, now: Timestamp) -> WardenView {
        let live: BTreeSet<_> = self
            .guardians
            .values()
            .filter(|guardian| {
                let fresh =
                    guardian.heartbeat_at.and_then(|at| at.age_at(now)).is_some_and(|age| age <= self.word_ttl());
                fresh && self.is_live(guardian)
            })
            .map(|guardian| guardian.vendor.clone())
            .collect();
        let personas = self
            .guardians
            .iter()
            .map(|(persona, guardian)| PersonaStatus {
                persona: persona.clone(),
                vendor: guardian.vendor.clone(),
                session: guardian.session().map(|session| session.incarnation),
                heartbeat_at: guardian.heartbeat_at,
                live: live.contains(&guardian.vendor) && self.is_live(guardian),
                quarantined: guardian.quarantined,
                health: guardian.health,
                policy_matches: guardian.policy_matches,
            })
            .collect();
        let holds = self
            .holds
            .iter()
            .filter(|(_, hold)| hold.left(self.wall_ms).is_none_or(|left| !left.is_zero()))
            .map(|(subject, hold)| HoldStatus {
                subject: subject.clone(),
                uid: hold.uid,
                reason: hold.reason.clone(),
                until: hold.until,
            })
            .collect();
        let frozen_until = if let Some(until) = self.mass_freeze() {
            Some((until, "mass_accusation"))
        } else if now < self.soft_from {
            Some((self.soft_from, "grace"))
        } else {
            let freeze = self.policy.timing.pair_freeze;
            let ends = self.disputes.values().map(|since| *since + freeze).filter(|until| now < *until).max();
            ends.map(|until| (until, "mutual_accusation"))
        };
        WardenView {
            instance: self.instance,
            personas,
            subjects: self.subjects.values().map(|subject| self.show(subject, &live)).collect(),
            vendors_live: live.len(),
            holds,
            journal_damage: self.damage.clone(),
            frozen_until,
        }
    }

    fn show(&self, subject: &Subject, live: &BTreeSet<crate::protocol::types::VendorId>) -> SubjectStatus {
        let eligible =
            self.roster.eligible_vendors(subject.policy.vendor.as_ref()).filter(|v| live.contains(*v)).count();
        let margin = i32::try_from(eligible).unwrap_or(i32::MAX) - i32::try_from(self.roster.q()).unwrap_or(i32::MAX);
        let votes = super::VOTABLE
            .iter()
            .flat_map(|class| subject.votes.tally(self.now, *class, self.ballot(subject, *class)).votes)
            .map(|vote| (**vote).clone())
            .collect();
        SubjectStatus {
            subject: subject.name.clone(),
            state: self.state_name(subject),
            held_by: self.held_by(subject),
            reason: match self.held_by(subject) {
                Some(HeldBy::Operator) => "hold",
                Some(HeldBy::Journal) => "journal",
                Some(HeldBy::Ladder | HeldBy::Budget) | None => subject.reason,
            },
            episode: subject.episode.id,
            round: subject.episode.round,
            rung: subject.episode.rung,
            incarnation: subject.unit.map_or(subject.episode.incarnation, |unit| unit.incarnation),
            pid: subject.unit.and_then(|unit| unit.main_pid),
            class: subject.state.class().or_else(|| self.spoken_class(&subject.words)),
            verdicts: subject.words.iter().map(|(persona, word)| (persona.clone(), word.attestation.clone())).collect(),
            votes,
            budget: subject.ledger.tokens,
            deadline: subject.state.deadline(),
            margin,
            since: subject.since,
        }
    }
}
