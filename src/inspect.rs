//! What is going on, for people and programs: plain facts of the protocol turned into the views of `inspect.proto`.
//!
//! Rules implemented here:
//! * `status` is `lost` when fewer than q vendors live; `degraded` when some subject cannot be repaired, or anything at all is
//!   not as it should be; `healthy` otherwise;
//! * whatever is missing is said in one sentence of `notes`; the margin is shown, never hidden;
//! * times for people are RFC 3339, ages are milliseconds on the node's own clock.
//!
//! Nothing here decides anything: a view is read by people, never by a rule.

pub mod receipts;

use crate::protocol::evidence::{Attestation, FaultClass};
use crate::protocol::policy::{Mode, Policy, SubjectKind};
use crate::protocol::roster::Roster;
use crate::protocol::statement::{StateName, Vote};
use crate::protocol::types::{PersonaId, SubjectName, Timestamp};
use crate::protocol::view::{HeldBy, HoldStatus, PersonaStatus, SubjectStatus, WardenView};
use crate::wire::v1;
use std::time::Duration;

/// What a view is made from, beside the warden's own facts.
#[derive(Clone, Copy, Debug)]
pub struct Background<'a> {
    /// Who may vote.
    pub roster: &'a Roster,
    /// What may be done.
    pub policy: &'a Policy,
    /// Whether personas run as separate users.
    pub isolation: bool,
    /// The moment the facts are from.
    pub now: Timestamp,
}

impl Background<'_> {
    fn vendor_of(&self, persona: &PersonaId) -> String {
        self.roster.member(persona).map(|member| member.vendor.to_string()).unwrap_or_default()
    }

    fn age_ms(&self, at: Timestamp) -> u64 {
        millis(self.now.saturating_since(at))
    }
}

/// The committee as the warden sees it; only `subject`, if one is named.
///
/// `last_action` tells the last action that ended on a subject.
pub fn quorum(
    view: &WardenView,
    background: Background<'_>,
    subject: Option<&SubjectName>,
    last_action: impl Fn(&SubjectName) -> Option<v1::ActionView>,
) -> v1::QuorumView {
    let Background { roster, policy, isolation, .. } = background;
    let subjects: Vec<_> = view
        .subjects
        .iter()
        .filter(|status| subject.is_none_or(|wanted| *wanted == status.subject))
        .map(|status| subject_view(status, background, last_action(&status.subject)))
        .collect();
    v1::QuorumView {
        node: roster.node().to_string(),
        roster_epoch: roster.epoch(),
        f: count(roster.f()),
        threshold: count(roster.q()),
        vendors_live: count(view.vendors_live),
        status: status(view, roster).to_owned(),
        margin: view.subjects.iter().map(|status| status.margin).min().unwrap_or(0),
        holds: view.holds.iter().map(hold_view).collect(),
        subjects,
        mode: match policy.mode {
            Mode::Observe => "observe",
            Mode::Act => "act",
        }
        .to_owned(),
        drill: policy.drill,
        isolation,
        verified: true,
        warden_instance: view.instance.0.to_string(),
        personas: view.personas.iter().map(|persona| persona_view(persona, background)).collect(),
        notes: notes(view, background),
    }
}

/// The one word for the whole: `healthy`, `degraded` or `lost`.
pub fn status(view: &WardenView, roster: &Roster) -> &'static str {
    if view.vendors_live < roster.q() {
        return "lost";
    }
    let well = view.journal_damage.is_none()
        && view.frozen_until.is_none()
        && view.holds.is_empty()
        && view.personas.iter().all(|p| p.live && !p.quarantined && p.policy_matches != Some(false))
        && view.subjects.iter().all(|s| s.margin >= 0 && s.state == StateName::Healthy && environment(s).is_none());
    if well { "healthy" } else { "degraded" }
}

fn environment(status: &SubjectStatus) -> Option<&Attestation> {
    status.verdicts.iter().map(|(_, said)| said).find(|said| said.class == Some(FaultClass::Environment))
}

fn notes(view: &WardenView, background: Background<'_>) -> Vec<String> {
    let Background { roster, policy, isolation, now } = background;
    let mut notes = Vec::new();
    if let Some(damage) = &view.journal_damage {
        notes.push(format!("everything is held, the journal is in doubt: {damage}"));
        notes.push(
            "restore the journal from a copy and restart the warden; if there is none, move journal, roster and the \
             warden's key away and run `zeta-bft init`: budgets and quarantines begin anew"
                .into(),
        );
    }
    if view.vendors_live < roster.q() {
        notes.push(format!(
            "no quorum: {} of {} vendors live, {} must agree; nothing is repaired",
            view.vendors_live,
            roster.vendors().len(),
            roster.q()
        ));
    }
    if let Some((until, cause)) = view.frozen_until {
        let left = until.saturating_since(now);
        let long = if left.is_zero() { "as long as it lasts".to_owned() } else { format!("for {}", seconds(left)) };
        notes.push(format!("soft evidence is not acted on {long}: {}", words(cause)));
    }
    for persona in &view.personas {
        let name = &persona.persona;
        if persona.quarantined {
            notes.push(format!("{name} has no vote: it signed two statements under one number; `readmit` ends that"));
        }
        if persona.policy_matches == Some(false) {
            notes.push(format!("{name} counts by another roster or policy, and abstains"));
        }
        match (persona.live, persona.session, persona.heartbeat_at) {
            (true, ..) => {}
            (false, None, _) => notes.push(format!("{name} has no session: its agent is not connected")),
            (false, Some(_), None) => notes.push(format!("{name} has not been heard yet")),
            (false, Some(_), Some(at)) => {
                notes.push(format!("{name} has not been heard for {}", seconds(now.saturating_since(at))));
            }
        }
    }
    for hold in &view.holds {
        let what = hold.subject.as_ref().map_or("everything", SubjectName::as_str);
        let until = hold.until.map_or_else(|| "until released".to_owned(), |at| format!("until {}", rfc3339_s(at)));
        notes.push(format!("{what} is held by uid {} {until}: {}", hold.uid, hold.reason));
    }
    for subject in &view.subjects {
        notes.extend(subject_note(subject));
    }
    if policy.mode == Mode::Observe {
        notes.push("mode observe: nothing is touched".to_owned());
    }
    if policy.drill {
        notes.push("drill: budgets and cool-downs are lifted".to_owned());
    }
    if !isolation {
        notes.push("isolation off: personas share a user, and one could stop another or read its key".to_owned());
    }
    notes
}

fn subject_note(status: &SubjectStatus) -> Option<String> {
    let name = &status.subject;
    match status.held_by {
        Some(HeldBy::Ladder) => {
            return Some(format!("{name} is held: its ladder is spent; `release {name}` ends that"));
        }
        Some(HeldBy::Budget) => {
            return Some(format!("{name} is held: its budget is spent; it refills with time, or `release {name}`"));
        }
        Some(HeldBy::Operator | HeldBy::Journal) => return None,
        None => {}
    }
    if let Some(said) = environment(status) {
        let resume = said.resume_at.map(|at| format!("; work can go on at {}", rfc3339_s(at))).unwrap_or_default();
        let witnesses: Vec<_> = status
            .verdicts
            .iter()
            .filter(|(_, said)| said.class == Some(FaultClass::Environment))
            .map(|(persona, _)| persona.as_str())
            .collect();
        return Some(format!(
            "{name} is kept from its work by its surroundings: {} (by {}){resume}",
            words(said.reason.as_str()),
            witnesses.join(", ")
        ));
    }
    if status.state != StateName::Healthy {
        return Some(format!("{name} is {}: {}", words(status.state.as_str()), words(status.reason)));
    }
    (status.margin < 0).then(|| format!("{name} could not be repaired now: {}", votes_missing(status.margin)))
}

/// A negative margin in words.
pub fn votes_missing(margin: i32) -> String {
    match margin.unsigned_abs() {
        1 => "one vote is missing".to_owned(),
        n => format!("{n} votes are missing"),
    }
}

/// One subject.
pub fn subject_view(
    status: &SubjectStatus,
    background: Background<'_>,
    last_action: Option<v1::ActionView>,
) -> v1::SubjectView {
    let policy = background.policy.subject(&status.subject);
    v1::SubjectView {
        name: status.subject.to_string(),
        kind: policy.map_or(SubjectKind::Unit.as_str(), |policy| policy.kind.as_str()).to_owned(),
        vendor: policy.and_then(|policy| policy.vendor.as_ref()).map(ToString::to_string),
        state: status.state.to_string(),
        incarnation: status.incarnation.to_string(),
        pid: status.pid,
        rung: status.rung.0,
        fault_class: status.class.map(|class| class.to_string()),
        verdicts: status
            .verdicts
            .iter()
            .map(|(persona, said)| verdict_view(persona, &background.vendor_of(persona), said, background.now))
            .collect(),
        votes: status.votes.iter().map(|vote| vote_view(vote, background)).collect(),
        last_action,
        episode: status.episode.to_string(),
        round: status.round.0,
        budget: status.budget,
        held_by: status.held_by.map(|by| by.as_str().to_owned()),
        reason: Some(status.reason.to_owned()).filter(|reason| !reason.is_empty()),
        margin: status.margin,
        resume_at: environment(status).and_then(|said| said.resume_at).map(rfc3339_s),
        deadline_ms: status.deadline.map(|at| millis(at.saturating_since(background.now))),
    }
}

/// One guardian's word on a subject.
pub fn verdict_view(persona: &PersonaId, vendor: &str, said: &Attestation, now: Timestamp) -> v1::VerdictView {
    v1::VerdictView {
        persona: persona.to_string(),
        vendor: vendor.to_owned(),
        verdict: said.verdict.to_string(),
        fault_class: said.class.map(|class| class.to_string()),
        evidence: said.evidence.to_string(),
        age_ms: millis(now.saturating_since(said.observed_at)),
        reason: said.reason.to_string(),
    }
}

fn vote_view(vote: &Vote, background: Background<'_>) -> v1::VoteView {
    let persona = &vote.header.persona;
    v1::VoteView {
        persona: persona.to_string(),
        vendor: background.vendor_of(persona),
        fault_class: vote.class.to_string(),
        age_ms: background.age_ms(vote.header.observed_at),
        challenged: vote.challenge.is_some(),
    }
}

fn persona_view(status: &PersonaStatus, background: Background<'_>) -> v1::PersonaView {
    v1::PersonaView {
        persona: status.persona.to_string(),
        vendor: status.vendor.to_string(),
        live: status.live,
        quarantined: status.quarantined,
        session: status.session.map(|session| session.to_string()),
        heartbeat_age_ms: status.heartbeat_at.map(|at| background.age_ms(at)),
        health: status.health,
        policy_matches: status.policy_matches,
    }
}

fn hold_view(hold: &HoldStatus) -> v1::HoldView {
    v1::HoldView {
        subject: hold.subject.as_ref().map(ToString::to_string),
        uid: hold.uid,
        reason: hold.reason.clone(),
        until: hold.until.map(rfc3339_s),
    }
}

/// One sentence: why a subject stands where it stands, and what comes next.
pub fn summary(status: &SubjectStatus, background: Background<'_>) -> String {
    let name = &status.subject;
    let class = status.class.map_or("no fault", FaultClass::as_str);
    let needed = background.roster.q();
    let vendors = distinct_vendors(status, background);
    let within = status
        .deadline
        .map(|at| format!(" within {}", seconds(at.saturating_since(background.now))))
        .unwrap_or_default();
    let why = words(status.reason);
    match status.state {
        StateName::Healthy => match environment(status) {
            Some(_) => format!("{name} runs, but its surroundings keep it from its work; a restart would not help."),
            None => format!("{name} is healthy; nobody's word is against it."),
        },
        StateName::Suspect => {
            format!("{name} is suspected of {class}: {vendors} of {needed} vendors that must agree have voted ({why}).")
        }
        StateName::Challenged => {
            format!("{name} is accused of {class} by {vendors} vendors and was asked to answer{within}.")
        }
        StateName::Certified => {
            format!("{name} is certified {class} by {vendors} vendors; the repair waits for its turn ({why}).")
        }
        StateName::AwaitingApproval => format!(
            "{name} is certified {class}, but its next rung needs the operator: `zeta-bft approve {}`{within}.",
            status.episode
        ),
        StateName::Acting => format!("{name} is being repaired for {class}, rung {}{within}.", status.rung.0),
        StateName::Settling => format!("{name} was repaired for {class}; whether it helped shows{within}."),
        StateName::Unconfirmed => {
            format!("{name} was repaired for {class}, but nobody can say yet whether it helped ({why}).")
        }
        StateName::Reconciling => {
            format!("{name} was being repaired when the warden stopped; what became of it shows{within}.")
        }
        StateName::Frozen => format!("{name} is not repaired on soft evidence now, the host is in doubt ({why})."),
        StateName::Held => {
            let by = status.held_by.map_or("unknown", HeldBy::as_str);
            format!("{name} is left alone, held by {by} ({why}).")
        }
        StateName::Operator => format!("{name} is left alone, the operator wants it so ({why})."),
    }
}

fn distinct_vendors(status: &SubjectStatus, background: Background<'_>) -> usize {
    let vendors: std::collections::BTreeSet<_> =
        status.votes.iter().map(|vote| background.vendor_of(&vote.header.persona)).collect();
    vendors.len()
}

/// The view without what changes merely because time goes on: two views are news of each other when these differ.
pub fn without_ages(view: &v1::QuorumView) -> v1::QuorumView {
    let mut view = view.clone();
    for persona in &mut view.personas {
        persona.heartbeat_age_ms = None;
    }
    for subject in &mut view.subjects {
        subject.deadline_ms = None;
        subject.verdicts.iter_mut().for_each(|verdict| verdict.age_ms = 0);
        subject.votes.iter_mut().for_each(|vote| vote.age_ms = 0);
    }
    // Silence is told with its length; whether there is silence shows in `personas`.
    view.notes.clear();
    view
}

/// Seconds of Unix time as RFC 3339.
pub fn rfc3339_s(seconds: u64) -> String {
    rfc3339_ms(seconds.saturating_mul(1000))
}

/// Milliseconds of Unix time as RFC 3339. A time beyond the year 9999 is given as its number.
pub fn rfc3339_ms(milliseconds: u64) -> String {
    i64::try_from(milliseconds)
        .ok()
        .and_then(|ms| jiff::Timestamp::from_millisecond(ms).ok())
        .map_or_else(|| milliseconds.to_string(), |at| at.to_string())
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

fn seconds(duration: Duration) -> String {
    format!("{:.1} s", duration.as_secs_f64())
}

fn words(label: &str) -> String {
    label.replace('_', " ")
}

fn count(n: usize) -> u32 {
    u32::try_from(n).unwrap_or(u32::MAX)
}

#[cfg(test)]
pub(crate) mod tests;
