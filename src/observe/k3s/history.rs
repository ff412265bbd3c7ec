//! What an observer remembers from look to look: how often k3s was not well in a row, how many runs ended since it was well,
//! whether the same fatal line came back after a restart.
//!
//! Rules:
//! * Only looks that show the same class at the same run are in a row. One that showed nothing wrong, or nothing at all, ends it.
//! * A fatal line is known again by its [`signature`]. The journal shows the line of this run or of the one before, so the very
//!   same line may be seen in two runs and be one event: it came back when its text differs (the time in it does), or when two
//!   runs have begun since.
//! * It is forgotten when k3s was well for [`FORGET`]. The end of a certificate is not: the same one is never reached twice.

use super::Look;
use super::when::Port;
use crate::protocol::evidence::FaultClass;
use crate::protocol::types::{Incarnation, Timestamp};
use std::collections::BTreeMap;
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
struct Fatal {
    signature: String,
    /// The line of the last event.
    line: String,
    /// The newest run in which it was seen.
    run: Incarnation,
    /// Runs that began since the last event.
    since: u32,
    events: u32,
}

impl Fatal {
    fn first(line: &str, run: Incarnation) -> Self {
        Self { signature: signature(line), line: line.to_owned(), run, since: 0, events: 1 }
    }

    fn seen(self, line: &str, run: Incarnation) -> Self {
        if signature(line) != self.signature {
            return Self::first(line, run);
        }
        if run == self.run {
            return Self { line: line.to_owned(), ..self };
        }
        let again = line != self.line || self.since + 1 >= 2;
        let (events, since) = if again { (self.events.saturating_add(1), 0) } else { (self.events, self.since + 1) };
        Self { line: line.to_owned(), run, since, events, ..self }
    }
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
    fatal: Option<Fatal>,
    causes: BTreeMap<String, Incarnation>,
    /// In which run each port answered last.
    answered: BTreeMap<Port, Incarnation>,
}

impl History {
    /// Looks in a row that showed this class at this run, this one included.
    pub fn looks(&self, look: &Look, run: Incarnation, class: FaultClass) -> u32 {
        let before = if self.at == Some(look.at) { self.before } else { self.streak };
        before.with(run, class)
    }

    /// How many runs said this look's fatal line.
    pub fn same_fatal(&self, look: &Look) -> u32 {
        self.fatal_after(look).map_or(0, |fatal| fatal.events)
    }

    fn fatal_after(&self, look: &Look) -> Option<Fatal> {
        let (line, run) = (look.fatal.as_ref()?, look.run?);
        Some(match self.fatal.clone() {
            Some(fatal) => fatal.seen(line, run),
            None => Fatal::first(line, run),
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

    /// Whether something was done about this cause in another run.
    pub fn was_tried(&self, cause: &str, run: Incarnation) -> bool {
        self.causes.get(cause).is_some_and(|tried| *tried != run)
    }

    /// Remembers a look and what it was taken for. Another word on the same look changes nothing.
    pub fn note(&mut self, look: &Look, noted: Noted<'_>) {
        if self.at.is_some_and(|at| look.at <= at) {
            return;
        }
        self.at = Some(look.at);
        self.ended_runs = self.ended_runs(look);
        self.fatal = self.fatal_after(look).or(self.fatal.take());
        self.run = look.run.or(self.run);
        let answering = Port::probes(look).filter(|(_, probe)| probe.answers());
        self.answered.extend(answering.filter_map(|(port, _)| Some((port, look.run?))));
        self.before = self.streak;
        self.streak = self.streak.after(look.run, noted.unwell);
        if let (Some(cause), Some(run)) = (noted.tried, look.run)
            && self.causes.len() < CAUSES
        {
            self.causes.entry(cause.to_owned()).or_insert(run);
        }
        if noted.well {
            self.ended_runs = 0;
            if look.age.is_some_and(|age| age >= FORGET) {
                self.fatal = None;
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
    /// The lasting cause about which something is to be done.
    pub tried: Option<&'a str>,
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

    #[test]
    fn one_event_seen_in_two_runs_is_one_and_in_three_is_two() {
        let panic = "panic: freepages: failed to get all reachable pages";
        let mut fatal = Fatal::first(panic, run(1));
        fatal = fatal.seen(panic, run(1)).seen(panic, run(2));
        assert_eq!(fatal.events, 1, "it may be the line of the run before");
        assert_eq!(fatal.seen(panic, run(3)).events, 2, "it cannot be older than one run");
        let (early, late) = ("time=\"1\" level=fatal msg=x", "time=\"2\" level=fatal msg=x");
        assert_eq!(Fatal::first(early, run(1)).seen(late, run(2)).events, 2, "its time differs");
        assert_eq!(Fatal::first(early, run(1)).seen(late, run(1)).events, 1, "one run ends once");
        assert_eq!(Fatal::first(early, run(1)).seen("panic: other", run(2)).events, 1);
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
            mounts: Vec::new(),
            clock_synchronised: None,
            unix: 0,
            fatal: fatal.map(str::to_owned),
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
