//! The committee's PID 1 under `zeta-bft up`: a client of the socket that `up` serves ([`protocol`]).

pub mod protocol;

use super::{ActReport, Backend, BackendError, BackendEvent};
use crate::protocol::evidence::UnitState;
use crate::protocol::types::SubjectName;
use crate::protocol::warden::{ActionPermit, PeerUnit};
use protocol::{Answer, LineError, Request};
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::time::Duration;
use tokio::io::BufReader;
use tokio::net::UnixStream;
use tokio::sync::mpsc;

/// Waits between two attempts to reach `up`: doubling from the first to the second.
const BACKOFF: (Duration, Duration) = (Duration::from_millis(20), Duration::from_secs(1));
/// Changes that may wait for a slow reader.
const QUEUE: usize = 256;
/// Longest wait for an answer that needs no work.
const ANSWER_LIMIT: Duration = Duration::from_secs(2);

/// Units that `zeta-bft up` runs as its children.
#[derive(Clone, Debug)]
pub struct ProcessBackend {
    socket: PathBuf,
    subjects: BTreeSet<SubjectName>,
}

impl ProcessBackend {
    /// A client of `up` at [`crate::config::paths::Paths::pid1_socket`] that reports on these subjects. Connects when it
    /// is used, not before.
    pub fn new(socket: PathBuf, subjects: impl IntoIterator<Item = SubjectName>) -> Self {
        Self { socket, subjects: subjects.into_iter().collect() }
    }

    async fn ask(&self, request: &Request) -> Result<Answer, BackendError> {
        let mut stream = open(&self.socket, request).await?;
        match protocol::read_line::<Answer, _>(&mut stream).await {
            Ok(Some(Answer::Refused { why })) => Err(BackendError::Refused(why)),
            Ok(Some(answer)) => Ok(answer),
            Ok(None) => Err(self.unreachable("it closed the connection without an answer")),
            Err(LineError::Io(error)) => Err(self.unreachable(error)),
            Err(error) => Err(BackendError::Nonsense(error.to_string())),
        }
    }

    async fn ask_briefly(&self, request: &Request) -> Result<Answer, BackendError> {
        match tokio::time::timeout(ANSWER_LIMIT, self.ask(request)).await {
            Ok(answer) => answer,
            Err(_) => Err(self.unreachable(format!("no answer within {} s", ANSWER_LIMIT.as_secs()))),
        }
    }

    fn unreachable(&self, why: impl ToString) -> BackendError {
        unreachable_at(&self.socket, why)
    }
}

fn unreachable_at(socket: &Path, why: impl ToString) -> BackendError {
    BackendError::Unreachable { place: socket.display().to_string(), why: why.to_string() }
}

async fn open(socket: &Path, request: &Request) -> Result<BufReader<UnixStream>, BackendError> {
    let mut stream = UnixStream::connect(socket).await.map_err(|error| unreachable_at(socket, error))?;
    protocol::write_line(&mut stream, request).await.map_err(|error| unreachable_at(socket, error))?;
    Ok(BufReader::new(stream))
}

fn nonsense(answer: &Answer) -> BackendError {
    BackendError::Nonsense(format!("{answer:?}"))
}

impl Backend for ProcessBackend {
    fn watch(&self) -> mpsc::Receiver<BackendEvent> {
        let (events, receiver) = mpsc::channel(QUEUE);
        tokio::spawn(follow(self.socket.clone(), self.subjects.clone(), events));
        receiver
    }

    async fn read(&self, subject: &SubjectName) -> Result<UnitState, BackendError> {
        match self.ask_briefly(&Request::Read { subject: subject.to_string() }).await? {
            Answer::Unit(report) => match report.read() {
                Ok((named, state)) if named == *subject => Ok(state),
                Ok((named, _)) => Err(BackendError::Nonsense(format!("asked for {subject}, got {named}"))),
                Err(error) => Err(BackendError::Nonsense(error.to_string())),
            },
            other => Err(nonsense(&other)),
        }
    }

    async fn unit_of(&self, pid: u32) -> Result<Option<PeerUnit>, BackendError> {
        match self.ask_briefly(&Request::UnitOf { pid }).await? {
            Answer::Owner(None) => Ok(None),
            Answer::Owner(Some(owner)) => {
                owner.read().map(Some).map_err(|error| BackendError::Nonsense(error.to_string()))
            }
            other => Err(nonsense(&other)),
        }
    }

    async fn act(&self, permit: ActionPermit) -> Result<ActReport, BackendError> {
        match self.ask(&Request::Act((&permit).into())).await? {
            Answer::Done { output } => Ok(ActReport { output }),
            other => Err(nonsense(&other)),
        }
    }

    async fn page(&self, cause: &str, subject: &str, text: &str) -> Result<(), BackendError> {
        let request = Request::Page { cause: cause.into(), subject: subject.into(), text: text.into() };
        match self.ask_briefly(&request).await? {
            Answer::Done { .. } => Ok(()),
            other => Err(nonsense(&other)),
        }
    }
}

/// Follows every unit until nobody listens any more.
async fn follow(socket: PathBuf, subjects: BTreeSet<SubjectName>, events: mpsc::Sender<BackendEvent>) {
    let mut wait = BACKOFF.0;
    loop {
        let followed = tokio::select! {
            followed = follow_once(&socket, &subjects, &events, &mut wait) => followed,
            () = events.closed() => return,
        };
        let why = followed.err().map_or_else(|| "it closed the connection".into(), |error| error.to_string());
        tracing::debug!(socket = %socket.display(), why, "PID 1 cannot be seen");
        for subject in &subjects {
            if events.send(BackendEvent::Unit(subject.clone(), None)).await.is_err() {
                return;
            }
        }
        tokio::select! {
            () = tokio::time::sleep(wait) => wait = (wait * 2).min(BACKOFF.1),
            () = events.closed() => return,
        }
    }
}

/// One connection: ends when it does, or when nobody listens.
async fn follow_once(
    socket: &Path,
    subjects: &BTreeSet<SubjectName>,
    events: &mpsc::Sender<BackendEvent>,
    wait: &mut Duration,
) -> Result<(), BackendError> {
    let mut stream = open(socket, &Request::Watch).await?;
    loop {
        let line = protocol::read_line::<Answer, _>(&mut stream).await;
        let news = match line.map_err(|error| BackendError::Nonsense(error.to_string()))? {
            None => return Ok(()),
            Some(Answer::Units(reports)) => {
                *wait = BACKOFF.0;
                let mut unseen = subjects.clone();
                let mut news = Vec::new();
                for report in &reports {
                    let (subject, state) = read(report)?;
                    if unseen.remove(&subject) {
                        news.push(BackendEvent::Unit(subject, Some(state)));
                    }
                }
                news.extend(unseen.into_iter().map(|subject| BackendEvent::Unit(subject, None)));
                news
            }
            Some(Answer::Unit(report)) => {
                let (subject, state) = read(&report)?;
                if !subjects.contains(&subject) {
                    continue;
                }
                vec![BackendEvent::Unit(subject, Some(state))]
            }
            Some(Answer::Stopping) => vec![BackendEvent::Stopping(true)],
            Some(other) => return Err(nonsense(&other)),
        };
        for event in news {
            if events.send(event).await.is_err() {
                return Ok(());
            }
        }
    }
}

fn read(report: &protocol::UnitReport) -> Result<(SubjectName, UnitState), BackendError> {
    report.read().map_err(|error| BackendError::Nonsense(error.to_string()))
}
