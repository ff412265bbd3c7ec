//! The rollout script against a systemd, a committee and a /proc that the test makes. It needs bash alone.

use crate::Claim;
use crate::nix::root;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::{Command, Output};

pub const CLAIMS: &[Claim] = &[
    ("a_rollout_restarts_old_daemons_in_order_and_no_others", a_rollout_restarts_old_daemons_in_order_and_no_others),
    ("a_rollout_starts_nothing_that_was_stopped", a_rollout_starts_nothing_that_was_stopped),
    ("a_daemon_that_does_not_come_back_ends_the_rollout", a_daemon_that_does_not_come_back_ends_the_rollout),
    ("a_committee_that_gets_worse_ends_the_rollout", a_committee_that_gets_worse_ends_the_rollout),
    ("a_silent_warden_ends_the_rollout_before_any_agent", a_silent_warden_ends_the_rollout_before_any_agent),
    ("a_roster_that_does_not_fit_keeps_everything_as_it_is", a_roster_that_does_not_fit_keeps_everything_as_it_is),
    ("a_changed_policy_may_cost_votes_while_it_spreads", a_changed_policy_may_cost_votes_while_it_spreads),
    ("a_wrapper_is_restarted_between_two_ticks_only", a_wrapper_is_restarted_between_two_ticks_only),
    ("a_wrapper_that_ticks_for_ever_holds_up_no_other", a_wrapper_that_ticks_for_ever_holds_up_no_other),
    ("a_failed_unit_is_never_made_the_operators", a_failed_unit_is_never_made_the_operators),
    ("a_hostile_metrics_file_is_neither_read_nor_waited_for", a_hostile_metrics_file_is_neither_read_nor_waited_for),
    ("an_answer_without_end_is_cut_short", an_answer_without_end_is_cut_short),
    ("only_loopback_is_asked", only_loopback_is_asked),
];

const HAND: &str = "zeta-bft-hand.service";
const WARDEN: &str = "zeta-bft-warden.service";
const AGENTS: [&str; 2] = ["zeta-bft-agent@lior.service", "zeta-bft-agent@otto.service"];
const WRAPPERS: [&str; 2] = ["zeta-otto.service", "zeta-vera.service"];
const ALL: [&str; 6] = [HAND, WARDEN, AGENTS[0], AGENTS[1], WRAPPERS[0], WRAPPERS[1]];
/// Where the wrappers show their metrics.
const OTTO: &str = "127.0.0.1:9475";
const VERA: &str = "127.0.0.1:9476";

/// `systemctl`: a unit runs when it has a folder with `pid`; a restart gives its process the environment in `next`, runs
/// `on-restart` if there is one, and is logged.
const SYSTEMCTL: &str = r#"#!/usr/bin/env bash
unit=${@: -1}
[ -e "$NODE/$unit/pid" ] || { [ "$1" = show ] && echo 0 && exit 0; exit 3; }
pid=$(cat "$NODE/$unit/pid")
case $1 in
is-active) exit 0 ;;
show) echo "$pid" ;;
restart)
    echo "$unit" >>"$NODE/log"
    [ ! -e "$NODE/$unit/broken" ] || { rm "$NODE/$unit/pid"; exit 1; }
    cp "$NODE/$unit/next" "$NODE/proc/$pid/environ"
    [ ! -e "$NODE/$unit/on-restart" ] || . "$NODE/$unit/on-restart"
    ;;
esac
"#;

/// `curl`: gives the file named by the address and puts `ADDRESS.then` into its place; logs how it was called.
const CURL: &str = r#"#!/usr/bin/env bash
printf '%s\n' "$*" >>"$NODE/curl-log"
address=${@: -1}
address=${address#http://}
address=${address%/metrics}
cat "$NODE/$address"
[ ! -e "$NODE/$address.then" ] || mv "$NODE/$address.then" "$NODE/$address"
"#;

struct Node(tempfile::TempDir);

impl Node {
    /// A healthy committee, all of whose daemons run the old version.
    fn new() -> Self {
        let node = Self(tempfile::tempdir().unwrap());
        for (pid, unit) in ALL.into_iter().enumerate() {
            node.write(&format!("{unit}/pid"), &(pid + 100).to_string());
            node.write(&format!("{unit}/next"), "A=b\0ZETA_BFT_CONFIG=same\0ZETA_BFT_GENERATION=new\0");
            node.write(&format!("proc/{}/environ", pid + 100), "ZETA_BFT_CONFIG=same\0ZETA_BFT_GENERATION=old\0");
        }
        node.write("quorum", "0");
        node.write("check-config", "0");
        node.write(OTTO, "zeta_bft_tick_running 0\n");
        node.write(VERA, "zeta_bft_tick_running 0\n");
        node.program("systemctl", SYSTEMCTL);
        node.program("zeta-bft", "#!/bin/sh\nexit \"$(cat \"$NODE/$1\")\"\n");
        node.program("curl", CURL);
        node
    }

    fn path(&self) -> &Path {
        self.0.path()
    }

    fn write(&self, name: &str, text: &str) {
        let path = self.path().join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, text).unwrap();
    }

    fn program(&self, name: &str, text: &str) {
        self.write(&format!("bin/{name}"), text);
        let file = self.path().join("bin").join(name);
        std::fs::set_permissions(file, std::fs::Permissions::from_mode(0o755)).unwrap();
    }

    fn make_old(&self, unit: &str) {
        let pid = std::fs::read_to_string(self.path().join(unit).join("pid")).unwrap();
        self.write(&format!("proc/{pid}/environ"), "ZETA_BFT_CONFIG=same\0ZETA_BFT_GENERATION=old\0");
    }

    fn roll_out(&self, config: &str) -> Output {
        self.roll_out_at(config, OTTO, 60)
    }

    /// The same with another scrape address of otto's, and so many seconds for ticks to end.
    fn roll_out_at(&self, config: &str, otto: &str, patience: u32) -> Output {
        let path = format!("{}:{}", self.path().join("bin").display(), std::env::var("PATH").unwrap());
        Command::new("bash")
            .arg(root().join("deploy/nixos/rollout.sh"))
            .arg(config)
            .args([
                format!("hand,{HAND},new"),
                format!("warden,{WARDEN},new"),
                format!("agent,{},new", AGENTS[0]),
                format!("agent,{},new", AGENTS[1]),
                format!("wrap,{},new,{otto}", WRAPPERS[0]),
                format!("wrap,{},new,{VERA}", WRAPPERS[1]),
            ])
            .env("PATH", path)
            .env("NODE", self.path())
            .env("ZETA_BFT_ROLLOUT_PROC", self.path().join("proc"))
            .env("ZETA_BFT_ROLLOUT_PATIENCE", "1")
            .env("ZETA_BFT_ROLLOUT_TICK", patience.to_string())
            .env("ZETA_BFT_ROLLOUT_PAUSE", "0.05")
            .output()
            .unwrap()
    }

    fn restarted(&self) -> Vec<String> {
        let log = std::fs::read_to_string(self.path().join("log")).unwrap_or_default();
        log.lines().map(str::to_owned).collect()
    }
}

#[track_caller]
fn ended(output: &Output, says: &str) {
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(!output.status.success(), "{output:?}");
    assert!(error.starts_with("stopped: ") && error.contains(says), "{error}");
}

fn a_rollout_restarts_old_daemons_in_order_and_no_others() {
    let node = Node::new();
    let output = node.roll_out("same");
    assert!(output.status.success(), "{output:?}");
    assert_eq!(node.restarted(), ALL);
    let again = node.roll_out("same");
    assert!(again.status.success(), "{again:?}");
    assert_eq!(node.restarted().len(), 6, "what is new is left alone");
}

fn a_rollout_starts_nothing_that_was_stopped() {
    let node = Node::new();
    std::fs::remove_file(node.path().join(AGENTS[0]).join("pid")).unwrap();
    let output = node.roll_out("same");
    assert!(output.status.success(), "{output:?}");
    assert_eq!(node.restarted(), [HAND, WARDEN, AGENTS[1], WRAPPERS[0], WRAPPERS[1]]);
}

fn a_daemon_that_does_not_come_back_ends_the_rollout() {
    let node = Node::new();
    node.write(&format!("{}/broken", AGENTS[0]), "");
    ended(&node.roll_out("same"), "did not come back");
    assert_eq!(node.restarted(), [HAND, WARDEN, AGENTS[0]], "otto's agent keeps running as it was");
}

fn a_committee_that_gets_worse_ends_the_rollout() {
    let node = Node::new();
    node.write(&format!("{}/on-restart", AGENTS[0]), "echo 1 >\"$NODE/quorum\"\n");
    ended(&node.roll_out("same"), "the committee is worse (1, was 0)");
    assert_eq!(node.restarted(), [HAND, WARDEN, AGENTS[0]]);
}

fn a_silent_warden_ends_the_rollout_before_any_agent() {
    let node = Node::new();
    node.write("quorum", "3");
    node.write("proc/100/environ", "ZETA_BFT_CONFIG=same\0ZETA_BFT_GENERATION=new\0");
    node.write("proc/101/environ", "ZETA_BFT_CONFIG=same\0ZETA_BFT_GENERATION=new\0");
    ended(&node.roll_out("same"), "the warden does not answer");
    assert_eq!(node.restarted(), [""; 0]);
}

fn a_roster_that_does_not_fit_keeps_everything_as_it_is() {
    let node = Node::new();
    node.write("check-config", "1");
    ended(&node.roll_out("other"), "sign a roster");
    assert_eq!(node.restarted(), [""; 0]);
}

fn a_changed_policy_may_cost_votes_while_it_spreads() {
    let node = Node::new();
    node.write(&format!("{WARDEN}/on-restart"), "echo 2 >\"$NODE/quorum\"\n");
    node.write(&format!("{}/on-restart", AGENTS[1]), "echo 0 >\"$NODE/quorum\"\n");
    let output = node.roll_out("other");
    assert!(output.status.success(), "{output:?}");
    assert_eq!(node.restarted(), ALL);
}

fn a_wrapper_is_restarted_between_two_ticks_only() {
    let node = Node::new();
    node.write(OTTO, "zeta_bft_tick_running 1\n");
    node.write(&format!("{OTTO}.then"), "zeta_bft_tick_running 0\n");
    let output = node.roll_out("same");
    assert!(output.status.success(), "{output:?}");
    let order = [HAND, WARDEN, AGENTS[0], AGENTS[1], WRAPPERS[1], WRAPPERS[0]];
    assert_eq!(node.restarted(), order, "whoever is between two ticks is next");
}

fn a_wrapper_that_ticks_for_ever_holds_up_no_other() {
    for forever in ["zeta_bft_tick_running 1\n", "", "zeta_bft_tick_running 0.5\n"] {
        let node = Node::new();
        node.write(OTTO, forever);
        let output = node.roll_out_at("same", OTTO, 1);
        let error = String::from_utf8_lossy(&output.stderr);
        assert!(!output.status.success(), "{output:?}");
        assert!(error.starts_with("SKIPPED zeta-otto.service: ") && error.contains(OTTO), "{error}");
        assert!(error.contains("stopped: all but zeta-otto.service are new"), "{error}");
        assert_eq!(node.restarted(), [HAND, WARDEN, AGENTS[0], AGENTS[1], WRAPPERS[1]]);
    }
}

fn a_failed_unit_is_never_made_the_operators() {
    let node = Node::new();
    // otto's wrapper fails while the committee is waited for, after it was seen running.
    node.program(
        "zeta-bft",
        "#!/bin/sh\nif [ -e \"$NODE/curl-log\" ]; then rm -f \"$NODE/zeta-otto.service/pid\"; fi\nexit \"$(cat \"$NODE/$1\")\"\n",
    );
    let output = node.roll_out("same");
    assert!(output.status.success(), "{output:?}");
    assert!(String::from_utf8_lossy(&output.stdout).contains("zeta-otto.service ended meanwhile"), "{output:?}");
    assert_eq!(node.restarted(), [HAND, WARDEN, AGENTS[0], AGENTS[1], WRAPPERS[1]]);
}

/// An AI's own folder holds a file called `metrics`. Whatever it is made to be, root does not open it.
fn a_hostile_metrics_file_is_neither_read_nor_waited_for() {
    let node = Node::new();
    let folder = node.path().join("run/wrap-otto");
    std::fs::create_dir_all(&folder).unwrap();
    let metrics = folder.join("metrics");
    node.write("secret", "this-is-a-key");
    for hostile in ["symlink", "fifo"] {
        match hostile {
            "symlink" => std::os::unix::fs::symlink(node.path().join("secret"), &metrics).unwrap(),
            _ => {
                std::fs::remove_file(&metrics).unwrap();
                let made = Command::new("mkfifo").arg(&metrics).status().unwrap();
                assert!(made.success());
            }
        }
        let output = node.roll_out("same");
        assert!(output.status.success(), "{hostile}: {output:?}");
        let asked = std::fs::read_to_string(node.path().join("curl-log")).unwrap();
        assert!(!format!("{asked}{output:?}").contains("this-is-a-key"), "{hostile}: {asked}");
        node.make_old(WRAPPERS[0]);
    }
    assert_eq!(node.restarted().len(), 7, "both times it was rolled out to the end");
    let asked = std::fs::read_to_string(node.path().join("curl-log")).unwrap();
    for line in asked.lines() {
        assert!([OTTO, VERA].iter().any(|address| line.ends_with(&format!(" http://{address}/metrics"))), "{line}");
        for word in ["--disable", "--noproxy *", "--proto =http", "--max-redirs 0", "--max-time 5", "--max-filesize "] {
            assert!(line.contains(word), "{line}");
        }
        assert!(!line.contains("--location"), "{line}");
    }
    let script = std::fs::read_to_string(root().join("deploy/nixos/rollout.sh")).unwrap();
    assert!(!script.contains("/run/"), "the script has no business below /run");
}

fn an_answer_without_end_is_cut_short() {
    let node = Node::new();
    let endless =
        "#!/usr/bin/env bash\ncase $* in *9475*) exec cat /dev/zero ;; *) echo zeta_bft_tick_running 0 ;; esac\n";
    node.program("curl", endless);
    let output = node.roll_out_at("same", OTTO, 0);
    assert!(String::from_utf8_lossy(&output.stderr).contains("SKIPPED zeta-otto.service"), "{output:?}");
    assert_eq!(node.restarted(), [HAND, WARDEN, AGENTS[0], AGENTS[1], WRAPPERS[1]]);
}

fn only_loopback_is_asked() {
    for address in
        ["10.1.2.3:9475", "example.org:9475", "127.0.0.1:9475@example.org:80", "127.0.0.1.example.org:80", ""]
    {
        let node = Node::new();
        let output = node.roll_out_at("same", address, 0);
        assert!(String::from_utf8_lossy(&output.stderr).contains("SKIPPED zeta-otto.service"), "{output:?}");
        let asked = std::fs::read_to_string(node.path().join("curl-log")).unwrap();
        assert!(asked.lines().all(|line| line.ends_with(&format!("http://{VERA}/metrics"))), "{address}: {asked}");
    }
}
