//! The observer against real TLS and plain servers on loopback, friendly and not.

pub(super) mod authority;
mod cost;
mod looks;
mod server;
mod trust;
mod unfriendly;

use super::endpoint::Endpoint;
use super::tls::{Identity, Pins};
use super::{Credential, K3sSettings, Probe, Role, probe};
use authority::Authority;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

/// Long enough that only silence reaches it.
const PATIENT: Duration = Duration::from_secs(10);
/// Short enough to wait for.
const SHORT: Duration = Duration::from_millis(400);

fn me() -> u32 {
    rustix::process::getuid().as_raw()
}

/// A folder with a CA file, and settings that name it.
struct Place {
    dir: tempfile::TempDir,
    settings: K3sSettings,
}

impl Place {
    fn of(authority: &Authority) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let mut settings = K3sSettings::new(Role::Server);
        settings.ca = dir.path().join("ca.crt");
        settings.agent_folder = dir.path().to_owned();
        settings.mounts = vec![dir.path().to_owned()];
        settings.listener_uid = Some(me());
        settings.kubelet = None;
        settings.kube_proxy = None;
        settings.clock = false;
        let place = Self { dir, settings };
        place.write("ca.crt", &authority.pem);
        place
    }

    /// Puts a file in place as a careful program does.
    fn write(&self, name: &str, text: &str) -> std::path::PathBuf {
        let (new, path) = (self.dir.path().join("new"), self.dir.path().join(name));
        std::fs::write(&new, text).unwrap();
        std::fs::rename(&new, &path).unwrap();
        path
    }

    fn with(mut self, credential: Credential) -> Self {
        self.settings.credential = credential;
        self
    }

    fn identity(&self) -> Result<Arc<Identity>, String> {
        Pins::new(&self.settings).refresh()
    }
}

fn endpoint(address: SocketAddr) -> Endpoint {
    Endpoint::new(address, Some(me()), PATIENT)
}

fn status(code: u16, said: &str) -> Probe {
    Probe::Status { code, said: said.to_owned() }
}

async fn livez(endpoint: &Endpoint, place: &Place, limit: Duration) -> Probe {
    probe::https(endpoint, &place.identity(), "/livez", limit).await
}
