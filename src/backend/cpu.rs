//! A process' main thread as the scheduler has it, from `/proc`.
//!
//! Every process that is challenged answers on its main thread: the runtimes of this program have one thread.

use crate::protocol::cpu::{CpuReading, Standing};
use std::time::Duration;

/// Reads it; `None`: it cannot be told.
pub fn read(pid: u32) -> Option<CpuReading> {
    let text = |name| std::fs::read(format!("/proc/{pid}/{name}")).ok();
    // In this order: see [`CpuReading::standing`].
    let standing = standing(&text("stat")?)?;
    let (ran, waited) = times(&text("schedstat")?)?;
    Some(CpuReading { standing, ran, waited })
}

/// The letter behind the name. A process chooses its name, brackets and blanks included, but nothing behind it.
fn standing(stat: &[u8]) -> Option<Standing> {
    let end_of_name = stat.iter().rposition(|byte| *byte == b')')?;
    match stat.get(end_of_name + 1..)? {
        [b' ', letter, b' ', ..] => match letter {
            b'R' => Some(Standing::Runnable),
            b'D' => Some(Standing::Blocked),
            b't' => Some(Standing::Traced),
            b'S' | b'I' | b'T' | b'Z' | b'X' => Some(Standing::Still),
            _ => None,
        },
        _ => None,
    }
}

/// CPU time and wait, in nanoseconds.
fn times(schedstat: &[u8]) -> Option<(Duration, Duration)> {
    let mut numbers = std::str::from_utf8(schedstat).ok()?.split_ascii_whitespace();
    let mut next = || numbers.next()?.parse().ok().map(Duration::from_nanos);
    Some((next()?, next()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_cannot_name_itself_into_another_standing() {
        assert_eq!(standing(b"7 (x) D 1 (y) S 1 7 7 0 -1"), Some(Standing::Still));
        assert_eq!(standing(b"7 () R) D 1 7 7 0 -1"), Some(Standing::Blocked));
        assert_eq!(standing(b"7 (a\nb) R 1 7"), Some(Standing::Runnable));
    }

    #[test]
    fn what_the_kernel_never_wrote_cannot_be_told() {
        for text in ["", ")", "7 (x)", "7 (x) ", "7 (x) Q 1", "7 (x)R 1", "7 (x) RS 1"] {
            assert_eq!(standing(text.as_bytes()), None, "{text}");
        }
        for text in ["", "1", "1 x", "-1 2 3", "99999999999999999999 1 1"] {
            assert_eq!(times(text.as_bytes()), None, "{text}");
        }
        assert_eq!(times(b"5 7 9\n"), Some((Duration::from_nanos(5), Duration::from_nanos(7))));
        assert_eq!(read(0), None);
    }

    #[test]
    fn who_reads_itself_runs() {
        let (reading, later) = (read(std::process::id()).unwrap(), read(std::process::id()).unwrap());
        assert!(later.ran >= reading.ran && later.waited >= reading.waited, "{reading:?} {later:?}");
    }
}
