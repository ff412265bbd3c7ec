//! Claims about a guardian that is [`alone`], by theme.

mod abstaining;
mod alone;
mod equivocation;
mod service;
mod silence;
mod ticks;
mod votes;

use super::super::equivocation::GuardianStatement;
use super::super::evidence::{Activity, Evidence, ExitZero, FaultClass, LastExit, Reason, TickEnd, UnitState, Verdict};
use super::super::policy::{Mode, SubjectKind, SubjectPolicy, Timing};
use super::super::roster::fixture::{self, PERSONAS, cluster, key, node, persona, session_key, subject};
use super::super::statement::{ActionKind, Choice, Head, Receipt, ReceiptKind, Session, SessionRequest, Vote};
use super::super::types::{
    Incarnation, InvocationId, NodeId, Round, Rung, SessionIncarnation, SetEpoch, WardenInstance,
};
use super::*;
use crate::wire::Proto;
