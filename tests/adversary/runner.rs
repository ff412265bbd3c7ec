//! Runs claims as `cargo test` does: filters, `--exact`, `--skip`, `--list`, and the same lines of result.

use std::collections::VecDeque;
use std::panic::AssertUnwindSafe;
use std::process::ExitCode;
use std::sync::Mutex;

/// A claim, and what shows it.
pub type Claim = (&'static str, fn());

/// Committees at once: each is seven processes.
const AT_ONCE: usize = 2;

/// Runs the claims that measure time one by one, then the others beside each other.
pub fn run(words: &[&str], alone: &'static [Claim], beside: &'static [Claim]) -> ExitCode {
    let (mut filters, mut skipped) = (Vec::new(), Vec::new());
    let (mut exact, mut list) = (false, false);
    let mut words = words.iter().copied();
    while let Some(word) = words.next() {
        match word {
            "--exact" => exact = true,
            "--list" => list = true,
            "--skip" => skipped.extend(words.next()),
            // Options with a value, which change nothing here.
            "--test-threads" | "--format" | "--color" | "--logfile" | "-Z" => drop(words.next()),
            word if word.starts_with('-') => {}
            word => filters.push(word),
        }
    }
    let fits = |name: &str, word: &str| if exact { name == word } else { name.contains(word) };
    let chosen = |claims: &'static [Claim]| -> VecDeque<&'static Claim> {
        claims
            .iter()
            .filter(|(name, _)| filters.is_empty() || filters.iter().any(|word| fits(name, word)))
            .filter(|(name, _)| !skipped.iter().any(|word| fits(name, word)))
            .collect()
    };
    let known = alone.len() + beside.len();
    let (alone, beside) = (chosen(alone), chosen(beside));
    if list {
        alone.iter().chain(&beside).for_each(|(name, _)| println!("{name}: test"));
        return ExitCode::SUCCESS;
    }
    let count = alone.len() + beside.len();
    let left_out = known - count;
    println!("\nrunning {count} tests");
    let failed = Mutex::new(Vec::new());
    for (claims, at_once) in [(alone, 1), (beside, AT_ONCE)] {
        let waiting = Mutex::new(claims);
        std::thread::scope(|scope| {
            for _ in 0..at_once {
                scope.spawn(|| {
                    while let Some((name, show)) = next(&waiting) {
                        let shown = std::panic::catch_unwind(AssertUnwindSafe(show));
                        println!("test {name} ... {}", if shown.is_ok() { "ok" } else { "FAILED" });
                        if shown.is_err() {
                            failed.lock().expect("nobody panics with it").push(*name);
                        }
                    }
                });
            }
        });
    }
    let failed = failed.into_inner().expect("nobody panics with it");
    failed.iter().for_each(|name| println!("failed: {name}"));
    let verdict = if failed.is_empty() { "ok" } else { "FAILED" };
    println!(
        "\ntest result: {verdict}. {} passed; {} failed; 0 ignored; 0 measured; {left_out} filtered out\n",
        count - failed.len(),
        failed.len()
    );
    if failed.is_empty() { ExitCode::SUCCESS } else { ExitCode::from(101) }
}

fn next<'a>(waiting: &Mutex<VecDeque<&'a Claim>>) -> Option<&'a Claim> {
    waiting.lock().expect("nobody panics with it").pop_front()
}
