//! The agents' socket, from the side of a process that PID 1 knows.

use crate::node::{Channel, LIMIT, Node, until};
use std::sync::{Arc, Mutex};
use tokio::sync::{mpsc, oneshot};
use tokio_stream::wrappers::ReceiverStream;
use tonic::Code;
use zeta_bft::backend::{ActReport, Backend, BackendError, BackendEvent};
use zeta_bft::protocol::evidence::{Activity, UnitState};
use zeta_bft::protocol::signing::{SigningKey, VerifyingKey};
use zeta_bft::protocol::statement::{Envelope, Session, SessionRequest};
use zeta_bft::protocol::types::{Incarnation, InvocationId, Nonce, PersonaId, SubjectName};
use zeta_bft::protocol::warden::{ActionPermit, PeerUnit};
use zeta_bft::warden::{self, OpenJournal};
use zeta_bft::wire::v1::submit_request::Submission;
use zeta_bft::wire::v1::warden_service_client::WardenServiceClient;
use zeta_bft::wire::{Proto, v1};
use zeta_bft::{clock, config, keys};

const INVOCATION: InvocationId = InvocationId([7; 16]);

/// A PID 1 that takes every process for one of the same unit, and which never has to act.
struct EverybodyIs {
    unit_of: fn(u32) -> PeerUnit,
    subjects: Vec<SubjectName>,
    watchers: Mutex<Vec<mpsc::Sender<BackendEvent>>>,
}

fn running() -> UnitState {
    let incarnation = Incarnation { boot: clock::boot_id().unwrap(), invocation: INVOCATION };
    UnitState {
        activity: Activity::Active,
        main_pid: Some(std::process::id()),
        active_since: Some(clock::now()),
        ..UnitState::never_started(incarnation)
    }
}

impl Backend for EverybodyIs {
    fn watch(&self) -> mpsc::Receiver<BackendEvent> {
        let (events, watch) = mpsc::channel(64);
        for subject in &self.subjects {
            events.try_send(BackendEvent::Unit(subject.clone(), Some(running()))).unwrap();
        }
        self.watchers.lock().unwrap().push(events);
        watch
    }

    async fn read(&self, _: &SubjectName) -> Result<UnitState, BackendError> {
        Ok(running())
    }

    async fn unit_of(&self, pid: u32) -> Result<Option<PeerUnit>, BackendError> {
        Ok(Some((self.unit_of)(pid)))
    }

    async fn act(&self, permit: ActionPermit) -> Result<ActReport, BackendError> {
        panic!("nobody voted for {permit:?}");
    }

    async fn page(&self, _: &str, _: &str, _: &str) -> Result<(), BackendError> {
        Ok(())
    }
}

fn otto() -> PersonaId {
    PersonaId::new("otto").unwrap()
}

fn main_process_of_ottos_agent(pid: u32) -> PeerUnit {
    PeerUnit { subject: SubjectName::agent(&otto()), main_pid: pid, invocation: INVOCATION }
}

/// Runs `test` against a warden in this very process, and then drains it.
async fn with_warden(test: impl AsyncFnOnce(&Node, WardenServiceClient<Channel>)) {
    with_warden_on(main_process_of_ottos_agent, None, test).await;
}

/// The same, on a PID 1 and with a user of `otto/agent` of one's own.
async fn with_warden_on(
    unit_of: fn(u32) -> PeerUnit,
    uid: Option<u32>,
    test: impl AsyncFnOnce(&Node, WardenServiceClient<Channel>),
) {
    let node = Node::new();
    let mut settings = config::load(&node.paths).unwrap();
    Arc::make_mut(&mut settings.policy).subjects.get_mut(&SubjectName::agent(&otto())).unwrap().uid = uid;
    let roster = config::roster::load(&node.paths.roster(), &Proto).unwrap();
    let key = keys::load(&node.paths.warden_key()).unwrap();
    let journal = OpenJournal::open(&node.paths.journal(), &key).unwrap();
    let subjects = settings.policy.subjects.keys().cloned().collect();
    let backend = EverybodyIs { unit_of, subjects, watchers: Mutex::default() };
    let (stop, stopped) = oneshot::channel::<()>();
    let warden = warden::run(settings, roster, key, journal, backend, async {
        let _ = stopped.await;
    });
    let testing = async {
        test(&node, node.agents().await).await;
        drop(stop);
    };
    let (ended, ()) = tokio::time::timeout(LIMIT, async { tokio::join!(warden, testing) }).await.expect("in time");
    ended.unwrap();
}

fn garbage_vote(n: u64) -> v1::SubmitRequest {
    let envelope = v1::Envelope {
        payload: n.to_be_bytes().to_vec(),
        signature: vec![1; 64],
        key_id: vec![2; 32],
        r#type: v1::StatementType::Vote.into(),
    };
    v1::SubmitRequest { submission: Some(Submission::Statement(envelope)) }
}

#[tokio::test]
async fn an_agent_gets_a_session_and_hears_of_every_subject() {
    with_warden(async |node, mut warden| {
        let roster = config::roster::load(&node.paths.roster(), &Proto).unwrap();
        let settings = config::load(&node.paths).unwrap();
        let persona_key = keys::load(&node.paths.persona_key(&otto())).unwrap();
        let session_key = SigningKey::from_seed(&[9; 32]);
        // The warden hands out numbers once its first record is on the disk.
        node.ready().await;
        let nonce = warden.nonce(v1::NonceRequest {}).await.unwrap().into_inner().nonce;
        let wish = SessionRequest {
            cluster: roster.cluster().clone(),
            node: roster.node().clone(),
            persona: otto(),
            session_key: session_key.public(),
            nonce: Nonce::from_slice(&nonce).unwrap(),
            roster: roster.digest(),
            policy: settings.policy.digest,
        };
        let request = Envelope::seal(&wish, &persona_key, &Proto);
        let open = v1::OpenSessionRequest { request: Some((&request).into()) };
        let session = warden.open_session(open.clone()).await.unwrap().into_inner().session.unwrap();
        let key = VerifyingKey::new(roster.statement().warden).unwrap();
        let session = Envelope::try_from(session).unwrap().open::<Session>(&key, &Proto).unwrap();
        assert_eq!((session.persona.clone(), session.session_key), (otto(), session_key.public()));
        assert_eq!(session.uid, rustix::process::getuid().as_raw());

        let replayed = warden.open_session(open).await.unwrap_err();
        assert_eq!(replayed.code(), Code::FailedPrecondition, "{replayed}");

        let mut episodes = warden.watch_episodes(v1::WatchEpisodesRequest {}).await.unwrap().into_inner();
        let mut heard = std::collections::BTreeSet::new();
        while heard.len() < settings.policy.subjects.len() {
            let statement = episodes.message().await.unwrap().unwrap().statement.unwrap();
            let envelope = Envelope::try_from(statement).unwrap();
            let episode = envelope.open::<zeta_bft::protocol::statement::EpisodeStatement>(&key, &Proto).unwrap();
            heard.insert(episode.subject.clone());
        }
        assert!(heard.iter().eq(settings.policy.subjects.keys()));
    })
    .await;
}

/// Numbers for session requests are kept for few processes at once: a crowd of strangers could push an agent's out.
async fn gets_nothing(mut stranger: WardenServiceClient<Channel>) {
    let number = stranger.nonce(v1::NonceRequest {}).await.unwrap_err();
    assert_eq!(number.code(), Code::PermissionDenied, "{number}");
    let submitted = stranger.submit(tokio_stream::pending()).await.unwrap_err();
    assert_eq!(submitted.code(), Code::PermissionDenied, "{submitted}");
    let watched = stranger.watch_episodes(v1::WatchEpisodesRequest {}).await.map(drop).unwrap_err();
    assert_eq!(watched.code(), Code::PermissionDenied, "{watched}");
}

#[tokio::test]
async fn who_is_not_the_main_process_of_an_agent_is_given_not_even_a_number() {
    let child_of_the_agent = |pid| PeerUnit { main_pid: pid + 1, ..main_process_of_ottos_agent(pid) };
    let wrapper = |pid| PeerUnit { subject: SubjectName::wrapper(&otto()), ..main_process_of_ottos_agent(pid) };
    for unit_of in [child_of_the_agent as fn(u32) -> PeerUnit, wrapper] {
        with_warden_on(unit_of, None, async |node, stranger| {
            node.ready().await;
            gets_nothing(stranger).await;
        })
        .await;
    }
}

#[tokio::test]
async fn a_process_of_another_user_is_no_agent_whatever_its_number() {
    let other = rustix::process::getuid().as_raw() + 1;
    with_warden_on(main_process_of_ottos_agent, Some(other), async |node, stranger| {
        node.ready().await;
        gets_nothing(stranger).await;
    })
    .await;
}

#[tokio::test]
async fn a_flood_is_dropped_before_it_is_verified_and_delays_no_answer() {
    with_warden(async |node, mut warden| {
        node.ready().await;
        let (flood, messages) = mpsc::channel(1);
        let mut flooded = warden.clone();
        let submit = tokio::spawn(async move { flooded.submit(ReceiverStream::new(messages)).await });
        let flooding = tokio::spawn(async move {
            let mut n = 0;
            while flood.send(garbage_vote(n)).await.is_ok() {
                n += 1;
            }
        });
        let series = "zeta_bft_statements_rejected_total{reason=\"rate_limited\"} ";
        until(async || {
            let (_, metrics) = node.http("/metrics").await.unwrap();
            metrics.lines().filter_map(|line| line.strip_prefix(series)).any(|count| count != "0")
        })
        .await;
        let asked = clock::now();
        warden.nonce(v1::NonceRequest {}).await.unwrap();
        assert!(clock::now().saturating_since(asked).as_secs() < 2, "a call had to wait for the flood");
        flooding.abort();
        let _ = submit.await;
    })
    .await;
}

#[tokio::test]
async fn the_newest_stream_of_a_unit_ends_the_older() {
    with_warden(async |node, warden| {
        node.ready().await;
        let (_held, silent) = mpsc::channel::<v1::SubmitRequest>(1);
        let mut first = warden.clone();
        let older = tokio::spawn(async move { first.submit(ReceiverStream::new(silent)).await });
        // Until the older stream has its turn there is nothing to end: newer ones come until it has.
        let mut newer = warden;
        while !older.is_finished() {
            let (end, none) = mpsc::channel::<v1::SubmitRequest>(1);
            drop(end);
            newer.submit(ReceiverStream::new(none)).await.unwrap();
            tokio::task::yield_now().await;
        }
        assert_eq!(older.await.unwrap().unwrap_err().code(), Code::Aborted);
    })
    .await;
}

#[tokio::test]
async fn an_open_stream_does_not_hold_up_the_drain() {
    let (held, silent) = mpsc::channel::<v1::SubmitRequest>(1);
    let began = Mutex::new(None);
    with_warden(async |node, mut warden| {
        node.ready().await;
        let mut submitting = warden.clone();
        tokio::spawn(async move { submitting.submit(ReceiverStream::new(silent)).await });
        let _episodes = warden.watch_episodes(v1::WatchEpisodesRequest {}).await.unwrap();
        *began.lock().unwrap() = Some(clock::now());
    })
    .await;
    let took = clock::now().saturating_since(began.into_inner().unwrap().unwrap());
    assert!(took.as_millis() < 900, "the drain took {took:?}");
    drop(held);
}

#[tokio::test]
async fn an_agent_that_asks_without_end_is_refused_beyond_its_rate_over_whichever_connection() {
    with_warden(async |node, mut first| {
        node.ready().await;
        let mut second = node.agents().await;
        let (mut given, mut refused) = (0, 0);
        let begun = clock::now();
        while given + refused < 400 {
            for warden in [&mut first, &mut second] {
                match warden.nonce(v1::NonceRequest {}).await {
                    Ok(_) => given += 1_u64,
                    Err(status) if status.code() == Code::ResourceExhausted => refused += 1,
                    Err(status) => panic!("{status}"),
                }
            }
        }
        let seconds = clock::now().saturating_since(begun).as_secs() + 1;
        assert!((40..=40 + 2 * seconds).contains(&given), "{given} in {seconds} s, {refused} refused");
    })
    .await;
}
