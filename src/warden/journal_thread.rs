//! The journal's own thread: appends in order, one fdatasync for all that wait, and only then [`WardenInput::Synced`].
//!
//! Rule S10: after any error nothing is retried and nothing more is written; the process ends.

use crate::journal::{Journal, JournalError};
use crate::protocol::record::Record;
use crate::protocol::statement::{Codec as _, JournalHead};
use crate::protocol::types::Digest;
use crate::protocol::warden::WardenInput;
use crate::wire::Proto;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread::JoinHandle;
use tokio::sync::mpsc::UnboundedSender;

/// Records that share one fdatasync, at most.
const BATCH: usize = 64;

/// One record with its place in the chain, as the core gave it.
#[derive(Debug)]
pub struct Append {
    /// One more than the last.
    pub seq: u64,
    /// Chain hash of the record before.
    pub previous: Digest,
    /// The record.
    pub record: Record,
}

/// Something that makes records durable: the journal, or a test's.
pub trait Durable: Send + 'static {
    /// Why it failed.
    type Error: std::error::Error + Send + 'static;

    /// Appends one record; not durable yet.
    ///
    /// # Errors
    /// When it does not fit the chain, or cannot be written.
    fn append(&mut self, append: &Append) -> Result<(), Self::Error>;

    /// Makes all records so far durable.
    ///
    /// # Errors
    /// When the device refuses; nothing may be assumed of the records then.
    fn sync(&mut self) -> Result<JournalHead, Self::Error>;
}

impl Durable for Journal {
    type Error = JournalError;

    fn append(&mut self, append: &Append) -> Result<(), JournalError> {
        Journal::append(self, append.seq, append.previous, &Proto.encode(&append.record)).map(drop)
    }

    fn sync(&mut self) -> Result<JournalHead, JournalError> {
        let head = Journal::sync(self)?;
        if self.is_short_of_space() {
            tracing::error!("the disk is full: the journal lives on its reserve");
        }
        Ok(head)
    }
}

/// Why nothing more is written.
#[derive(Debug, thiserror::Error)]
pub enum Failed<E: std::error::Error + 'static> {
    /// The journal refused.
    #[error(transparent)]
    Journal(E),
    /// A defect of ours: whatever the thread held is lost.
    #[error("the journal's thread panicked")]
    Panicked,
}

/// The thread, as the engine sees it.
#[derive(Debug)]
pub struct JournalThread {
    records: Sender<Append>,
    thread: JoinHandle<()>,
}

impl JournalThread {
    /// Starts it. `failed` is called at most once, on the thread, and should end the process.
    ///
    /// # Errors
    /// When the system has no thread to give.
    pub fn start<J: Durable>(
        journal: J,
        synced: UnboundedSender<WardenInput>,
        failed: impl FnOnce(Failed<J::Error>) + Send + 'static,
    ) -> std::io::Result<Self> {
        let (records, queue) = channel();
        let thread = std::thread::Builder::new().name("journal".into()).spawn(move || {
            match catch_unwind(AssertUnwindSafe(|| write(journal, &queue, &synced))) {
                Ok(Ok(())) => {}
                Ok(Err(error)) => failed(Failed::Journal(error)),
                Err(_) => failed(Failed::Panicked),
            }
        })?;
        Ok(Self { records, thread })
    }

    /// Hands a record over. The answer is [`WardenInput::Synced`].
    pub fn append(&self, append: Append) {
        if self.records.send(append).is_err() {
            tracing::error!("the journal's thread is gone; nothing more is written");
        }
    }

    /// Lets it finish what it was given, and waits for that.
    pub fn finish(self) {
        drop(self.records);
        if self.thread.join().is_err() {
            tracing::error!("the journal's thread panicked");
        }
    }
}

fn write<J: Durable>(
    mut journal: J,
    queue: &Receiver<Append>,
    synced: &UnboundedSender<WardenInput>,
) -> Result<(), J::Error> {
    while let Ok(first) = queue.recv() {
        journal.append(&first)?;
        for append in queue.try_iter().take(BATCH - 1) {
            journal.append(&append)?;
        }
        let head = journal.sync()?;
        // Nobody listens any more while the warden drains: the records are on the disk all the same.
        let _ = synced.send(WardenInput::Synced(head));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::types::{BootId, Timestamp, WardenInstance};
    use std::sync::{Arc, Mutex};
    use tokio::sync::mpsc::unbounded_channel;

    #[derive(Clone, Default)]
    struct Fake {
        log: Arc<Mutex<Vec<String>>>,
        fail_sync: bool,
        panics: bool,
        last: u64,
    }

    impl Durable for Fake {
        type Error = std::io::Error;
        fn append(&mut self, append: &Append) -> Result<(), std::io::Error> {
            assert!(!self.panics, "on purpose");
            self.last = append.seq;
            self.log.lock().unwrap().push(format!("append {}", append.seq));
            Ok(())
        }
        fn sync(&mut self) -> Result<JournalHead, std::io::Error> {
            if self.fail_sync {
                return Err(std::io::Error::other("no space"));
            }
            self.log.lock().unwrap().push("sync".into());
            Ok(JournalHead { seq: self.last, hash: Digest::default() })
        }
    }

    fn record(seq: u64) -> Append {
        let record = Record::Boot { instance: WardenInstance(1), boot: BootId::default(), at: Timestamp::ZERO };
        Append { seq, previous: Digest::default(), record }
    }

    #[test]
    fn records_are_appended_in_order_and_said_to_be_durable_only_after_the_sync() {
        let fake = Fake::default();
        let log = Arc::clone(&fake.log);
        let (synced, mut heard) = unbounded_channel();
        let thread = JournalThread::start(fake, synced, |error| panic!("{error}")).unwrap();
        for seq in 1..=200 {
            thread.append(record(seq));
        }
        thread.finish();
        let log = log.lock().unwrap();
        let appended: Vec<_> = log.iter().filter(|line| *line != "sync").cloned().collect();
        assert_eq!(appended, (1..=200).map(|seq| format!("append {seq}")).collect::<Vec<_>>());
        assert_eq!(log.last().unwrap(), "sync");
        let mut last = 0;
        while let Ok(WardenInput::Synced(head)) = heard.try_recv() {
            assert!(head.seq > last);
            last = head.seq;
        }
        assert_eq!(last, 200);
    }

    #[test]
    fn a_panic_of_the_journals_thread_ends_the_process_like_any_failure() {
        let (synced, mut heard) = unbounded_channel();
        let (failed, failure) = channel();
        let fake = Fake { panics: true, ..Fake::default() };
        let thread = JournalThread::start(fake, synced, move |error| failed.send(error.to_string()).unwrap()).unwrap();
        thread.append(record(1));
        assert_eq!(failure.recv().unwrap(), "the journal's thread panicked");
        thread.finish();
        assert!(heard.try_recv().is_err());
    }

    #[test]
    fn after_a_failed_sync_nothing_more_is_written_and_nothing_is_said_to_be_durable() {
        let fake = Fake { fail_sync: true, ..Fake::default() };
        let log = Arc::clone(&fake.log);
        let (synced, mut heard) = unbounded_channel();
        let (failed, failure) = channel();
        let thread = JournalThread::start(fake, synced, move |error| failed.send(error.to_string()).unwrap()).unwrap();
        thread.append(record(1));
        assert_eq!(failure.recv().unwrap(), "no space");
        let before = log.lock().unwrap().len();
        thread.append(record(2));
        thread.finish();
        assert_eq!(log.lock().unwrap().len(), before);
        assert!(heard.try_recv().is_err());
    }
}
