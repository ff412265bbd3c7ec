//! An agent against a warden, wrappers and a PID 1 that the test plays, all over real sockets in one process.

mod fetches;
mod lines;
mod tcp;

use super::{Agent, AgentError, run};
use crate::backend::{ActReport, Backend, BackendError, BackendEvent};
use crate::config::paths::Paths;
use crate::config::{self, Settings};
use crate::grpc::client::connect;
use crate::grpc::server::{Server, serve};
use crate::protocol::evidence::{Activity, Reason, UnitState, Verdict};
use crate::protocol::roster::{Member, Roster, RosterStatement};
use crate::protocol::session::verify_request;
use crate::protocol::signing::{Domain, SigningKey, VerifyingKey};
use crate::protocol::statement::{Envelope, Heartbeat, Session};
use crate::protocol::types::{
    Digest, Incarnation, InvocationId, Nonce, PersonaId, SessionIncarnation, SubjectName, WardenInstance,
};
use crate::protocol::warden::{ActionPermit, PeerUnit};
use crate::wire::v1::warden_service_server::{SERVICE_NAME, WardenService, WardenServiceServer};
use crate::wire::v1::wrapper_service_server::{WrapperService, WrapperServiceServer};
use crate::wire::{Proto, v1};
use crate::{clock, grpc};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;
use tokio::sync::{mpsc, oneshot, watch};
use tokio_stream::wrappers::ReceiverStream;
use tokio_stream::{Stream, StreamExt as _};
use tonic::service::Routes;
use tonic::{Request, Response, Status, Streaming};

const PERSONAS: [&str; 3] = ["lior", "otto", "vera"];

fn persona(name: &str) -> PersonaId {
    PersonaId::new(name).unwrap()
}

fn key(name: &str) -> SigningKey {
    SigningKey::from_seed(&Digest::of(name.as_bytes()).0)
}

/// A node in a folder.
struct Node {
    _dir: tempfile::TempDir,
    settings: Settings,
    roster: Arc<Roster>,
}

impl Node {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let text = config::default_up_toml(false);
        let mut settings = config::parse(&text, "node.toml", &Paths::below(dir.path())).unwrap();
        for persona in settings.personas.values_mut() {
            persona.agent_metrics.set_port(0);
        }
        let members = settings.personas.iter().map(|(name, configured)| Member {
            persona: name.clone(),
            vendor: configured.vendor.clone(),
            key: key(name.as_str()).public(),
        });
        let statement = RosterStatement {
            cluster: settings.cluster.clone(),
            node: settings.node.clone(),
            epoch: 1,
            previous: Digest::default(),
            members: members.collect(),
            f: 1,
            q: 2,
            warden: key("warden").public(),
            operator: key("operator").public(),
        };
        let roster = Arc::new(Roster::new(statement, Digest::of(b"roster")).unwrap());
        Self { _dir: dir, settings, roster }
    }

    fn start(&self, name: &str) -> Running {
        let agent = Agent {
            persona: persona(name),
            key: key(name),
            settings: self.settings.clone(),
            roster: Arc::clone(&self.roster),
            backend: AllRun(self.settings.policy.subjects.keys().cloned().collect()),
        };
        let (stop, stopped) = oneshot::channel::<()>();
        let task = tokio::spawn(run(agent, async {
            let _ = stopped.await;
        }));
        Running { stop, task }
    }

    /// Plays the warden; what agents submit comes out of the receiver.
    fn play_warden(&self) -> (Server, mpsc::Receiver<Heard>) {
        let (server, receiver, _) = self.play_asking_warden();
        (server, receiver)
    }

    /// The same, and it asks every agent whatever number it is given.
    fn play_asking_warden(&self) -> (Server, mpsc::Receiver<Heard>, watch::Sender<Nonce>) {
        let (heard, receiver) = mpsc::channel(1000);
        let (ask, asked) = watch::channel(CHALLENGE);
        let warden = FakeWarden { roster: Arc::clone(&self.roster), sessions: AtomicU32::new(1), heard, asked };
        let routes = Routes::new(WardenServiceServer::new(warden));
        let server = serve(&self.settings.paths.warden_socket(), 0o600, &[SERVICE_NAME], routes).unwrap();
        (server, receiver, ask)
    }
}

struct Running {
    stop: oneshot::Sender<()>,
    task: tokio::task::JoinHandle<Result<(), AgentError>>,
}

impl Running {
    async fn stop(self) {
        self.stop.send(()).unwrap();
        self.task.await.unwrap().unwrap();
    }
}

/// A PID 1 for which every unit is this very process.
#[derive(Debug)]
struct AllRun(Vec<SubjectName>);

fn running() -> UnitState {
    let incarnation = Incarnation { boot: clock::boot_id().unwrap(), invocation: InvocationId([7; 16]) };
    UnitState {
        activity: Activity::Active,
        main_pid: Some(std::process::id()),
        active_since: Some(clock::now()),
        ..UnitState::never_started(incarnation)
    }
}

impl Backend for AllRun {
    fn watch(&self) -> mpsc::Receiver<BackendEvent> {
        let (events, receiver) = mpsc::channel(64);
        for subject in &self.0 {
            events.try_send(BackendEvent::Unit(subject.clone(), Some(running()))).unwrap();
        }
        // PID 1 stays reachable and silent.
        tokio::spawn(async move { events.closed().await });
        receiver
    }
    async fn read(&self, _: &SubjectName) -> Result<UnitState, BackendError> {
        Ok(running())
    }
    async fn unit_of(&self, _: u32) -> Result<Option<PeerUnit>, BackendError> {
        Ok(None)
    }
    async fn act(&self, _: ActionPermit) -> Result<ActReport, BackendError> {
        Err(BackendError::Refused("agents do not act".into()))
    }
    async fn page(&self, _: &str, _: &str, _: &str) -> Result<(), BackendError> {
        Ok(())
    }
}

/// What a warden hears.
#[derive(Debug)]
enum Heard {
    Opened(Session),
    Answered(Nonce),
    Heartbeat(PersonaId, Heartbeat),
}

struct FakeWarden {
    roster: Arc<Roster>,
    sessions: AtomicU32,
    heard: mpsc::Sender<Heard>,
    asked: watch::Receiver<Nonce>,
}

const CHALLENGE: Nonce = Nonce([9; 16]);

type Replies<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;

#[tonic::async_trait]
impl WardenService for FakeWarden {
    async fn nonce(&self, _: Request<v1::NonceRequest>) -> Result<Response<v1::NonceResponse>, Status> {
        Ok(Response::new(v1::NonceResponse { nonce: vec![5; 16] }))
    }

    async fn open_session(
        &self,
        request: Request<v1::OpenSessionRequest>,
    ) -> Result<Response<v1::OpenSessionResponse>, Status> {
        let envelope = Envelope::try_from(request.into_inner().request.unwrap()).unwrap();
        let asked =
            PERSONAS.iter().find_map(|name| verify_request(&envelope, &persona(name), &self.roster, &Proto).ok());
        let (asked, _) = asked.expect("signed by a persona of the roster");
        assert_eq!(asked.nonce, Nonce([5; 16]));
        let session = Session {
            request: envelope,
            cluster: asked.cluster.clone(),
            node: asked.node.clone(),
            boot: clock::boot_id().unwrap(),
            persona: asked.persona.clone(),
            session_key: asked.session_key,
            incarnation: SessionIncarnation::new(
                WardenInstance(u32::try_from(clock::now().as_nanos() >> 20).unwrap()),
                self.sessions.fetch_add(1, Ordering::Relaxed),
            ),
            uid: 0,
            unit: SubjectName::agent(&asked.persona),
            invocation: InvocationId([7; 16]),
        };
        let sealed = Envelope::seal(&session, &key("warden"), &Proto);
        self.heard.send(Heard::Opened(session)).await.unwrap();
        Ok(Response::new(v1::OpenSessionResponse { session: Some((&sealed).into()) }))
    }

    type WatchEpisodesStream = Replies<v1::WatchEpisodesResponse>;
    async fn watch_episodes(
        &self,
        _: Request<v1::WatchEpisodesRequest>,
    ) -> Result<Response<Self::WatchEpisodesStream>, Status> {
        Ok(Response::new(Box::pin(tokio_stream::pending())))
    }

    async fn submit(
        &self,
        request: Request<Streaming<v1::SubmitRequest>>,
    ) -> Result<Response<v1::SubmitResponse>, Status> {
        let mut stream = request.into_inner();
        while let Some(message) = stream.message().await? {
            let Some(v1::submit_request::Submission::Statement(statement)) = message.submission else { continue };
            let envelope = Envelope::try_from(statement).unwrap();
            if envelope.domain != Domain::Heartbeat {
                continue;
            }
            let opened = envelope.open::<Heartbeat>(&VerifyingKey::new(envelope.key).unwrap(), &Proto).unwrap();
            let heartbeat = opened.into_inner();
            let _ = self.heard.try_send(Heard::Heartbeat(heartbeat.header.persona.clone(), heartbeat));
        }
        Ok(Response::new(v1::SubmitResponse {}))
    }

    type ChallengeStream = Replies<v1::ChallengeRequest>;
    async fn challenge(
        &self,
        request: Request<Streaming<v1::ChallengeReply>>,
    ) -> Result<Response<Self::ChallengeStream>, Status> {
        let (mut replies, heard) = (request.into_inner(), self.heard.clone());
        tokio::spawn(async move {
            while let Ok(Some(reply)) = replies.message().await {
                if let Some(nonce) = Nonce::from_slice(&reply.nonce) {
                    let _ = heard.send(Heard::Answered(nonce)).await;
                }
            }
        });
        let (ask, questions) = mpsc::channel(1);
        let mut asked = self.asked.clone();
        tokio::spawn(async move {
            loop {
                let nonce = asked.borrow_and_update().0.to_vec();
                if ask.send(Ok(v1::ChallengeRequest { nonce })).await.is_err() {
                    return;
                }
                // Who no longer asks still listens.
                if asked.changed().await.is_err() {
                    ask.closed().await;
                }
            }
        });
        Ok(Response::new(Box::pin(ReceiverStream::new(questions))))
    }
}

/// A wrapper that answers.
struct WellWrapper;

#[tonic::async_trait]
impl WrapperService for WellWrapper {
    type PingStream = Pin<Box<dyn Stream<Item = Result<v1::PingResponse, Status>> + Send>>;
    async fn ping(&self, request: Request<Streaming<v1::PingRequest>>) -> Result<Response<Self::PingStream>, Status> {
        let answer = |v1::PingRequest { number }| v1::PingResponse { number, changes: 1 };
        Ok(Response::new(Box::pin(request.into_inner().map(move |ping| ping.map(answer)))))
    }
    async fn ticks(&self, _: Request<v1::TicksRequest>) -> Result<Response<v1::TicksResponse>, Status> {
        Ok(Response::new(v1::TicksResponse { begun: 1, interval_ns: 1_000_000_000, ..Default::default() }))
    }
}

/// The first thing heard that fits, within a generous limit.
async fn heard<T>(receiver: &mut mpsc::Receiver<Heard>, mut wanted: impl FnMut(Heard) -> Option<T>) -> T {
    let search = async {
        loop {
            if let Some(found) = wanted(receiver.recv().await.expect("the warden is still there")) {
                return found;
            }
        }
    };
    tokio::time::timeout(Duration::from_secs(20), search).await.expect("heard in time")
}

/// A channel to an agent, once it listens.
async fn reach(node: &Node, name: &str) -> tonic::transport::Channel {
    let path = node.settings.paths.agent_socket(&persona(name));
    let listens = async {
        loop {
            match connect(&path).await {
                Ok(connection) => return connection.channel,
                Err(_) => tokio::task::yield_now().await,
            }
        }
    };
    tokio::time::timeout(Duration::from_secs(20), listens).await.expect("the agent listens in time")
}

fn opened(heard: Heard) -> Option<Session> {
    match heard {
        Heard::Opened(session) => Some(session),
        _ => None,
    }
}

fn answer(heard: Heard) -> Option<Nonce> {
    match heard {
        Heard::Answered(nonce) => Some(nonce),
        _ => None,
    }
}

#[tokio::test]
async fn an_agent_opens_a_session_answers_challenges_and_says_what_it_sees_of_a_wrapper() {
    let node = Node::new();
    let (warden, mut ears) = node.play_warden();
    let routes = Routes::new(WrapperServiceServer::new(WellWrapper));
    let wrapper = serve(&node.settings.paths.wrapper_socket(&persona("otto")), 0o600, &[], routes).unwrap();
    let agent = node.start("vera");
    let session = heard(&mut ears, opened).await;
    assert_eq!(session.persona, persona("vera"));
    let otto = SubjectName::wrapper(&persona("otto"));
    heard(&mut ears, |heard| match heard {
        Heard::Heartbeat(_, said) => {
            assert_eq!(said.header.session_key, session.session_key);
            said.attestations.into_iter().find(|said| said.subject == otto && said.verdict == Verdict::Up)
        }
        _ => None,
    })
    .await;
    agent.stop().await;
    wrapper.stop().await;
    warden.stop().await;
}

#[tokio::test]
async fn a_challenge_is_answered_with_its_own_number() {
    let node = Node::new();
    let (warden, mut ears) = node.play_warden();
    let agent = node.start("otto");
    assert_eq!(heard(&mut ears, answer).await, CHALLENGE);
    agent.stop().await;
    warden.stop().await;
}

#[tokio::test]
async fn a_silent_wrapper_is_down_although_nothing_listens_on_its_socket() {
    let node = Node::new();
    let (warden, mut ears) = node.play_warden();
    let agent = node.start("otto");
    let lior = SubjectName::wrapper(&persona("lior"));
    let said = heard(&mut ears, |heard| match heard {
        Heard::Heartbeat(_, said) => {
            said.attestations.into_iter().find(|said| said.subject == lior && said.verdict == Verdict::Down)
        }
        _ => None,
    })
    .await;
    assert_eq!(said.reason, Reason::PingSilent);
    agent.stop().await;
    warden.stop().await;
}

#[tokio::test]
async fn an_agent_comes_back_to_a_warden_that_was_restarted() {
    let node = Node::new();
    let (warden, mut ears) = node.play_warden();
    let agent = node.start("otto");
    let first = heard(&mut ears, opened).await;
    warden.stop().await;
    drop(ears);
    let (warden, mut ears) = node.play_warden();
    let second = heard(&mut ears, opened).await;
    assert_eq!(first.session_key, second.session_key, "one run, one key");
    agent.stop().await;
    warden.stop().await;
}

#[tokio::test]
async fn agents_hear_each_other_and_say_so_in_their_heads() {
    let node = Node::new();
    let (warden, mut ears) = node.play_warden();
    let agents = [node.start("lior"), node.start("vera")];
    let mut met = std::collections::BTreeSet::new();
    while met.len() < 2 {
        met.insert(
            heard(&mut ears, |heard| match heard {
                Heard::Heartbeat(by, said) => {
                    let head = said.heads.first()?;
                    assert_ne!(head.persona, by);
                    Some(by)
                }
                _ => None,
            })
            .await,
        );
    }
    for agent in agents {
        agent.stop().await;
    }
    warden.stop().await;
}

#[tokio::test]
async fn a_stranger_or_a_peer_that_should_be_dialled_gets_no_line() {
    let node = Node::new();
    let agent = node.start("lior");
    let path = node.settings.paths.agent_socket(&persona("lior"));
    let mut client = v1::peer_service_client::PeerServiceClient::new(reach(&node, "lior").await);
    for (name, code) in [
        ("nobody", tonic::Code::PermissionDenied),
        ("vera", tonic::Code::FailedPrecondition),
        ("../x", tonic::Code::InvalidArgument),
    ] {
        let (say, said) = mpsc::channel(1);
        let hello = v1::peer_message::Message::Hello(v1::Hello { persona: name.into() });
        say.send(v1::PeerMessage { message: Some(hello) }).await.unwrap();
        let status = client.exchange(ReceiverStream::new(said)).await.unwrap_err();
        assert_eq!(status.code(), code, "{name}: {status}");
    }
    let fetch = v1::FetchRequest { session_key: vec![0; 32], seq: 1 };
    assert_eq!(client.fetch(fetch).await.unwrap_err().code(), tonic::Code::NotFound);
    agent.stop().await;
    assert!(!path.exists(), "a stopped agent leaves no socket");
}

#[tokio::test]
async fn the_newest_line_of_a_peer_ends_the_older() {
    let node = Node::new();
    let agent = node.start("vera");
    let mut client = v1::peer_service_client::PeerServiceClient::new(reach(&node, "vera").await);
    let mut lines = Vec::new();
    for _ in 0..2 {
        let (say, said) = mpsc::channel(1);
        let hello = v1::peer_message::Message::Hello(v1::Hello { persona: "lior".into() });
        say.send(v1::PeerMessage { message: Some(hello) }).await.unwrap();
        let mut incoming = client.exchange(ReceiverStream::new(said)).await.unwrap().into_inner();
        let greeting = incoming.message().await.unwrap().unwrap().message;
        assert!(matches!(greeting, Some(v1::peer_message::Message::Hello(hello)) if hello.persona == "vera"));
        lines.push((say, incoming));
    }
    let (_say, mut older) = lines.remove(0);
    let ended = tokio::time::timeout(Duration::from_secs(20), older.message()).await.expect("it ends in time");
    assert!(matches!(ended, Ok(None)), "{ended:?}");
    agent.stop().await;
}

#[tokio::test]
async fn an_agent_shows_its_own_sight_and_says_that_nobody_verified_it() {
    let node = Node::new();
    let agent = node.start("vera");
    let mut client = v1::inspect_service_client::InspectServiceClient::new(reach(&node, "vera").await);
    let view = client.quorum(v1::QuorumRequest { subject: None }).await.unwrap().into_inner();
    assert!(!view.verified);
    assert_eq!(view.status, "lost", "without a warden nobody has a session");
    assert_eq!(view.subjects.len(), node.settings.policy.subjects.len());
    let otto = client.subject(v1::SubjectRequest { subject: "otto".into() }).await.unwrap().into_inner();
    assert_eq!((otto.name.as_str(), otto.vendor.as_deref()), ("otto", Some("anthropic")));
    let status = client.subject(v1::SubjectRequest { subject: "nobody".into() }).await.unwrap_err();
    assert_eq!(status.code(), tonic::Code::NotFound);
    agent.stop().await;
}

#[tokio::test]
async fn an_agent_whose_key_is_not_the_rosters_does_not_start() {
    let node = Node::new();
    let agent = Agent {
        persona: persona("otto"),
        key: key("somebody"),
        settings: node.settings.clone(),
        roster: Arc::clone(&node.roster),
        backend: AllRun(Vec::new()),
    };
    assert!(matches!(run(agent, std::future::pending()).await, Err(AgentError::NotTheRosters(_))));
}

#[tokio::test]
async fn two_agents_of_one_persona_do_not_share_a_socket() {
    let node = Node::new();
    let agent = node.start("otto");
    reach(&node, "otto").await;
    let second = node.start("otto").task.await.unwrap();
    assert!(matches!(second, Err(AgentError::Socket(grpc::server::ServeError::InUse { .. }))), "{second:?}");
    agent.stop().await;
}
