//! Whether the agents can ask k3s: the pinned CA, the credential, who can read and who can change them, and the way to the API
//! servers of other nodes. What is amiss here makes a k3s UNKNOWN to its guardians: nobody votes, nothing is repaired.

use super::accounts::{Account, Accounts, Cast, Role};
use super::filter::Filter;
use super::finding::{Group, Section};
use super::node::{Look, Node, Unread, Writer, weaknesses};
use super::units::UnitFacts;
use crate::config::Settings;
use crate::config::k3s::K3sConfig;
use crate::inspect::rfc3339_s;
use crate::observe::k3s::{Credential, K3sSettings, ends_of};
use crate::protocol::policy::SubjectKind;
use crate::protocol::types::SubjectName;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::path::Path;

/// The group that the agents' unit names, and that may read the key.
const GROUP: &str = "zeta-bft-agents";
const MINT: &str = "/usr/share/zeta-bft/k3s/mint-credential";
/// Warned of so long before the end, in seconds: 30 days.
const AHEAD: u64 = 30 * 86_400;
const UNKNOWN: &str = "to it k3s is UNKNOWN, and it abstains";

/// A persona's agent: which user, in which unit, and what systemd says of that.
#[derive(Debug)]
pub struct Agent<'a> {
    /// Its unit.
    pub unit: &'a str,
    /// Its user, where there is one.
    pub account: Option<&'a Account>,
    /// What systemd says of its unit; `None`: nothing.
    pub said: Option<&'a UnitFacts>,
}

/// The agents of a configuration. `said`: what systemd says of their units.
pub fn agents<'a>(
    settings: &'a Settings,
    cast: &'a Cast,
    accounts: &'a Accounts,
    said: Option<&'a BTreeMap<String, UnitFacts>>,
) -> Vec<Agent<'a>> {
    let subjects = settings.policy.subjects.values();
    let agents = subjects.filter_map(|subject| match &subject.kind {
        SubjectKind::Agent(persona) => Some((Role::Agent(persona.clone()), subject.unit.as_str())),
        _ => None,
    });
    let agent =
        |(role, unit)| Agent { unit, account: cast.account(&role, accounts), said: said.and_then(|s| s.get(unit)) };
    agents.map(agent).collect()
}

/// What the checks look at beside the configuration.
#[derive(Debug)]
pub struct Facts<'a> {
    /// The files.
    pub node: &'a Node,
    /// Who plays which part.
    pub cast: &'a Cast,
    /// Users and groups.
    pub accounts: &'a Accounts,
    /// Whose probes they are.
    pub agents: &'a [Agent<'a>],
    /// Seconds since 1970.
    pub now: u64,
}

/// Checks what the agents need to ask each k3s.
pub fn check(facts: &Facts<'_>, configured: &BTreeMap<SubjectName, K3sConfig>) -> Section {
    let mut section = Section::new(Group::K3s);
    for (name, config) in configured {
        let observer = config.observer();
        let mut check = Check { facts, subject: name.as_str(), section: &mut section };
        check.ca(&observer);
        match &observer.credential {
            Credential::Nobody => check.nobody(),
            Credential::Token { file } => {
                check.secret(file);
            }
            Credential::Certificate { certificate, key } => check.certificate(certificate, key),
        }
        check.others(&observer);
    }
    section.summed_up(
        "the agents can read CA and credential, no AI can read or change them, and they are not about to end",
    )
}

/// A file that the agents need.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum File {
    Ca,
    Certificate,
    Secret,
}

impl File {
    const fn missing(self) -> &'static str {
        match self {
            Self::Ca => "k3s-ca-missing",
            Self::Certificate => "k3s-certificate-missing",
            Self::Secret => "k3s-key-missing",
        }
    }

    const fn unreadable(self) -> &'static str {
        match self {
            Self::Ca => "k3s-ca-unreadable",
            Self::Certificate => "k3s-certificate-unreadable",
            Self::Secret => "k3s-key-unreadable",
        }
    }

    const fn lack(self) -> &'static str {
        match self {
            Self::Ca => "the agents know nobody who may vouch for an API server",
            Self::Certificate | Self::Secret => "the agents have nothing to show",
        }
    }
}

struct Check<'a> {
    facts: &'a Facts<'a>,
    subject: &'a str,
    section: &'a mut Section,
}

impl Check<'_> {
    fn nobody(&mut self) {
        let text =
            "the API server is asked as nobody, and answers 401: that it answers is known, whether it is ready is not";
        let fix = format!("run {MINT} on a server of the cluster, and write what it prints into node.toml");
        self.section.warning("k3s-no-credential", self.subject, text, fix);
    }

    fn ca(&mut self, observer: &K3sSettings) {
        let (path, place) = (&observer.ca, observer.ca.display().to_string());
        if self.readable(path, File::Ca).is_none() {
            return;
        }
        let Some(pinned) = self.text(path) else { return };
        if ends_of(pinned.as_bytes()).is_empty() {
            let text = "it holds no certificate: no API server is believed";
            return self.section.error("k3s-ca-bad", &place, text, format!("run {MINT}: it copies k3s' own CA"));
        }
        let own = K3sSettings::new(observer.role).ca;
        // Only root may read that, and it need not be there.
        if own != *path
            && let Ok(theirs) = self.facts.node.read(&own)
            && blocks(&pinned).is_disjoint(&blocks(&theirs))
        {
            let text = format!(
                "{} holds another CA, as after a rotation: no API server is believed, and k3s is UNKNOWN to all",
                own.display()
            );
            self.section.error("k3s-ca-other", &place, text, format!("run {MINT}: it copies k3s' own CA"));
        }
    }

    fn certificate(&mut self, certificate: &Path, key: &Path) {
        self.secret(key);
        if self.readable(certificate, File::Certificate).is_none() {
            return;
        }
        let place = certificate.display().to_string();
        let Some(pem) = self.text(certificate) else { return };
        let fix = format!("run {MINT} again; agents read the new files by themselves");
        let Some(end) = ends_of(pem.as_bytes()).first().copied() else {
            return self.section.error("k3s-certificate-bad", &place, "it holds no certificate", fix);
        };
        let (now, day) = (self.facts.now, rfc3339_s(end));
        if end <= now {
            let text =
                format!("it ended at {day}: the API server refuses the agents, and whether it is ready is not known");
            self.section.error("k3s-certificate-ended", &place, text, fix);
        } else if end - now < AHEAD {
            let text =
                format!("it ends at {day}, in {} days: then the API server refuses the agents", (end - now) / 86_400);
            self.section.warning("k3s-certificate-ends", &place, text, fix);
        } else if let Ok(secret) = self.facts.node.read(key)
            && !fit(&pem, &secret)
        {
            let text =
                format!("it and {} do not fit together, as after a power cut while they were written", key.display());
            self.section.error("k3s-key-other", &place, text, fix);
        }
    }

    /// A key or a token: every agent can read it, and nobody else.
    fn secret(&mut self, path: &Path) {
        let Some(steps) = self.readable(path, File::Secret) else { return };
        let Facts { cast, accounts, .. } = self.facts;
        let others =
            cast.accounts(accounts).filter(|(role, account)| !matches!(role, Role::Agent(_)) && account.uid != 0);
        let mut who: Vec<_> = others
            .filter(|(_, account)| accounts.reaches(account, &steps, 4))
            .map(|(role, _)| role.to_string())
            .collect();
        if steps.last().is_some_and(|end| end.mode & 0o004 != 0) {
            who = vec!["everybody".to_owned()];
        }
        if !who.is_empty() {
            let place = path.display().to_string();
            let text = format!("{} can read it, and then ask the API server as an agent does", who.join(" and "));
            self.section.error("k3s-key-open", &place, text, format!("chgrp {GROUP} {place} && chmod 640 {place}"));
        }
    }

    /// Whether all agents can read a file, and nobody but root can change it. Gives the way to it, if it is there.
    fn readable(&mut self, path: &Path, file: File) -> Option<Vec<Look>> {
        let place = path.display().to_string();
        let steps = match self.facts.node.steps(path) {
            Ok(steps) => steps,
            Err(Unread::Absent) => {
                let text = format!("it is not there: {}, and k3s is UNKNOWN to them", file.lack());
                let fix = format!("run {MINT} on a server of the cluster; with `--for NODE` for an agent node");
                self.section.error(file.missing(), &place, text, fix);
                return None;
            }
            Err(error) => {
                self.section.skipped(file.unreadable(), &place, error.to_string());
                return None;
            }
        };
        let (mut cannot, mut unknown) = (Vec::new(), false);
        for agent in self.facts.agents {
            match self.reads(agent, &steps) {
                Some(true) => {}
                Some(false) => cannot.push(agent.unit),
                None => unknown = true,
            }
        }
        if !cannot.is_empty() {
            let who = cannot.join(", ");
            let fix = if file == File::Secret {
                format!(
                    "chgrp {GROUP} {place} && chmod 640 {place}; the unit must say SupplementaryGroups={GROUP}, as the package's does"
                )
            } else {
                format!(
                    "run {MINT}, and write the paths that it prints into node.toml: its copies can be read by everybody"
                )
            };
            self.section.error(file.unreadable(), &place, format!("{who} cannot read it: {UNKNOWN}"), fix);
        } else if unknown {
            self.section.skipped(file.unreadable(), &place, "systemd did not say in which groups the agents are");
        }
        self.untouchable(&place, &steps);
        Some(steps)
    }

    /// Whether an agent can read what these steps lead to. `None`: only its unit's groups could say so, and they are not known.
    fn reads(&self, agent: &Agent<'_>, steps: &[Look]) -> Option<bool> {
        let accounts = self.facts.accounts;
        // That it lacks its user is told elsewhere.
        let account = agent.account?;
        if accounts.reaches(account, steps, 4) {
            return Some(true);
        }
        let groups = agent.said?.get("SupplementaryGroups")?;
        let joined = accounts.joined(&account.name, groups.split_whitespace());
        Some(joined.reaches(account, steps, 4))
    }

    fn untouchable(&mut self, place: &str, steps: &[Look]) {
        let accounts = self.facts.accounts;
        for weak in weaknesses(steps) {
            let who = match weak.writer {
                Writer::User(uid) => accounts.name_of(uid),
                Writer::Group(gid) => format!("group {}", accounts.group_name(gid)),
                Writer::Everybody => "everybody".to_owned(),
            };
            let at = weak.path.display();
            let text = format!(
                "{who} can change {at}: who does can pass off another API server as k3s, or silence the agents"
            );
            self.section.error("k3s-file-writable", place, text, format!("chown root {at} && chmod go-w {at}"));
        }
    }

    fn others(&mut self, observer: &K3sSettings) {
        let far: BTreeSet<IpAddr> = observer.others.iter().map(std::net::SocketAddr::ip).collect();
        for agent in self.facts.agents {
            let filter = agent.said.map(Filter::of).unwrap_or_default();
            let blocked: Vec<_> = far.iter().filter(|far| filter.blocks(**far)).map(IpAddr::to_string).collect();
            if !blocked.is_empty() {
                let blocked = blocked.join(" ");
                let text = format!(
                    "its unit keeps it from {blocked}, which `others` names: a fault of the whole cluster looks like this node's own"
                );
                let folder = "/etc/systemd/system/zeta-bft-agent@.service.d";
                let fix = format!(
                    "mkdir -p {folder} && printf '[Service]\\nIPAddressAllow={blocked}\\n' > {folder}/k3s.conf, `systemctl \
                     daemon-reload`, and restart the agents; on NixOS zeta.bft.k3s.otherServers does it"
                );
                self.section.warning("k3s-others-blocked", agent.unit, text, fix);
            }
        }
    }

    fn text(&mut self, path: &Path) -> Option<String> {
        match self.facts.node.read(path) {
            Ok(text) => Some(text),
            Err(error) => {
                self.section.skipped("k3s-unread", &path.display().to_string(), error.to_string());
                None
            }
        }
    }
}

/// The certificates of a PEM file, as they are written there.
fn blocks(pem: &str) -> BTreeSet<String> {
    let parts = pem.split("-----BEGIN CERTIFICATE-----").skip(1);
    let bodies = parts.filter_map(|part| part.split("-----END CERTIFICATE-----").next());
    bodies.map(|body| body.split_whitespace().collect()).collect()
}

/// Whether this is the certificate of this key.
fn fit(certificate: &str, key: &str) -> bool {
    let chain: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(certificate.as_bytes()).collect();
    let (Ok(chain), Ok(key)) = (chain, PrivateKeyDer::from_pem_slice(key.as_bytes())) else { return false };
    rustls::sign::CertifiedKey::from_der(chain, key, &rustls::crypto::ring::default_provider()).is_ok()
}

#[cfg(test)]
mod tests;
