//! A peer that takes new lines as fast as it can, against what an agent hears of another.

use super::*;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicU64};
use v1::peer_service_client::PeerServiceClient;

/// Connections of the liar, each with as many streams as one may have.
const CONNECTIONS: usize = 24;
const STREAMS: usize = 32;
/// So long it dials. Silence of a few hundred milliseconds would already be called a HANG.
const FLOOD: Duration = Duration::from_secs(4);

/// Lines taken again and again in a persona's name, from a thread of their own as from another process.
struct Flood {
    stop: Arc<AtomicBool>,
    taken: Arc<AtomicU64>,
    thread: std::thread::JoinHandle<()>,
}

impl Flood {
    fn begin(path: PathBuf, name: &'static str) -> Self {
        let (stop, taken) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
        let (stopped, count) = (Arc::clone(&stop), Arc::clone(&taken));
        let thread = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(async {
                for _ in 0..CONNECTIONS {
                    // Of one user so many are held at most: the rest is hung up on.
                    let Ok(connection) = connect(&path).await else { continue };
                    let client = PeerServiceClient::new(connection.channel);
                    for _ in 0..STREAMS {
                        tokio::spawn(dial_without_end(client.clone(), name, Arc::clone(&count)));
                    }
                }
                while !stopped.load(Ordering::Relaxed) {
                    tokio::time::sleep(Duration::from_millis(20)).await;
                }
            });
        });
        Self { stop, taken, thread }
    }

    /// How many lines were asked for.
    fn end(self) -> u64 {
        self.stop.store(true, Ordering::Relaxed);
        self.thread.join().unwrap();
        self.taken.load(Ordering::Relaxed)
    }
}

async fn dial_without_end(mut client: PeerServiceClient<tonic::transport::Channel>, name: &str, count: Arc<AtomicU64>) {
    loop {
        let (say, said) = mpsc::channel(1);
        let hello = v1::peer_message::Message::Hello(v1::Hello { persona: name.into() });
        say.try_send(v1::PeerMessage { message: Some(hello) }).unwrap();
        count.fetch_add(1, Ordering::Relaxed);
        if let Ok(answer) = client.exchange(ReceiverStream::new(said)).await {
            let mut incoming = answer.into_inner();
            // Until a newer line takes its place.
            while let Ok(Some(_)) = incoming.message().await {}
        }
        tokio::task::yield_now().await;
    }
}

/// The usual answer must be faster. It takes some tens of milliseconds in a debug build, with the whole committee on one thread;
/// half a second to a second where other programs take both CPUs.
const ANSWER: Duration = Duration::from_secs(2);

#[tokio::test]
async fn a_peer_that_dials_without_end_makes_nobody_deaf_to_another_nor_slow_to_answer() {
    let mut node = Node::new();
    let mut policy = (*node.settings.policy).clone();
    policy.timing.start_grace = Duration::ZERO;
    node.settings.policy = Arc::new(policy);
    let (warden, mut ears, ask) = node.play_asking_warden();
    let agents = [node.start("otto"), node.start("vera")];
    // What vera says of otto's agent.
    let (vera, otto) = (persona("vera"), SubjectName::agent(&persona("otto")));
    let of_otto = |heard: &Heard| match heard {
        Heard::Heartbeat(author, said) if *author == vera => {
            said.attestations.iter().find(|said| said.subject == otto).cloned()
        }
        _ => None,
    };
    heard(&mut ears, |heard| of_otto(&heard).filter(|said| said.verdict == Verdict::Up)).await;
    let flood = Flood::begin(node.settings.paths.agent_socket(&vera), "lior");
    let end = clock::now() + FLOOD;
    let (mut said, mut took) = (Vec::new(), Vec::new());
    for number in 1.. {
        let asked_at = clock::now();
        if asked_at >= end {
            break;
        }
        let nonce = Nonce([number; 16]);
        ask.send_replace(nonce);
        for _ in &agents {
            heard(&mut ears, |heard| {
                said.extend(of_otto(&heard));
                answer(heard).filter(|answered| *answered == nonce)
            })
            .await;
        }
        took.push(clock::now().saturating_since(asked_at));
        // At a heartbeat's pace.
        said.push(heard(&mut ears, |heard| of_otto(&heard)).await);
    }
    let asked = flood.end();
    let deaf: Vec<_> = said.iter().filter(|said| said.verdict == Verdict::Down).collect();
    took.sort();
    let usual = took[took.len() / 2];
    println!(
        "{asked} lines asked for; {} of {} heartbeats deaf; usual answer {usual:?} of {took:?}",
        deaf.len(),
        said.len()
    );
    assert!(deaf.is_empty(), "of {} heartbeats {}: {:?}", said.len(), deaf.len(), deaf.first());
    assert!(usual < ANSWER, "{took:?}");
    assert!(asked > 1_000, "no flood: {asked}");
    for agent in agents {
        agent.stop().await;
    }
    warden.stop().await;
}
