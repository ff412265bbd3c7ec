//! The warden as a process: the built binary on a folder of its own, over its real sockets. PID 1 is absent here, so no
//! agent has a session and nothing is repaired; what is tested is the process around the core. In [`agents`] the same
//! shell runs inside the test, with a PID 1 that takes the test for an agent.

mod agents;
mod memory;
mod node;
mod rotation;

use node::{LIMIT, Node};
use tonic::Code;
use zeta_bft::wire::v1;

#[tokio::test]
async fn a_warden_alone_says_what_is_missing_and_drains_on_sigterm() {
    let node = Node::new();
    let mut warden = node.start();
    node.ready().await;
    let view = node.quorum().await;
    assert_eq!((view.status.as_str(), view.vendors_live, view.threshold), ("lost", 0, 2));
    assert!(view.verified && !view.isolation);
    assert!(view.notes.iter().any(|note| note.starts_with("vera has no session")), "{:?}", view.notes);
    let names: Vec<_> = view.subjects.iter().map(|subject| subject.name.as_str()).collect();
    assert_eq!(names, ["lior", "lior/agent", "otto", "otto/agent", "vera", "vera/agent"]);

    let metrics = node.http("/metrics").await.unwrap().1;
    assert!(metrics.contains("zeta_bft_quorum_threshold 2"), "{metrics}");
    assert_eq!(node.http("/livez").await.unwrap().0, 200);

    assert_eq!(warden.drained().await.code(), Some(0));
    for socket in [node.paths.warden_socket(), node.paths.operator_socket(), node.paths.inspect_socket()] {
        assert!(!socket.exists(), "{} is left behind", socket.display());
    }
}

#[tokio::test]
async fn a_killed_warden_comes_back_as_the_next_instance_and_a_hold_outlives_it() {
    let node = Node::new();
    let warden = node.start();
    node.ready().await;
    let first = node.quorum().await.warden_instance;
    let mut operator = node.operator().await;
    let hold = v1::HoldRequest { subject: Some("lior".into()), for_seconds: Some(3600), reason: "upgrade".into() };
    operator.hold(hold).await.unwrap();
    drop(warden);

    let _again = node.start();
    let mut view = v1::QuorumView::default();
    while view.warden_instance.is_empty() || view.warden_instance == first {
        node.ready().await;
        view = node.quorum().await;
    }
    let (first, second): (u32, u32) = (first.parse().unwrap(), view.warden_instance.parse().unwrap());
    assert_eq!(second, first + 1);
    assert_eq!((view.holds.len(), view.holds[0].reason.as_str()), (1, "upgrade"));
    assert_eq!(view.holds[0].uid, rustix::process::getuid().as_raw());
    assert!(view.holds[0].until.is_some());
    let lior = view.subjects.iter().find(|subject| subject.name == "lior").unwrap();
    assert_eq!((lior.state.as_str(), lior.held_by.as_deref()), ("held", Some("operator")));
}

#[tokio::test]
async fn a_second_warden_on_one_folder_is_refused_and_the_first_goes_on() {
    let node = Node::new();
    let _warden = node.start();
    node.ready().await;
    let (code, said) = node.refused();
    assert_eq!(code, Some(1));
    assert!(said.contains("another warden runs on this folder"), "{said}");
    assert_eq!(node.quorum().await.status, "lost");
}

#[tokio::test]
async fn a_missing_journal_is_refused_with_what_to_do() {
    let node = Node::new();
    std::fs::remove_file(node.paths.journal()).unwrap();
    let (code, said) = node.refused();
    assert_eq!(code, Some(1));
    assert!(said.contains("there is no journal at") && said.contains("zeta-bft init"), "{said}");
}

#[tokio::test]
async fn a_damaged_journal_holds_everything_and_is_not_written_to() {
    let node = Node::with_a_damaged_journal().await;
    let before = std::fs::read(node.paths.journal()).unwrap();

    let mut warden = node.start();
    let view = node.quorum().await;
    assert!(view.subjects.iter().all(|subject| subject.state == "held"), "{:?}", view.subjects);
    assert!(view.subjects.iter().all(|subject| subject.held_by.as_deref() == Some("journal")));
    assert!(view.notes[0].contains("the journal is damaged"), "{:?}", view.notes);
    let (code, why) = node.http("/readyz").await.unwrap();
    assert!(code == 503 && why.contains("damaged"), "{code} {why}");
    assert!(warden.drained().await.success());
    assert_eq!(std::fs::read(node.paths.journal()).unwrap(), before);
}

#[tokio::test]
async fn a_warden_that_holds_everything_is_no_failed_start() {
    let node = Node::with_a_damaged_journal().await;

    let place = node.paths.run().join("notify");
    let told = tokio::net::UnixDatagram::bind(&place).unwrap();
    let _warden = node.start_telling(&place);
    let ready = async {
        let mut message = [0; 256];
        loop {
            let length = told.recv(&mut message).await.unwrap();
            if message[..length].starts_with(b"READY=1") {
                return;
            }
        }
    };
    tokio::time::timeout(LIMIT, ready).await.expect("systemd would have ended it");
}

#[tokio::test]
async fn a_process_that_is_no_unit_of_the_node_cannot_submit_or_answer() {
    let node = Node::new();
    let _warden = node.start();
    node.ready().await;
    let mut stranger = node.agents().await;
    // PID 1 cannot be asked here, so nobody can be told apart from a stranger: nothing is let in.
    let refused = [Code::PermissionDenied, Code::Unavailable];
    let submitted = stranger.submit(tokio_stream::pending()).await.unwrap_err();
    assert!(refused.contains(&submitted.code()), "{submitted}");
    let watched = stranger.watch_episodes(v1::WatchEpisodesRequest {}).await.map(drop).unwrap_err();
    assert!(refused.contains(&watched.code()), "{watched}");
    let answered = stranger.challenge(tokio_stream::pending()).await.map(drop).unwrap_err();
    assert!(refused.contains(&answered.code()), "{answered}");
}

#[tokio::test]
async fn questions_about_what_does_not_exist_are_answered_with_what_does() {
    let node = Node::new();
    let _warden = node.start();
    node.ready().await;
    let mut inspect = node.inspect().await;
    let unknown = inspect.explain(v1::ExplainRequest { about: "oto".into() }).await.unwrap_err();
    assert_eq!(unknown.code(), Code::NotFound);
    let subject = inspect.subject(v1::SubjectRequest { subject: "oto".into() }).await.unwrap_err();
    assert!(subject.message().contains("otto"), "{subject}");
    let otto = inspect.explain(v1::ExplainRequest { about: "otto".into() }).await.unwrap().into_inner();
    assert!(otto.summary.starts_with("otto "), "{}", otto.summary);
    assert!(otto.receipts.is_empty());

    let mut operator = node.operator().await;
    let hold = v1::HoldRequest { subject: Some("oto".into()), for_seconds: None, reason: "x".into() };
    assert_eq!(operator.hold(hold).await.unwrap_err().code(), Code::NotFound);
    let silent = v1::HoldRequest { subject: Some("otto".into()), for_seconds: None, reason: " ".into() };
    assert_eq!(operator.hold(silent).await.unwrap_err().code(), Code::InvalidArgument);
}

#[tokio::test]
async fn a_watcher_hears_of_a_hold_without_asking_again() {
    let node = Node::new();
    let _warden = node.start();
    node.ready().await;
    let mut views = node.inspect().await.watch(v1::QuorumRequest::default()).await.unwrap().into_inner();
    assert!(views.message().await.unwrap().unwrap().holds.is_empty());
    let mut operator = node.operator().await;
    operator.hold(v1::HoldRequest { subject: None, for_seconds: None, reason: "all".into() }).await.unwrap();
    let heard = async { while views.message().await.unwrap().unwrap().holds.is_empty() {} };
    tokio::time::timeout(LIMIT, heard).await.expect("the watcher never heard of the hold");
}

#[tokio::test]
async fn a_scrape_port_that_is_passed_in_is_served_and_announced() {
    let node = Node::new();
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let mut warden = node.start_with_port(&port);
    node.ready().await;
    let announced = std::fs::read_to_string(node.paths.metrics_address("warden")).unwrap();
    assert_eq!(announced.trim(), port.local_addr().unwrap().to_string());
    assert!(node.http("/metrics").await.unwrap().1.contains("zeta_bft_isolation 0"));
    assert!(warden.drained().await.success());
}
