//! What the operations page says of pages and commands.

use crate::shipped::{run, text, words};
use std::collections::BTreeSet;
use std::path::Path;
use std::process::Command;
use zeta_bft::metrics::PAGES;

/// What stands between `before` and `after`, wherever it does.
fn between<'a>(text: &'a str, before: &str, after: char) -> BTreeSet<&'a str> {
    text.match_indices(before).filter_map(|(at, _)| text[at + before.len()..].split(after).next()).collect()
}

#[test]
fn the_operations_page_explains_every_page_and_names_only_commands_that_exist() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let page = std::fs::read_to_string(root.join("docs/operations.md")).unwrap();
    // That every page of the warden is among them is a claim of the metrics.
    for cause in PAGES.iter().filter(|cause| **cause != "other") {
        assert!(page.lines().any(|line| line.starts_with(&format!("| `{cause}` | "))), "{cause} is not explained");
    }
    let help = text(&run(Command::new(env!("CARGO_BIN_EXE_zeta-bft")).arg("--help")).stdout);
    let known: BTreeSet<_> =
        help.lines().filter(|line| line.starts_with("  ")).filter_map(|line| words(line).first().copied()).collect();
    let mut named = between(&page, "\nzeta-bft ", '\n');
    named.extend(between(&page, "`zeta-bft ", '`'));
    assert!(named.len() > 15, "{named:?}");
    for command in named {
        assert!(known.contains(words(command)[0]), "zeta-bft {command}");
    }
}
