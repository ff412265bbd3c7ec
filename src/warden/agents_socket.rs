//! `WardenService`, on the socket of agents and wrappers.
//!
//! * The caller is the process that the kernel names, and it must be the main process of a configured unit by PID 1's word:
//!   of an agent for sessions, episodes and statements, of any unit for challenges. Nothing it says about itself counts.
//! * Of each unit there is one stream of statements and one of episodes: the newest ends the older. So the number of
//!   streams, and with their rates the work that a flood can cause, is bounded by the configuration.
//! * What exceeds a unit's rate is dropped before anything is verified, and the stream is not read for a while. A new stream
//!   brings no new allowance, and costs a part of it. Numbers and sessions have a rate of their own, and are refused beyond it.

use super::mailbox::{Mailbox, Stopping};
use crate::backend::{Backend, BackendError};
use crate::clock;
use crate::grpc::limits::{Admission, Lane};
use crate::grpc::server::peer;
use crate::grpc::{MAX_MESSAGE, Peer};
use crate::metrics::WardenMetrics;
use crate::protocol::policy::{Policy, SubjectKind};
use crate::protocol::statement::{DecodeError, Envelope};
use crate::protocol::types::{Nonce, SubjectName};
use crate::protocol::warden::{Answer, PeerFacts, PeerUnit, WardenEvent, WardenInput};
use crate::wire::v1;
use crate::wire::v1::submit_request::Submission;
use crate::wire::v1::warden_service_server::{SERVICE_NAME, WardenService, WardenServiceServer};
use std::collections::BTreeMap;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::sync::{mpsc, oneshot};
use tokio_stream::wrappers::ReceiverStream;
use tokio_stream::{Stream, StreamExt as _};
use tonic::service::Routes;
use tonic::{Request, Response, Status, Streaming};

/// A stream that exceeds its rate is left unread for so long.
const PAUSE: Duration = Duration::from_millis(20);
/// Answers to challenges that one unit may send a second; the warden asks one at a time.
const ANSWERS_PER_SECOND: u32 = 20;
/// Numbers and sessions that one unit may ask for a second: an agent asks for one of each when it starts or the warden does.
const QUESTIONS_PER_SECOND: u32 = 2;
/// How many of them may come at once.
const QUESTIONS_AT_ONCE: u32 = 40;

/// The service.
pub struct AgentsSocket<B> {
    backend: Arc<B>,
    policy: Arc<Policy>,
    mailbox: Mailbox,
    metrics: WardenMetrics,
    submitters: Mutex<BTreeMap<SubjectName, Submitter>>,
    allowances: Arc<Allowances>,
}

/// What units may still ask and answer, whatever streams they open.
#[derive(Debug, Default)]
struct Allowances(Mutex<BTreeMap<SubjectName, Allowance>>);

#[derive(Debug)]
struct Allowance {
    answers: Admission,
    questions: Admission,
}

impl Allowances {
    fn admits(&self, unit: &SubjectName, of: impl FnOnce(&mut Allowance) -> &mut Admission) -> bool {
        let mut allowances = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let allowance = allowances.entry(unit.clone()).or_insert_with(|| Allowance {
            answers: Admission::new(ANSWERS_PER_SECOND, ANSWERS_PER_SECOND),
            questions: Admission::new(QUESTIONS_PER_SECOND, QUESTIONS_AT_ONCE),
        });
        of(allowance).admit(clock::now())
    }

    fn admits_answer(&self, unit: &SubjectName) -> bool {
        self.admits(unit, |allowance| &mut allowance.answers)
    }
}

/// A unit's stream of statements, and what the unit may still send.
struct Submitter {
    admission: Admission,
    /// Ends the stream when a newer one takes its place.
    _turn: oneshot::Sender<()>,
}

impl<B: Backend> AgentsSocket<B> {
    /// Its name, for reflection and health.
    pub const NAME: &'static str = SERVICE_NAME;

    /// The service in front of the engine.
    pub fn new(backend: Arc<B>, policy: Arc<Policy>, mailbox: Mailbox, metrics: WardenMetrics) -> Self {
        Self { backend, policy, mailbox, metrics, submitters: Mutex::default(), allowances: Arc::default() }
    }

    /// What a server serves.
    pub fn routes(self) -> Routes {
        Routes::new(WardenServiceServer::new(self).max_decoding_message_size(MAX_MESSAGE))
    }

    /// What the core judges an agent by. Nobody else gets so far: each caller takes one of few places there.
    async fn facts(&self, peer: Peer) -> Result<PeerFacts, Status> {
        let before = Some(self.agent(peer).await?);
        if let Some(unit) = &before
            && !self.allowances.admits(&unit.subject, |allowance| &mut allowance.questions)
        {
            self.reject("rate_limited");
            return Err(Status::resource_exhausted(format!("{} asks too often", unit.subject)));
        }
        let after = self.backend.unit_of(peer.pid).await.map_err(unseen)?;
        Ok(PeerFacts { uid: peer.uid, pid: peer.pid, before, after })
    }

    /// The unit whose main process the peer is, as the unit's own user.
    async fn main_process(&self, peer: Peer) -> Result<PeerUnit, Status> {
        let unit = self.backend.unit_of(peer.pid).await.map_err(unseen)?;
        let is_the_peers = |unit: &PeerUnit| {
            let configured = self.policy.subject(&unit.subject);
            unit.main_pid == peer.pid && configured.is_some_and(|it| it.uid.is_none_or(|uid| uid == peer.uid))
        };
        unit.filter(is_the_peers).ok_or_else(|| {
            let Peer { uid, pid } = peer;
            Status::permission_denied(format!("process {pid} of user {uid} is the main process of no configured unit"))
        })
    }

    /// The agent unit whose main process the peer is.
    async fn agent(&self, peer: Peer) -> Result<PeerUnit, Status> {
        let unit = self.main_process(peer).await?;
        match self.policy.subject(&unit.subject).map(|subject| &subject.kind) {
            Some(SubjectKind::Agent(_)) => Ok(unit),
            _ => Err(Status::permission_denied(format!("{} is no agent", unit.subject))),
        }
    }

    /// Ends an older stream of the same unit. What is returned is done when a newer one ends this.
    fn take_turn(&self, unit: &SubjectName) -> oneshot::Receiver<()> {
        let (turn, superseded) = oneshot::channel();
        let mut submitters = self.submitters();
        let admission = submitters.get(unit).map_or_else(Admission::for_statements, |older| older.admission.clone());
        submitters.insert(unit.clone(), Submitter { admission, _turn: turn });
        superseded
    }

    /// Whether the unit may send one more.
    fn admits(&self, unit: &SubjectName) -> bool {
        self.submitters().get_mut(unit).is_some_and(|submitter| submitter.admission.admit(clock::now()))
    }

    fn submitters(&self) -> MutexGuard<'_, BTreeMap<SubjectName, Submitter>> {
        self.submitters.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn reject(&self, reason: &'static str) {
        self.metrics.on_event(&WardenEvent::Rejected { reason, persona: None });
    }

    async fn take_in(&self, submission: Option<Submission>) -> Result<(), Stopping> {
        match parse(submission) {
            Ok(Parsed::Vote(vote)) => self.mailbox.vote(vote).await,
            Ok(Parsed::Other(input)) => self.mailbox.statement(input).await,
            Err(error) => {
                tracing::debug!(%error, "a submission makes no statement");
                self.reject("malformed");
                Ok(())
            }
        }
    }
}

enum Parsed {
    Vote(Envelope),
    Other(WardenInput),
}

fn parse(submission: Option<Submission>) -> Result<Parsed, DecodeError> {
    Ok(match submission.ok_or(DecodeError::Missing("submission"))? {
        Submission::Statement(statement) => {
            let envelope = Envelope::try_from(statement)?;
            match Lane::of(&envelope) {
                Lane::Vote => Parsed::Vote(envelope),
                Lane::Other => Parsed::Other(WardenInput::Submitted(envelope)),
            }
        }
        Submission::Proof(proof) => Parsed::Other(WardenInput::ProofSubmitted(proof.try_into()?)),
        Submission::Receipt(receipt) => Parsed::Other(WardenInput::ReceiptShown(receipt.try_into()?)),
    })
}

fn unseen(error: BackendError) -> Status {
    Status::unavailable(error.to_string())
}

impl From<Stopping> for Status {
    fn from(stopping: Stopping) -> Self {
        Self::unavailable(stopping.to_string())
    }
}

/// An answer of another kind than the question asks for, or a refusal.
pub(super) fn refusal(answer: Answer) -> Status {
    match answer {
        Answer::Refused { reason, text } => Status::failed_precondition(format!("{text} ({reason})")),
        other => Status::internal(format!("unexpected answer {other:?}")),
    }
}

type Replies<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;

#[tonic::async_trait]
impl<B: Backend> WardenService for AgentsSocket<B> {
    async fn nonce(&self, request: Request<v1::NonceRequest>) -> Result<Response<v1::NonceResponse>, Status> {
        let peer = self.facts(peer(&request)?).await?;
        match self.mailbox.ask(|reply| WardenInput::NonceWanted { peer, reply }).await? {
            Answer::Nonce(nonce) => Ok(Response::new(v1::NonceResponse { nonce: nonce.0.to_vec() })),
            other => Err(refusal(other)),
        }
    }

    async fn open_session(
        &self,
        request: Request<v1::OpenSessionRequest>,
    ) -> Result<Response<v1::OpenSessionResponse>, Status> {
        let from = peer(&request)?;
        let wish = request.into_inner().request.ok_or_else(|| Status::invalid_argument("no request"))?;
        let request = Envelope::try_from(wish).map_err(|error| Status::invalid_argument(error.to_string()))?;
        let peer = self.facts(from).await?;
        match self.mailbox.ask(|reply| WardenInput::SessionWanted { peer, request, reply }).await? {
            Answer::Session(session) => Ok(Response::new(v1::OpenSessionResponse { session: Some((&session).into()) })),
            other => Err(refusal(other)),
        }
    }

    type WatchEpisodesStream = Replies<v1::WatchEpisodesResponse>;

    async fn watch_episodes(
        &self,
        request: Request<v1::WatchEpisodesRequest>,
    ) -> Result<Response<Self::WatchEpisodesStream>, Status> {
        let unit = self.agent(peer(&request)?).await?.subject;
        let heard = self.mailbox.watch(unit).await?;
        let statements = ReceiverStream::new(heard)
            .map(|statement| Ok(v1::WatchEpisodesResponse { statement: Some((&statement).into()) }));
        Ok(Response::new(Box::pin(statements)))
    }

    async fn submit(
        &self,
        request: Request<Streaming<v1::SubmitRequest>>,
    ) -> Result<Response<v1::SubmitResponse>, Status> {
        let unit = self.agent(peer(&request)?).await?.subject;
        let mut superseded = self.take_turn(&unit);
        let mut stream = request.into_inner();
        // The stream itself counts for one.
        if !self.admits(&unit) {
            tokio::time::sleep(PAUSE).await;
        }
        loop {
            let message = tokio::select! {
                _ = &mut superseded => return Err(Status::aborted("a newer stream of the same unit took over")),
                () = self.mailbox.closed() => return Err(Stopping.into()),
                message = stream.message() => message?,
            };
            let Some(message) = message else { return Ok(Response::new(v1::SubmitResponse {})) };
            if self.admits(&unit) {
                self.take_in(message.submission).await?;
            } else {
                self.reject("rate_limited");
                tracing::debug!(%unit, "too many statements");
                tokio::time::sleep(PAUSE).await;
            }
        }
    }

    type ChallengeStream = Replies<v1::ChallengeRequest>;

    async fn challenge(
        &self,
        request: Request<Streaming<v1::ChallengeReply>>,
    ) -> Result<Response<Self::ChallengeStream>, Status> {
        let from = peer(&request)?;
        let unit = self.main_process(from).await?.subject;
        // The stream itself counts for one.
        if !self.allowances.admits_answer(&unit) {
            tokio::time::sleep(PAUSE).await;
        }
        let challenges = self.mailbox.open_line(from.pid).await?;
        let allowances = Arc::clone(&self.allowances);
        tokio::spawn(hear(request.into_inner(), from.pid, self.mailbox.clone(), move || {
            allowances.admits_answer(&unit)
        }));
        Ok(Response::new(Box::pin(ask(challenges, from.pid, self.mailbox.clone()))))
    }
}

/// What one process is asked. Each number is told to the core as it leaves.
fn ask(
    challenges: mpsc::Receiver<Nonce>,
    pid: u32,
    mailbox: Mailbox,
) -> impl Stream<Item = Result<v1::ChallengeRequest, Status>> {
    ReceiverStream::new(challenges).map(move |nonce| {
        mailbox.challenge_left(pid, nonce);
        Ok(v1::ChallengeRequest { nonce: nonce.0.to_vec() })
    })
}

/// Passes the answers of one process on, under the process id that the kernel gave for its connection.
async fn hear(mut replies: Streaming<v1::ChallengeReply>, pid: u32, mailbox: Mailbox, admits: impl Fn() -> bool) {
    while let Ok(Some(reply)) = replies.message().await {
        if !admits() {
            tokio::time::sleep(PAUSE).await;
            continue;
        }
        // The first message has no number: it only opens the stream.
        let Some(nonce) = Nonce::from_slice(&reply.nonce) else { continue };
        if mailbox.challenge_answered(pid, nonce).await.is_err() {
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn the_core_is_told_when_a_challenge_leaves_and_not_before() {
        let (mailbox, mut inbox) = Mailbox::open();
        let (line, challenges) = mpsc::channel(4);
        let mut asked = Box::pin(ask(challenges, 7, mailbox));
        line.send(Nonce([5; 16])).await.unwrap();
        assert!(inbox.answers.try_recv().is_err(), "nobody has taken it yet");
        assert_eq!(asked.next().await.unwrap().unwrap().nonce, [5; 16]);
        let told = inbox.answers.try_recv().unwrap();
        assert!(matches!(told, WardenInput::ChallengeLeft { pid: 7, nonce } if nonce == Nonce([5; 16])), "{told:?}");
    }

    #[test]
    fn answers_have_one_rate_for_each_unit() {
        let (allowances, otto) = (Allowances::default(), SubjectName::new("otto").unwrap());
        let begun = clock::now();
        let admitted = (0..1000).filter(|_| allowances.admits_answer(&otto)).count();
        let seconds = usize::try_from(clock::now().saturating_since(begun).as_secs()).unwrap() + 1;
        let most = usize::try_from(ANSWERS_PER_SECOND).unwrap() * (seconds + 1);
        assert!(admitted <= most, "{admitted} answers in {seconds} s");
        assert!(allowances.admits_answer(&SubjectName::new("vera").unwrap()), "the others keep theirs");
    }
}
