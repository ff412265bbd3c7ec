//! What an operator writes, and what becomes of it: personas, assertions, node.toml.

use crate::Claim;
use crate::nix::{evaluate, nix_files, node, parse, root, strings};
use std::collections::BTreeSet;
use std::path::Path;
use std::time::Duration;
use zeta_bft::config::paths::Paths;
use zeta_bft::config::{self, Settings};
use zeta_bft::protocol::policy::{Action, Consent, Mode};
use zeta_bft::protocol::types::{PersonaId, SubjectName};

pub const CLAIMS: &[Claim] = &[
    ("every_nix_file_parses", every_nix_file_parses),
    ("an_imported_module_does_nothing_until_it_is_asked", an_imported_module_does_nothing_until_it_is_asked),
    ("switched_on_it_runs_otto_lior_and_vera_and_observes", switched_on_it_runs_otto_lior_and_vera_and_observes),
    ("personas_are_enabled_one_by_one_as_in_ai_agents", personas_are_enabled_one_by_one_as_in_ai_agents),
    ("its_defaults_are_those_of_the_shipped_node_toml", its_defaults_are_those_of_the_shipped_node_toml),
    ("every_option_reaches_zeta_bft_by_a_name_that_it_knows", every_option_reaches_zeta_bft_by_a_name_that_it_knows),
    ("every_option_of_node_toml_can_be_written", every_option_of_node_toml_can_be_written),
    ("the_build_accepts_it", the_build_accepts_it),
    ("the_polkit_rule_is_the_one_that_zeta_bft_writes", the_polkit_rule_is_the_one_that_zeta_bft_writes),
    ("what_makes_no_committee_is_refused_with_the_reason", what_makes_no_committee_is_refused_with_the_reason),
    (
        "an_unknown_option_or_a_value_of_another_type_is_refused",
        an_unknown_option_or_a_value_of_another_type_is_refused,
    ),
    ("a_shared_user_needs_the_explicit_word", a_shared_user_needs_the_explicit_word),
    (
        "node_toml_and_hint_are_real_files_that_root_alone_writes",
        node_toml_and_hint_are_real_files_that_root_alone_writes,
    ),
    ("the_hint_names_only_commands_that_there_are", the_hint_names_only_commands_that_there_are),
    ("the_package_builds_from_the_lock_file", the_package_builds_from_the_lock_file),
];

/// Everything that can be written.
pub const EVERYTHING: &str = r#"{
  networking.hostName = "n1";
  zeta.bft = {
    active = true;
    enable.alexa = true;
    mode = "act";
    cluster = "home";
    f = 1;
    q = 3;
    tickIntervalSec = 90;
    memoryMax = "2G";
    restartSec = 15;
    personas.alexa.command = [ "qwen" "-p" "go" ];
    personas.otto = {
      command = [ "claude" "--print" "hello" ];
      tickIntervalSec = 30;
      tickLimit = "10m";
      probe = [ "claude" "--version" ];
      workingDir = "/var/lib/zeta/otto/Zeta";
      cpuQuota = "100%";
      patterns = [ { regex = "proxy says no"; reason = "network_down"; } ];
      ladder = [
        { action = "restart"; }
        { action = "run"; argv = [ "/bin/true" "x" ]; limit = "5m"; consent = "quorum+operator"; }
        { action = "page"; }
      ];
      budget = { capacity = 7; refill = "10m"; per_day = 9; };
    };
    subjects = {
      k3s = {
        kind = "k3s";
        role = "server";
        api = "https://127.0.0.1:6444";
        ca = "/etc/zeta-bft/k3s/ca.crt";
        credential = { token = "/etc/zeta-bft/k3s/token"; };
        node_name = "n1";
        kubelet = false;
        kube_proxy = false;
        mounts = [ "/var/lib/rancher/k3s" ];
        others = [ "https://10.0.0.2:6443" ];
        grace = "3m";
        failed_looks = 4;
        window = "23:00-01:00";
        faults = [
          { name = "ours"; when = { unit = "failed"; fatal = "etcd said no"; }; class = "ENVIRONMENT"; page = true; says = "Ask us."; }
        ];
        ignored_faults = [ "ping-fails" ];
        ladder = [ { action = "restart"; } { action = "page"; } ];
      };
      tunnel = {
        kind = "unit";
        unit = "tunnel.service";
        user = "nobody";
        exit0 = "fault";
        ladder = [ { action = "move-aside"; path = "/var/lib/rancher/k3s/agent/x"; } { action = "page"; } ];
        budget.capacity = 2;
      };
      "a-b" = { kind = "unit"; unit = "x@y\\x2dz.service"; ladder = [ { action = "run"; argv = [ "/bin/true" ]; } ]; };
      "otto/agent".budget.capacity = 3;
    };
    policy = { node_per_day = 25; hang.patience = "700ms"; drill.enabled = false; };
    page = { command = [ "/bin/true" ]; limit = "30s"; };
    metrics.warden = "127.0.0.1:9999";
    tcp.otto = { listen = "0.0.0.0:9700"; address = "10.88.0.2:9700"; };
    tcpAllow = [ "10.88.0.0/24" ];
    rungWritePaths = [ "/opt/tools" ];
  };
}"#;

/// node.toml as zeta-bft reads it.
pub fn settings(node_toml: &str) -> Settings {
    let paths = Paths::below(Path::new("/nowhere"));
    config::parse(node_toml, "node.toml", &paths).unwrap_or_else(|error| panic!("{node_toml}\n{error}"))
}

fn every_nix_file_parses() {
    let files = nix_files();
    assert!(files.len() >= 5, "{files:?}");
    files.iter().for_each(|file| parse(file).unwrap());
    let bad = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(&bad, "{ a = ; }").unwrap();
    parse(bad.path()).unwrap_err();
}

fn an_imported_module_does_nothing_until_it_is_asked() {
    let node = node("{ }");
    assert_eq!(node.services(), [""; 0]);
    assert_eq!(node.0["etc"], serde_json::json!({}));
    assert_eq!(node.0["users"], serde_json::json!({}));
}

fn switched_on_it_runs_otto_lior_and_vera_and_observes() {
    let node = node("{ zeta.bft.active = true; }");
    let settings = settings(&node.node_toml());
    let names: Vec<_> = settings.personas.keys().map(PersonaId::as_str).collect();
    assert_eq!(names, ["lior", "otto", "vera"]);
    assert_eq!(settings.policy.mode, Mode::Observe);
    assert_eq!((settings.f, settings.q), (1, 2));
    assert_eq!(settings.node.to_string(), "nixos", "the node has the host's name");
    for unit in ["zeta-bft-warden", "zeta-bft-agent@", "zeta-otto", "zeta-lior", "zeta-vera", "zeta-bft-setup"] {
        node.service(unit);
    }
    let wanted = strings(&node.0["targets"]["zeta-bft"]["wants"]);
    assert_eq!(wanted, ["zeta-bft-agent@lior.service", "zeta-bft-agent@otto.service", "zeta-bft-agent@vera.service"]);
}

fn personas_are_enabled_one_by_one_as_in_ai_agents() {
    let one_by_one = node("{ zeta.bft.enable = { otto = true; lior = true; vera = true; }; }");
    let at_once = node("{ zeta.bft.active = true; }");
    assert_eq!(one_by_one.0, at_once.0);
    let without_vera = r#"{ zeta.bft = {
        active = true; enable.vera = false; enable.riven = true; personas.riven.command = [ "grok" ];
    }; }"#;
    let toml = node(without_vera).node_toml();
    assert!(toml.contains("[personas.riven]") && !toml.contains("vera"), "{toml}");
    let own = r#"{ zeta.bft = { active = true; enable.mira = true;
        personas.mira = { vendor = "mistral"; command = [ "vibe" ]; }; }; }"#;
    let mira = node(own);
    let service = &mira.service("zeta-mira")["serviceConfig"];
    assert_eq!(service["RuntimeDirectory"], "zeta-bft/wrap-mira");
    assert!(service["ExecStart"].as_str().unwrap().ends_with("/bin/zeta-bft wrap --persona mira"));
    let unit = mira.service("zeta-mira");
    assert!(!unit.to_string().contains("otto"), "{unit}");
    for bond in ["wants", "after"] {
        assert!(unit[bond].to_string().contains("zeta-bft-room@wrap-mira.service"), "{bond}: {unit}");
    }
}

fn its_defaults_are_those_of_the_shipped_node_toml() {
    let shipped = std::fs::read_to_string(root().join("deploy/node.toml")).unwrap();
    let (shipped, ours) =
        (settings(&shipped), settings(&node(r#"{ zeta.bft = { active = true; node = "node"; }; }"#).node_toml()));
    assert_eq!(format!("{:?}", ours.policy), format!("{:?}", shipped.policy));
    assert_eq!((&ours.cluster, &ours.node), (&shipped.cluster, &shipped.node));
    assert_eq!((ours.f, ours.q, ours.warden_metrics), (shipped.f, shipped.q, shipped.warden_metrics));
    assert_eq!(ours.personas.keys().collect::<Vec<_>>(), shipped.personas.keys().collect::<Vec<_>>());
    for (name, persona) in &ours.personas {
        let other = &shipped.personas[name];
        assert_eq!((&persona.vendor, &persona.command), (&other.vendor, &other.command));
        assert_eq!((persona.tick_interval, persona.tick_limit), (other.tick_interval, other.tick_limit));
        assert_eq!((persona.agent_metrics, persona.wrapper_metrics), (other.agent_metrics, other.wrapper_metrics));
    }
}

fn every_option_reaches_zeta_bft_by_a_name_that_it_knows() {
    let node = node(EVERYTHING);
    let settings = settings(&node.node_toml());
    assert_eq!((settings.f, settings.q, settings.policy.mode), (1, 3, Mode::Act));
    assert_eq!(settings.cluster.to_string(), "home");
    assert_eq!(settings.warden_metrics.port(), 9999);
    assert_eq!(strings(&node.0["sockets"]["zeta-bft-warden"]["listenStreams"]), ["127.0.0.1:9999"]);
    let of = |name: &str| &settings.personas[&PersonaId::new(name).unwrap()];
    assert_eq!(of("otto").tick_interval, Duration::from_secs(30));
    assert_eq!(of("otto").tick_limit, Duration::from_secs(600));
    assert_eq!(of("otto").command, ["claude", "--print", "hello"]);
    assert_eq!(of("otto").working_dir.as_deref(), Some(Path::new("/var/lib/zeta/otto/Zeta")));
    assert!(of("otto").patterns[0].regex.is_match("the Proxy says no"));
    assert_eq!(of("lior").tick_interval, Duration::from_secs(90));
    assert_eq!(of("alexa").vendor.to_string(), "alibaba-qwen");

    let subject = |name: &str| &settings.policy.subjects[&SubjectName::new(name).unwrap()];
    let run = Action::Run { argv: ["/bin/true", "x"].map(Into::into).into(), limit: Duration::from_secs(300) };
    let ladder: Vec<_> = subject("otto").ladder.iter().map(|rung| (&rung.action, rung.consent)).collect();
    assert_eq!(
        ladder,
        [(&Action::Restart, Consent::Quorum), (&run, Consent::QuorumAndOperator), (&Action::Page, Consent::Quorum)]
    );
    let budget = subject("otto").budget;
    assert_eq!((budget.capacity, budget.refill, budget.per_day), (7, Duration::from_secs(600), 9));
    assert_eq!(subject("otto/agent").budget.capacity, 3);
    assert_eq!(subject("k3s").ladder.len(), 2);
    let k3s = &settings.k3s[&SubjectName::new("k3s").unwrap()];
    let observer = k3s.observer();
    assert_eq!((observer.address.port(), observer.kubelet, observer.kube_proxy), (6444, None, None));
    assert_eq!(k3s.failed_looks, 4);
    assert_eq!((k3s.faults[0].name.as_str(), &k3s.ignored[..]), ("ours", &["ping-fails".to_owned()][..]));
    assert_eq!(subject("tunnel").unit, "tunnel.service");
    assert_eq!(subject("tunnel").ladder[0].action, Action::MoveAside { path: "/var/lib/rancher/k3s/agent/x".into() });
    assert_eq!(settings.policy.node_per_day, 25);
    assert_eq!(settings.policy.timing.hang.patience, Duration::from_millis(700));
    assert_eq!(settings.page.unwrap().limit, Duration::from_secs(30));
    let tcp = &settings.tcp[&PersonaId::new("otto").unwrap()];
    assert_eq!((tcp.listen.to_string(), tcp.address.to_string()), ("0.0.0.0:9700".into(), "10.88.0.2:9700".into()));
    assert_eq!(
        node.service("zeta-bft-agent@")["serviceConfig"]["IPAddressAllow"],
        serde_json::json!(["localhost", "10.0.0.2", "10.88.0.0/24"])
    );

    let otto = &node.service("zeta-otto")["serviceConfig"];
    assert_eq!(
        (&otto["MemoryMax"], &otto["CPUQuota"], &otto["RestartSec"]),
        (&"2G".into(), &"100%".into(), &"15s".into())
    );
    assert_eq!(node.service("zeta-bft-rung@")["serviceConfig"]["ReadWritePaths"], "-/opt/tools");
}

/// The options that zeta-bft knows where `spoilt` has one that it does not.
fn known(spoilt: &str) -> BTreeSet<String> {
    let error = config::parse(spoilt, "node.toml", &Paths::below(Path::new("/nowhere"))).unwrap_err().to_string();
    let (_, expected) = error.split_once("expected ").unwrap_or_else(|| panic!("{error}"));
    expected.split('`').skip(1).step_by(2).map(str::to_owned).collect()
}

fn every_option_of_node_toml_can_be_written() {
    let node = node(EVERYTHING);
    let written = |path: &[&str]| -> BTreeSet<String> {
        let table = path.iter().fold(&node.0["settings"], |table, key| &table[key]);
        table.as_object().unwrap().keys().cloned().collect()
    };
    let of_subjects = written(&["subjects", "k3s"]);
    // `user` says it by name, [metrics] for all; users and units of one's own have claims of their own.
    for (spoilt, path, otherwise) in [
        ("zzz = 1", &[][..], &["allow_shared_uid"][..]),
        (
            "[personas.otto]\nzzz = 1",
            &["personas", "otto"],
            &["uid", "user", "unit", "agent_metrics", "wrapper_metrics"],
        ),
        ("[subjects.x]\nzzz = 1", &["subjects", "tunnel"], &["uid"]),
        ("[personas.otto.budget]\nzzz = 1", &["personas", "otto", "budget"], &[]),
        ("[page]\ncommand = []\nzzz = 1", &["page"], &[]),
        ("[metrics]\nzzz = 1", &["metrics"], &[]),
        ("[tcp.otto]\nzzz = 1", &["tcp", "otto"], &[]),
    ] {
        let mut missing: Vec<_> = known(spoilt).difference(&written(path)).cloned().collect();
        // No one subject can have them all.
        missing.retain(|name| path[..] != ["subjects", "tunnel"] || !of_subjects.contains(name));
        let missing: Vec<_> = missing.iter().filter(|name| !otherwise.contains(&name.as_str())).collect();
        assert!(missing.is_empty(), "{path:?}: the module, or the example of this test, has no {missing:?}");
    }
}

fn the_build_accepts_it() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("node.toml");
    std::fs::write(&file, node(EVERYTHING).node_toml()).unwrap();
    let check = |file: &Path| {
        let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_zeta-bft"));
        command.arg("--dir").arg(folder.path().join("zeta-bft")).arg("check-config").arg(file).output().unwrap()
    };
    let output = check(&file);
    assert!(output.status.success(), "{output:?}");
    std::fs::write(&file, "mode = \"dry\"").unwrap();
    assert!(!check(&file).status.success());
}

fn the_polkit_rule_is_the_one_that_zeta_bft_writes() {
    for configuration in ["{ zeta.bft.active = true; }", EVERYTHING] {
        let node = node(configuration);
        let rule = &node.0["etc"]["polkit-1/rules.d/49-zeta-bft.rules"];
        assert_eq!(rule["text"].as_str().unwrap(), config::polkit::rule());
        assert_eq!((&rule["mode"], &node.0["polkit"]["enable"]), (&"0644".into(), &true.into()));
    }
}

fn what_makes_no_committee_is_refused_with_the_reason() {
    for (configuration, says) in [
        ("enable.vera = false;", "are of 2 vendors (google-gemini, anthropic); a committee needs at least three"),
        (r#"personas.vera.vendor = "anthropic";"#, "are of 2 vendors (google-gemini, anthropic)"),
        ("f = 2;", "zeta.bft.f = 2 needs 5 distinct vendors"),
        ("q = 3;", "zeta.bft.q = 3 must be from f+1 = 2 to vendors-1 = 2"),
        ("q = 1;", "zeta.bft.q = 1 must be from f+1 = 2"),
        ("enable.oto = true;", "zeta.bft.enable names oto, which zeta.bft.personas does not declare"),
        (r#"personas.otto.unit = "k3s-otto.service";"#, "begins with k3s (zeta-lior.service, k3s-otto.service"),
        (r#"personas.otto.user = "root";"#, "runs as root"),
        (r#"personas.otto.user = "zeta-bft-lior";"#, "as a daemon of the committee"),
        (r#"user = "zeta";"#, "zeta would run more than one persona"),
        (r#"personas.otto.user = "zeta-vera";"#, "zeta-vera would run more than one persona"),
    ] {
        let node = evaluate(&format!("{{ zeta.bft = {{ active = true; {configuration} }}; }}")).unwrap();
        let failed = node.failed();
        assert!(failed.iter().any(|message| message.contains(says)), "{configuration}: {failed:?}");
    }
    for (configuration, says) in [
        (r#"systemd.services.zeta-otto.after = [ "k3s.service" ];"#, "zeta-otto waits for k3s"),
        (r#"systemd.services."zeta-bft-agent@".wants = [ "k3s.service" ];"#, "zeta-bft-agent@ waits for k3s"),
        ("zeta.aiAgents.enable.otto = true;", "zeta.aiAgents and zeta.bft both run otto"),
    ] {
        let node = evaluate(&format!("{{ zeta.bft.active = true; {configuration} }}")).unwrap();
        assert!(node.failed().iter().any(|message| message.contains(says)), "{configuration}: {:?}", node.failed());
    }
}

fn an_unknown_option_or_a_value_of_another_type_is_refused() {
    for (configuration, says) in [
        ("tickInterval = 60;", "The option `zeta.bft.tickInterval' does not exist"),
        ("personas.otto.tick = 1;", "The option `zeta.bft.personas.otto.tick' does not exist"),
        (r#"subjects.x.kindd = "unit";"#, "The option `zeta.bft.subjects.x.kindd' does not exist"),
        (r#"personas.otto.ladder = [ { acton = "restart"; } ];"#, "ladder.acton' does not exist"),
        (r#"personas.otto.ladder = [ { action = "reboot"; } ];"#, "is not of type"),
        (r#"mode = "dry";"#, "`zeta.bft.mode' is not of type"),
        (r#"tickIntervalSec = "60";"#, "`zeta.bft.tickIntervalSec' is not of type"),
        ("personas.otto.tickLimit = 30;", "`zeta.bft.personas.otto.tickLimit' is not of type"),
        (r#"enable.otto = "yes";"#, "`zeta.bft.enable.otto' is not of type"),
        ("settings = { };", "`zeta.bft.settings' is read-only"),
        ("enable.riven = true;", "`zeta.bft.personas.riven.command' was accessed but has no value"),
    ] {
        let error = evaluate(&format!("{{ zeta.bft = {{ active = true; {configuration} }}; }}")).err();
        let error = error.unwrap_or_else(|| panic!("{configuration} was accepted"));
        assert!(error.contains(says), "{configuration}: {error}");
    }
}

fn a_shared_user_needs_the_explicit_word() {
    let node = node(r#"{ zeta.bft = { active = true; user = "zeta"; home = "/home/zeta"; allowSharedUid = true; }; }"#);
    assert!(strings(&node.0["warnings"])[0].contains("isolation between personas is off"));
    let toml = node.node_toml();
    assert!(toml.contains("allow_shared_uid = true") && toml.contains(r#"user = "zeta""#), "{toml}");
    settings(&toml);
    let otto = &node.service("zeta-otto")["serviceConfig"];
    assert_eq!((&otto["User"], &otto["WorkingDirectory"]), (&"zeta".into(), &"/home/zeta".into()));
    let declared = node.0["users"].as_object().unwrap();
    assert!(!declared.contains_key("zeta"), "a user that somebody else declares is not declared here");
}

fn node_toml_and_hint_are_real_files_that_root_alone_writes() {
    let checked = node("{ zeta.bft.active = true; }");
    let unchecked = node("{ zeta.bft = { active = true; checkConfig = false; }; }");
    for file in ["zeta-bft/node.toml", "zeta-bft/README"] {
        assert_eq!(checked.0["etc"][file]["mode"], "0644", "{file}");
    }
    let build = checked.0["etc"]["zeta-bft/node.toml"]["source"]["script"].as_str().unwrap();
    assert!(build.contains("check-config"), "{build}");
    assert_eq!(unchecked.0["etc"]["zeta-bft/node.toml"]["source"]["toml"], unchecked.0["settings"]);
}

fn the_hint_names_only_commands_that_there_are() {
    use clap::CommandFactory as _;
    let node = node("{ zeta.bft.active = true; }");
    let hint = node.0["etc"]["zeta-bft/README"]["text"].as_str().unwrap();
    let known = zeta_bft::commands::Cli::command();
    let known: Vec<_> = known.get_subcommands().map(clap::Command::get_name).collect();
    let named: Vec<_> = hint.lines().filter_map(|line| line.split("  zeta-bft ").nth(1)?.split(' ').next()).collect();
    assert!(named.len() >= 4, "{hint}");
    let unknown: Vec<_> = named.iter().filter(|name| !known.contains(name)).collect();
    assert!(unknown.is_empty(), "{unknown:?} are no commands: {known:?}");
}

fn the_package_builds_from_the_lock_file() {
    let node = node("{ zeta.bft.active = true; }");
    let package = &node.0["package"];
    assert_eq!(package["name"], concat!("zeta-bft-", env!("CARGO_PKG_VERSION")));
    assert!(package["lock"].as_str().unwrap().ends_with("Cargo.lock"));
    assert_eq!(package["meta"]["mainProgram"], "zeta-bft");
}
