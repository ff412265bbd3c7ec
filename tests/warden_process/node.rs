//! A folder with a committee's configuration, keys and journal, and wardens that run on it.

use std::os::unix::fs::FileExt as _;
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::Duration;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use zeta_bft::config::default_up_toml;
use zeta_bft::config::paths::Paths;
use zeta_bft::grpc::client::{Connection, connect};
use zeta_bft::setup::initialise;
use zeta_bft::wire::v1;
use zeta_bft::wire::v1::inspect_service_client::InspectServiceClient;
use zeta_bft::wire::v1::operator_service_client::OperatorServiceClient;
use zeta_bft::wire::v1::warden_service_client::WardenServiceClient;

pub type Channel = tonic::transport::Channel;

pub const LIMIT: Duration = Duration::from_secs(30);
const PAUSE: Duration = Duration::from_millis(10);

pub struct Node {
    _folder: tempfile::TempDir,
    pub paths: Paths,
}

impl Node {
    pub fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let paths = Paths::below(folder.path());
        let text = default_up_toml(false);
        let (head, _) = text.split_once("[metrics]").unwrap();
        let free = ["warden", "agents", "wrappers"].map(|part| format!("{part} = \"127.0.0.1:0\"\n")).concat();
        initialise(&paths, &format!("{head}[metrics]\n{free}")).unwrap();
        Self { _folder: folder, paths }
    }

    /// One on which two wardens ran, with damage to the journal's first record: a valid record follows it.
    pub async fn with_a_damaged_journal() -> Self {
        let node = Self::new();
        for _ in 0..2 {
            let mut warden = node.start();
            node.ready().await;
            assert!(warden.drained().await.success());
        }
        let journal = std::fs::OpenOptions::new().write(true).open(node.paths.journal()).unwrap();
        let behind_the_head = 64;
        journal.write_all_at(&[0xff; 4], behind_the_head).unwrap();
        node
    }

    fn command(&self) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_zeta-bft"));
        command.arg("--dir").arg(self.paths.dir().unwrap()).arg("warden");
        command.env_remove("ZETA_BFT_DIR").env_remove("NOTIFY_SOCKET").stdin(Stdio::null()).stdout(Stdio::null());
        command
    }

    pub fn start(&self) -> Process {
        Process(self.command().stderr(Stdio::null()).spawn().unwrap())
    }

    /// Starts another daemon on this folder.
    pub fn start_other(&self, arguments: &[&str]) -> Process {
        let mut command = Command::new(env!("CARGO_BIN_EXE_zeta-bft"));
        command.arg("--dir").arg(self.paths.dir().unwrap()).args(arguments);
        command.env_remove("ZETA_BFT_DIR").env_remove("NOTIFY_SOCKET").stdin(Stdio::null()).stdout(Stdio::null());
        Process(command.stderr(Stdio::null()).spawn().unwrap())
    }

    /// Starts one that tells the service manager at `notify` how it is.
    pub fn start_telling(&self, notify: &Path) -> Process {
        Process(self.command().env("NOTIFY_SOCKET", notify).stderr(Stdio::null()).spawn().unwrap())
    }

    /// Starts one whose scrape port is passed in, as systemd does.
    pub fn start_with_port(&self, port: &std::net::TcpListener) -> Process {
        use std::os::fd::AsRawFd as _;
        rustix::io::fcntl_setfd(port, rustix::io::FdFlags::empty()).unwrap();
        let mut command = self.command();
        command.env("LISTEN_FDS", "1").env("LISTEN_FDS_FIRST_FD", port.as_raw_fd().to_string());
        Process(command.stderr(Stdio::null()).spawn().unwrap())
    }

    /// Runs another command on this folder: whether it went well, and what it says.
    pub fn run(&self, arguments: &[&str]) -> (bool, String) {
        let mut command = Command::new(env!("CARGO_BIN_EXE_zeta-bft"));
        command.arg("--dir").arg(self.paths.dir().unwrap()).args(arguments);
        let output = command.env_remove("ZETA_BFT_DIR").stdin(Stdio::null()).output().unwrap();
        let said = [output.stdout, output.stderr].concat();
        (output.status.success(), String::from_utf8(said).unwrap())
    }

    /// Starts one that cannot start: its exit code and what it says.
    pub fn refused(&self) -> (Option<i32>, String) {
        let output = self.command().output().unwrap();
        (output.status.code(), String::from_utf8(output.stderr).unwrap())
    }

    pub async fn inspect(&self) -> InspectServiceClient<Channel> {
        InspectServiceClient::new(connected(&self.paths.inspect_socket()).await.channel)
    }

    pub async fn operator(&self) -> OperatorServiceClient<Channel> {
        OperatorServiceClient::new(connected(&self.paths.operator_socket()).await.channel)
    }

    pub async fn agents(&self) -> WardenServiceClient<Channel> {
        WardenServiceClient::new(connected(&self.paths.warden_socket()).await.channel)
    }

    pub async fn quorum(&self) -> v1::QuorumView {
        self.inspect().await.quorum(v1::QuorumRequest::default()).await.unwrap().into_inner()
    }

    /// Status code and body of a path on the scrape port.
    pub async fn http(&self, path: &str) -> std::io::Result<(u16, String)> {
        let address = std::fs::read_to_string(self.paths.metrics_address("warden"))?;
        let mut stream = TcpStream::connect(address.trim()).await?;
        let request = format!("GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).await?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await?;
        let (head, body) = answer.split_once("\r\n\r\n").unwrap();
        Ok((head.split(' ').nth(1).unwrap().parse().unwrap(), body.to_owned()))
    }

    pub async fn ready(&self) {
        connected(&self.paths.inspect_socket()).await;
        until(async || self.http("/readyz").await.is_ok_and(|(code, _)| code == 200)).await;
    }
}

/// Ends with the test.
pub struct Process(Child);

impl Process {
    fn pid(&self) -> rustix::process::Pid {
        rustix::process::Pid::from_child(&self.0)
    }

    /// Its resident memory, in KiB.
    pub fn resident(&self) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.0.id())).unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).expect("a living process has memory");
        line.trim().trim_end_matches(" kB").parse().unwrap()
    }

    pub async fn drained(&mut self) -> ExitStatus {
        rustix::process::kill_process(self.pid(), rustix::process::Signal::TERM).unwrap();
        self.end().await
    }

    async fn end(&mut self) -> ExitStatus {
        let mut status = None;
        until(async || {
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

pub async fn until(mut holds: impl AsyncFnMut() -> bool) {
    let wait = async {
        while !holds().await {
            tokio::time::sleep(PAUSE).await;
        }
    };
    tokio::time::timeout(LIMIT, wait).await.expect("it never came to hold");
}

pub async fn connected(socket: &Path) -> Connection {
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
