//! `up` as PID 1: what it promises of units, their ends, their process trees and the warden's word, on real processes.
//!
//! There can be one PID 1 per process, since it reaps every child: the tests take turns.

use std::collections::BTreeSet;
use std::path::Path;
use std::time::Duration;
use tokio::sync::{Mutex, MutexGuard};
use zeta_bft::backend::process::ProcessBackend;
use zeta_bft::backend::process::protocol::{self, ActOrder, ActionOrder, Answer, Request};
use zeta_bft::backend::{Backend as _, BackendEvent};
use zeta_bft::protocol::evidence::{Activity, LastExit, UnitState};
use zeta_bft::protocol::types::{Incarnation, SubjectName};
use zeta_bft::rung::{self, RungError};
use zeta_bft::up::act::{self, ActError};
use zeta_bft::up::pid1::{Pid1, Pid1Error, Restart, UnitName, UnitSpec};
use zeta_bft::up::server;

static TURN: Mutex<()> = Mutex::const_new(());
const PATIENCE: Duration = Duration::from_secs(20);

struct Stage {
    pid1: Pid1,
    dir: tempfile::TempDir,
    _turn: MutexGuard<'static, ()>,
}

impl Stage {
    async fn set() -> Self {
        let turn = TURN.lock().await;
        Self { pid1: Pid1::new().unwrap(), dir: tempfile::tempdir().unwrap(), _turn: turn }
    }

    fn run(&self, name: &str, script: &str, restart: Restart) -> UnitName {
        let unit = UnitName::Subject(subject(name));
        self.pid1.add(unit.clone(), shell(script, restart));
        self.pid1.start(&unit).unwrap();
        unit
    }

    fn state(&self, unit: &UnitName) -> UnitState {
        self.pid1.state(unit).unwrap()
    }

    fn pid(&self, unit: &UnitName) -> u32 {
        self.state(unit).main_pid.expect("it runs")
    }

    async fn until(&self, unit: &UnitName, holds: impl Fn(&UnitState) -> bool) -> UnitState {
        let (_, mut changes) = self.pid1.watch();
        let wait = async {
            while !holds(&self.state(unit)) {
                let _ = changes.recv().await;
            }
            self.state(unit)
        };
        match tokio::time::timeout(PATIENCE, wait).await {
            Ok(state) => state,
            Err(_) => panic!("{unit} stays {:?}", self.state(unit)),
        }
    }

    async fn act(&self, unit: &UnitName, class: &str, action: ActionOrder) -> Result<String, ActError> {
        act::act(&self.pid1, self.dir.path(), &order(unit, self.state(unit).incarnation, class, action)).await
    }

    fn file(&self, name: &str) -> String {
        self.dir.path().join(name).display().to_string()
    }
}

fn subject(name: &str) -> SubjectName {
    SubjectName::new(name).unwrap()
}

fn shell(script: &str, restart: Restart) -> UnitSpec {
    UnitSpec { program: "/bin/sh".into(), args: vec!["-c".into(), script.into()], restart, stop_order: 0 }
}

fn order(unit: &UnitName, run: Incarnation, class: &str, action: ActionOrder) -> ActOrder {
    ActOrder {
        subject: unit.to_string(),
        boot: run.boot.to_string(),
        invocation: run.invocation.to_string(),
        class: class.into(),
        action,
    }
}

fn kill(pid: u32, signal: rustix::process::Signal) {
    let pid = rustix::process::Pid::from_raw(i32::try_from(pid).unwrap()).unwrap();
    rustix::process::kill_process(pid, signal).unwrap();
}

fn is_alive(pid: u32) -> bool {
    std::fs::read_to_string(format!("/proc/{pid}/stat")).is_ok_and(|stat| !stat.contains(") Z "))
}

fn pids_in(file: &str) -> Vec<u32> {
    std::fs::read_to_string(file).unwrap_or_default().lines().filter_map(|line| line.parse().ok()).collect()
}

async fn pids_appear(file: &str, count: usize) -> Vec<u32> {
    let wait = async {
        while pids_in(file).len() < count {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(PATIENCE, wait).await.expect("the unit writes its children's pids");
    pids_in(file)
}

#[tokio::test]
async fn the_end_of_a_unit_is_told_as_what_it_was() {
    let stage = Stage::set().await;
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

#[tokio::test]
async fn a_unit_that_cannot_be_started_is_failed_and_not_forgotten() {
    let stage = Stage::set().await;
    let unit = UnitName::Subject(subject("otto"));
    let spec = UnitSpec { program: "/nowhere/zeta-bft".into(), ..shell("", Restart::OnWord) };
    stage.pid1.add(unit.clone(), spec);
    assert!(matches!(stage.pid1.start(&unit), Err(Pid1Error::Start { .. })));
    assert_eq!(stage.state(&unit).activity, Activity::Failed);
}

#[tokio::test]
async fn invocation_ids_never_repeat() {
    let stage = Stage::set().await;
    let unit = stage.run("otto", "exec sleep 1000", Restart::OnWord);
    let mut seen = BTreeSet::from([stage.state(&unit).incarnation]);
    for _ in 0..10 {
        kill(stage.pid(&unit), rustix::process::Signal::KILL);
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

#[tokio::test]
async fn the_whole_tree_of_a_dead_unit_is_gone_before_the_next_run_starts() {
    let stage = Stage::set().await;
    let (pids, found) = (stage.file("pids"), stage.file("found"));
    let unit = stage.run("otto", &with_strays(&pids, &found), Restart::OnWord);
    for class in ["CRASH", "HANG", "BROKEN"] {
        let strays = pids_appear(&pids, 4).await;
        match class {
            "CRASH" => {
                kill(stage.pid(&unit), rustix::process::Signal::KILL);
                stage.until(&unit, |state| state.main_pid.is_none()).await;
            }
            "HANG" => kill(stage.pid(&unit), rustix::process::Signal::STOP),
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

#[tokio::test]
async fn what_a_living_unit_sent_into_the_background_survives_the_repair_of_another() {
    let stage = Stage::set().await;
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

#[tokio::test]
async fn an_act_on_another_run_than_the_one_voted_on_is_refused() {
    let stage = Stage::set().await;
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

#[tokio::test]
async fn two_acts_on_one_unit_do_not_overlap() {
    let stage = Stage::set().await;
    let unit = stage.run("otto", "exec sleep 1000", Restart::OnWord);
    let run = ActionOrder::Run { argv: vec!["sleep".into(), "0.3".into()], limit_ms: 10_000 };
    let (first, second) =
        tokio::join!(stage.act(&unit, "BROKEN", run), stage.act(&unit, "BROKEN", ActionOrder::Restart));
    first.unwrap();
    assert!(matches!(second, Err(ActError::Pid1(Pid1Error::Busy(_)))), "{second:?}");
    stage.act(&unit, "HANG", ActionOrder::Restart).await.unwrap();
    stage.pid1.drain().await.unwrap();
}

#[tokio::test]
async fn an_act_under_way_shows_as_a_job_whatever_it_does() {
    let stage = Stage::set().await;
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

#[tokio::test]
async fn what_is_always_restarted_comes_back_and_backs_off_while_it_keeps_failing() {
    let stage = Stage::set().await;
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

#[tokio::test]
async fn an_always_restarted_unit_whose_repair_failed_is_not_forgotten() {
    let stage = Stage::set().await;
    let agent = stage.run("otto/agent", "exec sleep 1000", Restart::Always);
    let pid = stage.pid(&agent);
    let run =
        ActionOrder::Run { argv: vec!["sh".into(), "-c".into(), format!("kill -9 {pid}; exit 1")], limit_ms: 10_000 };
    stage.act(&agent, "BROKEN", run).await.unwrap_err();
    stage.until(&agent, |state| state.main_pid.is_some_and(|now| now != pid)).await;
    stage.pid1.drain().await.unwrap();
}

#[tokio::test]
async fn a_command_over_its_limit_is_killed_with_all_it_started() {
    let stage = Stage::set().await;
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

#[tokio::test]
async fn of_a_commands_output_the_end_is_kept() {
    let stage = Stage::set().await;
    let unit = stage.run("otto", "exec sleep 1000", Restart::OnWord);
    let run = |script: &str| ActionOrder::Run { argv: vec!["sh".into(), "-c".into(), script.into()], limit_ms: 20_000 };
    let output = stage.act(&unit, "BROKEN", run("seq 1 5000; echo end >&2")).await.unwrap();
    assert!(output.len() == rung::OUTPUT_MAX && output.ends_with("5000\nend\n"), "{output}");
    let failed = stage.act(&unit, "BROKEN", run("echo no disk; exit 7")).await;
    assert_eq!(failed.unwrap_err().to_string(), "`sh` ended with exit status 7: no disk\n");
    stage.pid1.drain().await.unwrap();
}

#[tokio::test]
async fn files_are_put_aside_below_the_folder_and_nowhere_else() {
    let stage = Stage::set().await;
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

#[tokio::test]
async fn a_pipe_in_the_place_of_a_file_holds_nobody_up() {
    let stage = Stage::set().await;
    let unit = stage.run("otto", "exec sleep 1000", Restart::OnWord);
    let pipe = stage.file("cache");
    let mode = rustix::fs::Mode::from_raw_mode(0o600);
    rustix::fs::mknodat(rustix::fs::CWD, &pipe, rustix::fs::FileType::Fifo, mode, 0).unwrap();
    let copying = stage.act(&unit, "BROKEN", ActionOrder::CopyAside { path: pipe });
    let refused = tokio::time::timeout(PATIENCE, copying).await.expect("nobody writes into the pipe");
    assert!(matches!(refused, Err(ActError::Rung(RungError::Aside { .. }))), "{refused:?}");
    stage.pid1.drain().await.unwrap();
}

fn serve(stage: &Stage, socket: &Path) -> tokio::task::JoinHandle<()> {
    let served = server::Served { pid1: stage.pid1.clone(), dir: stage.dir.path().to_owned(), page: None };
    tokio::spawn(server::serve(server::bind(socket).unwrap(), served))
}

async fn ask(socket: &Path, request: &Request) -> Answer {
    let mut stream = tokio::io::BufReader::new(tokio::net::UnixStream::connect(socket).await.unwrap());
    protocol::write_line(&mut stream, request).await.unwrap();
    protocol::read_line(&mut stream).await.unwrap().unwrap()
}

#[tokio::test]
async fn nobody_but_the_warden_may_act_or_page() {
    let stage = Stage::set().await;
    let unit = stage.run("otto", "exec sleep 1000", Restart::OnWord);
    let before = stage.state(&unit);
    let socket = stage.dir.path().join("pid1.sock");
    let server = serve(&stage, &socket);
    let order = order(&unit, before.incarnation, "BROKEN", ActionOrder::Restart);
    let page = Request::Page { cause: "held".into(), subject: "otto".into(), text: "x".into() };
    for request in [Request::Act(order.clone()), page] {
        assert!(matches!(ask(&socket, &request).await, Answer::Refused { .. }));
    }
    assert_eq!(stage.state(&unit), before);
    assert!(matches!(ask(&socket, &Request::Read { subject: "otto".into() }).await, Answer::Unit(_)));

    // The same order from the process that was started as the warden is carried out.
    let (asked, answer) = (stage.file("asked"), stage.file("answer"));
    std::fs::write(&asked, serde_json::to_vec(&Request::Act(order)).unwrap()).unwrap();
    let args = [
        // Its own report is none of this run's.
        "-c".into(),
        "exec /usr/bin/env \"$@\" >/dev/null".into(),
        "sh".into(),
        format!("PID1_SOCKET={}", socket.display()),
        format!("PID1_ASKED={asked}"),
        format!("PID1_ANSWER={answer}"),
        std::env::current_exe().unwrap().display().to_string(),
        "--ignored".into(),
        "--exact".into(),
        "one_who_asks_as_the_warden".into(),
    ];
    let spec = UnitSpec {
        program: "/bin/sh".into(),
        args: args.iter().map(Into::into).collect(),
        ..shell("", Restart::OnWord)
    };
    stage.pid1.add(UnitName::Warden, spec);
    stage.pid1.start(&UnitName::Warden).unwrap();
    stage.until(&UnitName::Warden, |state| state.main_pid.is_none()).await;
    let answer: Answer = serde_json::from_slice(&std::fs::read(&answer).unwrap()).unwrap();
    assert_eq!(answer, Answer::Done { output: String::new() });
    assert_ne!(stage.state(&unit).incarnation, before.incarnation);
    server.abort();
    stage.pid1.drain().await.unwrap();
}

/// Not a claim: what runs as the warden in [`nobody_but_the_warden_may_act_or_page`].
#[tokio::test]
#[ignore = "runs inside another test"]
async fn one_who_asks_as_the_warden() {
    let place = |name| std::env::var(name).ok();
    let (Some(socket), Some(asked), Some(answer)) = (place("PID1_SOCKET"), place("PID1_ASKED"), place("PID1_ANSWER"))
    else {
        return;
    };
    let request: Request = serde_json::from_slice(&std::fs::read(asked).unwrap()).unwrap();
    let answered = ask(Path::new(&socket), &request).await;
    std::fs::write(answer, serde_json::to_vec(&answered).unwrap()).unwrap();
}

#[tokio::test]
async fn whoever_watches_sees_every_change_and_nothing_while_pid_1_is_away() {
    let stage = Stage::set().await;
    let unit = stage.run("otto", "exec sleep 1000", Restart::OnWord);
    let socket = stage.dir.path().join("pid1.sock");
    let backend = ProcessBackend::new(socket.clone(), [subject("otto"), subject("k3s")]);
    let mut events = backend.watch();
    let mut next = async || tokio::time::timeout(PATIENCE, events.recv()).await.unwrap().unwrap();
    for name in ["k3s", "otto"] {
        assert_eq!(next().await, BackendEvent::Unit(subject(name), None), "nobody serves yet");
    }

    let server = serve(&stage, &socket);
    let running = stage.state(&unit);
    while next().await != BackendEvent::Unit(subject("otto"), Some(running)) {}
    assert_eq!(next().await, BackendEvent::Unit(subject("k3s"), None), "what `up` does not run cannot be seen");
    assert_eq!(backend.read(&subject("otto")).await.unwrap(), running);
    assert!(backend.read(&subject("k3s")).await.is_err());
    let owner = backend.unit_of(stage.pid(&unit)).await.unwrap().unwrap();
    assert_eq!((owner.subject, Some(owner.main_pid)), (subject("otto"), running.main_pid));
    assert_eq!(backend.unit_of(1).await.unwrap(), None);

    kill(stage.pid(&unit), rustix::process::Signal::KILL);
    let BackendEvent::Unit(_, Some(state)) = next().await else { panic!("a change of otto's") };
    assert_eq!((state.activity, state.last_exit), (Activity::Failed, LastExit::Signal(9)));
    stage.pid1.drain().await.unwrap();
    while next().await != BackendEvent::Stopping(true) {}
    server.abort();
}
