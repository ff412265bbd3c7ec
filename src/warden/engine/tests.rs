use super::*;
use crate::backend::ActReport;
use crate::metrics::Format;
use crate::protocol::evidence::UnitState;
use crate::protocol::policy::{Mode, Timing};
use crate::protocol::record::OperatorOrder;
use crate::protocol::roster::fixture::{key, roster};
use crate::protocol::types::{BootId, Digest, Nonce, SubjectName};
use crate::protocol::warden::{PeerUnit, Recovered, WardenConfig};
use std::sync::Mutex;
use std::task::Poll;
use tokio::sync::watch;

/// A PID 1 of which nothing is heard.
#[derive(Default)]
struct Silent(Mutex<Vec<mpsc::Sender<BackendEvent>>>);

impl Backend for Silent {
    fn watch(&self) -> mpsc::Receiver<BackendEvent> {
        let (events, watch) = mpsc::channel(1);
        self.0.lock().unwrap().push(events);
        watch
    }

    async fn read(&self, subject: &SubjectName) -> Result<UnitState, BackendError> {
        panic!("nobody accuses {subject}");
    }

    async fn unit_of(&self, _: u32) -> Result<Option<PeerUnit>, BackendError> {
        Ok(None)
    }

    async fn act(&self, permit: ActionPermit) -> Result<ActReport, BackendError> {
        panic!("nobody voted for {permit:?}");
    }

    async fn page(&self, _: &str, _: &str, _: &str) -> Result<(), BackendError> {
        Ok(())
    }
}

/// The other ends of an engine's queues.
struct Ends {
    answers: mpsc::Sender<WardenInput>,
    calls: mpsc::Sender<Call>,
    returns: mpsc::UnboundedSender<WardenInput>,
    _idle: [mpsc::Sender<WardenInput>; 2],
}

/// An engine without a disk, on which nothing happens by itself but what `recovered` brings.
fn engine(recovered: Recovered) -> (Engine<Silent>, Inbox, Ends) {
    let policy = Arc::new(Policy {
        digest: Digest::default(),
        mode: Mode::Act,
        subjects: BTreeMap::new(),
        node_per_day: Policy::NODE_PER_DAY,
        drill: false,
        timing: Timing::default(),
    });
    let roster = Arc::new(roster());
    let returns = mpsc::unbounded_channel();
    let (answers, answers_in) = mpsc::channel(8);
    let (votes, votes_in) = mpsc::channel(1);
    let (statements, statements_in) = mpsc::channel(1);
    let (calls, calls_in) = mpsc::channel(8);
    let inbox = Inbox {
        answers: answers_in,
        votes: votes_in,
        statements: statements_in,
        calls: calls_in,
        news: watch::channel(()).0,
    };
    let ends = Ends { answers, calls, returns: returns.0.clone(), _idle: [votes, statements] };
    let parts = Parts {
        roster: Arc::clone(&roster),
        policy: Arc::clone(&policy),
        isolation: false,
        backend: Arc::new(Silent::default()),
        journal: None,
        receipts: Receipts::default(),
        durable: JournalHead::default(),
        metrics: WardenMetrics::new(&policy, &[], false),
        health: Health::starting(),
        returns,
    };
    let boot = BootId::default();
    let config = WardenConfig { key: key("warden"), roster, policy, boot, codec: Proto, entropy: [7; 32], recovered };
    let (core, born) = Warden::new(config, clock::now(), clock::unix_ms());
    (Engine::new(core, born, parts), inbox, ends)
}

/// A look that asks for the next from inside the engine, so that one always waits, until no hold is in force any more.
fn looking_on(calls: mpsc::Sender<Call>, released: oneshot::Sender<bool>, until: Timestamp) -> Call {
    Call::Look(Box::new(move |facts| {
        let over = facts.view.holds.is_empty();
        if over || facts.now >= until {
            released.send(over).unwrap();
        } else {
            let next = looking_on(calls.clone(), released, until);
            assert!(calls.try_send(next).is_ok(), "there is room for one look");
        }
    }))
}

#[tokio::test]
async fn looks_without_end_keep_no_deadline_waiting() {
    let until = clock::unix_ms() / 1000 + 1;
    let hold = OperatorOrder::Hold { subject: None, until: Some(until) };
    let recovered = Recovered { holds: vec![(0, hold, "a second".into())], ..Recovered::default() };
    let (engine, inbox, ends) = engine(recovered);
    let (released, heard) = oneshot::channel();
    let look = looking_on(ends.calls.clone(), released, clock::now() + Duration::from_secs(4));
    assert!(ends.calls.try_send(look).is_ok());
    let mut over = false;
    engine.run(inbox, async { over = heard.await.unwrap() }).await.unwrap();
    assert!(over, "the hold's end was never stepped");
}

/// Until it is asked again.
fn one_turn() -> impl Future<Output = ()> {
    let mut asked = false;
    std::future::poll_fn(move |_| if std::mem::replace(&mut asked, true) { Poll::Ready(()) } else { Poll::Pending })
}

#[tokio::test]
async fn an_answer_that_was_heard_goes_before_the_reading_that_judges_the_silence() {
    let (engine, inbox, ends) = engine(Recovered::default());
    let nonce = Nonce([1; 16]);
    ends.returns.send(WardenInput::CpuRead { nonce, reading: None }).unwrap();
    assert!(ends.answers.try_send(WardenInput::ChallengeAnswered { pid: 7, nonce }).is_ok());
    let metrics = engine.parts.metrics.exposition();
    engine.run(inbox, one_turn()).await.unwrap();
    let told = metrics.render(Format::Text);
    assert!(told.contains("zeta_bft_statements_rejected_total{reason=\"unasked_answer\"} 1"), "{told}");
}

#[tokio::test]
async fn what_comes_back_waits_for_no_more_answers_than_were_heard_by_then() {
    let nonce = Nonce([1; 16]);
    let answer = |pid| WardenInput::ChallengeAnswered { pid, nonce };
    let (answers, mut heard) = mpsc::channel(8);
    (1..=2).for_each(|pid| answers.try_send(answer(pid)).unwrap());
    let reading = WardenInput::CpuRead { nonce, reading: None };
    let mut before = |back: &WardenInput| -> Vec<u32> {
        let pid =
            |input| if let WardenInput::ChallengeAnswered { pid, .. } = input { pid } else { panic!("{input:?}") };
        heard_before(back, &mut heard).into_iter().map(pid).collect()
    };
    assert!(before(&WardenInput::Synced(JournalHead::default())).is_empty(), "a sync judges nobody");
    assert_eq!(before(&reading), [1, 2]);
    answers.try_send(answer(3)).unwrap();
    assert_eq!(before(&reading), [3]);
    assert!(before(&reading).is_empty());
}
