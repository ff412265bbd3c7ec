//! The units' bonds and sandboxes, and the users that they run as.

use crate::shipped::{read, words};
use crate::unit::Unit;
use std::collections::BTreeSet;

const PERSONAS: [&str; 5] = ["otto", "lior", "vera", "alexa", "riven"];
fn guardians() -> [Unit; 2] {
    ["zeta-bft-warden.service", "zeta-bft-agent@.service"].map(Unit::read)
}

fn personas() -> impl Iterator<Item = (&'static str, Unit)> {
    PERSONAS.into_iter().map(|persona| (persona, Unit::read(&format!("zeta-{persona}.service"))))
}

#[test]
fn no_unit_of_ours_waits_for_needs_or_dies_with_k3s_the_network_or_a_vendor() {
    const BONDS: &[&str] = &[
        "After",
        "Before",
        "Requires",
        "Requisite",
        "BindsTo",
        "Wants",
        "PartOf",
        "Upholds",
        "Conflicts",
        "OnFailure",
        "OnSuccess",
        "StopPropagatedFrom",
        "PropagatesStopTo",
        "ReloadPropagatedFrom",
        "PropagatesReloadTo",
        "JoinsNamespaceOf",
        "RequiresMountsFor",
        "WantedBy",
        "RequiredBy",
        "Also",
        "Sockets",
        "Alias",
    ];
    const ALLOWED: &[&str] = &[
        "zeta-bft.target",
        "zeta-bft-hand.socket",
        "zeta-bft-hand.service",
        "zeta-bft-lookout.service",
        "zeta-bft-warden.socket",
        "zeta-bft-warden.service",
        "dbus.socket",
        "multi-user.target",
        "sockets.target",
    ];
    for unit in Unit::all() {
        assert!(!unit.name.starts_with("k3s"), "k3s' kill script stops what is named like it: {}", unit.name);
        for (_, key, value) in unit.lines.iter().filter(|(_, key, _)| BONDS.contains(&key.as_str())) {
            for other in value.split_whitespace() {
                let allowed = ALLOWED.contains(&other) || other.starts_with("zeta-bft-room@");
                assert!(allowed, "{}: {key}={other}", unit.name);
            }
        }
        // The bus is only wished for: a bus that restarts, or is upgraded, takes nobody with it.
        for bond in ["Requires", "Requisite", "BindsTo"] {
            assert_eq!(unit.value(bond), None, "{}", unit.name);
        }
        assert_eq!(
            unit.value("DefaultDependencies"),
            None,
            "{}: stops with the system, after its file systems",
            unit.name
        );
    }
}

#[test]
fn every_daemon_says_when_it_is_ready_is_watched_and_started_again_without_end() {
    for unit in guardians().into_iter().chain(personas().map(|(_, unit)| unit)) {
        unit.is("Type", "notify");
        unit.is("NotifyAccess", "main");
        unit.is("Restart", "always");
        unit.is("StartLimitIntervalSec", "0");
        unit.is("WatchdogSignal", "SIGKILL");
        assert!(unit.value("WatchdogSec").is_some(), "{}", unit.name);
        unit.is("ConditionPathExists", "/etc/zeta-bft/roster");
        unit.is("PartOf", "zeta-bft.target");
        unit.is("WantedBy", "zeta-bft.target");
        unit.is("OOMPolicy", "continue");
    }
    for unit in guardians() {
        unit.is("RestartSec", "100ms");
    }
}

#[test]
fn all_persona_units_are_one_text_but_for_the_name() {
    let text = |persona: &str| read(&format!("systemd/zeta-{persona}.service")).replace(persona, "PERSONA");
    for persona in PERSONAS {
        assert_eq!(text(persona), text("otto"), "zeta-{persona}.service");
    }
}

#[test]
fn a_persona_works_freely_as_its_own_user_sees_no_key_and_is_the_first_to_go() {
    for (persona, unit) in personas() {
        unit.is("ExecStart", &format!("/usr/bin/zeta-bft wrap --persona {persona}"));
        unit.is("User", &format!("zeta-{persona}"));
        unit.is("WorkingDirectory", &format!("/var/lib/zeta/{persona}"));
        unit.is("RuntimeDirectory", &format!("zeta-bft/wrap-{persona}"));
        unit.is("RestartSec", "30s");
        unit.is("TimeoutStopSec", "10s");
        unit.is("KillMode", "mixed");
        unit.is("MemoryMax", "4G");
        unit.is("CPUQuota", "200%");
        unit.is("OOMScoreAdjust", "500");
        unit.is("InaccessiblePaths", "-/etc/zeta-bft/keys -/var/lib/zeta-bft");
        assert_eq!(unit.value("LoadCredential"), None);
        for bar in ["PrivateNetwork", "IPAddressDeny", "ProtectSystem", "SystemCallFilter", "NoNewPrivileges"] {
            assert_eq!(unit.value(bar), None, "{}: {bar}= would keep the AI from its work", unit.name);
        }
    }
}

#[test]
fn guardians_have_no_privilege_no_network_but_loopback_and_each_only_its_own_key() {
    for unit in guardians().iter().chain(&[Unit::read("zeta-bft-page@.service")]) {
        assert!(unit.value("User").unwrap().starts_with("zeta-bft-"), "{}", unit.name);
        for (key, value) in [
            ("CapabilityBoundingSet", ""),
            ("AmbientCapabilities", ""),
            ("NoNewPrivileges", "yes"),
            ("ProtectSystem", "strict"),
            ("ProtectHome", "yes"),
            ("PrivateTmp", "yes"),
            ("PrivateDevices", "yes"),
            ("ProtectKernelTunables", "yes"),
            ("ProtectKernelModules", "yes"),
            ("ProtectKernelLogs", "yes"),
            ("ProtectControlGroups", "yes"),
            ("ProtectClock", "yes"),
            ("ProtectHostname", "yes"),
            ("RestrictNamespaces", "yes"),
            ("RestrictRealtime", "yes"),
            ("RestrictSUIDSGID", "yes"),
            ("MemoryDenyWriteExecute", "yes"),
            ("LockPersonality", "yes"),
            ("SystemCallArchitectures", "native"),
            ("SystemCallFilter", "@system-service ~@privileged @resources @setuid @keyring @memlock"),
            ("RemoveIPC", "yes"),
        ] {
            if (unit.name.as_str(), key) != ("zeta-bft-page@.service", "MemoryDenyWriteExecute") {
                unit.is(key, value);
            }
        }
        assert!(unit.value("InaccessiblePaths").unwrap().starts_with("-/etc/zeta-bft/keys"), "{}", unit.name);
    }
    let [warden, agent] = guardians();
    warden.is("LoadCredential", "key:/etc/zeta-bft/keys/warden.pem");
    warden.is("PrivateNetwork", "yes");
    warden.is("RestrictAddressFamilies", "AF_UNIX");
    warden.is("User", "zeta-bft-warden");
    warden.is("StateDirectoryMode", "0700");
    agent.is("LoadCredential", "key:/etc/zeta-bft/keys/%i.pem");
    agent.is("IPAddressDeny", "any");
    agent.is("IPAddressAllow", "localhost");
    agent.is("User", "zeta-bft-%i");
    let socket = Unit::read("zeta-bft-warden.socket");
    socket.is("ListenStream", "127.0.0.1:9464");
    socket.is("FileDescriptorName", "metrics");
    // Else a scrape would start again what the operator stopped.
    socket.is("PartOf", "zeta-bft-warden.service");
}

#[test]
fn the_hand_is_root_without_a_capability_or_network_and_the_warden_alone_reaches_it() {
    let hand = Unit::read("zeta-bft-hand.service");
    assert_eq!(
        (hand.value("NoExecPaths"), hand.value("ExecPaths")),
        (None, None),
        "what ExecPaths names stays writable"
    );
    for (key, value) in [
        ("Type", "notify"),
        ("Restart", "always"),
        ("CapabilityBoundingSet", ""),
        ("NoNewPrivileges", "yes"),
        ("PrivateNetwork", "yes"),
        ("RestrictAddressFamilies", "AF_UNIX"),
        ("ProtectSystem", "strict"),
        ("InaccessiblePaths", "-/etc/zeta-bft/keys -/var/lib/zeta -/var/lib/zeta-bft"),
        ("Slice", "zetabft.slice"),
        ("PartOf", "zeta-bft.target"),
    ] {
        hand.is(key, value);
    }
    hand.goes_last();
    let socket = Unit::read("zeta-bft-hand.socket");
    socket.is("ListenStream", "/run/zeta-bft/hand.sock");
    socket.is("SocketUser", "zeta-bft-warden");
    socket.is("SocketMode", "0600");
}

#[test]
fn the_lookout_is_root_without_a_capability_or_network_takes_no_order_and_writes_its_own_folder_alone() {
    let lookout = Unit::read("zeta-bft-lookout.service");
    let hand = Unit::read("zeta-bft-hand.service");
    for (key, value) in [
        ("Type", "notify"),
        ("Restart", "always"),
        ("RestartPreventExitStatus", "77"),
        ("CapabilityBoundingSet", ""),
        ("PrivateNetwork", "yes"),
        ("ProtectSystem", "strict"),
        ("RuntimeDirectory", "zeta-bft/lookout"),
        ("Slice", "zetabft.slice"),
        ("PartOf", "zeta-bft.target zeta-bft-warden.service"),
        ("ReadOnlyPaths", "/run -/run/lock -/dev/mqueue -/dev/hugepages"),
    ] {
        lookout.is(key, value);
    }
    lookout.goes_last();
    for granted in
        ["ReadWritePaths", "ExecPaths", "StateDirectory", "LoadCredential", "Sockets", "User", "After", "Wants"]
    {
        assert_eq!(lookout.value(granted), None, "{granted}");
    }
    for hidden in hand.value("InaccessiblePaths").unwrap().split(' ').chain(["-/run/dbus", "-/run/systemd/private"]) {
        assert!(words(&lookout.value("InaccessiblePaths").unwrap()).contains(&hidden), "{hidden}");
    }
    // What hardens the hand hardens it.
    let sandbox = |unit: &Unit| -> BTreeSet<_> {
        let hardens = |key: &str| {
            ["Protect", "Restrict", "Private", "Lock", "System", "Memory", "NoNew"]
                .iter()
                .any(|begin| key.starts_with(begin))
        };
        unit.lines
            .iter()
            .filter(|(_, key, _)| hardens(key))
            .map(|(_, key, value)| (key.clone(), value.clone()))
            .collect()
    };
    let missing: Vec<_> = sandbox(&hand).difference(&sandbox(&lookout)).cloned().collect();
    assert!(missing.is_empty(), "{missing:?}");
}

#[test]
fn nobody_is_root_but_who_acts_looks_or_makes_room_and_nobody_but_root_can_read_a_key() {
    for unit in Unit::services() {
        let root =
            ["zeta-bft-hand.service", "zeta-bft-lookout.service", "zeta-bft-rung@.service", "zeta-bft-room@.service"]
                .contains(&unit.name.as_str());
        assert_eq!(unit.value("User").is_none(), root, "{}", unit.name);
        let keys = unit.lines.iter().filter(|(_, key, value)| key != "InaccessiblePaths" && value.contains("/keys"));
        for (_, key, value) in keys {
            assert_eq!(key, "LoadCredential", "{}: {value}", unit.name);
        }
    }
    let rung = Unit::read("zeta-bft-rung@.service");
    rung.is("Type", "oneshot");
    rung.is("ExecStart", "/usr/bin/zeta-bft rung %i");
    rung.is("NoNewPrivileges", "yes");
    rung.is("TimeoutStartSec", "65min");
    rung.is("InaccessiblePaths", "-/etc/zeta-bft/keys -/var/lib/zeta-bft/warden");
    // No persona's home.
    rung.is("ReadWritePaths", "/usr -/opt -/var/lib/rancher/k3s -/var/lib/zeta-bft");
    assert!(
        read("tmpfiles.d/zeta-bft.conf")
            .lines()
            .any(|line| words(line) == ["d", "/etc/zeta-bft/keys", "0700", "root", "root", "-"])
    );
}

#[test]
fn the_committee_keeps_its_memory_when_the_node_runs_out_of_it() {
    for unit in guardians() {
        unit.is("Slice", "zetabft.slice");
        unit.goes_last();
        assert!(unit.value("MemoryMin").is_some(), "{}", unit.name);
    }
    let slice = Unit::read("zetabft.slice");
    assert!(!slice.name.contains('-'), "below another slice its memory is only protected if that one's is");
    assert!(slice.value("MemoryMin").is_some() && slice.value("MemoryLow").is_some());
    for unit in Unit::services().iter().filter(|unit| unit.name.contains("rung") || unit.name.contains("page")) {
        assert!(unit.value("OOMScoreAdjust").is_none_or(|adjust| !adjust.starts_with('-')), "{}", unit.name);
    }
}

#[test]
fn every_ai_and_agent_writes_below_run_in_a_small_file_system_of_its_own() {
    let room = Unit::read("zeta-bft-room@.service");
    room.is("Type", "oneshot");
    room.is("RemainAfterExit", "yes");
    // Else it would hide the sockets of a daemon that runs, or empty their folder.
    room.is("ConditionPathIsDirectory", "!/run/zeta-bft/%i");
    assert_eq!(room.value("RuntimeDirectory"), None);
    room.is("CapabilityBoundingSet", "CAP_SYS_ADMIN");
    for (_, key, _) in &room.lines {
        assert!(!key.starts_with("Private") && !key.starts_with("Protect"), "{key}= hides what is mounted");
    }
    let mount = room.value("ExecStart").unwrap();
    assert!(mount.contains(",size=256k,nr_inodes=64,") && mount.ends_with(" /run/zeta-bft/%i"), "{mount}");
    for unit in Unit::services() {
        let Some(folder) = unit.value("RuntimeDirectory") else { continue };
        let trusted = ["zeta-bft-warden", "zeta-bft-lookout", "zeta-bft-rung@"];
        if !trusted.iter().any(|name| unit.name.starts_with(name)) {
            let room = format!("zeta-bft-room@{}.service", folder.strip_prefix("zeta-bft/").unwrap());
            for bond in ["Wants", "After"] {
                let bonds = unit.value(bond).unwrap_or_default();
                assert!(words(&bonds).contains(&room.as_str()), "{}: {bond}={bonds}", unit.name);
            }
        }
    }
}

#[test]
fn a_guardian_that_spins_takes_half_a_core_from_the_node() {
    // The slice's weight would leave everybody else a tenth of the CPUs.
    let weight = Unit::read("zetabft.slice").value("CPUWeight").unwrap();
    assert_eq!(weight, "1000");
    Unit::read("zeta-bft-agent@.service").is("CPUQuota", "50%");
}

#[test]
fn the_agents_and_nobody_else_are_in_the_group_that_reads_the_credential_for_k3s() {
    let sysusers = read("sysusers.d/zeta-bft.conf");
    assert!(sysusers.lines().any(|line| words(line) == ["g", "zeta-bft-agents", "-"]));
    assert!(!sysusers.lines().any(|line| line.starts_with("m ")));
    for unit in Unit::services() {
        let group = (unit.name == "zeta-bft-agent@.service").then(|| "zeta-bft-agents".to_owned());
        assert_eq!(unit.value("SupplementaryGroups"), group, "{}", unit.name);
    }
}

#[test]
fn every_user_of_a_unit_is_declared_and_each_persona_has_a_home_of_its_own() {
    let sysusers = read("sysusers.d/zeta-bft.conf");
    let declared: BTreeSet<_> =
        sysusers.lines().filter(|line| line.starts_with("u ")).map(|line| words(line)[1]).collect();
    let mut wanted: BTreeSet<String> = BTreeSet::new();
    for unit in Unit::services() {
        let Some(user) = unit.value("User") else { continue };
        wanted.extend(PERSONAS.iter().map(|persona| user.replace("%i", persona)));
    }
    assert_eq!(declared, wanted.iter().map(String::as_str).collect());
    assert_eq!(declared.len(), 12);
    let tmpfiles = read("tmpfiles.d/zeta-bft.conf");
    for persona in PERSONAS {
        let (home, user) = (format!("/var/lib/zeta/{persona}"), format!("zeta-{persona}"));
        let line = tmpfiles.lines().map(words).find(|line| line.get(1) == Some(&home.as_str()));
        assert_eq!(line.unwrap(), ["d", &home, "0700", &user, &user, "-"]);
        assert!(sysusers.lines().any(|line| words(line).get(1) == Some(&user.as_str()) && line.contains(&home)));
    }
}
