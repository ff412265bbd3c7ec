//! Which files are read, and which is believed.

use super::GOOD;
use crate::config::paths::Paths;
use crate::config::{load, owned_by_root};
use crate::protocol::policy::Mode;
use crate::protocol::types::PersonaId;
use std::time::Duration;

#[test]
fn of_two_values_the_later_file_counts_and_tables_merge_by_option() {
    let dir = tempfile::tempdir().unwrap();
    let paths = Paths::below(dir.path());
    std::fs::create_dir_all(paths.conf_d()).unwrap();
    std::fs::write(paths.node_toml(), GOOD).unwrap();
    std::fs::write(paths.conf_d().join("20-b.toml"), "mode = \"observe\"\n").unwrap();
    std::fs::write(paths.conf_d().join("10-a.toml"), "mode = \"act\"\n[personas.otto]\ntick_limit = \"5m\"\n").unwrap();
    std::fs::write(paths.conf_d().join("30-c.txt"), "nonsense").unwrap();
    let settings = load(&paths).unwrap();
    assert_eq!(settings.policy.mode, Mode::Observe);
    let otto = &settings.personas[&PersonaId::new("otto").unwrap()];
    assert_eq!(
        (otto.tick_limit, otto.command.as_slice()),
        (Duration::from_secs(300), ["claude".to_owned()].as_slice())
    );
    assert_eq!(settings.policy.timing.tick_limit, Duration::from_secs(30 * 60), "the longest of all personas");

    let file = paths.conf_d().join("40-d.toml");
    std::fs::write(&file, "f = 4\n").unwrap();
    let place = format!("{}:1:5: f = 4 needs at least 9 distinct vendors, but there are 3", file.display());
    assert!(load(&paths).unwrap_err().to_string().starts_with(&place));
}

#[test]
fn a_file_that_others_can_write_is_not_believed() {
    use std::os::unix::fs::PermissionsExt as _;
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::set_permissions(file.path(), std::fs::Permissions::from_mode(0o666)).unwrap();
    let error = owned_by_root(file.path()).unwrap_err().to_string();
    assert!(error.contains("cannot be believed: "), "{error}");
}
