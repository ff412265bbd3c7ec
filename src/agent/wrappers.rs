//! Soft evidence: pings and tick states of one wrapper, each on a connection of this agent's own.
//!
//! * A ping is counted as sent before anything is tried: a wrapper that cannot even be connected to is silent.
//! * Who answered is the process that listens on the other end of the connection, as the kernel names it.
//! * Liveness and progress never refresh one another: pings and ticks are separate calls and separate inputs. What an answer
//!   to a ping says of the ticks is only that there is something new to be read.
//! * Ticks are read when there is something new, and again and again while what was read is a fault: a vote on it is as old
//!   as the reading.
//! * An answer that nobody asked for ends the connection, and so does one that does not come for [`ANSWER_LIMIT`].

use super::mind::{Gone, Message, Mouth};
use super::units::KnownUnits;
use crate::clock;
use crate::grpc::client::{Connection, connect};
use crate::grpc::{MAX_MESSAGE, Peer};
use crate::metrics::AgentMetrics;
use crate::protocol::evidence::TickState;
use crate::protocol::guardian::GuardianInput;
use crate::protocol::types::{Nonce, PersonaId, SubjectName, Timestamp};
use crate::wire::v1;
use crate::wire::v1::wrapper_service_client::WrapperServiceClient;
use std::collections::VecDeque;
use std::path::PathBuf;
use std::time::Duration;
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::{Interval, MissedTickBehavior, interval_at};
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Status, Streaming};
use tracing::debug;

/// Longest wait for one answer.
const ANSWER_LIMIT: Duration = Duration::from_secs(2);
/// Time between two readings of a tick state that shows a fault.
const READ_AGAIN: Duration = Duration::from_millis(500);
/// Pings that may wait for a wrapper that does not read them. More are not sent, but counted all the same.
const UNREAD: usize = 16;

/// One wrapper to be watched.
pub(super) struct Wrapper {
    pub(super) subject: SubjectName,
    pub(super) persona: PersonaId,
    pub(super) socket: PathBuf,
    pub(super) ping: Duration,
}

/// A connection with its pings.
struct Line {
    /// Tells a newer line from an older one, whose last words must not end it.
    number: u64,
    connection: Connection,
    pings: mpsc::Sender<v1::PingRequest>,
    /// Pings without an answer, oldest first.
    open: VecDeque<(u64, Timestamp)>,
    /// Of the tick state that was last asked for.
    changes: Option<u64>,
    /// What was last read is a fault.
    fault: bool,
    /// Passes the answers on. It ends with the line, whatever it waits for.
    _hearing: JoinSet<()>,
}

/// What comes back on a line.
enum Word {
    Answer { at: Timestamp, answer: v1::PingResponse },
    Read { fault: bool },
    Broken,
}

impl Line {
    /// An answer to the oldest open ping, or to a later one that was never sent on. `None`: nobody asked for it.
    fn round_trip(&mut self, number: u64, at: Timestamp) -> Option<Duration> {
        let place = self.open.iter().position(|(open, _)| *open == number)?;
        let (_, sent) = self.open.drain(..=place).next_back()?;
        Some(at.saturating_since(sent))
    }

    fn is_late(&self, now: Timestamp) -> bool {
        self.open.front().is_some_and(|(_, sent)| now.saturating_since(*sent) >= ANSWER_LIMIT)
    }
}

/// What every task of a watch needs.
#[derive(Clone)]
struct Context {
    mouth: Mouth,
    units: KnownUnits,
    metrics: AgentMetrics,
    words: mpsc::Sender<(u64, Word)>,
}

impl Wrapper {
    /// Pings and reads until the guardian ends. Each of `wanted` is a reading to be made at once, for that challenge.
    pub(super) async fn watch(
        self,
        mouth: Mouth,
        mut units: KnownUnits,
        mut wanted: mpsc::Receiver<Nonce>,
        metrics: AgentMetrics,
    ) {
        let (words, mut heard) = mpsc::channel(UNREAD);
        let context = Context { mouth, units: units.clone(), metrics, words };
        let (mut pings, mut readings) = (in_step(self.ping), in_step(READ_AGAIN));
        let (mut line, mut lines, mut number, mut run) = (None::<Line>, 0, 0, None);
        loop {
            tokio::select! {
                biased;
                () = units.changed() => {
                    let now = units.run(&self.subject);
                    if now != run {
                        run = now;
                        line = None;
                        pings.reset_immediately();
                    }
                }
                Some((of, word)) = heard.recv() => {
                    if let Some(current) = line.as_mut().filter(|line| line.number == of) {
                        match self.hear(current, word, &context).await {
                            Ok(true) => {}
                            Ok(false) => line = None,
                            Err(Gone) => return,
                        }
                    }
                }
                challenge = wanted.recv() => {
                    let Some(challenge) = challenge else { return };
                    if self.reach(&mut line, &mut lines, &context).await {
                        self.read_ticks(line.as_ref(), Some(challenge), &context);
                    }
                }
                _ = pings.tick() => {
                    let sent = GuardianInput::PingSent { subject: self.subject.clone() };
                    if context.mouth.sense(Message::Input(sent)).await.is_err() {
                        return;
                    }
                    let now = clock::now();
                    line = line.filter(|line| !line.is_late(now));
                    if self.reach(&mut line, &mut lines, &context).await && let Some(line) = &mut line {
                        number += 1;
                        if line.pings.try_send(v1::PingRequest { number }).is_ok() {
                            line.open.push_back((number, clock::now()));
                        }
                    }
                }
                _ = readings.tick(), if line.as_ref().is_some_and(|line| line.fault) => {
                    self.read_ticks(line.as_ref(), None, &context);
                }
            }
        }
    }

    /// Takes in what came on the line that stands; false when it is to be given up.
    async fn hear(&self, line: &mut Line, word: Word, context: &Context) -> Result<bool, Gone> {
        match word {
            Word::Answer { at, answer } => {
                let Some(round_trip) = line.round_trip(answer.number, at) else {
                    debug!(subject = %self.subject, "an answer that nobody asked for");
                    return Ok(false);
                };
                let (subject, pid) = (self.subject.clone(), line.connection.peer.pid);
                let answered = GuardianInput::PingAnswered { subject, pid, round_trip };
                context.mouth.sense(Message::Input(answered)).await?;
                if line.changes.replace(answer.changes) != Some(answer.changes) {
                    self.read_ticks(Some(line), None, context);
                }
            }
            Word::Read { fault } => line.fault = fault,
            Word::Broken => return Ok(false),
        }
        Ok(true)
    }

    /// Makes sure of a line; false when there is none to be had.
    async fn reach(&self, line: &mut Option<Line>, lines: &mut u64, context: &Context) -> bool {
        if line.is_none() {
            match connect(&self.socket).await {
                Ok(connection) => {
                    *lines += 1;
                    let (pings, sent) = mpsc::channel(UNREAD);
                    let mut hearing = JoinSet::new();
                    let answers = hear_answers(client(&connection), sent, *lines, context.words.clone());
                    hearing.spawn(answers);
                    *line = Some(Line {
                        number: *lines,
                        connection,
                        pings,
                        open: VecDeque::new(),
                        changes: None,
                        fault: false,
                        _hearing: hearing,
                    });
                }
                Err(error) => debug!(subject = %self.subject, %error, "wrapper not reached"),
            }
        }
        line.is_some()
    }

    fn read_ticks(&self, line: Option<&Line>, challenge: Option<Nonce>, context: &Context) {
        let Some(line) = line else { return };
        let (mut client, Peer { pid, .. }, of) = (client(&line.connection), line.connection.peer, line.number);
        let (subject, persona, context) = (self.subject.clone(), self.persona.clone(), context.clone());
        tokio::spawn(async move {
            let answer = tokio::time::timeout(ANSWER_LIMIT, client.ticks(v1::TicksRequest {})).await;
            let Ok(Ok(answer)) = answer else {
                let _ = context.words.send((of, Word::Broken)).await;
                return;
            };
            match TickState::try_from(answer.into_inner()) {
                Ok(ticks) => {
                    let good = ticks.last_good_at.filter(|_| context.units.main_pid(&subject) == Some(pid));
                    if let Some(at) = good {
                        context.metrics.peer_progress(&persona, at);
                    }
                    let fault = ticks.last.as_ref().is_some_and(|last| last.fault.is_some());
                    let read = GuardianInput::TicksRead { subject, pid, ticks, challenge };
                    let _ = context.mouth.sense(Message::Input(read)).await;
                    let _ = context.words.send((of, Word::Read { fault })).await;
                }
                Err(error) => debug!(%subject, %error, "a tick state that makes no sense"),
            }
        });
    }
}

fn client(connection: &Connection) -> WrapperServiceClient<tonic::transport::Channel> {
    WrapperServiceClient::new(connection.channel.clone()).max_decoding_message_size(MAX_MESSAGE)
}

/// Ticks of the node's clock: all agents ping in the same moment, so that whoever is asked wakes up once for all of them.
fn in_step(every: Duration) -> Interval {
    let now = clock::now();
    let mut interval = interval_at(clock::deadline(now.next_multiple_of(every).saturating_since(now)), every);
    interval.set_missed_tick_behavior(MissedTickBehavior::Skip);
    interval
}

/// Passes the answers of one line on, until it breaks or is let go.
async fn hear_answers(
    mut client: WrapperServiceClient<tonic::transport::Channel>,
    sent: mpsc::Receiver<v1::PingRequest>,
    of: u64,
    words: mpsc::Sender<(u64, Word)>,
) {
    let answered: Result<Streaming<_>, Status> =
        client.ping(ReceiverStream::new(sent)).await.map(tonic::Response::into_inner);
    if let Ok(mut answers) = answered {
        while let Ok(Some(answer)) = answers.message().await {
            if words.send((of, Word::Answer { at: clock::now(), answer })).await.is_err() {
                return;
            }
        }
    }
    let _ = words.send((of, Word::Broken)).await;
}
