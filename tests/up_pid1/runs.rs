//! What a run of a unit is, how it ends, and that nothing of it is left when the next one begins.

use crate::stage::{Stage, is_alive, kill, pids_appear, pids_in, shell, subject};
use rustix::process::Signal;
use std::collections::BTreeSet;
use std::time::Duration;
use zeta_bft::backend::process::protocol::ActionOrder;
use zeta_bft::protocol::evidence::{Activity, LastExit, UnitState};
use zeta_bft::up::pid1::{Pid1Error, Restart, UnitName, UnitSpec};

claims![
    the_end_of_a_unit_is_told_as_what_it_was,
    a_unit_that_cannot_be_started_is_failed_and_not_forgotten,
    invocation_ids_never_repeat,
    the_whole_tree_of_a_dead_unit_is_gone_before_the_next_run_starts,
    what_a_living_unit_sent_into_the_background_survives_the_repair_of_another,
    what_is_always_restarted_comes_back_and_backs_off_while_it_keeps_failing,
    an_always_restarted_unit_whose_repair_failed_is_not_forgotten,
];

async fn the_end_of_a_unit_is_told_as_what_it_was() {
    let stage = Stage::set();
    let clean = stage.run("clean", "exit 0", Restart::OnWord);
    let failed = stage.run("failed", "exit 3", Restart::OnWord);
    let killed = stage.run("killed", "kill -9 $$", Restart::OnWord);
    let polite = stage.run("polite", "trap 'exit 0' TERM; while :; do sleep 0.05; done", Restart::OnWord);
    for (unit, activity, exit) in [
        (&clean, Activity::Inactive, LastExit::Code(0)),
        (&failed, Activity::Failed, LastExit::Code(3)),
        (&killed, Activity::Failed, LastExit::Signal(9)),
    ] {
        let state = stage.until(unit, |state| state.main_pid.is_none()).await;
        assert_eq!((state.activity, state.last_exit, state.active_since), (activity, exit, None), "{unit}");
        assert!(!state.stop_requested && !state.job_pending);
    }
    stage.act(&polite, "BROKEN", ActionOrder::Stop).await.unwrap();
    let state = stage.state(&polite);
    assert!(state.stop_requested && !state.job_pending && state.main_pid.is_none(), "{state:?}");
    stage.pid1.drain().await.unwrap();
}

async fn a_unit_that_cannot_be_started_is_failed_and_not_forgotten() {
    let stage = Stage::set();
    let unit = UnitName::Subject(subject("otto"));
    let spec = UnitSpec { program: "/nowhere/zeta-bft".into(), ..shell("", Restart::OnWord) };
    stage.pid1.add(unit.clone(), spec);
    assert!(matches!(stage.pid1.start(&unit), Err(Pid1Error::Start { .. })));
    assert_eq!(stage.state(&unit).activity, Activity::Failed);
}

async fn invocation_ids_never_repeat() {
    let stage = Stage::set();
    let unit = stage.run("otto", "exec sleep 1000", Restart::OnWord);
    let mut seen = BTreeSet::from([stage.state(&unit).incarnation]);
    for _ in 0..10 {
        kill(stage.pid(&unit), Signal::KILL);
        stage.until(&unit, |state| state.activity == Activity::Failed).await;
        stage.act(&unit, "CRASH", ActionOrder::Restart).await.unwrap();
        let state = stage.state(&unit);
        assert!(state.is_running() && state.active_since.is_some() && !state.job_pending);
        assert!(seen.insert(state.incarnation), "{} came twice", state.incarnation);
    }
    stage.pid1.drain().await.unwrap();
}

/// Children that left their parent, session and environment behind write their pids; a new run looks whether they live.
fn with_strays(pids: &str, found: &str) -> String {
    format!(
        "for p in $(cat {pids} 2>/dev/null); do kill -0 $p 2>/dev/null && echo $p >> {found}; done; : > {pids}
         setsid -f sh -c 'echo $$ >> {pids}; exec sleep 1000'
         setsid -f env -u INVOCATION_ID sh -c 'echo $$ >> {pids}; sh -c \"echo \\$\\$ >> {pids}; exec sleep 1000\" & exec sleep 1000'
         sh -c 'echo $$ >> {pids}; trap \"\" TERM; while :; do sleep 1; done' &
         exec sleep 1000"
    )
}

async fn the_whole_tree_of_a_dead_unit_is_gone_before_the_next_run_starts() {
    let stage = Stage::set();
    let (pids, found) = (stage.file("pids"), stage.file("found"));
    let unit = stage.run("otto", &with_strays(&pids, &found), Restart::OnWord);
    for class in ["CRASH", "HANG", "BROKEN"] {
        let strays = pids_appear(&pids, 4).await;
        match class {
            "CRASH" => {
                kill(stage.pid(&unit), Signal::KILL);
                stage.until(&unit, |state| state.main_pid.is_none()).await;
            }
            "HANG" => kill(stage.pid(&unit), Signal::STOP),
            _ => {}
        }
        stage.act(&unit, class, ActionOrder::Restart).await.unwrap();
        for pid in strays {
            assert!(!is_alive(pid), "{pid} outlived its unit ({class})");
        }
    }
    let last = pids_appear(&pids, 4).await;
    assert_eq!(pids_in(&found), [0_u32; 0], "a new run found processes of the old one");
    stage.pid1.drain().await.unwrap();
    assert!(last.into_iter().all(|pid| !is_alive(pid)), "drain leaves nothing behind");
}

async fn what_a_living_unit_sent_into_the_background_survives_the_repair_of_another() {
    let stage = Stage::set();
    let pids = stage.file("pids");
    let script = format!("setsid -f sh -c 'echo $$ >> {pids}; exec sleep 1000'; exec sleep 1000");
    let lior = stage.run("lior", &script, Restart::OnWord);
    let background = pids_appear(&pids, 1).await[0];
    let otto = stage.run("otto", "exec sleep 1000", Restart::OnWord);
    stage.act(&otto, "BROKEN", ActionOrder::Restart).await.unwrap();
    assert!(is_alive(background) && stage.state(&lior).is_running());
    stage.act(&lior, "BROKEN", ActionOrder::Stop).await.unwrap();
    assert!(!is_alive(background));
    stage.pid1.drain().await.unwrap();
}

async fn what_is_always_restarted_comes_back_and_backs_off_while_it_keeps_failing() {
    let stage = Stage::set();
    let agent = stage.run("otto/agent", "exit 1", Restart::Always);
    let waits = |least: u64| {
        let least = Duration::from_millis(least);
        move |state: &UnitState| matches!(state.activity, Activity::AutoRestart { wait, .. } if wait >= least)
    };
    stage.until(&agent, waits(100)).await;
    let state = stage.until(&agent, waits(400)).await;
    assert!(state.restarts >= 2 && state.main_pid.is_none(), "{state:?}");
    stage.pid1.drain().await.unwrap();
    assert_eq!(stage.state(&agent).activity, Activity::Inactive, "no restart outlives the drain");
}

async fn an_always_restarted_unit_whose_repair_failed_is_not_forgotten() {
    let stage = Stage::set();
    let agent = stage.run("otto/agent", "exec sleep 1000", Restart::Always);
    let pid = stage.pid(&agent);
    let run =
        ActionOrder::Run { argv: vec!["sh".into(), "-c".into(), format!("kill -9 {pid}; exit 1")], limit_ms: 10_000 };
    stage.act(&agent, "BROKEN", run).await.unwrap_err();
    stage.until(&agent, |state| state.main_pid.is_some_and(|now| now != pid)).await;
    stage.pid1.drain().await.unwrap();
}
