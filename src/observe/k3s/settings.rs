//! What the observer of k3s looks at, and as whom.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

/// Whether the node runs the control plane.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// `k3s.service`: it has an API server of its own.
    Server,
    /// `k3s-agent.service`: it has none, and asks one of the servers through k3s' own balancer on loopback.
    Agent,
}

/// As whom the API server is asked. Narrow: it needs to read `/ping`, `/livez`, `/readyz` and this node's object, no more.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Credential {
    /// As nobody: most answers are then 401, which says that somebody answers and no more.
    Nobody,
    /// A bearer token.
    Token {
        /// The file that holds it, on one line.
        file: PathBuf,
    },
    /// A client certificate.
    Certificate {
        /// PEM: the certificate, and those above it if its CA is not the root.
        certificate: PathBuf,
        /// PEM: its private key.
        key: PathBuf,
    },
}

/// The whole of what [`super::Observer`] needs to know.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct K3sSettings {
    /// What the node is: decides which probes are made.
    pub role: Role,
    /// Where `https` is spoken, on loopback. Server: `127.0.0.1:6443`. Agent: `127.0.0.1:6444`, k3s' balancer, which is asked
    /// for the node's object only.
    pub address: SocketAddr,
    /// PEM: who may vouch for an API server. Server: `/var/lib/rancher/k3s/server/tls/server-ca.crt`; agent:
    /// `/var/lib/rancher/k3s/agent/server-ca.crt`. Neither folder is open to others than root: name a copy for an observer
    /// without privilege. It is read again when it changes.
    pub ca: PathBuf,
    /// As whom. Files are read again when they change. Default: nobody.
    pub credential: Credential,
    /// The name of this node's object. Default `None`: the Ready condition is not looked at.
    pub node: Option<String>,
    /// The kubelet's health port, on loopback: `127.0.0.1:10248`. `None` where a server runs no kubelet.
    pub kubelet: Option<SocketAddr>,
    /// kube-proxy's health port, on loopback: `127.0.0.1:10256`. `None` where it is disabled.
    pub kube_proxy: Option<SocketAddr>,
    /// Whose listening sockets on loopback are k3s': 0, root. Somebody else's are a stranger's. `None`: not looked at.
    pub listener_uid: Option<u32>,
    /// Paths whose file systems k3s needs. Default: [`K3sSettings::MOUNTS`]. Two on one file system are one.
    pub mounts: Vec<PathBuf>,
    /// The agent's folder, where empty keys are looked for: `/var/lib/rancher/k3s/agent`.
    pub agent_folder: PathBuf,
    /// Further certificates (PEM files) whose end is looked at, beside the CA, those in the agent's folder and the one that
    /// port 6443 shows. Default: none.
    pub certificates: Vec<PathBuf>,
    /// API servers of other nodes of the cluster, vouched for by the same CA. Asked only while this node is not well.
    pub others: Vec<SocketAddr>,
    /// Whether to ask `timedate1` on the system bus whether the clock is synchronised. Default: yes.
    pub clock: bool,
    /// From one look to the next: 5 s.
    pub interval: Duration,
    /// Longest wait of one probe: 2 s. `/readyz` has a quarter more: an API server waits 2 s for its datastore before it says that
    /// this is what fails, and to know that is to know better than to restart it.
    pub limit: Duration,
}

/// Settings that contradict themselves.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SettingsError {
    /// An address is not written as it should be.
    #[error(
        "`{0}` is no address of an API server: write `https://` and an IP address with a port, such as https://127.0.0.1:6443"
    )]
    Address(String),
    /// A port of this node is looked for elsewhere.
    #[error("{0} is not on loopback: k3s of this very node is looked at, nothing else")]
    NotLoopback(SocketAddr),
    /// The name could not stand in a path.
    #[error("`{0}` is no name of a node: 1 to 253 of a-z, 0-9, `-`, `.`")]
    NodeName(String),
    /// A look would not be over before the next.
    #[error(
        "a look takes up to {longest:?} with a limit of {limit:?}: it must be more than zero and fit into the interval of {interval:?}"
    )]
    Limit {
        /// As it would be.
        longest: Duration,
        /// Of one probe.
        limit: Duration,
        /// Between looks.
        interval: Duration,
    },
}

impl K3sSettings {
    /// Where k3s writes: its data, the kubelet's, and logs.
    pub const MOUNTS: [&str; 3] = ["/var/lib/rancher/k3s", "/var/lib/kubelet", "/var/log"];
    /// How long a look waits for files before it goes on without them.
    pub(super) const FILES_WAIT: Duration = Duration::from_millis(100);

    /// The defaults of a role.
    pub fn new(role: Role) -> Self {
        let loopback = |port| SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), port);
        let (port, ca) = match role {
            Role::Server => (6443, "/var/lib/rancher/k3s/server/tls/server-ca.crt"),
            Role::Agent => (6444, "/var/lib/rancher/k3s/agent/server-ca.crt"),
        };
        Self {
            role,
            address: loopback(port),
            ca: ca.into(),
            credential: Credential::Nobody,
            node: None,
            kubelet: Some(loopback(10248)),
            kube_proxy: Some(loopback(10256)),
            listener_uid: Some(0),
            mounts: Self::MOUNTS.map(PathBuf::from).to_vec(),
            agent_folder: "/var/lib/rancher/k3s/agent".into(),
            certificates: Vec::new(),
            others: Vec::new(),
            clock: true,
            interval: Duration::from_secs(5),
            limit: Duration::from_secs(2),
        }
    }

    /// Reads `https://127.0.0.1:6443`. No names: who resolves them could be down with the cluster.
    ///
    /// # Errors
    /// [`SettingsError::Address`].
    pub fn parse_address(text: &str) -> Result<SocketAddr, SettingsError> {
        let rest = text.strip_prefix("https://").map(|rest| rest.strip_suffix('/').unwrap_or(rest));
        rest.and_then(|rest| rest.parse().ok()).ok_or_else(|| SettingsError::Address(text.chars().take(80).collect()))
    }

    /// How long a look can take.
    pub fn longest_look(&self) -> Duration {
        // Files may be asked a second time.
        Self::FILES_WAIT * 2 + self.patience() + self.readyz_limit()
    }

    /// The limit of `/readyz`.
    pub(super) fn readyz_limit(&self) -> Duration {
        self.limit + self.limit / 4
    }

    /// How long a probe waits for the connection that another one uses, before it makes its own.
    pub(super) fn patience(&self) -> Duration {
        self.limit / 10
    }

    /// Checks what no type can say.
    ///
    /// # Errors
    /// [`SettingsError`], of the first that is wrong.
    pub fn check(&self) -> Result<(), SettingsError> {
        let own = [Some(self.address), self.kubelet, self.kube_proxy];
        if let Some(far) = own.into_iter().flatten().find(|address| !address.ip().is_loopback()) {
            return Err(SettingsError::NotLoopback(far));
        }
        if let Some(name) = &self.node
            && !(1..=253).contains(&name.len())
                | !name.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || matches!(b, b'-' | b'.'))
        {
            return Err(SettingsError::NodeName(name.chars().take(80).collect()));
        }
        let longest = self.longest_look();
        if self.limit.is_zero() || longest > self.interval {
            return Err(SettingsError::Limit { longest, limit: self.limit, interval: self.interval });
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_defaults_of_both_roles_are_consistent() {
        for role in [Role::Server, Role::Agent] {
            K3sSettings::new(role).check().unwrap();
        }
        // The voters' challenge is 3 s: a look that it triggers is over by then.
        assert!(K3sSettings::new(Role::Server).longest_look() < Duration::from_secs(3));
    }

    #[test]
    fn an_address_is_https_and_a_number() {
        assert_eq!(K3sSettings::parse_address("https://127.0.0.1:6443").unwrap().port(), 6443);
        assert!(K3sSettings::parse_address("https://[::1]:6443/").is_ok());
        for wrong in ["http://127.0.0.1:6443", "127.0.0.1:6443", "https://localhost:6443", "https://127.0.0.1", ""] {
            assert!(K3sSettings::parse_address(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn what_contradicts_itself_is_refused() {
        let wrong = |change: fn(&mut K3sSettings)| {
            let mut settings = K3sSettings::new(Role::Server);
            change(&mut settings);
            settings.check().unwrap_err()
        };
        assert!(matches!(wrong(|s| s.address.set_ip([10, 0, 0, 1].into())), SettingsError::NotLoopback(_)));
        assert!(matches!(wrong(|s| s.node = Some("../secrets".into())), SettingsError::NodeName(_)));
        assert!(matches!(wrong(|s| s.node = Some(String::new())), SettingsError::NodeName(_)));
        assert!(matches!(wrong(|s| s.limit = Duration::from_secs(4)), SettingsError::Limit { .. }));
        assert!(matches!(wrong(|s| s.limit = Duration::ZERO), SettingsError::Limit { .. }));
    }
}
