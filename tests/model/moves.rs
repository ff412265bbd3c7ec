//! Every move that anybody has.

use zeta_bft::protocol::evidence::FaultClass;
use zeta_bft::protocol::types::{PersonaId, SubjectName};

/// One step of the node, of its network, its operator, or a liar.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Move {
    /// A unit that is well has a fault from here on.
    Harm(SubjectName, FaultClass),
    /// A silent unit breathes, or broken work succeeds, in the same run.
    Mend(SubjectName),
    /// Somebody else starts it anew: another run, with the fault of the last one or without.
    Rerun(SubjectName, Vigour),
    /// PID 1's news of a unit reaches the warden.
    WardenSees(SubjectName),
    /// PID 1's news of a unit reaches a guardian.
    GuardSees(PersonaId, SubjectName),
    /// What the warden published since reaches a guardian.
    GuardHears(PersonaId),
    /// A guardian reads a wrapper's ticks again, for a challenge.
    GuardLooks(PersonaId, SubjectName),
    /// The statement at this place of the network reaches the warden. What is never delivered is lost.
    Deliver(usize),
    /// A statement that was delivered before is delivered again.
    Replay(usize),
    /// A liar speaks to the warden.
    Lie(PersonaId, Lie),
    /// Everything written is on the disk.
    Sync,
    /// PID 1 answers the last look.
    Reread(SubjectName),
    /// PID 1 carries out what it was asked for, or refuses, or never answers though it did.
    Act(SubjectName, Deed),
    /// The accused process answers the warden's challenge.
    Answer,
    /// The operator speaks.
    Order(Order),
    /// The warden dies; of what was not yet on the disk this many records survive. A new one starts.
    WardenDies(usize),
    /// The newest record on the disk is lost as well: somebody put an older journal in place.
    RollBack,
    /// A guardian's connection, or the guardian itself, ends; it connects anew.
    GuardDies(PersonaId),
    /// A guardian connects to a warden that has started.
    Connect(PersonaId),
    /// News and statements arrive, in order; nothing is synced, looked at or carried out. For scripts only.
    Spread,
    /// A second passes; nothing is delivered.
    Tick,
    /// Everything under way arrives, in order; then a second passes.
    Calm,
}

/// How a new run fares.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Vigour {
    Well,
    SameFault,
}

/// What becomes of an action.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Deed {
    /// A new run, and PID 1 says so.
    Done,
    /// A new run with the same fault.
    InVain,
    /// Nothing was touched.
    Untouched,
    /// A new run, but the answer is lost.
    Unanswered,
}

/// What the operator says.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Order {
    Hold(SubjectName),
    Release(SubjectName),
    Approve(SubjectName),
    Readmit(PersonaId),
    /// `systemctl stop`, not through the warden at all.
    Stop(SubjectName),
}

/// What a liar says of a subject. To withhold is to say nothing.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Lie {
    /// APPROVE for a fault, true or not, answering any challenge that is open.
    Approve(SubjectName, FaultClass),
    /// WITHDRAW of whatever it voted.
    Withdraw(SubjectName, FaultClass),
    /// A heartbeat that says DOWN of a subject, and UP of the others.
    Accuse(SubjectName, FaultClass),
    /// A heartbeat that says UP of everything.
    Deny,
    /// Two statements with one number.
    Twice(SubjectName, FaultClass),
    /// An APPROVE in which one binding is wrong.
    Forge(SubjectName, FaultClass, Binding),
}

/// What a forged vote gets wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Binding {
    Round,
    Nonce,
    Rung,
    Incarnation,
    /// Observed an hour from now.
    Future,
    /// Observed longer ago than it may be.
    Past,
    /// Under another persona's name.
    Author,
    /// With an attestation that says something else.
    Attestation,
    /// With an attestation of another fault.
    Class,
    /// Under a guardian-set epoch that is yet to come.
    Epoch,
}

impl Binding {
    pub const ALL: [Self; 10] = [
        Self::Round,
        Self::Nonce,
        Self::Rung,
        Self::Incarnation,
        Self::Future,
        Self::Past,
        Self::Author,
        Self::Attestation,
        Self::Class,
        Self::Epoch,
    ];
}
