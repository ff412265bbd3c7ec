//! What subjects share: slots, budgets of node and vendor, doubts about the host.
//!
//! Rules implemented here:
//! * **S5** at most f subjects of the node hold a slot; waiters come in order of certification, one place per vendor at a
//!   time, so that no vendor's subjects can crowd out another's;
//! * **S6** the node's day, and each vendor's share of it;
//! * Frozen: soft evidence rests after a resume, while a quorum says that the host is in doubt, and, for at most `pair_freeze`,
//!   while q vendors accuse most of the node at once, and where two vendors accuse each other of BROKEN. Most of the node is
//!   what is most of it without any f vendors too: so many may be wrong, and the host be well. Hard evidence is never frozen.

use super::{State, Subject, VOTABLE, Warden};
use crate::protocol::episode::Certified;
use crate::protocol::evidence::{Attestation, Evidence, FaultClass, Reason};
use crate::protocol::ladder::BudgetSpent;
use crate::protocol::policy::SubjectKind;
use crate::protocol::statement::StatementCodec;
use crate::protocol::types::{SubjectName, Timestamp, VendorId};
use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

/// Most of the node accused by a quorum.
#[derive(Clone, Copy, Debug, Hash)]
pub(super) struct MassAccusation {
    since: Timestamp,
    /// When it was last so.
    seen: Timestamp,
}

impl<C: StatementCodec> Warden<C> {
    // ---- slots ----

    fn slots_free(&self) -> bool {
        let taken = self.subjects.values().filter(|subject| subject.state.holds_slot(self.now)).count();
        taken < self.roster.f()
    }

    /// Whether it is this subject's turn.
    pub(super) fn has_slot(&self, subject: &Subject, certified: &Certified) -> bool {
        let Some(place) = certified.place else { return false };
        let ready_before = self.subjects.values().any(|other| match &other.state {
            State::Certified(waiting) => {
                other.name != subject.name
                    && waiting.place.is_some_and(|theirs| theirs < place)
                    && other.ledger.cool_down_left(self.accumulated()).is_zero()
            }
            _ => false,
        });
        !ready_before && self.slots_free()
    }

    /// Gives a place in the queue to each vendor's first waiter.
    pub(super) fn hand_out_places(&mut self) {
        let has_place = |subject: &Subject| match &subject.state {
            State::Certified(certified) => certified.place.is_some(),
            _ => subject.state.holds_slot(self.now),
        };
        let taken: BTreeSet<VendorId> =
            self.subjects.values().filter(|s| has_place(s)).filter_map(|s| s.policy.vendor.clone()).collect();
        let mut waiting: Vec<_> = self
            .subjects
            .values()
            .filter_map(|subject| match &subject.state {
                // Whoever still cools down must not keep its vendor's other subjects waiting.
                State::Certified(certified)
                    if certified.place.is_none() && subject.ledger.cool_down_left(self.accumulated()).is_zero() =>
                {
                    Some((certified.order, subject.name.clone(), subject.policy.vendor.clone()))
                }
                _ => None,
            })
            .collect();
        waiting.sort();
        let mut taken = taken;
        for (_, name, vendor) in waiting {
            if vendor.is_some_and(|vendor| !taken.insert(vendor)) {
                continue;
            }
            self.places += 1;
            if let Some(State::Certified(certified)) = self.subjects.get_mut(&name).map(|s| &mut s.state) {
                certified.place = Some(self.places);
            }
        }
    }

    // ---- budgets ----

    /// Whether subject, vendor and node have a repair left.
    pub(super) fn budget_allows(&self, subject: &Subject) -> Result<(), BudgetSpent> {
        let accumulated = self.accumulated();
        subject.ledger.allows(&subject.policy.budget, accumulated)?;
        let per_day = self.policy.node_per_day;
        let spent = self.node.spent_today(accumulated);
        if spent >= per_day {
            return Err(BudgetSpent::Node { spent, per_day });
        }
        if let Some(vendor) = &subject.policy.vendor {
            let vendors = u32::try_from(self.roster.vendors().len()).unwrap_or(u32::MAX).max(1);
            // Rounded down, but never to nothing: the node's own cap still stands.
            let share = (per_day / vendors).max(1);
            let of_vendor = self.subjects.values().filter(|other| other.policy.vendor.as_ref() == Some(vendor));
            let spent = of_vendor.map(|other| other.ledger.spent_today(accumulated)).sum();
            if spent >= share {
                return Err(BudgetSpent::Vendor { spent, share });
            }
        }
        Ok(())
    }

    // ---- the queue ----

    pub(super) fn certify(
        &mut self,
        name: &SubjectName,
        class: FaultClass,
        confirmed: BTreeSet<VendorId>,
        detection: Duration,
    ) {
        self.certified += 1;
        let cool_down = self.subjects[name].ledger.cool_down_left(self.accumulated());
        let certified = Certified {
            class,
            at: self.now,
            order: self.certified,
            place: None,
            confirmed,
            detection,
            deadline: self.now + self.policy.timing.act_timeout + cool_down,
        };
        self.enter(name, State::Certified(certified), "quorum");
    }

    // ---- doubts about the host ----

    /// Why soft evidence on this subject is not acted on now.
    pub(super) fn soft_block(&self, subject: &Subject) -> Option<&'static str> {
        if self.now < self.soft_from {
            return Some("grace");
        }
        if self.mass_freeze().is_some() {
            return Some("mass_accusation");
        }
        if self.host_is_in_doubt(subject) {
            return Some("host_in_doubt");
        }
        let vendor = subject.policy.vendor.as_ref()?;
        let disputed = self.disputes.iter().any(|((one, other), since)| {
            (one == vendor || other == vendor) && self.now < *since + self.policy.timing.pair_freeze
        });
        disputed.then_some("mutual_accusation")
    }

    /// Until when nothing soft is done at most, because most of the node is accused now.
    pub(super) fn mass_freeze(&self) -> Option<Timestamp> {
        let mass = self.mass_accusation.filter(|mass| mass.seen == self.now)?;
        let until = mass.since + self.policy.timing.pair_freeze;
        (self.now < until).then_some(until)
    }

    /// Whether a quorum says that the host, and not the subject, is to be looked at.
    pub(super) fn host_is_in_doubt(&self, subject: &Subject) -> bool {
        let doubts = |word: &Attestation| word.reason == Reason::HostInDoubt;
        subject.vendors_saying(self.now, self.word_ttl(), doubts).len() >= self.roster.q()
    }

    /// Looks for accusations that say more about the host, or about the accusers, than about the accused.
    pub(super) fn look_for_disputes(&mut self) {
        let mut accused_by: BTreeMap<&VendorId, BTreeSet<&SubjectName>> = BTreeMap::new();
        let mut broken: BTreeSet<(VendorId, VendorId)> = BTreeSet::new();
        for subject in self.subjects.values() {
            let soft = |class: Option<FaultClass>| class.is_some_and(|class| class.evidence() == Evidence::Soft);
            for vendor in subject.vendors_saying(self.now, self.word_ttl(), |word| soft(word.repairable_fault())) {
                accused_by.entry(vendor).or_default().insert(&subject.name);
            }
            if let Some(own) = &subject.policy.vendor {
                let says_broken = subject.vendors_saying(self.now, self.word_ttl(), |word| {
                    word.repairable_fault() == Some(FaultClass::Broken)
                });
                broken.extend(says_broken.into_iter().map(|accuser| (accuser.clone(), own.clone())));
            }
        }
        let accusers = accused_by.iter().filter(|(accuser, accused)| self.is_most(accuser, accused)).count();
        let now = self.now;
        if accusers >= self.roster.q() {
            if self.mass_accusation.is_none() {
                self.page("mass_accusation", None, "a quorum accuses most of this node at once: the host is in doubt");
            }
            let since = self.mass_accusation.map_or(now, |mass| mass.since);
            self.mass_accusation = Some(MassAccusation { since, seen: now });
        }
        // Not again before it was over for as long, so that nobody can keep the node frozen by flickering.
        let freeze = self.policy.timing.pair_freeze;
        self.mass_accusation = self.mass_accusation.filter(|mass| now.saturating_since(mass.seen) < freeze);

        // Once per pair in a long while, for the same reason: here one vendor is enough to bring it about.
        let forget = self.policy.timing.ladder_reset;
        self.disputes.retain(|_, since| now.saturating_since(*since) < forget);
        for (accuser, accused) in &broken {
            let mutual = accuser < accused && broken.contains(&(accused.clone(), accuser.clone()));
            let pair = (accuser.clone(), accused.clone());
            if mutual && !self.disputes.contains_key(&pair) {
                self.disputes.insert(pair, now);
                let text =
                    format!("{accuser} and {accused} accuse each other of BROKEN: neither is touched for a while");
                self.page("mutual_accusation", None, &text);
            }
        }
    }

    /// Whether that is most of what it judges, and still is without any f vendors' subjects: so many vendors, silent to their
    /// peers or held after repairs that did not help, put nobody else's repair in doubt.
    fn is_most(&self, accuser: &VendorId, accused: &BTreeSet<&SubjectName>) -> bool {
        // By how many its accused outnumber the others, in all and of each vendor.
        let (mut all, mut of_vendor) = (0, BTreeMap::<&VendorId, i64>::new());
        for subject in self.subjects.values().filter(|s| s.policy.vendor.as_ref() != Some(accuser)) {
            let one = if accused.contains(&subject.name) { 1 } else { -1 };
            all += one;
            if let Some(vendor) = &subject.policy.vendor {
                *of_vendor.entry(vendor).or_default() += one;
            }
        }
        let mut left_out: Vec<_> = of_vendor.into_values().filter(|more| *more > 0).collect();
        left_out.sort_by_key(|more| Reverse(*more));
        all > left_out.into_iter().take(self.roster.f()).sum()
    }

    /// No restart helps against a quota, a login, a vendor, a network or a disk: a human is called.
    pub(super) fn look_for_environment(&mut self) {
        let is_environment = |word: &Attestation| word.class == Some(FaultClass::Environment);
        let suffering: Vec<_> = self
            .subjects
            .values()
            .filter(|s| s.vendors_saying(self.now, self.word_ttl(), is_environment).len() >= self.roster.q())
            .filter_map(|s| {
                let word = s.words.values().map(|word| &word.attestation).find(|word| is_environment(word))?;
                Some((s.name.clone(), word.reason))
            })
            .collect();
        for (name, reason) in suffering {
            let text = format!("{name} cannot work ({reason}): no restart helps against that");
            self.page("environment", Some(&name), &text);
        }
        self.look_for_calls();
    }

    /// A k3s of which a quorum says the same that nobody but a human can settle.
    fn look_for_calls(&mut self) {
        let mut calls = Vec::new();
        for subject in self.subjects.values().filter(|subject| subject.policy.kind == SubjectKind::K3s) {
            for reason in Reason::ALL.iter().copied().filter(|reason| reason.calls_human()) {
                let says = |word: &Attestation| word.repairable_fault().is_none() && word.reason == reason;
                if subject.vendors_saying(self.now, self.word_ttl(), says).len() >= self.roster.q() {
                    calls.push((subject.name.clone(), reason));
                }
            }
        }
        for (name, reason) in calls {
            let text = format!("{name} wants a human ({reason}): nothing is done, see `zeta-bft explain {name}`");
            self.page("wants_human", Some(&name), &text);
        }
    }

    // ---- deadlines ----

    /// When [`super::WardenInput::Timer`] is due next.
    pub fn next_deadline(&self) -> Option<Timestamp> {
        let mut due: Vec<Timestamp> = Vec::new();
        let on_clock = |accumulated: Duration| self.now + accumulated.saturating_sub(self.accumulated());
        for subject in self.subjects.values() {
            due.extend(subject.state.deadline());
            if subject.state.is_open() && subject.state != State::Healthy {
                due.extend(VOTABLE.iter().filter_map(|class| {
                    let ballot = self.ballot(subject, *class);
                    subject.votes.expires_at(self.now, ballot.ttl)
                }));
                let words = subject.words.values().map(|word| word.heard_at + self.word_ttl());
                due.extend(words.map(|at| at + Duration::from_nanos(1)));
                due.push(subject.soft_from);
                due.push(self.soft_from);
            }
            if let State::Acting(acting) = &subject.state {
                due.push(acting.slot_until);
            }
            if let State::Certified(_) = subject.state {
                due.push(self.now + subject.ledger.cool_down_left(self.accumulated()));
            }
            due.extend(subject.ledger.earns_at(&subject.policy.budget, &self.policy.timing).map(on_clock));
            if subject.state == State::Held(crate::protocol::view::HeldBy::Budget) {
                // A new day may begin.
                due.push(self.now + Duration::from_secs(60));
            }
        }
        let freeze = self.policy.timing.pair_freeze;
        due.extend(self.disputes.values().map(|since| *since + freeze));
        due.extend(self.mass_freeze());
        let left = self.holds.values().filter_map(|hold| hold.left(self.wall_ms)).filter(|left| !left.is_zero());
        due.extend(left.map(|left| self.now + left));
        due.into_iter().filter(|at| *at > self.now).min()
    }
}
