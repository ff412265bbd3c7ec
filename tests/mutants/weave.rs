//! Every mutant of a file, put into its sources behind a question: which one is awake?

use super::list::{Change, MUTANTS};
use std::collections::{BTreeMap, BTreeSet};

/// The files that have mutants, below `src/protocol`.
pub fn files() -> BTreeSet<&'static str> {
    MUTANTS.iter().map(|mutant| mutant.file).collect()
}

/// Where a mutant stands: the text to look for, what of it comes before the marked piece, and the piece.
pub fn parts(at: &str) -> (String, &str, &str) {
    let (before, rest) = at.split_once('⟦').expect("a mutant marks where it begins");
    let (piece, after) = rest.split_once('⟧').expect("and where it ends");
    (format!("{before}{piece}{after}"), before, piece)
}

/// The sources of one file with its mutants in it.
///
/// # Errors
/// A mutant whose place is not there, or not there alone.
pub fn mutated(file: &str, source: &str) -> Result<String, String> {
    let mut pieces: BTreeMap<(usize, usize), Vec<usize>> = BTreeMap::new();
    for (index, mutant) in MUTANTS.iter().enumerate().filter(|(_, mutant)| mutant.file == file) {
        let (whole, before, piece) = parts(mutant.at);
        let found: Vec<_> = source.match_indices(&whole).collect();
        let [(at, _)] = found[..] else {
            return Err(format!("mutant {}: {file} has {} places that read\n{whole}", index + 1, found.len()));
        };
        let begins = at + before.len();
        pieces.entry((begins, begins + piece.len())).or_default().push(index);
    }
    let mut text = source.to_owned();
    for ((begins, ends), mutants) in pieces.into_iter().rev() {
        let piece = &source[begins..ends];
        let question = |index: usize| format!("crate::mutants::is_on({})", index + 1);
        let with = match MUTANTS[mutants[0]].change {
            Change::Goes => format!("if !{} {{ {piece} }}", question(mutants[0])),
            Change::Becomes(_) => {
                let others = mutants.iter().map(|index| match MUTANTS[*index].change {
                    Change::Becomes(other) => format!("if {} {{ {other} }} else ", question(*index)),
                    Change::Goes => unreachable!("one place has mutants of one kind"),
                });
                format!("({}{{ {piece} }})", others.collect::<String>())
            }
        };
        text.replace_range(begins..ends, &with);
    }
    Ok(text)
}
