//! What is done to a unit on the warden's word, and what is refused.

use crate::stage::{PATIENCE, Stage, is_alive, order, pids_appear, pids_in};
use std::path::Path;
use zeta_bft::backend::process::protocol::ActionOrder;
use zeta_bft::rung::{self, RungError};
use zeta_bft::up::act::{self, ActError};
use zeta_bft::up::pid1::{Pid1Error, Restart};

claims![
    an_act_on_another_run_than_the_one_voted_on_is_refused,
    two_acts_on_one_unit_do_not_overlap,
    an_act_under_way_shows_as_a_job_whatever_it_does,
    a_command_over_its_limit_is_killed_with_all_it_started,
    of_a_commands_output_the_end_is_kept,
    files_are_put_aside_below_the_folder_and_nowhere_else,
    a_pipe_in_the_place_of_a_file_holds_nobody_up,
];

async fn an_act_on_another_run_than_the_one_voted_on_is_refused() {
    let stage = Stage::set();
    let unit = stage.run("otto", "exec sleep 1000", Restart::OnWord);
    let before = stage.state(&unit);
    stage.act(&unit, "BROKEN", ActionOrder::Restart).await.unwrap();
    let after = stage.state(&unit);
    let late = order(&unit, before.incarnation, "CRASH", ActionOrder::Restart);
    let refused = act::act(&stage.pid1, stage.dir.path(), &late).await;
    assert!(matches!(refused, Err(ActError::Pid1(Pid1Error::OtherRun { .. }))), "{refused:?}");
    assert_eq!(stage.state(&unit), after, "nothing was touched");
    stage.pid1.drain().await.unwrap();
    let stopped = stage.act(&unit, "CRASH", ActionOrder::Restart).await;
    assert!(matches!(stopped, Err(ActError::Pid1(Pid1Error::Stopping))), "{stopped:?}");
}

async fn two_acts_on_one_unit_do_not_overlap() {
    let stage = Stage::set();
    let unit = stage.run("otto", "exec sleep 1000", Restart::OnWord);
    let run = ActionOrder::Run { argv: vec!["sleep".into(), "0.3".into()], limit_ms: 10_000 };
    let (first, second) =
        tokio::join!(stage.act(&unit, "BROKEN", run), stage.act(&unit, "BROKEN", ActionOrder::Restart));
    first.unwrap();
    assert!(matches!(second, Err(ActError::Pid1(Pid1Error::Busy(_)))), "{second:?}");
    stage.act(&unit, "HANG", ActionOrder::Restart).await.unwrap();
    stage.pid1.drain().await.unwrap();
}

async fn an_act_under_way_shows_as_a_job_whatever_it_does() {
    let stage = Stage::set();
    let unit = stage.run("otto", "exec sleep 1000", Restart::OnWord);
    let (begun, wait) = (stage.file("begun"), stage.file("wait"));
    std::fs::write(&wait, "").unwrap();
    let script = format!("echo $$ >> {begun}; while test -e {wait}; do sleep 0.02; done");
    let run = ActionOrder::Run { argv: vec!["sh".into(), "-c".into(), script], limit_ms: 20_000 };
    let watched = async {
        pids_appear(&begun, 1).await;
        let during = stage.state(&unit);
        std::fs::remove_file(&wait).unwrap();
        during
    };
    let (ended, during) = tokio::join!(stage.act(&unit, "BROKEN", run), watched);
    ended.unwrap();
    assert!(during.job_pending && during.is_running(), "{during:?}");
    assert!(!stage.state(&unit).job_pending);
    stage.pid1.drain().await.unwrap();
}

async fn a_command_over_its_limit_is_killed_with_all_it_started() {
    let stage = Stage::set();
    let unit = stage.run("otto", "exec sleep 1000", Restart::OnWord);
    let before = stage.state(&unit);
    let pids = stage.file("pids");
    let script =
        format!("setsid -f sh -c 'echo $$ >> {pids}; exec sleep 1000'; echo $$ >> {pids}; echo said; sleep 1000");
    let run = ActionOrder::Run { argv: vec!["sh".into(), "-c".into(), script], limit_ms: 1000 };
    let ended = stage.act(&unit, "BROKEN", run).await;
    let Err(ActError::Rung(RungError::OverTime { output, .. })) = ended else { panic!("{ended:?}") };
    assert_eq!(output, "said\n");
    let pids = pids_in(&pids);
    assert_eq!(pids.len(), 2);
    assert!(pids.into_iter().all(|pid| !is_alive(pid)));
    assert_eq!(stage.state(&unit), before, "a command touches no unit");
    stage.pid1.drain().await.unwrap();
}

async fn of_a_commands_output_the_end_is_kept() {
    let stage = Stage::set();
    let unit = stage.run("otto", "exec sleep 1000", Restart::OnWord);
    let run = |script: &str| ActionOrder::Run { argv: vec!["sh".into(), "-c".into(), script.into()], limit_ms: 20_000 };
    let output = stage.act(&unit, "BROKEN", run("seq 1 5000; echo end >&2")).await.unwrap();
    assert!(output.len() == rung::OUTPUT_MAX && output.ends_with("5000\nend\n"), "{output}");
    let failed = stage.act(&unit, "BROKEN", run("echo no disk; exit 7")).await;
    assert_eq!(failed.unwrap_err().to_string(), "`sh` ended with exit status 7: no disk\n");
    stage.pid1.drain().await.unwrap();
}

async fn files_are_put_aside_below_the_folder_and_nowhere_else() {
    let stage = Stage::set();
    let unit = stage.run("otto", "exec sleep 1000", Restart::OnWord);
    let before = stage.state(&unit).incarnation;
    let elsewhere = tempfile::tempdir().unwrap();
    std::fs::write(elsewhere.path().join("key"), "k").unwrap();
    std::os::unix::fs::symlink(elsewhere.path(), stage.dir.path().join("link")).unwrap();
    let path = stage.file("link/key");
    let refused = stage.act(&unit, "BROKEN", ActionOrder::MoveAside { path }).await;
    assert!(matches!(refused, Err(ActError::Rung(RungError::Aside { .. }))), "no link is followed: {refused:?}");
    for path in [elsewhere.path().join("key"), stage.dir.path().to_owned(), stage.dir.path().join("../key")] {
        let path = path.display().to_string();
        let refused = stage.act(&unit, "BROKEN", ActionOrder::MoveAside { path }).await;
        assert!(matches!(refused, Err(ActError::Rung(RungError::Outside { .. }))), "{refused:?}");
    }
    assert_eq!(stage.state(&unit).incarnation, before);
    std::fs::write(stage.file("cache"), "c").unwrap();
    stage.act(&unit, "BROKEN", ActionOrder::CopyAside { path: stage.file("cache") }).await.unwrap();
    assert!(Path::new(&stage.file("cache")).exists());
    stage.act(&unit, "BROKEN", ActionOrder::MoveAside { path: stage.file("cache") }).await.unwrap();
    assert!(!Path::new(&stage.file("cache")).exists());
    assert_ne!(stage.state(&unit).incarnation, before);
    stage.pid1.drain().await.unwrap();
}

async fn a_pipe_in_the_place_of_a_file_holds_nobody_up() {
    let stage = Stage::set();
    let unit = stage.run("otto", "exec sleep 1000", Restart::OnWord);
    let pipe = stage.file("cache");
    let mode = rustix::fs::Mode::from_raw_mode(0o600);
    rustix::fs::mknodat(rustix::fs::CWD, &pipe, rustix::fs::FileType::Fifo, mode, 0).unwrap();
    let copying = stage.act(&unit, "BROKEN", ActionOrder::CopyAside { path: pipe });
    let refused = tokio::time::timeout(PATIENCE, copying).await.expect("nobody writes into the pipe");
    assert!(matches!(refused, Err(ActError::Rung(RungError::Aside { .. }))), "{refused:?}");
    stage.pid1.drain().await.unwrap();
}
