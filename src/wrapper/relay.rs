//! Output that nobody has to read: a thread of its own writes it, so that a reader who stops reading never stops us.

use std::io::Write as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use tokio::sync::{mpsc, oneshot};

/// Lines that may wait.
const WAITING: usize = 256;
/// How long a line waits for room before it is dropped.
const PATIENCE: Duration = Duration::from_secs(1);

/// Where a line goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sink {
    /// Our standard output.
    Stdout,
    /// Our standard error.
    Stderr,
}

/// The sending side. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Relay {
    lines: mpsc::Sender<Order>,
    dropped: Arc<AtomicU64>,
}

#[derive(Debug)]
enum Order {
    Write(Sink, Vec<u8>),
    End,
}

/// Tells when everything is written.
#[derive(Debug)]
pub struct Written(oneshot::Receiver<()>);

impl Relay {
    /// Starts the thread.
    ///
    /// # Errors
    /// When there can be no thread.
    pub fn start() -> std::io::Result<(Self, Written)> {
        let (lines, mut waiting) = mpsc::channel(WAITING);
        let (done, written) = oneshot::channel();
        let dropped = Arc::new(AtomicU64::new(0));
        let lost = Arc::clone(&dropped);
        std::thread::Builder::new().name("output".into()).spawn(move || {
            while let Some(Order::Write(sink, line)) = waiting.blocking_recv() {
                // Whoever read it may be gone: then there is nobody to tell.
                let _ = match sink {
                    Sink::Stdout => std::io::stdout().lock().write_all(&line).and_then(|()| std::io::stdout().flush()),
                    Sink::Stderr => std::io::stderr().lock().write_all(&line),
                };
                let missing = lost.swap(0, Ordering::Relaxed);
                if missing > 0 {
                    let _ = writeln!(std::io::stderr(), "{missing} lines of output were dropped: nobody read them");
                }
            }
            let _ = done.send(());
        })?;
        Ok((Self { lines, dropped }, Written(written)))
    }

    /// Passes one line on, waiting a second for room at most.
    pub async fn pass(&self, sink: Sink, line: Vec<u8>) {
        // While the thread is stuck, later lines do not wait again.
        let stuck = self.dropped.load(Ordering::Relaxed) > 0;
        let patience = if stuck { Duration::ZERO } else { PATIENCE };
        if tokio::time::timeout(patience, self.lines.send(Order::Write(sink, line))).await.is_err() {
            self.dropped.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// After what waits now, nothing more is written.
    pub async fn close(&self) {
        let _ = tokio::time::timeout(PATIENCE, self.lines.send(Order::End)).await;
    }
}

/// For log events: never waits.
impl std::io::Write for Relay {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        if self.lines.try_send(Order::Write(Sink::Stderr, bytes.to_vec())).is_err() {
            self.dropped.fetch_add(1, Ordering::Relaxed);
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

impl Written {
    /// Waits for the last line before [`Relay::close`], for so long at most.
    pub async fn wait(self, limit: Duration) {
        let _ = tokio::time::timeout(limit, self.0).await;
    }
}
