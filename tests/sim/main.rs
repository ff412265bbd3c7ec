//! A seeded simulator around the production machines: one virtual node, its committee, and everything that can befall them.
//!
//! Every seed fixes a committee, a policy with short deadlines, perhaps a liar, a network's weather and a schedule of faults.
//! After every step the rules of [`invariants`] are checked; after the faults heal, everything must come to rest where it
//! belongs. A seed that fails prints the line that replays it.
//!
//! `ZETA_BFT_SEED=123` runs one seed and prints its log; `ZETA_BFT_SEEDS=20000` runs more of them.

mod agents;
mod claims;
mod invariants;
mod journal;
mod liar;
mod network;
mod pid1;
mod rng;
mod schedule;
mod world;
mod wrapper;

use schedule::Plan;
use std::collections::BTreeMap;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use world::World;
use zeta_bft::protocol::statement::StateName;

/// Seeds of the test command.
const SEEDS: u64 = 1000;

#[derive(Default)]
struct Run {
    seed: u64,
    violation: Option<String>,
    trace: u64,
    steps: u64,
    virtual_seconds: u64,
    states: BTreeMap<&'static str, u64>,
    aborts: BTreeMap<String, u64>,
    acts: u32,
    would_act: u32,
    quarantined: usize,
}

fn run(seed: u64, log: bool) -> Run {
    let mut world = World::new(seed, Plan::hostile(seed));
    if log {
        world.log = Some(Vec::new());
    }
    world.settle();
    for line in world.log.iter().flatten() {
        println!("{line}");
    }
    Run {
        seed,
        violation: world.checker.violation.clone(),
        trace: world.trace,
        steps: world.steps,
        virtual_seconds: world.now / 1_000_000_000 - 10,
        states: world.states.clone(),
        aborts: world.checker.aborts.clone(),
        acts: world.checker.acts,
        would_act: world.checker.would_act,
        quarantined: world.checker.proven.len(),
    }
}

fn number(name: &str) -> Option<u64> {
    std::env::var(name).ok().and_then(|text| text.parse().ok())
}

fn replay_line(run: &Run, violation: &str) -> String {
    format!("ZETA_BFT_SEED={} cargo test --test sim -- --nocapture hostile   # {violation}", run.seed)
}

#[test]
fn a_thousand_hostile_schedules_break_no_safety_rule() {
    if let Some(seed) = number("ZETA_BFT_SEED") {
        let run = run(seed, true);
        println!("seed {seed}: {} steps, {} acts, {} s, {:?}", run.steps, run.acts, run.virtual_seconds, run.states);
        assert_eq!(run.violation, None);
        return;
    }
    let first = number("ZETA_BFT_FIRST").unwrap_or(0);
    let seeds = number("ZETA_BFT_SEEDS").unwrap_or(SEEDS);
    let next = AtomicU64::new(first);
    let runs = Mutex::new(Vec::new());
    let (began, cpus) = (zeta_bft::clock::now(), std::thread::available_parallelism().map_or(2, usize::from));
    std::thread::scope(|scope| {
        for _ in 0..cpus {
            scope.spawn(|| {
                loop {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    if seed >= first + seeds {
                        return;
                    }
                    let run = std::panic::catch_unwind(|| run(seed, false));
                    let run = run.unwrap_or_else(|panic| Run {
                        seed,
                        violation: Some(format!(
                            "panicked: {}",
                            panic.downcast_ref::<String>().map_or("", |text| text)
                        )),
                        ..Run::default()
                    });
                    if let Some(violation) = &run.violation {
                        println!("{}", replay_line(&run, violation));
                    }
                    runs.lock().expect("no run panics with the lock").push(run);
                }
            });
        }
    });
    let took = zeta_bft::clock::now().saturating_since(began);
    let mut runs = runs.into_inner().expect("no run panics with the lock");
    runs.sort_by_key(|run| run.seed);
    let mut states: BTreeMap<&str, u64> = BTreeMap::new();
    for (state, count) in runs.iter().flat_map(|run| &run.states) {
        *states.entry(state).or_default() += count;
    }
    let mut aborts: BTreeMap<&str, u64> = BTreeMap::new();
    for (why, count) in runs.iter().flat_map(|run| &run.aborts) {
        *aborts.entry(why).or_default() += count;
    }
    let sum = |of: fn(&Run) -> u64| runs.iter().map(of).sum::<u64>();
    println!(
        "{seeds} seeds in {took:.1?} ({:.1} seeds/s), {} virtual s, {} steps, {} acts, {} would act, {} quarantined, trace {:016x}, states {states:?}, aborts {aborts:?}",
        seeds as f64 / took.as_secs_f64(),
        sum(|r| r.virtual_seconds),
        sum(|r| r.steps),
        sum(|r| r.acts.into()),
        sum(|r| r.would_act.into()),
        sum(|r| r.quarantined as u64),
        runs.iter().fold(0_u64, |all, r| all.rotate_left(9) ^ r.trace),
    );
    let broken: Vec<_> =
        runs.iter().filter_map(|run| run.violation.as_ref().map(|what| replay_line(run, what))).collect();
    assert!(broken.is_empty(), "{} of {seeds} seeds broke a rule:\n{}", broken.len(), broken.join("\n"));
    if seeds >= SEEDS {
        for state in StateName::ALL {
            assert!(states.contains_key(state.as_str()), "no seed reached the state {state}");
        }
        assert!(aborts.contains_key("other_incarnation"), "no last look found another run: {aborts:?}");
    }
}

#[test]
fn one_seed_gives_one_trace() {
    for seed in [3, 17, 90_001] {
        let (first, second) = (run(seed, false), run(seed, false));
        assert_eq!((first.trace, first.steps), (second.trace, second.steps), "seed {seed}");
    }
}
