//! Where a condition begins and ends to hold, and what nobody saw.

use super::super::*;
use super::bench::*;
use crate::observe::k3s::Certificate;

/// With one more row of an operator's, which has a human called.
fn found_with(when: &str, look: &Look) -> Finding {
    let row =
        format!("[[faults]]\nname = \"ours\"\nwhen = {when}\nclass = \"ENVIRONMENT\"\npage = true\nsays = \"Ours.\"");
    Eye::new(judge_with(&row)).looks(4, look, &unit(UnitWord::Active))
}

fn holds(when: &str, look: &Look) -> bool {
    found_with(when, look).row == "ours"
}

fn status(code: u16, said: &str) -> Probe {
    Probe::Status { code, said: said.into() }
}

#[test]
fn a_condition_holds_from_its_bound_on() {
    let ending = |seconds| {
        let certificates = vec![Certificate { place: "x.crt".into(), is_ca: false, not_after: UNIX + seconds }];
        Look { certificates, ..well() }
    };
    assert!(holds("{ certificate_within = \"1h\" }", &ending(3600)));
    assert!(!holds("{ certificate_within = \"1h\" }", &ending(3601)));
    assert!(holds("{ certificate_within = \"0s\" }", &ending(0)));
    assert!(!holds("{ ca_within = \"1h\" }", &ending(0)), "one that signs nothing is no authority");
    let old = |seconds| Look { age: Some(Duration::from_secs(seconds)), ..well() };
    assert!(holds("{ older_than = \"5m\" }", &old(300)) && !holds("{ older_than = \"5m\" }", &old(299)));
    assert!(!holds("{ older_than = \"0s\" }", &Look { age: None, ..well() }));
    let room = |bytes, inodes| {
        let mut look = well();
        (look.mounts[0].free_bytes, look.mounts[0].free_inodes) = (bytes, inodes);
        look
    };
    let (bytes, inodes) = ("{ free_bytes_below = \"1KiB\" }", "{ free_inodes_below = 10 }");
    assert!(holds(bytes, &room(1023, 9)) && !holds(bytes, &room(1024, 9)));
    assert!(holds(inodes, &room(1023, 9)) && !holds(inodes, &room(1023, 10)));
    let others = |others| Look { others, ..well() };
    let half = "{ others_failing = 50 }";
    assert!(holds(half, &others((4, 2))) && !holds(half, &others((4, 1))) && !holds(half, &others((0, 0))));
}

#[test]
fn a_file_system_that_counts_no_files_never_runs_out_of_them() {
    let mut look = well();
    (look.mounts[0].free_inodes, look.mounts[0].inodes) = (0, 0);
    assert_eq!(found(&look).row, "well");
}

#[test]
fn what_was_not_seen_fulfils_nothing() {
    let unseen = Look {
        node_ready: None,
        certificates: Vec::new(),
        mounts: Vec::new(),
        clock_synchronised: None,
        others: (0, 0),
        ..well()
    };
    assert_eq!(found(&unseen).row, "well");
    assert!(!holds("{ node_ready = true }", &unseen) && !holds("{ node_ready = false }", &unseen));
    assert!(holds("{ clock = \"unknown\" }", &unseen) && !holds("{ clock = \"unsynchronised\" }", &unseen));
    assert!(!holds("{ others_failing = 1 }", &unseen) && !holds("{ certificate_within = \"9999d\" }", &unseen));
    // Of five ports four are well, and of the fifth nobody knows.
    let unable = Look { kubelet: Probe::Unable("no file descriptor".into()), ..well() };
    let finding = found(&unable);
    assert_eq!((finding.row.as_str(), finding.verdict, finding.page), (NO_ROW, Verdict::Unknown, false), "{finding}");
    let certificates = vec![Certificate { place: "x.crt".into(), is_ca: false, not_after: UNIX + DAY }];
    assert_eq!(found(&Look { certificates, ..unable }).act, Act::None, "nothing is planned in doubt");
}

#[test]
fn an_answer_is_one_of_few_words() {
    let livez = |livez| Look { livez, ..well() };
    let words = |look: &Look| -> Vec<&str> {
        let all = ["ok", "answers", "denied", "error", "refused", "timed-out", "fails", "stranger", "unable", "off"];
        all.into_iter().filter(|word| holds(&format!("{{ livez = \"{word}\" }}"), look)).collect()
    };
    let cases: [(Probe, &[&str]); 11] = [
        (status(200, ""), &["ok", "answers"]),
        (status(401, ""), &["answers", "denied"]),
        (status(403, ""), &["answers", "denied"]),
        (status(404, ""), &["answers", "denied"]),
        (status(429, ""), &["answers"]),
        (status(500, ""), &["answers", "error", "fails"]),
        (status(503, ""), &["answers", "error", "fails"]),
        (Probe::Refused, &["refused", "fails"]),
        (Probe::TimedOut, &["timed-out", "fails"]),
        (Probe::Unable("x".into()), &["unable"]),
        (Probe::Off, &["off"]),
    ];
    for (probe, expected) in cases {
        assert_eq!(words(&livez(probe.clone())), expected, "{probe:?}");
    }
}

#[test]
fn a_fatal_line_counts_while_anything_speaks_against_k3s() {
    let fatal = words(1, "level=fatal msg=\"Node password rejected\"");
    assert_eq!(found(&Look { fatal: fatal.clone(), ..well() }).row, "well");
    for doubtful in [
        Look { kubelet: Probe::TimedOut, ..well() },
        Look { livez: Probe::Stranger, ..well() },
        Look { readyz: status(500, ""), ..well() },
        // Nobody says anything good of it either.
        Look {
            ping: Probe::Off,
            livez: Probe::Off,
            readyz: Probe::Off,
            kubelet: Probe::Off,
            kube_proxy: Probe::Off,
            ..well()
        },
    ] {
        let finding = found(&Look { fatal: fatal.clone(), ..doubtful });
        assert_eq!((finding.row.as_str(), finding.act), ("token-or-password", Act::None), "{finding}");
    }
    // Nor does its return count against one that is well by now.
    let mut eye = Eye::new(judge_with(
        "[[faults]]\nname = \"ours\"\nwhen = { same_fatal = 1 }\nclass = \"ENVIRONMENT\"\npage = true\nsays = \"Ours.\"",
    ));
    assert_eq!(eye.looks(4, &Look { fatal, ..well() }, &unit(UnitWord::Active)).row, "well");
}

#[test]
fn checks_are_read_from_livez_and_from_readyz_and_by_their_beginning() {
    let look =
        Look { livez: status(500, "[-]poststarthook/a failed"), readyz: status(500, "[-]etcd failed"), ..well() };
    assert!(holds("{ checks_any = [\"poststarthook/a\"] }", &look) && holds("{ checks_any = [\"etcd\"] }", &look));
    assert!(holds("{ checks_any = [\"poststarthook/*\"] }", &look));
    assert!(!holds("{ checks_any = [\"poststarthook/\", \"etc\", \"livez/*\"] }", &look));
    assert!(!holds("{ checks_only = [\"etcd\"] }", &look));
    assert!(holds("{ checks_only = [\"etcd\", \"poststarthook/*\"] }", &look));
    assert!(!holds("{ checks_unnamed = true }", &look) && holds("{ checks_unnamed = true }", &well()));
}

#[test]
fn a_condition_that_something_is_not_so_can_be_written() {
    let empty = Look { empty_files: vec!["/x.key".into()], ..well() };
    assert!(holds("{ empty_files = true }", &empty) && !holds("{ empty_files = true }", &well()));
    assert!(holds("{ empty_files = false }", &well()) && !holds("{ empty_files = false }", &empty));
    let fatal = Look { fatal: words(1, "panic: x"), kubelet: Probe::TimedOut, ..well() };
    assert!(holds("{ fatal_line = false }", &well()) && !holds("{ fatal_line = false }", &fatal));
    assert!(holds("{ fatal_line = true }", &fatal) && !holds("{ fatal_line = true }", &well()));
    assert!(holds("{ in_window = true }", &well()) && !holds("{ in_window = false }", &well()));
}

#[test]
fn what_is_asked_of_the_api_server_is_asked_of_its_own_port_alone() {
    let strange = |change: fn(&mut Look)| {
        let mut look = well();
        change(&mut look);
        holds("{ api = \"stranger\" }", &look)
    };
    assert!(strange(|look| look.ping = Probe::Stranger));
    assert!(strange(|look| look.livez = Probe::Stranger));
    assert!(strange(|look| look.readyz = Probe::Stranger));
    assert!(!strange(|look| (look.kubelet, look.kube_proxy) = (Probe::Stranger, Probe::Stranger)));
}

#[test]
fn that_the_datastore_is_well_must_be_seen() {
    let (serves, not_seen) = ("{ datastore_well = true }", "{ datastore_well = false }");
    assert!(holds(serves, &well()) && !holds(not_seen, &well()));
    let denied = Look { readyz: status(401, ""), ..well() };
    assert!(holds(not_seen, &denied) && !holds(serves, &denied));
    assert!(holds(serves, &Look { others: (1, 0), ..denied.clone() }));
    assert!(holds(not_seen, &Look { others: (2, 1), ..denied }));
}

#[test]
fn a_row_is_for_the_role_that_it_names() {
    assert!(holds("{ role = \"server\", livez = \"ok\" }", &well()));
    assert!(!holds("{ role = \"agent\", livez = \"ok\" }", &well()));
}

#[test]
fn one_that_is_about_to_be_started_is_starting_and_has_not_ended() {
    let look = Look { age: None, ..silent() };
    let state = UnitState { job_pending: true, ..unit(UnitWord::Failed) };
    let finding = Eye::new(judge()).look(&look, &state);
    assert_eq!((finding.row.as_str(), finding.verdict), ("starting", Verdict::Unknown), "{finding}");
}

#[test]
fn a_short_wait_for_systemds_own_restart_is_systemds() {
    let due = well().at + Duration::from_secs(100);
    let wait = Activity::AutoRestart { due, wait: Duration::from_secs(1) };
    let state = UnitState { activity: wait, ..unit(UnitWord::AutoRestart) };
    let finding = Eye::new(judge()).look(&Look { age: None, ..silent() }, &state);
    assert_eq!((finding.withheld, finding.reason), (Some(Withheld::NotEnded), Reason::AutoRestart));
    assert_eq!(finding.act, Act::None);
}

#[test]
fn one_whose_age_is_not_known_is_in_doubt() {
    let finding = found(&Look { age: None, ..silent() });
    assert_eq!(finding.withheld, Some(Withheld::Doubt("its age".into())), "{finding}");
}

#[test]
fn an_operators_wish_is_hard_evidence() {
    for word in [UnitWord::Stopped, UnitWord::Masked, UnitWord::Missing, UnitWord::Frozen, UnitWord::Dependency] {
        let finding = Eye::new(judge()).look(&well(), &unit(word));
        assert_eq!((finding.class, finding.evidence), (Some(FaultClass::Operator), Evidence::Hard), "{finding}");
    }
    assert_eq!(found(&silent()).evidence, Evidence::Soft);
}
