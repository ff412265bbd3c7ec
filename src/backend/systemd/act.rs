//! What the hand does: each rung of a ladder, by systemd.
//!
//! Rules implemented here:
//! * Every job has mode `fail`: where the operator's job is queued, ours is refused.
//! * The unit is read once more right before (rule S3), after every signal that came until then; another run, a job or the
//!   operator's word ends the act.
//! * A HANG is killed first: a stopped process would use up the whole stop time-out. What systemd makes of the death is
//!   awaited before anything else is done, so that its own restart and ours never race: only a unit that is then CRASHED, by
//!   the very reading that voters use, is restarted.
//! * Of a k3s only the main process is killed, and only where its start never ends: its containers live beside it.
//! * Of a `run`, `move-aside` or `copy-aside` rung only the name is passed on; root reads in its own configuration what is to
//!   be done.

use super::bus::manager;
use super::deed::Deed;
use super::observer::{Ask, Job, Live, Order};
use super::proxy::FAIL;
use crate::backend::{ActReport, BackendError};
use crate::clock;
use crate::config::paths::Paths;
use crate::config::{self, never, rung};
use crate::protocol::evidence::{Activity, ExitZero, FaultClass, Reason, UnitReading, UnitState, classify_unit};
use crate::protocol::policy::{Action, Policy, RungPolicy, SubjectKind, SubjectPolicy};
use crate::protocol::types::{Incarnation, SubjectName};
use rustix::process::Signal;
use std::path::Path;
use std::time::Duration;
use tokio::sync::oneshot;

/// Longest wait for what systemd makes of a killed process.
const DEATH_LIMIT: Duration = Duration::from_secs(5);
/// Longest wait for a job of a unit that starts, beyond which only the core's own deadline counts.
const JOB_LIMIT: Duration = Duration::from_secs(120);
/// Longest wait for a copy.
const COPY_LIMIT: Duration = Duration::from_secs(600);
/// How much of a rung's output is read, in bytes.
const OUTPUT_MAX: u64 = 4096;

/// Carries out what the permit allows.
pub(super) async fn act(live: &Live, policy: &Policy, paths: &Paths, deed: &Deed) -> Result<ActReport, BackendError> {
    let (subject, rung) = allowed(policy, paths.state(), deed)?;
    let hand = Hand { live, subject, deed };
    let hangs = deed.class == FaultClass::Hang || hand.starts_for_ever().await?;
    match &rung.action {
        Action::Restart => hand.restart(hangs, false).await?,
        Action::ResetFailed => hand.restart(hangs, true).await?,
        Action::Stop => hand.stop(hangs).await?,
        Action::Run { limit, .. } => return hand.rung(paths, *limit + JOB_LIMIT).await,
        Action::CopyAside { .. } => {
            // What a k3s writes while it is copied makes the copy worthless.
            if subject.kind == SubjectKind::K3s {
                return hand.stop_and_copy(paths).await;
            }
            return hand.rung(paths, COPY_LIMIT).await;
        }
        Action::MoveAside { .. } => {
            let moved = hand.rung(paths, JOB_LIMIT).await?;
            hand.restart(hangs, false).await.map_err(begun)?;
            return Ok(moved);
        }
        Action::Page => {}
    }
    Ok(ActReport::default())
}

/// The rung that a deed names, if root may do that at all.
fn allowed<'a>(
    policy: &'a Policy,
    state: &Path,
    deed: &Deed,
) -> Result<(&'a SubjectPolicy, &'a RungPolicy), BackendError> {
    let subject = policy.subject(&deed.subject);
    let found = subject.and_then(|subject| Some((subject, subject.ladder.get(deed.rung)?)));
    let (name, number) = (&deed.subject, deed.rung);
    let Some((subject, rung)) = found else {
        return Err(BackendError::Untouched(format!("the configuration has no rung {number} of {name}")));
    };
    never::check(rung, state).map_err(|why| BackendError::Untouched(format!("rung {number} of {name}: {why}")))?;
    Ok((subject, rung))
}

/// Whether the rung's unit, which reads the configuration anew, will find what was decided on. Warden and hand read it when
/// they started.
fn unchanged(paths: &Paths, deed: &Deed) -> Result<(), BackendError> {
    let digest = config::load(paths).map(|settings| settings.policy.digest);
    match digest {
        Ok(digest) if digest == deed.policy => Ok(()),
        Ok(_) => Err(BackendError::Untouched(
            "node.toml is not what was decided by: `systemctl restart zeta-bft-hand zeta-bft-warden`".into(),
        )),
        Err(error) => Err(BackendError::Untouched(format!("the configuration cannot be read any more: {error}"))),
    }
}

struct Hand<'a> {
    live: &'a Live,
    subject: &'a SubjectPolicy,
    deed: &'a Deed,
}

impl Hand<'_> {
    /// Queues a job, if the unit is still what was voted on right before, and the order still in time.
    async fn order(&self, job: Job) -> Result<String, BackendError> {
        let (subject, run) = (self.subject.clone(), self.deed.run);
        let only_down = self.copies() && subject.kind == SubjectKind::K3s;
        // A hang was killed on this order already, and that took its time.
        let timely = (self.deed.class != FaultClass::Hang).then(|| self.deed.clone());
        let check = Box::new(move |state: &UnitState| {
            if timely.as_ref().is_some_and(|deed| !deed.is_timely(clock::now())) {
                return Err(BackendError::Untouched("the order came too late".into()));
            }
            check(state, &subject, run)?;
            // It may have come up since it was last read.
            if only_down && state.is_running() {
                return Err(BackendError::Untouched(format!("{} runs: it is not stopped for a copy", subject.unit)));
            }
            Ok(())
        });
        let order = Order { subject: self.deed.subject.clone(), run, check, job };
        let (answer, queued) = oneshot::channel();
        self.live.asks.send(Ask::Order(order, answer)).await.map_err(|_| unasked(gone()))?;
        queued.await.map_err(|_| gone())?
    }

    /// The same, for what is no job of the unit's own.
    async fn check(&self) -> Result<(), BackendError> {
        let state = read(self.live, &self.deed.subject).await.map_err(unasked)?;
        check(&state, self.subject, self.deed.run)
    }

    /// Whether it is a k3s that is being started and never done: its start is a job, which ends with its process.
    async fn starts_for_ever(&self) -> Result<bool, BackendError> {
        if self.subject.kind != SubjectKind::K3s || self.deed.class != FaultClass::Broken {
            return Ok(false);
        }
        Ok(read(self.live, &self.deed.subject).await.map_err(unasked)?.activity == Activity::Activating)
    }

    /// Whether its rung is a copy.
    fn copies(&self) -> bool {
        self.subject.ladder.get(self.deed.rung).is_some_and(|rung| matches!(rung.action, Action::CopyAside { .. }))
    }

    fn exit_zero(&self) -> ExitZero {
        self.subject.exit_zero
    }

    async fn restart(&self, hangs: bool, reset: bool) -> Result<(), BackendError> {
        let unit = self.subject.unit.as_str();
        if hangs {
            self.check().await?;
            if !self.kill().await? {
                return Ok(());
            }
        }
        let job = self.order(if reset { Job::ResetAndRestart } else { Job::Restart }).await;
        let job = if hangs { job.map_err(begun)? } else { job? };
        self.done(job, JOB_LIMIT, || format!("restart of {unit}")).await
    }

    /// Keeps systemd from starting it again, copies, and leaves it so: only a human knows what its data should be. One that
    /// runs is not stopped for that.
    async fn stop_and_copy(&self, paths: &Paths) -> Result<ActReport, BackendError> {
        unchanged(paths, self.deed)?;
        self.stop(false).await?;
        self.carry_out_rung(paths, COPY_LIMIT).await.map_err(begun)
    }

    async fn stop(&self, hangs: bool) -> Result<(), BackendError> {
        let unit = self.subject.unit.as_str();
        let job = self.order(Job::Stop).await?;
        if hangs {
            // The job is there, so nothing starts anew whatever dies now.
            let manager = manager(&self.live.connection).await.map_err(refused)?;
            manager.kill_unit(unit, "all", Signal::KILL.as_raw()).await.map_err(refused)?;
        }
        self.done(job, JOB_LIMIT, || format!("stop of {unit}")).await
    }

    /// Kills a process that hangs and waits for what systemd makes of it. False when systemd starts it anew by itself.
    async fn kill(&self) -> Result<bool, BackendError> {
        let unit = self.subject.unit.as_str();
        let manager = manager(&self.live.connection).await.map_err(refused)?;
        // In a k3s' control group its containers live.
        let whom = if self.subject.kind == SubjectKind::K3s { "main" } else { "all" };
        manager.kill_unit(unit, whom, Signal::KILL.as_raw()).await.map_err(refused)?;
        let mut states = self.live.states.clone();
        let settled = states.wait_for(|states| {
            let state = states.get(&self.deed.subject).copied().flatten();
            state.is_some_and(|state| self.after_death(&state).is_some())
        });
        let settled = tokio::time::timeout(DEATH_LIMIT, settled).await;
        match settled {
            Ok(Ok(states)) => {
                let state = states.get(&self.deed.subject).copied().flatten();
                match state.and_then(|state| self.after_death(&state)) {
                    Some(Death::Crashed) => Ok(true),
                    Some(Death::RunsAnew) => Ok(false),
                    Some(Death::Operator(reason)) => {
                        Err(BackendError::Refused(format!("{unit} was stopped meanwhile ({reason}): it stays so")))
                    }
                    None => Err(BackendError::Nonsense(format!("{unit} is not to be read after its death"))),
                }
            }
            Ok(Err(_)) => Err(BackendError::Unreachable { place: "the system bus".into(), why: "it is gone".into() }),
            Err(_) => Err(BackendError::Refused(format!(
                "{unit} was killed, but systemd has not seen it end within {} s",
                DEATH_LIMIT.as_secs()
            ))),
        }
    }

    /// What became of a killed unit; `None` while that is open.
    fn after_death(&self, state: &UnitState) -> Option<Death> {
        // A new run, even one that takes its time to start, is systemd's own restart.
        if state.incarnation != self.deed.run {
            return Some(Death::RunsAnew);
        }
        match classify_unit(state, self.exit_zero(), clock::now()) {
            UnitReading::Crashed(_) => Some(Death::Crashed),
            UnitReading::Operator(reason) => Some(Death::Operator(reason)),
            UnitReading::Running | UnitReading::Unknown(_) => None,
        }
    }

    /// Has root carry the rung out.
    async fn rung(&self, paths: &Paths, limit: Duration) -> Result<ActReport, BackendError> {
        unchanged(paths, self.deed)?;
        self.check().await?;
        self.carry_out_rung(paths, limit).await
    }

    async fn carry_out_rung(&self, paths: &Paths, limit: Duration) -> Result<ActReport, BackendError> {
        let (subject, number) = (&self.deed.subject, self.deed.rung);
        let unit = rung::unit(subject, number);
        let manager = manager(&self.live.connection).await.map_err(refused)?;
        let job = manager.start_unit(&unit, FAIL).await.map_err(refused)?;
        let ended = self.done(job.to_string(), limit, || unit.clone()).await;
        let output = output(&paths.rung_output(&rung::instance(subject, number)));
        match ended {
            Ok(()) => Ok(ActReport { output }),
            Err(BackendError::Refused(why)) => Err(BackendError::Refused(format!("{why}: {output}"))),
            Err(error) => Err(error),
        }
    }

    /// Waits for a job's end.
    async fn done(&self, job: String, limit: Duration, what: impl Fn() -> String) -> Result<(), BackendError> {
        let (answer, ended) = oneshot::channel();
        self.live.asks.send(Ask::Job(job, answer)).await.map_err(|_| gone())?;
        match tokio::time::timeout(limit, ended).await {
            Ok(Ok(result)) if result == "done" => Ok(()),
            Ok(Ok(result)) => Err(BackendError::Refused(format!("{} ended as `{result}`", what()))),
            Ok(Err(_)) => Err(gone()),
            Err(_) => Err(BackendError::Refused(format!("{} has not ended in {} s", what(), limit.as_secs()))),
        }
    }
}

enum Death {
    Crashed,
    RunsAnew,
    Operator(Reason),
}

/// What is refused after something was done is a failure, not an act that left all untouched.
fn begun(error: BackendError) -> BackendError {
    match error {
        BackendError::Untouched(why) => BackendError::Refused(why),
        other => other,
    }
}

/// What was lost before anything was asked for leaves all untouched.
fn unasked(error: BackendError) -> BackendError {
    match error {
        BackendError::Unreachable { .. } => BackendError::Untouched(error.to_string()),
        other => other,
    }
}

/// Whether a unit is still what was voted on.
fn check(state: &UnitState, subject: &SubjectPolicy, wanted: Incarnation) -> Result<(), BackendError> {
    let unit = &subject.unit;
    if state.incarnation != wanted {
        return Err(BackendError::Untouched(format!("{unit} is run {} now, not {wanted}", state.incarnation)));
    }
    let reading = classify_unit(state, subject.exit_zero, clock::now());
    if reading != UnitReading::Running && subject.may_be_unwell(state, reading) {
        return Ok(());
    }
    if state.job_pending {
        return Err(BackendError::Untouched(format!("a job is queued for {unit}")));
    }
    match reading {
        UnitReading::Operator(reason) => Err(BackendError::Untouched(format!("{unit} is the operator's ({reason})"))),
        UnitReading::Unknown(reason) => Err(BackendError::Untouched(format!("{unit} is not to be judged ({reason})"))),
        UnitReading::Running | UnitReading::Crashed(_) => Ok(()),
    }
}

/// Reads a unit now.
pub(super) async fn read(live: &Live, subject: &SubjectName) -> Result<UnitState, BackendError> {
    let (answer, state) = oneshot::channel();
    live.asks.send(Ask::Read(subject.clone(), answer)).await.map_err(|_| gone())?;
    state.await.map_err(|_| gone())?
}

pub(super) fn gone() -> BackendError {
    BackendError::Unreachable { place: "the system bus".into(), why: "the connection is being made anew".into() }
}

pub(super) fn refused(error: zbus::Error) -> BackendError {
    match error {
        zbus::Error::MethodError(name, text, _) => {
            BackendError::Refused(format!("{} ({name})", text.unwrap_or_else(|| "no reason given".into())))
        }
        other => BackendError::Unreachable { place: "the system bus".into(), why: other.to_string() },
    }
}

/// What a rung printed; it may be gone or never have been.
fn output(path: &std::path::Path) -> String {
    use std::io::Read as _;
    let mut bytes = Vec::new();
    let read = std::fs::File::open(path).and_then(|file| file.take(OUTPUT_MAX).read_to_end(&mut bytes));
    match read {
        Ok(_) => String::from_utf8_lossy(&bytes).into_owned(),
        Err(error) => format!("(no output: {error})"),
    }
}

#[cfg(test)]
mod tests {
    use super::super::observer::Lost;
    use super::*;
    use crate::protocol::types::{BootId, ClusterId, Digest, InvocationId, NodeId};

    fn deed(policy: Digest) -> Deed {
        let run = Incarnation { boot: BootId([1; 16]), invocation: InvocationId([2; 16]) };
        let subject = SubjectName::new("tunnel").unwrap();
        Deed { policy, subject, rung: 0, run, class: FaultClass::Crash, ordered_at: clock::now() }
    }

    #[test]
    fn a_rung_of_a_changed_configuration_is_not_carried_out() {
        let dir = tempfile::tempdir().unwrap();
        let paths = Paths::below(dir.path());
        std::fs::create_dir_all(paths.config()).unwrap();
        let text = config::default_node_toml(&ClusterId::new("c").unwrap(), &NodeId::new("n").unwrap());
        let rung = "[subjects.tunnel]\nkind = \"unit\"\nunit = \"tunnel.service\"\n[[subjects.tunnel.ladder]]\n\
            action = \"run\"\nargv = [\"/bin/echo\", \"done\"]\nlimit = \"1m\"\n";
        let write = |rung: &str| std::fs::write(paths.node_toml(), format!("{text}\n{rung}")).unwrap();
        write(rung);
        let decided = deed(config::load(&paths).unwrap().policy.digest);
        unchanged(&paths, &decided).unwrap();
        for other in [rung.replace("done", "more"), "this is no configuration".into()] {
            write(&other);
            assert!(matches!(unchanged(&paths, &decided), Err(BackendError::Untouched(_))), "{other}");
        }
    }

    #[test]
    fn an_order_that_nobody_looked_at_leaves_all_untouched() {
        let subject = SubjectName::new("tunnel").unwrap();
        let run = deed(Digest([0; 32])).run;
        let order = Order { subject, run, check: Box::new(|_| Ok(())), job: Job::Restart };
        let (answer, mut queued) = oneshot::channel();
        Ask::Order(order, answer).turn_away(&Lost::Late);
        assert!(matches!(queued.try_recv(), Ok(Err(BackendError::Untouched(_)))));
        assert!(matches!(unasked(gone()), BackendError::Untouched(_)));
        assert!(matches!(unasked(BackendError::Refused("no".into())), BackendError::Refused(_)), "a refusal stays one");
    }
}
