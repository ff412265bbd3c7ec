//! Certificates for TCP: whether they are there, whole, in time, and root's; and whether anybody can come through to a port.

use super::finding::Section;
use crate::config::{self, Settings};
use crate::grpc::tls::issue::RENEW_BEFORE;
use crate::grpc::tls::{Material, MaterialError, Place};
use crate::protocol::roster::Roster;
use crate::protocol::types::PersonaId;
use std::io;
use std::path::Path;

const RENEW: &str = "`zeta-bft certify --ca-key FILE` makes new ones; agents take them up by themselves";
const DAY: u64 = 24 * 3600;
/// Where PID 1 looks for changes of this machine's to the agents' units.
const DROP_INS: &str = "/etc/systemd/system";

/// Checks what goes with `[tcp.NAME]`. `now`: seconds since 1970.
pub fn check(settings: &Settings, roster: Option<&Roster>, now: u64, section: &mut Section) {
    let paths = &settings.paths;
    match paths.ca_key().try_exists() {
        Ok(false) => {}
        Ok(true) => section.warning(
            "ca-key",
            "ca.pem",
            format!("{} is still on this node: it belongs offline", paths.ca_key().display()),
            "move it off this node, beside the operator's key: it signs certificates for TCP",
        ),
        Err(error) => {
            let why = format!("whether {} is still on this node is not known: {error}", paths.ca_key().display());
            section.skipped("ca-key", "ca.pem", why);
        }
    }
    if settings.tcp.is_empty() {
        return;
    }
    if paths.dir().is_none() {
        for path in [paths.tls(), paths.tls_ca(), paths.tls_inspectors()].iter().filter(|path| path.exists()) {
            if let Err(error) = config::owned_by_root(path) {
                let place = path.display();
                let text = format!("{error}: whoever writes it decides who is let in over TCP");
                section.error(
                    "tls-insecure",
                    &place.to_string(),
                    text,
                    format!("chown root {place}; chmod go-w {place}"),
                );
            }
        }
        filters(settings, Path::new(DROP_INS), section);
    }
    let mut ca_said = false;
    for persona in settings.personas.keys() {
        if let Some(material) = of_agent(settings, roster, persona, now, section)
            && !std::mem::replace(&mut ca_said, true)
        {
            ends("the CA's certificate", &paths.tls_ca(), material.ca_end(), now, section);
        }
    }
}

/// What an agent would show; `None` when it would show nothing.
fn of_agent(
    settings: &Settings,
    roster: Option<&Roster>,
    persona: &PersonaId,
    now: u64,
    section: &mut Section,
) -> Option<Material> {
    let path = settings.paths.tls_certificate(persona.as_str());
    let (subject, place) = (path.display().to_string(), Place::of_agent(&settings.paths, persona));
    let read = Material::read(&place).and_then(|material| {
        if let Some(member) = roster.and_then(|roster| roster.member(persona)) {
            material.check_own(&member.key, &place)?;
        }
        Ok(material)
    });
    match read {
        Ok(material) => {
            ends(&format!("the certificate of {persona}"), &path, material.own_end(), now, section);
            if material.own_end() > now
                && let Err(error) = material.check_vouched()
            {
                let text = format!("the CA does not vouch for the certificate of {persona}: {error}");
                section.error("tls-foreign", &subject, text, RENEW);
            }
            material.pins_nobody().iter().for_each(|error| pins_nobody(error, section));
            Some(material)
        }
        Err(MaterialError::Unreadable { path, source }) if source.kind() == io::ErrorKind::NotFound => {
            let path = path.display();
            let text = format!("{path} is missing: {persona} lets nobody in over TCP, and reaches nobody there");
            section.error("tls-missing", &subject, text, "`zeta-bft certify` makes it");
            None
        }
        Err(MaterialError::Unreadable { path, source }) if source.kind() == io::ErrorKind::PermissionDenied => {
            section.skipped("tls-unread", &subject, format!("{} was not checked: {source}", path.display()));
            None
        }
        Err(error) => {
            let text = format!("{error}: {persona} lets nobody in over TCP, and reaches nobody there");
            section.error("tls-bad", &subject, text, RENEW);
            None
        }
    }
}

/// A file among the inspectors' that lets nobody in.
fn pins_nobody(error: &MaterialError, section: &mut Section) {
    let file = error.path().unwrap_or(Path::new("it")).display().to_string();
    if let MaterialError::Unreadable { source, .. } = error
        && source.kind() == io::ErrorKind::PermissionDenied
    {
        return section.skipped("inspector-unread", &file, format!("{file} was not checked: {source}"));
    }
    let fix = format!("rm {file}, or `zeta-bft certify --inspector NAME --into DIR --ca-key FILE` to let somebody in");
    section.warning("inspector-bad", &file, format!("{error}: it lets nobody in"), fix);
}

fn ends(what: &str, path: &Path, end: u64, now: u64, section: &mut Section) {
    let subject = path.display().to_string();
    if end <= now {
        let text = format!("{what} ended {} days ago: nobody takes it any more", (now - end) / DAY);
        section.error("tls-ended", &subject, text, RENEW);
    } else if end - now < RENEW_BEFORE.as_secs() {
        section.warning("tls-ends", &subject, format!("{what} ends in {} days", (end - now) / DAY), RENEW);
    }
}

/// The agents' unit lets nothing but loopback through: what listens elsewhere needs a change of it.
fn filters(settings: &Settings, drop_ins: &Path, section: &mut Section) {
    for (persona, tcp) in settings.tcp.iter().filter(|(_, tcp)| !tcp.listen.ip().is_loopback()) {
        let unit = format!("zeta-bft-agent@{persona}.service");
        let of_unit = [format!("{unit}.d"), "zeta-bft-agent@.service.d".to_owned()];
        let opened = of_unit
            .iter()
            .flat_map(|folder| std::fs::read_dir(drop_ins.join(folder)).into_iter().flatten().flatten())
            .map(|entry| entry.path())
            // Where the whole unit is this machine's own.
            .chain([drop_ins.join("zeta-bft-agent@.service")])
            .any(|file| opens(&file));
        if !opened {
            let text = format!("{persona} listens on {}, but {unit} lets loopback through alone", tcp.listen);
            let fix = format!(
                "`systemctl edit {unit}`: [Service] and IPAddressAllow= with the addresses of peers and inspectors, then restart it"
            );
            section.warning("tcp-filtered", &unit, text, fix);
        }
    }
}

/// Whether a unit or a part of one lets more through than loopback.
fn opens(file: &Path) -> bool {
    let text = std::fs::read_to_string(file).unwrap_or_default();
    let allowed = text.lines().filter_map(|line| line.trim().strip_prefix("IPAddressAllow="));
    allowed.flat_map(str::split_whitespace).any(|address| address != "localhost")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::default_up_toml;
    use crate::config::paths::Paths;
    use crate::doctor::finding::{Group, Level};
    use crate::grpc::tls::issue::LEAF_LIFE;
    use crate::setup::certificates::Ca;
    use crate::setup::initialise;
    use std::sync::Arc;
    use std::time::Duration;

    const OTTO: &str = "\n[tcp.otto]\nlisten = \"10.0.0.1:9484\"\n";

    fn node(more: &str) -> (tempfile::TempDir, Settings, Arc<Roster>) {
        let dir = tempfile::tempdir().unwrap();
        let paths = Paths::below(dir.path());
        let made = initialise(&paths, &(default_up_toml(false) + more)).unwrap();
        (dir, made.settings, made.roster)
    }

    fn found(settings: &Settings, roster: &Roster, later: Duration) -> Vec<(&'static str, Level, String)> {
        let mut section = Section::new(Group::Configuration);
        check(settings, Some(roster), (crate::clock::unix() + later).as_secs(), &mut section);
        let name = |subject: &str| subject.rsplit('/').next().unwrap_or_default().to_owned();
        section.findings.iter().map(|finding| (finding.id, finding.level, name(&finding.subject))).collect()
    }

    fn certified(more: &str, life: Duration) -> (tempfile::TempDir, Settings, Arc<Roster>) {
        let (dir, settings, roster) = node(more);
        let (ca, _) = Ca::of(&settings.paths, &roster, &settings.paths.ca_key()).unwrap();
        ca.certify_agents(&settings.paths, &roster, life).unwrap();
        std::fs::rename(settings.paths.ca_key(), dir.path().join("offline")).unwrap();
        (dir, settings, roster)
    }

    const NOW: Duration = Duration::ZERO;

    #[test]
    fn without_tcp_nothing_is_asked_for_and_with_it_every_agent_needs_a_certificate() {
        let (_dir, settings, roster) = node("");
        assert_eq!(found(&settings, &roster, NOW), []);
        let (_dir, settings, roster) = node(OTTO);
        let missing = |name: &str| ("tls-missing", Level::Error, format!("{name}.crt"));
        assert_eq!(found(&settings, &roster, NOW), ["lior", "otto", "vera"].map(missing));
        let (_dir, settings, roster) = certified(OTTO, LEAF_LIFE);
        assert_eq!(found(&settings, &roster, NOW), []);
    }

    #[test]
    fn a_ca_key_that_stays_is_pointed_out() {
        let (dir, settings, roster) = certified(OTTO, LEAF_LIFE);
        std::fs::rename(dir.path().join("offline"), settings.paths.ca_key()).unwrap();
        assert_eq!(found(&settings, &roster, NOW), [("ca-key", Level::Warning, "ca.pem".to_owned())]);
    }

    #[test]
    fn an_end_that_is_near_is_a_warning_and_one_that_came_an_error() {
        let (_dir, settings, roster) = certified(OTTO, LEAF_LIFE);
        let of = |id, level| ["lior", "otto", "vera"].map(|name| (id, level, format!("{name}.crt")));
        let day = Duration::from_secs(DAY);
        assert_eq!(found(&settings, &roster, LEAF_LIFE - day * 31), []);
        assert_eq!(found(&settings, &roster, LEAF_LIFE - day * 29), of("tls-ends", Level::Warning));
        assert_eq!(found(&settings, &roster, LEAF_LIFE + day), of("tls-ended", Level::Error));
    }

    #[test]
    fn another_key_another_ca_and_damage_are_told_apart() {
        let (_dir, settings, roster) = certified(OTTO, LEAF_LIFE);
        let (_other, foreign, _) = certified(OTTO, LEAF_LIFE);
        let file = |settings: &Settings, name: &str| settings.paths.tls_certificate(name);
        let good = std::fs::read(file(&settings, "otto")).unwrap();
        std::fs::copy(file(&settings, "vera"), file(&settings, "otto")).unwrap();
        assert_eq!(found(&settings, &roster, NOW), [("tls-bad", Level::Error, "otto.crt".to_owned())]);
        std::fs::write(file(&settings, "otto"), "nonsense").unwrap();
        assert_eq!(found(&settings, &roster, NOW), [("tls-bad", Level::Error, "otto.crt".to_owned())]);
        std::fs::write(file(&settings, "otto"), good).unwrap();
        std::fs::copy(foreign.paths.tls_ca(), settings.paths.tls_ca()).unwrap();
        let of_all = found(&settings, &roster, NOW);
        assert!(of_all.len() == 3 && of_all.iter().all(|(id, ..)| *id == "tls-foreign"), "{of_all:?}");
    }

    #[test]
    fn an_inspectors_file_that_makes_no_sense_is_named_and_stops_nothing_else() {
        let (_dir, settings, roster) = certified(OTTO, LEAF_LIFE);
        let folder = settings.paths.tls_inspectors();
        std::fs::create_dir_all(&folder).unwrap();
        std::fs::write(folder.join("bob.crt"), "").unwrap();
        std::fs::copy(settings.paths.tls_certificate("otto"), folder.join("eve.crt")).unwrap();
        let of = |name: &str| ("inspector-bad", Level::Warning, name.to_owned());
        assert_eq!(found(&settings, &roster, NOW), ["bob.crt", "eve.crt"].map(of));
    }

    #[test]
    fn a_port_beyond_loopback_needs_a_filter_that_is_open() {
        let (dir, settings, _) = node(OTTO);
        let drop_ins = dir.path().join("units");
        let found = || {
            let mut section = Section::new(Group::Configuration);
            filters(&settings, &drop_ins, &mut section);
            section.findings.into_iter().map(|finding| finding.id).collect::<Vec<_>>()
        };
        assert_eq!(found(), ["tcp-filtered"]);
        let folder = drop_ins.join("zeta-bft-agent@otto.service.d");
        std::fs::create_dir_all(&folder).unwrap();
        std::fs::write(folder.join("override.conf"), "[Service]\nIPAddressAllow=localhost\n").unwrap();
        assert_eq!(found(), ["tcp-filtered"]);
        std::fs::write(folder.join("override.conf"), "[Service]\nIPAddressAllow=10.0.0.0/24\n").unwrap();
        assert_eq!(found(), [""; 0]);
    }
}
