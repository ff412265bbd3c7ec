//! Which roster the journal goes on from.
//!
//! Rules:
//! * the journal holds every roster that a warden counted by, from the first on: what an earlier key of the warden's signed
//!   can still be told from forgery;
//! * a roster that follows from the last one there is taken over before anything else is written. Each link must be there:
//!   of rosters that no warden saw, the files `roster.EPOCH`;
//! * an older roster, or one that follows from another, is refused: it was rolled back, or belongs to another journal.

use crate::config::paths::Paths;
use crate::config::roster::{self, RosterFileError};
use crate::journal::{Journal, JournalError};
use crate::protocol::record::Record;
use crate::protocol::roster::Roster;
use crate::protocol::statement::{Codec as _, JournalHead};
use crate::protocol::types::Digest;
use crate::wire::Proto;

/// Why a roster is not counted by.
#[derive(Debug, thiserror::Error)]
pub enum SuccessionError {
    /// It is not newer than the journal's.
    #[error(
        "the journal goes on from roster {known}, but the roster in force is another one, {given}: it was rolled back"
    )]
    RolledBack {
        /// Epoch in the journal.
        known: u64,
        /// Epoch in the file.
        given: u64,
    },
    /// It follows from something else.
    #[error("roster {given} does not follow from roster {known} of the journal")]
    Unlinked {
        /// Epoch in the journal.
        known: u64,
        /// Epoch in the file.
        given: u64,
    },
    /// An INTENT waits that only the older key can be held to.
    #[error("roster {given} names a new key of the warden's, while a repair under the old one waits for its outcome")]
    Unfinished {
        /// Epoch in the file.
        given: u64,
    },
    /// The file changed under us, or cannot be read.
    #[error(transparent)]
    File(#[from] RosterFileError),
    /// The file changed after it was read.
    #[error("the roster changed while the warden was starting")]
    Changed,
    /// It cannot be journaled.
    #[error(transparent)]
    Journal(#[from] JournalError),
}

/// Notes in the journal that `given` counts from here on, unless it does already. Returns the head to go on from.
///
/// # Errors
/// [`SuccessionError`] when it does not follow from `known`, the last one that the journal holds.
pub(super) fn take_over(
    journal: &mut Journal,
    known: Option<&Roster>,
    unfinished: bool,
    given: &Roster,
    paths: &Paths,
) -> Result<JournalHead, SuccessionError> {
    if known.is_some_and(|known| known.digest() == given.digest()) {
        return Ok(journal.head());
    }
    if let Some(known) = known {
        follows(known, given, |epoch| Ok(roster::load(&paths.roster_of(epoch), &Proto)?.as_ref().clone()))?;
        if unfinished && known.statement().warden != given.statement().warden {
            return Err(SuccessionError::Unfinished { given: given.epoch() });
        }
    }
    let envelope = roster::read(&paths.roster())?;
    if envelope.digest() != given.digest() {
        return Err(SuccessionError::Changed);
    }
    let head = journal.head();
    journal.append(head.seq.saturating_add(1), head.hash, &Proto.encode(&Record::Roster(envelope)))?;
    tracing::info!(epoch = given.epoch(), "a roster is taken over");
    Ok(journal.sync()?)
}

/// Walks from `given` back to `known`.
fn follows(
    known: &Roster,
    given: &Roster,
    kept: impl Fn(u64) -> Result<Roster, SuccessionError>,
) -> Result<(), SuccessionError> {
    let (from, to) = (known.epoch(), given.epoch());
    if to <= from {
        return Err(SuccessionError::RolledBack { known: from, given: to });
    }
    let unlinked = SuccessionError::Unlinked { known: from, given: to };
    let mut previous: Digest = given.statement().previous;
    for epoch in (from + 1..to).rev() {
        let between = kept(epoch)?;
        if (between.digest(), between.epoch()) != (previous, epoch) {
            return Err(unlinked);
        }
        previous = between.statement().previous;
    }
    if previous == known.digest() { Ok(()) } else { Err(unlinked) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{self, default_up_toml};
    use crate::protocol::types::PersonaId;
    use crate::setup::{initialise, succession::sign_next};
    use crate::{journal, keys};
    use std::sync::Arc;

    struct Node {
        _dir: tempfile::TempDir,
        paths: Paths,
    }

    impl Node {
        fn new() -> Self {
            let dir = tempfile::tempdir().unwrap();
            let paths = Paths::below(dir.path());
            initialise(&paths, &default_up_toml(false)).unwrap();
            Self { _dir: dir, paths }
        }

        fn roster(&self) -> Arc<Roster> {
            roster::load(&self.paths.roster(), &Proto).unwrap()
        }

        fn rekey(&self) -> Arc<Roster> {
            let vera = self.paths.persona_key(&PersonaId::new("vera").unwrap());
            std::fs::remove_file(&vera).unwrap();
            keys::save(&vera, &keys::generate()).unwrap();
            let operator = keys::load(&self.paths.operator_key()).unwrap();
            sign_next(&config::load(&self.paths).unwrap(), &operator, false).unwrap().after
        }

        fn take(&self, known: Option<&Roster>, given: &Roster) -> Result<JournalHead, SuccessionError> {
            let mut journal = Journal::open(&self.paths.journal()).unwrap().journal;
            take_over(&mut journal, known, false, given, &self.paths)
        }

        fn known(&self) -> Option<Roster> {
            journal::last_roster(&Journal::open(&self.paths.journal()).unwrap().records, &Proto)
        }
    }

    #[test]
    fn a_roster_is_journaled_once_and_the_next_one_after_it() {
        let node = Node::new();
        let first = node.roster();
        assert_eq!(node.take(None, &first).unwrap().seq, 1);
        let known = node.known().unwrap();
        assert_eq!(known.digest(), first.digest());
        assert_eq!(node.take(Some(&known), &first).unwrap().seq, 1);
        let second = node.rekey();
        assert_eq!(node.take(Some(&known), &second).unwrap().seq, 2);
        assert_eq!(node.known().unwrap().digest(), second.digest());
    }

    #[test]
    fn rosters_that_no_warden_saw_must_link_up_by_their_files() {
        let node = Node::new();
        let first = node.roster();
        node.take(None, &first).unwrap();
        let second = node.rekey();
        let third = node.rekey();
        let kept = std::fs::read(node.paths.roster_of(2)).unwrap();
        std::fs::remove_file(node.paths.roster_of(2)).unwrap();
        assert!(matches!(node.take(Some(&first), &third), Err(SuccessionError::File(_))));
        std::fs::copy(node.paths.roster_of(1), node.paths.roster_of(2)).unwrap();
        assert!(matches!(node.take(Some(&first), &third), Err(SuccessionError::Unlinked { known: 1, given: 3 })));
        std::fs::write(node.paths.roster_of(2), kept).unwrap();
        node.take(Some(&first), &third).unwrap();
        let error = node.take(Some(&third), &second).unwrap_err();
        assert!(matches!(error, SuccessionError::RolledBack { known: 3, given: 2 }), "{error}");
    }

    #[test]
    fn a_roster_of_the_same_epoch_that_says_something_else_is_refused() {
        let (node, other) = (Node::new(), Node::new());
        let known = other.roster();
        assert!(matches!(node.take(Some(&known), &node.roster()), Err(SuccessionError::RolledBack { .. })));
        let second = node.rekey();
        assert!(matches!(node.take(Some(&known), &second), Err(SuccessionError::Unlinked { known: 1, given: 2 })));
    }

    #[test]
    fn a_new_key_of_the_wardens_waits_for_what_the_old_one_began() {
        let node = Node::new();
        let first = node.roster();
        node.take(None, &first).unwrap();
        std::fs::remove_file(node.paths.warden_key()).unwrap();
        keys::save(&node.paths.warden_key(), &keys::generate()).unwrap();
        let second = node.rekey();
        let mut journal = Journal::open(&node.paths.journal()).unwrap().journal;
        let error = take_over(&mut journal, Some(&first), true, &second, &node.paths).unwrap_err();
        assert!(matches!(error, SuccessionError::Unfinished { given: 2 }), "{error}");
        take_over(&mut journal, Some(&first), false, &second, &node.paths).unwrap();
    }
}
