//! What the warden asks the hand for: one line of JSON there, one back.
//!
//! The warden names a rung and the run that was voted on. What the rung is stands in root's configuration, which the hand
//! reads itself (rule S7). An order is for now: it says when it was given, and whoever gave it waits for the answer.
//!
//! The hand says that it begins before it touches anything. What it said reaches the warden even if it dies in the next moment,
//! so one that ended without that word has touched nothing.

use crate::backend::{ActReport, BackendError};
use crate::clock;
use crate::protocol::evidence::FaultClass;
use crate::protocol::types::{BootId, Digest, Incarnation, InvocationId, SubjectName, Timestamp};
use crate::protocol::warden::ActionPermit;
use data_encoding::HEXLOWER;
use serde::{Deserialize, Serialize};
use std::io;
use std::path::Path;
use std::time::Duration;
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::UnixStream;

/// Longest line in either direction, in bytes: a rung's output is at most 4 KiB before JSON escapes it.
const MAX_LINE: u64 = 64 * 1024;

/// How long an order may wait until it is begun: much less than the `act_timeout` after which it counts as failed.
const BEGUN_WITHIN: Duration = Duration::from_secs(5);

/// A deed: one rung of one subject, on one run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Deed {
    /// Whose.
    pub subject: SubjectName,
    /// Which rung of its ladder, from 0.
    pub rung: usize,
    /// The run that was voted on.
    pub run: Incarnation,
    /// The certified fault: a HANG is killed first.
    pub class: FaultClass,
    /// The policy by which it was decided: a hand that reads another configuration does nothing.
    pub policy: Digest,
    /// When it was ordered.
    pub ordered_at: Timestamp,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Line {
    subject: String,
    rung: usize,
    boot: String,
    invocation: String,
    class: String,
    policy: String,
    ordered_at_ns: u64,
}

/// How it went, as the hand says it.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
enum Told {
    Begun {},
    Done { output: String },
    Untouched { why: String },
    Failed { why: String },
}

impl Deed {
    /// What a permit allows, decided by the policy with this digest, ordered now.
    pub fn new(permit: &ActionPermit, policy: Digest) -> Self {
        Self {
            policy,
            subject: permit.subject().clone(),
            rung: permit.attempt().rung.0 as usize,
            run: permit.incarnation(),
            class: permit.class(),
            ordered_at: clock::now(),
        }
    }

    /// Whether it may still be begun at `now`. An order from the future is none.
    pub fn is_timely(&self, now: Timestamp) -> bool {
        self.ordered_at.age_at(now).is_some_and(|age| age <= BEGUN_WITHIN)
    }

    fn to_line(&self) -> String {
        let line = Line {
            subject: self.subject.to_string(),
            rung: self.rung,
            boot: HEXLOWER.encode(&self.run.boot.0),
            invocation: HEXLOWER.encode(&self.run.invocation.0),
            class: self.class.as_str().to_owned(),
            policy: HEXLOWER.encode(&self.policy.0),
            ordered_at_ns: self.ordered_at.as_nanos(),
        };
        serde_json::to_string(&line).expect("texts and numbers are JSON") + "\n"
    }

    fn from_line(text: &str) -> Option<Self> {
        let line: Line = serde_json::from_str(text).ok()?;
        let bytes = |hex: &str| HEXLOWER.decode(hex.as_bytes()).ok();
        Some(Self {
            subject: SubjectName::new(&line.subject).ok()?,
            rung: line.rung,
            run: Incarnation {
                boot: BootId::from_slice(&bytes(&line.boot)?)?,
                invocation: InvocationId::from_slice(&bytes(&line.invocation)?)?,
            },
            class: FaultClass::from_word(&line.class).filter(|class| class.is_votable())?,
            policy: Digest::from_slice(&bytes(&line.policy)?)?,
            ordered_at: Timestamp::from_nanos(line.ordered_at_ns),
        })
    }
}

/// Has the hand at `socket` do it. It may take as long as its rung; the core's own deadline does not wait for it.
///
/// # Errors
/// [`BackendError::NotAsked`] when the hand could not be asked, [`BackendError::Untouched`] when it touched nothing.
pub async fn ask(socket: &Path, deed: &Deed) -> Result<ActReport, BackendError> {
    let not_asked = |error: io::Error| {
        let place = socket.display();
        BackendError::NotAsked(format!("the hand at {place}: {error}: `systemctl status zeta-bft-hand` says why"))
    };
    let mut stream = BufReader::new(UnixStream::connect(socket).await.map_err(not_asked)?);
    stream.get_mut().write_all(deed.to_line().as_bytes()).await.map_err(not_asked)?;
    let mut told = hear(&mut stream).await;
    if told.is_none() {
        return Err(BackendError::Untouched("the hand ended before it began".into()));
    }
    if matches!(told, Some(Told::Begun {})) {
        told = hear(&mut stream).await;
    }
    match told {
        Some(Told::Done { output }) => Ok(ActReport { output }),
        Some(Told::Untouched { why }) => Err(BackendError::Untouched(why)),
        Some(Told::Failed { why }) => Err(BackendError::Refused(why)),
        Some(Told::Begun {}) | None => {
            Err(BackendError::Nonsense("the hand began, and ended without an answer".into()))
        }
    }
}

async fn hear(stream: &mut BufReader<UnixStream>) -> Option<Told> {
    line(stream).await.ok().and_then(|line| serde_json::from_str(&line).ok())
}

/// Takes one deed from a connection.
///
/// # Errors
/// What the system says; `InvalidData` when it is none.
pub async fn take(stream: &mut BufReader<UnixStream>) -> io::Result<Deed> {
    let line = line(stream).await?;
    Deed::from_line(&line).ok_or_else(|| io::Error::new(io::ErrorKind::InvalidData, "it is no deed"))
}

/// Says that it begins now. False when the caller no longer waits: then it does not want it done.
pub async fn begin(stream: &mut BufReader<UnixStream>) -> bool {
    // It has said all it had to say, so nothing but the end can be read.
    let read = stream.get_ref().try_read(&mut [0]);
    let waits = stream.buffer().is_empty() && read.is_err_and(|error| error.kind() == io::ErrorKind::WouldBlock);
    waits && say(stream, &Told::Begun {}).await.is_ok()
}

/// Says how a deed went.
///
/// # Errors
/// What the system says.
pub async fn tell(stream: &mut BufReader<UnixStream>, went: Result<ActReport, BackendError>) -> io::Result<()> {
    let told = match went {
        Ok(ActReport { output }) => Told::Done { output },
        Err(BackendError::Untouched(why)) => Told::Untouched { why },
        Err(error) => Told::Failed { why: error.to_string() },
    };
    say(stream, &told).await
}

async fn say(stream: &mut BufReader<UnixStream>, told: &Told) -> io::Result<()> {
    let line = serde_json::to_string(told).expect("texts are JSON") + "\n";
    stream.get_mut().write_all(line.as_bytes()).await
}

async fn line(stream: &mut BufReader<UnixStream>) -> io::Result<String> {
    let mut line = String::new();
    stream.take(MAX_LINE).read_line(&mut line).await?;
    if line.ends_with('\n') { Ok(line) } else { Err(io::ErrorKind::UnexpectedEof.into()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn deed() -> Deed {
        Deed {
            subject: SubjectName::new("otto/agent").unwrap(),
            rung: 1,
            run: Incarnation { boot: BootId([1; 16]), invocation: InvocationId([2; 16]) },
            class: FaultClass::Hang,
            policy: Digest([3; 32]),
            ordered_at: Timestamp::from_nanos(7),
        }
    }

    #[test]
    fn a_deed_names_a_rung_and_a_run_and_nothing_else() {
        let deed = deed();
        assert_eq!(Deed::from_line(&deed.to_line()), Some(deed.clone()));
        let line = deed.to_line();
        for bad in [
            line.replace("HANG", "ENVIRONMENT"),
            line.replace("otto/agent", "../../etc"),
            line.replace("\"rung\":1", "\"rung\":-1"),
            line.replace("0202", "02"),
            line.replace("\"rung\"", "\"argv\":[\"/bin/sh\"],\"rung\""),
            String::new(),
        ] {
            assert_eq!(Deed::from_line(&bad), None, "{bad}");
        }
        let after = |wait: Duration| deed.ordered_at + wait;
        assert!(deed.is_timely(after(BEGUN_WITHIN)));
        assert!(!deed.is_timely(after(BEGUN_WITHIN + Duration::from_nanos(1))), "it is late");
        assert!(!deed.is_timely(Timestamp::ZERO), "it was ordered in the future");
    }

    #[tokio::test]
    async fn a_caller_that_hung_up_no_longer_wants_it_done() {
        let (caller, hand) = UnixStream::pair().unwrap();
        let mut hand = BufReader::new(hand);
        assert!(begin(&mut hand).await);
        drop(caller);
        hand.get_ref().readable().await.unwrap();
        assert!(!begin(&mut hand).await);
    }

    /// What the warden makes of a hand that says these lines and ends.
    async fn told(lines: &'static str) -> BackendError {
        let dir = tempfile::tempdir().unwrap();
        let place = dir.path().join("hand.sock");
        let listener = tokio::net::UnixListener::bind(&place).unwrap();
        let hand = async {
            let mut stream = BufReader::new(listener.accept().await.unwrap().0);
            take(&mut stream).await.unwrap();
            stream.get_mut().write_all(lines.as_bytes()).await.unwrap();
        };
        let deed = deed();
        tokio::join!(ask(&place, &deed), hand).0.unwrap_err()
    }

    #[tokio::test]
    async fn a_hand_that_ended_before_it_began_has_touched_nothing() {
        assert!(matches!(told("").await, BackendError::Untouched(_)));
        assert!(matches!(told("{\"begun\":{}}\n").await, BackendError::Nonsense(_)));
        assert!(matches!(told("{\"begun\":{}}\n{\"untouched\":{\"why\":\"x\"}}\n").await, BackendError::Untouched(_)));
        let nobody = ask(Path::new("/nonexistent/hand.sock"), &deed()).await.unwrap_err();
        assert!(matches!(nobody, BackendError::NotAsked(_)));
    }
}
