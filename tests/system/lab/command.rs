//! Programs of the host, run to their end within a limit.

use super::Unfit;
use std::ffi::OsStr;
use std::fmt;
use std::process::{Command, Stdio};
use std::time::Duration;
use zeta_bft::clock;

/// How a program ended and what it said.
#[derive(Clone, Debug)]
pub struct Done {
    /// The exit status; 128 + n after signal n; 124 when its time was over.
    pub code: i32,
    pub out: String,
    pub err: String,
    words: String,
}

impl Done {
    pub fn ok(&self) -> bool {
        self.code == 0
    }

    /// Its output without the last line's end.
    ///
    /// # Panics
    /// When it failed.
    #[track_caller]
    pub fn expect_ok(&self) -> &str {
        assert!(self.ok(), "{self}");
        self.out.trim_end()
    }

    /// The last thing it said, for one line of a report.
    fn last_words(&self) -> &str {
        let mut lines = self.err.lines().rev().chain(self.out.lines().rev());
        lines.find(|line| !line.trim().is_empty()).unwrap_or("it said nothing")
    }
}

impl fmt::Display for Done {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "`{}` ended with {}\n{}{}", self.words, self.code, self.out, self.err)
    }
}

/// Runs a program of the host to its end.
pub fn run(limit: Duration, words: &[&str]) -> Done {
    run_command(Command::new("timeout").arg("--kill-after=5").arg(limit.as_secs_f64().to_string()).args(words), words)
}

/// Runs a prepared command.
pub(super) fn run_command(command: &mut Command, words: &[impl AsRef<OsStr>]) -> Done {
    use std::os::unix::process::ExitStatusExt as _;
    let words: Vec<_> = words.iter().map(|word| word.as_ref().to_string_lossy().into_owned()).collect();
    let words = words.join(" ");
    match command.stdin(Stdio::null()).output() {
        Ok(output) => Done {
            code: output.status.code().or_else(|| output.status.signal().map(|n| 128 + n)).unwrap_or(-1),
            out: String::from_utf8_lossy(&output.stdout).into_owned(),
            err: String::from_utf8_lossy(&output.stderr).into_owned(),
            words,
        },
        Err(error) => Done { code: 127, out: String::new(), err: error.to_string(), words },
    }
}

/// Runs one that must succeed.
pub(super) fn must(words: &[&str]) -> Result<String, Unfit> {
    let done = run(Duration::from_secs(60), words);
    if done.ok() { Ok(done.out) } else { Err(Unfit::Broken(done.to_string())) }
}

/// Runs one that needs the network.
pub(super) fn fetch(limit: Duration, words: &[&str]) -> Result<(), Unfit> {
    let done = run(limit, words);
    if done.ok() {
        return Ok(());
    }
    Err(Unfit::NotFetched(format!("`{}` failed: {}", words[..words.len().min(2)].join(" "), done.last_words())))
}

/// Polls until a condition holds, or the limit is over.
pub fn await_true(limit: Duration, mut holds: impl FnMut() -> bool) -> bool {
    let deadline = clock::now() + limit;
    loop {
        if holds() {
            return true;
        }
        if clock::now() >= deadline {
            return false;
        }
        std::thread::sleep(Duration::from_millis(10));
    }
}
