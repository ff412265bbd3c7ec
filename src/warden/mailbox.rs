//! How the sockets talk to the engine: bounded queues, one per kind, so that no kind can crowd out another.
//!
//! The engine empties them in this order: answers to challenges, votes, heartbeats and proofs, calls. A full queue holds its
//! sender back (senders wait in turn, so a flood on one connection slows that connection), and nothing is dropped.
//!
//! Anybody on the node may look, and a look is taken inside the engine: [`Visitors`] lets few wait there at once.

use crate::grpc::limits::Visitors;
use crate::inspect::receipts::Receipts;
use crate::protocol::statement::Envelope;
use crate::protocol::types::{Nonce, SubjectName, Timestamp};
use crate::protocol::view::WardenView;
use crate::protocol::warden::{Answer, ReplyTo, WardenInput};
use crate::warden::timeline::Timelines;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use tokio::sync::{mpsc, oneshot, watch};

const ANSWERS: usize = 64;
const VOTES: usize = 256;
const STATEMENTS: usize = 64;
const CALLS: usize = 64;

/// The warden drains, or its engine is gone.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the warden is stopping")]
pub struct Stopping;

/// What there is to look at, at one moment.
#[derive(Debug)]
pub struct Facts<'a> {
    /// The core's own word.
    pub view: WardenView,
    /// When.
    pub now: Timestamp,
    /// The newest receipts.
    pub receipts: &'a Receipts,
    /// Everything up to this place in the journal is on the disk.
    pub durable: u64,
    /// What happened lately.
    pub timelines: &'a Timelines,
}

type Look = Box<dyn FnOnce(&Facts<'_>) + Send>;

/// A call on the engine.
pub(super) enum Call {
    /// Something the core answers.
    Ask { to: ReplyTo, input: WardenInput, answer: oneshot::Sender<Answer> },
    /// A look at the facts.
    Look(Look),
    /// An agent watches episodes.
    Watch { of: SubjectName, watcher: mpsc::Sender<Envelope> },
    /// A main process holds a line open for challenges.
    OpenLine { pid: u32, line: mpsc::Sender<Nonce> },
}

/// The engine's ends of the queues.
pub(super) struct Inbox {
    pub(super) answers: mpsc::Receiver<WardenInput>,
    pub(super) votes: mpsc::Receiver<WardenInput>,
    pub(super) statements: mpsc::Receiver<WardenInput>,
    pub(super) calls: mpsc::Receiver<Call>,
    pub(super) news: watch::Sender<()>,
}

/// The sockets' end. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Mailbox {
    answers: mpsc::Sender<WardenInput>,
    votes: mpsc::Sender<WardenInput>,
    statements: mpsc::Sender<WardenInput>,
    calls: mpsc::Sender<Call>,
    news: watch::Receiver<()>,
    visitors: Visitors,
    next_reply: Arc<AtomicU64>,
}

impl Mailbox {
    pub(super) fn open() -> (Self, Inbox) {
        let (answers, answers_in) = mpsc::channel(ANSWERS);
        let (votes, votes_in) = mpsc::channel(VOTES);
        let (statements, statements_in) = mpsc::channel(STATEMENTS);
        let (calls, calls_in) = mpsc::channel(CALLS);
        let (news_out, news) = watch::channel(());
        let next_reply = Arc::new(AtomicU64::new(0));
        let inbox =
            Inbox { answers: answers_in, votes: votes_in, statements: statements_in, calls: calls_in, news: news_out };
        let visitors = Visitors::default();
        (Self { answers, votes, statements, calls, news, visitors, next_reply }, inbox)
    }

    /// A challenge leaves on the line to the accused process. Where answers flood in nobody waits for this: the time that the
    /// process has then began when it was decided to ask.
    pub fn challenge_left(&self, pid: u32, nonce: Nonce) {
        let _ = self.answers.try_send(WardenInput::ChallengeLeft { pid, nonce });
    }

    /// An accused process answered.
    ///
    /// # Errors
    /// [`Stopping`].
    pub async fn challenge_answered(&self, pid: u32, nonce: Nonce) -> Result<(), Stopping> {
        self.answers.send(WardenInput::ChallengeAnswered { pid, nonce }).await.map_err(|_| Stopping)
    }

    /// A vote came.
    ///
    /// # Errors
    /// [`Stopping`].
    pub async fn vote(&self, vote: Envelope) -> Result<(), Stopping> {
        self.votes.send(WardenInput::Submitted(vote)).await.map_err(|_| Stopping)
    }

    /// A heartbeat, a proof or a kept receipt came.
    ///
    /// # Errors
    /// [`Stopping`].
    pub async fn statement(&self, input: WardenInput) -> Result<(), Stopping> {
        self.statements.send(input).await.map_err(|_| Stopping)
    }

    /// Asks the core, and waits for its answer.
    ///
    /// # Errors
    /// [`Stopping`].
    pub async fn ask(&self, input: impl FnOnce(ReplyTo) -> WardenInput) -> Result<Answer, Stopping> {
        let to = ReplyTo(self.next_reply.fetch_add(1, Ordering::Relaxed));
        let (answer, answered) = oneshot::channel();
        self.calls.send(Call::Ask { to, input: input(to), answer }).await.map_err(|_| Stopping)?;
        answered.await.map_err(|_| Stopping)
    }

    /// Looks at the facts as they stand. It is to be short: the engine keeps its deadlines between one look and the next.
    ///
    /// # Errors
    /// [`Stopping`].
    pub async fn look<T: Send + 'static>(
        &self,
        look: impl FnOnce(&Facts<'_>) -> T + Send + 'static,
    ) -> Result<T, Stopping> {
        let (seen, answered) = oneshot::channel();
        let visit = self.visitors.enter().await;
        let look = Box::new(move |facts: &Facts<'_>| {
            // Who hung up keeps its place until here, or hanging up would make room for one more in the queue.
            drop(visit);
            if !seen.is_closed() {
                drop(seen.send(look(facts)));
            }
        });
        self.calls.send(Call::Look(look)).await.map_err(|_| Stopping)?;
        answered.await.map_err(|_| Stopping)
    }

    /// Watches episodes for a process of the unit `of`.
    ///
    /// # Errors
    /// [`Stopping`].
    pub async fn watch(&self, of: SubjectName) -> Result<mpsc::Receiver<Envelope>, Stopping> {
        let (watcher, heard) = mpsc::channel(super::audience::WATCHER_QUEUE);
        self.calls.send(Call::Watch { of, watcher }).await.map_err(|_| Stopping)?;
        Ok(heard)
    }

    /// Opens the line on which the main process `pid` is challenged.
    ///
    /// # Errors
    /// [`Stopping`].
    pub async fn open_line(&self, pid: u32) -> Result<mpsc::Receiver<Nonce>, Stopping> {
        let (line, challenges) = mpsc::channel(4);
        self.calls.send(Call::OpenLine { pid, line }).await.map_err(|_| Stopping)?;
        Ok(challenges)
    }

    /// Is done when the engine has ended: whoever only waits for a peer then waits no longer.
    pub async fn closed(&self) {
        self.calls.closed().await;
    }

    /// Marks a step of the engine: something may have changed since the last look.
    pub fn news(&self) -> watch::Receiver<()> {
        self.news.clone()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::grpc::limits::Visitors;

    /// Lets every task that can go on do so.
    async fn settle() {
        for _ in 0..100 {
            tokio::task::yield_now().await;
        }
    }

    #[tokio::test]
    async fn few_look_at_once_and_who_hangs_up_makes_no_room_for_more() {
        let (mailbox, mut inbox) = Mailbox::open();
        let look = || {
            tokio::spawn({
                let mailbox = mailbox.clone();
                async move { mailbox.look(|facts| facts.durable).await }
            })
        };
        let crowd: Vec<_> = (0..64).map(|_| look()).collect();
        settle().await;
        assert_eq!(inbox.calls.len(), Visitors::AT_ONCE);
        for visitor in crowd {
            visitor.abort();
        }
        let _second_crowd: Vec<_> = (0..64).map(|_| look()).collect();
        settle().await;
        assert_eq!(inbox.calls.len(), Visitors::AT_ONCE, "what was asked still waits to be answered");
        drop(inbox.calls.recv().await);
        settle().await;
        assert_eq!(inbox.calls.len(), Visitors::AT_ONCE, "the next comes in");
    }
}
