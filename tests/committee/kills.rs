//! Processes that are killed come back.

use super::node::{Config, Folder, Node, PATIENCE, PERSONAS, is_alive, kill, lines_in, pids_in, tick};
use rustix::process::Signal;
use std::collections::BTreeSet;
use zeta_bft::protocol::statement::ReceiptKind;

/// A tick that leaves a whole family behind, in sessions, groups and environments of their own, and first looks whether
/// anybody of an earlier family still lives.
fn with_a_family(pids: &str, found: &str) -> String {
    format!(
        r#"for p in $(cat {pids} 2>/dev/null); do kill -0 $p 2>/dev/null && echo $p >> {found}; done; : > {pids}
           setsid -f sh -c 'echo $$ >> {pids}; exec sleep 1000'
           setsid -f sh -c 'echo $$ >> {pids}; sh -c "echo \$\$ >> {pids}; exec sleep 1000" & exec sleep 1000'
           (setsid sh -c 'echo $$ >> {pids}; trap "" TERM HUP; while :; do sleep 1; done' &) &
           echo $$ >> {pids}; exec sleep 1000"#
    )
}

#[test]
fn a_killed_wrapper_runs_again_once_with_the_old_ticks_whole_tree_gone_and_one_receipt() {
    let folder = Folder::new();
    let (pids, found) = (folder.file("pids"), folder.file("found"));
    let config = Config::default().persona("lior", tick(&with_a_family(&pids, &found), "10m"));
    let node = folder.up(&config, &[]);
    node.wait_until(PATIENCE, "the tick has its family", || pids_in(&pids).len() >= 5);
    let (family, old) = (pids_in(&pids), node.unit("lior"));

    kill(node.pid("lior"), Signal::KILL);
    let mut new = None;
    node.wait_until(PATIENCE, "lior's wrapper runs again", || {
        new = Some(node.unit("lior")).filter(|unit| unit.is_running() && unit.incarnation != old.incarnation);
        new.is_some()
    });
    let left: Vec<_> = family.iter().filter(|pid| is_alive(**pid)).collect();
    assert!(left.is_empty(), "{left:?} outlived the wrapper's replacement");
    node.wait_until(PATIENCE, "the new tick has its family", || pids_in(&pids).len() >= 5);
    assert_eq!(pids_in(&found), [0_u32; 0], "the new tick found processes of the old one");
    node.wait_healthy();

    let after = node.unit("lior");
    assert_eq!(Some(after.incarnation), new.map(|unit| unit.incarnation), "one kill is one restart");
    let kinds: Vec<_> = node.receipts().iter().map(|receipt| (receipt.kind, receipt.subject.to_string())).collect();
    let lior = || "lior".to_owned();
    assert_eq!(kinds, [(ReceiptKind::Intent, lior()), (ReceiptKind::Outcome, lior())]);
    let history = node.history();
    assert_eq!(history.len(), 1, "{history:?}");
    assert_eq!((&history[0]["subject"], &history[0]["outcome"]), (&"lior".into(), &"ok".into()));
    assert_eq!(history[0]["fault_class"], "CRASH");
    node.verify();
    let (status, _) = node.stop(Signal::TERM);
    assert_eq!(status.code(), Some(0));
}

#[test]
fn a_killed_agent_comes_back_accuses_nobody_and_repairs_again() {
    let node = Folder::new().up(&Config::default(), &[]);
    let old = node.unit("otto/agent");
    kill(node.pid("otto/agent"), Signal::KILL);
    node.wait_until(PATIENCE, "otto's agent runs again", || {
        let unit = node.unit("otto/agent");
        unit.is_running() && unit.incarnation != old.incarnation
    });
    node.wait_healthy();
    node.nobody_is_accused();
    // Lior's own vendor has no vote on it: without the new agent's there is no quorum.
    let old = node.unit("lior");
    kill(node.pid("lior"), Signal::KILL);
    node.wait_replaced("lior", &old);
    assert_eq!((node.intents("lior").len(), node.starts("lior")), (1, 2));
    assert!(node.history()[0]["voters"].as_array().unwrap().contains(&"otto".into()));
    node.nobody_is_accused();
    node.verify();
}

#[test]
fn a_killed_warden_comes_back_accuses_nobody_and_repairs_again() {
    let node = Folder::new().up(&Config::default(), &[]);
    for kills in 1..=2 {
        node.replace_warden();
        node.wait_healthy();
        node.nobody_is_accused();
        let old = node.unit("lior");
        kill(node.pid("lior"), Signal::KILL);
        node.wait_replaced("lior", &old);
        assert_eq!((node.intents("lior").len(), node.starts("lior")), (kills, kills + 1));
    }
    node.verify();
}

#[test]
fn a_warden_killed_between_intent_and_outcome_executes_nothing_twice() {
    let folder = Folder::new();
    let ran = folder.file("ran");
    let ladder = format!(
        "[[personas.lior.ladder]]\naction = \"run\"\nargv = [\"/bin/sh\", \"-c\", \"echo ran >> {ran}; sleep 1\"]\nlimit = \"5s\"\n\
         [[personas.lior.ladder]]\naction = \"restart\"\n"
    );
    let node = folder.up(&Config::default().with(&ladder), &["--drill"]);
    let old = node.unit("lior");
    kill(node.pid("lior"), Signal::KILL);
    node.wait_until(PATIENCE, "the first rung runs", || lines_in(&ran) == 1);
    node.replace_warden();
    node.wait_replaced("lior", &old);
    node.wait_healthy();
    each_attempt_was_executed_once(&node, &ran);

    // Now as early as it can be seen from outside, whatever the act has come to.
    for _ in 0..3 {
        let (old, intents) = (node.unit("vera"), node.intents("vera").len());
        kill(node.pid("vera"), Signal::KILL);
        while node.intents("vera").len() == intents {
            std::thread::yield_now();
        }
        node.replace_warden();
        node.wait_replaced("vera", &old);
        node.wait_healthy();
        each_attempt_was_executed_once(&node, &ran);
    }
    node.nobody_is_accused();
    let old = node.unit("otto");
    kill(node.pid("otto"), Signal::KILL);
    node.wait_replaced("otto", &old);
    node.verify();
}

fn each_attempt_was_executed_once(node: &Node, ran: &str) {
    let intents: Vec<_> = node.receipts().into_iter().filter(|receipt| receipt.kind == ReceiptKind::Intent).collect();
    let attempts: BTreeSet<_> = intents.iter().map(|i| (i.episode, i.rung, i.round)).collect();
    assert_eq!(attempts.len(), intents.len(), "an attempt has two INTENTs: {attempts:?}");
    for name in ["lior", "vera"] {
        let of = |action: &str| {
            intents.iter().filter(|i| i.subject.as_str() == name && i.action.to_string() == action).count()
        };
        assert!(node.starts(name) <= 1 + of("restart"), "{name} was started more often than there are INTENTs");
        assert!(name != "lior" || lines_in(ran) <= of("run"), "a command ran more often than there are INTENTs");
    }
}

#[test]
fn three_wrappers_killed_at_once_come_back_one_after_the_other() {
    let node = Folder::new().up(&Config::default(), &[]);
    let old = PERSONAS.map(|(name, _)| (name, node.unit(name)));
    old.iter().for_each(|(_, unit)| kill(unit.main_pid.expect("it runs"), Signal::KILL));
    old.iter().for_each(|(name, unit)| node.wait_replaced(name, unit));
    node.wait_healthy();
    let mut under_repair = BTreeSet::new();
    for receipt in node.receipts() {
        match receipt.kind {
            ReceiptKind::Intent => assert!(under_repair.insert(receipt.subject.clone())),
            _ => assert!(under_repair.remove(&receipt.subject)),
        }
        assert!(under_repair.len() <= 1, "at once under repair: {under_repair:?}");
    }
    for (name, _) in old {
        assert_eq!((node.intents(name).len(), node.starts(name)), (1, 2), "{name}");
    }
    node.nobody_is_accused();
    node.verify();
}
