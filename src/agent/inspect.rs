//! `InspectService` of an agent: its own sight, for when the warden is silent. Nobody has verified it.

use super::k3s::{Findings, Shown};
use super::mind::{Message, Mouth};
use crate::clock;
use crate::grpc::MAX_MESSAGE;
use crate::inspect::{self, Background};
use crate::protocol::policy::Policy;
use crate::protocol::roster::Roster;
use crate::protocol::statement::{EpisodeStatement, StateName};
use crate::protocol::types::{EpisodeId, Incarnation, PersonaId, Round, Rung, SubjectName, Timestamp};
use crate::protocol::view::{GuardianPeer, GuardianView, PersonaStatus, SubjectStatus, WardenView};
use crate::wire::v1;
use crate::wire::v1::inspect_service_server::{InspectService, InspectServiceServer};
use std::collections::BTreeSet;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::mpsc;
use tokio_stream::Stream;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status};

/// Time between two views of a watcher.
const WATCH_EVERY: Duration = Duration::from_millis(500);
/// A heartbeat older than so many periods is none.
const LIVE_HEARTBEATS: u32 = 8;
const ONLY_WARDEN: &str = "only the warden keeps receipts and timelines, and it is not the one that answers here";

/// What a view is made from.
#[derive(Clone, Debug)]
pub(super) struct Inspector {
    pub(super) me: PersonaId,
    pub(super) roster: Arc<Roster>,
    pub(super) policy: Arc<Policy>,
    pub(super) isolation: bool,
    pub(super) mouth: Mouth,
    pub(super) findings: Findings,
}

/// The service.
pub(super) fn service(inspector: Inspector) -> InspectServiceServer<Inspector> {
    InspectServiceServer::new(inspector).max_decoding_message_size(MAX_MESSAGE)
}

impl Inspector {
    fn subject(&self, name: Option<&str>) -> Result<Option<SubjectName>, Status> {
        let Some(name) = name else { return Ok(None) };
        let known = SubjectName::new(name).ok().filter(|subject| self.policy.subject(subject).is_some());
        known.map(Some).ok_or_else(|| Status::not_found(format!("there is no subject `{name}`")))
    }

    async fn quorum_of(&self, subject: Option<&SubjectName>) -> Result<v1::QuorumView, Status> {
        let view = self.mouth.ask(Message::Look).await?;
        let now = clock::now();
        let background = Background { roster: &self.roster, policy: &self.policy, isolation: self.isolation, now };
        let mut shown = inspect::quorum(&self.as_warden_view(&view, now), background, subject, |_| None);
        shown.verified = false;
        let who = format!("this is the sight of {} alone, verified by nobody; votes and receipts are missing", self.me);
        shown.notes.insert(0, who);
        if let Some(reason) = view.abstains {
            shown.notes.insert(1, format!("{} does not vote itself: {}", self.me, reason.replace('_', " ")));
        }
        Ok(shown)
    }

    /// The same facts in the form that the warden shows its own.
    fn as_warden_view(&self, view: &GuardianView, now: Timestamp) -> WardenView {
        let personas: Vec<_> = self.roster.members().map(|member| self.persona(&member.persona, view, now)).collect();
        let vendors: BTreeSet<_> = personas.iter().filter(|p| p.live && !p.quarantined).map(|p| &p.vendor).collect();
        let newest = view.episodes.iter().map(|episode| episode.id.instance()).max();
        WardenView {
            instance: newest.unwrap_or_default(),
            subjects: self.policy.subjects.keys().map(|name| self.status(name, view, &personas, now)).collect(),
            vendors_live: vendors.len(),
            holds: Vec::new(),
            journal_damage: None,
            frozen_until: None,
            personas,
        }
    }

    /// What its own last look was found to be.
    fn as_view(&self, Shown { at, finding, unseen }: Shown) -> v1::LookView {
        v1::LookView {
            persona: self.me.to_string(),
            row: finding.row,
            fault_class: finding.class.map(|class| class.to_string()),
            says: finding.says,
            seen: finding.detail,
            held_back: finding.withheld.map(|why| why.to_string()),
            age_ms: u64::try_from(clock::now().saturating_since(at).as_millis()).unwrap_or(u64::MAX),
            unseen,
        }
    }

    fn persona(&self, persona: &PersonaId, view: &GuardianView, now: Timestamp) -> PersonaStatus {
        let member = self.roster.member(persona).expect("the roster's own member");
        let mut status = PersonaStatus {
            persona: persona.clone(),
            vendor: member.vendor.clone(),
            session: view.session,
            heartbeat_at: Some(now),
            live: view.session.is_some(),
            quarantined: false,
            health: view.health,
            policy_matches: Some(true),
        };
        if *persona != self.me {
            let peer = view.peers.iter().find(|peer| peer.persona == *persona);
            let fresh = |at: &Timestamp| now.saturating_since(*at) <= self.policy.timing.heartbeat * LIVE_HEARTBEATS;
            status.session = peer.and_then(|peer| peer.session);
            status.heartbeat_at = peer.and_then(|peer| peer.heartbeat_at);
            status.live = status.session.is_some() && status.heartbeat_at.as_ref().is_some_and(fresh);
            status.quarantined = peer.is_some_and(|peer| peer.guilty);
            status.health = peer.map_or(0, |peer| peer.health);
            status.policy_matches = peer.and_then(|peer| peer.policy_matches);
        }
        status
    }

    fn status(
        &self,
        subject: &SubjectName,
        view: &GuardianView,
        personas: &[PersonaStatus],
        now: Timestamp,
    ) -> SubjectStatus {
        let episode = view.episodes.iter().find(|episode| episode.subject == *subject);
        let own = view.attestations.iter().map(|said| (&self.me, said));
        let others = view.peers.iter().flat_map(|GuardianPeer { persona, attestations, .. }| {
            attestations.iter().map(move |said| (persona, said))
        });
        let mut verdicts: Vec<_> = own
            .chain(others)
            .filter(|(_, said)| said.subject == *subject)
            .map(|(persona, said)| (persona.clone(), said.clone()))
            .collect();
        verdicts.sort_by(|(a, _), (b, _)| a.cmp(b));
        let own_vendor = self.policy.subject(subject).and_then(|policy| policy.vendor.as_ref());
        let voters: BTreeSet<_> = personas
            .iter()
            .filter(|p| p.live && !p.quarantined && Some(&p.vendor) != own_vendor)
            .map(|p| &p.vendor)
            .collect();
        let class = verdicts.iter().find_map(|(_, said)| said.repairable_fault());
        SubjectStatus {
            subject: subject.clone(),
            state: episode.map_or(StateName::Healthy, |episode| episode.state),
            held_by: None,
            reason: if episode.is_none() { "the warden has published nothing of it" } else { "" },
            episode: episode.map_or(EpisodeId::default(), |episode| episode.id),
            round: episode.map_or(Round::default(), |episode| episode.round),
            rung: episode.map_or(Rung::default(), |episode| episode.rung),
            incarnation: episode.map_or(Incarnation::default(), |EpisodeStatement { incarnation, .. }| *incarnation),
            pid: None,
            class,
            verdicts,
            votes: Vec::new(),
            budget: episode.map_or(0, |episode| episode.budget),
            deadline: None,
            margin: i32::try_from(voters.len()).unwrap_or(i32::MAX)
                - i32::try_from(self.roster.q()).unwrap_or(i32::MAX),
            since: now,
        }
    }
}

type Views<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;

#[tonic::async_trait]
impl InspectService for Inspector {
    async fn quorum(&self, request: Request<v1::QuorumRequest>) -> Result<Response<v1::QuorumView>, Status> {
        let subject = self.subject(request.get_ref().subject.as_deref())?;
        self.quorum_of(subject.as_ref()).await.map(Response::new)
    }

    type WatchStream = Views<v1::QuorumView>;

    async fn watch(&self, request: Request<v1::QuorumRequest>) -> Result<Response<Self::WatchStream>, Status> {
        let subject = self.subject(request.get_ref().subject.as_deref())?;
        let (views, shown) = mpsc::channel(1);
        let inspector = self.clone();
        tokio::spawn(async move {
            while !views.is_closed() {
                if views.send(inspector.quorum_of(subject.as_ref()).await).await.is_err() {
                    return;
                }
                tokio::time::sleep(WATCH_EVERY).await;
            }
        });
        Ok(Response::new(Box::pin(ReceiverStream::new(shown))))
    }

    async fn subject(&self, request: Request<v1::SubjectRequest>) -> Result<Response<v1::SubjectView>, Status> {
        let subject = self.subject(Some(&request.get_ref().subject))?;
        let mut view = self.quorum_of(subject.as_ref()).await?;
        view.subjects.pop().map(Response::new).ok_or_else(|| Status::not_found("nothing is known of it"))
    }

    async fn explain(&self, request: Request<v1::ExplainRequest>) -> Result<Response<v1::Explanation>, Status> {
        let subject = self.subject(Some(&request.get_ref().about))?;
        let mut view = self.quorum_of(subject.as_ref()).await?;
        let shown = subject.as_ref().and_then(|subject| self.findings.of(subject));
        Ok(Response::new(v1::Explanation {
            looks: shown.map(|shown| self.as_view(shown)).into_iter().collect(),
            subject: view.subjects.pop(),
            summary: ONLY_WARDEN.to_owned(),
            timeline: Vec::new(),
            receipts: Vec::new(),
        }))
    }

    type HistoryStream = Views<v1::HistoryEntry>;

    async fn history(&self, _: Request<v1::HistoryRequest>) -> Result<Response<Self::HistoryStream>, Status> {
        Err(Status::unavailable(ONLY_WARDEN))
    }
}
