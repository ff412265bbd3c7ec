//! Whether a test notices each mutant of `tests/mutants`: every judge in turn, until one does.
//!
//! ```text
//! nice -n 19 cargo bench --profile dev --bench mutants
//! ZETA_BFT_ONLY=3,20-26 ZETA_BFT_JUDGES=1 cargo bench --profile dev --bench mutants
//! ```
//!
//! | variable | meaning |
//! |---|---|
//! | `ZETA_BFT_ONLY` | these mutants, by number, instead of all of them |
//! | `ZETA_BFT_JUDGES` | the first so many [`judge::JUDGES`] alone; who survives then proves nothing about the others |
//! | `ZETA_BFT_MUTANTS` | where the copy of the sources is made and kept (gigabytes); else a folder that is removed again |
//! | `ZETA_BFT_RECORD` | where the table is written; else `target/mutants.md` |
//!
//! The copy is built once, with `--profile sim`, and must pass with every mutant asleep. A judge notices a mutant by a claim that
//! fails, by a crash, or by using far more CPU time than without it: see [`judge::How`]. It fails if a mutant survives that nothing
//! excuses, or if an excused one is killed after all.

mod copy;
mod judge;
#[path = "../../tests/mutants/list.rs"]
mod list;
#[path = "../../tests/mutants/weave.rs"]
mod weave;

use judge::{Court, JUDGES, Verdict};
use list::{Change, MUTANTS, Mutant};
use std::fmt::Write as _;
use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};
use zeta_bft::clock;

fn main() -> ExitCode {
    if !std::env::args().any(|argument| argument == "--bench") {
        println!("mutants: run it with `cargo bench --profile dev --bench mutants`");
        return ExitCode::SUCCESS;
    }
    let began = clock::now();
    let only = std::env::var("ZETA_BFT_ONLY").map_or(vec![1..=MUTANTS.len()], |text| ranges(&text));
    let judges =
        std::env::var("ZETA_BFT_JUDGES").map_or(JUDGES.len(), |text| text.parse().expect("a number of judges"));
    let own = tempfile::tempdir().expect("a folder of its own");
    let at = std::env::var_os("ZETA_BFT_MUTANTS").map_or(own.path().to_path_buf(), PathBuf::from);
    copy::make(&at);
    let court = Court::open(&at, &JUDGES[..judges.min(JUDGES.len())]);
    let mut table = Table::default();
    for (number, mutant) in (1..).zip(MUTANTS).filter(|(number, _)| only.iter().any(|range| range.contains(number))) {
        table.add(number, mutant, court.judge(number));
    }
    let minutes = clock::now().saturating_since(began).as_secs() / 60;
    let record = std::env::var_os("ZETA_BFT_RECORD").map_or_else(|| PathBuf::from("target/mutants.md"), PathBuf::from);
    std::fs::write(&record, format!("{}\n{}", table.summary(&court, minutes), table.rows)).expect("the record");
    println!("{}record: {}", table.summary(&court, minutes), record.display());
    if table.wrong.is_empty() {
        return ExitCode::SUCCESS;
    }
    println!("not as tests/mutants/list.rs has it: {:?}", table.wrong);
    ExitCode::FAILURE
}

/// `3,20-26`.
fn ranges(text: &str) -> Vec<RangeInclusive<usize>> {
    let number = |text: &str| text.trim().parse().unwrap_or_else(|_| panic!("ZETA_BFT_ONLY: {text} is no number"));
    text.split(',')
        .map(|part| part.split_once('-').map_or_else(|| number(part)..=number(part), |(a, b)| number(a)..=number(b)))
        .collect()
}

#[derive(Default)]
struct Table {
    rows: String,
    /// How many each judge killed.
    killed: Vec<(&'static str, usize)>,
    survivors: usize,
    /// Survivors without an excuse, and the excused that were killed.
    wrong: Vec<usize>,
}

impl Table {
    fn add(&mut self, number: usize, mutant: &Mutant, verdict: Option<Verdict>) {
        if self.rows.is_empty() {
            self.rows.push_str("| | file | the rule | what becomes of it | who noticed |\n|---|---|---|---|---|\n");
        }
        let fate = match (&verdict, mutant.excuse) {
            (Some(verdict), _) => verdict.to_string(),
            (None, Some(why)) => format!("nobody. {why}"),
            (None, None) => "**nobody**".to_owned(),
        };
        match &verdict {
            Some(verdict) => match self.killed.iter_mut().find(|(judge, _)| *judge == verdict.judge) {
                Some((_, count)) => *count += 1,
                None => self.killed.push((verdict.judge, 1)),
            },
            None => self.survivors += 1,
        }
        if verdict.is_some() == mutant.excuse.is_some() {
            self.wrong.push(number);
        }
        let (_, _, piece) = weave::parts(mutant.at);
        let becomes = match mutant.change {
            Change::Becomes(other) => format!("`{}`", cell(other)),
            Change::Goes => "left out".to_owned(),
        };
        let row = format!("| {number} | `{}` | `{}` | {becomes} | {fate} |", mutant.file, cell(piece));
        println!("{row}");
        let _ = writeln!(self.rows, "{row}");
    }

    fn summary(&self, court: &Court, minutes: u64) -> String {
        let git = |arguments: &[&str]| {
            let output = Command::new("git").args(arguments).current_dir(env!("CARGO_MANIFEST_DIR")).output().ok();
            output.map(|output| String::from_utf8_lossy(&output.stdout).trim().to_owned()).unwrap_or_default()
        };
        let changed = if git(&["status", "--porcelain", "src", "tests"]).is_empty() { "" } else { ", with changes" };
        let killed: Vec<_> = self.killed.iter().map(|(judge, count)| format!("{count} by {judge}")).collect();
        let killed = if killed.is_empty() { "none".to_owned() } else { killed.join(", ") };
        format!(
            "Commit {}{changed}, {minutes} minutes. Killed: {killed}. Survivors: {}.\nAsleep: {}.\n",
            git(&["rev-parse", "--short", "HEAD"]),
            self.survivors,
            court.asleep()
        )
    }
}

/// Code on one line of a table.
fn cell(code: &str) -> String {
    code.split_whitespace().collect::<Vec<_>>().join(" ").replace('|', "\\|")
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}
