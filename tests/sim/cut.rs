//! A failing seed made small: which of its faults matter, whether its liars and its weather do, and when it may heal.

use crate::campaign::{Run, guarded};
use crate::network::Weather;
use crate::schedule::{Liars, Plan};
use std::str::FromStr;
use std::time::Duration;

/// What is left of a seed's plan. The whole of it by default.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Cut {
    /// The faults that stay, by their places in the schedule.
    pub keep: Option<Vec<usize>>,
    /// Nobody lies.
    pub honest: bool,
    /// The network is calm.
    pub calm: bool,
    /// The hostile part ends sooner, in milliseconds from the start.
    pub heal_ms: Option<u64>,
}

impl std::fmt::Display for Cut {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let keep = self.keep.as_ref().map(|keep| {
            let places: Vec<_> = keep.iter().map(usize::to_string).collect();
            format!("keep={}", places.join(","))
        });
        let words = [
            keep,
            self.honest.then(|| "honest".to_owned()),
            self.calm.then(|| "calm".to_owned()),
            self.heal_ms.map(|at| format!("heal={at}")),
        ];
        f.write_str(&words.into_iter().flatten().collect::<Vec<_>>().join(" "))
    }
}

impl FromStr for Cut {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let mut cut = Self::default();
        for word in text.split_whitespace() {
            match word.split_once('=') {
                None if word == "honest" => cut.honest = true,
                None if word == "calm" => cut.calm = true,
                Some(("heal", at)) => cut.heal_ms = Some(at.parse().map_err(|e| format!("{word}: {e}"))?),
                Some(("keep", list)) => {
                    let places = list.split(',').filter(|place| !place.is_empty()).map(str::parse);
                    cut.keep = Some(places.collect::<Result<_, _>>().map_err(|e| format!("{word}: {e}"))?);
                }
                _ => return Err(format!("{word} is none of keep=N,N honest calm heal=MS")),
            }
        }
        Ok(cut)
    }
}

impl Plan {
    /// What a cut leaves of it.
    pub fn cut(mut self, cut: &Cut) -> Self {
        if let Some(keep) = &cut.keep {
            let faults = std::mem::take(&mut self.faults).into_iter().enumerate();
            self.faults = faults.filter(|(place, _)| keep.contains(place)).map(|(_, fault)| fault).collect();
        }
        if cut.honest {
            self.liars = Liars::Nobody;
        }
        if cut.calm {
            self.weather = Weather { delay: Duration::from_millis(2), ..Weather::default() };
        }
        if let Some(at) = cut.heal_ms {
            self.heal_at = self.heal_at.min(Duration::from_millis(at));
        }
        self
    }
}

/// Runs at most this often.
const TRIES: u32 = 200;

/// The smallest cut found under which a seed still breaks the same rule.
pub fn shrink(seed: u64, rule: &str) -> (Cut, Run) {
    shrink_with(Plan::hostile(seed), |cut| guarded(seed, cut), rule)
}

/// As [`shrink`], with the way to run a cut of `plan`.
pub fn shrink_with(plan: Plan, mut run: impl FnMut(&Cut) -> Run, rule: &str) -> (Cut, Run) {
    let name = |violation: &str| violation.split(':').next().unwrap_or_default().to_owned();
    let mut left = TRIES;
    let mut breaks = |cut: &Cut| {
        left = left.checked_sub(1)?;
        let run = run(cut);
        run.violation.as_deref().is_some_and(|found| name(found) == name(rule)).then_some(run)
    };
    let mut keep: Vec<usize> = (0..plan.faults.len()).collect();
    let mut best = Cut { keep: Some(keep.clone()), ..Cut::default() };
    let mut last = Run { violation: Some(rule.to_owned()), ..Run::default() };
    // Halves first, then quarters, down to single faults; again from the start of a size after each success.
    let mut size = keep.len().div_ceil(2);
    while size > 0 && !keep.is_empty() {
        let mut at = 0;
        while at < keep.len() {
            let mut fewer = keep.clone();
            fewer.drain(at..keep.len().min(at + size));
            let cut = Cut { keep: Some(fewer.clone()), ..best.clone() };
            match breaks(&cut) {
                Some(run) => (keep, best, last) = (fewer, cut, run),
                None => at += size,
            }
        }
        size /= 2;
    }
    let simpler: [fn(Cut) -> Cut; 2] = [|cut| Cut { honest: true, ..cut }, |cut| Cut { calm: true, ..cut }];
    for simplify in simpler {
        let cut = simplify(best.clone());
        if let Some(run) = breaks(&cut) {
            (best, last) = (cut, run);
        }
    }
    // The earliest end of the hostile part, to a tenth of a second.
    let (mut early, mut late) = (0, u64::try_from(plan.heal_at.as_millis()).unwrap_or(u64::MAX));
    while late - early > 100 {
        let middle = early + (late - early) / 2;
        let cut = Cut { heal_ms: Some(middle), ..best.clone() };
        match breaks(&cut) {
            Some(run) => (best, last, late) = (cut, run, middle),
            None => early = middle,
        }
    }
    (best, last)
}
