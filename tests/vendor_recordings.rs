//! What the vendors' CLIs really said and how they really ended, read with the default patterns and the probe's rule.
//!
//! The recordings under `tests/fixtures/vendor` were made by `record.mjs` on machines without any route outside;
//! `expected.toml` says how each must be read.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::time::Duration;
use zeta_bft::config::patterns;
use zeta_bft::config::settings::FaultPattern;
use zeta_bft::observe::ticks::{self, Ended, Outcome, Probe, Reading, Tail};
use zeta_bft::protocol::evidence::FaultClass;
use zeta_bft::protocol::types::VendorId;

/// SIGSEGV and the like: which one makes no difference to the reading.
const A_SIGNAL: i32 = 11;

/// One recording.
#[derive(serde::Deserialize)]
#[serde(deny_unknown_fields)]
struct Recording {
    #[serde(rename = "argv")]
    _argv: Vec<String>,
    #[serde(rename = "env", default)]
    _env: Vec<String>,
    ended: String,
    exit: Option<i32>,
    #[serde(rename = "signal")]
    _signal: Option<String>,
    #[serde(rename = "error")]
    _error: Option<String>,
    duration_ms: u64,
    stdout: String,
    stderr: String,
}

impl Recording {
    fn look<T>(&self, look: impl FnOnce(Outcome<'_>) -> T) -> T {
        let tail = |text: &str| {
            let mut tail = Tail::new();
            tail.push(text.as_bytes());
            tail
        };
        let ended = match self.ended.as_str() {
            "exited" => Ended::Exited(self.exit.expect("an exit status")),
            "signalled" => Ended::Signalled(A_SIGNAL),
            "timed_out" => Ended::TimedOut,
            "not_started" => Ended::NotStarted,
            other => panic!("ended = {other:?}"),
        };
        let (stdout, stderr) = (tail(&self.stdout), tail(&self.stderr));
        look(Outcome { ended, duration: Duration::from_millis(self.duration_ms), stdout: &stdout, stderr: &stderr })
    }
}

/// All recordings of one CLI, by name.
struct Cli {
    name: String,
    patterns: Vec<FaultPattern>,
    recordings: BTreeMap<String, Recording>,
}

impl Cli {
    fn reading(&self, name: &str) -> Reading {
        let now = jiff::Timestamp::UNIX_EPOCH.to_zoned(jiff::tz::TimeZone::UTC);
        let probe = self.recordings.get(&format!("{name}_version")).unwrap_or(&self.recordings["version"]);
        self.recordings[name].look(|tick| {
            let reading = ticks::classify(tick, &self.patterns, &now);
            if ticks::wants_probe(tick, reading) { ticks::probed(reading, probe.look(Probe::read)) } else { reading }
        })
    }

    /// In the words of `expected.toml`.
    fn says(&self, name: &str) -> String {
        if name.ends_with("version") {
            return self.recordings[name].look(Probe::read).as_str().to_owned();
        }
        let reading = self.reading(name);
        reading.fault.map_or_else(|| "good".to_owned(), |class| format!("{class} {}", reading.reason))
    }
}

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/vendor")
}

fn clis() -> Vec<Cli> {
    let mut clis = Vec::new();
    for entry in std::fs::read_dir(folder()).unwrap() {
        let path = entry.unwrap().path();
        if !path.is_dir() {
            continue;
        }
        let (name, _version) = path.file_name().unwrap().to_str().unwrap().split_once('-').expect("NAME-VERSION");
        let vendor = match name {
            "claude" => "anthropic",
            "gemini" => "google-gemini",
            "codex" => "openai",
            other => panic!("whose is {other}?"),
        };
        let recordings = std::fs::read_dir(&path).unwrap().map(|file| {
            let file = file.unwrap().path();
            let text = std::fs::read_to_string(&file).unwrap();
            let recording = toml::from_str(&text).unwrap_or_else(|error| panic!("{}: {error}", file.display()));
            (file.file_stem().unwrap().to_str().unwrap().to_owned(), recording)
        });
        clis.push(Cli {
            name: name.to_owned(),
            patterns: patterns::defaults(&VendorId::new(vendor).unwrap()),
            recordings: recordings.collect(),
        });
    }
    clis
}

#[test]
fn every_recording_of_a_vendors_cli_is_read_as_expected() {
    let text = std::fs::read_to_string(folder().join("expected.toml")).unwrap();
    let expected: BTreeMap<String, BTreeMap<String, String>> = toml::from_str(&text).unwrap();
    let clis = clis();
    assert_eq!(clis.iter().map(|cli| &cli.name).collect::<BTreeSet<_>>(), expected.keys().collect::<BTreeSet<_>>());
    let mut wrong = Vec::new();
    for cli in &clis {
        let expected = &expected[&cli.name];
        let names: BTreeSet<_> = cli.recordings.keys().collect();
        assert_eq!(names, expected.keys().collect::<BTreeSet<_>>(), "{}", cli.name);
        wrong.extend(
            names
                .into_iter()
                .filter(|name| cli.says(name) != expected[*name])
                .map(|name| format!("{} {name}: {} instead of {}", cli.name, cli.says(name), expected[name])),
        );
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[test]
fn nothing_that_a_damaged_cli_says_is_taken_for_the_vendors_fault() {
    for cli in clis() {
        for name in cli.recordings.keys().filter(|name| name.starts_with("damaged_") && !name.ends_with("_version")) {
            assert_eq!(cli.reading(name).fault, Some(FaultClass::Broken), "{} {name}", cli.name);
        }
    }
}
