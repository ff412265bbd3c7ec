//! Looks at a k3s, again and again and for every challenge, and tells the guardian what each look was found to be.
//!
//! * A look is made every [`K3sSettings::interval`], at once when PID 1 shows another state of the unit, and at once when the
//!   warden's challenge asks for one: then the answer is of that very look.
//! * What PID 1 says anew holds at once: the last look is judged again under it before the next is made, so that a vote never
//!   outlives the state it was made for.
//! * After a suspend every run is young again, and no look from before counts: k3s and its ports need a while to be back, and
//!   the time asleep is no time in which a start could have come to its end.
//! * What root alone may read comes from the lookout. A look for which that was behind PID 1 shows nothing, and is made again
//!   soon.

use super::mind::{Gone, Message, Mouth};
use super::units::KnownUnits;
use crate::clock;
use crate::config::k3s::K3sConfig;
use crate::metrics::AgentMetrics;
use crate::observe::k3s::classify::{Finding, Judge, Unit};
use crate::observe::k3s::history::History;
use crate::observe::k3s::lookout::Lookout;
use crate::observe::k3s::reading::reading;
use crate::observe::k3s::{K3sSettings, Look, Observer, SettingsError, UnitRun};
use crate::protocol::evidence::{Activity, ExitZero, UnitState};
use crate::protocol::guardian::GuardianInput;
use crate::protocol::types::{Incarnation, Nonce, SubjectName, Timestamp};
use crate::warden::suspend::SuspendWatch;
use std::collections::BTreeMap;
use std::pin::pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::sync::mpsc;
use tokio::time::{MissedTickBehavior, interval};
use tracing::{info, warn};

/// How soon a look that missed what root sees is made again, and how often in a row.
const SOON: Duration = Duration::from_millis(300);
const AGAIN: u32 = 8;

/// What was last found, for people.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Shown {
    pub(super) at: Timestamp,
    pub(super) finding: Finding,
    pub(super) unseen: Vec<String>,
}

/// The newest finding on every k3s. Cheap to clone.
#[derive(Clone, Debug, Default)]
pub(super) struct Findings(Arc<Mutex<BTreeMap<SubjectName, Shown>>>);

impl Findings {
    fn set(&self, subject: &SubjectName, shown: Shown) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).insert(subject.clone(), shown);
    }

    pub(super) fn of(&self, subject: &SubjectName) -> Option<Shown> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).get(subject).cloned()
    }
}

/// One k3s to be looked at.
pub(super) struct K3s {
    subject: SubjectName,
    exit_zero: ExitZero,
    observer: Observer,
    judge: Judge,
    history: History,
    every: Duration,
    unit: Option<UnitState>,
    /// Since when PID 1 shows the unit's activity.
    since: Timestamp,
    last: Option<Look>,
    suspend: SuspendWatch,
    /// When the node was last seen to have slept.
    resumed: Option<Timestamp>,
    findings: Findings,
    metrics: AgentMetrics,
}

impl K3s {
    /// `lookout`: where root's own observer publishes; `None` where there is none.
    pub(super) fn new(
        subject: SubjectName,
        exit_zero: ExitZero,
        config: &K3sConfig,
        lookout: Option<Lookout>,
        findings: Findings,
        metrics: AgentMetrics,
    ) -> Result<Self, SettingsError> {
        let settings: K3sSettings = config.observer();
        let every = settings.interval;
        let observer = match lookout {
            Some(lookout) => Observer::with_lookout(settings, lookout)?,
            None => Observer::new(settings)?,
        };
        Ok(Self {
            subject,
            exit_zero,
            observer,
            judge: Judge::new(config),
            history: History::default(),
            every,
            unit: None,
            since: clock::now(),
            last: None,
            suspend: SuspendWatch::begin(),
            resumed: None,
            findings,
            metrics,
        })
    }

    /// Looks until the guardian ends. Each of `wanted` is a look to be made at once, for that challenge.
    pub(super) async fn watch(mut self, mouth: Mouth, mut units: KnownUnits, mut wanted: mpsc::Receiver<Nonce>) {
        let mut looks = interval(self.every);
        looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut again = 0;
        loop {
            let mut challenge = None;
            let soon = (1..=AGAIN).contains(&again);
            tokio::select! {
                biased;
                asked = wanted.recv() => match asked {
                    Some(nonce) => challenge = Some(nonce),
                    None => return,
                },
                () = units.changed() => {
                    if !self.note_unit(&units) {
                        continue;
                    }
                    again = 0;
                    if self.judge_again(&mouth).await.is_err() {
                        return;
                    }
                }
                () = tokio::time::sleep(SOON), if soon => {}
                _ = looks.tick() => again = 0,
            }
            self.note_unit(&units);
            let Ok(whole) = self.look(&mouth, &mut units, &mut wanted, challenge).await else { return };
            again = if whole { 0 } else { again + 1 };
        }
    }

    /// One look; whether it was of one run, and missed nothing that root sees. A challenge that comes meanwhile begins it anew:
    /// to wait for its end would leave too little time for another. So does another state of the unit: a look at both shows
    /// neither, and a k3s that ends again and again could else never be seen while its ports are silent.
    async fn look(
        &mut self,
        mouth: &Mouth,
        units: &mut KnownUnits,
        wanted: &mut mpsc::Receiver<Nonce>,
        mut challenge: Option<Nonce>,
    ) -> Result<bool, Gone> {
        let (known, subject) = (units.clone(), self.subject.clone());
        let mut look = loop {
            if self.note_unit(units) {
                self.judge_again(mouth).await?;
            }
            self.note_resume();
            let (begun, resumed) = (shape_of(self.unit), self.resumed);
            let looking = pin!(self.observer.look(|| run_of(known.state(&subject)?, resumed)));
            tokio::select! {
                biased;
                asked = wanted.recv() => challenge = Some(asked.ok_or(Gone)?),
                look = looking => break look,
                () = another_shape(units, &subject, begun) => {}
            }
        };
        self.note_unit(units);
        // Without k3s' last words nobody knows whether another start helps.
        if self.observer.is_behind() {
            look.run = None;
        }
        // Half of it was seen before a sleep.
        if self.note_resume() {
            look.run = None;
        }
        let whole = look.run.is_some();
        if let Some(finding) = self.tell(mouth, &look, challenge).await? {
            self.history.note(&look, finding.noted());
        }
        self.metrics.k3s_looked(&self.subject, &look);
        self.last = Some(look);
        Ok(whole)
    }

    /// What PID 1 says now. False: nothing new.
    fn note_unit(&mut self, units: &KnownUnits) -> bool {
        let now = units.state(&self.subject);
        if now == self.unit {
            return false;
        }
        if shape_of(now) != shape_of(self.unit) {
            self.since = clock::now();
        }
        self.unit = now;
        true
    }

    /// Whether the node slept since the last question. What was seen before that shows nothing any more.
    fn note_resume(&mut self) -> bool {
        let slept = self.suspend.resumed();
        if slept {
            self.resumed = Some(clock::now());
            self.history.forget_looks();
            if let Some(last) = &mut self.last {
                last.run = None;
            }
        }
        slept
    }

    /// The last look under PID 1's newest word.
    async fn judge_again(&mut self, mouth: &Mouth) -> Result<(), Gone> {
        self.note_resume();
        if let Some(look) = self.last.take() {
            self.tell(mouth, &look, None).await?;
            self.last = Some(look);
        }
        Ok(())
    }

    /// Judges a look and tells the guardian; `None` while PID 1 does not show the unit.
    async fn tell(&self, mouth: &Mouth, look: &Look, challenge: Option<Nonce>) -> Result<Option<Finding>, Gone> {
        let Some(state) = &self.unit else { return Ok(None) };
        let now = clock::now();
        let unit = Unit { state, since: self.since, exit_zero: self.exit_zero };
        let finding = self.judge.classify(now, look, unit, &self.history);
        let reading = reading(&finding, look, state, self.exit_zero, now);
        self.show(&finding, look);
        let subject = self.subject.clone();
        mouth.sense(Message::Input(GuardianInput::ServiceRead { subject, reading, challenge })).await?;
        Ok(Some(finding))
    }

    fn show(&self, finding: &Finding, look: &Look) {
        let was = self.findings.of(&self.subject);
        let key = |finding: &Finding| (finding.row.clone(), finding.class, finding.withheld.is_some());
        if was.as_ref().map(|was| key(&was.finding)) != Some(key(finding)) {
            let (subject, row) = (&self.subject, &finding.row);
            if finding.class.is_none() {
                info!(%subject, row, "{finding}");
            } else {
                warn!(%subject, row, "{finding}");
            }
        }
        let unseen = self.observer.unseen().to_vec();
        self.findings.set(&self.subject, Shown { at: look.at, finding: finding.clone(), unseen });
    }
}

/// Which run, and what it is doing.
fn shape_of(unit: Option<UnitState>) -> Option<(Incarnation, u8)> {
    unit.map(|unit| (unit.incarnation, kind_of(unit.activity)))
}

/// Returns when PID 1 shows another run, or that it is doing something else.
async fn another_shape(units: &mut KnownUnits, subject: &SubjectName, shape: Option<(Incarnation, u8)>) {
    while shape_of(units.state(subject)) == shape {
        units.changed().await;
    }
}

/// An activity without what changes from reading to reading.
const fn kind_of(activity: Activity) -> u8 {
    match activity {
        Activity::Active => 0,
        Activity::Activating => 1,
        Activity::AutoRestart { .. } => 2,
        Activity::Deactivating => 3,
        Activity::Inactive => 4,
        Activity::Failed => 5,
    }
}

fn run_of(unit: UnitState, resumed: Option<Timestamp>) -> Option<UnitRun> {
    let lives = matches!(unit.activity, Activity::Active | Activity::Activating);
    let age = unit.began_at.filter(|_| lives).map(|began| age(began, resumed, clock::now()));
    Some(UnitRun { run: unit.incarnation, age })
}

/// For how long a run that began at one moment has been awake without a break.
fn age(began: Timestamp, resumed: Option<Timestamp>, now: Timestamp) -> Duration {
    now.saturating_since(resumed.map_or(began, |resumed| resumed.max(began)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_run_is_as_old_as_it_was_awake_since_the_last_sleep() {
        let at = |seconds| Timestamp::ZERO + Duration::from_secs(seconds);
        let aged = |began, resumed: Option<u64>, now| age(at(began), resumed.map(at), at(now)).as_secs();
        assert_eq!(aged(100, None, 120), 20);
        let night = 8 * 3600;
        assert_eq!(aged(100, Some(120 + night), 125 + night), 5, "it slept through the night");
        assert_eq!(aged(130 + night, Some(120 + night), 150 + night), 20, "it began after that");
        assert_eq!(aged(200, None, 100), 0);
    }
}
