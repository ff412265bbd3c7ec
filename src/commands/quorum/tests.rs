//! Claims about what people read.

use super::*;
use crate::wire::v1::{ActionView, PersonaView, VerdictView, VoteView};

fn verdict(persona: &str, verdict: &str, class: Option<&str>) -> VerdictView {
    VerdictView {
        persona: persona.into(),
        verdict: verdict.into(),
        fault_class: class.map(Into::into),
        ..VerdictView::default()
    }
}

fn view() -> QuorumView {
    let personas = [("lior", "google-gemini", true), ("otto", "anthropic", true), ("vera", "openai", false)];
    let personas = personas.map(|(persona, vendor, live)| PersonaView {
        persona: persona.into(),
        vendor: vendor.into(),
        live,
        ..PersonaView::default()
    });
    let lior = SubjectView {
        name: "lior".into(),
        state: "held".into(),
        incarnation: "3f2a9c0100000000".into(),
        held_by: Some("operator".into()),
        reason: Some("operator_hold".into()),
        episode: "3.2".into(),
        budget: 4,
        verdicts: vec![verdict("otto", "DOWN", Some("CRASH"))],
        votes: vec![VoteView {
            persona: "otto".into(),
            vendor: "anthropic".into(),
            fault_class: "CRASH".into(),
            age_ms: 120,
            challenged: false,
        }],
        ..SubjectView::default()
    };
    let vera = SubjectView {
        name: "vera".into(),
        state: "healthy".into(),
        pid: Some(4711),
        incarnation: "77".into(),
        episode: "3.3".into(),
        budget: 5,
        verdicts: vec![verdict("lior", "UP", None), verdict("otto", "DOWN", Some("ENVIRONMENT"))],
        resume_at: Some("2026-11-23T15:00:00Z".into()),
        last_action: Some(ActionView {
            episode: "3.1".into(),
            rung: 0,
            action: "restart".into(),
            outcome: "ok".into(),
            at: "2026-11-23T14:00:00Z".into(),
            certificate: String::new(),
        }),
        ..SubjectView::default()
    };
    QuorumView {
        node: "n".into(),
        roster_epoch: 1,
        f: 1,
        threshold: 2,
        vendors_live: 2,
        status: "degraded".into(),
        margin: -1,
        subjects: vec![lior, vera],
        mode: "act".into(),
        verified: true,
        warden_instance: "3".into(),
        personas: personas.into(),
        notes: vec!["lior is held by uid 0 until released: upgrade\u{1b}[31m".into()],
        ..QuorumView::default()
    }
}

#[test]
fn people_read_the_status_first_then_what_is_missing_then_every_subject() {
    let wanted = "\
degraded: 2 of 3 vendors live, 2 must agree; one vote is missing to repair some subject
  lior is held by uid 0 until released: upgrade\u{fffd}[31m
node n, roster 1, f = 1, mode act, warden instance 3

SUBJECT  STATE    PID   INCARNATION  RUNG  LEFT  LIOR  OTTO         VERA
lior     held     -     3f2a9c01     0     4     -     CRASH        -
  held in episode 3.2 (operator hold), held by operator
  otto (anthropic) votes CRASH, 120 ms ago
vera     healthy  4711  77           0     5     up    ENVIRONMENT  -
  ENVIRONMENT: work can go on at 2026-11-23T15:00:00Z
  last: restart on rung 0, ok, 2026-11-23T14:00:00Z (episode 3.1)
";
    assert_eq!(render(&view()), wanted);
}

#[test]
fn the_exit_code_tells_the_status_and_an_unverified_view_is_no_answer() {
    let code = |verified, status: &str| exit_code(&QuorumView { verified, status: status.into(), ..view() });
    assert_eq!(["healthy", "degraded", "lost", "?"].map(|status| code(true, status)), [0, 1, 2, 3]);
    assert_eq!(code(false, "healthy"), 3);
    assert!(render(&QuorumView { verified: false, ..view() }).starts_with("degraded (unverified): "));
}

#[test]
fn the_json_of_a_view_has_the_names_of_the_contract() {
    let json: serde_json::Value = serde_json::to_value(view()).unwrap();
    let fields = ["node", "roster_epoch", "f", "threshold", "vendors_live", "status", "margin", "holds", "subjects"];
    assert!(fields.iter().all(|field| json.get(field).is_some()), "{json}");
    let subject = &json["subjects"][1];
    let fields = [
        "name",
        "kind",
        "vendor",
        "state",
        "incarnation",
        "pid",
        "rung",
        "fault_class",
        "verdicts",
        "votes",
        "last_action",
    ];
    assert!(fields.iter().all(|field| subject.get(field).is_some()), "{subject}");
    let fields = ["episode", "rung", "action", "outcome", "at", "certificate"];
    assert!(fields.iter().all(|field| subject["last_action"].get(field).is_some()), "{subject}");
    let fields = ["persona", "vendor", "verdict", "fault_class", "evidence", "age_ms"];
    assert!(fields.iter().all(|field| subject["verdicts"][0].get(field).is_some()), "{subject}");
}

#[test]
fn without_a_warden_and_agents_the_failure_says_so_with_exit_code_3() {
    let dir = tempfile::tempdir().unwrap();
    let paths = Paths::below(dir.path());
    let args = Args { subject: None, json: false, watch: false, connect: None, identity: None };
    let text = run(&paths, args).unwrap_err().to_string();
    assert!(text.contains("inspect.sock") && text.contains("hint: is it running?"), "{text}");
}

#[test]
fn agents_are_found_by_their_sockets() {
    let dir = tempfile::tempdir().unwrap();
    for name in ["agent-vera/agent.sock", "agent-otto/agent.sock", "warden/warden.sock", "agent-lior/metrics"] {
        let path = dir.path().join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, "").unwrap();
    }
    let expected = ["agent-otto/agent.sock", "agent-vera/agent.sock"].map(|name| dir.path().join(name));
    assert_eq!(agent_sockets(dir.path()), expected);
    assert!(agent_sockets(Path::new("/nonexistent")).is_empty());
}

/// A view may come from an agent that lies, when the warden is silent.
#[test]
fn nothing_that_a_liar_puts_into_a_view_moves_the_terminal_or_ends_the_command() {
    let evil = "\u{1b}]52;c;aGVsbG8=\u{7}\u{9b}2J".to_owned();
    let mut view = view();
    view.node.clone_from(&evil);
    view.notes.push(evil.clone());
    view.personas[0].persona.clone_from(&evil);
    view.subjects[0].name = evil.clone() + &"x".repeat(70_000);
    view.subjects[0].state.clone_from(&evil);
    view.subjects[0].reason = Some(evil.clone());
    view.subjects[1].verdicts.push(verdict(&evil, "DOWN", Some(&evil)));
    let text = render(&view);
    assert_eq!(text.lines().flat_map(str::chars).find(|c| c.is_control()), None, "{text:?}");
    let refused = Silence::Refused(Box::new(tonic::Status::not_found(evil)));
    assert_eq!(refused.to_string().chars().find(|c| c.is_control()), None);
}
