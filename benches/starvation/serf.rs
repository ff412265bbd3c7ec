//! The peer: three members of serf on loopback, with its profile for one machine, harmed as ours are and under the same load.

use rustix::process::Signal;
use std::io::{BufRead as _, BufReader};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use zeta_bft::clock;

pub const MEMBERS: [&str; 3] = ["otto", "lior", "vera"];
const PORT: u16 = 17946;
const RPC: u16 = 17373;

/// What one member said of another, and when it was read.
#[derive(Clone, Debug)]
pub struct Said {
    /// Unix time.
    pub at: Duration,
    pub by: usize,
    pub of: usize,
    pub what: What,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum What {
    /// It did not answer this member.
    Suspect,
    /// The members hold it for dead.
    Failed,
    Joined,
}

type Log = Arc<Mutex<Vec<Said>>>;

pub struct Ring {
    members: [Child; 3],
    log: Log,
}

impl Ring {
    /// Starts three members, and waits until all know all.
    pub fn start() -> Self {
        let log = Log::default();
        let ring = Self { members: [0, 1, 2].map(|index| member(index, &log)), log };
        assert!(
            super::node::comes_true(Duration::from_secs(60), &mut || ring.count(|said| said.what == What::Joined) >= 6),
            "serf's members never met"
        );
        ring
    }

    pub fn pid(&self, index: usize) -> u32 {
        self.members[index].id()
    }

    pub fn signal(&self, index: usize, signal: Signal) {
        super::node::kill(self.pid(index), signal);
    }

    /// When both others first held it for dead after this moment; `None`: not yet.
    pub fn failed(&self, index: usize, since: Duration) -> Option<Duration> {
        self.both(index, since, What::Failed)
    }

    /// When both others first knew it again.
    pub fn joined(&self, index: usize, since: Duration) -> Option<Duration> {
        self.both(index, since, What::Joined)
    }

    fn both(&self, index: usize, since: Duration, what: What) -> Option<Duration> {
        let said = self.said();
        let first = |by: usize| {
            let about = |said: &&Said| said.by == by && said.of == index && said.what == what && said.at >= since;
            said.iter().find(about).map(|said| said.at)
        };
        let mut others = (0..MEMBERS.len()).filter(|by| *by != index);
        others.try_fold(Duration::ZERO, |latest, by| first(by).map(|at| latest.max(at)))
    }

    /// Another process in the place of one that is gone.
    pub fn revive(&mut self, index: usize) {
        let _ = self.members[index].kill();
        let _ = self.members[index].wait();
        self.members[index] = member(index, &self.log);
    }

    pub fn said(&self) -> Vec<Said> {
        self.log.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn count(&self, which: impl Fn(&Said) -> bool) -> usize {
        self.said().iter().filter(|said| said.by != said.of && which(said)).count()
    }
}

impl Drop for Ring {
    fn drop(&mut self) {
        for member in &mut self.members {
            let _ = member.kill();
            let _ = member.wait();
        }
    }
}

fn member(index: usize, log: &Log) -> Child {
    let place = |base: u16, index: usize| format!("127.0.0.1:{}", usize::from(base) + index);
    let mut serf = Command::new("serf");
    serf.args(["agent", "-profile=local", "-log-level=info", "-node", MEMBERS[index], "-retry-interval=1s"]);
    serf.args(["-bind", &place(PORT, index), "-rpc-addr", &place(RPC, index)]);
    for other in (0..MEMBERS.len()).filter(|other| *other != index) {
        serf.args(["-retry-join", &place(PORT, other)]);
    }
    let mut child = serf.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null()).spawn().expect("serf runs");
    let out = child.stdout.take().expect("a pipe");
    let log = Arc::clone(log);
    // It ends when the member's output does.
    std::thread::spawn(move || {
        for line in BufReader::new(out).lines().map_while(Result::ok) {
            let Some((what, of)) = read(&line) else { continue };
            log.lock().unwrap_or_else(PoisonError::into_inner).push(Said { at: clock::unix(), by: index, of, what });
        }
    });
    child
}

/// `… [INFO] serf: EventMemberFailed: lior 127.0.0.1`, `… [INFO] memberlist: Suspect lior has failed, no acks received`
fn read(line: &str) -> Option<(What, usize)> {
    let of = |rest: &str| MEMBERS.iter().position(|member| rest.split(' ').next() == Some(member));
    let marks = [
        (What::Failed, "EventMemberFailed: "),
        (What::Joined, "EventMemberJoin: "),
        (What::Suspect, "memberlist: Suspect "),
    ];
    marks.into_iter().find_map(|(what, mark)| Some((what, of(line.split_once(mark)?.1)?)))
}
