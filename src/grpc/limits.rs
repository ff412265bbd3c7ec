//! What a peer may cost: rates before any signature is checked, and queues in which votes come first.
//!
//! * Each sender, a unit or a peer, has one [`Admission`], whatever it opens. What exceeds it is dropped unverified: checking a signature is the
//!   dearest thing a stranger can make us do.
//! * [`Guests`] counts connections and calls by user, or by holder of a certificate: nobody who holds many keeps the others out.
//! * [`Sparing`] keeps the log: what a stranger can bring about again and again is said once a minute, and counted.
//! * [`Visitors`] lets few of the curious in at once: what they ask is answered by the very task that keeps the deadlines.
//! * An [`Inbox`] keeps votes in a queue of their own, so that a flood of heartbeats never delays a vote. A full queue
//!   refuses; it never blocks and never grows.

use super::calls;
use crate::protocol::signing::Domain;
use crate::protocol::statement::Envelope;
use crate::protocol::types::Timestamp;
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};

/// Statements a second that one sender may send. A correct guardian of three personas sends fewer than 20.
pub const STATEMENTS_PER_SECOND: u32 = 100;
/// Statements that may come at once, as after a reconnect.
pub const STATEMENTS_AT_ONCE: u32 = 200;

const SECOND: u64 = 1_000_000_000;

/// A token bucket. Pure: time is an argument.
#[derive(Clone, Debug)]
pub struct Admission {
    /// Nanoseconds that earn one token.
    cost: u64,
    /// Nanoseconds that can be saved up.
    capacity: u64,
    credit: u64,
    last: Option<Timestamp>,
}

impl Admission {
    /// A full bucket: `rate` tokens a second (at least one), `burst` at once (at least one).
    pub fn new(rate: u32, burst: u32) -> Self {
        Self::each(Duration::from_nanos(SECOND / u64::from(rate.max(1))), burst)
    }

    /// A full bucket: one token each `every` (at least a nanosecond), `burst` at once (at least one).
    pub fn each(every: Duration, burst: u32) -> Self {
        let cost = u64::try_from(every.as_nanos()).unwrap_or(u64::MAX).max(1);
        let capacity = cost.saturating_mul(u64::from(burst.max(1)));
        Self { cost, capacity, credit: capacity, last: None }
    }

    /// For one sender of statements.
    pub fn for_statements() -> Self {
        Self::new(STATEMENTS_PER_SECOND, STATEMENTS_AT_ONCE)
    }

    /// Whether one more is let in at `now`. Time that runs backwards earns nothing.
    pub fn admit(&mut self, now: Timestamp) -> bool {
        let last = self.last.unwrap_or(now);
        let earned = now.as_nanos().saturating_sub(last.as_nanos());
        self.credit = self.credit.saturating_add(earned).min(self.capacity);
        self.last = Some(last.max(now));
        let admitted = self.credit >= self.cost;
        if admitted {
            self.credit -= self.cost;
        }
        admitted
    }
}

/// How often one cause speaks in the log, so that nobody fills a disk with it. Pure: time is an argument.
#[derive(Debug, Default)]
pub struct Sparing {
    next: Option<Timestamp>,
    unsaid: u64,
}

impl Sparing {
    /// From one line to the next.
    pub const PAUSE: Duration = Duration::from_secs(60);

    /// It happened at `now`. `Some` when it is to be said, with how often it went unsaid before.
    pub fn say(&mut self, now: Timestamp) -> Option<u64> {
        if self.next.is_some_and(|next| now < next) {
            self.unsaid += 1;
            return None;
        }
        self.next = Some(now + Self::PAUSE);
        Some(std::mem::take(&mut self.unsaid))
    }
}

/// Who is connected to one socket or port, by user or by holder of a certificate.
#[derive(Debug)]
pub struct Guests<K: Ord> {
    by_guest: Mutex<BTreeMap<K, Held>>,
    calls: Arc<Semaphore>,
}

/// What one guest has.
#[derive(Debug)]
struct Held {
    connections: usize,
    /// Calls it may still begin.
    calls: Arc<Semaphore>,
}

impl<K: Ord> Default for Guests<K> {
    fn default() -> Self {
        Self { by_guest: Mutex::default(), calls: Arc::new(Semaphore::new(calls::OF_ALL)) }
    }
}

impl<K: Ord + Clone> Guests<K> {
    /// Connections at once of one user. Each persona has an agent and a wrapper: a few of each user is usual.
    pub const OF_ONE_USER: usize = 24;
    /// Connections at once of all users: more than f personas can hold with both of their users.
    pub const ALL: usize = 128;

    /// A place for one more connection of this guest, until it is dropped; `None` when there is none left.
    pub fn admit(self: &Arc<Self>, guest: K) -> Option<Place<K>> {
        let mut by_guest = self.by_guest.lock().unwrap_or_else(PoisonError::into_inner);
        if by_guest.values().map(|held| held.connections).sum::<usize>() >= Self::ALL {
            return None;
        }
        let held = by_guest
            .entry(guest.clone())
            .or_insert_with(|| Held { connections: 0, calls: Arc::new(Semaphore::new(calls::OF_ONE_GUEST)) });
        if held.connections >= Self::OF_ONE_USER {
            return None;
        }
        held.connections += 1;
        Some(Place { guests: Arc::clone(self), guest, calls: Arc::clone(&held.calls) })
    }
}

/// One connection's place among [`Guests`].
#[derive(Debug)]
pub struct Place<K: Ord> {
    guests: Arc<Guests<K>>,
    guest: K,
    calls: Arc<Semaphore>,
}

impl<K: Ord> Place<K> {
    /// One more call of this guest, over whichever of its connections, until it is dropped; `None` when there are too many.
    pub fn begin_call(self: &Arc<Self>) -> Option<Call<K>> {
        let of_guest = Arc::clone(&self.calls).try_acquire_owned().ok()?;
        let of_all = Arc::clone(&self.guests.calls).try_acquire_owned().ok()?;
        Some(Call { _counted: [of_guest, of_all], _place: Arc::clone(self) })
    }
}

/// A call that counts. It keeps its connection's place, so that a guest that hangs up begins no new count.
#[derive(Debug)]
pub struct Call<K: Ord> {
    _counted: [OwnedSemaphorePermit; 2],
    _place: Arc<Place<K>>,
}

impl<K: Ord> Drop for Place<K> {
    fn drop(&mut self) {
        let mut by_guest = self.guests.by_guest.lock().unwrap_or_else(PoisonError::into_inner);
        match by_guest.get_mut(&self.guest) {
            Some(held) if held.connections > 1 => held.connections -= 1,
            _ => drop(by_guest.remove(&self.guest)),
        }
    }
}

/// Whoever only wants to look: few at once, the others wait in turn.
#[derive(Clone, Debug)]
pub struct Visitors(Arc<Semaphore>);

/// A place among [`Visitors`], until it is dropped.
#[derive(Debug)]
pub struct Visit(#[expect(dead_code, reason = "it is held, not looked at")] OwnedSemaphorePermit);

impl Default for Visitors {
    fn default() -> Self {
        Self(Arc::new(Semaphore::new(Self::AT_ONCE)))
    }
}

impl Visitors {
    /// Questions under way at once.
    pub const AT_ONCE: usize = 8;

    /// Waits for a place.
    pub async fn enter(&self) -> Visit {
        Visit(Arc::clone(&self.0).acquire_owned().await.expect("nobody closes it"))
    }
}

/// In which queue something waits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lane {
    /// Votes: taken first.
    Vote,
    /// Everything else.
    Other,
}

impl Lane {
    /// By what an envelope says it is; nothing is verified. Who mislabels gains a place in the queue and a rejection.
    pub fn of(envelope: &Envelope) -> Self {
        if envelope.domain == Domain::Vote { Self::Vote } else { Self::Other }
    }
}

/// Why something was not taken in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// The queue is full.
    #[error("the queue is full")]
    Full,
    /// The receiver is gone.
    #[error("the receiver is gone")]
    Closed,
}

impl Refused {
    /// The label of `zeta_bft_statements_rejected_total`.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Full => "rate_limited",
            Self::Closed => "shutting_down",
        }
    }
}

/// The receiving end: two bounded queues, votes first.
#[derive(Debug)]
pub struct Inbox<T> {
    votes: mpsc::Receiver<T>,
    others: mpsc::Receiver<T>,
}

/// The sending end of an [`Inbox`].
#[derive(Debug)]
pub struct InboxSender<T> {
    votes: mpsc::Sender<T>,
    others: mpsc::Sender<T>,
}

impl<T> Clone for InboxSender<T> {
    fn clone(&self) -> Self {
        Self { votes: self.votes.clone(), others: self.others.clone() }
    }
}

/// An inbox that holds at most `votes` and `others`.
pub fn inbox<T>(votes: usize, others: usize) -> (InboxSender<T>, Inbox<T>) {
    let (vote_sender, votes) = mpsc::channel(votes.max(1));
    let (other_sender, others) = mpsc::channel(others.max(1));
    (InboxSender { votes: vote_sender, others: other_sender }, Inbox { votes, others })
}

impl<T> InboxSender<T> {
    fn lane(&self, lane: Lane) -> &mpsc::Sender<T> {
        match lane {
            Lane::Vote => &self.votes,
            Lane::Other => &self.others,
        }
    }

    /// Puts it in, or refuses at once: for what comes from outside.
    ///
    /// # Errors
    /// [`Refused`] when the lane is full or nobody receives.
    pub fn offer(&self, lane: Lane, item: T) -> Result<(), Refused> {
        self.lane(lane).try_send(item).map_err(|error| match error {
            mpsc::error::TrySendError::Full(_) => Refused::Full,
            mpsc::error::TrySendError::Closed(_) => Refused::Closed,
        })
    }

    /// Puts it in, waiting for room: for what this process itself found and must not lose.
    ///
    /// # Errors
    /// [`Refused::Closed`] when nobody receives.
    pub async fn put(&self, lane: Lane, item: T) -> Result<(), Refused> {
        self.lane(lane).send(item).await.map_err(|_| Refused::Closed)
    }
}

impl<T> Inbox<T> {
    /// The next one, votes first; `None` once all senders are gone and both queues are empty. Cancel safe.
    pub async fn recv(&mut self) -> Option<T> {
        tokio::select! {
            biased;
            Some(vote) = self.votes.recv() => Some(vote),
            Some(other) = self.others.recv() => Some(other),
            else => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_happens_again_and_again_is_said_once_a_minute_and_counted() {
        let (mut sparing, start) = (Sparing::default(), Timestamp::from_nanos(7));
        assert_eq!(sparing.say(start), Some(0));
        for second in 1..60 {
            assert_eq!(sparing.say(start + Duration::from_secs(second)), None);
        }
        assert_eq!(sparing.say(start + Sparing::PAUSE), Some(59));
        assert_eq!(sparing.say(start + Sparing::PAUSE * 3), Some(0));
    }

    #[test]
    fn a_flood_is_cut_to_the_rate_and_a_burst_is_let_through() {
        let mut admission = Admission::new(10, 5);
        let start = Timestamp::from_nanos(SECOND);
        assert_eq!((0..100).filter(|_| admission.admit(start)).count(), 5);
        assert!(!admission.admit(start + Duration::from_millis(99)));
        assert!(admission.admit(start + Duration::from_millis(100)));
        let admitted = (0..1000).filter(|i| admission.admit(start + Duration::from_millis(200 + i))).count();
        assert!((9..=15).contains(&admitted), "{admitted}");
    }

    #[test]
    fn time_that_runs_backwards_earns_nothing() {
        let mut admission = Admission::new(1, 1);
        assert!(admission.admit(Timestamp::from_nanos(5 * SECOND)));
        assert!(!admission.admit(Timestamp::ZERO));
        assert!(!admission.admit(Timestamp::from_nanos(5 * SECOND + 1)));
        assert!(admission.admit(Timestamp::from_nanos(6 * SECOND)));
    }

    #[test]
    fn a_user_who_holds_all_it_may_keeps_nobody_else_out() {
        let guests = Arc::new(Guests::default());
        let mut hoard: Vec<_> = std::iter::from_fn(|| guests.admit(1000)).collect();
        assert_eq!(hoard.len(), Guests::<u32>::OF_ONE_USER);
        // With f = 2: two personas, each with an agent's and a wrapper's user.
        for uid in 1001..1004 {
            hoard.extend(std::iter::from_fn(|| guests.admit(uid)));
        }
        let _other = guests.admit(2000).expect("a place for somebody else");
        drop(hoard);
        assert!(guests.admit(1000).is_some());
        let all: Vec<_> = (0..1000).flat_map(|uid| guests.admit(uid)).collect();
        assert_eq!(all.len(), Guests::<u32>::ALL - 1);
    }

    #[test]
    fn one_guest_has_so_many_calls_over_all_its_connections_and_leaves_the_others_theirs() {
        let guests = Arc::new(Guests::default());
        let connect = |uid: u32| Arc::new(guests.admit(uid).unwrap());
        let mut open = Vec::new();
        // With f = 2: two personas, each with an agent's and a wrapper's user.
        for uid in 1000..1004 {
            let (first, second) = (connect(uid), connect(uid));
            let begun: Vec<_> =
                (0..1000).filter_map(|i| if i % 2 == 0 { &first } else { &second }.begin_call()).collect();
            assert_eq!(begun.len(), calls::OF_ONE_GUEST);
            drop((first, second));
            assert!(connect(uid).begin_call().is_none(), "hanging up frees no call that goes on");
            open.push(begun);
        }
        let _other = connect(2000).begin_call().expect("a call of somebody else");
        drop(open);
        assert!(connect(1000).begin_call().is_some());
        assert_eq!(guests.by_guest.lock().unwrap().len(), 1, "who is gone is forgotten");
    }

    #[tokio::test]
    async fn a_flood_of_heartbeats_never_delays_a_vote() {
        let (sender, mut inbox) = inbox(4, 4);
        let heartbeats = (0..100).filter(|i| sender.offer(Lane::Other, *i).is_ok()).count();
        assert_eq!(heartbeats, 4, "a full queue refuses");
        assert_eq!(sender.offer(Lane::Other, 0), Err(Refused::Full));
        sender.offer(Lane::Vote, 1000).unwrap();
        assert_eq!(inbox.recv().await, Some(1000));
        assert_eq!(inbox.recv().await, Some(0));
        drop(sender);
        assert_eq!(inbox.recv().await, Some(1));
        assert_eq!((inbox.recv().await, inbox.recv().await, inbox.recv().await), (Some(2), Some(3), None));
    }
}
