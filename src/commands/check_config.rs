//! `zeta-bft check-config`

use crate::config::paths::Paths;
use crate::config::{self, ConfigError, Settings, roster};
use crate::error::Failure;
use crate::journal;
use crate::keys::{self, KeyFileError};
use crate::protocol::policy::Mode;
use crate::protocol::roster::Roster;
use crate::protocol::types::PublicKey;
use crate::wire::Proto;
use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

/// Reads the configuration and says what is wrong with it.
///
/// Without FILE it checks the whole set-up: configuration, roster, keys and journal.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Check this file alone.
    file: Option<PathBuf>,
}

/// What was found.
#[derive(Debug, Default)]
struct Findings {
    /// What must be mended.
    errors: Vec<String>,
    /// What should be, or could not be checked.
    notes: Vec<String>,
}

/// Runs the command.
///
/// # Errors
/// [`Failure`] for people.
pub fn run(paths: &Paths, args: Args) -> Result<ExitCode, Failure> {
    let mut findings = Findings::default();
    let settings = match &args.file {
        Some(file) => config::load_file(paths, file)?,
        None => {
            let settings = config::load(paths).map_err(|error| match &error {
                ConfigError::Unreadable { source, .. } if source.kind() == io::ErrorKind::NotFound => {
                    Failure::new(error).hint("`zeta-bft init` writes a first configuration")
                }
                _ => Failure::new(error),
            })?;
            check_set_up(&settings, &mut findings);
            settings
        }
    };
    for note in &findings.notes {
        println!("note: {note}");
    }
    for error in &findings.errors {
        eprintln!("error: {error}");
    }
    if !findings.errors.is_empty() {
        return Ok(ExitCode::FAILURE);
    }
    print!("{}", summary(&settings));
    Ok(ExitCode::SUCCESS)
}

/// What is configured, and how much failure it bears (DESIGN §3: `f+1+s ≤ q ≤ E−f'`).
fn summary(settings: &Settings) -> String {
    let policy = &settings.policy;
    let vendors: BTreeSet<_> = settings.personas.values().map(|persona| &persona.vendor).collect();
    let (f, q) = (settings.f as usize, settings.q as usize);
    let mode = match policy.mode {
        Mode::Observe => "observe: writes what it would do, touches nothing",
        Mode::Act => "act: repairs",
    };
    let margin = |whose: &str, eligible: usize| {
        format!(
            "  {whose}: {eligible} vendors may vote, {q} must agree; bears {} of them silent or faulty, {} wrongly suspicious\n",
            eligible.saturating_sub(q),
            q.saturating_sub(f + 1),
        )
    };
    let subjects: Vec<_> = policy.subjects.keys().map(|subject| subject.as_str()).collect();
    format!(
        "OK: node {} of cluster {}\nmode {mode}{}\n{} personas of {} vendors, f = {f}, q = {q}\n{}{}subjects: {}\npolicy {}\n",
        settings.node,
        settings.cluster,
        if policy.drill { " (DRILL: budgets or cool-downs are lifted)" } else { "" },
        settings.personas.len(),
        vendors.len(),
        margin("repair of a persona or its agent", vendors.len().saturating_sub(1)),
        margin("repair of anything else", vendors.len()),
        subjects.join(", "),
        policy.digest,
    )
}

fn check_set_up(settings: &Settings, findings: &mut Findings) {
    let paths = &settings.paths;
    if paths.dir().is_none()
        && paths.roster().exists()
        && let Err(error) = config::owned_by_root(&paths.roster())
    {
        findings.errors.push(error.to_string());
    }
    let roster = match roster::load(&paths.roster(), &Proto) {
        Ok(roster) => {
            findings.errors.extend(roster::check_fits(&roster, settings).err().map(|error| error.to_string()));
            let (f, q) = (settings.f as usize, settings.q as usize);
            if (roster.f(), roster.q()) != (f, q) {
                let counts = format!("f = {}, q = {} of the signed roster count", roster.f(), roster.q());
                findings.notes.push(format!("{counts}, not f = {f}, q = {q} of node.toml"));
            }
            Some(roster)
        }
        Err(error) => {
            findings.errors.push(error.to_string());
            None
        }
    };
    check_keys(settings, roster.as_deref(), findings);
    if paths.operator_key().exists() {
        let path = paths.operator_key();
        findings.notes.push(format!("{} is still on this node: it belongs offline", path.display()));
    }
    check_journal(&paths.journal(), findings);
}

fn check_keys(settings: &Settings, roster: Option<&Roster>, findings: &mut Findings) {
    let paths = &settings.paths;
    let warden = ("the warden".to_owned(), paths.warden_key(), roster.map(|roster| roster.statement().warden));
    let personas = settings.personas.keys().map(|persona| {
        let listed = roster.and_then(|roster| roster.member(persona)).map(|member| member.key);
        (persona.to_string(), paths.persona_key(persona), listed)
    });
    let mut holders: BTreeMap<PublicKey, String> = BTreeMap::new();
    for (holder, path, listed) in [warden].into_iter().chain(personas) {
        let public = match keys::load(&path) {
            Ok(key) => key.public(),
            Err(KeyFileError::Io { source, .. }) if source.kind() == io::ErrorKind::PermissionDenied => {
                findings.notes.push(format!("the key of {holder} was not checked: only root may read it"));
                continue;
            }
            Err(error) => {
                findings.errors.push(error.to_string());
                continue;
            }
        };
        if let Some(listed) = listed.filter(|listed| *listed != public) {
            let path = path.display();
            findings.errors.push(format!("{path} has public key {public}, but the roster lists {listed} for {holder}"));
        }
        if let Some(first) = holders.insert(public, holder.clone()) {
            findings.errors.push(format!("{first} and {holder} have one and the same key: each needs its own"));
        }
    }
}

fn check_journal(path: &Path, findings: &mut Findings) {
    match std::fs::read(path) {
        Ok(bytes) => {
            if let Some(damage) = journal::scan(&bytes).damage {
                findings.errors.push(format!(
                    "the journal {} is damaged {damage}: nothing is repaired until it is restored from a copy",
                    path.display()
                ));
            }
        }
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {
            findings.notes.push("the journal was not checked: only root may read it".into());
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            findings.errors.push(journal::JournalError::Missing { path: path.into() }.to_string());
        }
        Err(error) => findings.errors.push(format!("cannot read the journal {}: {error}", path.display())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{config::default_up_toml, setup};

    fn findings(spoil: impl FnOnce(&Paths)) -> Findings {
        let dir = tempfile::tempdir().unwrap();
        let paths = Paths::below(dir.path());
        let made = setup::initialise(&paths, &default_up_toml(false)).unwrap();
        spoil(&paths);
        let mut findings = Findings::default();
        check_set_up(&made.settings, &mut findings);
        let place = dir.path().display().to_string();
        for text in findings.errors.iter_mut().chain(&mut findings.notes) {
            *text = text.replace(&place, "DIR");
        }
        findings
    }

    #[test]
    fn a_fresh_set_up_has_no_errors_and_the_operators_key_is_pointed_out() {
        let found = findings(|_| {});
        assert_eq!(found.errors, [""; 0]);
        assert_eq!(found.notes, ["DIR/etc/keys/operator.pem is still on this node: it belongs offline"]);
    }

    #[test]
    fn one_key_for_two_personas_is_found_twice_over() {
        let found = findings(|paths| {
            std::fs::copy(paths.keys().join("otto.pem"), paths.keys().join("vera.pem")).unwrap();
        });
        assert!(found.errors[0].starts_with("DIR/etc/keys/vera.pem has public key "), "{:?}", found.errors);
        assert_eq!(found.errors[1], "otto and vera have one and the same key: each needs its own");
    }

    #[test]
    fn a_key_that_others_can_read_and_a_missing_journal_or_roster_are_found() {
        let found = findings(|paths| {
            use std::os::unix::fs::PermissionsExt as _;
            let open = std::fs::Permissions::from_mode(0o644);
            std::fs::set_permissions(paths.warden_key(), open).unwrap();
            std::fs::remove_file(paths.journal()).unwrap();
            std::fs::remove_file(paths.roster()).unwrap();
        });
        assert_eq!(found.errors[0], "there is no roster at DIR/etc/roster: `zeta-bft init` makes one");
        assert!(found.errors[1].contains("others can read the key file DIR/etc/keys/warden.pem"), "{:?}", found.errors);
        assert!(
            found.errors[2].starts_with("there is no journal at DIR/state/warden/warden.journal"),
            "{:?}",
            found.errors
        );
    }

    #[test]
    fn a_damaged_journal_is_found_and_left_as_it_is() {
        let found = findings(|paths| std::fs::write(paths.journal(), b"not a journal").unwrap());
        assert!(
            found.errors[0].starts_with("the journal DIR/state/warden/warden.journal is damaged at byte 0"),
            "{:?}",
            found.errors
        );
    }
}
