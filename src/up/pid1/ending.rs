//! How units end: asked to, killed, and buried with all that they started; one of them, or everything.

use super::{Claim, Pid1, Pid1Error, STOP_LIMIT, SWEEP_LIMIT, UnitName, kernel_pid};
use crate::clock;
use crate::protocol::evidence::Activity;
use crate::up::pid1::Change;
use crate::up::tree;
use rustix::process::Signal;
use std::collections::BTreeMap;
use std::time::Duration;

impl Pid1 {
    /// Stops what is left of a unit, buries its whole process tree, and starts it again.
    pub(in crate::up) async fn restart(&self, claim: &Claim, kill_first: bool) -> Result<(), Pid1Error> {
        self.update(&claim.unit, |unit| unit.generation += 1);
        self.end(&claim.unit, kill_first).await?;
        self.bury().await?;
        self.start_if(&claim.unit, None)
    }

    /// Stops a unit for good.
    pub(in crate::up) async fn stop(&self, claim: &Claim, kill_first: bool) -> Result<(), Pid1Error> {
        self.update(&claim.unit, |unit| {
            unit.state.stop_requested = true;
            unit.generation += 1;
            if matches!(unit.state.activity, Activity::AutoRestart { .. }) {
                unit.state.activity = Activity::Inactive;
            }
        });
        self.end(&claim.unit, kill_first).await?;
        self.bury().await
    }

    /// Stops everything, in order, and buries what is left: nothing of ours runs any more when this returns.
    ///
    /// # Errors
    /// When something outlives SIGKILL.
    pub async fn drain(&self) -> Result<(), Pid1Error> {
        let mut orders: BTreeMap<u8, Vec<UnitName>> = BTreeMap::new();
        {
            let mut table = self.table();
            table.stopping = true;
            let commands: Vec<u32> = table.commands.keys().copied().collect();
            commands.into_iter().for_each(|pid| table.kill_command(pid));
            for (name, unit) in &mut table.units {
                orders.entry(unit.spec.stop_order).or_default().push(name.clone());
                unit.generation += 1;
                unit.state.stop_requested = true;
                if matches!(unit.state.activity, Activity::AutoRestart { .. }) {
                    unit.state.activity = Activity::Inactive;
                }
            }
        }
        let _ = self.shared.changes.send(Change::Stopping);
        let mut worst = Ok(());
        for units in orders.into_values() {
            // Ask all of one order first, then wait for each: the limits run side by side.
            units.iter().for_each(|unit| self.ask_to_stop(unit));
            let deadline = clock::deadline(STOP_LIMIT);
            for unit in units {
                let gone = self.wait_until_gone(&unit, deadline).await;
                if !gone && let Err(error) = self.end(&unit, true).await {
                    worst = Err(error);
                }
            }
        }
        let buried = self.bury().await;
        worst.and(buried)
    }

    /// Ends a unit's main process: SIGTERM, and SIGKILL when that does not do; or SIGKILL at once.
    async fn end(&self, unit: &UnitName, kill_first: bool) -> Result<(), Pid1Error> {
        if !kill_first {
            self.ask_to_stop(unit);
            if self.wait_until_gone(unit, clock::deadline(STOP_LIMIT)).await {
                return Ok(());
            }
        }
        self.signal(unit, Signal::KILL);
        if self.wait_until_gone(unit, clock::deadline(STOP_LIMIT)).await {
            return Ok(());
        }
        match self.state(unit).and_then(|state| state.main_pid) {
            Some(pid) => Err(Pid1Error::WillNotDie { unit: unit.clone(), pid }),
            None => Ok(()),
        }
    }

    fn ask_to_stop(&self, unit: &UnitName) {
        self.update(unit, |unit| {
            if unit.state.main_pid.is_some() {
                unit.state.activity = Activity::Deactivating;
            }
        });
        self.signal(unit, Signal::TERM);
        // A stopped process could not hear it.
        self.signal(unit, Signal::CONT);
    }

    fn signal(&self, unit: &UnitName, signal: Signal) {
        let table = self.table();
        // Under the lock nobody reaps: the number is still this process's.
        if let Some(pid) = table.units.get(unit).and_then(|unit| unit.state.main_pid).and_then(kernel_pid) {
            let _ = rustix::process::kill_process(pid, signal);
        }
    }

    async fn wait_until_gone(&self, unit: &UnitName, deadline: tokio::time::Instant) -> bool {
        let mut reaps = self.shared.reaps.subscribe();
        loop {
            if self.state(unit).is_none_or(|state| state.main_pid.is_none()) {
                return true;
            }
            if tokio::time::timeout_at(deadline, reaps.changed()).await.is_err() {
                return false;
            }
        }
    }

    /// Kills what dead units left behind, layer by layer, until nothing is left.
    pub(in crate::up) async fn bury(&self) -> Result<(), Pid1Error> {
        let mut reaps = self.shared.reaps.subscribe();
        let deadline = clock::deadline(SWEEP_LIMIT);
        loop {
            self.reap();
            reaps.mark_unchanged();
            let strays = self.kill_strays()?;
            let Some(example) = strays.first().copied() else { return Ok(()) };
            if clock::is_past(deadline) {
                return Err(Pid1Error::StraysRemain { left: strays.len(), example });
            }
            // An end wakes us at once; the short limit covers one that came in between.
            let _ = tokio::time::timeout(Duration::from_millis(20), reaps.changed()).await;
        }
    }

    /// One pass: kills every child of ours that belongs to nothing that lives, and says which those were.
    fn kill_strays(&self) -> Result<Vec<u32>, Pid1Error> {
        let table = self.table();
        let mut living = Vec::new();
        for unit in table.units.values().filter(|unit| unit.state.main_pid.is_some() && !table.stopping) {
            living.push(unit.state.incarnation.invocation);
        }
        living.extend(table.commands.values().map(|command| command.invocation));
        let is_known = |pid: &u32| {
            table.commands.contains_key(pid) || table.units.values().any(|unit| unit.state.main_pid == Some(*pid))
        };
        let mut strays = tree::children_of(std::process::id()).map_err(Pid1Error::kernel("/proc cannot be listed"))?;
        strays.retain(|pid| !is_known(pid) && tree::invocation_of(*pid).is_none_or(|run| !living.contains(&run)));
        for pid in &strays {
            let Some(target) = kernel_pid(*pid) else { continue };
            // Our unreaped children: neither their number nor that of the group they lead can be another's by now.
            if tree::leads_a_group(*pid) {
                let _ = rustix::process::kill_process_group(target, Signal::KILL);
            }
            let _ = rustix::process::kill_process(target, Signal::KILL);
        }
        Ok(strays)
    }
}
