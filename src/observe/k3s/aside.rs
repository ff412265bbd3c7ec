//! Work that may hang with a disk, on a thread of its own.

use std::time::Duration;
use tokio::task::JoinHandle;

/// A worker: here, or on a thread that has not come back. One that is away is not sent again, and no other in its place.
pub(crate) enum Aside<W, R> {
    /// Here.
    Idle(Box<W>),
    /// On its thread.
    Away(JoinHandle<(Box<W>, R)>),
    /// Its thread panicked.
    Lost,
}

impl<W: Send + 'static, R: Send + 'static> Aside<W, R> {
    /// Here, and idle.
    pub(crate) fn new(worker: W) -> Self {
        Self::Idle(Box::new(worker))
    }

    /// Has it work, and waits for what comes of it, or of the time before: at most `limit`. `None` when nothing came. Work that
    /// is given up in between is not lost: the next call waits for it.
    pub(crate) async fn work(&mut self, limit: Duration, work: impl FnOnce(&mut W) -> R + Send + 'static) -> Option<R> {
        *self = match std::mem::replace(self, Self::Lost) {
            Self::Idle(mut worker) => Self::Away(tokio::task::spawn_blocking(move || {
                let result = work(&mut worker);
                (worker, result)
            })),
            other => other,
        };
        let Self::Away(thread) = self else { return None };
        match tokio::time::timeout(limit, thread).await {
            Ok(Ok((worker, result))) => {
                *self = Self::Idle(worker);
                Some(result)
            }
            Ok(Err(_)) => {
                *self = Self::Lost;
                None
            }
            Err(_) => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::mpsc;

    const SHORT: Duration = Duration::from_millis(20);
    const PATIENT: Duration = Duration::from_secs(10);

    #[tokio::test]
    async fn who_hangs_is_not_sent_again_and_what_it_brings_late_is_taken() {
        let (end, ended) = mpsc::channel::<()>();
        let mut aside = Aside::new(0);
        let hangs = move |calls: &mut i32| {
            let _ = ended.recv();
            *calls += 1;
            *calls
        };
        assert_eq!(aside.work(SHORT, hangs).await, None);
        for _ in 0..3 {
            assert_eq!(aside.work(SHORT, |_| unreachable!("a second thread")).await, None);
        }
        drop(end);
        assert_eq!(aside.work(PATIENT, |_| unreachable!("the first comes back now")).await, Some(1));
        assert_eq!(aside.work(PATIENT, |calls| *calls + 1).await, Some(2));
    }

    #[tokio::test]
    async fn a_panic_aside_ends_no_other_work() {
        let mut aside = Aside::new(());
        assert_eq!(aside.work(PATIENT, |()| -> i32 { panic!("on purpose") }).await, None);
        assert_eq!(aside.work(PATIENT, |()| 1).await, None);
    }
}
