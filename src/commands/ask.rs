//! Asking the running daemons: connections, deadlines, and what to tell people when nobody answers.

use crate::config::paths::Paths;
use crate::error::Failure;
use crate::grpc::MAX_MESSAGE;
use crate::grpc::client::{ConnectError, connect};
use crate::grpc::tls::{self, Identity, Material, MaterialError, Place, Wanted};
use crate::keys;
use crate::protocol::types::{NameError, SubjectName};
use crate::wire::v1;
use crate::wire::v1::inspect_service_client::InspectServiceClient;
use crate::wire::v1::operator_service_client::OperatorServiceClient;
use std::future::Future;
use std::io::Write as _;
use std::net::SocketAddr;
use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;
use tonic::transport::Channel;
use tonic::{Code, Response, Status};

/// A daemon that has not answered by then is silent.
pub const PATIENCE: Duration = Duration::from_secs(2);
/// How long an order may take: it is answered once it is on the disk.
const ORDER_PATIENCE: Duration = Duration::from_secs(10);

/// A client for those who look.
pub type Inspect = InspectServiceClient<Channel>;
/// A client for the operator.
pub type Operator = OperatorServiceClient<Channel>;

/// A subject, or all of them.
#[derive(Debug, clap::Args)]
#[group(required = true, multiple = false)]
pub struct Target {
    /// Which: `otto`, `otto/agent`, `k3s`, …
    #[arg(value_parser = subject, value_name = "SUBJECT")]
    subject: Option<SubjectName>,
    /// Every subject.
    #[arg(long)]
    all: bool,
}

impl Target {
    /// As the wire has it: absent means all.
    pub fn into_wire(self) -> Option<String> {
        debug_assert!(self.all || self.subject.is_some(), "the parser demands one of them");
        self.subject.map(|subject| subject.to_string())
    }
}

/// Reads a subject's name from the command line.
///
/// # Errors
/// [`NameError`] says what a name looks like.
pub fn subject(text: &str) -> Result<SubjectName, NameError> {
    SubjectName::new(text)
}

/// Runs a question to its end, on a current-thread runtime.
///
/// # Errors
/// What the question says, or that there is no runtime.
pub fn block_on<T>(question: impl Future<Output = Result<T, Failure>>) -> Result<T, Failure> {
    tokio::runtime::Builder::new_current_thread().enable_all().build()?.block_on(question)
}

/// Prints text for people or programs; a reader that went away is no failure.
///
/// # Errors
/// When standard output cannot be written to.
pub fn print(text: &str) -> Result<(), Failure> {
    let mut out = std::io::stdout().lock();
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        Err(error) if error.kind() != std::io::ErrorKind::BrokenPipe => Err(error.into()),
        _ => Ok(()),
    }
}

/// A line about work that is under way: it goes on whether or not anybody reads about it.
pub fn say(mut to: impl std::io::Write, line: std::fmt::Arguments<'_>) {
    let _ = to.write_fmt(format_args!("{line}\n"));
}

/// A JSON line.
///
/// # Errors
/// When the value has no JSON form; the views all have one.
pub fn json_line(value: &impl serde::Serialize) -> Result<String, Failure> {
    Ok(serde_json::to_string(value)? + "\n")
}

/// Text from elsewhere, fit for a terminal: no control character reaches it.
pub fn plain(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { '\u{fffd}' } else { c }).collect()
}

/// Why nobody answered.
#[derive(Debug, thiserror::Error)]
pub enum Silence {
    /// There is no connection.
    #[error(transparent)]
    NoConnection(#[from] ConnectError),
    /// There is no connection over TCP.
    #[error(transparent)]
    NotThere(#[from] tls::ConnectError),
    /// It answered, but not with what was asked for.
    #[error("{}", plain(.0.message()))]
    Refused(Box<Status>),
    /// It did not answer in time.
    #[error("no answer within {} s", .0.as_secs())]
    TimedOut(Duration),
}

impl Silence {
    /// The daemon is there and says no: asking another one would not help.
    pub fn is_refusal(&self) -> bool {
        let codes = [Code::NotFound, Code::InvalidArgument, Code::PermissionDenied, Code::FailedPrecondition];
        matches!(self, Self::Refused(status) if codes.contains(&status.code()))
    }

    /// For people, with what to do about it. Exit code 3.
    pub fn into_failure(self) -> Failure {
        let hint = match &self {
            Self::NoConnection(ConnectError::Absent { .. }) => Some(
                "is it running? `zeta-bft up`, or `systemctl status zeta-bft-warden`; with --dir, name the same folder",
            ),
            Self::NotThere(tls::ConnectError::NotTrusted { .. }) => {
                Some("is this the address of an agent of that node, and the roster in the folder the present one?")
            }
            Self::NotThere(tls::ConnectError::Unwelcome { .. }) => {
                Some("has it ended, or was it taken back there? `zeta-bft certify --inspector` renews it")
            }
            Self::Refused(status) if status.code() == Code::PermissionDenied => {
                Some("orders are root's (under `up`, those of the user that runs it)")
            }
            _ => None,
        };
        let failure = Failure::new(self).code(3);
        if let Some(hint) = hint { failure.hint(hint) } else { failure }
    }
}

/// Asks whoever serves the inspection at this socket.
///
/// # Errors
/// [`Silence`].
pub async fn inspect<T, F>(socket: &Path, question: impl FnOnce(Inspect) -> F) -> Result<T, Silence>
where
    F: Future<Output = Result<Response<T>, Status>>,
{
    within(PATIENCE, async { ask_over(connect(socket).await?.channel, question).await }).await
}

async fn ask_over<T, F>(channel: Channel, question: impl FnOnce(Inspect) -> F) -> Result<T, Silence>
where
    F: Future<Output = Result<Response<T>, Status>>,
{
    answer(question(InspectServiceClient::new(channel).max_decoding_message_size(MAX_MESSAGE)).await)
}

/// An agent of another machine, and as whom it is asked.
#[derive(Debug)]
pub struct Remote {
    identity: Identity,
    address: SocketAddr,
}

impl Remote {
    /// `address`: host and port. `folder`: what `certify --inspector` made.
    ///
    /// # Errors
    /// [`Failure`] when the host has no address, or the folder makes no sense.
    pub async fn new(address: &str, folder: &Path) -> Result<Self, Failure> {
        let mut found = tokio::net::lookup_host(address).await.map_err(|error| {
            Failure::new(format!("{address}: {error}")).hint("say host and port, such as 10.0.0.1:9484").code(3)
        })?;
        let nowhere = || Failure::new(format!("{address} has no address")).code(3);
        let (address, place) = (found.next().ok_or_else(nowhere)?, Place::of_inspector(folder));
        let unfit = |error: MaterialError| {
            Failure::new(error).hint("`--identity` names the folder that `zeta-bft certify --inspector` made").code(3)
        };
        let key = keys::load(&folder.join("inspector.pem")).map_err(|error| Failure::new(error).code(3))?;
        Material::read(&place).and_then(|made| made.check_own(&key.public(), &place)).map_err(unfit)?;
        Ok(Self { identity: Identity::new(place, &key)?, address })
    }

    /// Asks it.
    ///
    /// # Errors
    /// [`Silence`].
    pub async fn inspect<T, F>(&self, question: impl FnOnce(Inspect) -> F) -> Result<T, Silence>
    where
        F: Future<Output = Result<Response<T>, Status>>,
    {
        within(PATIENCE, async {
            let (channel, _) = self.identity.connect(self.address, Wanted::AnyAgent).await?;
            ask_over(channel, question).await
        })
        .await
    }
}

/// Gives the warden an order, and prints its answer.
///
/// # Errors
/// [`Failure`] when it is refused, or nobody answers.
pub fn order<F>(paths: &Paths, order: impl FnOnce(Operator) -> F) -> Result<ExitCode, Failure>
where
    F: Future<Output = Result<Response<v1::OperatorResponse>, Status>>,
{
    let done = block_on(async {
        let given = within(ORDER_PATIENCE, async {
            let channel = connect(&paths.operator_socket()).await?.channel;
            let client = OperatorServiceClient::new(channel).max_decoding_message_size(MAX_MESSAGE);
            answer(order(client).await)
        });
        // Refused: it was not done. Unheard: it may have been or still be; `quorum` tells.
        given.await.map_err(|silence| silence.into_failure().code(1))
    })?;
    print(&format!("{}\n", plain(&done.text)))?;
    Ok(ExitCode::SUCCESS)
}

fn answer<T>(answer: Result<Response<T>, Status>) -> Result<T, Silence> {
    answer.map(Response::into_inner).map_err(|status| Silence::Refused(Box::new(status)))
}

async fn within<T>(limit: Duration, question: impl Future<Output = Result<T, Silence>>) -> Result<T, Silence> {
    tokio::time::timeout(limit, question).await.unwrap_or(Err(Silence::TimedOut(limit)))
}
