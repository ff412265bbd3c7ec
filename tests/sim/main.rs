//! A seeded simulator around the production machines: one virtual node, its committee, and everything that can befall them.
//!
//! Every seed fixes a committee, a policy with short deadlines, perhaps a liar, a network's weather and a schedule of faults.
//! After every step the rules of [`invariants`] are checked; after the faults heal, everything must come to rest where it
//! belongs. A seed that fails prints the line that replays it, and the smallest part of its schedule that still fails.
//!
//! Most worlds sign symbolically ([`signatures`]); by Ed25519 one in sixteen, and beyond the first ten thousand fewer. `--profile
//! sim` optimises what they run through, with every debug assertion; `./tests/run` does so.
//!
//! * `ZETA_BFT_SEED=123` runs one seed and prints its log; `ZETA_BFT_CUT='keep=3,5 honest calm heal=4000'` runs a part of it.
//! * `ZETA_BFT_SEEDS=20000` runs so many seeds, `ZETA_BFT_FIRST=1000` from another one on; `ZETA_BFT_PROGRESS=10000` says how
//!   far it is after every so many.

mod actors;
mod agents;
mod campaign;
mod claims;
mod cut;
mod invariants;
mod journal;
mod k3s;
mod network;
mod pid1;
mod rng;
mod schedule;
mod signatures;
mod transitions;
mod world;
mod wrapper;

use campaign::{lived, replay_line, run_all};
use cut::{Cut, shrink, shrink_with};
use schedule::{ED25519_EVERY, Fault, Plan, foreign};
use transitions::Seen;
use world::World;
use zeta_bft::protocol::statement::StateName;

/// Seeds where nobody says how many.
const SEEDS: u64 = 300;
/// From so many on, everything that can be reached has to be.
const FULL: u64 = 10_000;

fn number(name: &str) -> Option<u64> {
    std::env::var(name).ok().map(|text| text.parse().unwrap_or_else(|_| panic!("{name}={text} is no number")))
}

/// One seed, with its log.
fn replay(seed: u64) {
    let cut: Cut = std::env::var("ZETA_BFT_CUT").unwrap_or_default().parse().expect("ZETA_BFT_CUT is a cut");
    let plan = Plan::hostile(seed).cut(&cut);
    for (place, (at, fault)) in plan.faults.iter().enumerate() {
        println!("fault {place} at {at:.1?}: {fault:?}");
    }
    let mut world = World::new(seed, plan);
    world.log = Some(Vec::new());
    let run = lived(seed, world);
    println!("seed {seed}: {} steps, {} acts, {} ms\n{}", run.steps, run.acts, run.virtual_ms, run.transitions.table());
    assert_eq!(run.violation, None);
}

#[test]
fn hostile_schedules_break_no_safety_rule() {
    if let Some(seed) = number("ZETA_BFT_SEED") {
        return replay(seed);
    }
    let (first, seeds) = (number("ZETA_BFT_FIRST").unwrap_or(0), number("ZETA_BFT_SEEDS").unwrap_or(SEEDS));
    let totals = run_all(first, seeds, number("ZETA_BFT_PROGRESS"));
    println!("{}\n{}\n{}", totals.transitions.table(), Seen::never(), totals.summary());
    println!("what befell the actors' statements\n{}", totals.fates.table());
    println!("states {:?}\naborts {:?}", totals.states, totals.aborts);
    for (seed, violation) in totals.broken.iter().take(3) {
        let (cut, run) = shrink(*seed, violation);
        println!("shrunk: {}", replay_line(*seed, &cut, &run.violation.unwrap_or_default()));
        for (at, fault) in Plan::hostile(*seed).cut(&cut).faults {
            println!("    {at:.1?}: {fault:?}");
        }
    }
    let lines: Vec<_> =
        totals.broken.iter().map(|(seed, violation)| replay_line(*seed, &Cut::default(), violation)).collect();
    assert!(lines.is_empty(), "{} of {seeds} seeds broke a rule:\n{}", lines.len(), lines.join("\n"));
    assert_eq!(totals.transitions.unlisted(), Vec::<String>::new(), "the list of transitions is wrong");
    if seeds >= FULL {
        assert_eq!(totals.transitions.missing(), Vec::<String>::new(), "no seed took these transitions");
        assert_eq!(totals.fates.missing(), Vec::<String>::new(), "these actors never reached their aim");
        for state in StateName::ALL {
            assert!(totals.states.contains_key(state.as_str()), "no seed was seen in the state {state}");
        }
        assert!(totals.aborts.contains_key("other_incarnation"), "no last look found another run: {:?}", totals.aborts);
        // A range that begins beyond has only few of them.
        let enough = first > 0 || totals.ed25519 >= 500;
        assert!(enough, "{} seeds signed by Ed25519, fewer than 500", totals.ed25519);
    }
}

#[test]
fn one_seed_gives_one_trace_of_every_input_and_effect() {
    let trace = |seed: u64, words: bool| {
        let mut world = World::new(seed, Plan::hostile(seed));
        world.hash_words = words;
        let run = lived(seed, world);
        (run.trace, run.steps)
    };
    for seed in [3, 17, 90_001, ED25519_EVERY * 7] {
        let (first, second) = (trace(seed, true), trace(seed, true));
        assert_eq!(first, second, "seed {seed}");
        let brief = trace(seed, false);
        assert_eq!(first.1, brief.1, "seed {seed}: hashing changes nothing");
        assert_ne!(first.0, brief.0, "seed {seed}: every word is hashed");
    }
    assert_ne!(trace(3, true), trace(4, true));
}

#[test]
fn a_failing_schedule_shrinks_to_the_faults_that_matter() {
    // A rule that no repair keeps: the foreign unit is never to be acted on.
    let run = |seed: u64, cut: &Cut| {
        let mut world = World::new(seed, Plan::hostile(seed).cut(cut));
        world.checker.untouchable = Some(foreign());
        lived(seed, world)
    };
    let mut shown = 0;
    for seed in (0..300).filter(|seed| Plan::hostile(*seed).faults.len() > 6) {
        let Some(violation) = run(seed, &Cut::default()).violation else { continue };
        let (cut, shrunk) = shrink_with(Plan::hostile(seed), |cut| run(seed, cut), &violation);
        assert!(shrunk.violation.is_some_and(|what| what.starts_with("planted: ")), "seed {seed}");
        let left = Plan::hostile(seed).cut(&cut).faults;
        let matters = |fault: &Fault| format!("{fault:?}").contains(schedule::FOREIGN);
        assert!(left.len() <= 2 && left.iter().all(|(_, fault)| matters(fault)), "seed {seed}, {cut}: {left:?}");
        assert_eq!(cut.to_string().parse::<Cut>(), Ok(cut), "what is printed can be run");
        shown += 1;
        if shown == 2 {
            return;
        }
    }
    panic!("no schedule had the foreign unit repaired");
}
