//! `up --drill`: how fast a killed wrapper runs again. Measured alone, through PID 1's own socket.

use super::node::{Config, Folder, Node, PATIENCE, kill, tick};
use rustix::process::Signal;
use std::time::Duration;
use zeta_bft::clock;

const KILLS: usize = 30;
/// On a machine that is not busy with something else.
const LIMIT: Duration = Duration::from_millis(50);

#[test]
fn thirty_kills_under_drill_are_thirty_restarts_with_a_median_of_at_most_50_ms_times_the_load_per_cpu() {
    let config = Config::default().persona("lior", tick("date; exec sleep 1000", "10m"));
    let node = Folder::alone().up(&config, &["--drill"]);
    let before = waiting_per_cpu();
    let median = median_of_series(&node);
    let share = before.max(waiting_per_cpu());
    let limit = LIMIT.mul_f64(share);
    println!("median {median:?}; {limit:?} allowed, with {share:.1} processes per CPU");
    node.verify();
    node.nobody_is_accused();
    assert!(median <= limit, "median {median:?}, where {limit:?} is allowed");
}

/// How many processes share a CPU, at least one: with as many, everything takes so many times as long.
fn waiting_per_cpu() -> f64 {
    let load = std::fs::read_to_string("/proc/loadavg").unwrap();
    let load: f64 = load.split(' ').next().unwrap().parse().unwrap();
    let cpus = std::thread::available_parallelism().map_or(1, usize::from);
    (load / f64::from(u32::try_from(cpus).unwrap())).max(1.0)
}

fn median_of_series(node: &Node) -> Duration {
    let mut took = Vec::new();
    for kills in 1..=KILLS {
        let old = node.unit("lior");
        let began = clock::now();
        kill(old.main_pid.expect("it runs"), Signal::KILL);
        let new = loop {
            let unit = node.unit("lior");
            if unit.is_running() && unit.incarnation != old.incarnation {
                break unit;
            }
            let waited = clock::now().saturating_since(began);
            assert!(waited < PATIENCE, "kill {kills} was not repaired: {}", node.quorum());
            std::thread::sleep(Duration::from_micros(500));
        };
        took.push(clock::now().saturating_since(began));
        node.wait_until(PATIENCE, "the repair is Healthy", || node.quorum().subject("lior")["state"] == "healthy");
        assert_eq!(node.unit("lior").incarnation, new.incarnation, "kill {kills} is one restart");
        assert_eq!(node.intents("lior").len(), kills, "kill {kills} is one INTENT");
    }
    took.sort();
    let (median, p99) = (took[KILLS / 2], took[KILLS * 99 / 100]);
    println!("kill to new process, {KILLS} times: min {:?}, median {median:?}, p99 {p99:?}", took[0]);
    median
}
