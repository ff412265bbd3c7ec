//! The node as one state: the real warden, the real guardians, PID 1's units, the disk, the network, and the books.
//!
//! A move is applied whole: the machines are forked, stepped, and their effects carried out or put where a later move finds them.

use crate::books::Books;
use crate::guards::Guard;
use crate::moves::Vigour;
use crate::scope::{BOOT, CODEC, Left, S, Scope};
use crate::signatures::Scheme;
use std::collections::{BTreeMap, BTreeSet};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::Arc;
use std::time::Duration;
use zeta_bft::journal::StoredRecord;
use zeta_bft::protocol::evidence::{Activity, FaultClass, LastExit, Reason, TickEnd, TickState, UnitState};
use zeta_bft::protocol::policy::SubjectKind;
use zeta_bft::protocol::record::{Record, chain_hash};
use zeta_bft::protocol::statement::{Codec, Envelope, EquivocationProof, JournalHead};
use zeta_bft::protocol::types::{Digest, Incarnation, InvocationId, Nonce, PersonaId, SubjectName, Timestamp};
use zeta_bft::protocol::warden::{Attempt, Warden};

/// What goes from a guardian to the warden.
#[derive(Clone, Debug)]
pub enum Message {
    Statement(Envelope),
    Proof(EquivocationProof),
    Receipt(Envelope),
}

impl Hash for Message {
    fn hash<H: Hasher>(&self, into: &mut H) {
        match self {
            Self::Statement(envelope) => (0, &envelope.payload).hash(into),
            Self::Proof(proof) => (1, &proof.first.payload, &proof.second.payload).hash(into),
            // The chain's hashes in it differ between histories only.
            Self::Receipt(_) => 2.hash(into),
        }
    }
}

/// A permit that PID 1 has not yet acted on.
#[derive(Clone, Debug, Hash)]
pub struct Errand {
    pub attempt: Attempt,
    pub subject: SubjectName,
    pub run: Incarnation,
}

/// A unit as it really is.
#[derive(Clone, Debug, Hash)]
pub struct Unit {
    pub state: UnitState,
    pub silent: bool,
    pub broken: bool,
    pub ticks: TickState,
    /// The warden has not heard of the last change.
    pub warden_stale: bool,
}

/// The journal: what is on the disk, and what is not yet.
#[derive(Clone, Default)]
pub struct Disk {
    pub durable: Vec<Arc<StoredRecord>>,
    pub loose: Vec<Arc<StoredRecord>>,
}

impl Disk {
    pub fn end(&self) -> JournalHead {
        let last = self.loose.last().or(self.durable.last());
        last.map(|record| JournalHead { seq: record.seq, hash: record.hash }).unwrap_or_default()
    }

    pub fn synced(&self) -> JournalHead {
        self.durable.last().map(|record| JournalHead { seq: record.seq, hash: record.hash }).unwrap_or_default()
    }

    /// # Errors
    /// When the record does not follow the last.
    pub fn append(&mut self, seq: u64, previous: Digest, record: &Record) -> Result<(), String> {
        let end = self.end();
        if seq != end.seq + 1 || previous != end.hash {
            return Err(format!("record {seq} does not follow {}", end.seq));
        }
        let encoded = Codec::<Record>::encode(&CODEC, record);
        let hash = chain_hash(&previous, seq, &encoded);
        self.loose.push(Arc::new(StoredRecord { seq, previous, hash, carried: false, encoded, at: 0 }));
        Ok(())
    }

    pub fn sync(&mut self) {
        self.durable.append(&mut self.loose);
    }
}

/// The whole of it.
#[derive(Clone)]
pub struct Node {
    /// Seconds since boot.
    pub now: u64,
    pub warden: Arc<Warden<Scheme>>,
    pub guards: BTreeMap<PersonaId, Guard>,
    pub units: BTreeMap<SubjectName, Unit>,
    pub disk: Disk,
    /// On their way to the warden.
    pub flight: Vec<(PersonaId, Message)>,
    /// Votes that were delivered, to be sent once more.
    pub seen: Vec<Envelope>,
    /// The newest episode of each subject, as this warden published it.
    pub published: BTreeMap<SubjectName, Envelope>,
    /// Looks that the warden waits for.
    pub rereads: Vec<(Attempt, SubjectName)>,
    pub errands: Vec<Errand>,
    pub challenge: Option<(u32, Nonce)>,
    /// Readings that guardians were asked for.
    pub looks: Vec<(PersonaId, SubjectName, Nonce)>,
    /// Runs that PID 1 has numbered so far.
    pub runs: u8,
    pub warden_runs: u8,
    pub left: Left,
    pub books: Books,
    /// Moves made since the exploration began. Not part of the state.
    pub made: usize,
    /// What the last move brought about. Not part of the state.
    pub facts: BTreeSet<String>,
    /// Of everything that decides the future.
    pub print: u64,
}

impl Node {
    pub fn clock(&self) -> Timestamp {
        Timestamp::ZERO + self.now as u32 * S
    }

    pub fn fact(&mut self, fact: impl Into<String>) {
        self.facts.insert(fact.into());
    }

    /// Computes the print anew; to be called at the end of a move.
    pub fn seal(&mut self) {
        let mut hasher = DefaultHasher::new();
        (self.now, &self.units, &self.flight, &self.rereads, &self.errands).hash(&mut hasher);
        (self.challenge, &self.looks, self.runs, self.warden_runs, self.left, &self.books).hash(&mut hasher);
        self.warden.hash_future(&mut hasher);
        for (persona, guard) in &self.guards {
            persona.hash(&mut hasher);
            guard.hash(&mut hasher);
        }
        self.seen.iter().for_each(|envelope| envelope.payload.hash(&mut hasher));
        self.disk.durable.len().hash(&mut hasher);
        for record in &self.disk.loose {
            // The kind of record, without the chain's hashes in it.
            (record.seq, record.encoded.first(), record.encoded.len()).hash(&mut hasher);
        }
        self.print = hasher.finish();
    }

    // ---- units ----

    fn new_run(&mut self) -> (Incarnation, u32) {
        self.runs += 1;
        (Incarnation { boot: BOOT, invocation: InvocationId([self.runs; 16]) }, 100 + u32::from(self.runs))
    }

    /// A new run of a unit, told to nobody yet.
    pub fn start(&mut self, subject: &SubjectName, vigour: Vigour) {
        let (incarnation, pid) = self.new_run();
        let now = self.clock();
        let before = self.units.get(subject).cloned();
        let state = UnitState {
            activity: Activity::Active,
            main_pid: Some(pid),
            active_since: Some(now),
            began_at: Some(now),
            ..UnitState::never_started(incarnation)
        };
        let ticks = TickState { interval: S, ..TickState::default() };
        let unit = Unit { state, silent: false, broken: false, ticks, warden_stale: false };
        self.units.insert(subject.clone(), unit);
        self.books.runs_anew(subject);
        if let (Vigour::SameFault, Some(before)) = (vigour, before) {
            let class = if !before.state.is_running() {
                FaultClass::Crash
            } else if before.silent {
                FaultClass::Hang
            } else {
                FaultClass::Broken
            };
            self.harm(subject, class);
        }
        self.changed(subject);
    }

    pub fn harm(&mut self, subject: &SubjectName, class: FaultClass) {
        let now = self.clock();
        let Some(unit) = self.units.get_mut(subject) else { return };
        match class {
            FaultClass::Crash => {
                unit.state.activity = Activity::Failed;
                unit.state.last_exit = LastExit::Signal(9);
                unit.state.main_pid = None;
                unit.state.active_since = None;
            }
            FaultClass::Hang => unit.silent = true,
            _ => {
                unit.broken = true;
                end_tick(&mut unit.ticks, now, Some(FaultClass::Broken));
            }
        }
        let run = unit.state.incarnation;
        self.books.harmed(subject, run, class);
        if class == FaultClass::Crash {
            self.changed(subject);
        }
    }

    pub fn mend(&mut self, subject: &SubjectName) {
        let now = self.clock();
        let Some(unit) = self.units.get_mut(subject) else { return };
        unit.silent = false;
        if std::mem::take(&mut unit.broken) {
            end_tick(&mut unit.ticks, now, None);
        }
    }

    /// The operator stops a unit.
    pub fn stop(&mut self, subject: &SubjectName) {
        if let Some(Unit { state, .. }) = self.units.get_mut(subject) {
            (state.activity, state.last_exit) = (Activity::Inactive, LastExit::Code(0));
            (state.main_pid, state.active_since) = (None, None);
            state.stop_requested = true;
        }
        self.changed(subject);
    }

    /// The faults that a unit may have now.
    pub fn may_suffer(&self, scope: &Scope, subject: &SubjectName, class: FaultClass) -> bool {
        let unit = &self.units[subject];
        let wrapper = matches!(scope.kind(subject), SubjectKind::Wrapper(_));
        let well = unit.state.is_running() && !unit.silent && !unit.broken;
        scope.classes.contains(&class) && well && (wrapper || class == FaultClass::Crash)
    }

    fn changed(&mut self, subject: &SubjectName) {
        if let Some(unit) = self.units.get_mut(subject) {
            unit.warden_stale = true;
        }
        for guard in self.guards.values_mut().filter(|guard| guard.is_honest()) {
            guard.stale.insert(subject.clone());
        }
    }

    /// A second of every wrapper's work: of a new run, the first tick ends.
    pub fn work(&mut self) {
        let now = self.clock();
        for unit in self.units.values_mut().filter(|unit| unit.state.is_running() && !unit.silent) {
            if unit.ticks.last.is_none() || unit.broken {
                let fault = unit.broken.then_some(FaultClass::Broken);
                end_tick(&mut unit.ticks, now, fault);
            }
        }
    }
}

fn end_tick(ticks: &mut TickState, now: Timestamp, fault: Option<FaultClass>) {
    ticks.begun += 1;
    ticks.broken_in_a_row = if fault.is_some() { (ticks.broken_in_a_row + 1).min(3) } else { 0 };
    ticks.last_good_at = if fault.is_none() { Some(now) } else { ticks.last_good_at };
    ticks.last = Some(TickEnd {
        number: ticks.begun,
        began_at: now,
        duration: Duration::ZERO,
        exit_code: Some(i32::from(fault.is_some())),
        signal: None,
        fault,
        reason: if fault.is_some() { Reason::TickFailed } else { Reason::TickOk },
        resume_at: None,
    });
}

impl Hash for Node {
    fn hash<H: Hasher>(&self, into: &mut H) {
        self.print.hash(into);
    }
}

impl PartialEq for Node {
    fn eq(&self, other: &Self) -> bool {
        self.print == other.print
    }
}

impl std::fmt::Debug for Node {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "second {}: {:?} {:?}", self.now, self.facts, self.books.violation)
    }
}
