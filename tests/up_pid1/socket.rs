//! PID 1's socket: who may watch, and who may act.

use crate::stage::{PATIENCE, Stage, kill, order, shell, subject};
use rustix::process::Signal;
use std::path::Path;
use zeta_bft::backend::process::ProcessBackend;
use zeta_bft::backend::process::protocol::{self, ActionOrder, Answer, Request};
use zeta_bft::backend::{Backend as _, BackendEvent};
use zeta_bft::protocol::evidence::{Activity, LastExit};
use zeta_bft::up::pid1::{Restart, UnitName, UnitSpec};
use zeta_bft::up::server;

claims![nobody_but_the_warden_may_act_or_page, whoever_watches_sees_every_change_and_nothing_while_pid_1_is_away];

fn serve(stage: &Stage, socket: &Path) -> tokio::task::JoinHandle<()> {
    let served = server::Served { pid1: stage.pid1.clone(), dir: stage.dir.path().to_owned(), page: None };
    tokio::spawn(server::serve(server::bind(socket).unwrap(), served))
}

/// The word by which this binary is started to ask once and write the answer into a file.
pub const ASK: &str = "ask-pid-1";

pub async fn ask_and_write(socket: &Path, request: &str, answer: &Path) {
    let answered = ask(socket, &serde_json::from_str(request).unwrap()).await;
    std::fs::write(answer, serde_json::to_vec(&answered).unwrap()).unwrap();
}

async fn ask(socket: &Path, request: &Request) -> Answer {
    let mut stream = tokio::io::BufReader::new(tokio::net::UnixStream::connect(socket).await.unwrap());
    protocol::write_line(&mut stream, request).await.unwrap();
    protocol::read_line(&mut stream).await.unwrap().unwrap()
}

async fn nobody_but_the_warden_may_act_or_page() {
    let stage = Stage::set();
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
    let answer = stage.file("answer");
    let request = serde_json::to_string(&Request::Act(order)).unwrap();
    let words = [ASK.into(), socket.into_os_string(), request.into(), (&answer).into()];
    let spec = UnitSpec { program: std::env::current_exe().unwrap(), args: words.into(), ..shell("", Restart::OnWord) };
    stage.pid1.add(UnitName::Warden, spec);
    stage.pid1.start(&UnitName::Warden).unwrap();
    stage.until(&UnitName::Warden, |state| state.main_pid.is_none()).await;
    let answer: Answer = serde_json::from_slice(&std::fs::read(&answer).unwrap()).unwrap();
    assert_eq!(answer, Answer::Done { output: String::new() });
    assert_ne!(stage.state(&unit).incarnation, before.incarnation);
    server.abort();
    stage.pid1.drain().await.unwrap();
}

async fn whoever_watches_sees_every_change_and_nothing_while_pid_1_is_away() {
    let stage = Stage::set();
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

    kill(stage.pid(&unit), Signal::KILL);
    let BackendEvent::Unit(_, Some(state)) = next().await else { panic!("a change of otto's") };
    assert_eq!((state.activity, state.last_exit), (Activity::Failed, LastExit::Signal(9)));
    stage.pid1.drain().await.unwrap();
    while next().await != BackendEvent::Stopping(true) {}
    server.abort();
}
