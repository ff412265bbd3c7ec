//! Who is let in, and what of their words is kept.
//!
//! Rules implemented here:
//! * a session is opened only for the main process of the persona's agent unit, as the kernel and PID 1 tell, read before
//!   and after; with a request signed by the persona's key over a nonce handed to this very process. The newest ends the
//!   older;
//! * a statement counts only under its author's newest session; one that conflicts with an earlier one costs its author
//!   the vote, until the operator readmits it. Where the warden holds one wording and a guardian the other, the guardian's
//!   heads tell, and the warden shows its own;
//! * who counts by another roster or policy is shown, and not counted;
//! * a receipt of ours that the journal does not know proves that the journal was rolled back: everything is held (S9).

use super::{Answer, PeerFacts, Recovered, ReplyTo, Warden, WardenEffect, WardenEvent};
use crate::protocol::episode::Word;
use crate::protocol::equivocation::{GuardianStatement, Observed, ProvenEquivocation, StatementWindow};
use crate::protocol::evidence::FaultClass;
use crate::protocol::record::{Forgiveness, Record};
use crate::protocol::roster::Roster;
use crate::protocol::session::{VerifiedSession, verify_request, verify_session};
use crate::protocol::statement::{
    Choice, Envelope, EquivocationProof, Head, Heartbeat, Receipt, Session, SessionRequest, StatementCodec, Verified,
    Vote,
};
use crate::protocol::types::{Digest, PersonaId, PublicKey, SessionIncarnation, SubjectName, Timestamp, VendorId};
use crate::protocol::vote_keeper::{Ballot, VoteRejection};
use std::collections::BTreeMap;
use std::time::Duration;

/// A persona as a guardian.
#[derive(Clone, Debug)]
pub(super) struct Guardian {
    pub(super) vendor: VendorId,
    /// The newest session's statements.
    pub(super) window: Option<StatementWindow>,
    pub(super) heartbeat_at: Option<Timestamp>,
    /// Number of its latest heartbeat in this session.
    heartbeat_seq: u64,
    pub(super) health: u32,
    pub(super) policy_matches: Option<bool>,
    /// Proven to equivocate under this session key, and not readmitted.
    pub(super) quarantined: bool,
    /// The session key it was last proven to equivocate under: never good for a session again.
    burnt: Option<PublicKey>,
    /// By the last readmission.
    pub(super) forgiven: Forgiveness,
}

impl Guardian {
    pub(super) fn session(&self) -> Option<&VerifiedSession> {
        self.window.as_ref().map(StatementWindow::session)
    }

    /// What decides how this one is heard from here on.
    pub(super) fn hash_future(&self, into: &mut impl std::hash::Hasher) {
        use std::hash::Hash as _;
        let Self { vendor, window, heartbeat_at, heartbeat_seq, health, policy_matches, quarantined, burnt, forgiven } =
            self;
        (vendor, heartbeat_at, heartbeat_seq, health, policy_matches, quarantined, burnt, forgiven).hash(into);
        if let Some(window) = window {
            window.hash_future(into);
        }
    }

    /// Gives the vote back. A session under the burnt key ends with it: a fresh run is needed.
    pub(super) fn readmit(&mut self, forgiven: Forgiveness) {
        self.quarantined = false;
        self.forgiven = forgiven;
        if self.session().is_some_and(|session| Some(session.session_key) == self.burnt) {
            self.window = None;
            self.heartbeat_at = None;
        }
    }

    /// What a readmission forgives, when `next` is the next session: a run that goes on with its vote is answered for whole, also
    /// what it signed until now.
    pub(super) fn forgiven_from(&self, next: SessionIncarnation) -> Forgiveness {
        let open = self.session().map(|session| session.session_key);
        Forgiveness { before: next, burnt: self.burnt, answered: open.filter(|key| Some(*key) != self.burnt) }
    }

    /// Whether a lie was forgiven. Which session its proof rests on is the liar's choice, so of a run that goes on nothing is.
    fn has_forgiven(&self, proven: &ProvenEquivocation) -> bool {
        let key = Some(proven.session_key);
        let goes_on = key == self.forgiven.answered || key == self.session().map(|session| session.session_key);
        key == self.burnt || (proven.incarnation < self.forgiven.before && !goes_on)
    }
}

/// Every persona of the roster, without a session; quarantines as the journal has them.
pub(super) fn guardians(roster: &Roster, recovered: &Recovered) -> BTreeMap<PersonaId, Guardian> {
    let proven = |persona: &PersonaId| {
        let proof = recovered.quarantined.iter().find(|(who, _)| who == persona);
        proof.map(|(_, proof)| proof.first.key)
    };
    let forgiven = |persona: &PersonaId| {
        let readmitted = recovered.readmitted.iter().find(|(who, _)| who == persona);
        readmitted.map_or_else(Forgiveness::default, |(_, forgiven)| *forgiven)
    };
    roster
        .members()
        .map(|member| {
            let guardian = Guardian {
                vendor: member.vendor.clone(),
                window: None,
                heartbeat_at: None,
                heartbeat_seq: 0,
                health: 0,
                policy_matches: None,
                quarantined: proven(&member.persona).is_some(),
                burnt: proven(&member.persona).or(forgiven(&member.persona).burnt),
                forgiven: forgiven(&member.persona),
            };
            (member.persona.clone(), guardian)
        })
        .collect()
}

/// How many processes may hold an unused nonce at once.
const NONCES: usize = 64;

/// How many receipts are remembered to compare with those that agents keep.
const KNOWN_RECEIPTS: usize = 1024;

fn refuse(reason: &'static str, text: impl Into<String>) -> Answer {
    Answer::Refused { reason, text: text.into() }
}

impl<C: StatementCodec> Warden<C> {
    pub(super) fn hand_out_nonce(&mut self, peer: &PeerFacts, reply: ReplyTo) {
        let answer = if let Some(damage) = &self.damage {
            refuse("journal", format!("the journal is in doubt: {damage}"))
        } else if self.booted {
            let nonce = self.draw();
            while self.nonces.len() >= NONCES {
                self.nonces.pop_first();
            }
            self.nonces.insert(peer.pid, nonce);
            Answer::Nonce(nonce)
        } else {
            refuse("starting", "the warden is starting")
        };
        self.out.push(WardenEffect::Reply { to: reply, answer });
    }

    pub(super) fn open_session(&mut self, peer: &PeerFacts, request: &Envelope, reply: ReplyTo) {
        let answer = match self.session_for(peer, request) {
            Ok(session) => Answer::Session(session),
            Err((reason, text)) => {
                self.out.push(WardenEffect::Event(WardenEvent::Rejected { reason, persona: None }));
                refuse(reason, text)
            }
        };
        self.out.push(WardenEffect::Reply { to: reply, answer });
    }

    fn session_for(&mut self, peer: &PeerFacts, request: &Envelope) -> Result<Envelope, (&'static str, String)> {
        let nonce = self.nonces.remove(&peer.pid).ok_or(("no_nonce", "ask for a number first".to_owned()))?;
        let unit = match (&peer.before, &peer.after) {
            (Some(before), Some(after)) if before == after => before,
            (None, None) => return Err(("no_unit", format!("process {} belongs to no configured unit", peer.pid))),
            _ => return Err(("unit_changed", "the unit changed while it was looked at: try again".to_owned())),
        };
        let persona = self
            .guardians
            .keys()
            .find(|persona| SubjectName::agent(persona) == unit.subject)
            .cloned()
            .ok_or_else(|| ("not_an_agent", format!("{} is no agent of the roster", unit.subject)))?;
        if unit.main_pid != peer.pid {
            let text =
                format!("process {} is not the main process of {}: {} is", peer.pid, unit.subject, unit.main_pid);
            return Err(("not_main_process", text));
        }
        let configured = self.policy.subject(&unit.subject).and_then(|subject| subject.uid);
        if let Some(uid) = configured.filter(|uid| *uid != peer.uid) {
            return Err(("wrong_user", format!("{persona} runs as user {uid}, the caller is user {}", peer.uid)));
        }
        let (verified, _) = verify_request(request, &persona, &self.roster, &self.codec)
            .map_err(|error| (error.as_str(), error.to_string()))?;
        if verified.nonce != nonce {
            return Err(("wrong_nonce", "the request answers another number".to_owned()));
        }
        if verified.roster != self.roster.digest() {
            return Err(("roster_mismatch", "agent and warden count by different rosters".to_owned()));
        }
        if self.guardians[&persona].burnt == Some(verified.session_key) {
            return Err(("burnt_key", format!("{persona} equivocated under this session key: restart its agent")));
        }
        let session = self.mint_session(&verified, request, peer.uid, unit);
        let verified = verify_session(&session, &self.roster, &self.codec)
            .map_err(|error| (error.as_str(), format!("the warden's own session does not verify: {error}")))?;
        self.begin_session(&persona, verified);
        Ok(session)
    }

    fn mint_session(
        &mut self,
        request: &Verified<SessionRequest>,
        envelope: &Envelope,
        uid: u32,
        unit: &super::PeerUnit,
    ) -> Envelope {
        self.sessions_opened += 1;
        let session = Session {
            request: envelope.clone(),
            cluster: self.roster.cluster().clone(),
            node: self.roster.node().clone(),
            boot: self.boot,
            persona: request.persona.clone(),
            session_key: request.session_key,
            incarnation: SessionIncarnation::new(self.instance, self.sessions_opened),
            uid,
            unit: unit.subject.clone(),
            invocation: unit.invocation,
        };
        Envelope::seal(&session, &self.key, &self.codec)
    }

    /// The newest session ends the older ones: their words and votes count no more.
    fn begin_session(&mut self, persona: &PersonaId, session: VerifiedSession) {
        let incarnation = session.incarnation;
        let guardian = self.guardians.get_mut(persona).expect("only members get sessions");
        match &mut guardian.window {
            Some(window) => {
                window.renew(session);
            }
            None => guardian.window = Some(StatementWindow::new(session)),
        }
        guardian.heartbeat_seq = 0;
        guardian.heartbeat_at = None;
        for subject in self.subjects.values_mut() {
            subject.votes.forget(persona);
            subject.words.remove(persona);
        }
        self.out.push(WardenEffect::Event(WardenEvent::SessionOpened { persona: persona.clone(), incarnation }));
    }

    /// Whose statement this is: of everybody with a session for its key the one that its header names. To have asked for a
    /// session under a key shows no possession of it, and must take nobody's place.
    fn author(&self, envelope: &Envelope) -> Result<(PersonaId, GuardianStatement), (&'static str, Option<PersonaId>)> {
        let mut refused = ("unknown_session", None);
        for (persona, guardian) in &self.guardians {
            let windows = guardian.window.iter();
            for window in windows.filter(|window| window.session().session_key == envelope.key) {
                match window.open(envelope, &self.codec) {
                    Ok(statement) => return Ok((persona.clone(), statement)),
                    Err(error) => refused = (error.as_str(), Some(persona.clone())),
                }
            }
        }
        Err(refused)
    }

    /// A heartbeat or a vote.
    pub(super) fn submitted(&mut self, envelope: &Envelope) {
        let (persona, statement) = match self.author(envelope) {
            Ok(found) => found,
            Err((reason, persona)) => return self.reject(reason, persona),
        };
        let guardian = self.guardians.get_mut(&persona).expect("it was just found");
        let window = guardian.window.as_mut().expect("its session was just compared");
        let current = statement.header().incarnation == window.session().incarnation;
        match window.observe(&statement) {
            Observed::Conflict(proof) => return self.take_proof(*proof),
            Observed::Repeated => return self.reject("replay", Some(persona)),
            Observed::TooOld => return self.reject("too_old", Some(persona)),
            Observed::Newest | Observed::Late => {}
        }
        let header = statement.header();
        let matches = header.roster == self.roster.digest() && header.policy == self.policy.digest;
        guardian.policy_matches = Some(matches);
        if !current {
            return self.reject("old_session", Some(persona));
        }
        let counts = matches && !guardian.quarantined;
        match statement {
            GuardianStatement::Heartbeat(heartbeat) => {
                self.compare(&persona, &heartbeat.heads);
                self.heard(&persona, &heartbeat, counts);
            }
            GuardianStatement::Vote(_) if guardian.quarantined => self.reject("quarantined", Some(persona)),
            GuardianStatement::Vote(_) if !matches => self.reject("policy_mismatch", Some(persona)),
            GuardianStatement::Vote(vote) => self.voted(persona, vote),
        }
    }

    /// Heads name what their author holds of others. One that names another statement than the warden's own copy: the warden
    /// fetches nothing, it shows its copy, and whoever holds the other has the proof. One per heartbeat, so that made-up heads
    /// cost little.
    fn compare(&mut self, from: &PersonaId, heads: &[Head]) {
        let contradicted = heads.iter().filter(|head| head.persona != *from).find_map(|head| {
            let guardian = self.guardians.get(&head.persona).filter(|guardian| !guardian.quarantined)?;
            let window = guardian.window.as_ref().filter(|window| window.contradicts(head))?;
            window.get(head.seq).cloned()
        });
        self.out.extend(contradicted.map(WardenEffect::Show));
    }

    fn heard(&mut self, persona: &PersonaId, heartbeat: &Heartbeat, counts: bool) {
        let now = self.now;
        let guardian = self.guardians.get_mut(persona).expect("callers pass a member");
        let (session, seq) = (heartbeat.header.incarnation, heartbeat.header.seq);
        if seq <= guardian.heartbeat_seq {
            return;
        }
        guardian.heartbeat_seq = seq;
        guardian.heartbeat_at = Some(now);
        guardian.health = heartbeat.health;
        let vendor = guardian.vendor.clone();
        if !counts {
            for subject in self.subjects.values_mut() {
                subject.words.remove(persona);
                subject.votes.forget(persona);
            }
            return;
        }
        for (name, subject) in &mut self.subjects {
            // Ordered by name, one each; a liar's second entry for a subject is not looked at.
            let word = heartbeat.attestations.iter().find(|attestation| attestation.subject == *name);
            subject.votes.heard(persona, session, seq, word);
            if subject.words.get(persona).is_some_and(|latest| latest.seq > seq) {
                // A vote overtook this heartbeat.
                continue;
            }
            match word {
                Some(attestation) => {
                    let word = Word { attestation: attestation.clone(), seq, vendor: vendor.clone(), heard_at: now };
                    subject.words.insert(persona.clone(), word);
                }
                None => {
                    subject.words.remove(persona);
                }
            }
        }
    }

    fn voted(&mut self, persona: PersonaId, vote: Verified<Vote>) {
        let now = self.now;
        let vendor = self.guardians[&persona].vendor.clone();
        let Some(subject) = self.subjects.get(&vote.subject) else {
            return self.reject("unknown_subject", Some(persona));
        };
        let ttl =
            self.policy.timing.class(vote.class, &subject.policy.kind).map_or(Duration::ZERO, |timing| timing.vote_ttl);
        let (name, kind) = (vote.subject.clone(), vote.choice.as_str());
        let subject = self.subjects.get_mut(&name).expect("it was just found");
        let ballot = Ballot {
            episode: &subject.episode,
            kind: &subject.policy.kind,
            vendor: subject.policy.vendor.as_ref(),
            ttl,
        };
        let (seq, said) = (vote.header.seq, (vote.choice == Choice::Approve).then(|| vote.attestation.clone()));
        let taken_back = subject.words.get(&persona).is_some_and(|latest| {
            let stands = latest.attestation.repairable_fault() == Some(vote.class)
                && latest.attestation.incarnation == vote.incarnation;
            latest.seq > seq && !stands
        });
        if said.is_some() && taken_back {
            return self.reject(VoteRejection::Stale.as_str(), Some(persona));
        }
        match subject.votes.take(now, vote, &vendor, ballot) {
            Ok(()) => {
                // Its latest word, or the same as that.
                if let Some(attestation) = said {
                    subject.words.insert(persona.clone(), Word { attestation, seq, vendor, heard_at: now });
                }
                self.out.push(WardenEffect::Event(WardenEvent::VoteCounted { subject: name, persona, kind }));
            }
            Err(error) => self.reject(error.as_str(), Some(persona)),
        }
    }

    fn reject(&mut self, reason: &'static str, persona: Option<PersonaId>) {
        self.out.push(WardenEffect::Event(WardenEvent::Rejected { reason, persona }));
    }

    /// A proof of equivocation, from our own window or from a guardian: checked whole, whoever brings it.
    pub(super) fn take_proof(&mut self, proof: EquivocationProof) {
        let proven = match proof.check(&self.roster, &self.codec) {
            Ok(proven) => proven,
            Err(error) => return self.reject(error.as_str(), None),
        };
        let persona = proven.persona.clone();
        let Some(guardian) = self.guardians.get_mut(&persona) else { return };
        // A run that has ended is answered for like the one that goes on, unless the operator forgave it: else a restart
        // of the liar's agent, or of the warden, would be a way out.
        if guardian.quarantined || guardian.has_forgiven(&proven) || self.damage.is_some() {
            return;
        }
        guardian.quarantined = true;
        guardian.burnt = Some(proven.session_key);
        for subject in self.subjects.values_mut() {
            subject.votes.forget(&persona);
            subject.words.remove(&persona);
        }
        self.raise_set_epoch();
        self.append(Record::Quarantine { persona: persona.clone(), proof });
        self.page(
            "equivocation",
            Some(&SubjectName::agent(&persona)),
            &format!("{persona} signed two different statements with one number: it has no vote until readmitted"),
        );
        self.out.push(WardenEffect::Event(WardenEvent::Equivocated { persona }));
    }

    // ---- receipts ----

    pub(super) fn know_receipt(&mut self, envelope: &Envelope) {
        let Some(receipt) = self.own_receipt(envelope) else { return };
        self.known_receipts.push_back((receipt.seq, envelope.digest()));
        while self.known_receipts.len() > KNOWN_RECEIPTS {
            let forgotten = self.known_receipts.pop_front().map_or(0, |(seq, _)| seq);
            self.known_from = self.known_from.max(forgotten.saturating_add(1));
        }
    }

    fn own_receipt(&self, envelope: &Envelope) -> Option<Verified<Receipt>> {
        let key = self.roster.verifying_key(self.key.public()).ok()?;
        envelope.open::<Receipt>(&key, &self.codec).ok()
    }

    /// A receipt that an agent kept: if we signed it and do not have it, the journal is not the one we wrote.
    pub(super) fn receipt_shown(&mut self, envelope: &Envelope) {
        let Some(receipt) = self.own_receipt(envelope) else { return self.reject("bad_receipt", None) };
        let ours = receipt.cluster == *self.roster.cluster() && receipt.node == *self.roster.node();
        if !ours || self.damage.is_some() {
            return;
        }
        let digest: Digest = envelope.digest();
        let known = self.known_receipts.iter().find(|(seq, _)| *seq == receipt.seq).map(|(_, known)| *known);
        // What was lost may have another record in its place by now: that of this instance's start, for one.
        let lost = known.is_none() && receipt.seq >= self.known_from;
        if lost || known.is_some_and(|known| known != digest) {
            let text = format!(
                "an agent holds receipt {} of this warden, which the journal (at {}) does not: it was rolled back",
                receipt.seq, self.head.seq
            );
            self.page("journal", None, &text);
            self.damage = Some(text);
        }
    }

    /// Whether a guardian has a session and was heard lately.
    pub(super) fn is_live(&self, guardian: &Guardian) -> bool {
        let fresh = guardian.heartbeat_at.and_then(|at| at.age_at(self.now)).is_some_and(|age| age <= self.word_ttl());
        fresh && guardian.session().is_some() && !guardian.quarantined
    }

    /// What most eligible voters say is wrong, for showing.
    pub(super) fn spoken_class(&self, words: &BTreeMap<PersonaId, Word>) -> Option<FaultClass> {
        let mut counts: BTreeMap<FaultClass, usize> = BTreeMap::new();
        let fresh =
            words.values().filter(|word| word.heard_at.age_at(self.now).is_some_and(|age| age <= self.word_ttl()));
        for class in fresh.filter_map(|word| word.attestation.class) {
            *counts.entry(class).or_default() += 1;
        }
        counts.into_iter().max_by_key(|(class, count)| (*count, std::cmp::Reverse(*class))).map(|(class, _)| class)
    }
}
