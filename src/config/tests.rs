//! Bad configurations and their exact complaints; good ones and what becomes of them.

mod k3s;
mod tcp;

use super::*;
use crate::protocol::evidence::Reason;
use crate::protocol::policy::{Action, Consent, Mode, Policy, Timing};
use crate::protocol::types::{ClusterId, NodeId, PersonaId, SubjectName, VendorId};
use std::time::Duration;
use users::Account;

const GOOD: &str = "\
cluster = \"home\"
node = \"n1\"
mode = \"act\"
[personas.otto]
vendor = \"anthropic\"
command = [\"claude\"]
[personas.lior]
vendor = \"google-gemini\"
command = [\"gemini\"]
[personas.vera]
vendor = \"openai\"
command = [\"codex\"]
";

fn paths() -> Paths {
    Paths::below(Path::new("/tmp/x"))
}

const NODE_USERS: &[&str] = &[
    "zeta-bft-warden",
    "zeta-bft-page",
    "zeta-lior",
    "zeta-bft-lior",
    "zeta-otto",
    "zeta-bft-otto",
    "zeta-vera",
    "zeta-bft-vera",
];

/// A machine with these users, numbered from 900 on.
fn users(names: &[&str]) -> Users {
    let account = |(name, id): (&&str, u32)| ((*name).to_owned(), Account { uid: id, gid: id });
    let root = ("root".to_owned(), Account { uid: 0, gid: 0 });
    Users::Only(names.iter().zip(900..).map(account).chain([root]).collect())
}

fn on_a_node(text: &str) -> Result<Settings, String> {
    parse_with(text, "node.toml", &Paths::system(), &users(NODE_USERS)).map_err(|error| error.to_string())
}

fn complaint(text: &str) -> String {
    parse(text, "node.toml", &paths()).expect_err("this configuration is bad").to_string()
}

fn with(more: &str) -> String {
    format!("{GOOD}{more}")
}

#[test]
fn a_complaint_shows_line_caret_and_nearest_name() {
    assert_eq!(
        complaint("cluster = \"home\"\nnode = \"n1\"\nmoed = \"act\"\n"),
        "node.toml:3:1: unknown field `moed`\n  3 | moed = \"act\"\n    | ^^^^ did you mean `mode`?"
    );
}

#[test]
fn every_bad_configuration_gets_its_own_complaint() {
    let run = |argv: &str| with(&format!("[[personas.otto.ladder]]\naction = \"run\"\nargv = {argv}\n"));
    let aside = |action: &str, path: &str| {
        with(&format!("[[personas.otto.ladder]]\naction = \"{action}\"\npath = \"{path}\"\n"))
    };
    let cases: Vec<(String, &str)> = vec![
        (
            GOOD.replace("\"act\"", "\"atc\""),
            "node.toml:3:8: unknown value `atc`\n  3 | mode = \"atc\"\n    |        ^^^^^ did you mean `act`?",
        ),
        (
            GOOD.replace("\"act\"", "act"),
            "node.toml:3:8: string values must be quoted, expected literal string\n  3 | mode = act\n    |        ^^^",
        ),
        (
            GOOD.replace("mode = \"act\"\n", ""),
            "node.toml: `mode` is missing: write mode = \"observe\" or mode = \"act\"",
        ),
        (GOOD.replace("cluster = \"home\"\n", ""), "node.toml: `cluster` is missing"),
        (
            GOOD.replace("\"n1\"", "\"N 1\""),
            "node.toml:2:8: `N 1` is no node name: use 1 to 64 of a-z, 0-9, `-`, `.`, `_`, beginning with a letter or digit\n  2 | node = \"N 1\"\n    |        ^^^^^",
        ),
        (
            GOOD.replace("\"anthropic\"", "\"antropic\""),
            "node.toml:5:10: unknown vendor `antropic`\n  5 | vendor = \"antropic\"\n    |          ^^^^^^^^^^ did you mean `anthropic`?",
        ),
        (
            GOOD.replace("\"openai\"", "\"anthropic\""),
            "node.toml: f = 1 needs at least 3 distinct vendors, but there are 2",
        ),
        (
            format!("f = 2\n{GOOD}"),
            "node.toml:1:5: f = 2 needs at least 5 distinct vendors, but there are 3\n  1 | f = 2\n    |     ^",
        ),
        (
            format!("f = 0\n{GOOD}"),
            "node.toml:1:5: f must be at least 1: with f = 0 a single liar moves everything\n  1 | f = 0\n    |     ^",
        ),
        (
            format!("q = 3\n{GOOD}"),
            "node.toml:1:5: q = 3 does not fit 3 vendors and f = 1: it must be from 2 (f+1) to 2 (the voters a persona has)\n  1 | q = 3\n    |     ^",
        ),
        (
            with("[personas.alexa]\nvendor = \"alibaba-qwen\"\n"),
            "node.toml:13:11: persona alexa has no `command`\n  13 | [personas.alexa]\n     |           ^^^^^",
        ),
        (
            with("[personas.alexa]\ncommand = [\"qwen\"]\n"),
            "node.toml:13:11: persona alexa has no `vendor`\n  13 | [personas.alexa]\n     |           ^^^^^",
        ),
        (
            with("[personas.warden]\nvendor = \"openai\"\ncommand = [\"x\"]\n"),
            "node.toml:13:11: a persona cannot be called `warden`: the word is taken\n  13 | [personas.warden]\n     |           ^^^^^^",
        ),
        (
            with("[personas.alexa]\nvendor = \"alibaba-qwen\"\ncommand = []\n"),
            "node.toml:15:11: a command needs at least a program\n  15 | command = []\n     |           ^^",
        ),
        (
            with("[personas.alexa]\nvendor = \"alibaba-qwen\"\ncommand = [\"x\"]\ntick_intervall = \"60s\"\n"),
            "node.toml:16:1: unknown field `tick_intervall`\n  16 | tick_intervall = \"60s\"\n     | ^^^^^^^^^^^^^^ did you mean `tick_interval`?",
        ),
        (
            with("[personas.alexa]\nvendor = \"alibaba-qwen\"\ncommand = [\"x\"]\ntick_interval = \"60\"\n"),
            "node.toml:16:17: invalid value: string \"60\", expected a duration with its unit, such as \"250ms\", \"60s\" or \"30m\"\n  16 | tick_interval = \"60\"\n     |                 ^^^^",
        ),
        (
            with("[personas.alexa]\nvendor = \"alibaba-qwen\"\ncommand = [\"x\"]\ntick_interval = 60\n"),
            "node.toml:16:17: invalid type: integer `60`, expected a duration with its unit, such as \"250ms\", \"60s\" or \"30m\"\n  16 | tick_interval = 60\n     |                 ^^",
        ),
        (
            with("[personas.alexa]\nvendor = \"alibaba-qwen\"\ncommand = [\"x\"]\ntick_limit = \"0s\"\n"),
            "node.toml:16:14: 0s is out of range: it must be from 100ms to 7days\n  16 | tick_limit = \"0s\"\n     |              ^^^^",
        ),
        (
            with("[personas.alexa]\nvendor = \"alibaba-qwen\"\ncommand = [\"x\"]\nunit = \"zeta-otto.service\"\n"),
            "node.toml:4:11: alexa and otto have one and the same unit, zeta-otto.service\n  4 | [personas.otto]\n    |           ^^^^",
        ),
        (
            with("[personas.alexa]\nvendor = \"alibaba-qwen\"\ncommand = [\"x\"]\nunit = \"k3s-alexa.service\"\n"),
            "node.toml:16:8: `k3s-alexa.service` begins with `k3s`: k3s-killall.sh would stop it together with k3s\n  16 | unit = \"k3s-alexa.service\"\n     |        ^^^^^^^^^^^^^^^^^^^",
        ),
        (
            with("[personas.alexa]\nvendor = \"alibaba-qwen\"\ncommand = [\"x\"]\nunit = \"../alexa.service\"\n"),
            "node.toml:16:8: `../alexa.service` is no name of a service, such as `zeta-otto.service`\n  16 | unit = \"../alexa.service\"\n     |        ^^^^^^^^^^^^^^^^^^",
        ),
        (
            with("[personas.alexa]\nvendor = \"alibaba-qwen\"\ncommand = [\"x\"]\nworking_dir = \"home\"\n"),
            "node.toml:16:15: working_dir must be an absolute path\n  16 | working_dir = \"home\"\n     |               ^^^^^^",
        ),
        (
            with("[[personas.otto.patterns]]\nregex = \"(\"\nreason = \"quota\"\n"),
            "node.toml:14:9: no regular expression\n  14 | regex = \"(\"\n     |         ^^^ unclosed group",
        ),
        (
            with(
                "[personas.alexa]\nvendor = \"alibaba-qwen\"\ncommand = [\"x\"]\n[[personas.alexa.patterns]]\nregex = \".*\"\nreason = \"quota\"\n",
            ),
            "node.toml:17:9: this pattern matches every line: no failed tick would ever count\n  17 | regex = \".*\"\n     |         ^^^^",
        ),
        (
            with(
                "[personas.alexa]\nvendor = \"alibaba-qwen\"\ncommand = [\"x\"]\n[[personas.alexa.patterns]]\nregex = \"a(\"\nreason = \"quota\"\n",
            ),
            "node.toml:17:9: no regular expression\n  17 | regex = \"a(\"\n     |         ^^^^ unclosed group",
        ),
        (
            with(
                "[personas.alexa]\nvendor = \"alibaba-qwen\"\ncommand = [\"x\"]\n[[personas.alexa.patterns]]\nregex = \"a\"\nreason = \"running\"\n",
            ),
            "node.toml:18:10: unknown value `running`\n  18 | reason = \"running\"\n     |          ^^^^^^^^^ expected `quota`, `auth`, `setup`, `vendor_down`, `network_down` or `disk_full`",
        ),
        (
            with("[subjects.\"oto/agent\"]\nexit0 = \"fault\"\n"),
            "node.toml:13:11: unknown persona `oto`\n  13 | [subjects.\"oto/agent\"]\n     |           ^^^^^^^^^^^ did you mean `otto`?",
        ),
        (
            with("[subjects.otto]\nexit0 = \"fault\"\n"),
            "node.toml:13:11: `otto` is a persona: write its options below [personas.otto]\n  13 | [subjects.otto]\n     |           ^^^^",
        ),
        (
            with("[subjects.tunnel]\nunit = \"tunnel.service\"\n"),
            "node.toml:13:11: subject tunnel has no `kind`: write kind = \"unit\" or kind = \"k3s\"\n  13 | [subjects.tunnel]\n     |           ^^^^^^",
        ),
        (
            with("[subjects.tunnel]\nkind = \"unit\"\n"),
            "node.toml:13:11: subject tunnel has no `unit`\n  13 | [subjects.tunnel]\n     |           ^^^^^^",
        ),
        (
            with("[subjects.k3s]\nkind = \"k8s\"\n"),
            "node.toml:14:8: unknown value `k8s`\n  14 | kind = \"k8s\"\n     |        ^^^^^ did you mean `k3s`?",
        ),
        (
            with("[policy]\nheartbeat = \"1s\"\n"),
            "node.toml:14:13: heartbeat = 1s must not exceed a quarter of crash.vote_ttl = 2s: votes must be renewed well before they expire\n  14 | heartbeat = \"1s\"\n     |             ^^^^",
        ),
        (
            with("[policy.hang]\nchallenge = \"1s\"\n"),
            "node.toml:14:13: hang.challenge = 1s must be less than half of hang.vote_ttl = 2s: an answer must come while the votes still hold\n  14 | challenge = \"1s\"\n     |             ^^^^",
        ),
        (
            with("[policy.broken]\nvote_ttl = \"900ms\"\n"),
            "node.toml:14:12: broken.challenge = 500ms must be less than half of broken.vote_ttl = 900ms: an answer must come while the votes still hold\n  14 | vote_ttl = \"900ms\"\n     |            ^^^^^^^",
        ),
        (
            with("[policy]\nbroken_ticks = 0\n"),
            "node.toml:14:16: broken_ticks = 0 must be from 1 to 100\n  14 | broken_ticks = 0\n     |                ^",
        ),
        (
            with("[policy]\nnode_per_day = 0\n"),
            "node.toml:14:16: node_per_day must be at least 1\n  14 | node_per_day = 0\n     |                ^",
        ),
        (
            with("[page]\ncommand = [\"mail\"]\n"),
            "node.toml:14:11: `mail` must be an absolute path: no PATH is searched here\n  14 | command = [\"mail\"]\n     |           ^^^^^^^^",
        ),
        (
            with("[metrics]\nwarden = \"127.0.0.1:9465\"\n"),
            "node.toml: the warden and lior's agent have one scrape address, 127.0.0.1:9465: see [metrics]",
        ),
        (
            with("[subjects.k3s]\nkind = \"k3s\"\n[subjects.k3s.budget]\ncapacity = 0\n"),
            "node.toml:16:12: capacity = 0 must be from 1 to 1000\n  16 | capacity = 0\n     |            ^",
        ),
        (
            with("[[subjects.k3s.ladder]]\naction = \"restrat\"\n"),
            "node.toml:14:10: unknown value `restrat`\n  14 | action = \"restrat\"\n     |          ^^^^^^^^^ did you mean `restart`?",
        ),
        (
            with("[subjects.k3s]\nkind = \"k3s\"\nladder = []\n"),
            "node.toml:13:11: a ladder has from 1 to 16 rungs, this one has 0\n  13 | [subjects.k3s]\n     |           ^^^",
        ),
        (
            with("[subjects.k3s]\nkind = \"k3s\"\nladder = [{ action = \"restart\", path = \"/x\" }]\n"),
            "node.toml:15:40: `path` belongs to `move-aside` and `copy-aside`, not to this action\n  15 | ladder = [{ action = \"restart\", path = \"/x\" }]\n     |                                        ^^^^",
        ),
        (
            with("[subjects.k3s]\nkind = \"k3s\"\nladder = [{ action = \"run\" }]\n"),
            "node.toml:15:22: this action needs an `argv`\n  15 | ladder = [{ action = \"run\" }]\n     |                      ^^^^^",
        ),
        (
            GOOD.replace("node = \"n1\"\n", "node = \"n1\"\nnode = \"n2\"\n"),
            "node.toml:3:1: duplicate key\n  3 | node = \"n2\"\n    | ^^^^",
        ),
        (
            run("[\"k3s\"]"),
            "node.toml:15:8: `k3s` must be an absolute path: no PATH is searched here\n  15 | argv = [\"k3s\"]\n     |        ^^^^^^^",
        ),
        (
            run("[\"/bin/k3s\", \"server\", \"--cluster-reset\"]"),
            "node.toml:15:8: `cluster-reset` is never automatic: it makes this node forget all others\n  15 | argv = [\"/bin/k3s\", \"server\", \"--cluster-reset\"]\n     |        ^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^",
        ),
        (
            run("[\"/bin/k3s-killall.sh\"]"),
            "node.toml:15:8: `k3s-killall` needs the operator: it ends every container of the node; write consent = \"quorum+operator\"\n  15 | argv = [\"/bin/k3s-killall.sh\"]\n     |        ^^^^^^^^^^^^^^^^^^^^^^^",
        ),
        (
            aside("move-aside", "/etc/passwd"),
            "node.toml:15:8: `/etc/passwd` lies outside of /var/lib/rancher/k3s/agent/, /tmp/x/state: nothing else may be touched\n  15 | path = \"/etc/passwd\"\n     |        ^^^^^^^^^^^^^",
        ),
    ];
    let mut wrong = Vec::new();
    for (text, expected) in cases {
        let found = complaint(&text);
        if found != expected {
            wrong.push(format!("--- expected\n{expected}\n--- found\n{found}\n=== {found:?}\n"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.concat());
}

#[test]
fn what_up_and_init_write_is_valid() {
    for vendor_clis in [false, true] {
        let settings = parse(&default_up_toml(vendor_clis), "node.toml", &paths()).unwrap();
        assert_eq!(settings.policy.mode, Mode::Act);
        assert_eq!((settings.f, settings.q, settings.personas.len(), settings.policy.subjects.len()), (1, 2, 3, 6));
        let otto = &settings.personas[&PersonaId::new("otto").unwrap()];
        let program = if vendor_clis { "claude" } else { "/bin/sh" };
        assert_eq!(otto.command[0], program);
        assert_eq!(otto.tick_interval, Duration::from_secs(if vendor_clis { 60 } else { 5 }));
        assert!(!settings.isolation);
    }
    let (cluster, node) = (ClusterId::new("home").unwrap(), NodeId::new("n1").unwrap());
    let text = default_node_toml(&cluster, &node);
    let settings = parse_with(&text, "node.toml", &Paths::system(), &users(NODE_USERS)).unwrap();
    assert_eq!((settings.policy.mode, settings.isolation), (Mode::Observe, true));
    assert_eq!(settings.policy.timing, Timing::default());
    assert_eq!((&settings.cluster, &settings.node), (&cluster, &node));
    let ports: Vec<_> =
        settings.personas.values().map(|p| (p.agent_metrics.port(), p.wrapper_metrics.port())).collect();
    assert_eq!(ports, [(9465, 9475), (9466, 9476), (9467, 9477)]);
}

#[test]
fn every_option_that_the_written_file_explains_exists() {
    let (cluster, node) = (ClusterId::new("home").unwrap(), NodeId::new("n1").unwrap());
    let is_option = |line: &str| {
        let line = line.trim_start_matches("# ");
        line.starts_with('[') || line.split_once(" = ").is_some_and(|(name, _)| !name.contains(' '))
    };
    let shown: String = default_node_toml(&cluster, &node)
        .lines()
        .map(|line| match line.strip_prefix("# ") {
            Some(option) if is_option(line) => format!("{option}\n"),
            _ => format!("{line}\n"),
        })
        .collect();
    let settings =
        parse_with(&shown, "node.toml", &Paths::system(), &users(NODE_USERS)).unwrap_or_else(|error| panic!("{error}"));
    assert_eq!(settings.policy.timing, Timing::default(), "the values shown are the defaults");
    let subject = |name: &str| settings.policy.subject(&SubjectName::new(name).unwrap()).unwrap().clone();
    assert_eq!(subject("otto").budget, Policy::PERSONA_BUDGET);
    assert_eq!(subject("otto").ladder.len(), 3);
    assert_eq!(subject("tunnel").unit, "tunnel.service");
    let k3s = SubjectName::new("k3s").unwrap();
    let plain = parse(&with("[subjects.k3s]\nkind = \"k3s\"\n"), "node.toml", &paths()).unwrap();
    assert_eq!(subject("k3s").ladder, plain.policy.subjects[&k3s].ladder);
    let timing = |settings: &Settings| (settings.k3s[&k3s].grace, settings.k3s[&k3s].failed_looks);
    assert_eq!(timing(&settings), timing(&plain));
    assert!(settings.page.is_some() && !settings.policy.drill);
}

#[test]
fn a_persona_gives_two_subjects_and_k3s_its_own_defaults() {
    let settings = parse(&with("[subjects.k3s]\nkind = \"k3s\"\n"), "node.toml", &paths()).unwrap();
    let subject = |name: &str| &settings.policy.subjects[&SubjectName::new(name).unwrap()];
    assert_eq!(
        (subject("otto").unit.as_str(), subject("otto/agent").unit.as_str()),
        ("zeta-otto.service", "zeta-bft-agent@otto.service")
    );
    assert_eq!(subject("otto/agent").vendor, Some(VendorId::new("anthropic").unwrap()));
    assert_eq!(subject("otto").ladder, Policy::persona_ladder());
    assert_eq!((subject("k3s").budget, subject("k3s").vendor.clone()), (Policy::K3S_BUDGET, None));
}

#[test]
fn a_k3s_begins_with_its_empty_keys_and_ends_with_a_human() {
    let ladder = |role: &str| {
        let text = with(&format!("[subjects.k3s]\nkind = \"k3s\"\nrole = \"{role}\"\n"));
        let policy = parse(&text, "node.toml", &paths()).unwrap().policy;
        let ladder = policy.subjects[&SubjectName::new("k3s").unwrap()].ladder.clone();
        for rung in &ladder {
            never::check(rung, Path::new("/var/lib/zeta-bft")).unwrap();
            assert_eq!(rung.consent, Consent::Quorum);
        }
        ladder.into_iter().map(|rung| rung.action).collect::<Vec<_>>()
    };
    let keys = Action::MoveAside { path: "/var/lib/rancher/k3s/agent".into() };
    let datastore = Action::CopyAside { path: "/var/lib/rancher/k3s/server/db".into() };
    assert_eq!(ladder("server"), [keys.clone(), datastore, Action::Restart, Action::Page]);
    assert_eq!(ladder("agent"), [keys, Action::Restart, Action::Page], "it has no datastore");
}

#[test]
fn of_two_values_the_later_file_counts_and_tables_merge_by_option() {
    let dir = tempfile::tempdir().unwrap();
    let paths = Paths::below(dir.path());
    std::fs::create_dir_all(paths.conf_d()).unwrap();
    std::fs::write(paths.node_toml(), GOOD).unwrap();
    std::fs::write(paths.conf_d().join("20-b.toml"), "mode = \"observe\"\n").unwrap();
    std::fs::write(paths.conf_d().join("10-a.toml"), "mode = \"act\"\n[personas.otto]\ntick_limit = \"5m\"\n").unwrap();
    std::fs::write(paths.conf_d().join("30-c.txt"), "nonsense").unwrap();
    let settings = load(&paths).unwrap();
    assert_eq!(settings.policy.mode, Mode::Observe);
    let otto = &settings.personas[&PersonaId::new("otto").unwrap()];
    assert_eq!(
        (otto.tick_limit, otto.command.as_slice()),
        (Duration::from_secs(300), ["claude".to_owned()].as_slice())
    );
    assert_eq!(settings.policy.timing.tick_limit, Duration::from_secs(30 * 60), "the longest of all personas");

    let file = paths.conf_d().join("40-d.toml");
    std::fs::write(&file, "f = 4\n").unwrap();
    let place = format!("{}:1:5: f = 4 needs at least 9 distinct vendors, but there are 3", file.display());
    assert!(load(&paths).unwrap_err().to_string().starts_with(&place));
}

#[test]
fn the_digest_covers_subjects_ladders_and_budgets_and_nothing_of_one_daemon() {
    let digest = |text: &str| parse(text, "node.toml", &paths()).unwrap().policy.digest;
    let base = digest(GOOD);
    for same in [
        GOOD.replace("\"act\"", "\"observe\""),
        with("[metrics]\nwarden = \"127.0.0.1:0\"\n"),
        with("[policy.drill]\nenabled = true\n"),
        GOOD.replace("[\"claude\"]", "[\"claude\", \"--print\"]"),
    ] {
        assert_eq!(digest(&same), base, "{same}");
    }
    for other in [
        with("[policy]\nnode_per_day = 29\n"),
        with("[subjects.tunnel]\nkind = \"unit\"\nunit = \"tunnel.service\"\n"),
        with("[subjects.\"otto/agent\".budget]\nper_day = 11\n"),
        with("[subjects.\"otto/agent\"]\nladder = [{ action = \"page\" }]\n"),
        with("[subjects.\"otto/agent\"]\nunit = \"other.service\"\n"),
    ] {
        assert_ne!(digest(&other), base, "{other}");
    }
}

#[test]
fn a_drill_lifts_what_it_is_told_to_lift() {
    let parsed = |more: &str| parse(&with(more), "node.toml", &paths()).unwrap().policy;
    let all = parsed("[policy.drill]\nenabled = true\n");
    assert_eq!((all.drill, all.timing), (true, Timing::drill()));
    assert!(all.subjects.values().all(|subject| subject.budget == Policy::DRILL_BUDGET));
    let some = parsed("[policy.drill]\nenabled = true\nlift_budgets = false\n");
    assert_eq!((some.node_per_day, some.timing.cool_down), (Policy::NODE_PER_DAY, Duration::ZERO));
    assert!(!parsed("[policy.drill]\nlift_budgets = true\n").drill);
}

#[test]
fn the_protocols_own_deadlines_fit_each_other() {
    timing::check(&Timing::default()).unwrap();
    timing::check(&Timing::drill()).unwrap();
}

#[test]
fn what_is_never_automatic_is_refused_however_it_is_spelled() {
    let argv = |line: &str| line.split(' ').map(str::to_owned).collect::<Vec<_>>();
    for line in [
        "/usr/local/bin/k3s server --cluster-reset",
        "/usr/local/bin/k3s certificate rotate-ca --path /x",
        "/bin/rm -rf /var/lib/rancher/k3s/server/tls",
        "/bin/rm -rf /var/lib/rancher/k3s//server/./tls",
        "/bin/sh -c 'rm /var/lib/rancher/k3s/server/\"cred\"/passwd'",
        "/bin/mv /var/lib/rancher/k3s/server/db/state.db /tmp",
        "/bin/rm x.db-wal",
        "/usr/local/bin/k3s-uninstall.sh",
        "/usr/bin/kubectl delete node n1",
        "/usr/bin/timedatectl set-time 12:00",
    ] {
        for consent in [false, true] {
            let found = never::check_command(&argv(line), consent);
            assert!(matches!(found, Err(never::Never::Always { .. })), "{line}: {found:?}");
        }
    }
    for line in ["/usr/local/bin/k3s-killall.sh", "/usr/local/bin/k3s certificate rotate", "/sbin/reboot"] {
        let found = never::check_command(&argv(line), false);
        assert!(matches!(found, Err(never::Never::WithoutOperator { .. })), "{line}: {found:?}");
        assert_eq!(never::check_command(&argv(line), true), Ok(()), "{line}");
    }
    assert_eq!(never::check_command(&argv("/usr/bin/npm install --global @openai/codex"), false), Ok(()));
}

#[test]
fn only_files_below_few_folders_are_moved_or_copied_aside() {
    let state = Path::new("/var/lib/zeta-bft");
    let check = |path, copy| never::check_path(path, copy, state);
    assert_eq!(check("/var/lib/rancher/k3s/agent/client-kubelet.key", false), Ok(()));
    assert_eq!(check("/var/lib/rancher/k3s/server/db", true), Ok(()));
    assert_eq!(check("/var/lib/rancher/k3s/server/db/state.db-wal", true), Ok(()));
    assert_eq!(check("/var/lib/zeta-bft/agent-otto/last.receipt", false), Ok(()));
    // Of that folder only empty keys are moved.
    assert_eq!(check("/var/lib/rancher/k3s/agent", false), Ok(()));
    for path in [
        "agent/x",
        "/",
        "/var/lib/rancher/k3s/agent/../server/tls",
        "/var/lib/rancher/k3s/agent//x",
        "/var/lib/rancher/k3s/agent/./x",
        "/var/lib/rancher/k3s/agent/",
    ] {
        assert!(matches!(check(path, true), Err(never::Never::NotNormal(_))), "{path}");
    }
    for path in ["/var/lib/rancher/k3s/agents/x", "/etc/passwd", "/var/lib/zeta-bft", "/var/lib/rancher/k3s"] {
        for copy in [false, true] {
            assert!(matches!(check(path, copy), Err(never::Never::Outside { .. })), "{path}");
        }
    }
    let containers_and_all = check("/var/lib/rancher/k3s/agent", true);
    assert!(matches!(containers_and_all, Err(never::Never::Outside { .. })), "{containers_and_all:?}");
    for path in
        ["/var/lib/rancher/k3s/server/db", "/var/lib/rancher/k3s/server/tls", "/var/lib/zeta-bft/warden/warden.journal"]
    {
        assert!(matches!(check(path, false), Err(never::Never::Always { .. })), "{path}");
    }
}

/// How a line is read: by the first pattern that matches.
fn reading(vendor: &str, line: &str) -> Option<Reason> {
    let patterns = patterns::defaults(&VendorId::new(vendor).unwrap());
    patterns.iter().find(|pattern| pattern.regex.is_match(line)).map(|pattern| pattern.reason)
}

#[test]
fn what_the_vendors_clis_print_is_read_for_what_it_is() {
    let (claude, gemini, codex) = ("anthropic", "google-gemini", "openai");
    let cases = [
        (claude, "Not logged in · Please run /login", Reason::Auth),
        (claude, "Invalid API key · Please run /login", Reason::Auth),
        (
            claude,
            "API Error: 401 {\"type\":\"error\",\"error\":{\"type\":\"authentication_error\",\"message\":\"invalid x-api-key\"}}",
            Reason::Auth,
        ),
        (claude, "OAuth token has expired. Please obtain a new token or refresh your existing token.", Reason::Auth),
        (claude, "Claude AI usage limit reached|1760000000", Reason::Quota),
        (claude, "5-hour limit reached ∙ resets 3pm", Reason::Quota),
        (claude, "Weekly limit reached ∙ resets Oct 6, 1pm", Reason::Quota),
        (claude, "You've hit your limit · resets 4am (UTC)", Reason::Quota),
        (claude, "You've hit your session limit · resets 3:45pm", Reason::Quota),
        (claude, "Credit balance is too low", Reason::Quota),
        (claude, "API Error: 429 {\"type\":\"error\",\"error\":{\"type\":\"rate_limit_error\"}}", Reason::Quota),
        (
            claude,
            "API Error: 529 {\"type\":\"error\",\"error\":{\"type\":\"overloaded_error\",\"message\":\"Overloaded\"}}",
            Reason::VendorDown,
        ),
        (claude, "API Error: 500 Internal server error", Reason::VendorDown),
        (claude, "API Error: Connection error: getaddrinfo ENOTFOUND api.anthropic.com", Reason::NetworkDown),
        (claude, "API Error: Unable to connect to API (ECONNREFUSED)", Reason::NetworkDown),
        (
            gemini,
            "Please set an Auth method in your /home/zeta/.gemini/settings.json or specify one of the following environment variables before running: GEMINI_API_KEY",
            Reason::Auth,
        ),
        (
            gemini,
            "Gemini CLI is not running in a trusted directory. To proceed, either use `--skip-trust`, set the env",
            Reason::Setup,
        ),
        (gemini, "[API Error: API key not valid. Please pass a valid API key.]", Reason::Auth),
        (
            gemini,
            "[API Error: You exceeded your current quota, please check your plan and billing details.]",
            Reason::Quota,
        ),
        (gemini, "\"status\": \"RESOURCE_EXHAUSTED\"", Reason::Quota),
        (gemini, "You have exhausted your daily quota on this model.", Reason::Quota),
        (gemini, "[API Error: The model is overloaded. Please try again later.]", Reason::VendorDown),
        (gemini, "\"status\": \"UNAVAILABLE\"", Reason::VendorDown),
        (gemini, "TypeError: fetch failed sending request", Reason::NetworkDown),
        (codex, "Not inside a trusted directory and --skip-git-repo-check was not specified.", Reason::Setup),
        (codex, "ERROR: You've hit your usage limit. Upgrade to Pro or try again at 3:05 PM.", Reason::Quota),
        (codex, "error: insufficient_quota: You exceeded your current quota", Reason::Quota),
        (codex, "unexpected status 401 Unauthorized: Missing bearer or basic authentication in header", Reason::Auth),
        (codex, "Incorrect API key provided: sk-xxxx", Reason::Auth),
        (codex, "exceeded retry limit, last status: 429 Too Many Requests", Reason::Quota),
        (codex, "failed to lookup address information: Temporary failure in name resolution", Reason::NetworkDown),
        (codex, "unexpected status 503 Service Unavailable", Reason::VendorDown),
        (codex, "stream disconnected before completion: error sending request", Reason::NetworkDown),
        ("mistral", "quota exceeded, try again at 3pm", Reason::Quota),
        ("mistral", "Error: Quota Exceeded", Reason::Quota),
        ("mistral", "rate limit exceeded", Reason::Quota),
        ("mistral", "HTTP 429", Reason::Quota),
        ("mistral", "402 Payment Required", Reason::Quota),
        ("mistral", "please try again in 2h", Reason::Quota),
        ("mistral", "invalid API key", Reason::Auth),
        ("mistral", "You are not logged in", Reason::Auth),
        ("mistral", "HTTP 503", Reason::VendorDown),
        ("mistral", "502 Bad Gateway", Reason::VendorDown),
        ("mistral", "curl: (6) Could not resolve host: api.openai.com", Reason::NetworkDown),
        ("mistral", "connect: network is unreachable", Reason::NetworkDown),
        ("mistral", "Error: connect ECONNREFUSED 10.0.0.1:443", Reason::NetworkDown),
        ("mistral", "write /tmp/x: no space left on device", Reason::DiskFull),
        ("mistral", "Error: ENOSPC: no space left on device, write", Reason::DiskFull),
        ("mistral", "No space left on device (os error 28)", Reason::DiskFull),
    ];
    let wrong: Vec<_> = cases
        .iter()
        .filter(|(vendor, line, reason)| reading(vendor, line) != Some(*reason))
        .map(|(vendor, line, reason)| format!("{vendor}: {line}: {:?} instead of {reason}", reading(vendor, line)))
        .collect();
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[test]
fn what_is_the_personas_own_fault_is_no_environment() {
    for line in [
        "Segmentation fault (core dumped)",
        "SyntaxError: Unexpected token '<'",
        "Error: Cannot find module '/usr/lib/node_modules/@openai/codex/bin/codex.js'",
        "/bin/sh: 1: claude: not found",
        "thread 'main' panicked at src/main.rs:429:9",
        "error: unexpected argument '--print' found",
        "finished in 503 ms",
        "killed",
        "exit 1",
        "the limit of 401 lines was kept",
    ] {
        for vendor in ["anthropic", "google-gemini", "openai", "mistral"] {
            assert_eq!(reading(vendor, line), None, "{line}");
        }
    }
}

#[test]
fn a_configured_pattern_goes_before_the_defaults() {
    let text = GOOD.replace(
        "command = [\"claude\"]",
        "command = [\"claude\"]\npatterns = [{ regex = \"quota\", reason = \"network_down\" }]",
    );
    let settings = parse(&text, "node.toml", &paths()).unwrap();
    let otto = &settings.personas[&PersonaId::new("otto").unwrap()];
    let first = otto.patterns.iter().find(|pattern| pattern.regex.is_match("Quota exceeded")).unwrap();
    assert_eq!(first.reason, Reason::NetworkDown);
}

#[test]
fn a_vendors_cli_is_probed_by_its_version_and_nothing_else_unless_configured() {
    let probe = |command: &str| {
        let text = GOOD.replace("command = [\"claude\"]", command);
        parse(&text, "node.toml", &paths()).unwrap().personas[&PersonaId::new("otto").unwrap()].probe.clone()
    };
    let argv = |line: &str| Some(line.split(' ').map(str::to_owned).collect::<Vec<_>>());
    assert_eq!(probe("command = [\"claude\", \"--print\"]"), argv("claude --version"));
    assert_eq!(probe("command = [\"/usr/bin/codex\"]"), argv("/usr/bin/codex --version"));
    assert_eq!(probe("command = [\"/bin/sh\", \"-c\", \"claude\"]"), None);
    assert_eq!(probe("command = [\"claude\"]\nprobe = []"), None);
    assert_eq!(probe("command = [\"/bin/sh\"]\nprobe = [\"claude\", \"doctor\"]"), argv("claude doctor"));
    let text = GOOD.replace("command = [\"claude\"]", "command = [\"claude\"]\nprobe = [\" \"]");
    assert!(complaint(&text).contains("a command needs at least a program"));
}

#[test]
fn a_file_that_others_can_write_is_not_believed() {
    use std::os::unix::fs::PermissionsExt as _;
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::set_permissions(file.path(), std::fs::Permissions::from_mode(0o666)).unwrap();
    let error = owned_by_root(file.path()).unwrap_err().to_string();
    assert!(error.contains("cannot be believed: "), "{error}");
}

#[test]
fn on_a_node_wrappers_and_agents_run_as_their_own_users_and_foreign_units_as_whoever() {
    let settings =
        on_a_node(&with("[subjects.tunnel]\nkind = \"unit\"\nunit = \"t.service\"\n[subjects.k3s]\nkind = \"k3s\"\nuser = \"zeta-bft-page\"\n")).unwrap();
    let uid = |name: &str| settings.policy.subjects[&SubjectName::new(name).unwrap()].uid;
    assert_eq!(
        (uid("lior"), uid("lior/agent"), uid("vera"), uid("vera/agent")),
        (Some(902), Some(903), Some(906), Some(907))
    );
    assert_eq!((uid("tunnel"), uid("k3s")), (None, Some(901)));
    assert!(settings.isolation);
    let below_a_folder =
        parse(&with("[subjects.\"otto/agent\"]\nuser = \"nobody-of-this-name\"\n"), "node.toml", &paths()).unwrap();
    assert!(below_a_folder.policy.subjects.values().all(|subject| subject.uid.is_none()));
}

#[test]
fn a_user_that_is_not_there_or_written_twice_is_a_complaint_with_place_and_cure() {
    let otto = |more: &str| GOOD.replace("[\"claude\"]\n", &format!("[\"claude\"]\n{more}"));
    assert_eq!(
        on_a_node(&otto("user = \"zeta-ottto\"\n")).unwrap_err(),
        "node.toml:7:8: there is no user `zeta-ottto` on this node\n  7 | user = \"zeta-ottto\"\n    |        ^^^^^^^^^^^^ \
         `systemd-sysusers` makes those that come with zeta-bft; user = \"NAME\" names another"
    );
    assert!(
        on_a_node(&GOOD.replace("otto]", "otta]"))
            .unwrap_err()
            .starts_with("node.toml:4:11: there is no user `zeta-otta` on this node\n  4 | [personas.otta]")
    );
    assert!(
        on_a_node(&otto("uid = 1\nuser = \"zeta-otto\"\n"))
            .unwrap_err()
            .starts_with("node.toml:8:8: both user = \"zeta-otto\" and uid = 1 are written: one of them is enough")
    );
    assert!(complaint(&otto("uid = 1\nuser = \"x\"\n")).contains("one of them is enough"), "below a folder as well");
}

#[test]
fn nobody_shares_the_user_of_a_wrapper_or_an_agent_unless_it_is_said() {
    let otto = |more: &str| GOOD.replace("[\"claude\"]\n", &format!("[\"claude\"]\n{more}"));
    for (text, place, both) in [
        (otto("user = \"zeta-lior\"\n"), "node.toml:7:8: ", "lior and otto have one user, 902"),
        (otto("uid = 907\n"), "node.toml: ", "otto and vera/agent have one user, 907"),
        (otto("uid = 0\n"), "node.toml:7:7: ", "root and otto have one user, 0"),
        (otto("user = \"zeta-bft-warden\"\n"), "node.toml:7:8: ", "the warden and otto have one user, 900"),
        (otto("user = \"zeta-bft-page\"\n"), "node.toml:7:8: ", "the page unit and otto have one user, 901"),
        (
            with("[subjects.\"otto/agent\"]\nuser = \"zeta-otto\"\n"),
            "node.toml:14:8: ",
            "otto and otto/agent have one user, 904",
        ),
        (
            with("[subjects.tunnel]\nkind = \"unit\"\nunit = \"t.service\"\nuser = \"zeta-vera\"\n"),
            "node.toml: ",
            "tunnel and vera have one user, 906",
        ),
    ] {
        let found = on_a_node(&text).unwrap_err();
        assert!(found.starts_with(&format!("{place}{both}: ")) && found.contains("allow_shared_uid = true"), "{found}");
        let allowed = on_a_node(&format!("allow_shared_uid = true\n{text}")).unwrap();
        assert!(!allowed.isolation, "{text}");
        assert!(parse(&text, "node.toml", &paths()).is_ok(), "below a folder nothing is looked up");
    }
    assert!(on_a_node(&format!("allow_shared_uid = false\n{GOOD}")).unwrap().isolation);
}

#[test]
fn the_digest_covers_the_users_by_their_numbers() {
    let digest = |text: &str| on_a_node(text).unwrap().policy.digest;
    let page = |written: &str| with(&format!("[subjects.k3s]\nkind = \"k3s\"\n{written}\n"));
    assert_eq!(digest(&page("user = \"zeta-bft-page\"")), digest(&page("uid = 901")));
    assert_ne!(digest(&page("uid = 77")), digest(&page("uid = 901")));
    let moved = Users::Only(
        [("zeta-bft-vera", 990)]
            .into_iter()
            .chain(NODE_USERS[..7].iter().copied().zip(900..))
            .map(|(name, id)| (name.to_owned(), Account { uid: id, gid: id }))
            .collect(),
    );
    let elsewhere = parse_with(GOOD, "node.toml", &Paths::system(), &moved).unwrap().policy.digest;
    assert_ne!(elsewhere, digest(GOOD));
}
