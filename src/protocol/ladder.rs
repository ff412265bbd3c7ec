//! What a subject has left: budget, cool-down, and its place on the ladder (rule S6).
//!
//! Rules implemented here:
//! * every INTENT spends one repair, of the subject's budget and of its day, and doubles the cool-down;
//! * an ABORT, which touched nothing, gives the repair back and doubles the cool-down once more;
//! * a repair is earned back by uninterrupted active time, up to the budget's capacity;
//! * a day is 24 h of *accumulated* boot time, so neither a reboot nor a stepped clock opens a new one;
//! * the ladder starts again after `ladder_reset` of active time, or when a repair is confirmed by work done (BROKEN).
//!
//! All of it survives restarts of the warden and of the node, as [`LedgerEntry`] in the journal.

use super::policy::{BudgetPolicy, Timing};
use super::record::LedgerEntry;
use super::types::{Rung, SubjectName};
use std::time::Duration;

/// 24 h of accumulated boot time.
pub const DAY: Duration = Duration::from_secs(24 * 3600);

/// Why a budget refuses a repair.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BudgetSpent {
    /// The subject has no repair in hand.
    #[error("no repair left of {capacity}; one comes back after {} min of active time", refill.as_secs() / 60)]
    Subject {
        /// Its capacity.
        capacity: u32,
        /// What earns one back.
        refill: Duration,
    },
    /// The subject's day is used up.
    #[error("{spent} of {per_day} repairs of this day are spent")]
    Day {
        /// Spent today.
        spent: u32,
        /// Allowed per day.
        per_day: u32,
    },
    /// The node's day is used up.
    #[error("{spent} of the node's {per_day} repairs of this day are spent")]
    Node {
        /// Spent today.
        spent: u32,
        /// Allowed per day.
        per_day: u32,
    },
    /// The vendor's share of the node's day is used up.
    #[error("the vendor has taken {spent} of its share of {share} repairs of this day")]
    Vendor {
        /// Spent today by all subjects of the vendor.
        spent: u32,
        /// Its share: the node's, divided by the number of vendors.
        share: u32,
    },
}

impl BudgetSpent {
    /// The label of `zeta_bft_repairs_refused_total`.
    pub const fn as_str(&self) -> &'static str {
        match self {
            Self::Subject { .. } => "budget",
            Self::Day { .. } => "budget_day",
            Self::Node { .. } => "budget_node",
            Self::Vendor { .. } => "budget_vendor",
        }
    }
}

/// The account of one subject.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Ledger {
    /// Repairs in hand.
    pub tokens: u32,
    /// Repairs in the current day.
    spent_today: u32,
    day_began: Duration,
    /// The rung that comes next.
    pub rung: Rung,
    /// The rungs that were taken since the ladder began, one bit each.
    tried: u32,
    cool_down: Duration,
    cool_down_from: Duration,
    /// The ladder is spent; only the operator ends that.
    pub exhausted: bool,
    /// Since when active time is counted towards a refill, on the accumulated clock.
    active_from: Option<Duration>,
    /// Since when active time is counted towards the ladder's reset.
    steady_from: Option<Duration>,
}

impl Ledger {
    /// A full account.
    pub fn full(budget: &BudgetPolicy, accumulated: Duration) -> Self {
        Self {
            tokens: budget.capacity,
            spent_today: 0,
            day_began: accumulated,
            rung: Rung(0),
            tried: 0,
            cool_down: Duration::ZERO,
            cool_down_from: Duration::ZERO,
            exhausted: false,
            active_from: None,
            steady_from: None,
        }
    }

    /// The account as journaled. Never more than the budget now allows.
    pub fn from_entry(entry: &LedgerEntry, budget: &BudgetPolicy) -> Self {
        Self {
            tokens: entry.tokens.min(budget.capacity),
            spent_today: entry.spent_today,
            day_began: entry.day_began,
            rung: entry.rung,
            tried: entry.tried,
            cool_down: entry.cool_down,
            cool_down_from: entry.cool_down_from,
            exhausted: entry.exhausted,
            active_from: None,
            steady_from: None,
        }
    }

    /// The account as it is journaled.
    pub fn entry(&self, subject: Option<SubjectName>, accumulated: Duration) -> LedgerEntry {
        LedgerEntry {
            subject,
            tokens: self.tokens,
            spent_today: self.spent_today,
            day_began: self.day_began,
            accumulated,
            rung: self.rung,
            tried: self.tried,
            cool_down: self.cool_down,
            cool_down_from: self.cool_down_from,
            exhausted: self.exhausted,
        }
    }

    /// Repairs in the day that `accumulated` falls in.
    pub fn spent_today(&self, accumulated: Duration) -> u32 {
        if accumulated.saturating_sub(self.day_began) >= DAY { 0 } else { self.spent_today }
    }

    /// Whether one more repair is allowed.
    ///
    /// # Errors
    /// [`BudgetSpent`] with the numbers.
    pub fn allows(&self, budget: &BudgetPolicy, accumulated: Duration) -> Result<(), BudgetSpent> {
        let spent = self.spent_today(accumulated);
        if self.tokens == 0 {
            return Err(BudgetSpent::Subject { capacity: budget.capacity, refill: budget.refill });
        }
        if spent >= budget.per_day {
            return Err(BudgetSpent::Day { spent, per_day: budget.per_day });
        }
        Ok(())
    }

    /// Spends one repair and begins a doubled cool-down.
    pub fn charge(&mut self, timing: &Timing, accumulated: Duration) {
        self.turn_the_day(accumulated);
        self.tokens = self.tokens.saturating_sub(1);
        self.spent_today = self.spent_today.saturating_add(1);
        self.lengthen_cool_down(timing, accumulated);
        self.inactive();
    }

    /// Gives back what was charged at `charged_at`: nothing was touched. Never more than the budget allows.
    pub fn give_back(&mut self, budget: &BudgetPolicy, charged_at: Duration) {
        self.tokens = self.tokens.saturating_add(1).min(budget.capacity);
        // Of an earlier day there is nothing left to be given back.
        if charged_at >= self.day_began {
            self.spent_today = self.spent_today.saturating_sub(1);
        }
    }

    /// Begins a doubled cool-down, without spending anything: after an ABORT.
    pub fn lengthen_cool_down(&mut self, timing: &Timing, accumulated: Duration) {
        self.cool_down = if self.cool_down.is_zero() { timing.cool_down } else { self.cool_down * 2 };
        self.cool_down = self.cool_down.min(timing.cool_down_max);
        self.cool_down_from = accumulated;
    }

    /// How much of the cool-down is left.
    pub fn cool_down_left(&self, accumulated: Duration) -> Duration {
        (self.cool_down_from + self.cool_down).saturating_sub(accumulated)
    }

    /// The whole of the cool-down in force.
    pub fn cool_down(&self) -> Duration {
        self.cool_down
    }

    fn turn_the_day(&mut self, accumulated: Duration) {
        if accumulated.saturating_sub(self.day_began) >= DAY {
            self.day_began = accumulated;
            self.spent_today = 0;
        }
    }

    /// The subject is not active, or not well: what earns anything starts anew.
    pub fn inactive(&mut self) {
        self.active_from = None;
        self.steady_from = None;
    }

    /// The subject is active and well at `accumulated`. True when something was earned, so that it must be journaled.
    pub fn active(&mut self, budget: &BudgetPolicy, timing: &Timing, accumulated: Duration) -> bool {
        let from = *self.active_from.get_or_insert(accumulated);
        let steady = *self.steady_from.get_or_insert(accumulated);
        let mut earned = false;
        if self.tokens >= budget.capacity {
            self.active_from = Some(accumulated);
        } else if accumulated.saturating_sub(from) >= budget.refill {
            self.tokens += 1;
            self.active_from = Some(from + budget.refill);
            earned = true;
        }
        if self.is_marked() && accumulated.saturating_sub(steady) >= timing.ladder_reset {
            self.reset_ladder();
            earned = true;
        }
        earned
    }

    /// When [`Ledger::active`] will earn something next, on the accumulated clock.
    pub fn earns_at(&self, budget: &BudgetPolicy, timing: &Timing) -> Option<Duration> {
        let refill = self.active_from.filter(|_| self.tokens < budget.capacity).map(|from| from + budget.refill);
        let reset = self.steady_from.filter(|_| self.is_marked()).map(|from| from + timing.ladder_reset);
        refill.into_iter().chain(reset).min()
    }

    /// Whether steady time will make something forgotten: an earlier rung, or a wait.
    fn is_marked(&self) -> bool {
        (self.rung != Rung(0) || self.tried != 0 || !self.cool_down.is_zero()) && !self.exhausted
    }

    /// The ladder starts again from its first rung, without a cool-down.
    pub fn reset_ladder(&mut self) {
        self.rung = Rung(0);
        self.tried = 0;
        self.cool_down = Duration::ZERO;
        self.exhausted = false;
    }

    /// A rung is being taken.
    pub fn try_rung(&mut self, rung: Rung) {
        self.tried |= 1_u32.checked_shl(rung.0).unwrap_or_default();
    }

    /// Nothing was touched: it is as if the rung had not been taken.
    pub fn untry_rung(&mut self, rung: Rung) {
        self.tried &= !1_u32.checked_shl(rung.0).unwrap_or_default();
    }

    /// Whether a rung was taken since the ladder began.
    pub fn has_tried(&self, rung: Rung) -> bool {
        1_u32.checked_shl(rung.0).is_some_and(|bit| self.tried & bit != 0)
    }

    /// The operator brings the subject back: ladder from the start, at least one repair in hand.
    pub fn release(&mut self, accumulated: Duration) {
        self.reset_ladder();
        self.tokens = self.tokens.max(1);
        self.day_began = accumulated;
        self.spent_today = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::policy::Policy;

    #[test]
    fn what_touched_nothing_is_given_back_and_never_more_than_that() {
        let (timing, budget) = (Timing::default(), BudgetPolicy { capacity: 2, refill: DAY, per_day: 9 });
        let mut ledger = Ledger::full(&budget, Duration::ZERO);
        let full = ledger.clone();
        ledger.charge(&timing, Duration::ZERO);
        ledger.give_back(&budget, Duration::ZERO);
        assert_eq!((ledger.tokens, ledger.spent_today), (full.tokens, full.spent_today));
        assert_eq!(ledger.cool_down(), timing.cool_down, "the wait is not given back");
        ledger.give_back(&budget, Duration::ZERO);
        assert_eq!((ledger.tokens, ledger.spent_today), (2, 0), "the budget is not exceeded");
        ledger.charge(&timing, Duration::ZERO);
        // A day later: what was spent on the day before is gone already.
        ledger.charge(&timing, DAY);
        ledger.give_back(&budget, Duration::ZERO);
        assert_eq!(ledger.spent_today, 1);
    }

    const MIN: Duration = Duration::from_secs(60);

    /// As in a drill, which may lift the cool-downs.
    #[test]
    fn a_rung_that_was_tried_is_forgotten_after_its_time_also_without_a_cool_down() {
        let timing = Timing { cool_down: Duration::ZERO, cool_down_max: Duration::ZERO, ..Timing::default() };
        let budget = BudgetPolicy { capacity: 1, refill: MIN, per_day: 9 };
        let mut ledger = Ledger::full(&budget, Duration::ZERO);
        ledger.try_rung(Rung(0));
        ledger.active(&budget, &timing, MIN);
        let due = ledger.earns_at(&budget, &timing).expect("it will be forgotten");
        assert!(ledger.active(&budget, &timing, due), "what is due is earned");
        assert!(!ledger.has_tried(Rung(0)));
        assert_eq!(ledger.earns_at(&budget, &timing), None, "nothing stays due for ever");
    }

    #[test]
    fn a_budget_is_spent_and_earned_back_by_active_time_only() {
        let (budget, timing) = (Policy::PERSONA_BUDGET, Timing::default());
        let mut ledger = Ledger::full(&budget, Duration::ZERO);
        for _ in 0..budget.capacity {
            assert_eq!(ledger.allows(&budget, MIN), Ok(()));
            ledger.charge(&timing, MIN);
        }
        assert!(matches!(ledger.allows(&budget, MIN), Err(BudgetSpent::Subject { capacity: 5, .. })));
        assert!(!ledger.active(&budget, &timing, MIN));
        assert!(!ledger.active(&budget, &timing, MIN * 20));
        ledger.inactive();
        assert!(!ledger.active(&budget, &timing, MIN * 40), "an interruption begins the count anew");
        assert!(ledger.active(&budget, &timing, MIN * 70));
        assert_eq!(ledger.tokens, 1);
    }

    #[test]
    fn a_day_is_counted_on_the_accumulated_clock() {
        let (budget, timing) = (BudgetPolicy { capacity: 100, refill: MIN, per_day: 2 }, Timing::default());
        let mut ledger = Ledger::full(&budget, Duration::ZERO);
        ledger.charge(&timing, MIN);
        ledger.charge(&timing, MIN);
        assert_eq!(ledger.allows(&budget, MIN * 2), Err(BudgetSpent::Day { spent: 2, per_day: 2 }));
        assert_eq!(ledger.allows(&budget, DAY + MIN), Ok(()));
    }

    #[test]
    fn cool_downs_double_up_to_their_limit_and_survive_the_journal() {
        let (budget, timing) = (Policy::PERSONA_BUDGET, Timing::default());
        let mut ledger = Ledger::full(&budget, Duration::ZERO);
        let mut seen = Vec::new();
        for _ in 0..10 {
            ledger.lengthen_cool_down(&timing, MIN);
            seen.push(ledger.cool_down_left(MIN).as_secs());
        }
        assert_eq!(seen, [1, 2, 4, 8, 16, 32, 64, 128, 256, 300]);
        let back = Ledger::from_entry(&ledger.entry(None, MIN), &budget);
        assert_eq!(back.cool_down_left(MIN), Duration::from_secs(300));
    }

    #[test]
    fn a_journaled_account_never_holds_more_than_the_budget_now_allows() {
        let (before, now) = (Policy::PERSONA_BUDGET, BudgetPolicy { capacity: 2, ..Policy::PERSONA_BUDGET });
        let entry = Ledger::full(&before, Duration::ZERO).entry(None, MIN);
        assert_eq!((entry.tokens, Ledger::from_entry(&entry, &now).tokens), (5, 2));
    }
}
