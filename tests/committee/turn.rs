//! How many committees run at once.

use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};

const AT_ONCE: usize = 2;

static FREE: Mutex<usize> = Mutex::new(AT_ONCE);
static GIVEN_BACK: Condvar = Condvar::new();
/// Whoever wants everything waits for it alone: two of them would each keep a part from the other.
static ALONE: Mutex<()> = Mutex::new(());

/// The right to run a committee, until it is dropped.
pub struct Turn {
    taken: usize,
    _alone: Option<MutexGuard<'static, ()>>,
}

/// Beside one other committee.
pub fn shared() -> Turn {
    take(1);
    Turn { taken: 1, _alone: None }
}

/// With nothing beside it: for claims about time.
pub fn alone() -> Turn {
    let alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    (0..AT_ONCE).for_each(|_| take(1));
    Turn { taken: AT_ONCE, _alone: Some(alone) }
}

fn take(count: usize) {
    let free = FREE.lock().unwrap_or_else(PoisonError::into_inner);
    let mut free = GIVEN_BACK.wait_while(free, |free| *free < count).unwrap_or_else(PoisonError::into_inner);
    *free -= count;
}

impl Drop for Turn {
    fn drop(&mut self) {
        *FREE.lock().unwrap_or_else(PoisonError::into_inner) += self.taken;
        GIVEN_BACK.notify_all();
    }
}
