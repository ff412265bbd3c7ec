//! The table of known faults: which facts make which [`Row`], and what follows from it. Data, not code: the built-in rows stand
//! in `faults.toml` beside this file, an operator's in `node.toml`, and both are read and checked by the same code.
//!
//! * The first row whose conditions all hold wins; an operator's rows come before the built-in ones.
//! * A row with `veto` wins over every row that would have something done: no row of an operator's makes a full disk a reason
//!   for a restart. A `frozen` row holds only while PID 1 does not say itself that k3s ended.
//! * What the table says is not yet a verdict: [`super::classify`] holds it back where something is in doubt.

use super::when::When;
use crate::protocol::evidence::{FaultClass, Reason, closed_set};
use std::sync::LazyLock;

/// The rows that are built in, as text.
pub const BUILT_IN: &str = include_str!("faults.toml");

closed_set!(
    /// Which step of the ladder a row asks for.
    Act {
        /// Nothing: whatever it is, a repair does not help, or is not ours.
        None = "none",
        /// Restart the unit.
        Restart = "restart",
        /// Restart it in the window for that: k3s renews its certificates when it starts.
        PlannedRestart = "planned-restart",
        /// Move the empty files aside, and restart.
        MoveAside = "move-aside",
        /// Copy the datastore aside, before a human touches it.
        CopyAside = "copy-aside",
    }
);

/// One row.
#[derive(Clone, Debug)]
pub struct Row {
    /// Its name, as `explain` and pages show it.
    pub name: String,
    /// What must be seen: all of it.
    pub when: When,
    /// What it then is; `None`: healthy.
    pub class: Option<FaultClass>,
    /// What is asked for.
    pub act: Act,
    /// Whether a human is called.
    pub page: bool,
    /// Whether it is the host that is in doubt, and not k3s: soft evidence moves nothing meanwhile.
    pub frozen: bool,
    /// Whether nothing is done while it holds, whatever other row matched.
    pub veto: bool,
    /// Whether an operator may leave this built-in row out.
    pub ignorable: bool,
    /// The reason on the wire; `None`: the class's own.
    pub reason: Option<Reason>,
    /// What it means, in one sentence for people.
    pub says: String,
}

impl Row {
    /// Whether it would have something done.
    pub fn moves(&self) -> bool {
        self.act != Act::None || self.class.is_some_and(FaultClass::is_votable)
    }
}

/// All rows, in order.
#[derive(Clone, Debug)]
pub struct Table {
    rows: Vec<Row>,
}

impl Table {
    /// An operator's rows, and after them the built-in ones without those named in `ignored`.
    pub fn new(operators: Vec<Row>, ignored: &[String]) -> Self {
        let mut rows = operators;
        rows.extend(Self::built_in().rows.into_iter().filter(|row| !(row.ignorable && ignored.contains(&row.name))));
        Self { rows }
    }

    /// The built-in rows alone.
    pub fn built_in() -> Self {
        // Their patterns are compiled once, and shared.
        static TABLE: LazyLock<Table> = LazyLock::new(|| {
            let rows = crate::config::faults::read(BUILT_IN, "faults.toml");
            Table { rows: rows.expect("the built-in rows are well-formed: a test reads them") }
        });
        TABLE.clone()
    }

    /// The rows, in order.
    pub fn rows(&self) -> &[Row] {
        &self.rows
    }

    /// The row with this name.
    pub fn row(&self, name: &str) -> Option<&Row> {
        self.rows.iter().find(|row| row.name == name)
    }
}
