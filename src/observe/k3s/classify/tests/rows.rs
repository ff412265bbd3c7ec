//! Every row: recorded looks, recorded fatal lines, and the table itself.

use super::super::super::table::BUILT_IN;
use super::super::super::when::failed_checks;
use super::super::*;
use super::bench::*;
use crate::observe::k3s::Certificate;
use serde::Deserialize;
use std::collections::{BTreeMap, BTreeSet};

const LOOKS: &str = include_str!("../../../../../tests/fixtures/k3s/looks.toml");
const LINES: &str = include_str!("../../../../../tests/fixtures/k3s/fatal-lines.toml");

#[derive(Deserialize)]
struct Looks {
    look: Vec<Recorded>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Recorded {
    design: String,
    #[serde(default)]
    role: String,
    unit: Option<String>,
    age: Option<u64>,
    #[serde(default)]
    ports: BTreeMap<String, String>,
    node_ready: Option<bool>,
    #[serde(default)]
    certificates: Vec<Ends>,
    #[serde(default)]
    empty_files: Vec<std::path::PathBuf>,
    free: Option<u64>,
    free_inodes: Option<u64>,
    clock: Option<String>,
    fatal: Option<String>,
    others: Option<(u32, u32)>,
    row: String,
    class: Option<String>,
    act: Option<String>,
    reason: Option<String>,
    #[serde(default)]
    page: bool,
    #[serde(default)]
    frozen: bool,
}

#[derive(Deserialize)]
struct Ends {
    place: String,
    #[serde(default)]
    ca: bool,
    days: i64,
}

fn probe(text: &str) -> Probe {
    match text {
        "off" => Probe::Off,
        "refused" => Probe::Refused,
        "timed-out" => Probe::TimedOut,
        "stranger" => Probe::Stranger,
        "unable" => Probe::Unable("no CA file".into()),
        status => {
            let (code, said) = status.split_once(' ').unwrap();
            Probe::Status { code: code.parse().unwrap(), said: said.into() }
        }
    }
}

impl Recorded {
    fn word(&self) -> UnitWord {
        self.unit.as_deref().map_or(UnitWord::Active, |word| UnitWord::from_word(word).expect(word))
    }

    fn look(&self) -> Look {
        let mut look = well();
        for (port, text) in &self.ports {
            let place = match port.as_str() {
                "ping" => &mut look.ping,
                "livez" => &mut look.livez,
                "readyz" => &mut look.readyz,
                "kubelet" => &mut look.kubelet,
                "kube_proxy" => &mut look.kube_proxy,
                other => panic!("no port {other}"),
            };
            *place = probe(text);
        }
        let runs = matches!(self.word(), UnitWord::Active | UnitWord::Activating);
        look.age = runs.then(|| Duration::from_secs(self.age.unwrap_or(3600)));
        look.node_ready = self.node_ready.or(look.node_ready);
        if !self.certificates.is_empty() {
            let ends = |end: &Ends| UNIX.saturating_add_signed(end.days * 24 * 3600);
            let read = |end: &Ends| Certificate { place: end.place.clone(), is_ca: end.ca, not_after: ends(end) };
            look.certificates = self.certificates.iter().map(read).collect();
        }
        look.empty_files.clone_from(&self.empty_files);
        look.mounts[0].free_bytes = self.free.unwrap_or(look.mounts[0].free_bytes);
        look.mounts[0].free_inodes = self.free_inodes.unwrap_or(look.mounts[0].free_inodes);
        look.clock_synchronised = match self.clock.as_deref() {
            Some("unknown") => None,
            Some(word) => Some(word == "synchronised"),
            None => look.clock_synchronised,
        };
        look.fatal = self.fatal.as_ref().and_then(|line| words(1, line));
        look.others = self.others.unwrap_or_default();
        look
    }
}

#[test]
fn every_recorded_look_is_what_the_design_says() {
    let Looks { look: recorded } = toml::from_str(LOOKS).unwrap();
    for recorded in recorded {
        let role = if recorded.role == "agent" { Role::Agent } else { Role::Server };
        let mut eye = Eye::new(judge_of(role));
        let finding = eye.looks(4, &recorded.look(), &unit(recorded.word()));
        let class = finding.class.map(|class| class.as_str().to_owned());
        let about = format!("{}: {finding}", recorded.design);
        assert_eq!((&finding.row, &class), (&recorded.row, &recorded.class), "{about}");
        assert_eq!(finding.act.as_str(), recorded.act.as_deref().unwrap_or("none"), "{about}");
        assert_eq!((finding.page, finding.frozen), (recorded.page, recorded.frozen), "{about}");
        if let Some(reason) = &recorded.reason {
            assert_eq!(finding.reason.as_str(), reason, "{about}");
        }
        assert_eq!(finding.withheld, None, "{about}");
        let votable = matches!(finding.class, Some(FaultClass::Crash | FaultClass::Broken));
        assert_eq!(finding.is_votable(), votable, "{about}");
        assert_eq!(finding.verdict == Verdict::Up, finding.class.is_none(), "{about}");
    }
}

#[derive(Deserialize)]
struct Lines {
    line: Vec<Line>,
}

#[derive(Deserialize)]
struct Line {
    row: String,
    reason: Option<String>,
    from: String,
    text: String,
}

#[test]
fn every_recorded_fatal_line_is_known_for_what_it_is() {
    let Lines { line: lines } = toml::from_str(LINES).unwrap();
    for Line { row, reason, from, text } in lines {
        let mut eye = Eye::new(judge());
        let ended = |number: u8, fatal: &str| {
            let look = Look { age: None, run: Some(run(number)), fatal: words(number, fatal), ..silent() };
            (look, UnitState { incarnation: run(number), ..unit(UnitWord::AutoRestart) })
        };
        let mut last = None;
        for number in 1..=2 {
            let (look, state) = ended(number, &text);
            last = Some(eye.look(&look, &state));
        }
        let last = last.unwrap();
        assert_eq!(last.row, row, "{from}: {text}\n{last}");
        assert!(reason.is_none_or(|reason| last.reason.as_str() == reason), "{last}: {}", last.reason);
        assert!(last.page && !last.is_votable(), "{last}");
        let look = Look { run: Some(run(3)), fatal: words(2, text), ..well() };
        let well = eye.look(&look, &UnitState { incarnation: run(3), ..unit(UnitWord::Active) });
        assert_eq!(well.row, "well", "an old line says nothing of one that is well");
    }
}

/// Rows that one run's end is not enough for: what it ran into may be gone by itself.
const TWICE: [&str; 5] = ["no-network", "port-taken", "servers-unreachable", "certificate-refused", "same-fatal-again"];
/// Rows of a datastore that is to be copied before anybody touches it.
const COPIED: [&str; 3] = ["sqlite-damaged", "etcd-damaged", "etcd-quota-used-up"];

#[test]
fn a_known_fatal_line_keeps_every_row_from_a_restart() {
    let Lines { line: lines } = toml::from_str(LINES).unwrap();
    let restarting = "[[faults]]\nname = \"ours\"\nwhen = { unit = [\"failed\", \"auto-restart\"] }\nclass = \"CRASH\"\nact = \"restart\"\nsays = \"Ours.\"";
    let bold = std::sync::Arc::new(judge_with(restarting));
    for Line { row, text, .. } in lines {
        let look = Look { age: None, fatal: words(1, &text), ..silent() };
        let [ours, theirs] =
            [judge(), bold.clone()].map(|judge| Eye::new(judge).look(&look, &unit(UnitWord::AutoRestart)));
        if TWICE.contains(&row.as_str()) {
            assert_eq!((ours.row.as_str(), ours.page), ("systemd-restarts-it", false), "{text}\n{ours}");
            assert_eq!(theirs.row, "ours", "{text}");
            continue;
        }
        let act = if COPIED.contains(&row.as_str()) { Act::CopyAside } else { Act::None };
        for found in [ours, theirs] {
            assert_eq!((&found.row, found.act, found.page), (&row, act, true), "{text}\n{found}");
            assert_eq!((found.class, found.withheld.as_ref()), (Some(FaultClass::Environment), None), "{text}");
        }
    }
}

/// What an operator's row that would restart at any failing port becomes.
fn yielded(look: &Look, word: UnitWord) -> String {
    let rows = "[[faults]]\nname = \"ours\"\nwhen = { ping = [\"fails\", \"stranger\"] }\nclass = \"BROKEN\"\nact = \"restart\"\nsays = \"x\"";
    Eye::new(judge_with(rows)).looks(4, look, &unit(word)).row
}

#[test]
fn what_keeps_a_repair_from_doing_harm_wins_over_an_operators_row() {
    let (starts, runs) = (UnitWord::Activating, UnitWord::Active);
    assert_eq!(yielded(&silent(), runs), "ours");
    let mut full = silent();
    full.mounts[0].free_inodes = 999;
    assert_eq!(yielded(&full, runs), "inodes-used-up");
    full.mounts[0].free_inodes = 1000;
    assert_eq!(yielded(&full, runs), "ours");
    full.mounts[0].free_bytes = (64 << 20) - 1;
    assert_eq!(yielded(&full, runs), "disk-full");
    full.mounts[0].free_bytes = 64 << 20;
    assert_eq!(yielded(&full, runs), "ours");
    let stranger = Look { ping: Probe::Stranger, ..silent() };
    assert_eq!(yielded(&stranger, runs), "stranger");
    let ended = vec![Certificate { place: "port 6443".into(), is_ca: false, not_after: UNIX }];
    let expired = Look { certificates: ended.clone(), ..stranger };
    assert_eq!(yielded(&expired, runs), "certificate-ended-unseen");
    assert_eq!(yielded(&Look { clock_synchronised: None, ..expired }, runs), "stranger", "who knows the time?");
    assert_eq!(yielded(&Look { certificates: ended, ..silent() }, runs), "ours", "k3s that is silent renews it");
    for word in [starts, runs] {
        assert_eq!(yielded(&Look { clock_synchronised: Some(false), ..silent() }, word), "clock-unsynchronised");
        assert_eq!(yielded(&Look { others: (2, 1), ..silent() }, word), "others-fail-too");
        assert_eq!(yielded(&Look { others: (100, 49), ..silent() }, word), "ours", "most of the others are well");
    }
}

#[test]
fn the_operators_wish_has_one_row_and_a_refused_preflight_another() {
    for word in [UnitWord::Stopped, UnitWord::Disabled, UnitWord::Masked, UnitWord::Missing, UnitWord::Frozen] {
        let finding = Eye::new(judge()).look(&well(), &unit(word));
        assert_eq!((finding.row.as_str(), finding.page), ("left-alone", false), "{word}");
    }
    let refused = Eye::new(judge()).look(&well(), &unit(UnitWord::Dependency));
    assert_eq!((refused.row.as_str(), refused.page), ("preflight-refused", true));
}

#[test]
fn a_start_is_ended_after_a_quarter_of_an_hour_and_where_the_datastore_is_seen_to_serve() {
    let row = |look: Look| Eye::new(judge()).looks(4, &look, &unit(UnitWord::Activating)).row;
    let aged = |seconds, others| Look { age: Some(Duration::from_secs(seconds)), others, ..silent() };
    assert_eq!((row(aged(899, (2, 0))), row(aged(900, (2, 0)))), ("starting".into(), "starts-for-ever".into()));
    // Such as the first of three servers after a power cut: it waits for the second.
    assert_eq!(row(aged(100_000, (0, 0))), "starts-long");
    assert_eq!(row(aged(900, (2, 1))), "others-fail-too");
    let says = |code, said: &str, others| {
        let readyz = Probe::Status { code, said: said.into() };
        row(Look { readyz, ..aged(900, others) })
    };
    assert_eq!(says(500, "[-]poststarthook/x failed: reason withheld", (0, 0)), "starts-for-ever");
    assert_eq!(says(200, "ok", (0, 0)), "starts-for-ever");
    let both = "[-]etcd failed: reason withheld\n[-]poststarthook/x failed: reason withheld";
    assert_eq!(says(500, both, (2, 0)), "starts-long", "its own word about its datastore counts more than others'");
    assert_eq!(says(500, "[-]etcd failed: reason withheld", (2, 0)), "datastore-refuses");
    for (code, said) in [(503, "not ready"), (401, "Unauthorized")] {
        assert_eq!(says(code, said, (0, 0)), "starts-long", "{said}");
    }
    let livez = Probe::Status { code: 500, said: "[-]poststarthook/x failed: reason withheld".into() };
    assert_eq!(row(Look { livez, ..aged(900, (0, 0)) }), "starts-long", "livez is asked without its datastore");
}

#[test]
fn the_built_in_rows_are_well_formed_and_each_is_reached() {
    let rows = crate::config::faults::read(BUILT_IN, "faults.toml").unwrap_or_else(|error| panic!("{error}"));
    assert!(rows.len() > 30);
    let Looks { look: looks } = toml::from_str(LOOKS).unwrap();
    let Lines { line: lines } = toml::from_str(LINES).unwrap();
    let reached: BTreeSet<_> = looks.iter().map(|look| &look.row).chain(lines.iter().map(|line| &line.row)).collect();
    // Each of these has a test of its own.
    let elsewhere = ["ends-again-and-again", "ending", "kubelet-gone", "ping-fails"];
    for row in &rows {
        assert!(reached.contains(&row.name) || elsewhere.contains(&row.name.as_str()), "nothing reaches {}", row.name);
        assert!(row.act == Act::None || !row.page || row.class == Some(FaultClass::Environment), "{}", row.name);
    }
}

#[test]
fn what_needs_no_look_of_its_own_is_reached_as_well() {
    let ending = Eye::new(judge()).look(&well(), &unit(UnitWord::Stopping));
    assert_eq!((ending.row.as_str(), ending.reason, ending.page), ("ending", Reason::Stopping, false));
    let ping = found(&Look { ping: Probe::Refused, ..well() });
    assert_eq!((ping.row.as_str(), ping.is_votable()), ("ping-fails", false));
    let mut eye = Eye::new(judge());
    let mut end = |number: u8, word| {
        let look = Look { age: None, run: Some(run(number)), ..silent() };
        eye.look(&look, &UnitState { incarnation: run(number), ..unit(word) })
    };
    let words: Vec<_> = (1..=5).map(|number| end(number, UnitWord::Failed).row).collect();
    assert_eq!(words, ["ended", "ended", "ended", "ended", "ends-again-and-again"]);
    let sixth = end(6, UnitWord::AutoRestart);
    assert_eq!((sixth.row.as_str(), sixth.page, sixth.is_votable()), ("ends-again-and-again", true, false));
}

#[test]
fn the_checks_that_fail_are_read_from_the_body_of_a_refusal_alone() {
    let body = "[+]ping ok\n[-]etcd failed: reason withheld\n[-]poststarthook/x failed\n[-]\n[-]etcd failed\nreadyz check failed\n";
    let failed = |code| failed_checks(&Look { readyz: Probe::Status { code, said: body.into() }, ..well() });
    assert_eq!(failed(500), ["etcd", "poststarthook/x"]);
    assert!(failed(200).is_empty() && failed(401).is_empty());
}

#[test]
fn a_datastore_that_fails_beside_something_else_is_no_excuse() {
    let said = "[-]etcd failed: reason withheld\n[-]poststarthook/x failed: reason withheld\nreadyz check failed\n";
    let finding = found(&Look { readyz: Probe::Status { code: 500, said: said.into() }, ..well() });
    assert_eq!((finding.row.as_str(), finding.act), ("api-not-ready", Act::Restart), "{finding}");
}

fn refusal(code: u16, said: &str) -> Probe {
    Probe::Status { code, said: said.into() }
}

#[test]
fn a_livez_that_fails_and_names_no_check_is_for_a_human() {
    let disabled = r#"{"kind":"Status","status":"Failure","message":"apiserver disabled","reason":"ServiceUnavailable","code":503}"#;
    let row = "api-not-alive-unexplained";
    for refused in [refusal(503, disabled), refusal(500, "internal error"), refusal(502, "")] {
        for readyz in [refused.clone(), Probe::TimedOut, ok()] {
            let finding = found(&Look { livez: refused.clone(), readyz, ..well() });
            let class = Some(FaultClass::Unknown);
            assert_eq!((finding.row.as_str(), finding.class, finding.page), (row, class, true), "{finding}");
            assert_eq!((finding.act, finding.withheld.as_ref()), (Act::None, None), "{finding}");
        }
    }
    assert!(!judge().table().row(row).unwrap().ignorable, "without it the member would be restarted");
    let named = refusal(500, "[-]poststarthook/x failed: reason withheld\nlivez check failed");
    assert_eq!(found(&Look { livez: named, ..well() }).row, "api-not-alive");
}

#[test]
fn a_kms_that_is_away_is_no_reason_for_a_restart() {
    let bold = "[[faults]]\nname = \"ours\"\nwhen = { livez = \"fails\" }\nclass = \"BROKEN\"\nact = \"restart\"\nsays = \"x\"";
    let bold = std::sync::Arc::new(judge_with(bold));
    let failing = |names: &[&str]| {
        let lines: String = names.iter().map(|name| format!("[-]{name} failed: reason withheld\n")).collect();
        refusal(500, &format!("[+]ping ok\n{lines}livez check failed\n"))
    };
    for name in ["kms-provider-0", "kms-provider-11", "kms-providers"] {
        // What reads encrypted objects fails as well where it starts meanwhile, and the datastore may be away with it.
        for more in [vec![name], vec![name, "informer-sync", "poststarthook/x"], vec!["etcd", name]] {
            let look = Look { livez: failing(&[name]), readyz: failing(&more), others: (2, 0), ..well() };
            for (judge, word) in
                [(judge(), UnitWord::Active), (bold.clone(), UnitWord::Active), (judge(), UnitWord::Activating)]
            {
                let finding = Eye::new(judge).looks(4, &look, &unit(word));
                let class = Some(FaultClass::Environment);
                assert_eq!((finding.row.as_str(), finding.class, finding.page), ("kms-away", class, true), "{finding}");
                assert_eq!((finding.act, finding.withheld.as_ref()), (Act::None, None), "{finding}");
            }
            let ended = Eye::new(judge()).look(&Look { age: None, ..look }, &unit(UnitWord::Failed));
            assert_eq!(ended.row, "ended", "PID 1's word counts");
        }
    }
    assert_eq!(found(&Look { livez: failing(&["kms"]), ..well() }).row, "api-not-alive");
}

#[test]
fn a_start_whose_every_port_is_well_is_not_ended() {
    let off = || Look { ping: Probe::Off, livez: Probe::Off, readyz: Probe::Off, ..well() };
    for (role, look) in [(Role::Server, well()), (Role::Agent, off())] {
        let starts = |look| Eye::new(judge_of(role)).looks(4, &look, &unit(UnitWord::Activating));
        let look = Look { others: (2, 0), ..look };
        let finding = starts(look.clone());
        assert_eq!((finding.row.as_str(), finding.page), ("starts-long", true), "{finding}");
        assert!(!finding.is_votable(), "{finding}");
        let fails = starts(Look { kubelet: Probe::Refused, ..look });
        assert_eq!((fails.row.as_str(), fails.act), ("starts-for-ever", Act::Restart), "{fails}");
    }
}
