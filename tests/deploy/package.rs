//! The package: the same twice, of root, and what is here.

use crate::shipped::{are_installed, deploy, run, text, words};
use crate::unit::Unit;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

/// Builds the package around any executable at all.
fn package(output: &Path) -> Output {
    let mut build = Command::new(deploy("debian/build"));
    build.args(["--fast", "--binary", env!("CARGO_BIN_EXE_zeta-bft"), "--output"]).arg(output);
    run(build.env("SOURCE_DATE_EPOCH", "1767225600"))
}

/// What pages link to beside pages: sources, which the package does not have.
const SOURCES: [&str; 2] = ["tests/mutants/list.rs", "benches/starvation/main.rs"];

/// Every relative link of a shipped page, and what units call their documentation.
fn pages_lead_to_what_is_shipped(unpacked: &Path) {
    let doc = unpacked.join("usr/share/doc/zeta-bft");
    let (mut folders, mut links) = (vec![doc.clone()], 0);
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(&folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
                continue;
            }
            if path.is_symlink() || path.extension().is_none_or(|kind| kind != "md") {
                continue;
            }
            let page = std::fs::read_to_string(&path).unwrap();
            let targets = page.split("](").skip(1).filter_map(|rest| rest.split([')', '#']).next());
            for target in targets.filter(|target| !target.is_empty() && !target.contains("://")) {
                links += 1;
                let source = SOURCES.iter().any(|source| target.trim_start_matches("../") == *source);
                assert!(source || folder.join(target).exists(), "{}: {target}", path.display());
            }
        }
    }
    assert!(links >= 9, "{links} links");
    let units = Unit::all();
    let documents: Vec<_> = units.iter().filter_map(|unit| unit.value("Documentation")).collect();
    assert!(documents.len() >= 15, "{documents:?}");
    for document in documents {
        let file = document.strip_prefix("file:/").unwrap();
        assert!(unpacked.join(file).is_file(), "{document}");
    }
}

#[test]
fn the_package_is_the_same_twice_belongs_to_root_and_ships_what_is_here() {
    if !are_installed(&["dpkg-deb", "strip"]) {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let built: Vec<_> = ["a", "b"]
        .iter()
        .map(|name| {
            let built = package(&dir.path().join(name));
            assert!(built.status.success(), "{}", text(&built.stderr));
            PathBuf::from(text(&built.stdout).lines().last().unwrap())
        })
        .collect();
    assert_eq!(std::fs::read(&built[0]).unwrap(), std::fs::read(&built[1]).unwrap(), "two builds differ");
    let name = built[0].file_name().unwrap().to_str().unwrap();
    assert!(name.starts_with(&format!("zeta-bft_{}_", env!("CARGO_PKG_VERSION"))), "{name}");

    let listed = text(&run(Command::new("dpkg-deb").arg("--contents").arg(&built[0])).stdout);
    for line in listed.lines() {
        let [mode, owner, ..] = words(line)[..] else { panic!("what is `{line}`?") };
        assert_eq!(owner, "root/root", "{line}");
        let link = mode.starts_with('l');
        assert!(link || mode[1..].chars().enumerate().all(|(at, c)| c != 'w' || at == 1), "others can write: {line}");
    }
    let unpacked = dir.path().join("unpacked");
    assert!(run(Command::new("dpkg-deb").arg("--raw-extract").arg(&built[0]).arg(&unpacked)).status.success());
    let same = |shipped: &str, ours: &str| {
        assert_eq!(std::fs::read(unpacked.join(shipped)).unwrap(), std::fs::read(deploy(ours)).unwrap(), "{shipped}");
    };
    same("usr/share/doc/zeta-bft/examples/node.toml", "node.toml");
    same("usr/lib/sysusers.d/zeta-bft.conf", "sysusers.d/zeta-bft.conf");
    same("usr/lib/tmpfiles.d/zeta-bft.conf", "tmpfiles.d/zeta-bft.conf");
    for file in ["mint-credential", "rbac.yaml"] {
        same(&format!("usr/share/zeta-bft/k3s/{file}"), &format!("k3s/{file}"));
    }
    for unit in Unit::all() {
        same(&format!("lib/systemd/system/{}", unit.name), &format!("systemd/{}", unit.name));
    }
    pages_lead_to_what_is_shipped(&unpacked);
    let control = std::fs::read_to_string(unpacked.join("DEBIAN/control")).unwrap();
    for needed in ["libc6 (>= ", "systemd (>= 252)", "mount", "dbus", "polkitd"] {
        assert!(control.lines().any(|line| line.starts_with("Depends: ") && line.contains(needed)), "{control}");
    }
    assert!(!control.contains("Recommends"), "{control}");
    for script in ["postinst", "prerm", "postrm"] {
        assert!(
            run(Command::new("sh").arg("-n").arg(unpacked.join("DEBIAN").join(script))).status.success(),
            "{script}"
        );
    }
}
