//! What a guardian says of a service that it looks at itself, by probes and its last words: a k3s.
//!
//! Rules:
//! 1. The operator's wish is PID 1's word alone, and never reaches this place.
//! 2. Without a look at this very run that is as fresh as a vote must be it is UNKNOWN: `active` proves little, and so does an
//!    end. What ended it decides whether another start helps.
//! 3. While it runs or starts: what the newest look says. One that is being started is not yet UP.
//! 4. When it ended: a look that says CRASH makes it so, as PID 1's hard word; one that says what no restart helps against comes
//!    before the crash; one that is older than the end says nothing.
//! 5. A guardian that is unwell itself says nothing soft against it.

use super::super::evidence::{Activity, Evidence, FaultClass, Reason, ServiceReading, UnitReading, UnitState, Verdict};
use super::super::failure_detector::SelfHealth;
use super::super::policy::Timing;
use super::super::types::{Digest, Timestamp};

/// The newest look.
#[derive(Clone, Debug, Hash)]
struct Looked {
    reading: ServiceReading,
    at: Timestamp,
}

/// What is known of one service.
#[derive(Clone, Debug, Default, Hash)]
pub(super) struct Service {
    looked: Option<Looked>,
}

/// What is said of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Word {
    pub(super) verdict: Verdict,
    pub(super) class: Option<FaultClass>,
    pub(super) evidence: Evidence,
    pub(super) reason: Reason,
    pub(super) observed_at: Timestamp,
}

impl Service {
    /// What was seen of the run before is worth nothing.
    pub(super) fn begin_run(&mut self) {
        self.looked = None;
    }

    /// A look at the run that PID 1 shows now.
    pub(super) fn look(&mut self, now: Timestamp, reading: ServiceReading) {
        self.looked = Some(Looked { reading, at: now });
    }

    /// Of what was seen.
    pub(super) fn digest(&self) -> Option<Digest> {
        self.looked.as_ref().map(|looked| looked.reading.digest)
    }

    /// The word on a unit of which PID 1 says this, and that is not the operator's.
    pub(super) fn word(
        &self,
        now: Timestamp,
        unit: &UnitState,
        reading: UnitReading,
        health: &SelfHealth,
        timing: &Timing,
    ) -> Word {
        let unknown = |evidence, reason| Word {
            verdict: Verdict::Unknown,
            class: Some(FaultClass::Unknown),
            evidence,
            reason,
            observed_at: now,
        };
        let ttl = timing.broken_k3s.vote_ttl;
        let looked = self.looked.as_ref().filter(|looked| looked.at.age_at(now).is_some_and(|age| age <= ttl));
        let starts = unit.activity == Activity::Activating;
        if let UnitReading::Unknown(reason) = reading
            && (!starts || looked.is_none())
        {
            return unknown(Evidence::Hard, reason);
        }
        let Some(Looked { reading: look, at }) = looked else { return unknown(Evidence::Soft, Reason::CannotSee) };
        let as_seen = Word {
            verdict: look.verdict,
            class: look.class,
            evidence: Evidence::Soft,
            reason: look.reason,
            observed_at: *at,
        };
        match (reading, look.class) {
            (UnitReading::Crashed(_), Some(FaultClass::Crash)) => {
                Word { evidence: Evidence::Hard, observed_at: now, ..as_seen }
            }
            // Of before the end, or of before the start.
            (UnitReading::Crashed(_), None | Some(FaultClass::Broken))
            | (_, Some(FaultClass::Crash | FaultClass::Hang)) => unknown(Evidence::Soft, Reason::CannotSee),
            _ if health.is_unwell() && look.verdict == Verdict::Down => unknown(Evidence::Soft, Reason::SelfUnwell),
            (UnitReading::Unknown(reason), None) => unknown(Evidence::Hard, reason),
            _ => as_seen,
        }
    }
}
