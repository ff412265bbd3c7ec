//! A real API server and its real datastore under `k3s.service`: what they show when they are well, and when they are broken.

use crate::kube::{KUBELET_KEY, Kube, SERVING_KEY, Who};
use crate::lab::Unfit;
use crate::node::WATCH;
use crate::stage::Stage;

super::claims! {
    the_api_server_answers_who_is_known_and_refuses_who_is_not,
    a_dead_etcd_shows_in_readyz,
    what_keeps_the_api_server_from_starting_stands_in_its_journal,
    a_datastore_that_is_full_or_damaged_says_so_itself,
    who_is_not_vouched_for_is_told_from_who_is_not_well,
}

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
    let kube = Kube::alone(stage, "deadetcd")?;
    kube.start();
    let run = kube.unit("k3s.service").run().to_owned();
    for signal in ["KILL", "STOP"] {
        kube.signal("etcd.service", signal);
        kube.await_until("it is not ready", || kube.get(Who::Probe, "/readyz").status == 500);
        // It says so of its liveness as well, and all else of it is well.
        let livez = kube.get(Who::Probe, "/livez");
        assert_eq!(livez.status, 500, "{livez:?}");
        assert!(livez.body.contains("[-]etcd failed: reason withheld\n"), "{livez:?}");
        assert_eq!(livez.body.matches("[-]").count(), 1, "{livez:?}");
        assert_eq!(kube.get(Who::Probe, "/livez?exclude=etcd").status, 200);
        // A start before PID 1 knows of the end would start nothing.
        kube.sh("systemctl kill -s KILL etcd.service");
        kube.await_until("PID 1 knows of the end", || kube.unit("etcd.service").get("ActiveState") == "failed");
        kube.sh("systemctl reset-failed etcd.service; systemctl start etcd.service").expect_ok();
        kube.await_until("it is ready again", || kube.get(Who::Probe, "/readyz").status == 200);
    }
    // It did not end, and needed no restart.
    assert_eq!(kube.unit("k3s.service").run(), run);
    // Without its datastore it does not start, and gives up after 20 s.
    kube.ask(&["systemctl", "stop", "k3s.service", "etcd.service"]);
    let moment = kube.moment();
    kube.ask(&["systemctl", "start", "--no-block", "k3s.service"]);
    kube.await_line("k3s.service", &moment, "Error: context deadline exceeded");
    Ok(())
}

fn what_keeps_the_api_server_from_starting_stands_in_its_journal(stage: &'static Stage) -> Result<(), Unfit> {
    let kube = Kube::alone(stage, "fatal")?;
    kube.start();
    let dies_of = |words: &str| {
        let moment = kube.moment();
        assert!(!kube.exec(&["systemctl", "start", "k3s.service"]).ok(), "it started in spite of `{words}`");
        kube.await_line("k3s.service", &moment, words);
        // systemd tries again, and it ends by the same.
        let moment = kube.moment();
        kube.await_line("k3s.service", &moment, words);
        kube.await_until("PID 1 tells of its end", || kube.unit("k3s.service").get("Result") == "exit-code");
        kube.sh("systemctl stop k3s.service; systemctl reset-failed k3s.service");
    };
    kube.restart_after("1s");

    kube.squat_port();
    dies_of(
        "Error: failed to create listener: failed to listen on 127.0.0.1:6443: listen tcp 127.0.0.1:6443: bind: address already in use",
    );
    kube.free_port();
    for (file, words) in [
        (
            SERVING_KEY,
            "Error: missing content for serving cert \"serving-cert::/var/lib/rancher/k3s/server/tls/serving-kube-apiserver.crt::",
        ),
        (KUBELET_KEY, "tls: failed to find any PEM data in key input"),
    ] {
        kube.empty(file);
        dies_of(words);
        kube.refill(file);
    }
    kube.start_k3s();

    // The unit that it requires refuses: it never begins, and systemd does not try again.
    kube.refuse_preflight();
    kube.ask(&["systemctl", "stop", "k3s.service"]);
    let starts = kube.starts("k3s.service");
    assert!(!kube.exec(&["systemctl", "start", "k3s.service"]).ok());
    kube.holds_for(WATCH, "it stays down", || kube.unit("k3s.service").get("ActiveState") == "inactive");
    assert_eq!(kube.starts("k3s.service"), starts);
    Ok(())
}

fn a_datastore_that_is_full_or_damaged_says_so_itself(stage: &'static Stage) -> Result<(), Unfit> {
    let kube = Kube::alone(stage, "datastore")?;
    kube.give_small_disk(136);
    kube.start();
    let run = kube.unit("k3s.service").run().to_owned();
    let write_until = |status: u16| {
        let mut number = 0;
        kube.await_until("no write succeeds", || {
            number += 1;
            kube.write_much(&format!("much-{status}-{number}")).status == status
        });
    };

    kube.fill_disk();
    // Who writes gets no answer any more.
    write_until(0);
    kube.await_until("etcd ended", || kube.unit("etcd.service").get("ActiveState") == "failed");
    let ended = kube.said("etcd.service", "");
    assert!(ended.contains("no space left on device"), "{ended}");
    assert_eq!(kube.get(Who::Probe, "/readyz").status, 500);
    kube.clear_disk();

    // A quota that is used up shows in no probe: only whoever writes learns of it.
    let moment = kube.moment();
    kube.limit_datastore(2_000_000);
    kube.await_until("it is ready again", || kube.get(Who::Probe, "/readyz").status == 200);
    write_until(500);
    kube.await_line("k3s.service", &moment, "etcdserver: mvcc: database space exceeded");
    kube.await_line("etcd.service", &moment, "alarm NOSPACE raised");
    assert_eq!((kube.get(Who::Probe, "/livez").status, kube.get(Who::Probe, "/readyz").status), (200, 200));

    let moment = kube.moment();
    kube.damage_datastore();
    kube.await_line("etcd.service", &moment, "panic: freepages: failed to get all reachable pages");
    assert_eq!(kube.get(Who::Probe, "/readyz").status, 500);
    kube.mend_datastore();
    kube.await_until("it is ready again", || kube.get(Who::Probe, "/readyz").status == 200);
    assert_eq!(kube.unit("k3s.service").run(), run);
    Ok(())
}

fn who_is_not_vouched_for_is_told_from_who_is_not_well(stage: &'static Stage) -> Result<(), Unfit> {
    let kube = Kube::alone(stage, "vouched")?;
    kube.start();
    let curl_said = || kube.get(Who::Probe, "/livez").curl;

    // A certificate that has ended: nobody believes it, until a start renews it.
    kube.serve_for_days(0);
    assert_eq!(curl_said(), 60);
    let moment = kube.moment();
    kube.ask(&["systemctl", "restart", "k3s.service"]);
    kube.await_line("k3s.service", &moment, "serving-kube-apiserver.crt ends within 90 days, renewing");
    kube.await_until("it is believed again", || kube.get(Who::Probe, "/livez").status == 200);

    kube.forget_probes();
    for path in ["/livez", "/readyz"] {
        assert_eq!(kube.get(Who::Probe, path).status, 401, "{path}");
    }
    let old = kube.unit("k3s.service").run().to_owned();
    kube.rotate_ca();
    assert_ne!(kube.unit("k3s.service").run(), old);
    assert_eq!(curl_said(), 60);
    kube.await_until("it is well", || kube.get(Who::Admin, "/livez").status == 200);
    Ok(())
}
