//! What a seed stands for: the committee, its policy, its liar, and every fault with its time.

use crate::actors::Guise;
use crate::k3s::Ailment;
use crate::rng::Rng;
use std::collections::BTreeMap;
use std::time::Duration;
use zeta_bft::protocol::evidence::ExitZero;
use zeta_bft::protocol::policy::{
    Action, BudgetPolicy, ClassTiming, Consent, Mode, Policy, RungPolicy, SubjectKind, SubjectPolicy, Timing,
};
use zeta_bft::protocol::types::{Digest, PersonaId, SubjectName, VendorId};

/// Personas and their vendors, in order: the first three, or all five.
pub const PERSONAS: [(&str, &str); 5] = [
    ("otto", "anthropic"),
    ("lior", "google-gemini"),
    ("vera", "openai"),
    ("alexa", "alibaba-qwen"),
    ("riven", "xai-grok"),
];

/// The persona that lies, if one does.
pub const LIAR: usize = 1;

/// A unit of the operator's, beside the personas.
pub const FOREIGN: &str = "registry";

/// Of the first [`FULL`](crate::FULL) hostile seeds, one in so many signs by Ed25519, which costs several times as much.
pub const ED25519_EVERY: u64 = 16;
/// Of those beyond, one in so many.
const ED25519_BEYOND: u64 = 256;

/// Whether a hostile seed signs by Ed25519. Its number alone says so: a replay signs as the campaign did.
pub fn signs_by_ed25519(seed: u64) -> bool {
    seed.is_multiple_of(if seed < crate::FULL { ED25519_EVERY } else { ED25519_BEYOND })
}

/// The node's k3s.
/// The names that every step of a world asks for.
struct Names {
    personas: [PersonaId; PERSONAS.len()],
    wrappers: [SubjectName; PERSONAS.len()],
    agents: [SubjectName; PERSONAS.len()],
    k3s: SubjectName,
}

thread_local! {
    /// Made once; each thread has its own, so that worlds side by side do not wait for one another's counts.
    static NAMES: Names = {
        let personas = PERSONAS.map(|(name, _)| PersonaId::new(name).expect("a valid name"));
        Names {
            wrappers: personas.each_ref().map(SubjectName::wrapper),
            agents: personas.each_ref().map(SubjectName::agent),
            personas,
            k3s: SubjectName::new("k3s").expect("a valid name"),
        }
    };
}

pub fn k3s() -> SubjectName {
    NAMES.with(|names| names.k3s.clone())
}

/// Who lies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Liars {
    Nobody,
    One,
    /// Safety does not rest on any guardian: S2, S3, S5, S6, S9 and S10 hold all the same.
    Everybody,
}

/// How somebody else's restart comes between INTENT and the last look.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Meddling {
    /// Just before the look. The new run is well.
    Well,
    /// While INTENT is on its way to the disk. The new run soon has the fault of the old one: only its incarnation differs.
    SameFault,
}

/// What the harness does to the node.
#[derive(Clone, Debug)]
pub enum Fault {
    /// A unit's process dies; its next runs fare as `fate` says.
    Crash {
        subject: SubjectName,
        fate: crate::pid1::Fate,
    },
    /// It exits with status 0.
    ExitZero(SubjectName),
    /// It falls silent, for good or for a time.
    Silence {
        subject: SubjectName,
        wake_after: Option<Duration>,
    },
    /// It gets no CPU, or waits for the disk, for a time.
    Starve {
        subject: SubjectName,
        breath: crate::pid1::Breath,
        wake_after: Duration,
    },
    /// Something ails k3s from now on; a damaged datastore ends it, too.
    Ail(Ailment),
    /// A persona's ticks fail from now on, until so many restarts.
    BreakTicks {
        persona: usize,
        restarts: u32,
    },
    /// A persona's ticks meet a quota, for a time.
    Quota {
        persona: usize,
        lasts: Duration,
    },
    /// PID 1 takes this long for the next starts of a unit.
    SlowStart {
        subject: SubjectName,
        takes: Duration,
    },
    /// PID 1 refuses the next actions on a unit.
    RefuseActions {
        subject: SubjectName,
        times: u32,
    },
    OperatorStop {
        subject: SubjectName,
        start_after: Duration,
    },
    Mask {
        subject: SubjectName,
        unmask_after: Duration,
    },
    Hold {
        subject: Option<SubjectName>,
        release_after: Option<Duration>,
    },
    CrashWarden {
        down: Duration,
    },
    FreezeWarden {
        lasts: Duration,
    },
    /// Two ends do not hear each other, for a time. `usize::MAX` is the warden.
    Partition {
        a: usize,
        b: usize,
        lasts: Duration,
    },
    /// An agent hears none of its peers, for a time; perhaps not the warden either.
    Isolate {
        persona: usize,
        warden: bool,
        lasts: Duration,
    },
    /// Somebody restarts the next unit that is about to be acted on, between INTENT and the last look.
    Meddle(Meddling),
    Reconnect {
        a: usize,
        b: usize,
    },
    Suspend {
        lasts: Duration,
    },
    Reboot {
        down: Duration,
    },
    /// The next sync of the journal fails.
    FailingDisk,
    SlowDisk {
        lasts: Duration,
    },
    /// PID 1 answers nobody's questions, and tells nobody how an action ended.
    DeafPid1 {
        lasts: Duration,
    },
    /// Unix time jumps.
    WallJump {
        forward: bool,
        by: Duration,
    },
}

/// Everything that a seed fixes before the first step.
#[derive(Clone)]
pub struct Plan {
    pub personas: usize,
    pub f: u32,
    pub q: u32,
    pub policy: Policy,
    pub liars: Liars,
    /// Which actor a liar is.
    pub guise: Guise,
    pub weather: crate::network::Weather,
    pub faults: Vec<(Duration, Fault)>,
    /// When the hostile part ends.
    pub heal_at: Duration,
    /// Holds stay in force after the faults heal.
    pub keep_holds: bool,
    /// Longest time that everything may take to be well again after that.
    pub recovery: Duration,
    pub auto_restart: Duration,
    /// Signs by Ed25519, not symbolically.
    pub ed25519: bool,
}

pub fn persona(index: usize) -> PersonaId {
    NAMES.with(|names| names.personas[index].clone())
}

/// The wrapper unit of a persona.
pub fn wrapper(index: usize) -> SubjectName {
    NAMES.with(|names| names.wrappers[index].clone())
}

/// The agent unit of a persona.
pub fn agent(index: usize) -> SubjectName {
    NAMES.with(|names| names.agents[index].clone())
}

pub fn vendor(index: usize) -> VendorId {
    VendorId::new(PERSONAS[index].1).expect("a valid name")
}

pub fn foreign() -> SubjectName {
    SubjectName::new(FOREIGN).expect("a valid name")
}

/// Short deadlines, so that a minute of virtual time sees every state and every exit.
pub fn timing() -> Timing {
    let ms = Duration::from_millis;
    let class = |patience, challenge, settle| ClassTiming {
        patience: ms(patience),
        challenge: ms(challenge),
        vote_ttl: ms(2400),
        settle: ms(settle),
    };
    Timing {
        heartbeat: ms(600),
        ping: ms(500),
        act_timeout: ms(2500),
        cool_down: ms(300),
        cool_down_max: ms(2400),
        ladder_reset: ms(8000),
        unconfirmed_max: ms(5000),
        approval: ms(4000),
        pair_freeze: ms(2500),
        page_interval: ms(60_000),
        start_grace: ms(800),
        resume_grace: ms(800),
        broken_ticks: 3,
        tick_limit: ms(2000),
        crash: class(0, 0, 1200),
        hang: class(1100, 200, 1500),
        broken: class(0, 500, 2000),
        broken_k3s: class(0, 500, 3000),
    }
}

/// As `init` writes it.
fn k3s_ladder() -> Vec<RungPolicy> {
    let (agent, datastore) = ("/var/lib/rancher/k3s/agent".to_owned(), "/var/lib/rancher/k3s/server/db".to_owned());
    let actions =
        [Action::MoveAside { path: agent }, Action::CopyAside { path: datastore }, Action::Restart, Action::Page];
    actions.map(|action| RungPolicy { action, consent: Consent::Quorum }).into()
}

/// A policy over so many personas and one foreign unit.
pub fn policy(personas: usize, budget: BudgetPolicy, node_per_day: u32, mode: Mode, approval: bool) -> Policy {
    let mut subjects = BTreeMap::new();
    for index in 0..personas {
        for kind in [SubjectKind::Wrapper(persona(index)), SubjectKind::Agent(persona(index))] {
            let name = match kind {
                SubjectKind::Agent(_) => SubjectName::agent(&persona(index)),
                _ => SubjectName::wrapper(&persona(index)),
            };
            let subject = SubjectPolicy {
                kind,
                vendor: Some(vendor(index)),
                unit: format!("zeta-{name}.service"),
                uid: None,
                exit_zero: ExitZero::Fault,
                ladder: Policy::persona_ladder(),
                budget,
            };
            subjects.insert(name, subject);
        }
    }
    let consent = if approval { Consent::QuorumAndOperator } else { Consent::Quorum };
    let ladder = vec![
        RungPolicy { action: Action::Restart, consent: Consent::Quorum },
        RungPolicy { action: Action::Run { argv: vec!["/bin/true".into()], limit: Duration::from_secs(1) }, consent },
        RungPolicy { action: Action::ResetFailed, consent: Consent::Quorum },
    ];
    let unit = SubjectPolicy {
        kind: SubjectKind::Unit,
        vendor: None,
        unit: "registry.service".into(),
        uid: None,
        exit_zero: ExitZero::Operator,
        ladder,
        budget,
    };
    let k3s_policy = SubjectPolicy {
        kind: SubjectKind::K3s,
        unit: "k3s.service".into(),
        exit_zero: ExitZero::Fault,
        ladder: k3s_ladder(),
        ..unit.clone()
    };
    subjects.insert(k3s(), k3s_policy);
    subjects.insert(foreign(), unit);
    Policy {
        digest: Digest::of(b"the simulator's policy"),
        mode,
        subjects,
        node_per_day,
        drill: false,
        timing: timing(),
    }
}

impl Plan {
    /// Nothing goes wrong but what a test does itself.
    pub fn calm(personas: usize) -> Self {
        let budget = BudgetPolicy { capacity: 5, refill: Duration::from_secs(5), per_day: 12 };
        let f = u32::try_from((personas - 1) / 2).expect("few personas");
        Self {
            personas,
            f,
            q: f + 1,
            policy: policy(personas, budget, 30, Mode::Act, false),
            liars: Liars::Nobody,
            guise: Guise::Chameleon,
            weather: crate::network::Weather { delay: Duration::from_millis(2), ..Default::default() },
            faults: Vec::new(),
            heal_at: Duration::from_secs(3600),
            keep_holds: true,
            recovery: Duration::from_secs(60),
            auto_restart: Duration::from_millis(100),
            ed25519: true,
        }
    }

    /// The hostile schedule that a seed stands for.
    pub fn hostile(seed: u64) -> Self {
        let rng = &mut Rng::new(seed ^ 0x0070_6c61_6e00);
        let personas = if rng.chance(3) { 5 } else { 3 };
        let f = if personas == 5 && rng.chance(70) { 2 } else { 1 };
        let q = f + 1;
        let liars = match rng.below(100) {
            0..45 => Liars::Nobody,
            45..94 => Liars::One,
            _ => Liars::Everybody,
        };
        let budget = BudgetPolicy {
            capacity: 1 + u32::try_from(rng.below(5)).unwrap_or(0),
            refill: rng.ms(2000, 20_000),
            per_day: 3 + u32::try_from(rng.below(10)).unwrap_or(0),
        };
        let mode = if rng.chance(6) { Mode::Observe } else { Mode::Act };
        let node_per_day = if rng.chance(20) { 6 } else { 60 };
        let heal_at = rng.ms(2500, 7000);
        let weather = match rng.below(3) {
            0 => crate::network::Weather { delay: Duration::from_millis(3), ..Default::default() },
            1 => crate::network::Weather { loss: 5, double: 5, reorder: 10, delay: Duration::from_millis(60) },
            _ => crate::network::Weather { loss: 20, double: 10, reorder: 30, delay: Duration::from_millis(400) },
        };
        let mut faults = Vec::new();
        for _ in 0..2 + rng.below(12) {
            let at = rng.between(Duration::from_millis(500), heal_at);
            faults.push((at, Fault::any(rng, personas)));
        }
        if rng.chance(15) {
            // One subject, again and again.
            let subject = Fault::subject(rng, personas);
            let mut at = rng.between(Duration::from_millis(500), heal_at);
            for _ in 0..3 + rng.below(6) {
                faults.push((at, Fault::Crash { subject: subject.clone(), fate: crate::pid1::Fate::Well }));
                at += rng.ms(600, 2500);
            }
        }
        if rng.chance(10) {
            // All wrappers at once.
            let at = rng.between(Duration::from_millis(1500), heal_at);
            for index in 0..personas {
                let subject = SubjectName::wrapper(&persona(index));
                faults.push((at, Fault::Crash { subject, fate: crate::pid1::Fate::Well }));
            }
        }
        let mut policy = policy(personas, budget, node_per_day, mode, rng.chance(50));
        if rng.chance(10) {
            // An operator who wants one restart of a persona, and no page: what fails then is held.
            policy.subjects.values_mut().filter(|s| s.vendor.is_some()).for_each(|s| s.ladder.truncate(1));
        }
        let keep_holds = rng.chance(30);
        let guise = Guise::any(rng);
        let auto_restart = if rng.chance(70) { rng.ms(20, 900) } else { rng.ms(3000, 30_000) };
        if rng.chance(20) {
            // Something to repair, and somebody who restarts it in vain when the warden is about to.
            let at = rng.between(Duration::from_millis(1000), heal_at);
            let subject = Fault::subject(rng, personas);
            faults.push((at, Fault::Meddle(Meddling::SameFault)));
            let fault = match rng.below(2) {
                0 => Fault::Crash { subject, fate: crate::pid1::Fate::Well },
                _ => Fault::Silence { subject, wake_after: None },
            };
            faults.push((at, fault));
        }
        if rng.chance(10) {
            // Much to repair at once, and an operator who takes one of it away while it waits for its turn or an approval.
            let at = rng.between(Duration::from_millis(1500), heal_at);
            for index in 0..personas {
                let fate = crate::pid1::Fate::CrashLoop(u32::try_from(rng.below(2)).unwrap_or(0));
                faults.push((at, Fault::Crash { subject: SubjectName::wrapper(&persona(index)), fate }));
            }
            faults.push((at, Fault::Crash { subject: foreign(), fate: crate::pid1::Fate::CrashLoop(3) }));
            let subject = if rng.chance(50) { foreign() } else { Fault::subject(rng, personas) };
            let stop = Fault::OperatorStop { subject, start_after: rng.ms(500, 4000) };
            faults.push((at + rng.ms(5, 3000), stop));
        }
        faults.sort_by_key(|(at, _)| *at);
        Self {
            personas,
            f,
            q,
            policy,
            liars,
            guise,
            weather,
            faults,
            heal_at,
            keep_holds,
            recovery: Duration::from_secs(60),
            auto_restart,
            ed25519: signs_by_ed25519(seed),
        }
    }
}

impl Fault {
    fn subject(rng: &mut Rng, personas: usize) -> SubjectName {
        let who = rng.index(personas);
        match rng.below(12) {
            0..6 => SubjectName::wrapper(&persona(who)),
            6..9 => SubjectName::agent(&persona(who)),
            9 => foreign(),
            _ => k3s(),
        }
    }

    fn any(rng: &mut Rng, personas: usize) -> Self {
        use crate::pid1::{Breath, Fate};
        let who = rng.index(personas);
        let subject = Self::subject(rng, personas);
        let few = |rng: &mut Rng| u32::try_from(1 + rng.below(3)).unwrap_or(1);
        let fate = match rng.below(10) {
            0..7 => Fate::Well,
            7 => Fate::CrashLoop(few(rng)),
            8 => Fate::CrashLoop(40),
            _ => Fate::Hangs(few(rng)),
        };
        let ends = |rng: &mut Rng| if rng.chance(40) { usize::MAX } else { rng.index(personas) };
        match rng.below(110) {
            0..28 => Self::Crash { subject, fate },
            28..31 => Self::ExitZero(subject),
            31..42 => {
                let wake_after = if rng.chance(50) { None } else { Some(rng.ms(700, 2500)) };
                Self::Silence { subject, wake_after }
            }
            42..45 => {
                let breath = if rng.chance(30) { Breath::Blocked } else { Breath::Starved };
                Self::Starve { subject, breath, wake_after: rng.ms(500, 3000) }
            }
            45..51 => {
                let restarts = if rng.chance(20) { 100 } else { few(rng) };
                Self::BreakTicks { persona: who, restarts }
            }
            51..54 => Self::Quota { persona: who, lasts: rng.ms(1000, 8000) },
            54..57 => Self::SlowStart { subject, takes: rng.ms(500, 5000) },
            57..60 => Self::RefuseActions { subject, times: few(rng) },
            60..63 => Self::OperatorStop { subject, start_after: rng.ms(500, 4000) },
            63..65 => Self::Mask { subject, unmask_after: rng.ms(500, 4000) },
            65..70 => {
                let subject = if rng.chance(20) { None } else { Some(subject) };
                let release_after = if rng.chance(60) { Some(rng.ms(300, 5000)) } else { None };
                Self::Hold { subject, release_after }
            }
            70..80 => Self::CrashWarden { down: rng.ms(1, 1500) },
            80..82 => Self::FreezeWarden { lasts: rng.ms(100, 3000) },
            82..85 => Self::Partition { a: who, b: ends(rng), lasts: rng.ms(200, 4000) },
            85..88 => Self::Isolate { persona: who, warden: rng.chance(30), lasts: rng.ms(500, 5000) },
            88..90 => Self::Reconnect { a: who, b: ends(rng) },
            90..92 => Self::Meddle(Meddling::Well),
            92..94 => Self::Suspend { lasts: rng.ms(100, 60_000) },
            94..96 => Self::Reboot { down: rng.ms(500, 5000) },
            96 => Self::SlowDisk { lasts: rng.ms(200, 3000) },
            97 => Self::DeafPid1 { lasts: rng.ms(200, 4000) },
            98..100 => Self::WallJump { forward: rng.chance(50), by: rng.ms(1000, 100_000) },
            100..108 => Self::Ail(Ailment::any(rng)),
            _ => Self::FailingDisk,
        }
    }
}
