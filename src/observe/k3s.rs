//! What an agent sees of k3s itself: one [`Look`] at a time, taken without privilege, each agent on its own. What root alone
//! may read (files, journal) it has from the [`lookout`].
//!
//! * A status code decides; a body only explains. A 401 says that somebody answers, and nothing of how well.
//! * An answer counts only from whom the pinned CA vouches for: a stranger on the port is [`Probe::Stranger`], which is not to
//!   be seen, and never a fault.
//! * What could not be looked at is `None` or [`Probe::Off`]: not being seen is not being unwell.

pub(crate) mod aside;
mod certificates;
pub mod check;
pub mod classify;
mod clock_sync;
mod endpoint;
pub mod fatal;
mod files;
pub mod history;
mod listener;
pub mod lookout;
mod mask;
mod observer;
mod probe;
pub mod reading;
mod settings;
mod stamp;
pub mod table;
mod tls;
pub mod when;
pub mod words;

pub(crate) use certificates::ends_of;
pub use files::{FileFacts, Files, is_key_or_certificate};
pub use listener::holders;
pub use observer::{Observer, UnitRun};
pub use probe::{probe_over, ready_condition};
pub use settings::{Credential, K3sSettings, Role, SettingsError};

use crate::protocol::types::{Incarnation, Timestamp};
use serde::{Deserialize, Serialize};
use std::path::PathBuf;
use std::time::Duration;

/// What one probe of a health port brought.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Probe {
    /// Not made: the role has no such port, or it is switched off.
    Off,
    /// It answered with this status. `said` is the cut body, for people.
    Status {
        /// The HTTP status.
        code: u16,
        /// What the answer said, at most [`Look::SAID_MAX`] bytes.
        said: String,
    },
    /// The port refuses connections.
    Refused,
    /// No answer within the limit, or one who is vouched for hangs up without one.
    TimedOut,
    /// Somebody answers for whom the pinned CA does not vouch, or who speaks no TLS. One whose certificate is past its time is
    /// among them; it is then among [`Look::certificates`]. In the clear and in silence: whose listening socket is not k3s'.
    Stranger,
    /// It was not made for a reason of the observer's own: no CA file, no credential, no file descriptor.
    Unable(String),
}

impl Probe {
    /// Whether it answered that all is well.
    pub fn is_ok(&self) -> bool {
        matches!(self, Self::Status { code: 200, .. })
    }

    /// Whether somebody who is vouched for answers at all.
    pub fn answers(&self) -> bool {
        matches!(self, Self::Status { .. })
    }

    /// Whether it shows that something is wrong with what was probed: a 5xx, a refusal, silence.
    pub fn fails(&self) -> bool {
        match self {
            Self::Status { code, .. } => *code >= 500,
            Self::Refused | Self::TimedOut => true,
            Self::Off | Self::Stranger | Self::Unable(_) => false,
        }
    }
}

/// A file system that k3s needs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Mount {
    /// Where.
    pub path: PathBuf,
    /// Bytes that users without privilege may still write.
    pub free_bytes: u64,
    /// Of so many.
    pub bytes: u64,
    /// Files that may still be made.
    pub free_inodes: u64,
    /// Of so many; 0 where the file system does not count.
    pub inodes: u64,
}

/// A certificate that k3s uses.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Certificate {
    /// Its file, or the port that showed it.
    pub place: String,
    /// It signs others.
    pub is_ca: bool,
    /// End of its validity, in seconds of Unix time.
    pub not_after: u64,
}

/// Everything that was seen at one moment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Look {
    /// When it was finished.
    pub at: Timestamp,
    /// The run of the unit that PID 1 showed before and after; `None` when it changed meanwhile, and the look is worth nothing.
    pub run: Option<Incarnation>,
    /// For how long the unit had been starting or running.
    pub age: Option<Duration>,
    /// `https://…:6443/ping`: the supervisor's own word.
    pub ping: Probe,
    /// `https://…:6443/livez`, without the datastore's check: whether the API server itself is alive.
    pub livez: Probe,
    /// `https://…:6443/readyz`. Its body names the checks that fail: `[-]etcd failed: …`, and so on.
    pub readyz: Probe,
    /// `http://127.0.0.1:10248/healthz`.
    pub kubelet: Probe,
    /// `http://127.0.0.1:10256/livez`.
    pub kube_proxy: Probe,
    /// The Ready condition of this node's object.
    pub node_ready: Option<bool>,
    /// What could be read of certificates.
    pub certificates: Vec<Certificate>,
    /// Files under the agent's folder that are empty and must not be.
    pub empty_files: Vec<PathBuf>,
    /// Whether that folder was read: what is not named above is then not empty, or not there.
    pub keys_seen: bool,
    /// The file systems.
    pub mounts: Vec<Mount>,
    /// Whether the kernel says that the clock is synchronised; `None`: it does not say.
    pub clock_synchronised: Option<bool>,
    /// Seconds of Unix time, to hold certificates against.
    pub unix: u64,
    /// The last line of the unit's journal that it called fatal, of this run or an earlier one: only
    /// [`history::History::last_words`] says whether it counts.
    pub fatal: Option<fatal::Fatal>,
    /// API servers of other nodes: how many answered or failed, and how many of them fail. They are asked only after a look at
    /// which a probe of this node failed: else there are none.
    pub others: (u32, u32),
}

impl Look {
    /// Most bytes of an answer that are kept.
    pub const SAID_MAX: usize = 2048;
}

#[cfg(test)]
mod tests;
