//! A node with a committee that runs under systemd, and all that can be asked of it.

#[path = "../committee/quorum.rs"]
mod quorum;

use crate::lab::{Done, Machine, Unfit, await_true};
use crate::stage::{COUNTED, Stage};
use quorum::Quorum;
use serde_json::Value;
use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs;
use std::ops::Deref;
use std::time::Duration;
use zeta_bft::journal;
use zeta_bft::protocol::record::Record;
use zeta_bft::protocol::statement::{Codec as _, Receipt, ReceiptKind};
use zeta_bft::wire::Proto;

/// How long anything may take that is not a claim about time.
pub const PATIENCE: Duration = Duration::from_secs(60);
/// Long enough for a committee to have acted, had it wanted to.
pub const WATCH: Duration = Duration::from_secs(4);
pub const PERSONAS: [&str; 3] = ["otto", "lior", "vera"];
const JOURNAL: &str = "/var/lib/zeta-bft/warden/warden.journal";

/// What a node is told beside what `init` wrote: `conf.d/50-claim.toml`, and units of its own.
#[derive(Clone, Debug)]
pub struct Config {
    head: String,
    tick_interval: &'static str,
    tables: String,
    units: BTreeMap<String, String>,
}

impl Config {
    /// It acts, by the real budgets.
    pub fn acting() -> Self {
        Self { head: "mode = \"act\"\n".into(), tick_interval: "2s", tables: String::new(), units: BTreeMap::new() }
    }

    /// It only observes.
    pub fn observing() -> Self {
        Self { head: "mode = \"observe\"\n".into(), ..Self::acting() }
    }

    /// It acts, without budgets and cool-downs.
    pub fn drilling() -> Self {
        Self::acting().with("[policy.drill]\nenabled = true\n")
    }

    /// Personas rest so long between two ticks.
    #[allow(dead_code, reason = "for the bench, which is to see an idle committee")]
    pub fn ticking_every(mut self, interval: &'static str) -> Self {
        self.tick_interval = interval;
        self
    }

    /// Further tables.
    pub fn with(mut self, tables: &str) -> Self {
        self.tables.push_str(tables);
        self
    }

    /// A service of the operator that the committee watches as `name`: what its unit says beside `[Service]`'s counting, and
    /// what the configuration says of the subject.
    pub fn service(mut self, name: &str, unit: &str, subject: &str) -> Self {
        let text = format!("[Install]\nWantedBy=multi-user.target\n{unit}\n{COUNTED}");
        self.units.insert(format!("{name}.service"), text);
        self.with(&format!("[subjects.{name}]\nkind = \"unit\"\nunit = \"{name}.service\"\n{subject}\n"))
    }

    fn text(&self) -> String {
        let mut text = self.head.clone();
        for persona in PERSONAS {
            let command = "command = [\"/bin/sh\", \"-c\", \"date; sleep 0.2\"]";
            let _ = write!(text, "[personas.{persona}]\n{command}\ntick_interval = \"{}\"\n", self.tick_interval);
        }
        text + &self.tables
    }
}

/// A node whose committee was seen healthy.
#[derive(Debug)]
pub struct Node {
    pub machine: Machine<'static>,
}

impl Deref for Node {
    type Target = Machine<'static>;
    fn deref(&self) -> &Self::Target {
        &self.machine
    }
}

/// What PID 1 says of a unit.
#[derive(Clone, Debug)]
pub struct Unit(BTreeMap<String, String>);

impl Unit {
    pub fn get(&self, property: &str) -> &str {
        self.0.get(property).map_or("", String::as_str)
    }

    /// `active` and its main process runs.
    pub fn runs(&self) -> bool {
        self.get("ActiveState") == "active" && self.get("MainPID") != "0"
    }

    pub fn pid(&self) -> &str {
        self.get("MainPID")
    }

    /// InvocationID: which run this is.
    pub fn run(&self) -> &str {
        self.get("InvocationID")
    }
}

impl Node {
    /// Boots a node with this configuration, and waits until its committee is healthy.
    ///
    /// # Errors
    /// [`Unfit`] when no machine could be had.
    pub fn with(stage: &'static Stage, config: &Config) -> Result<Self, Unfit> {
        Self::set_up(stage.with_committee()?, config)
    }

    /// The same, on a machine that has a committee and does not run yet.
    ///
    /// # Errors
    /// [`Unfit`] when it does not boot.
    pub fn set_up(machine: Machine<'static>, config: &Config) -> Result<Self, Unfit> {
        machine.prepare("/etc/zeta-bft/conf.d/50-claim.toml", &config.text())?;
        for (name, text) in &config.units {
            machine.prepare(&format!("/etc/systemd/system/{name}"), text)?;
        }
        machine.boot()?;
        let node = Self { machine };
        let units = config.units.keys().map(String::as_str);
        node.ask(&["systemctl", "enable", "--now", "zeta-bft.target"]);
        for unit in units {
            node.ask(&["systemctl", "enable", "--now", "--no-block", unit]);
        }
        node.await_until("a committee of three vendors", || node.quorum().view["vendors_live"] == 3);
        Ok(node)
    }

    /// As [`Node::with`], and everything is healthy.
    ///
    /// # Errors
    /// [`Unfit`] when no machine could be had.
    pub fn healthy_with(stage: &'static Stage, config: &Config) -> Result<Self, Unfit> {
        let node = Self::with(stage, config)?;
        for unit in config.units.keys() {
            node.await_until(unit, || node.unit(unit).runs());
        }
        node.await_healthy();
        Ok(node)
    }

    /// A machine that was set up by hand.
    pub fn on(machine: Machine<'static>) -> Self {
        Self { machine }
    }

    /// Runs a command in the node that must succeed; gives what it printed.
    #[track_caller]
    pub fn ask(&self, words: &[&str]) -> String {
        self.exec(words).expect_ok().to_owned()
    }

    /// A shell's lines, as root.
    pub fn sh(&self, lines: &str) -> Done {
        self.exec(&["sh", "-c", lines])
    }

    /// Runs a command as another user.
    pub fn exec_as(&self, user: &str, words: &[&str]) -> Done {
        let whose = format!("--reuid={user}");
        let group = format!("--regid={user}");
        self.exec(&[&["setpriv", &whose, &group, "--clear-groups", "--inh-caps=-all"], words].concat())
    }

    pub fn quorum(&self) -> Quorum {
        let done = self.exec(&["zeta-bft", "quorum", "--json"]);
        Quorum::read(done.code, &done.out)
    }

    /// How long each job of the hand's took from the last look until PID 1 had it, in microseconds.
    pub fn windows(&self) -> Vec<u64> {
        let log = self.ask(&["journalctl", "-o", "cat", "-u", "zeta-bft-hand.service"]);
        let window = |line: &str| line.split_once("window_us=")?.1.split_whitespace().next()?.parse().ok();
        log.lines().filter_map(window).collect()
    }

    pub fn state(&self, subject: &str) -> String {
        self.quorum().state(subject).to_owned()
    }

    /// `history --json`, line by line.
    pub fn history(&self) -> Vec<Value> {
        let text = self.ask(&["zeta-bft", "history", "--json"]);
        text.lines().map(|line| serde_json::from_str(line).expect("a line of JSON")).collect()
    }

    /// Every receipt in the journal's file, whoever runs.
    pub fn receipts(&self) -> Vec<Receipt> {
        let bytes = fs::read(self.file(JOURNAL)).expect("a journal");
        let scan = journal::scan(&bytes);
        assert!(scan.damage.is_none(), "{:?}", scan.damage);
        let records = scan.records.iter().map(|stored| Proto.decode(&stored.encoded).expect("a record"));
        let receipt = |record: Record| match record {
            Record::Receipt(envelope) => Some(Proto.decode(&envelope.payload).expect("a receipt")),
            _ => None,
        };
        records.filter_map(receipt).collect()
    }

    pub fn receipts_of(&self, subject: &str) -> Vec<Receipt> {
        self.receipts().into_iter().filter(|receipt| receipt.subject.as_str() == subject).collect()
    }

    /// How often the warden meant to act on a subject.
    pub fn intents(&self, subject: &str) -> usize {
        self.receipts_of(subject).iter().filter(|receipt| receipt.kind == ReceiptKind::Intent).count()
    }

    /// `verify` on the history's export and the journal, with nothing but the roster.
    pub fn verify(&self) {
        self.sh("zeta-bft history --json >/tmp/history && cp /var/lib/zeta-bft/warden/warden.journal /tmp/journal")
            .expect_ok();
        self.ask(&["zeta-bft", "verify", "--roster", "/etc/zeta-bft/roster", "/tmp/journal", "/tmp/history"]);
    }

    /// PID 1's word on a unit.
    pub fn unit(&self, name: &str) -> Unit {
        let wanted = "ActiveState,SubState,MainPID,InvocationID,NRestarts,UnitFileState,Result,LoadState,Job";
        let said = self.ask(&["systemctl", "show", "--property", wanted, name]);
        Unit(said.lines().filter_map(|line| line.split_once('=')).map(|(k, v)| (k.into(), v.into())).collect())
    }

    /// How often a counted unit was started since the node booted.
    pub fn starts(&self, unit: &str) -> usize {
        fs::read_to_string(self.file(&format!("/run/starts/{unit}"))).unwrap_or_default().lines().count()
    }

    /// Sends a signal to a unit's main process, behind PID 1's back.
    pub fn signal(&self, unit: &str, signal: &str) {
        let pid = self.unit(unit).pid().to_owned();
        assert_ne!(pid, "0", "{unit} does not run");
        self.ask(&["kill", "-s", signal, &pid]);
    }

    /// Waits until a condition holds; says what was waited for when it never did.
    #[track_caller]
    pub fn await_until(&self, what: &str, holds: impl FnMut() -> bool) {
        assert!(await_true(PATIENCE, holds), "not within {PATIENCE:?}: {what}");
    }

    #[track_caller]
    pub fn await_healthy(&self) {
        self.await_until("everything is healthy", || self.quorum().code == 0);
    }

    /// Waits until a unit runs, and as another run than the one given.
    #[track_caller]
    pub fn await_replaced(&self, unit: &str, old: &Unit) -> Unit {
        let mut now = self.unit(unit);
        self.await_until(&format!("a new run of {unit}"), || {
            now = self.unit(unit);
            now.runs() && now.run() != old.run()
        });
        now
    }

    #[track_caller]
    pub fn await_state(&self, subject: &str, state: &str) {
        self.await_until(&format!("{subject} is {state}"), || self.state(subject) == state);
    }

    /// Watches that a condition keeps holding.
    #[track_caller]
    pub fn holds_for(&self, time: Duration, what: &str, mut holds: impl FnMut() -> bool) {
        assert!(!await_true(time, || !holds()), "no longer: {what}");
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        if std::thread::panicking() && self.leader().is_some() {
            let log = "zeta-bft quorum; zeta-bft history; zeta-bft explain k3s | grep seen:; cat /run/zeta-bft/lookout/*; journalctl --no-pager -o short-monotonic | grep -vE 'tick ended well| UTC 20|mind: peer|mind: voted|kubelet@' | tail -n 400";
            let said = self.exec_within(Duration::from_secs(10), &["sh", "-c", log]);
            eprintln!("---- the node when it failed ----\n{said}");
        }
    }
}
