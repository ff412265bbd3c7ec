//! What stands between agents: a proxy in user space, in the router's namespace, that does to their bytes what it is told.

use crate::net::{PERSONAS, found, listens, persona_at};
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};
use std::collections::BTreeSet;
use std::fs::File;
use std::os::fd::AsFd as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{mpsc, watch};
use zeta_bft::clock;
use zeta_bft::protocol::types::Timestamp;

/// What is done to the bytes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Rules {
    /// What these send is not passed on; the connection stays.
    pub held: BTreeSet<&'static str>,
    /// How long each piece is under way.
    pub delay: Duration,
    /// How many bytes a second pass on each connection in each direction; all of them unless given.
    pub bytes_per_second: Option<u32>,
    /// Whoever looks for the first is brought to the second.
    pub misled: Option<(&'static str, &'static str)>,
    /// Each change resets every connection.
    pub resets: u32,
    /// It is over.
    stopped: bool,
}

/// How much is passed on at once.
const PIECE: usize = 4096;
/// Pieces that may be under way in one direction of a connection.
const UNDER_WAY: usize = 64;

pub struct Proxy {
    rules: Arc<watch::Sender<Rules>>,
    passed: Arc<AtomicUsize>,
    thread: Option<JoinHandle<()>>,
}

impl Proxy {
    /// Starts it in a namespace.
    pub fn start(namespace: &str) -> Self {
        let rules = Arc::new(watch::Sender::new(Rules::default()));
        let passed = Arc::new(AtomicUsize::new(0));
        let place = File::open(format!("/run/netns/{namespace}")).expect("the namespace was made");
        let (all, count) = (Arc::clone(&rules), Arc::clone(&passed));
        let (ready, started) = std::sync::mpsc::channel();
        let thread = std::thread::spawn(move || {
            // This thread alone: a namespace is a thread's, and all its sockets are made here.
            move_into_link_name_space(place.as_fd(), Some(LinkNameSpaceType::Network)).expect("root may");
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
            runtime.block_on(async {
                for persona in PERSONAS {
                    let listener = TcpListener::bind(found(persona)).await.expect("the address is the router's");
                    tokio::spawn(accept(listener, persona, Arc::clone(&all), Arc::clone(&count)));
                }
                ready.send(()).expect("somebody waits");
                let _ = all.subscribe().wait_for(|rules| rules.stopped).await;
            });
        });
        started.recv_timeout(Duration::from_secs(10)).expect("the proxy starts");
        Self { rules, passed, thread: Some(thread) }
    }

    pub fn change(&self, change: impl FnOnce(&mut Rules)) {
        self.rules.send_modify(change);
    }

    /// Resets every connection.
    pub fn reset(&self) {
        self.change(|rules| rules.resets += 1);
    }

    /// Bytes that it has passed on.
    pub fn passed(&self) -> usize {
        self.passed.load(Ordering::Relaxed)
    }

    pub fn heal(&self) {
        self.change(|rules| *rules = Rules { resets: rules.resets, ..Rules::default() });
    }

    pub fn stop(&mut self) {
        self.change(|rules| rules.stopped = true);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

async fn accept(
    listener: TcpListener,
    persona: &'static str,
    rules: Arc<watch::Sender<Rules>>,
    passed: Arc<AtomicUsize>,
) {
    loop {
        let Ok((near, from)) = listener.accept().await else { continue };
        let (rules, passed) = (rules.subscribe(), Arc::clone(&passed));
        tokio::spawn(async move {
            let to = rules.borrow().misled.filter(|(wanted, _)| *wanted == persona).map_or(persona, |(_, given)| given);
            let dialled = tokio::time::timeout(Duration::from_secs(2), TcpStream::connect(listens(to)));
            let Ok(Ok(far)) = dialled.await else { return };
            join(near, persona_at(from), far, to, rules, passed).await;
        });
    }
}

async fn join(
    near: TcpStream,
    from: &'static str,
    far: TcpStream,
    to: &'static str,
    rules: watch::Receiver<Rules>,
    passed: Arc<AtomicUsize>,
) {
    let (_, _) = (near.set_nodelay(true), far.set_nodelay(true));
    let ((near_reads, near_writes), (far_reads, far_writes)) = (near.into_split(), far.into_split());
    tokio::join!(
        pass(near_reads, far_writes, from, rules.clone(), Arc::clone(&passed)),
        pass(far_reads, near_writes, to, rules, passed),
    );
}

/// One direction, until its end, which is passed on, or a reset.
async fn pass(
    mut reads: OwnedReadHalf,
    mut writes: OwnedWriteHalf,
    from: &'static str,
    rules: watch::Receiver<Rules>,
    passed: Arc<AtomicUsize>,
) {
    let mut all = rules.clone();
    let resets = all.borrow_and_update().resets;
    let reset = async {
        let _ = all.wait_for(|rules| rules.resets != resets).await;
    };
    tokio::select! {
        () = flow(&mut reads, &mut writes, from, rules, &passed) => {
            let _ = writes.shutdown().await;
        }
        () = reset => {
            // What is closed so ends by a reset at the other end.
            let _ = writes.as_ref().set_zero_linger();
            writes.forget();
        }
    }
}

/// Reads ahead, so that a delay delays and nothing more; how much may be under way is bounded, as on a real line.
async fn flow(
    reads: &mut OwnedReadHalf,
    writes: &mut OwnedWriteHalf,
    from: &'static str,
    mut rules: watch::Receiver<Rules>,
    passed: &AtomicUsize,
) {
    let (put, mut under_way) = mpsc::channel::<(Timestamp, Vec<u8>)>(UNDER_WAY);
    let delay = rules.clone();
    let reading = async move {
        loop {
            let mut piece = vec![0; PIECE];
            let Ok(read @ 1..) = reads.read(&mut piece).await else { return };
            piece.truncate(read);
            let due = clock::now() + delay.borrow().delay;
            if put.send((due, piece)).await.is_err() {
                return;
            }
        }
    };
    let writing = async {
        while let Some((due, piece)) = under_way.recv().await {
            tokio::time::sleep(due.saturating_since(clock::now())).await;
            // What is held waits here, and what comes after it before.
            let held = rules.wait_for(|rules| !rules.held.contains(from)).await.map(|rules| rules.bytes_per_second);
            let Ok(rate) = held else { return };
            if let (Some(rate), Ok(size)) = (rate, u32::try_from(piece.len())) {
                tokio::time::sleep(Duration::from_secs_f64(f64::from(size) / f64::from(rate))).await;
            }
            if writes.write_all(&piece).await.is_err() {
                return;
            }
            passed.fetch_add(piece.len(), Ordering::Relaxed);
        }
    };
    tokio::join!(reading, writing);
}
