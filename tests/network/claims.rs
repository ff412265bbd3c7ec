//! What holds while the network fails, and after it.

use crate::committee::Committee;
use crate::net::PERSONAS;
use std::time::Duration;
use zeta_bft::grpc::tls::{Material, Place};
use zeta_bft::protocol::types::PersonaId;

/// What shows a claim.
pub type Show = fn(&Committee);

/// Long enough for every deadline of the detectors to pass several times.
const LONG: Duration = Duration::from_secs(3);

macro_rules! claims {
    ($($name:ident),* $(,)?) => {
        pub const ALL: &[(&str, Show)] = &[$((stringify!($name), $name)),*];
    };
}

claims![
    what_agents_say_to_each_other_goes_over_tcp,
    a_one_way_cut_restarts_nobody_and_heals,
    a_guardian_that_is_cut_off_still_votes_and_is_still_repaired,
    resets_without_end_restart_nobody,
    connections_that_stay_and_say_nothing_are_given_up_and_made_anew,
    a_slow_link_keeps_all_in_sight_and_delays_no_repair,
    whoever_else_answers_at_a_peers_address_is_no_peer,
    certificates_are_renewed_under_a_running_committee,
    an_inspector_looks_from_elsewhere_until_it_is_taken_away,
];

fn what_agents_say_to_each_other_goes_over_tcp(committee: &Committee) {
    let before = committee.net.proxy.passed();
    committee.until("heartbeats pass", || committee.net.proxy.passed() > before + 10_000);
    // Without the network none of them hears another, though every Unix socket is there.
    PERSONAS.iter().for_each(|persona| committee.net.unplug(persona));
    committee.until("all are alone", || PERSONAS.iter().all(|persona| committee.hears(persona).is_empty()));
    committee.net.heal();
    committee.all_is_well();
}

fn a_one_way_cut_restarts_nobody_and_heals(committee: &Committee) {
    let before = committee.runs();
    let cuts: [fn(&Committee); 3] = [
        |committee| committee.net.cut_from("otto"),
        |committee| committee.net.cut_to("otto"),
        |committee| {
            committee.net.proxy.change(|rules| {
                rules.held.insert("otto");
            });
        },
    ];
    for cut in cuts {
        cut(committee);
        committee.until("otto is not heard any more", || {
            ["lior", "vera"].iter().all(|other| !committee.hears(other).contains(&"otto".to_owned()))
        });
        committee.nobody_is_restarted_for(LONG, &before);
        assert!(!committee.apart("lior", "vera"), "who is not cut off stays in sight");
        committee.net.heal();
        committee.all_is_well();
    }
    assert_eq!(committee.runs(), before);
}

fn a_guardian_that_is_cut_off_still_votes_and_is_still_repaired(committee: &Committee) {
    committee.net.unplug("lior");
    committee.until("lior is alone", || committee.apart("lior", "otto") && committee.apart("lior", "vera"));
    // Of vera's wrapper only otto and lior may judge: both must. Of lior's own, the other two.
    committee.kill("vera");
    committee.kill("lior");
    // With nobody in sight of anybody, still.
    ["otto", "vera"].iter().for_each(|persona| committee.net.unplug(persona));
    committee.until("all are alone", || PERSONAS.iter().all(|persona| committee.hears(persona).is_empty()));
    committee.kill("otto");
    committee.net.heal();
    committee.all_is_well();
}

fn resets_without_end_restart_nobody(committee: &Committee) {
    let before = committee.runs();
    for _ in 0..30 {
        committee.net.proxy.reset();
        committee.nobody_is_restarted_for(Duration::from_millis(100), &before);
    }
    committee.all_is_well();
    assert_eq!(committee.runs(), before);
}

fn connections_that_stay_and_say_nothing_are_given_up_and_made_anew(committee: &Committee) {
    let before = committee.runs();
    committee.net.proxy.change(|rules| rules.held.extend(PERSONAS));
    committee.until("all are alone", || PERSONAS.iter().all(|persona| committee.hears(persona).is_empty()));
    // Longer than it takes to give a connection up, and to fail with the next.
    committee.nobody_is_restarted_for(LONG * 2, &before);
    committee.net.heal();
    committee.all_is_well();
    assert_eq!(committee.runs(), before);
}

fn a_slow_link_keeps_all_in_sight_and_delays_no_repair(committee: &Committee) {
    committee.net.proxy.change(|rules| {
        rules.delay = Duration::from_millis(150);
        rules.bytes_per_second = Some(64 * 1024);
    });
    // New connections, too: handshakes take several of these delays.
    committee.net.proxy.reset();
    committee.all_is_well();
    let before = committee.runs();
    committee.nobody_is_restarted_for(LONG, &before);
    committee.until("all hear all", || PERSONAS.iter().all(|persona| committee.hears(persona).len() == 2));
    committee.kill("otto");
    committee.net.heal();
    committee.all_is_well();
}

fn whoever_else_answers_at_a_peers_address_is_no_peer(committee: &Committee) {
    let before = committee.runs();
    committee.net.proxy.change(|rules| rules.misled = Some(("otto", "vera")));
    committee.net.proxy.reset();
    committee.until("lior and otto have lost each other", || committee.apart("lior", "otto"));
    committee.nobody_is_restarted_for(LONG, &before);
    assert!(!committee.apart("otto", "vera") && !committee.apart("lior", "vera"), "the others are where they were");
    committee.net.heal();
    committee.all_is_well();
    assert_eq!(committee.runs(), before);
}

fn certificates_are_renewed_under_a_running_committee(committee: &Committee) {
    let before = committee.runs();
    // Another CA altogether: what is left of the old one opens nothing.
    let (ca, key) = (committee.paths.tls_ca(), committee.paths.ca_key());
    for file in [&ca, &key] {
        std::fs::rename(file, committee.dir.path().join("old")).unwrap();
    }
    let made = committee.command(&["certify", "--days", "200"]);
    assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
    let place = Place::of_agent(&committee.paths, &PersonaId::new("vera").unwrap());
    let end_of_new = Material::read(&place).unwrap().own_end();
    let lines = |log: &str| log.matches("peer connected").count();
    let so_far = lines(&committee.log());
    committee.until("every agent has read its new one", || {
        // All three were made within a second or two.
        let read = (end_of_new - 2..=end_of_new).map(|end| format!("certificates read ends={end} "));
        read.map(|line| committee.log().matches(&line).count()).sum::<usize>() >= PERSONAS.len()
    });
    committee.net.proxy.reset();
    committee.until("all lines are made anew", || lines(&committee.log()) >= so_far + 6);
    committee.all_is_well();
    assert_eq!(committee.runs(), before, "without a restart");
}

fn an_inspector_looks_from_elsewhere_until_it_is_taken_away(committee: &Committee) {
    let folder = committee.dir.path().join("laptop");
    let into = folder.to_str().unwrap();
    let made = committee.command(&["certify", "--inspector", "laptop", "--into", into]);
    assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
    let address = crate::net::found("otto").to_string();
    let question = ["quorum", "--json", "--connect", &address, "--identity", into];
    let look = || committee.run_elsewhere(&question);
    committee.until("otto knows the inspector", || {
        let said = look();
        let text = String::from_utf8_lossy(&said.stderr).into_owned();
        assert!(said.stdout.is_empty() != text.is_empty(), "{text}");
        assert!(text.is_empty() || text.contains("does not take our certificate"), "{text}");
        text.is_empty()
    });
    let seen = look();
    assert_eq!(seen.status.code(), Some(3), "an agent's word is unverified");
    let view: serde_json::Value = serde_json::from_slice(&seen.stdout).unwrap();
    assert_eq!((&view["verified"], view["subjects"].as_array().unwrap().len()), (&false.into(), 6));

    std::fs::remove_file(committee.paths.tls_inspectors().join("laptop.crt")).unwrap();
    committee.until("otto does not know it any more", || look().stdout.is_empty());
    let refused = look();
    let text = String::from_utf8_lossy(&refused.stderr);
    assert_eq!(refused.status.code(), Some(3));
    assert!(text.contains("does not take our certificate: AccessDenied"), "{text}");
}
