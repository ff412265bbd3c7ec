//! Soft evidence: pings and tick states of one wrapper, each on a connection of this agent's own.
//!
//! * A ping is counted as sent before anything is tried: a wrapper that cannot even be connected to is silent.
//! * Who answered is the process that listens on the other end of the connection, as the kernel names it.
//! * Liveness and progress never refresh one another: pings and ticks are separate calls and separate inputs.

use super::mind::{Message, Mouth};
use super::units::KnownUnits;
use crate::clock;
use crate::grpc::client::{Connection, connect};
use crate::grpc::{MAX_MESSAGE, Peer};
use crate::metrics::AgentMetrics;
use crate::protocol::evidence::TickState;
use crate::protocol::guardian::GuardianInput;
use crate::protocol::types::{Nonce, PersonaId, SubjectName};
use crate::wire::v1;
use crate::wire::v1::wrapper_service_client::WrapperServiceClient;
use std::path::PathBuf;
use std::time::Duration;
use tokio::sync::mpsc;
use tokio::time::{MissedTickBehavior, interval};
use tracing::debug;

/// Longest wait for one answer.
const ANSWER_LIMIT: Duration = Duration::from_secs(2);
/// Time between two readings of the tick state.
const TICKS_EVERY: Duration = Duration::from_millis(500);

/// One wrapper to be watched.
pub(super) struct Wrapper {
    pub(super) subject: SubjectName,
    pub(super) persona: PersonaId,
    pub(super) socket: PathBuf,
    pub(super) ping: Duration,
}

/// A connection, and its number: an old call's failure must not end a newer connection.
struct Line {
    number: u64,
    connection: Connection,
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
        let mut pings = interval(self.ping);
        let mut readings = interval(TICKS_EVERY);
        pings.set_missed_tick_behavior(MissedTickBehavior::Delay);
        readings.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let (broke, mut broken) = mpsc::channel(16);
        let mut line: Option<Line> = None;
        let (mut number, mut lines) = (0u64, 0u64);
        let mut run = None;
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
                Some(of) = broken.recv() => {
                    if line.as_ref().is_some_and(|line| line.number == of) {
                        line = None;
                    }
                }
                challenge = wanted.recv() => {
                    let Some(challenge) = challenge else { return };
                    if let Some(line) = self.line(&mut line, &mut lines).await {
                        self.read_ticks(line, Some(challenge), &mouth, &broke, &units, &metrics);
                    }
                }
                _ = pings.tick() => {
                    let sent = GuardianInput::PingSent { subject: self.subject.clone() };
                    if mouth.sense(Message::Input(sent)).await.is_err() {
                        return;
                    }
                    if let Some(line) = self.line(&mut line, &mut lines).await {
                        number += 1;
                        self.ping(line, number, &mouth, &broke);
                    }
                }
                _ = readings.tick() => {
                    if let Some(line) = &line {
                        self.read_ticks(line, None, &mouth, &broke, &units, &metrics);
                    }
                }
            }
        }
    }

    async fn line<'a>(&self, line: &'a mut Option<Line>, lines: &mut u64) -> Option<&'a Line> {
        if line.is_none() {
            match connect(&self.socket).await {
                Ok(connection) => {
                    *lines += 1;
                    *line = Some(Line { number: *lines, connection });
                }
                Err(error) => debug!(subject = %self.subject, %error, "wrapper not reached"),
            }
        }
        line.as_ref()
    }

    fn ping(&self, line: &Line, number: u64, mouth: &Mouth, broke: &mpsc::Sender<u64>) {
        let (mut client, Peer { pid, .. }, of) = client(line);
        let (subject, mouth, broke) = (self.subject.clone(), mouth.clone(), broke.clone());
        tokio::spawn(async move {
            let began = clock::now();
            let answer = tokio::time::timeout(ANSWER_LIMIT, client.ping(v1::PingRequest { number })).await;
            match answer {
                Ok(Ok(answer)) if answer.get_ref().number == number => {
                    let round_trip = clock::now().saturating_since(began);
                    let answered = GuardianInput::PingAnswered { subject, pid, round_trip };
                    let _ = mouth.sense(Message::Input(answered)).await;
                }
                _ => {
                    let _ = broke.send(of).await;
                }
            }
        });
    }

    fn read_ticks(
        &self,
        line: &Line,
        challenge: Option<Nonce>,
        mouth: &Mouth,
        broke: &mpsc::Sender<u64>,
        units: &KnownUnits,
        metrics: &AgentMetrics,
    ) {
        let (mut client, Peer { pid, .. }, of) = client(line);
        let (subject, persona) = (self.subject.clone(), self.persona.clone());
        let (mouth, broke, units, metrics) = (mouth.clone(), broke.clone(), units.clone(), metrics.clone());
        tokio::spawn(async move {
            let answer = tokio::time::timeout(ANSWER_LIMIT, client.ticks(v1::TicksRequest {})).await;
            let Ok(Ok(answer)) = answer else {
                let _ = broke.send(of).await;
                return;
            };
            match TickState::try_from(answer.into_inner()) {
                Ok(ticks) => {
                    let good = ticks.last_good_at.filter(|_| units.main_pid(&subject) == Some(pid));
                    if let Some(at) = good {
                        metrics.peer_progress(&persona, at);
                    }
                    let read = GuardianInput::TicksRead { subject, pid, ticks, challenge };
                    let _ = mouth.sense(Message::Input(read)).await;
                }
                Err(error) => debug!(%subject, %error, "a tick state that makes no sense"),
            }
        });
    }
}

fn client(line: &Line) -> (WrapperServiceClient<tonic::transport::Channel>, Peer, u64) {
    let client = WrapperServiceClient::new(line.connection.channel.clone()).max_decoding_message_size(MAX_MESSAGE);
    (client, line.connection.peer, line.number)
}
