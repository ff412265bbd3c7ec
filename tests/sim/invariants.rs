//! What must hold at every step, checked from outside: the checker believes no machine, it opens receipts itself and keeps
//! books of its own.
//!
//! Numbers are those of ARCHITECTURE.md: S1 authorisation, S2 at most once, S3 compare and act, S4 freshness, S5 serial repair,
//! S6 bounded harm, S8 accuracy, S9 receipts, S10 fail closed, L2 a deadline for every state, L4 no healthy subject is touched.

mod budget;
mod harm;

use self::budget::Budget;
use crate::pid1::Pid1;
use crate::schedule::{self, Liars};
use crate::signatures::Scheme;
use crate::wrapper::Wrapper;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;
use zeta_bft::protocol::evidence::{Activity, Enablement, Remedy, UnitState, Verdict};
use zeta_bft::protocol::policy::{Action, Mode, Policy};
use zeta_bft::protocol::record::{OperatorOrder, Record};
use zeta_bft::protocol::roster::Roster;
use zeta_bft::protocol::signing::VerifyingKey;
use zeta_bft::protocol::statement::{
    ActionCertificate, Choice, Envelope, EpisodeStatement, Receipt, ReceiptKind, Session, StateName, Vote,
};
use zeta_bft::protocol::types::{Digest, Incarnation, PersonaId, PublicKey, SubjectName, Timestamp};
use zeta_bft::protocol::view::{HeldBy, WardenView};
use zeta_bft::protocol::warden::{ActionPermit, Attempt, Page};

const SECOND: u64 = 1_000_000_000;

/// What the checker may look at.
pub struct Truth<'a> {
    pub world: u64,
    pub now: Timestamp,
    pub pid1: &'a Pid1,
    pub wrappers: &'a BTreeMap<SubjectName, Wrapper>,
    /// From when until when k3s was last ailing from what each step answers.
    pub ailed: &'a BTreeMap<Remedy, (u64, u64)>,
    /// Until when the network, a suspend or a frozen observer may excuse a wrong suspicion of silence.
    pub disturbed_until: u64,
}

struct Slot {
    since: u64,
    before: Incarnation,
    attempt: Attempt,
}

fn is_being_stopped(truth: &Truth<'_>, subject: &SubjectName) -> bool {
    let unit = &truth.pid1.unit(subject).state;
    unit.job_pending && unit.activity != Activity::Activating
}

/// Everything that is watched over one seed.
pub struct Checker {
    roster: Arc<Roster>,
    policy: Arc<Policy>,
    liars: Liars,
    warden: VerifyingKey,
    codec: Scheme,
    intents: BTreeMap<Attempt, (Receipt, u64)>,
    executed: BTreeSet<Attempt>,
    slots: BTreeMap<SubjectName, Slot>,
    budget: Budget,
    holds: BTreeSet<Option<SubjectName>>,
    reread: BTreeMap<Attempt, Option<UnitState>>,
    /// The newest vote under each key on each subject that reached the warden, by its number.
    latest: BTreeMap<(PublicKey, SubjectName), (u64, Choice)>,
    pages: BTreeMap<(&'static str, Option<SubjectName>), u64>,
    pub acts: u32,
    /// Actions, on whom and which, in order.
    pub done: Vec<(SubjectName, &'static str)>,
    pub would_act: u32,
    /// Actions that the last look prevented, by the warden's reason.
    pub aborts: BTreeMap<String, u64>,
    /// Without a vote, by the warden's journal.
    quarantined: BTreeSet<PersonaId>,
    /// Proven to lie, in anybody's eyes.
    pub proven: BTreeSet<PersonaId>,
    /// A rule that a test makes up: whatever acts on this breaks it.
    pub untouchable: Option<SubjectName>,
    pub violation: Option<String>,
}

impl Checker {
    pub fn new(roster: Arc<Roster>, policy: Arc<Policy>, liars: Liars, codec: Scheme) -> Self {
        let warden = VerifyingKey::new(roster.statement().warden).expect("the roster was checked");
        let budget = Budget::new(&policy);
        Self {
            roster,
            policy,
            liars,
            warden,
            codec,
            intents: BTreeMap::new(),
            executed: BTreeSet::new(),
            slots: BTreeMap::new(),
            budget,
            holds: BTreeSet::new(),
            reread: BTreeMap::new(),
            latest: BTreeMap::new(),
            pages: BTreeMap::new(),
            acts: 0,
            done: Vec::new(),
            would_act: 0,
            aborts: BTreeMap::new(),
            quarantined: BTreeSet::new(),
            proven: BTreeSet::new(),
            untouchable: None,
            violation: None,
        }
    }

    /// A rule is broken: the first one counts.
    pub fn broken(&mut self, rule: &str, what: impl std::fmt::Display) {
        if self.violation.is_none() {
            self.violation = Some(format!("{rule}: {what}"));
        }
    }

    pub fn is_liar(&self, persona: &PersonaId) -> bool {
        match self.liars {
            Liars::Nobody => false,
            Liars::One => persona.as_str() == schedule::PERSONAS[schedule::LIAR].0,
            Liars::Everybody => true,
        }
    }

    /// Who has no vote now, by the warden's journal.
    pub fn quarantined(&self) -> impl Iterator<Item = &PersonaId> {
        self.quarantined.iter()
    }

    /// A vote arrives at the warden, whoever brings it: a liar may pass on what a correct guardian signed.
    pub fn vote_arrives(&mut self, envelope: &Envelope) {
        let Ok(key) = VerifyingKey::new(envelope.key) else { return };
        let Ok(vote) = envelope.open::<Vote>(&key, &self.codec) else { return };
        let latest = self.latest.entry((envelope.key, vote.subject.clone())).or_insert((0, vote.choice));
        if vote.header.seq >= latest.0 {
            *latest = (vote.header.seq, vote.choice);
        }
    }

    /// The warden appends a record.
    pub fn appended(&mut self, record: &Record, truth: &Truth<'_>) {
        match record {
            Record::Receipt(envelope) => {
                let Ok(receipt) = envelope.open::<Receipt>(&self.warden, &self.codec) else {
                    return self.broken("S9", "a receipt that the warden's own key does not open");
                };
                let receipt = (*receipt).clone();
                let attempt = Attempt { episode: receipt.episode, rung: receipt.rung, round: receipt.round };
                match receipt.kind {
                    ReceiptKind::Intent => self.intent(attempt, receipt, truth),
                    ReceiptKind::Outcome | ReceiptKind::Abort => {
                        self.slots.retain(|_, slot| slot.attempt != attempt);
                        if receipt.kind == ReceiptKind::Abort {
                            *self.aborts.entry(receipt.detail).or_default() += 1;
                        }
                    }
                    ReceiptKind::WouldAct => {
                        self.would_act += 1;
                        if self.policy.mode == Mode::Act {
                            self.broken("S9", "WOULD_ACT while acting is allowed");
                        }
                        if let Err(why) = self.certificate(&receipt, truth) {
                            self.broken("S1", why);
                        }
                    }
                }
            }
            Record::Quarantine { persona, .. } => {
                self.quarantined.insert(persona.clone());
                self.accused(persona);
            }
            Record::Operator { order, .. } => match order {
                // What a release gives back is the operator's business.
                OperatorOrder::Release { subject } => self.budget.release(subject.as_ref()),
                OperatorOrder::Readmit { persona } => {
                    self.quarantined.remove(persona);
                }
                OperatorOrder::Hold { .. } | OperatorOrder::Approve { .. } => {}
            },
            Record::Boot { .. } | Record::Ledger(_) | Record::Roster(_) | Record::Head(_) => {}
        }
    }

    /// A guardian or the warden calls somebody proven.
    pub fn accused(&mut self, persona: &PersonaId) {
        self.proven.insert(persona.clone());
        if !self.is_liar(persona) {
            self.broken("S8", format_args!("{persona} is correct, and was proven to equivocate"));
        }
    }

    fn intent(&mut self, attempt: Attempt, receipt: Receipt, truth: &Truth<'_>) {
        if self.policy.mode == Mode::Observe {
            self.broken("observe", format_args!("INTENT for {} in observe mode", receipt.subject));
        }
        if let Some((earlier, _)) = self.intents.get(&attempt) {
            let again = format!("a second INTENT for {attempt:?} on {}, first at {:?}", receipt.subject, earlier.at);
            self.broken("S2", again);
        }
        if let Err(why) = self.certificate(&receipt, truth) {
            self.broken("S1/S4", why);
        }
        if self.holds.contains(&None) || self.holds.contains(&Some(receipt.subject.clone())) {
            self.broken("hold", format_args!("INTENT for {}, which is held", receipt.subject));
        }
        self.free_slots(truth);
        let others = self.slots.keys().filter(|subject| **subject != receipt.subject).count();
        if others + 1 > self.roster.f() {
            let busy: Vec<_> = self.slots.keys().map(SubjectName::to_string).collect();
            self.broken("S5", format_args!("INTENT for {} while under repair: {busy:?}", receipt.subject));
        }
        let slot = Slot { since: truth.world, before: receipt.before, attempt };
        self.slots.insert(receipt.subject.clone(), slot);
        self.intents.insert(attempt, (receipt, truth.world));
    }

    fn free_slots(&mut self, truth: &Truth<'_>) {
        let limit = u64::try_from(self.policy.timing.act_timeout.as_nanos()).unwrap_or(u64::MAX);
        self.slots.retain(|subject, slot| {
            let state = &truth.pid1.unit(subject).state;
            let runs = state.incarnation != slot.before && state.activity == Activity::Active;
            !runs && truth.world < slot.since + limit
        });
    }

    /// The action on a subject has returned, in truth.
    pub fn returned(&mut self, attempt: Attempt) {
        self.slots.retain(|_, slot| slot.attempt != attempt);
    }

    /// The warden died: what never reached the disk was never said.
    pub fn warden_died(&mut self, on_disk: impl Fn(Attempt) -> bool, quarantined: BTreeSet<PersonaId>) {
        self.quarantined = quarantined;
        self.slots.retain(|_, slot| on_disk(slot.attempt));
        self.intents.retain(|attempt, _| on_disk(*attempt));
    }

    /// The node is new: nothing is under way.
    pub fn rebooted(&mut self) {
        self.slots.clear();
        self.reread.clear();
    }

    /// S1 and S4: at least q fresh votes of distinct eligible vendors, for one fault, on one run, all under the warden's sessions.
    fn certificate(&mut self, receipt: &Receipt, truth: &Truth<'_>) -> Result<(), String> {
        let ActionCertificate { episode, votes, sessions } =
            receipt.certificate.as_ref().ok_or("a receipt without a certificate")?;
        let episode =
            episode.open::<EpisodeStatement>(&self.warden, &self.codec).map_err(|e| format!("its episode: {e}"))?;
        if (episode.id, episode.round, episode.rung) != (receipt.episode, receipt.round, receipt.rung)
            || episode.subject != receipt.subject
            || episode.incarnation != receipt.before
        {
            return Err(format!("the certificate is for another episode than the receipt on {}", receipt.subject));
        }
        let subject = self.policy.subject(&receipt.subject).ok_or("an unknown subject")?;
        let timing = self.policy.timing.class(receipt.class, &subject.kind).ok_or("a class that is never voted on")?;
        let mut keys: BTreeMap<PublicKey, (PersonaId, Digest)> = BTreeMap::new();
        for session in sessions {
            let session = session.open::<Session>(&self.warden, &self.codec).map_err(|e| format!("a session: {e}"))?;
            keys.insert(session.session_key, (session.persona.clone(), Digest::of(&session.boot.0)));
        }
        let mut vendors = BTreeSet::new();
        for envelope in votes {
            let key = VerifyingKey::new(envelope.key).map_err(|e| e.to_string())?;
            let vote = envelope.open::<Vote>(&key, &self.codec).map_err(|e| format!("a vote: {e}"))?;
            let (persona, _) = keys.get(&envelope.key).ok_or("a vote without its session")?;
            if *persona != vote.header.persona {
                return Err(format!("{} voted with a session of {persona}", vote.header.persona));
            }
            let member = self.roster.member(persona).ok_or("a voter outside the roster")?;
            if self.quarantined.contains(persona) {
                return Err(format!("{persona} voted in quarantine"));
            }
            if Some(&member.vendor) == subject.vendor.as_ref() {
                return Err(format!("{persona} voted on its own vendor's {}", receipt.subject));
            }
            let fits = vote.choice == Choice::Approve
                && vote.episode == episode.id
                && vote.round == episode.round
                && vote.nonce == episode.nonce
                && vote.rung == episode.rung
                && vote.incarnation == episode.incarnation
                && vote.subject == episode.subject
                && vote.class == receipt.class
                && vote.header.boot == truth.pid1.boot
                && vote.attestation.subject == vote.subject
                && vote.attestation.incarnation == vote.incarnation
                && vote.attestation.verdict == Verdict::Down
                && vote.attestation.class == Some(vote.class);
            if !fits {
                return Err(format!("{persona}'s vote does not fit {}: {:?}", receipt.subject, *vote));
            }
            for observed_at in [vote.header.observed_at, vote.attestation.observed_at] {
                match observed_at.age_at(truth.now) {
                    Some(age) if age <= timing.vote_ttl => {}
                    age => return Err(format!("{persona}'s vote on {} is {age:?} old", receipt.subject)),
                }
            }
            let latest = self.latest.get(&(envelope.key, vote.subject.clone()));
            if let Some((seq, Choice::Withdraw)) = latest
                && !self.is_liar(persona)
            {
                return Err(format!("{persona} withdrew its vote on {} (number {seq})", receipt.subject));
            }
            vendors.insert(member.vendor.clone());
        }
        if vendors.len() < self.roster.q() {
            return Err(format!("{} vendors voted on {}, {} must", vendors.len(), receipt.subject, self.roster.q()));
        }
        Ok(())
    }

    /// PID 1 was read for the last check.
    pub fn reread(&mut self, attempt: Attempt, state: Option<UnitState>) {
        self.reread.insert(attempt, state);
    }

    /// The warden acts. `durable` says whether the INTENT is on the disk.
    pub fn act(&mut self, permit: &ActionPermit, durable: bool, damaged: bool, truth: &Truth<'_>) {
        self.acts += 1;
        let (attempt, subject) = (permit.attempt(), permit.subject().clone());
        self.done.push((subject.clone(), permit.action().kind().as_str()));
        if self.policy.mode == Mode::Observe {
            self.broken("observe", format_args!("acts on {subject} in observe mode"));
        }
        if self.untouchable.as_ref() == Some(&subject) {
            self.broken("planted", format_args!("acts on {subject}"));
        }
        if damaged {
            self.broken("S10", format_args!("acts on {subject} with a damaged journal"));
        }
        if !self.executed.insert(attempt) {
            self.broken("S2", format_args!("{attempt:?} on {subject} is executed twice"));
        }
        let Some((intent, _)) = self.intents.get(&attempt).cloned() else {
            return self.broken("S1", format_args!("acts on {subject} without an INTENT"));
        };
        if !durable {
            self.broken("S2", format_args!("acts on {subject} before its INTENT is on the disk"));
        }
        if intent.subject != subject || intent.before != permit.incarnation() || intent.class != permit.class() {
            self.broken("S3", format_args!("the permit for {subject} is not what the INTENT says"));
        }
        match self.reread.get(&attempt).copied() {
            None => self.broken("S3", format_args!("acts on {subject} without a last look")),
            Some(None) => self.broken("S3", format_args!("acts on {subject}, which cannot be seen")),
            Some(Some(state)) => {
                if state.incarnation != permit.incarnation() {
                    self.broken("S3", format_args!("acts on {subject}, another run of it was seen"));
                }
                if state.stop_requested || state.enablement != Enablement::Enabled {
                    self.broken("operator", format_args!("acts on {subject} against the operator's wish"));
                }
                if state.job_pending {
                    self.broken("S3", format_args!("acts on {subject} while a job is queued for it"));
                }
            }
        }
        if self.holds.contains(&None) || self.holds.contains(&Some(subject.clone())) {
            self.broken("hold", format_args!("acts on {subject}, which is held"));
        }
        if !matches!(permit.action(), Action::Page)
            && let Err(why) = self.budget.spend(&self.policy, &subject, truth)
        {
            self.broken("S6", why);
        }
        if let Err(why) = self.harmed(permit, truth) {
            self.broken("L4", why);
        }
    }

    /// Credits active time; to be called whenever a unit changes.
    pub fn observe_activity(&mut self, truth: &Truth<'_>) {
        self.budget.refill(&self.policy, truth);
    }

    /// PID 1 refused the last action on `subject`.
    pub fn refused(&mut self, subject: &SubjectName) {
        self.budget.give_back(&self.policy, subject);
    }

    /// The operator's order was acknowledged.
    pub fn ordered(&mut self, order: &OperatorOrder) {
        match order {
            OperatorOrder::Hold { subject, .. } => {
                self.holds.insert(subject.clone());
            }
            OperatorOrder::Release { subject: None } => self.holds.clear(),
            OperatorOrder::Release { subject } => {
                self.holds.remove(subject);
            }
            OperatorOrder::Approve { .. } | OperatorOrder::Readmit { .. } => {}
        }
    }

    /// A release is under way: from here on nothing is claimed of that hold.
    pub fn release_asked(&mut self, subject: &Option<SubjectName>) {
        match subject {
            None => self.holds.clear(),
            Some(_) => {
                self.holds.remove(subject);
            }
        }
    }

    /// One page per cause and subject in an hour.
    pub fn paged(&mut self, page: &Page, world: u64, warden_began: u64) {
        let interval = u64::try_from(self.policy.timing.page_interval.as_nanos()).unwrap_or(u64::MAX);
        let key = (page.cause, page.subject.clone());
        if let Some(last) = self.pages.insert(key, world)
            && last >= warden_began
            && world - last < interval
        {
            self.broken("page", format_args!("paged twice for {} of {:?}", page.cause, page.subject));
        }
    }

    /// L2: after a timer step no state is past its deadline, and only states that rest may have none.
    pub fn deadlines(&mut self, view: &WardenView, truth: &Truth<'_>) {
        let now = truth.now;
        for subject in &view.subjects {
            // Suspect and Frozen end with the words and votes they rest on; that they do is seen at the end of a run.
            let rests = matches!(
                subject.state,
                StateName::Healthy | StateName::Operator | StateName::Held | StateName::Suspect | StateName::Frozen
            );
            match subject.deadline {
                // An act of an instance before is judged when PID 1 is done with the stop, however long the node slept meanwhile.
                _ if subject.state == StateName::Reconciling && is_being_stopped(truth, &subject.subject) => {}
                None if !rests => {
                    let what =
                        format!("{} is {} ({}) without a deadline", subject.subject, subject.state, subject.reason);
                    self.broken("L2", what);
                }
                // An action that is over waits for its record to be on the disk, an old one for PID 1 to be seen.
                Some(deadline)
                    if matches!(subject.state, StateName::Acting | StateName::Reconciling)
                        && now.saturating_since(deadline) < Duration::from_secs(4) => {}
                Some(deadline) if deadline <= now && !rests => {
                    let late = now.saturating_since(deadline);
                    let what = format!(
                        "{} is {} ({}), {late:?} past its deadline",
                        subject.subject, subject.state, subject.reason
                    );
                    self.broken("L2", what);
                }
                _ => {}
            }
        }
        if view.journal_damage.is_some() {
            for subject in &view.subjects {
                if subject.held_by != Some(HeldBy::Journal) {
                    let what = format!("{} is {} with a damaged journal", subject.subject, subject.state);
                    self.broken("S10", what);
                }
            }
        }
    }
}
