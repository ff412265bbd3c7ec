//! The committee itself is killed, the node dies, its bus and its PID 1 are replaced, its disk is full.

use crate::lab::Unfit;
use crate::node::{Config, Node, PERSONAS, WATCH};
use crate::stage::Stage;
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{Rng as _, SeedableRng as _};
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;
use zeta_bft::protocol::statement::Outcome;
use zeta_bft::protocol::statement::ReceiptKind;

super::claims! {
    a_warden_killed_in_any_phase_executes_nothing_twice,
    an_agent_killed_in_any_phase_stops_no_repair,
    a_node_killed_at_random_moments_of_50_repairs_executes_nothing_twice,
    a_reboot_in_the_middle_of_an_episode_ends_in_a_healthy_node,
    a_restart_of_the_bus_and_of_pid_1_lose_nothing,
    a_full_disk_stops_no_hard_repair,
    what_k3s_does_to_the_node_ends_none_of_ours,
}

const SLEEPER: &str = "[Unit]\nStartLimitIntervalSec=0\n[Service]\nExecStart=/bin/sleep infinity\n";
/// A start that takes a while keeps an episode in `acting`.
const SLOW: &str =
    "[Unit]\nStartLimitIntervalSec=0\n[Service]\nExecStartPre=/bin/sleep 2\nExecStart=/bin/sleep infinity\n";
const PHASES: [&str; 5] = ["suspect", "challenged", "certified", "acting", "settling"];

/// At most one attempt for each (warden, episode, rung, round), each ended at most once for good, and no start without one.
fn nothing_was_executed_twice(node: &Node) {
    let mut intents = BTreeSet::new();
    let mut ends: BTreeMap<_, Vec<_>> = BTreeMap::new();
    for receipt in node.receipts() {
        let attempt = (receipt.episode, receipt.rung, receipt.round);
        match receipt.kind {
            ReceiptKind::Intent => assert!(intents.insert(attempt), "{attempt:?} has two INTENTs"),
            ReceiptKind::Outcome => {
                let inferred = [Some(Outcome::Inferred), Some(Outcome::Abandoned), Some(Outcome::Unconfirmed)];
                if !inferred.contains(&receipt.outcome) {
                    ends.entry(attempt).or_default().push(receipt.outcome);
                }
            }
            _ => {}
        }
    }
    for (attempt, outcomes) in ends {
        assert!(outcomes.len() <= 1, "{attempt:?} ended with {outcomes:?}");
    }
}

fn a_warden_killed_in_any_phase_executes_nothing_twice(stage: &'static Stage) -> Result<(), Unfit> {
    let node = Node::healthy_with(stage, &Config::drilling().service("worker", SLOW, ""))?;
    let mut seen = BTreeSet::new();
    for phase in PHASES {
        // A phase may be over before anybody can look: it is tried a few times, with a crash and with a hang.
        for attempt in 0..3 {
            let soft = phase == "challenged";
            let (subject, unit, signal) =
                if soft { ("lior", "zeta-lior.service", "STOP") } else { ("worker", "worker.service", "KILL") };
            let old = node.unit(unit);
            node.signal(unit, signal);
            let caught = crate::lab::await_true(Duration::from_secs(3), || {
                let state = node.state(subject);
                state == phase || (attempt == 2 && state != "healthy")
            });
            if caught {
                let warden = node.unit("zeta-bft-warden.service");
                node.signal("zeta-bft-warden.service", "KILL");
                node.await_replaced("zeta-bft-warden.service", &warden);
            }
            node.await_replaced(unit, &old);
            node.await_healthy();
            nothing_was_executed_twice(&node);
            if caught {
                seen.insert(phase);
                break;
            }
        }
    }
    println!("the warden was killed in (or after a try at) {seen:?}");
    assert!(seen.contains("acting") && seen.contains("settling"), "{seen:?}");
    assert!(node.starts("worker.service") <= 1 + node.intents("worker"), "a start that no INTENT allows");
    node.verify();
    Ok(())
}

fn an_agent_killed_in_any_phase_stops_no_repair(stage: &'static Stage) -> Result<(), Unfit> {
    let node = Node::healthy_with(stage, &Config::drilling().service("worker", SLOW, ""))?;
    for phase in ["suspect", "acting", "settling"] {
        let old = node.unit("worker.service");
        node.signal("worker.service", "KILL");
        crate::lab::await_true(Duration::from_secs(3), || node.state("worker") == phase);
        for persona in ["otto", "vera"] {
            node.signal(&format!("zeta-bft-agent@{persona}.service"), "KILL");
        }
        node.await_replaced("worker.service", &old);
        node.await_healthy();
    }
    nothing_was_executed_twice(&node);
    let equivocations = node.ask(&["curl", "-s", "http://127.0.0.1:9464/metrics"]);
    let accused = |line: &&str| line.starts_with("zeta_bft_equivocations_total{") && !line.ends_with(" 0");
    assert_eq!(equivocations.lines().find(accused), None);
    node.verify();
    Ok(())
}

fn a_node_killed_at_random_moments_of_50_repairs_executes_nothing_twice(stage: &'static Stage) -> Result<(), Unfit> {
    let seed = std::env::var("ZETA_BFT_SEED").ok().and_then(|seed| seed.parse().ok()).unwrap_or_else(rand_seed);
    println!("seed of the node's deaths: ZETA_BFT_SEED={seed}");
    let mut random = ChaCha8Rng::seed_from_u64(seed);
    let config = Config::drilling().service("worker", SLEEPER, "");
    let node = Node::healthy_with(stage, &config)?;
    let (mut repairs, mut deaths) = (0, 0);
    while repairs < 50 {
        let (subject, unit) =
            [("worker", "worker.service"), ("lior", "zeta-lior.service"), ("vera", "zeta-vera.service")]
                [random.next_u32() as usize % 3];
        let old = node.unit(unit);
        node.signal(unit, "KILL");
        repairs += 1;
        if random.next_u32() % 10 == 0 {
            std::thread::sleep(Duration::from_millis(u64::from(random.next_u32() % 120)));
            node.kill();
            node.boot()?;
            deaths += 1;
            nothing_was_executed_twice(&node);
            node.await_until("three vendors after a power loss", || node.quorum().view["vendors_live"] == 3);
            node.await_healthy();
        } else {
            node.await_replaced(unit, &old);
            node.await_state(subject, "healthy");
        }
    }
    println!("{deaths} deaths of the node in {repairs} repairs");
    nothing_was_executed_twice(&node);
    node.verify();
    Ok(())
}

fn rand_seed() -> u64 {
    let text = std::fs::read_to_string("/proc/sys/kernel/random/uuid").unwrap_or_default();
    u64::from_str_radix(text.split('-').next().unwrap_or_default(), 16).unwrap_or(1)
}

fn a_reboot_in_the_middle_of_an_episode_ends_in_a_healthy_node(stage: &'static Stage) -> Result<(), Unfit> {
    let node = Node::healthy_with(stage, &Config::acting().service("worker", SLOW, ""))?;
    let budget = |node: &Node| node.quorum().subject("worker")["budget"].as_u64();
    let full = budget(&node);
    node.signal("worker.service", "KILL");
    // Earlier, the last look may find the node stopping: an ABORT, which does give the repair back.
    node.await_until("its start is under way", || node.unit("worker.service").get("ActiveState") == "activating");
    node.off()?;
    node.boot()?;
    node.await_until("three vendors after the reboot", || node.quorum().view["vendors_live"] == 3);
    node.await_healthy();
    nothing_was_executed_twice(&node);
    assert_eq!(node.intents("worker"), 1);
    assert!(budget(&node) < full, "the reboot gave the repair back: {:?} of {full:?}", budget(&node));
    // Shutting down is the operator's doing: nobody was restarted for it.
    for persona in PERSONAS {
        assert_eq!(node.intents(persona), 0, "{persona}");
    }
    node.verify();
    Ok(())
}

fn a_restart_of_the_bus_and_of_pid_1_lose_nothing(stage: &'static Stage) -> Result<(), Unfit> {
    let node = Node::healthy_with(stage, &Config::drilling().service("worker", SLEEPER, ""))?;
    let repairs = |node: &Node, after: &str| {
        node.await_until(&format!("everything is healthy after {after}"), || node.quorum().code == 0);
        let old = node.unit("worker.service");
        node.signal("worker.service", "KILL");
        node.await_replaced("worker.service", &old);
        node.await_healthy();
    };
    let done = [
        ("systemctl daemon-reload", "daemon-reload"),
        ("systemctl daemon-reexec", "daemon-reexec"),
        ("systemctl restart dbus.service", "a restart of the bus"),
        ("systemctl kill -s KILL dbus.service", "the bus was killed"),
        ("systemctl restart polkit.service", "a restart of polkit"),
    ];
    for (number, (lines, after)) in done.into_iter().enumerate() {
        node.sh(lines);
        node.await_until("PID 1 can be asked", || node.exec(&["systemctl", "show", "-P", "Version"]).ok());
        repairs(&node, after);
        assert_eq!(node.intents("worker"), number + 1, "{after}: {:?}", node.history());
    }
    assert_eq!(node.receipts().len(), 2 * done.len(), "something else was touched: {:?}", node.history());
    node.verify();
    Ok(())
}

fn a_full_disk_stops_no_hard_repair(stage: &'static Stage) -> Result<(), Unfit> {
    // A disk of its own for the journal, so that the claim fills it and not the host's.
    let config = Config::drilling().service("worker", SLEEPER, "");
    let node = Node::with(stage, &config)?;
    node.ask(&["systemctl", "stop", "zeta-bft.target"]);
    node.await_until("all have stopped", || !node.exec(&["pgrep", "-x", "zeta-bft"]).ok());
    node.sh("cp -a /var/lib/zeta-bft /root/state && mount -t tmpfs -o size=32M,mode=755 tmpfs /var/lib/zeta-bft \
             && cp -a /root/state/. /var/lib/zeta-bft && systemctl start zeta-bft.target")
        .expect_ok();
    node.await_healthy();
    assert!(!node.sh("dd if=/dev/zero of=/var/lib/zeta-bft/filler bs=4k 2>/dev/null").ok(), "the disk is not full");
    for _ in 0..5 {
        let old = node.unit("worker.service");
        node.signal("worker.service", "KILL");
        node.await_replaced("worker.service", &old);
        node.await_state("worker", "healthy");
    }
    assert_eq!(node.intents("worker"), 5);
    node.verify();
    Ok(())
}

fn what_k3s_does_to_the_node_ends_none_of_ours(stage: &'static Stage) -> Result<(), Unfit> {
    // k3s' own way to end: its kill script ends whatever is named like it, and its unit is stopped, started, and fails.
    let unit = "[Unit]\nAfter=network.target\n[Service]\nExecStart=/bin/sleep infinity\nKillMode=process\n";
    let node = Node::healthy_with(stage, &Config::drilling().service("k3s", unit, ""))?;
    let ours = || {
        let daemons = PERSONAS.map(|p| [format!("zeta-{p}.service"), format!("zeta-bft-agent@{p}.service")]).concat();
        let all: Vec<_> = daemons.into_iter().chain(["zeta-bft-warden.service".to_owned()]).collect();
        all.iter().map(|unit| node.unit(unit).run().to_owned()).collect::<Vec<_>>()
    };
    let before = ours();
    let killall = "for unit in $(systemctl list-units --plain --no-legend 'k3s*' | awk '{print $1}'); do systemctl stop $unit; done; \
                   systemctl start k3s.service; systemctl kill -s KILL k3s.service";
    node.sh(killall).expect_ok();
    node.holds_for(WATCH, "ours run on", || ours() == before);
    let after = node.ask(&[
        "sh",
        "-c",
        "systemctl show -P After 'zeta-bft*' 'zeta-otto.service' 'zeta-lior.service' 'zeta-vera.service'",
    ]);
    assert!(!after.contains("k3s"), "{after}");
    assert!(!after.contains("network-online"), "{after}");
    Ok(())
}
