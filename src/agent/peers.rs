//! The lines between agents: one bidirectional stream for each pair, dialled by the one whose name comes first.
//!
//! * The process at the other end must be the main process of the agent unit that it claims to be, by PID 1's word to this
//!   agent, and of the configured user. So no stranger can push a peer off its line; what the peer says proves itself.
//! * The newest line of a peer replaces an older one. To take one costs a part of what the peer may send, as at the warden's
//!   socket; who has nothing left gets none. So nobody is kept busy, or made deaf to others, by lines that come and go.
//! * A peer that does not keep up loses statements, never the guardian its time.

use super::mind::{self, Message, Mouth};
use super::tcp::Tcp;
use super::units::KnownUnits;
use crate::clock;
use crate::config::paths::Paths;
use crate::grpc::client::{Backoff, ConnectError, Connection, connect};
use crate::grpc::limits::{Admission, Lane};
use crate::grpc::tls::{self, Holder, Wanted};
use crate::grpc::{MAX_MESSAGE, Peer, server};
use crate::metrics::AgentMetrics;
use crate::protocol::guardian::{GuardianEvent, GuardianInput};
use crate::protocol::policy::Policy;
use crate::protocol::roster::Roster;
use crate::protocol::statement::{DecodeError, Envelope, EquivocationProof};
use crate::protocol::types::{PersonaId, PublicKey, SubjectName};
use crate::wire::v1;
use crate::wire::v1::peer_message::Message as Kind;
use crate::wire::v1::peer_service_client::PeerServiceClient;
use crate::wire::v1::peer_service_server::{PeerService, PeerServiceServer};
use std::collections::BTreeMap;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::sync::{Semaphore, SemaphorePermit, mpsc, oneshot};
use tokio_stream::wrappers::ReceiverStream;
use tokio_stream::{Stream, StreamExt as _};
use tonic::service::Routes;
use tonic::{Request, Response, Status, Streaming};
use tracing::debug;

/// Longest wait for a greeting or an answer.
const ANSWER_LIMIT: Duration = Duration::from_secs(2);
/// Fetches under way at once from one peer: a liar's heads must not make us dial without end.
const FETCHES: usize = 2;
/// Statements that may wait for one peer.
const OUTGOING: usize = 128;
/// A line that held so long was a good one: the next attempt comes soon again.
const GOOD: Duration = Duration::from_secs(5);
/// A stream that exceeds its rate is left unread for so long.
const PAUSE: Duration = Duration::from_millis(20);
/// A peer that takes lines too fast waits so long for each refusal: its streams are bounded in number, so this bounds their
/// rate. Below [`ANSWER_LIMIT`], so that it hears why.
const REFUSAL: Duration = Duration::from_secs(1);

/// The sending end of a line to a peer. The line ends with it.
#[derive(Debug)]
pub(super) struct PeerLine {
    outgoing: mpsc::Sender<v1::PeerMessage>,
    _hold: oneshot::Sender<()>,
}

/// The other two ends: what is to be sent, and whether the line was let go.
pub(super) struct PeerLineEnds {
    outgoing: ReceiverStream<v1::PeerMessage>,
    pub(super) let_go: oneshot::Receiver<()>,
}

impl PeerLine {
    pub(super) fn greeting(me: &PersonaId) -> (Self, PeerLineEnds) {
        let (outgoing, incoming) = mpsc::channel(OUTGOING);
        let (hold, let_go) = oneshot::channel();
        let line = Self { outgoing, _hold: hold };
        line.put(Kind::Hello(v1::Hello { persona: me.as_str().to_owned() }));
        (line, PeerLineEnds { outgoing: ReceiverStream::new(incoming), let_go })
    }

    fn put(&self, message: Kind) {
        if self.outgoing.try_send(v1::PeerMessage { message: Some(message) }).is_err() {
            debug!("a peer does not keep up: a statement is lost");
        }
    }

    pub(super) fn send(&self, statement: &Envelope) {
        self.put(Kind::Statement(statement.into()));
    }

    pub(super) fn send_proof(&self, proof: &EquivocationProof) {
        self.put(Kind::Proof(proof.into()));
    }
}

/// Why there is no line to a peer.
#[derive(Debug, thiserror::Error)]
enum NoLine {
    #[error(transparent)]
    Connect(#[from] ConnectError),
    #[error(transparent)]
    Tcp(#[from] tls::ConnectError),
    #[error("the certificate is that of {holder}, not of the agent of {claimed}")]
    OtherHolder { claimed: PersonaId, holder: Holder },
    #[error("process {} of user {} is not the agent of {claimed}", peer.pid, peer.uid)]
    Stranger { claimed: PersonaId, peer: Peer },
    #[error("{0}")]
    Refused(Box<Status>),
    #[error("no answer in time")]
    Late,
    #[error("no greeting")]
    NoGreeting,
    #[error("an answer that makes no sense: {0}")]
    Nonsense(#[from] DecodeError),
    #[error("the peer has no such statement")]
    NotHeld,
    #[error("the agent is stopping")]
    Stopping,
}

impl From<Status> for NoLine {
    fn from(status: Status) -> Self {
        Self::Refused(Box::new(status))
    }
}

/// Places for fetches, so many for each peer: one that never answers takes no other's.
#[derive(Debug)]
pub(super) struct Fetches(BTreeMap<PersonaId, Semaphore>);

impl Fetches {
    pub(super) fn from_each(peers: &[PersonaId]) -> Self {
        Self(peers.iter().map(|peer| (peer.clone(), Semaphore::new(FETCHES))).collect())
    }

    fn begin(&self, from: &PersonaId) -> Option<SemaphorePermit<'_>> {
        self.0.get(from)?.try_acquire().ok()
    }
}

/// What the lines to peers share.
pub(super) struct Gossip {
    pub(super) me: PersonaId,
    pub(super) roster: Arc<Roster>,
    pub(super) policy: Arc<Policy>,
    pub(super) paths: Paths,
    pub(super) tcp: Option<Tcp>,
    pub(super) units: KnownUnits,
    pub(super) mouth: Mouth,
    pub(super) metrics: AgentMetrics,
    pub(super) fetches: Fetches,
    /// What each peer may still send: a new line brings no new allowance.
    pub(super) admissions: Mutex<BTreeMap<PersonaId, Admission>>,
}

impl Gossip {
    /// Of each pair, the one whose name comes first dials.
    pub(super) fn dials(&self, peer: &PersonaId) -> bool {
        self.me < *peer
    }

    /// Dials a peer again and again, for ever.
    pub(super) async fn keep_dialled(self: Arc<Self>, peer: PersonaId) {
        let mut backoff = Backoff::new();
        loop {
            let began = clock::now();
            match self.dial(&peer).await {
                Ok(()) => debug!(%peer, "the line to the peer ended"),
                Err(NoLine::Stopping) => return,
                Err(error) => debug!(%peer, %error, "no line to the peer"),
            }
            if clock::now().saturating_since(began) >= GOOD {
                backoff.reset();
            }
            tokio::time::sleep(backoff.next_delay()).await;
        }
    }

    async fn dial(&self, peer: &PersonaId) -> Result<(), NoLine> {
        let mut client = self.client(peer).await?;
        let (line, PeerLineEnds { outgoing, let_go }) = PeerLine::greeting(&self.me);
        let answer = tokio::time::timeout(ANSWER_LIMIT, client.exchange(outgoing));
        let mut incoming = answer.await.map_err(|_| NoLine::Late)??.into_inner();
        if greeting(&mut incoming).await? != *peer {
            return Err(NoLine::NoGreeting);
        }
        self.hear(peer.clone(), line, let_go, incoming).await
    }

    /// A client of a peer's, once what serves it is known to be the peer's agent: by its process, or over TCP by its key.
    async fn client(&self, peer: &PersonaId) -> Result<PeerServiceClient<tonic::transport::Channel>, NoLine> {
        let tcp = self.tcp.as_ref().and_then(|tcp| Some((tcp, tcp.address(peer)?)));
        let channel = if let Some((tcp, address)) = tcp {
            tcp.identity.connect(address, Wanted::Agent(peer.clone())).await?.0
        } else {
            let Connection { channel, peer: process } = connect(&self.paths.agent_socket(peer)).await?;
            self.check(peer, process)?;
            channel
        };
        Ok(PeerServiceClient::new(channel).max_decoding_message_size(MAX_MESSAGE))
    }

    /// Whether a request is from who it claims to be.
    fn check_caller(&self, claimed: &PersonaId, caller: &Caller) -> Result<(), NoLine> {
        match caller {
            Caller::Process(process) => self.check(claimed, *process),
            Caller::Holder(Holder::Agent(persona)) if persona == claimed => Ok(()),
            Caller::Holder(holder) => Err(NoLine::OtherHolder { claimed: claimed.clone(), holder: holder.clone() }),
        }
    }

    fn is_an_agents(&self, caller: &Caller) -> bool {
        self.roster.members().any(|member| self.check_caller(&member.persona, caller).is_ok())
    }

    fn check(&self, claimed: &PersonaId, peer: Peer) -> Result<(), NoLine> {
        let unit = SubjectName::agent(claimed);
        let is_its_user = |uid: Option<u32>| uid.is_none_or(|uid| uid == peer.uid);
        let configured = self.policy.subject(&unit).is_some_and(|configured| is_its_user(configured.uid));
        if configured && self.units.main_pid(&unit) == Some(peer.pid) {
            return Ok(());
        }
        Err(NoLine::Stranger { claimed: claimed.clone(), peer })
    }

    /// Takes in what a peer says, until it stops.
    async fn hear(
        &self,
        peer: PersonaId,
        line: PeerLine,
        mut let_go: oneshot::Receiver<()>,
        mut incoming: Streaming<v1::PeerMessage>,
    ) -> Result<(), NoLine> {
        let number = self.mouth.lines.up(peer.clone(), line).map_err(|_| NoLine::Stopping)?;
        let result = loop {
            let message = tokio::select! {
                _ = &mut let_go => break Ok(()),
                message = incoming.message() => message,
            };
            match message {
                Ok(Some(message)) if self.admits(&peer) => self.take_in(&peer, message),
                Ok(Some(_)) => {
                    self.reject("rate_limited", &peer);
                    tokio::time::sleep(PAUSE).await;
                }
                Ok(None) => break Ok(()),
                Err(status) => break Err(status.into()),
            }
        };
        self.mouth.lines.down(peer, number).map_err(|_| NoLine::Stopping)?;
        result
    }

    fn take_in(&self, from: &PersonaId, message: v1::PeerMessage) {
        let taken = mind::heard(from, message)
            .and_then(|(lane, message)| self.mouth.offer(lane, message).map_err(|refused| refused.as_str()));
        if let Err(reason) = taken {
            self.reject(reason, from);
        }
    }

    /// Whether the peer, a member of the roster, may send one more.
    fn admits(&self, peer: &PersonaId) -> bool {
        let mut admissions = self.admissions.lock().unwrap_or_else(PoisonError::into_inner);
        admissions.entry(peer.clone()).or_insert_with(Admission::for_statements).admit(clock::now())
    }

    fn reject(&self, reason: &'static str, from: &PersonaId) {
        self.metrics.on_event(&GuardianEvent::Rejected { reason, from: Some(from.clone()) });
    }
}

async fn greeting(incoming: &mut Streaming<v1::PeerMessage>) -> Result<PersonaId, NoLine> {
    let message = tokio::time::timeout(ANSWER_LIMIT, incoming.message()).await.map_err(|_| NoLine::Late)??;
    match message.and_then(|message| message.message) {
        Some(Kind::Hello(hello)) => PersonaId::new(&hello.persona).map_err(|_| NoLine::NoGreeting),
        _ => Err(NoLine::NoGreeting),
    }
}

/// Fetches one statement from a peer and hands it to the guardian.
pub(super) async fn fetch(gossip: Arc<Gossip>, from: PersonaId, session_key: PublicKey, seq: u64) {
    let Some(_under_way) = gossip.fetches.begin(&from) else {
        debug!(peer = %from, seq, "not fetched: it has not answered the last fetches");
        return;
    };
    let request = v1::FetchRequest { session_key: session_key.0.to_vec(), seq };
    let fetched = async {
        let mut client = gossip.client(&from).await?;
        let answer = tokio::time::timeout(ANSWER_LIMIT, client.fetch(request)).await.map_err(|_| NoLine::Late)??;
        let v1::FetchResponse { session, statement } = answer.into_inner();
        let (Some(session), Some(statement)) = (session, statement) else { return Err(NoLine::NotHeld) };
        Ok(GuardianInput::Fetched { session: session.try_into()?, statement: statement.try_into()? })
    };
    match fetched.await {
        Ok(input) => {
            if let Err(refused) = gossip.mouth.offer(Lane::Other, Message::Input(input)) {
                gossip.reject(refused.as_str(), &from);
            }
        }
        Err(error) => debug!(peer = %from, seq, %error, "a statement cannot be fetched"),
    }
}

/// The service for peers.
pub(super) fn routes(gossip: Arc<Gossip>) -> Routes {
    Routes::new(PeerServiceServer::new(PeerSocket { gossip }).max_decoding_message_size(MAX_MESSAGE))
}

/// Who asks, as far as the transport tells.
enum Caller {
    /// On the Unix socket: by the kernel's word.
    Process(Peer),
    /// Over TCP: by its certificate.
    Holder(Holder),
}

impl Caller {
    fn of<T>(request: &Request<T>) -> Result<Self, Status> {
        match tls::holder(request) {
            Some(holder) => Ok(Self::Holder(holder.clone())),
            None => server::peer(request).map(Self::Process),
        }
    }
}

struct PeerSocket {
    gossip: Arc<Gossip>,
}

#[tonic::async_trait]
impl PeerService for PeerSocket {
    type ExchangeStream = Pin<Box<dyn Stream<Item = Result<v1::PeerMessage, Status>> + Send>>;

    async fn exchange(
        &self,
        request: Request<Streaming<v1::PeerMessage>>,
    ) -> Result<Response<Self::ExchangeStream>, Status> {
        let caller = Caller::of(&request)?;
        let gossip = &self.gossip;
        // Before a byte of it is read.
        if !gossip.is_an_agents(&caller) {
            return Err(Status::permission_denied("only agents exchange statements"));
        }
        let mut incoming = request.into_inner();
        let claimed = greeting(&mut incoming).await.map_err(|error| Status::invalid_argument(error.to_string()))?;
        if gossip.roster.member(&claimed).is_none() {
            return Err(Status::permission_denied(format!("{claimed} is not in the roster")));
        }
        if claimed >= gossip.me {
            return Err(Status::failed_precondition(format!("{} dials {claimed}, not the other way", gossip.me)));
        }
        gossip.check_caller(&claimed, &caller).map_err(|error| Status::permission_denied(error.to_string()))?;
        if !gossip.admits(&claimed) {
            gossip.reject("rate_limited", &claimed);
            tokio::time::sleep(REFUSAL).await;
            return Err(Status::resource_exhausted(format!("{claimed} takes too many lines")));
        }
        let (line, PeerLineEnds { outgoing, let_go }) = PeerLine::greeting(&gossip.me);
        let gossip = Arc::clone(gossip);
        tokio::spawn(async move {
            if let Err(error) = gossip.hear(claimed.clone(), line, let_go, incoming).await {
                debug!(peer = %claimed, %error, "the peer's line broke");
            }
        });
        Ok(Response::new(Box::pin(outgoing.map(Ok))))
    }

    async fn fetch(&self, request: Request<v1::FetchRequest>) -> Result<Response<v1::FetchResponse>, Status> {
        let caller = Caller::of(&request)?;
        if !self.gossip.is_an_agents(&caller) {
            return Err(Status::permission_denied("only agents fetch"));
        }
        let v1::FetchRequest { session_key, seq } = request.into_inner();
        let session_key = PublicKey::from_slice(&session_key)
            .ok_or_else(|| Status::invalid_argument("a session key has 32 bytes"))?;
        let held = self.gossip.mouth.ask(|answer| Message::Fetch { session_key, seq, answer }).await?;
        let (session, statement) = held.ok_or_else(|| Status::not_found("no such statement is held"))?;
        Ok(Response::new(v1::FetchResponse { session: Some((&session).into()), statement: Some((&statement).into()) }))
    }
}
