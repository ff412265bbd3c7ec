//! The words that conditions are written in, and what each says of an answer or a unit.

use super::{Look, Probe};
use crate::protocol::evidence::{Activity, Reason, UnitReading, UnitState, closed_set};

closed_set!(
    /// What is probed.
    Port {
        /// The supervisor.
        Ping = "ping",
        /// The API server's liveness, its datastore left out.
        Livez = "livez",
        /// The API server's readiness.
        Readyz = "readyz",
        /// The kubelet's health port.
        Kubelet = "kubelet",
        /// kube-proxy's health port.
        KubeProxy = "kube_proxy",
    }
);

impl Port {
    pub(super) fn of(self, look: &Look) -> &Probe {
        match self {
            Self::Ping => &look.ping,
            Self::Livez => &look.livez,
            Self::Readyz => &look.readyz,
            Self::Kubelet => &look.kubelet,
            Self::KubeProxy => &look.kube_proxy,
        }
    }

    /// Every probe of a look.
    pub(super) fn probes(look: &Look) -> impl Iterator<Item = (Self, &Probe)> {
        Self::ALL.iter().map(|port| (*port, port.of(look)))
    }
}

closed_set!(
    /// What a probe may have brought.
    Answer {
        /// Status 200.
        Ok = "ok",
        /// Any status.
        Answers = "answers",
        /// 401, 403 or 404: somebody answers, and tells us nothing more.
        Denied = "denied",
        /// 500 or above.
        Error = "error",
        /// The port refuses connections.
        Refused = "refused",
        /// No answer in time.
        TimedOut = "timed-out",
        /// `error`, `refused` or `timed-out`.
        Fails = "fails",
        /// Somebody for whom the pinned CA does not vouch.
        Stranger = "stranger",
        /// The probe could not be made.
        Unable = "unable",
        /// There is no such port here.
        Off = "off",
    }
);

impl Answer {
    pub(super) fn is(self, probe: &Probe) -> bool {
        match self {
            Self::Ok => probe.is_ok(),
            Self::Answers => probe.answers(),
            Self::Denied => matches!(probe, Probe::Status { code: 401 | 403 | 404, .. }),
            Self::Error => matches!(probe, Probe::Status { code: 500.., .. }),
            Self::Refused => matches!(probe, Probe::Refused),
            Self::TimedOut => matches!(probe, Probe::TimedOut),
            Self::Fails => probe.fails(),
            Self::Stranger => matches!(probe, Probe::Stranger),
            Self::Unable => matches!(probe, Probe::Unable(_)),
            Self::Off => matches!(probe, Probe::Off),
        }
    }
}

closed_set!(
    /// What PID 1 says of the unit, in one word.
    UnitWord {
        /// It runs.
        Active = "active",
        /// It is being started.
        Activating = "activating",
        /// systemd waits before it starts it again.
        AutoRestart = "auto-restart",
        /// It is being stopped.
        Stopping = "stopping",
        /// It ended, and systemd does nothing about it.
        Failed = "failed",
        /// Somebody stopped it.
        Stopped = "stopped",
        /// It is disabled.
        Disabled = "disabled",
        /// It is masked.
        Masked = "masked",
        /// Its file is gone.
        Missing = "missing",
        /// It is held in the cgroup freezer.
        Frozen = "frozen",
        /// A unit that it requires refused.
        Dependency = "dependency",
    }
);

impl UnitWord {
    /// The word for a state and its reading.
    pub fn of(state: &UnitState, reading: UnitReading) -> Self {
        if let UnitReading::Operator(reason) = reading {
            return match reason {
                Reason::Masked => Self::Masked,
                Reason::NotFound => Self::Missing,
                Reason::Disabled => Self::Disabled,
                Reason::FrozenUnit => Self::Frozen,
                Reason::Dependency => Self::Dependency,
                _ => Self::Stopped,
            };
        }
        match state.activity {
            Activity::Active => Self::Active,
            Activity::Activating => Self::Activating,
            Activity::AutoRestart { .. } => Self::AutoRestart,
            Activity::Deactivating => Self::Stopping,
            // It is about to be started.
            Activity::Inactive | Activity::Failed if state.job_pending => Self::Activating,
            Activity::Inactive | Activity::Failed => Self::Failed,
        }
    }
}

closed_set!(
    /// What the kernel says of the clock.
    ClockWord {
        /// It is kept by somebody who knows.
        Synchronised = "synchronised",
        /// Nobody keeps it.
        Unsynchronised = "unsynchronised",
        /// It does not say.
        Unknown = "unknown",
    }
);
