//! The checked configuration: the only form that the program sees.

use super::k3s::K3sConfig;
use super::paths::Paths;
use super::tcp::TcpSettings;
use crate::protocol::evidence::Reason;
use crate::protocol::policy::{Policy, Timing};
use crate::protocol::types::{ClusterId, NodeId, PersonaId, SubjectName, VendorId};
use regex::Regex;
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

/// Everything that is configured.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Where things lie.
    pub paths: Paths,
    /// The cluster.
    pub cluster: ClusterId,
    /// The node.
    pub node: NodeId,
    /// Vendors that may be Byzantine, for a roster that is still to be signed.
    pub f: u32,
    /// Vendors that must agree, for a roster that is still to be signed.
    pub q: u32,
    /// The personas, by name.
    pub personas: BTreeMap<PersonaId, PersonaSettings>,
    /// How each k3s is looked at, by its subject's name.
    pub k3s: BTreeMap<SubjectName, K3sConfig>,
    /// Agents that listen on TCP, by persona.
    pub tcp: BTreeMap<PersonaId, TcpSettings>,
    /// Subjects, ladders, budgets, deadlines.
    pub policy: Arc<Policy>,
    /// How a human is called, beside log and metric.
    pub page: Option<CommandSettings>,
    /// Scrape address of the warden; port 0 takes a free one.
    pub warden_metrics: SocketAddr,
    /// Whether every persona's wrapper and agent runs as a user of its own; false under `up` and with `allow_shared_uid`.
    pub isolation: bool,
}

impl Settings {
    /// The same with budgets and cool-downs lifted, for an experiment (`up --drill`, `[policy.drill]`): repairs are judged
    /// after a second. The policy's digest stays that of the policy as written.
    #[must_use]
    pub fn into_drill(mut self, lift_budgets: bool, lift_cool_downs: bool) -> Self {
        let policy = Arc::make_mut(&mut self.policy);
        let drill = Timing::drill();
        policy.drill = true;
        policy.timing.crash.settle = policy.timing.crash.settle.min(drill.crash.settle);
        policy.timing.hang.settle = policy.timing.hang.settle.min(drill.hang.settle);
        if lift_cool_downs {
            (policy.timing.cool_down, policy.timing.cool_down_max) = (drill.cool_down, drill.cool_down_max);
        }
        if lift_budgets {
            policy.node_per_day = Policy::DRILL_BUDGET.per_day;
            for subject in policy.subjects.values_mut() {
                subject.budget = Policy::DRILL_BUDGET;
            }
        }
        self
    }
}

/// A command with its time limit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CommandSettings {
    /// Program and arguments; no shell.
    pub argv: Vec<String>,
    /// Longest run.
    pub limit: Duration,
}

/// One persona.
#[derive(Clone, Debug)]
pub struct PersonaSettings {
    /// Its vendor.
    pub vendor: VendorId,
    /// The command of one tick.
    pub command: Vec<String>,
    /// What tells whether the command's program starts at all; without one nobody is asked.
    pub probe: Option<Vec<String>>,
    /// Time from the end of a tick to the next.
    pub tick_interval: Duration,
    /// Longest a tick may run; then it is killed and counts as failed.
    pub tick_limit: Duration,
    /// Where a tick runs; the wrapper's own folder with `None`.
    pub working_dir: Option<PathBuf>,
    /// How a failed tick's output is read, in order; the first match counts.
    pub patterns: Vec<FaultPattern>,
    /// Scrape address of its agent.
    pub agent_metrics: SocketAddr,
    /// Scrape address of its wrapper.
    pub wrapper_metrics: SocketAddr,
}

/// Programs whose `--version` is known to need neither a login nor a vendor.
const PROBED: &[&str] = &["claude", "codex", "gemini"];

/// The probe of a command unless one is configured: `--version` of a vendor's CLI. What another program would do with that
/// argument is not known, so it has none.
pub fn default_probe(command: &[String]) -> Option<Vec<String>> {
    let program = command.first()?;
    let name = program.rsplit('/').next()?;
    PROBED.contains(&name).then(|| vec![program.clone(), "--version".to_owned()])
}

/// A text in a failed tick's output that means ENVIRONMENT.
#[derive(Clone, Debug)]
pub struct FaultPattern {
    /// Matched against each line, without regard to case.
    pub regex: LineRegex,
    /// What it means: quota, auth, setup, vendor_down, network_down or disk_full.
    pub reason: Reason,
}

/// A regular expression over a line, compiled when the first line is matched: every daemon reads the whole configuration,
/// but only a wrapper whose tick failed matches anything.
#[derive(Clone, Debug)]
pub struct LineRegex {
    text: &'static str,
    compiled: Arc<OnceLock<Regex>>,
}

impl LineRegex {
    /// One of ours, known to compile: ASCII alone, without regard to case.
    pub(super) fn ours(text: &'static str) -> Self {
        Self { text, compiled: Arc::default() }
    }

    /// Whether the line matches.
    pub fn is_match(&self, line: &str) -> bool {
        self.compiled.get_or_init(|| super::patterns::compile_ours(self.text)).is_match(line)
    }
}

impl From<Regex> for LineRegex {
    fn from(regex: Regex) -> Self {
        Self { text: "", compiled: Arc::new(OnceLock::from(regex)) }
    }
}
