//! Peers that answer fetches, and one that never does.

use super::super::mind::{self, Message};
use super::super::peers::{Fetches, Gossip, fetch};
use super::super::units::Units;
use super::*;
use crate::metrics::AgentMetrics;
use crate::protocol::guardian::GuardianInput;
use crate::protocol::types::PublicKey;
use v1::peer_service_server::{PeerService, PeerServiceServer, SERVICE_NAME as PEER};

/// Plays a peer.
struct FakePeer {
    /// Counts who asks and waits for ever; without it everybody is answered.
    waiting: Option<Arc<AtomicU32>>,
}

fn statement(domain: Domain) -> v1::Envelope {
    let envelope = Envelope { domain, payload: vec![1].into(), signature: [0; 64], key: PublicKey::default() };
    (&envelope).into()
}

#[tonic::async_trait]
impl PeerService for FakePeer {
    type ExchangeStream = Pin<Box<dyn Stream<Item = Result<v1::PeerMessage, Status>> + Send>>;

    async fn exchange(&self, _: Request<Streaming<v1::PeerMessage>>) -> Result<Response<Self::ExchangeStream>, Status> {
        Err(Status::unimplemented("it is fetched from alone"))
    }

    async fn fetch(&self, _: Request<v1::FetchRequest>) -> Result<Response<v1::FetchResponse>, Status> {
        if let Some(waiting) = &self.waiting {
            waiting.fetch_add(1, Ordering::SeqCst);
            std::future::pending::<()>().await;
        }
        let (session, statement) = (Some(statement(Domain::Session)), Some(statement(Domain::Heartbeat)));
        Ok(Response::new(v1::FetchResponse { session, statement }))
    }
}

#[tokio::test]
async fn a_liar_that_answers_no_fetch_hides_no_lie_that_another_peer_can_show() {
    let node = Node::new();
    let waiting = Arc::new(AtomicU32::new(0));
    let serve_peer = |name: &str, waiting| {
        let routes = Routes::new(PeerServiceServer::new(FakePeer { waiting }));
        serve(&node.settings.paths.agent_socket(&persona(name)), 0o600, &[PEER], routes).unwrap()
    };
    let servers = [serve_peer("lior", Some(Arc::clone(&waiting))), serve_peer("otto", None)];
    let (mouth, mut ears) = mind::open();
    let (units, known) = Units::new();
    for peer in ["lior", "otto"] {
        units.set(SubjectName::agent(&persona(peer)), Some(running()));
    }
    let personas: Vec<_> = PERSONAS.map(persona).into();
    let gossip = Arc::new(Gossip {
        me: persona("vera"),
        roster: Arc::clone(&node.roster),
        policy: Arc::clone(&node.settings.policy),
        paths: node.settings.paths.clone(),
        tcp: None,
        units: known,
        mouth,
        metrics: AgentMetrics::new(&node.settings.policy, &personas, false),
        fetches: Fetches::from_each(&personas),
        admissions: std::sync::Mutex::default(),
    });
    // As many as a heartbeat full of made-up heads ever made it ask.
    let asked: Vec<_> = (1..=16)
        .map(|seq| tokio::spawn(fetch(Arc::clone(&gossip), persona("lior"), PublicKey::default(), seq)))
        .collect();
    while waiting.load(Ordering::SeqCst) == 0 {
        tokio::task::yield_now().await;
    }
    fetch(Arc::clone(&gossip), persona("otto"), PublicKey::default(), 7).await;
    let heard = ears.next(Duration::from_secs(1)).await;
    assert!(matches!(heard, Some(Message::Input(GuardianInput::Fetched { .. }))), "{heard:?}");
    assert!(waiting.load(Ordering::SeqCst) < 4, "of one peer few are under way");
    for fetch in asked {
        fetch.abort();
    }
    for server in servers {
        server.stop().await;
    }
}
