//! The layers of the program, as claims about its sources: what a compiler does not refuse, this does.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

struct Source {
    name: String,
    code: String,
}

/// Every Rust file below `folder`, with comments taken out of its lines.
fn sources(folder: &str) -> Vec<Source> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut found = Vec::new();
    let mut open = vec![root.join(folder)];
    while let Some(path) = open.pop() {
        if path.is_dir() {
            open.extend(std::fs::read_dir(&path).unwrap().map(|entry| entry.unwrap().path()));
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            let name = path.strip_prefix(root).unwrap().display().to_string();
            found.push(Source { name, code: without_comments(&std::fs::read_to_string(&path).unwrap()) });
        }
    }
    assert!(!found.is_empty(), "no sources below {folder}");
    found.sort_by(|a, b| a.name.cmp(&b.name));
    found
}

fn without_comments(text: &str) -> String {
    text.lines().map(|line| line.split("//").next().unwrap_or_default()).collect::<Vec<_>>().join("\n")
}

/// Whether a path is named, also as one of a group: `std::{fs, io}`.
fn names(code: &str, path: &str) -> bool {
    let word = |text: &str, word: &str| {
        text.match_indices(word).any(|(at, _)| {
            let before = text[..at].chars().next_back();
            let after = text[at + word.len()..].chars().next();
            let part = |c: char| c.is_alphanumeric() || c == '_';
            !before.is_some_and(part) && !after.is_some_and(part)
        })
    };
    if word(code, path) {
        return true;
    }
    let Some((parent, leaf)) = path.rsplit_once("::") else { return false };
    code.match_indices(&format!("{parent}::{{")).any(|(at, _)| {
        let group = code[at..].split(';').next().unwrap_or_default();
        word(group, leaf)
    })
}

fn refuse(sources: &[Source], paths: &[&str]) {
    let found: Vec<_> = sources
        .iter()
        .flat_map(|source| paths.iter().map(move |path| (source, path)))
        .filter(|(source, path)| names(&source.code, path))
        .map(|(source, path)| format!("{} names {path}", source.name))
        .collect();
    assert!(found.is_empty(), "{}", found.join("\n"));
}

#[test]
fn the_protocol_is_pure() {
    let everything_outside = [
        "tokio",
        "tonic",
        "prost",
        "rustix",
        "getrandom",
        "tracing",
        "std::net",
        "std::fs",
        "std::env",
        "std::process",
        "std::thread",
        "std::time::Instant",
        "std::time::SystemTime",
        "crate::clock",
        "crate::config",
        "crate::journal",
        "crate::backend",
        "crate::grpc",
        "crate::commands",
        "crate::warden",
        "crate::agent",
    ];
    let production: Vec<_> =
        sources("src/protocol").into_iter().filter(|source| !source.name.ends_with("tests.rs")).collect();
    refuse(&production, &everything_outside);
}

#[test]
fn the_program_signs_and_checks_by_ed25519_alone() {
    let sources = sources("src");
    let schemes: Vec<_> =
        sources.iter().flat_map(|source| source.code.lines().filter(|line| line.contains("Signatures for"))).collect();
    assert_eq!(schemes, ["impl Signatures for Proto {}"], "the core's own methods, and nothing instead of them");
    let signing = sources.iter().find(|source| source.name == "src/protocol/signing.rs").expect("it is there");
    for needed in ["key.sign(domain, payload)", "key.verify(domain, payload, signature)", ".verify_strict("] {
        assert!(signing.code.contains(needed), "src/protocol/signing.rs lacks `{needed}`");
    }
}

#[test]
fn the_warden_calls_nobody() {
    let mut warden = sources("src/warden");
    warden.extend(sources("src/inspect"));
    warden.extend(
        sources("src")
            .into_iter()
            .filter(|source| ["src/warden.rs", "src/inspect.rs", "src/commands/warden.rs"].contains(&&*source.name)),
    );
    assert!(warden.len() > 8, "the warden has moved: {} files", warden.len());
    refuse(&warden, &["grpc::client", "observe::http", "hyper_util", "TcpStream", "UnixStream", "Command"]);
}

#[test]
fn nothing_below_the_commands_reaches_up_to_them() {
    let below: Vec<_> = sources("src")
        .into_iter()
        .filter(|source| !source.name.starts_with("src/commands/") && source.name != "src/main.rs")
        .collect();
    refuse(&below, &["crate::commands"]);
}

#[test]
fn no_module_is_named_after_nothing() {
    let nameless = ["utils", "util", "helpers", "helper", "common", "manager", "misc"];
    for source in sources("src").iter().chain(&sources("tests")) {
        let path = PathBuf::from(&source.name).with_extension("");
        let parts = path.components().filter_map(|part| part.as_os_str().to_str());
        for part in parts {
            assert!(!nameless.contains(&part), "{} says nothing by its name", source.name);
        }
    }
}

#[test]
fn a_path_is_found_however_it_is_imported() {
    assert!(names("use std::time::Instant;", "std::time::Instant"));
    assert!(names("use std::time::{Duration, Instant};", "std::time::Instant"));
    assert!(!names("use std::time::{Duration};\nstruct Instant;", "std::time::Instant"));
    assert!(!names("let tokio_like = 1;", "tokio"));
    assert!(names("tokio::spawn(x)", "tokio"));
    assert!(!names(&without_comments("// tokio"), "tokio"));
}

/// Names in backquotes with four or more underscores: tests, as the documents cite them.
fn cited(document: &str) -> impl Iterator<Item = &str> {
    document.split('`').skip(1).step_by(2).filter(|name| {
        name.matches('_').count() >= 4
            && name.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_')
    })
}

#[test]
fn the_readme_tells_every_row_of_the_table_of_faults_and_no_other() {
    let readme = std::fs::read_to_string("README.md").expect("README.md is readable");
    let section =
        readme.split("## A broken k3s").nth(1).and_then(|rest| rest.split("\n## ").next()).expect("a section");
    let first_cells = section.lines().filter_map(|line| line.strip_prefix("| `")?.split(" | ").next());
    let told: BTreeSet<&str> =
        first_cells.flat_map(|cell| cell.split('`')).filter(|name| !name.trim().is_empty()).collect();
    let table = zeta_bft::observe::k3s::table::Table::built_in();
    let known: BTreeSet<&str> = table.rows().iter().map(|row| row.name.as_str()).collect();
    assert_eq!(told, known);
}

#[test]
fn every_test_that_a_document_names_exists() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let code: String = ["src", "tests"].into_iter().flat_map(sources).map(|source| source.code).collect();
    let mut found = 0;
    for document in [
        "README.md",
        "ARCHITECTURE.md",
        "SECURITY.md",
        "CHANGELOG.md",
        "docs/operations.md",
        "docs/measurements/mutants.md",
    ] {
        let text = std::fs::read_to_string(root.join(document)).unwrap();
        for name in cited(&text).filter(|name| !name.starts_with("zeta_bft_")) {
            assert!(code.contains(&format!("fn {name}(")), "{document} names `{name}`, which is no function");
            found += 1;
        }
    }
    assert!(found > 40, "only {found} names were found: the documents or this reader changed");
}
