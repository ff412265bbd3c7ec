//! When files are looked at, and when the journal is asked.

use super::LOOK_EVERY;
use crate::protocol::types::{InvocationId, Timestamp};
use std::time::Duration;

/// How long after a change the journal is asked again, each time: journald may be late.
const AGAIN: [Duration; 2] = [Duration::from_secs(1), Duration::from_secs(5)];
/// Shortest time between two questions: a unit that dies ten times a second is not asked about as often.
const PAUSE: Duration = Duration::from_millis(500);
/// Longest time to the next question after one without an answer. It begins with [`LOOK_EVERY`] and doubles.
const LONGEST: Duration = Duration::from_secs(60);

/// What is to be done now.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Due {
    pub(super) files: bool,
    pub(super) journal: bool,
}

/// What was done when.
#[derive(Debug, Default)]
pub(super) struct Turns {
    looked: Option<Timestamp>,
    asked: Option<Timestamp>,
    /// The run at the last question.
    run: Option<InvocationId>,
    /// Since when it is this run, and how often the journal was asked again since.
    changed: Option<(Timestamp, usize)>,
    /// Questions in a row that were not answered.
    unanswered: u32,
}

impl Turns {
    /// What is due. It counts as done.
    pub(super) fn due(&mut self, now: Timestamp, present: Option<InvocationId>) -> Due {
        let passed = |since: Option<Timestamp>, time| since.is_none_or(|since| now.saturating_since(since) >= time);
        let files = passed(self.looked, LOOK_EVERY);
        if files {
            self.looked = Some(now);
        }
        let changed = self.asked.is_none() || present != self.run;
        let late = self
            .changed
            .is_some_and(|(at, again)| AGAIN.get(again).is_some_and(|after| now.saturating_since(at) >= *after));
        let journal =
            (changed || late || self.wait().is_some_and(|wait| passed(self.asked, wait))) && passed(self.asked, PAUSE);
        if journal {
            self.asked = Some(now);
            self.run = present;
            self.changed = match self.changed {
                Some((at, again)) if !changed => Some((at, if late { again + 1 } else { again })),
                _ => Some((now, 0)),
            };
        }
        Due { files, journal }
    }

    /// Whether the last question was answered. If not, it is asked again.
    pub(super) fn answered(&mut self, answered: bool) {
        self.unanswered = if answered { 0 } else { self.unanswered.saturating_add(1) };
    }

    /// How long after the last question it is asked again, because it was not answered.
    fn wait(&self) -> Option<Duration> {
        let doubled = self.unanswered.checked_sub(1)?;
        Some(LOOK_EVERY.saturating_mul(2u32.saturating_pow(doubled)).min(LONGEST))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ONE: Option<InvocationId> = Some(InvocationId([1; 16]));
    const TWO: Option<InvocationId> = Some(InvocationId([2; 16]));

    /// Glances every 100 ms for so long at a unit that `run` tells of; at what times (ms) files and journal were due.
    fn times(turns: &mut Turns, from: u64, until: u64, run: impl Fn(u64) -> Option<InvocationId>) -> [Vec<u64>; 2] {
        let mut due = [Vec::new(), Vec::new()];
        for ms in (from..until).step_by(100) {
            let now = turns.due(Timestamp::from_nanos(ms * 1_000_000), run(ms));
            if now.files {
                due[0].push(ms);
            }
            if now.journal {
                due[1].push(ms);
            }
        }
        due
    }

    #[test]
    fn files_are_looked_at_every_five_seconds_and_a_steady_unit_costs_no_question() {
        let [files, journal] = times(&mut Turns::default(), 0, 60_000, |_| ONE);
        assert_eq!(files, (0..60_000).step_by(5000).collect::<Vec<_>>());
        assert_eq!(journal, [0, 1000, 5000]);
    }

    #[test]
    fn the_journal_is_asked_at_once_when_a_run_ends_or_begins_and_twice_more() {
        let mut turns = Turns::default();
        times(&mut turns, 0, 20_000, |_| ONE);
        let [_, journal] = times(&mut turns, 20_000, 60_000, |ms| match ms {
            0..30_000 => ONE,
            30_000..40_000 => None,
            _ => TWO,
        });
        assert_eq!(journal, [30_000, 31_000, 35_000, 40_000, 41_000, 45_000]);
    }

    #[test]
    fn a_unit_that_dies_all_the_time_is_asked_about_twice_a_second_at_most() {
        let [_, journal] = times(&mut Turns::default(), 0, 10_000, |ms| if ms % 200 == 0 { ONE } else { TWO });
        assert!((10..=20).contains(&journal.len()), "{journal:?}");
        assert!(journal.windows(2).all(|pair| pair[1] - pair[0] >= 500), "{journal:?}");
    }

    #[test]
    fn a_question_without_an_answer_is_asked_again_ever_more_seldom_until_it_has_one() {
        let mut turns = Turns::default();
        times(&mut turns, 0, 20_000, |_| ONE);
        turns.answered(false);
        let mut asked = Vec::new();
        for ms in (20_000..300_000).step_by(100) {
            let journal = times(&mut turns, ms, ms + 100, |_| ONE)[1].len();
            asked.extend((journal > 0).then(|| turns.answered(false)).map(|()| ms / 1000));
        }
        assert_eq!(asked, [20, 30, 50, 90, 150, 210, 270]);
        turns.answered(true);
        assert!(times(&mut turns, 300_000, 400_000, |_| ONE)[1].is_empty());
        turns.answered(false);
        assert_eq!(times(&mut turns, 400_000, 400_100, |_| TWO)[1], [400_000], "another run is asked about at once");
    }
}
