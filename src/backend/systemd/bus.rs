//! The connection to the system bus, and what is asked of it.

use super::door::{BUS, Door};
use super::facts::{Facts, Glance};
use super::observer::Lost;
use super::proxy::{ManagerProxy, SERVICE, SYSTEMD, UNIT};
use crate::protocol::types::InvocationId;
use std::sync::{Arc, OnceLock};
use std::time::Duration;
use tokio::net::UnixStream;
use zbus::fdo::{DBusProxy, PropertiesProxy};
use zbus::message::Type;
use zbus::proxy::CacheProperties;
use zbus::{Connection, MatchRule};

/// Longest wait for the answer to one call.
const ANSWER_LIMIT: Duration = Duration::from_secs(5);
/// What is started when the system goes down.
pub(super) const SHUTDOWN: &str = "shutdown.target";

/// Where every Linux has it.
const SOCKET: &str = "/run/dbus/system_bus_socket";

/// A connection of its own to the system bus, on which no call waits for ever. What comes in passes the [`Door`]; `systemd` is to
/// be set once its unique name is known.
pub(super) async fn connect(systemd: Arc<OnceLock<String>>) -> Result<Connection, Lost> {
    let building = async {
        let stream = UnixStream::connect(SOCKET).await.map_err(zbus::Error::from)?;
        zbus::connection::Builder::socket(Door::new(stream, systemd)).method_timeout(ANSWER_LIMIT).build().await
    };
    Ok(tokio::time::timeout(ANSWER_LIMIT, building).await.map_err(|_| Lost::Late)??)
}

/// The bus itself.
pub(super) async fn bus(connection: &Connection) -> zbus::Result<DBusProxy<'static>> {
    DBusProxy::builder(connection).cache_properties(CacheProperties::No).build().await
}

/// Asks the bus for what concerns all units. Gives back the unique name that systemd has now.
pub(super) async fn follow_systemd(bus: &DBusProxy<'_>) -> Result<String, Lost> {
    let owner_changed = signals().sender(BUS).member("NameOwnerChanged").arg(0, SYSTEMD);
    bus.add_match_rule(owner_changed.build()?).await?;
    for member in ["Reloading", "UnitFilesChanged"] {
        bus.add_match_rule(signals().sender(SYSTEMD).member(member).build()?).await?;
    }
    for member in ["JobNew", "JobRemoved"] {
        bus.add_match_rule(signals().sender(SYSTEMD).member(member).arg(2, SHUTDOWN).build()?).await?;
    }
    match bus.get_name_owner(SYSTEMD.try_into()?).await {
        Ok(owner) => Ok(owner.to_string()),
        Err(zbus::fdo::Error::NameHasNoOwner(_)) => Err(Lost::NoSystemd),
        Err(error) => Err(error.into()),
    }
}

fn signals() -> zbus::match_rule::Builder<'static> {
    MatchRule::builder().msg_type(Type::Signal)
}

/// Asks the bus for what systemd says of one unit and its jobs. Jobs of other units, of which a node with containers has
/// many, stay out.
pub(super) async fn follow_unit(bus: &DBusProxy<'_>, path: &str, unit: &str) -> Result<(), Lost> {
    let changed = signals().sender(SYSTEMD).path(path).member("PropertiesChanged");
    bus.add_match_rule(changed.build()?).await?;
    for member in ["JobNew", "JobRemoved"] {
        bus.add_match_rule(signals().sender(SYSTEMD).member(member).arg(2, unit).build()?).await?;
    }
    Ok(())
}

/// The end of a page unit's job: added before the unit is started, removed when it has ended.
pub(super) fn end_of(unit: &str) -> zbus::Result<MatchRule<'static>> {
    signals().sender(SYSTEMD).member("JobRemoved").arg(2, unit.to_owned()).build()
}

/// A proxy of systemd itself.
pub(super) async fn manager(connection: &Connection) -> zbus::Result<ManagerProxy<'static>> {
    ManagerProxy::builder(connection).cache_properties(CacheProperties::No).build().await
}

/// The little of a unit that shows whether all its signals have come: three small questions, asked at once.
pub(super) async fn glance(connection: Connection, path: String, unit: String) -> Result<Glance, Lost> {
    let (properties, manager) = tokio::try_join!(of_unit(&connection, path), manager(&connection))?;
    let run = async { Ok::<_, Lost>(properties.get(UNIT.try_into()?, "InvocationID").await?) };
    // systemd before 256 freezes and thaws without a signal (systemd #31115), and before 246 not at all.
    let freezer = async { Ok::<_, Lost>(properties.get(UNIT.try_into()?, "FreezerState").await.ok()) };
    let names = [unit.as_str()];
    let listed = async { Ok::<_, Lost>(manager.list_units_by_names(&names).await?) };
    let (run, freezer, listed) = tokio::try_join!(run, freezer, listed)?;
    let invocation = Vec::<u8>::try_from(run).ok().and_then(|run| InvocationId::from_slice(&run)).unwrap_or_default();
    let (_, _, _, active_state, sub_state, _, _, job, ..) = listed.into_iter().next().ok_or(Lost::NoUnit(unit))?;
    let freezer_state = freezer.and_then(|state| String::try_from(state).ok()).unwrap_or_default();
    Ok(Glance { invocation, active_state, sub_state, job, freezer_state })
}

async fn of_unit(connection: &Connection, path: String) -> zbus::Result<PropertiesProxy<'static>> {
    let unit = PropertiesProxy::builder(connection).destination(SYSTEMD).path(path);
    unit.cache_properties(CacheProperties::No).build().await
}

/// Everything that systemd says of a unit, both interfaces asked at once.
pub(super) async fn properties(connection: Connection, path: String) -> Result<Facts, Lost> {
    let unit = of_unit(&connection, path).await?;
    let of = |interface: &'static str| async { Ok::<_, Lost>(unit.get_all(interface.try_into()?).await?) };
    let (of_unit, of_service) = tokio::join!(of(UNIT), of(SERVICE));
    let mut facts = Facts::default();
    for (name, value) in of_unit?.iter().chain(&of_service?) {
        facts.set(name, value);
    }
    Ok(facts)
}
