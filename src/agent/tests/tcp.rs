//! The same lines over TCP: who a peer is, its certificate says.

use super::*;
use crate::config::tcp::TcpSettings;
use crate::grpc::tls::issue::LEAF_LIFE;
use crate::grpc::tls::{Identity, InspectorName, Place, Wanted};
use crate::keys;
use crate::setup::certificates::Ca;
use crate::wire::encode_envelope;
use std::net::{SocketAddr, TcpListener};
use v1::inspect_service_client::InspectServiceClient;
use v1::peer_service_client::PeerServiceClient;

/// A node whose every agent listens on TCP, with roster and certificates on the disk.
fn node() -> (Node, Ca) {
    let mut node = Node::new();
    let paths = node.settings.paths.clone();
    for folder in [paths.config().to_owned(), paths.keys()] {
        std::fs::create_dir_all(folder).unwrap();
    }
    let envelope = Envelope::seal(node.roster.statement(), &key("operator"), &Proto);
    std::fs::write(paths.roster(), encode_envelope(&envelope)).unwrap();
    node.roster = Arc::new(Roster::open(&envelope, &Proto).unwrap());
    let (ca, _) = Ca::of(&paths, &node.roster, &paths.ca_key()).unwrap();
    ca.certify_agents(&paths, &node.roster, LEAF_LIFE).unwrap();
    for name in PERSONAS {
        let listen = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        node.settings.tcp.insert(persona(name), TcpSettings { listen, address: listen });
    }
    (node, ca)
}

fn address(node: &Node, name: &str) -> SocketAddr {
    node.settings.tcp[&persona(name)].address
}

/// A channel to an agent's TCP port, once it listens.
async fn dial(identity: &Identity, address: SocketAddr) -> tonic::transport::Channel {
    let dialled = async {
        loop {
            match identity.connect(address, Wanted::AnyAgent).await {
                Ok((channel, _)) => return channel,
                Err(_) => tokio::time::sleep(Duration::from_millis(10)).await,
            }
        }
    };
    tokio::time::timeout(Duration::from_secs(20), dialled).await.expect("the agent listens in time")
}

async fn greet(channel: tonic::transport::Channel, as_whom: &str) -> Result<String, Status> {
    let (say, said) = mpsc::channel(1);
    let hello = v1::peer_message::Message::Hello(v1::Hello { persona: as_whom.into() });
    say.send(v1::PeerMessage { message: Some(hello) }).await.unwrap();
    let mut incoming = PeerServiceClient::new(channel).exchange(ReceiverStream::new(said)).await?.into_inner();
    match incoming.message().await?.and_then(|message| message.message) {
        Some(v1::peer_message::Message::Hello(hello)) => Ok(hello.persona),
        other => panic!("{other:?}"),
    }
}

fn scraped(node: &Node, name: &str, sample: &str) -> u64 {
    use std::io::{Read as _, Write as _};
    let at = std::fs::read_to_string(node.settings.paths.metrics_address(&format!("agent-{name}"))).unwrap();
    let mut stream = std::net::TcpStream::connect(at.trim()).unwrap();
    stream.write_all(b"GET /metrics HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").unwrap();
    let mut text = String::new();
    stream.read_to_string(&mut text).unwrap();
    let line = text.lines().find_map(|line| line.strip_prefix(sample)?.strip_prefix(' '));
    line.unwrap_or_else(|| panic!("no {sample} in {text}")).parse::<f64>().unwrap() as u64
}

#[tokio::test]
async fn agents_that_listen_on_tcp_hear_each_other_there_and_nowhere_else() {
    let (node, _) = node();
    let (warden, mut ears) = node.play_warden();
    let vera = node.start("vera");
    reach(&node, "vera").await;
    // What is dialled over TCP needs no socket, and would not take it.
    std::fs::remove_file(node.settings.paths.agent_socket(&persona("vera"))).unwrap();
    let lior = node.start("lior");
    let mut met = std::collections::BTreeSet::new();
    while met.len() < 2 {
        let with_heads = |heard| match heard {
            Heard::Heartbeat(by, said) if !said.heads.is_empty() => Some(by),
            _ => None,
        };
        met.insert(heard(&mut ears, with_heads).await);
    }
    for agent in [lior, vera] {
        agent.stop().await;
    }
    warden.stop().await;
}

#[tokio::test]
async fn a_certificate_speaks_for_its_own_persona_and_no_other() {
    let (node, _) = node();
    let vera = node.start("vera");
    let lior = Identity::new(Place::of_agent(&node.settings.paths, &persona("lior")), &key("lior")).unwrap();
    let channel = dial(&lior, address(&node, "vera")).await;
    let status = greet(channel.clone(), "otto").await.unwrap_err();
    assert_eq!(status.code(), tonic::Code::PermissionDenied);
    assert_eq!(status.message(), "the certificate is that of the agent of lior, not of the agent of otto");
    assert_eq!(greet(channel.clone(), "lior").await.unwrap(), "vera");
    let fetch = v1::FetchRequest { session_key: vec![0; 32], seq: 1 };
    assert_eq!(PeerServiceClient::new(channel).fetch(fetch).await.unwrap_err().code(), tonic::Code::NotFound);
    vera.stop().await;
}

#[tokio::test]
async fn an_inspector_may_look_and_nothing_else_and_the_metrics_count_it() {
    let (node, ca) = node();
    let folder = tempfile::tempdir().unwrap();
    let paths = &node.settings.paths;
    let laptop = InspectorName::new("laptop").unwrap();
    ca.certify_inspector(paths, &node.roster, &laptop, folder.path(), LEAF_LIFE).unwrap();
    let vera = node.start("vera");
    let key = keys::load(&folder.path().join("inspector.pem")).unwrap();
    let identity = Identity::new(Place::of_inspector(folder.path()), &key).unwrap();
    let channel = dial(&identity, address(&node, "vera")).await;
    let everything = v1::QuorumRequest { subject: None };
    let view = InspectServiceClient::new(channel.clone()).quorum(everything).await.unwrap().into_inner();
    assert!(!view.verified && !view.subjects.is_empty());
    for name in PERSONAS.into_iter().filter(|name| *name < "vera") {
        assert_eq!(greet(channel.clone(), name).await.unwrap_err().code(), tonic::Code::PermissionDenied);
    }
    let fetch = v1::FetchRequest { session_key: vec![0; 32], seq: 1 };
    assert_eq!(PeerServiceClient::new(channel).fetch(fetch).await.unwrap_err().code(), tonic::Code::PermissionDenied);

    let plain = tokio::task::spawn_blocking(move || {
        assert_eq!(scraped(&node, "vera", "zeta_bft_tls_handshakes_total{result=\"welcome\"}"), 1);
        assert_eq!(scraped(&node, "vera", "zeta_bft_tls_handshakes_total{result=\"no_certificate\"}"), 0);
        let year = clock::unix().as_secs() + LEAF_LIFE.as_secs();
        let end = scraped(&node, "vera", "zeta_bft_tls_certificate_end_timestamp_seconds{certificate=\"own\"}");
        assert!(end.abs_diff(year) < 60, "{end}");
    });
    plain.await.unwrap();
    vera.stop().await;
}
