//! Repairs that take more than a restart, and calls for a human.

use crate::lab::Unfit;
use crate::node::{Config, Node};
use crate::stage::Stage;

super::claims! {
    a_page_leaves_through_a_unit_of_its_own,
    a_page_that_was_sent_leaves_nothing_behind,
    a_run_rung_runs_as_root_in_its_own_unit_and_its_output_is_in_the_receipt,
    a_file_is_moved_aside_by_the_rung_unit,
    a_rung_of_one_persona_can_write_no_other_home,
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

fn a_rung_of_one_persona_can_write_no_other_home(stage: &'static Stage) -> Result<(), Unfit> {
    // Root follows the links that lior put into its own home.
    let place = |name: &str| format!("/var/lib/zeta/lior/{name}/mark");
    let rung = |name: &str| {
        let argv = format!("[\"/bin/sh\", \"-c\", \"echo mine >{}\"]", place(name));
        format!("[[personas.lior.ladder]]\naction = \"run\"\nargv = {argv}\n")
    };
    let names = ["own", "ottos", "roots"];
    let machine = stage.with_committee()?;
    machine.prepare("/etc/zeta-bft/conf.d/50-claim.toml", &names.map(rung).concat())?;
    machine.boot()?;
    let node = Node::on(machine);
    node.sh("cd /var/lib/zeta/lior && mkdir own && ln -s ../otto ottos && ln -s /usr/lib roots").expect_ok();
    let run = |at: usize| node.exec(&["systemctl", "start", &format!("zeta-bft-rung@lior-{at}.service")]).ok();
    let wrote = |name: &str| node.exec(&["test", "-e", &place(name)]).ok();

    // As shipped: no home at all. Where a link of lior's leads, root may well write.
    assert!(!run(0) && !wrote("own"), "its own home");
    assert!(!run(1) && !wrote("ottos"), "otto's home");

    // As the operations page says, for a command line that lies in the home.
    let page = include_str!("../../../docs/operations.md");
    let lines = page.lines().skip_while(|line| !line.starts_with("mkdir /etc/systemd/system/zeta-bft-rung@"));
    let commands: Vec<_> = lines.take_while(|line| *line != "```").collect();
    assert_eq!(commands.len(), 3, "{commands:?}");
    for at in 0..names.len() {
        node.sh(&commands.join("\n").replace("lior-1", &format!("lior-{at}"))).expect_ok();
    }
    assert!(run(0) && wrote("own"), "{}", node.sh("journalctl -u zeta-bft-rung@lior-0").out);
    assert!(!run(1) && !wrote("ottos"), "otto's home");
    assert!(!run(2) && !wrote("roots"), "/usr");
    let why = node.ask(&["journalctl", "-o", "cat", "-u", "zeta-bft-rung@lior-2.service"]);
    assert!(why.contains("Read-only file system"), "{why}");
    Ok(())
}
