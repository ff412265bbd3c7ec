//! What somebody without any key may hold of a daemon's memory: messages that begin and never end, over as many calls and
//! connections as are let in.

use crate::node::{Channel, LIMIT, Node, Process, connected, until};
use axum::body::Bytes;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;
use tokio_stream::{Stream, StreamExt as _};
use tonic::body::Body;
use tonic::codegen::{Service as _, http};

const CONNECTIONS: usize = 4;
/// KiB.
const GROWTH: u64 = 20 * 1024;
/// How long a message claims to be, and how many calls a connection begins: tonic's own limit, and the most that is let in.
const THROWN: [(usize, usize); 2] = [(4 * 1024 * 1024, 32), (8 * 1024, 16)];
const REFLECTION: &str = "/grpc.reflection.v1.ServerReflection/ServerReflectionInfo";

/// A message of `len` bytes, all but its last one. Counts once: when it is out, or nobody wants it any more.
fn unfinished(len: usize, done: Arc<AtomicUsize>) -> impl Stream<Item = Result<Bytes, std::io::Error>> {
    struct Done(Option<Arc<AtomicUsize>>);
    impl Done {
        fn count(&mut self) {
            if let Some(done) = self.0.take() {
                done.fetch_add(1, Ordering::SeqCst);
            }
        }
    }
    impl Drop for Done {
        fn drop(&mut self) {
            self.count();
        }
    }
    const CHUNK: usize = 8 * 1024;
    let prefix = [&[0][..], &u32::try_from(len).unwrap().to_be_bytes()].concat();
    let mut chunks = std::iter::once(Bytes::from(prefix)).chain((0..len - 1).step_by(CHUNK).map(move |at| {
        // Not zero: every byte is really there.
        Bytes::from(vec![7; CHUNK.min(len - 1 - at)])
    }));
    let mut done = Done(Some(done));
    let parts = std::iter::from_fn(move || {
        let next = chunks.next();
        if next.is_none() {
            done.count();
        }
        next.map(Ok)
    });
    tokio_stream::iter(parts).chain(tokio_stream::pending())
}

fn call(channel: &Channel, method: &str, body: Body) -> impl Future<Output = Option<http::Response<Body>>> + use<> {
    let mut channel = channel.clone();
    let request = http::Request::post(format!("http://localhost{method}"))
        .header("content-type", "application/grpc")
        .header("te", "trailers")
        .body(body)
        .unwrap();
    async move {
        std::future::poll_fn(|cx| channel.poll_ready(cx)).await.ok()?;
        channel.call(request).await.ok()
    }
}

/// Throws unfinished messages at a socket, and returns the most that the process grew by, in KiB.
async fn growth(process: &Process, socket: &Path, method: &'static str, len: usize, calls: usize) -> u64 {
    let (done, before) = (Arc::new(AtomicUsize::new(0)), process.resident());
    let mut held = tokio::task::JoinSet::new();
    let mut peak = before;
    for _ in 0..CONNECTIONS {
        let channel = connected(socket).await.channel;
        for _ in 0..calls {
            let body = Body::new(axum::body::Body::from_stream(unfinished(len, Arc::clone(&done))));
            let answer = call(&channel, method, body);
            // The answer is held too, unread.
            held.spawn(async move { (answer.await, std::future::pending::<()>().await) });
        }
    }
    until(async || {
        peak = peak.max(process.resident());
        done.load(Ordering::SeqCst) == CONNECTIONS * calls
    })
    .await;
    // What the last of them brings comes a moment later.
    for _ in 0..50 {
        tokio::time::sleep(Duration::from_millis(10)).await;
        peak = peak.max(process.resident());
    }
    peak - before
}

#[tokio::test]
async fn messages_that_never_end_grow_no_daemon() {
    let node = Node::new();
    let warden = node.start();
    node.ready().await;
    let agent = node.start_other(&["agent", "--persona", "otto"]);
    let otto = zeta_bft::protocol::types::PersonaId::new("otto").unwrap();
    let [agents, inspect, peers] =
        [node.paths.warden_socket(), node.paths.inspect_socket(), node.paths.agent_socket(&otto)];
    let daemons = [
        (&warden, &agents, "/zeta.bft.v1.WardenService/Nonce"),
        (&warden, &agents, REFLECTION),
        (&warden, &inspect, REFLECTION),
        (&agent, &peers, REFLECTION),
        (&agent, &peers, "/zeta.bft.v1.PeerService/Fetch"),
    ];
    for (process, socket, method) in daemons {
        connected(socket).await;
        for (len, calls) in THROWN {
            let grown = growth(process, socket, method, len, calls).await;
            println!("{method} on {}, {len} bytes: {grown} KiB", socket.display());
            assert!(grown < GROWTH, "{method} on {}, {len} bytes: {grown} KiB", socket.display());
        }
        // And it serves on.
        until(async || {
            let mut health = tonic_health::pb::health_client::HealthClient::new(connected(socket).await.channel);
            health.check(tonic_health::pb::HealthCheckRequest::default()).await.is_ok()
        })
        .await;
    }
}

#[tokio::test]
async fn a_message_that_has_begun_is_whole_in_time_also_when_the_answer_began() {
    let node = Node::new();
    let _warden = node.start();
    node.ready().await;
    let channel = connected(&node.paths.inspect_socket()).await.channel;
    let done = Arc::new(AtomicUsize::new(0));
    let body = Body::new(axum::body::Body::from_stream(unfinished(64, Arc::clone(&done))));
    let answer = tokio::time::timeout(Duration::from_secs(5), call(&channel, REFLECTION, body)).await;
    let answer = answer.expect("the answer begins at once").expect("it is one").into_body();
    let ended = axum::body::to_bytes(axum::body::Body::new(answer), 1024);
    assert!(tokio::time::timeout(LIMIT, ended).await.is_ok(), "the call goes on for ever");
}
