//! A warden with three vendors, a virtual PID 1 and a virtual disk.

use super::*;

pub(super) const MS: Duration = Duration::from_millis(1);
pub(super) const S: Duration = Duration::from_secs(1);

/// Sessions are told apart by numbers.
fn session_key(n: u8) -> SigningKey {
    key(&format!("session {n}"))
}

struct Guard {
    session_key: SigningKey,
    incarnation: SessionIncarnation,
    seq: u64,
}

pub(super) struct Bench {
    pub(super) warden: Warden<Proto>,
    pub(super) roster: Arc<Roster>,
    pub(super) policy: Arc<Policy>,
    pub(super) now: Timestamp,
    pub(super) wall_ms: u64,
    guards: BTreeMap<PersonaId, Guard>,
    pub(super) units: BTreeMap<SubjectName, UnitState>,
    pub(super) episodes: BTreeMap<SubjectName, EpisodeStatement>,
    pub(super) records: Vec<(u64, Record)>,
    pub(super) acts: Vec<(SubjectName, Attempt, Incarnation)>,
    pub(super) pages: Vec<&'static str>,
    pub(super) answers: Vec<Answer>,
    pub(super) events: Vec<WardenEvent>,
    pub(super) shown: Vec<Envelope>,
    pub(super) challenges: Vec<(u32, Nonce)>,
    pub(super) cpu: Option<CpuReading>,
    /// Whether it is read at once.
    pub(super) cpu_returns: bool,
    /// Syncs and rereads wait while set.
    pub(super) stalled: bool,
    pub(super) waiting: Vec<WardenInput>,
    invocations: u8,
    /// What PID 1 does when told to act.
    pub(super) on_act: fn(&mut Bench, &SubjectName),
    /// Whether PID 1 says at once that it has done what it was told.
    pub(super) acts_return: bool,
}

fn restart(bench: &mut Bench, name: &SubjectName) {
    bench.start(name.as_str());
}

pub(super) fn policy(change: impl FnOnce(&mut Policy)) -> Policy {
    let mut subjects = BTreeMap::new();
    for (name, vendor) in PERSONAS {
        let wrapper = SubjectPolicy {
            kind: SubjectKind::Wrapper(persona(name)),
            vendor: Some(fixture::vendor(vendor)),
            unit: format!("zeta-{name}.service"),
            uid: None,
            exit_zero: ExitZero::Operator,
            ladder: Policy::persona_ladder(),
            budget: Policy::PERSONA_BUDGET,
        };
        let agent = SubjectPolicy { kind: SubjectKind::Agent(persona(name)), ..wrapper.clone() };
        subjects.insert(subject(name), wrapper);
        subjects.insert(SubjectName::agent(&persona(name)), agent);
    }
    let mut policy = Policy {
        digest: Digest::of(b"policy"),
        mode: Mode::Act,
        subjects,
        node_per_day: Policy::NODE_PER_DAY,
        drill: false,
        timing: Timing::default(),
    };
    change(&mut policy);
    policy
}

impl Bench {
    pub(super) fn new() -> Self {
        Self::with(|_| {})
    }

    pub(super) fn with(change: impl FnOnce(&mut Policy)) -> Self {
        Self::recovered(policy(change), Recovered::default())
    }

    pub(super) fn recovered(policy: Policy, recovered: Recovered) -> Self {
        Self::recovered_where(policy, recovered, |bench, name| bench.start(name))
    }

    /// A warden over this journal, that first sees each unit as `begin` has it.
    pub(super) fn recovered_where(policy: Policy, recovered: Recovered, begin: impl Fn(&mut Self, &str)) -> Self {
        let roster = Arc::new(fixture::roster());
        let policy = Arc::new(policy);
        // Another instance finds other runs.
        let invocations = 50 * recovered.instance.0 as u8;
        let now = Timestamp::from_nanos(1_000_000_000_000);
        let config = WardenConfig {
            key: key("warden"),
            roster: roster.clone(),
            policy: policy.clone(),
            boot: BootId([9; 16]),
            codec: Proto,
            entropy: [5; 32],
            recovered,
        };
        let (warden, effects) = Warden::new(config, now, 1_700_000_000_000);
        let mut bench = Self {
            warden,
            roster,
            policy,
            now,
            wall_ms: 1_700_000_000_000,
            guards: BTreeMap::new(),
            units: BTreeMap::new(),
            episodes: BTreeMap::new(),
            records: Vec::new(),
            acts: Vec::new(),
            pages: Vec::new(),
            answers: Vec::new(),
            events: Vec::new(),
            shown: Vec::new(),
            challenges: Vec::new(),
            cpu: Some(CpuReading { standing: Standing::Still, ran: Duration::ZERO, waited: Duration::ZERO }),
            cpu_returns: true,
            stalled: false,
            waiting: Vec::new(),
            invocations,
            on_act: restart,
            acts_return: true,
        };
        bench.carry_out(effects);
        let names: Vec<_> = bench.policy.subjects.keys().cloned().collect();
        for name in names {
            begin(&mut bench, name.as_str());
        }
        if bench.warden.damage.is_none() {
            for (n, (name, _)) in PERSONAS.iter().enumerate() {
                bench.open_session(name, 20 + n as u8);
            }
        }
        // Past the grace that follows a start.
        bench.pass(4 * S);
        bench
    }

    pub(super) fn step(&mut self, input: WardenInput) {
        let effects = self.warden.step(self.now, self.wall_ms, input);
        self.carry_out(effects);
    }

    fn carry_out(&mut self, effects: Vec<WardenEffect>) {
        for effect in effects {
            match effect {
                WardenEffect::Append { seq, previous, record } => {
                    let hash = chain_hash(&previous, seq, &Codec::<Record>::encode(&Proto, &record));
                    self.records.push((seq, record));
                    self.later(WardenInput::Synced(JournalHead { seq, hash }));
                }
                WardenEffect::Publish { subject, episode } => {
                    let statement = Codec::<EpisodeStatement>::decode(&Proto, &episode.payload).unwrap();
                    self.episodes.insert(subject, statement);
                }
                WardenEffect::Reply { answer, .. } => self.answers.push(answer),
                WardenEffect::Challenge { pid, nonce } => self.challenges.push((pid, nonce)),
                WardenEffect::ReadCpu { nonce, .. } if self.cpu_returns => {
                    let reading = self.cpu;
                    self.step(WardenInput::CpuRead { nonce, reading });
                }
                WardenEffect::Reread { attempt, subject } => {
                    let state = self.units.get(&subject).copied();
                    self.later(WardenInput::Reread { attempt, state });
                }
                WardenEffect::Act(permit) => {
                    self.acts.push((permit.subject().clone(), permit.attempt(), permit.incarnation()));
                    let (attempt, name) = (permit.attempt(), permit.subject().clone());
                    (self.on_act)(self, &name);
                    if self.acts_return {
                        self.step(WardenInput::Acted { attempt, result: Ok(()), output: String::new() });
                    }
                }
                WardenEffect::Page(page) => self.pages.push(page.cause),
                WardenEffect::Event(event) => self.events.push(event),
                WardenEffect::Show(statement) => self.shown.push(statement),
                WardenEffect::ReadCpu { .. } | WardenEffect::PublishReceipt(_) => {}
            }
        }
    }

    fn later(&mut self, input: WardenInput) {
        if self.stalled { self.waiting.push(input) } else { self.step(input) }
    }

    /// The disk has answered; PID 1 has not.
    pub(super) fn sync(&mut self) {
        let synced = |input: &WardenInput| matches!(input, WardenInput::Synced(_));
        while let Some(at) = self.waiting.iter().position(synced) {
            let input = self.waiting.remove(at);
            self.step(input);
        }
    }

    pub(super) fn unstall(&mut self) {
        self.stalled = false;
        for input in std::mem::take(&mut self.waiting) {
            self.step(input);
        }
    }

    pub(super) fn set(&mut self, name: &str, change: impl FnOnce(&mut UnitState)) {
        let name = subject(name);
        let mut unit =
            self.units.get(&name).copied().unwrap_or_else(|| UnitState::never_started(Incarnation::default()));
        change(&mut unit);
        self.units.insert(name.clone(), unit);
        self.step(WardenInput::UnitChanged { subject: name, state: Some(unit) });
    }

    pub(super) fn start(&mut self, name: &str) {
        self.invocations += 1;
        let (n, now) = (self.invocations, self.now);
        self.set(name, |unit| {
            *unit = UnitState {
                activity: Activity::Active,
                main_pid: Some(100 + u32::from(n)),
                active_since: Some(now),
                ..UnitState::never_started(Incarnation { boot: BootId([9; 16]), invocation: InvocationId([n; 16]) })
            };
        });
    }

    pub(super) fn kill(&mut self, name: &str) {
        self.set(name, |unit| {
            unit.activity = Activity::Failed;
            unit.last_exit = LastExit::Signal(9);
            unit.main_pid = None;
            unit.active_since = None;
        });
    }

    pub(super) fn open_session(&mut self, name: &str, n: u8) {
        let Answer::Session(session) = self.ask_session(name, n) else { panic!("no session") };
        let session = Codec::<Session>::decode(&Proto, &session.payload).unwrap();
        let guard = Guard { session_key: session_key(n), incarnation: session.incarnation, seq: 0 };
        self.guards.insert(persona(name), guard);
    }

    /// What it is answered, who speaks on as it did.
    pub(super) fn ask_session(&mut self, name: &str, n: u8) -> Answer {
        let unit = SubjectName::agent(&persona(name));
        let pid = self.units[&unit].main_pid.unwrap();
        let here =
            PeerUnit { subject: unit.clone(), main_pid: pid, invocation: self.units[&unit].incarnation.invocation };
        let peer = PeerFacts { uid: 0, pid, before: Some(here.clone()), after: Some(here) };
        self.step(WardenInput::NonceWanted { peer: peer.clone(), reply: ReplyTo(1) });
        let Some(Answer::Nonce(nonce)) = self.answers.pop() else { panic!("no nonce") };
        let request = self.session_request(name, n, nonce);
        self.step(WardenInput::SessionWanted { peer, request, reply: ReplyTo(2) });
        self.answers.pop().expect("an answer")
    }

    /// For the session key of this number, signed with the persona's own.
    pub(super) fn session_request(&self, name: &str, n: u8, nonce: Nonce) -> Envelope {
        let request = SessionRequest {
            cluster: self.roster.cluster().clone(),
            node: self.roster.node().clone(),
            persona: persona(name),
            session_key: session_key(n).public(),
            nonce,
            roster: self.roster.digest(),
            policy: self.policy.digest,
        };
        Envelope::seal(&request, &key(name), &Proto)
    }

    /// A statement of this guardian's, under its session.
    pub(super) fn seal<T: Statement>(&self, name: &str, statement: &T) -> Envelope
    where
        Proto: Codec<T>,
    {
        Envelope::seal(statement, &self.guards[&persona(name)].session_key, &Proto)
    }

    pub(super) fn header(&mut self, name: &str) -> Header {
        let guard = self.guards.get_mut(&persona(name)).unwrap();
        guard.seq += 1;
        Header {
            cluster: self.roster.cluster().clone(),
            node: self.roster.node().clone(),
            boot: BootId([9; 16]),
            roster_epoch: 1,
            roster: self.roster.digest(),
            policy: self.policy.digest,
            persona: persona(name),
            incarnation: guard.incarnation,
            session_key: guard.session_key.public(),
            seq: guard.seq,
            observed_at: self.now,
        }
    }

    pub(super) fn word(&self, about: &str, fault: Option<FaultClass>) -> Attestation {
        Attestation {
            subject: subject(about),
            incarnation: self.units[&subject(about)].incarnation,
            verdict: if fault.is_some() { Verdict::Down } else { Verdict::Up },
            class: fault,
            evidence: fault.map_or(Evidence::Soft, FaultClass::evidence),
            reason: Reason::Running,
            observation: Digest::default(),
            observed_at: self.now,
            resume_at: None,
        }
    }

    pub(super) fn make_vote(&mut self, name: &str, about: &str, class: FaultClass) -> Vote {
        let episode = self.episodes[&subject(about)].clone();
        Vote {
            header: self.header(name),
            episode: episode.id,
            round: episode.round,
            nonce: episode.nonce,
            set_epoch: episode.set_epoch,
            subject: subject(about),
            incarnation: episode.incarnation,
            rung: episode.rung,
            class,
            choice: Choice::Approve,
            challenge: episode.challenge,
            attestation: self.word(about, Some(class)),
        }
    }

    pub(super) fn submit_vote(&mut self, name: &str, vote: &Vote) {
        self.step(WardenInput::Submitted(self.seal(name, vote)));
    }

    pub(super) fn vote(&mut self, name: &str, about: &str, class: FaultClass) {
        let vote = self.make_vote(name, about, class);
        self.submit_vote(name, &vote);
    }

    /// A heartbeat that says the given of some, and UP of all others.
    pub(super) fn heartbeat(&mut self, name: &str, says: &[(&str, FaultClass)]) {
        self.heartbeat_with(name, says, Vec::new());
    }

    /// A heartbeat with these words, and UP of all others.
    pub(super) fn speak(&mut self, name: &str, says: &[(&str, Verdict, Option<FaultClass>, Reason)]) {
        let names: Vec<_> = self.policy.subjects.keys().cloned().collect();
        let word = |about: &SubjectName| {
            let plain = self.word(about.as_str(), None);
            match says.iter().find(|(who, ..)| *who == about.as_str()) {
                Some((_, verdict, class, reason)) => {
                    Attestation { verdict: *verdict, class: *class, reason: *reason, ..plain }
                }
                None => plain,
            }
        };
        let attestations = names.iter().map(word).collect();
        self.beat(name, attestations, Vec::new());
    }

    pub(super) fn heartbeat_with(&mut self, name: &str, says: &[(&str, FaultClass)], heads: Vec<Head>) {
        let names: Vec<_> = self.policy.subjects.keys().cloned().collect();
        let attestations = names
            .iter()
            .map(|about| {
                let fault = says.iter().find(|(who, _)| *who == about.as_str()).map(|(_, class)| *class);
                self.word(about.as_str(), fault)
            })
            .collect();
        self.beat(name, attestations, heads);
    }

    pub(super) fn beat(&mut self, name: &str, attestations: Vec<Attestation>, heads: Vec<Head>) {
        let header = self.header(name);
        let heartbeat = Heartbeat { header, attestations, health: 0, heads, receipt: JournalHead::default() };
        self.step(WardenInput::Submitted(self.seal(name, &heartbeat)));
    }

    pub(super) fn tick(&mut self, by: Duration) {
        self.now = self.now + by;
        self.wall_ms += by.as_millis() as u64;
        self.step(WardenInput::Timer);
    }

    /// Time passes, everybody well.
    pub(super) fn pass(&mut self, by: Duration) {
        self.pass_saying(by, &[]);
    }

    pub(super) fn pass_saying(&mut self, by: Duration, says: &[(&str, FaultClass)]) {
        let until = self.now + by;
        while self.now < until {
            self.tick((250 * MS).min(until.saturating_since(self.now)));
            let names: Vec<_> = self.guards.keys().cloned().collect();
            for name in names {
                self.heartbeat(name.as_str(), says);
            }
        }
    }

    pub(super) fn state(&self, name: &str) -> StateName {
        self.warden.state_name(&self.warden.subjects[&subject(name)])
    }

    pub(super) fn receipts(&self, kind: ReceiptKind) -> Vec<Receipt> {
        let receipts = self.records.iter().filter_map(|(_, record)| match record {
            Record::Receipt(envelope) => Some(Codec::<Receipt>::decode(&Proto, &envelope.payload).unwrap()),
            _ => None,
        });
        receipts.filter(|receipt| receipt.kind == kind).collect()
    }

    pub(super) fn rejected(&self, label: &str) -> bool {
        self.events.iter().any(|e| matches!(e, WardenEvent::Rejected { reason, .. } if *reason == label))
    }

    pub(super) fn refused(&self, label: &str) -> bool {
        self.events.iter().any(|e| matches!(e, WardenEvent::Refused { reason, .. } if *reason == label))
    }

    pub(super) fn order(&mut self, order: OperatorOrder) -> Answer {
        self.step(WardenInput::Ordered { uid: 0, order, reason: "because".into(), reply: ReplyTo(3) });
        self.answers.pop().expect("an answer")
    }

    /// Every vendor but its own votes on it.
    pub(super) fn accuse(&mut self, about: &str, class: FaultClass) {
        for (voter, _) in PERSONAS.iter().filter(|(who, _)| !about.starts_with(who)) {
            self.vote(voter, about, class);
        }
    }

    pub(super) fn crash_and_certify(&mut self, name: &str) {
        self.kill(name);
        self.accuse(name, FaultClass::Crash);
    }
}
