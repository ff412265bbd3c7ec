//! `zeta-bft doctor` as the built program says it, of a folder that was set up with `--dir`.

use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;
use std::process::{Command, Stdio};

struct Folder {
    dir: tempfile::TempDir,
}

struct Said {
    code: Option<i32>,
    text: String,
}

impl Folder {
    /// Set up by `init`, the operator's key moved off, as it should be.
    fn ready() -> Self {
        let folder = Self { dir: tempfile::tempdir().unwrap() };
        let said = folder.run(&["init", "--node", "test"]);
        assert_eq!(said.code, Some(0), "{}", said.text);
        std::fs::remove_file(folder.at("etc/keys/operator.pem")).unwrap();
        folder
    }

    fn at(&self, path: &str) -> PathBuf {
        self.dir.path().join(path)
    }

    fn run(&self, words: &[&str]) -> Said {
        let mut command = Command::new(env!("CARGO_BIN_EXE_zeta-bft"));
        command.arg("--dir").arg(self.dir.path()).args(words).stdin(Stdio::null()).env_remove("ZETA_BFT_DIR");
        let output = command.output().unwrap();
        let text = [output.stdout, output.stderr].map(|bytes| String::from_utf8(bytes).unwrap()).concat();
        assert!(!text.contains("panicked"), "{text}");
        Said { code: output.status.code(), text }
    }

    /// The report, and what it says of the folder alone: findings of the machine that the tests run on are left out.
    fn report(&self) -> (Option<i32>, Vec<serde_json::Value>) {
        let said = self.run(&["doctor", "--json"]);
        let report: serde_json::Value = serde_json::from_str(&said.text).unwrap();
        let machine = ["clock", "disk", "kernel"];
        let findings = report["findings"].as_array().unwrap().iter().cloned();
        (said.code, findings.filter(|finding| !machine.contains(&finding["group"].as_str().unwrap())).collect())
    }

    fn ids(&self, level: &str) -> Vec<String> {
        let (_, findings) = self.report();
        let of_level = findings.iter().filter(|finding| finding["level"] == level);
        of_level.map(|finding| finding["id"].as_str().unwrap().to_owned()).collect()
    }
}

#[test]
fn a_folder_that_was_set_up_has_no_errors_and_is_told_that_nothing_runs() {
    let folder = Folder::ready();
    assert_eq!(folder.ids("error"), [""; 0]);
    assert_eq!(folder.ids("warning"), ["not-running"]);
    assert!(folder.ids("ok").contains(&"configuration".to_owned()));
}

#[test]
fn what_only_a_node_has_is_skipped_with_the_reason() {
    let folder = Folder::ready();
    let (_, findings) = folder.report();
    for group in ["users", "rights", "units", "bus"] {
        let of_group: Vec<_> = findings.iter().filter(|finding| finding["group"] == group).collect();
        let [finding] = of_group[..] else { panic!("{group}: {of_group:?}") };
        assert_eq!(finding["level"], "skipped");
        assert!(finding["text"].as_str().unwrap().contains("--dir"), "{finding}");
    }
}

#[test]
fn each_finding_has_an_id_a_level_a_subject_a_text_and_a_fix_where_there_is_something_to_do() {
    let folder = Folder::ready();
    let (_, findings) = folder.report();
    for finding in findings {
        for key in ["group", "id", "level", "subject", "text"] {
            assert!(finding[key].as_str().is_some_and(|text| !text.is_empty()), "{key} of {finding}");
        }
        let must_be_mended = ["warning", "error"].contains(&finding["level"].as_str().unwrap());
        assert!(!must_be_mended || finding["fix"].is_string(), "{finding}");
    }
}

#[test]
fn an_error_is_explained_with_its_fix_and_exit_code_2() {
    let folder = Folder::ready();
    let key = folder.at("etc/keys/otto.pem");
    std::fs::set_permissions(&key, std::fs::Permissions::from_mode(0o644)).unwrap();
    std::fs::remove_file(folder.at("state/warden/warden.journal")).unwrap();
    assert_eq!(folder.ids("error"), ["key-bad", "journal-missing"]);
    let said = folder.run(&["doctor"]);
    assert_eq!(said.code, Some(2), "{}", said.text);
    assert!(said.text.contains("error    configuration: "), "{}", said.text);
    assert!(said.text.contains(&format!("fix: chmod 600 {}", key.display())), "{}", said.text);
}

#[test]
fn the_operators_key_on_the_node_is_a_warning() {
    let folder = Folder::ready();
    std::fs::write(folder.at("etc/keys/operator.pem"), "").unwrap();
    assert_eq!(folder.ids("warning"), ["operator-key", "not-running"]);
}

#[test]
fn a_configuration_that_cannot_be_read_leaves_the_rest_unchecked_and_not_healthy() {
    let folder = Folder::ready();
    std::fs::write(folder.at("etc/node.toml"), "moed = \"act\"\n").unwrap();
    let (code, findings) = folder.report();
    assert_eq!(code, Some(2));
    let ids: Vec<_> = findings.iter().map(|finding| finding["id"].as_str().unwrap()).collect();
    assert_eq!(
        ids,
        ["config-bad", "not-checked", "not-checked", "not-checked", "not-checked", "not-checked", "not-checked"]
    );
}

#[test]
fn a_folder_that_was_never_set_up_is_told_to_run_init() {
    let folder = Folder { dir: tempfile::tempdir().unwrap() };
    let said = folder.run(&["doctor"]);
    assert_eq!(said.code, Some(2), "{}", said.text);
    assert!(said.text.contains("fix: `zeta-bft init`"), "{}", said.text);
}

#[test]
fn an_observing_folder_is_told_which_line_lets_it_act() {
    let folder = Folder::ready();
    let said = folder.run(&["doctor"]);
    assert!(said.text.contains("write mode = \"act\" in "), "{}", said.text);
}
