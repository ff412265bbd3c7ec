//! A broken k3s under a committee that acts: what each agent finds, what is done, what is not, and who is called. The API server and
//! its datastore are real; budgets are lifted, so that what is left undone is left undone by its rule.

use crate::kube::{DATASTORE, KUBELET_KEY, Kube, SERVING_KEY, Who, prepare_kubelet, subject};
use crate::lab::Unfit;
use crate::node::{Config, Node, WATCH};
use crate::stage::Stage;

super::claims! {
    a_k3s_that_died_or_is_silent_is_started_again_and_who_cannot_be_believed_is_left_alone,
    an_empty_key_of_k3s_is_put_aside_and_a_certificate_near_its_end_is_renewed_once,
    a_start_of_k3s_without_end_is_ended_once,
    a_damaged_datastore_of_k3s_is_copied_once_and_k3s_left_stopped,
    a_full_disk_and_the_same_last_words_of_k3s_again_are_for_a_human,
    a_k3s_with_a_dead_datastore_or_a_refusing_preflight_is_left_alone,
    a_port_of_k3s_that_somebody_else_holds_is_for_a_human,
    a_k3s_that_eats_the_node_is_repaired_and_what_fails_elsewhere_too_is_left_alone,
    a_k3s_agent_node_is_judged_by_its_kubelet_alone,
}

const K3S: &str = "k3s.service";

fn with(stage: &'static Stage, more: &str) -> Result<Kube, Unfit> {
    Kube::with(stage, &Config::acting().with(&subject(more)))
}

/// Waits until it answers, and everything is as it was.
#[track_caller]
fn await_well(kube: &Kube) {
    kube.await_until("it is ready again", || kube.get(Who::Probe, "/readyz").status == 200);
    kube.await_state("k3s", "healthy");
    kube.holds_for(WATCH / 2, "it is well", || kube.state("k3s") == "healthy");
}

/// Nothing more is done than this, by anybody.
#[track_caller]
fn nothing_more(kube: &Kube, starts: usize, done: &[&str]) {
    kube.holds_for(WATCH, "it is not started once more", || kube.starts(K3S) == starts);
    assert_eq!(kube.done(), done);
}

fn a_k3s_that_died_or_is_silent_is_started_again_and_who_cannot_be_believed_is_left_alone(
    stage: &'static Stage,
) -> Result<(), Unfit> {
    let kube = with(stage, "")?;
    kube.await_row("answers-readiness-unknown", "healthy");
    // A short wait of systemd's is left to systemd.
    kube.restart_after("500ms");
    let old = kube.unit(K3S);
    kube.signal(K3S, "KILL");
    kube.await_replaced(K3S, &old);
    await_well(&kube);
    assert_eq!((kube.starts(K3S), kube.done()), (2, vec![]));

    // A long one, as k3s ships it, is cut short.
    kube.restart_after("5s");
    let old = kube.unit(K3S);
    kube.signal(K3S, "KILL");
    kube.await_replaced(K3S, &old);
    await_well(&kube);
    assert_eq!((kube.starts(K3S), kube.done()), (3, vec!["CRASH restart ok".into()]));
    kube.await_finders("ended", "CRASH");

    // It lives, and answers nobody.
    let old = kube.unit(K3S);
    kube.signal(K3S, "STOP");
    kube.await_replaced(K3S, &old);
    kube.await_finders("api-silent", "BROKEN");
    await_well(&kube);
    let done = ["CRASH restart ok", "BROKEN restart ok"];
    kube.await_until("the repair is judged", || kube.done() == done);
    assert!(kube.pages().is_empty(), "{:?}", kube.pages());

    // It knows none of those who ask, and says so: it answers.
    kube.forget_probes();
    assert_eq!(kube.get(Who::Probe, "/readyz").status, 401);
    kube.await_until("they see it", || kube.looks().iter().all(|look| look["seen"].to_string().contains("401")));
    kube.await_row("answers-readiness-unknown", "healthy");
    assert!(kube.pages().is_empty(), "{:?}", kube.pages());

    // Its CA was changed: nobody can tell who answers.
    kube.rotate_ca();
    let starts = kube.starts(K3S);
    kube.await_row("stranger", "UNKNOWN");
    kube.await_page("wants_human");
    nothing_more(&kube, starts, &done);
    assert_eq!(kube.pages(), ["wants_human"]);
    kube.verify();
    Ok(())
}

fn an_empty_key_of_k3s_is_put_aside_and_a_certificate_near_its_end_is_renewed_once(
    stage: &'static Stage,
) -> Result<(), Unfit> {
    // As the row that is built in, of a clock that nobody may keep.
    let renewal = "[[subjects.k3s.faults]]\nname = \"renewal\"\nclass = \"BROKEN\"\nact = \"planned-restart\"\n\
                   when = { all = [\"ok\", \"denied\", \"off\"], any = \"ok\", certificate_within = \"30d\" }\n\
                   says = \"A certificate ends soon.\"\n";
    let kube = with(stage, renewal)?;
    kube.empty(KUBELET_KEY);
    kube.await_row("empty-key-unused", "healthy");
    kube.await_page("wants_human");
    assert_eq!(kube.done(), Vec::<String>::new());
    // It ends, and does not come up again with it.
    let old = kube.unit(K3S);
    kube.signal(K3S, "KILL");
    kube.await_replaced(K3S, &old);
    await_well(&kube);
    let mut done = vec!["CRASH move-aside ok"];
    assert_eq!(kube.done(), done);
    kube.await_finders("empty-key-ended", "CRASH");
    let aside = kube.ask(&["sh", "-c", &format!("stat -c %s {KUBELET_KEY}.aside-* {KUBELET_KEY}")]);
    let sizes: Vec<u32> = aside.lines().map(|size| size.parse().expect("a size")).collect();
    assert!(sizes[0] == 0 && sizes[1] > 0, "the empty one is kept, a new one is in its place: {aside}");

    // A leaf that ends in twenty days: a start renews it.
    kube.serve_for_days(20);
    let old = kube.unit(K3S);
    kube.await_replaced(K3S, &old);
    await_well(&kube);
    done.push("BROKEN restart ok");
    kube.await_until("the repair is judged", || kube.done() == done);
    kube.await_finders("renewal", "BROKEN");

    // One that no start renews is tried once.
    kube.sh("touch /run/k3s-renews-nothing").expect_ok();
    kube.serve_for_days(10);
    kube.sh("touch /run/k3s-renews-nothing").expect_ok();
    let old = kube.unit(K3S);
    kube.await_replaced(K3S, &old);
    let starts = kube.starts(K3S);
    kube.await_page("ladder_spent");
    done.push("BROKEN restart ok");
    nothing_more(&kube, starts, &done);
    assert_eq!(kube.pages(), ["wants_human", "ladder_spent"]);
    kube.verify();
    Ok(())
}

fn a_start_of_k3s_without_end_is_ended_once(stage: &'static Stage) -> Result<(), Unfit> {
    let slow = "[[subjects.k3s.faults]]\nname = \"slow\"\nclass = \"BROKEN\"\nact = \"restart\"\n\
                when = { unit = \"activating\", older_than = \"10s\" }\nsays = \"It starts too slowly here.\"\n";
    let kube = with(stage, slow)?;
    // It starts, and is never there, the first time.
    kube.replace_by("mkdir /run/hung 2>/dev/null && exec sleep infinity\nexec /usr/local/bin/k3s server\n");
    kube.ask(&["systemctl", "restart", "--no-block", K3S]);
    kube.await_until("its start is ended, and it starts anew", || kube.starts(K3S) == 3);
    kube.await_finders("slow", "BROKEN");
    await_well(&kube);
    kube.await_until("the repair is judged", || kube.done() == ["BROKEN restart ok"]);
    nothing_more(&kube, 3, &["BROKEN restart ok"]);
    assert!(kube.pages().is_empty(), "{:?}", kube.pages());
    kube.verify();
    Ok(())
}

fn a_damaged_datastore_of_k3s_is_copied_once_and_k3s_left_stopped(stage: &'static Stage) -> Result<(), Unfit> {
    let kube = with(stage, "")?;
    // What ends because etcd has ended is another fault.
    kube.ask(&["systemctl", "stop", K3S]);
    kube.await_state("k3s", "operator");
    kube.damage_datastore();
    kube.await_until("etcd ended", || kube.unit("etcd.service").get("ActiveState") == "failed");
    let sums = || kube.ask(&["sh", "-c", &format!("cd {DATASTORE}; find . -type f | sort | xargs sha256sum")]);
    let damaged = sums();
    // As k3s says it of a datastore of its own.
    let words = "Failed to reconcile with temporary etcd: walpb: crc mismatch";
    kube.replace_by(&format!("echo \"time=\\\"$(date -Is)\\\" level=fatal msg=\\\"{words}\\\"\" >&2; exit 1"));
    kube.ask(&["systemctl", "start", "--no-block", K3S]);
    kube.await_page("copied_aside");
    kube.await_finders("etcd-damaged", "ENVIRONMENT");
    kube.await_until("it is left stopped", || kube.unit(K3S).get("ActiveState") == "inactive");
    let starts = kube.starts(K3S);
    nothing_more(&kube, starts, &["CRASH copy-aside ok"]);
    assert_eq!(sums(), damaged);
    let copy = "cd /var/lib/rancher/k3s/server/db.aside-*; find . -type f | sort | xargs sha256sum; cd ..; stat -c %a:%U db.aside-*";
    assert_eq!(kube.ask(&["sh", "-c", copy]), format!("{damaged}\n700:root"));
    kube.verify();
    Ok(())
}

fn a_full_disk_and_the_same_last_words_of_k3s_again_are_for_a_human(stage: &'static Stage) -> Result<(), Unfit> {
    let place = "/var/lib/rancher/k3s";
    let config = Config::acting().with(&subject(""));
    let disk = format!("mkdir -p {place} && mount -t tmpfs -o size=300M,mode=755 tmpfs {place}");
    let kube = Kube::with_place(stage, &config, |kube| {
        kube.sh(&disk).expect_ok();
    })?;
    kube.sh(&format!("dd if=/dev/zero of={place}/filler bs=64k 2>/dev/null"));
    kube.await_row("disk-full", "ENVIRONMENT");
    kube.await_page("environment");
    // Not even what died is started onto it, but by systemd.
    kube.signal(K3S, "KILL");
    kube.await_until("systemd started it", || kube.starts(K3S) >= 2);
    kube.await_row("disk-full", "ENVIRONMENT");
    assert_eq!(kube.done(), Vec::<String>::new());
    // Were it not stopped, it would be broken with room enough while etcd starts: that is repaired.
    kube.ask(&["systemctl", "stop", K3S]);
    kube.await_state("k3s", "operator");
    kube.ask(&["rm", &format!("{place}/filler")]);
    kube.ask(&["systemctl", "restart", "etcd.service"]);
    kube.ask(&["systemctl", "start", K3S]);
    await_well(&kube);
    assert_eq!(kube.done(), Vec::<String>::new());

    // It ends by the same words each time.
    kube.empty(SERVING_KEY);
    kube.ask(&["systemctl", "restart", "--no-block", K3S]);
    kube.await_row("same-fatal-again", "UNKNOWN");
    kube.await_page("wants_human");
    assert_eq!(kube.done(), Vec::<String>::new());
    kube.restart_after("100ms");
    kube.await_until("systemd gave up", || {
        kube.unit(K3S).get("Result") == "start-limit-hit" || kube.unit(K3S).get("ActiveState") == "failed"
    });
    let starts = kube.starts(K3S);
    nothing_more(&kube, starts, &[]);
    assert_eq!(kube.pages(), ["environment", "wants_human"]);
    assert_eq!(kube.ask(&["stat", "-c", "%s", SERVING_KEY]), "0");
    Ok(())
}

fn a_k3s_with_a_dead_datastore_or_a_refusing_preflight_is_left_alone(stage: &'static Stage) -> Result<(), Unfit> {
    let kube = with(stage, "")?;
    let run = kube.unit(K3S).run().to_owned();
    kube.signal("etcd.service", "KILL");
    kube.await_row("datastore-refuses", "ENVIRONMENT");
    kube.await_page("environment");
    nothing_more(&kube, 1, &[]);
    kube.sh("systemctl reset-failed etcd.service; systemctl start etcd.service").expect_ok();
    await_well(&kube);
    assert_eq!(kube.unit(K3S).run(), run);

    kube.refuse_preflight();
    kube.ask(&["systemctl", "stop", K3S]);
    kube.await_state("k3s", "operator");
    assert!(!kube.exec(&["systemctl", "start", K3S]).ok());
    kube.await_row("preflight-refused", "OPERATOR");
    kube.await_page("wants_human");
    nothing_more(&kube, 1, &[]);
    assert_eq!(kube.pages(), ["environment", "wants_human"]);
    Ok(())
}

fn a_port_of_k3s_that_somebody_else_holds_is_for_a_human(stage: &'static Stage) -> Result<(), Unfit> {
    let kube = with(stage, "")?;
    // k3s runs, elsewhere; who is silent on its port is somebody else.
    kube.ask(&["systemctl", "stop", K3S]);
    kube.await_state("k3s", "operator");
    kube.squat_silently();
    kube.listen_on(16443);
    let run = kube.unit(K3S).run().to_owned();
    kube.await_row("stranger", "UNKNOWN");
    kube.await_page("wants_human");
    nothing_more(&kube, 2, &[]);
    assert_eq!((kube.unit(K3S).run(), kube.pages()), (&*run, vec!["wants_human".into()]));

    // k3s cannot have its port. systemd tries again and again.
    kube.sh("rm /etc/default/k3s; systemctl restart k3s.service");
    kube.await_row("port-taken", "ENVIRONMENT");
    kube.await_page("environment");
    assert_eq!((kube.done(), kube.pages()), (vec![], vec!["wants_human".into(), "environment".into()]));
    kube.free_port();
    await_well(&kube);
    assert_eq!(kube.done(), Vec::<String>::new());
    Ok(())
}

fn a_k3s_that_eats_the_node_is_repaired_and_what_fails_elsewhere_too_is_left_alone(
    stage: &'static Stage,
) -> Result<(), Unfit> {
    let kube = with(stage, "others = [\"https://127.0.0.2:6443\"]\n")?;
    kube.start_other();
    let others: Vec<_> =
        ["otto", "lior", "vera"].map(|persona| kube.starts(&format!("zeta-bft-agent@{persona}.service"))).into();
    kube.eat_everything(20);
    kube.holds_for(WATCH * 2, "nobody is accused", || kube.receipts().is_empty());
    // Under this load nobody is to race systemd.
    kube.restart_after("30s");
    let old = kube.unit(K3S);
    kube.signal(K3S, "KILL");
    kube.await_replaced(K3S, &old);
    await_well(&kube);
    nothing_more(&kube, 2, &["CRASH restart ok"]);
    let now: Vec<_> =
        ["otto", "lior", "vera"].map(|persona| kube.starts(&format!("zeta-bft-agent@{persona}.service"))).into();
    assert_eq!((kube.receipts().len(), now), (2, others), "{:?}", kube.history());
    assert!(kube.pages().is_empty(), "{:?}", kube.pages());

    // Silent, and the one of another node is away.
    kube.ask(&["systemctl", "stop", "other.service"]);
    let old = kube.unit(K3S);
    kube.signal(K3S, "STOP");
    kube.await_row("others-fail-too", "UNKNOWN");
    kube.await_page("wants_human");
    nothing_more(&kube, 2, &["CRASH restart ok"]);
    // The other one is well again: it is this node after all.
    kube.start_other();
    kube.await_replaced(K3S, &old);
    await_well(&kube);
    kube.await_until("the repair is judged", || kube.done() == ["CRASH restart ok", "BROKEN restart ok"]);
    assert_eq!(kube.pages(), ["wants_human"]);
    Ok(())
}

/// What k3s' own install script writes for an agent, with a sleeper in its place, and a wait that no busy machine takes for the
/// repair. The kubelet is its part.
const AGENT: &str = "[Install]\nWantedBy=multi-user.target\n[Service]\nKillMode=process\nRestart=always\nRestartSec=30s\n\
    ExecStartPre=/bin/sh -c 'mkdir -p /run/starts; echo 1 >>/run/starts/%n; systemctl start --no-block kubelet.socket'\n\
    ExecStart=/bin/sleep infinity\n";

fn a_k3s_agent_node_is_judged_by_its_kubelet_alone(stage: &'static Stage) -> Result<(), Unfit> {
    let unit = "k3s-agent.service";
    let machine = stage.with_committee()?;
    prepare_kubelet(&machine)?;
    machine.prepare(&format!("/etc/systemd/system/{unit}"), AGENT)?;
    let node = Node::set_up(machine, &Config::acting().with(&subject("role = \"agent\"\n")))?;
    node.ask(&["systemctl", "enable", "--now", unit]);
    node.await_healthy();
    // It has no API server and runs no kube-proxy: neither is missed.
    node.await_row("well", "healthy");
    let old = node.unit(unit);
    node.ask(&["systemctl", "stop", "kubelet.socket"]);
    let new = node.await_replaced(unit, &old);
    node.await_finders("kubelet-gone", "BROKEN");
    node.await_healthy();
    node.await_until("the repair is judged", || node.done() == ["BROKEN restart ok"]);
    node.signal(unit, "KILL");
    node.await_replaced(unit, &new);
    node.await_healthy();
    assert_eq!((node.starts(unit), node.done()), (3, vec!["BROKEN restart ok".into(), "CRASH restart ok".into()]));
    assert!(node.pages().is_empty(), "{:?}", node.pages());
    node.verify();
    Ok(())
}
