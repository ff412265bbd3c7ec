//! The rules of `deny.toml` and of `Cargo.toml`, held wherever the tests run: under which licences what we build on comes, from
//! where, and what must not be among it. cargo-deny reads the same file, and knows more; `tests/run` runs it where it is.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::process::Command;

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn table(file: &str) -> toml::Table {
    std::fs::read_to_string(root().join(file)).unwrap().parse().unwrap()
}

fn words(list: &toml::Value) -> BTreeSet<String> {
    list.as_array().unwrap().iter().map(|word| word.as_str().unwrap().to_owned()).collect()
}

/// A package of the graph.
struct Package {
    name: String,
    version: String,
    licence: Option<String>,
    source: Option<String>,
}

fn cargo(words: &[&str]) -> String {
    let program = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let output = Command::new(program).args(words).current_dir(root()).output().unwrap();
    assert!(output.status.success(), "{words:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

/// Everything that is built for our own target, tests and build scripts included, by its id.
fn graph() -> BTreeMap<String, Package> {
    let target = format!("{}-unknown-linux-gnu", std::env::consts::ARCH);
    let told = cargo(&["metadata", "--locked", "--format-version=1", "--all-features", "--filter-platform", &target]);
    let metadata: serde_json::Value = serde_json::from_str(&told).unwrap();
    let text = |value: &serde_json::Value| value.as_str().map(str::to_owned);
    let nodes = metadata["resolve"]["nodes"].as_array().unwrap();
    let mut graph = BTreeMap::new();
    for package in metadata["packages"].as_array().unwrap() {
        let id = text(&package["id"]).unwrap();
        if nodes.iter().any(|node| node["id"].as_str() == Some(&id)) {
            let (name, version) = (text(&package["name"]).unwrap(), text(&package["version"]).unwrap());
            let (licence, source) = (text(&package["license"]), text(&package["source"]));
            graph.insert(id, Package { name, version, licence, source });
        }
    }
    assert!(graph.len() > 50, "only {} packages", graph.len());
    graph
}

/// What depends on it directly. The metadata would also name what an optional feature that is off would want.
fn wanted_by(package: &Package) -> BTreeSet<String> {
    let Package { name, version, .. } = package;
    let spec = format!("{name}@{version}");
    let tree = cargo(&["tree", "--locked", "--all-features", "--prefix=none", "--depth=1", "--invert", &spec]);
    let names = tree.lines().skip(1).filter_map(|line| line.split(' ').next());
    names.filter(|name| !name.is_empty() && !name.starts_with('[')).map(str::to_owned).collect()
}

/// Whether an SPDX expression can be met with the allowed licences alone. AND binds closer than OR.
fn is_met(expression: &str, allowed: &BTreeSet<String>) -> bool {
    let spaced = expression.replace('(', " ( ").replace(')', " ) ").replace('/', " OR ");
    let words: Vec<&str> = spaced.split_whitespace().collect();
    let mut rest = words.as_slice();
    let met = any(&mut rest, allowed);
    assert!(rest.is_empty(), "`{expression}` is no expression");
    met
}

fn any(rest: &mut &[&str], allowed: &BTreeSet<String>) -> bool {
    let mut met = every(rest, allowed);
    while let ["OR", after @ ..] = *rest {
        *rest = after;
        met |= every(rest, allowed);
    }
    met
}

fn every(rest: &mut &[&str], allowed: &BTreeSet<String>) -> bool {
    let mut met = one(rest, allowed);
    while let ["AND", after @ ..] = *rest {
        *rest = after;
        met &= one(rest, allowed);
    }
    met
}

fn one(rest: &mut &[&str], allowed: &BTreeSet<String>) -> bool {
    match *rest {
        ["(", inner @ ..] => {
            *rest = inner;
            let met = any(rest, allowed);
            let [")", after @ ..] = *rest else { panic!("a parenthesis is open: {rest:?}") };
            *rest = after;
            met
        }
        [licence, "WITH", exception, after @ ..] => {
            *rest = after;
            allowed.contains(&format!("{licence} WITH {exception}"))
        }
        [licence, after @ ..] => {
            *rest = after;
            allowed.contains(*licence)
        }
        [] => panic!("the expression ends early"),
    }
}

#[test]
fn an_expression_is_met_by_what_is_allowed_and_by_nothing_else() {
    let allowed = ["MIT", "Zlib"].map(str::to_owned).into();
    for (expression, met) in [
        ("MIT", true),
        ("GPL-3.0", false),
        ("MIT OR GPL-3.0", true),
        ("GPL-3.0/MIT", true),
        ("MIT AND GPL-3.0", false),
        ("(MIT OR GPL-3.0) AND Zlib", true),
        ("GPL-3.0 OR MIT AND Zlib", true),
        ("(GPL-3.0 OR MIT) AND Unlicense", false),
        ("Apache-2.0 WITH LLVM-exception", false),
    ] {
        assert_eq!(is_met(expression, &allowed), met, "{expression}");
    }
}

#[test]
fn every_package_has_an_allowed_licence_and_comes_from_the_one_registry() {
    let allowed = words(&table("deny.toml")["licenses"]["allow"]);
    let mut wrong = Vec::new();
    for (id, package) in graph() {
        if !package.licence.as_ref().is_some_and(|licence| is_met(licence, &allowed)) {
            wrong.push(format!("{id}: licence {:?}", package.licence));
        }
        let known = match &package.source {
            Some(source) => source == "registry+https://github.com/rust-lang/crates.io-index",
            None => package.name == env!("CARGO_PKG_NAME"),
        };
        if !known {
            wrong.push(format!("{id}: source {:?}", package.source));
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[test]
fn what_is_denied_is_in_the_graph_only_where_it_was_let_in() {
    let deny = table("deny.toml");
    let graph = graph();
    for rule in deny["bans"]["deny"].as_array().unwrap() {
        let denied = rule["crate"].as_str().unwrap();
        let let_in = rule.get("wrappers").map(words).unwrap_or_default();
        for package in graph.values().filter(|package| package.name == denied) {
            let wanted_by = wanted_by(package);
            assert!(wanted_by.is_subset(&let_in), "{denied} is wanted by {wanted_by:?}");
        }
    }
    let ring = graph.values().find(|package| package.name == "ring").expect("TLS is ring's");
    assert!(wanted_by(ring).contains("rustls"), "the tree is not read as it is written");
    let manifest = table("Cargo.toml");
    for kind in ["dependencies", "build-dependencies", "dev-dependencies"] {
        for (name, wanted) in manifest[kind].as_table().unwrap() {
            let version = wanted.as_str().or_else(|| wanted.get("version")?.as_str());
            assert!(version.is_some_and(|version| !version.contains('*')), "{kind}: any version of {name} would do");
        }
    }
}

#[test]
fn no_code_of_ours_is_unsafe() {
    // A lint that is forbidden there is forbidden in the library, the program, every test, every bench and the build script, and no
    // file can allow it again.
    assert_eq!(table("Cargo.toml")["lints"]["rust"]["unsafe_code"].as_str(), Some("forbid"));
    for file in ["src/lib.rs", "src/main.rs", "fuzz/src/lib.rs"] {
        let code = std::fs::read_to_string(root().join(file)).unwrap();
        assert!(code.contains("#![forbid(unsafe_code)]"), "{file}");
    }
}
