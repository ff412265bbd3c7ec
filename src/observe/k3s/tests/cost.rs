//! What a look costs: at most 0.2 % of one core at one look in five seconds, 10 ms each.

use super::super::{Files, Observer};
use super::server::{Server, answer};
use super::*;
use crate::protocol::types::Timestamp;

/// CPU time of this thread.
fn spent() -> Timestamp {
    let t = rustix::time::clock_gettime(rustix::time::ClockId::ThreadCPUTime);
    Timestamp::from_nanos(u64::try_from(t.tv_sec).unwrap() * 1_000_000_000 + u64::try_from(t.tv_nsec).unwrap())
}

/// Servers on a thread of their own, so that their work does not count; they end with what is given back.
fn servers() -> (Vec<SocketAddr>, std::sync::mpsc::Sender<()>) {
    let (told, addresses) = std::sync::mpsc::channel();
    let (end, ended) = std::sync::mpsc::channel::<()>();
    std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let images = format!(r#"{{"names":["{}"],"sizeBytes":1}}"#, "x".repeat(200));
            let images = vec![images; 50].join(",");
            let node =
                format!(r#"{{"status":{{"conditions":[{{"type":"Ready","status":"True"}}],"images":[{images}]}}}}"#);
            let leaf = Authority::fixed().leaf(&["127.0.0.1"]);
            let api = Server::tls(&leaf, move |request| {
                if request.starts_with("GET /api") { answer(200, &node) } else { answer(200, "ok") }
            });
            let servers =
                [api.await, Server::plain(|_| answer(200, "ok")).await, Server::plain(|_| answer(200, "ok")).await];
            told.send(servers.iter().map(|server| server.address).collect()).unwrap();
            tokio::task::spawn_blocking(move || ended.recv()).await.unwrap().unwrap_err();
        });
    });
    (addresses.recv().unwrap(), end)
}

#[tokio::test]
async fn a_look_costs_less_than_a_five_hundredth_of_a_core() {
    const LOOKS: u32 = 100;
    let (addresses, _end) = servers();
    let mut place = Place::of(Authority::fixed());
    place.settings.address = addresses[0];
    place.settings.kubelet = Some(addresses[1]);
    place.settings.kube_proxy = Some(addresses[2]);
    place.settings.node = Some("node-1".to_owned());
    let mut observer = Observer::new(place.settings.clone()).unwrap();
    let look = observer.look(|| None).await;
    assert!(look.readyz.is_ok() && look.node_ready == Some(true), "{look:?}");
    let begun = spent();
    for _ in 0..LOOKS {
        observer.look(|| None).await;
    }
    let ports = spent().saturating_since(begun) / LOOKS;
    // The same as the observer does on its other thread.
    let (mut files, mut pins) = (Files::new(&place.settings), Pins::new(&place.settings));
    let begun = spent();
    for _ in 0..LOOKS {
        files.look();
        pins.refresh().ok().unwrap();
    }
    let disk = spent().saturating_since(begun) / LOOKS;
    println!("one look: {ports:?} for the ports, {disk:?} for files");
    assert!(ports + disk < place.settings.interval / 500, "{ports:?} and {disk:?} a look");
}
