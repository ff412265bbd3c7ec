//! The least that can be done over D-Bus: PID 1's signal, one call, no second look.

use tokio_stream::StreamExt as _;
use zbus::{Connection, MatchRule, MessageStream, Variant};

const SYSTEMD: &str = "org.freedesktop.systemd1";
const MANAGER: &str = "org.freedesktop.systemd1.Manager";
const ROOT: &str = "/org/freedesktop/systemd1";

/// Restarts a unit whenever it fails, for ever.
pub fn run(unit: &str) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    runtime.block_on(watch(unit)).expect("the bus stays");
}

async fn watch(unit: &str) -> zbus::Result<()> {
    let bus = Connection::system().await?;
    bus.call_method(Some(SYSTEMD), ROOT, Some(MANAGER), "Subscribe", &()).await?;
    let loaded = bus.call_method(Some(SYSTEMD), ROOT, Some(MANAGER), "LoadUnit", &(unit,)).await?;
    let path: zbus::OwnedObjectPath = loaded.body().deserialize()?;
    let rule = MatchRule::builder()
        .msg_type(zbus::message::Type::Signal)
        .sender(SYSTEMD)
        .path(path.as_str())
        .member("PropertiesChanged")
        .build()?;
    let mut changes = MessageStream::for_match_rule(rule, &bus, None).await?;
    while let Some(change) = changes.next().await {
        let change = change?;
        let body = change.body();
        let (_, changed, _): (&str, std::collections::BTreeMap<&str, Variant<'_>>, Vec<&str>) = body.deserialize()?;
        let failed = matches!(changed.get("ActiveState"), Some(Variant::Str(state)) if state.as_str() == "failed");
        if failed {
            bus.call_method(Some(SYSTEMD), ROOT, Some(MANAGER), "RestartUnit", &(unit, "replace")).await?;
        }
    }
    Ok(())
}
