//! One committee in a folder of its own: its configuration, its `up`, and everything that can be asked of it from outside.

use super::quorum::Quorum;
use super::turn::{self, Turn};
use rustix::process::Signal;
use serde_json::Value;
use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs::File;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::TcpStream;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::time::Duration;
use zeta_bft::backend::process::protocol::{Answer, Request};
use zeta_bft::clock;
use zeta_bft::config::paths::Paths;
use zeta_bft::journal;
use zeta_bft::protocol::evidence::UnitState;
use zeta_bft::protocol::record::Record;
use zeta_bft::protocol::statement::{Codec as _, Receipt, ReceiptKind};
use zeta_bft::wire::Proto;

/// How long anything may take that is not a claim about time.
pub const PATIENCE: Duration = Duration::from_secs(40);
const PAUSE: Duration = Duration::from_millis(10);
pub const PERSONAS: [(&str, &str); 3] = [("otto", "anthropic"), ("lior", "google-gemini"), ("vera", "openai")];

/// What is written to `node.toml`. Ports are free ones; ticks are short and far apart only where a claim wants it.
#[derive(Clone)]
pub struct Config {
    /// Below `[personas.NAME]`.
    personas: BTreeMap<&'static str, String>,
    head: String,
    tail: String,
}

impl Default for Config {
    fn default() -> Self {
        let quiet = |(persona, _): (&'static str, _)| (persona, tick("date", "1s"));
        Self { personas: PERSONAS.map(quiet).into(), head: "mode = \"act\"\n".into(), tail: String::new() }
    }
}

/// The options of a persona that ticks a shell script.
pub fn tick(script: &str, interval: &str) -> String {
    assert!(!script.contains("'''"));
    format!("command = [\"/bin/sh\", \"-c\", '''{script}''']\ntick_interval = \"{interval}\"\n")
}

impl Config {
    /// One persona's options.
    pub fn persona(mut self, persona: &'static str, options: String) -> Self {
        self.personas.insert(persona, options);
        self
    }

    /// Everybody's.
    pub fn everybody(self, options: &str) -> Self {
        PERSONAS.iter().fold(self, |config, (persona, _)| config.persona(persona, options.to_owned()))
    }

    /// Further tables.
    pub fn with(mut self, tables: &str) -> Self {
        self.tail.push_str(tables);
        self
    }

    /// A page command that writes a line to a file.
    pub fn paging(self, file: &str) -> Self {
        self.with(&format!("[page]\ncommand = [\"/bin/sh\", \"-c\", 'echo \"$*\" >> {file}', \"page\"]\n"))
    }

    pub fn observing(mut self) -> Self {
        self.head = "mode = \"observe\"\n".into();
        self
    }

    fn text(&self) -> String {
        let mut text = format!("cluster = \"test\"\nnode = \"test\"\n{}f = 1\nq = 2\n", self.head);
        for (persona, vendor) in PERSONAS {
            let _ = write!(text, "[personas.{persona}]\nvendor = \"{vendor}\"\n{}", self.personas[persona]);
        }
        text.push_str("[metrics]\n");
        for part in ["warden", "agents", "wrappers"] {
            let _ = writeln!(text, "{part} = \"127.0.0.1:0\"");
        }
        text + &self.tail
    }
}

/// A folder that no committee has run on yet.
pub struct Folder {
    dir: tempfile::TempDir,
    _turn: Turn,
}

impl Folder {
    pub fn new() -> Self {
        Self::on(turn::shared())
    }

    pub fn alone() -> Self {
        Self::on(turn::alone())
    }

    fn on(turn: Turn) -> Self {
        Self { dir: tempfile::Builder::new().prefix("zeta-bft-").tempdir().unwrap(), _turn: turn }
    }

    /// A file in the folder, for ticks and tests to meet in.
    pub fn file(&self, name: &str) -> String {
        self.dir.path().join(name).display().to_string()
    }

    /// Starts the committee and waits until it says that it is ready.
    pub fn up(self, config: &Config, args: &[&str]) -> Node {
        let given = self.dir.path().join("given.toml");
        std::fs::write(&given, config.text()).unwrap();
        let mut all = vec!["--config", given.to_str().unwrap()];
        all.extend(args);
        let node = Node { up: Up::start(self.dir.path(), &all), paths: Paths::below(self.dir.path()), folder: self };
        assert_eq!(node.quorum().code, 0, "{}", node.quorum());
        node
    }
}

/// A committee that runs.
pub struct Node {
    up: Up,
    pub paths: Paths,
    folder: Folder,
}

impl Node {
    pub fn file(&self, name: &str) -> String {
        self.folder.file(name)
    }

    /// Runs a command of the binary on this folder, to its end.
    pub fn run(&self, args: &[&str]) -> Output {
        command(self.folder.dir.path()).args(args).stdin(Stdio::null()).output().unwrap()
    }

    /// Runs one that must succeed; gives what it printed.
    pub fn ask(&self, args: &[&str]) -> String {
        let output = self.run(args);
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(output.status.success(), "`{}` failed with {}: {said}", args.join(" "), output.status);
        String::from_utf8(output.stdout).unwrap()
    }

    pub fn quorum(&self) -> Quorum {
        let output = self.run(&["quorum", "--json"]);
        Quorum::read(output.status.code().unwrap_or(-1), &String::from_utf8_lossy(&output.stdout))
    }

    /// `history --json`, line by line.
    pub fn history(&self) -> Vec<Value> {
        self.ask(&["history", "--json"]).lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }

    /// Every record of the journal's file.
    pub fn journal(&self) -> Vec<Record> {
        let scan = journal::scan(&std::fs::read(self.paths.journal()).unwrap());
        assert!(scan.damage.is_none(), "{:?}", scan.damage);
        scan.records.iter().map(|stored| Proto.decode(&stored.encoded).unwrap()).collect()
    }

    /// Every receipt in the journal's file.
    pub fn receipts(&self) -> Vec<Receipt> {
        let payload = |record: &Record| match record {
            Record::Receipt(envelope) => Some(Proto.decode(&envelope.payload).unwrap()),
            _ => None,
        };
        self.journal().iter().filter_map(payload).collect()
    }

    pub fn intents(&self, name: &str) -> Vec<Receipt> {
        let about = |receipt: &Receipt| receipt.kind == ReceiptKind::Intent && receipt.subject.as_str() == name;
        self.receipts().into_iter().filter(about).collect()
    }

    /// `verify` on the history's export and the journal, with nothing but the roster.
    pub fn verify(&self) {
        let export = self.file("history.jsonl");
        std::fs::write(&export, self.ask(&["history", "--json"])).unwrap();
        let elsewhere = tempfile::tempdir().unwrap();
        for file in ["roster", "journal", "history.jsonl"] {
            let from = match file {
                "roster" => self.paths.roster(),
                "journal" => self.paths.journal(),
                other => PathBuf::from(self.file(other)),
            };
            std::fs::copy(from, elsewhere.path().join(file)).unwrap();
        }
        let mut verify = command(&elsewhere.path().join("nothing"));
        verify.current_dir(elsewhere.path()).args(["verify", "--roster", "roster", "journal", "history.jsonl"]);
        let output = verify.output().unwrap();
        let (out, err) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
        assert!(output.status.success(), "{out}{err}");
    }

    /// PID 1's own word, which is faster than any command.
    pub fn unit(&self, name: &str) -> UnitState {
        let mut stream = BufReader::new(UnixStream::connect(self.paths.pid1_socket()).unwrap());
        let request = Request::Read { subject: name.into() };
        writeln!(stream.get_mut(), "{}", serde_json::to_string(&request).unwrap()).unwrap();
        let mut line = String::new();
        stream.read_line(&mut line).unwrap();
        match serde_json::from_str(&line).unwrap() {
            Answer::Unit(report) => report.read().unwrap().1,
            other => panic!("PID 1 says {other:?} of {name}"),
        }
    }

    /// The main process of a subject.
    pub fn pid(&self, name: &str) -> u32 {
        self.unit(name).main_pid.unwrap_or_else(|| panic!("{name} does not run"))
    }

    /// The warden's process, while there is one.
    pub fn warden(&self) -> Option<u32> {
        let warden = |pid: &u32| arguments(*pid).iter().any(|word| word == "warden");
        children(self.up.pid()).into_iter().find(warden)
    }

    /// Kills the warden, and waits until another one has taken over and hears everybody.
    pub fn replace_warden(&self) {
        let old = self.warden().expect("the warden runs");
        kill(old, Signal::KILL);
        self.wait_until(PATIENCE, "another warden hears all three", || {
            self.warden().is_some_and(|new| new != old) && self.quorum().view["vendors_live"] == 3
        });
    }

    /// How often PID 1 started a unit.
    pub fn starts(&self, name: &str) -> usize {
        let line = format!("started unit={name} ");
        self.log().lines().filter(|said| said.contains(&line)).count()
    }

    /// The scrape of a daemon: `warden`, `agent-otto`, `wrap-otto`.
    pub fn scrape(&self, daemon: &str) -> String {
        let address = std::fs::read_to_string(self.paths.metrics_address(daemon)).unwrap();
        let mut stream = TcpStream::connect(address.trim()).unwrap();
        stream.write_all(b"GET /metrics HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n").unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        answer
    }

    /// The sum over a family of the warden's metrics, of the lines that carry all of `labels`.
    pub fn metric(&self, family: &str, labels: &[&str]) -> f64 {
        let scrape = self.scrape("warden");
        let mine = |line: &&str| {
            let name = line.split(['{', ' ']).next();
            name == Some(family) && labels.iter().all(|label| line.contains(label))
        };
        let lines: Vec<_> = scrape.lines().filter(mine).collect();
        assert!(!lines.is_empty(), "no {family} with {labels:?} in\n{scrape}");
        lines.iter().map(|line| line.rsplit(' ').next().unwrap().parse::<f64>().unwrap()).sum()
    }

    /// Nobody lost its vote, and nobody was accused of equivocation.
    pub fn nobody_is_accused(&self) {
        assert_eq!(self.metric("zeta_bft_equivocations_total", &[]), 0.0);
        let quorum = self.quorum();
        for persona in quorum.view["personas"].as_array().unwrap() {
            assert_eq!(persona["quarantined"], false, "{quorum}");
        }
        assert!(!self.journal().iter().any(|record| matches!(record, Record::Quarantine { .. })));
    }

    /// Waits until a condition holds; says what was waited for, and how things stood, when it never did.
    pub fn wait_until(&self, limit: Duration, what: &str, mut holds: impl FnMut() -> bool) {
        if !comes_true(limit, &mut holds) {
            panic!("not within {limit:?}: {what}\n{}", self.quorum());
        }
    }

    pub fn wait_healthy(&self) {
        self.wait_until(PATIENCE, "everything is healthy", || self.quorum().code == 0);
    }

    /// Waits until another run of the subject than `old` is healthy.
    pub fn wait_replaced(&self, name: &str, old: &UnitState) {
        self.wait_until(PATIENCE, &format!("a new run of {name} is healthy"), || {
            self.quorum().state(name) == "healthy" && self.unit(name).incarnation != old.incarnation
        });
    }

    /// Watches that a condition keeps holding for a time.
    pub fn holds_for(&self, time: Duration, what: &str, mut holds: impl FnMut() -> bool) {
        let broke = comes_true(time, &mut || !holds());
        assert!(!broke, "no longer: {what}\n{}", self.quorum());
    }

    /// Stops the committee with a signal; gives its end, and the folder for another run.
    pub fn stop(mut self, signal: Signal) -> (ExitStatus, Folder) {
        kill(self.up.pid(), signal);
        let status = self.up.end(PATIENCE).expect("`up` ends");
        (status, self.folder)
    }

    /// Its folder: whatever it started names it, or did when it began.
    pub fn path(&self) -> &Path {
        self.folder.path()
    }

    /// `up` dies. What it leaves behind is left to itself until the node is dropped.
    pub fn kill_up(&mut self) {
        kill(self.up.pid(), Signal::KILL);
        self.up.end(PATIENCE).expect("`up` ends");
    }

    /// What `up` and its children said on stderr so far.
    pub fn log(&self) -> String {
        self.up.log()
    }
}

impl Folder {
    pub fn path(&self) -> &Path {
        self.dir.path()
    }
}

/// The process of `up`; ends with the test.
struct Up {
    child: Child,
    log: PathBuf,
    dir: PathBuf,
    /// Kept open: lines after `ready:` must find a reader.
    _out: BufReader<std::process::ChildStdout>,
}

impl Up {
    fn start(dir: &Path, args: &[&str]) -> Self {
        let log = dir.join("stderr");
        let stderr = File::options().create(true).append(true).open(&log).unwrap();
        let mut up = command(dir);
        up.arg("up").args(args).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(stderr);
        let mut child = up.spawn().unwrap();
        let mut out = BufReader::new(child.stdout.take().unwrap());
        let mut said = String::new();
        while out.read_line(&mut said).unwrap() > 0 {
            if said.lines().next_back().is_some_and(|line| line.starts_with("ready:")) {
                return Self { child, log, dir: dir.to_owned(), _out: out };
            }
        }
        let log = std::fs::read_to_string(&log).unwrap_or_default();
        panic!("`up` never was ready: {}\n{said}{log}", child.wait().unwrap());
    }

    fn pid(&self) -> u32 {
        self.child.id()
    }

    fn log(&self) -> String {
        std::fs::read_to_string(&self.log).unwrap_or_default()
    }

    fn end(&mut self, limit: Duration) -> Option<ExitStatus> {
        let mut status = None;
        comes_true(limit, &mut || {
            status = self.child.try_wait().unwrap();
            status.is_some()
        });
        status
    }
}

impl Drop for Up {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let log = self.log();
            let lines: Vec<_> = log.lines().collect();
            eprintln!("---- stderr of the committee, its end ----");
            lines[lines.len().saturating_sub(120)..].iter().for_each(|line| eprintln!("{line}"));
        }
        if self.child.try_wait().is_ok_and(|status| status.is_none()) {
            kill(self.child.id(), Signal::TERM);
            if self.end(Duration::from_secs(20)).is_none() {
                let _ = self.child.kill();
                let _ = self.child.wait();
            }
        }
        for pid in processes_naming(&self.dir) {
            kill(pid, Signal::KILL);
        }
    }
}

fn command(dir: &Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_zeta-bft"));
    command.arg("--dir").arg(dir).env_remove("ZETA_BFT_DIR").env_remove("NOTIFY_SOCKET").env_remove("INVOCATION_ID");
    command
}

/// Polls until a condition holds, or the limit is over.
pub fn comes_true(limit: Duration, holds: &mut dyn FnMut() -> bool) -> bool {
    let deadline = clock::now() + limit;
    loop {
        if holds() {
            return true;
        }
        if clock::now() >= deadline {
            return false;
        }
        std::thread::sleep(PAUSE);
    }
}

/// Sends a signal; a process that is gone already does not matter.
pub fn kill(pid: u32, signal: Signal) {
    let pid = i32::try_from(pid).ok().and_then(rustix::process::Pid::from_raw).expect("a process");
    let _ = rustix::process::kill_process(pid, signal);
}

/// A process that stands still until this is dropped.
pub struct Frozen(Vec<u32>);

impl Frozen {
    pub fn new(pids: &[u32]) -> Self {
        pids.iter().for_each(|pid| kill(*pid, Signal::STOP));
        Self(pids.to_vec())
    }
}

impl Drop for Frozen {
    fn drop(&mut self) {
        self.0.iter().for_each(|pid| kill(*pid, Signal::CONT));
    }
}

pub fn is_alive(pid: u32) -> bool {
    std::fs::read_to_string(format!("/proc/{pid}/stat")).is_ok_and(|stat| !stat.contains(") Z "))
}

/// The numbers in a file, one a line, of processes that wrote themselves down.
pub fn pids_in(file: &str) -> Vec<u32> {
    std::fs::read_to_string(file).unwrap_or_default().lines().filter_map(|line| line.parse().ok()).collect()
}

pub fn lines_in(file: &str) -> usize {
    std::fs::read_to_string(file).unwrap_or_default().lines().count()
}

fn arguments(pid: u32) -> Vec<String> {
    let line = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
    line.split(|byte| *byte == 0).map(|word| String::from_utf8_lossy(word).into_owned()).collect()
}

fn all_processes() -> Vec<u32> {
    let entries = std::fs::read_dir("/proc").unwrap();
    entries.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok()).collect()
}

fn children(parent: u32) -> Vec<u32> {
    let is_child = |pid: &u32| {
        let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
        let after_name = stat.rsplit(')').next().unwrap_or_default();
        after_name.split_whitespace().nth(1) == Some(&parent.to_string())
    };
    all_processes().into_iter().filter(is_child).collect()
}

/// Living processes in whose arguments or environment the folder occurs.
pub fn processes_naming(dir: &Path) -> Vec<u32> {
    let name = dir.as_os_str().as_encoded_bytes();
    let names =
        |file: String| std::fs::read(file).is_ok_and(|bytes| bytes.windows(name.len()).any(|part| part == name));
    let mut found = all_processes();
    found.retain(|pid| {
        *pid != std::process::id()
            && is_alive(*pid)
            && (names(format!("/proc/{pid}/cmdline")) || names(format!("/proc/{pid}/environ")))
    });
    found
}
