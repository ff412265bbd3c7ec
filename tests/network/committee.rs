//! A committee of real processes, its agents each in its own namespace, and what can be asked of it.

use crate::PROGRAM;
use crate::net::{self, Net, PERSONAS};
use rustix::process::{Pid, Signal};
use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::io::{BufRead as _, BufReader};
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};
use std::time::Duration;
use tokio::runtime::Runtime;
use zeta_bft::clock;
use zeta_bft::config::paths::Paths;
use zeta_bft::grpc::client::connect;
use zeta_bft::protocol::types::PersonaId;
use zeta_bft::wire::v1;
use zeta_bft::wire::v1::inspect_service_client::InspectServiceClient;

/// Longest wait for anything.
pub const PATIENCE: Duration = Duration::from_secs(30);
const PAUSE: Duration = Duration::from_millis(50);
const VENDORS: [&str; 3] = ["google-gemini", "anthropic", "openai"];

/// Every subject's run.
pub type Runs = BTreeMap<String, String>;

pub struct Committee {
    up: Child,
    runtime: Runtime,
    pub paths: Paths,
    pub dir: tempfile::TempDir,
    /// After `up`, so that it is there until that has ended.
    pub net: Net,
}

impl Committee {
    /// One whose every subject is healthy, and whose every agent hears the others.
    pub fn set() -> Self {
        let dir = tempfile::Builder::new().prefix("zeta-bft-").tempdir().unwrap();
        let paths = Paths::below(dir.path());
        std::fs::create_dir_all(paths.config()).unwrap();
        std::fs::write(paths.node_toml(), node_toml()).unwrap();
        let made = command(dir.path(), &["init"]);
        assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
        let net = Net::set();
        let (name, value) = net.environment();
        let mut up = Command::new(std::env::current_exe().unwrap());
        up.arg("--dir").arg(dir.path()).args(["up", "--drill"]).env(name, value);
        up.env_remove("ZETA_BFT_DIR").env_remove("NOTIFY_SOCKET").env("RUST_LOG", "info,zeta_bft::agent::peers=debug");
        let log = std::fs::File::create(dir.path().join("log")).unwrap();
        let mut up = up.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(log).spawn().unwrap();
        let said = up.stdout.take().expect("it was asked for");
        // Read to its end, or `up` would block on a full pipe.
        std::thread::spawn(move || BufReader::new(said).lines().for_each(drop));
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let committee = Self { up, runtime, paths, dir, net };
        committee.all_is_well();
        committee
    }

    /// Everything healthy, and every agent hears every other.
    pub fn all_is_well(&self) {
        self.until("everything is healthy, and all see each other", || {
            let healthy = |view: v1::QuorumView| {
                view.vendors_live == 3 && view.subjects.iter().all(|subject| subject.state == "healthy")
            };
            self.view().is_some_and(healthy) && PERSONAS.iter().all(|persona| self.hears(persona).len() == 2)
        });
    }

    /// The warden's view.
    pub fn view(&self) -> Option<v1::QuorumView> {
        self.ask(&self.paths.inspect_socket())
    }

    fn ask(&self, socket: &Path) -> Option<v1::QuorumView> {
        self.runtime.block_on(async {
            let asked = async {
                let connection = connect(socket).await.ok()?;
                let view = InspectServiceClient::new(connection.channel).quorum(v1::QuorumRequest::default()).await;
                view.ok().map(tonic::Response::into_inner)
            };
            tokio::time::timeout(Duration::from_secs(5), asked).await.ok().flatten()
        })
    }

    /// Whom an agent has heard lately, on its own lines.
    pub fn hears(&self, persona: &str) -> Vec<String> {
        let socket = self.paths.agent_socket(&PersonaId::new(persona).unwrap());
        let others = |view: v1::QuorumView| {
            let others = view.personas.into_iter().filter(|other| other.live && other.persona != persona);
            others.map(|other| other.persona).collect()
        };
        self.ask(&socket).map(others).unwrap_or_default()
    }

    /// Whether two agents hear each other.
    pub fn apart(&self, one: &str, other: &str) -> bool {
        !self.hears(one).iter().any(|heard| heard == other) && !self.hears(other).iter().any(|heard| heard == one)
    }

    pub fn runs(&self) -> Runs {
        let view = self.view().expect("the warden answers");
        view.subjects.into_iter().map(|subject| (subject.name, subject.incarnation)).collect()
    }

    /// Kills a subject's process, and waits for the next one.
    pub fn kill(&self, subject: &str) {
        let of = |view: v1::QuorumView| {
            view.subjects.into_iter().find(|shown| shown.name == subject).expect("it is configured")
        };
        let before = of(self.view().expect("the warden answers"));
        let pid = i32::try_from(before.pid.expect("it runs")).unwrap();
        rustix::process::kill_process(Pid::from_raw(pid).unwrap(), Signal::KILL).unwrap();
        self.until("it was repaired", || {
            self.view().map(of).is_some_and(|now| now.incarnation != before.incarnation && now.pid.is_some())
        });
    }

    pub fn until(&self, what: &str, holds: impl Fn() -> bool) {
        let end = clock::now() + PATIENCE;
        while !holds() {
            assert!(clock::now() < end, "it never came to this: {what}; {:#?}", self.view().map(|view| view.subjects));
            std::thread::sleep(PAUSE);
        }
    }

    /// Nobody is restarted for so long.
    pub fn nobody_is_restarted_for(&self, time: Duration, before: &Runs) {
        let end = clock::now() + time;
        while clock::now() < end {
            assert_eq!(self.runs(), *before, "somebody was restarted");
            std::thread::sleep(PAUSE * 4);
        }
    }

    /// A command of the program on this committee.
    pub fn command(&self, words: &[&str]) -> Output {
        command(self.dir.path(), words)
    }

    /// The program from elsewhere: from the router, with nothing of this committee but what it is given.
    pub fn run_elsewhere(&self, words: &[&str]) -> Output {
        let mut command = net::command_in(&self.net.router(), PROGRAM);
        command.arg("--dir").arg("/nonexistent").args(words).env_remove("ZETA_BFT_DIR").output().unwrap()
    }

    /// All that its processes have said.
    pub fn log(&self) -> String {
        std::fs::read_to_string(self.dir.path().join("log")).unwrap_or_default()
    }

    pub fn say_last(&self) {
        let log = self.log();
        let lines: Vec<_> = log.lines().filter(|line| !line.contains("tick ended well")).collect();
        let last = lines.len().saturating_sub(80);
        eprintln!("--- the end of the committee's log ---\n{}\n---", lines[last..].join("\n"));
    }
}

impl Drop for Committee {
    fn drop(&mut self) {
        let up = Pid::from_raw(i32::try_from(self.up.id()).unwrap()).unwrap();
        let _ = rustix::process::kill_process(up, Signal::TERM);
        for _ in 0..300 {
            if matches!(self.up.try_wait(), Ok(Some(_))) {
                return;
            }
            std::thread::sleep(PAUSE);
        }
        // Its children notice, and end.
        let _ = self.up.kill();
        let _ = self.up.wait();
    }
}

fn command(dir: &Path, words: &[&str]) -> Output {
    Command::new(PROGRAM).arg("--dir").arg(dir).args(words).env_remove("ZETA_BFT_DIR").output().unwrap()
}

fn node_toml() -> String {
    let mut text = "cluster = \"test\"\nnode = \"test\"\nmode = \"act\"\nf = 1\nq = 2\n".to_owned();
    for (persona, vendor) in PERSONAS.iter().zip(VENDORS) {
        let _ = write!(
            text,
            "[personas.{persona}]\nvendor = \"{vendor}\"\ncommand = [\"date\"]\ntick_interval = \"1s\"\n\
             [tcp.{persona}]\nlisten = \"{}\"\naddress = \"{}\"\n",
            net::listens(persona),
            net::found(persona)
        );
    }
    text + "[metrics]\nwarden = \"127.0.0.1:0\"\nagents = \"127.0.0.1:0\"\nwrappers = \"127.0.0.1:0\"\n"
}
