//! What is configured of a k3s beside its unit, ladder and budget: how it is looked at, and how that is read.

use super::faults;
use super::fragments::{CredentialFragment, Length, RoleWord};
use super::inputs::{At, Inputs};
use super::source::{Place, remark_on};
use super::{ConfigError, checks::in_range, never};
use crate::observe::k3s::table::{Row, Table};
use crate::observe::k3s::{Credential, K3sSettings, Role};
use crate::protocol::policy::{Action, Consent, RungPolicy};
use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

/// How long a run of k3s is left alone after its start, unless configured.
pub const GRACE: Duration = Duration::from_secs(120);
/// How many looks in a row must show it, unless configured.
pub const FAILED_LOOKS: u32 = 3;

/// One k3s, as configured. What is `None` is the role's default.
#[derive(Clone, Debug)]
pub struct K3sConfig {
    /// Whether the node runs the control plane.
    pub role: Role,
    /// Where its API server listens, on loopback.
    pub api: Option<SocketAddr>,
    /// PEM: who may vouch for it.
    pub ca: Option<PathBuf>,
    /// As whom it is asked.
    pub credential: Credential,
    /// The name of the node's object.
    pub node: Option<String>,
    /// Whether it runs a kubelet whose health port can be asked.
    pub kubelet: bool,
    /// Whether it runs kube-proxy.
    pub kube_proxy: bool,
    /// Paths whose file systems it needs.
    pub mounts: Option<Vec<PathBuf>>,
    /// API servers of other nodes.
    pub others: Vec<SocketAddr>,
    /// How long a run is left alone after its start.
    pub grace: Duration,
    /// How many looks in a row must show a fault.
    pub failed_looks: u32,
    /// When planned restarts may be; `None`: at any time.
    pub window: Option<Window>,
    /// The operator's rows of the table.
    pub faults: Vec<Row>,
    /// Built-in rows that are left out.
    pub ignored: Vec<String>,
}

impl K3sConfig {
    /// The defaults of a role.
    pub const fn new(role: Role) -> Self {
        Self {
            role,
            api: None,
            ca: None,
            credential: Credential::Nobody,
            node: None,
            kubelet: true,
            kube_proxy: true,
            mounts: None,
            others: Vec::new(),
            grace: GRACE,
            failed_looks: FAILED_LOOKS,
            window: None,
            faults: Vec::new(),
            ignored: Vec::new(),
        }
    }

    /// What its observer needs of it.
    pub fn observer(&self) -> K3sSettings {
        let default = K3sSettings::new(self.role);
        K3sSettings {
            address: self.api.unwrap_or(default.address),
            ca: self.ca.clone().unwrap_or_else(|| default.ca.clone()),
            credential: self.credential.clone(),
            node: self.node.clone(),
            kubelet: default.kubelet.filter(|_| self.kubelet),
            kube_proxy: default.kube_proxy.filter(|_| self.kube_proxy),
            mounts: self.mounts.clone().unwrap_or_else(|| default.mounts.clone()),
            others: self.others.clone(),
            ..default
        }
    }
}

/// The unit that k3s' own install script makes for a role.
pub(super) const fn unit(role: Role) -> &'static str {
    match role {
        Role::Server => "k3s.service",
        Role::Agent => "k3s-agent.service",
    }
}

/// The ladder of a role, unless configured: each fault takes the first step that serves it.
pub(super) fn ladder(role: Role) -> Vec<RungPolicy> {
    let keys = Action::MoveAside { path: never::AGENT.into() };
    let datastore = Action::CopyAside { path: never::DATASTORE.into() };
    let actions = match role {
        Role::Server => vec![keys, datastore, Action::Restart, Action::Page],
        // It has no datastore.
        Role::Agent => vec![keys, Action::Restart, Action::Page],
    };
    actions.into_iter().map(|action| RungPolicy { action, consent: Consent::Quorum }).collect()
}

/// A part of the day, in UTC. It may span midnight.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Window {
    /// Its first minute, counted from midnight.
    from: u32,
    /// The minute after its last.
    to: u32,
}

impl Window {
    /// Reads `02:00-05:30`. `None` when it is none, or empty.
    pub fn parse(text: &str) -> Option<Self> {
        let minute = |text: &str| {
            let (hour, minute) = text.split_once(':')?;
            let plain = |part: &str| part.len() == 2 && part.bytes().all(|b| b.is_ascii_digit());
            let (hours, minutes): (u32, u32) = (hour.parse().ok()?, minute.parse().ok()?);
            (plain(hour) && plain(minute) && hours < 24 && minutes < 60).then_some(hours * 60 + minutes)
        };
        let (from, to) = text.split_once('-')?;
        let window = Self { from: minute(from)?, to: minute(to)? };
        (window.from != window.to).then_some(window)
    }

    /// Whether a moment of Unix time, in seconds, lies in it.
    pub fn contains(self, unix: u64) -> bool {
        let minute = u32::try_from(unix / 60 % (24 * 60)).unwrap_or_default();
        if self.from < self.to {
            (self.from..self.to).contains(&minute)
        } else {
            minute >= self.from || minute < self.to
        }
    }
}

/// The role that is written, or a server's.
pub(super) fn role(inputs: &Inputs, name: &str) -> Role {
    match inputs.last(|file| file.subjects.get(name)?.role.as_ref()).map(|at| *at.value) {
        Some(RoleWord::Agent) => Role::Agent,
        Some(RoleWord::Server) | None => Role::Server,
    }
}

/// What `[subjects.NAME]` says of a k3s.
pub(super) fn config(inputs: &Inputs, name: &str, header: &Place) -> Result<K3sConfig, ConfigError> {
    macro_rules! last {
        ($field:ident) => {
            inputs.last(|file| file.subjects.get(name)?.$field.as_ref())
        };
    }
    let role = role(inputs, name);
    let day = Duration::from_secs(24 * 3600);
    let mut config = K3sConfig {
        api: last!(api).map(address).transpose()?,
        ca: last!(ca).map(|at| absolute(at.value, &at.place)).transpose()?,
        node: last!(node_name).map(|at| at.value.clone()),
        kubelet: last!(kubelet).is_none_or(|at| *at.value),
        kube_proxy: last!(kube_proxy).is_none_or(|at| *at.value),
        ..K3sConfig::new(role)
    };
    if let Some(credential) = last!(credential) {
        config.credential = read_credential(&credential)?;
    }
    if let Some(at) = last!(mounts) {
        let mounts = at.value.iter().map(|path| absolute(path, &at.place)).collect::<Result<_, _>>()?;
        config.mounts = Some(mounts);
    }
    if let Some(At { value, place }) = last!(others) {
        for text in value {
            config.others.push(K3sSettings::parse_address(text).map_err(|error| place.complain(error.to_string()))?);
        }
    }
    if let Some(At { value: Length(grace), place }) = last!(grace) {
        config.grace = in_range(*grace, Duration::ZERO, day, &place)?;
    }
    if let Some(At { value, place }) = last!(failed_looks) {
        if !(1..=100).contains(value) {
            return Err(place.complain(format!("failed_looks = {value} must be from 1 to 100")).into());
        }
        config.failed_looks = *value;
    }
    if let Some(At { value, place }) = last!(window) {
        let window = Window::parse(value);
        let wrong = || format!("`{value}` is no part of the day: write two times of UTC, such as \"02:00-05:00\"");
        config.window = Some(window.ok_or_else(|| place.complain(wrong()))?);
    }
    config.faults = rows(inputs, name)?;
    config.ignored = ignored(inputs, name)?;
    config.observer().check().map_err(|error| {
        let place = last!(node_name).map(|at| at.place).filter(|_| config.node.is_some());
        let place = last!(api).map(|at| at.place).filter(|_| !config.observer().address.ip().is_loopback()).or(place);
        place.as_ref().unwrap_or(header).complain(error.to_string())
    })?;
    Ok(config)
}

fn rows(inputs: &Inputs, name: &str) -> Result<Vec<Row>, ConfigError> {
    let written = inputs.last_list(|file| file.subjects.get(name)?.faults.as_ref());
    let Some(list) = written else { return Ok(Vec::new()) };
    let built_in = Table::built_in();
    let taken: BTreeSet<&str> = built_in.rows().iter().map(|row| row.name.as_str()).collect();
    Ok(faults::rows(list.source, list.items, &taken)?)
}

fn ignored(inputs: &Inputs, name: &str) -> Result<Vec<String>, ConfigError> {
    let written = inputs.last_list(|file| file.subjects.get(name)?.ignored_faults.as_ref());
    let Some(list) = written else { return Ok(Vec::new()) };
    let built_in = Table::built_in();
    let named = |name: &toml::Spanned<String>| {
        let At { value, place } = list.at(name);
        match built_in.row(value) {
            Some(row) if row.ignorable => Ok(value.clone()),
            Some(_) => Err(place.complain(format!("`{value}` cannot be left out: it keeps a repair from doing harm"))),
            None => {
                let known: Vec<_> = built_in.rows().iter().map(|row| row.name.as_str()).collect();
                let remark = super::source::nearest(value, known.iter().copied()).map(|name| remark_on(name, &[name]));
                let message = format!("no built-in row is called `{value}`");
                Err(remark.map_or_else(|| place.complain(&message), |remark| place.complain_with(&message, remark)))
            }
        }
    };
    Ok(list.items.iter().map(named).collect::<Result<_, _>>()?)
}

/// The first option of `[subjects.NAME]` that is k3s' alone.
pub(super) fn stray(inputs: &Inputs, name: &str) -> Option<(&'static str, Place)> {
    macro_rules! first {
        ($($option:literal => $field:ident),*) => { $(
            if let Some(at) = inputs.last(|file| file.subjects.get(name)?.$field.as_ref()) {
                return Some(($option, at.place));
            }
        )* };
    }
    first! {
        "role" => role, "api" => api, "ca" => ca, "credential" => credential, "node_name" => node_name,
        "kubelet" => kubelet, "kube_proxy" => kube_proxy, "mounts" => mounts, "others" => others,
        "grace" => grace, "failed_looks" => failed_looks, "window" => window
    }
    if let Some(list) = inputs.last_list(|file| file.subjects.get(name)?.ignored_faults.as_ref())
        && let Some(first) = list.items.first()
    {
        return Some(("ignored_faults", list.at(first).place));
    }
    let list = inputs.last_list(|file| file.subjects.get(name)?.faults.as_ref())?;
    Some(("faults", list.at(&list.items.first()?.name).place))
}

fn address(at: At<'_, String>) -> Result<SocketAddr, ConfigError> {
    K3sSettings::parse_address(at.value).map_err(|error| at.place.complain(error.to_string()).into())
}

fn absolute(path: &str, place: &Place) -> Result<PathBuf, ConfigError> {
    if path.starts_with('/') && !path.contains('\0') {
        return Ok(path.into());
    }
    Err(place.complain(format!("`{path}` must be an absolute path")).into())
}

fn read_credential(at: &At<'_, CredentialFragment>) -> Result<Credential, ConfigError> {
    let CredentialFragment { token, certificate, key } = at.value;
    let path = |text: &str| absolute(text, &at.place);
    match (token, certificate, key) {
        (Some(file), None, None) => Ok(Credential::Token { file: path(file)? }),
        (None, Some(certificate), Some(key)) => {
            Ok(Credential::Certificate { certificate: path(certificate)?, key: path(key)? })
        }
        _ => {
            let message = "a credential is { token = FILE } or { certificate = FILE, key = FILE }";
            Err(at.place.complain(message).into())
        }
    }
}
