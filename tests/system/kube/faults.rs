//! What breaks a k3s, caused for real.

use super::{Answer, DATASTORE, Kube, TLS, Who};

/// Without it the API server does not start.
pub const SERVING_KEY: &str = "/var/lib/rancher/k3s/server/tls/serving-kube-apiserver.key";
/// Without it a kubelet does not start.
pub const KUBELET_KEY: &str = "/var/lib/rancher/k3s/agent/client-kubelet.key";

impl Kube {
    /// How long systemd waits before it restarts k3s.
    #[track_caller]
    pub fn restart_after(&self, time: &str) {
        let lines = format!(
            "mkdir -p /run/systemd/system/k3s.service.d && cd /run/systemd/system/k3s.service.d &&
             printf '[Service]\nRestartSec={time}\n' >restart.conf && systemctl daemon-reload"
        );
        self.sh(&lines).expect_ok();
    }

    /// Somebody else listens where the API server would, and speaks TLS. k3s is stopped for that.
    #[track_caller]
    pub fn squat_port(&self) {
        let lines = "set -e; systemctl stop k3s.service; cd /root
            openssl req -x509 -config TLS/openssl.cnf -extensions server -newkey ec -pkeyopt ec_paramgen_curve:P-256 \
                -nodes -days 30 -subj /CN=stranger -keyout stranger.key -out stranger.crt 2>/dev/null
            systemd-run --quiet --collect --unit=squatter --property=WorkingDirectory=/root \
                openssl s_server -accept 127.0.0.1:6443 -www -cert stranger.crt -key stranger.key";
        self.sh(&lines.replace("TLS", TLS)).expect_ok();
        self.await_until("a stranger answers", || self.get(Who::Stranger, "/livez").curl == 60);
    }

    /// The API server listens elsewhere from its next start, which is now.
    #[track_caller]
    pub fn listen_on(&self, port: u16) {
        self.sh(&format!("echo K3S_PORT={port} >/etc/default/k3s; systemctl restart k3s.service")).expect_ok();
    }

    /// Some user holds the port of the API server, takes every connection and says nothing.
    #[track_caller]
    pub fn squat_silently(&self) {
        let lines = "set -e; mkdir -p /run/squat; cd /run/squat
            openssl req -x509 -config TLS/openssl.cnf -extensions server -newkey ec -pkeyopt ec_paramgen_curve:P-256 \
                -nodes -days 30 -subj /CN=stranger -keyout stranger.key -out stranger.crt 2>/dev/null
            chown -R daemon .
            systemd-run --quiet --collect --unit=squatter --uid=daemon --property=WorkingDirectory=/run/squat \
                openssl s_server -accept 127.0.0.1:6443 -www -cert stranger.crt -key stranger.key";
        self.sh(&lines.replace("TLS", TLS)).expect_ok();
        self.await_until("a stranger answers", || self.get(Who::Stranger, "/livez").curl == 60);
        self.signal("squatter.service", "STOP");
    }

    /// The API server of another node, at 127.0.0.2, vouched for by the same CA. It says that it is well.
    #[track_caller]
    pub fn start_other(&self) {
        let lines = "set -e; cd /root
            { cat TLS/openssl.cnf; printf '[other]\nextendedKeyUsage = serverAuth\nsubjectAltName = IP:127.0.0.2\n'; } >other.cnf
            openssl req -new -config other.cnf -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -subj /CN=kube-apiserver \
                -keyout other.key |
            openssl x509 -req -CA TLS/server-ca.crt -CAkey TLS/server-ca.key -days 365 -extfile other.cnf -extensions other \
                -out other.crt
            systemd-run --quiet --collect --unit=other --property=WorkingDirectory=/root \
                openssl s_server -accept 127.0.0.2:6443 -www -cert other.crt -key other.key";
        self.sh(&lines.replace("TLS", TLS)).expect_ok();
    }

    /// From its next start k3s is this shell script.
    #[track_caller]
    pub fn replace_by(&self, script: &str) {
        std::fs::write(self.file("/usr/local/bin/instead"), script).expect("a script");
        let lines = "mkdir -p /run/systemd/system/k3s.service.d && cd /run/systemd/system/k3s.service.d &&
            printf '[Service]\nExecStart=\nExecStart=/bin/sh /usr/local/bin/instead\n' >instead.conf && systemctl daemon-reload";
        self.sh(lines).expect_ok();
    }

    /// k3s' own control group has four loops, and two that take all memory they can get: 400 MB each, again and again.
    #[track_caller]
    pub fn eat_everything(&self, seconds: u32) {
        let lines = format!(
            "group=/sys/fs/cgroup/system.slice/k3s.service/cgroup.procs; test -e $group
             eat() {{ (echo 0 >$group; exec timeout {seconds} sh -c \"$1\") >/dev/null 2>&1 & }}
             for number in 1 2 3 4; do eat 'while :; do :; done'; done
             for number in 1 2; do eat 'ulimit -v 400000; while :; do tail /dev/zero; done'; done"
        );
        self.sh(&lines).expect_ok();
    }

    /// The stranger goes.
    #[track_caller]
    pub fn free_port(&self) {
        // One that is stopped hears of no other signal.
        self.sh("systemctl kill -s KILL squatter.service; systemctl stop squatter.service");
    }

    /// A file that has nothing in it, as a full disk leaves it.
    #[track_caller]
    pub fn empty(&self, file: &str) {
        self.sh(&format!("cp -p {file} {file}.whole && truncate -s 0 {file}")).expect_ok();
    }

    /// What [`Kube::empty`] emptied is whole again.
    #[track_caller]
    pub fn refill(&self, file: &str) {
        self.ask(&["mv", &format!("{file}.whole"), file]);
    }

    /// The API server runs with a certificate that ends after so many days; with 0 it has ended. The machine's clock is right.
    /// It is renewed by the next start, as k3s does it.
    #[track_caller]
    pub fn serve_for_days(&self, days: u32) {
        let lines = format!(
            "set -e; cd {TLS}; touch /run/k3s-renews-nothing
             openssl req -new -config openssl.cnf -key serving-kube-apiserver.key -subj /CN=kube-apiserver |
             openssl x509 -req -CA server-ca.crt -CAkey server-ca.key -days {days} -extfile openssl.cnf -extensions server \
                 -out serving-kube-apiserver.crt
             systemctl restart k3s.service; rm /run/k3s-renews-nothing"
        );
        self.sh(&lines).expect_ok();
    }

    /// Another authority signs what the API server shows from its next start; the pinned one is the old one.
    #[track_caller]
    pub fn rotate_ca(&self) {
        self.sh(&format!("set -e; cd {TLS}; rm server-ca.* serving-kube-apiserver.crt; systemctl restart k3s.service"))
            .expect_ok();
    }

    /// Nobody who probes is known any longer.
    #[track_caller]
    pub fn forget_probes(&self) {
        let lines = format!(
            "openssl req -x509 -config {TLS}/openssl.cnf -extensions ca -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes \
                 -days 30 -subj /CN=other -keyout /root/other.key -out /root/other.crt"
        );
        self.sh(&lines).expect_ok();
        self.let_probes_in("/root/other");
    }

    /// Pages of the datastore's file are noise. The datastore is restarted, and does not start.
    #[track_caller]
    pub fn damage_datastore(&self) {
        let lines = format!(
            "systemctl stop etcd.service; cd {DATASTORE}/etcd/member/snap && cp db /root/db.whole &&
             dd if=/dev/urandom of=db bs=4096 seek=2 count=40 conv=notrunc status=none; systemctl start etcd.service"
        );
        self.sh(&lines);
    }

    /// As it was before [`Kube::damage_datastore`].
    #[track_caller]
    pub fn mend_datastore(&self) {
        let lines = format!(
            "systemctl stop etcd.service; mv /root/db.whole {DATASTORE}/etcd/member/snap/db; systemctl start etcd.service"
        );
        self.sh(&lines).expect_ok();
    }

    /// The datastore gets a disk of its own. Before [`Kube::start`].
    #[track_caller]
    pub fn give_small_disk(&self, megabytes: u32) {
        let lines = format!("mkdir -p {DATASTORE} && mount -t tmpfs -o size={megabytes}M,mode=700 tmpfs {DATASTORE}");
        self.sh(&lines).expect_ok();
    }

    /// Not a byte is left on it.
    #[track_caller]
    pub fn fill_disk(&self) {
        let filled = self.sh(&format!("dd if=/dev/zero of={DATASTORE}/filler bs=4k 2>/dev/null"));
        assert!(!filled.ok(), "the disk is not full");
    }

    /// There is room again.
    #[track_caller]
    pub fn clear_disk(&self) {
        self.ask(&["rm", &format!("{DATASTORE}/filler")]);
    }

    /// The datastore is restarted, and takes no more than this.
    #[track_caller]
    pub fn limit_datastore(&self, bytes: u64) {
        let lines = format!(
            "mkdir -p /run/systemd/system/etcd.service.d &&
             printf '[Service]\nEnvironment=ETCD_QUOTA_BACKEND_BYTES={bytes}\n' >/run/systemd/system/etcd.service.d/quota.conf &&
             systemctl daemon-reload && systemctl restart etcd.service"
        );
        self.sh(&lines).expect_ok();
    }

    /// A unit that k3s requires, and that fails.
    #[track_caller]
    pub fn refuse_preflight(&self) {
        let lines = "cd /run/systemd/system && mkdir -p k3s.service.d &&
            printf '[Service]\nType=oneshot\nExecStart=/bin/false\n' >preflight.service &&
            printf '[Unit]\nRequires=preflight.service\nAfter=preflight.service\n' >k3s.service.d/preflight.conf &&
            systemctl daemon-reload";
        self.sh(lines).expect_ok();
    }

    /// Writes a tenth of a megabyte into the datastore, through the API server.
    pub fn write_much(&self, name: &str) -> Answer {
        let much = "x".repeat(100_000);
        let object = format!(
            r#"{{"apiVersion":"v1","kind":"ConfigMap","metadata":{{"name":"{name}"}},"data":{{"much":"{much}"}}}}"#
        );
        let kind = "Content-Type: application/json";
        let url = "https://127.0.0.1:6443/api/v1/namespaces/default/configmaps";
        self.call(Who::Admin, &["-H", kind, "--data-binary", &object, url])
    }
}
