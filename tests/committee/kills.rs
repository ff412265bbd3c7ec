//! Processes that are killed come back.

use super::node::{Config, Folder, PATIENCE, is_alive, kill, pids_in, tick};
use rustix::process::Signal;
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
