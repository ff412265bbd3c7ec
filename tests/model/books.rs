//! What must hold, kept apart from the machines: the books believe nobody, and count by the truth of the model.
//!
//! | rule | is broken when |
//! |---|---|
//! | S1 | a certificate has fewer than q distinct eligible vendors, a vote not cast for its round, or no correct voter who saw the fault |
//! | S2 | an attempt is carried out twice, or before its INTENT is on the disk |
//! | S3 | the right to act is given out for another run than the one that runs, or without a last look |
//! | S4 | a counted vote is too old, from the future, from before an action on a persona, or not its voter's latest word |
//! | S5 | more than f subjects are between INTENT and running, or `act_timeout` |
//! | S6 | a subject is repaired more often than its budget allows, or before its cool-down ends |
//! | S7 | what is to be done is not what the policy says of that rung |
//! | S8 | a correct guardian is proven guilty |
//! | S9 | a receipt does not hold, does not chain, or is told before it is on the disk; a rolled-back journal does not show |
//! | S10 | something is done with a damaged journal, on a unit that cannot be seen, or on one that is held |

use crate::scope::{CODEC, S, Scope};
use std::collections::{BTreeMap, BTreeSet};
use zeta_bft::protocol::certificate::{CertificateError, ReceiptError, check_receipt};
use zeta_bft::protocol::evidence::{Evidence, FaultClass, UnitState};
use zeta_bft::protocol::policy::SubjectKind;
use zeta_bft::protocol::signing::Domain;
use zeta_bft::protocol::statement::{Choice, Codec, Envelope, EpisodeStatement, Heartbeat, Receipt, ReceiptKind, Vote};
use zeta_bft::protocol::types::{
    Incarnation, Nonce, PersonaId, SessionIncarnation, SetEpoch, SubjectName, Timestamp, VendorId,
};
use zeta_bft::protocol::warden::{ActionPermit, Attempt};

/// Every rule, by its number.
pub const RULES: [&str; 10] = ["S1", "S2", "S3", "S4", "S5", "S6", "S7", "S8", "S9", "S10"];

/// A voter's latest word on a subject, as it reached the warden.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
struct Latest {
    session: SessionIncarnation,
    /// Number of its latest vote, for or against.
    seq: u64,
    /// What it votes for; `None`: WITHDRAW.
    vote: Option<Cast>,
    /// Of each class, the number of the latest heartbeat that does not say it.
    denied: BTreeMap<FaultClass, u64>,
}

/// The round, the guardian-set epoch and the fault that a vote was cast for.
type Cast = (Nonce, SetEpoch, FaultClass);

impl Latest {
    /// A vote stands while it is the latest, and no heartbeat after it says anything else.
    fn standing(&self) -> Option<Cast> {
        self.vote.filter(|(.., class)| self.denied.get(class).is_none_or(|denied| *denied < self.seq))
    }
}

/// The books of one node.
#[derive(Clone, Debug, Default, Hash)]
pub struct Books {
    /// What really befell a run.
    harmed: BTreeSet<(SubjectName, Incarnation, FaultClass)>,
    latest: BTreeMap<(PersonaId, SubjectName), Latest>,
    intents: BTreeMap<Attempt, (SubjectName, Incarnation, u64)>,
    executed: BTreeSet<Attempt>,
    /// Since when a subject is between INTENT and running, and the record that says so.
    slots: BTreeMap<SubjectName, (Timestamp, u64)>,
    spent: BTreeMap<SubjectName, (u32, Timestamp)>,
    /// Subjects that the operator holds, and the record that says so.
    holds: BTreeMap<SubjectName, u64>,
    pub violation: Option<(&'static str, String)>,
}

impl Books {
    pub fn broken(&mut self, rule: &'static str, what: String) {
        self.violation.get_or_insert((rule, what));
    }

    pub fn harmed(&mut self, subject: &SubjectName, run: Incarnation, class: FaultClass) {
        self.harmed.insert((subject.clone(), run, class));
    }

    /// A statement reaches the warden, as its author said it.
    pub fn delivered(&mut self, scope: &Scope, envelope: &Envelope) {
        match envelope.domain {
            Domain::Vote => {
                let Ok(vote) = Codec::<Vote>::decode(&CODEC, &envelope.payload) else { return };
                let cast = (vote.choice == Choice::Approve).then_some((vote.nonce, vote.set_epoch, vote.class));
                let (session, seq) = (vote.header.incarnation, vote.header.seq);
                if let Some(latest) = self.latest_of(&vote.header.persona, &vote.subject, session)
                    && latest.seq < seq
                {
                    (latest.seq, latest.vote) = (seq, cast);
                }
            }
            Domain::Heartbeat => {
                let Ok(beat) = Codec::<Heartbeat>::decode(&CODEC, &envelope.payload) else { return };
                let (session, seq) = (beat.header.incarnation, beat.header.seq);
                for subject in scope.subjects() {
                    let word = beat.attestations.iter().find(|word| word.subject == *subject);
                    let fault = word.and_then(|word| word.repairable_fault());
                    let Some(latest) = self.latest_of(&beat.header.persona, subject, session) else { continue };
                    for class in scope.classes.iter().filter(|class| Some(**class) != fault) {
                        let denied = latest.denied.entry(*class).or_default();
                        *denied = seq.max(*denied);
                    }
                }
            }
            _ => {}
        }
    }

    /// The entry of a session; `None` for one that a newer has ended.
    fn latest_of(
        &mut self,
        persona: &PersonaId,
        subject: &SubjectName,
        session: SessionIncarnation,
    ) -> Option<&mut Latest> {
        let latest = self.latest.entry((persona.clone(), subject.clone())).or_default();
        if latest.session < session {
            *latest = Latest { session, ..Latest::default() };
        }
        (latest.session == session).then_some(latest)
    }

    /// The warden wrote a receipt.
    pub fn receipt(&mut self, scope: &Scope, envelope: &Envelope, damaged: bool) {
        let Ok(receipt) = Codec::<Receipt>::decode(&CODEC, &envelope.payload) else {
            return self.broken("S9", "a receipt that cannot be read".into());
        };
        if let Err(error) = check_receipt(envelope, &scope.roster, &CODEC) {
            let rule = match &error {
                ReceiptError::Certificate(
                    CertificateError::NotEnoughVendors { .. } | CertificateError::OwnVendor { .. },
                ) => "S1",
                ReceiptError::Certificate(CertificateError::Stale { .. }) => "S4",
                _ => "S9",
            };
            self.broken(rule, error.to_string());
        }
        if receipt.kind != ReceiptKind::Intent {
            self.slots.remove(&receipt.subject);
            return;
        }
        if damaged {
            self.broken("S10", format!("INTENT on {} with a damaged journal", receipt.subject));
        }
        if let Err((rule, what)) = self.authorised(scope, &receipt) {
            self.broken(rule, what);
        }
        let attempt = Attempt { episode: receipt.episode, rung: receipt.rung, round: receipt.round };
        if self.intents.insert(attempt, (receipt.subject.clone(), receipt.before, receipt.seq)).is_some() {
            self.broken("S2", format!("a second INTENT for {attempt:?}"));
        }
        let until = scope.truth.policy.timing.act_timeout;
        let taken = self.slots.iter().filter(|(s, (since, _))| **s != receipt.subject && receipt.at < *since + until);
        if taken.count() >= scope.truth.f {
            self.broken("S5", format!("INTENT on {} while others are under repair", receipt.subject));
        }
        self.slots.insert(receipt.subject.clone(), (receipt.at, receipt.seq));
    }

    fn authorised(&self, scope: &Scope, receipt: &Receipt) -> Result<(), (&'static str, String)> {
        let subject = &receipt.subject;
        let Some(certificate) = &receipt.certificate else {
            return Err(("S1", format!("INTENT on {subject} without a certificate")));
        };
        let episode: EpisodeStatement =
            CODEC.decode(&certificate.episode.payload).map_err(|error| ("S9", error.to_string()))?;
        let kind = scope.kind(subject);
        let ttl = scope.truth.policy.timing.class(receipt.class, kind).map(|t| t.vote_ttl).unwrap_or_default();
        let mut vendors: BTreeSet<VendorId> = BTreeSet::new();
        let mut saw_it = false;
        for envelope in &certificate.votes {
            let vote: Vote = CODEC.decode(&envelope.payload).map_err(|error| ("S9", error.to_string()))?;
            let voter = &vote.header.persona;
            let of = &scope.truth.vendors[voter];
            if scope.truth.own.get(subject) == Some(of) {
                return Err(("S1", format!("{of} voted on its own {subject}")));
            }
            vendors.insert(of.clone());
            if !scope.is_liar(voter) {
                // On its own observation, and a true one.
                if !self.harmed.contains(&(subject.clone(), receipt.before, receipt.class)) {
                    return Err(("S1", format!("{voter} says {} of {subject}, which never was", receipt.class)));
                }
                saw_it = true;
            }
            if vote.attestation.observed_at.age_at(receipt.at).is_none_or(|age| age > ttl) {
                return Err(("S4", format!("the vote of {voter} is not fresh")));
            }
            match self.latest.get(&(voter.clone(), subject.clone())).and_then(Latest::standing) {
                None => return Err(("S4", format!("{voter} has no vote that stands on {subject}"))),
                Some((nonce, ..)) if nonce != episode.nonce => {
                    return Err(("S1", format!("{voter} voted for another round of {subject}")));
                }
                Some((_, epoch, class))
                    if class.evidence() == Evidence::Soft
                        && matches!(kind, SubjectKind::Wrapper(_))
                        && epoch != episode.set_epoch =>
                {
                    return Err(("S4", format!("{voter} voted on {subject} before an action on another persona")));
                }
                Some((.., class)) if class != receipt.class => {
                    return Err(("S1", format!("{voter} voted for another fault of {subject}")));
                }
                Some(_) => {}
            }
        }
        if vendors.len() < scope.truth.q {
            return Err(("S1", format!("{} vendors voted on {subject}, {} must", vendors.len(), scope.truth.q)));
        }
        if !saw_it {
            return Err(("S1", format!("no correct voter is behind the INTENT on {subject}")));
        }
        Ok(())
    }

    /// The warden gives out the right to act.
    pub fn act(&mut self, scope: &Scope, permit: &ActionPermit, now: Timestamp, truth: Truth<'_>) {
        let (attempt, subject) = (permit.attempt(), permit.subject());
        let Truth { durable, damaged, looked, unit } = truth;
        if damaged {
            self.broken("S10", format!("acts on {subject} with a damaged journal"));
        }
        if self.holds.contains_key(subject) {
            self.broken("S10", format!("acts on {subject}, which the operator holds"));
        }
        if !self.executed.insert(attempt) {
            self.broken("S2", format!("{attempt:?} is carried out twice"));
        }
        match self.intents.get(&attempt) {
            None => self.broken("S1", format!("acts on {subject} without an INTENT")),
            Some((_, _, seq)) if *seq > durable => {
                self.broken("S2", format!("acts on {subject} before INTENT {seq} is on the disk (at {durable})"));
            }
            Some((of, run, _)) if of != subject || *run != permit.incarnation() => {
                self.broken("S3", format!("the permit for {subject} is not what its INTENT says"));
            }
            Some(_) => {}
        }
        match looked {
            None => self.broken("S3", format!("acts on {subject} without a last look")),
            Some(None) => self.broken("S10", format!("acts on {subject}, which cannot be seen")),
            Some(Some(_)) if unit.incarnation != permit.incarnation() => {
                self.broken("S3", format!("acts on {subject}, of which another run runs"));
            }
            Some(Some(_)) => {}
        }
        let policy = &scope.truth.policy.subjects[subject];
        let meant = policy.ladder.get(attempt.rung.0 as usize).map(|rung| &rung.action);
        if meant != Some(permit.action()) || permit.unit() != policy.unit {
            self.broken("S7", format!("does {:?} to {}, the policy says {meant:?}", permit.action(), permit.unit()));
        }
        let (spent, last) = self.spent.get(subject).copied().unwrap_or_default();
        if spent >= policy.budget.capacity.min(policy.budget.per_day) {
            self.broken("S6", format!("repair {} of {subject}, {} are allowed", spent + 1, policy.budget.capacity));
        }
        if spent > 0 && now.saturating_since(last) < scope.truth.policy.timing.cool_down {
            self.broken("S6", format!("{subject} is repaired again {:?} later", now.saturating_since(last)));
        }
        let all: u32 = self.spent.values().map(|(spent, _)| spent).sum();
        if all >= scope.truth.policy.node_per_day {
            self.broken("S6", format!("repair {} on the node", all + 1));
        }
        self.spent.insert(subject.clone(), (spent + 1, now));
    }

    /// PID 1 refused: nothing was touched, and nothing is spent.
    pub fn untouched(&mut self, subject: &SubjectName) {
        if let Some((spent, _)) = self.spent.get_mut(subject) {
            *spent = spent.saturating_sub(1);
        }
    }

    /// A new run of a subject is up: whatever was under way has ended.
    pub fn runs_anew(&mut self, subject: &SubjectName) {
        self.slots.remove(subject);
    }

    pub fn accused(&mut self, scope: &Scope, persona: &PersonaId) {
        if !scope.is_liar(persona) {
            self.broken("S8", format!("{persona} is proven to equivocate, and never did"));
        }
    }

    pub fn held(&mut self, subject: &SubjectName, seq: u64) {
        self.holds.insert(subject.clone(), seq);
    }

    /// The operator releases a subject; its account begins anew.
    pub fn released(&mut self, subject: &SubjectName) {
        self.holds.remove(subject);
        self.spent.remove(subject);
    }

    /// The warden died; everything up to this record survives.
    pub fn warden_died(&mut self, durable: u64) {
        self.intents.retain(|_, (_, _, seq)| *seq <= durable);
        self.slots.retain(|_, (_, seq)| *seq <= durable);
        self.holds.retain(|_, seq| *seq <= durable);
        self.latest.clear();
    }

    /// Time passes: what nobody may ask for any more is forgotten.
    pub fn forget(&mut self, now: Timestamp) {
        self.slots.retain(|_, (since, _)| now.saturating_since(*since) < 60 * S);
    }
}

/// What the books are told about a permit.
pub struct Truth<'a> {
    /// The last record on the disk.
    pub durable: u64,
    pub damaged: bool,
    /// What the last look said, if there was one.
    pub looked: Option<Option<UnitState>>,
    /// What really is.
    pub unit: &'a UnitState,
}
