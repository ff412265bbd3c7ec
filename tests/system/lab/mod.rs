//! Real Debian machines for tests: systemd as PID 1 in `systemd-nspawn`, booted in about a second.
//!
//! * A machine has its own processes, users, mounts and network; its network has `lo` and nothing else: there is no way out.
//! * Its disk is an overlay over a base that `debootstrap` makes once and [`Lab::open`]'s cache folder keeps.
//! * [`Machine::kill`] is a power loss as far as processes go (page cache and clock are the host's and go on);
//!   [`Machine::freeze`] is a stalled virtual machine.
//! * Everything of one run lies in one folder under a lock. [`Lab::close`] removes it; what a run that died could not remove,
//!   the next [`Lab::open`] does: processes by their cgroup, network namespaces and folders by the run's name.
//!
//! Where the host has cgroup v1 or both, a machine still gets a cgroup v2 tree, but without controllers: `MemoryMax=` and
//! `CPUQuota=` are accepted there and do nothing.

mod command;
mod host;
mod image;
mod machine;

pub use command::{Done, await_true, run};
pub use host::Lab;
pub use image::Layer;
pub use machine::Machine;

/// Why there are no machines here.
#[derive(Clone, Debug, thiserror::Error)]
pub enum Unfit {
    /// This is no place for them: not root, not Debian.
    #[error("{0}")]
    NotHere(String),
    /// Something could not be fetched.
    #[error("{0}")]
    NotFetched(String),
    /// It should have worked.
    #[error("{0}")]
    Broken(String),
}

impl From<std::io::Error> for Unfit {
    fn from(error: std::io::Error) -> Self {
        Self::Broken(error.to_string())
    }
}
