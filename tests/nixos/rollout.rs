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
];

const WARDEN: &str = "zeta-bft-warden.service";
const AGENTS: [&str; 2] = ["zeta-bft-agent@lior.service", "zeta-bft-agent@otto.service"];
const WRAPPER: &str = "zeta-otto.service";

/// `systemctl`: a unit runs when it has a folder with `pid`; a restart gives its process the environment in `next`, runs
/// `on-restart` if there is one, and is logged.
const SYSTEMCTL: &str = r#"#!/usr/bin/env bash
unit=${@: -1}
[ -e "$NODE/$unit/pid" ] || { [ "$1" = show ] && echo 0 && exit 0; exit 3; }
pid=$(cat "$NODE/$unit/pid")
case $1 in
is-active) exit 0 ;;
show) echo "$pid" ;;
try-restart)
    echo "$unit" >>"$NODE/log"
    [ ! -e "$NODE/$unit/broken" ] || { rm "$NODE/$unit/pid"; exit 1; }
    cp "$NODE/$unit/next" "$NODE/proc/$pid/environ"
    [ ! -e "$NODE/$unit/on-restart" ] || . "$NODE/$unit/on-restart"
    ;;
esac
"#;

struct Node(tempfile::TempDir);

impl Node {
    /// A healthy committee, all of whose daemons run the old version.
    fn new() -> Self {
        let node = Self(tempfile::tempdir().unwrap());
        for (pid, unit) in [WARDEN, AGENTS[0], AGENTS[1], WRAPPER].into_iter().enumerate() {
            node.write(&format!("{unit}/pid"), &(pid + 100).to_string());
            node.write(&format!("{unit}/next"), "A=b\0ZETA_BFT_CONFIG=same\0ZETA_BFT_GENERATION=new\0");
            node.write(&format!("proc/{}/environ", pid + 100), "ZETA_BFT_CONFIG=same\0ZETA_BFT_GENERATION=old\0");
        }
        node.write("quorum", "0");
        node.write("check-config", "0");
        node.write("run/wrap-otto/metrics", "127.0.0.1:1");
        node.write("ticks", "zeta_bft_tick_running 0\n");
        node.program("systemctl", SYSTEMCTL);
        node.program("zeta-bft", "#!/bin/sh\nexit \"$(cat \"$NODE/$1\")\"\n");
        node.program(
            "curl",
            "#!/usr/bin/env bash\ncat \"$NODE/ticks\"\n[ ! -e \"$NODE/then\" ] || mv \"$NODE/then\" \"$NODE/ticks\"\n",
        );
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

    fn roll_out(&self, config: &str) -> Output {
        let path = format!("{}:{}", self.path().join("bin").display(), std::env::var("PATH").unwrap());
        Command::new("bash")
            .arg(root().join("deploy/nixos/rollout.sh"))
            .arg(config)
            .args([
                format!("warden:{WARDEN}:new"),
                format!("agent-lior:{}:new", AGENTS[0]),
                format!("agent-otto:{}:new", AGENTS[1]),
                format!("wrap-otto:{WRAPPER}:new"),
            ])
            .env("PATH", path)
            .env("NODE", self.path())
            .env("ZETA_BFT_ROLLOUT_RUN", self.path().join("run"))
            .env("ZETA_BFT_ROLLOUT_PROC", self.path().join("proc"))
            .env("ZETA_BFT_ROLLOUT_PATIENCE", "1")
            .env("ZETA_BFT_ROLLOUT_TICK", "5")
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
    assert_eq!(node.restarted(), [WARDEN, AGENTS[0], AGENTS[1], WRAPPER]);
    let again = node.roll_out("same");
    assert!(again.status.success(), "{again:?}");
    assert_eq!(node.restarted().len(), 4, "what is new is left alone");
}

fn a_rollout_starts_nothing_that_was_stopped() {
    let node = Node::new();
    std::fs::remove_file(node.path().join(AGENTS[0]).join("pid")).unwrap();
    let output = node.roll_out("same");
    assert!(output.status.success(), "{output:?}");
    assert_eq!(node.restarted(), [WARDEN, AGENTS[1], WRAPPER]);
}

fn a_daemon_that_does_not_come_back_ends_the_rollout() {
    let node = Node::new();
    node.write(&format!("{}/broken", AGENTS[0]), "");
    ended(&node.roll_out("same"), "did not come back");
    assert_eq!(node.restarted(), [WARDEN, AGENTS[0]], "otto's agent keeps running as it was");
}

fn a_committee_that_gets_worse_ends_the_rollout() {
    let node = Node::new();
    node.write(&format!("{}/on-restart", AGENTS[0]), "echo 1 >\"$NODE/quorum\"\n");
    ended(&node.roll_out("same"), "the committee is worse (1, was 0)");
    assert_eq!(node.restarted(), [WARDEN, AGENTS[0]]);
}

fn a_silent_warden_ends_the_rollout_before_any_agent() {
    let node = Node::new();
    node.write("quorum", "3");
    node.write("proc/100/environ", "ZETA_BFT_CONFIG=same\0ZETA_BFT_GENERATION=new\0");
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
    assert_eq!(node.restarted(), [WARDEN, AGENTS[0], AGENTS[1], WRAPPER]);
}

fn a_wrapper_is_restarted_between_two_ticks_only() {
    let node = Node::new();
    node.write("ticks", "zeta_bft_tick_running 1\n");
    ended(&node.roll_out("same"), "a tick of zeta-otto.service does not end");
    assert_eq!(node.restarted(), [WARDEN, AGENTS[0], AGENTS[1]]);
    node.write("then", "zeta_bft_tick_running 0\n");
    let output = node.roll_out("same");
    assert!(output.status.success(), "{output:?}");
    assert_eq!(node.restarted().last().unwrap(), WRAPPER);
}
