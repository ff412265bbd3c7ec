//! What was measured, as numbers, for people and for programs.

use super::pressure::Pressure;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Who {
    ZetaBft,
    Serf,
}

impl Who {
    pub const ALL: [Self; 2] = [Self::ZetaBft, Self::Serf];

    pub const fn name(self) -> &'static str {
        match self {
            Self::ZetaBft => "zeta-bft",
            Self::Serf => "serf",
        }
    }

    /// How many processes each of it watches: wrappers and agents with us, members with serf.
    const fn watched(self) -> f64 {
        match self {
            Self::ZetaBft => 6.0,
            Self::Serf => 3.0,
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Fault {
    Kill,
    Stop,
}

impl Fault {
    pub const ALL: [Self; 2] = [Self::Kill, Self::Stop];

    pub const fn name(self) -> &'static str {
        match self {
            Self::Kill => "SIGKILL",
            Self::Stop => "SIGSTOP",
        }
    }
}

/// One harm.
#[derive(Clone, Copy, Debug)]
pub struct Sample {
    pub who: Who,
    pub fault: Fault,
    pub pressure: Pressure,
    /// `None`: not within a minute.
    pub took: Option<Duration>,
}

/// Somebody suspected who was not harmed.
#[derive(Clone, Debug)]
pub struct Suspicion {
    pub who: Who,
    pub of: String,
    pub under: Pressure,
}

#[derive(Clone, Debug, Default)]
pub struct Record {
    seed: u64,
    pub deeds: usize,
    pub repairs: usize,
    pub samples: Vec<Sample>,
    /// False ones.
    pub suspicions: Vec<Suspicion>,
    /// Members that serf's others took for dead without harm.
    pub dead_by_mistake: usize,
    /// INTENTs against who was not harmed.
    pub wrong: Vec<String>,
    pub lasted: BTreeMap<Pressure, Duration>,
}

impl Record {
    pub fn new(seed: u64) -> Self {
        Self { seed, ..Self::default() }
    }

    /// Sorted milliseconds of what was noticed, under one want or all.
    pub fn millis(&self, who: Who, fault: Fault, under: Option<Pressure>) -> Vec<f64> {
        let these = self.samples.iter().filter(|sample| {
            sample.who == who && sample.fault == fault && under.is_none_or(|pressure| sample.pressure == pressure)
        });
        let mut millis: Vec<f64> = these.filter_map(|sample| Some(sample.took?.as_secs_f64() * 1000.0)).collect();
        millis.sort_by(f64::total_cmp);
        millis
    }

    fn missed(&self, who: Who, fault: Fault) -> usize {
        self.samples.iter().filter(|sample| (sample.who, sample.fault, sample.took) == (who, fault, None)).count()
    }

    /// False suspicions for each hour of one watched process.
    pub fn rate(&self, who: Who, under: Pressure) -> f64 {
        let hours = self.lasted.get(&under).copied().unwrap_or_default().as_secs_f64() / 3600.0;
        if hours > 0.0 { f64::from(self.suspected(who, under)) / hours / who.watched() } else { 0.0 }
    }

    fn suspected(&self, who: Who, under: Pressure) -> u32 {
        let these = self.suspicions.iter().filter(|suspicion| suspicion.who == who && suspicion.under == under);
        u32::try_from(these.count()).unwrap_or(u32::MAX)
    }

    pub fn json(&self) -> String {
        let samples: Vec<Value> = self
            .samples
            .iter()
            .map(|sample| {
                let millis = sample.took.map(|took| took.as_secs_f64() * 1000.0);
                json!({ "who": sample.who.name(), "fault": sample.fault.name(), "under": sample.pressure.name(), "ms": millis })
            })
            .collect();
        let under: Vec<Value> = self
            .lasted
            .iter()
            .map(|(pressure, lasted)| {
                let of = |who| {
                    let these = self.suspicions.iter().filter(|said| said.who == who && said.under == *pressure);
                    these.map(|said| said.of.clone()).collect::<Vec<_>>()
                };
                json!({ "under": pressure.name(), "seconds": lasted.as_secs(),
                        "false_suspicions_of": { "zeta-bft": of(Who::ZetaBft), "serf": of(Who::Serf) } })
            })
            .collect();
        let told = json!({ "seed": self.seed, "deeds": self.deeds, "repairs": self.repairs, "wrong_actions": self.wrong,
                           "serf_dead_by_mistake": self.dead_by_mistake, "under": under, "samples": samples });
        format!("{told:#}\n")
    }
}

/// The value below which this part of a sorted list lies; 0 of none.
pub fn quantile(sorted: &[f64], part: f64) -> f64 {
    #[allow(clippy::cast_precision_loss, clippy::cast_possible_truncation, clippy::cast_sign_loss)]
    let index = ((sorted.len() as f64 * part).ceil() as usize).clamp(1, sorted.len().max(1)) - 1;
    sorted.get(index).copied().unwrap_or_default()
}

impl fmt::Display for Record {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let lasted: Duration = self.lasted.values().sum();
        writeln!(
            f,
            "seed {}, {} s, {} deeds, {} repairs, {} wrong actions; serf took {} unharmed members for dead",
            self.seed,
            lasted.as_secs(),
            self.deeds,
            self.repairs,
            self.wrong.len(),
            self.dead_by_mistake
        )?;
        self.wrong.iter().try_for_each(|wrong| writeln!(f, "WRONG: {wrong}"))?;
        writeln!(
            f,
            "{:8} {:9} {:10} {:>4} {:>6} {:>9} {:>9} {:>9}  (ms)",
            "fault", "who", "under", "n", "missed", "p50", "p99", "max"
        )?;
        for fault in Fault::ALL {
            for who in Who::ALL {
                for under in std::iter::once(None).chain(Pressure::ALL.map(Some)) {
                    let millis = self.millis(who, fault, under);
                    let missed = if under.is_none() { self.missed(who, fault).to_string() } else { String::new() };
                    if millis.is_empty() && under.is_some() {
                        continue;
                    }
                    let [p50, p99, max] = [0.5, 0.99, 1.0].map(|part| quantile(&millis, part));
                    let name = under.map_or("all", Pressure::name);
                    writeln!(
                        f,
                        "{:8} {:9} {name:10} {:4} {missed:>6} {p50:9.1} {p99:9.1} {max:9.1}",
                        fault.name(),
                        who.name(),
                        millis.len()
                    )?;
                }
            }
        }
        writeln!(
            f,
            "{:10} {:>12} {:>12}  (false suspicions for each hour of a watched process)",
            "under", "zeta-bft", "serf"
        )?;
        for pressure in self.lasted.keys() {
            let [ours, theirs] = Who::ALL.map(|who| self.rate(who, *pressure));
            writeln!(f, "{:10} {ours:12.2} {theirs:12.2}", pressure.name())?;
        }
        Ok(())
    }
}
