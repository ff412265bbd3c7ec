use super::*;
use crate::protocol::evidence::{ExitZero, FaultClass, Reason, TickEnd};
use crate::protocol::policy::{Mode, Policy, SubjectKind, SubjectPolicy, Timing};
use crate::protocol::statement::{ActionKind, Outcome, StateName};
use crate::protocol::types::{Digest, EpisodeId, PersonaId, SubjectName};
use crate::protocol::warden::WardenEvent;
use crate::wire::v1::{HoldView, PersonaView, QuorumView, SubjectView, VerdictView};
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

/// A strict reader of text format 0.0.4: what `promtool check metrics` insists on, and a little more.
struct Scrape {
    kinds: BTreeMap<String, String>,
    samples: BTreeMap<String, f64>,
}

impl Scrape {
    fn read(text: &str) -> Self {
        let (mut kinds, mut samples) = (BTreeMap::new(), BTreeMap::new());
        let (mut helped, mut current) = (BTreeSet::new(), None::<(String, String)>);
        assert!(text.ends_with('\n'));
        for line in text.lines() {
            if let Some(rest) = line.strip_prefix("# HELP ") {
                let (name, words) = rest.split_once(' ').expect("HELP has words");
                assert!(helped.insert(name.to_owned()), "{name}: HELP twice");
                assert!(!words.is_empty());
                current = None;
            } else if let Some(rest) = line.strip_prefix("# TYPE ") {
                let (name, kind) = rest.split_once(' ').expect("TYPE has a kind");
                assert!(["counter", "gauge", "histogram"].contains(&kind), "{line}");
                assert!(helped.contains(name), "{name}: HELP must come before TYPE");
                assert!(kinds.insert(name.to_owned(), kind.to_owned()).is_none(), "{name}: TYPE twice");
                assert_eq!(kind == "counter", name.ends_with("_total"), "{name}");
                assert!(!name.ends_with("_info") || kind == "gauge", "{name}");
                current = Some((name.to_owned(), kind.to_owned()));
            } else {
                assert!(!line.starts_with('#'), "no other comments: {line}");
                let (series, value) = line.rsplit_once(' ').expect("a sample has a value");
                let value = value.parse::<f64>().expect("a number");
                let name = series.split('{').next().unwrap_or(series);
                let (family, kind) = current.as_ref().expect("samples follow their TYPE");
                let suffix = name.strip_prefix(family.as_str()).expect("samples of one family stand together");
                match kind.as_str() {
                    "histogram" => assert!(["_bucket", "_sum", "_count"].contains(&suffix), "{line}"),
                    _ => assert!(suffix.is_empty(), "{line}"),
                }
                if suffix == "_bucket" {
                    assert!(series.contains("le=\""), "{line}");
                }
                assert!(samples.insert(series.to_owned(), value).is_none(), "{series} twice");
            }
        }
        for (name, _) in kinds.iter().filter(|(_, kind)| *kind == "histogram") {
            let infinite = samples.get(&format!("{name}_bucket{{le=\"+Inf\"}}")).expect("+Inf");
            assert_eq!(samples.get(&format!("{name}_count")), Some(infinite));
            assert!(samples.contains_key(&format!("{name}_sum")));
        }
        assert_eq!(helped.len(), kinds.len());
        Self { kinds, samples }
    }

    fn value(&self, series: &str) -> f64 {
        *self.samples.get(series).unwrap_or_else(|| panic!("{series} is missing from {:#?}", self.samples.keys()))
    }
}

fn personas() -> Vec<PersonaId> {
    ["lior", "otto", "vera"].map(|name| PersonaId::new(name).unwrap()).into()
}

fn policy() -> Policy {
    let subject = |kind| SubjectPolicy {
        kind,
        vendor: None,
        unit: "unit".into(),
        uid: None,
        exit_zero: ExitZero::Fault,
        ladder: Policy::persona_ladder(),
        budget: Policy::PERSONA_BUDGET,
    };
    let subjects = personas()
        .into_iter()
        .flat_map(|p| {
            [
                (SubjectName::wrapper(&p), subject(SubjectKind::Wrapper(p.clone()))),
                (SubjectName::agent(&p), subject(SubjectKind::Agent(p))),
            ]
        })
        .collect();
    Policy {
        digest: Digest::default(),
        mode: Mode::Act,
        subjects,
        node_per_day: Policy::NODE_PER_DAY,
        drill: false,
        timing: Timing::default(),
    }
}

fn otto() -> SubjectName {
    SubjectName::new("otto").unwrap()
}

#[test]
fn every_family_of_the_warden_is_there_from_the_start() {
    let scrape = Scrape::read(&WardenMetrics::new(&policy(), &personas(), true).exposition().render(Format::Text));
    for (name, kind) in [
        ("zeta_bft_subject_state", "gauge"),
        ("zeta_bft_verdict", "gauge"),
        ("zeta_bft_peer_last_heartbeat_timestamp_seconds", "gauge"),
        ("zeta_bft_quorum_vendors_live", "gauge"),
        ("zeta_bft_quorum_threshold", "gauge"),
        ("zeta_bft_votes_total", "counter"),
        ("zeta_bft_statements_rejected_total", "counter"),
        ("zeta_bft_repairs_total", "counter"),
        ("zeta_bft_repairs_refused_total", "counter"),
        ("zeta_bft_repair_duration_seconds", "histogram"),
        ("zeta_bft_detection_seconds", "histogram"),
        ("zeta_bft_repair_budget_remaining", "gauge"),
        ("zeta_bft_equivocations_total", "counter"),
        ("zeta_bft_held", "gauge"),
        ("zeta_bft_pages_total", "counter"),
        ("zeta_bft_build_info", "gauge"),
    ] {
        assert_eq!(scrape.kinds.get(name).map(String::as_str), Some(kind), "{name}");
        let begin = |series: &&String| series.split('{').next().unwrap().starts_with(name);
        assert!(scrape.samples.keys().any(|series| begin(&series)), "{name} has no sample");
    }
    assert_eq!(scrape.value(r#"zeta_bft_repairs_total{subject="otto/agent",action="restart",result="ok"}"#), 0.0);
    assert_eq!(scrape.value(r#"zeta_bft_repair_budget_remaining{subject="otto"}"#), 5.0);
}

#[test]
fn every_family_of_an_agent_and_a_wrapper_is_there_from_the_start() {
    let agent = Scrape::read(&AgentMetrics::new(&policy(), &personas(), true).exposition().render(Format::Text));
    for name in [
        "zeta_bft_verdict",
        "zeta_bft_peer_last_heartbeat_timestamp_seconds",
        "zeta_bft_peer_last_progress_timestamp_seconds",
        "zeta_bft_votes_total",
        "zeta_bft_statements_rejected_total",
        "zeta_bft_equivocations_total",
        "zeta_bft_self_health_score",
    ] {
        assert!(agent.kinds.contains_key(name), "{name}");
    }
    assert_eq!(agent.value(r#"zeta_bft_votes_total{subject="otto",kind="APPROVE"}"#), 0.0);

    let metrics = WrapperMetrics::new();
    metrics.tick_began();
    metrics.tick_ended(&TickEnd {
        number: 1,
        began_at: crate::clock::now(),
        duration: Duration::from_millis(20),
        exit_code: Some(1),
        signal: None,
        fault: Some(FaultClass::Environment),
        reason: Reason::Quota,
        resume_at: Some(1_719_500_000),
    });
    let wrapper = Scrape::read(&metrics.exposition().render(Format::Text));
    assert_eq!(wrapper.value(r#"zeta_bft_ticks_total{result="environment"}"#), 1.0);
    assert_eq!(wrapper.value(r#"zeta_bft_ticks_total{result="good"}"#), 0.0);
    assert_eq!(wrapper.value("zeta_bft_tick_duration_seconds_count"), 1.0);
    assert_eq!(wrapper.value("zeta_bft_tick_running"), 0.0);
    assert_eq!(wrapper.value("zeta_bft_tick_resume_timestamp_seconds"), 1_719_500_000.0);
}

#[test]
fn events_and_views_reach_their_series() {
    let metrics = WardenMetrics::new(&policy(), &personas(), true);
    metrics.on_event(&WardenEvent::Repaired {
        subject: otto(),
        action: ActionKind::Restart,
        outcome: Outcome::Ok,
        took: Duration::from_millis(30),
        detection: Duration::from_millis(4),
    });
    metrics.on_event(&WardenEvent::StateChanged {
        subject: otto(),
        from: StateName::Healthy,
        to: StateName::Suspect,
        episode: EpisodeId(1),
        reason: "down",
    });
    let scrape = Scrape::read(&metrics.exposition().render(Format::Text));
    assert_eq!(scrape.value(r#"zeta_bft_repairs_total{subject="otto",action="restart",result="ok"}"#), 1.0);
    assert_eq!(scrape.value(r#"zeta_bft_repair_duration_seconds_bucket{le="0.05"}"#), 1.0);
    assert_eq!(scrape.value(r#"zeta_bft_subject_state{subject="otto",state="suspect"}"#), 1.0);
    assert_eq!(scrape.value(r#"zeta_bft_subject_state{subject="otto",state="healthy"}"#), 0.0);

    let verdict = VerdictView { verdict: "DOWN".into(), ..VerdictView::default() };
    metrics.set_view(&QuorumView {
        vendors_live: 3,
        threshold: 2,
        holds: vec![HoldView { subject: Some("otto".into()), ..HoldView::default() }],
        subjects: vec![SubjectView {
            name: "otto".into(),
            state: "held".into(),
            budget: 4,
            verdicts: vec![verdict.clone(), verdict],
            ..SubjectView::default()
        }],
        personas: vec![PersonaView { persona: "vera".into(), heartbeat_age_ms: Some(1500), ..PersonaView::default() }],
        ..QuorumView::default()
    });
    let scrape = Scrape::read(&metrics.exposition().render(Format::Text));
    assert_eq!(scrape.value("zeta_bft_quorum_vendors_live"), 3.0);
    assert_eq!(scrape.value(r#"zeta_bft_verdict{subject="otto",verdict="DOWN"}"#), 2.0);
    assert_eq!(scrape.value(r#"zeta_bft_held{subject="otto"}"#), 1.0);
    assert_eq!(scrape.value(r#"zeta_bft_held{subject="vera"}"#), 0.0);
    assert_eq!(scrape.value(r#"zeta_bft_repair_budget_remaining{subject="otto"}"#), 4.0);
    let beat = scrape.value(r#"zeta_bft_peer_last_heartbeat_timestamp_seconds{persona="vera"}"#);
    let now = crate::clock::unix().as_secs_f64();
    assert!((0.5..60.0).contains(&(now - beat)), "{now} {beat}");
}

#[test]
fn a_word_outside_its_closed_set_never_becomes_a_label() {
    let metrics = WardenMetrics::new(&policy(), &personas(), true);
    let before = metrics.exposition().render(Format::Text).lines().count();
    let stranger = SubjectName::new("stranger").unwrap();
    metrics.on_event(&WardenEvent::Rejected { reason: "a new reason", persona: None });
    metrics.on_event(&WardenEvent::Refused { subject: stranger.clone(), reason: "another" });
    metrics.on_event(&WardenEvent::VoteCounted { subject: stranger, persona: personas()[0].clone(), kind: "APPROVE" });
    metrics.on_event(&WardenEvent::Equivocated { persona: PersonaId::new("mallory").unwrap() });
    metrics.on_page("something new", "otto");
    let text = metrics.exposition().render(Format::Text);
    assert_eq!(text.lines().count(), before);
    let scrape = Scrape::read(&text);
    assert_eq!(scrape.value(r#"zeta_bft_statements_rejected_total{reason="other"}"#), 1.0);
    assert_eq!(scrape.value(r#"zeta_bft_repairs_refused_total{reason="other"}"#), 1.0);
    assert_eq!(scrape.value(r#"zeta_bft_pages_total{cause="other"}"#), 1.0);
}

#[test]
fn open_metrics_is_given_to_those_who_prefer_it() {
    for (accept, format) in [
        ("", Format::Text),
        ("*/*", Format::Text),
        ("text/plain; version=0.0.4", Format::Text),
        ("application/openmetrics-text", Format::OpenMetrics),
        (
            "application/openmetrics-text;version=1.0.0;escaping=allow-utf-8;q=0.6,text/plain;version=0.0.4;q=0.3,*/*;q=0.2",
            Format::OpenMetrics,
        ),
        ("application/openmetrics-text;q=0.1, text/plain;q=0.9", Format::Text),
        ("application/openmetrics-text;q=0", Format::Text),
        ("application/openmetrics-text;q=rubbish", Format::Text),
    ] {
        assert_eq!(Format::preferred(accept), format, "{accept}");
    }
    let text = WrapperMetrics::new().exposition().render(Format::OpenMetrics);
    assert!(text.ends_with("# EOF\n"));
    assert!(text.contains("# TYPE zeta_bft_ticks counter"));
}

/// The words that the state machines use, found in their source: a new one must not end as `other` unnoticed.
#[test]
fn every_word_of_the_state_machines_is_in_its_closed_set() {
    let mut source = String::new();
    let mut folders = vec![std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("src/protocol")];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else if !path.ends_with("tests.rs") {
                source += &std::fs::read_to_string(path).unwrap();
            }
        }
    }
    for (call, set) in [
        (r#"\breject\((?:[^";]{0,60}else \{ )?"([a-z_]+)""#, REJECTED),
        (r#"\bRejected \{ reason: "([a-z_]+)""#, REJECTED),
        (r#"\brefused\([^";]{0,60}"([a-z_]+)""#, REFUSED),
        (r#"\bpage\(\s*"([a-z_]+)""#, PAGES),
    ] {
        let words: BTreeSet<_> =
            regex::Regex::new(call).unwrap().captures_iter(&source).map(|found| found[1].to_owned()).collect();
        for word in &words {
            assert!(set.contains(&word.as_str()), "`{word}` ({call}) is missing from its closed set");
        }
    }
}

#[test]
fn whether_personas_share_a_user_is_shown_by_warden_and_agents() {
    for isolation in [true, false] {
        let line = format!("\nzeta_bft_isolation {}\n", u8::from(isolation));
        for text in [
            WardenMetrics::new(&policy(), &personas(), isolation).exposition().render(Format::Text),
            AgentMetrics::new(&policy(), &personas(), isolation).exposition().render(Format::Text),
        ] {
            assert!(text.contains(&line) && text.contains("# HELP zeta_bft_isolation 1 when"), "{text}");
        }
    }
}
