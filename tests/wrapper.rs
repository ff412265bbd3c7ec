//! `zeta-bft wrap`: real processes of the built binary, asked over their real sockets.

use std::io::{Read as _, Write as _};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::Duration;
use tokio::sync::mpsc;
use tokio_stream::StreamExt as _;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status, Streaming};
use zeta_bft::config::paths::Paths;
use zeta_bft::grpc::client::{Connection, connect};
use zeta_bft::grpc::server;
use zeta_bft::protocol::evidence::{FaultClass, Reason, TickState};
use zeta_bft::protocol::types::PersonaId;
use zeta_bft::wire::v1;
use zeta_bft::wire::v1::wrapper_service_client::WrapperServiceClient;

const PATIENCE: Duration = Duration::from_secs(20);

/// Waits for a condition; fails with `what` when it does not come.
async fn until<T>(what: &str, mut condition: impl AsyncFnMut() -> Option<T>) -> T {
    let waiting = async {
        loop {
            if let Some(value) = condition().await {
                return value;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    tokio::time::timeout(PATIENCE, waiting).await.unwrap_or_else(|_| panic!("{what} did not come"))
}

fn alive(pid: &str) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    let state = stat.rsplit(')').next().and_then(|rest| rest.trim_start().chars().next());
    state.is_some_and(|state| state != 'Z' && state != 'X')
}

/// One node's folder, with otto configured.
struct Node {
    dir: tempfile::TempDir,
}

impl Node {
    fn new(options: &str) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let paths = Paths::below(dir.path());
        std::fs::create_dir_all(paths.config()).unwrap();
        let mut toml = String::from("cluster = \"test\"\nnode = \"test\"\nmode = \"act\"\nf = 1\nq = 2\n");
        for (persona, vendor) in [("otto", "anthropic"), ("lior", "google-gemini"), ("vera", "openai")] {
            toml += &format!("[personas.{persona}]\nvendor = \"{vendor}\"\ncommand = [\"/bin/true\"]\n");
            toml += "wrapper_metrics = \"127.0.0.1:0\"\nagent_metrics = \"127.0.0.1:0\"\n";
            toml += if persona == "otto" { options } else { "" };
            toml += "\n";
        }
        std::fs::write(paths.node_toml(), toml).unwrap();
        Self { dir }
    }

    fn paths(&self) -> Paths {
        Paths::below(self.dir.path())
    }

    fn socket(&self) -> PathBuf {
        self.paths().wrapper_socket(&PersonaId::new("otto").unwrap())
    }

    /// A file for ticks to write to.
    fn file(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// Otto's wrapper, with a script as its tick; `$D` is the node's folder.
    fn wrap(&self, script: &str) -> Wrapper {
        self.wrap_command(&["/bin/sh", "-c", script])
    }

    fn wrap_command(&self, tick: &[&str]) -> Wrapper {
        let child = Command::new(env!("CARGO_BIN_EXE_zeta-bft"))
            .arg("--dir")
            .arg(self.dir.path())
            .args(["wrap", "--persona", "otto", "--"])
            .args(tick)
            .env("D", self.dir.path())
            .env("NOTIFY_SOCKET", self.dir.path().join("nobody-listens"))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .process_group(0)
            .spawn()
            .unwrap();
        Wrapper { child, socket: self.socket() }
    }

    async fn lines(&self, name: &str, count: usize) -> Vec<String> {
        let path = self.file(name);
        until(name, async || {
            let text = std::fs::read_to_string(&path).unwrap_or_default();
            let lines: Vec<_> = text.split_inclusive('\n').filter(|line| line.ends_with('\n')).collect();
            (lines.len() >= count).then(|| lines.iter().map(|line| line.trim().to_owned()).collect())
        })
        .await
    }
}

struct Wrapper {
    child: Child,
    socket: PathBuf,
}

impl Wrapper {
    async fn connect(&self) -> Connection {
        until("the wrapper's socket", async || connect(&self.socket).await.ok()).await
    }

    async fn ticks(&self) -> TickState {
        let mut client = WrapperServiceClient::new(self.connect().await.channel);
        client.ticks(v1::TicksRequest {}).await.unwrap().into_inner().try_into().unwrap()
    }

    /// The state after at least so many ticks have ended.
    async fn ended(&self, count: u64) -> TickState {
        until("the end of a tick", async || {
            let ticks = self.ticks().await;
            ticks.last.as_ref().is_some_and(|last| last.number >= count).then_some(ticks)
        })
        .await
    }

    fn signal(&self, signal: rustix::process::Signal) {
        rustix::process::kill_process(rustix::process::Pid::from_child(&self.child), signal).unwrap();
    }

    async fn exit(&mut self) -> ExitStatus {
        until("the wrapper's end", async || self.child.try_wait().unwrap()).await
    }

    fn stderr(&mut self) -> String {
        let mut text = String::new();
        self.child.stderr.take().unwrap().read_to_string(&mut text).unwrap();
        text
    }
}

impl Drop for Wrapper {
    fn drop(&mut self) {
        if self.child.try_wait().is_ok_and(|status| status.is_none()) {
            self.signal(rustix::process::Signal::TERM);
            for _ in 0..500 {
                if self.child.try_wait().is_ok_and(|status| status.is_some()) {
                    return;
                }
                std::thread::sleep(Duration::from_millis(10));
            }
            let _ = self.child.kill();
            let _ = self.child.wait();
        }
    }
}

#[tokio::test]
async fn an_over_time_tick_dies_with_every_process_it_forked() {
    let node = Node::new("tick_limit = \"1s\"\ntick_interval = \"1h\"\n");
    let wrapper = node.wrap(
        "trap '' TERM; echo $$ >>$D/pids
         (echo $(exec sh -c 'echo $PPID') >>$D/pids; while :; do sleep 600; done) &
         setsid sh -c 'trap \"\" TERM; echo $$ >>$D/pids; while :; do sleep 600; done' &
         while :; do sleep 600; done",
    );
    let pids = node.lines("pids", 3).await;
    assert!(pids.iter().all(|pid| alive(pid)), "{pids:?}");
    let ticks = wrapper.ended(1).await;
    let last = ticks.last.unwrap();
    assert_eq!((last.fault, last.reason), (Some(FaultClass::Broken), Reason::TickTimeout));
    assert_eq!((last.exit_code, last.signal, ticks.broken_in_a_row), (None, None, 1));
    assert!(last.duration >= Duration::from_secs(1), "{:?}", last.duration);
    assert!(!pids.iter().any(|pid| alive(pid)), "{pids:?}");
}

#[tokio::test]
async fn a_daemon_of_a_tick_does_not_survive_the_tick() {
    let node = Node::new("tick_interval = \"1h\"\n");
    let wrapper = node.wrap(
        "(setsid sh -c 'echo $$ >>$D/pids; exec sleep 600' &)
         while ! [ -s $D/pids ]; do sleep 0.01; done; echo done",
    );
    let pids = node.lines("pids", 1).await;
    let ticks = wrapper.ended(1).await;
    assert_eq!(ticks.last.unwrap().reason, Reason::TickOk);
    assert!(!alive(&pids[0]));
}

#[tokio::test]
async fn sigterm_drains_with_exit_0_and_leaves_nothing_behind() {
    let node = Node::new("");
    let mut wrapper = node.wrap("echo $$ >>$D/pids; exec sleep 600");
    let pids = node.lines("pids", 1).await;
    wrapper.connect().await;
    wrapper.signal(rustix::process::Signal::TERM);
    assert_eq!(wrapper.exit().await.code(), Some(0));
    assert!(!alive(&pids[0]));
    assert!(!node.socket().exists());
}

#[tokio::test]
async fn a_quota_is_environment_with_its_resume_time() {
    let node = Node::new("tick_interval = \"10ms\"\n");
    let wrapper = node.wrap("echo 'quota exceeded, try again at 3pm' >&2; exit 1");
    let ticks = wrapper.ended(3).await;
    let last = ticks.last.unwrap();
    assert_eq!((last.fault, last.reason), (Some(FaultClass::Environment), Reason::Quota));
    assert_eq!((last.exit_code, ticks.broken_in_a_row, ticks.last_good_at), (Some(1), 0, None));
    let now = zeta_bft::clock::unix().as_secs();
    let resume_at = last.resume_at.expect("the text names it");
    assert!((now..=now + 26 * 3600).contains(&resume_at) && resume_at.is_multiple_of(60), "{resume_at}");
}

#[tokio::test]
async fn failing_and_hollow_and_missing_commands_are_broken() {
    for (tick, reason) in [
        (["/bin/sh", "-c", "exit 3"], Reason::TickFailed),
        (["/bin/sh", "-c", "kill -SEGV $$"], Reason::TickFailed),
        (["/bin/true", "", ""], Reason::TickHollow),
        (["/nowhere/at-all", "", ""], Reason::TickNotStarted),
    ] {
        let node = Node::new("tick_interval = \"10ms\"\n");
        let wrapper = node.wrap_command(&tick);
        let ticks = wrapper.ended(3).await;
        let last = ticks.last.unwrap();
        assert_eq!((last.fault, last.reason), (Some(FaultClass::Broken), reason), "{tick:?}");
        assert!(ticks.broken_in_a_row >= 3);
    }
}

#[tokio::test]
async fn a_hang_of_a_program_that_starts_is_environment_and_of_one_that_does_not_is_broken() {
    for (probe, class, reason) in [
        ("echo 1.2.3", FaultClass::Environment, Reason::VendorSilent),
        ("exit 1", FaultClass::Broken, Reason::CliBroken),
        ("kill -SEGV $$", FaultClass::Broken, Reason::CliBroken),
        ("exit 0", FaultClass::Broken, Reason::CliBroken),
    ] {
        let options =
            format!("tick_limit = \"200ms\"\ntick_interval = \"10ms\"\nprobe = [\"/bin/sh\", \"-c\", \"{probe}\"]\n");
        let node = Node::new(&options);
        let wrapper = node.wrap("exec sleep 600");
        let ticks = wrapper.ended(3).await;
        let last = ticks.last.unwrap();
        assert_eq!((last.fault, last.reason, last.signal), (Some(class), reason, None), "{probe}");
        assert!(last.duration < Duration::from_secs(5), "the probe's time is not the tick's");
        assert_eq!(ticks.broken_in_a_row >= 3, class == FaultClass::Broken, "{probe}");
    }
}

#[tokio::test]
async fn a_probe_that_hangs_ends_with_its_whole_tree_when_told_to_stop() {
    let node = Node::new(
        "tick_interval = \"10ms\"\nprobe = [\"/bin/sh\", \"-c\", \"setsid sleep 600 & echo $! $$ >>$D/pids; wait\"]\n",
    );
    let mut wrapper = node.wrap("exit 1");
    let pids = node.lines("pids", 1).await;
    let pids: Vec<_> = pids[0].split(' ').map(str::to_owned).collect();
    assert_eq!(wrapper.ticks().await.last, None, "it is part of its tick");
    wrapper.signal(rustix::process::Signal::TERM);
    assert_eq!(wrapper.exit().await.code(), Some(0));
    assert!(!pids.iter().any(|pid| alive(pid)), "{pids:?}");
}

#[tokio::test]
async fn pings_are_answered_while_a_tick_floods_output_that_nobody_reads() {
    let node = Node::new("");
    // Neither stream of the wrapper is read here: both pipes are full at once.
    let wrapper = node.wrap("yes flood & yes flood >&2");
    let mut client = WrapperServiceClient::new(wrapper.connect().await.channel);
    until("a running tick", async || wrapper.ticks().await.running_since).await;
    let (pings, sent) = tokio::sync::mpsc::channel(1);
    let mut answers = client.ping(tokio_stream::wrappers::ReceiverStream::new(sent)).await.unwrap().into_inner();
    for number in 0..50 {
        pings.send(v1::PingRequest { number }).await.unwrap();
        let answer = tokio::time::timeout(Duration::from_secs(5), answers.message()).await;
        let answer = answer.expect("in time").unwrap().expect("an answer");
        assert_eq!((answer.number, answer.changes), (number, 1), "only the tick's beginning is new");
    }
    let ticks = wrapper.ticks().await;
    assert_eq!((ticks.begun, ticks.last), (1, None), "a ping is no progress");
}

#[tokio::test]
async fn output_is_passed_on_and_the_tick_knows_whose_it_is_and_nothing_of_the_service_manager() {
    let node = Node::new("tick_interval = \"1h\"\n");
    let mut wrapper =
        node.wrap("printf '\\033[31mred\\033[0m\\n'; echo err >&2; echo $ZETA_BFT_PERSONA $ZETA_BFT_REPAIR ${NOTIFY_SOCKET-gone}; cat");
    wrapper.ended(1).await;
    wrapper.signal(rustix::process::Signal::TERM);
    assert!(wrapper.exit().await.success());
    let mut stdout = String::new();
    wrapper.child.stdout.take().unwrap().read_to_string(&mut stdout).unwrap();
    assert_eq!(stdout, "red\notto none gone\n");
    let stderr = wrapper.stderr();
    assert!(stderr.lines().any(|line| line == "err"), "{stderr}");
    assert!(stderr.contains("tick ended well"), "{stderr}");
}

#[tokio::test]
async fn a_second_wrapper_is_refused_and_a_stale_socket_is_replaced() {
    let node = Node::new("");
    let mut first = node.wrap("exec sleep 600");
    let number = first.connect().await.peer.pid;
    let mut second = node.wrap("exec sleep 600");
    assert_eq!(second.exit().await.code(), Some(1));
    let stderr = second.stderr();
    assert!(stderr.contains(&node.socket().display().to_string()), "{stderr}");
    assert_eq!(first.connect().await.peer.pid, number, "the first still serves");

    let tick = until("the tick", async || {
        let children = std::fs::read_to_string(format!("/proc/{number}/task/{number}/children")).ok()?;
        children.split_whitespace().next().map(str::to_owned)
    })
    .await;
    first.signal(rustix::process::Signal::KILL);
    first.exit().await;
    assert!(node.socket().exists());
    let third = node.wrap("exec sleep 600");
    until("the new wrapper", async || (third.connect().await.peer.pid == third.child.id()).then_some(())).await;
    // Nobody was the subreaper of the killed wrapper's tick here.
    let tick = rustix::process::Pid::from_raw(tick.parse().unwrap()).unwrap();
    let _ = rustix::process::kill_process(tick, rustix::process::Signal::KILL);
}

#[tokio::test]
async fn metrics_and_latches_are_served() {
    let node = Node::new("tick_interval = \"1h\"\n");
    let wrapper = node.wrap("echo fine");
    wrapper.ended(1).await;
    let address = std::fs::read_to_string(node.paths().metrics_address("wrap-otto")).unwrap();
    let get = |path: &str| {
        let mut stream = std::net::TcpStream::connect(address.trim()).unwrap();
        write!(stream, "GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        answer
    };
    let metrics = get("/metrics");
    for line in [
        "zeta_bft_ticks_total{result=\"good\"} 1\n",
        "zeta_bft_ticks_total{result=\"broken\"} 0\n",
        "zeta_bft_tick_duration_seconds_count 1\n",
        "zeta_bft_tick_running 0\n",
    ] {
        assert!(metrics.contains(line), "{line} in {metrics}");
    }
    assert!(get("/livez").starts_with("HTTP/1.1 200"));
    assert!(get("/readyz").starts_with("HTTP/1.1 200"));
}

#[tokio::test]
async fn an_unknown_persona_is_refused_by_name() {
    let node = Node::new("");
    let out = Command::new(env!("CARGO_BIN_EXE_zeta-bft"))
        .arg("--dir")
        .arg(node.dir.path())
        .args(["wrap", "--persona", "ottto"])
        .output()
        .unwrap();
    let stderr = String::from_utf8_lossy(&out.stderr);
    assert_eq!(out.status.code(), Some(1));
    assert!(stderr.contains("ottto") && stderr.contains("lior, otto, vera"), "{stderr}");
}

/// A warden that only challenges, once per connection.
struct Challenger {
    answers: mpsc::Sender<Vec<u8>>,
}

#[tonic::async_trait]
impl v1::warden_service_server::WardenService for Challenger {
    type WatchEpisodesStream = ReceiverStream<Result<v1::WatchEpisodesResponse, Status>>;
    type ChallengeStream = ReceiverStream<Result<v1::ChallengeRequest, Status>>;

    async fn nonce(&self, _: Request<v1::NonceRequest>) -> Result<Response<v1::NonceResponse>, Status> {
        Err(Status::unimplemented("not here"))
    }
    async fn open_session(
        &self,
        _: Request<v1::OpenSessionRequest>,
    ) -> Result<Response<v1::OpenSessionResponse>, Status> {
        Err(Status::unimplemented("not here"))
    }
    async fn watch_episodes(
        &self,
        _: Request<v1::WatchEpisodesRequest>,
    ) -> Result<Response<Self::WatchEpisodesStream>, Status> {
        Err(Status::unimplemented("not here"))
    }
    async fn submit(&self, _: Request<Streaming<v1::SubmitRequest>>) -> Result<Response<v1::SubmitResponse>, Status> {
        Err(Status::unimplemented("not here"))
    }
    async fn challenge(
        &self,
        request: Request<Streaming<v1::ChallengeReply>>,
    ) -> Result<Response<Self::ChallengeStream>, Status> {
        let (challenges, outgoing) = mpsc::channel(4);
        let answers = self.answers.clone();
        let mut replies = request.into_inner();
        tokio::spawn(async move {
            for nonce in [vec![1; 16], vec![2; 16]] {
                if challenges.send(Ok(v1::ChallengeRequest { nonce })).await.is_err() {
                    return;
                }
            }
            loop {
                let reply = tokio::select! {
                    reply = replies.next() => reply,
                    // This warden is gone: its stream ends with it.
                    () = answers.closed() => return,
                };
                let Some(Ok(reply)) = reply else { return };
                let _ = answers.send(reply.nonce).await;
            }
        });
        Ok(Response::new(ReceiverStream::new(outgoing)))
    }
}

fn serve_challenger(path: &Path) -> (server::Server, mpsc::Receiver<Vec<u8>>) {
    use v1::warden_service_server::{SERVICE_NAME, WardenServiceServer};
    let (answers, answered) = mpsc::channel(16);
    let routes = tonic::service::Routes::new(WardenServiceServer::new(Challenger { answers }));
    (server::serve(path, 0o600, &[SERVICE_NAME], routes).unwrap(), answered)
}

#[tokio::test]
async fn challenges_are_answered_while_a_tick_runs_and_again_after_the_warden_came_back() {
    let node = Node::new("");
    let _wrapper = node.wrap("exec sleep 600");
    for _ in 0..2 {
        let (warden, mut answered) = serve_challenger(&node.paths().warden_socket());
        for expected in [vec![], vec![1; 16], vec![2; 16]] {
            let answer = tokio::time::timeout(PATIENCE, answered.recv()).await.expect("an answer");
            assert_eq!(answer, Some(expected));
        }
        drop(answered);
        warden.stop().await;
    }
}
