//! From inputs to settings: defaults filled in, names resolved, ranges and rules checked.

mod command;
mod personas;
mod subjects;

use self::personas::personas;
use self::subjects::Subjects;
use super::fragments::ModeWord;
use super::inputs::{At, Inputs, List};
use super::k3s::K3sConfig;
use super::paths::Paths;
use super::settings::{CommandSettings, PersonaSettings, Settings};
use super::source::Place;
use super::users::{self, Users};
use super::{ConfigError, k3s, tcp, timing};
use crate::protocol::policy::{Mode, Policy, SubjectKind, SubjectPolicy};
use crate::protocol::roster::check_counts;
use crate::protocol::types::{ClusterId, NameError, NodeId, PersonaId, SubjectName};
use crate::wire::{MAX_ATTESTATIONS, MAX_GUARDIANS};
use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

/// Makes settings of all that was written.
pub(super) fn settings(inputs: &Inputs, paths: &Paths, users: &Users) -> Result<Settings, ConfigError> {
    let cluster = name(inputs, "cluster", inputs.last(|file| file.cluster.as_ref()), ClusterId::new)?;
    let node = name(inputs, "node", inputs.last(|file| file.node.as_ref()), NodeId::new)?;
    let mode = match inputs.last(|file| file.mode.as_ref()).map(|at| *at.value) {
        Some(ModeWord::Act) => Mode::Act,
        Some(ModeWord::Observe) => Mode::Observe,
        None => return Err(inputs.complain("`mode` is missing: write mode = \"observe\" or mode = \"act\"")),
    };
    let on_a_node = paths.dir().is_none();
    let shared_allowed = inputs.last(|file| file.allow_shared_uid.as_ref()).is_some_and(|at| *at.value);
    let users = on_a_node.then_some(users);
    let personas = personas(inputs)?;
    let (f, q) = counts(inputs, &personas)?;
    let mut timing = timing::from_inputs(inputs)?;
    if let Some(longest) = personas.values().map(|persona| persona.tick_limit).max() {
        timing.tick_limit = longest;
    }
    let subjects = Subjects::new(inputs, paths, users, &personas).all()?;
    if let Some(users) = users.filter(|_| !shared_allowed) {
        users::each_its_own(inputs, &subjects, users)?;
    }
    let node_per_day = match inputs.last(|file| file.policy.node_per_day.as_ref()) {
        Some(at) if *at.value == 0 => return Err(at.place.complain("node_per_day must be at least 1").into()),
        Some(at) => *at.value,
        None => Policy::NODE_PER_DAY,
    };
    let page = inputs
        .last(|file| file.page.as_ref())
        .map(|page| {
            let list = List { source: &page.place.source, items: &[(); 0] };
            let argv = command::of_root(&list.at(&page.value.command))?;
            let limit = command::limit(list.at_written(&page.value.limit))?;
            Ok::<_, ConfigError>(CommandSettings { argv, limit })
        })
        .transpose()?;
    let settings = Settings {
        paths: paths.clone(),
        cluster,
        node,
        f,
        q,
        k3s: each_k3s(inputs, &subjects)?,
        tcp: tcp::from_inputs(inputs, &personas)?,
        personas,
        policy: Arc::new(Policy {
            digest: super::digest::of(&subjects, node_per_day),
            mode,
            subjects,
            node_per_day,
            drill: false,
            timing,
        }),
        page,
        warden_metrics: inputs.last(|file| file.metrics.warden.as_ref()).map_or(loopback(9464), |at| *at.value),
        isolation: on_a_node && !shared_allowed,
    };
    addresses(inputs, &settings)?;
    for (what, has, most) in [
        ("personas", settings.personas.len(), MAX_GUARDIANS),
        ("subjects", settings.policy.subjects.len(), MAX_ATTESTATIONS),
    ] {
        if has > most {
            return Err(inputs.complain(format!("{has} {what} are too many: {most} fit into one heartbeat")));
        }
    }
    let drill = inputs.last(|file| file.policy.drill.enabled.as_ref()).is_some_and(|at| *at.value);
    if !drill {
        return Ok(settings);
    }
    let lifts = |written: Option<At<'_, bool>>| written.is_none_or(|at| *at.value);
    Ok(settings.into_drill(
        lifts(inputs.last(|file| file.policy.drill.lift_budgets.as_ref())),
        lifts(inputs.last(|file| file.policy.drill.lift_cool_downs.as_ref())),
    ))
}

fn loopback(port: u16) -> SocketAddr {
    SocketAddr::from(([127, 0, 0, 1], port))
}

fn name<T>(
    inputs: &Inputs,
    option: &str,
    written: Option<At<'_, String>>,
    make: impl Fn(&str) -> Result<T, NameError>,
) -> Result<T, ConfigError> {
    let Some(At { value, place }) = written else {
        return Err(inputs.complain(format!("`{option}` is missing")));
    };
    make(value).map_err(|error| place.complain(error.to_string()).into())
}

fn counts(inputs: &Inputs, personas: &BTreeMap<PersonaId, PersonaSettings>) -> Result<(u32, u32), ConfigError> {
    let (f, q) = (inputs.last(|file| file.f.as_ref()), inputs.last(|file| file.q.as_ref()));
    let f_is = f.as_ref().map_or(1, |at| *at.value);
    let q_is = q.as_ref().map_or(f_is.saturating_add(1), |at| *at.value);
    let vendors: BTreeSet<_> = personas.values().map(|persona| &persona.vendor).collect();
    check_counts(u32::try_from(vendors.len()).unwrap_or(u32::MAX), f_is, q_is).map_err(|error| {
        use crate::protocol::roster::RosterError::BadThreshold;
        let at = if matches!(error, BadThreshold { .. }) { q.or(f) } else { f };
        inputs.complain_at(at.map(|at| at.place).as_ref(), error.to_string())
    })?;
    Ok((f_is, q_is))
}

/// How each k3s is looked at. What only a k3s has is refused of others.
fn each_k3s(
    inputs: &Inputs,
    subjects: &BTreeMap<SubjectName, SubjectPolicy>,
) -> Result<BTreeMap<SubjectName, K3sConfig>, ConfigError> {
    let mut all = BTreeMap::new();
    for (name, header) in inputs.names(|file| &file.subjects) {
        let Some((subject, policy)) = subjects.iter().find(|(subject, _)| subject.as_str() == name) else { continue };
        if policy.kind == SubjectKind::K3s {
            all.insert(subject.clone(), k3s::config(inputs, name, &header)?);
        } else if let Some((option, place)) = k3s::stray(inputs, name) {
            return Err(place.complain(format!("`{option}` belongs to a subject with kind = \"k3s\"")).into());
        }
    }
    Ok(all)
}

pub(super) fn in_range(
    value: Duration,
    least: Duration,
    most: Duration,
    place: &Place,
) -> Result<Duration, ConfigError> {
    if (least..=most).contains(&value) {
        return Ok(value);
    }
    let [value, least, most] = [value, least, most].map(|d| humantime::format_duration(d).to_string());
    Err(place.complain(format!("{value} is out of range: it must be from {least} to {most}")).into())
}

/// Two scrape ports on one address would leave one daemon without.
fn addresses(inputs: &Inputs, settings: &Settings) -> Result<(), ConfigError> {
    let mut taken: BTreeMap<SocketAddr, String> = BTreeMap::new();
    let personas = settings.personas.iter().flat_map(|(id, persona)| {
        [(format!("{id}'s agent"), persona.agent_metrics), (format!("{id}'s wrapper"), persona.wrapper_metrics)]
    });
    for (whose, address) in [("the warden".to_owned(), settings.warden_metrics)].into_iter().chain(personas) {
        if address.port() == 0 {
            continue;
        }
        if let Some(first) = taken.insert(address, whose.clone()) {
            return Err(
                inputs.complain(format!("{first} and {whose} have one scrape address, {address}: see [metrics]"))
            );
        }
    }
    for (id, tcp) in &settings.tcp {
        if let Some(first) = taken.get(&tcp.listen) {
            let listen = tcp.listen;
            return Err(inputs.complain(format!("[tcp.{id}] listens on {listen}, the scrape address of {first}")));
        }
    }
    Ok(())
}
