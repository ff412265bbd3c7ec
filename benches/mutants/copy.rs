//! The copy of the sources with every mutant in it, asleep.

use super::{root, weave};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// What a build of the tests reads.
const PARTS: [&str; 8] = ["src", "proto", "tests", "benches", "deploy", "Cargo.toml", "Cargo.lock", "build.rs"];

/// The question that every mutant is behind: the number in `MUTANT` is the one that is awake.
const QUESTION: &str = r#"//! Which mutant is awake.
use std::sync::OnceLock;
static AWAKE: OnceLock<usize> = OnceLock::new();
pub fn is_on(number: usize) -> bool {
    *AWAKE.get_or_init(|| std::env::var("MUTANT").ok().and_then(|n| n.parse().ok()).unwrap_or(0)) == number
}
"#;

/// Makes the copy, or brings an older one up to date: a file that is as it should be is not touched, so Cargo does not build it
/// again.
pub fn make(at: &Path) {
    let mut files = BTreeMap::new();
    for part in PARTS {
        collect(&root().join(part), Path::new(part), &mut files);
    }
    for file in weave::files() {
        let text = files.get_mut(&Path::new("src/protocol").join(file)).expect("a mutant's file is there");
        let source = std::str::from_utf8(text).expect("sources are UTF-8");
        *text = weave::mutated(file, source).unwrap_or_else(|stale| panic!("{stale}")).into_bytes();
    }
    let lib = files.get_mut(Path::new("src/lib.rs")).expect("the library is there");
    lib.splice(0..0, b"#![allow(unused_parens)]\n".iter().copied());
    lib.extend_from_slice(b"\n#[allow(missing_docs)]\npub mod mutants;\n");
    files.insert(PathBuf::from("src/mutants.rs"), QUESTION.as_bytes().to_vec());

    let mut present = BTreeMap::new();
    for part in PARTS.iter().filter(|part| at.join(part).exists()) {
        collect(&at.join(part), Path::new(part), &mut present);
    }
    for gone in present.keys().filter(|path| !files.contains_key(*path)) {
        std::fs::remove_file(at.join(gone)).expect("a file of the copy can be removed");
    }
    for (path, text) in files.iter().filter(|(path, text)| present.get(*path) != Some(text)) {
        let path = at.join(path);
        std::fs::create_dir_all(path.parent().expect("it lies in a folder")).expect("the copy's folder can be made");
        std::fs::write(path, text).expect("a file of the copy can be written");
    }
}

fn collect(from: &Path, name: &Path, into: &mut BTreeMap<PathBuf, Vec<u8>>) {
    if from.is_dir() {
        for entry in std::fs::read_dir(from).expect("a folder of the sources") {
            let entry = entry.expect("a folder of the sources");
            collect(&entry.path(), &name.join(entry.file_name()), into);
        }
    } else {
        into.insert(name.to_owned(), std::fs::read(from).expect("a file of the sources"));
    }
}
