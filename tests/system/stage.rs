//! What every claim starts from.

use super::lab::{Lab, Layer, Unfit};

/// What a plain Debian 12 node has: systemd, a bus, polkit, and programs to look around with.
const PACKAGES: [&str; 10] = [
    "systemd",
    "systemd-sysv",
    "dbus",
    "polkitd",
    "libpam-systemd",
    "libnss-systemd",
    "iproute2",
    "procps",
    "curl",
    "adduser",
];

/// The lab, with its layers.
#[derive(Debug)]
pub struct Stage {
    pub lab: Lab,
    /// A plain Debian.
    pub debian: Layer,
}

impl Stage {
    /// Makes the layers.
    ///
    /// # Errors
    /// [`Unfit`], with the lab cleared away.
    pub fn set(lab: Lab) -> Result<Self, Unfit> {
        match lab.debian(&PACKAGES) {
            Ok(debian) => Ok(Self { lab, debian }),
            Err(unfit) => {
                lab.close();
                Err(unfit)
            }
        }
    }
}
