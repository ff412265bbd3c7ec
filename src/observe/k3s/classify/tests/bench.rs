//! A k3s that is looked at: what it shows, and what is found.

use super::super::*;
use crate::observe::k3s::fatal::Fatal;
use crate::observe::k3s::{Certificate, Mount};
use crate::protocol::evidence::{Enablement, LastExit};
use crate::protocol::types::{BootId, Incarnation, InvocationId};
use std::sync::{Arc, LazyLock};

/// Seconds of Unix time of the first look: a midnight.
pub(super) const UNIX: u64 = 1_790_035_200;
/// Of a day.
pub(super) const DAY: u64 = 24 * 3600;

pub(super) fn run(number: u8) -> Incarnation {
    Incarnation { boot: BootId([1; 16]), invocation: InvocationId([number; 16]) }
}

pub(super) fn at(seconds: u64) -> Timestamp {
    Timestamp::ZERO + Duration::from_secs(seconds)
}

pub(super) fn ok() -> Probe {
    Probe::Status { code: 200, said: "ok".into() }
}

/// A server that has run for an hour and is well.
pub(in crate::observe::k3s) fn well() -> Look {
    Look {
        at: at(10_000),
        run: Some(run(1)),
        age: Some(Duration::from_secs(3600)),
        ping: ok(),
        livez: ok(),
        readyz: ok(),
        kubelet: ok(),
        kube_proxy: ok(),
        node_ready: Some(true),
        certificates: vec![Certificate { place: "port 6443".into(), is_ca: false, not_after: UNIX + 300 * DAY }],
        empty_files: Vec::new(),
        keys_seen: true,
        mounts: vec![Mount {
            path: "/var/lib/rancher/k3s".into(),
            free_bytes: 1 << 34,
            bytes: 1 << 36,
            free_inodes: 1_000_000,
            inodes: 2_000_000,
        }],
        clock_synchronised: Some(true),
        unix: UNIX,
        fatal: None,
        others: (0, 0),
    }
}

/// A run's last words.
pub(super) fn words(number: u8, line: impl Into<String>) -> Option<Fatal> {
    Some(Fatal { line: line.into(), run: run(number).invocation })
}

/// The same with every API port silent.
pub(super) fn silent() -> Look {
    Look { ping: Probe::TimedOut, livez: Probe::TimedOut, readyz: Probe::TimedOut, ..well() }
}

/// A unit that shows this word.
pub(super) fn unit(word: UnitWord) -> UnitState {
    let active = UnitState { activity: Activity::Active, ..UnitState::never_started(run(1)) };
    let ended = UnitState { activity: Activity::Failed, last_exit: LastExit::Signal(9), ..active };
    let waiting = Activity::AutoRestart { due: at(20_000), wait: Duration::from_secs(5) };
    match word {
        UnitWord::Active => active,
        UnitWord::Activating => UnitState { activity: Activity::Activating, job_pending: true, ..active },
        UnitWord::AutoRestart => UnitState { activity: waiting, ..ended },
        UnitWord::Stopping => UnitState { activity: Activity::Deactivating, ..active },
        UnitWord::Failed => ended,
        UnitWord::Stopped => UnitState { stop_requested: true, ..ended },
        UnitWord::Disabled => UnitState { enablement: Enablement::Disabled, ..active },
        UnitWord::Masked => UnitState { enablement: Enablement::Masked, ..active },
        UnitWord::Missing => UnitState { enablement: Enablement::NotFound, ..ended },
        UnitWord::Frozen => UnitState { frozen: true, ..active },
        UnitWord::Dependency => UnitState { last_exit: LastExit::Dependency, ..ended },
    }
}

/// A server's, with the built-in rows alone.
pub(super) fn judge() -> Arc<Judge> {
    judge_of(Role::Server)
}

/// With the built-in rows alone. Their patterns are compiled once.
pub(super) fn judge_of(role: Role) -> Arc<Judge> {
    static JUDGES: LazyLock<[Arc<Judge>; 2]> =
        LazyLock::new(|| [Role::Server, Role::Agent].map(|role| Judge::new(&K3sConfig::new(role)).into()));
    JUDGES[usize::from(role == Role::Agent)].clone()
}

/// With one row of an operator's.
pub(super) fn judge_with(rows: &str) -> Judge {
    let faults = crate::config::faults::read(rows, "rows").unwrap();
    Judge::new(&K3sConfig { faults, ..K3sConfig::new(Role::Server) })
}

/// An observer: its memory, and the looks that it takes 5 s apart.
pub(super) struct Eye {
    pub(super) judge: Arc<Judge>,
    pub(super) history: History,
    taken: u64,
}

impl Eye {
    pub(super) fn new(judge: impl Into<Arc<Judge>>) -> Self {
        Self { judge: judge.into(), history: History::default(), taken: 0 }
    }

    /// One look at a unit.
    pub(super) fn look(&mut self, look: &Look, state: &UnitState) -> Finding {
        self.taken += 1;
        let look = Look { at: look.at + Duration::from_secs(5 * self.taken), ..look.clone() };
        let unit = Unit { state, since: at(0), exit_zero: ExitZero::Operator };
        let finding = self.judge.classify(look.at, &look, unit, &self.history);
        let again = self.judge.classify(look.at, &look, unit, &self.history);
        assert_eq!(finding, again, "the same input, the same word");
        self.history.note(&look, finding.noted());
        let noted = self.judge.classify(look.at, &look, unit, &self.history);
        assert_eq!(finding.verdict, noted.verdict, "the same look again counts no second time");
        finding
    }

    /// The last of so many looks at the same.
    pub(super) fn looks(&mut self, times: u32, look: &Look, state: &UnitState) -> Finding {
        let mut last = self.look(look, state);
        for _ in 1..times {
            last = self.look(look, state);
        }
        last
    }
}

/// What is found of this after many looks at a running unit.
pub(super) fn found(look: &Look) -> Finding {
    Eye::new(judge()).looks(4, look, &unit(UnitWord::Active))
}
