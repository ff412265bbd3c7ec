//! Everything that can happen to a warden, and everything it can want done.

use super::permit::{ActionPermit, Attempt};
use crate::protocol::cpu::CpuReading;
use crate::protocol::evidence::UnitState;
use crate::protocol::policy::Policy;
use crate::protocol::record::{Forgiveness, LedgerEntry, OpenIntent, OperatorOrder, Record};
use crate::protocol::roster::Roster;
use crate::protocol::signing::SigningKey;
use crate::protocol::statement::{
    ActionKind, Envelope, EquivocationProof, JournalHead, Outcome, StateName, StatementCodec,
};
use crate::protocol::types::{
    BootId, Digest, EpisodeId, InvocationId, Nonce, PersonaId, SessionIncarnation, SubjectName, WardenInstance,
};
use std::sync::Arc;
use std::time::Duration;

/// What a warden is made from.
pub struct WardenConfig<C: StatementCodec> {
    /// Signs sessions, episodes and receipts.
    pub key: SigningKey,
    /// Who may vote.
    pub roster: Arc<Roster>,
    /// What may be done.
    pub policy: Arc<Policy>,
    /// This boot.
    pub boot: BootId,
    /// Turns statements into bytes.
    pub codec: C,
    /// Randomness for nonces: 32 bytes that nobody else knows. Never used for keys.
    pub entropy: [u8; 32],
    /// What the journal holds.
    pub recovered: Recovered,
}

/// What a journal tells a warden that starts.
#[derive(Clone, Debug, Default)]
pub struct Recovered {
    /// Where the chain stands.
    pub head: JournalHead,
    /// The last instance; the new one is one more.
    pub instance: WardenInstance,
    /// The boot of the last instance, if there was one.
    pub boot: Option<BootId>,
    /// The newest ledger entry of each subject, and of the node.
    pub ledgers: Vec<LedgerEntry>,
    /// INTENTs without an end.
    pub open_intents: Vec<OpenIntent>,
    /// Holds in force: who said so (uid), the order, why.
    pub holds: Vec<(u32, OperatorOrder, String)>,
    /// Personas without a vote, and the proofs.
    pub quarantined: Vec<(PersonaId, EquivocationProof)>,
    /// Personas that were readmitted, and what was forgiven with it.
    pub readmitted: Vec<(PersonaId, Forgiveness)>,
    /// The newest receipts, oldest first, at most [`Recovered::RECEIPTS`].
    pub receipts: Vec<Envelope>,
    /// The journal is damaged: everything is Held, with this text for people.
    pub damage: Option<String>,
}

impl Recovered {
    /// How many receipts are kept at hand for `history` and `explain`.
    pub const RECEIPTS: usize = 256;
}

/// What the kernel and PID 1 say of the process at the other end of a connection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PeerFacts {
    /// Its user.
    pub uid: u32,
    /// Its process.
    pub pid: u32,
    /// The unit it belongs to, read before anything else; `None`: none that is configured.
    pub before: Option<PeerUnit>,
    /// The same, read again afterwards: must be equal.
    pub after: Option<PeerUnit>,
}

/// A unit, as read for a connection's process.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PeerUnit {
    /// The subject.
    pub subject: SubjectName,
    /// Its main process.
    pub main_pid: u32,
    /// Its run.
    pub invocation: InvocationId,
}

/// Why an action brought nothing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NotDone {
    /// Nothing was touched: the unit is no longer what was voted on, or PID 1 would not queue the job.
    Untouched(String),
    /// Whoever acts could not be asked: nothing was touched, and a human is called.
    NotAsked(String),
    /// It was begun, and failed.
    Failed(String),
}

/// Names the caller that waits for a [`WardenEffect::Reply`]; the shell's own number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ReplyTo(pub u64);

/// Everything that can happen to a warden.
#[derive(Clone, Debug)]
pub enum WardenInput {
    /// All records up to this one are on the disk.
    Synced(JournalHead),
    /// PID 1's word on a unit; `None`: it cannot be seen.
    UnitChanged {
        /// Which.
        subject: SubjectName,
        /// Its state.
        state: Option<UnitState>,
    },
    /// An agent wants a number for its session request.
    NonceWanted {
        /// Who.
        peer: PeerFacts,
        /// Where the answer goes.
        reply: ReplyTo,
    },
    /// An agent asks for a session.
    SessionWanted {
        /// Who.
        peer: PeerFacts,
        /// Its signed request.
        request: Envelope,
        /// Where the answer goes.
        reply: ReplyTo,
    },
    /// A heartbeat or a vote.
    Submitted(Envelope),
    /// A proof of equivocation.
    ProofSubmitted(EquivocationProof),
    /// A receipt that an agent kept, signed by us, for the check against a rolled-back journal.
    ReceiptShown(Envelope),
    /// A challenge was taken by the line to the accused process: it leaves for it now.
    ChallengeLeft {
        /// The process.
        pid: u32,
        /// The number to be repeated.
        nonce: Nonce,
    },
    /// The accused process answered a challenge, on a connection whose peer is the given process.
    ChallengeAnswered {
        /// Which process.
        pid: u32,
        /// The number it was given.
        nonce: Nonce,
    },
    /// What the scheduler says of a challenged process; `None`: it cannot be told.
    CpuRead {
        /// Which challenge.
        nonce: Nonce,
        /// The look.
        reading: Option<CpuReading>,
    },
    /// The state of a unit, read from PID 1 for the last check before an act.
    Reread {
        /// For which attempt.
        attempt: Attempt,
        /// Its state; `None`: it cannot be seen.
        state: Option<UnitState>,
    },
    /// An action returned.
    Acted {
        /// Which attempt.
        attempt: Attempt,
        /// What PID 1 answered.
        result: Result<(), NotDone>,
        /// What a `run` rung printed.
        output: String,
    },
    /// Root spoke, through the operator socket.
    Ordered {
        /// The user, as the kernel tells.
        uid: u32,
        /// What.
        order: OperatorOrder,
        /// Why.
        reason: String,
        /// Where the answer goes.
        reply: ReplyTo,
    },
    /// The node resumed from suspend.
    Resumed,
    /// Whether the system is going down: then there are no new repairs.
    SystemStopping(bool),
    /// A deadline named by [`super::Warden::next_deadline`] has come.
    Timer,
}

/// Why a human is called. At most one page per cause and subject in [`crate::protocol::policy::Timing::page_interval`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Page {
    /// From a closed set: also a metric label.
    pub cause: &'static str,
    /// Which subject; `None`: the node.
    pub subject: Option<SubjectName>,
    /// One sentence for people.
    pub text: String,
}

/// What the warden wants done.
#[derive(Debug, PartialEq)]
pub enum WardenEffect {
    /// Append this record and make it durable, in order; then say [`WardenInput::Synced`].
    Append {
        /// Its place: one more than the last.
        seq: u64,
        /// Chain hash of the record before.
        previous: Digest,
        /// The record.
        record: Record,
    },
    /// Tell every agent: this subject's episode now reads so. The newest of each subject is kept for agents that connect later.
    Publish {
        /// The subject.
        subject: SubjectName,
        /// The signed statement.
        episode: Envelope,
    },
    /// Tell every agent: this receipt is on the disk.
    PublishReceipt(Envelope),
    /// Tell every agent: of this statement one of them holds another wording. Whoever does can prove it.
    Show(Envelope),
    /// Answer a caller.
    Reply {
        /// Which.
        to: ReplyTo,
        /// What.
        answer: Answer,
    },
    /// Ask the accused process itself. The shell sends it to the connection whose peer is this process, if there is one.
    Challenge {
        /// The process.
        pid: u32,
        /// What it must repeat.
        nonce: Nonce,
    },
    /// Look at a challenged process' use of the CPU, and say [`WardenInput::CpuRead`].
    ReadCpu {
        /// The process.
        pid: u32,
        /// The challenge it is for.
        nonce: Nonce,
        /// Everything that has reached this process by now must be heard before: an answer may lie unread.
        hear_out: bool,
    },
    /// Read a unit from PID 1, and say [`WardenInput::Reread`].
    Reread {
        /// For which attempt.
        attempt: Attempt,
        /// Which unit.
        subject: SubjectName,
    },
    /// Act, and say [`WardenInput::Acted`].
    Act(ActionPermit),
    /// Call a human.
    Page(Page),
    /// Something worth a log line and a metric.
    Event(WardenEvent),
}

/// The answer to a call.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    /// A number for a session request.
    Nonce(Nonce),
    /// A session.
    Session(Envelope),
    /// Done, with a sentence for people.
    Done(String),
    /// Refused: a label, and a sentence for people.
    Refused {
        /// From a closed set.
        reason: &'static str,
        /// For people.
        text: String,
    },
}

/// Facts for logs and metrics.
#[derive(Clone, Debug, PartialEq)]
pub enum WardenEvent {
    /// A subject's state changed.
    StateChanged {
        /// Whose.
        subject: SubjectName,
        /// From.
        from: StateName,
        /// To.
        to: StateName,
        /// The episode.
        episode: EpisodeId,
        /// Why.
        reason: &'static str,
    },
    /// A statement was refused.
    Rejected {
        /// Label of `zeta_bft_statements_rejected_total`.
        reason: &'static str,
        /// Its author, when known.
        persona: Option<PersonaId>,
    },
    /// A vote was counted.
    VoteCounted {
        /// On whom.
        subject: SubjectName,
        /// By whom.
        persona: PersonaId,
        /// `APPROVE` or `WITHDRAW`.
        kind: &'static str,
    },
    /// A session was opened.
    SessionOpened {
        /// For whom.
        persona: PersonaId,
        /// Its number.
        incarnation: SessionIncarnation,
    },
    /// A repair was refused.
    Refused {
        /// Of whom.
        subject: SubjectName,
        /// Label of `zeta_bft_repairs_refused_total`.
        reason: &'static str,
    },
    /// A repair ended.
    Repaired {
        /// Of whom.
        subject: SubjectName,
        /// What was done.
        action: ActionKind,
        /// How it ended.
        outcome: Outcome,
        /// From the certification to the new process.
        took: Duration,
        /// From the oldest counted observation to the certification.
        detection: Duration,
    },
    /// A persona was proven to equivocate.
    Equivocated {
        /// Who.
        persona: PersonaId,
    },
}
