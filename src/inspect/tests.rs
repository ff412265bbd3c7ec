use super::receipts::Receipts;
use super::*;
use crate::protocol::evidence::{Evidence, ExitZero, Reason, Verdict};
use crate::protocol::policy::{SubjectPolicy, Timing};
use crate::protocol::roster::fixture::{PERSONAS, cluster, key, node, persona, roster, subject, vendor};
use crate::protocol::statement::{ActionKind, Envelope, Outcome, Receipt, ReceiptKind};
use crate::protocol::types::{BootId, Digest, EpisodeId, Incarnation, Round, Rung, SessionIncarnation, WardenInstance};
use crate::wire::{Proto, decode_envelope};
use std::collections::BTreeMap;

const SECOND: Duration = Duration::from_secs(1);

fn now() -> Timestamp {
    Timestamp::from_nanos(100_000_000_000)
}

fn policy() -> Policy {
    let subjects = PERSONAS.map(|(name, of)| {
        let policy = SubjectPolicy {
            kind: SubjectKind::Wrapper(persona(name)),
            vendor: Some(vendor(of)),
            unit: format!("zeta-{name}.service"),
            uid: None,
            exit_zero: ExitZero::Operator,
            ladder: Policy::persona_ladder(),
            budget: Policy::PERSONA_BUDGET,
        };
        (subject(name), policy)
    });
    Policy {
        digest: Digest::default(),
        mode: Mode::Act,
        subjects: BTreeMap::from(subjects),
        node_per_day: Policy::NODE_PER_DAY,
        drill: false,
        timing: Timing::default(),
    }
}

fn said(name: &str, verdict: Verdict, class: Option<FaultClass>) -> Attestation {
    Attestation {
        subject: subject(name),
        incarnation: Incarnation::default(),
        verdict,
        class,
        evidence: Evidence::Soft,
        reason: Reason::Running,
        observation: Digest::default(),
        observed_at: now() - Duration::from_millis(120),
        resume_at: None,
    }
}

fn healthy(name: &str) -> SubjectStatus {
    SubjectStatus {
        subject: subject(name),
        state: StateName::Healthy,
        held_by: None,
        reason: "",
        episode: EpisodeId::new(WardenInstance(1), 4),
        round: Round(0),
        rung: Rung(0),
        incarnation: Incarnation::default(),
        pid: Some(42),
        class: None,
        verdicts: PERSONAS
            .iter()
            .filter(|(other, _)| *other != name)
            .map(|(other, _)| (persona(other), said(name, Verdict::Up, None)))
            .collect(),
        votes: Vec::new(),
        budget: 5,
        deadline: None,
        margin: 0,
        since: now() - SECOND,
    }
}

fn live(name: &str, of: &str) -> PersonaStatus {
    PersonaStatus {
        persona: persona(name),
        vendor: vendor(of),
        session: Some(SessionIncarnation::new(WardenInstance(1), 2)),
        heartbeat_at: Some(now() - Duration::from_millis(90)),
        live: true,
        quarantined: false,
        health: 0,
        policy_matches: Some(true),
    }
}

fn all_well() -> WardenView {
    WardenView {
        instance: WardenInstance(1),
        personas: PERSONAS.iter().map(|(name, of)| live(name, of)).collect(),
        subjects: PERSONAS.iter().map(|(name, _)| healthy(name)).collect(),
        vendors_live: 3,
        holds: Vec::new(),
        journal_damage: None,
        frozen_until: None,
    }
}

fn shown(view: &WardenView) -> v1::QuorumView {
    shown_by(view, &policy(), true)
}

fn shown_by(view: &WardenView, policy: &Policy, isolation: bool) -> v1::QuorumView {
    quorum(view, Background { roster: &roster(), policy, isolation, now: now() }, None, |_| None)
}

#[test]
fn a_committee_that_is_well_is_healthy_and_has_nothing_to_note() {
    let view = shown(&all_well());
    assert_eq!((view.status.as_str(), view.vendors_live, view.threshold, view.f), ("healthy", 3, 2, 1));
    assert_eq!((view.node.as_str(), view.mode.as_str(), view.verified), ("node1", "act", true));
    assert_eq!(view.notes, Vec::<String>::new());
    let otto = &view.subjects[1];
    assert_eq!(
        (otto.name.as_str(), otto.kind.as_str(), otto.vendor.as_deref()),
        ("otto", "persona", Some("anthropic"))
    );
    assert_eq!((otto.state.as_str(), otto.pid, otto.budget, otto.episode.as_str()), ("healthy", Some(42), 5, "1.4"));
    assert_eq!(otto.verdicts[0].vendor, "google-gemini");
    assert_eq!((otto.verdicts[0].verdict.as_str(), otto.verdicts[0].age_ms), ("UP", 120));
    assert_eq!(view.personas[0].heartbeat_age_ms, Some(90));
}

#[test]
fn a_silent_vendor_degrades_and_two_lose_the_quorum() {
    let mut view = all_well();
    view.personas[2].live = false;
    view.personas[2].heartbeat_at = Some(now() - Duration::from_millis(3200));
    view.vendors_live = 2;
    view.subjects[0].margin = -1;
    let one = shown(&view);
    assert_eq!((one.status.as_str(), one.margin), ("degraded", -1));
    assert!(one.notes.contains(&"vera has not been heard for 3.2 s".to_owned()), "{:?}", one.notes);
    assert!(one.notes.iter().any(|note| note.starts_with("lior could not be repaired now")), "{:?}", one.notes);

    view.personas[0].live = false;
    view.personas[0].session = None;
    view.vendors_live = 1;
    let two = shown(&view);
    assert_eq!(two.status, "lost");
    assert!(two.notes[0].starts_with("no quorum: 1 of 3 vendors live, 2 must agree"), "{:?}", two.notes);
    assert!(two.notes.contains(&"lior has no session: its agent is not connected".to_owned()), "{:?}", two.notes);
}

#[test]
fn an_environment_fault_degrades_and_shows_when_work_can_go_on() {
    let mut view = all_well();
    let quota = Attestation {
        reason: Reason::Quota,
        resume_at: Some(1_800_000_000),
        ..said("otto", Verdict::Up, Some(FaultClass::Environment))
    };
    view.subjects[1].verdicts = vec![(persona("vera"), quota)];
    let view = shown(&view);
    assert_eq!(view.status, "degraded");
    assert_eq!(view.subjects[1].resume_at.as_deref(), Some("2027-01-15T08:00:00Z"));
    assert_eq!(
        view.notes,
        ["otto is kept from its work by its surroundings: quota (by vera); work can go on at 2027-01-15T08:00:00Z"]
    );
}

#[test]
fn a_hold_says_by_whom_and_why_and_until_when() {
    let mut view = all_well();
    let hold =
        HoldStatus { subject: Some(subject("lior")), uid: 0, reason: "upgrade".into(), until: Some(1_800_000_000) };
    view.holds.push(hold);
    view.subjects[0].state = StateName::Held;
    view.subjects[0].held_by = Some(HeldBy::Operator);
    let view = shown(&view);
    assert_eq!(view.status, "degraded");
    assert_eq!(view.notes, ["lior is held by uid 0 until 2027-01-15T08:00:00Z: upgrade"]);
    assert_eq!(view.subjects[0].held_by.as_deref(), Some("operator"));
    assert_eq!(view.holds[0].until.as_deref(), Some("2027-01-15T08:00:00Z"));
}

#[test]
fn whatever_weakens_the_committee_by_choice_is_said_without_degrading_it() {
    let policy = Policy { mode: Mode::Observe, drill: true, ..policy() };
    let view = shown_by(&all_well(), &policy, false);
    assert_eq!(
        (view.status.as_str(), view.mode.as_str(), view.drill, view.isolation),
        ("healthy", "observe", true, false)
    );
    assert_eq!(
        view.notes,
        [
            "mode observe: nothing is touched",
            "drill: budgets and cool-downs are lifted",
            "isolation off: personas share a user, and one could stop another or read its key"
        ]
    );
}

#[test]
fn a_view_that_only_grew_older_is_no_news() {
    let (roster, policy, view) = (roster(), policy(), all_well());
    let at = |now| quorum(&view, Background { roster: &roster, policy: &policy, isolation: true, now }, None, |_| None);
    let (early, late) = (at(now()), at(now() + SECOND));
    assert_ne!(early, late);
    assert_eq!(without_ages(&early), without_ages(&late));
    let mut other = view.clone();
    other.subjects[0].state = StateName::Suspect;
    assert_ne!(without_ages(&shown(&other)), without_ages(&shown(&view)));
}

#[test]
fn one_subject_alone_can_be_asked_for() {
    let (roster, policy) = (roster(), policy());
    let background = Background { roster: &roster, policy: &policy, isolation: true, now: now() };
    let view = quorum(&all_well(), background, Some(&subject("vera")), |_| None);
    assert_eq!(view.subjects.iter().map(|s| s.name.as_str()).collect::<Vec<_>>(), ["vera"]);
}

#[test]
fn every_state_has_a_sentence() {
    let (roster, policy) = (roster(), policy());
    let background = Background { roster: &roster, policy: &policy, isolation: true, now: now() };
    for state in StateName::ALL {
        let status =
            SubjectStatus { state: *state, deadline: Some(now() + SECOND), reason: "some_reason", ..healthy("otto") };
        let sentence = summary(&status, background);
        assert!(sentence.starts_with("otto ") && sentence.ends_with('.') && !sentence.contains('_'), "{sentence}");
    }
}

/// A receipt about `otto`.
pub(crate) fn receipt(seq: u64, kind: ReceiptKind, intent: Option<u64>) -> Envelope {
    detailed_receipt(seq, kind, intent, "")
}

fn detailed_receipt(seq: u64, kind: ReceiptKind, intent: Option<u64>, detail: &str) -> Envelope {
    let receipt = Receipt {
        cluster: cluster(),
        node: node(),
        boot: BootId::default(),
        warden: WardenInstance(1),
        seq,
        previous: Digest::default(),
        kind,
        episode: EpisodeId::new(WardenInstance(1), 4),
        round: Round(0),
        rung: Rung(0),
        subject: subject("otto"),
        action: ActionKind::Restart,
        class: FaultClass::Crash,
        before: Incarnation::default(),
        after: None,
        outcome: (kind == ReceiptKind::Outcome).then_some(Outcome::Ok),
        detail: detail.to_owned(),
        certificate: None,
        intent,
        at: now(),
        wall_ms: 1_800_000_000_123,
    };
    Envelope::seal(&receipt, &key("warden"), &Proto)
}

#[test]
fn an_action_is_told_once_with_both_of_its_receipts_and_only_when_it_is_on_the_disk() {
    let mut receipts = Receipts::default();
    let (intent, outcome) = (receipt(7, ReceiptKind::Intent, None), receipt(9, ReceiptKind::Outcome, Some(7)));
    receipts.insert(intent.clone());
    receipts.insert(outcome.clone());
    receipts.insert(outcome.clone());
    assert_eq!(receipts.ended(0, 8, |_| true).count(), 0, "not durable yet");
    assert_eq!(receipts.ended(9, 9, |_| true).count() + receipts.ended(9, 8, |_| true).count(), 0, "told before");
    let told: Vec<_> = receipts.ended(0, 9, |_| true).collect();
    assert_eq!(told.len(), 1);
    let entry = &told[0];
    assert_eq!((entry.seq, entry.kind.as_str(), entry.outcome.as_deref()), (9, "OUTCOME", Some("ok")));
    assert_eq!(entry.at, "2027-01-15T08:00:00.123Z");
    let decoded = |text: &str| decode_envelope(&data_encoding::BASE64.decode(text.as_bytes()).unwrap()).unwrap();
    assert_eq!(decoded(&entry.receipt), outcome);
    assert_eq!(decoded(entry.intent.as_ref().unwrap()), intent);

    let last = receipts.last_action(9, &subject("otto")).unwrap();
    assert_eq!((last.action.as_str(), last.outcome.as_str()), ("restart", "ok"));
    assert_eq!(last.certificate, intent.digest().to_string());
    assert!(receipts.last_action(9, &subject("vera")).is_none());
}

#[test]
fn receipts_at_hand_are_bounded_and_the_newest_stay() {
    let mut receipts = Receipts::default();
    let last = Receipts::CAPACITY as u64 + 10;
    for seq in 1..=last {
        receipts.insert(receipt(seq, ReceiptKind::Abort, None));
    }
    let told: Vec<_> = receipts.ended(0, u64::MAX, |_| true).collect();
    assert_eq!((told.len(), told.last().unwrap().seq), (Receipts::CAPACITY, last));
}

#[test]
fn however_much_was_done_an_explanation_fits_into_one_message() {
    use prost::Message as _;
    let mut receipts = Receipts::default();
    let last = Receipts::CAPACITY as u64;
    for seq in 1..=last {
        receipts.insert(detailed_receipt(seq, ReceiptKind::Abort, None, &"x".repeat(Receipt::MAX_DETAIL)));
    }
    let room = crate::grpc::MAX_MESSAGE / 2;
    let told = receipts.newest_ended(u64::MAX, room, |_| true);
    assert!(told.len() > 1 && told.is_sorted_by_key(|entry| entry.seq));
    assert_eq!(told.last().unwrap().seq, last);
    let explanation = v1::Explanation { receipts: told, ..v1::Explanation::default() };
    assert!(explanation.encoded_len() <= room, "{} bytes", explanation.encoded_len());
}

#[test]
fn a_time_beyond_all_calendars_is_a_number_and_no_panic() {
    assert_eq!(rfc3339_s(u64::MAX), u64::MAX.to_string());
    assert_eq!(rfc3339_ms(0), "1970-01-01T00:00:00Z");
}
