//! The policy that comes of a configuration: subjects, ladders, budgets, deadlines, and their digest.

use super::{GOOD, paths, with};
use crate::config::{never, parse, timing};
use crate::protocol::policy::{Action, Consent, Policy, Timing};
use crate::protocol::types::{SubjectName, VendorId};
use std::path::Path;
use std::time::Duration;

#[test]
fn a_persona_gives_two_subjects_and_k3s_its_own_defaults() {
    let settings = parse(&with("[subjects.k3s]\nkind = \"k3s\"\n"), "node.toml", &paths()).unwrap();
    let subject = |name: &str| &settings.policy.subjects[&SubjectName::new(name).unwrap()];
    assert_eq!(
        (subject("otto").unit.as_str(), subject("otto/agent").unit.as_str()),
        ("zeta-otto.service", "zeta-bft-agent@otto.service")
    );
    assert_eq!(subject("otto/agent").vendor, Some(VendorId::new("anthropic").unwrap()));
    assert_eq!(subject("otto").ladder, Policy::persona_ladder());
    assert_eq!((subject("k3s").budget, subject("k3s").vendor.clone()), (Policy::K3S_BUDGET, None));
}

#[test]
fn a_k3s_begins_with_its_empty_keys_and_ends_with_a_human() {
    let ladder = |role: &str| {
        let text = with(&format!("[subjects.k3s]\nkind = \"k3s\"\nrole = \"{role}\"\n"));
        let policy = parse(&text, "node.toml", &paths()).unwrap().policy;
        let ladder = policy.subjects[&SubjectName::new("k3s").unwrap()].ladder.clone();
        for rung in &ladder {
            never::check(rung, Path::new("/var/lib/zeta-bft")).unwrap();
            assert_eq!(rung.consent, Consent::Quorum);
        }
        ladder.into_iter().map(|rung| rung.action).collect::<Vec<_>>()
    };
    let keys = Action::MoveAside { path: "/var/lib/rancher/k3s/agent".into() };
    let datastore = Action::CopyAside { path: "/var/lib/rancher/k3s/server/db".into() };
    assert_eq!(ladder("server"), [keys.clone(), datastore, Action::Restart, Action::Page]);
    assert_eq!(ladder("agent"), [keys, Action::Restart, Action::Page], "it has no datastore");
}

#[test]
fn the_digest_covers_subjects_ladders_and_budgets_and_nothing_of_one_daemon() {
    let digest = |text: &str| parse(text, "node.toml", &paths()).unwrap().policy.digest;
    let base = digest(GOOD);
    for same in [
        GOOD.replace("\"act\"", "\"observe\""),
        with("[metrics]\nwarden = \"127.0.0.1:0\"\n"),
        with("[policy.drill]\nenabled = true\n"),
        GOOD.replace("[\"claude\"]", "[\"claude\", \"--print\"]"),
    ] {
        assert_eq!(digest(&same), base, "{same}");
    }
    for other in [
        with("[policy]\nnode_per_day = 29\n"),
        with("[subjects.tunnel]\nkind = \"unit\"\nunit = \"tunnel.service\"\n"),
        with("[subjects.\"otto/agent\".budget]\nper_day = 11\n"),
        with("[subjects.\"otto/agent\"]\nladder = [{ action = \"page\" }]\n"),
        with("[subjects.\"otto/agent\"]\nunit = \"other.service\"\n"),
    ] {
        assert_ne!(digest(&other), base, "{other}");
    }
}

#[test]
fn a_drill_lifts_what_it_is_told_to_lift() {
    let parsed = |more: &str| parse(&with(more), "node.toml", &paths()).unwrap().policy;
    let all = parsed("[policy.drill]\nenabled = true\n");
    assert_eq!((all.drill, all.timing), (true, Timing::drill()));
    assert!(all.subjects.values().all(|subject| subject.budget == Policy::DRILL_BUDGET));
    let some = parsed("[policy.drill]\nenabled = true\nlift_budgets = false\n");
    assert_eq!((some.node_per_day, some.timing.cool_down), (Policy::NODE_PER_DAY, Duration::ZERO));
    assert!(!parsed("[policy.drill]\nlift_budgets = true\n").drill);
}

#[test]
fn the_protocols_own_deadlines_fit_each_other() {
    timing::check(&Timing::default()).unwrap();
    timing::check(&Timing::drill()).unwrap();
}
