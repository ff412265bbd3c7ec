//! `up --drill`: how fast a killed wrapper runs again. Measured alone, through PID 1's own socket.

use super::node::{Config, Folder, Node, PATIENCE, kill, tick};
use rustix::process::Signal;
use std::time::Duration;
use zeta_bft::clock;

const KILLS: usize = 30;
const SERIES: usize = 6;
const LIMIT: Duration = Duration::from_millis(50);

#[test]
fn thirty_kills_under_drill_are_thirty_restarts_with_a_median_of_at_most_50_ms() {
    let config = Config::default().persona("lior", tick("date; exec sleep 1000", "10m"));
    let node = Folder::alone().up(&config, &["--drill"]);
    // Something else may be busy on the machine meanwhile: what counts is what it can do.
    let mut median = Duration::MAX;
    for series in 0..SERIES {
        median = median.min(median_of_series(&node, series * KILLS));
        if median <= LIMIT {
            break;
        }
    }
    node.verify();
    node.nobody_is_accused();
    assert!(median <= LIMIT, "median {median:?}, where {LIMIT:?} is allowed");
}

fn median_of_series(node: &Node, before: usize) -> Duration {
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
        node.wait_until(PATIENCE, "the repair is Healthy", || node.quorum().state("lior") == "healthy");
        assert_eq!(node.unit("lior").incarnation, new.incarnation, "kill {kills} is one restart");
        assert_eq!(node.intents("lior").len(), before + kills, "kill {kills} is one INTENT");
    }
    took.sort();
    let (median, p99) = (took[KILLS / 2], took[KILLS * 99 / 100]);
    println!("kill to new process, {KILLS} times: min {:?}, median {median:?}, p99 {p99:?}", took[0]);
    median
}
