//! What a guardian sees of each subject itself, and the one attestation that follows from it.
//!
//! The order of judgement, first match wins:
//! 1. the unit cannot be seen: UNKNOWN;
//! 2. PID 1's word ([`classify_unit`]): crashed is DOWN CRASH, hard; the operator's wish and the states between are UNKNOWN;
//! 3. soft evidence on a unit that runs, for which the observer must be well: an answer from another process than the
//!    unit's main one is UNKNOWN, until nobody answers any more; silence is DOWN HANG; nothing heard yet is UNKNOWN;
//! 4. a wrapper's ticks: ENVIRONMENT is shown and never voted; [`Timing::broken_ticks`] BROKEN ticks in a row are DOWN BROKEN,
//!    as of the reading; after a repair for BROKEN the first tick that ends decides, and until then it is UNKNOWN: within the
//!    episode only a good tick is UP;
//! 5. otherwise UP: idle between ticks, and a long tick, are healthy.
//!
//! Of a k3s everything but the operator's wish is left to [`super::service`].
//!
//! Liveness (pings, heartbeats) and progress (ticks) never refresh each other.

use super::super::evidence::{
    Attestation, Evidence, ExitZero, FaultClass, Reason, ServiceReading, TickState, UnitReading, UnitState, Verdict,
    classify_unit,
};
use super::super::failure_detector::{HangDetector, Liveness, SelfHealth};
use super::super::policy::{SubjectKind, SubjectPolicy, Timing};
use super::super::types::{
    BootId, Digest, EpisodeId, Incarnation, InvocationId, Nonce, PersonaId, SubjectName, Timestamp,
};
use super::service::{Service, Word};
use std::time::Duration;

/// A wrapper's ticks, as it told them.
#[derive(Clone, Debug, Hash)]
pub(super) struct Reading {
    pub(super) ticks: TickState,
    pub(super) at: Timestamp,
}

/// The fault for which a subject was last voted on or repaired in an episode, and the run that showed it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct EpisodeFault {
    pub(super) episode: EpisodeId,
    pub(super) incarnation: Incarnation,
    pub(super) class: FaultClass,
    /// When a repair of this very run ended: a tick that began before is no word on it.
    pub(super) repaired_at: Option<Timestamp>,
}

/// One subject, as this guardian sees it.
#[derive(Clone, Debug, Hash)]
pub(super) struct Observation {
    subject: SubjectName,
    exit_zero: ExitZero,
    boot: BootId,
    unit: Option<UnitState>,
    /// `None`: nothing to be heard of this kind of subject, or it is the guardian itself.
    detector: Option<HangDetector>,
    /// The last answer came from another process than the unit's main one.
    wrong_peer: bool,
    /// The guardian behind this agent lies: its words are worth nothing.
    pub(super) distrusted: bool,
    has_ticks: bool,
    reading: Option<Reading>,
    /// What is looked at by probes, and has neither pings nor ticks.
    service: Option<Service>,
    /// The newest challenge that a reading was made for.
    challenge_met: Option<Nonce>,
    pub(super) fault: Option<EpisodeFault>,
    /// Of the raw inputs; only what changes it is hashed.
    raw: Digest,
    attestation: Attestation,
}

impl Observation {
    pub(super) fn new(
        subject: &SubjectName,
        policy: &SubjectPolicy,
        me: &PersonaId,
        boot: BootId,
        timing: &Timing,
    ) -> Self {
        let patience = timing.hang.patience;
        let detector = match &policy.kind {
            SubjectKind::Wrapper(_) => Some(HangDetector::of_pings(timing.ping, patience)),
            SubjectKind::Agent(persona) if persona != me => {
                Some(HangDetector::of_heartbeats(timing.heartbeat, patience))
            }
            SubjectKind::Agent(_) | SubjectKind::K3s | SubjectKind::Unit => None,
        };
        Self {
            subject: subject.clone(),
            exit_zero: policy.exit_zero,
            boot,
            unit: None,
            detector,
            wrong_peer: false,
            distrusted: false,
            has_ticks: matches!(policy.kind, SubjectKind::Wrapper(_)),
            reading: None,
            service: (policy.kind == SubjectKind::K3s).then(Service::default),
            challenge_met: None,
            fault: None,
            raw: Digest::default(),
            attestation: Attestation {
                subject: subject.clone(),
                incarnation: Incarnation { boot, invocation: InvocationId::default() },
                verdict: Verdict::Unknown,
                class: Some(FaultClass::Unknown),
                evidence: Evidence::Soft,
                reason: Reason::CannotSee,
                observation: Digest::default(),
                observed_at: Timestamp::ZERO,
                resume_at: None,
            },
        }
    }

    pub(super) fn attestation(&self) -> &Attestation {
        &self.attestation
    }

    pub(super) fn ticks(&self) -> Option<&TickState> {
        self.reading.as_ref().map(|reading| &reading.ticks)
    }

    pub(super) fn challenge_met(&self) -> Option<Nonce> {
        self.challenge_met
    }

    /// Whether a tick ran when the ticks were last read: BROKEN does not interrupt it.
    pub(super) fn is_ticking(&self) -> bool {
        self.reading.as_ref().is_some_and(|reading| reading.ticks.running_since.is_some())
    }

    pub(super) fn unit_changed(&mut self, now: Timestamp, state: Option<UnitState>, timing: &Timing) {
        if let Some(state) = state {
            let known =
                self.attestation.incarnation == state.incarnation && self.attestation.observed_at > Timestamp::ZERO;
            let begins = state.is_running() && !self.unit.is_some_and(|unit| unit.is_running());
            if !known || begins {
                self.begin_run(now, &state, timing);
            }
        }
        self.unit = state;
        self.rehash();
    }

    fn begin_run(&mut self, now: Timestamp, state: &UnitState, timing: &Timing) {
        self.wrong_peer = false;
        self.reading = None;
        if let Some(service) = &mut self.service {
            service.begin_run();
        }
        self.challenge_met = None;
        if let Some(detector) = &mut self.detector {
            detector.restart(now, state.active_since.unwrap_or(now) + timing.start_grace);
        }
    }

    pub(super) fn ping_sent(&mut self, now: Timestamp) {
        if let Some(detector) = &mut self.detector {
            detector.asked(now);
        }
    }

    /// An answer counts only when it came from the unit's main process. Returns whether it did.
    pub(super) fn ping_answered(&mut self, now: Timestamp, pid: u32, round_trip: Duration) -> bool {
        let genuine = self.is_main(now, pid);
        if let (Some(detector), true) = (&mut self.detector, genuine) {
            detector.heard(now, Some(round_trip));
        }
        genuine
    }

    fn is_main(&mut self, now: Timestamp, pid: u32) -> bool {
        let genuine = self.unit.is_some_and(|unit| unit.main_pid == Some(pid));
        self.wrong_peer = !genuine && self.unit.is_some_and(|unit| unit.main_pid.is_some());
        if self.wrong_peer {
            // Somebody else has the socket, and then the main process cannot be asked; or it was the last word of the run before.
            self.excuse(now, Duration::ZERO);
        }
        genuine
    }

    /// A heartbeat came, straight from this agent.
    pub(super) fn heartbeat(&mut self, now: Timestamp) {
        if let Some(detector) = &mut self.detector {
            detector.heard(now, None);
        }
    }

    /// Ticks count only when the unit's main process told them; they are progress, and no sign of life. Returns whether
    /// they count.
    pub(super) fn ticks_read(&mut self, now: Timestamp, pid: u32, ticks: TickState, challenge: Option<Nonce>) -> bool {
        let genuine = self.is_main(now, pid);
        if genuine && self.has_ticks {
            let changed = self.reading.as_ref().is_none_or(|reading| reading.ticks != ticks);
            self.reading = Some(Reading { ticks, at: now });
            self.challenge_met = challenge.or(self.challenge_met);
            if changed {
                self.rehash();
            }
        }
        genuine
    }

    /// A look at the service itself. One at another run than the one that PID 1 shows now is worth nothing.
    pub(super) fn service_read(&mut self, now: Timestamp, reading: ServiceReading, challenge: Option<Nonce>) {
        let Some(service) = &mut self.service else { return };
        if self.unit.is_none_or(|unit| unit.incarnation != reading.run) {
            return;
        }
        self.challenge_met = challenge.or(self.challenge_met);
        let before = service.digest();
        service.look(now, reading);
        if service.digest() != before {
            self.rehash();
        }
    }

    /// The node or the observer slept: silence so far proves nothing.
    pub(super) fn excuse(&mut self, now: Timestamp, grace: Duration) {
        if let Some(detector) = &mut self.detector {
            detector.excuse(now, now + grace);
        }
    }

    /// The observer was late by `delay`.
    pub(super) fn forgive(&mut self, now: Timestamp, delay: Duration) {
        if let Some(detector) = &mut self.detector {
            detector.forgive(now, delay);
        }
    }

    /// When the verdict can change without any input.
    pub(super) fn deadline(&self, health: &SelfHealth) -> Option<Timestamp> {
        let silent = self.attestation.class == Some(FaultClass::Hang);
        if silent || !self.unit.is_some_and(|unit| unit.is_running()) {
            return None;
        }
        self.detector.as_ref().and_then(|detector| detector.deadline(health))
    }

    fn rehash(&mut self) {
        let ticks = self.reading.as_ref().map(|reading| &reading.ticks);
        let looked = self.service.as_ref().and_then(Service::digest);
        self.raw = Digest::of(format!("{:?} {ticks:?} {looked:?}", self.unit).as_bytes());
    }

    /// Forms the attestation anew; returns whether the word changed (not only its time).
    pub(super) fn judge(
        &mut self,
        now: Timestamp,
        episode: Option<EpisodeId>,
        health: &SelfHealth,
        timing: &Timing,
    ) -> bool {
        let next = self.judgement(now, episode, health, timing);
        let was = &self.attestation;
        let changed = (was.incarnation, was.verdict, was.class, was.reason, was.resume_at)
            != (next.incarnation, next.verdict, next.class, next.reason, next.resume_at);
        self.attestation = next;
        changed
    }

    fn judgement(
        &self,
        now: Timestamp,
        episode: Option<EpisodeId>,
        health: &SelfHealth,
        timing: &Timing,
    ) -> Attestation {
        let incarnation = self.unit.map_or(self.attestation.incarnation, |unit| unit.incarnation);
        let word = |verdict, class: Option<FaultClass>, reason| Attestation {
            subject: self.subject.clone(),
            incarnation,
            verdict,
            class,
            evidence: Evidence::Soft,
            reason,
            observation: self.raw,
            observed_at: now,
            resume_at: None,
        };
        let unknown = |reason| word(Verdict::Unknown, Some(FaultClass::Unknown), reason);
        let Some(unit) = self.unit.filter(|unit| unit.incarnation.boot == self.boot) else {
            return unknown(Reason::CannotSee);
        };
        let hard = |attestation| Attestation { evidence: Evidence::Hard, ..attestation };
        let reading = classify_unit(&unit, self.exit_zero, now);
        if let Some(service) = self.service.as_ref().filter(|_| !matches!(reading, UnitReading::Operator(_))) {
            let Word { verdict, class, evidence, reason, observed_at } =
                service.word(now, &unit, reading, health, timing);
            return Attestation { evidence, observed_at, ..word(verdict, class, reason) };
        }
        match reading {
            UnitReading::Operator(reason) => return hard(word(Verdict::Unknown, Some(FaultClass::Operator), reason)),
            UnitReading::Crashed(reason) => return hard(word(Verdict::Down, Some(FaultClass::Crash), reason)),
            UnitReading::Unknown(reason) => return hard(unknown(reason)),
            UnitReading::Running => {}
        }
        let up = || word(Verdict::Up, None, Reason::Running);
        let Some(detector) = &self.detector else {
            return hard(up());
        };
        if health.is_unwell() {
            return unknown(Reason::SelfUnwell);
        }
        if self.distrusted {
            return unknown(Reason::CannotSee);
        }
        match detector.liveness(now, health) {
            Liveness::Silent => return word(Verdict::Down, Some(FaultClass::Hang), Reason::PingSilent),
            _ if self.wrong_peer => return unknown(Reason::WrongPeer),
            Liveness::Unheard => return unknown(Reason::Grace),
            Liveness::Answering => {}
        }
        let heard_at = detector.heard_at().unwrap_or(now);
        let up = Attestation { observed_at: heard_at, ..up() };
        if !self.has_ticks {
            return up;
        }
        // From the first vote on it until the episode ends, it takes a good tick to be UP again.
        let broken = self.fault.filter(|fault| fault.class == FaultClass::Broken && Some(fault.episode) == episode);
        let last = self.reading.as_ref().and_then(|reading| Some((reading, reading.ticks.last.as_ref()?)));
        let Some((reading, last)) = last else {
            return if broken.is_some() { unknown(Reason::Grace) } else { up };
        };
        let before_the_repair = broken.is_some_and(|fault| {
            fault.incarnation == incarnation && fault.repaired_at.is_some_and(|at| last.began_at <= at)
        });
        match last.fault {
            Some(FaultClass::Environment) => Attestation {
                resume_at: last.resume_at,
                observed_at: reading.at,
                ..word(Verdict::Down, Some(FaultClass::Environment), last.reason)
            },
            Some(FaultClass::Broken) if before_the_repair => unknown(Reason::Grace),
            Some(FaultClass::Broken)
                if broken.is_some() || reading.ticks.broken_in_a_row >= timing.broken_ticks.max(1) =>
            {
                Attestation { observed_at: reading.at, ..word(Verdict::Down, Some(FaultClass::Broken), last.reason) }
            }
            None => Attestation { reason: Reason::TickOk, ..up },
            Some(_) => up,
        }
    }
}
