//! A node with a real kube-apiserver under `k3s.service` and a real etcd beside it.
//!
//! k3s itself comes from no package registry; what answers on its port does. `k3s.sh` stands where k3s stands: it lays out
//! certificates as k3s does and *becomes* the API server, so that the unit's main process is the one that answers, and what the
//! journal shows is what Kubernetes itself says. Absent: the supervisor (`/ping` is 404 here, `pong` there), kube-proxy,
//! controllers, containers, and of the kubelet all but its health port, which a stand-in answers. The node's object is made by [`Kube::set_ready`], by nobody else.

mod faults;
mod seen;

pub use faults::{KUBELET_KEY, SERVING_KEY};
pub use seen::subject;

use crate::lab::{Lab, Layer, Unfit, await_true, run};
use crate::node::{Config, Node, PATIENCE};
use crate::stage::{COUNTED, Stage};
use std::ops::Deref;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::sync::OnceLock;
use std::time::Duration;

const BUILD: &str = include_str!("build.sh");
const LAUNCHER: &str = include_str!("k3s.sh");
const UNIT: &str = include_str!("k3s.service");
const ETCD: &str = include_str!("etcd.service");
const KUBELET: [(&str, &str); 2] =
    [("kubelet.socket", include_str!("kubelet.socket")), ("kubelet@.service", include_str!("kubelet@.service"))];
/// As the package ships it.
const RBAC: &str = include_str!("../../../deploy/k3s/rbac.yaml");
/// All that k3s keeps for itself as a server.
pub const TLS: &str = "/var/lib/rancher/k3s/server/tls";
/// Where the datastore lies.
pub const DATASTORE: &str = "/var/lib/rancher/k3s/server/db";
/// The pinned CA and the narrow credential of those who probe: `ca.crt`, `client.crt`, `client.key`.
pub const CREDENTIAL: &str = "/etc/zeta-bft/k3s";
const FETCH_LIMIT: Duration = Duration::from_secs(15 * 60);
/// Two idle cores need five minutes.
const BUILD_LIMIT: Duration = Duration::from_secs(45 * 60);

/// kube-apiserver, etcd and openssl, from the cache or from Debian (`$ZETA_BFT_MIRROR`) and a compiler.
///
/// # Errors
/// [`Unfit::NotFetched`] without the network.
pub fn layer(lab: &Lab) -> Result<Layer, Unfit> {
    // Tried once: where there is no network, every try takes its time.
    static LAYER: OnceLock<Result<Layer, Unfit>> = OnceLock::new();
    LAYER.get_or_init(|| lab.cached("kube", &[BUILD], make)).clone()
}

fn make(place: &Path) -> Result<(), Unfit> {
    let root = place.to_str().ok_or_else(|| Unfit::NotHere("the cache's path is no text".to_owned()))?;
    let mirror = std::env::var("ZETA_BFT_MIRROR").unwrap_or_else(|_| "http://deb.debian.org/debian".to_owned());
    eprintln!("system tests: building Debian's kube-apiserver, once, some minutes, into {root}");
    let fetched = run(FETCH_LIMIT, &["sh", "-c", BUILD, "build.sh", "fetch", root, &mirror]);
    if !fetched.ok() {
        let why = fetched.err.lines().find(|line| line.starts_with("E:")).unwrap_or("it took too long");
        println!("system tests of k3s skipped: {why}");
        return Err(Unfit::NotFetched(format!("Debian's kubernetes cannot be fetched: {why}")));
    }
    let built = run(BUILD_LIMIT, &["nice", "-n", "19", "sh", "-c", BUILD, "build.sh", "build", root]);
    if built.ok() { Ok(()) } else { Err(Unfit::Broken(format!("Debian's kubernetes cannot be built: {}", built.err))) }
}

/// Puts the stand-in for a kubelet's health port onto a machine that does not run: `kubelet.socket`.
///
/// # Errors
/// Those of the file system.
pub fn prepare_kubelet(machine: &crate::lab::Machine<'_>) -> Result<(), Unfit> {
    KUBELET.iter().try_for_each(|(name, text)| machine.prepare(&format!("/etc/systemd/system/{name}"), text))
}

/// Who asks the API server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Who {
    /// Nobody it knows.
    Stranger,
    /// The narrow credential.
    Probe,
    /// `system:masters`.
    Admin,
}

/// What came of asking.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    /// The HTTP status; 0 without one.
    pub status: u16,
    /// curl's exit status: 7 refused, 28 silent, 60 not vouched for.
    pub curl: i32,
    pub body: String,
}

/// The node. Everything that holds for a [`Node`] holds for it.
#[derive(Debug)]
pub struct Kube {
    node: Node,
}

impl Deref for Kube {
    type Target = Node;
    fn deref(&self) -> &Self::Target {
        &self.node
    }
}

impl Kube {
    /// A node whose committee was seen healthy, with an API server that is ready.
    ///
    /// # Errors
    /// [`Unfit`] when no machine could be had.
    pub fn with(stage: &'static Stage, config: &Config) -> Result<Self, Unfit> {
        Self::with_place(stage, config, |_| {})
    }

    /// The same, with something done before it starts.
    ///
    /// # Errors
    /// [`Unfit`] when no machine could be had.
    pub fn with_place(stage: &'static Stage, config: &Config, before: impl FnOnce(&Self)) -> Result<Self, Unfit> {
        let machine = stage.with_committee_under(&[&layer(&stage.lab)?])?;
        Self::prepare(&machine)?;
        let kube = Self { node: Node::set_up(machine, config)? };
        kube.executable()?;
        before(&kube);
        kube.start();
        kube.await_healthy();
        Ok(kube)
    }

    /// A node without a committee, whose API server does not run yet.
    ///
    /// # Errors
    /// [`Unfit`] when no machine could be had.
    pub fn alone(stage: &'static Stage, name: &str) -> Result<Self, Unfit> {
        let machine = stage.lab.machine(name, &[&layer(&stage.lab)?, &stage.debian])?;
        Self::prepare(&machine)?;
        machine.boot()?;
        let kube = Self { node: Node::on(machine) };
        kube.executable()?;
        Ok(kube)
    }

    fn prepare(machine: &crate::lab::Machine<'_>) -> Result<(), Unfit> {
        machine.prepare("/usr/local/bin/k3s", LAUNCHER)?;
        machine.prepare("/etc/systemd/system/k3s.service", UNIT)?;
        machine.prepare("/etc/systemd/system/k3s.service.d/counted.conf", COUNTED)?;
        prepare_kubelet(machine)?;
        machine.prepare("/etc/systemd/system/etcd.service", ETCD)
    }

    fn executable(&self) -> Result<(), Unfit> {
        Ok(std::fs::set_permissions(self.file("/usr/local/bin/k3s"), std::fs::Permissions::from_mode(0o755))?)
    }

    /// Starts datastore and API server, waits until it is ready, and lets the probes in.
    #[track_caller]
    pub fn start(&self) {
        self.ask(&["systemctl", "enable", "--now", "etcd.service"]);
        self.ask(&["systemctl", "start", "kubelet.socket"]);
        self.start_k3s();
        self.apply(RBAC);
        self.let_probes_in(&format!("{TLS}/client-ca"));
    }

    /// Starts the API server, and waits until it is ready.
    #[track_caller]
    pub fn start_k3s(&self) {
        self.ask(&["systemctl", "enable", "--now", "k3s.service"]);
        self.await_until("the API server is ready", || self.get(Who::Admin, "/readyz").status == 200);
    }

    /// Issues the narrow credential by this CA, and pins the CA of the server.
    #[track_caller]
    pub fn let_probes_in(&self, ca: &str) {
        let lines = format!(
            "set -e; mkdir -p {CREDENTIAL}; cd {CREDENTIAL}; cp {TLS}/server-ca.crt ca.crt
             openssl req -new -config {TLS}/openssl.cnf -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes \
                 -subj /O=zeta-bft/CN=zeta-bft:$(hostname) -keyout client.key |
             openssl x509 -req -CA {ca}.crt -CAkey {ca}.key -days 365 -extfile {TLS}/openssl.cnf -extensions client \
                 -out client.crt
             chmod 644 ca.crt client.crt
             if getent group zeta-bft-agents; then chgrp zeta-bft-agents client.key; chmod 640 client.key; fi"
        );
        self.sh(&lines).expect_ok();
    }

    /// Asks the API server for a path, for at most 3 s: it needs two to say that its datastore is silent.
    pub fn get(&self, who: Who, path: &str) -> Answer {
        self.call(who, &[&format!("https://127.0.0.1:6443{path}")])
    }

    /// Makes every object of a YAML file, by the administrator.
    #[track_caller]
    pub fn apply(&self, yaml: &str) {
        for object in yaml.split("\n---\n") {
            let kind = |kind: &str| object.lines().any(|line| line == format!("kind: {kind}"));
            let place = match () {
                () if kind("ClusterRole") => "/apis/rbac.authorization.k8s.io/v1/clusterroles",
                () if kind("ClusterRoleBinding") => "/apis/rbac.authorization.k8s.io/v1/clusterrolebindings",
                () => panic!("no place is known for this: {object}"),
            };
            self.send("POST", "application/yaml", place, object);
        }
    }

    /// Says that the node's kubelet is well, or not; makes the node's object when there is none.
    #[track_caller]
    pub fn set_ready(&self, ready: bool) {
        let name = self.ask(&["hostname"]);
        let nodes = "/api/v1/nodes";
        if self.get(Who::Admin, &format!("{nodes}/{name}")).status == 404 {
            let object = format!(r#"{{"apiVersion":"v1","kind":"Node","metadata":{{"name":"{name}"}}}}"#);
            self.send("POST", "application/json", nodes, &object);
        }
        let word = if ready { "True" } else { "False" };
        let status =
            format!(r#"{{"status":{{"conditions":[{{"type":"Ready","status":"{word}","reason":"Claimed"}}]}}}}"#);
        let place = format!("{nodes}/{name}/status");
        self.send("PATCH", "application/strategic-merge-patch+json", &place, &status);
    }

    #[track_caller]
    fn send(&self, method: &str, kind: &str, path: &str, body: &str) {
        let said = format!("Content-Type: {kind}");
        let url = format!("https://127.0.0.1:6443{path}");
        let answer = self.call(Who::Admin, &["-X", method, "-H", &said, "--data-binary", body, &url]);
        assert!([200, 201].contains(&answer.status), "{method} {path}: {answer:?}");
    }

    /// Asks by curl with these words, for at most 3 s.
    pub fn call(&self, who: Who, words: &[&str]) -> Answer {
        let (cert, key) = match who {
            Who::Admin => (format!("{TLS}/client-admin.crt"), format!("{TLS}/client-admin.key")),
            Who::Probe | Who::Stranger => (format!("{CREDENTIAL}/client.crt"), format!("{CREDENTIAL}/client.key")),
        };
        let pinned = if who == Who::Admin { format!("{TLS}/server-ca.crt") } else { format!("{CREDENTIAL}/ca.crt") };
        let mut all = vec!["curl", "-s", "--max-time", "3", "--cacert", &pinned, "-w", "\n%{http_code}"];
        if who != Who::Stranger {
            all.extend(["--cert", &cert, "--key", &key]);
        }
        all.extend(words);
        let done = self.exec(&all);
        let (body, status) = done.out.rsplit_once('\n').unwrap_or_default();
        Answer { status: status.parse().unwrap_or(0), curl: done.code, body: body.to_owned() }
    }

    /// What a unit has written since a moment that [`Kube::moment`] gave; since ever, without one.
    pub fn said(&self, unit: &str, since: &str) -> String {
        let all = ["journalctl", "--no-pager", "-o", "cat", "-u", unit];
        if since.is_empty() {
            self.exec(&all).out
        } else {
            self.exec(&[&all[..], &["--after-cursor", since]].concat()).out
        }
    }

    /// This moment in the journal.
    pub fn moment(&self) -> String {
        let shown = self.ask(&["sh", "-c", "journalctl --sync; journalctl -q -n 1 --show-cursor"]);
        shown.rsplit_once("cursor: ").map_or("", |(_, cursor)| cursor).trim().to_owned()
    }

    /// Waits until a unit wrote a line with these words, and gives that line.
    #[track_caller]
    pub fn await_line(&self, unit: &str, since: &str, words: &str) -> String {
        let mut line = None;
        let found = await_true(PATIENCE, || {
            line = self.said(unit, since).lines().find(|line| line.contains(words)).map(str::to_owned);
            line.is_some()
        });
        assert!(found, "{unit} never wrote `{words}`, but:\n{}", self.said(unit, since));
        line.unwrap_or_default()
    }
}
