//! What breaks by itself, and what happens then.

use crate::lab::Unfit;
use crate::node::{Config, Node, WATCH};
use crate::stage::Stage;

super::claims! {
    killed_and_silent_wrappers_and_agents_run_again,
    a_service_that_systemd_gave_up_on_runs_again,
    an_exit_0_is_the_operators_unless_it_is_called_a_fault,
    a_long_auto_restart_is_cut_short_once_and_a_short_one_is_systemds,
    what_activates_for_ever_is_left_alone,
    a_node_that_stood_still_restarts_nobody,
}

/// A service that runs until somebody ends it.
const SLEEPER: &str = "[Service]\nExecStart=/bin/sleep infinity\n";

fn one_repair(node: &Node, subject: &str, class: &str) {
    let mine: Vec<_> = node.history().into_iter().filter(|entry| entry["subject"] == subject).collect();
    assert_eq!(mine.len(), 1, "{mine:?}");
    assert_eq!((&mine[0]["fault_class"], &mine[0]["outcome"]), (&class.into(), &"ok".into()), "{mine:?}");
    assert_eq!(node.intents(subject), 1);
}

fn killed_and_silent_wrappers_and_agents_run_again(stage: &'static Stage) -> Result<(), Unfit> {
    let node = Node::healthy_with(stage, &Config::acting())?;
    // systemd has an agent's own restart due in 100 ms, so a killed one is its to restart.
    let otto = node.unit("zeta-bft-agent@otto.service");
    node.signal("zeta-bft-agent@otto.service", "KILL");
    node.await_replaced("zeta-bft-agent@otto.service", &otto);
    node.await_healthy();
    assert_eq!(node.intents("otto/agent"), 0);

    for (subject, unit, signal, class) in [
        ("lior", "zeta-lior.service", "KILL", "CRASH"),
        ("vera", "zeta-vera.service", "STOP", "HANG"),
        ("vera/agent", "zeta-bft-agent@vera.service", "STOP", "HANG"),
    ] {
        let old = node.unit(unit);
        node.signal(unit, signal);
        node.await_replaced(unit, &old);
        node.await_healthy();
        one_repair(&node, subject, class);
        assert_eq!(node.starts(unit), 2, "one fault of {subject} is one restart");
    }
    node.verify();
    Ok(())
}

fn a_service_that_systemd_gave_up_on_runs_again(stage: &'static Stage) -> Result<(), Unfit> {
    let unit = "[Unit]\nStartLimitIntervalSec=60\nStartLimitBurst=3\n\
                [Service]\nExecStart=/bin/sh -c 'test -e /run/fixed || exit 7; exec sleep infinity'\nRestart=always\nRestartSec=0\n";
    let ladder =
        "[[subjects.worker.ladder]]\naction = \"restart\"\n[[subjects.worker.ladder]]\naction = \"reset-failed\"\n";
    // It is broken until somebody mends it: nothing is done about what is not there yet.
    let config = Config::drilling().service("worker", unit, ladder);
    let node = Node::with(stage, &config.with("[policy.crash]\nsettle = \"2s\"\n"))?;
    let said = || node.ask(&["journalctl", "-u", "worker.service", "--no-pager", "-o", "cat"]);
    node.await_until("systemd gave up on it", || said().contains("Start request repeated too quickly"));
    node.await_until("it is acted upon", || node.intents("worker") > 0);
    node.sh("touch /run/fixed").expect_ok();
    node.await_until("the worker runs", || {
        if node.state("worker") == "held" {
            node.ask(&["zeta-bft", "release", "worker", "--reason", "mended"]);
        }
        node.unit("worker.service").runs()
    });
    node.await_healthy();
    node.verify();
    Ok(())
}

fn an_exit_0_is_the_operators_unless_it_is_called_a_fault(stage: &'static Stage) -> Result<(), Unfit> {
    let once = "[Service]\nRestart=on-failure\n\
                ExecStart=/bin/sh -c 'while ! test -e /run/end-%N; do sleep 0.1; done; rm /run/end-%N'\n";
    let config = Config::acting().service("theirs", once, "").service("ours", once, "exit0 = \"fault\"");
    let node = Node::healthy_with(stage, &config)?;
    let ours = node.unit("ours.service");
    node.sh("touch /run/end-theirs /run/end-ours").expect_ok();
    node.await_replaced("ours.service", &ours);
    node.await_state("ours", "healthy");
    one_repair(&node, "ours", "CRASH");
    node.await_state("theirs", "operator");
    node.holds_for(WATCH, "what ended by itself stays ended", || !node.unit("theirs.service").runs());
    assert_eq!((node.starts("theirs.service"), node.intents("theirs")), (1, 0));
    Ok(())
}

fn a_long_auto_restart_is_cut_short_once_and_a_short_one_is_systemds(stage: &'static Stage) -> Result<(), Unfit> {
    let waiting = |long: &str| format!("{SLEEPER}Restart=always\nRestartSec={long}\n");
    let config = Config::acting().service("long", &waiting("30"), "").service("short", &waiting("100ms"), "");
    let node = Node::healthy_with(stage, &config)?;
    let (long, short) = (node.unit("long.service"), node.unit("short.service"));
    node.signal("short.service", "KILL");
    node.await_replaced("short.service", &short);
    node.signal("long.service", "KILL");
    let new = node.await_replaced("long.service", &long);
    // Less than the 30 s that systemd would have waited: it did not restart it by itself.
    assert_eq!(new.get("NRestarts"), "0", "systemd's own restart came first");
    node.await_healthy();
    one_repair(&node, "long", "CRASH");
    assert_eq!(node.intents("short"), 0);
    node.holds_for(WATCH, "neither is started once more", || {
        node.starts("long.service") == 2 && node.starts("short.service") == 2
    });
    node.verify();
    Ok(())
}

fn what_activates_for_ever_is_left_alone(stage: &'static Stage) -> Result<(), Unfit> {
    let unit = "[Service]\nType=oneshot\nTimeoutStartSec=infinity\nExecStart=/bin/sleep infinity\n";
    let node = Node::with(stage, &Config::acting().service("slow", unit, ""))?;
    node.await_until("it activates", || node.unit("slow.service").get("ActiveState") == "activating");
    let run = node.unit("slow.service").run().to_owned();
    node.holds_for(WATCH, "it goes on activating", || {
        let slow = node.unit("slow.service");
        slow.get("ActiveState") == "activating" && slow.run() == run
    });
    assert_eq!((node.starts("slow.service"), node.intents("slow")), (1, 0));
    let quorum = node.quorum();
    for said in quorum.subject("slow")["verdicts"].as_array().map_or(&[][..], Vec::as_slice) {
        assert_eq!(said["verdict"], "UNKNOWN", "what starts is neither up nor down: {said}");
    }
    Ok(())
}

fn a_node_that_stood_still_restarts_nobody(stage: &'static Stage) -> Result<(), Unfit> {
    let node = Node::healthy_with(stage, &Config::acting().service("worker", SLEEPER, ""))?;
    for _ in 0..3 {
        node.freeze();
        std::thread::sleep(WATCH);
        node.thaw();
        node.await_healthy();
    }
    node.holds_for(WATCH, "nobody is restarted", || node.receipts().is_empty());
    // It still does its work.
    let lior = node.unit("zeta-lior.service");
    node.signal("zeta-lior.service", "KILL");
    node.await_replaced("zeta-lior.service", &lior);
    Ok(())
}
