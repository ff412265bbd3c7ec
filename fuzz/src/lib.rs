//! What each fuzz target does with the bytes that it is given. `fuzz_targets/` hands it libFuzzer's, `tests/corpus.rs` the
//! committed ones.
//!
//! Rules:
//! * A target panics when a promise is broken: not only that nothing panics, but that what is read comes back byte for byte, that
//!   what is refused changes nothing, that what is accepted was signed.
//! * A target is quick: [`run`] holds the CPU time of one input against a limit, so that an input whose cost grows
//!   faster than its length is a find like any other.
//! * A target is deterministic, reaches for no clock of its own, no network, and no file.
#![forbid(unsafe_code)]

mod certificates;
mod config;
mod journal;
mod k3s;
mod lines;
mod lookout;
pub mod seeds;
mod statements;
mod ticks;
mod verify;
mod world;

use std::time::Duration;

/// A target's body.
pub type Body = fn(&[u8]);

/// Every target, by the name of its corpus and of its file in `fuzz_targets`.
pub const TARGETS: &[(&str, Body)] = &[
    ("certificate", certificates::certificate),
    ("config", config::config),
    ("envelope", statements::envelope),
    ("journal", journal::journal),
    ("k3s_http", k3s::http),
    ("k3s_journal", k3s::journal),
    ("k3s_look", k3s::look),
    ("lookout", lookout::lookout),
    ("pid1_line", lines::pid1_line),
    ("proof", certificates::proof),
    ("statement", statements::statement),
    ("ticks", ticks::ticks),
    ("verify", verify::verify),
];

/// Runs the target of this name, which there is. `slow`: how much slower than an optimised build everything is.
pub fn run(name: &str, data: &[u8], slow: u32) {
    let (_, body) = TARGETS.iter().find(|(known, _)| *known == name).expect("the name of a target");
    let begun = cpu_time();
    body(data);
    let (took, limit) = (cpu_time().saturating_sub(begun), limit(data.len()) * slow);
    assert!(took <= limit, "{name}: {} bytes took {took:?}, more than {limit:?}", data.len());
}

/// CPU time that one input may take.
fn limit(len: usize) -> Duration {
    Duration::from_millis(500) + Duration::from_micros(50) * u32::try_from(len).unwrap_or(u32::MAX)
}

/// CPU time of this thread: what others do on the machine does not count.
pub fn cpu_time() -> Duration {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::ThreadCPUTime);
    let (seconds, nanos) = (u64::try_from(time.tv_sec), u32::try_from(time.tv_nsec));
    Duration::new(seconds.unwrap_or(0), nanos.unwrap_or(0))
}

/// Whether a text can be printed on one line of a terminal: nothing in it moves the cursor or hides what stands there.
pub(crate) fn is_plain(text: &str) -> bool {
    !text.chars().any(char::is_control)
}

/// Bytes read from the front of the input; zeros where it has ended.
pub(crate) struct Reader<'a>(pub(crate) &'a [u8]);

impl<'a> Reader<'a> {
    pub(crate) fn byte(&mut self) -> u8 {
        self.take(1).first().copied().unwrap_or(0)
    }

    pub(crate) fn u16(&mut self) -> u16 {
        u16::from_le_bytes([self.byte(), self.byte()])
    }

    pub(crate) fn take(&mut self, most: usize) -> &'a [u8] {
        let (taken, rest) = self.0.split_at(most.min(self.0.len()));
        self.0 = rest;
        taken
    }

    /// A stretch with its length in front, as [`framed`] writes it.
    pub(crate) fn frame(&mut self) -> &'a [u8] {
        let len = usize::from(self.u16());
        self.take(len)
    }
}

/// A stretch with its length in front, cut to what the length can say.
pub(crate) fn framed(bytes: &[u8]) -> Vec<u8> {
    let len = u16::try_from(bytes.len()).unwrap_or(u16::MAX);
    [&len.to_le_bytes(), &bytes[..usize::from(len)]].concat()
}
