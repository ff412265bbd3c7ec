//! A PID 1 with a folder, the units a claim gives it, and what a claim sees of their processes.

use rustix::process::{Pid, Signal};
use std::time::Duration;
use zeta_bft::backend::process::protocol::{ActOrder, ActionOrder};
use zeta_bft::protocol::evidence::UnitState;
use zeta_bft::protocol::types::{Incarnation, SubjectName};
use zeta_bft::up::act::{self, ActError};
use zeta_bft::up::pid1::{Pid1, Restart, UnitName, UnitSpec};

/// Longest wait for anything.
pub const PATIENCE: Duration = Duration::from_secs(20);

pub struct Stage {
    pub pid1: Pid1,
    pub dir: tempfile::TempDir,
}

impl Stage {
    pub fn set() -> Self {
        Self { pid1: Pid1::new(env!("CARGO_BIN_EXE_zeta-bft").as_ref()).unwrap(), dir: tempfile::tempdir().unwrap() }
    }

    pub fn run(&self, name: &str, script: &str, restart: Restart) -> UnitName {
        let unit = UnitName::Subject(subject(name));
        self.pid1.add(unit.clone(), shell(script, restart));
        self.pid1.start(&unit).unwrap();
        unit
    }

    pub fn state(&self, unit: &UnitName) -> UnitState {
        self.pid1.state(unit).unwrap()
    }

    pub fn pid(&self, unit: &UnitName) -> u32 {
        self.state(unit).main_pid.expect("it runs")
    }

    pub async fn until(&self, unit: &UnitName, holds: impl Fn(&UnitState) -> bool) -> UnitState {
        let (_, mut changes) = self.pid1.watch();
        let wait = async {
            while !holds(&self.state(unit)) {
                let _ = changes.recv().await;
            }
            self.state(unit)
        };
        match tokio::time::timeout(PATIENCE, wait).await {
            Ok(state) => state,
            Err(_) => panic!("{unit} stays {:?}", self.state(unit)),
        }
    }

    pub async fn act(&self, unit: &UnitName, class: &str, action: ActionOrder) -> Result<String, ActError> {
        act::act(&self.pid1, self.dir.path(), &order(unit, self.state(unit).incarnation, class, action)).await
    }

    pub fn file(&self, name: &str) -> String {
        self.dir.path().join(name).display().to_string()
    }
}

pub fn subject(name: &str) -> SubjectName {
    SubjectName::new(name).unwrap()
}

pub fn shell(script: &str, restart: Restart) -> UnitSpec {
    UnitSpec { program: "/bin/sh".into(), args: vec!["-c".into(), script.into()], restart, stop_order: 0 }
}

pub fn order(unit: &UnitName, run: Incarnation, class: &str, action: ActionOrder) -> ActOrder {
    ActOrder {
        subject: unit.to_string(),
        boot: run.boot.to_string(),
        invocation: run.invocation.to_string(),
        class: class.into(),
        action,
    }
}

pub fn kill(pid: u32, signal: Signal) {
    let pid = Pid::from_raw(i32::try_from(pid).unwrap()).unwrap();
    rustix::process::kill_process(pid, signal).unwrap();
}

pub fn is_alive(pid: u32) -> bool {
    std::fs::read_to_string(format!("/proc/{pid}/stat")).is_ok_and(|stat| !stat.contains(") Z "))
}

pub fn pids_in(file: &str) -> Vec<u32> {
    std::fs::read_to_string(file).unwrap_or_default().lines().filter_map(|line| line.parse().ok()).collect()
}

pub async fn pids_appear(file: &str, count: usize) -> Vec<u32> {
    let wait = async {
        while pids_in(file).len() < count {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(PATIENCE, wait).await.expect("the unit writes its children's pids");
    pids_in(file)
}
