//! The cast of the tests: the warden, and otto with its agent, each as a user of its own.

use super::{Cast, Role};
use crate::protocol::types::PersonaId;

/// They and root, as `/etc/passwd` has them.
pub(crate) const PASSWD: &str = "root:x:0:0\nzeta-bft-warden:x:900:900\nzeta-bft-otto:x:901:901\nzeta-otto:x:902:902\n";

pub(crate) fn cast() -> Cast {
    let otto = PersonaId::new("otto").unwrap();
    let names = [
        (Role::Warden, "zeta-bft-warden"),
        (Role::Agent(otto.clone()), "zeta-bft-otto"),
        (Role::Wrapper(otto), "zeta-otto"),
    ];
    Cast { names: names.map(|(role, name)| (role, name.to_owned())).into() }
}
