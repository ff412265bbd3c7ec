//! S6, bounded harm, by the truth of PID 1: a token bucket per subject and a count for the node. What PID 1 refused has touched
//! nothing and costs nothing. What the warden asked for and never heard of again may have been done, and counts.

use super::Truth;
use std::collections::BTreeMap;
use zeta_bft::protocol::policy::Policy;
use zeta_bft::protocol::types::SubjectName;

/// The books of one subject.
#[derive(Clone, Default)]
struct Bucket {
    tokens: i64,
    spent: u32,
    /// Tokens that this period of activity has earned so far.
    credited: u64,
    period: Option<u64>,
    /// The operator released it: from here on nothing is claimed.
    released: bool,
}

/// The books of the node.
pub struct Budget {
    buckets: BTreeMap<SubjectName, Bucket>,
}

impl Budget {
    pub fn new(policy: &Policy) -> Self {
        let bucket = |capacity: u32| Bucket { tokens: capacity.into(), ..Bucket::default() };
        Self { buckets: policy.subjects.iter().map(|(name, s)| (name.clone(), bucket(s.budget.capacity))).collect() }
    }

    /// One repair.
    ///
    /// # Errors
    /// What the policy allows, and what was done.
    pub fn spend(&mut self, policy: &Policy, subject: &SubjectName, truth: &Truth<'_>) -> Result<(), String> {
        self.refill(policy, truth);
        let bucket = self.buckets.entry(subject.clone()).or_default();
        bucket.tokens -= 1;
        bucket.spent += 1;
        let (tokens, spent, released) = (bucket.tokens, bucket.spent, bucket.released);
        // One more than the truth allows: news of a refill and of an action may cross.
        if tokens < -1 && !released {
            return Err(format!("{subject} was repaired {spent} times, more than its budget allows"));
        }
        let per_day = policy.subject(subject).map_or(0, |s| s.budget.per_day);
        if spent > per_day && !released {
            return Err(format!("{subject} was repaired {spent} times in a day, {per_day} are allowed"));
        }
        let all: u32 = self.buckets.values().map(|b| b.spent).sum();
        if all > policy.node_per_day && !self.buckets.values().any(|b| b.released) {
            return Err(format!("{all} repairs on the node in a day, {} are allowed", policy.node_per_day));
        }
        Ok(())
    }

    /// PID 1 refused the last repair of `subject`: nothing was touched.
    pub fn give_back(&mut self, policy: &Policy, subject: &SubjectName) {
        let (Some(bucket), Some(policy)) = (self.buckets.get_mut(subject), policy.subject(subject)) else { return };
        bucket.tokens = (bucket.tokens + 1).min(policy.budget.capacity.into());
        bucket.spent = bucket.spent.saturating_sub(1);
    }

    /// The operator released `subject`, or everything.
    pub fn release(&mut self, subject: Option<&SubjectName>) {
        let chosen = self.buckets.iter_mut().filter(|(name, _)| subject.is_none_or(|subject| subject == *name));
        chosen.for_each(|(_, bucket)| bucket.released = true);
    }

    /// Credits active time; to be called whenever a unit changes.
    pub fn refill(&mut self, policy: &Policy, truth: &Truth<'_>) {
        for (subject, unit) in &truth.pid1.units {
            let Some(policy) = policy.subject(subject) else { continue };
            let bucket = self.buckets.entry(subject.clone()).or_default();
            if unit.active_from != bucket.period {
                bucket.period = unit.active_from;
                bucket.credited = 0;
            }
            let Some(from) = unit.active_from else { continue };
            let refill = u64::try_from(policy.budget.refill.as_nanos()).unwrap_or(u64::MAX).max(1);
            let earned = (truth.world - from) / refill;
            let more = i64::try_from(earned.saturating_sub(bucket.credited)).unwrap_or(i64::MAX);
            bucket.credited = bucket.credited.max(earned);
            bucket.tokens = bucket.tokens.saturating_add(more).min(policy.budget.capacity.into());
        }
    }
}
