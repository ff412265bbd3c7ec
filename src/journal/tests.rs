//! Claims about the journal.
