//! From a [`Look`], PID 1's word and the table to one [`Finding`]: pure, total, and the same for the same input.
//!
//! The order of judgement:
//! 1. A look that names no run, or another than PID 1 does, shows nothing.
//! 2. What the operator wants (PID 1's word) is the operator's: no other row is looked at. Where PID 1 says that k3s ended, no
//!    `frozen` row is: doubt about the host is about soft evidence.
//! 3. The first row of the table that holds; it gives way to the first `veto` row that holds if something would be done.
//! 4. A row that would have something done, or that rests on probes, is held back ([`Withheld`]) where there is doubt:
//!    * CRASH is PID 1's word, on a look that is not older than that word, because the look brings the fatal line;
//!    * BROKEN needs a unit that runs or starts, every probe seen, the disks seen, no job of somebody else's;
//!    * both probes and BROKEN wait for the start-up grace and for so many looks in a row.
//!
//!    What is held back is UNKNOWN, and nobody is called.
//! 5. No vote rests on what an earlier run said last: that one may have been cured since.
//! 6. What was tried once and came back after a restart is not tried again: the class stays, nothing is asked for, and a human is
//!    called. The same last words twice speak against a restart, and against nothing else.

use super::history::{Cause, History, Noted, signature};
use super::settings::Role;
use super::table::{Act, Row, Table};
use super::when::{Facts, Port, UnitWord};
use super::{Look, Probe};
use crate::config::k3s::{K3sConfig, Window};
use crate::protocol::evidence::{
    Activity, Evidence, ExitZero, FaultClass, Reason, UnitReading, UnitState, Verdict, classify_unit,
};
use crate::protocol::types::Timestamp;
use std::fmt;
use std::time::Duration;

/// The name in a [`Finding`] that rests on no row.
pub const NO_ROW: &str = "none";

/// Why a row that matched is not acted upon.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Withheld {
    /// The look names no run, or another one.
    OtherRun,
    /// PID 1 reported the end after the look was taken: what k3s said last is still to be read.
    TooOld,
    /// PID 1 does not say that it ended.
    NotEnded,
    /// It neither runs nor starts.
    NotRunning,
    /// Something that matters was not seen.
    Doubt(String),
    /// Somebody's job is queued for the unit.
    JobPending,
    /// It is still young.
    Grace {
        /// How long it has been starting or running.
        age: Duration,
        /// How long it is left alone.
        grace: Duration,
    },
    /// Not yet often enough in a row.
    FewLooks {
        /// So often.
        seen: u32,
        /// It must be.
        wanted: u32,
    },
    /// It came back after a restart.
    CameBack {
        /// What.
        cause: String,
    },
}

impl fmt::Display for Withheld {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::OtherRun => f.write_str("the look is not of the run that PID 1 shows"),
            Self::TooOld => f.write_str("a look after its end is awaited"),
            Self::NotEnded => f.write_str("PID 1 does not say that it ended"),
            Self::NotRunning => f.write_str("the unit neither runs nor starts"),
            Self::Doubt(what) => write!(f, "not everything was seen: {what}"),
            Self::JobPending => f.write_str("a job is queued for the unit"),
            Self::Grace { age, grace } => {
                write!(f, "it is {} s old, and left alone for {} s", age.as_secs(), grace.as_secs())
            }
            Self::FewLooks { seen, wanted } => write!(f, "{seen} of {wanted} looks in a row"),
            Self::CameBack { cause } => write!(f, "it came back after a restart: {cause}"),
        }
    }
}

/// What one look was found to be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// The row that matched, or [`NO_ROW`].
    pub row: String,
    /// The class; `None`: healthy.
    pub class: Option<FaultClass>,
    /// The verdict that goes with it.
    pub verdict: Verdict,
    /// PID 1's word, or probes'.
    pub evidence: Evidence,
    /// Why, from the closed set.
    pub reason: Reason,
    /// What is asked for. A class that can be voted on with [`Act::None`] is no reason for a vote.
    pub act: Act,
    /// Whether a human is called.
    pub page: bool,
    /// Whether the host is in doubt: soft evidence moves nothing.
    pub frozen: bool,
    /// What it means, for people.
    pub says: String,
    /// What was seen of it, for people.
    pub detail: String,
    /// Why it is less than the row says, if it is.
    pub withheld: Option<Withheld>,
    /// What the step is to end, where that is known.
    lasting: Option<Cause>,
    /// Whether PID 1 says that it ended.
    ended: bool,
    /// The row's class, if this look counts for the looks in a row.
    counts: Option<FaultClass>,
}

impl Finding {
    #[cfg(test)]
    pub(super) fn of_nothing() -> Self {
        Self { withheld: None, ..unseen(UnitReading::Running, Withheld::NotRunning) }
    }

    /// Whether a voter may approve a repair because of it.
    pub fn is_votable(&self) -> bool {
        self.verdict == Verdict::Down && self.act != Act::None && self.class.is_some_and(FaultClass::is_votable)
    }

    /// What is to be remembered of it.
    pub fn noted(&self) -> Noted<'_> {
        let asked = self.lasting.as_ref().filter(|_| self.act != Act::None);
        Noted { well: self.verdict == Verdict::Up, unwell: self.counts, ended: self.ended, asked }
    }
}

/// One line for people: the row, the class, what was seen, and why nothing follows.
impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let class = self.class.map_or("healthy", FaultClass::as_str);
        write!(f, "{} ({class}): {}", self.row, self.says)?;
        if !self.detail.is_empty() {
            write!(f, " [{}]", self.detail)?;
        }
        self.withheld.as_ref().map_or(Ok(()), |why| write!(f, "; held back: {why}"))
    }
}

/// The unit, as PID 1 reports it.
#[derive(Clone, Copy, Debug)]
pub struct Unit<'a> {
    /// Its state.
    pub state: &'a UnitState,
    /// Since when PID 1 reports this activity.
    pub since: Timestamp,
    /// How its exit 0 reads.
    pub exit_zero: ExitZero,
}

/// The judge of one k3s.
#[derive(Clone, Debug)]
pub struct Judge {
    table: Table,
    role: Role,
    grace: Duration,
    looks: u32,
    window: Option<Window>,
    needs_mounts: bool,
}

/// What became of a row before it is a finding.
struct Judged<'a> {
    row: &'a Row,
    detail: Vec<String>,
    /// What the step is to end, where a restart that did not end it shows that it will not.
    lasting: Option<Cause>,
    ended: bool,
}

impl Judge {
    /// From the configuration.
    pub fn new(config: &K3sConfig) -> Self {
        Self {
            table: Table::new(config.faults.clone(), &config.ignored),
            role: config.role,
            grace: config.grace,
            looks: config.failed_looks,
            window: config.window,
            needs_mounts: config.mounts.as_ref().is_none_or(|mounts| !mounts.is_empty()),
        }
    }

    /// The table, for people.
    pub fn table(&self) -> &Table {
        &self.table
    }

    /// What a look is. The same look may be judged again when PID 1 says something new.
    pub fn classify(&self, now: Timestamp, look: &Look, unit: Unit<'_>, history: &History) -> Finding {
        let reading = classify_unit(unit.state, unit.exit_zero, now);
        let run = unit.state.incarnation;
        if look.run != Some(run) {
            return unseen(reading, Withheld::OtherRun);
        }
        let facts = Facts {
            look,
            unit: UnitWord::of(unit.state, reading),
            role: self.role,
            last_words: history.last_words(look),
            same_fatal: history.same_fatal(look),
            ended_runs: history.ended_runs(look),
            in_window: self.window.is_none_or(|window| window.contains(look.unix)),
            answered: history.answered(),
        };
        let Some(judged) = self.matching(&facts, reading) else {
            return unseen(reading, Withheld::Doubt("no row of the table fits".into()));
        };
        let row = judged.row;
        let counts = row.class.filter(|class| row.when.is_soft() || *class == FaultClass::Broken);
        let looks = counts.map_or(0, |class| history.looks(look, run, class));
        let of_before = row.when.asks_last_words() && facts.is_of_before();
        let withheld = match row.class {
            Some(FaultClass::Crash) => match reading {
                UnitReading::Crashed(_) if look.at < unit.since => Some(Withheld::TooOld),
                UnitReading::Crashed(_) => None,
                _ => Some(Withheld::NotEnded),
            },
            Some(FaultClass::Broken) if of_before => Some(Withheld::Doubt("the run before said it".into())),
            Some(FaultClass::Broken) => self.doubt(look, unit.state, reading).or_else(|| self.too_soon(look, looks)),
            _ if counts.is_some() => look.age.and_then(|age| self.grace(age)),
            _ => None,
        };
        if let Some(withheld) = withheld {
            return held_back(judged, reading, withheld, counts);
        }
        // Before that many looks what is no repair is shown, and nobody is woken.
        let told = counts.is_none() || looks >= self.looks;
        let tried = judged.lasting.as_ref().filter(|cause| history.was_tried(cause, look)).map(Cause::to_string);
        // The same words speak against a restart. They follow from the same empty file until it is moved, and from the same damaged
        // datastore until k3s is left stopped beside its copy: whether that step was taken is the warden's to know.
        let restarts = matches!(row.act, Act::Restart | Act::PlannedRestart);
        let again = facts.fatal().filter(|_| facts.same_fatal >= 2 && restarts).map(signature);
        let came_back = tried.or(again).filter(|_| row.moves());
        Finding {
            row: row.name.clone(),
            class: row.class,
            verdict: verdict(row.class),
            evidence: match (row.class, reading) {
                (Some(FaultClass::Crash), _) | (Some(FaultClass::Operator), UnitReading::Operator(_)) => Evidence::Hard,
                _ => Evidence::Soft,
            },
            reason: reason(row, reading),
            act: if came_back.is_some() { Act::None } else { row.act },
            page: (row.page && told) || came_back.is_some(),
            frozen: row.frozen,
            says: row.says.clone(),
            detail: judged.detail.join("; "),
            withheld: came_back.map(|cause| Withheld::CameBack { cause }),
            lasting: judged.lasting,
            ended: judged.ended,
            counts,
        }
    }

    fn matching(&self, facts: &Facts<'_>, reading: UnitReading) -> Option<Judged<'_>> {
        let asked = |row: &&Row| match reading {
            UnitReading::Operator(_) => row.class == Some(FaultClass::Operator),
            UnitReading::Crashed(_) => !row.frozen,
            UnitReading::Running | UnitReading::Unknown(_) => true,
        };
        let rows = || self.table.rows().iter().filter(asked).filter_map(|row| Some((row, row.when.holds(facts)?)));
        let first = rows().next()?;
        let yields = first.0.moves();
        let (row, detail) = rows().find(|(row, _)| yields && row.veto).unwrap_or(first);
        let lasting = match row.act {
            Act::PlannedRestart => row.when.lasting_cause(facts),
            Act::MoveAside => Some(Cause::Empty(facts.look.empty_files.clone())),
            Act::None | Act::Restart | Act::CopyAside => None,
        };
        let ended = matches!(facts.unit, UnitWord::Failed | UnitWord::AutoRestart);
        Some(Judged { row, detail, lasting, ended })
    }

    /// What of this look leaves open whether k3s itself is to blame.
    fn doubt(&self, look: &Look, state: &UnitState, reading: UnitReading) -> Option<Withheld> {
        let runs = reading == UnitReading::Running || state.activity == Activity::Activating;
        if !runs || matches!(reading, UnitReading::Operator(_)) {
            return Some(Withheld::NotRunning);
        }
        if state.job_pending && state.is_running() {
            return Some(Withheld::JobPending);
        }
        let fails = Port::probes(look).any(|(_, probe)| probe.fails());
        for (port, probe) in Port::probes(look) {
            match probe {
                // Anybody may take a health port while k3s is down: that says nothing of what fails elsewhere.
                Probe::Stranger if fails && matches!(port, Port::Kubelet | Port::KubeProxy) => {}
                Probe::Stranger => return Some(Withheld::Doubt(format!("a stranger answers for {port}"))),
                Probe::Unable(why) => return Some(Withheld::Doubt(format!("{port} cannot be asked: {why}"))),
                Probe::Off | Probe::Status { .. } | Probe::Refused | Probe::TimedOut => {}
            }
        }
        if self.needs_mounts && look.mounts.is_empty() {
            return Some(Withheld::Doubt("the disks".into()));
        }
        look.age.is_none().then(|| Withheld::Doubt("its age".into()))
    }

    fn too_soon(&self, look: &Look, looks: u32) -> Option<Withheld> {
        let few = (looks < self.looks).then_some(Withheld::FewLooks { seen: looks, wanted: self.looks });
        self.grace(look.age.unwrap_or_default()).or(few)
    }

    fn grace(&self, age: Duration) -> Option<Withheld> {
        (age < self.grace).then_some(Withheld::Grace { age, grace: self.grace })
    }
}

const fn verdict(class: Option<FaultClass>) -> Verdict {
    match class {
        None => Verdict::Up,
        Some(FaultClass::Operator | FaultClass::Unknown) => Verdict::Unknown,
        Some(FaultClass::Crash | FaultClass::Hang | FaultClass::Broken | FaultClass::Environment) => Verdict::Down,
    }
}

/// What PID 1's word alone is called.
const fn hard_reason(reading: UnitReading) -> Option<Reason> {
    match reading {
        UnitReading::Running => None,
        UnitReading::Crashed(reason) | UnitReading::Operator(reason) | UnitReading::Unknown(reason) => Some(reason),
    }
}

fn reason(row: &Row, reading: UnitReading) -> Reason {
    let of_class = match row.class {
        None => Reason::Running,
        Some(FaultClass::Broken | FaultClass::Hang | FaultClass::Environment) => Reason::ProbeFailed,
        Some(FaultClass::Crash | FaultClass::Operator | FaultClass::Unknown) => Reason::CannotSee,
    };
    let hard = match row.class {
        Some(FaultClass::Crash | FaultClass::Operator | FaultClass::Unknown) => hard_reason(reading),
        _ => None,
    };
    row.reason.or(hard).unwrap_or(of_class)
}

/// A look that shows nothing: only the operator's wish is known then.
fn unseen(reading: UnitReading, withheld: Withheld) -> Finding {
    let operators = matches!(reading, UnitReading::Operator(_));
    Finding {
        row: NO_ROW.into(),
        class: Some(if operators { FaultClass::Operator } else { FaultClass::Unknown }),
        verdict: Verdict::Unknown,
        evidence: if operators { Evidence::Hard } else { Evidence::Soft },
        reason: hard_reason(reading).filter(|_| operators).unwrap_or(Reason::CannotSee),
        act: Act::None,
        page: false,
        frozen: false,
        says: if operators { "The operator wants it so." } else { "Not to be told." }.into(),
        detail: String::new(),
        withheld: Some(withheld),
        lasting: None,
        ended: false,
        counts: None,
    }
}

fn held_back(judged: Judged<'_>, reading: UnitReading, withheld: Withheld, counts: Option<FaultClass>) -> Finding {
    let reason = match &withheld {
        Withheld::Grace { .. } => Reason::Grace,
        Withheld::FewLooks { .. } => Reason::ProbeFailed,
        Withheld::JobPending => Reason::JobPending,
        _ => hard_reason(reading).filter(|_| !matches!(reading, UnitReading::Crashed(_))).unwrap_or(Reason::CannotSee),
    };
    // A look in doubt or at a young run is not one more in the row.
    let counts = counts.filter(|_| matches!(withheld, Withheld::FewLooks { .. }));
    Finding {
        row: judged.row.name.clone(),
        class: Some(FaultClass::Unknown),
        verdict: Verdict::Unknown,
        evidence: Evidence::Soft,
        reason,
        act: Act::None,
        page: false,
        frozen: judged.row.frozen,
        says: judged.row.says.clone(),
        detail: judged.detail.join("; "),
        withheld: Some(withheld),
        lasting: None,
        ended: judged.ended,
        counts,
    }
}

#[cfg(test)]
pub(super) mod tests;
