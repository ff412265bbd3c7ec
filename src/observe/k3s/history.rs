//! What an observer remembers from look to look: how often k3s was not well in a row, how many runs ended since it was well,
//! whether the same fatal line came back after a restart.
//!
//! Rules:
//! * Only looks that show the same class at the same run are in a row. One that showed nothing wrong, or nothing at all, ends it.
//! * A run's fatal line counts for that run. For a later one that runs or starts it counts until k3s was once well in it, and
//!   for [`FORGET`] at most; for one that has ended, never ([`History::last_words`]).
//! * A fatal line is known again by its [`signature`]. It came back when another run said it.
//! * A step was tried when something shows that it was done, not when it was asked for: a hold, another's turn or a missing voter
//!   may have kept it from being done. Empty files were moved when they were seen to be gone. A planned restart was done when a
//!   new run began of a k3s that had not failed.
//! * Both are forgotten when k3s was well for [`FORGET`]. The end of a certificate is not: the same one is never reached twice.

use super::Look;
use super::fatal::Fatal;
use super::when::Port;
use crate::protocol::evidence::FaultClass;
use crate::protocol::types::{Incarnation, InvocationId, Timestamp};
use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

/// For how long k3s must have been well before what ended it is forgotten.
pub const FORGET: Duration = Duration::from_secs(30 * 60);
/// Most lasting causes that are remembered.
const CAUSES: usize = 16;
/// Longest signature, in characters.
const SIGNATURE: usize = 200;

/// Looks in a row at one run that showed one class of fault.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Streak {
    of: Option<(Incarnation, FaultClass)>,
    looks: u32,
}

impl Streak {
    /// How many it would be with one more of this class at this run.
    pub fn with(self, run: Incarnation, class: FaultClass) -> u32 {
        if self.of == Some((run, class)) { self.looks.saturating_add(1) } else { 1 }
    }

    /// After one more look; `None`: it showed nothing wrong, or nothing at all.
    #[must_use]
    pub fn after(self, run: Option<Incarnation>, unwell: Option<FaultClass>) -> Self {
        match run.zip(unwell) {
            Some((run, class)) => Self { of: Some((run, class)), looks: self.with(run, class) },
            None => Self::default(),
        }
    }
}

/// A fatal line and how often it came.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Repeated {
    signature: String,
    /// Who said it last.
    run: InvocationId,
    /// How many runs said it.
    runs: u32,
}

impl Repeated {
    fn first(fatal: &Fatal) -> Self {
        Self { signature: signature(&fatal.line), run: fatal.run, runs: 1 }
    }

    fn seen(self, fatal: &Fatal) -> Self {
        if signature(&fatal.line) != self.signature {
            return Self::first(fatal);
        }
        let again = u32::from(fatal.run != self.run);
        Self { run: fatal.run, runs: self.runs.saturating_add(again), ..self }
    }
}

/// What a step is to end.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Cause {
    /// A certificate ends.
    Ends {
        /// Its file, or the port that showed it.
        place: String,
        /// In seconds of Unix time.
        not_after: u64,
    },
    /// These files are empty.
    Empty(Vec<PathBuf>),
}

impl fmt::Display for Cause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Ends { place, not_after } => write!(f, "{place} still ends at {not_after}"),
            Self::Empty(files) => write!(f, "empty again: {files:?}"),
        }
    }
}

/// What became of a step that was asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Asked {
    /// The newest run in which it was asked for.
    run: Incarnation,
    done: bool,
}

/// What an observer remembers.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct History {
    at: Option<Timestamp>,
    streak: Streak,
    /// As it was before the last look, so that the same look can be judged again.
    before: Streak,
    run: Option<Incarnation>,
    ended_runs: u32,
    fatal: Option<Repeated>,
    /// The last run in which k3s was well.
    well_in: Option<Incarnation>,
    causes: BTreeMap<Cause, Asked>,
    /// Whether k3s had not failed when it was last seen to run.
    sound: bool,
    /// In which run each port answered last.
    answered: BTreeMap<Port, Incarnation>,
}

impl History {
    /// Looks in a row that showed this class at this run, this one included.
    pub fn looks(&self, look: &Look, run: Incarnation, class: FaultClass) -> u32 {
        let before = if self.at == Some(look.at) { self.before } else { self.streak };
        before.with(run, class)
    }

    /// No look until now counts for those in a row: the node slept since.
    pub fn forget_looks(&mut self) {
        (self.streak, self.before) = (Streak::default(), Streak::default());
    }

    /// The fatal line that this look shows, if it counts for the look's run.
    pub fn last_words<'a>(&self, look: &'a Look) -> Option<&'a Fatal> {
        let (fatal, run) = (look.fatal.as_ref()?, look.run?);
        let of_before = || self.well_in != Some(run) && look.age.is_some_and(|age| age < FORGET);
        (fatal.run == run.invocation || of_before()).then_some(fatal)
    }

    /// How many runs said this look's fatal line.
    pub fn same_fatal(&self, look: &Look) -> u32 {
        self.fatal_after(look).map_or(0, |fatal| fatal.runs)
    }

    fn fatal_after(&self, look: &Look) -> Option<Repeated> {
        let fatal = self.last_words(look)?;
        Some(match self.fatal.clone() {
            Some(known) => known.seen(fatal),
            None => Repeated::first(fatal),
        })
    }

    /// How many runs ended since k3s was last well.
    pub fn ended_runs(&self, look: &Look) -> u32 {
        let changed = self.run.is_some() && look.run.is_some() && self.run != look.run;
        self.ended_runs.saturating_add(u32::from(changed))
    }

    /// In which run each port answered last.
    pub const fn answered(&self) -> &BTreeMap<Port, Incarnation> {
        &self.answered
    }

    /// Whether something was done about this cause, by all that was seen until this look.
    pub fn was_tried(&self, cause: &Cause, look: &Look) -> bool {
        self.causes.get(cause).is_some_and(|asked| self.is_done(cause, *asked, look))
    }

    fn is_done(&self, cause: &Cause, asked: Asked, look: &Look) -> bool {
        asked.done
            || match cause {
                Cause::Empty(files) => look.keys_seen && files.iter().all(|file| !look.empty_files.contains(file)),
                Cause::Ends { .. } => {
                    self.sound && self.run == Some(asked.run) && look.run.is_some_and(|run| run != asked.run)
                }
            }
    }

    /// Remembers a look and what it was taken for. Another word on the same look changes nothing.
    pub fn note(&mut self, look: &Look, noted: Noted<'_>) {
        if self.at.is_some_and(|at| look.at <= at) {
            return;
        }
        self.at = Some(look.at);
        let mut causes = std::mem::take(&mut self.causes);
        for (cause, asked) in &mut causes {
            asked.done = self.is_done(cause, *asked, look);
        }
        self.causes = causes;
        self.ended_runs = self.ended_runs(look);
        self.fatal = self.fatal_after(look).or(self.fatal.take());
        self.run = look.run.or(self.run);
        let answering = Port::probes(look).filter(|(_, probe)| probe.answers());
        self.answered.extend(answering.filter_map(|(port, _)| Some((port, look.run?))));
        self.before = self.streak;
        self.streak = self.streak.after(look.run, noted.unwell);
        let planned = matches!(noted.asked, Some(Cause::Ends { .. }));
        if noted.well || planned {
            self.sound = true;
        } else if noted.ended || noted.unwell.is_some() {
            self.sound = false;
        }
        if let (Some(cause), Some(run)) = (noted.asked, look.run)
            && (self.causes.len() < CAUSES || self.causes.contains_key(cause))
        {
            self.causes.entry(cause.clone()).or_insert(Asked { run, done: false }).run = run;
        }
        if noted.well {
            self.ended_runs = 0;
            self.well_in = look.run;
            if look.age.is_some_and(|age| age >= FORGET) {
                self.fatal = None;
                self.causes.retain(|cause, _| matches!(cause, Cause::Ends { .. }));
            }
        }
    }
}

/// What a look was taken for, as far as it is remembered.
#[derive(Clone, Copy, Debug, Default)]
pub struct Noted<'a> {
    /// Healthy.
    pub well: bool,
    /// The class for whose row it counts.
    pub unwell: Option<FaultClass>,
    /// PID 1 says that it ended.
    pub ended: bool,
    /// What the step that is asked for is to end.
    pub asked: Option<&'a Cause>,
}

/// A fatal line without what differs from time to time: its time, numbers, and long hexadecimal.
pub fn signature(line: &str) -> String {
    // logrus says its time before `level=`, klog and zap theirs in figures.
    let line = line.find("level=").filter(|_| line.starts_with("time=")).map_or(line, |at| &line[at..]);
    let mut signature = String::new();
    for word in line.split(|c: char| c.is_whitespace() || "\"'=,;()[]{}<>".contains(c)).filter(|word| !word.is_empty())
    {
        if !signature.is_empty() {
            signature.push(' ');
        }
        let hexadecimal = word.len() >= 8 && word.bytes().all(|b| b.is_ascii_hexdigit() || matches!(b, b'-' | b':'));
        if hexadecimal {
            signature.push('#');
            continue;
        }
        let mut figures = false;
        for c in word.chars() {
            if !c.is_ascii_digit() {
                signature.push(c);
            } else if !figures {
                signature.push('#');
            }
            figures = c.is_ascii_digit();
        }
    }
    signature.chars().take(SIGNATURE).collect()
}

#[cfg(test)]
mod tests {
    use super::super::Probe;
    use super::*;
    use crate::protocol::types::{BootId, InvocationId};
    use proptest::prelude::*;

    fn run(number: u8) -> Incarnation {
        Incarnation { boot: BootId([1; 16]), invocation: InvocationId([number; 16]) }
    }

    #[test]
    fn looks_in_a_row_are_of_one_run_and_one_class() {
        let (broken, other) = (FaultClass::Broken, FaultClass::Unknown);
        let streak = Streak::default().after(Some(run(1)), Some(broken)).after(Some(run(1)), Some(broken));
        assert_eq!((streak.with(run(1), broken), streak.with(run(2), broken)), (3, 1));
        assert_eq!(streak.with(run(1), other), 1, "what was not to be told is no sign of a fault");
        assert_eq!(streak.after(Some(run(1)), None), Streak::default());
        assert_eq!(streak.after(None, Some(broken)), Streak::default(), "a look at no run shows nothing");
    }

    #[test]
    fn the_same_line_is_known_again_whatever_its_time() {
        let line = |time: &str, port: &str| {
            format!(
                "time=\"{time}\" level=fatal msg=\"starting kubernetes: listen tcp :{port}: bind: address already in use\""
            )
        };
        let first = signature(&line("2026-01-02T03:04:05Z", "6443"));
        assert_eq!(first, signature(&line("2026-01-02T03:04:11+01:00", "6443")));
        assert_ne!(first, signature("time=\"x\" level=fatal msg=\"another\""));
        assert_eq!(
            signature("F1006 17:18:45.305258   40234 server.go:221] cannot go on"),
            signature("F1007 01:01:01.000001   99 server.go:221] cannot go on")
        );
        assert_eq!(
            signature("token 8e7d49c6991960d1 != f08676bf4f74"),
            signature("token aaaa49c6991960d1 != 008676bf4f74")
        );
    }

    fn words(number: u8, line: &str) -> Fatal {
        Fatal { line: line.to_owned(), run: run(number).invocation }
    }

    #[test]
    fn a_line_came_back_when_another_run_said_it_and_one_run_ends_once() {
        let (panic, early, late) = ("panic: freepages", "time=\"1\" level=fatal msg=x", "time=\"2\" level=fatal msg=x");
        let first = Repeated::first(&words(1, panic)).seen(&words(1, panic));
        assert_eq!(first.runs, 1);
        assert_eq!(first.clone().seen(&words(2, panic)).runs, 2);
        assert_eq!(first.seen(&words(2, "panic: other")).runs, 1);
        let timed = Repeated::first(&words(1, early));
        assert_eq!((timed.clone().seen(&words(2, late)).runs, timed.seen(&words(1, late)).runs), (2, 1));
    }

    #[test]
    fn a_line_of_an_earlier_run_counts_until_this_one_was_well_and_not_for_long() {
        let mut history = History::default();
        let of_age = |second, seconds: Option<u64>| {
            let age = seconds.map(Duration::from_secs);
            Look { age, fatal: Some(words(1, "panic: x")), ..look(second, Some(2), None) }
        };
        let counts = |history: &History, seconds| history.last_words(&of_age(9, seconds)).is_some();
        let long = FORGET.as_secs();
        assert_eq!(
            [Some(9), Some(long - 1), Some(long), None].map(|age| counts(&history, age)),
            [true, true, false, false]
        );
        history.note(&of_age(5, Some(5)), Noted { well: true, ..Noted::default() });
        assert!(!counts(&history, Some(9)), "it was well in this run");
        assert!(history.last_words(&look(10, Some(2), Some("panic: x"))).is_some(), "its own counts");
        assert!(history.last_words(&Look { run: None, ..of_age(10, Some(9)) }).is_none());
    }

    /// A look at a run, so many seconds after the first.
    fn look(second: u64, number: Option<u8>, fatal: Option<&str>) -> Look {
        let off = Probe::Off;
        Look {
            at: Timestamp::ZERO + Duration::from_secs(second),
            run: number.map(run),
            age: Some(Duration::from_secs(60)),
            ping: off.clone(),
            livez: off.clone(),
            readyz: off.clone(),
            kubelet: off.clone(),
            kube_proxy: off,
            node_ready: None,
            certificates: Vec::new(),
            empty_files: Vec::new(),
            keys_seen: true,
            mounts: Vec::new(),
            clock_synchronised: None,
            unix: 0,
            fatal: fatal.zip(number).map(|(line, number)| words(number, line)),
            others: (0, 0),
        }
    }

    fn unwell() -> Noted<'static> {
        Noted { unwell: Some(FaultClass::Broken), ..Noted::default() }
    }

    #[test]
    fn a_look_is_noted_once_and_never_after_a_later_one() {
        let mut history = History::default();
        let (first, second) = (look(0, Some(1), None), look(5, Some(1), None));
        history.note(&first, unwell());
        history.note(&second, unwell());
        let after = history.clone();
        for old in [&second, &first] {
            history.note(old, unwell());
            assert_eq!(history, after);
        }
        assert_eq!(history.looks(&second, run(1), FaultClass::Broken), 2, "the same look again is the second still");
        assert_eq!(history.looks(&look(10, Some(1), None), run(1), FaultClass::Broken), 3);
    }

    #[test]
    fn looks_before_a_sleep_are_not_in_a_row_with_those_after_it() {
        let mut history = History::default();
        history.note(&look(0, Some(1), None), unwell());
        let last = look(5, Some(1), None);
        history.note(&last, unwell());
        history.forget_looks();
        assert_eq!(history.looks(&look(10, Some(1), None), run(1), FaultClass::Broken), 1);
        assert_eq!(history.looks(&last, run(1), FaultClass::Broken), 1, "nor is the last one, judged again");
    }

    #[test]
    fn a_look_at_no_run_ends_none() {
        let mut history = History::default();
        for (second, number) in [(0, Some(1)), (5, None), (10, Some(1))] {
            history.note(&look(second, number, None), unwell());
            assert_eq!(history.ended_runs, 0, "at {second} s");
        }
        history.note(&look(15, None, None), unwell());
        history.note(&look(20, Some(2), None), unwell());
        assert_eq!(history.ended_runs, 1);
        history.note(&look(25, Some(2), None), Noted { well: true, ..Noted::default() });
        assert_eq!(history.ended_runs(&look(30, Some(3), None)), 1, "counted anew since it was well");
    }

    #[test]
    fn a_fatal_line_is_remembered_until_k3s_was_well_for_long() {
        let (early, late) = ("time=\"1\" level=fatal msg=x", "time=\"2\" level=fatal msg=x");
        let events = |age: Duration, well: bool| {
            let mut history = History::default();
            history.note(&look(0, Some(1), Some(early)), unwell());
            let between = Look { age: Some(age), ..look(5, Some(1), None) };
            history.note(&between, Noted { well, ..Noted::default() });
            history.same_fatal(&look(10, Some(2), Some(late)))
        };
        assert_eq!(events(FORGET, true), 1);
        assert_eq!(events(FORGET.checked_sub(Duration::from_secs(1)).unwrap(), true), 2);
        assert_eq!(events(FORGET, false), 2, "it was not well");
    }

    proptest! {
        #[test]
        fn any_line_has_a_short_signature(line in ".*") {
            prop_assert!(signature(&line).chars().count() <= SIGNATURE);
        }
    }
}
