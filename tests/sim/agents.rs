//! The virtual shells of agents and warden: processes around the machines, with what production's shells keep for them.

use crate::actors::Liar;
use crate::network::End;
use crate::signatures::Scheme;
use std::collections::{BTreeMap, VecDeque};
use zeta_bft::protocol::guardian::{Guardian, GuardianInput};
use zeta_bft::protocol::statement::Envelope;
use zeta_bft::protocol::types::{PublicKey, SubjectName};
use zeta_bft::protocol::warden::{Warden, WardenInput};

/// Who sits in an agent's process.
pub enum Mind {
    Correct(Box<Guardian<Scheme>>),
    Liar(Box<Liar>),
}

/// One run of an agent.
pub struct AgentProcess {
    pub pid: u32,
    pub mind: Mind,
    /// Inputs that wait while the process is stopped.
    pub backlog: VecDeque<GuardianInput>,
    pub timer: Timer,
    pub has_session: bool,
    /// The liar's own session, for peers that connect later.
    pub own: Option<Envelope>,
}

/// The one armed timer of a process.
#[derive(Clone, Copy, Debug, Default)]
pub struct Timer {
    pub seq: u64,
    pub due: Option<u64>,
    /// Steps in a row that left a deadline in the past.
    stuck: u32,
}

impl Timer {
    /// Arms it for a deadline; what is to happen when, if that is news.
    pub fn arm(&mut self, due: Option<u64>) -> Option<(u64, u64)> {
        if due == self.due {
            return None;
        }
        self.due = due;
        self.seq += 1;
        due.map(|due| (due, self.seq))
    }

    /// What was armed never happens.
    pub fn void(&mut self) {
        *self = Self { seq: self.seq + 1, ..Self::default() };
    }

    /// After a step at its deadline: whether steps leave the deadline in the past for ever.
    pub fn is_stuck(&mut self, now: u64) -> bool {
        self.stuck = if self.due.is_some_and(|due| due <= now) { self.stuck + 1 } else { 0 };
        self.stuck > 50
    }
}

impl AgentProcess {
    pub fn new(pid: u32, mind: Mind) -> Self {
        Self { pid, mind, backlog: VecDeque::new(), timer: Timer::default(), has_session: false, own: None }
    }

    /// A peer fetches a statement. The liar has nothing to show.
    pub fn fetch(&self, key: &PublicKey, seq: u64) -> Option<(Envelope, Envelope)> {
        match &self.mind {
            Mind::Correct(guardian) => guardian.held(key, seq),
            Mind::Liar(_) => None,
        }
    }
}

/// One run of the warden.
pub struct WardenProcess {
    pub run: u32,
    pub warden: Warden<Scheme>,
    pub began: u64,
    pub frozen: bool,
    pub backlog: VecDeque<(Option<Via>, WardenInput)>,
    pub timer: Timer,
    /// The newest episode of each subject, for agents that connect later.
    pub published: BTreeMap<SubjectName, Envelope>,
    pub damaged: bool,
}

/// The connection that a message came over, as it was when it was sent.
#[derive(Clone, Copy, Debug)]
pub struct Via {
    pub from: End,
    pub to: End,
    pub epoch: u32,
}
