//! `[subjects.NAME]` of kind k3s: what is refused, and what becomes of the rest.

use super::{GOOD, complaint, paths, with};
use crate::config::k3s::{GRACE, K3sConfig, Window};
use crate::config::parse;
use crate::observe::k3s::table::Act;
use crate::observe::k3s::{Credential, K3sSettings, Role};
use crate::protocol::types::SubjectName;
use std::time::Duration;

fn k3s(lines: &str) -> String {
    with(&format!("[subjects.k3s]\nkind = \"k3s\"\n{lines}\n"))
}

fn config(lines: &str) -> K3sConfig {
    let settings = parse(&k3s(lines), "node.toml", &paths()).unwrap_or_else(|error| panic!("{error}"));
    settings.k3s[&SubjectName::new("k3s").unwrap()].clone()
}

fn row(changes: &[(&str, &str)]) -> String {
    let mut lines: std::collections::BTreeMap<&str, &str> =
        [("name", "\"ours\""), ("when", "{ livez = \"fails\" }"), ("class", "\"BROKEN\""), ("says", "\"Ours.\"")]
            .into();
    lines.extend(changes.iter().copied());
    let lines: String = lines.iter().map(|(option, value)| format!("{option} = {value}\n")).collect();
    format!("[[subjects.k3s.faults]]\n{lines}")
}

#[test]
fn what_is_not_written_is_the_roles() {
    let settings = parse(&k3s("role = \"agent\""), "node.toml", &paths()).unwrap();
    let name = SubjectName::new("k3s").unwrap();
    assert_eq!(settings.policy.subjects[&name].unit, "k3s-agent.service");
    assert_eq!(settings.k3s[&name].observer(), K3sSettings::new(Role::Agent));
    let server = config("");
    assert_eq!((server.observer(), server.grace, server.failed_looks), (K3sSettings::new(Role::Server), GRACE, 3));
    assert!(parse(GOOD, "node.toml", &paths()).unwrap().k3s.is_empty());
}

#[test]
fn what_is_written_reaches_the_observer_and_the_judge() {
    let config = config(
        "api = \"https://127.0.0.1:7443\"\nca = \"/x/ca.crt\"\nnode_name = \"n1\"\nkubelet = false\nkube_proxy = false\nmounts = []\n\
         credential = { certificate = \"/x/c\", key = \"/x/k\" }\nothers = [\"https://10.0.0.2:6443\"]\ngrace = \"5m\"\n\
         failed_looks = 7\nwindow = \"23:00-01:00\"\nignored_faults = [\"ping-fails\"]\n",
    );
    let observer = config.observer();
    assert_eq!((observer.address.port(), observer.kube_proxy, observer.node.as_deref()), (7443, None, Some("n1")));
    assert_eq!(observer.kubelet, None);
    assert_eq!((observer.ca.to_str(), observer.mounts.len()), (Some("/x/ca.crt"), 0));
    assert_eq!(observer.credential, Credential::Certificate { certificate: "/x/c".into(), key: "/x/k".into() });
    assert_eq!(observer.others, ["10.0.0.2:6443".parse().unwrap()]);
    assert_eq!((config.grace, config.failed_looks), (Duration::from_secs(300), 7));
    assert_eq!((config.window, config.ignored), (Window::parse("23:00-01:00"), vec!["ping-fails".to_owned()]));
}

#[test]
fn a_window_is_a_part_of_the_day_and_may_span_midnight() {
    let holds = |text: &str, minute: u64| Window::parse(text).unwrap().contains(1_790_035_200 + minute * 60);
    assert!(holds("02:00-05:30", 120) && holds("02:00-05:30", 329));
    assert!(!holds("02:00-05:30", 119) && !holds("02:00-05:30", 330));
    assert!(holds("23:00-01:00", 23 * 60) && holds("23:00-01:00", 59));
    assert!(!holds("23:00-01:00", 60) && !holds("23:00-01:00", 23 * 60 - 1));
    for wrong in ["", "02:00", "02:00-02:00", "2:00-03:00", "24:00-01:00", "02:60-03:00", "+2:00-03:00", "02:00-03:00-"]
    {
        assert_eq!(Window::parse(wrong), None, "{wrong}");
    }
}

#[test]
fn what_only_a_k3s_has_is_refused_of_others() {
    let unit = |option: &str| with(&format!("[subjects.t]\nkind = \"unit\"\nunit = \"t.service\"\n{option}\n"));
    for option in [
        "role = \"server\"",
        "api = \"https://127.0.0.1:6443\"",
        "ca = \"/x\"",
        "credential = { token = \"/x\" }",
        "node_name = \"n\"",
        "kubelet = true",
        "kube_proxy = true",
        "mounts = []",
        "others = []",
        "grace = \"1m\"",
        "failed_looks = 3",
        "window = \"01:00-02:00\"",
        "ignored_faults = [\"ping-fails\"]",
    ] {
        let name = option.split(' ').next().unwrap();
        let found = complaint(&unit(option));
        assert!(found.contains(&format!("`{name}` belongs to a subject with kind = \"k3s\"")), "{found}");
    }
    let found = complaint(&(unit("") + &row(&[]).replace("k3s", "t")));
    assert!(found.contains("`faults` belongs to a subject with kind = \"k3s\""), "{found}");
}

#[test]
fn settings_that_cannot_be_meant_are_refused_where_they_stand() {
    for (lines, says) in [
        ("api = \"https://10.0.0.1:6443\"", "15:7: 10.0.0.1:6443 is not on loopback"),
        ("api = \"http://127.0.0.1:6443\"", "15:7: `http://127.0.0.1:6443` is no address of an API server"),
        ("ca = \"ca.crt\"", "15:6: `ca.crt` must be an absolute path"),
        ("node_name = \"N 1\"", "15:13: `N 1` is no name of a node"),
        ("credential = { token = \"/x\", key = \"/y\" }", "15:14: a credential is { token = FILE } or"),
        ("credential = { certificate = \"/x\" }", "15:14: a credential is { token = FILE } or"),
        ("others = [\"n2:6443\"]", "15:10: `n2:6443` is no address of an API server"),
        ("mounts = [\"x\"]", "15:10: `x` must be an absolute path"),
        ("grace = \"25h\"", "15:9: "),
        ("failed_looks = 0", "15:16: failed_looks = 0 must be from 1 to 100"),
        ("window = \"night\"", "15:10: `night` is no part of the day"),
        ("ignored_faults = [\"ping-fail\"]", "15:19: no built-in row is called `ping-fail`"),
        ("ignored_faults = [\"disk-full\"]", "`disk-full` cannot be left out: it keeps a repair from doing harm"),
        ("role = \"master\"", "15:8: unknown value `master`"),
    ] {
        let found = complaint(&k3s(lines));
        assert!(found.starts_with("node.toml:") && found.contains(says), "{lines}: {found}");
    }
}

#[test]
fn a_row_that_contradicts_itself_is_refused() {
    for (changes, says) in [
        (&[("act", "\"copy-aside\"")][..], "`copy-aside` does not go with BROKEN"),
        (&[("class", "\"ENVIRONMENT\""), ("act", "\"restart\"")], "`restart` does not go with ENVIRONMENT"),
        (&[("class", "\"UNKNOWN\""), ("act", "\"restart\"")], "`restart` does not go with UNKNOWN"),
        (&[("class", "\"OPERATOR\""), ("act", "\"restart\"")], "`restart` does not go with OPERATOR"),
        (&[("class", "\"healthy\""), ("act", "\"restart\"")], "`restart` does not go with healthy"),
        (&[("class", "\"HANG\"")], "unknown value `HANG`"),
        (&[("class", "\"CRASH\"")], "CRASH is PID 1's word"),
        (&[("class", "\"CRASH\""), ("when", "{ unit = [\"failed\", \"active\"] }")], "CRASH is PID 1's word"),
        (&[("veto", "true")], "`veto` does not go with CRASH, BROKEN or healthy"),
        (&[("frozen", "true")], "`frozen` goes with UNKNOWN or healthy"),
        (&[("class", "\"ENVIRONMENT\""), ("act", "\"copy-aside\""), ("veto", "true")], "a veto row has nothing done"),
        (&[("ignorable", "true")], "`ignorable` is for built-in rows"),
        (&[("name", "\"api-silent\"")], "`api-silent` is a built-in row"),
        (&[("name", "\"none\"")], "`none` is no name of a row"),
        (&[("name", "\"Ours\"")], "`Ours` is no name of a row"),
        (&[("says", "\" \"")], "`says` is one sentence for people"),
        (&[("when", "{ }")], "a row without a condition would match every look"),
        (&[("when", "{ role = \"server\" }")], "a row without a condition would match every look"),
        (&[("when", "{ livez = [] }")], "an empty list is no condition"),
        (&[("when", "{ livez = \"down\" }")], "unknown value `down`"),
        (&[("when", "{ answered = \"kublet\" }")], "unknown value `kublet`"),
        (&[("when", "{ fatal = 'x*' }")], "this pattern matches every line"),
        (&[("when", "{ fatal = '(' }")], "no regular expression"),
        (&[("when", "{ others_failing = 0 }")], "`others_failing` is a share in percent"),
        (&[("when", "{ free_bytes_below = \"64\" }")], "`64` is no size"),
        (&[("when", "{ checks_unnamed = true, checks_any = [\"x\"] }")], "only one of `checks_only`"),
    ] {
        let found = complaint(&(k3s("") + &row(changes)));
        assert!(found.starts_with("node.toml:") && found.contains(says), "{changes:?}: {found}");
    }
    let found = complaint(&(k3s("") + &row(&[]) + &row(&[])));
    assert!(found.contains("two rows are called `ours`"), "{found}");
}

#[test]
fn an_operators_rows_come_first_in_the_order_in_which_they_stand() {
    let second = row(&[("name", "\"a-second\""), ("act", "\"restart\"")]);
    let text = k3s("") + &row(&[]) + &second;
    let settings = parse(&text, "node.toml", &paths()).unwrap();
    let faults = &settings.k3s[&SubjectName::new("k3s").unwrap()].faults;
    let found: Vec<_> = faults.iter().map(|row| (row.name.as_str(), row.act)).collect();
    assert_eq!(found, [("ours", Act::None), ("a-second", Act::Restart)]);
}
