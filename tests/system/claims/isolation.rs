//! Who may do what.

use crate::lab::Unfit;
use crate::node::{Config, Node, PERSONAS};
use crate::stage::Stage;

super::claims! {
    a_guardian_reads_no_key_traces_nobody_and_signals_nobody,
    a_persona_restarts_no_unit_and_kills_no_other_wrapper,
    a_forged_signal_on_the_bus_moves_nothing,
    the_wardens_user_may_start_pages_and_act_on_no_unit,
    the_warden_has_no_network_and_its_scrape_port_comes_from_systemd,
    the_units_are_as_closed_as_stated,
    an_ai_that_uses_up_run_stops_no_repair_of_another,
    a_room_is_neither_made_nor_taken_away_while_its_daemon_runs,
    a_shared_user_is_refused_and_where_allowed_isolation_is_off,
}

const SLEEPER: &str = "[Service]\nExecStart=/bin/sleep infinity\n";

fn a_guardian_reads_no_key_traces_nobody_and_signals_nobody(stage: &'static Stage) -> Result<(), Unfit> {
    let node = Node::healthy_with(stage, &Config::acting())?;
    let user = "zeta-bft-lior";
    let all = ["zeta-bft-warden", "zeta-bft-agent@otto", "zeta-bft-agent@vera", "zeta-otto", "zeta-vera", "zeta-lior"];
    for key in ["otto", "lior", "vera", "warden", "operator"] {
        let path = format!("/etc/zeta-bft/keys/{key}.pem");
        assert!(!node.exec_as(user, &["cat", &path]).ok(), "{user} reads {path}");
    }
    for unit in all {
        let unit = format!("{unit}.service");
        let before = node.unit(&unit);
        let pid = before.pid();
        for signal in ["KILL", "STOP", "0"] {
            assert!(!node.exec_as(user, &["kill", "-s", signal, pid]).ok(), "{user} signals {unit}");
        }
        // What ptrace(2) may do is what opening these may.
        for file in ["mem", "environ", "root/etc/hostname", "fd/0"] {
            assert!(
                !node.exec_as(user, &["head", "-c1", &format!("/proc/{pid}/{file}")]).ok(),
                "{user} sees {file} of {unit}"
            );
        }
        let credentials = format!("/run/credentials/{unit}/key");
        assert!(
            !node.exec_as(user, &["cat", &credentials]).ok() || unit.contains("lior"),
            "{user} reads {credentials}"
        );
        assert_eq!(node.unit(&unit).run(), before.run());
    }
    assert!(!node.exec_as(user, &["ls", "/var/lib/zeta-bft/warden"]).ok());
    assert!(!node.exec_as(user, &["systemctl", "restart", "zeta-otto.service"]).ok(), "{user} acts through PID 1");
    Ok(())
}

fn a_persona_restarts_no_unit_and_kills_no_other_wrapper(stage: &'static Stage) -> Result<(), Unfit> {
    let node = Node::healthy_with(stage, &Config::acting())?;
    let user = "zeta-otto";
    for unit in ["zeta-lior.service", "zeta-bft-agent@otto.service", "zeta-bft-warden.service", "zeta-otto.service"] {
        for verb in ["restart", "stop", "kill"] {
            assert!(
                !node.exec_as(user, &["systemctl", "--no-ask-password", verb, unit]).ok(),
                "{user} may {verb} {unit}"
            );
        }
        if unit != "zeta-otto.service" {
            let pid = node.unit(unit).pid().to_owned();
            assert!(!node.exec_as(user, &["kill", "-9", &pid]).ok(), "{user} kills {unit}");
        }
    }
    assert!(!node.exec_as(user, &["sh", "-c", "echo >/etc/zeta-bft/node.toml"]).ok());
    assert!(!node.exec_as(user, &["cat", "/etc/zeta-bft/keys/otto.pem"]).ok());
    for (persona, other) in [("otto", "lior"), ("lior", "vera")] {
        let home = format!("/var/lib/zeta/{other}");
        assert!(!node.exec_as(&format!("zeta-{persona}"), &["ls", &home]).ok(), "{persona} looks into {home}");
    }
    let hold = node.exec_as(user, &["zeta-bft", "hold", "--all", "--reason", "mine"]);
    assert!(!hold.ok(), "{hold}");
    Ok(())
}

fn a_forged_signal_on_the_bus_moves_nothing(stage: &'static Stage) -> Result<(), Unfit> {
    let node = Node::healthy_with(stage, &Config::acting().service("worker", SLEEPER, ""))?;
    let before = node.unit("worker.service");
    let listeners = node.sh("busctl list --no-legend | awk '$3 == \"zeta-bft\" {print $1}'");
    let listeners: Vec<_> = listeners.expect_ok().lines().collect();
    assert!(listeners.len() >= 5, "the warden, the hand and three agents are on the bus: {listeners:?}");
    let forged = "/org/freedesktop/systemd1/unit/worker_2eservice org.freedesktop.DBus.Properties PropertiesChanged sa{sv}as \
                  org.freedesktop.systemd1.Unit 2 ActiveState s failed SubState s failed 0";
    for listener in &listeners {
        let to = format!("--destination={listener}");
        let words: Vec<_> = ["busctl", "--system", "emit", to.as_str()].into_iter().chain(forged.split(' ')).collect();
        node.exec_as("zeta-lior", &words).expect_ok();
    }
    let heard = || node.ask(&["journalctl", "-o", "cat", "-u", "zeta-bft-*"]);
    let refused = "a signal that systemd did not send";
    node.await_until("every listener refuses it", || heard().matches(refused).count() >= listeners.len());
    assert_eq!(node.state("worker"), "healthy");
    assert_eq!(node.unit("worker.service").run(), before.run());
    assert_eq!(node.intents("worker"), 0);
    Ok(())
}

/// A call of PID 1's manager over the bus, as the warden's user.
fn manager(node: &Node, method: &str, signature: &str, words: &[&str]) -> bool {
    let manager = ["org.freedesktop.systemd1", "/org/freedesktop/systemd1", "org.freedesktop.systemd1.Manager"];
    let call = [&["busctl", "call"], &manager[..], &[method, signature], words].concat();
    node.exec_as("zeta-bft-warden", &call).ok()
}

fn the_wardens_user_may_start_pages_and_act_on_no_unit(stage: &'static Stage) -> Result<(), Unfit> {
    let run = "[[subjects.worker.ladder]]\naction = \"run\"\nargv = [\"/bin/true\"]\n";
    let node = Node::healthy_with(stage, &Config::acting().service("worker", SLEEPER, run))?;
    node.sh("systemd-run --unit=stranger sleep infinity").expect_ok();
    let units = ["worker.service", "zeta-otto.service", "stranger.service", "dbus.service", "zeta-bft-hand.service"];
    let before = units.map(|unit| node.unit(unit).run().to_owned());
    for unit in units {
        for (method, signature, rest) in [
            ("StartUnit", "ss", &["fail"][..]),
            ("RestartUnit", "ss", &["fail"]),
            ("StopUnit", "ss", &["fail"]),
            ("KillUnit", "ssi", &["main", "9"]),
            ("ResetFailedUnit", "s", &[]),
        ] {
            assert!(!manager(&node, method, signature, &[&[unit], rest].concat()), "{method} of {unit}");
        }
    }
    for unit in ["zeta-bft-rung@worker-0.service", "zeta-bft-page@x.service", "zeta-bft-page@1.timer"] {
        assert!(!manager(&node, "StartUnit", "ss", &[unit, "fail"]), "start of {unit}");
    }
    let page = "zeta-bft-page@1234567.service";
    assert!(
        !manager(&node, "StopUnit", "ss", &[page, "fail"]) && !manager(&node, "RestartUnit", "ss", &[page, "fail"])
    );
    assert!(manager(&node, "StartUnit", "ss", &[page, "fail"]), "the warden cannot call anybody");
    assert_eq!(units.map(|unit| node.unit(unit).run().to_owned()), before);
    let transient = ["evil.service", "fail", "1", "Description", "s", "evil", "0"];
    assert!(!manager(&node, "StartTransientUnit", "ssa(sv)a(sa(sv))", &transient), "it makes units of its own");
    assert!(!manager(&node, "EnableUnitFiles", "asbb", &["1", "worker.service", "false", "true"]));
    assert!(!manager(&node, "Reload", "", &[]));
    assert!(!manager(&node, "PowerOff", "", &[]));
    let set = ["worker.service", "true", "1", "Description", "s", "mine"];
    assert!(!manager(&node, "SetUnitProperties", "sba(sv)", &set));
    Ok(())
}

fn the_warden_has_no_network_and_its_scrape_port_comes_from_systemd(stage: &'static Stage) -> Result<(), Unfit> {
    let node = Node::healthy_with(stage, &Config::acting())?;
    let pid = node.unit("zeta-bft-warden.service").pid().to_owned();
    let links = node.ask(&["nsenter", "-t", &pid, "-n", "ip", "-oneline", "link"]);
    assert!(links.lines().count() <= 3 && !links.contains("UP,LOWER_UP> mtu 1500"), "{links}");
    let space = |pid: &str| node.ask(&["readlink", &format!("/proc/{pid}/ns/net")]);
    assert_ne!(space(&pid), space("1"), "the warden is in the node's network");
    let metrics = node.ask(&["curl", "-sf", "http://127.0.0.1:9464/metrics"]);
    assert!(metrics.contains("zeta_bft_build_info"), "{metrics}");
    assert!(node.exec(&["curl", "-sf", "http://127.0.0.1:9464/livez"]).ok());
    let owner = node.ask(&["ss", "-Hltnp", "sport = 9464"]);
    assert!(owner.contains("systemd"), "{owner}");
    let status = node.ask(&["cat", &format!("/proc/{pid}/status")]);
    let capabilities = |kind: &str| status.lines().find(|line| line.starts_with(kind)).unwrap_or_default().to_owned();
    assert!(capabilities("CapEff").ends_with("0000000000000000"), "{status}");
    assert!(capabilities("CapBnd").ends_with("0000000000000000"), "{status}");
    assert!(!status.lines().any(|line| line.starts_with("Uid:\t0")), "{status}");
    Ok(())
}

/// What `systemd-analyze security` may at most say, in tenths: as docs/operations.md states it. The agent needs /proc of others
/// and loopback.
const EXPOSURE: [(&str, u32); 5] = [
    ("zeta-bft-warden.service", 5),
    ("zeta-bft-hand.service", 9),
    ("zeta-bft-agent@otto.service", 13),
    ("zeta-bft-page@1.service", 11),
    ("zeta-bft-rung@otto-0.service", 27),
];

fn the_units_are_as_closed_as_stated(stage: &'static Stage) -> Result<(), Unfit> {
    let machine = stage.with_committee()?;
    machine.boot()?;
    for (unit, most) in EXPOSURE {
        let said = machine.exec(&["systemd-analyze", "security", "--no-pager", unit]);
        let line = said.expect_ok().lines().last().unwrap_or_default().to_owned();
        let level = line
            .split("level for")
            .nth(1)
            .and_then(|rest| rest.split(": ").nth(1)?.split(' ').next()?.parse::<f64>().ok());
        let level = level.unwrap_or_else(|| panic!("{line}"));
        println!("systemd-analyze security {unit}: {level}");
        assert!(level * 10.0 <= f64::from(most), "{unit}: {level}");
    }
    let verify = machine.exec(&["sh", "-c", "systemd-analyze verify --man=no /lib/systemd/system/zeta*"]);
    assert_eq!((verify.code, &*verify.err), (0, ""), "{verify}");
    Ok(())
}

fn an_ai_that_uses_up_run_stops_no_repair_of_another(stage: &'static Stage) -> Result<(), Unfit> {
    let node = Node::healthy_with(stage, &Config::acting())?;
    // A smaller one is used up sooner.
    node.ask(&["mount", "-o", "remount,size=64M,nr_inodes=20000", "/run"]);
    // To a tmpfs each name is an inode. Whatever comes free is taken: names first, then bytes.
    let greedy = "chdir shift; $| = 1; open F, q(>), q(x); while (1) { $n++ while link q(x), qq(y$n); \
                  1 while syswrite F, q(.) x 65536; print qq($n\\n); select undef, undef, undef, 0.001 }";
    for (user, folder) in [("zeta-lior", "wrap-lior"), ("zeta-bft-lior", "agent-lior")] {
        let command = format!("setsid setpriv --reuid={user} --regid={user} --clear-groups perl -e '{greedy}'");
        node.sh(&format!("{command} /run/zeta-bft/{folder} </dev/null >/root/{user} 2>&1 &")).expect_ok();
        node.await_until("all that it gets is taken", || node.sh(&format!("test $(wc -l </root/{user}) -gt 2")).ok());
        println!("{user}: {} names", node.ask(&["tail", "-n1", &format!("/root/{user}")]));
    }
    for unit in ["zeta-otto.service", "zeta-bft-agent@vera.service", "zeta-bft-hand.service", "zeta-bft-warden.service"]
    {
        let old = node.unit(unit);
        node.signal(unit, "KILL");
        node.await_replaced(unit, &old);
    }
    // Nor does it keep itself from being repaired: what it left goes with its run.
    for unit in ["zeta-lior.service", "zeta-bft-agent@lior.service"] {
        let old = node.unit(unit);
        node.signal(unit, "KILL");
        node.await_replaced(unit, &old);
    }
    node.await_healthy();
    Ok(())
}

fn a_room_is_neither_made_nor_taken_away_while_its_daemon_runs(stage: &'static Stage) -> Result<(), Unfit> {
    let node = Node::healthy_with(stage, &Config::acting())?;
    let is_room = |folder: &str| node.exec(&["mountpoint", "-q", &format!("/run/zeta-bft/{folder}")]).ok();
    for folder in ["wrap-otto", "agent-otto"] {
        assert!(is_room(folder), "{folder}");
        let stopped = node.exec(&["systemctl", "stop", &format!("zeta-bft-room@{folder}.service")]);
        assert!(is_room(folder), "{folder}: {stopped}");
    }
    // As after an upgrade from a package without rooms: whatever starts what runs already starts its room, too.
    let before = node.unit("zeta-otto.service");
    node.ask(&["systemctl", "stop", "zeta-otto.service"]);
    node.ask(&["systemctl", "stop", "zeta-bft-room@wrap-otto.service"]);
    node.sh(
        "umount /run/zeta-bft/wrap-otto; rmdir /run/zeta-bft/wrap-otto; systemctl mask zeta-bft-room@wrap-otto.service",
    );
    node.ask(&["systemctl", "start", "zeta-otto.service"]);
    let old = node.await_replaced("zeta-otto.service", &before);
    node.ask(&["systemctl", "unmask", "zeta-bft-room@wrap-otto.service"]);
    assert!(!is_room("wrap-otto"));
    for unit in ["zeta-otto.service", "zeta-bft.target", "zeta-bft-room@wrap-otto.service"] {
        node.ask(&["systemctl", "start", unit]);
    }
    assert!(!is_room("wrap-otto"), "its socket is hidden");
    let doctor = node.exec(&["zeta-bft", "doctor"]);
    assert_eq!(doctor.out.matches("no file system of its own").count(), 1, "{doctor}");
    node.await_healthy();
    node.signal("zeta-otto.service", "KILL");
    node.await_replaced("zeta-otto.service", &old);
    assert!(is_room("wrap-otto"), "a new run gets its room");
    node.await_healthy();
    Ok(())
}

fn a_shared_user_is_refused_and_where_allowed_isolation_is_off(stage: &'static Stage) -> Result<(), Unfit> {
    let shared = PERSONAS.map(|persona| format!("[personas.{persona}]\nuser = \"zeta-otto\"\n")).concat();
    let machine = stage.with_committee()?;
    machine.prepare("/etc/zeta-bft/conf.d/60-shared.toml", &shared)?;
    let dropin = "[Service]\nUser=zeta-otto\nWorkingDirectory=/\n";
    for persona in ["lior", "vera"] {
        machine.prepare(&format!("/etc/systemd/system/zeta-{persona}.service.d/shared.conf"), dropin)?;
    }
    machine.boot()?;
    let node = Node::on(machine);
    let refused = node.exec(&["zeta-bft", "check-config"]);
    assert!(!refused.ok() && refused.err.contains("allow_shared_uid"), "{refused}");
    node.sh("sed -i '1i allow_shared_uid = true' /etc/zeta-bft/conf.d/60-shared.toml").expect_ok();
    node.ask(&["systemctl", "enable", "--now", "zeta-bft.target"]);
    node.await_until("three vendors", || node.quorum().view["vendors_live"] == 3);
    let quorum = node.quorum();
    assert_eq!(quorum.view["isolation"], false);
    assert!(quorum.notes().contains("isolation"), "{}", quorum.notes());
    let doctor = node.exec(&["zeta-bft", "doctor"]);
    assert!(doctor.out.contains("isolation"), "{doctor}");
    let metrics = node.ask(&["curl", "-sf", "http://127.0.0.1:9464/metrics"]);
    assert!(metrics.contains("isolation"), "{metrics}");
    Ok(())
}
