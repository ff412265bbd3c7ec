//! Harm is bounded: without `--drill` a series of kills meets the budget's end.

use super::node::{Config, Folder, PATIENCE, kill, tick};
use rustix::process::Signal;
use std::time::Duration;

#[test]
fn without_drill_the_budget_stops_a_series_of_kills_visibly_and_refills() {
    let budget = "[personas.lior.budget]\ncapacity = 2\nrefill = \"8s\"\n";
    let folder = Folder::new();
    let paged = folder.file("paged");
    let config = Config::default()
        .persona("lior", tick("date; exec sleep 1000", "10m"))
        .with(&format!("{budget}[policy]\ncool_down = \"100ms\"\ncool_down_max = \"200ms\"\n"))
        .paging(&paged);
    let node = folder.up(&config, &[]);
    for kills in 1..=2 {
        let old = node.unit("lior");
        kill(node.pid("lior"), Signal::KILL);
        node.wait_replaced("lior", &old);
        assert_eq!(node.intents("lior").len(), kills);
    }
    // What was earned back meanwhile is spent as well.
    while node.quorum().subject("lior")["budget"] != 0 {
        let old = node.unit("lior");
        kill(node.pid("lior"), Signal::KILL);
        node.wait_replaced("lior", &old);
    }
    let (repairs, old) = (node.intents("lior").len(), node.unit("lior"));
    kill(node.pid("lior"), Signal::KILL);
    node.wait_until(PATIENCE, "the spent budget holds lior", || {
        let quorum = node.quorum();
        let lior = quorum.subject("lior");
        lior["state"] == "held" && lior["held_by"] == "budget" && quorum.code == 1
    });
    node.wait_until(PATIENCE, "a human is called", || super::node::lines_in(&paged) > 0);
    assert!(node.metric("zeta_bft_pages_total", &["budget"]) >= 1.0);
    node.wait_until(PATIENCE, "the scrape shows it", || node.metric("zeta_bft_held", &["subject=\"lior\""]) == 1.0);
    node.holds_for(Duration::from_secs(2), "lior stays down", || node.unit("lior").main_pid.is_none());
    assert_eq!(node.intents("lior").len(), repairs);
    // A repair is earned by active time, which a dead process has none of: the operator brings it back.
    node.ask(&["release", "lior", "--reason", "seen"]);
    node.wait_replaced("lior", &old);
    node.wait_until(PATIENCE, "active time earns repairs back", || {
        node.quorum().subject("lior")["budget"].as_u64().is_some_and(|left| left >= 1)
    });
    let old = node.unit("lior");
    kill(node.pid("lior"), Signal::KILL);
    node.wait_replaced("lior", &old);
}
