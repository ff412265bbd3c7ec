//! `OperatorService`: root's word, known by the kernel and by nothing else.
//!
//! Root may speak; with `--dir`, where one user runs the whole committee, that user too. The socket's mode (0600) says the
//! same, but is not relied on.

use super::agents_socket::refusal;
use super::mailbox::Mailbox;
use crate::clock;
use crate::grpc::server::peer;
use crate::grpc::{MAX_MESSAGE, Peer};
use crate::protocol::policy::Policy;
use crate::protocol::record::OperatorOrder;
use crate::protocol::types::{EpisodeId, PersonaId, SubjectName};
use crate::protocol::warden::{Answer, WardenInput};
use crate::wire::v1;
use crate::wire::v1::operator_service_server::{OperatorService, OperatorServiceServer, SERVICE_NAME};
use std::sync::Arc;
use tonic::service::Routes;
use tonic::{Request, Response, Status};

/// Longest reason, in bytes.
const MAX_REASON: usize = 512;

/// Who is obeyed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Obeyed {
    /// Root alone.
    Root,
    /// Root, and the user that runs the whole committee (`--dir`).
    RootAnd {
        /// That user.
        uid: u32,
    },
}

impl Obeyed {
    fn check(self, peer: Peer) -> Result<(), Status> {
        match (peer.uid, self) {
            (0, _) => Ok(()),
            (uid, Self::RootAnd { uid: own }) if uid == own => Ok(()),
            (uid, Self::Root) => Err(Status::permission_denied(format!("only root is obeyed, not uid {uid}"))),
            (uid, Self::RootAnd { uid: own }) => {
                Err(Status::permission_denied(format!("only root and uid {own} are obeyed, not uid {uid}")))
            }
        }
    }
}

/// The service.
pub struct OperatorSocket {
    obeyed: Obeyed,
    policy: Arc<Policy>,
    mailbox: Mailbox,
}

impl OperatorSocket {
    /// Its name, for reflection and health.
    pub const NAME: &'static str = SERVICE_NAME;

    /// The service in front of the engine.
    pub fn new(obeyed: Obeyed, policy: Arc<Policy>, mailbox: Mailbox) -> Self {
        Self { obeyed, policy, mailbox }
    }

    /// What a server serves.
    pub fn routes(self) -> Routes {
        Routes::new(OperatorServiceServer::new(self).max_decoding_message_size(MAX_MESSAGE))
    }

    fn subject(&self, name: Option<&str>) -> Result<Option<SubjectName>, Status> {
        let Some(name) = name else { return Ok(None) };
        let known = SubjectName::new(name).ok().filter(|subject| self.policy.subject(subject).is_some());
        known.map(Some).ok_or_else(|| {
            let all: Vec<_> = self.policy.subjects.keys().map(SubjectName::as_str).collect();
            Status::not_found(format!("there is no subject `{name}`, only {}", all.join(", ")))
        })
    }

    async fn order<T>(
        &self,
        request: Request<T>,
        read: impl FnOnce(&T) -> Result<(OperatorOrder, &str), Status>,
    ) -> Result<Response<v1::OperatorResponse>, Status> {
        let peer = peer(&request)?;
        self.obeyed.check(peer)?;
        let (order, reason) = read(request.get_ref())?;
        let reason = checked_reason(reason)?;
        tracing::info!(uid = peer.uid, ?order, reason, "the operator speaks");
        match self.mailbox.ask(|reply| WardenInput::Ordered { uid: peer.uid, order, reason, reply }).await? {
            Answer::Done(text) => Ok(Response::new(v1::OperatorResponse { text })),
            other => Err(refusal(other)),
        }
    }
}

fn checked_reason(reason: &str) -> Result<String, Status> {
    let reason = reason.trim();
    if reason.is_empty() || reason.len() > MAX_REASON || reason.chars().any(char::is_control) {
        return Err(Status::invalid_argument(format!("say why, in one line of at most {MAX_REASON} bytes")));
    }
    Ok(reason.to_owned())
}

#[tonic::async_trait]
impl OperatorService for OperatorSocket {
    async fn hold(&self, request: Request<v1::HoldRequest>) -> Result<Response<v1::OperatorResponse>, Status> {
        self.order(request, |hold| {
            let subject = self.subject(hold.subject.as_deref())?;
            let until = hold.for_seconds.map(|seconds| clock::unix().as_secs().saturating_add(seconds));
            Ok((OperatorOrder::Hold { subject, until }, &hold.reason))
        })
        .await
    }

    async fn release(&self, request: Request<v1::ReleaseRequest>) -> Result<Response<v1::OperatorResponse>, Status> {
        self.order(request, |release| {
            Ok((OperatorOrder::Release { subject: self.subject(release.subject.as_deref())? }, &release.reason))
        })
        .await
    }

    async fn approve(&self, request: Request<v1::ApproveRequest>) -> Result<Response<v1::OperatorResponse>, Status> {
        self.order(request, |approve| {
            let episode: EpisodeId =
                approve.episode.parse().map_err(|error| Status::invalid_argument(format!("{error}")))?;
            Ok((OperatorOrder::Approve { episode }, &approve.reason))
        })
        .await
    }

    async fn readmit(&self, request: Request<v1::ReadmitRequest>) -> Result<Response<v1::OperatorResponse>, Status> {
        self.order(request, |readmit| {
            let persona =
                PersonaId::new(&readmit.persona).map_err(|error| Status::invalid_argument(error.to_string()))?;
            Ok((OperatorOrder::Readmit { persona }, &readmit.reason))
        })
        .await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_root_is_obeyed_and_under_one_folder_the_user_that_runs_it() {
        let by = |uid| Peer { uid, pid: 1 };
        assert!(Obeyed::Root.check(by(0)).is_ok());
        assert_eq!(Obeyed::Root.check(by(1000)).unwrap_err().code(), tonic::Code::PermissionDenied);
        let own = Obeyed::RootAnd { uid: 1000 };
        assert!(own.check(by(0)).is_ok() && own.check(by(1000)).is_ok());
        assert_eq!(own.check(by(1001)).unwrap_err().code(), tonic::Code::PermissionDenied);
    }

    #[test]
    fn a_reason_is_one_line_that_says_something() {
        assert_eq!(checked_reason(" upgrade ").unwrap(), "upgrade");
        for bad in ["", "  ", "a\nb", "\u{1b}[31m", &"x".repeat(MAX_REASON + 1)] {
            assert!(checked_reason(bad).is_err(), "{bad:?}");
        }
    }
}
