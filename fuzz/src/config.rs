//! The configuration: `node.toml` and fragments, parted by lines of [`PARTING`] alone.

use std::path::Path;
use zeta_bft::config::paths::Paths;
use zeta_bft::config::users::{Account, Users};
use zeta_bft::config::{ConfigError, Settings, parse_files};

/// Between two files.
pub(crate) const PARTING: &str = "#--\n";

const USERS: &[&str] = &[
    "zeta-bft-warden",
    "zeta-bft-page",
    "zeta-lior",
    "zeta-bft-lior",
    "zeta-otto",
    "zeta-bft-otto",
    "zeta-vera",
    "zeta-bft-vera",
];

/// The first byte says whether it is a node's, or below one folder.
pub(crate) fn config(data: &[u8]) {
    let Some((node, text)) = data.split_first() else { return };
    // Whatever is no text is refused before.
    let Ok(text) = std::str::from_utf8(text) else { return };
    let names = ["node.toml", "conf.d/10-a.toml", "conf.d/20-b.toml", "conf.d/30-c.toml"];
    let files: Vec<(&str, &str)> = names.into_iter().zip(text.splitn(names.len(), PARTING)).collect();
    let paths = if node & 1 == 0 { Paths::below(Path::new("/d")) } else { Paths::system() };
    let account = |(name, id): (&&str, u32)| ((*name).to_owned(), Account { uid: id, gid: id });
    let users = Users::Only(USERS.iter().zip(900..).map(account).collect());
    match parse_files(&files, &paths, &users) {
        Ok(settings) => usable(&settings, &parse_files(&files, &paths, &users).expect("as before")),
        Err(error) => complains(&error, &files),
    }
}

/// Settings with which a daemon can begin.
fn usable(settings: &Settings, again: &Settings) {
    assert_eq!(settings.policy.digest, again.policy.digest, "one configuration, one digest");
    assert!(settings.f >= 1 && settings.q > settings.f);
    assert!(settings.personas.len() > 2 * settings.f as usize);
    for (persona, found) in &settings.personas {
        assert!(found.command.first().is_some_and(|program| !program.is_empty()), "{persona} has no command");
        assert!(!found.tick_limit.is_zero() && !found.tick_interval.is_zero());
        for subject in [persona.as_str().to_owned(), format!("{persona}/agent")] {
            assert!(settings.policy.subjects.keys().any(|known| known.as_str() == subject), "{subject} is not watched");
        }
    }
    for subject in settings.policy.subjects.values() {
        assert!(!subject.ladder.is_empty());
    }
    for (name, k3s) in &settings.k3s {
        k3s.observer().check().unwrap_or_else(|error| panic!("{name}: {error}"));
    }
    let drill = settings.clone().into_drill(true, true);
    assert_eq!(drill.policy.digest, settings.policy.digest);
}

/// A complaint that names its file, and a place in it.
fn complains(error: &ConfigError, files: &[(&str, &str)]) {
    let said = error.to_string();
    assert!(files.iter().any(|(name, _)| said.starts_with(name)), "{said}");
    if let ConfigError::Written(complaint) = error {
        let (_, text) = files.iter().find(|(name, _)| *name == complaint.file).expect("one of them");
        assert!((1..=text.matches('\n').count() + 1).contains(&complaint.line), "{said}");
        assert!(complaint.column >= 1 && said.contains('^'), "{said}");
    }
}
