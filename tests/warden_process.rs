//! The warden as a process: the built binary on a folder of its own, over its real sockets. PID 1 is absent here, so no
//! agent has a session and nothing is repaired; what is tested is the process around the core.

use std::io::{Read as _, Seek as _, SeekFrom, Write as _};
use std::net::TcpStream;
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::Duration;
use tonic::Code;
use zeta_bft::config::default_up_toml;
use zeta_bft::config::paths::Paths;
use zeta_bft::grpc::client::{Connection, connect};
use zeta_bft::setup::initialise;
use zeta_bft::wire::v1;
use zeta_bft::wire::v1::inspect_service_client::InspectServiceClient;
use zeta_bft::wire::v1::operator_service_client::OperatorServiceClient;
use zeta_bft::wire::v1::warden_service_client::WardenServiceClient;

const LIMIT: Duration = Duration::from_secs(30);
const PAUSE: Duration = Duration::from_millis(10);

struct Node {
    _folder: tempfile::TempDir,
    paths: Paths,
}

impl Node {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let paths = Paths::below(folder.path());
        let text = default_up_toml(false);
        let (head, _) = text.split_once("[metrics]").unwrap();
        let free = ["warden", "agents", "wrappers"].map(|part| format!("{part} = \"127.0.0.1:0\"\n")).concat();
        initialise(&paths, &format!("{head}[metrics]\n{free}")).unwrap();
        Self { _folder: folder, paths }
    }

    fn command(&self) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_zeta-bft"));
        command.arg("--dir").arg(self.paths.dir().unwrap()).arg("warden");
        command.env_remove("ZETA_BFT_DIR").env_remove("NOTIFY_SOCKET").stdin(Stdio::null()).stdout(Stdio::null());
        command
    }

    fn start(&self) -> Process {
        Process(self.command().stderr(Stdio::null()).spawn().unwrap())
    }

    /// Starts one that cannot start: its exit code and what it says.
    fn refused(&self) -> (Option<i32>, String) {
        let output = self.command().output().unwrap();
        (output.status.code(), String::from_utf8(output.stderr).unwrap())
    }

    async fn inspect(&self) -> InspectServiceClient<tonic::transport::Channel> {
        InspectServiceClient::new(connected(&self.paths.inspect_socket()).await.channel)
    }

    async fn quorum(&self) -> v1::QuorumView {
        self.inspect().await.quorum(v1::QuorumRequest::default()).await.unwrap().into_inner()
    }

    /// Status code and body of a path on the scrape port.
    fn http(&self, path: &str) -> std::io::Result<(u16, String)> {
        let address = std::fs::read_to_string(self.paths.metrics_address("warden"))?;
        let mut stream = TcpStream::connect(address.trim())?;
        write!(stream, "GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer)?;
        let (head, body) = answer.split_once("\r\n\r\n").unwrap();
        Ok((head.split(' ').nth(1).unwrap().parse().unwrap(), body.to_owned()))
    }

    async fn ready(&self) {
        connected(&self.paths.inspect_socket()).await;
        until(|| self.http("/readyz").is_ok_and(|(code, _)| code == 200)).await;
    }
}

/// Ends with the test.
struct Process(Child);

impl Process {
    fn pid(&self) -> rustix::process::Pid {
        rustix::process::Pid::from_child(&self.0)
    }

    async fn drained(&mut self) -> ExitStatus {
        rustix::process::kill_process(self.pid(), rustix::process::Signal::TERM).unwrap();
        self.end().await
    }

    async fn end(&mut self) -> ExitStatus {
        let mut status = None;
        until(|| {
            status = self.0.try_wait().unwrap();
            status.is_some()
        })
        .await;
        status.unwrap()
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

async fn until(mut holds: impl FnMut() -> bool) {
    let wait = async {
        while !holds() {
            tokio::time::sleep(PAUSE).await;
        }
    };
    tokio::time::timeout(LIMIT, wait).await.expect("it never came to hold");
}

async fn connected(socket: &Path) -> Connection {
    let attempt = async {
        loop {
            if let Ok(connection) = connect(socket).await {
                return connection;
            }
            tokio::time::sleep(PAUSE).await;
        }
    };
    tokio::time::timeout(LIMIT, attempt).await.expect("the warden never served its socket")
}

#[tokio::test]
async fn a_warden_alone_says_what_is_missing_and_drains_on_sigterm() {
    let node = Node::new();
    let mut warden = node.start();
    node.ready().await;
    let view = node.quorum().await;
    assert_eq!((view.status.as_str(), view.vendors_live, view.threshold), ("lost", 0, 2));
    assert!(view.verified && !view.isolation);
    assert!(view.notes.iter().any(|note| note.starts_with("vera has no session")), "{:?}", view.notes);
    let names: Vec<_> = view.subjects.iter().map(|subject| subject.name.as_str()).collect();
    assert_eq!(names, ["lior", "lior/agent", "otto", "otto/agent", "vera", "vera/agent"]);

    let metrics = node.http("/metrics").unwrap().1;
    assert!(metrics.contains("zeta_bft_quorum_threshold 2"), "{metrics}");
    assert_eq!(node.http("/livez").unwrap().0, 200);

    assert_eq!(warden.drained().await.code(), Some(0));
    for socket in [node.paths.warden_socket(), node.paths.operator_socket(), node.paths.inspect_socket()] {
        assert!(!socket.exists(), "{} is left behind", socket.display());
    }
}

#[tokio::test]
async fn a_killed_warden_comes_back_as_the_next_instance_and_a_hold_outlives_it() {
    let node = Node::new();
    let warden = node.start();
    node.ready().await;
    let first = node.quorum().await.warden_instance;
    let mut operator = OperatorServiceClient::new(connected(&node.paths.operator_socket()).await.channel);
    let hold = v1::HoldRequest { subject: Some("lior".into()), for_seconds: Some(3600), reason: "upgrade".into() };
    operator.hold(hold).await.unwrap();
    drop(warden);

    let _again = node.start();
    let mut view = v1::QuorumView::default();
    while view.warden_instance.is_empty() || view.warden_instance == first {
        node.ready().await;
        view = node.quorum().await;
    }
    let (first, second): (u32, u32) = (first.parse().unwrap(), view.warden_instance.parse().unwrap());
    assert_eq!(second, first + 1);
    assert_eq!((view.holds.len(), view.holds[0].reason.as_str()), (1, "upgrade"));
    assert_eq!(view.holds[0].uid, rustix::process::getuid().as_raw());
    assert!(view.holds[0].until.is_some());
    let lior = view.subjects.iter().find(|subject| subject.name == "lior").unwrap();
    assert_eq!((lior.state.as_str(), lior.held_by.as_deref()), ("held", Some("operator")));
}

#[tokio::test]
async fn a_second_warden_on_one_folder_is_refused_and_the_first_goes_on() {
    let node = Node::new();
    let _warden = node.start();
    node.ready().await;
    let (code, said) = node.refused();
    assert_eq!(code, Some(1));
    assert!(said.contains("another warden runs on this folder"), "{said}");
    assert_eq!(node.quorum().await.status, "lost");
}

#[tokio::test]
async fn a_missing_journal_is_refused_with_what_to_do() {
    let node = Node::new();
    std::fs::remove_file(node.paths.journal()).unwrap();
    let (code, said) = node.refused();
    assert_eq!(code, Some(1));
    assert!(said.contains("there is no journal at") && said.contains("zeta-bft init"), "{said}");
}

#[tokio::test]
async fn a_damaged_journal_holds_everything_and_is_not_written_to() {
    let node = Node::new();
    for _ in 0..2 {
        let mut warden = node.start();
        node.ready().await;
        assert!(warden.drained().await.success());
    }
    let mut file = std::fs::OpenOptions::new().read(true).write(true).open(node.paths.journal()).unwrap();
    // Into the first record, behind the file's head: a valid record follows it.
    file.seek(SeekFrom::Start(64)).unwrap();
    file.write_all(&[0xff; 4]).unwrap();
    drop(file);
    let before = std::fs::read(node.paths.journal()).unwrap();

    let mut warden = node.start();
    let view = node.quorum().await;
    assert!(view.subjects.iter().all(|subject| subject.state == "held"), "{:?}", view.subjects);
    assert!(view.subjects.iter().all(|subject| subject.held_by.as_deref() == Some("journal")));
    assert!(view.notes[0].contains("the journal is damaged"), "{:?}", view.notes);
    let (code, why) = node.http("/readyz").unwrap();
    assert!(code == 503 && why.contains("damaged"), "{code} {why}");
    assert!(warden.drained().await.success());
    assert_eq!(std::fs::read(node.paths.journal()).unwrap(), before);
}

#[tokio::test]
async fn a_process_that_is_no_unit_of_the_node_cannot_submit_or_answer() {
    let node = Node::new();
    let _warden = node.start();
    node.ready().await;
    let mut stranger = WardenServiceClient::new(connected(&node.paths.warden_socket()).await.channel);
    // PID 1 cannot be asked here, so nobody can be told apart from a stranger: nothing is let in.
    let refused = [Code::PermissionDenied, Code::Unavailable];
    let submitted = stranger.submit(tokio_stream::pending()).await.unwrap_err();
    assert!(refused.contains(&submitted.code()), "{submitted}");
    let watched = stranger.watch_episodes(v1::WatchEpisodesRequest {}).await.map(drop).unwrap_err();
    assert!(refused.contains(&watched.code()), "{watched}");
    let answered = stranger.challenge(tokio_stream::pending()).await.map(drop).unwrap_err();
    assert!(refused.contains(&answered.code()), "{answered}");
}

#[tokio::test]
async fn questions_about_what_does_not_exist_are_answered_with_what_does() {
    let node = Node::new();
    let _warden = node.start();
    node.ready().await;
    let mut inspect = node.inspect().await;
    let unknown = inspect.explain(v1::ExplainRequest { about: "oto".into() }).await.unwrap_err();
    assert_eq!(unknown.code(), Code::NotFound);
    let subject = inspect.subject(v1::SubjectRequest { subject: "oto".into() }).await.unwrap_err();
    assert!(subject.message().contains("otto"), "{subject}");
    let otto = inspect.explain(v1::ExplainRequest { about: "otto".into() }).await.unwrap().into_inner();
    assert!(otto.summary.starts_with("otto "), "{}", otto.summary);
    assert!(otto.receipts.is_empty());

    let mut operator = OperatorServiceClient::new(connected(&node.paths.operator_socket()).await.channel);
    let hold = v1::HoldRequest { subject: Some("oto".into()), for_seconds: None, reason: "x".into() };
    assert_eq!(operator.hold(hold).await.unwrap_err().code(), Code::NotFound);
    let silent = v1::HoldRequest { subject: Some("otto".into()), for_seconds: None, reason: " ".into() };
    assert_eq!(operator.hold(silent).await.unwrap_err().code(), Code::InvalidArgument);
}

#[tokio::test]
async fn a_watcher_hears_of_a_hold_without_asking_again() {
    let node = Node::new();
    let _warden = node.start();
    node.ready().await;
    let mut views = node.inspect().await.watch(v1::QuorumRequest::default()).await.unwrap().into_inner();
    assert!(views.message().await.unwrap().unwrap().holds.is_empty());
    let mut operator = OperatorServiceClient::new(connected(&node.paths.operator_socket()).await.channel);
    operator.hold(v1::HoldRequest { subject: None, for_seconds: None, reason: "all".into() }).await.unwrap();
    let heard = async { while views.message().await.unwrap().unwrap().holds.is_empty() {} };
    tokio::time::timeout(LIMIT, heard).await.expect("the watcher never heard of the hold");
}
