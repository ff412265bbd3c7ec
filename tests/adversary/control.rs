//! What a test tells the actor, one JSON line each way.

use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// Whose agent is compromised.
pub const ACTOR: &str = "lior";

/// Where the actor listens.
pub fn socket(dir: &Path) -> PathBuf {
    dir.join("run/actor.sock")
}

/// A single order.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub enum Order {
    /// From now on say DOWN of these, by class, in every heartbeat, and vote so ten times a second; of all others say UP.
    Accuse {
        of: BTreeMap<String, String>,
        /// Of a run that does not exist, instead of the one that runs.
        false_runs: bool,
    },
    /// From now on say nothing, to nobody; challenges are answered all the same.
    Withhold(bool),
    /// Sign one vote.
    Vote { on: String, class: String, twist: Twist },
    /// Hand every vote ever signed or heard to the warden once more, byte for byte.
    Replay,
    /// Sign two heartbeats with one number: both to the warden, or one to the warden and the other to otto alone.
    SpeakTwice { apart: bool },
    /// Throw everything at the warden and at the peers, as fast as it goes, for so long.
    Flood { millis: u64 },
    /// Only report.
    Report,
}

/// What is wrong with a vote.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Twist {
    OtherCluster,
    OtherNode,
    OtherBoot,
    OtherAuthor,
    EndedSession,
    /// The content of the first vote ever signed, under a new number.
    Earlier,
    OtherRound,
    OtherNonce,
    OtherRun,
    OtherBootOfSubject,
    OtherRung,
    OtherSetEpoch,
    OldObservation,
    FutureObservation,
    /// Header and observation tell different times.
    TwoTimes,
    Unsupported,
    NotVotable,
    ForgedSignature,
    None,
}

/// How the actor stands.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Report {
    /// Its session; it has one whenever it answers.
    pub session: String,
    /// Peers to which it has a line.
    pub peers: usize,
    /// Votes that it signed.
    pub signed: usize,
    /// Votes of others that it heard, by voter.
    pub heard: BTreeMap<String, usize>,
    /// Statements thrown in floods.
    pub thrown: u64,
}
