//! Whether the kernel calls the clock synchronised, by `timedate1` of systemd.
//!
//! `adjtimex(2)` itself is out of reach: no safe wrapper that this program builds on has it, and the units' system call filter
//! takes the clock's calls away. `timedate1` asks it for anybody, whoever synchronises: timesyncd, chrony or ntpd. The mark
//! of timesyncd below `/run` says nothing of the others and stays when the clock drifts off.
//!
//! Asking starts a service that ends by itself half a minute later: it is asked rarely, on a connection of its own.

use crate::clock;
use crate::protocol::types::Timestamp;
use std::time::Duration;
use tokio::task::JoinHandle;
use zbus::Variant;
use zbus::fdo::PropertiesProxy;
use zbus::proxy::CacheProperties;

/// From one question to the next.
const EVERY: Duration = Duration::from_mins(5);
/// An answer counts no longer than this.
const KEPT: Duration = Duration::from_mins(12);
/// Longest wait for an answer. The service may have to be started.
const LIMIT: Duration = Duration::from_secs(10);

/// Asks now and then, beside everything else.
#[derive(Default)]
pub(super) struct ClockQuestion {
    asked: Option<Timestamp>,
    asking: Option<JoinHandle<Option<bool>>>,
    answer: Option<(Timestamp, bool)>,
}

impl Drop for ClockQuestion {
    fn drop(&mut self) {
        if let Some(asking) = &self.asking {
            asking.abort();
        }
    }
}

impl ClockQuestion {
    /// What was answered last, and asks again when it is time. Never waits for the answer.
    pub(super) async fn synchronised(&mut self) -> Option<bool> {
        let now = clock::now();
        if let Some(asking) = self.asking.take_if(|asking| asking.is_finished())
            && let Ok(Some(answer)) = asking.await
        {
            self.answer = Some((now, answer));
        }
        if self.asking.is_none() && self.asked.is_none_or(|asked| now.saturating_since(asked) >= EVERY) {
            self.asked = Some(now);
            self.asking = Some(tokio::spawn(async { tokio::time::timeout(LIMIT, ask()).await.ok()?.ok()? }));
        }
        self.answer.filter(|(at, _)| now.saturating_since(*at) <= KEPT).map(|(_, answer)| answer)
    }
}

async fn ask() -> zbus::Result<Option<bool>> {
    const TIMEDATE: &str = "org.freedesktop.timedate1";
    let bus = zbus::connection::Builder::system().method_timeout(LIMIT).build().await?;
    let properties = PropertiesProxy::builder(&bus).destination(TIMEDATE).path("/org/freedesktop/timedate1");
    let properties = properties.cache_properties(CacheProperties::No).build().await?;
    let value = properties.get(TIMEDATE.try_into()?, "NTPSynchronized").await?;
    Ok(if let Variant::Bool(synchronised) = *value { Some(synchronised) } else { None })
}
