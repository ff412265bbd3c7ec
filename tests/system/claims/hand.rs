//! The hand, root's process that acts: what it does for whom, and what cannot keep it from its work.

use super::operator::race;
use crate::driver::{self, PROGRAM};
use crate::lab::{Done, Unfit};
use crate::node::{Config, Node, Unit, WATCH};
use crate::stage::Stage;
use std::time::Duration;
use zeta_bft::clock;
use zeta_bft::protocol::types::Timestamp;

super::claims! {
    a_flood_of_refused_requests_delays_no_repair_and_undoes_no_stop,
    the_hand_hears_the_wardens_user_alone_and_touches_only_what_was_voted_on,
    repairs_need_no_polkit,
    a_hand_that_is_killed_or_hangs_costs_no_repair,
    a_hand_that_was_stopped_stays_stopped_and_a_human_is_called,
    an_observing_node_is_left_alone_whatever_the_warden_says,
    a_flood_of_forged_signals_delays_no_repair,
}

const SLEEPER: &str = "[Unit]\nStartLimitIntervalSec=0\n[Service]\nExecStart=/bin/sleep infinity\n";
/// A start that takes a while: its job is queued for as long.
const SLOW: &str =
    "[Unit]\nStartLimitIntervalSec=0\n[Service]\nExecStartPre=/bin/sleep 5\nExecStart=/bin/sleep infinity\n";
const SOCKET: &str = "/run/zeta-bft/hand.sock";
/// Nobody's run.
const NO_RUN: &str = "00000000000000000000000000000001";

/// One line to the hand, as the warden's user.
fn say(node: &Node, line: &str) -> Done {
    node.exec_as("zeta-bft-warden", &[PROGRAM, "say", SOCKET, line])
}

/// The boot, as the hand sees it.
fn boot(node: &Node) -> String {
    let pid = node.unit("zeta-bft-hand.service").pid().to_owned();
    node.ask(&["cat", &format!("/proc/{pid}/root/proc/sys/kernel/random/boot_id")]).replace('-', "")
}

/// The digest of the configuration.
fn policy(node: &Node) -> String {
    let said = node.ask(&["zeta-bft", "check-config"]);
    said.lines().find_map(|line| line.strip_prefix("policy ")).expect("a digest").to_owned()
}

/// What the warden says to have a rung carried out, now.
fn order(node: &Node, subject: &str, rung: u32, run: &str) -> String {
    let (boot, policy) = (boot(node), policy(node));
    format!(
        "{{\"subject\":\"{subject}\",\"rung\":{rung},\"boot\":\"{boot}\",\"invocation\":\"{run}\",\"class\":\"CRASH\",\
         \"policy\":\"{policy}\",\"ordered_at_ns\":{}}}",
        clock::now().as_nanos()
    )
}

/// The same order, given at another time.
fn given(line: &str, at: Timestamp) -> String {
    let (order, _) = line.rsplit_once(':').expect("the time comes last");
    format!("{order}:{}}}", at.as_nanos())
}

#[track_caller]
fn untouched(node: &Node, line: &str, why: &str) {
    let said = say(node, line);
    assert!(said.ok() && said.out.contains("{\"untouched\"") && said.out.contains(why), "{line}: {said}");
}

fn the_hand_hears_the_wardens_user_alone_and_touches_only_what_was_voted_on(
    stage: &'static Stage,
) -> Result<(), Unfit> {
    let mut config = Config::acting();
    for (name, unit) in
        [("worker", SLEEPER), ("stopped", SLEEPER), ("disabled", SLEEPER), ("failed", SLEEPER), ("slow", SLOW)]
    {
        config = config.service(name, unit, "");
    }
    let node = Node::healthy_with(stage, &config)?;
    driver::put(&node)?;
    let run = |unit: &str| node.unit(&format!("{unit}.service")).run().to_owned();
    let worker = order(&node, "worker", 0, &run("worker"));

    // Nobody else reaches it; nor may anybody take its place.
    for user in ["zeta-otto", "zeta-bft-otto", "zeta-bft-page"] {
        let said = node.exec_as(user, &[PROGRAM, "say", SOCKET, &worker]);
        assert!(!said.ok() && said.out.is_empty() && said.err.contains("Permission denied"), "{user}: {said}");
        assert!(!node.exec_as(user, &["rm", "-f", SOCKET]).ok(), "{user} takes the socket away");
    }
    assert!(!node.exec_as("zeta-bft-warden", &["rm", "-f", SOCKET]).ok(), "the warden takes the socket away");

    // What is no order.
    let with_argv = worker.replacen('{', "{\"argv\":[\"/bin/sh\"],", 1);
    let too_long = worker.replacen("worker", &"w".repeat(100_000), 1);
    for line in ["", "{}", "restart worker.service", &with_argv, &worker.replace("CRASH", "ENVIRONMENT"), &too_long] {
        let said = say(&node, line);
        assert!(!said.out.contains("done"), "{line}: {said}");
    }
    // What root's configuration does not have.
    untouched(&node, &order(&node, "nobody", 0, &run("worker")), "no rung 0 of nobody");
    untouched(&node, &order(&node, "worker", 9, &run("worker")), "no rung 9 of worker");
    untouched(&node, &order(&node, "dbus", 0, &run("dbus")), "no rung 0 of dbus");
    // What was not voted on: another run, another boot.
    untouched(&node, &order(&node, "worker", 0, NO_RUN), "is run");
    untouched(&node, &given(&worker.replace(&boot(&node), NO_RUN), clock::now()), "is run");
    // What was ordered too long ago, or is yet to be.
    let now = clock::now();
    for at in [now - Duration::from_secs(6), now + Duration::from_secs(3600)] {
        untouched(&node, &given(&worker, at), "too late");
    }
    // What was decided by another configuration.
    untouched(&node, &worker.replace(&policy(&node), &NO_RUN.repeat(2)), "configuration");
    // What is the operator's: stopped, disabled, a job of theirs, and a unit that was stopped after it had failed.
    node.sh("systemctl stop stopped.service; systemctl disable disabled.service").expect_ok();
    untouched(&node, &order(&node, "stopped", 0, &run("stopped")), "operator");
    untouched(&node, &order(&node, "disabled", 0, &run("disabled")), "operator");
    node.ask(&["systemctl", "restart", "--no-block", "slow.service"]);
    node.await_until("it starts", || node.unit("slow.service").get("ActiveState") == "activating");
    untouched(&node, &order(&node, "slow", 0, &run("slow")), "job");
    node.ask(&["zeta-bft", "hold", "failed", "--reason", "claim"]);
    node.signal("failed.service", "KILL");
    node.await_until("it failed", || node.unit("failed.service").get("ActiveState") == "failed");
    node.ask(&["systemctl", "stop", "failed.service"]);
    untouched(&node, &order(&node, "failed", 0, &run("failed")), "operator");

    let started = |name: &str| node.starts(&format!("{name}.service"));
    node.holds_for(WATCH / 2, "nothing was started", || {
        ["worker", "stopped", "disabled", "failed"].iter().all(|name| started(name) == 1) && started("slow") <= 2
    });
    // The same words are an order where everything is as they say; and once only.
    let before = node.unit("worker.service");
    let worker = given(&worker, clock::now());
    let said = say(&node, &worker);
    assert!(said.ok() && said.out.starts_with("{\"begun\":{}}\n{\"done\""), "{said}");
    assert!(node.unit("worker.service").runs() && node.unit("worker.service").run() != before.run());
    untouched(&node, &given(&worker, clock::now()), "is run");
    assert_eq!(started("worker"), 2);
    Ok(())
}

fn an_observing_node_is_left_alone_whatever_the_warden_says(stage: &'static Stage) -> Result<(), Unfit> {
    let config = Config::observing().service("worker", SLEEPER, "");
    let node = Node::healthy_with(stage, &config)?;
    driver::put(&node)?;
    let run = node.unit("worker.service").run().to_owned();
    untouched(&node, &order(&node, "worker", 0, &run), "observes");
    assert_eq!(node.unit("worker.service").run(), run);
    Ok(())
}

fn a_hand_that_was_stopped_stays_stopped_and_a_human_is_called(stage: &'static Stage) -> Result<(), Unfit> {
    let node = Node::healthy_with(stage, &Config::acting().service("worker", SLEEPER, ""))?;
    let budget = node.quorum().subject("worker")["budget"].clone();
    node.ask(&["systemctl", "stop", "zeta-bft-hand.socket", "zeta-bft-hand.service"]);
    let old = node.unit("worker.service");
    node.signal("worker.service", "KILL");
    let pages =
        |node: &Node| node.exec(&["journalctl", "-q", "-u", "zeta-bft-warden.service", "-g", "cause=\"not_asked\""]);
    node.await_until("a human is called", || pages(&node).ok());
    assert!(!node.unit("zeta-bft-hand.service").runs(), "an order started it again");
    let doctor = node.exec(&["zeta-bft", "doctor"]);
    assert!(doctor.out.contains("zeta-bft-hand.service") && doctor.out.contains("nothing is repaired"), "{doctor}");
    node.ask(&["systemctl", "start", "zeta-bft.target"]);
    node.await_replaced("worker.service", &old);
    node.await_state("worker", "healthy");
    let spent = |budget: &serde_json::Value| budget.as_u64().expect("a number");
    assert_eq!(spent(&node.quorum().subject("worker")["budget"]) + 1, spent(&budget), "one repair was done");
    node.verify();
    Ok(())
}

/// Kills it, and says how long it took until it ran again.
#[track_caller]
fn repaired_in(node: &Node, unit: &str) -> Duration {
    let old = node.unit(unit);
    node.signal(unit, "KILL");
    let began = clock::now();
    node.await_replaced(unit, &old);
    clock::now().saturating_since(began)
}

/// What a repair may take while somebody without any right does all they can over the bus.
const UNDER_FLOOD: Duration = Duration::from_secs(10);

fn a_flood_of_refused_requests_delays_no_repair_and_undoes_no_stop(stage: &'static Stage) -> Result<(), Unfit> {
    let config = Config::drilling().service("worker", SLEEPER, "exit0 = \"fault\"");
    let node = Node::healthy_with(stage, &config)?;
    driver::put(&node)?;
    node.ask(&["systemctl", "start", "polkit.service"]);
    let (polkit, bus) = (node.unit("polkit.service"), node.unit("dbus.service"));
    node.ask(&["systemd-run", "--quiet", "--unit=flood", "--uid=zeta-otto", PROGRAM, "flood", "150000"]);
    let cpu = |unit: &Unit| node.ask(&["cat", &format!("/proc/{}/stat", unit.pid())]);
    let idle = cpu(&polkit);
    node.await_until("polkit is busy", || cpu(&polkit) != idle);
    let words = ["org.freedesktop.systemd1", "/org/freedesktop/systemd1", "org.freedesktop.systemd1.Manager"];
    let call =
        [&["timeout", "10", "busctl", "call"], &words[..], &["RestartUnit", "ss", "dbus.service", "fail"]].concat();
    let began = clock::now();
    let refused = node.exec_as("zeta-otto", &call);
    println!("under a flood polkit's answer took {:?} ({})", clock::now().saturating_since(began), refused.code);
    assert!(!refused.ok());
    let mut took = Vec::new();
    for _ in 0..5 {
        took.push(repaired_in(&node, "worker.service"));
        node.await_state("worker", "healthy");
    }
    let raced = race(&node, 30);
    println!("under a flood: repairs took {took:?}; {raced}");
    assert!(took.iter().all(|time| *time < UNDER_FLOOD), "{took:?}");
    raced.assert_the_operator_won(6);
    assert!(node.unit("flood.service").runs(), "the flood had ended by itself");
    node.ask(&["systemctl", "stop", "flood.service"]);
    assert_eq!(node.unit("dbus.service").run(), bus.run(), "what must be refused was done");
    node.await_healthy();
    node.verify();
    Ok(())
}

fn a_flood_of_forged_signals_delays_no_repair(stage: &'static Stage) -> Result<(), Unfit> {
    let node = Node::healthy_with(stage, &Config::drilling().service("worker", SLEEPER, ""))?;
    driver::put(&node)?;
    let unit = "/org/freedesktop/systemd1/unit/worker_2eservice";
    node.ask(&["systemd-run", "--quiet", "--unit=forger", "--uid=zeta-otto", PROGRAM, "forge", unit, "1000000"]);
    let heard = || {
        let of_hand = ["journalctl", "-q", "-u", "zeta-bft-hand.service", "-g", "a signal that systemd did not send"];
        node.exec(&of_hand)
    };
    node.await_until("the hand hears them", || heard().ok());
    let mut took = Vec::new();
    for _ in 0..5 {
        took.push(repaired_in(&node, "worker.service"));
        node.await_state("worker", "healthy");
    }
    println!("under a flood of forged signals repairs took {took:?}");
    assert!(took.iter().all(|time| *time < UNDER_FLOOD), "{took:?}");
    assert!(node.unit("forger.service").runs(), "the flood had ended by itself");
    node.ask(&["systemctl", "stop", "forger.service"]);
    // Once a minute, however many there were.
    assert!(heard().out.lines().count() <= 3, "{}", heard().out);
    node.await_healthy();
    node.verify();
    Ok(())
}

fn repairs_need_no_polkit(stage: &'static Stage) -> Result<(), Unfit> {
    let node = Node::healthy_with(stage, &Config::drilling().service("worker", SLEEPER, ""))?;
    node.ask(&["systemctl", "start", "polkit.service"]);
    node.signal("polkit.service", "STOP");
    let frozen = repaired_in(&node, "worker.service");
    node.await_state("worker", "healthy");
    node.sh("systemctl kill -s KILL polkit.service; systemctl mask --now --runtime polkit.service").expect_ok();
    let gone = repaired_in(&node, "worker.service");
    println!("with polkit stopped a repair took {frozen:?}, without it {gone:?}");
    node.await_healthy();
    assert_eq!(node.intents("worker"), 2);
    node.verify();
    Ok(())
}

fn a_hand_that_is_killed_or_hangs_costs_no_repair(stage: &'static Stage) -> Result<(), Unfit> {
    let node = Node::healthy_with(stage, &Config::drilling().service("worker", SLEEPER, ""))?;
    let hand = "zeta-bft-hand.service";
    repaired_in(&node, "worker.service");
    node.await_state("worker", "healthy");
    for signal in ["KILL", "STOP"] {
        node.signal(hand, signal);
        let took = repaired_in(&node, "worker.service");
        println!("with the hand after SIG{signal} a repair took {took:?}");
        node.await_state("worker", "healthy");
    }
    assert!(node.unit(hand).runs());
    let starts = node.starts("worker.service");
    assert_eq!(starts, 4, "three faults are three restarts");
    node.verify();
    Ok(())
}
