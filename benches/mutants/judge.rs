//! The judges: test programs of the copy, run one after the other, and never two at a time.

use std::fmt;
use std::io::{BufRead, BufReader};
use std::os::unix::process::ExitStatusExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{RecvTimeoutError, channel};
use std::time::Duration;
use zeta_bft::clock;

/// A test program.
pub struct Judge {
    pub name: &'static str,
    /// Cargo's name of the target; the library's own tests are those of `zeta_bft`.
    target: &'static str,
    /// How Cargo builds it, beyond `--profile sim`.
    settings: &'static [&'static str],
    /// What it is run with, one turn after the other; the last turn leaves nothing out.
    turns: &'static [&'static [&'static str]],
}

/// The claims take no time worth optimising for, and are built again after every change of them.
const QUICK_BUILD: &[&str] = &["--config", "profile.sim.opt-level=0", "--config", "profile.sim.incremental=true"];

/// The claims that notice most mutants, and take a second.
const FIRST_CLAIMS: &[&str] = &[
    "protocol::warden::tests::votes",
    "protocol::warden::tests::liars",
    "protocol::warden::tests::journal",
    "protocol::warden::tests::challenges",
    "protocol::warden::tests::acts",
    "protocol::certificate",
    "protocol::cpu",
    "protocol::equivocation",
    "protocol::ladder",
    "protocol::session",
    "--skip=a_window_is_bounded",
    "--skip=observe_mode",
    "--skip=two_vendors_that_call_each_other_broken",
    "--skip=a_subject_that_cools_down",
];

/// All claims but the dozen that play minutes of a node's life: nine mutants of ten need nothing else.
const QUICK_CLAIMS: &[&str] = &[
    "protocol::",
    "--skip=a_persona_asleep_between_ticks",
    "--skip=the_timer_is_never_due_in_the_past",
    "--skip=from_3_to_13_vendors",
    "--skip=a_window_is_bounded",
    "--skip=warden::tests::budgets",
    "--skip=warden::tests::settling::k3s_is_given",
    "--skip=a_restarted_k3s_is_given_its_time",
    "--skip=a_held_subject_is_left_dead",
    "--skip=observe_mode",
    "--skip=two_vendors_that_call_each_other_broken",
    "--skip=a_subject_that_cools_down",
];

/// In the order in which they are asked: the quick ones first.
pub const JUDGES: [Judge; 3] = [
    Judge {
        name: "claims",
        target: "zeta_bft",
        settings: QUICK_BUILD,
        turns: &[FIRST_CLAIMS, QUICK_CLAIMS, &["protocol::"]],
    },
    Judge { name: "model", target: "model", settings: &[], turns: &[&[]] },
    Judge { name: "simulator", target: "sim", settings: &[], turns: &[&[]] },
];

/// Seeds of the simulator.
const SEEDS: &str = "200";

/// A judge may use so many times as much of a CPU as it took with every mutant asleep, and [`SPARE`] on top: a loop ends there,
/// and a busy machine ends nobody.
const SLOWER: u32 = 8;
const SPARE: Duration = Duration::from_secs(60);
/// Who uses no CPU either ends after so many times that.
const IDLE: u32 = 10;
/// The signal of the CPU's limit.
const SIGXCPU: i32 = 24;

/// A mutant that fills the memory ends here and not the machine: address space, in KiB.
const MEMORY: &str = "12000000";

/// How a judge noticed.
#[derive(Debug)]
pub enum How {
    /// This test failed, the first of all; the others were not waited for.
    Failed(String),
    /// The program ended otherwise: out of memory, most likely.
    Crashed,
    /// It used more CPU time than [`SLOWER`] allows: a loop.
    Endless(Duration),
}

/// Who noticed, and how.
#[derive(Debug)]
pub struct Verdict {
    pub judge: &'static str,
    how: How,
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = self.judge;
        match &self.how {
            How::Failed(test) => write!(f, "{name}: `{}`", test.rsplit("::").next().unwrap_or(test)),
            How::Crashed => write!(f, "{name}: it crashed"),
            How::Endless(limit) => write!(f, "{name}: not done after {} s of CPU time", limit.as_secs()),
        }
    }
}

/// The judges, built, and known to be content while every mutant sleeps.
pub struct Court {
    at: PathBuf,
    judges: Vec<(&'static Judge, PathBuf, Duration)>,
}

impl Court {
    /// Builds the copy's tests and runs them with every mutant asleep.
    pub fn open(at: &Path, judges: &'static [Judge]) -> Self {
        let mut court = Self { at: at.to_path_buf(), judges: Vec::new() };
        for judge in judges {
            let program = build(at, judge);
            let began = clock::now();
            let all = judge.turns.last().expect("a judge has a turn");
            let noticed = court.ask(all, &program, 0, Duration::from_secs(3600));
            assert!(noticed.is_none(), "{} with every mutant asleep: {noticed:?}", judge.name);
            let took = clock::now().saturating_since(began);
            println!("{}: content after {} s with every mutant asleep", judge.name, took.as_secs());
            court.judges.push((judge, program, took));
        }
        court
    }

    /// The first judge who notices this mutant.
    pub fn judge(&self, mutant: usize) -> Option<Verdict> {
        self.judges.iter().find_map(|(judge, program, asleep)| {
            let limit = *asleep * SLOWER + SPARE;
            let how = judge.turns.iter().find_map(|turn| self.ask(turn, program, mutant, limit))?;
            Some(Verdict { judge: judge.name, how })
        })
    }

    /// How long each judge takes with every mutant asleep.
    pub fn asleep(&self) -> String {
        let each = self.judges.iter().map(|(judge, _, took)| format!("{} {} s", judge.name, took.as_secs()));
        each.collect::<Vec<_>>().join(", ")
    }

    fn ask(&self, arguments: &[&str], program: &Path, mutant: usize, limit: Duration) -> Option<How> {
        let mut command = Command::new("sh");
        command.args(["-c", "ulimit -v $1 && ulimit -S -t $2 && shift 2 && exec \"$@\"", "sh", MEMORY]);
        command.arg(limit.as_secs().to_string()).arg(program);
        command.args(arguments).current_dir(&self.at);
        command.env("MUTANT", mutant.to_string()).env("RUST_BACKTRACE", "0").env("ZETA_BFT_SEEDS", SEEDS);
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null());
        let mut running = Running(command.spawn().expect("a judge starts"));
        let stdout = BufReader::new(running.0.stdout.take().expect("it is piped"));
        let (sender, lines) = channel();
        std::thread::spawn(move || {
            for line in stdout.split(b'\n').map_while(Result::ok) {
                if sender.send(String::from_utf8_lossy(&line).into_owned()).is_err() {
                    return;
                }
            }
        });
        let began = clock::now();
        loop {
            let left = (limit * IDLE).saturating_sub(clock::now().saturating_since(began));
            match lines.recv_timeout(left) {
                Ok(line) => {
                    let failed = line.strip_prefix("test ").and_then(|rest| rest.strip_suffix(" ... FAILED"));
                    if let Some(test) = failed {
                        return Some(How::Failed(test.to_owned()));
                    }
                }
                Err(RecvTimeoutError::Timeout) => return Some(How::Endless(limit)),
                Err(RecvTimeoutError::Disconnected) => {
                    let status = running.0.wait().expect("a judge's end is read");
                    let how = if status.signal() == Some(SIGXCPU) { How::Endless(limit) } else { How::Crashed };
                    return (!status.success()).then_some(how);
                }
            }
        }
    }
}

/// A judge at work; it ends when nobody waits for it any more.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Where Cargo put a judge's program.
fn build(at: &Path, judge: &Judge) -> PathBuf {
    let mut command = Command::new(env!("CARGO"));
    command.args(["test", "--locked", "--profile", "sim", "--no-run", "--message-format", "json-render-diagnostics"]);
    command.args(judge.settings);
    match judge.target {
        "zeta_bft" => command.arg("--lib"),
        target => command.args(["--test", target]),
    };
    command.current_dir(at).env("CARGO_TARGET_DIR", at.join("target")).stderr(Stdio::inherit());
    let output = command.output().expect("cargo runs");
    assert!(output.status.success(), "the copy in {} cannot be built", at.display());
    let mut messages = output.stdout.split(|byte| *byte == b'\n').filter_map(|line| serde_json::from_slice(line).ok());
    let program = messages.find_map(|message: serde_json::Value| {
        let is_it = message["profile"]["test"] == true && message["target"]["name"] == judge.target;
        is_it.then(|| message["executable"].as_str().map(PathBuf::from)).flatten()
    });
    program.expect("Cargo says where it is")
}
