//! Hard evidence: what PID 1 says of every unit, as it says it.

use super::mind::{Message, Mouth};
use crate::backend::{Backend, BackendEvent};
use crate::protocol::evidence::UnitState;
use crate::protocol::guardian::GuardianInput;
use crate::protocol::types::{Incarnation, SubjectName};
use std::collections::BTreeMap;
use tokio::sync::watch;
use tracing::{info, warn};

type States = BTreeMap<SubjectName, Option<UnitState>>;

/// The writing end.
#[derive(Debug)]
pub(super) struct Units(watch::Sender<States>);

/// PID 1's newest word on every unit. Cheap to clone.
#[derive(Clone, Debug)]
pub(super) struct KnownUnits(watch::Receiver<States>);

impl Units {
    /// Nothing is known yet.
    pub(super) fn new() -> (Self, KnownUnits) {
        let (sender, receiver) = watch::channel(BTreeMap::new());
        (Self(sender), KnownUnits(receiver))
    }

    /// PID 1 said this.
    pub(super) fn set(&self, subject: SubjectName, state: Option<UnitState>) {
        self.0.send_modify(|states| {
            states.insert(subject, state);
        });
    }
}

impl KnownUnits {
    /// The main process of a unit, while PID 1 names one.
    pub(super) fn main_pid(&self, subject: &SubjectName) -> Option<u32> {
        self.0.borrow().get(subject).and_then(|state| state.as_ref()?.main_pid)
    }

    /// The run of a unit and its main process.
    pub(super) fn run(&self, subject: &SubjectName) -> Option<(Incarnation, Option<u32>)> {
        self.0.borrow().get(subject).and_then(|state| state.as_ref().map(|state| (state.incarnation, state.main_pid)))
    }

    /// All that PID 1 says of a unit.
    pub(super) fn state(&self, subject: &SubjectName) -> Option<UnitState> {
        self.0.borrow().get(subject).copied().flatten()
    }

    /// Returns after a change of any unit; never when PID 1 is no longer watched.
    pub(super) async fn changed(&mut self) {
        if self.0.changed().await.is_err() {
            std::future::pending::<()>().await;
        }
    }
}

/// Passes PID 1's word on until the backend or the guardian ends.
pub(super) async fn watch<B: Backend>(backend: B, units: Units, mouth: Mouth) {
    let mut events = backend.watch();
    while let Some(event) = events.recv().await {
        match event {
            BackendEvent::Unit(subject, state) => {
                if state.is_none() {
                    warn!(%subject, "PID 1 does not show the unit");
                }
                units.set(subject.clone(), state);
                if mouth.sense(Message::Input(GuardianInput::UnitChanged { subject, state })).await.is_err() {
                    return;
                }
            }
            BackendEvent::Stopping(stopping) => info!(stopping, "the system goes down, or no longer does"),
        }
    }
}
