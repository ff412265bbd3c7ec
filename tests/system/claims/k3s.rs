//! A real API server and its real datastore under `k3s.service`: what they show when they are well, and when they are broken.

use crate::kube::{KUBELET_KEY, Kube, SERVING_KEY, Who};
use crate::lab::Unfit;
use crate::node::{Config, WATCH};
use crate::stage::Stage;

super::claims! {
    the_api_server_answers_who_is_known_and_refuses_who_is_not,
    a_dead_etcd_shows_in_readyz,
    a_killed_api_server_that_systemd_restarts_at_once_is_left_to_systemd_and_a_long_wait_is_cut_short,
    what_keeps_the_api_server_from_starting_stands_in_its_journal,
    who_is_not_vouched_for_is_told_from_who_is_not_well,
}

const SUBJECT: &str = "[subjects.k3s]\nkind = \"k3s\"\n";

fn the_api_server_answers_who_is_known_and_refuses_who_is_not(stage: &'static Stage) -> Result<(), Unfit> {
    let kube = Kube::alone(stage, "apiserver")?;
    kube.start();
    for path in ["/livez", "/readyz", "/livez/ping", "/readyz/etcd"] {
        assert_eq!(kube.get(Who::Probe, path).status, 200, "{path}");
        assert_eq!(kube.get(Who::Stranger, path).status, 401, "{path}");
    }
    let verbose = kube.get(Who::Probe, "/readyz?verbose").body;
    assert!(verbose.contains("[+]etcd ok") && verbose.ends_with("readyz check passed\n"), "{verbose}");
    // The narrow credential opens nothing else.
    for path in ["/api/v1/secrets", "/api/v1/nodes", "/api/v1/namespaces/kube-system", "/metrics", "/logs"] {
        assert_eq!(kube.get(Who::Probe, path).status, 403, "{path}");
    }
    let place = format!("/api/v1/nodes/{}", kube.ask(&["hostname"]));
    for ready in [true, false] {
        kube.set_ready(ready);
        let node: serde_json::Value = serde_json::from_str(&kube.get(Who::Probe, &place).body).expect("a node as JSON");
        let status = if ready { "True" } else { "False" };
        assert_eq!(node["status"]["conditions"][0]["status"], status, "{node}");
    }
    Ok(())
}

fn a_dead_etcd_shows_in_readyz(stage: &'static Stage) -> Result<(), Unfit> {
    let kube = Kube::alone(stage, "apiserver")?;
    kube.start();
    let run = kube.unit("k3s.service").run().to_owned();
    for signal in ["KILL", "STOP"] {
        kube.signal("etcd.service", signal);
        kube.await_until("it is not ready", || kube.get(Who::Probe, "/readyz").status != 200);
        println!(
            "{signal}: {:?} {:?}",
            kube.get(Who::Probe, "/readyz?verbose"),
            kube.get(Who::Probe, "/livez?verbose")
        );
        kube.sh(
            "systemctl kill -s KILL etcd.service; systemctl reset-failed etcd.service; systemctl start etcd.service",
        );
        kube.await_until("it is ready again", || kube.get(Who::Probe, "/readyz").status == 200);
    }
    assert_eq!(kube.unit("k3s.service").run(), run);
    Ok(())
}

fn a_killed_api_server_that_systemd_restarts_at_once_is_left_to_systemd_and_a_long_wait_is_cut_short(
    stage: &'static Stage,
) -> Result<(), Unfit> {
    let kube = Kube::with(stage, &Config::acting().with(SUBJECT))?;
    let killed = |restarts: &str, starts: usize, intents: usize| {
        let old = kube.unit("k3s.service");
        kube.signal("k3s.service", "KILL");
        let new = kube.await_replaced("k3s.service", &old);
        assert_eq!(new.get("NRestarts"), restarts, "{:?}", kube.history());
        kube.await_until("it is ready again", || kube.get(Who::Probe, "/readyz").status == 200);
        kube.await_healthy();
        assert_eq!((kube.starts("k3s.service"), kube.intents("k3s")), (starts, intents), "{:?}", kube.history());
    };
    kube.restart_after("500ms");
    killed("1", 2, 0);
    // As k3s ships it: systemd would wait 5 s.
    kube.restart_after("5s");
    killed("0", 3, 1);
    kube.holds_for(WATCH, "it is not started once more", || kube.starts("k3s.service") == 3);
    kube.verify();
    Ok(())
}
