//! Repairs that take more than a restart, and calls for a human.

use crate::lab::Unfit;
use crate::node::{Config, Node};
use crate::stage::Stage;

super::claims! {
    a_page_leaves_through_a_unit_of_its_own,
    a_page_that_was_sent_leaves_nothing_behind,
    a_run_rung_runs_as_root_in_its_own_unit_and_its_output_is_in_the_receipt,
    a_file_is_moved_aside_by_the_rung_unit,
}

const SLEEPER: &str = "[Service]\nExecStart=/bin/sleep infinity\n";

/// A ladder of one rung and a restart.
fn ladder(first: &str) -> String {
    format!("[[subjects.worker.ladder]]\n{first}\n[[subjects.worker.ladder]]\naction = \"restart\"\n")
}

fn a_page_leaves_through_a_unit_of_its_own(stage: &'static Stage) -> Result<(), Unfit> {
    // The page unit's own user writes; everything else of the node is closed to it.
    let page = "[page]\ncommand = [\"/bin/sh\", \"-c\", \"echo $(id -un) $* | systemd-cat -t paged\", \"page\"]\n";
    let unit = "[Service]\nExecStart=/bin/sh -c 'sleep 1; exit 3'\n";
    let ladder = "[[subjects.worker.ladder]]\naction = \"restart\"\n[[subjects.worker.ladder]]\naction = \"page\"\n";
    let config = Config::drilling().service("worker", unit, ladder).with(page);
    let node = Node::with(stage, &config)?;
    let pages = || node.ask(&["journalctl", "-t", "paged", "--no-pager", "-o", "cat"]);
    node.await_until("a page", || pages().contains("worker"));
    let first = pages().lines().next().unwrap_or_default().to_owned();
    assert!(first.starts_with("zeta-bft-page "), "{first}");
    let units = node.ask(&["journalctl", "-u", "zeta-bft-page@*", "--no-pager", "-o", "cat"]);
    assert!(!units.is_empty(), "no page unit was started");
    Ok(())
}

fn a_page_that_was_sent_leaves_nothing_behind(stage: &'static Stage) -> Result<(), Unfit> {
    let page = "[page]\ncommand = [\"/bin/sh\", \"-c\", \"echo $* | systemd-cat -t paged\", \"page\"]\n";
    let mut config = Config::drilling().with(page);
    // One cause about one subject pages once an hour.
    let names = ["one", "two", "three"];
    for name in names {
        config = config.service(name, SLEEPER, &format!("[[subjects.{name}.ladder]]\naction = \"page\"\n"));
    }
    let node = Node::healthy_with(stage, &config)?;
    for name in names {
        node.signal(&format!("{name}.service"), "KILL");
    }
    let sent = || node.ask(&["journalctl", "-t", "paged", "--no-pager", "-o", "cat"]);
    node.await_until("three pages", || names.iter().all(|name| sent().contains(name)));
    let left = || node.sh("ls -A /run/zeta-bft/warden/pages").out;
    node.await_until("what was sent is gone", || left().is_empty());
    Ok(())
}

fn a_run_rung_runs_as_root_in_its_own_unit_and_its_output_is_in_the_receipt(
    stage: &'static Stage,
) -> Result<(), Unfit> {
    let run = "action = \"run\"\nargv = [\"/bin/sh\", \"-c\", \"id -un; cat /proc/self/cgroup; echo mended\"]\nlimit = \"20s\"";
    let config = Config::drilling().service("worker", SLEEPER, &ladder(run)).with("[policy.crash]\nsettle = \"2s\"\n");
    let node = Node::healthy_with(stage, &config)?;
    let old = node.unit("worker.service");
    node.signal("worker.service", "KILL");
    node.await_replaced("worker.service", &old);
    node.await_healthy();
    let history = node.history();
    let detail = history[0]["detail"].as_str().unwrap_or_default();
    assert_eq!(history[0]["action"], "run", "{history:?}");
    assert!(
        detail.contains("root") && detail.contains("zeta-bft-rung@worker-0") && detail.contains("mended"),
        "{detail}"
    );
    assert_eq!(history.last().map(|entry| &entry["action"]), Some(&"restart".into()), "{history:?}");
    node.verify();
    Ok(())
}

fn a_file_is_moved_aside_by_the_rung_unit(stage: &'static Stage) -> Result<(), Unfit> {
    let aside = "action = \"move-aside\"\npath = \"/var/lib/zeta-bft/broken.cache\"";
    let config =
        Config::drilling().service("worker", SLEEPER, &ladder(aside)).with("[policy.crash]\nsettle = \"2s\"\n");
    let node = Node::healthy_with(stage, &config)?;
    node.sh("echo bad >/var/lib/zeta-bft/broken.cache").expect_ok();
    let old = node.unit("worker.service");
    node.signal("worker.service", "KILL");
    node.await_replaced("worker.service", &old);
    node.await_healthy();
    assert!(!node.exec(&["test", "-e", "/var/lib/zeta-bft/broken.cache"]).ok(), "it is still there");
    let found = node.ask(&["sh", "-c", "cat $(find /var/lib/zeta-bft -name 'broken.cache*')"]);
    assert_eq!(found, "bad");
    Ok(())
}
