//! Claims about the warden's core, on a bench with three vendors, a virtual PID 1 and a virtual disk.

use super::*;
use crate::protocol::evidence::{Activity, Evidence, ExitZero, LastExit, Reason, Verdict};
use crate::protocol::policy::{RungPolicy, SubjectKind, SubjectPolicy, Timing};
use crate::protocol::record::{OpenIntent, OperatorOrder, chain_hash};
use crate::protocol::roster::{Member, RosterStatement};
use crate::protocol::statement::{
    Choice, Codec, Envelope, EpisodeStatement, Header, Heartbeat, Receipt, ReceiptKind, Session, SessionRequest,
    StateName,
};
use crate::protocol::types::{ClusterId, Incarnation, InvocationId, NodeId, Round, Rung, SessionIncarnation};
use crate::wire::Proto;

mod acts;

const MS: Duration = Duration::from_millis(1);
const S: Duration = Duration::from_secs(1);
const PEOPLE: [(&str, &str); 3] = [("otto", "anthropic"), ("lior", "google-gemini"), ("vera", "openai")];

fn persona(name: &str) -> PersonaId {
    PersonaId::new(name).unwrap()
}

fn subject(name: &str) -> SubjectName {
    SubjectName::new(name).unwrap()
}

fn key(n: u8) -> SigningKey {
    SigningKey::from_seed(&[n; 32])
}

struct Guard {
    session_key: SigningKey,
    incarnation: SessionIncarnation,
    seq: u64,
}

struct Bench {
    warden: Warden<Proto>,
    roster: Arc<Roster>,
    policy: Arc<Policy>,
    now: Timestamp,
    wall_ms: u64,
    guards: BTreeMap<PersonaId, Guard>,
    units: BTreeMap<SubjectName, UnitState>,
    episodes: BTreeMap<SubjectName, EpisodeStatement>,
    records: Vec<(u64, Record)>,
    acts: Vec<(SubjectName, Attempt, Incarnation)>,
    pages: Vec<&'static str>,
    answers: Vec<Answer>,
    events: Vec<WardenEvent>,
    shown: Vec<Envelope>,
    challenges: Vec<(u32, Nonce)>,
    run_delay: Option<Duration>,
    /// Syncs and rereads wait while set.
    stalled: bool,
    waiting: Vec<WardenInput>,
    invocations: u8,
    /// What PID 1 does when told to act.
    on_act: fn(&mut Bench, &SubjectName),
    /// Whether PID 1 says at once that it has done what it was told.
    acts_return: bool,
}

fn restart(bench: &mut Bench, name: &SubjectName) {
    bench.start(name.as_str());
}

fn policy(change: impl FnOnce(&mut Policy)) -> Policy {
    let mut subjects = BTreeMap::new();
    for (name, vendor) in PEOPLE {
        let wrapper = SubjectPolicy {
            kind: SubjectKind::Wrapper(persona(name)),
            vendor: Some(VendorId::new(vendor).unwrap()),
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
    fn new() -> Self {
        Self::with(|_| {})
    }

    fn with(change: impl FnOnce(&mut Policy)) -> Self {
        Self::recovered(policy(change), Recovered::default())
    }

    fn recovered(policy: Policy, recovered: Recovered) -> Self {
        let members = PEOPLE.iter().enumerate().map(|(n, (name, vendor))| Member {
            persona: persona(name),
            vendor: VendorId::new(vendor).unwrap(),
            key: key(10 + n as u8).public(),
        });
        let statement = RosterStatement {
            cluster: ClusterId::new("test").unwrap(),
            node: NodeId::new("n1").unwrap(),
            epoch: 1,
            previous: Digest::default(),
            members: members.collect(),
            f: 1,
            q: 2,
            warden: key(1).public(),
            operator: key(2).public(),
        };
        let roster = Arc::new(Roster::new(statement, Digest::of(b"roster")).unwrap());
        let policy = Arc::new(policy);
        // Another instance finds other runs.
        let invocations = 50 * recovered.instance.0 as u8;
        let now = Timestamp::from_nanos(1_000_000_000_000);
        let config = WardenConfig {
            key: key(1),
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
            run_delay: Some(Duration::ZERO),
            stalled: false,
            waiting: Vec::new(),
            invocations,
            on_act: restart,
            acts_return: true,
        };
        bench.carry_out(effects);
        let names: Vec<_> = bench.policy.subjects.keys().cloned().collect();
        for name in names {
            bench.start(name.as_str());
        }
        if bench.warden.damage.is_none() {
            for (n, (name, _)) in PEOPLE.iter().enumerate() {
                bench.open_session(name, 20 + n as u8);
            }
        }
        // Past the grace that follows a start.
        bench.pass(4 * S);
        bench
    }

    fn step(&mut self, input: WardenInput) {
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
                WardenEffect::ReadRunDelay { nonce, .. } => {
                    let delay = self.run_delay;
                    self.step(WardenInput::RunDelay { nonce, delay });
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
                WardenEffect::PublishReceipt(_) => {}
            }
        }
    }

    fn later(&mut self, input: WardenInput) {
        if self.stalled { self.waiting.push(input) } else { self.step(input) }
    }

    fn unstall(&mut self) {
        self.stalled = false;
        for input in std::mem::take(&mut self.waiting) {
            self.step(input);
        }
    }

    fn set(&mut self, name: &str, change: impl FnOnce(&mut UnitState)) {
        let name = subject(name);
        let mut unit =
            self.units.get(&name).copied().unwrap_or_else(|| UnitState::never_started(Incarnation::default()));
        change(&mut unit);
        self.units.insert(name.clone(), unit);
        self.step(WardenInput::UnitChanged { subject: name, state: Some(unit) });
    }

    fn start(&mut self, name: &str) {
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

    fn kill(&mut self, name: &str) {
        self.set(name, |unit| {
            unit.activity = Activity::Failed;
            unit.last_exit = LastExit::Signal(9);
            unit.main_pid = None;
            unit.active_since = None;
        });
    }

    fn open_session(&mut self, name: &str, n: u8) {
        let unit = SubjectName::agent(&persona(name));
        let pid = self.units[&unit].main_pid.unwrap();
        let here =
            PeerUnit { subject: unit.clone(), main_pid: pid, invocation: self.units[&unit].incarnation.invocation };
        let peer = PeerFacts { uid: 0, pid, before: Some(here.clone()), after: Some(here) };
        self.step(WardenInput::NonceWanted { peer: peer.clone(), reply: ReplyTo(1) });
        let Some(Answer::Nonce(nonce)) = self.answers.pop() else { panic!("no nonce") };
        let position = PEOPLE.iter().position(|(who, _)| *who == name).unwrap() as u8;
        let request = SessionRequest {
            cluster: self.roster.cluster().clone(),
            node: self.roster.node().clone(),
            persona: persona(name),
            session_key: key(n).public(),
            nonce,
            roster: self.roster.digest(),
            policy: self.policy.digest,
        };
        let request = Envelope::seal(&request, &key(10 + position), &Proto);
        self.step(WardenInput::SessionWanted { peer, request, reply: ReplyTo(2) });
        let Some(Answer::Session(session)) = self.answers.pop() else { panic!("no session") };
        let session = Codec::<Session>::decode(&Proto, &session.payload).unwrap();
        let guard = Guard { session_key: key(n), incarnation: session.incarnation, seq: 0 };
        self.guards.insert(persona(name), guard);
    }

    fn header(&mut self, name: &str) -> Header {
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

    fn word(&self, about: &str, fault: Option<FaultClass>) -> Attestation {
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

    fn make_vote(&mut self, name: &str, about: &str, class: FaultClass) -> Vote {
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

    fn submit_vote(&mut self, name: &str, vote: &Vote) {
        let envelope = Envelope::seal(vote, &self.guards[&persona(name)].session_key, &Proto);
        self.step(WardenInput::Submitted(envelope));
    }

    fn vote(&mut self, name: &str, about: &str, class: FaultClass) {
        let vote = self.make_vote(name, about, class);
        self.submit_vote(name, &vote);
    }

    /// A heartbeat that says the given of some, and UP of all others.
    fn heartbeat(&mut self, name: &str, says: &[(&str, FaultClass)]) {
        self.heartbeat_with(name, says, Vec::new());
    }

    fn heartbeat_with(
        &mut self,
        name: &str,
        says: &[(&str, FaultClass)],
        heads: Vec<crate::protocol::statement::Head>,
    ) {
        let header = self.header(name);
        let names: Vec<_> = self.policy.subjects.keys().cloned().collect();
        let attestations = names
            .iter()
            .map(|about| {
                let fault = says.iter().find(|(who, _)| *who == about.as_str()).map(|(_, class)| *class);
                self.word(about.as_str(), fault)
            })
            .collect();
        let heartbeat = Heartbeat { header, attestations, health: 0, heads, receipt: JournalHead::default() };
        let envelope = Envelope::seal(&heartbeat, &self.guards[&persona(name)].session_key, &Proto);
        self.step(WardenInput::Submitted(envelope));
    }

    fn tick(&mut self, by: Duration) {
        self.now = self.now + by;
        self.wall_ms += by.as_millis() as u64;
        self.step(WardenInput::Timer);
    }

    /// Time passes, everybody well.
    fn pass(&mut self, by: Duration) {
        self.pass_saying(by, &[]);
    }

    fn pass_saying(&mut self, by: Duration, says: &[(&str, FaultClass)]) {
        let until = self.now + by;
        while self.now < until {
            self.tick((250 * MS).min(until.saturating_since(self.now)));
            let names: Vec<_> = self.guards.keys().cloned().collect();
            for name in names {
                self.heartbeat(name.as_str(), says);
            }
        }
    }

    fn state(&self, name: &str) -> StateName {
        self.warden.state_name(&self.warden.subjects[&subject(name)])
    }

    fn receipts(&self, kind: ReceiptKind) -> Vec<Receipt> {
        let receipts = self.records.iter().filter_map(|(_, record)| match record {
            Record::Receipt(envelope) => Some(Codec::<Receipt>::decode(&Proto, &envelope.payload).unwrap()),
            _ => None,
        });
        receipts.filter(|receipt| receipt.kind == kind).collect()
    }

    fn rejected(&self, label: &str) -> bool {
        self.events.iter().any(|e| matches!(e, WardenEvent::Rejected { reason, .. } if *reason == label))
    }

    fn refused(&self, label: &str) -> bool {
        self.events.iter().any(|e| matches!(e, WardenEvent::Refused { reason, .. } if *reason == label))
    }

    fn order(&mut self, order: OperatorOrder) -> Answer {
        self.step(WardenInput::Ordered { uid: 0, order, reason: "because".into(), reply: ReplyTo(3) });
        self.answers.pop().expect("an answer")
    }

    fn crash_and_certify(&mut self, name: &str) {
        self.kill(name);
        let voters: Vec<_> = PEOPLE.iter().map(|(who, _)| *who).filter(|who| !name.starts_with(who)).collect();
        for voter in voters {
            self.vote(voter, name, FaultClass::Crash);
        }
    }
}

#[test]
fn a_crash_seen_by_two_vendors_is_repaired_once_with_one_intent_and_one_outcome() {
    let mut bench = Bench::new();
    bench.crash_and_certify("otto");
    assert_eq!(bench.acts.len(), 1);
    assert_eq!(bench.state("otto"), StateName::Settling);
    bench.pass(6 * S);
    assert_eq!(bench.state("otto"), StateName::Healthy);
    assert_eq!((bench.receipts(ReceiptKind::Intent).len(), bench.receipts(ReceiptKind::Outcome).len()), (1, 1));
    let certificate = bench.receipts(ReceiptKind::Intent)[0].certificate.clone().unwrap();
    assert_eq!((certificate.votes.len(), certificate.sessions.len()), (2, 2));
}

#[test]
fn a_lone_liar_restarts_nobody() {
    let mut bench = Bench::new();
    for class in VOTABLE {
        for name in ["otto", "vera", "otto/agent", "vera/agent"] {
            bench.vote("lior", name, class);
        }
    }
    bench.pass(10 * S);
    assert!(bench.acts.is_empty() && bench.challenges.is_empty());
    bench.kill("otto");
    bench.vote("lior", "otto", FaultClass::Crash);
    bench.tick(S);
    assert!(bench.acts.is_empty(), "one vote is no quorum, whatever PID 1 says");
}

#[test]
fn all_guardians_together_cannot_restart_what_pid_1_says_is_running() {
    let mut bench = Bench::new();
    for voter in ["lior", "vera"] {
        bench.vote(voter, "otto", FaultClass::Crash);
    }
    bench.tick(S);
    assert!(bench.acts.is_empty());
}

#[test]
fn a_vendor_has_no_vote_on_its_own_subject() {
    let mut bench = Bench::new();
    bench.kill("otto");
    bench.vote("otto", "otto", FaultClass::Crash);
    bench.vote("vera", "otto", FaultClass::Crash);
    assert!(bench.acts.is_empty() && bench.rejected("own_vendor"));
}

#[test]
fn a_withdrawn_vote_never_counts() {
    let mut bench = Bench::new();
    bench.kill("otto");
    bench.vote("lior", "otto", FaultClass::Crash);
    let mut withdrawal = bench.make_vote("lior", "otto", FaultClass::Crash);
    withdrawal.choice = Choice::Withdraw;
    bench.submit_vote("lior", &withdrawal);
    bench.vote("vera", "otto", FaultClass::Crash);
    assert!(bench.acts.is_empty());
}

#[test]
fn a_later_heartbeat_that_says_up_withdraws_the_vote() {
    let mut bench = Bench::new();
    bench.kill("otto");
    bench.vote("lior", "otto", FaultClass::Crash);
    bench.heartbeat("lior", &[]);
    bench.vote("vera", "otto", FaultClass::Crash);
    assert!(bench.acts.is_empty());
}

#[test]
fn a_stale_or_future_observation_never_counts() {
    let mut bench = Bench::new();
    bench.kill("otto");
    let mut old = bench.make_vote("lior", "otto", FaultClass::Crash);
    old.attestation.observed_at = bench.now - 3 * S;
    old.header.observed_at = old.attestation.observed_at;
    bench.submit_vote("lior", &old);
    let mut early = bench.make_vote("lior", "otto", FaultClass::Crash);
    early.attestation.observed_at = bench.now + S;
    early.header.observed_at = early.attestation.observed_at;
    bench.submit_vote("lior", &early);
    bench.vote("vera", "otto", FaultClass::Crash);
    assert!(bench.acts.is_empty() && bench.rejected("not_fresh"));
    bench.tick(1900 * MS);
    bench.vote("lior", "otto", FaultClass::Crash);
    assert_eq!(bench.acts.len(), 1, "vera's vote is 1.9 s old and still counts");
}

#[test]
fn votes_of_another_round_rung_incarnation_or_node_move_nothing() {
    let mut bench = Bench::new();
    bench.kill("otto");
    bench.vote("vera", "otto", FaultClass::Crash);
    type Change = fn(&mut Vote);
    let changes: [(&str, Change); 6] = [
        ("other_round", |vote| vote.nonce = Nonce([1; 16])),
        ("other_round", |vote| vote.round = Round(vote.round.0 + 1)),
        ("other_rung", |vote| vote.rung = Rung(1)),
        ("other_incarnation", |vote| vote.incarnation.invocation = InvocationId([77; 16])),
        ("unsupported", |vote| vote.attestation.verdict = Verdict::Up),
        ("inconsistent", |vote| vote.header.node = NodeId::new("n2").unwrap()),
    ];
    for (label, change) in changes {
        let mut vote = bench.make_vote("lior", "otto", FaultClass::Crash);
        change(&mut vote);
        bench.submit_vote("lior", &vote);
        assert!(bench.acts.is_empty(), "{label}");
        let rejections = bench.events.iter().filter(|e| matches!(e, WardenEvent::Rejected { .. })).count();
        assert!(rejections > 0, "{label}");
        if label != "inconsistent" {
            assert!(bench.rejected(label), "{label}");
        }
        bench.events.clear();
    }
}

#[test]
fn a_replayed_vote_never_acts_a_second_time() {
    let mut bench = Bench::new();
    bench.kill("otto");
    let votes =
        [bench.make_vote("lior", "otto", FaultClass::Crash), bench.make_vote("vera", "otto", FaultClass::Crash)];
    bench.submit_vote("lior", &votes[0]);
    bench.submit_vote("vera", &votes[1]);
    assert_eq!(bench.acts.len(), 1);
    bench.pass(6 * S);
    bench.kill("otto");
    bench.submit_vote("lior", &votes[0]);
    bench.submit_vote("vera", &votes[1]);
    assert_eq!(bench.acts.len(), 1);
}

#[test]
fn nothing_is_done_before_intent_is_on_the_disk() {
    let mut bench = Bench::new();
    bench.stalled = true;
    bench.crash_and_certify("otto");
    assert_eq!(bench.receipts(ReceiptKind::Intent).len(), 1);
    bench.tick(S);
    assert!(bench.acts.is_empty());
    bench.unstall();
    assert_eq!(bench.acts.len(), 1);
}

#[test]
fn a_last_look_that_pid_1_never_answers_ends_in_no_action_and_a_free_slot() {
    let mut bench = Bench::new();
    bench.stalled = true;
    bench.crash_and_certify("otto");
    let synced = |input: &WardenInput| matches!(input, WardenInput::Synced(_));
    while let Some(at) = bench.waiting.iter().position(synced) {
        let input = bench.waiting.remove(at);
        bench.step(input);
    }
    bench.tick(11 * S);
    assert!(bench.acts.is_empty());
    assert_eq!(bench.receipts(ReceiptKind::Abort)[0].detail, "too_late");
    bench.unstall();
    assert!(bench.acts.is_empty());
}

#[test]
fn a_vote_whose_header_tells_another_time_than_its_observation_never_counts() {
    let mut bench = Bench::new();
    bench.kill("otto");
    for voter in ["lior", "vera"] {
        let mut vote = bench.make_vote(voter, "otto", FaultClass::Crash);
        vote.header.observed_at = vote.header.observed_at + 60 * S;
        bench.submit_vote(voter, &vote);
    }
    assert!(bench.rejected("unsupported"));
    assert!(bench.acts.is_empty());
}

#[test]
fn a_unit_that_came_back_by_itself_is_left_alone() {
    let mut bench = Bench::new();
    bench.stalled = true;
    bench.crash_and_certify("otto");
    bench.start("otto");
    bench.unstall();
    assert!(bench.acts.is_empty());
    assert_eq!(bench.receipts(ReceiptKind::Abort)[0].detail, "other_incarnation");
    bench.pass(3 * S);
    assert_eq!(bench.state("otto"), StateName::Healthy);
}

#[test]
fn a_hold_placed_after_intent_still_wins() {
    let mut bench = Bench::new();
    bench.stalled = true;
    bench.crash_and_certify("otto");
    bench.step(WardenInput::Ordered {
        uid: 0,
        order: OperatorOrder::Hold { subject: Some(subject("otto")), until: None },
        reason: "upgrade".into(),
        reply: ReplyTo(3),
    });
    bench.unstall();
    assert!(bench.acts.is_empty());
    assert_eq!(bench.receipts(ReceiptKind::Abort)[0].detail, "hold");
    assert_eq!(bench.state("otto"), StateName::Held);
}

#[test]
fn a_held_subject_is_left_dead_until_it_is_released_or_the_hold_ends() {
    let mut bench = Bench::new();
    let until = bench.wall_ms / 1000 + 60;
    let hold = OperatorOrder::Hold { subject: Some(subject("otto")), until: Some(until) };
    assert!(matches!(bench.order(hold), Answer::Done(_)));
    bench.crash_and_certify("otto");
    bench.pass_saying(30 * S, &[("otto", FaultClass::Crash)]);
    assert_eq!((bench.acts.len(), bench.state("otto")), (0, StateName::Held));
    bench.pass_saying(31 * S, &[("otto", FaultClass::Crash)]);
    bench.vote("lior", "otto", FaultClass::Crash);
    bench.vote("vera", "otto", FaultClass::Crash);
    assert_eq!(bench.acts.len(), 1);
}

#[test]
fn what_the_operator_stopped_stays_stopped_until_it_is_started_again() {
    let mut bench = Bench::new();
    bench.set("otto", |unit| {
        unit.activity = Activity::Inactive;
        unit.last_exit = LastExit::Code(0);
        unit.stop_requested = true;
        unit.main_pid = None;
    });
    assert_eq!(bench.state("otto"), StateName::Operator);
    // The same run now looks like a crash: it is still the operator's.
    bench.crash_and_certify("otto");
    bench.set("otto", |unit| unit.stop_requested = false);
    for voter in ["lior", "vera"] {
        bench.vote(voter, "otto", FaultClass::Crash);
    }
    assert!(bench.acts.is_empty());
    bench.start("otto");
    assert_eq!(bench.state("otto"), StateName::Healthy);
}

#[test]
fn a_silent_process_is_challenged_and_then_replaced() {
    let mut bench = Bench::new();
    for voter in ["lior", "vera"] {
        bench.vote(voter, "otto", FaultClass::Hang);
    }
    assert_eq!((bench.state("otto"), bench.acts.len()), (StateName::Challenged, 0));
    assert_eq!(bench.challenges.len(), 1);
    bench.tick(200 * MS);
    assert_eq!(bench.acts.len(), 1);
}

#[test]
fn a_process_that_answers_its_challenge_is_left_alone_and_needs_more_patience_next_time() {
    let mut bench = Bench::new();
    for voter in ["lior", "vera"] {
        bench.vote(voter, "otto", FaultClass::Hang);
    }
    let (pid, nonce) = bench.challenges[0];
    bench.step(WardenInput::ChallengeAnswered { pid: pid + 1, nonce });
    assert_eq!(bench.state("otto"), StateName::Challenged, "nobody answers for another process");
    bench.step(WardenInput::ChallengeAnswered { pid, nonce });
    assert_eq!(bench.state("otto"), StateName::Healthy);
    for voter in ["lior", "vera"] {
        bench.vote(voter, "otto", FaultClass::Hang);
    }
    assert_eq!(bench.challenges.len(), 1, "its patience was doubled");
    bench.tick(S);
    for voter in ["lior", "vera"] {
        bench.vote(voter, "otto", FaultClass::Hang);
    }
    assert_eq!(bench.challenges.len(), 2);
}

#[test]
fn a_process_that_got_no_cpu_is_not_called_silent() {
    let mut bench = Bench::new();
    for voter in ["lior", "vera"] {
        bench.vote(voter, "otto", FaultClass::Hang);
    }
    bench.run_delay = Some(100 * MS);
    bench.tick(200 * MS);
    assert!(bench.acts.is_empty() && bench.refused("starved"));
}

#[test]
fn when_nobody_can_tell_whether_it_had_a_cpu_it_is_left_alone_and_paged() {
    let mut bench = Bench::new();
    bench.run_delay = None;
    for voter in ["lior", "vera"] {
        bench.vote(voter, "otto", FaultClass::Hang);
    }
    bench.tick(200 * MS);
    assert!(bench.acts.is_empty());
    assert_eq!(bench.pages, ["run_delay_unknown"]);
}

#[test]
fn broken_counts_only_when_it_was_observed_again_after_the_challenge() {
    let mut bench = Bench::new();
    for voter in ["lior", "vera"] {
        bench.vote(voter, "otto", FaultClass::Broken);
    }
    assert_eq!(bench.state("otto"), StateName::Challenged);
    for voter in ["lior", "vera"] {
        let mut vote = bench.make_vote(voter, "otto", FaultClass::Broken);
        vote.challenge = None;
        bench.submit_vote(voter, &vote);
    }
    assert!(bench.acts.is_empty());
    for voter in ["lior", "vera"] {
        bench.vote(voter, "otto", FaultClass::Broken);
    }
    assert_eq!(bench.acts.len(), 1);
}

#[test]
fn what_stays_broken_climbs_its_ladder_and_ends_held_with_a_page() {
    let mut bench = Bench::new();
    for _ in 0..12 {
        for _ in 0..2 {
            for voter in ["lior", "vera"] {
                if bench.state("otto") != StateName::Held {
                    bench.vote(voter, "otto", FaultClass::Broken);
                }
            }
        }
        bench.pass_saying(2 * S, &[("otto", FaultClass::Broken)]);
    }
    assert_eq!(bench.state("otto"), StateName::Held);
    assert_eq!(bench.acts.len(), 2, "restart, reset-failed, then a human");
    assert!(bench.pages.contains(&"ladder_spent"));
    // And nobody else is blocked by it.
    bench.crash_and_certify("vera");
    assert_eq!(bench.acts.len(), 3);
}

#[test]
fn two_vendors_that_call_each_other_broken_are_both_left_alone_for_a_minute() {
    let mut bench = Bench::new();
    let quarrel = |bench: &mut Bench| {
        bench.heartbeat("vera", &[("otto", FaultClass::Broken)]);
        bench.heartbeat("otto", &[("vera", FaultClass::Broken)]);
        // The liar feeds both sides.
        for (voter, about) in [("lior", "otto"), ("vera", "otto"), ("lior", "vera"), ("otto", "vera")] {
            bench.vote(voter, about, FaultClass::Broken);
        }
    };
    for _ in 0..50 {
        quarrel(&mut bench);
        bench.tick(S);
    }
    assert!(bench.acts.is_empty());
    assert_eq!(bench.state("otto"), StateName::Frozen);
    assert!(bench.pages.contains(&"mutual_accusation"));
    for _ in 0..20 {
        quarrel(&mut bench);
        bench.tick(S);
    }
    assert!(!bench.acts.is_empty(), "the freeze ends by itself");
}

#[test]
fn one_at_a_time_is_repaired_and_all_three_come_back() {
    let mut bench = Bench::new();
    bench.on_act = |_, _| {};
    for name in ["otto", "lior", "vera"] {
        bench.kill(name);
    }
    for name in ["otto", "lior", "vera"] {
        for (voter, _) in PEOPLE {
            if voter != name {
                bench.vote(voter, name, FaultClass::Crash);
            }
        }
    }
    let order: Vec<_> = bench.acts.iter().map(|(name, ..)| name.to_string()).collect();
    assert_eq!(order, ["otto"], "the others wait for the slot");
    bench.start("otto");
    assert_eq!(bench.acts.len(), 2, "running gives the slot back");
    bench.start("lior");
    bench.start("vera");
    assert_eq!(bench.acts.len(), 3);
}

#[test]
fn a_subject_that_cools_down_keeps_no_place_from_its_vendors_others() {
    let mut bench = Bench::new();
    for _ in 0..4 {
        bench.crash_and_certify("otto");
        bench.pass(6 * S);
    }
    assert_eq!(bench.acts.len(), 4);
    bench.crash_and_certify("otto");
    assert_eq!((bench.acts.len(), bench.state("otto")), (4, StateName::Certified), "it cools down for 2 s more");
    bench.crash_and_certify("otto/agent");
    assert_eq!(bench.acts.len(), 5);
}

#[test]
fn an_act_that_brings_no_process_gives_its_slot_back_after_act_timeout() {
    let mut bench = Bench::new();
    bench.on_act = |_, _| {};
    bench.crash_and_certify("otto");
    bench.pass_saying(9 * S, &[("otto", FaultClass::Crash)]);
    bench.crash_and_certify("vera");
    assert_eq!(bench.acts.len(), 1);
    bench.tick(S);
    assert_eq!(bench.acts.len(), 2);
    assert_eq!(bench.receipts(ReceiptKind::Outcome)[0].outcome, Some(Outcome::Failed));
}

#[test]
fn a_spent_budget_holds_the_subject_and_active_time_earns_it_back() {
    let mut bench = Bench::with(|policy| {
        policy.timing.cool_down = Duration::ZERO;
        for subject in policy.subjects.values_mut() {
            subject.budget = BudgetPolicy { capacity: 2, refill: 60 * S, per_day: 100 };
        }
    });
    for _ in 0..3 {
        bench.crash_and_certify("otto");
        bench.pass(6 * S);
    }
    assert_eq!((bench.acts.len(), bench.state("otto")), (2, StateName::Held));
    assert!(bench.pages.contains(&"budget_spent"));
    bench.start("otto");
    bench.pass(61 * S);
    assert_eq!(bench.state("otto"), StateName::Healthy);
    bench.crash_and_certify("otto");
    assert_eq!(bench.acts.len(), 3);
}

#[test]
fn the_journal_carries_budgets_rungs_and_days_over_a_restart() {
    let mut bench = Bench::new();
    bench.crash_and_certify("otto");
    bench.pass(6 * S);
    let ledgers: Vec<_> = bench
        .records
        .iter()
        .filter_map(|(_, record)| match record {
            Record::Ledger(entry) => Some(entry.clone()),
            _ => None,
        })
        .collect();
    let recovered = Recovered { ledgers, instance: WardenInstance(1), ..Recovered::default() };
    let bench = Bench::recovered(policy(|_| {}), recovered);
    assert_eq!(bench.warden.subjects[&subject("otto")].ledger.tokens, 4);
    assert_eq!(bench.warden.node.spent_today(bench.warden.accumulated()), 1);
    assert_eq!(bench.warden.instance, WardenInstance(2));
}

fn open_intent(bench: &Bench) -> OpenIntent {
    let (seq, record) = bench.records.iter().rev().find(|(_, r)| matches!(r, Record::Receipt(_))).unwrap().clone();
    let Record::Receipt(receipt) = record else { unreachable!("it was just matched") };
    let attempt = bench.warden.subjects[&subject("otto")].attempt();
    OpenIntent { seq, receipt, episode: attempt.episode, round: attempt.round }
}

#[test]
fn an_intent_without_an_end_is_never_executed_again() {
    let mut bench = Bench::new();
    bench.on_act = |_, _| {};
    bench.crash_and_certify("otto");
    let recovered =
        Recovered { open_intents: vec![open_intent(&bench)], instance: WardenInstance(1), ..Recovered::default() };
    // The unit has another incarnation by now: it was carried out.
    let bench = Bench::recovered(policy(|_| {}), recovered);
    assert!(bench.acts.is_empty());
    assert_eq!(bench.receipts(ReceiptKind::Outcome)[0].outcome, Some(Outcome::Inferred));
}

#[test]
fn a_damaged_journal_holds_everything_and_nothing_is_appended() {
    let recovered = Recovered { damage: Some("record 7 is damaged".into()), ..Recovered::default() };
    let mut bench = Bench::recovered(policy(|_| {}), recovered);
    bench.kill("otto");
    bench.tick(S);
    assert_eq!(bench.state("otto"), StateName::Held);
    assert!(bench.acts.is_empty() && bench.records.is_empty());
    assert_eq!(bench.pages, ["journal"]);
}

#[test]
fn a_receipt_above_the_journals_head_proves_a_rollback() {
    let mut ahead = Bench::new();
    ahead.crash_and_certify("otto");
    let receipt = ahead.records.iter().rev().find_map(|(_, record)| match record {
        Record::Receipt(envelope) => Some(envelope.clone()),
        _ => None,
    });
    let mut behind = Bench::new();
    behind.step(WardenInput::ReceiptShown(receipt.unwrap()));
    behind.crash_and_certify("otto");
    assert!(behind.acts.is_empty());
    assert_eq!(behind.state("otto"), StateName::Held);
}

#[test]
fn observe_mode_says_what_it_would_have_done_once_and_touches_nothing() {
    let mut bench = Bench::with(|policy| policy.mode = Mode::Observe);
    for _ in 0..5 {
        bench.kill("otto");
        for voter in ["lior", "vera"] {
            bench.vote(voter, "otto", FaultClass::Crash);
        }
        bench.pass_saying(6 * S, &[("otto", FaultClass::Crash)]);
    }
    assert!(bench.acts.is_empty());
    assert_eq!(bench.receipts(ReceiptKind::WouldAct).len(), 1);
    assert_eq!(bench.warden.subjects[&subject("otto")].ledger.tokens, 5);
    assert_ne!(bench.state("otto"), StateName::Held);
}

#[test]
fn a_head_that_contradicts_the_wardens_own_copy_makes_it_show_that_copy_and_no_other() {
    let mut bench = Bench::new();
    let vote = bench.make_vote("lior", "otto", FaultClass::Crash);
    bench.submit_vote("lior", &vote);
    let held = Envelope::seal(&vote, &bench.guards[&persona("lior")].session_key, &Proto);
    let head = |digest| crate::protocol::statement::Head {
        persona: persona("lior"),
        session_key: held.key,
        seq: vote.header.seq,
        digest,
    };
    bench.heartbeat_with("vera", &[], vec![head(held.digest())]);
    assert!(bench.shown.is_empty(), "they agree");
    bench.heartbeat_with("vera", &[], vec![head(Digest([7; 32])), head(Digest([8; 32]))]);
    assert_eq!(bench.shown, std::slice::from_ref(&held));
    bench.heartbeat_with("lior", &[], vec![head(Digest([7; 32]))]);
    assert_eq!(bench.shown.len(), 1, "nobody makes it doubt himself");
}

#[test]
fn two_statements_with_one_number_cost_the_vote_until_readmitted() {
    let mut bench = Bench::new();
    let first = bench.make_vote("lior", "otto", FaultClass::Crash);
    let mut second = first.clone();
    second.choice = Choice::Withdraw;
    bench.submit_vote("lior", &first);
    bench.submit_vote("lior", &second);
    assert!(bench.pages.contains(&"equivocation"));
    assert!(bench.records.iter().any(|(_, record)| matches!(record, Record::Quarantine { .. })));
    bench.crash_and_certify("otto");
    assert!(bench.acts.is_empty() && bench.rejected("quarantined"));
    assert!(matches!(bench.order(OperatorOrder::Readmit { persona: persona("lior") }), Answer::Done(_)));
    bench.open_session("lior", 99);
    for voter in ["lior", "vera"] {
        bench.vote(voter, "otto", FaultClass::Crash);
    }
    assert_eq!(bench.acts.len(), 1);
}

#[test]
fn a_process_that_is_not_the_units_main_process_gets_no_session() {
    let mut bench = Bench::new();
    let unit = SubjectName::agent(&persona("lior"));
    let here = PeerUnit { subject: unit.clone(), main_pid: 4242, invocation: InvocationId([1; 16]) };
    for (before, after, label) in [
        (Some(here.clone()), Some(here.clone()), "not_main_process"),
        (None, None, "no_unit"),
        (Some(here.clone()), None, "unit_changed"),
    ] {
        let peer = PeerFacts { uid: 0, pid: 1, before, after };
        bench.step(WardenInput::NonceWanted { peer: peer.clone(), reply: ReplyTo(1) });
        let request = Envelope::seal(
            &SessionRequest {
                cluster: bench.roster.cluster().clone(),
                node: bench.roster.node().clone(),
                persona: persona("lior"),
                session_key: key(50).public(),
                nonce: Nonce([0; 16]),
                roster: bench.roster.digest(),
                policy: bench.policy.digest,
            },
            &key(11),
            &Proto,
        );
        bench.step(WardenInput::SessionWanted { peer, request, reply: ReplyTo(2) });
        assert!(matches!(bench.answers.pop(), Some(Answer::Refused { reason, .. }) if reason == label), "{label}");
    }
}

#[test]
fn nobody_able_to_say_ends_as_unconfirmed_and_not_in_a_loop() {
    let mut bench = Bench::new();
    bench.crash_and_certify("otto");
    // Everybody falls silent.
    bench.tick(6 * S);
    assert_eq!(bench.state("otto"), StateName::Unconfirmed);
    bench.tick(16 * 60 * S);
    assert_eq!(bench.state("otto"), StateName::Healthy);
    assert_eq!(bench.receipts(ReceiptKind::Outcome)[1].outcome, Some(Outcome::Unconfirmed));
    assert_eq!(bench.acts.len(), 1);
}

#[test]
fn a_rung_with_consent_waits_for_the_operator_and_for_fresh_votes_after() {
    let mut bench = Bench::with(|policy| {
        let rung = RungPolicy { action: Action::Restart, consent: Consent::QuorumAndOperator };
        policy.subjects.get_mut(&subject("otto")).unwrap().ladder = vec![rung];
    });
    bench.crash_and_certify("otto");
    assert_eq!((bench.state("otto"), bench.acts.len()), (StateName::AwaitingApproval, 0));
    let episode = bench.episodes[&subject("otto")].id;
    assert!(matches!(bench.order(OperatorOrder::Approve { episode }), Answer::Done(_)));
    assert!(bench.acts.is_empty());
    for voter in ["lior", "vera"] {
        bench.vote(voter, "otto", FaultClass::Crash);
    }
    assert_eq!(bench.acts.len(), 1);
}

#[test]
fn soft_votes_on_personas_do_not_outlive_an_action_on_one() {
    let mut bench = Bench::new();
    bench.vote("otto", "vera", FaultClass::Hang);
    bench.crash_and_certify("otto");
    assert_eq!(bench.acts.len(), 1);
    bench.vote("lior", "vera", FaultClass::Hang);
    assert_ne!(bench.state("vera"), StateName::Challenged);
}

#[test]
fn a_quorum_that_accuses_most_of_the_node_puts_the_host_in_doubt() {
    let mut bench = Bench::new();
    let hang = FaultClass::Hang;
    bench.heartbeat("lior", &[("otto", hang), ("vera", hang), ("otto/agent", hang)]);
    bench.heartbeat("vera", &[("otto", hang), ("lior", hang), ("otto/agent", hang)]);
    for voter in ["lior", "vera"] {
        bench.vote(voter, "otto", hang);
    }
    bench.tick(200 * MS);
    assert!(bench.acts.is_empty() && bench.challenges.is_empty());
    assert_eq!(bench.state("otto"), StateName::Frozen);
    bench.pass(S);
    assert_eq!(bench.state("otto"), StateName::Healthy, "it ends by itself");
}

fn last_receipt(bench: &Bench) -> Envelope {
    let receipts = bench.records.iter().rev().filter_map(|(_, record)| match record {
        Record::Receipt(envelope) => Some(envelope.clone()),
        _ => None,
    });
    receipts.into_iter().next().expect("a receipt was written")
}

#[test]
fn a_rollback_shows_even_when_other_records_took_the_place_of_the_lost_receipt() {
    let mut ahead = Bench::new();
    ahead.crash_and_certify("otto");
    let lost = last_receipt(&ahead);
    let mut behind = Bench::new();
    for _ in 0..10 {
        behind.order(OperatorOrder::Hold { subject: Some(subject("otto")), until: None });
    }
    behind.crash_and_certify("lior");
    let own = last_receipt(&behind);
    behind.step(WardenInput::ReceiptShown(own));
    assert_eq!(behind.state("vera"), StateName::Healthy, "its own receipts prove nothing against it");
    behind.step(WardenInput::ReceiptShown(lost));
    assert_eq!(behind.state("vera"), StateName::Held);
    assert!(behind.pages.contains(&"journal"));
}

#[test]
fn a_hold_that_ended_wakes_nobody_any_more_and_none_ends_too_late_to_be_counted() {
    let mut bench = Bench::new();
    bench.order(OperatorOrder::Hold { subject: Some(subject("vera")), until: Some(u64::MAX) });
    let until = Some(bench.wall_ms / 1000 + 1);
    bench.order(OperatorOrder::Hold { subject: Some(subject("otto")), until });
    assert!(bench.warden.next_deadline().is_some_and(|at| at <= bench.now + S + MS));
    bench.tick(3 * S);
    assert_eq!((bench.state("otto"), bench.state("vera")), (StateName::Healthy, StateName::Held));
    assert!(bench.warden.next_deadline().is_none_or(|at| at > bench.now + S), "{:?}", bench.warden.next_deadline());
}

fn earning() -> Bench {
    Bench::with(|policy| {
        policy.timing.cool_down = Duration::ZERO;
        for subject in policy.subjects.values_mut() {
            subject.budget = BudgetPolicy { capacity: 2, refill: 60 * S, per_day: 100 };
        }
    })
}

#[test]
fn a_lone_liar_keeps_nobody_from_earning_its_repairs_back() {
    let mut bench = earning();
    bench.crash_and_certify("otto");
    bench.pass(6 * S);
    for _ in 0..300 {
        bench.tick(250 * MS);
        bench.heartbeat("vera", &[]);
        bench.heartbeat("lior", &[("otto", FaultClass::Hang)]);
    }
    assert_eq!(bench.warden.subjects[&subject("otto")].ledger.tokens, 2);
}

#[test]
fn what_is_restarted_in_between_was_not_active_without_interruption() {
    let mut bench = earning();
    bench.crash_and_certify("otto");
    bench.pass(6 * S);
    for _ in 0..5 {
        bench.pass(20 * S);
        bench.start("otto");
    }
    assert_eq!(bench.warden.subjects[&subject("otto")].ledger.tokens, 1);
    bench.pass(61 * S);
    assert_eq!(bench.warden.subjects[&subject("otto")].ledger.tokens, 2);
}

#[test]
fn what_is_broken_earns_no_repairs_by_merely_running() {
    let mut bench = earning();
    for _ in 0..3 {
        bench.crash_and_certify("otto");
        bench.pass(6 * S);
    }
    bench.start("otto");
    assert_eq!(bench.state("otto"), StateName::Held);
    bench.pass_saying(90 * S, &[("otto", FaultClass::Broken)]);
    assert_eq!(bench.state("otto"), StateName::Held);
    bench.pass(61 * S);
    assert_eq!(bench.state("otto"), StateName::Healthy);
}

#[test]
fn an_approval_is_for_the_fault_at_hand_and_for_no_later_one() {
    for another_run in [true, false] {
        let mut bench = Bench::with(|policy| {
            let rung = RungPolicy { action: Action::Restart, consent: Consent::QuorumAndOperator };
            policy.subjects.get_mut(&subject("otto")).unwrap().ladder = vec![rung];
        });
        bench.crash_and_certify("otto");
        let episode = bench.episodes[&subject("otto")].id;
        bench.order(OperatorOrder::Approve { episode });
        // Before anybody votes again, it is well.
        if another_run {
            bench.start("otto");
        }
        bench.pass(2 * S);
        assert_eq!(bench.state("otto"), StateName::Healthy);
        bench.crash_and_certify("otto");
        assert_eq!((bench.state("otto"), bench.acts.len()), (StateName::AwaitingApproval, 0));
    }
}

#[test]
fn what_hangs_after_its_crash_was_repaired_was_not_helped() {
    let mut bench = Bench::new();
    bench.crash_and_certify("otto");
    bench.pass_saying(6 * S, &[("otto", FaultClass::Hang)]);
    assert_eq!(bench.state("otto"), StateName::Suspect);
    for voter in ["lior", "vera"] {
        bench.vote(voter, "otto", FaultClass::Hang);
    }
    bench.tick(200 * MS);
    assert_eq!(bench.acts.len(), 2);
    assert_eq!(bench.acts[1].1.rung, Rung(1));
}

#[test]
fn what_crashes_while_nobody_can_confirm_it_is_repaired_at_once() {
    let mut bench = Bench::new();
    for voter in ["lior", "vera"] {
        bench.vote(voter, "otto", FaultClass::Hang);
    }
    bench.tick(200 * MS);
    bench.tick(6 * S);
    assert_eq!((bench.state("otto"), bench.acts.len()), (StateName::Unconfirmed, 1));
    bench.kill("otto");
    for voter in ["lior", "vera"] {
        bench.vote(voter, "otto", FaultClass::Crash);
    }
    assert_eq!(bench.acts.len(), 2);
}

#[test]
fn what_is_broken_after_its_crash_was_repaired_runs_and_answers() {
    let mut bench = Bench::new();
    bench.crash_and_certify("otto");
    let crashed = bench.episodes[&subject("otto")].id;
    bench.pass_saying(6 * S, &[("otto", FaultClass::Broken)]);
    assert_eq!(bench.state("otto"), StateName::Suspect);
    assert!(bench.episodes[&subject("otto")].id > crashed, "its work is another episode's matter");
}

#[test]
fn k3s_is_given_its_whole_time_to_settle() {
    let mut bench = Bench::with(|policy| {
        let k3s = SubjectPolicy {
            kind: SubjectKind::K3s,
            vendor: None,
            unit: "k3s.service".into(),
            budget: Policy::K3S_BUDGET,
            ..policy.subjects[&subject("otto")].clone()
        };
        policy.subjects.insert(subject("k3s"), k3s);
    });
    for _ in 0..2 {
        for voter in ["lior", "vera"] {
            bench.vote(voter, "k3s", FaultClass::Broken);
        }
    }
    assert_eq!(bench.acts.len(), 1);
    bench.pass_saying(170 * S, &[("k3s", FaultClass::Broken)]);
    assert_eq!(bench.state("k3s"), StateName::Settling);
    bench.pass_saying(11 * S, &[("k3s", FaultClass::Broken)]);
    assert_eq!(bench.state("k3s"), StateName::Suspect);
    assert_eq!(bench.warden.subjects[&subject("k3s")].episode.rung, Rung(1));
}

#[test]
fn a_vote_that_comes_after_its_voters_later_word_never_counts() {
    let mut bench = Bench::new();
    bench.kill("otto");
    let late = bench.make_vote("lior", "otto", FaultClass::Crash);
    bench.heartbeat("lior", &[]);
    bench.submit_vote("lior", &late);
    bench.vote("vera", "otto", FaultClass::Crash);
    assert!(bench.acts.is_empty() && bench.rejected("stale"));
    bench.heartbeat("lior", &[("otto", FaultClass::Crash)]);
    bench.vote("lior", "otto", FaultClass::Crash);
    assert_eq!(bench.acts.len(), 1);
}

#[test]
fn every_suspicion_ends_by_a_deadline_of_the_wardens_own() {
    let mut bench = Bench::new();
    bench.vote("lior", "otto", FaultClass::Crash);
    bench.tick(S);
    bench.vote("vera", "otto", FaultClass::Hang);
    for _ in 0..10 {
        if bench.state("otto") == StateName::Healthy {
            return;
        }
        let due = bench.warden.next_deadline().expect("a deadline while it is suspected");
        bench.tick(due.saturating_since(bench.now));
    }
    panic!("{} after ten deadlines", bench.state("otto"));
}

#[test]
fn an_open_intent_that_another_key_signed_holds_everything_with_a_page() {
    let mut bench = Bench::new();
    bench.on_act = |_, _| {};
    bench.crash_and_certify("otto");
    let mut open = open_intent(&bench);
    let receipt = Codec::<Receipt>::decode(&Proto, &open.receipt.payload).unwrap();
    open.receipt = Envelope::seal(&receipt, &key(77), &Proto);
    let recovered = Recovered { open_intents: vec![open], instance: WardenInstance(1), ..Recovered::default() };
    let (warden, effects) = {
        let config = WardenConfig {
            key: key(1),
            roster: bench.roster.clone(),
            policy: bench.policy.clone(),
            boot: BootId([9; 16]),
            codec: Proto,
            entropy: [5; 32],
            recovered,
        };
        Warden::new(config, bench.now, bench.wall_ms)
    };
    assert!(warden.damage.is_some());
    assert!(effects.iter().any(|effect| matches!(effect, WardenEffect::Page(page) if page.cause == "journal")));
}

#[test]
fn an_environment_fault_that_a_quorum_sees_calls_a_human_once_and_restarts_nothing() {
    let mut bench = Bench::new();
    bench.heartbeat("lior", &[("otto", FaultClass::Environment)]);
    assert!(bench.pages.is_empty(), "a lone voice pages nobody");
    bench.pass_saying(10 * S, &[("otto", FaultClass::Environment)]);
    assert_eq!(bench.pages, ["environment"]);
    assert!(bench.acts.is_empty());
    assert_eq!(bench.state("otto"), StateName::Healthy);
}

#[test]
fn an_action_voids_soft_votes_on_other_personas_in_the_very_same_step() {
    // Two slots, three voters on each of two personas.
    let mut bench = Bench::with(|policy| {
        (policy.timing.cool_down, policy.timing.cool_down_max) = (20 * S, 20 * S);
        for name in ["otto", "vera"] {
            policy.subjects.get_mut(&subject(name)).unwrap().vendor = None;
        }
    });
    let mut statement = bench.roster.statement().clone();
    (statement.f, statement.q) = (2, 3);
    for (n, name) in [(60, "alexa"), (61, "riven")] {
        let vendor = VendorId::new(&format!("vendor-{n}")).unwrap();
        statement.members.push(Member { persona: persona(name), vendor, key: key(n).public() });
    }
    bench.warden.roster = Arc::new(Roster::new(statement, Digest::of(b"roster")).unwrap());
    let vote = |bench: &mut Bench, about: &str, class| {
        for (voter, _) in PEOPLE {
            bench.vote(voter, about, class);
        }
    };
    for name in ["otto", "vera"] {
        bench.kill(name);
        vote(&mut bench, name, FaultClass::Crash);
    }
    bench.pass(18 * S);
    assert_eq!(bench.acts.len(), 2);
    for name in ["otto", "vera"] {
        vote(&mut bench, name, FaultClass::Hang);
        bench.tick(200 * MS);
        assert_eq!(bench.state(name), StateName::Certified);
    }
    bench.tick(S);
    for name in ["otto", "vera"] {
        vote(&mut bench, name, FaultClass::Hang);
    }
    bench.tick(S);
    assert_eq!((bench.acts.len(), bench.state("vera")), (3, StateName::Suspect));
}

#[test]
fn observe_mode_repeats_itself_for_no_class_that_it_has_named_already() {
    let mut bench = Bench::with(|policy| policy.mode = Mode::Observe);
    for _ in 0..3 {
        for class in [FaultClass::Hang, FaultClass::Broken] {
            for _ in 0..2 {
                for voter in ["lior", "vera"] {
                    bench.vote(voter, "otto", class);
                }
            }
            bench.tick(200 * MS);
            bench.pass(6 * S);
        }
    }
    assert_eq!(bench.receipts(ReceiptKind::WouldAct).len(), 2);
}

#[test]
fn a_node_with_fewer_repairs_a_day_than_vendors_still_makes_them() {
    let mut bench = Bench::with(|policy| policy.node_per_day = 2);
    for name in ["otto", "vera", "lior"] {
        bench.crash_and_certify(name);
        bench.pass(6 * S);
    }
    assert_eq!((bench.acts.len(), bench.state("lior")), (2, StateName::Held));
}

/// Two votes of lior's with one number, as anybody who heard both can prove.
fn proof_against_lior(bench: &mut Bench) -> super::super::statement::EquivocationProof {
    let first = bench.make_vote("lior", "otto", FaultClass::Crash);
    let second = Vote { choice: Choice::Withdraw, ..first.clone() };
    let session = bench.warden.guardians[&persona("lior")].session().unwrap().envelope().clone();
    let seal = |vote: &Vote| Envelope::seal(vote, &bench.guards[&persona("lior")].session_key, &Proto);
    super::super::statement::EquivocationProof { session, first: seal(&first), second: seal(&second) }
}

#[test]
fn a_liar_that_restarts_its_agent_before_it_is_proven_loses_its_vote_all_the_same() {
    let mut bench = Bench::new();
    let proof = proof_against_lior(&mut bench);
    bench.open_session("lior", 60);
    bench.step(WardenInput::ProofSubmitted(proof));
    bench.crash_and_certify("otto");
    assert!(bench.acts.is_empty() && bench.rejected("quarantined"));
}

#[test]
fn what_was_forgiven_is_not_held_against_a_readmitted_persona_again_and_what_it_does_now_is() {
    let mut bench = Bench::new();
    bench.open_session("lior", 62);
    let (old, older) = (proof_against_lior(&mut bench), proof_against_lior(&mut bench));
    bench.step(WardenInput::ProofSubmitted(old.clone()));
    assert!(matches!(bench.order(OperatorOrder::Readmit { persona: persona("lior") }), Answer::Done(_)));
    bench.open_session("lior", 61);
    for proof in [old.clone(), older] {
        bench.step(WardenInput::ProofSubmitted(proof));
        assert!(!bench.warden.guardians[&persona("lior")].quarantined);
    }
    // Nor after a restart of the warden, which remembers that it was readmitted.
    let readmitted = vec![persona("lior")];
    let recovered = Recovered { readmitted, instance: WardenInstance(1), ..Recovered::default() };
    let mut again = Bench::recovered(policy(|_| {}), recovered);
    again.step(WardenInput::ProofSubmitted(old));
    assert!(!again.warden.guardians[&persona("lior")].quarantined);
    let new = proof_against_lior(&mut again);
    again.step(WardenInput::ProofSubmitted(new));
    assert!(again.warden.guardians[&persona("lior")].quarantined);
}

#[test]
fn a_warden_that_was_late_itself_calls_nobody_silent() {
    let mut bench = Bench::new();
    for voter in ["lior", "vera"] {
        bench.vote(voter, "otto", FaultClass::Hang);
    }
    // The answer may lie unread: the warden did not run when it came.
    bench.tick(400 * MS);
    assert_eq!((bench.acts.len(), bench.challenges.len()), (0, 1));
    bench.tick(S);
    for voter in ["lior", "vera"] {
        bench.vote(voter, "otto", FaultClass::Hang);
    }
    assert_eq!(bench.challenges.len(), 2, "it asks again");
    bench.tick(200 * MS);
    assert_eq!(bench.acts.len(), 1);
}
