//! The running daemons: folders, sockets, sessions, scrape ports.

use super::accounts::{Accounts, Cast, Role};
use super::finding::{Group, Section};
use super::node::{Node, Unread};
use super::port::Port;
use crate::config::Settings;
use crate::config::paths::Paths;
use crate::files;
use crate::wire::v1::QuorumView;
use std::io::Read as _;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::UnixStream;
use tokio::net::unix::UCred;

/// A daemon on this machine that has not answered by then is silent.
const PATIENCE: Duration = Duration::from_secs(2);
/// More than any address and port in text, in bytes.
const LONGEST_ADDRESS: u64 = 128;

/// One daemon: where it should be, and whether it answered.
#[derive(Clone, Debug)]
pub struct Daemon {
    /// Whose.
    pub role: Role,
    /// Its unit.
    pub unit: String,
    /// Its folder below `run`.
    pub folder: PathBuf,
    /// Its socket.
    pub socket: PathBuf,
    /// Whether somebody accepts connections there.
    pub connected: Result<(), Unread>,
    /// Its scrape port, and what became of a request.
    pub scrape: (SocketAddr, Result<(), String>),
    /// Where it is to listen on TCP, where that is configured.
    pub port: Option<Port>,
}

/// Asks every daemon of a configuration.
pub async fn ask(settings: &Settings) -> Vec<Daemon> {
    let paths = &settings.paths;
    let unit = |kind: &str, persona: &str| {
        let subjects = settings.policy.subjects.iter();
        let name = if kind == "agent" { format!("{persona}/agent") } else { persona.to_owned() };
        subjects
            .filter(|(subject, _)| subject.as_str() == name)
            .map(|(_, policy)| policy.unit.clone())
            .collect::<String>()
    };
    let mut wanted = vec![(
        Role::Warden,
        "zeta-bft-warden.service".to_owned(),
        "warden".to_owned(),
        paths.warden_socket(),
        settings.warden_metrics,
    )];
    for (persona, of) in &settings.personas {
        let (agent, wrap) = (unit("agent", persona.as_str()), unit("wrap", persona.as_str()));
        let (agent_folder, wrap_folder) = (format!("agent-{persona}"), format!("wrap-{persona}"));
        wanted.push((Role::Agent(persona.clone()), agent, agent_folder, paths.agent_socket(persona), of.agent_metrics));
        wanted.push((
            Role::Wrapper(persona.clone()),
            wrap,
            wrap_folder,
            paths.wrapper_socket(persona),
            of.wrapper_metrics,
        ));
    }
    let mut daemons = Vec::new();
    for (role, unit, folder, socket, configured) in wanted {
        let address = address(&paths.metrics_address(&folder), configured);
        let peer = peer(&socket).await;
        let listens = match &role {
            Role::Agent(persona) => settings.tcp.get(persona).map(|tcp| tcp.listen),
            _ => None,
        };
        let port = listens.map(|address| Port::of(address, peer.as_ref().ok().copied()));
        let connected = peer.map(drop);
        let scrape = match &connected {
            Ok(()) => scrape(address).await,
            // Nobody is asked for numbers who is not there.
            Err(_) => Ok(()),
        };
        daemons.push(Daemon {
            role,
            unit,
            folder: paths.run().join(folder),
            socket,
            connected,
            scrape: (address, scrape),
            port,
        });
    }
    daemons
}

/// Where a daemon says that it is scraped, if that can be true: its folder is its own, an AI's even, and nobody chooses
/// where in the network root asks.
fn address(file: &Path, configured: SocketAddr) -> SocketAddr {
    let mut written = String::new();
    let read = files::open_plain(file).and_then(|file| file.take(LONGEST_ADDRESS).read_to_string(&mut written));
    let written = read.ok().and_then(|_| written.trim().parse::<SocketAddr>().ok());
    written.filter(|written| *written == configured || written.ip().is_loopback()).unwrap_or(configured)
}

/// Whether somebody accepts connections at a socket.
///
/// # Errors
/// [`Unread::Absent`] when nobody does, [`Unread::Denied`] when this user may not ask.
pub async fn connect(socket: &Path) -> Result<(), Unread> {
    peer(socket).await.map(drop)
}

/// Who accepts connections at a socket, by the kernel's word.
pub(super) async fn peer(socket: &Path) -> Result<UCred, Unread> {
    match tokio::time::timeout(PATIENCE, UnixStream::connect(socket)).await {
        Ok(Ok(stream)) => Ok(stream.peer_cred()?),
        Ok(Err(error)) if error.kind() == std::io::ErrorKind::ConnectionRefused => Err(Unread::Absent),
        Ok(Err(error)) => Err(error.into()),
        Err(_) => Err(Unread::Other(format!("it does not accept within {} s", PATIENCE.as_secs()))),
    }
}

async fn scrape(address: SocketAddr) -> Result<(), String> {
    let request = async {
        let mut stream = tokio::net::TcpStream::connect(address).await?;
        stream
            .write_all(format!("GET /metrics HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n").as_bytes())
            .await?;
        let mut head = [0; 12];
        stream.read_exact(&mut head).await?;
        Ok::<_, std::io::Error>(head)
    };
    match tokio::time::timeout(PATIENCE, request).await {
        Ok(Ok(head)) if head.ends_with(b" 200") => Ok(()),
        Ok(Ok(head)) => Err(format!("it answers `{}`", String::from_utf8_lossy(&head))),
        Ok(Err(error)) => Err(error.to_string()),
        Err(_) => Err(format!("no answer within {} s", PATIENCE.as_secs())),
    }
}

/// Checks the daemons. `view`: the warden's own word on the committee, or why there is none.
pub fn check(
    node: &Node,
    paths: &Paths,
    daemons: &[Daemon],
    view: &Result<QuorumView, String>,
    known: (&Cast, &Accounts),
) -> Section {
    let mut section = Section::new(Group::Runtime);
    if paths.dir().is_none() {
        folders(node, paths, daemons, known, &mut section);
        rooms(node, daemons, &mut section);
    }
    if daemons.iter().all(|daemon| daemon.connected == Err(Unread::Absent)) {
        let text = "no part of the committee runs: nobody watches, nothing is repaired";
        match paths.dir() {
            Some(dir) => {
                let fix = format!("zeta-bft --dir {} up", dir.display());
                section.warning("not-running", "committee", text, fix);
            }
            None => section.error("not-running", "committee", text, "systemctl start zeta-bft.target"),
        }
        return section;
    }
    for daemon in daemons {
        answers(daemon, paths, &mut section);
        if let Some(port) = &daemon.port {
            port.check(&daemon.role, known, &mut section);
        }
    }
    match view {
        Ok(view) => sessions(view, &mut section),
        Err(why) if daemons.iter().any(|daemon| daemon.role == Role::Warden && daemon.connected.is_ok()) => section
            .error(
                "warden-silent",
                "warden",
                format!("it accepts connections, but does not answer: {why}"),
                "`journalctl -u zeta-bft-warden` says what it does; then `systemctl restart zeta-bft-warden`",
            ),
        // Told already.
        Err(_) => {}
    }
    section.summed_up(format!("{} daemons answer, every agent has its session, scrape ports answer", daemons.len()))
}

fn folders(
    node: &Node,
    paths: &Paths,
    daemons: &[Daemon],
    (cast, accounts): (&Cast, &Accounts),
    section: &mut Section,
) {
    let of_daemons =
        daemons.iter().map(|daemon| (daemon.folder.clone(), cast.account(&daemon.role, accounts), &daemon.unit));
    let target = "zeta-bft.target".to_owned();
    let root = accounts.user_of(0);
    for (path, owner, unit) in [(paths.run().to_owned(), root, &target)].into_iter().chain(of_daemons) {
        let place = path.display().to_string();
        let fix = format!("systemctl restart {unit}: its RuntimeDirectory= makes the folder anew");
        match node.look(&path) {
            // A daemon that does not run has no folder.
            Err(Unread::Absent) => {}
            Err(error) => section.skipped("run-folder", &place, error.to_string()),
            Ok(look) => {
                if let Some(owner) = owner.filter(|owner| owner.uid != look.uid) {
                    let text = format!(
                        "it belongs to {}, not to {}: whoever owns it can put a socket of his own in the place of the daemon's",
                        accounts.name_of(look.uid),
                        owner.name
                    );
                    section.error("run-owner", &place, text, fix.clone());
                }
                if look.mode & 0o022 != 0 {
                    let text = format!(
                        "its mode {:04o} lets others write it: they can put a socket of their own in the place of the daemon's",
                        look.mode
                    );
                    section.error("run-mode", &place, text, fix);
                }
            }
        }
    }
}

/// What AIs and agents write below `/run` is no part of the `/run` that every unit of the node needs.
fn rooms(node: &Node, daemons: &[Daemon], section: &mut Section) {
    let place = "/proc/self/mountinfo";
    let mounts = match node.read(place) {
        Ok(mounts) => mounts,
        Err(error) => return section.skipped("run-shared", place, error.to_string()),
    };
    // The fifth word is where it is mounted (proc(5)).
    let is_room = |daemon: &Daemon| mounts.lines().any(|line| line.split(' ').nth(4) == daemon.folder.to_str());
    for daemon in daemons.iter().filter(|daemon| daemon.role != Role::Warden && !is_room(daemon)) {
        // A daemon that does not run has no folder.
        if node.look(&daemon.folder).is_err() {
            continue;
        }
        let (unit, name) = (&daemon.unit, daemon.folder.file_name().unwrap_or_default().to_string_lossy());
        section.warning(
            "run-shared",
            &daemon.folder.display().to_string(),
            "it is no file system of its own: its user can use up /run, and then nobody's unit can be started again",
            format!("systemctl stop {unit} zeta-bft-room@{name}.service && systemctl start {unit}"),
        );
    }
}

fn answers(daemon: &Daemon, paths: &Paths, section: &mut Section) {
    let who = daemon.role.to_string();
    let socket = daemon.socket.display();
    let fix = match paths.dir() {
        None => {
            format!("`systemctl status {0}` and `journalctl -u {0}` say why; then `systemctl start {0}`", daemon.unit)
        }
        Some(_) => "what `zeta-bft up` printed says why".to_owned(),
    };
    match &daemon.connected {
        Ok(()) => {}
        Err(Unread::Denied) => section.skipped("socket-silent", &who, format!("{socket}: {}", Unread::Denied)),
        Err(error) => {
            let why = if *error == Unread::Absent { "nobody listens there".to_owned() } else { error.to_string() };
            match daemon.role {
                Role::Warden => {
                    section.error("socket-silent", &who, format!("{socket}: {why}: nothing is repaired"), fix)
                }
                Role::Agent(_) => {
                    section.error("socket-silent", &who, format!("{socket}: {why}: its vendor has no vote"), fix)
                }
                _ => section.warning(
                    "socket-silent",
                    &who,
                    format!("{socket}: {why}: the persona does not tick, unless you stopped it"),
                    fix,
                ),
            }
            return;
        }
    }
    if let (address, Err(why)) = &daemon.scrape {
        let text = format!("its scrape port {address} does not answer as it should ({why}): alerts do not see it");
        section.warning(
            "scrape-silent",
            &who,
            text,
            format!("see [metrics] in node.toml; `ss -ltnp` says who has {address}"),
        );
    }
}

fn sessions(view: &QuorumView, section: &mut Section) {
    for persona in &view.personas {
        let who = format!("{}'s agent", persona.persona);
        if persona.session.is_none() {
            let text = "it has no session with the warden: its vendor has no vote";
            let fix = format!("`journalctl -u zeta-bft-agent@{}` says why it was refused", persona.persona);
            section.error("agent-no-session", &who, text, fix);
        } else if !persona.live {
            let text = "it has a session but is not heard: its vendor has no vote";
            section.error(
                "agent-not-heard",
                &who,
                text,
                format!("systemctl restart zeta-bft-agent@{}", persona.persona),
            );
        }
        if persona.quarantined {
            let text = "it signed two statements under one number, so it has no vote";
            let fix =
                format!("find out why (`zeta-bft explain {0}/agent`), then `zeta-bft readmit {0}`", persona.persona);
            section.error("agent-quarantined", &who, text, fix);
        }
        if persona.policy_matches == Some(false) {
            let text = "it counts by another roster or policy than the warden, and abstains";
            let fix = format!(
                "restart what was started before the configuration changed: `systemctl restart zeta-bft-agent@{} zeta-bft-warden`",
                persona.persona
            );
            section.warning("agent-other-policy", &who, text, fix);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::doctor::finding::Level;
    use crate::doctor::tree::Tree;
    use crate::protocol::types::PersonaId;
    use crate::wire::v1::PersonaView;

    fn daemon(role: Role, name: &str) -> Daemon {
        Daemon {
            role,
            unit: format!("{name}.service"),
            folder: format!("/run/zeta-bft/{name}").into(),
            socket: format!("/run/zeta-bft/{name}/x.sock").into(),
            connected: Ok(()),
            scrape: (SocketAddr::from(([127, 0, 0, 1], 9464)), Ok(())),
            port: None,
        }
    }

    fn daemons() -> Vec<Daemon> {
        let otto = PersonaId::new("otto").unwrap();
        vec![
            daemon(Role::Warden, "warden"),
            daemon(Role::Agent(otto.clone()), "agent-otto"),
            daemon(Role::Wrapper(otto), "wrap-otto"),
        ]
    }

    fn view() -> QuorumView {
        let otto = PersonaView {
            persona: "otto".into(),
            live: true,
            session: Some("1.1".into()),
            policy_matches: Some(true),
            ..PersonaView::default()
        };
        QuorumView { personas: vec![otto], ..QuorumView::default() }
    }

    fn tree() -> Tree {
        Tree::new()
            .folder("/run/zeta-bft/warden")
            .folder("/run/zeta-bft/agent-otto")
            .file("/proc/self/mountinfo", "30 24 0:26 / /run/zeta-bft/agent-otto rw,nosuid - tmpfs zeta-bft rw\n")
            .owner("/run/zeta-bft/warden", 900, 900)
            .owner("/run/zeta-bft/agent-otto", 901, 901)
    }

    fn found(tree: &Tree, daemons: &[Daemon], view: &Result<QuorumView, String>) -> Vec<(&'static str, Level)> {
        let otto = PersonaId::new("otto").unwrap();
        let names = [(Role::Warden, "zeta-bft-warden"), (Role::Agent(otto), "zeta-bft-otto")];
        let cast = Cast { names: names.map(|(role, name)| (role, name.to_owned())).into() };
        let accounts = Accounts::parse("root:x:0:0\nzeta-bft-warden:x:900:900\nzeta-bft-otto:x:901:901\n", "");
        let section = check(&tree.node(), &Paths::system(), daemons, view, (&cast, &accounts));
        section.findings.iter().map(|finding| (finding.id, finding.level)).collect()
    }

    #[test]
    fn a_committee_that_answers_is_well() {
        assert_eq!(found(&tree(), &daemons(), &Ok(view())), []);
    }

    #[test]
    fn a_daemon_chooses_its_port_and_never_where_else_root_asks() {
        let dir = tempfile::tempdir().unwrap();
        let (file, configured) = (dir.path().join("metrics"), SocketAddr::from(([192, 0, 2, 1], 9464)));
        let said = |text: &str| {
            std::fs::write(&file, text).unwrap();
            address(&file, configured)
        };
        assert_eq!(said("127.0.0.1:7\n"), SocketAddr::from(([127, 0, 0, 1], 7)));
        assert_eq!(said("[::1]:7\n").port(), 7);
        for elsewhere in ["192.0.2.1:9464\n", "192.0.2.2:9464\n", "10.0.0.1:80", "x", ""] {
            assert_eq!(said(elsewhere), configured, "{elsewhere}");
        }
        assert_eq!(said(&"1".repeat(1_000_000)), configured);
    }

    #[test]
    fn what_an_ai_puts_in_the_place_of_its_address_is_not_waited_for() {
        let dir = tempfile::tempdir().unwrap();
        let configured = SocketAddr::from(([127, 0, 0, 1], 9464));
        let (link, pipe) = (dir.path().join("link"), dir.path().join("pipe"));
        std::os::unix::fs::symlink("/dev/zero", &link).unwrap();
        let mode = rustix::fs::Mode::from_raw_mode(0o600);
        rustix::fs::mknodat(rustix::fs::CWD, &pipe, rustix::fs::FileType::Fifo, mode, 0).unwrap();
        assert_eq!([address(&link, configured), address(&pipe, configured)], [configured; 2]);
    }

    #[test]
    fn a_folder_of_another_owner_or_open_to_others_is_an_error() {
        let place = "/run/zeta-bft/agent-otto";
        assert_eq!(found(&tree().owner(place, 902, 902), &daemons(), &Ok(view())), [("run-owner", Level::Error)]);
        assert_eq!(found(&tree().mode(place, 0o775), &daemons(), &Ok(view())), [("run-mode", Level::Error)]);
        assert_eq!(found(&tree().mode("/run/zeta-bft", 0o777), &daemons(), &Ok(view())), [("run-mode", Level::Error)]);
    }

    #[test]
    fn a_folder_on_the_run_of_all_is_warned_of() {
        let shared = |tree: Tree| found(&tree, &daemons(), &Ok(view()));
        let other = "30 24 0:26 / /run/zeta-bft/agent-ottos rw,nosuid - tmpfs zeta-bft rw\n";
        assert_eq!(shared(tree().file("/proc/self/mountinfo", other)), [("run-shared", Level::Warning)]);
        assert_eq!(shared(tree().gone("/proc/self/mountinfo")), [("run-shared", Level::Skipped)]);
    }

    #[test]
    fn when_nobody_runs_that_is_said_once() {
        let mut all = daemons();
        all.iter_mut().for_each(|daemon| daemon.connected = Err(Unread::Absent));
        assert_eq!(found(&tree(), &all, &Err("nothing serves it".into())), [("not-running", Level::Error)]);
    }

    #[test]
    fn each_silent_daemon_is_told_by_what_it_means() {
        let silent = |at: usize, why: Unread| {
            let mut all = daemons();
            all[at].connected = Err(why);
            found(&tree(), &all, &Ok(view()))
        };
        assert_eq!(silent(0, Unread::Absent), [("socket-silent", Level::Error)]);
        assert_eq!(silent(1, Unread::Absent), [("socket-silent", Level::Error)]);
        assert_eq!(silent(2, Unread::Absent), [("socket-silent", Level::Warning)]);
        assert_eq!(silent(0, Unread::Denied), [("socket-silent", Level::Skipped)]);
    }

    #[test]
    fn a_warden_that_accepts_and_says_nothing_is_an_error() {
        assert_eq!(found(&tree(), &daemons(), &Err("no answer within 2 s".into())), [("warden-silent", Level::Error)]);
    }

    #[test]
    fn a_scrape_port_that_does_not_answer_is_a_warning() {
        let mut all = daemons();
        all[1].scrape.1 = Err("connection refused".into());
        assert_eq!(found(&tree(), &all, &Ok(view())), [("scrape-silent", Level::Warning)]);
    }

    #[test]
    fn an_agent_without_a_vote_is_told_with_the_reason() {
        let with = |change: fn(&mut PersonaView)| {
            let mut view = view();
            change(&mut view.personas[0]);
            found(&tree(), &daemons(), &Ok(view))
        };
        assert_eq!(with(|otto| otto.session = None), [("agent-no-session", Level::Error)]);
        assert_eq!(with(|otto| otto.live = false), [("agent-not-heard", Level::Error)]);
        assert_eq!(with(|otto| otto.quarantined = true), [("agent-quarantined", Level::Error)]);
        assert_eq!(with(|otto| otto.policy_matches = Some(false)), [("agent-other-policy", Level::Warning)]);
    }

    #[tokio::test]
    async fn a_socket_without_a_listener_is_absent() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("s");
        assert_eq!(connect(&path).await, Err(Unread::Absent));
        let listener = std::os::unix::net::UnixListener::bind(&path).unwrap();
        assert_eq!(connect(&path).await, Ok(()));
        drop(listener);
        assert_eq!(connect(&path).await, Err(Unread::Absent));
    }
}
