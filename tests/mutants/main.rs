//! Mutants of `src/protocol`: each bends one rule, and some test must notice.
//!
//! All of them are put into one copy of the sources at once, each behind a question that only this copy knows, so that the copy
//! is compiled once and every mutant is one more run of it. The shipped sources know nothing of it.
//!
//! * `cargo test --test mutants` checks that every mutant still applies: a stale one is a failure.
//! * `cargo test --test mutants -- --ignored --nocapture` runs them, which takes long, and prints who is killed by what. The
//!   copy is made below `ZETA_BFT_MUTANTS`, or in a folder of its own that is removed again. [`SURVIVORS`] says which ones nobody
//!   kills, and why; any other survivor is a failure, and so is one of them that is killed after all.

mod list;

use list::MUTANTS;
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::process::Command;

/// What becomes of the marked piece.
#[derive(Clone, Copy)]
pub enum Change {
    /// Another expression.
    Becomes(&'static str),
    /// A statement that is left out.
    Goes,
}

/// Mutants that no test kills, by what stands in the list, and why that is so.
const SURVIVORS: &[(&str, &str)] = &[];

/// The marked piece of a mutant, and the text around it.
fn parts(at: &str) -> (String, &str, &str) {
    let (before, rest) = at.split_once('⟦').expect("a mutant marks where it begins");
    let (piece, after) = rest.split_once('⟧').expect("and where it ends");
    (format!("{before}{piece}{after}"), before, piece)
}

/// The sources of one file with its mutants in it.
fn mutated(file: &str, source: &str) -> Result<String, String> {
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

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn files() -> BTreeSet<&'static str> {
    MUTANTS.iter().map(|mutant| mutant.file).collect()
}

#[test]
fn every_mutant_still_applies() {
    assert!(MUTANTS.len() >= 40, "{} mutants", MUTANTS.len());
    for file in files() {
        let source = std::fs::read_to_string(root().join("src/protocol").join(file)).expect("the file is there");
        let text = mutated(file, &source).unwrap_or_else(|stale| panic!("{stale}"));
        assert_ne!(text, source);
    }
    for (at, _) in SURVIVORS {
        assert!(MUTANTS.iter().any(|mutant| mutant.at == *at), "a survivor that is no mutant: {at}");
    }
}

fn copy(from: &Path, to: &Path) {
    if from.is_dir() {
        std::fs::create_dir_all(to).expect("the copy's folder can be made");
        for entry in std::fs::read_dir(from).expect("a folder of the sources") {
            let entry = entry.expect("a folder of the sources");
            copy(&entry.path(), &to.join(entry.file_name()));
        }
    } else {
        std::fs::copy(from, to).expect("a file of the sources can be copied");
    }
}

/// Sources with every mutant in them, asleep.
fn build(into: &Path) {
    for part in ["src", "proto", "tests", "benches", "Cargo.toml", "Cargo.lock", "build.rs", "deploy"] {
        copy(&root().join(part), &into.join(part));
    }
    for file in files() {
        let path = into.join("src/protocol").join(file);
        let source = std::fs::read_to_string(&path).expect("it was just copied");
        std::fs::write(&path, mutated(file, &source).unwrap_or_else(|stale| panic!("{stale}"))).expect("writable");
    }
    let lib = into.join("src/lib.rs");
    let text =
        std::fs::read_to_string(&lib).expect("it was just copied") + "\n#[allow(missing_docs)]\npub mod mutants;\n";
    std::fs::write(&lib, text).expect("writable");
    let question = "//! Which mutant is awake.\nuse std::sync::OnceLock;\nstatic AWAKE: OnceLock<u32> = OnceLock::new();\n\
        pub fn is_on(number: u32) -> bool {\n    *AWAKE.get_or_init(|| std::env::var(\"MUTANT\").ok().and_then(|n| n.parse().ok())\
        .unwrap_or(0)) == number\n}\n";
    std::fs::write(into.join("src/mutants.rs"), question).expect("writable");
}

/// The tests that are asked one after the other, until one notices.
const JUDGES: [(&str, &[&str]); 3] = [
    ("the claims of src/protocol", &["--lib", "protocol::"]),
    ("the model", &["--test", "model"]),
    ("the simulator", &["--test", "sim"]),
];

fn cargo(at: &Path, mutant: usize, arguments: &[&str]) -> bool {
    let mut command = Command::new(env!("CARGO"));
    command.arg("test").args(arguments).current_dir(at).env("MUTANT", mutant.to_string());
    command.env("RUST_BACKTRACE", "0").env("ZETA_BFT_SEEDS", "200");
    command.output().expect("cargo runs").status.success()
}

#[test]
#[ignore = "takes long: run it by name, outside CI"]
fn every_mutant_that_matters_is_killed() {
    let own = tempfile::tempdir().expect("a folder of its own");
    let at = std::env::var_os("ZETA_BFT_MUTANTS").map_or(own.path().to_path_buf(), PathBuf::from);
    build(&at);
    let judges = std::env::var("ZETA_BFT_JUDGES").ok().and_then(|n| n.parse().ok()).unwrap_or(JUDGES.len());
    for (name, arguments) in JUDGES.iter().take(judges) {
        assert!(cargo(&at, 0, arguments), "{name} fail with every mutant asleep");
    }
    let mut wrong = Vec::new();
    for (index, mutant) in MUTANTS.iter().enumerate() {
        let killer = JUDGES.iter().take(judges).find(|(_, arguments)| !cargo(&at, index + 1, arguments));
        let excused = SURVIVORS.iter().find(|(at, _)| *at == mutant.at);
        let what = match mutant.change {
            Change::Becomes(other) => format!("becomes {other}"),
            Change::Goes => "goes".to_owned(),
        };
        let (_, _, piece) = parts(mutant.at);
        let fate = killer.map_or("SURVIVES".to_owned(), |(name, _)| format!("killed by {name}"));
        println!("{:>3} {}: {piece} {what}: {fate}", index + 1, mutant.file);
        if killer.is_some() == excused.is_some() {
            wrong.push(index + 1);
        }
    }
    assert!(wrong.is_empty(), "mutants {wrong:?} are not as the list of survivors has it");
}
