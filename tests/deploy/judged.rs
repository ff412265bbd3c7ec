//! What systemd's own tools say of the units.

use crate::shipped::{are_installed, deploy, run, text};
use crate::unit::Unit;
use std::process::Command;

/// Exposure of the worst unit of its kind, times ten: `systemd-analyze security` of systemd 252 says 0.7, 1.1, 1.1, 1.5, 1.3
/// and 2.8.
const EXPOSURE: [(&str, u32); 6] = [
    ("zeta-bft-warden.service", 8),
    ("zeta-bft-hand.service", 12),
    ("zeta-bft-lookout.service", 12),
    ("zeta-bft-agent@.service", 25),
    ("zeta-bft-page@.service", 15),
    ("zeta-bft-rung@.service", 30),
];

#[test]
fn systemd_finds_nothing_wrong_with_the_units_and_little_exposed() {
    if !are_installed(&["systemd-analyze"]) {
        return;
    }
    // Verified below a folder of their own, with the command that they start, so that nothing of this machine counts.
    let root = tempfile::tempdir().unwrap();
    let units = root.path().join("usr/lib/systemd/system");
    let bin = root.path().join("usr/bin");
    std::fs::create_dir_all(&units).unwrap();
    std::fs::create_dir_all(&bin).unwrap();
    std::fs::create_dir_all(root.path().join("bin")).unwrap();
    for command in ["usr/bin/zeta-bft", "bin/mount", "bin/rmdir"] {
        std::fs::copy("/bin/true", root.path().join(command)).unwrap();
    }
    for name in [
        "sysinit.target",
        "basic.target",
        "shutdown.target",
        "sockets.target",
        "multi-user.target",
        "dbus.socket",
        "tmp.mount",
        "umount.target",
    ] {
        let more = if name == "dbus.socket" {
            "[Socket]\nListenStream=/run/dbus/system_bus_socket\nService=dbus.service\n"
        } else {
            ""
        };
        std::fs::write(units.join(name), format!("[Unit]\nDescription={name}\n{more}")).unwrap();
    }
    std::fs::write(units.join("dbus.service"), "[Service]\nExecStart=/usr/bin/zeta-bft\n").unwrap();
    let mut names = Vec::new();
    for unit in Unit::all() {
        std::fs::copy(deploy("systemd").join(&unit.name), units.join(&unit.name)).unwrap();
        names.push(unit.name.replace("@.", "@otto."));
    }
    let verified =
        run(Command::new("systemd-analyze").arg("verify").arg("--man=no").arg("--root").arg(root.path()).args(&names));
    let said = text(&verified.stderr);
    let ours: Vec<_> = said.lines().filter(|line| line.contains("zeta")).collect();
    assert!(verified.status.success() && ours.is_empty(), "{said}");

    for (unit, most) in EXPOSURE {
        let mut command = Command::new("systemd-analyze");
        command.args(["security", "--offline=yes", "--no-pager"]).arg(format!("--threshold={most}"));
        let judged = run(command.arg(deploy("systemd").join(unit)));
        assert!(
            judged.status.success(),
            "{unit} is more exposed than {most}/10:\n{}{}",
            text(&judged.stdout),
            text(&judged.stderr)
        );
    }
}
