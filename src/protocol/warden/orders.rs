//! The operator's orders: hold, release, approve, readmit. The operator is sovereign: a hold always wins.
//!
//! Every order is journaled with the user and the reason; it is answered when it is on the disk.

use super::{Answer, Deferred, Recovered, ReplyTo, State, Warden, WardenEffect};
use crate::protocol::record::{Forgiveness, OperatorOrder, Record};
use crate::protocol::statement::StatementCodec;
use crate::protocol::types::{EpisodeId, PersonaId, SessionIncarnation, SubjectName};
use std::collections::BTreeMap;
use std::time::Duration;

/// A hold in force.
#[derive(Clone, Debug, Hash)]
pub(super) struct Hold {
    pub(super) uid: u32,
    pub(super) reason: String,
    /// Seconds of Unix time; until released with `None`.
    pub(super) until: Option<u64>,
}

impl Hold {
    /// How long it still lasts, zero when it has ended; `None`: until released.
    pub(super) fn left(&self, wall_ms: u64) -> Option<Duration> {
        self.until.map(|until| Duration::from_millis(until.saturating_mul(1000).saturating_sub(wall_ms)))
    }
}

/// Holds as the journal has them.
pub(super) fn recover_holds(recovered: &Recovered) -> BTreeMap<Option<SubjectName>, Hold> {
    let hold = |(uid, order, reason): &(u32, OperatorOrder, String)| match order {
        OperatorOrder::Hold { subject, until } => {
            Some((subject.clone(), Hold { uid: *uid, reason: reason.clone(), until: *until }))
        }
        _ => None,
    };
    recovered.holds.iter().filter_map(hold).collect()
}

/// Longest reason, in bytes: it goes to the journal.
const MAX_REASON: usize = 1024;

impl<C: StatementCodec> Warden<C> {
    /// The hold that keeps a subject as it is.
    pub(super) fn hold_on(&self, name: &SubjectName) -> Option<&Hold> {
        let in_force = |hold: &&Hold| hold.left(self.wall_ms).is_none_or(|left| !left.is_zero());
        let of_subject = self.holds.get(&Some(name.clone())).filter(in_force);
        of_subject.or_else(|| self.holds.get(&None).filter(in_force))
    }

    pub(super) fn ordered(&mut self, uid: u32, order: OperatorOrder, reason: String, reply: ReplyTo) {
        let refusal = if let Some(damage) = &self.damage {
            Some(("journal", format!("the journal is in doubt, nothing can be written: {damage}")))
        } else if !self.booted {
            Some(("starting", "the warden is starting: try again".to_owned()))
        } else if reason.len() > MAX_REASON {
            Some(("reason_too_long", format!("a reason has at most {MAX_REASON} bytes, this one has {}", reason.len())))
        } else {
            self.check_order(&order).err()
        };
        if let Some((label, text)) = refusal {
            let answer = Answer::Refused { reason: label, text };
            self.out.push(WardenEffect::Reply { to: reply, answer });
            return;
        }
        let wall = self.wall_ms / 1000;
        let forgiveness = self.forgiveness(&order);
        let record = Record::Operator { uid, order: order.clone(), reason: reason.clone(), wall, forgiveness };
        let seq = self.append(record);
        let text = match order {
            OperatorOrder::Hold { subject, until } => self.hold(uid, subject, until, reason),
            OperatorOrder::Release { subject } => self.release(subject.as_ref()),
            OperatorOrder::Approve { episode } => self.approve(episode),
            OperatorOrder::Readmit { persona } => self.readmit(&persona, forgiveness.unwrap_or_default()),
        };
        self.after_sync.push_back((seq, Deferred::Reply { to: reply, answer: Answer::Done(text) }));
    }

    fn check_order(&self, order: &OperatorOrder) -> Result<(), (&'static str, String)> {
        let known = |subject: &Option<SubjectName>| match subject {
            Some(name) if !self.subjects.contains_key(name) => {
                let names: Vec<_> = self.subjects.keys().map(SubjectName::as_str).collect();
                Err(("unknown_subject", format!("there is no subject {name}; there are: {}", names.join(", "))))
            }
            _ => Ok(()),
        };
        match order {
            OperatorOrder::Hold { subject, .. } | OperatorOrder::Release { subject } => known(subject),
            OperatorOrder::Approve { episode } => {
                let waits = self.subjects.values().any(|subject| {
                    subject.episode.id == *episode && matches!(subject.state, State::AwaitingApproval { .. })
                });
                if waits { Ok(()) } else { Err(("not_waiting", format!("episode {episode} waits for no approval"))) }
            }
            OperatorOrder::Readmit { persona } => match self.guardians.get(persona) {
                None => Err(("unknown_persona", format!("{persona} is not in the roster"))),
                Some(guardian) if !guardian.quarantined => {
                    Err(("not_quarantined", format!("{persona} is not quarantined: it has its vote")))
                }
                Some(_) => Ok(()),
            },
        }
    }

    fn hold(&mut self, uid: u32, subject: Option<SubjectName>, until: Option<u64>, reason: String) -> String {
        let text = match &subject {
            Some(name) => format!("{name} is held: it is left alone whatever happens to it"),
            None => "every subject is held: nothing is repaired".to_owned(),
        };
        self.holds.insert(subject, Hold { uid, reason, until });
        text
    }

    fn release(&mut self, which: Option<&SubjectName>) -> String {
        if which.is_none() {
            self.holds.clear();
        } else {
            self.holds.remove(&which.cloned());
        }
        let names: Vec<_> =
            self.subjects.keys().filter(|name| which.is_none_or(|wanted| wanted == *name)).cloned().collect();
        for name in &names {
            let accumulated = self.accumulated();
            if let State::Held(_) = self.subjects[name].state {
                if let Some(subject) = self.subjects.get_mut(name) {
                    subject.ledger.release(accumulated);
                }
                self.journal_ledger(name);
                self.new_episode(name);
                self.enter(name, State::Healthy, "released");
            }
        }
        match which {
            Some(name) if self.holds.contains_key(&None) => {
                format!("{name} is released, but every subject is still held: release --all ends that")
            }
            Some(name) => format!("{name} is released"),
            None => "every subject is released".to_owned(),
        }
    }

    fn approve(&mut self, episode: EpisodeId) -> String {
        let waiting = self
            .subjects
            .values()
            .find(|subject| subject.episode.id == episode && matches!(subject.state, State::AwaitingApproval { .. }));
        let Some(name) = waiting.map(|subject| subject.name.clone()) else { return String::new() };
        // Votes from before the approval do not count: whoever still sees the fault says so again.
        self.new_round(&name);
        if let Some(subject) = self.subjects.get_mut(&name) {
            subject.approved = true;
        }
        self.enter(&name, State::Suspect, "approved");
        format!("episode {episode} of {name} is approved: it goes on as soon as a quorum votes again")
    }

    /// What a readmission forgives.
    fn forgiveness(&self, order: &OperatorOrder) -> Option<Forgiveness> {
        let OperatorOrder::Readmit { persona } = order else { return None };
        let next = SessionIncarnation::new(self.instance, self.sessions_opened.saturating_add(1));
        Some(self.guardians.get(persona)?.forgiven_from(next))
    }

    fn readmit(&mut self, persona: &PersonaId, forgiven: Forgiveness) -> String {
        if let Some(guardian) = self.guardians.get_mut(persona) {
            guardian.readmit(forgiven);
        }
        self.raise_set_epoch();
        format!("{persona} has its vote back; if its agent still runs as it did then, restart that agent")
    }
}
