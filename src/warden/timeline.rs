//! What happened to each subject lately, in sentences: for `explain`, never for a rule.
//!
//! Bounded: [`Timelines::LENGTH`] entries per configured subject. A word that only repeats what was said since the last
//! change of state (votes are renewed all the time) is not told again.

use crate::inspect::rfc3339_ms;
use crate::protocol::types::{EpisodeId, PersonaId, SubjectName};
use crate::protocol::warden::{Page, WardenEvent};
use crate::wire::v1;
use std::collections::{BTreeMap, VecDeque};

#[derive(Debug)]
struct Entry {
    wall_ms: u64,
    episode: Option<EpisodeId>,
    text: String,
    turning_point: bool,
}

/// One bounded list per subject.
#[derive(Debug)]
pub struct Timelines {
    subjects: BTreeMap<SubjectName, VecDeque<Entry>>,
}

impl Timelines {
    /// Entries kept per subject.
    pub const LENGTH: usize = 64;

    /// Empty ones for these subjects; events about any other are passed over.
    pub fn new(subjects: impl IntoIterator<Item = SubjectName>) -> Self {
        Self { subjects: subjects.into_iter().map(|subject| (subject, VecDeque::new())).collect() }
    }

    /// Takes note of a fact of the core's.
    pub fn on_event(&mut self, wall_ms: u64, event: &WardenEvent) {
        match event {
            WardenEvent::StateChanged { subject, from, to, episode, reason } => {
                let text = format!("{from} → {to} ({})", reason.replace('_', " "));
                let entry = Entry { wall_ms, episode: Some(*episode), text, turning_point: true };
                self.push(subject, entry);
            }
            WardenEvent::VoteCounted { subject, persona, kind } => {
                self.tell(subject, wall_ms, format!("{persona} votes {kind}"));
            }
            WardenEvent::Refused { subject, reason } => {
                self.tell(subject, wall_ms, format!("no repair: {}", reason.replace('_', " ")));
            }
            WardenEvent::Repaired { subject, action, outcome, took, detection } => {
                let text = format!(
                    "{action}: {outcome}, {} ms after the certificate, which came {} ms after the first sight of it",
                    took.as_millis(),
                    detection.as_millis()
                );
                self.tell(subject, wall_ms, text);
            }
            WardenEvent::SessionOpened { persona, incarnation } => {
                self.tell_both(persona, wall_ms, &format!("{persona}'s agent opened session {incarnation}"));
            }
            WardenEvent::Equivocated { persona } => {
                self.tell_both(persona, wall_ms, &format!("{persona} was proven to sign two statements as one"));
            }
            WardenEvent::Rejected { .. } => {}
        }
    }

    /// Takes note of a call for a human.
    pub fn on_page(&mut self, wall_ms: u64, page: &Page) {
        if let Some(subject) = &page.subject {
            self.tell(subject, wall_ms, format!("page ({}): {}", page.cause.replace('_', " "), page.text));
        }
    }

    /// What is kept of a subject, oldest first; only of one episode, if it is named.
    pub fn of(&self, subject: &SubjectName, episode: Option<EpisodeId>) -> Vec<v1::TimelineEntry> {
        let entries = self.subjects.get(subject).into_iter().flatten();
        entries
            .filter(|entry| episode.is_none_or(|wanted| entry.episode == Some(wanted)))
            .map(|entry| v1::TimelineEntry { at: rfc3339_ms(entry.wall_ms), text: entry.text.clone() })
            .collect()
    }

    /// The subject that an episode was about, if any of it is kept.
    pub fn subject_of(&self, episode: EpisodeId) -> Option<&SubjectName> {
        let of = |entries: &VecDeque<Entry>| entries.iter().any(|entry| entry.episode == Some(episode));
        self.subjects.iter().find(|(_, entries)| of(entries)).map(|(subject, _)| subject)
    }

    fn tell_both(&mut self, persona: &PersonaId, wall_ms: u64, text: &str) {
        for subject in [SubjectName::wrapper(persona), SubjectName::agent(persona)] {
            self.tell(&subject, wall_ms, text.to_owned());
        }
    }

    fn tell(&mut self, subject: &SubjectName, wall_ms: u64, text: String) {
        let Some(entries) = self.subjects.get(subject) else { return };
        let episode = entries.back().and_then(|entry| entry.episode);
        let said = entries.iter().rev().take_while(|entry| !entry.turning_point).any(|entry| entry.text == text);
        if !said {
            self.push(subject, Entry { wall_ms, episode, text, turning_point: false });
        }
    }

    fn push(&mut self, subject: &SubjectName, entry: Entry) {
        let Some(entries) = self.subjects.get_mut(subject) else { return };
        if entries.len() == Self::LENGTH {
            entries.pop_front();
        }
        entries.push_back(entry);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::statement::StateName;
    use crate::protocol::types::WardenInstance;

    fn otto() -> SubjectName {
        SubjectName::new("otto").unwrap()
    }

    fn vote(persona: &str) -> WardenEvent {
        let persona = PersonaId::new(persona).unwrap();
        WardenEvent::VoteCounted { subject: otto(), persona, kind: "APPROVE" }
    }

    fn change(counter: u32) -> WardenEvent {
        WardenEvent::StateChanged {
            subject: otto(),
            from: StateName::Healthy,
            to: StateName::Suspect,
            episode: EpisodeId::new(WardenInstance(1), counter),
            reason: "vote_counted",
        }
    }

    #[test]
    fn a_renewed_vote_is_told_once_between_two_changes_of_state() {
        let mut timelines = Timelines::new([otto()]);
        for event in [change(1), vote("vera"), vote("lior"), vote("vera"), change(2), vote("vera")] {
            timelines.on_event(0, &event);
        }
        let told: Vec<_> = timelines.of(&otto(), None).into_iter().map(|entry| entry.text).collect();
        let changed = "healthy → suspect (vote counted)";
        assert_eq!(told, [changed, "vera votes APPROVE", "lior votes APPROVE", changed, "vera votes APPROVE"]);
        let second = EpisodeId::new(WardenInstance(1), 2);
        assert_eq!(timelines.of(&otto(), Some(second)).len(), 2);
        assert_eq!(timelines.subject_of(second), Some(&otto()));
    }

    #[test]
    fn a_timeline_never_grows_past_its_length() {
        let mut timelines = Timelines::new([otto()]);
        for counter in 0..1000 {
            timelines.on_event(u64::from(counter), &change(counter));
        }
        let told = timelines.of(&otto(), None);
        assert_eq!(told.len(), Timelines::LENGTH);
        assert_eq!(told.last().unwrap().at, "1970-01-01T00:00:00.999Z");
    }

    #[test]
    fn a_subject_nobody_configured_has_no_timeline() {
        let mut timelines = Timelines::new([]);
        timelines.on_event(0, &change(1));
        assert!(timelines.of(&otto(), None).is_empty());
    }
}
