//! The lookout: what it tells agents of a k3s that they may not look at themselves, and what it cannot do.

use crate::kube::{KUBELET_KEY, Kube, SERVING_KEY};
use crate::lab::Unfit;
use crate::node::Config;
use crate::stage::Stage;
use serde_json::Value;

super::claims! {
    the_lookout_tells_agents_what_root_alone_may_read_and_writes_nothing_else,
}

const SUBJECT: &str = "[subjects.k3s]\nkind = \"k3s\"\n";
const UNIT: &str = "zeta-bft-lookout.service";
const AGENT: &str = "zeta-bft-otto";
const SECRET: &str = "hunter2hunter2";

fn the_lookout_tells_agents_what_root_alone_may_read_and_writes_nothing_else(
    stage: &'static Stage,
) -> Result<(), Unfit> {
    let kube = Kube::with(stage, &Config::observing().with(SUBJECT))?;
    kube.ask(&["chmod", "700", "/var/lib/rancher/k3s/agent"]);
    kube.await_until("the lookout", || kube.unit(UNIT).runs());
    sees_what_agents_may_not(&kube);
    tells_the_line_that_k3s_ended_by(&kube);
    is_closed(&kube);
    kube.ask(&["systemctl", "stop", UNIT]);
    let doctor = kube.exec(&["zeta-bft", "doctor"]);
    assert!(doctor.out.contains(UNIT) && doctor.out.contains("published nothing"), "{doctor}");
    // It comes back with the warden.
    kube.ask(&["systemctl", "restart", "zeta-bft-warden.service"]);
    kube.await_until("the lookout", || kube.unit(UNIT).runs());
    Ok(())
}

/// What an agent reads.
fn told(kube: &Kube) -> Value {
    let read = kube.exec_as(AGENT, &["cat", "/run/zeta-bft/lookout/k3s.json"]);
    serde_json::from_str(read.expect_ok()).expect("JSON")
}

fn sees_what_agents_may_not(kube: &Kube) {
    for words in [&["cat", KUBELET_KEY][..], &["ls", "/var/lib/rancher/k3s/agent"]] {
        let denied = kube.exec_as(AGENT, words);
        assert!(denied.err.contains("Permission denied"), "{denied}");
    }
    let log = kube.exec_as(AGENT, &["journalctl", "-q", "-u", "k3s.service"]);
    assert_eq!(log.out, "");

    let first = told(kube);
    assert_eq!(first["files"]["empty_files"], serde_json::json!([]), "{first}");
    kube.await_until("the run is known", || {
        let run = &told(kube)["run"];
        run["invocation"] == kube.unit("k3s.service").run() && run["goes_on"] == true
    });
    kube.empty(KUBELET_KEY);
    kube.await_until("the empty key is told of", || {
        told(kube)["files"]["empty_files"] == serde_json::json!([KUBELET_KEY])
    });
    kube.refill(KUBELET_KEY);
    kube.await_until("it is whole again", || told(kube)["files"]["empty_files"] == serde_json::json!([]));
}

fn tells_the_line_that_k3s_ended_by(kube: &Kube) {
    assert_eq!(told(kube)["fatal"], Value::Null);
    let ends_by = |words: &str| {
        assert!(!kube.exec(&["systemctl", "start", "k3s.service"]).ok(), "it started in spite of `{words}`");
        let run = kube.unit("k3s.service").run().to_owned();
        kube.await_until(words, || {
            let told = told(kube);
            let line = told["fatal"]["line"].as_str().unwrap_or_default();
            line.contains(words) && told["run"]["goes_on"] == false
        });
        // systemd may have tried again meanwhile.
        let told = told(kube);
        assert!(told["fatal"]["run"] == run.as_str() || kube.unit("k3s.service").run() != run, "{told}");
        kube.sh("systemctl stop k3s.service; systemctl reset-failed k3s.service");
    };
    kube.ask(&["systemctl", "stop", "k3s.service"]);
    kube.empty(SERVING_KEY);
    ends_by("Error: missing content for serving cert");
    kube.refill(SERVING_KEY);

    // What is in the log is not what everybody reads.
    let says = format!("time=x level=fatal msg=token:K10{}::server:{SECRET},refused", "0a".repeat(32));
    let lines = format!(
        "cd /run/systemd/system && mkdir -p k3s.service.d && cat >k3s.service.d/says.conf <<'END' && systemctl daemon-reload
[Service]
ExecStartPre=/bin/sh -c 'echo \"{says}\"; exit 1'
END"
    );
    kube.sh(&lines).expect_ok();
    ends_by("msg=token:[masked],refused");
    assert!(kube.said("k3s.service", "").contains(SECRET));
    assert!(!told(kube).to_string().contains("hunter2"));
    kube.sh("rm /run/systemd/system/k3s.service.d/says.conf && systemctl daemon-reload").expect_ok();
}

fn is_closed(kube: &Kube) {
    let token = "/var/lib/rancher/k3s/server/token";
    kube.sh(&format!("echo {SECRET} >{token} && systemctl restart {UNIT}")).expect_ok();
    let pid = kube.unit(UNIT).pid().to_owned();
    let status = kube.ask(&["cat", &format!("/proc/{pid}/status")]);
    assert!(status.contains("Uid:\t0\t"), "{status}");
    for kind in ["CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"] {
        assert!(status.contains(&format!("{kind}:\t0000000000000000")), "{status}");
    }
    let space = |pid: &str| kube.ask(&["readlink", &format!("/proc/{pid}/ns/net")]);
    assert_ne!(space(&pid), space("1"), "it is in the node's network");
    // Through its eyes, not even all of root's rights write elsewhere.
    let there = |path: &str| format!("/proc/{pid}/root{path}");
    let write = |folder: &str| kube.exec(&["touch", &there(&format!("{folder}/x"))]);
    write("/run/zeta-bft/lookout").expect_ok();
    kube.ask(&["rm", &there("/run/zeta-bft/lookout/x")]);
    for folder in [
        "/etc",
        "/etc/zeta-bft",
        "/usr",
        "/usr/lib",
        "/usr/lib/systemd/system",
        "/root",
        "/var/log",
        "/var/lib/rancher/k3s/agent",
        "/var/lib/zeta-bft",
        "/run",
        "/run/lock",
        "/run/zeta-bft",
        "/run/zeta-bft/warden",
        "/run/systemd/system",
        "/dev/shm",
    ] {
        let touched = write(folder);
        assert!(
            touched.err.contains("Read-only file system") || touched.err.contains("No such"),
            "{folder}: {touched}"
        );
    }
    let read = kube.exec(&["cat", &there(token)]);
    assert!(!read.out.contains(SECRET), "{read}");
}
