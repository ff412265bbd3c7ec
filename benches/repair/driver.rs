//! Runs inside the node: signals every contestant's process in turn and reads when PID 1 started the next one.

use rustix::process::{Pid, Signal, kill_process};
use rustix::time::{ClockId, clock_gettime};
use serde_json::{Value, json};
use std::process::Command;
use std::time::Duration;

/// Between two looks: the time itself is PID 1's stamp, so this costs no precision.
const LOOK: Duration = Duration::from_millis(20);
/// Every contestant stands for so long before it is struck again.
const REST: Duration = Duration::from_millis(200);
/// A contestant that has not come back by then has failed.
const PATIENCE: Duration = Duration::from_secs(60);

struct Contestant {
    name: &'static str,
    unit: &'static str,
    /// Its subject, where the committee repairs it.
    subject: Option<&'static str>,
}

const KILLED: [Contestant; 5] = [
    Contestant { name: "restart-0", unit: "restart-0.service", subject: None },
    Contestant { name: "restart-100ms", unit: "restart-100ms.service", subject: None },
    Contestant { name: "floor", unit: "floored.service", subject: None },
    Contestant { name: "zeta-bft", unit: "bench.service", subject: Some("bench") },
    Contestant { name: "zeta-bft wrapper", unit: "zeta-otto.service", subject: Some("otto") },
];
const STOPPED: [Contestant; 2] = [
    Contestant { name: "watchdog-1s", unit: "watchdog.service", subject: None },
    Contestant { name: "zeta-bft wrapper", unit: "zeta-lior.service", subject: Some("lior") },
];

/// One line of JSON for each series: what was done, to whom, and each time in microseconds.
pub fn run(kills: usize, stops: usize) {
    for (fault, signal, contestants, rounds) in
        [("kill -9", Signal::KILL, &KILLED[..], kills), ("SIGSTOP", Signal::STOP, &STOPPED[..], stops)]
    {
        let mut times = vec![Vec::new(); contestants.len()];
        for _ in 0..rounds {
            for (contestant, times) in contestants.iter().zip(&mut times) {
                times.push(strike(contestant, signal));
            }
        }
        for (contestant, times) in contestants.iter().zip(times) {
            println!("{}", json!({ "fault": fault, "name": contestant.name, "micros": times }));
        }
    }
}

/// Microseconds from the signal to the start of the next process.
fn strike(contestant: &Contestant, signal: Signal) -> u64 {
    let (pid, before) = ready(contestant);
    std::thread::sleep(REST);
    let struck = monotonic();
    kill_process(pid, signal).unwrap_or_else(|error| panic!("{}: {error}", contestant.unit));
    for _ in 0..PATIENCE.as_millis() / LOOK.as_millis() {
        std::thread::sleep(LOOK);
        let (_, started) = process(contestant.unit);
        if started > before {
            return started.saturating_sub(struck);
        }
    }
    panic!("{} did not come back within {PATIENCE:?}", contestant.unit);
}

/// Waits until it runs and nobody deals with it any more.
fn ready(contestant: &Contestant) -> (Pid, u64) {
    for _ in 0..PATIENCE.as_millis() / LOOK.as_millis() {
        let calm = contestant.subject.is_none_or(|subject| state(subject) == "healthy");
        if calm && let (Some(pid), started) = process(contestant.unit) {
            return (pid, started);
        }
        std::thread::sleep(LOOK);
    }
    panic!("{} was not ready within {PATIENCE:?}", contestant.unit);
}

/// The main process of a unit that is active, and when it was started.
fn process(unit: &str) -> (Option<Pid>, u64) {
    let told = output("systemctl", &["show", "-p", "ActiveState,MainPID,ExecMainStartTimestampMonotonic", unit]);
    let of = |name: &str| told.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix('=')).unwrap_or_default();
    let pid = of("MainPID").parse().ok().and_then(Pid::from_raw).filter(|_| of("ActiveState") == "active");
    (pid, of("ExecMainStartTimestampMonotonic").parse().unwrap_or(0))
}

fn state(subject: &str) -> String {
    let told: Value = serde_json::from_str(&output("zeta-bft", &["quorum", subject, "--json"])).unwrap_or_default();
    told["subjects"][0]["state"].as_str().unwrap_or_default().to_owned()
}

fn output(program: &str, arguments: &[&str]) -> String {
    let done = Command::new(program).args(arguments).output().unwrap_or_else(|error| panic!("{program}: {error}"));
    String::from_utf8_lossy(&done.stdout).into_owned()
}

fn monotonic() -> u64 {
    let now = clock_gettime(ClockId::Monotonic);
    u64::try_from(now.tv_sec).unwrap_or(0) * 1_000_000 + u64::try_from(now.tv_nsec).unwrap_or(0) / 1000
}

/// A service that does what its watchdog wants.
pub fn feed() {
    sd_notify::notify(&[sd_notify::NotifyState::Ready]).expect("systemd listens");
    loop {
        sd_notify::notify(&[sd_notify::NotifyState::Watchdog]).expect("systemd listens");
        std::thread::sleep(Duration::from_millis(330));
    }
}
