//! `InspectService`: everybody on the node may look.
//!
//! * A look is taken inside the engine, which keeps deadlines: it is short, however much there is to tell.
//! * What is held for one reader is bounded: strangers may open many calls and read none.

use super::mailbox::{Facts, Mailbox};
use crate::grpc::MAX_MESSAGE;
use crate::inspect::{self, Background};
use crate::protocol::policy::Policy;
use crate::protocol::roster::Roster;
use crate::protocol::types::{EpisodeId, SubjectName};
use crate::wire::v1;
use crate::wire::v1::inspect_service_server::{InspectService, InspectServiceServer, SERVICE_NAME};
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tokio_stream::{Stream, StreamExt as _};
use tonic::service::Routes;
use tonic::{Request, Response, Status};

/// Least time between two views to one watcher.
const WATCH_PAUSE: Duration = Duration::from_millis(100);
/// Views that wait for a slow watcher; it gets newer ones later.
const WATCH_QUEUE: usize = 2;

/// Room for receipts in the one message of an explanation, in bytes: older ones are for `history`, which streams them.
const RECEIPTS_ROOM: usize = MAX_MESSAGE / 4;

/// Actions that one look of a reader of history takes. The next look is taken when these have been read.
const PAGE: usize = 4;

/// What a view needs beside the core's facts.
#[derive(Clone, Debug)]
pub struct Committee {
    /// Who may vote.
    pub roster: Arc<Roster>,
    /// What may be done.
    pub policy: Arc<Policy>,
    /// Whether personas run as separate users.
    pub isolation: bool,
}

impl Committee {
    fn background<'a>(&'a self, facts: &Facts<'_>) -> Background<'a> {
        Background { roster: &self.roster, policy: &self.policy, isolation: self.isolation, now: facts.now }
    }

    fn known(&self, name: &str) -> Option<SubjectName> {
        SubjectName::new(name).ok().filter(|subject| self.policy.subject(subject).is_some())
    }

    fn subject(&self, name: &str) -> Result<SubjectName, Status> {
        self.known(name).ok_or_else(|| {
            let all: Vec<_> = self.policy.subjects.keys().map(SubjectName::as_str).collect();
            Status::not_found(format!("there is no subject `{name}`, only {}", all.join(", ")))
        })
    }

    fn quorum(&self, facts: &Facts<'_>, subject: Option<&SubjectName>) -> v1::QuorumView {
        let last_action = |subject: &SubjectName| facts.receipts.last_action(facts.durable, subject);
        inspect::quorum(&facts.view, self.background(facts), subject, last_action)
    }

    /// Why a subject stands where it stands; or what became of an episode.
    fn explain(&self, facts: &Facts<'_>, about: &str) -> Result<v1::Explanation, Status> {
        let (subject, episode) = match self.known(about) {
            Some(subject) => (subject, None),
            None => {
                let episode = about.parse::<EpisodeId>().map_err(|_| {
                    Status::not_found(format!("`{about}` is no subject and no number of an episode, such as `3.17`"))
                })?;
                (self.subject_of(facts, episode)?, Some(episode))
            }
        };
        let status = facts.view.subjects.iter().find(|status| status.subject == subject);
        let status = status.ok_or_else(|| Status::not_found(format!("nothing is known of {subject} yet")))?;
        let receipts = facts.receipts.newest_ended(facts.durable, RECEIPTS_ROOM, |receipt| {
            receipt.subject == subject && episode.is_none_or(|wanted| receipt.episode == wanted)
        });
        let present = inspect::summary(status, self.background(facts));
        let summary = match episode.filter(|wanted| *wanted != status.episode) {
            None => present,
            Some(over) => {
                let ended = receipts.last().map_or_else(
                    || "nothing was done".to_owned(),
                    |last| format!("{} ended {}", last.action, last.outcome.as_deref().unwrap_or("without an outcome")),
                );
                format!("Episode {over} of {subject} is over: {ended}. Now {present}")
            }
        };
        Ok(v1::Explanation {
            looks: Vec::new(),
            subject: self.quorum(facts, Some(&subject)).subjects.pop(),
            summary,
            timeline: facts.timelines.of(&subject, episode),
            receipts,
        })
    }

    fn subject_of(&self, facts: &Facts<'_>, episode: EpisodeId) -> Result<SubjectName, Status> {
        let current = facts.view.subjects.iter().find(|status| status.episode == episode);
        let told = || facts.timelines.subject_of(episode).cloned();
        let done = || facts.receipts.subject_of(episode).cloned();
        current.map(|status| status.subject.clone()).or_else(told).or_else(done).ok_or_else(|| {
            Status::not_found(format!("episode {episode} is not known (any more); the journal may still have it"))
        })
    }
}

/// The service.
pub struct InspectSocket {
    committee: Arc<Committee>,
    mailbox: Mailbox,
}

impl InspectSocket {
    /// Its name, for reflection and health.
    pub const NAME: &'static str = SERVICE_NAME;

    /// The service in front of the engine.
    pub fn new(committee: Committee, mailbox: Mailbox) -> Self {
        Self { committee: Arc::new(committee), mailbox }
    }

    /// What a server serves.
    pub fn routes(self) -> Routes {
        Routes::new(InspectServiceServer::new(self).max_decoding_message_size(MAX_MESSAGE))
    }

    async fn look<T: Send + 'static>(
        &self,
        look: impl FnOnce(&Committee, &Facts<'_>) -> T + Send + 'static,
    ) -> Result<T, Status> {
        let committee = Arc::clone(&self.committee);
        Ok(self.mailbox.look(move |facts| look(&committee, facts)).await?)
    }

    fn wanted(&self, request: &v1::QuorumRequest) -> Result<Option<SubjectName>, Status> {
        request.subject.as_deref().map(|name| self.committee.subject(name)).transpose()
    }
}

type Replies<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;

#[tonic::async_trait]
impl InspectService for InspectSocket {
    async fn quorum(&self, request: Request<v1::QuorumRequest>) -> Result<Response<v1::QuorumView>, Status> {
        let subject = self.wanted(request.get_ref())?;
        let view = self.look(move |committee, facts| committee.quorum(facts, subject.as_ref())).await?;
        Ok(Response::new(view))
    }

    type WatchStream = Replies<v1::QuorumView>;

    async fn watch(&self, request: Request<v1::QuorumRequest>) -> Result<Response<Self::WatchStream>, Status> {
        let subject = self.wanted(request.get_ref())?;
        let (views, watched) = mpsc::channel(WATCH_QUEUE);
        tokio::spawn(show(Arc::clone(&self.committee), self.mailbox.clone(), subject, views));
        Ok(Response::new(Box::pin(ReceiverStream::new(watched).map(Ok))))
    }

    async fn subject(&self, request: Request<v1::SubjectRequest>) -> Result<Response<v1::SubjectView>, Status> {
        let subject = self.committee.subject(&request.get_ref().subject)?;
        let view = self.look(move |committee, facts| committee.quorum(facts, Some(&subject)).subjects.pop()).await?;
        view.map(Response::new).ok_or_else(|| Status::not_found("nothing is known of it yet"))
    }

    async fn explain(&self, request: Request<v1::ExplainRequest>) -> Result<Response<v1::Explanation>, Status> {
        let about = request.into_inner().about;
        self.look(move |committee, facts| committee.explain(facts, &about)).await?.map(Response::new)
    }

    type HistoryStream = Replies<v1::HistoryEntry>;

    async fn history(&self, request: Request<v1::HistoryRequest>) -> Result<Response<Self::HistoryStream>, Status> {
        let subject = request.get_ref().subject.as_deref().map(|name| self.committee.subject(name)).transpose()?;
        let (entries, told) = mpsc::channel(1);
        tokio::spawn(tell(self.mailbox.clone(), subject, entries));
        Ok(Response::new(Box::pin(ReceiverStream::new(told))))
    }
}

/// What ended, page by page as it is read, up to what was on the disk at the first look.
async fn tell(mailbox: Mailbox, subject: Option<SubjectName>, entries: mpsc::Sender<Result<v1::HistoryEntry, Status>>) {
    let (mut after, mut end) = (0, None);
    loop {
        let wanted = subject.clone();
        let looked = mailbox.look(move |facts| {
            let end = end.unwrap_or(facts.durable);
            let ended =
                facts.receipts.ended(after, end, |receipt| wanted.as_ref().is_none_or(|it| *it == receipt.subject));
            (end, ended.take(PAGE).collect::<Vec<_>>())
        });
        let page = match looked.await {
            Ok((durable, page)) => {
                end = Some(durable);
                page
            }
            Err(stopping) => {
                // Or what was told would look like everything.
                let _ = entries.send(Err(stopping.into())).await;
                return;
            }
        };
        let whole = page.len() == PAGE;
        for entry in page {
            after = entry.seq;
            if entries.send(Ok(entry)).await.is_err() {
                return;
            }
        }
        if !whole {
            return;
        }
    }
}

/// A view at once, then one after every change, until the watcher hangs up or the warden stops.
async fn show(
    committee: Arc<Committee>,
    mailbox: Mailbox,
    subject: Option<SubjectName>,
    views: mpsc::Sender<v1::QuorumView>,
) {
    let mut news = mailbox.news();
    let mut last = None;
    loop {
        let (committee, wanted) = (Arc::clone(&committee), subject.clone());
        let looked = mailbox.look(move |facts| committee.quorum(facts, wanted.as_ref())).await;
        let Ok(view) = looked else { return };
        let ageless = inspect::without_ages(&view);
        if last.as_ref() != Some(&ageless) {
            last = Some(ageless);
            if views.send(view).await.is_err() {
                return;
            }
        }
        tokio::select! {
            () = views.closed() => return,
            () = tokio::time::sleep(WATCH_PAUSE) => {}
        }
        tokio::select! {
            () = views.closed() => return,
            changed = news.changed() => if changed.is_err() { return },
        }
    }
}

#[cfg(test)]
mod tests;
