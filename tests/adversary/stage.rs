//! A committee of real processes with one actor in it, and what a test may do to it.

use crate::PROGRAM;
use crate::control::{ACTOR, Order, Report, socket};
use rustix::process::{Pid, Signal};
use std::io::{BufRead as _, Read as _, Write as _};
use std::process::{Child, Command, Stdio};
use std::time::Duration;
use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::UnixStream;
use zeta_bft::backend::process::ProcessBackend;
use zeta_bft::backend::{Backend as _, BackendEvent};
use zeta_bft::clock;
use zeta_bft::config::paths::Paths;
use zeta_bft::grpc::client::connect;
use zeta_bft::journal;
use zeta_bft::protocol::record::Record;
use zeta_bft::protocol::statement::{Codec, Receipt, ReceiptKind};
use zeta_bft::protocol::types::SubjectName;
use zeta_bft::wire::v1::inspect_service_client::InspectServiceClient;
use zeta_bft::wire::{Proto, v1};

/// Longest wait for anything.
const LIMIT: Duration = Duration::from_secs(30);
const PAUSE: Duration = Duration::from_millis(20);

pub struct Stage {
    dir: tempfile::TempDir,
    pub paths: Paths,
    up: Child,
}

impl Stage {
    /// A committee whose every subject is healthy. Ticks fail while [`Stage::ticks_fail`] says so.
    pub async fn set(tick_interval: &str, drill: bool) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let config = dir.path().join("wanted.toml");
        std::fs::write(&config, node_toml(&dir.path().join("fail").display().to_string(), tick_interval)).unwrap();
        let mut command = Command::new(std::env::current_exe().unwrap());
        command.arg("--dir").arg(dir.path()).arg("up").arg("--config").arg(&config).args(drill.then_some("--drill"));
        command.env_remove("ZETA_BFT_DIR").env_remove("NOTIFY_SOCKET").env("RUST_LOG", "info");
        let log = std::fs::File::create(dir.path().join("log")).unwrap();
        let mut up = command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(log).spawn().unwrap();
        let said = up.stdout.take().expect("it was asked for");
        // Read to its end, or `up` would block on a full pipe.
        std::thread::spawn(move || std::io::BufReader::new(said).lines().for_each(drop));
        let stage = Self { paths: Paths::below(dir.path()), dir, up };
        stage.all_is_well().await;
        until("the actor has its peers", async || stage.order(Order::Report).await.peers == 2).await;
        stage
    }

    pub async fn view(&self) -> Option<v1::QuorumView> {
        let connection = connect(&self.paths.inspect_socket()).await.ok()?;
        let view = InspectServiceClient::new(connection.channel).quorum(v1::QuorumRequest::default()).await;
        view.ok().map(tonic::Response::into_inner)
    }

    pub async fn subject(&self, name: &str) -> v1::SubjectView {
        let view = self.view().await.expect("the warden answers");
        view.subjects.into_iter().find(|subject| subject.name == name).expect("it is configured")
    }

    pub async fn state(&self, name: &str) -> String {
        self.subject(name).await.state
    }

    /// Every state has an exit, and it was taken.
    pub async fn all_is_well(&self) {
        let mut last = None;
        let well = until_or_not(async || {
            last = self.view().await;
            last.as_ref().is_some_and(|view| {
                view.vendors_live == 3 && view.subjects.iter().all(|subject| subject.state == "healthy")
            })
        });
        let well = well.await;
        assert!(well, "not healthy in the end: {last:#?}");
    }

    /// Every subject's run.
    pub async fn runs(&self) -> Vec<(String, String)> {
        let view = self.view().await.expect("the warden answers");
        view.subjects.into_iter().map(|subject| (subject.name, subject.incarnation)).collect()
    }

    pub async fn order(&self, order: Order) -> Report {
        let mut told = String::new();
        until("the actor takes the order", async || {
            let Ok(mut stream) = UnixStream::connect(socket(self.dir.path())).await else { return false };
            let line = serde_json::to_string(&order).unwrap() + "\n";
            told.clear();
            stream.write_all(line.as_bytes()).await.is_ok()
                && BufReader::new(stream).read_line(&mut told).await.is_ok_and(|read| read > 0)
        })
        .await;
        serde_json::from_str(&told).unwrap()
    }

    pub async fn accuse(&self, subjects: &[&str], class: &str, false_runs: bool) {
        let of = subjects.iter().map(|subject| ((*subject).to_owned(), class.to_owned())).collect();
        self.order(Order::Accuse { of, false_runs }).await;
    }

    pub async fn accuse_nobody(&self) {
        self.accuse(&[], "CRASH", false).await;
    }

    // ---- processes ----

    pub async fn pid(&self, subject: &str) -> u32 {
        self.subject(subject).await.pid.expect("it runs")
    }

    pub async fn signal(&self, subject: &str, signal: Signal) {
        send(self.pid(subject).await, signal);
    }

    pub async fn warden_pid(&self) -> u32 {
        connect(&self.paths.inspect_socket()).await.unwrap().peer.pid
    }

    /// Kills a subject's process; the time until the next one runs.
    pub async fn repair_of(&self, subject: &str) -> Duration {
        let name = SubjectName::new(subject).unwrap();
        let mut changes = ProcessBackend::new(self.paths.pid1_socket(), [name]).watch();
        let mut killed = None;
        let repaired = async {
            loop {
                let Some(BackendEvent::Unit(_, Some(state))) = changes.recv().await else { continue };
                let Some(pid) = state.main_pid else { continue };
                match killed {
                    None => {
                        killed = Some((pid, clock::now()));
                        send(pid, Signal::KILL);
                    }
                    Some((old, at)) if old != pid => return clock::now().saturating_since(at),
                    Some(_) => {}
                }
            }
        };
        tokio::time::timeout(LIMIT, repaired).await.unwrap_or_else(|_| panic!("{subject} was not repaired"))
    }

    pub fn ticks_fail(&self, fail: bool) {
        let flag = self.dir.path().join("fail");
        if fail { std::fs::write(flag, "").unwrap() } else { std::fs::remove_file(flag).unwrap() }
    }

    // ---- what is on record ----

    /// Runs a command of the built program on this committee.
    pub fn command(&self, words: &[&str]) -> std::process::Output {
        let mut command = Command::new(PROGRAM);
        command.arg("--dir").arg(self.dir.path()).args(words).env_remove("ZETA_BFT_DIR");
        command.output().unwrap()
    }

    /// Actions begun, on any subject.
    pub fn intents(&self) -> usize {
        let scan = journal::scan(&std::fs::read(self.paths.journal()).unwrap());
        let is_intent = |stored: &journal::StoredRecord| match Codec::<Record>::decode(&Proto, &stored.encoded) {
            Ok(Record::Receipt(receipt)) => {
                Codec::<Receipt>::decode(&Proto, &receipt.payload).unwrap().kind == ReceiptKind::Intent
            }
            _ => false,
        };
        scan.records.iter().filter(|stored| is_intent(stored)).count()
    }

    /// Bytes of the journal that hold records.
    pub fn journal_len(&self) -> u64 {
        let scan = journal::scan(&std::fs::read(self.paths.journal()).unwrap());
        assert_eq!(scan.damage, None);
        scan.end
    }

    /// One sample of a daemon's `/metrics`: `warden`, `agent-otto`, …
    pub fn metric(&self, daemon: &str, sample: &str) -> u64 {
        let address = std::fs::read_to_string(self.paths.metrics_address(daemon)).unwrap();
        let mut stream = std::net::TcpStream::connect(address.trim()).unwrap();
        stream.write_all(b"GET /metrics HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").unwrap();
        let mut text = String::new();
        stream.read_to_string(&mut text).unwrap();
        let line = text.lines().find_map(|line| line.strip_prefix(sample)?.strip_prefix(' '));
        line.unwrap_or_else(|| panic!("{daemon} shows no {sample}")).parse().unwrap()
    }

    pub fn rejected(&self, reason: &str) -> u64 {
        self.metric("warden", &format!("zeta_bft_statements_rejected_total{{reason=\"{reason}\"}}"))
    }

    pub fn equivocations(&self, daemon: &str) -> u64 {
        self.metric(daemon, &format!("zeta_bft_equivocations_total{{persona=\"{ACTOR}\"}}"))
    }

    pub fn pages(&self, cause: &str) -> u64 {
        self.metric("warden", &format!("zeta_bft_pages_total{{cause=\"{cause}\"}}"))
    }
}

impl Drop for Stage {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let log = std::fs::read_to_string(self.dir.path().join("log")).unwrap_or_default();
            let lines: Vec<_> = log.lines().filter(|line| !line.contains("tick ended well")).collect();
            let last = lines.len().saturating_sub(60);
            eprintln!("--- the end of the committee's log ---\n{}\n---", lines[last..].join("\n"));
        }
        send(self.up.id(), Signal::TERM);
        for _ in 0..750 {
            if matches!(self.up.try_wait(), Ok(Some(_))) {
                break;
            }
            std::thread::sleep(PAUSE);
        }
        // Its children notice, and end.
        let _ = self.up.kill();
        let _ = self.up.wait();
    }
}

/// Resident memory of a process, in KiB.
pub fn resident(pid: u32) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).expect("a living process has memory");
    line.trim().trim_end_matches(" kB").parse().unwrap()
}

pub fn send(pid: u32, signal: Signal) {
    let _ = rustix::process::kill_process(Pid::from_raw(i32::try_from(pid).unwrap()).unwrap(), signal);
}

async fn until_or_not(mut holds: impl AsyncFnMut() -> bool) -> bool {
    let wait = async {
        while !holds().await {
            tokio::time::sleep(PAUSE).await;
        }
    };
    tokio::time::timeout(LIMIT, wait).await.is_ok()
}

/// Waits for a condition.
pub async fn until(what: &str, holds: impl AsyncFnMut() -> bool) {
    assert!(until_or_not(holds).await, "it never came to this: {what}");
}

/// A condition that must hold all along.
pub async fn all_along(seconds: u64, what: &str, mut holds: impl AsyncFnMut() -> bool) {
    let end = clock::now() + Duration::from_secs(seconds);
    while clock::now() < end {
        assert!(holds().await, "it did not stay so: {what}");
        tokio::time::sleep(PAUSE * 5).await;
    }
}

fn node_toml(flag: &str, tick_interval: &str) -> String {
    let mut text = "cluster = \"test\"\nnode = \"test\"\nmode = \"act\"\nf = 1\nq = 2\n".to_owned();
    for (persona, vendor) in [("otto", "anthropic"), ("lior", "google-gemini"), ("vera", "openai")] {
        // Lior's own work never fails: what is disputed lies between the others.
        let tick = if persona == ACTOR { "echo done".into() } else { format!("test ! -e {flag} && echo done") };
        text += &format!(
            "[personas.{persona}]\nvendor = \"{vendor}\"\ncommand = [\"/bin/sh\", \"-c\", \"{tick}\"]\n\
             tick_interval = \"{tick_interval}\"\n"
        );
    }
    text + "[metrics]\nwarden = \"127.0.0.1:0\"\nagents = \"127.0.0.1:0\"\nwrappers = \"127.0.0.1:0\"\n"
}
