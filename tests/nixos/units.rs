//! Units, users and folders: those of deploy/systemd, deploy/sysusers.d and deploy/tmpfiles.d, and what differs on NixOS.

use crate::Claim;
use crate::configuration::settings;
use crate::nix::{Node, node, root, strings};
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};
use zeta_bft::config::rung;

pub const CLAIMS: &[Claim] = &[
    (
        "every_unit_of_the_package_is_there_with_the_same_settings",
        every_unit_of_the_package_is_there_with_the_same_settings,
    ),
    ("users_and_folders_are_those_of_the_package", users_and_folders_are_those_of_the_package),
    ("a_switch_restarts_no_daemon_and_no_step_of_a_repair", a_switch_restarts_no_daemon_and_no_step_of_a_repair),
    (
        "the_rollout_names_every_daemon_hand_first_and_wrappers_last",
        the_rollout_names_every_daemon_hand_first_and_wrappers_last,
    ),
    ("only_what_changed_gets_a_new_generation", only_what_changed_gets_a_new_generation),
    ("a_rung_writes_its_own_subjects_folders_and_no_other", a_rung_writes_its_own_subjects_folders_and_no_other),
    ("the_rollout_knows_every_wrappers_scrape_address", the_rollout_knows_every_wrappers_scrape_address),
    ("the_set_up_comes_first_and_only_once", the_set_up_comes_first_and_only_once),
    ("nothing_of_ours_waits_for_k3s_the_network_or_a_vendor", nothing_of_ours_waits_for_k3s_the_network_or_a_vendor),
];

const FIVE: &str = r#"{ zeta.bft = {
  active = true;
  enable = { alexa = true; riven = true; };
  personas.alexa.command = [ "qwen" ];
  personas.riven.command = [ "grok" ];
}; }"#;

/// Section → key → values in order.
type Unit = BTreeMap<String, BTreeMap<String, Vec<String>>>;

/// What a unit file of the package says. Not the parser of the module: two readers of one text.
fn read(file: &str) -> Unit {
    let text = std::fs::read_to_string(root().join("deploy/systemd").join(file)).unwrap();
    let mut unit = Unit::new();
    let mut section = String::new();
    for line in text.replace("\\\n", " ").lines().map(str::trim) {
        if line.is_empty() || line.starts_with(['#', ';']) {
            continue;
        }
        if let Some(name) = line.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
            section = name.to_owned();
            continue;
        }
        let (key, value) = line.split_once('=').unwrap();
        let values = unit.entry(section.clone()).or_default().entry(key.trim().to_owned()).or_default();
        values.push(value.trim().to_owned());
    }
    unit
}

/// The values of one key as evaluated: text, number, truth, or a list of those.
fn values(value: &Value) -> Vec<String> {
    match value {
        Value::Array(items) => items.iter().flat_map(values).collect(),
        Value::String(text) => vec![text.clone()],
        other => vec![other.to_string()],
    }
}

fn table(value: &Value) -> BTreeMap<String, Vec<String>> {
    value.as_object().unwrap().iter().map(|(key, value)| (key.clone(), values(value))).collect()
}

/// What the module may say otherwise, by file and key. Everything else is equal, or the claim fails.
fn differs(file: &str, key: &str) -> bool {
    match key {
        // Where the program and its libraries lie; checked apart.
        "ExecStart" | "ExecStopPost" | "ExecPaths" | "ReadOnlyPaths" => true,
        // NixOS has no /usr that a rung could install into.
        "ReadWritePaths" => file == "zeta-bft-rung@.service",
        // The generation; and a persona's PATH.
        "Environment" => !["rung@", "page@", "lookout"].iter().any(|plain| file.contains(plain)),
        _ => false,
    }
}

fn every_unit_of_the_package_is_there_with_the_same_settings() {
    let node = node(FIVE);
    let mut files = 0;
    for entry in std::fs::read_dir(root().join("deploy/systemd")).unwrap() {
        let file = entry.unwrap().file_name().into_string().unwrap();
        let (name, kind) = file.rsplit_once('.').unwrap();
        let (folder, config, section) = match kind {
            "service" => ("services", "serviceConfig", "Service"),
            "socket" => ("sockets", "socketConfig", "Socket"),
            "slice" => ("slices", "sliceConfig", "Slice"),
            "target" => ("targets", "unitConfig", "Target"),
            _ => panic!("deploy/systemd/{file}: the module knows no such kind"),
        };
        files += 1;
        let ours = &node.0[folder][name];
        assert!(ours.is_object(), "{file} is missing in the module");
        let theirs = read(&file);
        compare_settings(&file, theirs.get(section), &table(&ours[config]), &table(&ours["unitConfig"]));
        compare_unit(&file, &theirs["Unit"], ours);
        let program = node.0["program"].as_str().unwrap();
        if let Some([start]) = theirs.get("Service").map(|service| &service["ExecStart"][..]) {
            let here = |command: &str| {
                let moved = command.replace("/usr/bin/zeta-bft", program);
                if moved.starts_with("/bin/") { format!("/nix/store/stub-util-linux{moved}") } else { moved }
            };
            let expected = here(start);
            assert_eq!(ours[config]["ExecStart"], expected, "{file}");
            if theirs["Service"].contains_key("ExecStopPost") {
                let after = ours[config]["ExecStopPost"].as_str();
                assert_eq!(after, Some("-/nix/store/stub-coreutils/bin/rmdir /run/zeta-bft/%i"), "{file}");
            }
            assert!(expected.starts_with("/nix/store/"), "{expected}");
            let kept = |key: &str| theirs["Service"].contains_key(key) == ours[config].get(key).is_some();
            assert!(kept("ExecPaths") && kept("ReadOnlyPaths") && kept("NoExecPaths"), "{file}");
        }
        let wanted = theirs.get("Install").and_then(|install| install.get("WantedBy"));
        if !name.ends_with('@')
            && let Some(wanted) = wanted
        {
            assert_eq!(&values(&ours["wantedBy"]), wanted, "{file}");
        }
    }
    assert!(files >= 10, "{files} units below deploy/systemd");
}

fn compare_settings(
    file: &str,
    theirs: Option<&BTreeMap<String, Vec<String>>>,
    ours: &BTreeMap<String, Vec<String>>,
    in_unit: &BTreeMap<String, Vec<String>>,
) {
    let Some(theirs) = theirs else { return };
    let keys: BTreeSet<_> = theirs.keys().chain(ours.keys()).filter(|key| *key != "ListenStream").collect();
    for key in keys {
        if !differs(file, key) {
            assert_eq!(ours.get(key), theirs.get(key), "{file}: {key}=");
        }
    }
    assert!(in_unit.keys().all(|key| !theirs.contains_key(key)), "{file}");
}

fn compare_unit(file: &str, theirs: &BTreeMap<String, Vec<String>>, ours: &Value) {
    let listed = [
        ("After", "after"),
        ("Before", "before"),
        ("Wants", "wants"),
        ("Requires", "requires"),
        ("BindsTo", "bindsTo"),
        ("PartOf", "partOf"),
        ("Conflicts", "conflicts"),
    ];
    for (key, option) in listed {
        // A slice is only described; the target also wants the agents, which Debian enables by hand.
        if file.ends_with(".slice") || file.ends_with(".target") && key == "Wants" {
            continue;
        }
        let words = |values: &[String]| -> Vec<String> {
            values.iter().flat_map(|value| value.split_whitespace()).map(str::to_owned).collect()
        };
        let theirs = theirs.get(key).map(|values| words(values)).unwrap_or_default();
        assert_eq!(values(&ours[option]), theirs, "{file}: {key}=");
    }
    assert_eq!(values(&ours["description"]), theirs["Description"], "{file}");
    let other = |key: &&String| {
        !["Description", "Documentation"].contains(&key.as_str()) && !listed.iter().any(|(listed, _)| listed == key)
    };
    let theirs: BTreeMap<_, _> = theirs.iter().filter(|(key, _)| other(key)).collect();
    let ours = table(&ours["unitConfig"]);
    assert_eq!(ours.iter().collect::<BTreeMap<_, _>>(), theirs, "{file}: [Unit]");
}

fn users_and_folders_are_those_of_the_package() {
    let node = node(FIVE);
    let lines = |file: &str| -> Vec<Vec<String>> {
        let text = std::fs::read_to_string(root().join("deploy").join(file)).unwrap();
        let lines = text.lines().filter(|line| !line.starts_with('#') && !line.trim().is_empty());
        lines.map(|line| line.split_whitespace().map(str::to_owned).collect()).collect()
    };
    let users = node.0["users"].as_object().unwrap();
    let groups: BTreeSet<_> = strings(&node.0["groups"]).into_iter().collect();
    let (theirs, alone): (Vec<_>, Vec<_>) =
        lines("sysusers.d/zeta-bft.conf").into_iter().partition(|line| line[0] == "u");
    let names: BTreeSet<_> = theirs.iter().map(|line| line[1].as_str()).collect();
    assert_eq!(users.keys().map(String::as_str).collect::<BTreeSet<_>>(), names);
    // Each user has a group of its own, and the agents have one together.
    assert!(alone.iter().all(|line| line[0] == "g"), "{alone:?}");
    assert_eq!(groups, names.into_iter().chain(alone.iter().map(|line| line[1].as_str())).collect());
    for line in &theirs {
        let user = &users[&line[1]];
        assert_eq!((&user["isSystemUser"], &user["group"]), (&true.into(), &line[1].as_str().into()));
        let persona = line.last().unwrap() == "/bin/bash";
        assert_eq!(user["useDefaultShell"], persona, "{line:?}");
        let home = &line[line.len() - 2];
        assert_eq!(user["home"], if persona { home.as_str() } else { "/var/empty" }, "{line:?}");
    }
    let folder = |words: &[String]| words[..5].join(" ");
    let rules = strings(&node.0["tmpfiles"]);
    let ours: BTreeSet<_> =
        rules.iter().map(|rule| folder(&rule.split(' ').map(str::to_owned).collect::<Vec<_>>())).collect();
    let theirs: BTreeSet<_> = lines("tmpfiles.d/zeta-bft.conf").iter().map(|line| folder(line)).collect();
    assert_eq!(ours, theirs);
}

fn a_switch_restarts_no_daemon_and_no_step_of_a_repair() {
    let node = node(FIVE);
    for name in node.services() {
        let service = node.service(name);
        assert_eq!(service["restartIfChanged"], name == "zeta-bft-rollout", "{name}");
        if name != "zeta-bft-setup" {
            assert_eq!(service["stopIfChanged"], false, "{name}");
        }
    }
    let rollout = &node.service("zeta-bft-rollout")["serviceConfig"];
    assert_eq!(rollout["Type"], "exec", "the switch must not wait for a tick to end");
}

fn rollout(node: &Node) -> Vec<String> {
    let start = node.service("zeta-bft-rollout")["serviceConfig"]["ExecStart"].as_str().unwrap();
    start.split(' ').skip(1).map(str::to_owned).collect()
}

fn the_rollout_names_every_daemon_hand_first_and_wrappers_last() {
    let node = node(FIVE);
    let words = rollout(&node);
    let units: Vec<_> = words[1..].iter().map(|word| word.split(',').nth(1).unwrap()).collect();
    assert_eq!(units[..2], ["zeta-bft-hand.service", "zeta-bft-warden.service"]);
    assert!(units[2..7].iter().all(|unit| unit.starts_with("zeta-bft-agent@")), "{units:?}");
    assert_eq!(units[7..], ["alexa", "lior", "otto", "riven", "vera"].map(|name| format!("zeta-{name}.service")));
    assert_eq!(words[0], node.environment("zeta-bft-warden", "ZETA_BFT_CONFIG"));
    for word in &words[1..] {
        let [_, unit, generation, ..] = word.split(',').collect::<Vec<_>>()[..] else { panic!("{word}") };
        let service = if unit.contains('@') { "zeta-bft-agent@" } else { unit.strip_suffix(".service").unwrap() };
        assert_eq!(node.environment(service, "ZETA_BFT_GENERATION"), generation, "{word}");
    }
}

fn only_what_changed_gets_a_new_generation() {
    let was = node("{ zeta.bft.active = true; }");
    let generation = |node: &Node, service| node.environment(service, "ZETA_BFT_GENERATION").to_owned();
    let changed = |more: &str| -> Vec<&str> {
        let is = node(&format!("{{ zeta.bft = {{ active = true; {more} }}; }}"));
        let daemons = ["zeta-bft-hand", "zeta-bft-warden", "zeta-bft-agent@", "zeta-otto", "zeta-lior"];
        daemons.into_iter().filter(|service| generation(&is, service) != generation(&was, service)).collect()
    };
    assert_eq!(changed(""), [""; 0]);
    assert_eq!(
        changed("personas.otto.tickIntervalSec = 61;"),
        ["zeta-bft-hand", "zeta-bft-warden", "zeta-bft-agent@", "zeta-otto"]
    );
    assert_eq!(changed(r#"personas.lior.memoryMax = "3G";"#), ["zeta-lior"]);
    assert_eq!(changed(r#"mode = "act";"#), ["zeta-bft-hand", "zeta-bft-warden", "zeta-bft-agent@"]);
}

fn the_set_up_comes_first_and_only_once() {
    let node = node("{ zeta.bft = { active = true; cluster = \"home\"; node = \"n1\"; }; }");
    let setup = node.service("zeta-bft-setup");
    assert_eq!(setup["unitConfig"]["ConditionPathExists"], "!/etc/zeta-bft/roster");
    let start = setup["serviceConfig"]["ExecStart"].as_str().unwrap();
    assert!(start.ends_with("/bin/zeta-bft init --no-start --cluster home --node n1"), "{start}");
    let sockets = setup["serviceConfig"]["ExecStartPost"].as_str().unwrap();
    assert!(sockets.ends_with(" start zeta-bft-hand.socket zeta-bft-warden.socket"), "{sockets}");
    let before = strings(&setup["before"]);
    for unit in [
        "zeta-bft-hand.service",
        "zeta-bft-lookout.service",
        "zeta-bft-warden.service",
        "zeta-bft-agent@otto.service",
        "zeta-otto.service",
    ] {
        assert!(before.contains(&unit), "{before:?}");
    }
}

fn a_rung_writes_its_own_subjects_folders_and_no_other() {
    let node = node(
        r#"{ zeta.bft = let run = { action = "run"; argv = [ "/bin/true" ]; }; in {
          active = true;
          personas.otto.ladder = [ { action = "restart"; } run ];
          personas.vera = { ladder = [ run ]; home = "/home/vera"; };
          personas.lior = { ladder = [ run ]; rungWritePaths = [ ]; };
          subjects."otto/agent".ladder = [ run ];
          subjects.a-b = { kind = "unit"; unit = "a.service"; ladder = [ run ]; };
          subjects.k3s.kind = "k3s";
        }; }"#,
    );
    let template = &node.service("zeta-bft-rung@")["serviceConfig"];
    assert_eq!((&template["ReadWritePaths"], &template["ProtectHome"]), (&"".into(), &"yes".into()));
    let drop_ins: BTreeMap<_, _> = node
        .services()
        .into_iter()
        .filter(|name| name.starts_with("zeta-bft-rung@") && !name.ends_with('@'))
        .map(|name| {
            let service = node.service(name);
            assert_eq!(service["overrideStrategy"], "asDropin", "{name}: it adds to the template");
            (name, service["serviceConfig"].clone())
        })
        .collect();
    let expected = [
        ("zeta-bft-rung@a\\x2db-0", serde_json::json!({ "ReadWritePaths": "-/var/lib/rancher/k3s" })),
        ("zeta-bft-rung@k3s-0", serde_json::json!({ "ReadWritePaths": "-/var/lib/rancher/k3s" })),
        ("zeta-bft-rung@k3s-1", serde_json::json!({ "ReadWritePaths": "-/var/lib/rancher/k3s" })),
        ("zeta-bft-rung@otto-1", serde_json::json!({ "ReadWritePaths": "-/var/lib/zeta/otto" })),
        ("zeta-bft-rung@vera-0", serde_json::json!({ "ReadWritePaths": "-/home/vera", "ProtectHome": "no" })),
    ];
    assert_eq!(drop_ins, expected.into());
    let known = settings(&node.node_toml());
    let of_root: BTreeSet<_> =
        rung::of_root(&known.policy).map(|(subject, number, _)| rung::unit(subject, number)).collect();
    for name in drop_ins.keys() {
        assert!(of_root.contains(&format!("{name}.service")), "{name} is none of {of_root:?}");
    }
}

fn the_rollout_knows_every_wrappers_scrape_address() {
    for (first, on_loopback) in [
        ("127.0.0.1:9475", "127.0.0.1"),
        ("127.0.0.1:9600", "127.0.0.1"),
        ("0.0.0.0:9475", "127.0.0.1"),
        ("[::]:1", "[::1]"),
    ] {
        let node = node(&format!("{{ zeta.bft = {{ active = true; metrics.wrappers = \"{first}\"; }}; }}"));
        let words: Vec<_> = rollout(&node).into_iter().filter(|word| word.contains("wrap,")).collect();
        let personas = settings(&node.node_toml()).personas;
        assert_eq!(words.len(), personas.len());
        for (word, (name, persona)) in words.iter().zip(&personas) {
            assert!(word.contains(&format!("wrap,zeta-{name}.service,")), "{word}");
            let address = word.trim_matches('\'').split(',').nth(3).unwrap();
            assert_eq!(address, format!("{on_loopback}:{}", persona.wrapper_metrics.port()), "{first}");
        }
    }
    let any = node(r#"{ zeta.bft = { active = true; metrics.wrappers = "127.0.0.1:0"; }; }"#);
    assert!(rollout(&any).iter().filter(|word| word.contains("wrap,")).all(|word| word.ends_with(',')));
}

fn nothing_of_ours_waits_for_k3s_the_network_or_a_vendor() {
    let node = node(FIVE);
    for name in node.services() {
        for relation in ["after", "wants", "requires", "bindsTo", "partOf"] {
            for other in strings(&node.service(name)[relation]) {
                let ours = other.starts_with("zeta-") || other.starts_with("zetabft") || other == "dbus.socket";
                assert!(ours, "{name}: {relation} {other}");
            }
        }
    }
}
