//! What is new about the lines to peers, on its way to the guardian's task.
//!
//! * Of each peer the newest alone waits: a line that is taken again and again crowds out neither another peer's line nor
//!   what anybody says. What waits is bounded by the roster.
//! * A newer line replaces an older one, also one that still waits. A line that nobody holds any more ends.
//! * The log says of each peer so much at once, then one line a minute, and counts the rest.

use super::mind::Gone;
use super::peers::PeerLine;
use crate::grpc::limits::Admission;
use crate::protocol::types::{PersonaId, Timestamp};
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::sync::Notify;

/// A line of a peer, or the end of one.
#[derive(Debug)]
pub(super) struct Change {
    /// Of a peer's lines the newer has the greater number.
    pub(super) number: u64,
    /// `None`: it ended, as has every older one.
    pub(super) line: Option<PeerLine>,
}

/// What is new, by peer.
pub(super) type Changes = BTreeMap<PersonaId, Change>;

#[derive(Debug, Default)]
struct Waiting {
    taken: u64,
    changes: Changes,
    closed: bool,
}

#[derive(Debug, Default)]
struct Shared {
    waiting: Mutex<Waiting>,
    news: Notify,
}

impl Shared {
    fn waiting(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Where lines are told of.
#[derive(Clone, Debug)]
pub(super) struct LineTeller(Arc<Shared>);

/// Where the guardian's task hears of them. With it all end that still wait.
#[derive(Debug)]
pub(super) struct LineNews(Arc<Shared>);

/// Both ends.
pub(super) fn open() -> (LineTeller, LineNews) {
    let shared = Arc::<Shared>::default();
    (LineTeller(Arc::clone(&shared)), LineNews(shared))
}

impl LineTeller {
    /// A line stands. Returns its number.
    pub(super) fn up(&self, persona: PersonaId, line: PeerLine) -> Result<u64, Gone> {
        let mut waiting = self.0.waiting();
        if waiting.closed {
            return Err(Gone);
        }
        waiting.taken += 1;
        let number = waiting.taken;
        waiting.changes.insert(persona, Change { number, line: Some(line) });
        self.0.news.notify_one();
        Ok(number)
    }

    /// The line of this number ended: no news where a newer one is told of.
    pub(super) fn down(&self, persona: PersonaId, number: u64) -> Result<(), Gone> {
        let mut waiting = self.0.waiting();
        if waiting.closed {
            return Err(Gone);
        }
        if waiting.changes.get(&persona).is_none_or(|newest| newest.number <= number) {
            waiting.changes.insert(persona, Change { number, line: None });
            self.0.news.notify_one();
        }
        Ok(())
    }
}

impl LineNews {
    /// All that is new, at most one change of each peer; waits for the first. Cancel safe.
    pub(super) async fn next(&self) -> Changes {
        loop {
            let changes = std::mem::take(&mut self.0.waiting().changes);
            if !changes.is_empty() {
                return changes;
            }
            self.0.news.notified().await;
        }
    }
}

impl Drop for LineNews {
    fn drop(&mut self) {
        let mut waiting = self.0.waiting();
        waiting.closed = true;
        waiting.changes.clear();
    }
}

/// What the log may say of each peer's line.
#[derive(Debug, Default)]
pub(super) struct Words(BTreeMap<PersonaId, (Option<Admission>, u64)>);

impl Words {
    /// Said of one peer at once: a day of ordinary cuts.
    const AT_ONCE: u32 = 60;
    /// Then from one line to the next.
    const PAUSE: Duration = Duration::from_secs(60);

    /// `Some` when something may be said of the peer at `now`, with how often it was not before.
    pub(super) fn say(&mut self, of: &PersonaId, now: Timestamp) -> Option<u64> {
        let (budget, unsaid) = self.0.entry(of.clone()).or_default();
        if budget.get_or_insert_with(|| Admission::each(Self::PAUSE, Self::AT_ONCE)).admit(now) {
            return Some(std::mem::take(unsaid));
        }
        *unsaid += 1;
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn persona(name: &str) -> PersonaId {
        PersonaId::new(name).unwrap()
    }

    fn line() -> PeerLine {
        PeerLine::greeting(&persona("vera")).0
    }

    #[tokio::test]
    async fn of_each_peer_the_newest_change_alone_waits() {
        let (teller, news) = open();
        let first = teller.up(persona("lior"), line()).unwrap();
        for _ in 0..1_000 {
            let number = teller.up(persona("lior"), line()).unwrap();
            teller.down(persona("lior"), number - 1).unwrap();
        }
        let otto = teller.up(persona("otto"), line()).unwrap();
        let changes = news.next().await;
        assert_eq!(changes.len(), 2);
        let lior = &changes[&persona("lior")];
        assert_eq!((lior.number, lior.line.is_some()), (first + 1_000, true), "the end of an older one is no news");
        assert_eq!(changes[&persona("otto")].number, otto);
        teller.down(persona("otto"), otto).unwrap();
        assert!(news.next().await[&persona("otto")].line.is_none());
    }

    #[test]
    fn a_line_that_still_waits_ends_with_who_should_hear_of_it() {
        let (teller, news) = open();
        let (line, mut ends) = PeerLine::greeting(&persona("vera"));
        teller.up(persona("lior"), line).unwrap();
        drop(news);
        assert_eq!(ends.let_go.try_recv(), Err(tokio::sync::oneshot::error::TryRecvError::Closed));
        assert_eq!(teller.up(persona("lior"), self::line()), Err(Gone));
        assert_eq!(teller.down(persona("lior"), 1), Err(Gone));
    }

    #[test]
    fn the_log_says_little_of_a_line_that_comes_and_goes_and_counts_the_rest() {
        let (mut words, start) = (Words::default(), Timestamp::from_nanos(7));
        let said = (0..1_000).filter(|_| words.say(&persona("lior"), start).is_some()).count();
        assert_eq!(said, 60);
        assert_eq!(words.say(&persona("otto"), start), Some(0), "each peer has its own");
        assert_eq!(words.say(&persona("lior"), start + Words::PAUSE), Some(940));
        assert_eq!(words.say(&persona("lior"), start + Words::PAUSE), None);
    }
}
