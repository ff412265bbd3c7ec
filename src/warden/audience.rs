//! Who listens to the warden: agents that watch episodes, and processes that answer challenges for themselves.
//!
//! * A watcher first gets every subject's episode as it stands, then every change, then receipts that are on the disk. Its
//!   queue is bounded; one that does not keep up is dropped and has to connect again.
//! * There is at most one watcher per configured unit, and one line to each main process: the newest ends the older.

use crate::protocol::statement::Envelope;
use crate::protocol::types::{Nonce, SubjectName};
use std::collections::BTreeMap;
use tokio::sync::mpsc;

/// Statements that wait for one watcher, at most.
pub const WATCHER_QUEUE: usize = 256;

/// The watchers and the accused.
#[derive(Debug, Default)]
pub struct Audience {
    episodes: BTreeMap<SubjectName, Envelope>,
    watchers: BTreeMap<SubjectName, mpsc::Sender<Envelope>>,
    lines: BTreeMap<u32, mpsc::Sender<Nonce>>,
}

impl Audience {
    /// A process of the unit `of` wants to watch.
    pub fn watch(&mut self, of: SubjectName, watcher: mpsc::Sender<Envelope>) {
        if self.episodes.values().all(|episode| watcher.try_send(episode.clone()).is_ok()) {
            self.watchers.insert(of, watcher);
        }
    }

    /// A subject's episode changed.
    pub fn publish(&mut self, subject: SubjectName, episode: Envelope) {
        self.tell(&episode);
        self.episodes.insert(subject, episode);
    }

    /// A receipt is on the disk.
    pub fn publish_receipt(&mut self, receipt: &Envelope) {
        self.tell(receipt);
    }

    /// Two agents may hold different wordings of this statement.
    pub fn show(&mut self, statement: &Envelope) {
        self.tell(statement);
    }

    fn tell(&mut self, statement: &Envelope) {
        self.watchers.retain(|of, watcher| {
            let kept_up = watcher.try_send(statement.clone()).is_ok();
            if !kept_up && !watcher.is_closed() {
                tracing::warn!(unit = %of, queue = WATCHER_QUEUE, "a watcher that does not keep up is dropped");
            }
            kept_up
        });
    }

    /// The main process `pid` holds a line open, on which it answers for itself.
    pub fn open_line(&mut self, pid: u32, line: mpsc::Sender<Nonce>) {
        self.lines.retain(|_, line| !line.is_closed());
        self.lines.insert(pid, line);
    }

    /// Asks a process. Whether it has a line at all; without one its silence counts.
    pub fn challenge(&self, pid: u32, nonce: Nonce) -> bool {
        self.lines.get(&pid).is_some_and(|line| line.try_send(nonce).is_ok())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::roster::fixture::subject;
    use crate::protocol::signing::Domain;
    use crate::protocol::types::PublicKey;

    fn statement(n: u32) -> Envelope {
        let payload = n.to_be_bytes().to_vec().into();
        Envelope { domain: Domain::Episode, payload, signature: [0; 64], key: PublicKey::default() }
    }

    #[test]
    fn a_watcher_first_hears_every_episode_as_it_stands() {
        let mut audience = Audience::default();
        audience.publish(subject("otto"), statement(1));
        audience.publish(subject("lior"), statement(2));
        audience.publish(subject("otto"), statement(3));
        let (watcher, mut heard) = mpsc::channel(WATCHER_QUEUE);
        audience.watch(subject("vera/agent"), watcher);
        audience.publish(subject("lior"), statement(4));
        audience.publish_receipt(&statement(5));
        for n in [2, 3, 4, 5] {
            assert_eq!(heard.try_recv().unwrap(), statement(n));
        }
    }

    #[test]
    fn a_watcher_that_does_not_keep_up_is_dropped_and_the_others_hear_on() {
        let mut audience = Audience::default();
        let (slow, mut slow_hears) = mpsc::channel(2);
        let (quick, mut quick_hears) = mpsc::channel(2);
        audience.watch(subject("otto/agent"), slow);
        audience.watch(subject("vera/agent"), quick);
        for n in 0..10 {
            audience.publish(subject("otto"), statement(n));
            assert_eq!(quick_hears.try_recv().unwrap(), statement(n));
        }
        assert_eq!(slow_hears.try_recv().unwrap(), statement(0));
        assert_eq!(slow_hears.try_recv().unwrap(), statement(1));
        assert_eq!(slow_hears.try_recv(), Err(mpsc::error::TryRecvError::Disconnected));
    }

    #[test]
    fn the_newest_watcher_of_a_unit_ends_the_older() {
        let mut audience = Audience::default();
        let (older, mut older_hears) = mpsc::channel::<Envelope>(2);
        let (newer, mut newer_hears) = mpsc::channel(2);
        audience.watch(subject("otto/agent"), older);
        audience.watch(subject("otto/agent"), newer);
        audience.publish(subject("otto"), statement(1));
        assert_eq!(older_hears.try_recv(), Err(mpsc::error::TryRecvError::Disconnected));
        assert!(newer_hears.try_recv().is_ok());
    }

    #[test]
    fn only_the_accused_process_hears_its_challenge() {
        let mut audience = Audience::default();
        let (line, mut hears) = mpsc::channel(1);
        audience.open_line(7, line);
        assert!(!audience.challenge(8, Nonce([1; 16])));
        assert!(audience.challenge(7, Nonce([2; 16])));
        assert_eq!(hears.try_recv().unwrap(), Nonce([2; 16]));
        drop(hears);
        assert!(!audience.challenge(7, Nonce([3; 16])), "a line that hung up is none");
    }
}
