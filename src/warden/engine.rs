//! The one task that owns the core: inputs in, effects out, in the core's order.
//!
//! The core orders by itself what depends on the disk (it holds an effect back until [`WardenInput::Synced`]), so effects
//! are carried out as they come. What takes time (reading a unit, acting, paging) runs beside the engine and comes back as
//! an input.

use super::audience::Audience;
use super::journal_thread::{Append, JournalThread};
use super::mailbox::{Call, Facts, Inbox};
use super::suspend::SuspendWatch;
use super::timeline::Timelines;
use crate::backend::{Backend, BackendError, BackendEvent, cpu};
use crate::clock;
use crate::http::Health;
use crate::inspect::receipts::Receipts;
use crate::inspect::{self, Background};
use crate::metrics::WardenMetrics;
use crate::protocol::policy::Policy;
use crate::protocol::record::Record;
use crate::protocol::roster::Roster;
use crate::protocol::statement::JournalHead;
use crate::protocol::types::Timestamp;
use crate::protocol::warden::{
    ActionPermit, Answer, NotDone, Page, ReplyTo, Warden, WardenEffect, WardenEvent, WardenInput,
};
use crate::service_manager::notify;
use crate::wire::Proto;
use std::collections::{BTreeMap, VecDeque};
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{mpsc, oneshot};
use tracing::{debug, error, info, warn};

/// Longest the engine sleeps: bounds how late it notices a resume from suspend.
const NAP: Duration = Duration::from_millis(250);
/// Shortest: a core whose deadline has passed is asked again, but never in a tight loop.
const BLINK: Duration = Duration::from_millis(1);
/// What has reached a socket by now is heard within so many turns of its tasks, each at least a [`BLINK`] long.
const HEARING_TURNS: u32 = 5;
/// Time between two updates of the gauges.
const GAUGES: Duration = Duration::from_secs(1);

/// What an engine is made from, beside the core.
pub(super) struct Parts<B> {
    pub(super) roster: Arc<Roster>,
    pub(super) policy: Arc<Policy>,
    pub(super) isolation: bool,
    pub(super) backend: Arc<B>,
    /// `None`: the journal is damaged, and nothing is written.
    pub(super) journal: Option<JournalThread>,
    pub(super) receipts: Receipts,
    pub(super) durable: JournalHead,
    pub(super) metrics: WardenMetrics,
    pub(super) health: Health,
    /// Both ends of the channel on which the journal, and whatever runs beside the engine, come back.
    pub(super) returns: (mpsc::UnboundedSender<WardenInput>, mpsc::UnboundedReceiver<WardenInput>),
}

/// See the module.
pub(super) struct Engine<B> {
    core: Warden<Proto>,
    parts: Parts<B>,
    audience: Audience,
    timelines: Timelines,
    waiting: BTreeMap<ReplyTo, oneshot::Sender<Answer>>,
    suspend: SuspendWatch,
    boot_record: Option<u64>,
    gauges_at: Timestamp,
    stepped_at: Timestamp,
}

impl<B: Backend> Engine<B> {
    /// Takes a fresh core over, with the effects of its birth.
    pub(super) fn new(core: Warden<Proto>, born: Vec<WardenEffect>, parts: Parts<B>) -> Self {
        let mut engine = Self {
            core,
            timelines: Timelines::new(parts.policy.subjects.keys().cloned()),
            parts,
            audience: Audience::default(),
            waiting: BTreeMap::new(),
            suspend: SuspendWatch::begin(),
            boot_record: None,
            gauges_at: Timestamp::ZERO,
            stepped_at: clock::now(),
        };
        let mut next = VecDeque::new();
        for effect in born {
            next.extend(engine.carry_out(effect));
        }
        for input in next {
            engine.step(input);
        }
        engine
    }

    /// Runs until `shutdown` is done or PID 1 can be watched no longer; then lets the journal finish.
    pub(super) async fn run(mut self, mut inbox: Inbox, shutdown: impl Future<Output = ()>) -> Result<(), EngineError> {
        let mut units = self.parts.backend.watch();
        let mut watchdog = Watchdog::begin();
        if self.parts.journal.is_none() {
            // It does what it can do, which is to hold everything and to say so: a service manager must not end it.
            notify(&[sd_notify::NotifyState::Ready]);
        }
        tokio::pin!(shutdown);
        let ended = loop {
            watchdog.pet();
            self.show_gauges();
            let nap = self.nap();
            let mut first = Vec::new();
            let input = tokio::select! {
                biased;
                () = &mut shutdown => break Ok(()),
                Some(input) = self.parts.returns.1.recv() => {
                    first = heard_before(&input, &mut inbox.answers);
                    Some(input)
                }
                event = units.recv() => match event {
                    Some(BackendEvent::Unit(subject, state)) => Some(WardenInput::UnitChanged { subject, state }),
                    Some(BackendEvent::Stopping(stopping)) => Some(WardenInput::SystemStopping(stopping)),
                    None => break Err(EngineError::WatchEnded),
                },
                Some(answer) = inbox.answers.recv() => Some(answer),
                Some(vote) = inbox.votes.recv() => Some(vote),
                Some(statement) = inbox.statements.recv() => Some(statement),
                Some(call) = inbox.calls.recv() => self.take_call(call),
                () = tokio::time::sleep(nap) => Some(WardenInput::Timer),
            };
            // Not only with an input: while looks never cease, nobody sleeps until a deadline.
            let mut stepped = input.is_some();
            if self.suspend.resumed() {
                info!("the node resumed from suspend");
                self.step(WardenInput::Resumed);
                stepped = true;
            }
            for input in first.into_iter().chain(input) {
                self.step(input);
            }
            stepped |= self.step_when_due();
            if stepped {
                inbox.news.send_replace(());
            }
        };
        if let Some(journal) = self.parts.journal.take() {
            journal.finish();
        }
        ended
    }

    fn nap(&self) -> Duration {
        let due = self.core.next_deadline().map_or(NAP, |at| at.saturating_since(clock::now()));
        due.clamp(BLINK, NAP)
    }

    /// A stream of inputs or looks must not keep a deadline waiting, nor the core from the time of day. Whether it stepped.
    fn step_when_due(&mut self) -> bool {
        let now = clock::now();
        let due = self.core.next_deadline().is_some_and(|at| at <= now) || now.saturating_since(self.stepped_at) >= NAP;
        if due {
            self.step(WardenInput::Timer);
        }
        due
    }

    fn step(&mut self, input: WardenInput) {
        let mut next = VecDeque::from([input]);
        while let Some(input) = next.pop_front() {
            if let WardenInput::Synced(head) = &input {
                self.on_synced(*head);
            }
            self.stepped_at = clock::now();
            for effect in self.core.step(self.stepped_at, clock::unix_ms(), input) {
                next.extend(self.carry_out(effect));
            }
        }
    }

    fn on_synced(&mut self, head: JournalHead) {
        self.parts.durable = head;
        if self.boot_record.is_some_and(|seq| seq <= head.seq) {
            self.boot_record = None;
            self.parts.health.ready();
            notify(&[sd_notify::NotifyState::Ready]);
            info!(seq = head.seq, "the warden is ready");
        }
    }

    /// Carries an effect out; what can be answered on the spot comes back at once.
    fn carry_out(&mut self, effect: WardenEffect) -> Option<WardenInput> {
        match effect {
            WardenEffect::Append { seq, previous, record } => self.append(Append { seq, previous, record }),
            WardenEffect::Publish { subject, episode } => self.audience.publish(subject, episode),
            WardenEffect::PublishReceipt(receipt) => {
                self.audience.publish_receipt(&receipt);
                self.parts.receipts.insert(receipt);
            }
            WardenEffect::Show(statement) => self.audience.show(&statement),
            WardenEffect::Reply { to, answer } => {
                if let Some(caller) = self.waiting.remove(&to) {
                    // A caller that hung up needs no answer.
                    let _ = caller.send(answer);
                }
            }
            WardenEffect::Challenge { pid, nonce } => {
                let heard = self.audience.challenge(pid, nonce);
                debug!(pid, heard, "challenged");
            }
            WardenEffect::ReadCpu { pid, nonce, hear_out: false } => {
                return Some(WardenInput::CpuRead { nonce, reading: cpu::read(pid) });
            }
            WardenEffect::ReadCpu { pid, nonce, hear_out: true } => self.beside(async move {
                // After a time without a CPU, timers and sockets are due together: what was sent in time is still on its way
                // through the sockets' tasks. Each nap is one more turn of all of them.
                for _ in 0..HEARING_TURNS {
                    tokio::time::sleep(BLINK).await;
                }
                WardenInput::CpuRead { nonce, reading: cpu::read(pid) }
            }),
            WardenEffect::Reread { attempt, subject } => {
                let backend = Arc::clone(&self.parts.backend);
                self.beside(async move {
                    let state = backend.read(&subject).await;
                    let state =
                        state.inspect_err(|error| warn!(%subject, %error, "the last look before an act failed"));
                    WardenInput::Reread { attempt, state: state.ok() }
                });
            }
            WardenEffect::Act(permit) => self.act(permit),
            WardenEffect::Page(page) => self.page(&page),
            WardenEffect::Event(event) => self.on_event(&event),
        }
        None
    }

    fn append(&mut self, append: Append) {
        match &append.record {
            Record::Boot { .. } => self.boot_record = Some(append.seq),
            Record::Receipt(receipt) => self.parts.receipts.insert(receipt.clone()),
            _ => {}
        }
        match &self.parts.journal {
            Some(journal) => journal.append(append),
            // Never said to be durable, so nothing that rests on it will happen.
            None => error!(seq = append.seq, "the journal is damaged: a record is not written"),
        }
    }

    fn act(&self, permit: ActionPermit) {
        let attempt = permit.attempt();
        let (subject, action) = (permit.subject().clone(), permit.action().kind());
        info!(%subject, episode = %attempt.episode, rung = attempt.rung.0, round = attempt.round.0, %action, "acting");
        let backend = Arc::clone(&self.parts.backend);
        self.beside(async move {
            let (result, output) = match backend.act(permit).await {
                Ok(report) => (Ok(()), report.output),
                Err(error) => {
                    warn!(%subject, %action, %error, "the action failed");
                    let text = error.to_string();
                    let not_done = match error {
                        BackendError::Untouched(_) => NotDone::Untouched(text),
                        BackendError::NotAsked(_) => NotDone::NotAsked(text),
                        _ => NotDone::Failed(text),
                    };
                    (Err(not_done), String::new())
                }
            };
            WardenInput::Acted { attempt, result, output }
        });
    }

    fn page(&mut self, page: &Page) {
        let subject = page.subject.as_ref().map_or("node", |subject| subject.as_str()).to_owned();
        error!(cause = page.cause, subject, "page: {}", page.text);
        self.parts.metrics.on_page(page.cause, &subject);
        self.timelines.on_page(clock::unix_ms(), page);
        let (backend, cause, text) = (Arc::clone(&self.parts.backend), page.cause, page.text.clone());
        tokio::spawn(async move {
            if let Err(error) = backend.page(cause, &subject, &text).await {
                error!(cause, subject, %error, "the page command could not be run");
            }
        });
    }

    fn on_event(&mut self, event: &WardenEvent) {
        self.parts.metrics.on_event(event);
        self.timelines.on_event(clock::unix_ms(), event);
        match event {
            WardenEvent::StateChanged { subject, from, to, episode, reason } => {
                info!(%subject, %from, %to, %episode, reason, "state changed");
            }
            WardenEvent::Rejected { reason, persona } => {
                debug!(reason, persona = persona.as_ref().map(|p| p.as_str()), "statement rejected");
            }
            WardenEvent::VoteCounted { subject, persona, kind } => debug!(%subject, %persona, kind, "vote counted"),
            WardenEvent::SessionOpened { persona, incarnation } => info!(%persona, %incarnation, "session opened"),
            WardenEvent::Refused { subject, reason } => info!(%subject, reason, "repair refused"),
            WardenEvent::Repaired { subject, action, outcome, took, detection } => {
                let (took_ms, detection_ms) = (took.as_millis(), detection.as_millis());
                info!(%subject, %action, %outcome, took_ms, detection_ms, "repair ended");
            }
            WardenEvent::Equivocated { persona } => error!(%persona, "proven to equivocate: its vote is gone"),
        }
    }

    fn beside(&self, work: impl Future<Output = WardenInput> + Send + 'static) {
        let returns = self.parts.returns.0.clone();
        tokio::spawn(async move {
            // The engine may drain meanwhile: the journal's INTENT tells the next warden.
            let _ = returns.send(work.await);
        });
    }

    fn take_call(&mut self, call: Call) -> Option<WardenInput> {
        match call {
            Call::Ask { to, input, answer } => {
                self.waiting.retain(|_, caller| !caller.is_closed());
                self.waiting.insert(to, answer);
                return Some(input);
            }
            Call::Look(look) => {
                let now = clock::now();
                look(&Facts {
                    view: self.core.view(now),
                    now,
                    receipts: &self.parts.receipts,
                    durable: self.parts.durable.seq,
                    timelines: &self.timelines,
                });
            }
            Call::Watch { of, watcher } => self.audience.watch(of, watcher),
            Call::OpenLine { pid, line } => self.audience.open_line(pid, line),
        }
        None
    }

    fn show_gauges(&mut self) {
        let now = clock::now();
        if now.saturating_since(self.gauges_at) < GAUGES {
            return;
        }
        self.gauges_at = now;
        let Parts { roster, policy, isolation, .. } = &self.parts;
        let background = Background { roster, policy, isolation: *isolation, now };
        self.parts.metrics.set_view(&inspect::quorum(&self.core.view(now), background, None, |_| None));
    }
}

/// The answers to be stepped before what comes back: a reading of the CPU judges a silence, so every answer that lies here by
/// now goes first. Those and no more, so that no flood of answers keeps what comes back waiting.
fn heard_before(back: &WardenInput, answers: &mut mpsc::Receiver<WardenInput>) -> Vec<WardenInput> {
    let heard = if matches!(back, WardenInput::CpuRead { .. }) { answers.len() } else { 0 };
    (0..heard).map_while(|_| answers.try_recv().ok()).collect()
}

/// Why an engine ended by itself.
#[derive(Debug, thiserror::Error)]
pub enum EngineError {
    /// The backend gave up.
    #[error("PID 1 can no longer be watched")]
    WatchEnded,
}

/// Tells systemd that the engine itself still turns.
struct Watchdog {
    every: Option<Duration>,
    last: Timestamp,
}

impl Watchdog {
    fn begin() -> Self {
        Self { every: sd_notify::watchdog_enabled().map(|limit| limit / 3), last: clock::now() }
    }

    fn pet(&mut self) {
        let now = clock::now();
        if self.every.is_some_and(|every| now.saturating_since(self.last) >= every) {
            self.last = now;
            notify(&[sd_notify::NotifyState::Watchdog]);
        }
    }
}

#[cfg(test)]
mod tests;
