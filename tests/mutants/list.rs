//! The mutants: one rule each, void or bent.
//!
//! `at` is a piece of the file that occurs in it exactly once; what stands between `⟦` and `⟧` is what changes. A mutant that
//! nobody notices says why it is [`Mutant::excused`].

use Change::{Becomes, Goes};

/// What becomes of the marked piece.
#[derive(Clone, Copy)]
pub enum Change {
    /// Another expression.
    Becomes(&'static str),
    /// A statement that is left out.
    Goes,
}

/// One mutant.
pub struct Mutant {
    /// Below `src/protocol`.
    pub file: &'static str,
    pub at: &'static str,
    pub change: Change,
    /// Why no judge can, or need, notice it.
    pub excuse: Option<&'static str>,
}

impl Mutant {
    const fn excused(self, why: &'static str) -> Self {
        Self { excuse: Some(why), ..self }
    }
}

const fn m(file: &'static str, at: &'static str, change: Change) -> Mutant {
    Mutant { file, at, change, excuse: None }
}

/// In this order they are numbered, from 1.
pub const MUTANTS: &[Mutant] = &[
    // S1, S4: which votes count.
    m(
        "vote_keeper.rs",
        "if soft_on_persona {\n            ⟦vote.set_epoch == self.episode.set_epoch⟧",
        Becomes("true"),
    ),
    m("vote_keeper.rs", "⟦vote.set_epoch <= self.episode.set_epoch⟧", Becomes("true")),
    m("vote_keeper.rs", "is_some_and(|age| ⟦age <= self.ttl⟧)", Becomes("true")),
    m("vote_keeper.rs", "if ⟦self.vendor == Some(voter)⟧ {", Becomes("false")),
    m("vote_keeper.rs", "if ⟦vote.incarnation != episode.incarnation⟧ {", Becomes("false")),
    m("vote_keeper.rs", "if ⟦vote.rung != episode.rung⟧ {", Becomes("false")),
    m(
        "vote_keeper.rs",
        "if ⟦(vote.episode, vote.round, vote.nonce) != (episode.id, episode.round, episode.nonce)⟧",
        Becomes("(vote.episode, vote.round) != (episode.id, episode.round)"),
    ),
    m(
        "vote_keeper.rs",
        "if ⟦(vote.episode, vote.round, vote.nonce) != (episode.id, episode.round, episode.nonce)⟧",
        Becomes("false"),
    ),
    m("vote_keeper.rs", "&& ⟦said.verdict == Verdict::Down⟧", Becomes("true")),
    m("vote_keeper.rs", "&& ⟦said.class == Some(vote.class)⟧", Becomes("true")),
    m("vote_keeper.rs", "&& ⟦said.observed_at == vote.header.observed_at⟧", Becomes("true")),
    m("vote_keeper.rs", "if ⟦!vote.class.is_votable()⟧ {", Becomes("false"))
        .excused("An approval of such a class does not even decode, and no tally asks for one: `VOTABLE` are those that act."),
    m("vote_keeper.rs", "&& ⟦(kept.session, kept.seq) >= (session, seq)⟧", Becomes("false")),
    m("vote_keeper.rs", "let vote = ⟦(vote.choice == Choice::Approve).then_some(vote)⟧;", Becomes("Some(vote)")),
    m("vote_keeper.rs", "if ⟦!holds⟧ {", Becomes("false")),
    m("vote_keeper.rs", "⟦self.vendors.len() >= roster.q()⟧", Becomes("self.vendors.len() >= roster.f()")),
    m("episode.rs", "filter(|word| ⟦self.policy.vendor.as_ref() != Some(&word.vendor)⟧)", Becomes("true")),
    m("episode.rs", "is_some_and(|age| ⟦age <= fresh⟧)", Becomes("true")),
    m(
        "episode.rs",
        "⟦word.attestation.incarnation == self.episode.incarnation⟧ && test(&word.attestation)",
        Becomes("true"),
    ),
    m("warden/admission.rs", "if ⟦said.is_some() && taken_back⟧ {", Becomes("false")),
    m("warden/admission.rs", "let counts = ⟦matches && !guardian.quarantined⟧;", Becomes("matches")),
    m("warden/admission.rs", "GuardianStatement::Vote(_) if ⟦guardian.quarantined⟧ =>", Becomes("false")),
    m("warden/admission.rs", "if ⟦!current⟧ {", Becomes("false")),
    m("warden/admission.rs", "if ⟦seq <= guardian.heartbeat_seq⟧ {", Becomes("false")),
    m(
        "warden/admission.rs",
        "guardian.burnt = Some(proven.session_key);\n        for subject in self.subjects.values_mut() {\n            ⟦subject.votes.forget(&persona);⟧",
        Goes,
    ),
    m(
        "warden/admission.rs",
        "guardian.heartbeat_at = None;\n        for subject in self.subjects.values_mut() {\n            ⟦subject.votes.forget(persona);⟧",
        Goes,
    ),
    // Sessions.
    m("warden/admission.rs", "(Some(before), Some(after)) if ⟦before == after⟧ => before", Becomes("true")),
    m("warden/admission.rs", "if ⟦unit.main_pid != peer.pid⟧ {", Becomes("false")),
    m("warden/admission.rs", "if ⟦verified.nonce != nonce⟧ {", Becomes("false")),
    m("session.rs", "(⟦session.session_key == request.session_key⟧, \"session_key\")", Becomes("true")),
    // From votes to an action.
    m("warden/moves.rs", "if ⟦self.damage.is_some() || !self.booted⟧ {\n            return None;", Becomes("false")),
    m("warden/challenge.rs", "if ⟦confirmed.len() >= self.roster.q()⟧ {", Becomes("!confirmed.is_empty()")),
    m(
        "warden/moves.rs",
        "if ⟦!still || !tally.is_quorum(&self.roster) || !confirmed⟧ {",
        Becomes("!still || !confirmed"),
    ),
    m(
        "warden/moves.rs",
        "if ⟦!still || !tally.is_quorum(&self.roster) || !confirmed⟧ {",
        Becomes("!still || !tally.is_quorum(&self.roster)"),
    ),
    m(
        "warden/moves.rs",
        "if ⟦!still || !tally.is_quorum(&self.roster) || !confirmed⟧ {",
        Becomes("!tally.is_quorum(&self.roster) || !confirmed"),
    ),
    m(
        "warden/moves.rs",
        "(⟦cooled && !self.stopping && self.has_slot(subject, certified)⟧).then_some(Move::Intend)",
        Becomes("!self.stopping && self.has_slot(subject, certified)"),
    )
    .excused(
        "Who has no place gets no slot, `hand_out_places` gives none to who still cools down, and no cool-down begins while certified.",
    ),
    m(
        "warden/moves.rs",
        "(⟦cooled && !self.stopping && self.has_slot(subject, certified)⟧).then_some(Move::Intend)",
        Becomes("cooled && !self.stopping"),
    ),
    m("warden/moves.rs", "⟦up.len() >= self.roster.q()⟧", Becomes("!up.is_empty()")),
    m("warden/moves.rs", "⟦down.len() >= self.roster.q()⟧", Becomes("!down.is_empty()")),
    m("warden/moves.rs", "let carried_out = ⟦unit.incarnation != *before⟧;", Becomes("true")),
    m("warden/action.rs", "⟦subject.ledger.charge(&timing, accumulated);⟧", Goes),
    m("warden/action.rs", "⟦self.node.charge(&timing, accumulated);⟧", Goes),
    m("warden/action.rs", "if ⟦on_persona⟧ {", Becomes("false")),
    m("warden/action.rs", "State::Acting(acting) if ⟦acting.waits_for <= head.seq⟧ =>", Becomes("true")),
    m("warden/action.rs", "else if ⟦self.hold_on(name).is_some()⟧ {\n            Some(\"hold\")", Becomes("false")),
    m("warden/action.rs", "else if ⟦unit.incarnation != acting.incarnation⟧ {", Becomes("false")),
    m("warden/action.rs", "else if ⟦unit.job_pending && !starts⟧ {", Becomes("false")),
    m("warden/action.rs", "else if ⟦!as_certified⟧ {", Becomes("false")),
    m("warden/action.rs", "action.filter(|_| ⟦now < acting.slot_until⟧)", Becomes("true")),
    m(
        "warden/action.rs",
        "let runs_anew = unit.is_running() && ⟦unit.incarnation != acting.incarnation⟧;",
        Becomes("true"),
    ),
    m("warden/action.rs", "⟦subject.ledger.give_back(&subject.policy.budget, acting.charged_at);⟧", Goes),
    m("warden/action.rs", "⟦self.follow_incarnation(name);⟧\n        self.enter(name, State::Suspect, reason);", Goes),
    m("episode.rs", "⟦self.votes.clear();⟧", Goes).excused(
        "Every tally asks `Ballot::admit` of every vote again, and a vote of an earlier round names that round and its nonce.",
    ),
    m("episode.rs", "⟦self.episode.nonce = nonce;⟧", Goes),
    m("episode.rs", "Self::Acting(acting) => ⟦acting.holds_slot && now < acting.slot_until⟧,", Becomes("false")),
    m("warden/schedule.rs", "⟦taken < self.roster.f()⟧", Becomes("taken <= self.roster.f()")),
    m("warden/challenge.rs", "c.pid == pid && ⟦c.nonce == nonce⟧", Becomes("true")),
    m(
        "warden/challenge.rs",
        "if ⟦subject.votes.tally(self.now, class, self.ballot(subject, class)).is_quorum(&self.roster)⟧ {\n                    self.make",
        Becomes("true"),
    )
    .excused("`certified_move` tallies the votes again in the very same step, before anything rests on the certificate."),
    m("warden/challenge.rs", "if ⟦subject.kept >= KEPT_FOR_LONG⟧ {", Becomes("true")),
    m("cpu.rs", "_ if ⟦waited >= time / 2⟧", Becomes("false")),
    m("cpu.rs", "Standing::Runnable if ⟦ran < time / 2⟧", Becomes("false")),
    m("cpu.rs", "Standing::Blocked => ⟦Some(Kept::Blocked)⟧", Becomes("None")),
    m("warden/schedule.rs", "if ⟦accusers >= self.roster.q()⟧ {", Becomes("false")),
    // S6: what is left.
    m("warden/schedule.rs", "if ⟦spent >= per_day⟧ {", Becomes("false")),
    m("warden/schedule.rs", "if ⟦spent >= share⟧ {", Becomes("false")),
    m("ladder.rs", "if ⟦self.tokens == 0⟧ {", Becomes("false")),
    m("ladder.rs", "if ⟦spent >= budget.per_day⟧ {", Becomes("false")),
    m("ladder.rs", "else { ⟦self.cool_down * 2⟧ };", Becomes("self.cool_down")),
    m("ladder.rs", "tokens: ⟦entry.tokens.min(budget.capacity)⟧,", Becomes("budget.capacity")),
    m("ladder.rs", "⟦self.active_from = None;⟧\n        self.steady_from = None;", Goes),
    // S8, S9: proofs, receipts, certificates.
    m("warden/admission.rs", "let lost = ⟦known.is_none() && receipt.seq >= self.known_from⟧;", Becomes("false")),
    m("warden.rs", "known_from: ⟦0⟧,", Becomes("recovered.head.seq.saturating_add(1)")),
    m("equivocation.rs", "(⟦*digest != statement.envelope().digest()⟧).then(||", Becomes("false")),
    m("equivocation.rs", "if ⟦seq != other⟧ {", Becomes("false")),
    m("equivocation.rs", "if ⟦first == second⟧ {", Becomes("false")),
    m("equivocation.rs", "(⟦header.incarnation <= self.session.incarnation⟧, \"incarnation\")", Becomes("true")),
    m("certificate.rs", "if ⟦vendors.len() < required⟧ {", Becomes("false")),
    m("certificate.rs", "age.filter(|age| ⟦*age <= MAX_AGE⟧)", Becomes("true")),
    m("certificate.rs", "if ⟦episode.roster != roster.digest()⟧ {", Becomes("false")),
    m("roster.rs", "if ⟦q < least || q > most⟧ {", Becomes("q > most")),
    // The guardian.
    m("guardian.rs", "⟦self.seq += 1;⟧", Goes),
    m("guardian/voting.rs", "if ⟦attestation.incarnation != episode.incarnation⟧\n", Becomes("false")),
    m(
        "guardian/voting.rs",
        "if ⟦own_vendor.is_none() || subject_policy.vendor == own_vendor⟧ {",
        Becomes("own_vendor.is_none()"),
    ),
    m("guardian/voting.rs", "if ⟦stands⟧ {", Becomes("true")),
    m("guardian/link.rs", "if ⟦!own || !newer || self.link == Link::Down⟧ {", Becomes("!own")),
    m(
        "guardian/link.rs",
        "is_some_and(|known| ⟦(statement.id, statement.round) < (known.id, known.round)⟧)",
        Becomes("false"),
    ),
];
