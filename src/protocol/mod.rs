//! The ground: the protocol as pure code.
//!
//! No clock, no I/O, no ambient randomness: time and entropy are arguments, effects are values. Production, simulator and
//! model checker run these very machines.

pub mod certificate;
pub mod cpu;
pub mod episode;
pub mod equivocation;
pub mod evidence;
pub mod failure_detector;
pub mod guardian;
pub mod ladder;
pub mod policy;
pub mod record;
pub mod roster;
pub mod session;
pub mod signing;
pub mod statement;
pub mod types;
pub mod view;
pub mod vote_keeper;
pub mod warden;
