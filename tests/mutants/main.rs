//! Mutants of `src/protocol`: each bends one rule, and some test must notice.
//!
//! All of them are put into one copy of the sources at once, each behind a question that only this copy knows, so that the copy
//! is compiled once and every mutant is one more run of it. The shipped sources know nothing of it.
//!
//! Here it is checked that the list is not stale. `cargo bench --profile dev --bench mutants` asks the judges about every mutant,
//! which takes long; `docs/measurements/mutants.md` has what they said.

mod list;
mod weave;

use list::MUTANTS;
use std::path::Path;

#[test]
fn every_mutant_still_applies() {
    assert!(MUTANTS.len() >= 40, "{} mutants", MUTANTS.len());
    for file in weave::files() {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/protocol").join(file);
        let source = std::fs::read_to_string(path).expect("the file is there");
        let text = weave::mutated(file, &source).unwrap_or_else(|stale| panic!("{stale}"));
        assert_ne!(text, source);
    }
}

#[test]
fn every_excuse_is_a_sentence() {
    for mutant in MUTANTS {
        let Some(excuse) = mutant.excuse else { continue };
        assert!(excuse.ends_with('.') && excuse.split_whitespace().count() > 5, "{}: {excuse}", mutant.at);
    }
}
