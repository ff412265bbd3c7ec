//! Lior's guardian alone, with the warden and the peers played by hand.

use super::*;

pub(super) const BOOT: BootId = BootId([7; 16]);
const POLICY: Digest = Digest([3; 32]);
pub(super) const MS: u64 = 1_000_000;

pub(super) fn policy() -> Arc<Policy> {
    let mut subjects = BTreeMap::new();
    for (name, vendor) in PERSONAS {
        let of = |kind| SubjectPolicy {
            kind,
            vendor: Some(fixture::vendor(vendor)),
            unit: format!("zeta-{name}.service"),
            uid: None,
            exit_zero: ExitZero::Fault,
            ladder: Policy::persona_ladder(),
            budget: Policy::PERSONA_BUDGET,
        };
        subjects.insert(SubjectName::wrapper(&persona(name)), of(SubjectKind::Wrapper(persona(name))));
        subjects.insert(SubjectName::agent(&persona(name)), of(SubjectKind::Agent(persona(name))));
    }
    Arc::new(Policy {
        digest: POLICY,
        mode: Mode::Act,
        subjects,
        node_per_day: 30,
        drill: false,
        timing: Timing::default(),
    })
}

pub(super) fn incarnation(run: u8) -> Incarnation {
    Incarnation { boot: BOOT, invocation: InvocationId([run; 16]) }
}

pub(super) fn running(run: u8) -> UnitState {
    UnitState {
        activity: Activity::Active,
        main_pid: Some(u32::from(run)),
        active_since: Some(Timestamp::ZERO),
        ..UnitState::never_started(incarnation(run))
    }
}

pub(super) fn killed(run: u8) -> UnitState {
    UnitState {
        activity: Activity::Failed,
        last_exit: LastExit::Signal(9),
        ..UnitState::never_started(incarnation(run))
    }
}

pub(super) fn tick(number: u64, fault: Option<FaultClass>, reason: Reason) -> TickEnd {
    TickEnd {
        number,
        began_at: Timestamp::ZERO,
        duration: Duration::from_secs(3),
        exit_code: Some(i32::from(fault.is_some())),
        signal: None,
        fault,
        reason,
        resume_at: (fault == Some(FaultClass::Environment)).then_some(1_900_000_000),
    }
}

pub(super) fn broken(in_a_row: u32) -> TickState {
    TickState {
        begun: u64::from(in_a_row),
        broken_in_a_row: in_a_row,
        last: Some(tick(u64::from(in_a_row), Some(FaultClass::Broken), Reason::TickFailed)),
        ..TickState::default()
    }
}

pub(super) fn episode(of: &str, run: u8, round: u32, state: StateName) -> EpisodeStatement {
    EpisodeStatement {
        cluster: cluster(),
        node: node(),
        boot: BOOT,
        roster: fixture::DIGEST,
        policy: POLICY,
        subject: subject(of),
        id: EpisodeId::new(WardenInstance(1), 5),
        round: Round(round),
        nonce: Nonce([u8::try_from(round).unwrap(); 16]),
        set_epoch: SetEpoch(1),
        incarnation: incarnation(run),
        rung: Rung(0),
        state,
        challenge: None,
        budget: 5,
    }
}

pub(super) fn mint(of: &str, session_key: &SigningKey, number: u32) -> Envelope {
    let request = SessionRequest {
        cluster: cluster(),
        node: node(),
        persona: persona(of),
        session_key: session_key.public(),
        nonce: Nonce([1; 16]),
        roster: fixture::DIGEST,
        policy: POLICY,
    };
    let session = Session {
        request: Envelope::seal(&request, &key(of), &Proto),
        cluster: request.cluster,
        node: request.node,
        boot: BOOT,
        persona: request.persona,
        session_key: request.session_key,
        incarnation: SessionIncarnation::new(WardenInstance(1), number),
        uid: 1000,
        unit: SubjectName::agent(&persona(of)),
        invocation: InvocationId([1; 16]),
    };
    Envelope::seal(&session, &key("warden"), &Proto)
}

/// A heartbeat of a peer's; `health` makes two with one number differ.
pub(super) fn heartbeat_of(of: &str, seq: u64, health: u32, heads: Vec<Head>) -> Envelope {
    heartbeat_under(20, of, seq, health, heads)
}

/// The same, under the session of this number.
pub(super) fn heartbeat_under(session: u32, of: &str, seq: u64, health: u32, heads: Vec<Head>) -> Envelope {
    let heartbeat = Heartbeat {
        header: Header {
            cluster: cluster(),
            node: node(),
            boot: BOOT,
            roster_epoch: 1,
            roster: fixture::DIGEST,
            policy: POLICY,
            persona: persona(of),
            incarnation: SessionIncarnation::new(WardenInstance(1), session),
            session_key: session_key(of).public(),
            seq,
            observed_at: Timestamp::from_nanos(seq),
        },
        attestations: Vec::new(),
        health,
        heads,
        receipt: JournalHead::default(),
    };
    Envelope::seal(&heartbeat, &session_key(of), &Proto)
}

/// A guardian and its surroundings, on a clock of milliseconds.
pub(super) struct Alone {
    pub(super) guardian: Guardian<Proto>,
    pub(super) now: u64,
    pub(super) out: Vec<GuardianEffect>,
    /// Wrappers that answer pings, with their pids.
    pub(super) answering: BTreeMap<SubjectName, u32>,
    /// Peers whose heartbeats come, with their next number.
    pub(super) speaking: BTreeMap<String, u64>,
}

impl Alone {
    pub(super) fn new() -> Self {
        Self::with(policy())
    }

    pub(super) fn with(policy: Arc<Policy>) -> Self {
        let config = GuardianConfig {
            persona: persona("lior"),
            persona_key: key("lior"),
            session_key: session_key("lior"),
            roster: Arc::new(fixture::roster()),
            policy,
            boot: BOOT,
            codec: Proto,
            last_receipt: None,
        };
        Self {
            guardian: Guardian::new(config),
            now: 100_000,
            out: Vec::new(),
            answering: BTreeMap::new(),
            speaking: BTreeMap::new(),
        }
    }

    /// Everything well for two seconds, and a healthy episode for each subject.
    pub(super) fn well() -> Self {
        let mut alone = Self::new();
        alone.connect(10);
        for (run, name) in [(1, "lior"), (2, "otto"), (3, "vera")] {
            alone.start(name, run);
            alone.unit(&format!("{name}/agent"), Some(running(run + 10)));
            alone.publish(episode(name, run, 0, StateName::Healthy));
            alone.publish(episode(&format!("{name}/agent"), run + 10, 0, StateName::Healthy));
        }
        for name in ["otto", "vera"] {
            alone.peer(name, mint(name, &session_key(name), 20));
            alone.speaking.insert(name.to_owned(), 1);
        }
        alone.run(2_000);
        alone.out.clear();
        alone
    }

    pub(super) fn step(&mut self, input: GuardianInput) {
        self.out.extend(self.guardian.step(Timestamp::from_nanos(self.now * MS), input));
    }

    pub(super) fn connect(&mut self, number: u32) {
        self.step(GuardianInput::WardenConnected { nonce: Nonce([1; 16]) });
        self.step(GuardianInput::SessionOpened(mint("lior", &session_key("lior"), number)));
    }

    pub(super) fn start(&mut self, name: &str, run: u8) {
        self.unit(name, Some(running(run)));
        self.answering.insert(subject(name), u32::from(run));
    }

    pub(super) fn unit(&mut self, name: &str, state: Option<UnitState>) {
        self.step(GuardianInput::UnitChanged { subject: subject(name), state });
    }

    pub(super) fn publish(&mut self, episode: EpisodeStatement) {
        self.step(GuardianInput::FromWarden(Envelope::seal(&episode, &key("warden"), &Proto)));
    }

    pub(super) fn peer(&mut self, from: &str, envelope: Envelope) {
        self.step(GuardianInput::FromPeer { from: persona(from), envelope });
    }

    pub(super) fn ticks(&mut self, name: &str, run: u8, ticks: TickState, challenge: Option<Nonce>) {
        self.step(GuardianInput::TicksRead { subject: subject(name), pid: u32::from(run), ticks, challenge });
    }

    /// Lets time pass: timers punctual, pings and heartbeats every 250 ms.
    pub(super) fn run(&mut self, ms: u64) {
        let end = self.now + ms;
        while self.now < end {
            self.now += 1;
            if self.now.is_multiple_of(250) {
                for name in PERSONAS.map(|(name, _)| subject(name)) {
                    self.step(GuardianInput::PingSent { subject: name.clone() });
                    if let Some(pid) = self.answering.get(&name).copied() {
                        let round_trip = Duration::from_micros(300);
                        self.step(GuardianInput::PingAnswered { subject: name, pid, round_trip });
                    }
                }
                for (name, seq) in self.speaking.clone() {
                    self.peer(&name, heartbeat_of(&name, seq, 0, Vec::new()));
                    self.speaking.insert(name, seq + 1);
                }
            }
            while self.guardian.next_deadline().is_some_and(|due| due.as_nanos() <= self.now * MS) {
                self.step(GuardianInput::Timer);
            }
        }
    }

    pub(super) fn word(&self, name: &str) -> Attestation {
        let view = self.guardian.view(Timestamp::from_nanos(self.now * MS));
        view.attestations.into_iter().find(|attestation| attestation.subject == subject(name)).unwrap()
    }

    pub(super) fn says(&self, name: &str) -> (Verdict, Option<FaultClass>, Reason) {
        let word = self.word(name);
        (word.verdict, word.class, word.reason)
    }

    /// Votes sent to the warden since the last look.
    pub(super) fn votes(&mut self) -> Vec<Vote> {
        let key = VerifyingKey::new(session_key("lior").public()).unwrap();
        std::mem::take(&mut self.out)
            .into_iter()
            .filter_map(|effect| match effect {
                GuardianEffect::ToWarden(envelope) => envelope.open::<Vote>(&key, &Proto).ok(),
                _ => None,
            })
            .map(Verified::into_inner)
            .collect()
    }

    /// Every head of this persona's that was broadcast since the last look, in order.
    pub(super) fn named(&self, of: &str) -> Vec<u64> {
        let key = VerifyingKey::new(session_key("lior").public()).unwrap();
        let heartbeats = self.out.iter().filter_map(|effect| match effect {
            GuardianEffect::Broadcast(envelope) => envelope.open::<Heartbeat>(&key, &Proto).ok(),
            _ => None,
        });
        let heads = heartbeats.flat_map(|heartbeat| heartbeat.heads.clone());
        heads.filter(|head| head.persona == persona(of)).map(|head| head.seq).collect()
    }

    pub(super) fn proofs(&self) -> usize {
        self.out.iter().filter(|effect| matches!(effect, GuardianEffect::BroadcastProof(_))).count()
    }

    pub(super) fn rejected(&self) -> Vec<&'static str> {
        let reason = |effect: &GuardianEffect| match effect {
            GuardianEffect::Event(GuardianEvent::Rejected { reason, .. }) => Some(*reason),
            _ => None,
        };
        self.out.iter().filter_map(reason).collect()
    }
}

pub(super) const UP: Verdict = Verdict::Up;
pub(super) const DOWN: Verdict = Verdict::Down;
pub(super) const UNKNOWN: Verdict = Verdict::Unknown;
