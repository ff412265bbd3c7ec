//! The conditions of a row, and whether they hold of what was seen.
//!
//! A condition that is not written is no condition; all that are written must hold. What was not seen fulfils none: a mount
//! that could not be read is not full, and a certificate that could not be read does not expire.

use super::fatal::Fatal;
use super::history::Cause;
use super::settings::Role;
pub use super::words::{Answer, ClockWord, Port, UnitWord};
use super::{Certificate, Look, Mount, Probe};
use crate::protocol::types::Incarnation;
use regex::Regex;
use std::collections::BTreeMap;
use std::time::Duration;

/// Which checks of `livez` and `readyz` fail, by the body of a refusal. A name that ends in `*` stands for all that begin so.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Checks {
    /// At least one is named, and none but these.
    Only(Vec<String>),
    /// At least one of these.
    Any(Vec<String>),
    /// None is named.
    Unnamed,
}

/// A pattern over a fatal line: without regard to case, linear in time, bounded in size.
#[derive(Clone, Debug)]
pub struct LinePattern(Regex);

impl LinePattern {
    const SIZE: usize = 1 << 20;

    /// Compiles it.
    ///
    /// # Errors
    /// What is wrong with it, also that it is too large.
    pub fn new(text: &str) -> Result<Self, regex::Error> {
        regex::RegexBuilder::new(text).case_insensitive(true).size_limit(Self::SIZE).build().map(Self)
    }

    /// Whether a line matches.
    pub fn is_match(&self, line: &str) -> bool {
        self.0.is_match(line)
    }
}

/// Everything that must hold.
#[derive(Clone, Debug, Default)]
pub struct When {
    /// The node's role.
    pub role: Option<Role>,
    /// The unit is one of these.
    pub unit: Vec<UnitWord>,
    /// It has been starting or running for at least so long.
    pub older_than: Option<Duration>,
    /// The probe of a port brought one of these.
    pub ports: BTreeMap<Port, Vec<Answer>>,
    /// At least one probe brought one of these.
    pub any: Vec<Answer>,
    /// Every probe brought one of these.
    pub all: Vec<Answer>,
    /// At least one probe of the API server's port (`ping`, `livez`, `readyz`) brought one of these.
    pub api: Vec<Answer>,
    /// Each of these answered in this run already.
    pub answered: Vec<Port>,
    /// Which checks fail.
    pub checks: Option<Checks>,
    /// The node's Ready condition.
    pub node_ready: Option<bool>,
    /// The last fatal line matches. It counts only while k3s is not well.
    pub fatal: Option<LinePattern>,
    /// Whether there is a fatal line at all.
    pub fatal_line: Option<bool>,
    /// So many runs said the same fatal line.
    pub same_fatal: Option<u32>,
    /// So many runs ended since k3s was last well.
    pub ended_runs: Option<u32>,
    /// A file system has fewer free bytes.
    pub free_bytes_below: Option<u64>,
    /// A file system that counts them has fewer free inodes.
    pub free_inodes_below: Option<u64>,
    /// A certificate that signs nothing ends within this time, or has ended.
    pub certificate_within: Option<Duration>,
    /// One that signs others ends within this time, or has ended.
    pub ca_within: Option<Duration>,
    /// Whether it is time for planned restarts.
    pub in_window: Option<bool>,
    /// The clock is one of these.
    pub clock: Vec<ClockWord>,
    /// Whether there are empty key or certificate files.
    pub empty_files: Option<bool>,
    /// At least so many percent of the other nodes' API servers that were asked fail, and at least one.
    pub others_failing: Option<u8>,
    /// Whether it is seen that the datastore serves.
    pub datastore_well: Option<bool>,
}

/// What conditions are held against.
#[derive(Clone, Copy, Debug)]
pub struct Facts<'a> {
    /// What was seen.
    pub look: &'a Look,
    /// The unit.
    pub unit: UnitWord,
    /// The node's role.
    pub role: Role,
    /// The fatal line, if it counts for the look's run.
    pub last_words: Option<&'a Fatal>,
    /// How many runs said it.
    pub same_fatal: u32,
    /// How many runs ended since k3s was last well.
    pub ended_runs: u32,
    /// Whether it is time for planned restarts.
    pub in_window: bool,
    /// In which run each port answered last.
    pub answered: &'a BTreeMap<Port, Incarnation>,
}

impl<'a> Facts<'a> {
    /// Whether nothing speaks against k3s: an old fatal line is then of the past.
    pub fn is_well(&self) -> bool {
        let any = |is: fn(&Probe) -> bool| Port::probes(self.look).any(|(_, probe)| is(probe));
        let bad = any(|probe| probe.fails() || matches!(probe, Probe::Stranger));
        self.unit == UnitWord::Active && any(Probe::answers) && !bad
    }

    /// The fatal line, while it counts: of a run that has ended, its own alone.
    pub fn fatal(&self) -> Option<&'a str> {
        let lives = matches!(self.unit, UnitWord::Active | UnitWord::Activating);
        let counts = |fatal: &&Fatal| !self.is_well() && (lives || self.is_own(fatal));
        self.last_words.filter(counts).map(|fatal| &*fatal.line)
    }

    /// Whether the fatal line is of an earlier run than this one.
    pub fn is_of_before(&self) -> bool {
        self.last_words.is_some_and(|fatal| !self.is_own(fatal))
    }

    fn is_own(&self, fatal: &Fatal) -> bool {
        self.look.run.is_some_and(|run| run.invocation == fatal.run)
    }

    fn has_answered(&self, port: Port) -> bool {
        self.look.run.is_some_and(|run| self.answered.get(&port) == Some(&run))
    }

    /// Whether something shows that the datastore serves: `readyz` is well, or it fails and names checks, but not etcd's; or
    /// other API servers were asked, and none fails. Silence shows nothing.
    pub fn is_datastore_well(&self) -> bool {
        let (asked, failing) = self.look.others;
        let named = named_by(&self.look.readyz);
        let refuses = named.iter().any(|check| check.starts_with("etcd"));
        failing == 0 && !refuses && (asked > 0 || self.look.readyz.is_ok() || !named.is_empty())
    }

    fn clock(&self) -> ClockWord {
        match self.look.clock_synchronised {
            Some(true) => ClockWord::Synchronised,
            Some(false) => ClockWord::Unsynchronised,
            None => ClockWord::Unknown,
        }
    }

    fn ending(&self, ca: bool, within: Duration) -> Option<&Certificate> {
        let by = self.look.unix.saturating_add(within.as_secs());
        let kind = self.look.certificates.iter().filter(|certificate| certificate.is_ca == ca);
        kind.filter(|certificate| certificate.not_after <= by).min_by_key(|certificate| certificate.not_after)
    }
}

impl When {
    /// Whether nothing is asked for beyond the role.
    pub fn is_empty(&self) -> bool {
        let lists = self.unit.is_empty() && self.clock.is_empty();
        let counted = [self.same_fatal, self.ended_runs].iter().all(Option::is_none);
        let flags = [self.fatal_line, self.in_window, self.empty_files].iter().all(Option::is_none);
        let lengths = [self.older_than, self.certificate_within, self.ca_within].iter().all(Option::is_none);
        let disk = self.free_bytes_below.is_none() && self.free_inodes_below.is_none();
        let rest = self.fatal.is_none() && self.others_failing.is_none();
        lists && counted && flags && lengths && disk && rest && !self.is_soft()
    }

    /// Whether it rests on what probes brought: that needs time and repetition before anything follows from it.
    pub fn is_soft(&self) -> bool {
        let ports = self.ports.is_empty() && self.answered.is_empty();
        !(ports && self.any.is_empty() && self.all.is_empty() && self.api.is_empty())
            || self.checks.is_some()
            || [self.node_ready, self.datastore_well].iter().any(Option::is_some)
    }

    /// Whether it rests on the last fatal line.
    pub fn asks_last_words(&self) -> bool {
        self.fatal.is_some() || self.fatal_line == Some(true) || self.same_fatal.is_some()
    }

    /// What holds, one clause for each condition, for people; `None` when one does not.
    pub fn holds(&self, facts: &Facts<'_>) -> Option<Vec<String>> {
        let mut why = Vec::new();
        self.unit_holds(facts, &mut why)?;
        self.probes_hold(facts.look, &mut why)?;
        require(self.answered.iter().all(|port| facts.has_answered(*port)))?;
        self.fatal_holds(facts, &mut why)?;
        self.host_holds(facts, &mut why)?;
        self.certificates_hold(facts, &mut why)?;
        Some(why)
    }

    fn unit_holds(&self, facts: &Facts<'_>, why: &mut Vec<String>) -> Option<()> {
        require(self.role.is_none_or(|role| role == facts.role))?;
        require(self.unit.is_empty() || self.unit.contains(&facts.unit))?;
        if !self.unit.is_empty() {
            why.push(format!("the unit is {}", facts.unit));
        }
        if let Some(least) = self.older_than {
            let age = facts.look.age.filter(|age| *age >= least)?;
            why.push(format!("for {} s", age.as_secs()));
        }
        if let Some(least) = self.ended_runs {
            require(facts.ended_runs >= least)?;
            why.push(format!("{} runs ended since it was well", facts.ended_runs));
        }
        Some(())
    }

    fn probes_hold(&self, look: &Look, why: &mut Vec<String>) -> Option<()> {
        for (port, wanted) in &self.ports {
            let probe = port.of(look);
            require(wanted.iter().any(|answer| answer.is(probe)))?;
            why.push(format!("{port} {}", shown(probe)));
        }
        if !self.any.is_empty() {
            let found = Port::probes(look).find(|(_, probe)| self.any.iter().any(|answer| answer.is(probe)));
            let (port, probe) = found?;
            if !self.ports.contains_key(&port) {
                why.push(format!("{port} {}", shown(probe)));
            }
        }
        let fits = |probe: &Probe| self.all.iter().any(|answer| answer.is(probe));
        require(self.all.is_empty() || Port::probes(look).all(|(_, probe)| fits(probe)))?;
        if !self.api.is_empty() {
            let api = [Port::Ping, Port::Livez, Port::Readyz];
            let found = api.into_iter().find(|port| self.api.iter().any(|answer| answer.is(port.of(look))))?;
            why.push(format!("{found} {}", shown(found.of(look))));
        }
        if let Some(checks) = &self.checks {
            let failed = failed_checks(look);
            require(checks.hold(&failed))?;
            if !failed.is_empty() {
                why.push(format!("failed checks: {}", failed.join(", ")));
            }
        }
        if let Some(ready) = self.node_ready {
            require(look.node_ready == Some(ready))?;
            why.push(format!("the node is {}", if ready { "Ready" } else { "not Ready" }));
        }
        Some(())
    }

    fn fatal_holds(&self, facts: &Facts<'_>, why: &mut Vec<String>) -> Option<()> {
        let line = facts.fatal();
        require(self.fatal_line.is_none_or(|wanted| wanted == line.is_some()))?;
        if let Some(pattern) = &self.fatal {
            require(pattern.is_match(line?))?;
        }
        if let Some(least) = self.same_fatal {
            line?;
            require(facts.same_fatal >= least)?;
            why.push(format!("{} runs ended by the same", facts.same_fatal));
        }
        why.extend(line.filter(|_| self.asks_last_words()).map(|line| format!("it said: {line}")));
        Some(())
    }

    fn host_holds(&self, facts: &Facts<'_>, why: &mut Vec<String>) -> Option<()> {
        let look = facts.look;
        if let Some(least) = self.free_bytes_below {
            let Mount { path, free_bytes, .. } = look.mounts.iter().find(|mount| mount.free_bytes < least)?;
            why.push(format!("{} has {} KiB left", path.display(), free_bytes / 1024));
        }
        if let Some(least) = self.free_inodes_below {
            let counts = |mount: &&Mount| mount.inodes > 0 && mount.free_inodes < least;
            let Mount { path, free_inodes, .. } = look.mounts.iter().find(counts)?;
            why.push(format!("{} has {free_inodes} inodes left", path.display()));
        }
        if !self.clock.is_empty() {
            require(self.clock.contains(&facts.clock()))?;
            why.push(format!("the clock is {}", facts.clock()));
        }
        if let Some(wanted) = self.empty_files {
            require(look.empty_files.is_empty() != wanted)?;
            why.extend(look.empty_files.iter().map(|file| format!("{} is empty", file.display())));
        }
        if let Some(least) = self.others_failing {
            let (asked, failing) = look.others;
            require(failing > 0 && u64::from(failing) * 100 >= u64::from(asked) * u64::from(least))?;
            why.push(format!("{failing} of {asked} other API servers fail"));
        }
        require(self.datastore_well.is_none_or(|wanted| wanted == facts.is_datastore_well()))?;
        require(self.in_window.is_none_or(|wanted| wanted == facts.in_window))
    }

    fn certificates_hold(&self, facts: &Facts<'_>, why: &mut Vec<String>) -> Option<()> {
        for (ca, within) in [(false, self.certificate_within), (true, self.ca_within)] {
            let Some(within) = within else { continue };
            let Certificate { place, not_after, .. } = facts.ending(ca, within)?;
            why.push(match not_after.checked_sub(facts.look.unix) {
                Some(left) => format!("{place} ends in {} h", left / 3600),
                None => format!("{place} ended {} h ago", (facts.look.unix - not_after) / 3600),
            });
        }
        Some(())
    }

    /// What the row's act rests on, if a repetition of it after a restart shows that the restart did not help.
    pub(super) fn lasting_cause(&self, facts: &Facts<'_>) -> Option<Cause> {
        let Certificate { place, not_after, .. } = facts.ending(false, self.certificate_within?)?;
        Some(Cause::Ends { place: place.clone(), not_after: *not_after })
    }
}

impl Checks {
    fn hold(&self, failed: &[String]) -> bool {
        let named = |names: &[String], check: &String| {
            names.iter().any(|name| match name.strip_suffix('*') {
                Some(beginning) => check.starts_with(beginning),
                None => check == name,
            })
        };
        match self {
            Self::Only(names) => !failed.is_empty() && failed.iter().all(|check| named(names, check)),
            Self::Any(names) => failed.iter().any(|check| named(names, check)),
            Self::Unnamed => failed.is_empty(),
        }
    }
}

/// The checks that `livez` and `readyz` name as failed, each once: lines such as `[-]etcd failed: reason withheld`
/// (kubernetes `staging/src/k8s.io/apiserver/pkg/server/healthz/healthz.go`).
pub fn failed_checks(look: &Look) -> Vec<String> {
    let mut failed = named_by(&look.livez);
    for name in named_by(&look.readyz) {
        if !failed.contains(&name) {
            failed.push(name);
        }
    }
    failed
}

fn named_by(probe: &Probe) -> Vec<String> {
    let Probe::Status { code: 500.., said } = probe else { return Vec::new() };
    let mut failed: Vec<String> = Vec::new();
    for line in said.lines() {
        let name = line.trim().strip_prefix("[-]").and_then(|rest| rest.split([' ', ':']).next());
        if let Some(name) = name.filter(|name| !name.is_empty() && failed.iter().all(|known| known != name)) {
            failed.push(name.to_owned());
        }
    }
    failed
}

fn shown(probe: &Probe) -> String {
    match probe {
        Probe::Off => "is off".into(),
        Probe::Status { code, .. } => format!("answers {code}"),
        Probe::Refused => "refuses".into(),
        Probe::TimedOut => "is silent".into(),
        Probe::Stranger => "is answered by a stranger".into(),
        Probe::Unable(why) => format!("cannot be asked: {why}"),
    }
}

const fn require(holds: bool) -> Option<()> {
    if holds { Some(()) } else { None }
}
