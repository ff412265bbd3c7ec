//! What the other claims rest on: that a machine is one.

use crate::lab::{Unfit, await_true};
use crate::stage::Stage;
use std::fs;
use std::time::Duration;

super::claims! {
    a_machine_boots_debian_with_systemd_and_no_way_out,
    a_killed_machine_boots_again_with_its_disk,
    a_frozen_machine_goes_on_where_it_stood,
    a_machines_disk_becomes_a_layer_for_others,
}

fn a_machine_boots_debian_with_systemd_and_no_way_out(stage: &'static Stage) -> Result<(), Unfit> {
    let machine = stage.lab.machine("plain", &[&stage.debian])?;
    machine.boot()?;
    assert_eq!(machine.exec(&["systemctl", "is-system-running"]).expect_ok(), "running");
    assert_eq!(machine.exec(&["sh", "-c", ". /etc/os-release; echo $VERSION_ID"]).expect_ok(), "12");
    assert_eq!(machine.exec(&["ps", "-o", "comm=", "1"]).expect_ok(), "systemd");
    let links = machine.exec(&["ip", "-oneline", "link", "show", "up"]).expect_ok().to_owned();
    assert!(links.lines().count() == 1 && links.contains(": lo:"), "{links}");
    assert_eq!(machine.exec(&["ip", "route"]).expect_ok(), "");
    assert_eq!(machine.exec(&["sh", "-c", "exit 3"]).code, 3);
    assert_eq!(machine.exec_within(Duration::from_millis(200), &["sleep", "60"]).code, 124);
    machine.exec(&["systemd-run", "--wait", "--quiet", "true"]).expect_ok();
    Ok(())
}

fn a_killed_machine_boots_again_with_its_disk(stage: &'static Stage) -> Result<(), Unfit> {
    let machine = stage.lab.machine("killed", &[&stage.debian])?;
    machine.prepare("/etc/before", "the first boot")?;
    machine.boot()?;
    let boot_id = |text: &str| machine.exec(&["cat", text]).expect_ok().to_owned();
    let first = boot_id("/proc/sys/kernel/random/boot_id");
    assert_eq!(machine.exec(&["cat", "/etc/before"]).expect_ok(), "the first boot");
    fs::write(machine.file("/var/lib/kept"), "kept")?;
    machine.kill();
    assert!(machine.leader().is_none());
    machine.boot()?;
    assert_eq!(machine.exec(&["cat", "/var/lib/kept"]).expect_ok(), "kept");
    assert_ne!(boot_id("/proc/sys/kernel/random/boot_id"), first);
    Ok(())
}

fn a_frozen_machine_goes_on_where_it_stood(stage: &'static Stage) -> Result<(), Unfit> {
    let machine = stage.lab.machine("frozen", &[&stage.debian])?;
    machine.boot()?;
    let counter = "while :; do echo >>/run/count; sleep 0.02; done";
    machine.exec(&["systemd-run", "--quiet", "--unit=counter", "sh", "-c", counter]).expect_ok();
    let count = machine.file("/run/count");
    let counted = || fs::metadata(&count).map_or(0, |file| file.len());
    let patience = Duration::from_secs(30);
    assert!(await_true(patience, || counted() > 3));
    machine.freeze();
    let stood = counted();
    assert!(!await_true(Duration::from_millis(300), || counted() != stood), "it counts though frozen");
    machine.thaw();
    assert!(await_true(patience, || counted() > stood + 3));
    machine.freeze();
    machine.kill();
    Ok(())
}

fn a_machines_disk_becomes_a_layer_for_others(stage: &'static Stage) -> Result<(), Unfit> {
    let first = stage.lab.machine("first", &[&stage.debian])?;
    first.boot()?;
    let identity = first.exec(&["cat", "/etc/machine-id"]).expect_ok().to_owned();
    first.exec(&["sh", "-c", "echo here >/var/lib/left; rm /etc/issue"]).expect_ok();
    let left = first.into_layer()?;
    let second = stage.lab.machine("second", &[&left, &stage.debian])?;
    second.boot()?;
    assert_eq!(second.exec(&["cat", "/var/lib/left"]).expect_ok(), "here");
    assert!(!second.exec(&["test", "-e", "/etc/issue"]).ok());
    assert_eq!(second.exec(&["hostname"]).expect_ok(), "second");
    assert_ne!(second.exec(&["cat", "/etc/machine-id"]).expect_ok(), identity);
    Ok(())
}
