//! What zeta-bft costs while nothing happens, with and without a k3s to look at.

use super::kube::{Kube, subject};
use super::lab::Unfit;
use super::node::{Config, Node};
use super::stage::Stage;
use std::collections::BTreeMap;
use std::time::Duration;

/// How long the idle committee is watched.
const IDLE: Duration = Duration::from_secs(30);
/// How long agents are watched that look at k3s: some looks of every one of them.
const LOOKS: Duration = Duration::from_secs(120);

/// For every process of zeta-bft its subcommand, its share of memory (KiB) and the time it was on a CPU (ns), all threads.
const READ: &str = "for p in $(pgrep -x zeta-bft); do \
    c=$(tr '\\0' ' ' < /proc/$p/cmdline | cut -d' ' -f2); \
    m=$(awk '/^Pss:/ {print $2}' /proc/$p/smaps_rollup); \
    cat /proc/$p/task/*/schedstat | awk -v c=$c -v m=$m '{t += $1} END {print c, m, t}'; \
  done";

/// The processes of one subcommand.
#[derive(Clone, Copy, Default)]
struct Cost {
    processes: u32,
    kib: f64,
    nanos: f64,
}

fn read(node: &Node) -> BTreeMap<String, Cost> {
    let mut costs = BTreeMap::<String, Cost>::new();
    for line in node.sh(READ).expect_ok().lines() {
        let words: Vec<&str> = line.split(' ').collect();
        let [command, kib, nanos] = words[..] else { panic!("what is {line:?}?") };
        let number = |text: &str| -> f64 { text.parse().unwrap_or_else(|_| panic!("{line:?} has no number")) };
        let cost = costs.entry(command.to_owned()).or_default();
        cost.processes += 1;
        cost.kib += number(kib);
        cost.nanos += number(nanos);
    }
    costs
}

/// What each subcommand's processes cost in this time: memory at its end, per cent of one core in it.
fn watched(node: &Node, time: Duration) -> BTreeMap<String, (Cost, f64)> {
    let before = read(node);
    std::thread::sleep(time);
    let share = |name: &str, cost: Cost| {
        let was = before.get(name).copied().unwrap_or_default();
        assert_eq!(was.processes, cost.processes, "{name}: none began or ended");
        (cost, (cost.nanos - was.nanos) / 1e7 / time.as_secs_f64())
    };
    read(node).into_iter().map(|(name, cost)| (name.clone(), share(&name, cost))).collect()
}

/// Prints what the committee costs.
pub fn idle(node: &Node) {
    let costs = watched(node, IDLE);
    let (kib, cpu) = costs.values().fold((0.0, 0.0), |(kib, cpu), (cost, share)| (kib + cost.kib, cpu + share));
    println!("idle: {:.1} MiB Pss, {cpu:.2} % of one core, warden, agents and wrappers together", kib / 1024.0);
}

/// Prints what looking at k3s every 5 s costs: the agents of two like nodes, one of which has a k3s to look at.
pub fn of_looks(stage: &'static Stage) -> Result<(), Unfit> {
    let agents = |costs: &BTreeMap<String, (Cost, f64)>| costs["agent"].1 / f64::from(costs["agent"].0.processes);
    let without = {
        let node = Node::healthy_with(stage, &Config::drilling().ticking_every("60s"))?;
        watched(&node, LOOKS)
    };
    let kube = Kube::with(stage, &Config::acting().ticking_every("60s").with(&subject("")))?;
    kube.await_row("answers-readiness-unknown", "healthy");
    let with = watched(&kube, LOOKS);
    let (least, most) = (agents(&without), agents(&with));
    println!(
        "an agent: {least:.3} % of one core without k3s, {most:.3} % with it: its looks cost {:.3} %",
        most - least
    );
    for (name, (cost, share)) in &with {
        println!("with k3s: {} x {name}: {:.1} MiB Pss, {share:.3} % of one core", cost.processes, cost.kib / 1024.0);
    }
    Ok(())
}
