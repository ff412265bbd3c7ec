//! The socket at which `up` plays PID 1: see [`crate::backend::process::protocol`] for what is said there.

use super::act;
use super::pid1::{Change, Pid1, UnitName};
use crate::backend::process::protocol::{self, Answer, LineError, OwnerReport, Request, UnitReport};
use crate::clock;
use crate::config::settings::CommandSettings;
use crate::grpc::limits::Sparing;
use crate::page::Page;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::io::{AsyncReadExt as _, BufReader};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::broadcast::error::RecvError;

/// How long a connection may wait with its request.
const REQUEST_LIMIT: Duration = Duration::from_secs(2);

/// What the socket serves.
#[derive(Clone)]
pub struct Served {
    /// The engine.
    pub pid1: Pid1,
    /// The folder whose files may be put aside.
    pub dir: PathBuf,
    /// How a human is called.
    pub page: Option<CommandSettings>,
}

/// Takes the socket, for this user alone. A socket that an earlier `up` left behind is replaced: the caller holds the
/// folder's lock.
///
/// # Errors
/// When it cannot be bound.
pub fn bind(socket: &Path) -> std::io::Result<UnixListener> {
    match std::fs::remove_file(socket) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let listener = UnixListener::bind(socket)?;
    std::fs::set_permissions(socket, std::fs::Permissions::from_mode(0o600))?;
    Ok(listener)
}

/// Serves until it is dropped.
pub async fn serve(listener: UnixListener, served: Served) {
    let served = Arc::new(served);
    let (mut failed, intruders) = (Sparing::default(), Arc::new(Mutex::new(Sparing::default())));
    loop {
        match listener.accept().await {
            Ok((stream, _)) => {
                let (served, intruders) = (Arc::clone(&served), Arc::clone(&intruders));
                tokio::spawn(async move {
                    if let Err(error) = converse(stream, &served, &intruders).await {
                        tracing::debug!(error = %error, "a client of PID 1 left");
                    }
                });
            }
            Err(error) => {
                if let Some(unsaid) = failed.say(clock::now()) {
                    tracing::warn!(error = %error, unsaid, "cannot accept on PID 1's socket");
                }
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        }
    }
}

async fn converse(stream: UnixStream, served: &Arc<Served>, intruders: &Mutex<Sparing>) -> Result<(), LineError> {
    let peer = stream.peer_cred()?.pid().and_then(|pid| u32::try_from(pid).ok());
    let (reading, mut writing) = stream.into_split();
    let mut reading = BufReader::new(reading);
    let asked = tokio::time::timeout(REQUEST_LIMIT, protocol::read_line(&mut reading)).await;
    let request = match asked {
        Ok(Ok(Some(request))) => request,
        Ok(Ok(None)) | Err(_) => return Ok(()),
        Ok(Err(error)) => {
            return protocol::write_line(&mut writing, &Answer::Refused { why: error.to_string() }).await;
        }
    };
    let answer = match request {
        Request::Watch => {
            // Whoever only listens sends nothing more: the end of its half is the end of its interest.
            let mut end = [0; 1];
            return tokio::select! {
                told = tell(&mut writing, &served.pid1) => told,
                _ = reading.read(&mut end) => Ok(()),
            };
        }
        Request::Read { subject } => read(&served.pid1, &subject)?,
        Request::UnitOf { pid } => Answer::Owner(served.pid1.unit_of(pid).as_ref().map(OwnerReport::from)),
        Request::Act(_) | Request::Page { .. } if !peer.is_some_and(|pid| served.pid1.is_the_warden(pid)) => {
            if let Some(unsaid) = intruders.lock().unwrap_or_else(PoisonError::into_inner).say(clock::now()) {
                tracing::warn!(?peer, unsaid, "somebody else than the warden asked PID 1 to act");
            }
            Answer::Refused { why: "only the warden that `up` started may ask for this".into() }
        }
        Request::Act(order) => {
            // In a task of its own: what was begun is ended, whether or not the warden lives to hear of it.
            let served = Arc::clone(served);
            let acting = tokio::spawn(async move { act::act(&served.pid1, &served.dir, &order).await });
            match acting.await {
                Ok(Ok(output)) => Answer::Done { output },
                Ok(Err(error)) => refused(&error),
                Err(_) => Answer::Refused { why: "the act was broken off".into() },
            }
        }
        Request::Page { cause, subject, text } => {
            let page = Page { cause, subject, text };
            let paged = served.page.as_ref().map_or(Ok(()), |settings| act::page(&served.pid1, settings, &page));
            paged.map_or_else(|error| refused(&error), |()| Answer::Done { output: String::new() })
        }
    };
    protocol::write_line(&mut writing, &answer).await
}

fn refused(error: &act::ActError) -> Answer {
    let mut why = error.to_string();
    let mut cause = std::error::Error::source(error);
    while let Some(error) = cause {
        why = format!("{why}: {error}");
        cause = error.source();
    }
    Answer::Refused { why }
}

fn read(pid1: &Pid1, subject: &str) -> Result<Answer, LineError> {
    let name = protocol::subject(subject)?;
    let state = pid1.state(&UnitName::Subject(name.clone()));
    Ok(state.map_or_else(
        || Answer::Refused { why: format!("`{name}` is no unit of this `up`") },
        |state| Answer::Unit(UnitReport::new(&name, &state)),
    ))
}

/// Everything, then every change; everything again when the listener was too slow.
async fn tell(to: &mut (impl tokio::io::AsyncWrite + Unpin), pid1: &Pid1) -> Result<(), LineError> {
    loop {
        let (units, mut changes) = pid1.watch();
        let reports = units.iter().map(|(subject, state)| UnitReport::new(subject, state)).collect();
        protocol::write_line(to, &Answer::Units(reports)).await?;
        if pid1.is_stopping() {
            protocol::write_line(to, &Answer::Stopping).await?;
        }
        loop {
            match changes.recv().await {
                Ok(Change::Unit(UnitName::Subject(subject), state)) => {
                    protocol::write_line(to, &Answer::Unit(UnitReport::new(&subject, &state))).await?;
                }
                Ok(Change::Unit(UnitName::Warden, _)) => {}
                Ok(Change::Stopping) => protocol::write_line(to, &Answer::Stopping).await?,
                Err(RecvError::Lagged(_)) => break,
                Err(RecvError::Closed) => return Ok(()),
            }
        }
    }
}
