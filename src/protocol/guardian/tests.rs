//! A guardian alone: lior's, with the warden and the peers played by hand.

use super::super::equivocation::GuardianStatement;
use super::super::evidence::{Activity, Evidence, ExitZero, FaultClass, LastExit, Reason, TickEnd, UnitState, Verdict};
use super::super::policy::{Mode, SubjectKind, SubjectPolicy, Timing};
use super::super::roster::{Member, RosterStatement};
use super::super::statement::{ActionKind, Choice, Receipt, ReceiptKind, Session, SessionRequest, Vote};
use super::super::types::{
    ClusterId, Incarnation, InvocationId, NodeId, Round, Rung, SessionIncarnation, SetEpoch, VendorId, WardenInstance,
};
use super::*;
use crate::wire::Proto;

const BOOT: BootId = BootId([7; 16]);
const POLICY: Digest = Digest([3; 32]);
const PERSONAS: [(&str, &str); 3] = [("lior", "google-gemini"), ("otto", "anthropic"), ("vera", "openai")];
const MS: u64 = 1_000_000;

fn persona(name: &str) -> PersonaId {
    PersonaId::new(name).unwrap()
}

fn subject(name: &str) -> SubjectName {
    SubjectName::new(name).unwrap()
}

fn key(of: &str, kind: u8) -> SigningKey {
    SigningKey::from_seed(&Digest::of(format!("{of} {kind}").as_bytes()).0)
}

fn persona_key(of: &str) -> SigningKey {
    key(of, 1)
}

fn session_key(of: &str) -> SigningKey {
    key(of, 2)
}

fn roster() -> Arc<Roster> {
    let members = PERSONAS.map(|(name, vendor)| Member {
        persona: persona(name),
        vendor: VendorId::new(vendor).unwrap(),
        key: persona_key(name).public(),
    });
    let statement = RosterStatement {
        cluster: ClusterId::new("home").unwrap(),
        node: NodeId::new("node1").unwrap(),
        epoch: 1,
        previous: Digest::default(),
        members: members.into(),
        f: 1,
        q: 2,
        warden: key("warden", 0).public(),
        operator: key("operator", 0).public(),
    };
    Arc::new(Roster::new(statement, Digest([9; 32])).unwrap())
}

fn policy() -> Arc<Policy> {
    let mut subjects = BTreeMap::new();
    for (name, vendor) in PERSONAS {
        let of = |kind| SubjectPolicy {
            kind,
            vendor: Some(VendorId::new(vendor).unwrap()),
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

fn incarnation(run: u8) -> Incarnation {
    Incarnation { boot: BOOT, invocation: InvocationId([run; 16]) }
}

fn running(run: u8) -> UnitState {
    UnitState {
        activity: Activity::Active,
        main_pid: Some(u32::from(run)),
        active_since: Some(Timestamp::ZERO),
        ..UnitState::never_started(incarnation(run))
    }
}

fn killed(run: u8) -> UnitState {
    UnitState {
        activity: Activity::Failed,
        last_exit: LastExit::Signal(9),
        ..UnitState::never_started(incarnation(run))
    }
}

fn tick(number: u64, fault: Option<FaultClass>, reason: Reason) -> TickEnd {
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

fn broken(in_a_row: u32) -> TickState {
    TickState {
        begun: u64::from(in_a_row),
        broken_in_a_row: in_a_row,
        last: Some(tick(u64::from(in_a_row), Some(FaultClass::Broken), Reason::TickFailed)),
        ..TickState::default()
    }
}

fn episode(of: &str, run: u8, round: u32, state: StateName) -> EpisodeStatement {
    EpisodeStatement {
        cluster: ClusterId::new("home").unwrap(),
        node: NodeId::new("node1").unwrap(),
        boot: BOOT,
        roster: Digest([9; 32]),
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

fn mint(of: &str, session_key: &SigningKey, number: u32) -> Envelope {
    let request = SessionRequest {
        cluster: ClusterId::new("home").unwrap(),
        node: NodeId::new("node1").unwrap(),
        persona: persona(of),
        session_key: session_key.public(),
        nonce: Nonce([1; 16]),
        roster: Digest([9; 32]),
        policy: POLICY,
    };
    let session = Session {
        request: Envelope::seal(&request, &persona_key(of), &Proto),
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
    Envelope::seal(&session, &key("warden", 0), &Proto)
}

/// A heartbeat of a peer's; `health` makes two with one number differ.
fn heartbeat_of(of: &str, seq: u64, health: u32, heads: Vec<super::super::statement::Head>) -> Envelope {
    let heartbeat = Heartbeat {
        header: Header {
            cluster: ClusterId::new("home").unwrap(),
            node: NodeId::new("node1").unwrap(),
            boot: BOOT,
            roster_epoch: 1,
            roster: Digest([9; 32]),
            policy: POLICY,
            persona: persona(of),
            incarnation: SessionIncarnation::new(WardenInstance(1), 20),
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
struct Alone {
    guardian: Guardian<Proto>,
    now: u64,
    out: Vec<GuardianEffect>,
    /// Wrappers that answer pings, with their pids.
    answering: BTreeMap<SubjectName, u32>,
    /// Peers whose heartbeats come, with their next number.
    speaking: BTreeMap<String, u64>,
}

impl Alone {
    fn new() -> Self {
        let config = GuardianConfig {
            persona: persona("lior"),
            persona_key: persona_key("lior"),
            session_key: session_key("lior"),
            roster: roster(),
            policy: policy(),
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
    fn well() -> Self {
        let mut alone = Self::new();
        alone.connect(10);
        for (run, (name, _)) in (1..).zip(PERSONAS) {
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

    fn step(&mut self, input: GuardianInput) {
        self.out.extend(self.guardian.step(Timestamp::from_nanos(self.now * MS), input));
    }

    fn connect(&mut self, number: u32) {
        self.step(GuardianInput::WardenConnected { nonce: Nonce([1; 16]) });
        self.step(GuardianInput::SessionOpened(mint("lior", &session_key("lior"), number)));
    }

    fn start(&mut self, name: &str, run: u8) {
        self.unit(name, Some(running(run)));
        self.answering.insert(subject(name), u32::from(run));
    }

    fn unit(&mut self, name: &str, state: Option<UnitState>) {
        self.step(GuardianInput::UnitChanged { subject: subject(name), state });
    }

    fn publish(&mut self, episode: EpisodeStatement) {
        self.step(GuardianInput::FromWarden(Envelope::seal(&episode, &key("warden", 0), &Proto)));
    }

    fn peer(&mut self, from: &str, envelope: Envelope) {
        self.step(GuardianInput::FromPeer { from: persona(from), envelope });
    }

    fn ticks(&mut self, name: &str, run: u8, ticks: TickState, challenge: Option<Nonce>) {
        self.step(GuardianInput::TicksRead { subject: subject(name), pid: u32::from(run), ticks, challenge });
    }

    /// Lets time pass: timers punctual, pings and heartbeats every 250 ms.
    fn run(&mut self, ms: u64) {
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

    fn word(&self, name: &str) -> Attestation {
        let view = self.guardian.view(Timestamp::from_nanos(self.now * MS));
        view.attestations.into_iter().find(|attestation| attestation.subject == subject(name)).unwrap()
    }

    fn says(&self, name: &str) -> (Verdict, Option<FaultClass>, Reason) {
        let word = self.word(name);
        (word.verdict, word.class, word.reason)
    }

    /// Votes sent to the warden since the last look.
    fn votes(&mut self) -> Vec<Vote> {
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

    fn proofs(&self) -> usize {
        self.out.iter().filter(|effect| matches!(effect, GuardianEffect::BroadcastProof(_))).count()
    }

    fn rejected(&self) -> Vec<&'static str> {
        let reason = |effect: &GuardianEffect| match effect {
            GuardianEffect::Event(GuardianEvent::Rejected { reason, .. }) => Some(*reason),
            _ => None,
        };
        self.out.iter().filter_map(reason).collect()
    }
}

const UP: Verdict = Verdict::Up;
const DOWN: Verdict = Verdict::Down;
const UNKNOWN: Verdict = Verdict::Unknown;

#[test]
fn everybody_is_up_when_all_is_well_and_nobody_is_voted_on() {
    let mut alone = Alone::well();
    for (name, _) in PERSONAS {
        assert_eq!(alone.word(name).verdict, UP, "{name}");
        assert_eq!(alone.word(&format!("{name}/agent")).verdict, UP, "{name}");
    }
    alone.run(10_000);
    assert_eq!(alone.votes(), []);
}

#[test]
fn a_killed_wrapper_is_voted_on_at_once_on_hard_evidence() {
    let mut alone = Alone::well();
    alone.unit("otto", Some(killed(2)));
    let votes = alone.votes();
    assert_eq!(votes.len(), 1);
    assert_eq!((votes[0].choice, votes[0].class), (Choice::Approve, FaultClass::Crash));
    assert_eq!((votes[0].attestation.evidence, votes[0].incarnation), (Evidence::Hard, incarnation(2)));
    assert_eq!(votes[0].header.observed_at, Timestamp::from_nanos(alone.now * MS));
}

#[test]
fn a_vote_is_renewed_while_the_fault_lasts_and_no_faster() {
    let mut alone = Alone::well();
    alone.answering.clear();
    alone.unit("otto", Some(killed(2)));
    alone.run(5_000);
    let votes: Vec<_> = alone.votes().into_iter().filter(|vote| vote.subject == subject("otto")).collect();
    assert!((10..=11).contains(&votes.len()), "{} votes in 5 s, one every 500 ms", votes.len());
    assert!(votes.windows(2).all(|pair| pair[0].header.observed_at < pair[1].header.observed_at));
}

#[test]
fn a_withdraw_follows_recovery_once() {
    let mut alone = Alone::well();
    alone.unit("otto", Some(killed(2)));
    alone.unit("otto", Some(running(2)));
    alone.run(1_000);
    let votes = alone.votes();
    assert_eq!(votes.iter().map(|vote| vote.choice).collect::<Vec<_>>(), [Choice::Approve, Choice::Withdraw]);
    assert_eq!((votes[1].class, votes[1].incarnation), (FaultClass::Crash, incarnation(2)));
}

#[test]
fn a_new_round_gets_a_new_vote_and_another_incarnation_none() {
    let mut alone = Alone::well();
    alone.unit("otto", Some(killed(2)));
    alone.votes();
    alone.publish(episode("otto", 2, 1, StateName::Suspect));
    assert_eq!(alone.votes().len(), 1);
    alone.publish(episode("otto", 9, 2, StateName::Suspect));
    assert_eq!(alone.votes(), [], "the published run is not the one that was seen");
    alone.publish(episode("otto", 2, 1, StateName::Suspect));
    assert_eq!(alone.rejected(), ["stale_episode"]);
}

#[test]
fn nothing_is_voted_while_the_operator_holds_it_or_the_warden_acts() {
    let mut alone = Alone::well();
    for state in [StateName::Held, StateName::Operator, StateName::Acting] {
        alone.publish(episode("otto", 2, 0, state));
        alone.unit("otto", Some(killed(2)));
        alone.run(1_000);
        assert_eq!(alone.votes(), [], "{state}");
        alone.unit("otto", Some(running(2)));
    }
}

#[test]
fn the_own_vendors_subjects_are_never_voted_on() {
    let mut alone = Alone::well();
    alone.unit("lior", Some(killed(1)));
    alone.unit("lior/agent", Some(killed(11)));
    alone.run(2_000);
    assert_eq!(alone.says("lior"), (DOWN, Some(FaultClass::Crash), Reason::Killed));
    assert_eq!(alone.votes(), []);
}

#[test]
fn the_operators_stop_and_what_cannot_be_seen_are_unknown() {
    let mut alone = Alone::well();
    alone.unit("otto", Some(UnitState { stop_requested: true, ..killed(2) }));
    assert_eq!(alone.says("otto"), (UNKNOWN, Some(FaultClass::Operator), Reason::Stopped));
    alone.unit("otto", None);
    assert_eq!(alone.says("otto"), (UNKNOWN, Some(FaultClass::Unknown), Reason::CannotSee));
    assert_eq!(alone.votes(), []);
}

#[test]
fn silence_of_a_stopped_wrapper_is_a_hang_after_two_missed_pings_and_within_900_ms() {
    let mut alone = Alone::well();
    alone.answering.remove(&subject("otto"));
    alone.run(550);
    assert_eq!(alone.word("otto").verdict, UP);
    alone.run(350);
    assert_eq!(alone.says("otto"), (DOWN, Some(FaultClass::Hang), Reason::PingSilent));
    let votes = alone.votes();
    assert_eq!((votes.len(), votes[0].class, votes[0].choice), (1, FaultClass::Hang, Choice::Approve));
    alone.answering.insert(subject("otto"), 2);
    alone.run(250);
    assert_eq!(alone.votes().last().unwrap().choice, Choice::Withdraw);
}

#[test]
fn silence_of_an_agent_is_a_hang_and_its_wrappers_answers_do_not_hide_it() {
    let mut alone = Alone::well();
    alone.speaking.remove("otto");
    alone.run(1_200);
    assert_eq!(alone.says("otto/agent"), (DOWN, Some(FaultClass::Hang), Reason::PingSilent));
    assert_eq!(alone.word("otto").verdict, UP);
    assert_eq!(alone.votes()[0].subject, subject("otto/agent"));
}

#[test]
fn answers_of_another_process_are_no_sign_of_life_and_no_fault() {
    let mut alone = Alone::well();
    alone.answering.insert(subject("otto"), 999);
    alone.run(5_000);
    assert_eq!(alone.says("otto"), (UNKNOWN, Some(FaultClass::Unknown), Reason::WrongPeer));
    assert_eq!(alone.votes(), []);
}

#[test]
fn a_persona_asleep_between_ticks_for_ten_minutes_is_up() {
    let mut alone = Alone::well();
    let idle = TickState { begun: 1, last: Some(tick(1, None, Reason::TickOk)), ..TickState::default() };
    alone.ticks("otto", 2, idle, None);
    alone.run(600_000);
    assert_eq!(alone.says("otto"), (UP, None, Reason::TickOk));
    let long = TickState { begun: 2, running_since: Some(Timestamp::ZERO), ..TickState::default() };
    alone.ticks("otto", 2, long, None);
    alone.run(60_000);
    assert_eq!(alone.word("otto").verdict, UP);
    assert_eq!(alone.votes(), []);
}

#[test]
fn ticks_that_are_read_are_no_sign_of_life() {
    let mut alone = Alone::well();
    alone.answering.remove(&subject("otto"));
    for _ in 0..10 {
        alone.run(100);
        alone.ticks("otto", 2, TickState::default(), None);
    }
    assert_eq!(alone.says("otto"), (DOWN, Some(FaultClass::Hang), Reason::PingSilent));
}

#[test]
fn a_quota_is_environment_with_its_time_and_never_voted() {
    let mut alone = Alone::well();
    let quota = tick(9, Some(FaultClass::Environment), Reason::Quota);
    alone.ticks("otto", 2, TickState { last: Some(quota), ..TickState::default() }, None);
    alone.run(10_000);
    assert_eq!(alone.says("otto"), (DOWN, Some(FaultClass::Environment), Reason::Quota));
    assert_eq!(alone.word("otto").resume_at, Some(1_900_000_000));
    assert!(alone.word("otto").counts_as_up());
    assert_eq!(alone.votes(), []);
}

#[test]
fn broken_needs_three_in_a_row_and_lives_only_by_being_read_again() {
    let mut alone = Alone::well();
    alone.ticks("otto", 2, broken(2), None);
    assert_eq!(alone.word("otto").verdict, UP);
    alone.ticks("otto", 2, broken(3), None);
    let read_at = Timestamp::from_nanos(alone.now * MS);
    alone.run(3_000);
    assert_eq!(alone.says("otto"), (DOWN, Some(FaultClass::Broken), Reason::TickFailed));
    assert_eq!(alone.word("otto").observed_at, read_at);
    assert_eq!(alone.votes().len(), 1);
    alone.ticks("otto", 2, broken(3), None);
    assert_eq!(alone.votes().len(), 1);
}

#[test]
fn broken_never_interrupts_a_running_tick() {
    let mut alone = Alone::well();
    alone.ticks("otto", 2, TickState { running_since: Some(Timestamp::ZERO), ..broken(3) }, None);
    assert_eq!(alone.word("otto").class, Some(FaultClass::Broken));
    assert_eq!(alone.votes(), []);
    alone.ticks("otto", 2, broken(4), None);
    assert_eq!(alone.votes().len(), 1);
}

#[test]
fn a_challenge_of_broken_is_answered_only_by_a_reading_made_for_it() {
    let mut alone = Alone::well();
    alone.ticks("otto", 2, broken(3), None);
    alone.votes();
    let challenge = Nonce([77; 16]);
    let asked = EpisodeStatement { challenge: Some(challenge), ..episode("otto", 2, 0, StateName::Challenged) };
    alone.publish(asked);
    let observe = GuardianEffect::Observe { subject: subject("otto"), challenge };
    assert_eq!(alone.out.iter().filter(|effect| **effect == observe).count(), 1);
    alone.ticks("otto", 2, broken(3), None);
    alone.ticks("otto", 2, broken(3), Some(Nonce([78; 16])));
    assert_eq!(alone.votes(), [], "neither reading was made for this challenge");
    alone.ticks("otto", 2, broken(3), Some(challenge));
    let votes = alone.votes();
    assert_eq!((votes.len(), votes[0].challenge), (1, Some(challenge)));
}

#[test]
fn a_challenged_reading_that_is_good_withdraws() {
    let mut alone = Alone::well();
    alone.ticks("otto", 2, broken(3), None);
    let challenge = Nonce([77; 16]);
    alone.publish(EpisodeStatement { challenge: Some(challenge), ..episode("otto", 2, 0, StateName::Challenged) });
    alone.votes();
    let good = TickState { last: Some(tick(4, None, Reason::TickOk)), ..TickState::default() };
    alone.ticks("otto", 2, good, Some(challenge));
    let votes = alone.votes();
    assert_eq!((votes.len(), votes[0].choice), (1, Choice::Withdraw));
}

#[test]
fn after_a_repair_for_broken_the_first_tick_that_ends_decides() {
    for (first, expected) in [
        (tick(1, Some(FaultClass::Broken), Reason::TickFailed), (DOWN, Some(FaultClass::Broken), Reason::TickFailed)),
        (tick(1, None, Reason::TickOk), (UP, None, Reason::TickOk)),
    ] {
        let mut alone = Alone::well();
        alone.ticks("otto", 2, broken(3), None);
        alone.publish(episode("otto", 5, 1, StateName::Settling));
        alone.start("otto", 5);
        alone.run(2_000);
        assert_eq!(alone.says("otto"), (UNKNOWN, Some(FaultClass::Unknown), Reason::Grace));
        alone.ticks("otto", 5, TickState { broken_in_a_row: 1, last: Some(first), ..TickState::default() }, None);
        assert_eq!(alone.says("otto"), expected);
    }
}

#[test]
fn a_vote_on_the_run_after_a_repair_for_broken_does_not_make_it_up_again() {
    let mut alone = Alone::well();
    alone.ticks("otto", 2, broken(3), None);
    alone.publish(episode("otto", 2, 0, StateName::Suspect));
    alone.publish(episode("otto", 5, 1, StateName::Settling));
    alone.start("otto", 5);
    alone.ticks("otto", 5, broken(1), None);
    alone.publish(episode("otto", 5, 1, StateName::Suspect));
    alone.run(1_000);
    assert_eq!(alone.says("otto"), (DOWN, Some(FaultClass::Broken), Reason::TickFailed));
}

/// Of a repair of the run 2 of otto, in its current episode.
fn receipt_for_broken(kind: ReceiptKind, at: Timestamp) -> Envelope {
    let current = episode("otto", 2, 0, StateName::Acting);
    let receipt = Receipt {
        cluster: current.cluster.clone(),
        node: current.node.clone(),
        boot: BOOT,
        warden: WardenInstance(1),
        seq: if kind == ReceiptKind::Intent { 40 } else { 41 },
        previous: Digest([4; 32]),
        kind,
        episode: current.id,
        round: current.round,
        rung: Rung(0),
        subject: subject("otto"),
        action: ActionKind::Restart,
        class: FaultClass::Broken,
        before: incarnation(2),
        after: None,
        outcome: None,
        detail: String::new(),
        certificate: None,
        intent: None,
        at,
        wall_ms: 0,
    };
    Envelope::seal(&receipt, &key("warden", 0), &Proto)
}

#[test]
fn a_repair_that_starts_no_new_process_is_judged_by_the_first_tick_after_it() {
    let mut alone = Alone::well();
    alone.ticks("otto", 2, broken(3), None);
    alone.publish(episode("otto", 2, 0, StateName::Suspect));
    alone.step(GuardianInput::FromWarden(receipt_for_broken(ReceiptKind::Intent, Timestamp::ZERO)));
    assert_eq!(alone.says("otto"), (DOWN, Some(FaultClass::Broken), Reason::TickFailed));
    let repaired_at = broken(3).last.unwrap().began_at;
    alone.step(GuardianInput::FromWarden(receipt_for_broken(ReceiptKind::Outcome, repaired_at)));
    assert_eq!(alone.says("otto"), (UNKNOWN, Some(FaultClass::Unknown), Reason::Grace));
    let mut later = tick(4, Some(FaultClass::Broken), Reason::TickFailed);
    later.began_at = repaired_at + Duration::from_nanos(1);
    alone.ticks("otto", 2, TickState { last: Some(later), ..broken(4) }, None);
    assert_eq!(alone.says("otto"), (DOWN, Some(FaultClass::Broken), Reason::TickFailed));
}

#[test]
fn a_guardian_that_did_not_vote_learns_from_the_receipt_that_the_repair_was_for_broken() {
    let mut alone = Alone::well();
    let receipt = receipt_for_broken(ReceiptKind::Intent, Timestamp::ZERO);
    alone.step(GuardianInput::FromWarden(receipt.clone()));
    assert!(alone.out.contains(&GuardianEffect::KeepReceipt(receipt.clone())));
    alone.publish(episode("otto", 5, 1, StateName::Settling));
    alone.start("otto", 5);
    alone.run(1_000);
    assert_eq!(alone.says("otto"), (UNKNOWN, Some(FaultClass::Unknown), Reason::Grace));
    alone.out.clear();
    alone.connect(11);
    assert!(alone.out.contains(&GuardianEffect::ReceiptToWarden(receipt)), "every new warden is shown the receipt");
}

#[test]
fn a_guardian_that_slept_accuses_nobody_of_its_own_silence() {
    let mut alone = Alone::well();
    alone.now += 60_000;
    for name in PERSONAS.map(|(name, _)| subject(name)) {
        alone.step(GuardianInput::PingSent { subject: name.clone() });
        alone.step(GuardianInput::PingSent { subject: name });
    }
    alone.step(GuardianInput::Timer);
    alone.answering.clear();
    alone.speaking.clear();
    alone.run(2_500);
    assert!(PERSONAS.iter().all(|(name, _)| alone.word(name).verdict != DOWN));
    assert_eq!(alone.votes(), []);
    alone.run(2_500);
    assert_eq!(alone.word("otto").class, Some(FaultClass::Hang), "but the grace ends");
}

#[test]
fn an_unwell_guardian_abstains_from_soft_evidence_but_not_from_pid_1s_word() {
    let mut alone = Alone::well();
    for _ in 0..8 {
        alone.step(GuardianInput::TimerLate(Duration::from_millis(300)));
    }
    assert_eq!(alone.says("otto"), (UNKNOWN, Some(FaultClass::Unknown), Reason::SelfUnwell));
    alone.unit("vera", Some(killed(3)));
    assert_eq!(alone.votes().len(), 1);
    alone.run(5_000);
    assert_eq!(alone.word("otto").verdict, UP, "punctual timers heal it");
}

#[test]
fn a_resume_from_suspend_grants_grace() {
    let mut alone = Alone::well();
    alone.answering.clear();
    alone.run(500);
    alone.step(GuardianInput::Resumed);
    alone.run(2_900);
    assert_ne!(alone.word("otto").verdict, DOWN);
}

#[test]
fn another_policy_or_roster_means_no_votes_and_says_so() {
    type Change = fn(EpisodeStatement) -> EpisodeStatement;
    let other_policy: Change = |e| EpisodeStatement { policy: Digest([1; 32]), ..e };
    let other_roster: Change = |e| EpisodeStatement { roster: Digest([1; 32]), ..e };
    for (change, reason) in [(other_policy, "policy_mismatch"), (other_roster, "roster_mismatch")] {
        let mut alone = Alone::well();
        alone.publish(change(episode("otto", 2, 1, StateName::Suspect)));
        alone.unit("otto", Some(killed(2)));
        assert!(alone.out.contains(&GuardianEffect::Event(GuardianEvent::Abstains { reason })));
        assert_eq!(alone.votes(), []);
    }
}

#[test]
fn episodes_of_another_signer_node_or_boot_are_refused() {
    let mut alone = Alone::well();
    let episode = episode("otto", 2, 1, StateName::Suspect);
    alone.step(GuardianInput::FromWarden(Envelope::seal(&episode, &persona_key("vera"), &Proto)));
    alone.publish(EpisodeStatement { node: NodeId::new("node2").unwrap(), ..episode.clone() });
    alone.publish(EpisodeStatement { boot: BootId([8; 16]), ..episode });
    assert_eq!(alone.rejected(), ["wrong_key", "wrong_node", "wrong_boot"]);
}

#[test]
fn without_a_session_nothing_is_signed() {
    let mut alone = Alone::new();
    alone.start("otto", 2);
    alone.publish(episode("otto", 2, 0, StateName::Healthy));
    alone.unit("otto", Some(killed(2)));
    alone.run(2_000);
    assert!(!alone.out.iter().any(|e| matches!(e, GuardianEffect::ToWarden(_) | GuardianEffect::Broadcast(_))));
}

#[test]
fn a_restart_of_the_warden_never_makes_a_correct_guardian_equivocate() {
    let mut alone = Alone::well();
    let mut said = BTreeMap::new();
    for number in 11..15 {
        alone.step(GuardianInput::WardenLost);
        alone.unit("otto", Some(killed(2)));
        alone.run(700);
        alone.connect(number);
        let mut anew = episode("otto", 2, 0, StateName::Healthy);
        anew.id = EpisodeId::new(WardenInstance(number), 1);
        alone.publish(anew);
        alone.run(700);
        alone.unit("otto", Some(running(2)));
        alone.run(300);
    }
    let key = VerifyingKey::new(session_key("lior").public()).unwrap();
    for effect in &alone.out {
        let (GuardianEffect::ToWarden(envelope) | GuardianEffect::Broadcast(envelope)) = effect else { continue };
        let Ok(statement) = GuardianStatement::open(envelope, &key, &Proto) else { continue };
        let header = statement.header();
        let known = said.entry(header.seq).or_insert(envelope.digest());
        assert_eq!(*known, envelope.digest(), "number {} was used twice", header.seq);
    }
    assert!(said.len() > 20);
    assert!(alone.votes().iter().any(|vote| vote.header.incarnation.to_string() == "1.14"));
}

#[test]
fn two_statements_with_one_number_are_proven_at_once_and_cost_the_liar_our_ear() {
    let mut alone = Alone::well();
    let seq = alone.speaking.remove("otto").unwrap() - 1;
    alone.peer("otto", heartbeat_of("otto", seq, 1, Vec::new()));
    assert_eq!(alone.proofs(), 1);
    assert!(alone.out.iter().any(|effect| matches!(effect, GuardianEffect::ProofToWarden(_))));
    alone.peer("otto", heartbeat_of("otto", seq + 1, 0, Vec::new()));
    assert_eq!(alone.rejected(), ["quarantined"]);
    alone.run(3_000);
    assert_eq!(alone.says("otto/agent"), (UNKNOWN, Some(FaultClass::Unknown), Reason::CannotSee));
    alone.out.clear();
    alone.peer("otto", mint("otto", &key("otto", 5), 21));
    let guilty = alone.guardian.view(Timestamp::ZERO).peers.iter().any(|peer| peer.guilty);
    assert!(!guilty, "a session that the warden mints afterwards ends it");
}

#[test]
fn a_lie_told_to_another_peer_is_fetched_and_proven_within_a_heartbeat() {
    let mut alone = Alone::well();
    let seq = alone.speaking["otto"] - 1;
    let lie = heartbeat_of("otto", seq, 1, Vec::new());
    let head = super::super::statement::Head {
        persona: persona("otto"),
        session_key: session_key("otto").public(),
        seq,
        digest: lie.digest(),
    };
    let next = alone.speaking["vera"];
    alone.peer("vera", heartbeat_of("vera", next, 0, vec![head]));
    let fetch = GuardianEffect::Fetch { from: persona("vera"), session_key: session_key("otto").public(), seq };
    assert!(alone.out.contains(&fetch));
    let session = mint("otto", &session_key("otto"), 20);
    alone.step(GuardianInput::Fetched { session, statement: lie });
    assert_eq!(alone.proofs(), 1);
}

#[test]
fn a_statement_that_the_warden_shows_is_compared_and_proves_what_it_contradicts() {
    let mut alone = Alone::well();
    let seq = alone.speaking["otto"] - 1;
    alone.step(GuardianInput::FromWarden(heartbeat_of("otto", seq, 0, Vec::new())));
    alone.step(GuardianInput::FromWarden(heartbeat_of("otto", seq + 50, 0, Vec::new())));
    assert_eq!((alone.proofs(), alone.rejected()), (0, vec![]));
    alone.step(GuardianInput::FromWarden(heartbeat_of("otto", seq, 1, Vec::new())));
    assert_eq!(alone.proofs(), 1);
}

#[test]
fn every_statement_of_a_peer_is_named_in_the_next_heartbeat_even_when_another_followed() {
    let mut alone = Alone::well();
    let next = alone.speaking.remove("otto").unwrap();
    for seq in next..next + 3 {
        alone.peer("otto", heartbeat_of("otto", seq, 0, Vec::new()));
    }
    alone.run(300);
    let key = VerifyingKey::new(session_key("lior").public()).unwrap();
    let named: Vec<u64> = alone
        .out
        .iter()
        .filter_map(|effect| match effect {
            GuardianEffect::Broadcast(envelope) => envelope.open::<Heartbeat>(&key, &Proto).ok(),
            _ => None,
        })
        .flat_map(|heartbeat| heartbeat.heads.clone())
        .filter(|head| head.persona == persona("otto"))
        .map(|head| head.seq)
        .collect();
    assert!((next..next + 3).all(|seq| named.contains(&seq)), "{named:?}");
    assert!(alone.guardian.held(&session_key("otto").public(), next).is_some(), "and a peer can fetch it");
}

#[test]
fn gaps_repetitions_and_late_statements_are_no_fault() {
    let mut alone = Alone::well();
    let next = alone.speaking.remove("otto").unwrap();
    for seq in [next + 10, next + 5, next + 5, next + 10, next + 11] {
        alone.peer("otto", heartbeat_of("otto", seq, 0, Vec::new()));
    }
    assert_eq!((alone.proofs(), alone.rejected()), (0, vec![]));
}

#[test]
fn a_proof_is_checked_before_it_counts_and_spread_once() {
    let mut alone = Alone::well();
    let session = mint("otto", &session_key("otto"), 20);
    let (first, second) = (heartbeat_of("otto", 500, 0, vec![]), heartbeat_of("otto", 500, 1, vec![]));
    let proof = EquivocationProof { session, first: first.clone(), second };
    for forged in [
        EquivocationProof { second: first.clone(), ..proof.clone() },
        EquivocationProof { second: heartbeat_of("otto", 501, 1, vec![]), ..proof.clone() },
        EquivocationProof { second: heartbeat_of("vera", 500, 1, vec![]), ..proof.clone() },
        EquivocationProof { session: mint("otto", &session_key("vera"), 20), ..proof.clone() },
    ] {
        alone.step(GuardianInput::ProofFromPeer(forged));
    }
    assert_eq!(alone.proofs(), 0);
    assert_eq!(alone.rejected(), ["bad_proof", "bad_proof", "wrong_key", "wrong_key"]);
    alone.step(GuardianInput::ProofFromPeer(proof.clone()));
    alone.step(GuardianInput::ProofFromPeer(proof));
    assert_eq!(alone.proofs(), 1);
}

#[test]
fn statements_of_another_author_key_or_connection_are_refused() {
    let mut alone = Alone::well();
    let next = alone.speaking["otto"];
    alone.peer("vera", heartbeat_of("otto", next, 0, Vec::new()));
    alone.peer("vera", mint("otto", &key("otto", 5), 30));
    alone.peer("otto", mint("otto", &key("otto", 5), 3));
    let mut forged = heartbeat_of("otto", next, 0, Vec::new());
    forged.signature[0] ^= 1;
    alone.peer("otto", forged);
    assert_eq!(alone.rejected(), ["wrong_key", "wrong_author", "stale_session", "bad_signature"]);
}

#[test]
fn the_timer_is_never_due_in_the_past() {
    let mut alone = Alone::well();
    alone.answering.clear();
    alone.speaking.clear();
    alone.unit("vera", Some(killed(3)));
    for _ in 0..2_000 {
        let before = alone.guardian.next_deadline().unwrap();
        alone.now = alone.now.max(before.as_nanos().div_ceil(MS));
        alone.step(GuardianInput::Timer);
        assert!(alone.guardian.next_deadline().unwrap().as_nanos() > alone.now * MS);
    }
}
