//! Claims about a guardian that is [`alone`], by theme.

mod abstaining;
mod alone;
mod equivocation;
mod silence;
mod ticks;
mod votes;

use super::super::equivocation::GuardianStatement;
use super::super::evidence::{Activity, Evidence, ExitZero, FaultClass, LastExit, Reason, TickEnd, UnitState, Verdict};
use super::super::policy::{Mode, SubjectKind, SubjectPolicy, Timing};
use super::super::roster::{Member, RosterStatement};
use super::super::statement::{ActionKind, Choice, Head, Receipt, ReceiptKind, Session, SessionRequest, Vote};
use super::super::types::{
    ClusterId, Incarnation, InvocationId, NodeId, Round, Rung, SessionIncarnation, SetEpoch, VendorId, WardenInstance,
};
use super::*;
use crate::wire::Proto;
