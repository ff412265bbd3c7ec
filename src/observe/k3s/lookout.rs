//! What root alone may read, as the lookout (`zeta-bft-lookout.service`) publishes it for agents, who may not.
//!
//! * One JSON file per subject, replaced whole, open to everybody: paths, sizes, dates, and one line of the unit's log without
//!   secrets. It is believed only when root alone can have written it, in this boot, within [`FRESH`].
//! * What is not believed is unseen, with the reason: no fault, and no health. The agent looks itself then, and sees less;
//!   of a run that has ended it sees nothing.
//! * The lookout tells what is there. What that means is for agents to judge, each for itself.

use super::fatal::{FATAL_MAX, Fatal, invocation};
use super::{FileFacts, Files};
use crate::clock;
use crate::files;
use crate::protocol::types::{BootId, InvocationId, SubjectName, Timestamp};
use serde::{Deserialize, Serialize};
use std::io::{self, Read as _};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Of the text that is published.
const VERSION: u32 = 1;
/// What was published so long ago is no longer believed: four looks.
pub const FRESH: Duration = Duration::from_secs(20);
/// Most bytes of the text.
const TEXT_MAX: u64 = 256 * 1024;

/// The unit's run, as PID 1 leaves it below `/run/systemd/units`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SeenRun {
    /// The present run, or the last one that was seen.
    pub invocation: InvocationId,
    /// Whether it had not ended.
    pub goes_on: bool,
}

/// What root sees.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RootFacts {
    /// Of the file systems.
    pub files: FileFacts,
    /// The last fatal line of the present run or the one before it; without a present run, of the last one.
    pub fatal: Option<Fatal>,
    /// The run for which the journal was asked; `None` when none was ever seen, or nobody asked.
    pub run: Option<SeenRun>,
    /// Whether the journal answered.
    pub journal: bool,
}

/// Why what is published is not believed.
#[derive(Debug, thiserror::Error)]
pub enum Disbelief {
    /// There is nothing.
    #[error("the lookout has published nothing: `systemctl status zeta-bft-lookout` says why")]
    Missing,
    /// It cannot be read.
    #[error("what the lookout published cannot be read: {0}")]
    Unreadable(#[source] io::Error),
    /// Somebody else wrote it.
    #[error("it belongs to user {0}, not to root: somebody else wrote it")]
    NotRoots(u32),
    /// Somebody else could have written it.
    #[error("its mode {0:04o} lets others than root write it")]
    Writable(u32),
    /// It is too long.
    #[error("it has more than {TEXT_MAX} bytes")]
    TooLong,
    /// It makes no sense.
    #[error("it is malformed: {0}")]
    Malformed(String),
    /// It is about something else.
    #[error("it is about `{0}`")]
    OtherSubject(String),
    /// It was written before the node booted.
    #[error("it is of another boot")]
    OtherBoot,
    /// It is too old.
    #[error("it is {age:?} old, and counts for {FRESH:?}: does the lookout hang?")]
    Stale {
        /// So old.
        age: Duration,
    },
    /// It is of a time that has not come.
    #[error("it is of {ahead:?} from now")]
    Ahead {
        /// So far.
        ahead: Duration,
    },
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Published {
    version: u32,
    subject: String,
    /// As the kernel names it, in hexadecimal.
    boot: String,
    /// `CLOCK_BOOTTIME`, in nanoseconds.
    taken_at: u64,
    run: Option<PublishedRun>,
    journal: bool,
    files: FileFacts,
    fatal: Option<PublishedFatal>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct PublishedRun {
    invocation: String,
    goes_on: bool,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct PublishedFatal {
    line: String,
    run: String,
}

/// Puts what was seen at `taken_at` where a [`Lookout`] reads it.
///
/// # Errors
/// What the system says; what was published before stays then.
pub fn publish(
    path: &Path,
    subject: &SubjectName,
    boot: BootId,
    taken_at: Timestamp,
    facts: &RootFacts,
) -> io::Result<()> {
    let mut published = Published {
        version: VERSION,
        subject: subject.to_string(),
        boot: boot.to_string(),
        taken_at: taken_at.as_nanos(),
        run: facts.run.map(|run| PublishedRun { invocation: run.invocation.to_string(), goes_on: run.goes_on }),
        journal: facts.journal,
        files: facts.files.clone(),
        fatal: facts
            .fatal
            .as_ref()
            .map(|fatal| PublishedFatal { line: fatal.line.clone(), run: fatal.run.to_string() }),
    };
    let said = &mut published.files;
    // k3s names none of its files so. JSON is text.
    let strange = said.empty_files.extract_if(.., |path| path.to_str().is_none());
    said.unseen.extend(strange.map(|path| format!("{}: its name is no text", path.display())));
    let mut text = serde_json::to_vec(&published)?;
    if text.len() as u64 > TEXT_MAX {
        let why = format!("there is too much to be seen: it would take {} bytes to tell, of {TEXT_MAX}", text.len());
        published.files = FileFacts { unseen: vec![why], ..FileFacts::default() };
        text = serde_json::to_vec(&published)?;
    }
    files::replace(path, &text, 0o644)
}

/// Reads what the lookout publishes of one subject.
#[derive(Clone, Debug)]
pub struct Lookout {
    path: PathBuf,
    subject: SubjectName,
    /// Who alone is believed: root.
    owner: u32,
}

impl Lookout {
    /// Of the subject, at the path ([`crate::config::paths::Paths::lookout`]).
    pub fn new(path: PathBuf, subject: SubjectName) -> Self {
        Self { path, subject, owner: 0 }
    }

    /// What root sees. What is not believed is unseen, with the reason; see [`Lookout::believed`].
    pub fn read(&self, now: Timestamp) -> RootFacts {
        self.believed(now).unwrap_or_else(|disbelief| RootFacts {
            files: FileFacts { unseen: vec![self.why(&disbelief)], ..FileFacts::default() },
            ..RootFacts::default()
        })
    }

    /// What root sees. `now`: a moment of [`clock::now`] not before this call by more than a second.
    ///
    /// # Errors
    /// [`Disbelief`].
    pub fn believed(&self, now: Timestamp) -> Result<RootFacts, Disbelief> {
        self.understood(&self.text()?, || clock::boot_id().map_err(Disbelief::Unreadable), now)
    }

    /// What a text says that root has written.
    ///
    /// # Errors
    /// [`Disbelief`].
    pub fn understood(
        &self,
        text: &[u8],
        boot: impl FnOnce() -> Result<BootId, Disbelief>,
        now: Timestamp,
    ) -> Result<RootFacts, Disbelief> {
        let published: Published =
            serde_json::from_slice(text).map_err(|error| Disbelief::Malformed(error.to_string()))?;
        if published.version != VERSION {
            return Err(Disbelief::Malformed(format!("version {}, not {VERSION}", published.version)));
        }
        if published.subject != self.subject.as_str() {
            return Err(Disbelief::OtherSubject(published.subject.chars().take(80).collect()));
        }
        if published.boot != boot()?.to_string() {
            return Err(Disbelief::OtherBoot);
        }
        let taken_at = Timestamp::from_nanos(published.taken_at);
        let (age, ahead) = (now.saturating_since(taken_at), taken_at.saturating_since(now));
        if age > FRESH {
            return Err(Disbelief::Stale { age });
        }
        // It may have been written between the reading of the clock and that of the file.
        if ahead > FRESH {
            return Err(Disbelief::Ahead { ahead });
        }
        let known = |text: String| {
            invocation(&text).ok_or_else(|| Disbelief::Malformed("a run is 32 hexadecimal digits".to_owned()))
        };
        let run = published
            .run
            .map(|run| Ok(SeenRun { invocation: known(run.invocation)?, goes_on: run.goes_on }))
            .transpose()?;
        let fatal = published
            .fatal
            .map(|fatal| match fatal.line.len() {
                0..=FATAL_MAX => Ok(Fatal { line: fatal.line, run: known(fatal.run)? }),
                more => Err(Disbelief::Malformed(format!("a fatal line of {more} bytes, of {FATAL_MAX}"))),
            })
            .transpose()?;
        Ok(RootFacts { files: published.files, fatal, run, journal: published.journal })
    }

    /// Believes this user instead of root.
    #[cfg(test)]
    pub(crate) fn of_user(self, owner: u32) -> Self {
        Self { owner, ..self }
    }

    fn why(&self, disbelief: &Disbelief) -> String {
        format!("{}: {disbelief}", self.path.display())
    }

    fn text(&self) -> Result<Vec<u8>, Disbelief> {
        let file = files::open_plain(&self.path).map_err(|error| match error.kind() {
            io::ErrorKind::NotFound => Disbelief::Missing,
            _ => Disbelief::Unreadable(error),
        })?;
        let metadata = file.metadata().map_err(Disbelief::Unreadable)?;
        if metadata.uid() != self.owner {
            return Err(Disbelief::NotRoots(metadata.uid()));
        }
        if metadata.mode() & 0o022 != 0 {
            return Err(Disbelief::Writable(metadata.mode() & 0o7777));
        }
        let mut text = Vec::new();
        file.take(TEXT_MAX + 1).read_to_end(&mut text).map_err(Disbelief::Unreadable)?;
        if text.len() as u64 > TEXT_MAX { Err(Disbelief::TooLong) } else { Ok(text) }
    }
}

/// Where an observer has its facts about files and journal from. Asking it may block on a disk.
pub(super) struct Source {
    lookout: Option<Lookout>,
    own: Files,
}

impl Source {
    /// From the lookout, where there is one; else what this process itself may read, which is no journal.
    pub(super) fn new(own: Files, lookout: Option<Lookout>) -> Self {
        Self { lookout, own }
    }

    pub(super) fn look(&mut self) -> RootFacts {
        let Some(lookout) = &self.lookout else { return self.alone() };
        match lookout.believed(clock::now()) {
            Ok(facts) => facts,
            Err(disbelief) => {
                let why = lookout.why(&disbelief);
                let mut facts = self.alone();
                facts.files.unseen.insert(0, why);
                facts
            }
        }
    }

    fn alone(&mut self) -> RootFacts {
        RootFacts { files: self.own.look(), ..RootFacts::default() }
    }
}

#[cfg(test)]
mod tests;
