//! Certificates for TCP: whether they are there, whole, in time, and root's; and whether anybody can come through to a port.

use super::filter::Filter;
use super::finding::Section;
use super::units::UnitFacts;
use crate::config::{self, Settings};
use crate::grpc::tls::issue::RENEW_BEFORE;
use crate::grpc::tls::{Material, MaterialError, Place};
use crate::protocol::policy::SubjectKind;
use crate::protocol::roster::Roster;
use crate::protocol::types::PersonaId;
use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::net::IpAddr;
use std::path::Path;

const RENEW: &str = "`zeta-bft certify --ca-key FILE` makes new ones; agents take them up by themselves";
const DAY: u64 = 24 * 3600;

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

/// The agents' unit as shipped lets nothing but loopback through: where agents are reached by other addresses it must be opened to
/// those. `said`: what systemd says of the units.
pub fn filters(settings: &Settings, said: &BTreeMap<String, UnitFacts>, section: &mut Section) {
    for policy in settings.policy.subjects.values() {
        let SubjectKind::Agent(persona) = &policy.kind else { continue };
        // Of which systemd says nothing is told elsewhere.
        let (unit, Some(filter)) = (&policy.unit, said.get(&policy.unit).map(Filter::of)) else { continue };
        let others = settings.tcp.iter().filter(|(other, _)| *other != persona);
        let blocked: BTreeSet<IpAddr> =
            others.map(|(_, tcp)| tcp.address.ip()).filter(|peer| filter.blocks(*peer)).collect();
        let own = settings.tcp.get(persona).map(|tcp| tcp.listen).filter(|own| !own.ip().is_loopback());
        if !blocked.is_empty() {
            let blocked: Vec<_> = blocked.iter().map(IpAddr::to_string).collect();
            let blocked = blocked.join(" ");
            let text = format!(
                "{unit} keeps {persona} from {blocked}, where other agents are: neither hears the other over TCP"
            );
            let fix = format!(
                "`systemctl edit {unit}`: [Service] and IPAddressAllow={blocked}, then restart it; on NixOS zeta.bft.tcpAllow does it"
            );
            section.warning("tcp-filtered", unit, text, fix);
        } else if let Some(own) = own.filter(|own| filter.allows_loopback_alone() && filter.blocks(own.ip())) {
            let text = format!("{persona} listens on {own}, but {unit} lets loopback through alone");
            let fix = format!(
                "`systemctl edit {unit}`: [Service] and IPAddressAllow= with the addresses of peers and inspectors, then restart it"
            );
            section.warning("tcp-filtered", unit, text, fix);
        }
    }
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

    /// What is found where every agent's unit allows this, and denies all else.
    fn filtered(settings: &Settings, allowed: &str) -> Vec<(&'static str, String)> {
        let facts = |unit: &str| {
            let said = format!("Id={unit}\nIPAddressAllow={allowed}\nIPAddressDeny=0.0.0.0/0 ::/0\n");
            crate::doctor::units::parse(&said)
        };
        let subjects = settings.policy.subjects.values();
        let said = subjects.flat_map(|policy| facts(&policy.unit)).collect();
        let mut section = Section::new(Group::Units);
        filters(settings, &said, &mut section);
        section.findings.into_iter().map(|finding| (finding.id, finding.subject)).collect()
    }

    const LOOPBACK: &str = "127.0.0.0/8 ::1/128";

    fn of(names: &[&str]) -> Vec<(&'static str, String)> {
        names.iter().map(|name| ("tcp-filtered", format!("zeta-bft-agent@{name}.service"))).collect()
    }

    #[test]
    fn a_port_beyond_loopback_needs_a_filter_that_is_open() {
        let (_dir, settings, _) = node(OTTO);
        assert_eq!(filtered(&settings, LOOPBACK), of(&["lior", "otto", "vera"]));
        assert_eq!(filtered(&settings, "localhost 127.0.0.0/8"), of(&["lior", "otto", "vera"]));
        assert_eq!(filtered(&settings, &format!("{LOOPBACK} 10.0.0.0/24")), of(&[]));
        let (_dir, settings, _) = node("\n[tcp.otto]\nlisten = \"127.0.0.1:9484\"\n");
        assert_eq!(filtered(&settings, LOOPBACK), of(&[]));
        let (_dir, settings, _) = node("\n[tcp.otto]\nlisten = \"0.0.0.0:9484\"\naddress = \"10.0.0.1:9484\"\n");
        assert_eq!(filtered(&settings, &format!("{LOOPBACK} 10.0.0.1/32")), of(&[]));
        assert_eq!(filtered(&settings, LOOPBACK), of(&["lior", "otto", "vera"]));
        // Nothing is denied where systemd says so.
        let mut section = Section::new(Group::Units);
        filters(
            &settings,
            &crate::doctor::units::parse("Id=zeta-bft-agent@lior.service\nIPAddressDeny=\n"),
            &mut section,
        );
        assert_eq!(section.findings, []);
    }

    #[test]
    fn an_opening_for_k3s_is_none_for_peers() {
        // What `k3s-others-blocked` has operators write for API servers at 10.0.0.7 and 10.0.0.8.
        let k3s = format!("{LOOPBACK} 10.0.0.7/32 10.0.0.8/32");
        let (_dir, settings, _) = node(OTTO);
        assert_eq!(filtered(&settings, &k3s), of(&["lior", "vera"]));
        let (_dir, settings, _) = node(&format!("{OTTO}\n[tcp.lior]\nlisten = \"10.0.0.2:9484\"\n"));
        assert_eq!(filtered(&settings, &k3s), of(&["lior", "otto", "vera"]));
        assert_eq!(filtered(&settings, &format!("{k3s} 10.0.0.1/32")), of(&["otto", "vera"]));
        assert_eq!(filtered(&settings, &format!("{k3s} 10.0.0.1/32 10.0.0.2/32")), of(&[]));
    }
}
