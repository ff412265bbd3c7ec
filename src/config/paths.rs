//! Where everything lies: `/etc`, `/var/lib` and `/run`, or one folder with `--dir`.
//!
//! Each daemon writes below folders of its own in `run` and `state` (`warden`, `agent-otto`, `wrap-otto`), so that on a node
//! each can belong to the daemon's user and nobody can put a socket in another's place.

use crate::protocol::types::{PersonaId, SubjectName};
use std::path::{Path, PathBuf};

/// The folders and files of one node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Paths {
    config: PathBuf,
    state: PathBuf,
    run: PathBuf,
    dir: Option<PathBuf>,
}

impl Paths {
    /// The node's own places.
    pub fn system() -> Self {
        Self {
            config: "/etc/zeta-bft".into(),
            state: "/var/lib/zeta-bft".into(),
            run: "/run/zeta-bft".into(),
            dir: None,
        }
    }

    /// The places that a command without `--dir` means: the node's own, unless this machine has no configuration there and
    /// `zeta-bft up` has left a committee in this user's state folder.
    pub fn found() -> Self {
        let system = Self::system();
        match Self::of_up() {
            Some(up) if !system.node_toml().exists() && up.node_toml().exists() => up,
            _ => system,
        }
    }

    /// The folder that `zeta-bft up` takes without `--dir`: `$XDG_STATE_HOME/zeta-bft`, or `~/.local/state/zeta-bft`. `None`
    /// when neither variable names an absolute path.
    pub fn of_up() -> Option<Self> {
        let absolute = |name| std::env::var_os(name).map(PathBuf::from).filter(|path| path.is_absolute());
        let state = absolute("XDG_STATE_HOME").or_else(|| Some(absolute("HOME")?.join(".local/state")))?;
        Some(Self::below(&state.join("zeta-bft")))
    }

    /// Everything below one folder.
    pub fn below(dir: &Path) -> Self {
        Self { config: dir.join("etc"), state: dir.join("state"), run: dir.join("run"), dir: Some(dir.to_owned()) }
    }

    /// The folder given with `--dir`, if one was.
    pub fn dir(&self) -> Option<&Path> {
        self.dir.as_deref()
    }
    /// `node.toml`, `roster`, `conf.d/`.
    pub fn config(&self) -> &Path {
        &self.config
    }
    /// Journal and what agents keep.
    pub fn state(&self) -> &Path {
        &self.state
    }
    /// Sockets.
    pub fn run(&self) -> &Path {
        &self.run
    }
    /// The main configuration file.
    pub fn node_toml(&self) -> PathBuf {
        self.config.join("node.toml")
    }
    /// Further configuration, in order of name.
    pub fn conf_d(&self) -> PathBuf {
        self.config.join("conf.d")
    }
    /// The signed roster: one encoded envelope.
    pub fn roster(&self) -> PathBuf {
        self.config.join("roster")
    }
    /// A roster that was in force before.
    pub fn roster_of(&self, epoch: u64) -> PathBuf {
        self.config.join(format!("roster.{epoch}"))
    }
    /// Key files: PKCS#8 PEM, mode 0600.
    pub fn keys(&self) -> PathBuf {
        self.config.join("keys")
    }
    /// The warden's key.
    pub fn warden_key(&self) -> PathBuf {
        self.keys().join("warden.pem")
    }
    /// The operator's key: belongs offline once the roster is signed.
    pub fn operator_key(&self) -> PathBuf {
        self.keys().join("operator.pem")
    }
    /// A persona's key.
    pub fn persona_key(&self, persona: &PersonaId) -> PathBuf {
        self.keys().join(format!("{persona}.pem"))
    }
    /// The key of the CA that signs certificates for TCP: belongs offline, beside the operator's.
    pub fn ca_key(&self) -> PathBuf {
        self.keys().join("ca.pem")
    }
    /// Certificates for TCP; everybody may read them.
    pub fn tls(&self) -> PathBuf {
        self.config.join("tls")
    }
    /// The certificate of that CA.
    pub fn tls_ca(&self) -> PathBuf {
        self.tls().join("ca.crt")
    }
    /// The certificate of a persona's agent, by the persona's name.
    pub fn tls_certificate(&self, persona: &str) -> PathBuf {
        self.tls().join(format!("{persona}.crt"))
    }
    /// A certificate for each of those who may look over TCP; one that is taken away counts no more.
    pub fn tls_inspectors(&self) -> PathBuf {
        self.tls().join("inspectors")
    }
    /// The warden's journal.
    pub fn journal(&self) -> PathBuf {
        self.state.join("warden/warden.journal")
    }
    /// The highest receipt that an agent has seen.
    pub fn last_receipt(&self, persona: &PersonaId) -> PathBuf {
        self.state.join(format!("agent-{persona}/last.receipt"))
    }
    /// The warden's socket for agents and wrappers: `WardenService`.
    pub fn warden_socket(&self) -> PathBuf {
        self.run.join("warden/warden.sock")
    }
    /// The warden's socket for anybody who may look: `InspectService`.
    pub fn inspect_socket(&self) -> PathBuf {
        self.run.join("warden/inspect.sock")
    }
    /// The warden's socket for root: `OperatorService`.
    pub fn operator_socket(&self) -> PathBuf {
        self.run.join("warden/operator.sock")
    }
    /// An agent's socket: `PeerService`, `InspectService`.
    pub fn agent_socket(&self, persona: &PersonaId) -> PathBuf {
        self.run.join(format!("agent-{persona}/agent.sock"))
    }
    /// A wrapper's socket: `WrapperService`.
    pub fn wrapper_socket(&self, persona: &PersonaId) -> PathBuf {
        self.run.join(format!("wrap-{persona}/wrap.sock"))
    }
    /// Where `up` plays PID 1.
    pub fn pid1_socket(&self) -> PathBuf {
        self.run.join("pid1.sock")
    }
    /// Where a daemon writes the address that its scrape port got (`warden`, `agent-otto`, `wrap-otto`).
    pub fn metrics_address(&self, daemon: &str) -> PathBuf {
        self.run.join(daemon).join("metrics")
    }
    /// Where a rung that PID 1 runs for the warden leaves what it printed.
    pub fn rung_output(&self, instance: &str) -> PathBuf {
        self.run.join("rung").join(instance)
    }
    /// Where the hand takes the warden's orders; systemd listens there for it.
    pub fn hand_socket(&self) -> PathBuf {
        self.run.join("hand.sock")
    }
    /// Where the lookout publishes what it sees of a subject.
    pub fn lookout(&self, subject: &SubjectName) -> PathBuf {
        // A name may hold a `/`, and never an `@`.
        self.run.join("lookout").join(format!("{}.json", subject.as_str().replace('/', "@")))
    }
    /// Where the warden leaves a page for the unit that sends it.
    pub fn page(&self, instance: &str) -> PathBuf {
        self.run.join("warden/pages").join(instance)
    }
}
