//! `[personas.NAME]`: who is in the committee, of which vendor, and what it runs.

use super::{command, in_range, loopback};
use crate::config::fragments::{Length, ReasonWord};
use crate::config::inputs::{At, Inputs};
use crate::config::settings::{FaultPattern, PersonaSettings, default_probe};
use crate::config::source::{Place, remark_on};
use crate::config::{ConfigError, patterns};
use crate::protocol::evidence::Reason;
use crate::protocol::types::{PersonaId, VendorId};
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

/// The vendors that there are. A closed list: a misspelt vendor would count as one more, and the votes of one vendor as
/// two.
const VENDORS: &[&str] = &[
    "alibaba-qwen",
    "amazon-nova",
    "anthropic",
    "cohere",
    "deepseek",
    "google-gemini",
    "meta-llama",
    "microsoft",
    "mistral",
    "moonshot-kimi",
    "openai",
    "xai-grok",
    "zhipu-glm",
];

/// Names that would collide with a key file, or with a word of the command line.
const RESERVED: &[&str] = &["all", "ca", "k3s", "node", "operator", "warden"];

const TICK_INTERVAL: Duration = Duration::from_secs(60);
const TICK_LIMIT: Duration = Duration::from_secs(30 * 60);

/// Who there is, by name. Scrape addresses that are not written are given out in the order of the names.
pub(super) fn personas(inputs: &Inputs) -> Result<BTreeMap<PersonaId, PersonaSettings>, ConfigError> {
    let first = |written: Option<At<'_, SocketAddr>>, port| written.map_or(loopback(port), |at| *at.value);
    let agents = first(inputs.last(|file| file.metrics.agents.as_ref()), 9465);
    let wrappers = first(inputs.last(|file| file.metrics.wrappers.as_ref()), 9475);
    let names = inputs.names(|file| &file.personas);
    let mut personas = BTreeMap::new();
    for (index, (name, place)) in names.into_iter().enumerate() {
        let id = PersonaId::new(name).map_err(|error| place.complain(error.to_string()))?;
        if RESERVED.contains(&name) {
            return Err(place.complain(format!("a persona cannot be called `{name}`: the word is taken")).into());
        }
        let persona = persona(inputs, name, &place, nth(agents, index), nth(wrappers, index))?;
        personas.insert(id, persona);
    }
    Ok(personas)
}

/// The `index`-th address from the first on; port 0 stays 0.
fn nth(mut first: SocketAddr, index: usize) -> SocketAddr {
    if first.port() != 0 {
        first.set_port(first.port().saturating_add(u16::try_from(index).unwrap_or(u16::MAX)));
    }
    first
}

fn persona(
    inputs: &Inputs,
    name: &str,
    header: &Place,
    agent_metrics: SocketAddr,
    wrapper_metrics: SocketAddr,
) -> Result<PersonaSettings, ConfigError> {
    macro_rules! last {
        ($field:ident) => {
            inputs.last(|file| file.personas.get(name)?.$field.as_ref())
        };
    }
    let Some(vendor) = last!(vendor) else {
        return Err(header.complain(format!("persona {name} has no `vendor`")).into());
    };
    if !VENDORS.contains(&vendor.value.as_str()) {
        let message = format!("unknown vendor `{}`", vendor.value);
        return Err(vendor.place.complain_with(message, remark_on(vendor.value, VENDORS)).into());
    }
    let vendor = VendorId::new(vendor.value).map_err(|error| vendor.place.complain(error.to_string()))?;
    let Some(command) = last!(command) else {
        return Err(header.complain(format!("persona {name} has no `command`")).into());
    };
    let length = |written: Option<At<'_, Length>>, default, least, most| {
        let Some(At { value, place }) = written else { return Ok(default) };
        in_range(value.0, least, most, &place)
    };
    let (day, week) = (Duration::from_secs(24 * 3600), Duration::from_secs(7 * 24 * 3600));
    let working_dir = match last!(working_dir) {
        Some(at) if !at.value.starts_with('/') => {
            return Err(at.place.complain("working_dir must be an absolute path").into());
        }
        at => at.map(|at| PathBuf::from(at.value)),
    };
    let mut readings = Vec::new();
    if let Some(list) = inputs.last_list(|file| file.personas.get(name)?.patterns.as_ref()) {
        for pattern in list.items {
            let At { value, place } = list.at(&pattern.regex);
            let regex = patterns::compile(value).map_err(|error| {
                let why = error.to_string();
                let why = why.lines().last().unwrap_or_default().trim_start_matches("error: ").to_owned();
                place.complain_with("no regular expression", why)
            })?;
            if regex.is_match("") {
                return Err(place.complain("this pattern matches every line: no failed tick would ever count").into());
            }
            readings.push(FaultPattern { regex: regex.into(), reason: reason(*list.at(&pattern.reason).value) });
        }
    }
    readings.extend(patterns::defaults(&vendor));
    let command = command::program(&command)?;
    let probe = match last!(probe) {
        // An empty list: none, also where there is one by default.
        Some(at) if at.value.is_empty() => None,
        Some(at) => Some(command::program(&at)?),
        None => default_probe(&command),
    };
    Ok(PersonaSettings {
        vendor,
        command,
        probe,
        tick_interval: length(last!(tick_interval), TICK_INTERVAL, Duration::from_millis(10), day)?,
        tick_limit: length(last!(tick_limit), TICK_LIMIT, Duration::from_millis(100), week)?,
        working_dir,
        patterns: readings,
        agent_metrics: last!(agent_metrics).map_or(agent_metrics, |at| *at.value),
        wrapper_metrics: last!(wrapper_metrics).map_or(wrapper_metrics, |at| *at.value),
    })
}

const fn reason(word: ReasonWord) -> Reason {
    match word {
        ReasonWord::Quota => Reason::Quota,
        ReasonWord::Auth => Reason::Auth,
        ReasonWord::Setup => Reason::Setup,
        ReasonWord::VendorDown => Reason::VendorDown,
        ReasonWord::NetworkDown => Reason::NetworkDown,
        ReasonWord::DiskFull => Reason::DiskFull,
    }
}
