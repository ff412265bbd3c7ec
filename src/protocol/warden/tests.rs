//! Claims about the warden's core, by theme, on one [`bench`].

mod acts;
mod bench;
mod budgets;
mod challenges;
mod journal;
mod k3s;
mod liars;
mod operator;
mod settling;
mod votes;

use super::*;
use crate::protocol::cpu::{CpuReading, Standing};
use crate::protocol::evidence::{Activity, Attestation, Evidence, ExitZero, LastExit, Reason, Verdict};
use crate::protocol::policy::{Action, Consent, RungPolicy, SubjectKind, SubjectPolicy, Timing};
use crate::protocol::record::{OpenIntent, OperatorOrder, chain_hash};
use crate::protocol::roster::RosterStatement;
use crate::protocol::roster::fixture::{self, PERSONAS, key, persona, subject};
use crate::protocol::statement::{
    Choice, Codec, Envelope, EpisodeStatement, EquivocationProof, Head, Header, Heartbeat, Outcome, Receipt,
    ReceiptKind, Session, SessionRequest, StateName, Statement, Vote,
};
use crate::protocol::types::{Incarnation, InvocationId, NodeId, Round, Rung, SessionIncarnation};
use crate::wire::Proto;
