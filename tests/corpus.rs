//! The committed corpora of the fuzz targets, replayed: every seed, and everything that a fuzzer ever found, keeps every promise
//! that its target holds, within its time.
//!
//! The targets themselves are in `fuzz/src`; `fuzz/README.md` tells how to let a fuzzer loose on them. `BLESS=1 cargo test --test
//! corpus` writes the seeds anew.

#[path = "../fuzz/src/lib.rs"]
mod targets;

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::time::Duration;

/// What all corpora together may take in the repository, in bytes.
const SIZE: u64 = 1 << 20;
/// How much slower than a fuzzer's build this one may be.
const SLOW: u32 = 6;
/// Targets whose seeds are made of the project's own configuration, recordings and tables.
const FROM_FILES: [&str; 4] = ["config", "k3s_journal", "k3s_look", "ticks"];

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn corpus() -> PathBuf {
    root().join("fuzz/corpus")
}

/// Every committed input, by target and name.
fn inputs() -> BTreeMap<(String, String), Vec<u8>> {
    let mut found = BTreeMap::new();
    let name = |entry: &std::fs::DirEntry| entry.file_name().into_string().unwrap();
    for folder in std::fs::read_dir(corpus()).unwrap() {
        let folder = folder.unwrap();
        for file in std::fs::read_dir(folder.path()).unwrap() {
            let file = file.unwrap();
            found.insert((name(&folder), name(&file)), std::fs::read(file.path()).unwrap());
        }
    }
    found
}

#[test]
fn the_seeds_are_those_that_the_generator_makes() {
    let seeds = targets::seeds::all(root());
    if std::env::var_os("BLESS").is_some() {
        for (target, name, bytes) in &seeds {
            std::fs::create_dir_all(corpus().join(target)).unwrap();
            std::fs::write(corpus().join(target).join(name), bytes).unwrap();
        }
    }
    let kept = inputs();
    let made: BTreeMap<_, _> =
        seeds.into_iter().map(|(target, name, bytes)| ((target.to_owned(), name), bytes)).collect();
    for (place, bytes) in &made {
        let kept = kept.get(place).unwrap_or_else(|| panic!("{place:?} is missing: BLESS=1 writes it"));
        // What is made of files that people edit may be of an older one.
        let edited = FROM_FILES.contains(&place.0.as_str());
        assert!(edited || kept == bytes, "{place:?} is not as it is made: BLESS=1 writes it anew");
        targets::run(&place.0, bytes, SLOW);
    }
    let left: Vec<_> =
        kept.keys().filter(|(_, name)| name.starts_with("seed-")).filter(|p| !made.contains_key(p)).collect();
    assert!(left.is_empty(), "nobody makes {left:?}");
}

#[test]
fn every_committed_input_keeps_the_promises_of_its_target_in_time() {
    let inputs = inputs();
    let broken: Vec<_> = inputs
        .iter()
        .filter(|((target, _), bytes)| std::panic::catch_unwind(|| targets::run(target, bytes, SLOW)).is_err())
        .map(|((target, name), _)| format!("{target}/{name}"))
        .collect();
    assert!(broken.is_empty(), "these break a promise: {broken:#?}");
    let size: usize = inputs.values().map(Vec::len).sum();
    assert!(size as u64 <= SIZE, "the corpora take {size} bytes, of {SIZE}");
}

#[test]
fn every_target_has_seeds_and_its_own_file() {
    let with_seeds: BTreeSet<_> = inputs().into_keys().map(|(target, _)| target).collect();
    let manifest: toml::Table = std::fs::read_to_string(root().join("fuzz/Cargo.toml")).unwrap().parse().unwrap();
    let bins = manifest["bin"].as_array().unwrap().iter().map(|bin| bin["name"].as_str().unwrap().to_owned());
    let bins: BTreeSet<String> = bins.collect();
    let known: BTreeSet<String> = targets::TARGETS.iter().map(|(name, _)| (*name).to_owned()).collect();
    assert_eq!((&with_seeds, &bins), (&known, &known));
    for name in known {
        let code = std::fs::read_to_string(root().join(format!("fuzz/fuzz_targets/{name}.rs"))).unwrap();
        assert!(code.contains(&format!("targets::run(\"{name}\", data, 1)")), "{name} runs another target");
    }
}

/// A part of every input, said over and over: what costs more than its length comes to light.
#[test]
fn no_cost_grows_faster_than_the_input() {
    for ((target, name), bytes) in inputs() {
        let head = bytes.len().min(6);
        let (head, body) = bytes.split_at(head);
        if body.is_empty() {
            continue;
        }
        let took = |len: usize| {
            let pumped: Vec<u8> = head.iter().chain(body.iter().cycle().take(len)).copied().collect();
            let begun = targets::cpu_time();
            targets::run(&target, &pumped, SLOW);
            targets::cpu_time().saturating_sub(begun)
        };
        let (short, long) = (took(4 * 1024), took(16 * 1024));
        println!("{target}/{name}: {short:?}, then {long:?}");
        // Four times the length: a square would be sixteen times the cost.
        assert!(long <= short * 8 + Duration::from_millis(50), "{target}/{name}: {short:?}, then {long:?}");
    }
}

/// SplitMix64: the same inputs in every run.
struct Dice(u64);

impl Dice {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn below(&mut self, n: usize) -> usize {
        usize::try_from(self.next() % n.max(1) as u64).unwrap()
    }

    /// The input with up to four things wrong: a byte changed, a stretch gone, said twice, or taken from another input.
    fn damaged(&mut self, input: &[u8], other: &[u8]) -> Vec<u8> {
        let mut bytes = input.to_vec();
        for _ in 0..=self.below(4) {
            let at = self.below(bytes.len());
            let end = (at + 1 + self.below(40)).min(bytes.len());
            match self.below(6) {
                0 => bytes.truncate(at),
                1 => drop(bytes.drain(at..end)),
                2 => bytes.extend_from_within(at..end),
                3 => {
                    let from = self.below(other.len());
                    let stretch = other[from..(from + 40).min(other.len())].to_vec();
                    bytes.splice(at..at, stretch);
                }
                _ if bytes.is_empty() => {}
                4 => bytes[at] = [0, 1, 0x7f, 0x80, 0xff, b'\n', 0x1b, b'"'][self.below(8)],
                _ => bytes[at] ^= 1 << self.below(8),
            }
        }
        bytes
    }
}

/// `ZETA_BFT_MUTATIONS` of each input, by default a few: what a fuzzer would find at once, where there is no fuzzer.
#[test]
fn every_committed_input_with_something_wrong_in_it_keeps_the_promises_too() {
    let times = std::env::var("ZETA_BFT_MUTATIONS").map_or(24, |times| times.parse().unwrap());
    let inputs: Vec<_> = inputs().into_iter().collect();
    let mut dice = Dice(7);
    for ((target, name), bytes) in &inputs {
        let family: Vec<_> = inputs.iter().filter(|((other, _), _)| other == target).collect();
        for time in 0..times {
            let (_, other) = family[dice.below(family.len())];
            let damaged = dice.damaged(bytes, other);
            let run = std::panic::catch_unwind(|| targets::run(target, &damaged, SLOW));
            if let Err(panic) = run {
                println!("{target}/{name}, {time}: {}", data_encoding::HEXLOWER.encode(&damaged));
                std::panic::resume_unwind(panic);
            }
        }
    }
}
