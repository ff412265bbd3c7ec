//! What is explored: who sits on the committee, who of them lies, what may be repaired, and which moves there are.

use crate::broken::Broken;
use crate::moves::Move;
use crate::signatures::Scheme;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;
use zeta_bft::protocol::evidence::{ExitZero, FaultClass};
use zeta_bft::protocol::policy::{
    Action, BudgetPolicy, ClassTiming, Consent, Mode, Policy, RungPolicy, SubjectKind, SubjectPolicy, Timing,
};
use zeta_bft::protocol::roster::{Member, Roster, RosterStatement};
use zeta_bft::protocol::signing::SigningKey;
use zeta_bft::protocol::types::{BootId, ClusterId, Digest, NodeId, PersonaId, SubjectName, VendorId};

/// One second: the model's grain of time. Every deadline of its policy is a multiple of it.
pub const S: Duration = Duration::from_secs(1);
/// How everybody here signs: symbolically, as most worlds of the simulator do.
pub const CODEC: Scheme = Scheme::Symbolic([7; 32]);
pub const BOOT: BootId = BootId([9; 16]);

const VENDORS: [(&str, &str); 5] = [
    ("lior", "google-gemini"),
    ("otto", "anthropic"),
    ("vera", "openai"),
    ("alexa", "alibaba-qwen"),
    ("riven", "xai-grok"),
];

pub fn persona(name: &str) -> PersonaId {
    PersonaId::new(name).expect("a valid name")
}

pub fn vendor(name: &str) -> VendorId {
    VendorId::new(name).expect("a valid name")
}

pub fn subject(name: &str) -> SubjectName {
    SubjectName::new(name).expect("a valid name")
}

/// A key that anybody can make again.
pub fn key(of: &str) -> SigningKey {
    SigningKey::from_seed(&Digest::of(of.as_bytes()).0)
}

/// How often each kind of move may still be made: what bounds the exploration beside its depth.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Left {
    /// A unit crashes, falls silent, or its work breaks.
    pub harms: u8,
    /// It recovers by itself, or somebody else starts it anew.
    pub mends: u8,
    /// What the liars say.
    pub lies: u8,
    /// A statement that passed by is sent once more.
    pub replays: u8,
    /// The warden, or a guardian, dies.
    pub crashes: u8,
    /// The operator speaks.
    pub orders: u8,
    /// Seconds in which nothing is delivered.
    pub ticks: u8,
    /// Seconds in which everything is.
    pub calms: u8,
}

impl Left {
    pub const NONE: Self = Self { harms: 0, mends: 0, lies: 0, replays: 0, crashes: 0, orders: 0, ticks: 0, calms: 0 };
    /// For the moves that lead to where an exploration begins.
    pub const PLENTY: Self =
        Self { harms: 9, mends: 9, lies: 9, replays: 9, crashes: 9, orders: 9, ticks: 99, calms: 99 };
}

/// One exploration.
pub struct Scope {
    pub name: &'static str,
    /// What warden and guardians count by.
    pub roster: Arc<Roster>,
    /// What they may do.
    pub policy: Arc<Policy>,
    /// What the books count by: the same, unless the warden is broken in just this.
    pub truth: Truth,
    pub liars: BTreeSet<PersonaId>,
    /// The faults that units may have, and that are lied about.
    pub classes: Vec<FaultClass>,
    /// Whether votes with one wrong binding are among the lies.
    pub forges: bool,
    pub broken: Option<Broken>,
    /// Warden and guardians count by something else than the truth.
    pub is_misled: bool,
    pub left: Left,
    /// Whether it begins at rest.
    pub from_rest: bool,
    /// Moves from rest to where else it begins.
    pub starts: Vec<Vec<Move>>,
    /// Paths that must be found.
    pub reaches: &'static [&'static str],
    /// How many moves are explored from where it begins.
    pub moves: usize,
}

/// What is right, whatever the warden believes.
#[derive(Clone)]
pub struct Truth {
    pub vendors: BTreeMap<PersonaId, VendorId>,
    pub own: BTreeMap<SubjectName, VendorId>,
    pub q: usize,
    pub f: usize,
    pub policy: Arc<Policy>,
}

impl Scope {
    /// `n` vendors of which `liars` lie; subjects `otto` (a wrapper) and `db` (a unit of nobody's).
    pub fn new(name: &'static str, n: usize, liars: &[&str]) -> Self {
        let f = u32::try_from((n - 1) / 2).expect("a small number");
        let roster = roster(&VENDORS[..n], f, f + 1);
        let policy = Arc::new(policy());
        let truth = Truth {
            vendors: roster.members().map(|member| (member.persona.clone(), member.vendor.clone())).collect(),
            own: policy.subjects.iter().filter_map(|(name, s)| Some((name.clone(), s.vendor.clone()?))).collect(),
            q: roster.q(),
            f: roster.f(),
            policy: policy.clone(),
        };
        Self {
            name,
            roster: Arc::new(roster),
            policy,
            truth,
            liars: liars.iter().map(|name| persona(name)).collect(),
            classes: vec![FaultClass::Crash],
            forges: false,
            broken: None,
            is_misled: false,
            left: Left::NONE,
            from_rest: true,
            starts: Vec::new(),
            reaches: &[],
            moves: 0,
        }
    }

    /// Another policy, for warden and books alike.
    pub fn with_policy(mut self, change: impl FnOnce(&mut Policy)) -> Self {
        let mut policy = (*self.policy).clone();
        change(&mut policy);
        self.policy = Arc::new(policy);
        self.truth.policy = self.policy.clone();
        self.truth.own =
            self.policy.subjects.iter().filter_map(|(name, s)| Some((name.clone(), s.vendor.clone()?))).collect();
        self
    }

    /// Another policy for the warden and its guardians only: what the books count by stays.
    pub fn misled(mut self, change: impl FnOnce(&mut Policy)) -> Self {
        let mut policy = (*self.policy).clone();
        change(&mut policy);
        self.policy = Arc::new(policy);
        self.is_misled = true;
        self
    }

    /// Another roster for warden and guardians only.
    pub fn misled_roster(mut self, members: &[(&str, &str)], f: u32, q: u32) -> Self {
        self.roster = Arc::new(roster(members, f, q));
        self.is_misled = true;
        self
    }

    pub fn is_liar(&self, persona: &PersonaId) -> bool {
        self.liars.contains(persona)
    }

    pub fn subjects(&self) -> impl Iterator<Item = &SubjectName> {
        self.policy.subjects.keys()
    }

    pub fn kind(&self, subject: &SubjectName) -> &SubjectKind {
        &self.policy.subjects[subject].kind
    }
}

fn roster(members: &[(&str, &str)], f: u32, q: u32) -> Roster {
    let member =
        |(name, of): &(&str, &str)| Member { persona: persona(name), vendor: vendor(of), key: key(name).public() };
    let statement = RosterStatement {
        cluster: ClusterId::new("home").expect("a valid name"),
        node: NodeId::new("node1").expect("a valid name"),
        epoch: 1,
        previous: Digest::default(),
        members: members.iter().map(member).collect(),
        f,
        q,
        warden: key("warden").public(),
        operator: key("operator").public(),
    };
    Roster::new(statement, Digest([42; 32])).expect("counts that hold")
}

/// A wrapper unit of a persona.
pub fn wrapper(name: &str) -> SubjectPolicy {
    let (_, of) = VENDORS.iter().find(|(persona, _)| *persona == name).expect("one of the five");
    SubjectPolicy {
        kind: SubjectKind::Wrapper(persona(name)),
        vendor: Some(vendor(of)),
        unit: format!("zeta-{name}.service"),
        uid: None,
        exit_zero: ExitZero::Operator,
        ladder: rungs(&[Action::Restart, Action::ResetFailed]),
        budget: BudgetPolicy { capacity: 3, refill: 100_000 * S, per_day: 3 },
    }
}

pub fn rungs(actions: &[Action]) -> Vec<RungPolicy> {
    actions.iter().map(|action| RungPolicy { action: action.clone(), consent: Consent::Quorum }).collect()
}

fn policy() -> Policy {
    let unit = SubjectPolicy {
        kind: SubjectKind::Unit,
        vendor: None,
        unit: "db.service".to_owned(),
        ladder: rungs(&[Action::Restart]),
        ..wrapper("otto")
    };
    let class = |patience, challenge| ClassTiming { patience, challenge, vote_ttl: 4 * S, settle: 2 * S };
    let timing = Timing {
        heartbeat: S,
        ping: S,
        act_timeout: 4 * S,
        cool_down: 2 * S,
        cool_down_max: 8 * S,
        ladder_reset: 1000 * S,
        unconfirmed_max: 4 * S,
        approval: 6 * S,
        pair_freeze: 4 * S,
        page_interval: 3600 * S,
        start_grace: Duration::ZERO,
        resume_grace: Duration::ZERO,
        broken_ticks: 1,
        tick_limit: 3 * S,
        crash: class(Duration::ZERO, Duration::ZERO),
        hang: class(2 * S, S),
        broken: class(Duration::ZERO, S),
        broken_k3s: class(Duration::ZERO, S),
    };
    Policy {
        digest: Digest::of(b"policy"),
        mode: Mode::Act,
        subjects: [(subject("db"), unit), (subject("otto"), wrapper("otto"))].into(),
        node_per_day: 9,
        drill: false,
        timing,
    }
}
