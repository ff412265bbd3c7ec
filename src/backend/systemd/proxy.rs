//! The few calls that are made of systemd (`org.freedesktop.systemd1(5)`).

use zbus::OwnedObjectPath;
use zbus::proxy;

/// Its well-known name.
pub(super) const SYSTEMD: &str = "org.freedesktop.systemd1";
/// The interface of every unit.
pub(super) const UNIT: &str = "org.freedesktop.systemd1.Unit";
/// The interface of services.
pub(super) const SERVICE: &str = "org.freedesktop.systemd1.Service";
/// A job that conflicts with one that is queued is refused: never are an operator's jobs replaced.
pub(super) const FAIL: &str = "fail";

/// A unit as `ListUnitsByNames` lists it: name, description, load state, active state, sub-state, the unit it follows, its
/// object, and its job's number (0: none), type and object.
pub(super) type Listed =
    (String, String, String, String, String, String, OwnedObjectPath, u32, String, OwnedObjectPath);

#[proxy(
    interface = "org.freedesktop.systemd1.Manager",
    default_service = "org.freedesktop.systemd1",
    default_path = "/org/freedesktop/systemd1"
)]
pub(super) trait Manager {
    /// Without it no signals are sent.
    fn subscribe(&self) -> zbus::Result<()>;
    fn load_unit(&self, name: &str) -> zbus::Result<OwnedObjectPath>;
    #[zbus(name = "GetUnitByPID")]
    fn get_unit_by_pid(&self, pid: u32) -> zbus::Result<OwnedObjectPath>;
    fn list_units_by_names(&self, names: &[&str]) -> zbus::Result<Vec<Listed>>;
    fn start_unit(&self, name: &str, mode: &str) -> zbus::Result<OwnedObjectPath>;
    fn stop_unit(&self, name: &str, mode: &str) -> zbus::Result<OwnedObjectPath>;
    fn restart_unit(&self, name: &str, mode: &str) -> zbus::Result<OwnedObjectPath>;
    fn kill_unit(&self, name: &str, who: &str, signal: i32) -> zbus::Result<()>;
    fn reset_failed_unit(&self, name: &str) -> zbus::Result<()>;
    #[zbus(property(emits_changed_signal = "false"))]
    fn system_state(&self) -> zbus::Result<String>;
}
