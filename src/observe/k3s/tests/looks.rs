//! Whole looks.

use super::super::fatal::Fatal;
use super::super::lookout::{Lookout, RootFacts, SeenRun, publish};
use super::super::{FileFacts, Observer, UnitRun};
use super::server::{Reply, Server, answer};
use super::*;
use crate::clock;
use crate::protocol::types::{BootId, Incarnation, InvocationId, SubjectName};
use std::cell::Cell;

const NODE: &str = r#"{"kind":"Node","status":{"conditions":[{"type":"Ready","status":"True"}]}}"#;

fn run(n: u8) -> UnitRun {
    let run = Incarnation { boot: BootId([9; 16]), invocation: InvocationId([n; 16]) };
    UnitRun { run, age: Some(Duration::from_secs(60)) }
}

fn healthy(request: &str) -> Reply {
    match request.split(' ').nth(1).unwrap() {
        "/api/v1/nodes/node-1" => answer(200, NODE),
        "/ping" => answer(200, "pong"),
        "/livez" | "/livez?exclude=etcd" | "/readyz" | "/healthz" => answer(200, "ok"),
        _ => answer(404, ""),
    }
}

async fn server() -> Server {
    Server::tls(&Authority::fixed().leaf(&["127.0.0.1"]), healthy).await
}

fn place(api: &Server) -> Place {
    let mut place = Place::of(Authority::fixed());
    place.settings.address = api.address;
    place.settings.node = Some("node-1".to_owned());
    place
}

#[tokio::test]
async fn a_healthy_node_shows_everything_over_one_connection_per_port() {
    let (api, kubelet, kube_proxy) = (server().await, Server::plain(healthy).await, Server::plain(healthy).await);
    let mut place = place(&api);
    place.settings.kubelet = Some(kubelet.address);
    place.settings.kube_proxy = Some(kube_proxy.address);
    let mut observer = Observer::new(place.settings.clone()).unwrap();
    for _ in 0..3 {
        let before = clock::now();
        let look = observer.look(|| Some(run(1))).await;
        assert_eq!(look.ping, status(200, "pong"));
        for probe in [&look.livez, &look.readyz, &look.kubelet, &look.kube_proxy] {
            assert!(probe.is_ok(), "{look:?}");
        }
        assert_eq!(look.node_ready, Some(true));
        assert_eq!((look.run, look.age), (Some(run(1).run), run(1).age));
        let certificates: Vec<_> = look.certificates.iter().map(|certificate| certificate.is_ca).collect();
        assert_eq!(certificates, [true, true, false], "in the folder, pinned, and shown by the port");
        assert_eq!(look.mounts.len(), 1);
        assert_eq!((&look.fatal, observer.is_behind()), (&None, false));
        assert_eq!((look.others, look.clock_synchronised), ((0, 0), None));
        assert!(look.at >= before && look.unix > 1_700_000_000);
        assert!(observer.unseen().is_empty(), "{:?}", observer.unseen());
    }
    assert_eq!([api.accepts(), kubelet.accepts(), kube_proxy.accepts()], [1, 1, 1]);
}

/// As a real kube-apiserver does it while its etcd is stopped or killed.
#[tokio::test]
async fn a_dead_datastore_is_named_by_readyz_and_is_no_hang() {
    let says = "[+]ping ok\n[-]etcd failed: reason withheld\nreadyz check failed";
    let failed = format!("HTTP/1.1 500 X\r\nContent-Length: {}\r\n\r\n{says}", says.len()).into_bytes();
    let without_etcd = move |request: &str| match request.split(' ').nth(1).unwrap() {
        "/ping" | "/livez?exclude=etcd" => answer(200, "ok"),
        _ => Reply::SayLate(Duration::from_secs(2), failed.clone()),
    };
    let api = Server::tls(&Authority::fixed().leaf(&["127.0.0.1"]), without_etcd).await;
    let place = place(&api);
    let look = Observer::new(place.settings.clone()).unwrap().look(|| None).await;
    assert_eq!((look.livez, look.readyz, look.node_ready), (status(200, "ok"), status(500, says), None));
}

#[tokio::test]
async fn a_look_that_spans_two_runs_names_none() {
    let api = server().await;
    let place = place(&api);
    let mut observer = Observer::new(place.settings.clone()).unwrap();
    let asked = Cell::new(0);
    let restarted = || {
        asked.set(asked.get() + 1);
        Some(run(asked.get()))
    };
    let look = observer.look(restarted).await;
    assert_eq!((look.run, look.age), (None, None));
}

#[tokio::test]
async fn what_root_alone_may_read_comes_from_the_lookout_and_from_nowhere_else_while_it_is_believed() {
    let api = server().await;
    let place = place(&api);
    let published = place.dir.path().join("k3s.json");
    let subject = SubjectName::new("k3s").unwrap();
    let lookout = Lookout::new(published.clone(), subject.clone()).of_user(me());
    let mut observer = Observer::with_lookout(place.settings.clone(), lookout).unwrap();
    let look = observer.look(|| Some(run(1))).await;
    assert_eq!((look.mounts.len(), look.fatal, observer.is_behind()), (1, None, false), "it looks itself");
    assert!(observer.unseen()[0].contains("has published nothing"), "{:?}", observer.unseen());

    let empty = place.dir.path().join("client-kubelet.key");
    let fatal = Fatal { line: "panic: once".to_owned(), run: run(7).run.invocation };
    let tell = |invocation, goes_on| {
        let files = FileFacts { empty_files: vec![empty.clone()], ..FileFacts::default() };
        let run = Some(SeenRun { invocation, goes_on });
        let facts = RootFacts { files, fatal: Some(fatal.clone()), run, journal: true };
        publish(&published, &subject, clock::boot_id().unwrap(), clock::now(), &facts).unwrap();
    };
    tell(run(1).run.invocation, true);
    let look = observer.look(|| Some(run(1))).await;
    assert_eq!((look.mounts.len(), &look.empty_files), (0, &vec![empty.clone()]));
    assert_eq!((&look.fatal, observer.is_behind()), (&Some(fatal.clone()), false), "and whose line it is");
    assert!(observer.unseen().is_empty(), "{:?}", observer.unseen());

    // PID 1 knows of another run, or of the end of this one: the fatal line is still to come.
    observer.look(|| Some(run(2))).await;
    assert!(observer.is_behind());
    let ended = || Some(UnitRun { age: None, ..run(1) });
    observer.look(ended).await;
    assert!(observer.is_behind());
    // It sees that while the ports are asked.
    let asked = Cell::new(0);
    let meanwhile = || {
        asked.set(asked.get() + 1);
        if asked.get() == 2 {
            tell(run(1).run.invocation, false);
        }
        ended()
    };
    observer.look(meanwhile).await;
    assert!(!observer.is_behind());
}

#[tokio::test]
async fn an_end_of_which_the_lookout_knows_no_last_words_is_not_seen() {
    let api = server().await;
    let place = place(&api);
    let published = place.dir.path().join("k3s.json");
    let subject = SubjectName::new("k3s").unwrap();
    let lookout = Lookout::new(published.clone(), subject.clone()).of_user(me());
    let mut observer = Observer::with_lookout(place.settings.clone(), lookout).unwrap();
    let ended = || Some(UnitRun { age: None, ..run(1) });
    observer.look(ended).await;
    assert!(observer.is_behind(), "the lookout is dead");
    let tell = |journal, run| {
        let facts = RootFacts { journal, run, ..RootFacts::default() };
        publish(&published, &subject, clock::boot_id().unwrap(), clock::now(), &facts).unwrap();
    };
    tell(false, None);
    observer.look(ended).await;
    assert!(observer.is_behind(), "the journal does not answer");
    observer.look(|| Some(run(1))).await;
    assert!(!observer.is_behind(), "one that runs has said no last words");
    tell(true, None);
    observer.look(ended).await;
    assert!(!observer.is_behind(), "it began after the end, and has read the journal");
    tell(true, Some(SeenRun { invocation: run(1).run.invocation, goes_on: false }));
    observer.look(ended).await;
    assert!(!observer.is_behind());
    let mut alone = Observer::new(place.settings.clone()).unwrap();
    alone.look(ended).await;
    assert!(!alone.is_behind(), "where there is no lookout, nobody waits for it");
}

#[tokio::test]
async fn an_agent_node_has_no_api_server_of_its_own_and_still_a_condition() {
    let api = server().await;
    let mut place = place(&api);
    place.settings.role = Role::Agent;
    let look = Observer::new(place.settings.clone()).unwrap().look(|| None).await;
    assert_eq!([look.ping, look.livez, look.readyz, look.kube_proxy], [const { Probe::Off }; 4]);
    assert_eq!(look.node_ready, Some(true));
}

#[tokio::test]
async fn a_condition_that_may_not_be_read_is_none() {
    for reply in [answer(403, NODE), answer(404, ""), answer(200, "{}"), Reply::Say(b"no HTTP\r\n\r\n".to_vec())] {
        let api = Server::tls(&Authority::fixed().leaf(&["127.0.0.1"]), move |_| reply.clone()).await;
        let place = place(&api);
        let look = Observer::new(place.settings.clone()).unwrap().look(|| None).await;
        assert_eq!((look.node_ready, matches!(look.livez, Probe::Unable(_))), (None, false));
    }
}

#[tokio::test]
async fn others_are_asked_only_after_a_look_that_failed_and_strangers_among_them_are_not_counted() {
    let leaf = Authority::fixed().leaf(&["127.0.0.1"]);
    let api = Server::tls(&leaf, |_| answer(500, "")).await;
    let (well, ill) = (server().await, Server::tls(&leaf, |_| answer(503, "")).await);
    let stranger = Server::tls(&Authority::new().leaf(&["127.0.0.1"]), healthy).await;
    let mut place = place(&api);
    place.settings.others = [&well, &ill, &stranger].map(|server| server.address).to_vec();
    let mut observer = Observer::new(place.settings.clone()).unwrap();
    assert_eq!(observer.look(|| None).await.others, (0, 0));
    assert_eq!([well.accepts(), ill.accepts(), stranger.accepts()], [0, 0, 0]);
    assert_eq!(observer.look(|| None).await.others, (2, 1));
}

#[tokio::test]
async fn a_look_at_a_node_that_hangs_everywhere_ends_in_time() {
    let stopped = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = stopped.local_addr().unwrap();
    let api = server().await;
    let mut place = place(&api);
    place.settings.address = address;
    place.settings.kubelet = Some(address);
    place.settings.kube_proxy = Some(address);
    place.settings.others = vec![address; 3];
    place.settings.limit = Duration::from_secs(1);
    let mut observer = Observer::new(place.settings.clone()).unwrap();
    for others in [(0, 0), (3, 3)] {
        let begun = clock::now();
        let look = observer.look(|| None).await;
        let took = clock::now().saturating_since(begun);
        assert_eq!([look.ping, look.livez, look.readyz], [const { Probe::TimedOut }; 3]);
        assert_eq!([look.kubelet, look.kube_proxy], [const { Probe::TimedOut }; 2]);
        assert_eq!((look.node_ready, look.others), (None, others));
        // One after the other they would take six seconds and more.
        assert!(took < place.settings.longest_look() + Duration::from_secs(1), "{took:?}");
    }
}

#[tokio::test]
async fn a_look_that_is_given_up_leaves_the_observer_whole() {
    let api = server().await;
    let place = place(&api);
    let mut observer = Observer::new(place.settings.clone()).unwrap();
    for _ in 0..20 {
        let given_up = tokio::time::timeout(Duration::from_micros(300), observer.look(|| None));
        let _ = given_up.await;
    }
    let look = observer.look(|| None).await;
    assert!(look.livez.is_ok() && look.mounts.len() == 1, "{look:?}");
}
