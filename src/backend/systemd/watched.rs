//! One unit that is followed: what systemd has said of it, and the state that was last shown. Pure.
//!
//! Rules implemented here:
//! * A state that was shown while it was open whether the unit stays down is formed again when that time is over, also when
//!   it ran out between the showing and the waiting.
//! * A stop of what had failed already leaves no trace but the end of its job: that is remembered, for this run.

use super::facts::{Clocks, Facts, Memory};
use super::observer::Wanted;
use crate::protocol::evidence::{Activity, UnitState};
use crate::protocol::types::{BootId, InvocationId, SubjectName, Timestamp};
use std::collections::BTreeMap;
use std::time::Duration;

/// See the module.
#[derive(Debug)]
pub(super) struct Watched {
    pub(super) subject: SubjectName,
    pub(super) unit: String,
    pub(super) facts: Facts,
    /// Signals of its properties so far: a reading that one of them overtook is made again.
    pub(super) signals: u64,
    pub(super) memory: Memory,
    /// It was shown while it is not to be told yet whether it stays down.
    settling: bool,
    /// Jobs that were seen to begin, by the run they began on.
    jobs: BTreeMap<u32, InvocationId>,
    shown: Option<Option<UnitState>>,
}

impl Watched {
    /// Nothing is known yet but what is remembered of an earlier connection.
    pub(super) fn new(wanted: &Wanted, memory: Memory) -> Self {
        Self {
            subject: wanted.subject.clone(),
            unit: wanted.unit.clone(),
            facts: Facts::default(),
            signals: 0,
            memory,
            settling: false,
            jobs: BTreeMap::new(),
            shown: None,
        }
    }

    /// The state as last shown; `None`: unseen.
    pub(super) fn state(&self) -> Option<UnitState> {
        self.shown.flatten()
    }

    /// Forms the state anew; unseen while systemd reloads. Whether it is another than the one shown before.
    pub(super) fn form(&mut self, boot: BootId, clocks: Clocks, reloading: bool) -> bool {
        self.settling = !reloading && self.facts.settles_in(clocks).is_some();
        let state = if reloading { None } else { self.facts.state(self.memory, boot, clocks) };
        let same = self.shown.is_some_and(|shown| alike(shown, state));
        self.shown = Some(state);
        !same
    }

    /// In how long the state must be formed again without any signal.
    pub(super) fn settles_in(&self, clocks: Clocks) -> Option<Duration> {
        self.settling.then(|| self.facts.settles_in(clocks).unwrap_or_default())
    }

    /// A job of it begins.
    pub(super) fn job_began(&mut self, id: u32) {
        self.jobs.insert(id, self.facts.invocation());
    }

    /// Its job ended. A job that was done on a unit which did not run before and does not run now, without a new run: somebody
    /// stopped what had failed already. True when that is so, and the state is to be formed anew.
    pub(super) fn job_ended(&mut self, id: u32, result: &str) -> bool {
        let run = self.facts.invocation();
        let same_run = self.jobs.remove(&id).is_none_or(|before| before == run);
        if !self.facts.is_down() || !same_run {
            return false;
        }
        match result {
            // The later one counts.
            "done" => (self.memory.stopped, self.memory.dependency) = (Some(run), None),
            "dependency" => (self.memory.stopped, self.memory.dependency) = (None, Some(run)),
            _ => {}
        }
        true
    }
}

/// Whether two states are the same but for what two readings of two clocks may differ by.
fn alike(a: Option<UnitState>, b: Option<UnitState>) -> bool {
    const JITTER: Duration = Duration::from_millis(100);
    let near = |a: Timestamp, b: Timestamp| a.saturating_since(b).max(b.saturating_since(a)) < JITTER;
    let (Some(a), Some(mut b)) = (a, b) else { return a == b };
    if let (Activity::AutoRestart { due: before, .. }, Activity::AutoRestart { due, .. }) =
        (a.activity, &mut b.activity)
        && near(before, *due)
    {
        *due = before;
    }
    if let (Some(before), Some(since)) = (a.active_since, b.active_since)
        && near(before, since)
    {
        b.active_since = a.active_since;
    }
    if let (Some(before), Some(began)) = (a.began_at, b.began_at)
        && near(before, began)
    {
        b.began_at = a.began_at;
    }
    a == b
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::backend::systemd::facts::SETTLES;
    use zbus::Variant;

    const BOOT: BootId = BootId([1; 16]);

    fn at(micros: u64) -> Clocks {
        let now = Timestamp::from_nanos(micros * 1000);
        Clocks { boot: now, monotonic: now }
    }

    /// A unit with `Restart=` that failed at this moment, in microseconds.
    fn failed(at: u64) -> Watched {
        let subject = SubjectName::new("worker").unwrap();
        let wanted = Wanted { subject, unit: "worker.service".into(), rungs: Vec::new() };
        let mut watched = Watched::new(&wanted, Memory::default());
        for (name, text) in [
            ("LoadState", "loaded"),
            ("ActiveState", "failed"),
            ("SubState", "failed"),
            ("UnitFileState", "enabled"),
            ("Result", "signal"),
            ("Restart", "on-failure"),
        ] {
            watched.facts.set(name, &Variant::from(text));
        }
        watched.facts.set("StateChangeTimestampMonotonic", &Variant::from(at));
        watched.facts.set("InvocationID", &Variant::from(vec![2u8; 16]));
        watched
    }

    #[test]
    fn a_state_that_was_open_when_it_was_shown_is_formed_again_however_late_that_is() {
        let end = 1_000_000 + u64::try_from(SETTLES.as_micros()).unwrap();
        let mut watched = failed(1_000_000);
        assert!(watched.form(BOOT, at(end - 1), false));
        assert_eq!(watched.state().unwrap().activity, Activity::Deactivating);
        assert_eq!(watched.settles_in(at(end - 1)), Some(Duration::from_micros(1)));
        // Its time ran out before anybody began to wait for it.
        assert_eq!(watched.settles_in(at(end + 5)), Some(Duration::ZERO));
        assert!(watched.form(BOOT, at(end + 5), false));
        assert_eq!(watched.state().unwrap().activity, Activity::Failed);
        assert_eq!(watched.settles_in(at(end + 5)), None);
    }

    #[test]
    fn while_systemd_reloads_a_unit_is_unseen_and_nothing_is_waited_for() {
        let mut watched = failed(1_000_000);
        watched.form(BOOT, at(1_000_001), false);
        assert!(watched.form(BOOT, at(1_000_002), true));
        assert_eq!((watched.state(), watched.settles_in(at(1_000_002))), (None, None));
        assert!(!watched.form(BOOT, at(1_000_003), true), "it is the same as before");
    }

    #[test]
    fn only_a_job_that_was_done_on_a_run_that_had_ended_is_a_stop() {
        let mut watched = failed(1_000_000);
        watched.job_began(7);
        assert!(watched.job_ended(7, "canceled"));
        assert_eq!(watched.memory.stopped, None);
        watched.job_began(8);
        assert!(watched.job_ended(8, "done"));
        assert_eq!(watched.memory.stopped, Some(InvocationId([2; 16])));
        // Another job began on an older run.
        let mut watched = failed(1_000_000);
        watched.facts.set("InvocationID", &Variant::from(vec![1u8; 16]));
        watched.job_began(9);
        watched.facts.set("InvocationID", &Variant::from(vec![2u8; 16]));
        assert!(!watched.job_ended(9, "done"));
        assert_eq!(watched.memory.stopped, None);
    }
}
