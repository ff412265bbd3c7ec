//! The lookout: the process of root's that only looks.
//!
//! Agents vote on k3s, and may read neither its keys' folder nor its journal. The lookout reads both as root, without any
//! capability, and publishes what it sees for everybody ([`crate::observe::k3s::lookout`]). Rules:
//! * It tells what is there, and judges nothing. It takes no order, and writes nothing but what it publishes.
//! * Files are looked at every [`LOOK_EVERY`]. A disk that hangs is unseen; the lookout goes on.
//! * The journal is asked when the unit's run changed, for a line that a run ended by can be there only then: at once, since
//!   agents are about to judge that end, and twice more, since journald may be late. A healthy k3s costs no such question. One
//!   that was not answered is asked again, ever more seldom.

mod journal;
mod turns;

use crate::clock;
use crate::config::Settings;
use crate::grpc::limits::Sparing;
use crate::observe::k3s::aside::Aside;
use crate::observe::k3s::fatal::{Fatal, invocation};
use crate::observe::k3s::lookout::{RootFacts, SeenRun, publish};
use crate::observe::k3s::{FileFacts, Files, K3sSettings};
use crate::protocol::types::{BootId, InvocationId, SubjectName, Timestamp};
use journal::Journal;
use std::future::Future;
use std::io;
use std::path::PathBuf;
use std::time::Duration;
use tokio::task::JoinSet;
use tracing::{info, warn};
use turns::Turns;

/// From one look at files to the next: as often as agents look.
pub const LOOK_EVERY: Duration = Duration::from_secs(5);
/// From one glance at the unit's run to the next.
const GLANCE_EVERY: Duration = Duration::from_millis(200);
/// Longest wait for files and for the journal, each.
const LIMIT: Duration = Duration::from_secs(2);
/// Where PID 1 leaves each unit's run for journald: a link `invocation:UNIT` whose target is the run. It is there from the start
/// of a run to its end.
const RUNS: &str = "/run/systemd/units";

/// Why the lookout cannot work.
#[derive(Debug, thiserror::Error)]
pub enum LookoutError {
    /// Timestamps would say nothing.
    #[error("this boot's id cannot be read: {0}")]
    Boot(#[source] io::Error),
    /// One of its tasks panicked.
    #[error("nobody looks at one of the subjects any more")]
    Blind,
}

/// What is looked at.
#[derive(Clone, Debug)]
pub struct Watched {
    /// Its name.
    pub subject: SubjectName,
    /// Its unit.
    pub unit: String,
    /// Which files.
    pub settings: K3sSettings,
    /// Where what is seen is published.
    pub place: PathBuf,
}

/// Every k3s that is configured.
pub fn watched(settings: &Settings) -> Vec<Watched> {
    let watched = settings.k3s.iter().filter_map(|(subject, k3s)| {
        let unit = settings.policy.subjects.get(subject)?.unit.clone();
        let place = settings.paths.lookout(subject);
        Some(Watched { subject: subject.clone(), unit, settings: k3s.observer(), place })
    });
    watched.collect()
}

/// Looks, and publishes, until `shutdown` is done.
///
/// # Errors
/// [`LookoutError`] when it had better be started anew.
pub async fn run(watched: Vec<Watched>, shutdown: impl Future<Output = ()>) -> Result<(), LookoutError> {
    let boot = clock::boot_id().map_err(LookoutError::Boot)?;
    let mut watches = JoinSet::new();
    for watched in watched {
        info!(subject = %watched.subject, unit = watched.unit, place = %watched.place.display(), "looking");
        let files = Files::new(&watched.settings);
        watches.spawn(Watch::new(watched, boot, files, Journal::of_systemd()).for_ever());
    }
    tokio::select! {
        () = shutdown => Ok(()),
        _ = watches.join_next() => Err(LookoutError::Blind),
    }
}

/// Who looks at files: one look, which may block.
trait Look: Send + 'static {
    fn look(&mut self) -> FileFacts;
}

impl Look for Files {
    fn look(&mut self) -> FileFacts {
        Files::look(self)
    }
}

/// The eyes on one subject.
struct Watch<F> {
    watched: Watched,
    boot: BootId,
    files: Aside<F, FileFacts>,
    journal: Journal,
    /// Longest wait for each.
    limit: Duration,
    turns: Turns,
    seen: Seen,
    complaints: Sparing,
}

/// What was seen last of each.
#[derive(Default)]
struct Seen {
    /// When the last look at files began.
    at: Timestamp,
    run: Option<SeenRun>,
    files: FileFacts,
    fatal: Option<Fatal>,
    /// The journal answered.
    journal: bool,
    /// Why not, if it was asked.
    no_journal: Option<String>,
}

impl Seen {
    fn facts(&self) -> RootFacts {
        let mut files = self.files.clone();
        files.unseen.extend(self.no_journal.clone());
        RootFacts { files, fatal: self.fatal.clone(), run: self.run, journal: self.journal }
    }
}

impl<F: Look> Watch<F> {
    fn new(watched: Watched, boot: BootId, files: F, journal: Journal) -> Self {
        let (turns, seen, complaints) = (Turns::default(), Seen::default(), Sparing::default());
        Self { watched, boot, files: Aside::new(files), journal, limit: LIMIT, turns, seen, complaints }
    }

    async fn for_ever(mut self) {
        loop {
            let present = present_run(&self.watched.unit);
            self.glance(present).await;
            tokio::time::sleep(GLANCE_EVERY).await;
        }
    }

    /// Looks at what is due, and publishes it.
    async fn glance(&mut self, present: Option<InvocationId>) {
        let now = clock::now();
        let due = self.turns.due(now, present);
        if due.journal {
            self.ask(present).await;
        }
        if due.files {
            self.seen.at = now;
            self.seen.files = self.files.work(self.limit, Look::look).await.unwrap_or_else(|| FileFacts {
                unseen: vec![format!("no file answers within {:?}: is the disk well?", self.limit)],
                ..FileFacts::default()
            });
        }
        if !due.files && !due.journal {
            return;
        }
        let Watched { subject, place, .. } = &self.watched;
        if let Err(error) = publish(place, subject, self.boot, self.seen.at, &self.seen.facts())
            && let Some(unsaid) = self.complaints.say(now)
        {
            warn!(%subject, place = %place.display(), %error, unsaid, "what is seen cannot be published");
        }
    }

    async fn ask(&mut self, present: Option<InvocationId>) {
        let answer = self.journal.last_fatal(&self.watched.unit, present, self.limit).await;
        self.seen.journal = answer.is_ok();
        self.turns.answered(answer.is_ok());
        match answer {
            Ok(fatal) => {
                self.seen.fatal = fatal;
                self.seen.no_journal = None;
                let last = self.seen.run.map(|run| run.invocation);
                self.seen.run = present.or(last).map(|invocation| SeenRun { invocation, goes_on: present.is_some() });
            }
            Err(why) => {
                // What it said before is of another run.
                self.seen.fatal = None;
                self.seen.run = None;
                self.seen.no_journal = Some(format!("the journal of {}: {why}", self.watched.unit));
            }
        }
    }
}

/// The unit's present run; `None` when it has none, or PID 1 does not say.
fn present_run(unit: &str) -> Option<InvocationId> {
    let target = std::fs::read_link(format!("{RUNS}/invocation:{unit}")).ok()?;
    invocation(target.to_str()?)
}

#[cfg(test)]
mod tests;
