//! What `up` and `init` write is a configuration, with everything that it explains.

use super::{NODE_USERS, paths, users, with};
use crate::config::paths::Paths;
use crate::config::{Settings, default_node_toml, default_up_toml, parse, parse_with};
use crate::protocol::policy::{Mode, Policy, Timing};
use crate::protocol::types::{ClusterId, NodeId, PersonaId, SubjectName};
use std::time::Duration;

#[test]
fn what_up_and_init_write_is_valid() {
    for vendor_clis in [false, true] {
        let settings = parse(&default_up_toml(vendor_clis), "node.toml", &paths()).unwrap();
        assert_eq!(settings.policy.mode, Mode::Act);
        assert_eq!((settings.f, settings.q, settings.personas.len(), settings.policy.subjects.len()), (1, 2, 3, 6));
        let otto = &settings.personas[&PersonaId::new("otto").unwrap()];
        let program = if vendor_clis { "claude" } else { "/bin/sh" };
        assert_eq!(otto.command[0], program);
        assert_eq!(otto.tick_interval, Duration::from_secs(if vendor_clis { 60 } else { 5 }));
        assert!(!settings.isolation);
    }
    let (cluster, node) = (ClusterId::new("home").unwrap(), NodeId::new("n1").unwrap());
    let text = default_node_toml(&cluster, &node);
    let settings = parse_with(&text, "node.toml", &Paths::system(), &users(NODE_USERS)).unwrap();
    assert_eq!((settings.policy.mode, settings.isolation), (Mode::Observe, true));
    assert_eq!(settings.policy.timing, Timing::default());
    assert_eq!((&settings.cluster, &settings.node), (&cluster, &node));
    let ports: Vec<_> =
        settings.personas.values().map(|p| (p.agent_metrics.port(), p.wrapper_metrics.port())).collect();
    assert_eq!(ports, [(9465, 9475), (9466, 9476), (9467, 9477)]);
}

#[test]
fn every_option_that_the_written_file_explains_exists() {
    let (cluster, node) = (ClusterId::new("home").unwrap(), NodeId::new("n1").unwrap());
    let is_option = |line: &str| {
        let line = line.trim_start_matches("# ");
        line.starts_with('[') || line.split_once(" = ").is_some_and(|(name, _)| !name.contains(' '))
    };
    let shown: String = default_node_toml(&cluster, &node)
        .lines()
        .map(|line| match line.strip_prefix("# ") {
            Some(option) if is_option(line) => format!("{option}\n"),
            _ => format!("{line}\n"),
        })
        .collect();
    let settings =
        parse_with(&shown, "node.toml", &Paths::system(), &users(NODE_USERS)).unwrap_or_else(|error| panic!("{error}"));
    assert_eq!(settings.policy.timing, Timing::default(), "the values shown are the defaults");
    let subject = |name: &str| settings.policy.subject(&SubjectName::new(name).unwrap()).unwrap().clone();
    assert_eq!(subject("otto").budget, Policy::PERSONA_BUDGET);
    assert_eq!(subject("otto").ladder.len(), 3);
    assert_eq!(subject("tunnel").unit, "tunnel.service");
    let k3s = SubjectName::new("k3s").unwrap();
    let plain = parse(&with("[subjects.k3s]\nkind = \"k3s\"\n"), "node.toml", &paths()).unwrap();
    assert_eq!(subject("k3s").ladder, plain.policy.subjects[&k3s].ladder);
    let timing = |settings: &Settings| (settings.k3s[&k3s].grace, settings.k3s[&k3s].failed_looks);
    assert_eq!(timing(&settings), timing(&plain));
    assert!(settings.page.is_some() && !settings.policy.drill);
}
