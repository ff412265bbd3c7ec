//! What `deploy/` ships, as claims about its files: the units' bonds and sandboxes, the users, the package.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

const PERSONAS: [&str; 5] = ["otto", "lior", "vera", "alexa", "riven"];
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

fn deploy(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("deploy").join(path)
}

fn read(path: &str) -> String {
    std::fs::read_to_string(deploy(path)).unwrap_or_else(|error| panic!("deploy/{path}: {error}"))
}

/// A unit file: every line that sets something, with its section.
struct Unit {
    name: String,
    lines: Vec<(String, String, String)>,
}

impl Unit {
    fn read(name: &str) -> Self {
        let mut section = String::new();
        let mut lines = Vec::new();
        for line in read(&format!("systemd/{name}")).lines().filter(|line| !line.is_empty() && !line.starts_with('#')) {
            if let Some(begun) = line.strip_prefix('[') {
                section = begun.trim_end_matches(']').to_owned();
            } else {
                let (key, value) = line.split_once('=').unwrap_or_else(|| panic!("{name}: what is `{line}`?"));
                lines.push((section.clone(), key.to_owned(), value.to_owned()));
            }
        }
        Self { name: name.to_owned(), lines }
    }

    fn all() -> Vec<Self> {
        let names = std::fs::read_dir(deploy("systemd")).unwrap().map(|file| file.unwrap().file_name());
        let mut names: Vec<_> = names.map(|name| name.into_string().unwrap()).collect();
        names.sort();
        names.iter().map(|name| Self::read(name)).collect()
    }

    fn services() -> Vec<Self> {
        Self::all().into_iter().filter(|unit| unit.name.ends_with(".service")).collect()
    }

    /// All values of a key, in order, joined by a space.
    fn value(&self, key: &str) -> Option<String> {
        let values: Vec<_> = self.lines.iter().filter(|(_, k, _)| k == key).map(|(_, _, v)| v.as_str()).collect();
        (!values.is_empty()).then(|| values.join(" "))
    }

    /// The last to be killed when memory runs out.
    fn goes_last(&self) {
        let adjust = self.value("OOMScoreAdjust").and_then(|adjust| adjust.parse::<i32>().ok());
        assert!(adjust.is_some_and(|adjust| adjust <= -900), "{}: {adjust:?}", self.name);
    }

    fn is(&self, key: &str, value: &str) {
        assert_eq!(self.value(key).as_deref(), Some(value), "{}: {key}=", self.name);
    }
}

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
                assert!(ALLOWED.contains(&other), "{}: {key}={other}", unit.name);
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
fn nobody_is_root_but_the_hand_the_lookout_and_the_rung_and_nobody_but_root_can_read_a_key() {
    for unit in Unit::services() {
        let root = ["zeta-bft-hand.service", "zeta-bft-lookout.service", "zeta-bft-rung@.service"]
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
    assert!(rung.value("ReadWritePaths").unwrap().starts_with("/usr -/opt "));
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
fn the_agents_and_nobody_else_are_in_the_group_that_reads_the_credential_for_k3s() {
    let sysusers = read("sysusers.d/zeta-bft.conf");
    assert!(sysusers.lines().any(|line| words(line) == ["g", "zeta-bft-agents", "-"]));
    assert!(!sysusers.lines().any(|line| line.starts_with("m ")));
    for unit in Unit::services() {
        let group = (unit.name == "zeta-bft-agent@.service").then(|| "zeta-bft-agents".to_owned());
        assert_eq!(unit.value("SupplementaryGroups"), group, "{}", unit.name);
    }
}

fn words(line: &str) -> Vec<&str> {
    line.split_whitespace().collect()
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

/// What stands between `before` and `after`, wherever it does.
fn between<'a>(text: &'a str, before: &str, after: char) -> BTreeSet<&'a str> {
    text.match_indices(before).filter_map(|(at, _)| text[at + before.len()..].split(after).next()).collect()
}

#[test]
fn the_operations_page_explains_every_page_and_names_only_commands_that_exist() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let page = std::fs::read_to_string(root.join("docs/operations.md")).unwrap();
    let mut causes = BTreeSet::new();
    for file in ["warden.rs", "warden/admission.rs", "warden/schedule.rs"] {
        let source = std::fs::read_to_string(root.join("src/protocol").join(file)).unwrap();
        let calls: String = source.split_whitespace().collect();
        causes.extend(between(&calls, ".page(\"", '"').into_iter().map(str::to_owned));
    }
    assert!(causes.len() > 9, "{causes:?}");
    for cause in causes {
        assert!(page.lines().any(|line| line.starts_with(&format!("| `{cause}` | "))), "{cause} is not explained");
    }
    let help = text(&run(Command::new(env!("CARGO_BIN_EXE_zeta-bft")).arg("--help")).stdout);
    let known: BTreeSet<_> =
        help.lines().filter(|line| line.starts_with("  ")).filter_map(|line| words(line).first().copied()).collect();
    let mut named = between(&page, "\nzeta-bft ", '\n');
    named.extend(between(&page, "`zeta-bft ", '`'));
    assert!(named.len() > 15, "{named:?}");
    for command in named {
        assert!(known.contains(words(command)[0]), "zeta-bft {command}");
    }
}

fn run(command: &mut Command) -> Output {
    command.output().unwrap_or_else(|error| panic!("{command:?}: {error}"))
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// Says so where a claim is skipped.
fn are_installed(tools: &[&str]) -> bool {
    let missing = tools.iter().find(|tool| Command::new(tool).arg("--version").output().is_err());
    if let Some(tool) = missing {
        println!("skipped: {tool} is not installed");
    }
    missing.is_none()
}

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
    std::fs::copy("/bin/true", bin.join("zeta-bft")).unwrap();
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

/// Builds the package around any executable at all.
fn package(output: &Path) -> Output {
    let mut build = Command::new(deploy("debian/build"));
    build.args(["--fast", "--binary", env!("CARGO_BIN_EXE_zeta-bft"), "--output"]).arg(output);
    run(build.env("SOURCE_DATE_EPOCH", "1767225600"))
}

#[test]
fn the_package_is_the_same_twice_belongs_to_root_and_ships_what_is_here() {
    if !are_installed(&["dpkg-deb", "strip"]) {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let built: Vec<_> = ["a", "b"]
        .iter()
        .map(|name| {
            let built = package(&dir.path().join(name));
            assert!(built.status.success(), "{}", text(&built.stderr));
            PathBuf::from(text(&built.stdout).lines().last().unwrap())
        })
        .collect();
    assert_eq!(std::fs::read(&built[0]).unwrap(), std::fs::read(&built[1]).unwrap(), "two builds differ");
    let name = built[0].file_name().unwrap().to_str().unwrap();
    assert!(name.starts_with(&format!("zeta-bft_{}_", env!("CARGO_PKG_VERSION"))), "{name}");

    let listed = text(&run(Command::new("dpkg-deb").arg("--contents").arg(&built[0])).stdout);
    for line in listed.lines() {
        let [mode, owner, ..] = words(line)[..] else { panic!("what is `{line}`?") };
        assert_eq!(owner, "root/root", "{line}");
        assert!(mode[1..].chars().enumerate().all(|(at, c)| c != 'w' || at == 1), "others can write: {line}");
    }
    let unpacked = dir.path().join("unpacked");
    assert!(run(Command::new("dpkg-deb").arg("--raw-extract").arg(&built[0]).arg(&unpacked)).status.success());
    let same = |shipped: &str, ours: &str| {
        assert_eq!(std::fs::read(unpacked.join(shipped)).unwrap(), std::fs::read(deploy(ours)).unwrap(), "{shipped}");
    };
    same("usr/share/doc/zeta-bft/examples/node.toml", "node.toml");
    same("usr/lib/sysusers.d/zeta-bft.conf", "sysusers.d/zeta-bft.conf");
    same("usr/lib/tmpfiles.d/zeta-bft.conf", "tmpfiles.d/zeta-bft.conf");
    for file in ["mint-credential", "rbac.yaml"] {
        same(&format!("usr/share/zeta-bft/k3s/{file}"), &format!("k3s/{file}"));
    }
    for unit in Unit::all() {
        same(&format!("lib/systemd/system/{}", unit.name), &format!("systemd/{}", unit.name));
    }
    let control = std::fs::read_to_string(unpacked.join("DEBIAN/control")).unwrap();
    for needed in ["libc6 (>= ", "systemd (>= 252)", "dbus", "polkitd"] {
        assert!(control.lines().any(|line| line.starts_with("Depends: ") && line.contains(needed)), "{control}");
    }
    assert!(!control.contains("Recommends"), "{control}");
    for script in ["postinst", "prerm", "postrm"] {
        assert!(
            run(Command::new("sh").arg("-n").arg(unpacked.join("DEBIAN").join(script))).status.success(),
            "{script}"
        );
    }
}
