//! Processes that stand still: a wrapper is replaced; agents and the warden are waited for.

use super::node::{Config, Folder, Frozen, PATIENCE, tick};
use std::time::Duration;
use zeta_bft::clock;

#[test]
fn a_stopped_wrapper_is_challenged_certified_killed_and_replaced_within_1500_ms() {
    let config = Config::default().persona("lior", tick("date; exec sleep 1000", "10m"));
    let node = Folder::alone().up(&config, &[]);
    let old = node.unit("lior");
    let began = clock::now();
    let _frozen = Frozen::new(&[node.pid("lior")]);
    node.wait_until(PATIENCE, "lior's wrapper is replaced", || {
        let unit = node.unit("lior");
        unit.is_running() && unit.incarnation != old.incarnation
    });
    let took = clock::now().saturating_since(began);
    println!("SIGSTOP to new process: {took:?}");
    node.wait_healthy();
    let history = node.history();
    assert_eq!(history.len(), 1, "{history:?}");
    assert_eq!((&history[0]["subject"], &history[0]["fault_class"]), (&"lior".into(), &"HANG".into()));
    assert!(took <= Duration::from_millis(1500), "{took:?}");
    node.verify();
}

/// What was sent in time counts, however late the warden gets to read it.
#[test]
fn an_answer_that_lies_unread_when_its_time_is_over_is_heard_before_anybody_is_called_silent() {
    let config = Config::default().persona("lior", tick("date; exec sleep 1000", "10m"));
    let node = Folder::alone().up(&config, &[]);
    let old = node.unit("lior");
    let warden = node.warden().expect("the warden runs");
    for round in 1..=3 {
        let is_challenged = |log: &str| log.matches("subject=lior from=suspect to=challenged").count();
        let challenges = is_challenged(&node.log());
        let lior = Frozen::new(&[node.pid("lior")]);
        node.wait_until(PATIENCE, "lior is challenged", || is_challenged(&node.log()) > challenges);
        // It goes on and answers at once, while the warden stands still beyond the end of the challenge, and not so long beyond it
        // that it finds itself late.
        let frozen = Frozen::new(&[warden]);
        drop(lior);
        std::thread::sleep(Duration::from_millis(230));
        drop(frozen);
        node.wait_until(PATIENCE, "the challenge ends", || node.quorum().state("lior") != "challenged");
        assert_eq!((node.receipts(), node.unit("lior").incarnation), (vec![], old.incarnation), "round {round}");
        node.wait_healthy();
    }
}

#[test]
fn with_two_of_three_agents_stopped_nothing_is_done_and_what_is_missing_is_said_until_they_go_on() {
    let node = Folder::new().up(&Config::default(), &[]);
    let before: Vec<_> = SUBJECTS.map(|name| node.unit(name).incarnation).into();
    let frozen = Frozen::new(&[node.pid("otto/agent"), node.pid("vera/agent")]);
    node.wait_until(PATIENCE, "the quorum is lost", || node.quorum().code == 2);
    let quorum = node.quorum();
    assert_eq!((&quorum.view["status"], &quorum.view["vendors_live"]), (&"lost".into(), &1.into()));
    let notes = quorum.notes();
    assert!(
        ["no quorum: 1 of 3", "otto has not been heard", "vera has not been heard"].iter().all(|n| notes.contains(n)),
        "{notes}"
    );
    node.holds_for(Duration::from_secs(5), "nothing is done without a quorum", || {
        node.quorum().code == 2 && node.receipts().is_empty()
    });
    drop(frozen);
    node.wait_healthy();
    node.holds_for(Duration::from_secs(3), "everything stays healthy", || node.quorum().code == 0);
    let after: Vec<_> = SUBJECTS.map(|name| node.unit(name).incarnation).into();
    assert_eq!(before, after);
    assert!(node.receipts().is_empty());
    node.nobody_is_accused();
}

const SUBJECTS: [&str; 6] = ["otto", "lior", "vera", "otto/agent", "lior/agent", "vera/agent"];

#[test]
fn while_the_warden_is_silent_the_agents_answer_unverified_and_quorum_exits_3() {
    let node = Folder::new().up(&Config::default(), &[]);
    let frozen = Frozen::new(&[node.warden().unwrap()]);
    let quorum = node.quorum();
    assert_eq!((quorum.code, &quorum.view["verified"]), (3, &false.into()), "{quorum}");
    assert!(quorum.notes().contains("the warden is silent"), "{quorum}");
    assert_eq!(quorum.view["subjects"].as_array().unwrap().len(), 6, "{quorum}");
    let table = node.run(&["quorum"]);
    assert_eq!(table.status.code(), Some(3));
    assert!(String::from_utf8_lossy(&table.stdout).contains("(unverified)"));
    drop(frozen);
    node.wait_healthy();
    assert!(node.receipts().is_empty());
    node.nobody_is_accused();
}
