//! The statements that travel, and the one door through which they enter: verified first, parsed after ([`Envelope::open`]).

mod envelope;

pub use envelope::{Codec, DecodeError, Envelope, OpenError, Statement, StatementCodec, Verified};

use super::evidence::{Attestation, FaultClass, closed_set};
use super::signing::Domain;
use super::types::{
    BootId, ClusterId, Digest, EpisodeId, Incarnation, InvocationId, NodeId, Nonce, PersonaId, PublicKey, Round, Rung,
    SessionIncarnation, SetEpoch, SubjectName, Timestamp, WardenInstance,
};

/// What every guardian statement begins with.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Header {
    /// The author's cluster.
    pub cluster: ClusterId,
    /// The author's node.
    pub node: NodeId,
    /// The boot on which `observed_at` means something.
    pub boot: BootId,
    /// Number of the roster it counts by.
    pub roster_epoch: u64,
    /// Digest of that roster.
    pub roster: Digest,
    /// Digest of subjects, ladders and budgets as the author has them configured.
    pub policy: Digest,
    /// The author.
    pub persona: PersonaId,
    /// The author's run, as the warden numbered it.
    pub incarnation: SessionIncarnation,
    /// The key of this run, which signs the statement.
    pub session_key: PublicKey,
    /// Rises with every statement of this run; two payloads with one number prove equivocation.
    pub seq: u64,
    /// When the author observed what it says.
    pub observed_at: Timestamp,
}

/// An agent's wish for a session: proves that it holds the persona key now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SessionRequest {
    /// The cluster.
    pub cluster: ClusterId,
    /// The node.
    pub node: NodeId,
    /// Who asks.
    pub persona: PersonaId,
    /// The fresh key of this run.
    pub session_key: PublicKey,
    /// The warden's number, handed to this connection.
    pub nonce: Nonce,
    /// Digest of the roster the agent counts by.
    pub roster: Digest,
    /// Digest of its policy.
    pub policy: Digest,
}

impl Statement for SessionRequest {
    const DOMAIN: Domain = Domain::SessionRequest;
}

/// The warden's word that a session key belongs to one run of one persona's agent. The newest ends the older.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Session {
    /// The request, signed by the persona key.
    pub request: Envelope,
    /// The cluster.
    pub cluster: ClusterId,
    /// The node.
    pub node: NodeId,
    /// The boot.
    pub boot: BootId,
    /// Whose run.
    pub persona: PersonaId,
    /// Its key.
    pub session_key: PublicKey,
    /// Its number, never reused.
    pub incarnation: SessionIncarnation,
    /// User that the agent runs as.
    pub uid: u32,
    /// The agent's unit.
    pub unit: SubjectName,
    /// That unit's run.
    pub invocation: InvocationId,
}

impl Statement for Session {
    const DOMAIN: Domain = Domain::Session;
}

/// The newest statement that a guardian has of another: what peers compare to find equivocation.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Head {
    /// Of whom.
    pub persona: PersonaId,
    /// Under which session key.
    pub session_key: PublicKey,
    /// Which number.
    pub seq: u64,
    /// Digest of its payload.
    pub digest: Digest,
}

/// A place in the warden's journal.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct JournalHead {
    /// Number of the record.
    pub seq: u64,
    /// Chain hash up to and with it.
    pub hash: Digest,
}

/// All that a guardian holds true now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Heartbeat {
    /// Who, when, under which session.
    pub header: Header,
    /// Its word on every subject it watches, ordered by name.
    pub attestations: Vec<Attestation>,
    /// Its own health: 0 is well, each point lengthens its patience; at the limit it abstains.
    pub health: u32,
    /// The newest statements it has of others.
    pub heads: Vec<Head>,
    /// The highest receipt of the warden it has seen.
    pub receipt: JournalHead,
}

impl Heartbeat {
    /// Heads at most: with four heartbeats a second it names more than two liars may say, of whom each peer takes 100 statements a
    /// second.
    pub const MAX_HEADS: usize = 64;
}

impl Statement for Heartbeat {
    const DOMAIN: Domain = Domain::Heartbeat;
}

closed_set!(
    /// The state of a subject's episode.
    StateName {
        /// Nothing is wrong.
        Healthy = "healthy",
        /// Somebody says DOWN, below a quorum.
        Suspect = "suspect",
        /// A quorum on soft evidence: asked back.
        Challenged = "challenged",
        /// A quorum that holds: waits for its slot and cool-down.
        Certified = "certified",
        /// The rung needs the operator's approval.
        AwaitingApproval = "awaiting_approval",
        /// INTENT is written; the action is under way.
        Acting = "acting",
        /// The action is done; is it well?
        Settling = "settling",
        /// Nobody can say whether it helped.
        Unconfirmed = "unconfirmed",
        /// After a crash of the warden: what became of the last INTENT?
        Reconciling = "reconciling",
        /// Doubt about the host: soft evidence is not acted on.
        Frozen = "frozen",
        /// Left alone until released or refilled.
        Held = "held",
        /// The operator wants it so.
        Operator = "operator",
    }
);

/// What the warden publishes of every subject, ahead of any fault: what a vote must match.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct EpisodeStatement {
    /// The cluster.
    pub cluster: ClusterId,
    /// The node.
    pub node: NodeId,
    /// The boot.
    pub boot: BootId,
    /// Digest of the roster the warden counts by.
    pub roster: Digest,
    /// Digest of its policy.
    pub policy: Digest,
    /// The subject.
    pub subject: SubjectName,
    /// The episode.
    pub id: EpisodeId,
    /// The round within it.
    pub round: Round,
    /// Fresh for each round.
    pub nonce: Nonce,
    /// Guardian-set epoch.
    pub set_epoch: SetEpoch,
    /// The run that can be voted on.
    pub incarnation: Incarnation,
    /// The rung that a quorum would carry out.
    pub rung: Rung,
    /// Where it stands.
    pub state: StateName,
    /// While challenged on BROKEN: the number that a fresh observation must carry.
    pub challenge: Option<Nonce>,
    /// Repairs left in the subject's budget.
    pub budget: u32,
}

impl Statement for EpisodeStatement {
    const DOMAIN: Domain = Domain::Episode;
}

closed_set!(
    /// What a vote says.
    Choice {
        /// Carry out the rung.
        Approve = "APPROVE",
        /// Forget my earlier vote.
        Withdraw = "WITHDRAW",
    }
);

/// One guardian's vote on one round of one episode.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Vote {
    /// Who, when, under which session.
    pub header: Header,
    /// The episode.
    pub episode: EpisodeId,
    /// The round.
    pub round: Round,
    /// The round's number, so that no old vote fits.
    pub nonce: Nonce,
    /// Guardian-set epoch.
    pub set_epoch: SetEpoch,
    /// The subject.
    pub subject: SubjectName,
    /// The run it is about.
    pub incarnation: Incarnation,
    /// The rung it approves.
    pub rung: Rung,
    /// The fault.
    pub class: FaultClass,
    /// For or against.
    pub choice: Choice,
    /// The challenge that its observation came after, if any.
    pub challenge: Option<Nonce>,
    /// The voter's own observation, on which the vote rests.
    pub attestation: Attestation,
}

impl Statement for Vote {
    const DOMAIN: Domain = Domain::Vote;
}

closed_set!(
    /// What a receipt is about.
    ReceiptKind {
        /// About to act.
        Intent = "INTENT",
        /// Acted.
        Outcome = "OUTCOME",
        /// Did not act after all.
        Abort = "ABORT",
        /// Would have acted (observe mode).
        WouldAct = "WOULD_ACT",
    }
);

closed_set!(
    /// How an action ended.
    Outcome {
        /// The new process runs.
        Ok = "ok",
        /// It did not help, or not in time.
        Failed = "failed",
        /// Nobody could say.
        Unconfirmed = "unconfirmed",
        /// The warden crashed, but the incarnation shows that it was carried out.
        Inferred = "inferred",
        /// The warden crashed, and the incarnation shows that it was not.
        Abandoned = "abandoned",
        /// The last look before the act found something else.
        Aborted = "aborted",
        /// Observe mode.
        WouldAct = "would_act",
    }
);

closed_set!(
    /// What can be done to a subject. What exactly it runs comes from root-owned configuration alone (rule S7).
    ActionKind {
        /// Stop what is left of it and start it again.
        Restart = "restart",
        /// Forget PID 1's failure count, then restart.
        ResetFailed = "reset-failed",
        /// Run a configured command.
        Run = "run",
        /// Stop it.
        Stop = "stop",
        /// Move a configured file aside, then restart.
        MoveAside = "move-aside",
        /// Copy a configured file aside.
        CopyAside = "copy-aside",
        /// Call a human.
        Page = "page",
    }
);

/// All that an action rests on, checkable offline with the roster alone.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ActionCertificate {
    /// The episode as published.
    pub episode: Envelope,
    /// The q votes, each with the voter's attestation in it.
    pub votes: Vec<Envelope>,
    /// The voters' sessions.
    pub sessions: Vec<Envelope>,
}

/// What the warden did, or did not do, and why. Signed and chained: the journal's own record of an action.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Receipt {
    /// The cluster.
    pub cluster: ClusterId,
    /// The node.
    pub node: NodeId,
    /// The boot.
    pub boot: BootId,
    /// The warden instance that wrote it.
    pub warden: WardenInstance,
    /// Its place in the journal.
    pub seq: u64,
    /// Chain hash of the record before it.
    pub previous: Digest,
    /// What it is about.
    pub kind: ReceiptKind,
    /// The episode.
    pub episode: EpisodeId,
    /// The round.
    pub round: Round,
    /// The rung.
    pub rung: Rung,
    /// The subject.
    pub subject: SubjectName,
    /// The action.
    pub action: ActionKind,
    /// The fault that was certified.
    pub class: FaultClass,
    /// The run that was voted on.
    pub before: Incarnation,
    /// The run after the action, once known.
    pub after: Option<Incarnation>,
    /// How it ended; `None` in an INTENT.
    pub outcome: Option<Outcome>,
    /// Why it was aborted or failed, or what a `run` rung printed; cut to [`Receipt::MAX_DETAIL`] bytes.
    pub detail: String,
    /// The certificate (INTENT and WOULD_ACT).
    pub certificate: Option<ActionCertificate>,
    /// The INTENT that it ends (OUTCOME and ABORT): its place in the journal.
    pub intent: Option<u64>,
    /// When, on the node's boot clock.
    pub at: Timestamp,
    /// When, in milliseconds of Unix time: for people, no rule reads it.
    pub wall_ms: u64,
}

impl Receipt {
    /// Longest `detail`, in bytes.
    pub const MAX_DETAIL: usize = 4096;
}

impl Statement for Receipt {
    const DOMAIN: Domain = Domain::Receipt;
}

/// Two statements that one session signed with one number: transferable proof that its holder lies.
///
/// Not signed itself; whoever holds the roster can check it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EquivocationProof {
    /// The session both were made under.
    pub session: Envelope,
    /// One.
    pub first: Envelope,
    /// The other.
    pub second: Envelope,
}
