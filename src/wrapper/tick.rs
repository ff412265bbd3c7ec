//! One run of the persona's command per tick, and of its program's probe where a tick leaves open what failed.

use super::relay::{Relay, Sink};
use super::service::Progress;
use super::{WrapperConfig, family, probe, repair, until};
use crate::observe::ticks::{self, Ended, Reading, Tail};
use crate::protocol::evidence::{FaultClass, TickEnd};
use crate::protocol::types::Timestamp;
use std::os::unix::process::ExitStatusExt as _;
use std::process::Stdio;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncReadExt as _};
use tokio::process::{Child, Command};
use tokio::sync::watch;

/// Longest line that is passed on whole; longer ones are cut into several.
const LINE: usize = 8 * 1024;
/// How often orphans of a running tick are reaped.
const REAP: Duration = Duration::from_secs(2);
/// How long output is awaited after everybody who could write it is dead.
const LAST_WORDS: Duration = Duration::from_millis(500);
/// What the service manager told us is not for the tick: it must not speak in our name.
const NOT_INHERITED: &[&str] =
    &["NOTIFY_SOCKET", "WATCHDOG_USEC", "WATCHDOG_PID", "LISTEN_FDS", "LISTEN_PID", "LISTEN_FDNAMES"];

/// Ticks, one after the other, until told to stop; then nothing of the last one is left.
pub async fn run_all(config: WrapperConfig, progress: Progress, relay: Relay, stopped: watch::Receiver<bool>) {
    let inspect = config.paths.inspect_socket();
    loop {
        let repaired = repair::subject_under_repair(&inspect, config.persona.as_str()).await;
        let number = progress.begin(crate::clock::now());
        let limit = config.settings.tick_limit;
        let tick = command(&config, &config.settings.command, &repaired);
        let Some(run) = run(&config, tick, limit, Some(&relay), stopped.clone()).await else { return };
        let mut reading = read(&config, &run);
        if run.outcome(|tick| ticks::wants_probe(tick, reading))
            && let Some(argv) = &config.settings.probe
        {
            let Some(probe) = probe::run(&config, argv, &repaired, stopped.clone()).await else { return };
            reading = ticks::probed(reading, probe);
        }
        let end = tick_end(number, &run, reading);
        report(&config, &end);
        progress.end(end);
        tokio::select! {
            () = tokio::time::sleep(config.settings.tick_interval) => {}
            () = until(stopped.clone()) => return,
        }
    }
}

/// A run of a command that has ended, and of which nothing is left.
#[derive(Debug)]
pub(super) struct Run {
    began_at: Timestamp,
    ended_at: Timestamp,
    ended: Ended,
    stdout: Arc<Mutex<Tail>>,
    stderr: Arc<Mutex<Tail>>,
}

impl Run {
    /// What `look` sees in it.
    pub(super) fn outcome<T>(&self, look: impl FnOnce(ticks::Outcome<'_>) -> T) -> T {
        let stdout = self.stdout.lock().unwrap_or_else(PoisonError::into_inner);
        let stderr = self.stderr.lock().unwrap_or_else(PoisonError::into_inner);
        let duration = self.ended_at.saturating_since(self.began_at);
        look(ticks::Outcome { ended: self.ended, duration, stdout: &stdout, stderr: &stderr })
    }
}

/// Runs a command to its end or limit; `None` when told to stop meanwhile. On return nothing of it is left. Its output is
/// passed on with a `relay`, and kept for [`Run::outcome`] in any case.
pub(super) async fn run(
    config: &WrapperConfig,
    mut command: Command,
    limit: Duration,
    relay: Option<&Relay>,
    stopped: watch::Receiver<bool>,
) -> Option<Run> {
    let began_at = crate::clock::now();
    let (stdout, stderr) = (Arc::default(), Arc::default());
    let mut child = match command.spawn() {
        Ok(child) => child,
        Err(error) => {
            let program = command.as_std().get_program().to_string_lossy();
            tracing::warn!(persona = %config.persona, %program, %error, "program cannot be started");
            return Some(Run { began_at, ended_at: crate::clock::now(), ended: Ended::NotStarted, stdout, stderr });
        }
    };
    let mut readers = tokio::task::JoinSet::new();
    if let Some(pipe) = child.stdout.take() {
        readers.spawn(read_all(pipe, Sink::Stdout, Arc::clone(&stdout), relay.cloned()));
    }
    if let Some(pipe) = child.stderr.take() {
        readers.spawn(read_all(pipe, Sink::Stderr, Arc::clone(&stderr), relay.cloned()));
    }
    let ended = tokio::select! {
        biased;
        () = until(stopped) => None,
        ended = end_of(&mut child) => Some(ended),
        () = tokio::time::sleep(limit) => Some(Ended::TimedOut),
    };
    let ended_at = crate::clock::now();
    let undead = family::end(Some(&mut child)).await;
    if undead > 0 {
        tracing::error!(persona = %config.persona, undead, "processes of a tick cannot be killed");
    }
    // Readers that still wait are aborted with the set.
    let _ = tokio::time::timeout(LAST_WORDS, async { while readers.join_next().await.is_some() {} }).await;
    Some(Run { began_at, ended_at, ended: ended?, stdout, stderr })
}

/// A program as a tick sees the world: nothing on stdin, a process group of its own.
pub(super) fn command(config: &WrapperConfig, argv: &[String], repaired: &str) -> Command {
    let (program, arguments) = argv.split_first().map_or(("", &[][..]), |(p, a)| (p.as_str(), a));
    let mut command = Command::new(program);
    command
        .args(arguments)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .process_group(0)
        .env("ZETA_BFT_PERSONA", config.persona.as_str())
        .env("ZETA_BFT_REPAIR", repaired);
    for name in NOT_INHERITED {
        command.env_remove(name);
    }
    if let Some(folder) = &config.settings.working_dir {
        command.current_dir(folder);
    }
    command
}

/// The command's own end; meanwhile its orphans are reaped.
async fn end_of(child: &mut Child) -> Ended {
    loop {
        match tokio::time::timeout(REAP, child.wait()).await {
            Ok(Ok(status)) => {
                // One of the two is there once a process has ended.
                return status.code().map_or_else(|| Ended::Signalled(status.signal().unwrap_or(0)), Ended::Exited);
            }
            Ok(Err(error)) => {
                tracing::error!(%error, "a tick cannot be waited for");
                return Ended::Signalled(0);
            }
            Err(_) => family::reap_orphans(Some(child)),
        }
    }
}

/// Keeps the end of a stream, and passes it on line by line without terminal escapes.
async fn read_all(mut pipe: impl AsyncRead + Unpin, sink: Sink, tail: Arc<Mutex<Tail>>, relay: Option<Relay>) {
    let mut chunk = vec![0; LINE];
    let mut line = Vec::new();
    let mut after_return = false;
    while let Ok(read @ 1..) = pipe.read(&mut chunk).await {
        let bytes = &chunk[..read];
        tail.lock().unwrap_or_else(PoisonError::into_inner).push(bytes);
        let Some(relay) = &relay else { continue };
        for byte in bytes {
            match byte {
                b'\n' if after_return && line.is_empty() => {}
                b'\r' if line.is_empty() => {}
                b'\n' | b'\r' => pass(relay, sink, &mut line).await,
                byte => line.push(*byte),
            }
            after_return = *byte == b'\r';
            if line.len() >= LINE {
                pass(relay, sink, &mut line).await;
            }
        }
    }
    if let Some(relay) = relay.filter(|_| !line.is_empty()) {
        pass(&relay, sink, &mut line).await;
    }
}

async fn pass(relay: &Relay, sink: Sink, line: &mut Vec<u8>) {
    let mut text = ticks::plain(&String::from_utf8_lossy(line));
    text.push('\n');
    line.clear();
    relay.pass(sink, text.into_bytes()).await;
}

fn read(config: &WrapperConfig, run: &Run) -> Reading {
    run.outcome(|tick| ticks::classify(tick, &config.settings.patterns, &wall_clock()))
}

fn tick_end(number: u64, run: &Run, reading: Reading) -> TickEnd {
    TickEnd {
        number,
        began_at: run.began_at,
        duration: run.ended_at.saturating_since(run.began_at),
        exit_code: if let Ended::Exited(code) = run.ended { Some(code) } else { None },
        signal: if let Ended::Signalled(signal) = run.ended { Some(signal) } else { None },
        fault: reading.fault,
        reason: reading.reason,
        resume_at: reading.resume_at,
    }
}

/// The wall clock, in the zone of this machine.
fn wall_clock() -> jiff::Zoned {
    let seconds = i64::try_from(crate::clock::unix().as_secs()).unwrap_or(0);
    jiff::Timestamp::from_second(seconds).unwrap_or_default().to_zoned(jiff::tz::TimeZone::system())
}

fn report(config: &WrapperConfig, end: &TickEnd) {
    let (number, reason) = (end.number, end.reason.as_str());
    let millis = u64::try_from(end.duration.as_millis()).unwrap_or(u64::MAX);
    match end.fault.map(FaultClass::as_str) {
        None => tracing::info!(persona = %config.persona, number, millis, "tick ended well"),
        Some(class) => {
            let (exit, signal, resume_at) = (end.exit_code, end.signal, end.resume_at);
            tracing::warn!(persona = %config.persona, number, millis, class, reason, exit, signal, resume_at, "tick failed");
        }
    }
}
