//! What takes time: the grace, looks in a row, runs in a row, windows; and an operator's rows.

use super::super::*;
use super::bench::*;
use crate::observe::k3s::Certificate;
use crate::protocol::types::Incarnation;

#[test]
fn nothing_follows_from_probes_before_so_many_looks_in_a_row() {
    let mut eye = Eye::new(judge());
    let active = unit(UnitWord::Active);
    for seen in 1..=2 {
        let finding = eye.look(&silent(), &active);
        assert_eq!(finding.withheld, Some(Withheld::FewLooks { seen, wanted: 3 }));
        assert_eq!((finding.verdict, finding.reason, finding.page), (Verdict::Unknown, Reason::ProbeFailed, false));
    }
    assert!(eye.look(&silent(), &active).is_votable());
    eye.look(&well(), &active);
    assert!(!eye.look(&silent(), &active).is_votable(), "one that was well ends the row");
    let unseen = Look { livez: Probe::Unable("no CA file".into()), ..silent() };
    eye.looks(2, &silent(), &active);
    eye.look(&unseen, &active);
    assert!(!eye.look(&silent(), &active).is_votable(), "one that saw nothing ends it, too");
}

#[test]
fn a_probe_that_could_not_be_made_leaves_doubt_and_is_named() {
    // An operator's row that would restart at anything is held back as well.
    let rows = "[[faults]]\nname = \"ours\"\nwhen = { any = \"fails\" }\nclass = \"BROKEN\"\nact = \"restart\"\nsays = \"Ours.\"";
    for port in Port::ALL {
        let mut look = silent();
        let probe = match port {
            Port::Ping => &mut look.ping,
            Port::Livez => &mut look.livez,
            Port::Readyz => &mut look.readyz,
            Port::Kubelet => &mut look.kubelet,
            Port::KubeProxy => &mut look.kube_proxy,
        };
        *probe = Probe::Unable("no CA file".into());
        let finding = Eye::new(judge_with(rows)).looks(5, &look, &unit(UnitWord::Active));
        assert_eq!(finding.withheld, Some(Withheld::Doubt(format!("{port} cannot be asked: no CA file"))));
        assert_eq!(
            (finding.verdict, finding.class, finding.page),
            (Verdict::Unknown, Some(FaultClass::Unknown), false)
        );
    }
}

#[test]
fn a_young_run_is_left_alone_and_its_looks_do_not_count() {
    let mut eye = Eye::new(judge());
    let young = |seconds| Look { age: Some(Duration::from_secs(seconds)), ..silent() };
    for seconds in [0, 60, 119] {
        let finding = eye.look(&young(seconds), &unit(UnitWord::Active));
        assert!(matches!(finding.withheld, Some(Withheld::Grace { .. })), "{finding}");
        assert_eq!((finding.reason, finding.page), (Reason::Grace, false));
    }
    assert!(!eye.look(&young(120), &unit(UnitWord::Active)).is_votable());
    assert!(eye.looks(2, &young(125), &unit(UnitWord::Active)).is_votable());
    // What only shows the datastore on its way up is no fault either.
    let said = "[-]etcd failed: reason withheld\nreadyz check failed";
    let datastore = Look { readyz: Probe::Status { code: 500, said: said.into() }, ..young(10) };
    let finding = Eye::new(judge()).looks(4, &Look { livez: ok(), ping: ok(), ..datastore }, &unit(UnitWord::Active));
    assert_eq!((finding.verdict, finding.page), (Verdict::Unknown, false), "{finding}");
}

#[test]
fn a_new_run_begins_a_new_row() {
    let mut eye = Eye::new(judge());
    eye.looks(3, &silent(), &unit(UnitWord::Active));
    let next = Look { run: Some(run(2)), ..silent() };
    let state = UnitState { incarnation: run(2), ..unit(UnitWord::Active) };
    assert!(!eye.looks(2, &next, &state).is_votable());
    assert!(eye.look(&next, &state).is_votable());
}

#[test]
fn a_look_at_another_run_or_at_none_shows_nothing() {
    for run in [None, Some(Incarnation::default())] {
        let finding = Eye::new(judge()).looks(4, &Look { run, ..silent() }, &unit(UnitWord::Active));
        assert_eq!((finding.row.as_str(), finding.verdict), (NO_ROW, Verdict::Unknown));
        let stopped = Eye::new(judge()).look(&Look { run, ..silent() }, &unit(UnitWord::Stopped));
        assert_eq!(stopped.class, Some(FaultClass::Operator), "the operator's wish needs no look");
    }
}

#[test]
fn an_end_is_judged_by_a_look_that_was_taken_after_it() {
    let state = unit(UnitWord::Failed);
    let look = well();
    let judged = |since| {
        let unit = Unit { state: &state, since, exit_zero: ExitZero::Operator };
        judge().classify(look.at + Duration::from_secs(9), &look, unit, &History::default())
    };
    let too_old = judged(look.at + Duration::from_millis(1));
    assert_eq!((too_old.withheld, too_old.reason), (Some(Withheld::TooOld), Reason::CannotSee));
    let finding = judged(look.at);
    assert_eq!((finding.class, finding.reason), (Some(FaultClass::Crash), Reason::Killed), "{finding}");
    assert_eq!(finding.evidence, Evidence::Hard);
}

#[test]
fn a_job_of_somebody_elses_comes_first() {
    let state = UnitState { job_pending: true, ..unit(UnitWord::Active) };
    let finding = Eye::new(judge()).looks(5, &silent(), &state);
    assert_eq!((finding.withheld, finding.reason), (Some(Withheld::JobPending), Reason::JobPending));
}

#[test]
fn the_same_fatal_line_after_a_restart_stops_the_ladder() {
    let mut eye = Eye::new(judge());
    let ended = |number: u8, second: u32| {
        let fatal = format!("time=\"2026-01-01T00:00:{second:02}Z\" level=fatal msg=\"leaderelection lost for k3s\"");
        let look = Look { age: None, run: Some(run(number)), fatal: words(number, fatal), ..silent() };
        (look, UnitState { incarnation: run(number), ..unit(UnitWord::Failed) })
    };
    let (look, state) = ended(1, 1);
    let first = eye.look(&look, &state);
    assert_eq!((first.row.as_str(), first.act), ("ended", Act::Restart), "{first}");
    let (look, state) = ended(2, 9);
    let second = eye.look(&look, &state);
    assert_eq!((second.row.as_str(), second.act, second.page), ("same-fatal-again", Act::None, true), "{second}");
    // An operator's row that would have something done keeps its class, and stops as well.
    let mut eye = Eye::new(judge_with(
        "[[faults]]\nname = \"ours\"\nwhen = { unit = \"failed\", fatal = 'leaderelection lost' }\nclass = \"CRASH\"\nact = \"restart\"\nsays = \"Slow disk.\"",
    ));
    let (look, state) = ended(1, 1);
    assert_eq!(eye.look(&look, &state).row, "ours");
    let (look, state) = ended(2, 9);
    let second = eye.look(&look, &state);
    assert!(!second.is_votable() && second.page, "{second}");
}

#[test]
fn a_certificate_that_a_planned_restart_did_not_renew_is_not_tried_again() {
    let mut eye = Eye::new(judge());
    let soon = |number: u8, days: u64| {
        let certificates = vec![Certificate { place: "port 6443".into(), is_ca: false, not_after: UNIX + days * DAY }];
        let look = Look { certificates, run: Some(run(number)), ..well() };
        (look, UnitState { incarnation: run(number), ..unit(UnitWord::Active) })
    };
    let (look, state) = soon(1, 20);
    assert!(eye.looks(3, &look, &state).is_votable());
    let (look, state) = soon(2, 20);
    let again = eye.looks(3, &look, &state);
    assert!(matches!(again.withheld, Some(Withheld::CameBack { .. })), "{again}");
    assert_eq!((again.class, again.act, again.page), (Some(FaultClass::Broken), Act::None, true));
    assert!(!again.is_votable() && again.noted().asked.is_none(), "{again}");
    let (look, state) = soon(2, 10);
    assert!(eye.looks(3, &look, &state).is_votable(), "another certificate is another cause");
}

#[test]
fn a_crash_in_between_is_no_planned_restart() {
    let mut eye = Eye::new(judge());
    let certificates = vec![Certificate { place: "port 6443".into(), is_ca: false, not_after: UNIX + 20 * DAY }];
    let soon = |number: u8| {
        let look = Look { certificates: certificates.clone(), run: Some(run(number)), ..well() };
        (look, UnitState { incarnation: run(number), ..unit(UnitWord::Active) })
    };
    let (look, state) = soon(1);
    assert!(eye.looks(3, &look, &state).is_votable());
    // Before anybody did it, k3s ended by itself.
    eye.look(&Look { age: None, ..look }, &UnitState { incarnation: run(1), ..unit(UnitWord::AutoRestart) });
    let (look, state) = soon(2);
    assert!(eye.looks(3, &look, &state).is_votable(), "it was never done");
    // It is being stopped, and started anew.
    eye.look(&look, &UnitState { incarnation: run(2), ..unit(UnitWord::Stopping) });
    let (look, state) = soon(3);
    let again = eye.looks(3, &look, &state);
    assert!(matches!(again.withheld, Some(Withheld::CameBack { .. })), "{again}");
}

/// A run that has ended over an empty file.
fn empty(number: u8, file: &str) -> (Look, UnitState) {
    let empty_files = vec![format!("/var/lib/rancher/k3s/agent/{file}").into()];
    let look = Look { age: None, empty_files, run: Some(run(number)), ..silent() };
    (look, UnitState { incarnation: run(number), ..unit(UnitWord::Failed) })
}

#[test]
fn a_key_that_is_empty_again_after_it_was_gone_is_not_moved_again() {
    let mut eye = Eye::new(judge());
    for number in 1..=7 {
        let (look, state) = empty(number, "client.key");
        let finding = eye.looks(3, &look, &state);
        assert_eq!(
            (finding.row.as_str(), finding.act),
            ("empty-key-ended", Act::MoveAside),
            "nobody moved it: {finding}"
        );
    }
    let (look, state) = empty(7, "client.key");
    eye.look(&Look { empty_files: Vec::new(), ..look }, &state);
    let (look, state) = empty(8, "client.key");
    let again = eye.look(&look, &state);
    assert!(matches!(again.withheld, Some(Withheld::CameBack { .. })) && again.page, "{again}");
    assert_eq!((again.row.as_str(), again.act), ("empty-key-ended", Act::None));
    let (look, state) = empty(8, "other.key");
    assert_eq!(eye.look(&look, &state).act, Act::MoveAside, "another file is another cause");
}

#[test]
fn the_same_fatal_line_keeps_no_empty_key_from_being_moved() {
    let mut eye = Eye::new(judge());
    for number in 1..=6 {
        let (look, state) = ended_by(number, number.into(), "missing content for serving cert");
        let (Look { empty_files, .. }, _) = empty(number, "serving-kubelet.key");
        let finding = eye.look(&Look { empty_files, ..look }, &state);
        assert_eq!((finding.row.as_str(), finding.is_votable()), ("empty-key-ended", true), "run {number}: {finding}");
    }
}

#[test]
fn a_kubelet_port_that_never_answered_in_this_run_is_no_reason_for_a_restart() {
    let mut eye = Eye::new(judge());
    let refuses = |number: u8| {
        let look = Look { kubelet: Probe::Refused, run: Some(run(number)), ..well() };
        (look, UnitState { incarnation: run(number), ..unit(UnitWord::Active) })
    };
    let (look, state) = refuses(1);
    let never = eye.looks(4, &look, &state);
    assert_eq!((never.row.as_str(), never.page, never.is_votable()), ("kubelet-refuses", true, false), "{never}");
    eye.look(&well(), &state);
    let gone = eye.looks(3, &look, &state);
    assert_eq!((gone.row.as_str(), gone.is_votable()), ("kubelet-gone", true), "{gone}");
    let (look, state) = refuses(2);
    assert_eq!(
        eye.looks(4, &look, &state).row,
        "kubelet-refuses",
        "what answered in the run before says nothing of this"
    );
    let ignored = vec!["kubelet-refuses".to_owned()];
    let judge = Judge::new(&K3sConfig { ignored, ..K3sConfig::new(Role::Server) });
    assert!(!Eye::new(judge).looks(4, &look, &state).is_votable(), "left out, it is no reason either");
}

/// A run that ended by this line, at this second.
fn ended_by(number: u8, second: u32, what: &str) -> (Look, UnitState) {
    let fatal = format!("time=\"2026-01-01T00:00:{second:02}Z\" level=fatal msg=\"{what}\"");
    let look = Look { age: None, run: Some(run(number)), fatal: words(number, fatal), ..silent() };
    (look, UnitState { incarnation: run(number), ..unit(UnitWord::Failed) })
}

/// systemd starts it again and again, and it takes the others a while to see it too: the copy is asked for until it is made.
#[test]
fn the_same_fatal_line_keeps_no_damaged_datastore_from_being_copied() {
    let mut eye = Eye::new(judge());
    for number in 1..=6 {
        let (look, state) = ended_by(number, number.into(), "database disk image is malformed");
        let finding = eye.look(&look, &state);
        assert_eq!((finding.row.as_str(), finding.act), ("sqlite-damaged", Act::CopyAside), "run {number}: {finding}");
    }
}

const MALFORMED: &str = "level=fatal msg=\"starting kubernetes: database disk image is malformed\"";

#[test]
fn the_last_words_of_a_cured_run_are_not_held_against_the_end_of_the_next() {
    let state = UnitState { incarnation: run(2), ..unit(UnitWord::Failed) };
    let killed = Look { age: None, run: Some(run(2)), fatal: words(1, MALFORMED), ..silent() };
    let finding = Eye::new(judge()).look(&killed, &state);
    assert_eq!((finding.row.as_str(), finding.act), ("ended", Act::Restart), "{finding}");
    // Nor are they when PID 1 speaks of the end before it is looked at again.
    let young = Look { age: Some(Duration::from_secs(5)), ..killed.clone() };
    let finding = Eye::new(judge()).look(&young, &state);
    assert_eq!(finding.row, "ended", "{finding}");
    let own = Look { fatal: words(2, MALFORMED), ..killed };
    assert_eq!(Eye::new(judge()).look(&own, &state).act, Act::CopyAside);
}

#[test]
fn a_start_after_last_words_shows_their_class_and_no_vote_rests_on_them() {
    let rows = "[[faults]]\nname = \"ours\"\nwhen = { unit = \"activating\", fatal = 'lost' }\nclass = \"BROKEN\"\nact = \"restart\"\nsays = \"Ours.\"";
    let found = |number: u8, seconds, line| {
        let age = Some(Duration::from_secs(seconds));
        let look = Look { run: Some(run(2)), age, fatal: words(number, line), ..silent() };
        let state = UnitState { incarnation: run(2), ..unit(UnitWord::Activating) };
        Eye::new(judge_with(rows)).looks(4, &look, &state)
    };
    for seconds in [5, 600] {
        let finding = found(1, seconds, MALFORMED);
        let (row, class) = (finding.row.as_str(), finding.class);
        assert_eq!((row, class, finding.is_votable()), ("sqlite-damaged", Some(FaultClass::Environment), false));
        let ours = found(1, seconds, "panic: lost");
        assert_eq!((ours.row.as_str(), ours.verdict), ("ours", Verdict::Unknown), "{ours}");
    }
    let own = found(2, 600, "panic: lost");
    assert_eq!((own.row.as_str(), own.is_votable()), ("ours", true), "{own}");
}

#[test]
fn the_last_words_of_the_run_before_veto_nothing_once_k3s_was_well() {
    let mut eye = Eye::new(judge());
    let state = UnitState { incarnation: run(2), ..unit(UnitWord::Active) };
    let of_run = |look: Look| Look {
        run: Some(run(2)),
        age: Some(Duration::from_secs(600)),
        fatal: words(1, MALFORMED),
        ..look
    };
    assert_eq!(eye.looks(4, &of_run(silent()), &state).row, "sqlite-damaged", "not well yet");
    assert_eq!(eye.look(&of_run(well()), &state).row, "well");
    let hangs = eye.looks(4, &of_run(silent()), &state);
    assert_eq!((hangs.row.as_str(), hangs.act), ("api-silent", Act::Restart), "{hangs}");
    // Who did not see it well goes by its age.
    let old = Look { age: Some(Duration::from_secs(7 * DAY)), ..of_run(silent()) };
    assert_eq!(Eye::new(judge()).looks(4, &old, &state).row, "api-silent");
}

#[test]
fn what_starts_for_ever_after_the_same_fatal_line_is_not_restarted_again() {
    let mut eye = Eye::new(judge());
    let (look, state) = ended_by(1, 1, "leaderelection lost for k3s");
    eye.look(&look, &state);
    let (look, _) = ended_by(2, 9, "leaderelection lost for k3s");
    let state = UnitState { incarnation: run(2), ..unit(UnitWord::Activating) };
    let young = eye.looks(4, &Look { age: Some(Duration::from_secs(200)), ..look.clone() }, &state);
    assert_eq!((young.row.as_str(), young.page, young.withheld), ("starting", false, None), "nothing was to be done");
    let stuck = eye.looks(4, &Look { age: Some(Duration::from_secs(1000)), others: (2, 0), ..look }, &state);
    assert_eq!((stuck.row.as_str(), stuck.act, stuck.page), ("starts-for-ever", Act::None, true), "{stuck}");
}

#[test]
fn nobody_is_woken_before_so_many_looks_in_a_row() {
    let said = "[-]etcd failed: reason withheld\nreadyz check failed";
    let datastore = Look { readyz: Probe::Status { code: 500, said: said.into() }, ..well() };
    let stranger = Look { livez: Probe::Stranger, ..well() };
    for (look, class) in [(datastore, FaultClass::Environment), (stranger, FaultClass::Unknown)] {
        let mut eye = Eye::new(judge());
        let active = unit(UnitWord::Active);
        let told: Vec<_> = (0..4).map(|_| eye.look(&look, &active)).map(|f| (f.class, f.page)).collect();
        let class = Some(class);
        assert_eq!(told, [(class, false), (class, false), (class, true), (class, true)]);
    }
}

#[test]
fn doubt_about_the_host_is_shown_of_a_young_run_as_well() {
    let look = Look { clock_synchronised: Some(false), age: Some(Duration::from_secs(9)), ..silent() };
    let finding = found(&look);
    assert!(matches!(finding.withheld, Some(Withheld::Grace { .. })) && finding.frozen, "{finding}");
}

#[test]
fn no_doubt_about_the_host_stands_against_what_pid_1_says() {
    let rows = "[[faults]]\nname = \"ours\"\nwhen = { clock = \"unsynchronised\" }\nclass = \"UNKNOWN\"\nfrozen = true\nveto = true\nsays = \"Ours.\"";
    let look = Look { clock_synchronised: Some(false), ..silent() };
    let judged = |word| Eye::new(judge_with(rows)).looks(4, &look, &unit(word));
    assert_eq!((judged(UnitWord::Active).row.as_str(), judged(UnitWord::Active).frozen), ("ours", true));
    let ended = judged(UnitWord::Failed);
    assert_eq!((ended.row.as_str(), ended.class, ended.frozen), ("ended", Some(FaultClass::Crash), false), "{ended}");
}

#[test]
fn a_row_that_has_nothing_done_for_a_fault_yields_to_a_veto_as_well() {
    let rows = "[[faults]]\nname = \"ours\"\nwhen = { livez = \"fails\" }\nclass = \"BROKEN\"\nsays = \"Ours.\"";
    let mut look = silent();
    look.mounts[0].free_bytes = 0;
    let finding = Eye::new(judge_with(rows)).looks(4, &look, &unit(UnitWord::Active));
    assert_eq!((finding.row.as_str(), finding.page), ("disk-full", true), "{finding}");
    let quiet = Eye::new(judge_with(rows)).looks(4, &silent(), &unit(UnitWord::Active));
    assert_eq!((quiet.row.as_str(), quiet.is_votable()), ("ours", false), "it asks for nothing");
}

#[test]
fn planned_restarts_wait_for_their_window() {
    let window = |text| Some(crate::config::k3s::Window::parse(text).unwrap());
    let judge = |text| Judge::new(&K3sConfig { window: window(text), ..K3sConfig::new(Role::Server) });
    let certificates = vec![Certificate { place: "port 6443".into(), is_ca: false, not_after: UNIX + 20 * DAY }];
    // It is midnight.
    let look = Look { certificates, ..well() };
    let inside = Eye::new(judge("23:00-01:00")).looks(4, &look, &unit(UnitWord::Active));
    assert_eq!(inside.act, Act::PlannedRestart, "{inside}");
    let outside = Eye::new(judge("02:00-05:00")).looks(4, &look, &unit(UnitWord::Active));
    assert_eq!((outside.row.as_str(), outside.verdict), ("well", Verdict::Up), "{outside}");
}

#[test]
fn an_operators_row_comes_first_and_yields_to_a_veto() {
    let rows = "[[faults]]\nname = \"ours\"\nwhen = { livez = \"fails\" }\nclass = \"BROKEN\"\nact = \"restart\"\nsays = \"Ours.\"";
    let found = |look: &Look| Eye::new(judge_with(rows)).looks(4, look, &unit(UnitWord::Active));
    let said = "[-]etcd failed: reason withheld\nreadyz check failed";
    let datastore = Look { readyz: Probe::Status { code: 500, said: said.into() }, livez: Probe::TimedOut, ..well() };
    assert_eq!((found(&silent()).row.as_str(), found(&silent()).act), ("ours", Act::Restart));
    assert_eq!(found(&datastore).row, "datastore-refuses");
    let mut full = silent();
    full.mounts[0].free_bytes = 0;
    assert_eq!(found(&full).row, "disk-full");
    let stopped = Eye::new(judge_with(rows)).looks(4, &silent(), &unit(UnitWord::Stopped));
    assert_eq!(stopped.row, "left-alone", "nobody's row brings back what the operator stopped");
}

#[test]
fn a_row_that_is_left_out_no_longer_holds() {
    let ignored = vec!["clock-unsynchronised".to_owned(), "disk-full".to_owned()];
    let judge = Judge::new(&K3sConfig { ignored, ..K3sConfig::new(Role::Server) });
    let look = Look { clock_synchronised: Some(false), ..silent() };
    assert_eq!(Eye::new(judge.clone()).looks(4, &look, &unit(UnitWord::Active)).row, "api-silent");
    assert!(judge.table().row("disk-full").is_some(), "what keeps a repair from doing harm stays");
}

#[test]
fn disks_that_could_not_be_read_leave_doubt_unless_none_are_wanted() {
    let look = Look { mounts: Vec::new(), ..silent() };
    let finding = found(&look);
    assert!(matches!(finding.withheld, Some(Withheld::Doubt(_))), "{finding}");
    let judge = Judge::new(&K3sConfig { mounts: Some(Vec::new()), ..K3sConfig::new(Role::Server) });
    assert!(Eye::new(judge).looks(4, &look, &unit(UnitWord::Active)).is_votable());
}
