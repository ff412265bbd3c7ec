//! `zeta-bft verify` on a hostile file: yes or no, never half.

use super::world::roster;
use super::{Reader, is_plain, seeds};
use std::collections::BTreeSet;
use std::sync::OnceLock;
use zeta_bft::commands::verify::inspect;

/// Everything that the committed good files make `verify` say well of: nobody can make it say more without a key.
fn known() -> &'static BTreeSet<String> {
    static KNOWN: OnceLock<BTreeSet<String>> = OnceLock::new();
    KNOWN.get_or_init(|| {
        let good = seeds::good_files();
        let lines = good.iter().flat_map(|(name, bytes)| {
            let report = inspect(roster().clone(), &[("F", bytes)]);
            assert_eq!(report.exit_code(), 0, "{name} is a good file: {:#?}", report.lines);
            report.lines
        });
        lines.map(|line| without_numbers(&line)).collect()
    })
}

/// A journal may be cut and hold less, and still hold: how much it holds is left out.
fn without_numbers(line: &str) -> String {
    // Where in a journal a roster stands is its author's affair, which one it is is not.
    if let Some((_, roster)) = line.split_once(": roster ") {
        return format!("roster {roster}");
    }
    match line.strip_prefix("F: ") {
        Some(whole) if whole.contains(" records, ") => "F: a journal".to_owned(),
        Some(_) | None => line.to_owned(),
    }
}

/// The first byte says whether the rest is a file, or the records of a journal, each with its length in front, that somebody wrote
/// who keeps the journal's own rules.
pub(crate) fn verify(data: &[u8]) {
    let mut data = Reader(data);
    if data.byte() == 0 {
        file(data.0);
        return;
    }
    let (disk, mut journal) = super::journal::empty();
    while !data.0.is_empty() {
        let head = journal.head();
        journal.append(head.seq + 1, head.hash, data.frame()).expect("it follows");
    }
    file(&disk.bytes());
}

/// Any bytes as a file that is to be verified.
fn file(data: &[u8]) {
    let report = inspect(roster().clone(), &[("F", data)]);
    assert_eq!(report, inspect(roster().clone(), &[("F", data)]), "the same file, the same word");
    assert!(!report.lines.is_empty(), "nothing was said of it");
    let (mut faults, mut empty) = (0, 0);
    for line in &report.lines {
        assert!(is_plain(line), "{line:?}");
        if line.contains(": NOT OK: ") {
            faults += 1;
        } else if line.ends_with(": empty: there is nothing to verify") {
            empty += 1;
        } else {
            let said = line.strip_suffix(": ok").map(|_| without_numbers(line));
            assert!(
                said.as_ref().is_some_and(|said| known().contains(said)),
                "{line:?} was said of something that nobody signed"
            );
        }
    }
    assert_eq!((faults, empty), (report.faults, report.empty), "{:#?}", report.lines);
    let code = match (faults, empty) {
        (0, 0) => 0,
        (0, _) => 2,
        _ => 1,
    };
    assert_eq!(report.exit_code(), code);
}
