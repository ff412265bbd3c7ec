//! The units as systemd has loaded them: there, enabled, of the right user, and bound to nothing that may break first.

use super::accounts::{Accounts, Cast, Role};
use super::finding::{Group, Section};
use super::node::Unread;
use super::tools;
use crate::config::Settings;
use crate::protocol::policy::{Action, SubjectKind};
use std::collections::BTreeMap;
use std::time::Duration;

/// What is asked of each unit.
const PROPERTIES: &str = "Id,LoadState,ActiveState,LoadError,UnitFileState,NeedDaemonReload,FragmentPath,DropInPaths,User,DynamicUser,Type,\
    StartLimitIntervalUSec,TimeoutStopUSec,WatchdogUSec,Restart,After,Requires,Requisite,BindsTo,PartOf,WantedBy,RequiredBy,SupplementaryGroups,\
    IPAddressAllow,IPAddressDeny";

/// The longest that a unit of ours may take to stop.
const STOP_LIMIT: Duration = Duration::from_secs(15);
const REINSTALL: &str = "install the package again; on NixOS import the module";

/// What systemd says of one unit, by property.
pub type UnitFacts = BTreeMap<String, String>;

/// Which units are asked about, and what for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Part {
    /// The warden's service.
    Warden,
    /// Its scrape port.
    WardenSocket,
    /// The hand's service.
    Hand,
    /// Where its orders come in.
    HandSocket,
    /// The lookout's service.
    Lookout,
    /// Everything together.
    Target,
    /// A persona's sidecar or wrapper.
    Of(Role),
    /// Runs a rung or sends a page, as one instance of a template.
    Instance,
    /// k3s.
    K3s,
    /// Another subject, with the user that it must run as.
    Other(Option<u32>),
}

impl Part {
    const fn is_ours(&self) -> bool {
        !matches!(self, Self::K3s | Self::Other(_))
    }
}

/// The units of a configuration, by name.
pub fn wanted(settings: &Settings) -> BTreeMap<String, Part> {
    let mut units = BTreeMap::from([
        ("zeta-bft-hand.service".to_owned(), Part::Hand),
        ("zeta-bft-hand.socket".to_owned(), Part::HandSocket),
        ("zeta-bft-warden.service".to_owned(), Part::Warden),
        ("zeta-bft-warden.socket".to_owned(), Part::WardenSocket),
        ("zeta-bft.target".to_owned(), Part::Target),
    ]);
    for policy in settings.policy.subjects.values() {
        let part = match &policy.kind {
            SubjectKind::Wrapper(persona) => Part::Of(Role::Wrapper(persona.clone())),
            SubjectKind::Agent(persona) => Part::Of(Role::Agent(persona.clone())),
            SubjectKind::K3s => Part::K3s,
            SubjectKind::Unit => Part::Other(policy.uid),
        };
        if part == Part::K3s {
            units.insert("zeta-bft-lookout.service".to_owned(), Part::Lookout);
        }
        units.insert(policy.unit.clone(), part);
        let by_root = |action: &Action| {
            matches!(action, Action::Run { .. } | Action::MoveAside { .. } | Action::CopyAside { .. })
        };
        if policy.ladder.iter().any(|rung| by_root(&rung.action)) {
            // Of a template only an instance can be asked about.
            units.insert("zeta-bft-rung@doctor.service".to_owned(), Part::Instance);
        }
    }
    if settings.page.is_some() {
        units.insert("zeta-bft-page@doctor.service".to_owned(), Part::Instance);
    }
    units
}

/// Asks systemd about these units, all at once.
///
/// # Errors
/// [`Unread`] when `systemctl` is not there or does not reach systemd.
pub async fn ask(units: impl Iterator<Item = &String>) -> Result<BTreeMap<String, UnitFacts>, Unread> {
    let properties = format!("--property={PROPERTIES}");
    let mut argv = vec!["systemctl", "show", "--no-pager", properties.as_str(), "--"];
    for unit in units {
        argv.push(unit);
    }
    Ok(parse(&tools::ask(&argv).await?))
}

/// Reads what `systemctl show` printed: blocks of `KEY=VALUE` with an empty line between them, by their `Id`.
pub fn parse(said: &str) -> BTreeMap<String, UnitFacts> {
    let mut units = BTreeMap::new();
    let mut open = UnitFacts::new();
    for line in said.lines().chain([""]) {
        if line.is_empty() {
            let facts = std::mem::take(&mut open);
            if let Some(id) = facts.get("Id").cloned() {
                units.insert(id, facts);
            }
        } else if let Some((key, value)) = line.split_once('=') {
            open.insert(key.to_owned(), value.to_owned());
        }
    }
    units
}

/// A span as systemd prints it: `1min 30s`, `infinity`, `0`. `None`: infinite, or nothing that is known.
fn span(text: &str) -> Option<Duration> {
    match text {
        "0" => Some(Duration::ZERO),
        text => humantime::parse_duration(text).ok(),
    }
}

/// Checks what systemd says of the units. A unit that it said nothing of is skipped.
pub fn check(
    wanted: &BTreeMap<String, Part>,
    said: &BTreeMap<String, UnitFacts>,
    cast: &Cast,
    accounts: &Accounts,
) -> Section {
    let mut section = Section::new(Group::Units);
    let k3s: Vec<_> = wanted.iter().filter(|(_, part)| **part == Part::K3s).map(|(unit, _)| unit.as_str()).collect();
    for (unit, part) in wanted {
        match said.get(unit) {
            Some(facts) => Unit { unit, part, facts, section: &mut section }.check(&k3s, cast, accounts),
            None => section.skipped("unit-unread", unit, "systemd said nothing of it, or knows it by another name"),
        }
    }
    section.summed_up(format!(
        "{} units are loaded, enabled, of their own users, and wait for neither k3s nor network",
        wanted.len()
    ))
}

struct Unit<'a> {
    unit: &'a str,
    part: &'a Part,
    facts: &'a UnitFacts,
    section: &'a mut Section,
}

impl Unit<'_> {
    fn get(&self, property: &str) -> &str {
        self.facts.get(property).map_or("", String::as_str)
    }

    fn error(&mut self, id: &'static str, text: impl Into<String>, fix: impl Into<String>) {
        self.section.error(id, self.unit, text, fix);
    }

    fn warning(&mut self, id: &'static str, text: impl Into<String>, fix: impl Into<String>) {
        self.section.warning(id, self.unit, text, fix);
    }

    fn drop_in(&self, lines: &str) -> String {
        let unit = self.unit.replace("@doctor.", "@.");
        format!("`systemctl edit {unit}` and write {lines}, or {REINSTALL}")
    }

    fn check(mut self, k3s: &[&str], cast: &Cast, accounts: &Accounts) {
        if !self.is_loaded() {
            return;
        }
        if self.get("NeedDaemonReload") == "yes" {
            self.warning(
                "unit-stale",
                "its file was changed after systemd read it: what runs is not what is written",
                "systemctl daemon-reload",
            );
        }
        if self.part.is_ours() {
            self.ordering(k3s);
        }
        self.enabled();
        match self.part {
            Part::Warden => self.daemon(cast.names.get(&Role::Warden), accounts),
            Part::Of(role) => self.daemon(cast.names.get(role), accounts),
            Part::K3s => self.k3s(),
            Part::Other(Some(uid)) => self.user(Some(&accounts.name_of(*uid)), accounts),
            Part::Hand | Part::HandSocket => self.hand(),
            Part::Lookout => self.lookout(),
            Part::Other(None) | Part::WardenSocket | Part::Target | Part::Instance => {}
        }
    }

    /// Whether it does not run: its state, then.
    fn away(&self) -> Option<String> {
        let state = self.get("ActiveState");
        (!matches!(state, "" | "active" | "activating" | "reloading")).then(|| state.to_owned())
    }

    /// Without the lookout agents see of k3s what anybody may see.
    fn lookout(&mut self) {
        if let Some(state) = self.away() {
            let text = format!(
                "it is {state}: agents see neither empty keys of k3s nor the line that it ended by, and judge it without"
            );
            let fix = format!("`journalctl -u {0}` says why; then `systemctl start {0}`", self.unit);
            self.warning("lookout-away", text, fix);
        }
    }

    /// Without the hand the committee decides, and nobody acts.
    fn hand(&mut self) {
        if let Some(state) = self.away() {
            let text = format!("it is {state}: whatever the committee decides, nothing is repaired");
            let fix = format!("`journalctl -u {0}` says why; then `systemctl start {0}`", self.unit);
            self.error("hand-away", text, fix);
        }
    }

    fn is_loaded(&mut self) -> bool {
        match self.get("LoadState") {
            "loaded" => return true,
            "not-found" => {
                let fix =
                    if self.part.is_ours() { REINSTALL } else { "install the service, or take it out of node.toml" };
                let text = "systemd knows no such unit: it can be neither watched nor repaired";
                self.error("unit-missing", text, fix);
            }
            "masked" => {
                let fix = format!("`systemctl unmask {}` if you want it back", self.unit);
                self.warning("unit-masked", "it is masked: the operator's word, so the committee leaves it alone", fix);
            }
            "" => self.section.skipped("unit-unread", self.unit, "systemd did not say whether it is loaded"),
            state => {
                let text = format!("systemd cannot load it ({state}): {}", self.get("LoadError"));
                self.error(
                    "unit-bad",
                    text,
                    format!("`systemd-analyze verify {}` says what is wrong in it", self.unit),
                );
            }
        }
        false
    }

    /// An order after k3s is a deadlock: what shall repair k3s would wait for it.
    fn ordering(&mut self, k3s: &[&str]) {
        let foreign = |name: &str| {
            k3s.contains(&name)
                || name == "network-online.target"
                || (name.starts_with("k3s") && name.ends_with(".service"))
        };
        for property in ["After", "Requires", "Requisite", "BindsTo", "PartOf"] {
            let named: Vec<_> =
                self.get(property).split_whitespace().filter(|name| foreign(name)).map(str::to_owned).collect();
            for name in named {
                let text = format!(
                    "{property}={name}: when {name} does not come up, neither does this, and what shall repair it waits for it: \
                     a deadlock that nobody ends"
                );
                self.error("unit-order", text, format!("take {property}={name} out of the unit and its drop-ins"));
            }
        }
        if self.unit.starts_with("k3s") {
            let text = "its name begins with k3s: k3s-killall.sh stops it together with k3s";
            self.error("unit-name", text, "give it another name, and write that as `unit` in node.toml");
        }
    }

    fn enabled(&mut self) {
        let pulled_in = !self.get("WantedBy").is_empty() || !self.get("RequiredBy").is_empty();
        match self.get("UnitFileState") {
            "disabled" if !pulled_in && *self.part != Part::Instance => {
                let text = "it is disabled, so it does not come back after a boot; the committee takes that for the operator's word";
                self.warning("unit-disabled", text, format!("systemctl enable {}", self.unit));
            }
            "masked" | "masked-runtime" => {
                let fix = format!("`systemctl unmask {}` if you want it back", self.unit);
                self.warning("unit-masked", "it is masked: the operator's word, so the committee leaves it alone", fix);
            }
            _ => {}
        }
    }

    fn user(&mut self, wanted: Option<&String>, accounts: &Accounts) {
        let Some(wanted) = wanted else { return };
        let is = self.get("User");
        let number = |name: &str| accounts.user(name).map(|user| user.uid).or_else(|| name.parse().ok());
        if self.get("DynamicUser") == "yes" {
            let text = format!("DynamicUser=yes gives it another user at each start, where {wanted} is expected");
            let fix = self.drop_in(&format!("DynamicUser=no and User={wanted}"));
            return self.error("unit-user", text, fix);
        }
        let is = if is.is_empty() { "root" } else { is };
        let same = match (number(is), number(wanted)) {
            (Some(is), Some(wanted)) => is == wanted,
            _ => is == wanted,
        };
        if !same {
            let why = if number(is) == Some(0) {
                "it runs as root, and whatever it does, root does"
            } else {
                "its sessions and pings are refused"
            };
            let text = format!("it runs as {is}, but {wanted} is expected: {why}");
            let fix = self.drop_in(&format!("User={wanted}"));
            self.error("unit-user", text, format!("{fix}; or write user = \"{is}\" in node.toml"));
        }
    }

    fn daemon(&mut self, user: Option<&String>, accounts: &Accounts) {
        self.user(user, accounts);
        let kind = self.get("Type").to_owned();
        if !matches!(kind.as_str(), "notify" | "notify-reload") {
            let text =
                format!("Type={kind}: systemd calls it running before it is ready, and repairs are judged too early");
            let fix = self.drop_in("Type=notify");
            self.error("unit-type", text, fix);
        }
        let limit = self.get("StartLimitIntervalUSec").to_owned();
        if span(&limit) != Some(Duration::ZERO) {
            let text = format!(
                "StartLimitIntervalSec={limit}: after a few quick restarts systemd refuses further ones, the committee's too; \
                 its own budgets limit them"
            );
            let fix = self.drop_in("StartLimitIntervalSec=0 below [Unit]");
            self.warning("unit-start-limit", text, fix);
        }
        let stop = self.get("TimeoutStopUSec").to_owned();
        if span(&stop).is_none_or(|stop| stop > STOP_LIMIT) {
            let text = format!("TimeoutStopSec={stop}: a repair waits that long for a process that does not end");
            let fix = self.drop_in("TimeoutStopSec=10s");
            self.warning("unit-stop-timeout", text, fix);
        }
        let restart = self.get("Restart").to_owned();
        if restart != "always" {
            let fix = self.drop_in("Restart=always");
            match self.part {
                Part::Warden => {
                    let text = format!("Restart={restart}: nobody votes on the warden, so only systemd brings it back");
                    self.error("unit-restart", text, fix);
                }
                Part::Of(Role::Agent(_)) => {
                    let text =
                        format!("Restart={restart}: when two agents die at once, no quorum is left to bring them back");
                    self.error("unit-restart", text, fix);
                }
                _ => {}
            }
        }
    }

    fn k3s(&mut self) {
        let watchdog = self.get("WatchdogUSec").to_owned();
        if span(&watchdog) != Some(Duration::ZERO) && !watchdog.is_empty() {
            let text = format!(
                "WatchdogSec={watchdog}: k3s sends no pings to systemd, which kills it again and again, past the quorum"
            );
            self.error("k3s-watchdog", text, format!("`systemctl edit {}` and write WatchdogSec=0", self.unit));
        }
    }
}

/// The files that systemd read these units from.
pub fn files(said: &BTreeMap<String, UnitFacts>) -> Vec<String> {
    let get = |facts: &UnitFacts, property: &str| facts.get(property).cloned().unwrap_or_default();
    let paths = said.values().flat_map(|facts| [get(facts, "FragmentPath"), get(facts, "DropInPaths")]);
    let mut files: Vec<_> =
        paths.flat_map(|paths| paths.split_whitespace().map(str::to_owned).collect::<Vec<_>>()).collect();
    files.sort();
    files.dedup();
    files
}

#[cfg(test)]
mod tests;
