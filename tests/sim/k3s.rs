//! A virtual k3s: what ails it, what that looks like to an agent, and which step of its ladder is the cure.
//!
//! PID 1's word alone proves little of it: every agent looks for itself, and signs what it saw with the reason, which names
//! the step that answers it.

use crate::rng::Rng;
use zeta_bft::protocol::evidence::{FaultClass, Reason, Remedy, ServiceReading, UnitState, Verdict};
use zeta_bft::protocol::types::Digest;

/// What ails it: the truth, which outlives its process.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum Ailment {
    #[default]
    Nothing,
    /// Its probes fail, until so many starts.
    Fails { starts: u32 },
    /// A key of its agent's folder is empty: it fails until that is moved aside.
    EmptyKey,
    /// Its datastore is damaged: it ends soon after each start, and no step mends it.
    Datastore,
    /// It fails, and no step answers that.
    WantsHuman,
    /// A full disk, and the like: nothing to be repaired.
    Environment,
    /// The clock, the network: whatever is seen of it says nothing.
    HostInDoubt,
}

impl Ailment {
    pub fn any(rng: &mut Rng) -> Self {
        match rng.below(9) {
            0..4 => Self::Fails { starts: u32::try_from(rng.below(3)).unwrap_or(0) },
            4 => Self::EmptyKey,
            5 => Self::Datastore,
            6 => Self::WantsHuman,
            7 => Self::Environment,
            _ => Self::HostInDoubt,
        }
    }

    /// The step that answers it, if it is a fault that can be voted on.
    pub const fn remedy(self) -> Option<Remedy> {
        match self {
            Self::Nothing | Self::Environment | Self::HostInDoubt => None,
            Self::Fails { .. } => Some(Remedy::Restart),
            Self::EmptyKey => Some(Remedy::MoveAside),
            Self::Datastore => Some(Remedy::CopyAside),
            Self::WantsHuman => Some(Remedy::Human),
        }
    }

    /// Whether every run of it ends soon.
    pub const fn ends_each_run(self) -> bool {
        matches!(self, Self::Datastore)
    }

    /// Whether a process that runs is BROKEN by it.
    pub const fn breaks(self) -> bool {
        matches!(self, Self::Fails { .. } | Self::EmptyKey | Self::WantsHuman)
    }

    /// It is started once more.
    pub const fn started(self) -> Self {
        match self {
            Self::Fails { starts: 0 | 1 } => Self::Nothing,
            Self::Fails { starts } => Self::Fails { starts: starts - 1 },
            other => other,
        }
    }

    /// What one look shows, of a unit that PID 1 shows like this before and after it.
    pub fn look(self, unit: &UnitState) -> ServiceReading {
        let down = |class, reason| (Verdict::Down, Some(class), reason);
        let blind = |reason| (Verdict::Unknown, Some(FaultClass::Unknown), reason);
        let (verdict, class, reason) = if unit.job_pending || unit.stop_requested {
            blind(Reason::CannotSee)
        } else if unit.main_pid.is_none() {
            let reason = match self {
                Self::EmptyKey => Reason::EmptyFile,
                Self::Datastore => Reason::Datastore,
                Self::WantsHuman => Reason::CameBack,
                _ => Reason::Killed,
            };
            down(FaultClass::Crash, reason)
        } else {
            match self {
                Self::Nothing => (Verdict::Up, None, Reason::Running),
                Self::Fails { .. } => down(FaultClass::Broken, Reason::ProbeFailed),
                Self::EmptyKey => down(FaultClass::Broken, Reason::EmptyFile),
                Self::WantsHuman => down(FaultClass::Broken, Reason::WantsHuman),
                Self::Datastore => down(FaultClass::Environment, Reason::Datastore),
                Self::Environment => down(FaultClass::Environment, Reason::DiskFull),
                Self::HostInDoubt => blind(Reason::HostInDoubt),
            }
        };
        let digest = Digest::of(format!("{self:?} {unit:?}").as_bytes());
        ServiceReading { run: unit.incarnation, verdict, class, reason, digest }
    }
}
