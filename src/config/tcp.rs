//! `[tcp.NAME]`: agents that listen on TCP beside their Unix socket. Without one nothing of ours listens there.

use super::ConfigError;
use super::fragments::TcpFragment;
use super::inputs::{At, Inputs};
use super::settings::PersonaSettings;
use super::source::{Place, remark_on};
use crate::protocol::types::PersonaId;
use std::collections::BTreeMap;
use std::net::SocketAddr;

/// Where one agent is reached over TCP.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TcpSettings {
    /// Where it listens.
    pub listen: SocketAddr,
    /// Where the others find it: another address where something stands between them.
    pub address: SocketAddr,
}

/// Reads every `[tcp.NAME]`.
pub(super) fn from_inputs(
    inputs: &Inputs,
    personas: &BTreeMap<PersonaId, PersonaSettings>,
) -> Result<BTreeMap<PersonaId, TcpSettings>, ConfigError> {
    let known: Vec<_> = personas.keys().map(PersonaId::as_str).collect();
    let mut agents = BTreeMap::new();
    let mut taken: BTreeMap<SocketAddr, PersonaId> = BTreeMap::new();
    for (name, header) in inputs.names(|file| &file.tcp) {
        let persona = PersonaId::new(name).ok().filter(|persona| personas.contains_key(persona));
        let Some(persona) = persona else {
            return Err(header.complain_with(format!("unknown persona `{name}`"), remark_on(name, &known)).into());
        };
        let option = |option: fn(&TcpFragment) -> &super::fragments::Written<SocketAddr>| {
            inputs.last(|file| option(file.tcp.get(name)?).as_ref())
        };
        let Some(listen) = option(|agent| &agent.listen) else {
            return Err(header.complain(format!("[tcp.{name}] has no `listen`")).into());
        };
        with_port("listen", &listen)?;
        let address = match option(|agent| &agent.address) {
            Some(address) => {
                with_port("address", &address)?;
                reachable("address", &address)?;
                *address.value
            }
            None => {
                reachable("listen", &listen)?;
                *listen.value
            }
        };
        for used in [*listen.value, address] {
            if let Some(first) = taken.insert(used, persona.clone()).filter(|first| *first != persona) {
                let message = format!("{first} and {name} have one and the same address, {used}");
                return Err(listen.place.complain(message).into());
            }
        }
        agents.insert(persona, TcpSettings { listen: *listen.value, address });
    }
    Ok(agents)
}

fn with_port(option: &str, at: &At<'_, SocketAddr>) -> Result<(), ConfigError> {
    let message = format!("`{option}` needs a port that the others know, not 0");
    if at.value.port() == 0 { Err(complain(&at.place, message)) } else { Ok(()) }
}

fn reachable(option: &str, at: &At<'_, SocketAddr>) -> Result<(), ConfigError> {
    let message = if option == "listen" {
        format!("{} does not tell the others where to find it: write `address` as well", at.value)
    } else {
        format!("{} is no address of anybody", at.value)
    };
    if at.value.ip().is_unspecified() { Err(complain(&at.place, message)) } else { Ok(()) }
}

fn complain(place: &Place, message: String) -> ConfigError {
    place.complain(message).into()
}
