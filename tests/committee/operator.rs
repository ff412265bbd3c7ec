//! The operator's word wins.

use super::node::{Config, Folder, PATIENCE, kill};
use rustix::process::Signal;
use std::time::Duration;
use zeta_bft::protocol::statement::ReceiptKind;

#[test]
fn a_held_persona_stays_down_and_quorum_says_by_whom_and_why_until_it_is_released() {
    let node = Folder::new().up(&Config::default(), &[]);
    node.ask(&["hold", "lior", "--for", "1h", "--reason", "upgrade"]);
    let old = node.unit("lior");
    kill(node.pid("lior"), Signal::KILL);
    let is_held = || {
        let quorum = node.quorum();
        let hold = &quorum.view["holds"][0];
        let uid = rustix::process::getuid().as_raw();
        let lior = quorum.subject("lior");
        node.unit("lior").main_pid.is_none()
            && (&hold["subject"], &hold["reason"], &hold["uid"]) == (&"lior".into(), &"upgrade".into(), &uid.into())
            && (&lior["state"], &lior["held_by"]) == (&"held".into(), &"operator".into())
            && quorum.notes().contains(&format!("lior is held by uid {uid} until"))
            && quorum.code == 1
    };
    node.wait_until(PATIENCE, "lior is down and held", is_held);
    node.holds_for(Duration::from_secs(3), "lior is held", is_held);
    node.replace_warden();
    node.wait_until(PATIENCE, "the hold outlives the warden", is_held);
    node.holds_for(Duration::from_secs(2), "lior is held", is_held);
    assert!(node.intents("lior").is_empty());
    node.ask(&["release", "lior", "--reason", "done"]);
    node.wait_replaced("lior", &old);
    node.wait_healthy();
    node.verify();
    node.nobody_is_accused();
}

#[test]
fn a_committee_that_observes_says_what_it_would_do_and_touches_nothing() {
    let node = Folder::new().up(&Config::default().observing(), &[]);
    kill(node.pid("lior"), Signal::KILL);
    node.wait_until(PATIENCE, "it says what it would do", || !node.receipts().is_empty());
    let is_dead = || node.unit("lior").main_pid.is_none();
    node.holds_for(Duration::from_secs(7), "lior stays down", is_dead);
    let would: Vec<_> = node.receipts().iter().map(|r| (r.kind, r.subject.to_string())).collect();
    assert_eq!(would, [(ReceiptKind::WouldAct, "lior".to_owned())], "once per run and class");
    let history = node.history();
    assert_eq!((&history[0]["outcome"], &history[0]["kind"]), (&"would_act".into(), &"WOULD_ACT".into()));
    assert_eq!(node.quorum().view["mode"], "observe");
    node.verify();
}
