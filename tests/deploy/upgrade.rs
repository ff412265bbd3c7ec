//! The package's `postinst` on an upgrade, against a systemd and a committee that the test makes. It needs a shell alone.

use crate::shipped::{read, text};
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::{Command, Output};

const AGENTS: [&str; 3] = ["zeta-bft-agent@lior.service", "zeta-bft-agent@otto.service", "zeta-bft-agent@vera.service"];
const HAND: &str = "zeta-bft-hand.service";
const WARDEN: &str = "zeta-bft-warden.service";

/// `systemctl`: a unit is in the state that the file of its name holds; lists those in one of the states that fit the pattern.
const SYSTEMCTL: &str = r#"#!/bin/sh
for last; do :; done
case "$*" in
*is-active*) [ "$(cat "$NODE/units/$last" 2>/dev/null)" = active ] ;;
*list-units*)
    states=${*#*--state=}
    cd "$NODE/units"
    for unit in *; do
        state=$(cat "$unit")
        case ,${states%% *}, in *,$state,*) case $unit in $last) echo "$unit loaded $state x" ;; esac ;; esac
    done
    ;;
esac
"#;

/// Restarts a unit, and logs it. One with a file in `broken` is then started again and again, in vain.
const INVOKE: &str = r#"#!/bin/sh
echo "$2" >>"$NODE/log"
if [ -e "$NODE/broken/$2" ]; then
    echo activating >"$NODE/units/$2"
    exit 1
fi
echo active >"$NODE/units/$2"
if [ -e "$NODE/harm/$2" ]; then cp "$NODE/harm/$2" "$NODE/quorum"; fi
"#;

/// `quorum` says what stands in that file, else how many agents are away.
const ZETA: &str = r#"#!/bin/sh
[ "$1" = quorum ] || exit 0
[ ! -e "$NODE/quorum" ] || exit "$(cat "$NODE/quorum")"
exit "$(grep -Lx active "$NODE"/units/zeta-bft-agent@* | wc -l)"
"#;

struct Node(tempfile::TempDir);

impl Node {
    /// A healthy committee of three on the old build.
    fn new() -> Self {
        let node = Self(tempfile::tempdir().unwrap());
        for unit in AGENTS.iter().chain(&[HAND, WARDEN]) {
            node.write(&format!("units/{unit}"), "active\n");
        }
        node.write("etc/zeta-bft/roster", "");
        node.write("run/systemd/system/x", "");
        for (name, program) in [("systemctl", SYSTEMCTL), ("deb-systemd-invoke", INVOKE), ("zeta-bft", ZETA)] {
            node.program(name, program);
        }
        for name in ["systemd-sysusers", "systemd-tmpfiles", "sleep"] {
            node.program(name, "#!/bin/sh\n");
        }
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

    /// `postinst configure OLD-VERSION`, below this node's own root.
    fn upgrade(&self) -> Output {
        let root = self.path().display();
        let mut script = read("debian/postinst");
        for place in [" /run/systemd/system", " /etc/zeta-bft/roster", "/etc/polkit-1/rules.d"] {
            assert!(script.contains(place), "{place}");
            let (space, path) = place.split_at(place.find('/').unwrap());
            script = script.replace(place, &format!("{space}{root}{path}"));
        }
        self.write("postinst", &script);
        let path = format!("{root}/bin:{}", std::env::var("PATH").unwrap());
        let mut shell = Command::new("sh");
        shell.arg(self.path().join("postinst")).args(["configure", "0.0.1"]);
        shell.env("PATH", path).env("NODE", self.path()).output().unwrap()
    }

    fn restarted(&self) -> Vec<String> {
        let log = std::fs::read_to_string(self.path().join("log")).unwrap_or_default();
        log.lines().map(str::to_owned).collect()
    }
}

/// It is configured, so that no later run of apt tries again by itself, and says what is left to do.
#[track_caller]
fn stopped(output: &Output, at: &str, left: &[&str]) {
    let said = text(&output.stderr);
    assert!(output.status.success(), "{output:?}");
    assert!(said.contains(at), "{said}");
    for unit in left {
        assert!(said.contains(&format!("systemctl restart {unit}\n")), "how to go on with {unit}: {said}");
    }
}

#[test]
fn an_upgrade_restarts_agents_then_hand_and_warden() {
    let node = Node::new();
    let output = node.upgrade();
    assert!(output.status.success(), "{output:?}");
    assert_eq!(node.restarted(), [&AGENTS[..], &[HAND, WARDEN]].concat());
    assert!(!text(&output.stderr).contains("old build"), "{output:?}");
}

#[test]
fn a_build_whose_agent_does_not_come_back_takes_no_second_guardian_along() {
    let node = Node::new();
    for agent in AGENTS {
        node.write(&format!("broken/{agent}"), "");
    }
    stopped(&node.upgrade(), AGENTS[0], &[AGENTS[1], AGENTS[2], HAND, WARDEN]);
    assert_eq!(node.restarted(), [AGENTS[0]]);
    // Nor does the next try: it begins with the one that is away.
    stopped(&node.upgrade(), AGENTS[0], &[AGENTS[1], AGENTS[2], HAND, WARDEN]);
    assert_eq!(node.restarted(), [AGENTS[0], AGENTS[0]]);
}

#[test]
fn a_try_after_a_bad_build_begins_with_whoever_is_away() {
    let node = Node::new();
    node.write(&format!("units/{}", AGENTS[2]), "activating\n");
    for agent in AGENTS {
        node.write(&format!("broken/{agent}"), "");
    }
    stopped(&node.upgrade(), AGENTS[2], &[AGENTS[0], AGENTS[1], HAND, WARDEN]);
    assert_eq!(node.restarted(), [AGENTS[2]]);
}

#[test]
fn a_build_with_which_the_committee_is_worse_goes_no_further() {
    let node = Node::new();
    node.write(&format!("harm/{}", AGENTS[1]), "1");
    stopped(&node.upgrade(), AGENTS[1], &[AGENTS[2], HAND, WARDEN]);
    assert_eq!(node.restarted(), AGENTS[..2]);
    let node = Node::new();
    node.write(&format!("broken/{HAND}"), "");
    stopped(&node.upgrade(), HAND, &[WARDEN]);
    assert_eq!(node.restarted(), [&AGENTS[..], &[HAND]].concat());
}

#[test]
fn a_committee_that_stays_degraded_gets_its_new_build() {
    let node = Node::new();
    node.write("quorum", "1");
    let output = node.upgrade();
    assert!(output.status.success(), "{output:?}");
    assert_eq!(node.restarted(), [&AGENTS[..], &[HAND, WARDEN]].concat());
}

#[test]
fn a_committee_that_was_stopped_stays_so_and_is_waited_for_by_nobody() {
    let node = Node::new();
    for unit in AGENTS.iter().chain(&[HAND, WARDEN]) {
        node.write(&format!("units/{unit}"), "inactive\n");
    }
    node.write("quorum", "3");
    let output = node.upgrade();
    assert!(output.status.success() && !text(&output.stderr).contains("quorum"), "{output:?}");
    assert_eq!(node.restarted(), [""; 0]);
}

#[test]
fn while_nobody_can_say_how_the_committee_is_none_is_restarted() {
    let node = Node::new();
    node.write("quorum", "3");
    stopped(&node.upgrade(), "quorum", &[AGENTS[0], AGENTS[1], AGENTS[2], HAND, WARDEN]);
    assert_eq!(node.restarted(), [""; 0]);
}
