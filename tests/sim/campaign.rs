//! Many seeds over all cores, and what they add up to.

use crate::actors::Fates;
use crate::cut::Cut;
use crate::schedule::{Plan, signs_by_ed25519};
use crate::transitions::Seen;
use crate::world::World;
use std::collections::BTreeMap;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use zeta_bft::protocol::types::Timestamp;

/// What one seed came to.
#[derive(Default)]
pub struct Run {
    pub seed: u64,
    pub violation: Option<String>,
    pub trace: u64,
    pub steps: u64,
    pub virtual_ms: u64,
    pub states: BTreeMap<&'static str, u64>,
    pub transitions: Seen,
    pub fates: Fates,
    pub aborts: BTreeMap<String, u64>,
    pub acts: u64,
    pub would_act: u64,
    pub quarantined: u64,
}

/// One seed, from its start until all is at rest.
pub fn run(seed: u64, cut: &Cut) -> Run {
    lived(seed, World::new(seed, Plan::hostile(seed).cut(cut)))
}

/// Runs a world to its end.
pub fn lived(seed: u64, mut world: World) -> Run {
    world.settle();
    for line in world.log.iter().flatten() {
        println!("{line}");
    }
    Run {
        seed,
        violation: world.checker.violation.take(),
        trace: world.trace,
        steps: world.steps,
        virtual_ms: world.lived().as_millis().try_into().unwrap_or(u64::MAX),
        states: world.states,
        transitions: world.transitions,
        fates: world.fates,
        aborts: world.checker.aborts,
        acts: world.checker.acts.into(),
        would_act: world.checker.would_act.into(),
        quarantined: world.checker.proven.len() as u64,
    }
}

/// As [`run`]; a panic of production's code, or of the harness, is a rule broken.
pub fn guarded(seed: u64, cut: &Cut) -> Run {
    std::panic::catch_unwind(|| run(seed, cut)).unwrap_or_else(|panic| {
        let text = panic.downcast_ref::<String>().cloned();
        let text = text.or_else(|| panic.downcast_ref::<&str>().map(|text| (*text).to_owned())).unwrap_or_default();
        Run { seed, violation: Some(format!("panic: {text}")), ..Run::default() }
    })
}

/// The line that replays a seed.
pub fn replay_line(seed: u64, cut: &Cut, violation: &str) -> String {
    let cut = if *cut == Cut::default() { String::new() } else { format!(" ZETA_BFT_CUT='{cut}'") };
    format!(
        "ZETA_BFT_SEED={seed}{cut} cargo test --locked --profile sim --test sim -- --nocapture hostile   # {violation}"
    )
}

/// The sums over many seeds.
#[derive(Default)]
pub struct Totals {
    pub seeds: u64,
    pub broken: Vec<(u64, String)>,
    pub states: BTreeMap<&'static str, u64>,
    pub transitions: Seen,
    pub fates: Fates,
    pub aborts: BTreeMap<String, u64>,
    pub ed25519: u64,
    took: Duration,
    steps: u64,
    virtual_ms: u64,
    acts: u64,
    would_act: u64,
    quarantined: u64,
    trace: u64,
}

impl Totals {
    fn add(&mut self, run: Run) {
        self.seeds += 1;
        self.ed25519 += u64::from(signs_by_ed25519(run.seed));
        self.steps += run.steps;
        self.virtual_ms += run.virtual_ms;
        self.acts += run.acts;
        self.would_act += run.would_act;
        self.quarantined += run.quarantined;
        // Threads finish in any order: a sum has none.
        self.trace = self.trace.wrapping_add((run.trace ^ run.seed).wrapping_mul(0x9e37_79b9_7f4a_7c15));
        for (state, count) in run.states {
            *self.states.entry(state).or_default() += count;
        }
        self.transitions.add(&run.transitions);
        self.fates.add(&run.fates);
        for (why, count) in run.aborts {
            *self.aborts.entry(why).or_default() += count;
        }
        self.broken.extend(run.violation.map(|what| (run.seed, what)));
    }

    /// How much and how fast, in one line.
    pub fn summary(&self) -> String {
        let (seconds, hours) = (self.took.as_secs_f64().max(0.001), self.virtual_ms as f64 / 3_600_000.0);
        format!(
            "simulator: {} seeds ({} by Ed25519) in {seconds:.1} s: {:.1} seeds/s, {hours:.1} simulated hours, {:.2} of them per second; {} steps, {} acts, {} would act, {} quarantined, trace {:016x}",
            self.seeds,
            self.ed25519,
            self.seeds as f64 / seconds,
            hours / seconds,
            self.steps,
            self.acts,
            self.would_act,
            self.quarantined,
            self.trace,
        )
    }
}

/// Runs `seeds` from `first` on, over all cores. A seed that fails prints its line at once. With `progress`, a line says after
/// every so many seeds how far it is: a run that was ended goes on from there.
pub fn run_all(first: u64, seeds: u64, progress: Option<u64>) -> Totals {
    let mut totals = Totals::default();
    let began = zeta_bft::clock::now();
    let step = progress.unwrap_or(seeds).max(1);
    let mut from = first;
    while from < first + seeds {
        let until = (first + seeds).min(from + step);
        totals = over_all_cores(from, until, totals);
        totals.took = since(began);
        from = until;
        if progress.is_some() {
            println!("all below {from} done, {} broken; {}", totals.broken.len(), totals.summary());
        }
    }
    totals
}

fn since(began: Timestamp) -> Duration {
    zeta_bft::clock::now().saturating_since(began)
}

fn over_all_cores(from: u64, until: u64, totals: Totals) -> Totals {
    let cpus = std::thread::available_parallelism().map_or(2, usize::from);
    let (next, totals) = (AtomicU64::new(from), Mutex::new(totals));
    std::thread::scope(|scope| {
        for _ in 0..cpus {
            scope.spawn(|| {
                loop {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    if seed >= until {
                        return;
                    }
                    let run = guarded(seed, &Cut::default());
                    if let Some(violation) = &run.violation {
                        println!("{}", replay_line(seed, &Cut::default(), violation));
                    }
                    totals.lock().expect("nobody panics with the lock").add(run);
                }
            });
        }
    });
    totals.into_inner().expect("nobody panics with the lock")
}
