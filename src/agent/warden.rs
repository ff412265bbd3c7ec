//! The line to the warden: session, episodes, submissions, and the challenges that this process answers for itself.

use super::mind::{Gone, Message, Mouth};
use crate::clock;
use crate::grpc::MAX_MESSAGE;
use crate::grpc::client::{Backoff, ConnectError, connect};
use crate::protocol::guardian::GuardianInput;
use crate::protocol::statement::{DecodeError, Envelope};
use crate::protocol::types::Nonce;
use crate::wire::v1;
use crate::wire::v1::submit_request::Submission;
use crate::wire::v1::warden_service_client::WardenServiceClient;
use std::path::{Path, PathBuf};
use std::time::Duration;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::Status;
use tracing::{debug, info, warn};

/// Longest wait for the answer to a call.
const ANSWER_LIMIT: Duration = Duration::from_secs(5);
/// Submissions that may wait: a warden that does not read loses the rest, and hears it again in the next heartbeat.
const SUBMISSIONS: usize = 256;
/// A line that held so long was a good one: the next attempt comes soon again.
const GOOD: Duration = Duration::from_secs(5);

/// What the guardian's task holds of a line that stands.
#[derive(Clone, Debug)]
pub(super) struct WardenLine {
    requests: mpsc::Sender<Envelope>,
    submissions: mpsc::Sender<v1::SubmitRequest>,
}

impl WardenLine {
    /// Asks for a session.
    pub(super) fn request_session(&self, request: Envelope) {
        if self.requests.try_send(request).is_err() {
            warn!("a session request is lost: another one is under way");
        }
    }

    /// Hands something to the warden.
    pub(super) fn submit(&self, submission: Submission) {
        if self.submissions.try_send(v1::SubmitRequest { submission: Some(submission) }).is_err() {
            debug!("the warden does not keep up: a submission is lost");
        }
    }
}

/// Why a line broke.
#[derive(Debug, thiserror::Error)]
enum Broken {
    #[error(transparent)]
    Connect(#[from] ConnectError),
    #[error("{what}: {}", status.message())]
    Refused { what: &'static str, status: Box<Status> },
    #[error("{what}: no answer in time")]
    Late { what: &'static str },
    #[error("{what}: the stream ended")]
    Ended { what: &'static str },
    #[error("{what}: {source}")]
    Nonsense { what: &'static str, source: DecodeError },
    #[error(transparent)]
    Gone(#[from] Gone),
}

/// Keeps a line to the warden, for ever.
pub(super) async fn keep_connected(socket: PathBuf, mouth: Mouth) {
    let mut backoff = Backoff::new();
    let mut told = None;
    loop {
        let began = clock::now();
        let mut stood = false;
        let Err(broken) = hold_line(&socket, &mouth, &mut stood).await;
        if matches!(broken, Broken::Gone(_)) || mouth.sense(Message::WardenDown).await.is_err() {
            return;
        }
        if clock::now().saturating_since(began) >= GOOD {
            backoff.reset();
        }
        // One line in the log for each cause, however often it is tried.
        let cause = broken.to_string();
        if stood || told.as_ref() != Some(&cause) {
            warn!(%cause, "no line to the warden");
            told = Some(cause);
        }
        tokio::time::sleep(backoff.next_delay()).await;
    }
}

async fn hold_line(socket: &Path, mouth: &Mouth, stood: &mut bool) -> Result<std::convert::Infallible, Broken> {
    let connection = connect(socket).await?;
    let mut client = WardenServiceClient::new(connection.channel).max_decoding_message_size(MAX_MESSAGE);

    let (replies, outgoing) = mpsc::channel(16);
    // The first message only opens the stream.
    let _ = replies.try_send(v1::ChallengeReply { nonce: Vec::new() });
    let challenges = answered("challenge", client.challenge(ReceiverStream::new(outgoing))).await?;
    let episodes = answered("watch", client.watch_episodes(v1::WatchEpisodesRequest {})).await?;
    let (mut challenges, mut episodes) = (challenges, episodes);
    let answer = answered("nonce", client.nonce(v1::NonceRequest {})).await?;
    let nonce = challenge_nonce("nonce", &answer.nonce)?;

    let (requests, mut wishes) = mpsc::channel(2);
    let (submissions, outgoing) = mpsc::channel(SUBMISSIONS);
    let mut submitting = {
        let mut client = client.clone();
        Box::pin(async move { client.submit(ReceiverStream::new(outgoing)).await })
    };
    mouth.sense(Message::WardenUp { nonce, line: WardenLine { requests, submissions } }).await?;
    *stood = true;
    info!(pid = connection.peer.pid, "connected to the warden");
    let mut opening = Box::pin(open_session(client.clone(), None));
    loop {
        tokio::select! {
            biased;
            challenge = challenges.message() => {
                let challenge = streamed("challenge", challenge)?;
                let nonce = challenge_nonce("challenge", &challenge.nonce)?;
                mouth.challenge(nonce, replies.clone()).await?;
            }
            Some(request) = wishes.recv() => opening = Box::pin(open_session(client.clone(), Some(request))),
            session = &mut opening => {
                mouth.sense(Message::Input(GuardianInput::SessionOpened(session?))).await?;
                opening = Box::pin(open_session(client.clone(), None));
            }
            episode = episodes.message() => {
                let statement = streamed("watch", episode)?.statement;
                let envelope = envelope("watch", statement)?;
                mouth.sense(Message::Input(GuardianInput::FromWarden(envelope))).await?;
            }
            ended = &mut submitting => {
                return Err(match ended {
                    Ok(_) => Broken::Ended { what: "submit" },
                    Err(status) => Broken::Refused { what: "submit", status: Box::new(status) },
                });
            }
        }
    }
}

/// Never ends without a request.
async fn open_session(
    mut client: WardenServiceClient<tonic::transport::Channel>,
    request: Option<Envelope>,
) -> Result<Envelope, Broken> {
    let Some(request) = request else { return std::future::pending().await };
    let request = v1::OpenSessionRequest { request: Some((&request).into()) };
    let answer = answered("session", client.open_session(request)).await?;
    envelope("session", answer.session)
}

async fn answered<T>(
    what: &'static str,
    call: impl Future<Output = Result<tonic::Response<T>, Status>>,
) -> Result<T, Broken> {
    match tokio::time::timeout(ANSWER_LIMIT, call).await {
        Ok(Ok(answer)) => Ok(answer.into_inner()),
        Ok(Err(status)) => Err(Broken::Refused { what, status: Box::new(status) }),
        Err(_) => Err(Broken::Late { what }),
    }
}

fn streamed<T>(what: &'static str, message: Result<Option<T>, Status>) -> Result<T, Broken> {
    match message {
        Ok(Some(message)) => Ok(message),
        Ok(None) => Err(Broken::Ended { what }),
        Err(status) => Err(Broken::Refused { what, status: Box::new(status) }),
    }
}

fn envelope(what: &'static str, message: Option<v1::Envelope>) -> Result<Envelope, Broken> {
    let message = message.ok_or(Broken::Nonsense { what, source: DecodeError::Missing("statement") })?;
    Envelope::try_from(message).map_err(|source| Broken::Nonsense { what, source })
}

fn challenge_nonce(what: &'static str, bytes: &[u8]) -> Result<Nonce, Broken> {
    Nonce::from_slice(bytes).ok_or(Broken::Nonsense { what, source: DecodeError::OutOfRange("nonce") })
}
