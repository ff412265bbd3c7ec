//! How long until a new process runs: zeta-bft beside systemd's own `Restart=`, and the least that D-Bus allows.
//!
//! ```text
//! sudo -E cargo bench --bench repair                 # as root on Debian: boots a node of its own, 100 kills and 100 stops each
//! ZETA_BFT_KILLS=300 ZETA_BFT_STOPS=30 cargo bench --bench repair
//! cargo bench --bench repair -- looks                # instead: what looking at k3s costs
//! ```
//!
//! One node, one run, all contestants in turn, so that the machine's mood is the same for all. A repair is timed from just
//! before the signal to `ExecMainStartTimestampMonotonic` of the new process: PID 1's own stamp, for every contestant alike.
//!
//! | contestant | what it is |
//! |---|---|
//! | `restart-0` | systemd, `Restart=always`, `RestartSec=0` |
//! | `restart-100ms` | systemd, `RestartSec=100ms`, its default |
//! | `floor` | a process of root's: signal from PID 1, `RestartUnit`, no quorum, no journal, no second look |
//! | `zeta-bft` | a unit without `Restart=`, repaired by the committee |
//! | `zeta-bft wrapper` | a persona's wrapper, as shipped |
//! | `watchdog-1s` | systemd, `WatchdogSec=1s`, `RestartSec=0`, a service that feeds it (SIGSTOP only) |

mod cost;
mod driver;
mod floor;
#[path = "../../tests/system/kube/mod.rs"]
#[allow(dead_code, unused_imports, reason = "the claims use all of it")]
mod kube;
#[path = "../../tests/system/lab/mod.rs"]
#[allow(dead_code, reason = "the claims use all of it")]
mod lab;
#[path = "../../tests/system/node.rs"]
#[allow(dead_code, reason = "the claims use all of it")]
mod node;
#[path = "../../tests/system/stage.rs"]
#[allow(dead_code, reason = "the claims use all of it")]
mod stage;
mod table;

use lab::Unfit;
use node::{Config, Node};
use stage::Stage;
use std::time::Duration;

/// Where the node finds this very program.
const DRIVER: &str = "/usr/local/bin/zeta-bft-bench";

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match words.as_slice() {
        ["drive", kills, stops] => driver::run(number(kills), number(stops)),
        ["floor", unit] => floor::run(unit),
        ["feed"] => driver::feed(),
        // What cargo itself passes.
        [] | ["--bench"] => measure(run),
        ["looks", ..] => measure(cost::of_looks),
        // `cargo test --benches` only wants to see that it runs.
        ["--test", ..] => println!("repair: run it with `cargo bench --bench repair`"),
        other => panic!("what is {other:?}?"),
    }
}

fn number(text: &str) -> usize {
    text.parse().unwrap_or_else(|_| panic!("{text} is no number"))
}

fn wanted(variable: &str) -> String {
    std::env::var(variable).unwrap_or_else(|_| "100".into())
}

fn measure(run: fn(&'static Stage) -> Result<(), Unfit>) {
    match on_a_node(run) {
        Ok(()) => {}
        Err(unfit) => println!("repair: skipped: {unfit}"),
    }
}

fn on_a_node(run: fn(&'static Stage) -> Result<(), Unfit>) -> Result<(), Unfit> {
    let stage: &'static Stage = Box::leak(Box::new(Stage::set(lab::Lab::open()?)?));
    let told = run(stage);
    stage.lab.close();
    told
}

fn run(stage: &'static Stage) -> Result<(), Unfit> {
    let service = |restart: &str| {
        format!("[Unit]\nStartLimitIntervalSec=0\n[Service]\nExecStart=/bin/sleep infinity\n{restart}\n")
    };
    // As shipped: what a tick costs is the persona's own.
    let config = Config::drilling().ticking_every("60s").service("bench", &service("Restart=no"), "");
    let node = Node::healthy_with(stage, &config)?;
    let own = std::env::current_exe()?;
    let place = node.machine.file(DRIVER);
    std::fs::create_dir_all(place.parent().unwrap_or(&place))?;
    std::fs::copy(own, &place)?;
    for (name, unit) in [
        ("restart-0", service("Restart=always\nRestartSec=0")),
        ("restart-100ms", service("Restart=always\nRestartSec=100ms")),
        ("floored", service("Restart=no")),
        ("floor", format!("[Service]\nExecStart={DRIVER} floor floored.service\n")),
        (
            "watchdog",
            format!(
                "[Unit]\nStartLimitIntervalSec=0\n[Service]\nType=notify\nExecStart={DRIVER} feed\nWatchdogSec=1s\n\
                 Restart=always\nRestartSec=0\n"
            ),
        ),
    ] {
        std::fs::write(node.machine.file(&format!("/etc/systemd/system/{name}.service")), unit)?;
    }
    node.sh("systemctl daemon-reload && systemctl start restart-0 restart-100ms floored floor watchdog").expect_ok();
    node.await_healthy();
    cost::idle(&node);
    let limit = Duration::from_secs(3600);
    let (kills, stops) = (wanted("ZETA_BFT_KILLS"), wanted("ZETA_BFT_STOPS"));
    let done = node.machine.exec_within(limit, &[DRIVER, "drive", &kills, &stops]);
    table::print(done.expect_ok());
    node.verify();
    Ok(())
}
