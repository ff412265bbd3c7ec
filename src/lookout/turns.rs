//! When files are looked at, and when the journal is asked.

use super::LOOK_EVERY;
use crate::protocol::types::{InvocationId, Timestamp};
use std::time::Duration;

/// How long after a change the journal is asked again, each time: journald may be late.
const AGAIN: [Duration; 2] = [Duration::from_secs(1), Duration::from_secs(5)];
/// Shortest time between two questions: a unit that dies ten times a second is not asked about as often.
const PAUSE: Duration = Duration::from_millis(500);

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
    /// The last question was not answered.
    unanswered: bool,
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
        let journal = (changed || late || self.unanswered && files) && passed(self.asked, PAUSE);
        if journal {
            self.asked = Some(now);
            self.run = present;
            self.unanswered = false;
            self.changed = match self.changed {
                Some((at, again)) if !changed => Some((at, if late { again + 1 } else { again })),
                _ => Some((now, 0)),
            };
        }
        Due { files, journal }
    }

    /// The last question was not answered: it is asked again with the next look.
    pub(super) fn ask_again(&mut self) {
        self.unanswered = true;
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
    fn a_question_without_an_answer_is_asked_again_with_the_next_look() {
        let mut turns = Turns::default();
        times(&mut turns, 0, 20_000, |_| ONE);
        turns.ask_again();
        assert_eq!(times(&mut turns, 20_000, 60_000, |_| ONE)[1], [20_000]);
    }
}
