//! Wardens, and guardians, that are broken in one rule each: what the model must find.
//!
//! The real machines stay as they are. What reaches them is changed on the way, so that the one rule is void; the books are told
//! the truth. A rule that cannot be voided from outside is voided by the scope: a policy or a roster that only the books see through.

use crate::guards::session_key;
use crate::node::Node;
use crate::scope::{CODEC, Scope};
use zeta_bft::protocol::evidence::UnitState;
use zeta_bft::protocol::signing::Domain;
use zeta_bft::protocol::statement::{Choice, Codec, Envelope, EpisodeStatement, Header, Vote};
use zeta_bft::protocol::types::{PersonaId, SubjectName};

/// The one rule that is void.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Broken {
    /// Nobody can take a vote back: neither WITHDRAW nor a later heartbeat is heard.
    HearsNoWithdraw,
    /// The last look shows the run that was voted on, whatever runs.
    LooksNoMore,
    /// An agent that comes back chooses its incarnation itself: the key and the numbers of a run that has ended.
    ChoosesIncarnation,
    /// What is written counts as durable at once.
    ActsBeforeJournal,
    /// A vote is taken under the guardian-set epoch of now, whatever was done to other personas since.
    EpochPerSubject,
    /// A vote counts for the round of now, whichever it was cast for.
    IgnoresNonce,
    /// Guardians repeat what they hear of others as their own word.
    CountsHearsay,
    /// A new warden knows nothing of what was spent.
    ForgetsBudgets,
}

impl Broken {
    /// What the broken warden hears of a statement.
    pub fn alter(self, node: &Node, envelope: &Envelope) -> Option<Envelope> {
        match self {
            Self::HearsNoWithdraw if envelope.domain == Domain::Heartbeat => None,
            Self::HearsNoWithdraw => {
                let vote: Vote = CODEC.decode(&envelope.payload).ok()?;
                (vote.choice == Choice::Approve).then(|| envelope.clone())
            }
            Self::EpochPerSubject if envelope.domain == Domain::Vote => {
                let mut vote: Vote = CODEC.decode(&envelope.payload).ok()?;
                let episode = node.episode(&vote.subject)?;
                if vote.set_epoch == episode.set_epoch {
                    return Some(envelope.clone());
                }
                vote.set_epoch = episode.set_epoch;
                Some(node.reseal(vote))
            }
            Self::IgnoresNonce if envelope.domain == Domain::Vote => {
                let mut vote: Vote = CODEC.decode(&envelope.payload).ok()?;
                let episode = node.episode(&vote.subject)?;
                if vote.nonce == episode.nonce || vote.incarnation != episode.incarnation {
                    return Some(envelope.clone());
                }
                (vote.episode, vote.round, vote.nonce) = (episode.id, episode.round, episode.nonce);
                (vote.set_epoch, vote.rung) = (episode.set_epoch, episode.rung);
                // Numbers, too, are bound to a round by its nonce alone.
                vote.header.seq += 1_000_000;
                Some(node.reseal(vote))
            }
            _ => Some(envelope.clone()),
        }
    }

    /// What the last look shows.
    pub fn last_look(self, node: &Node, subject: &SubjectName, truth: UnitState) -> UnitState {
        if self != Self::LooksNoMore {
            return truth;
        }
        // As it was when it was voted on: down, in the run that the episode names.
        let Some(episode) = node.episode(subject) else { return truth };
        let failed = zeta_bft::protocol::evidence::Activity::Failed;
        UnitState { incarnation: episode.incarnation, activity: failed, main_pid: None, ..truth }
    }
}

impl Node {
    /// The episode as last published.
    pub fn episode(&self, subject: &SubjectName) -> Option<EpisodeStatement> {
        CODEC.decode(&self.published.get(subject)?.payload).ok()
    }

    fn reseal(&self, vote: Vote) -> Envelope {
        let run = self.guards[&vote.header.persona].run;
        Envelope::seal(&vote, &session_key(&vote.header.persona, run), &CODEC)
    }

    /// Every correct guardian that may vote says what `from` said, as its own.
    pub fn repeat_hearsay(&mut self, scope: &Scope, from: &PersonaId, envelope: &Envelope) {
        if !scope.is_liar(from) || envelope.domain != Domain::Vote {
            return;
        }
        let Ok(vote) = Codec::<Vote>::decode(&CODEC, &envelope.payload) else { return };
        let own = scope.truth.own.get(&vote.subject);
        let honest: Vec<_> = self.guards.values().filter(|g| g.is_honest()).map(|g| g.persona.clone()).collect();
        for persona in honest.iter().filter(|persona| own != Some(&scope.truth.vendors[*persona])) {
            let Some(header) = self.guards[persona].header.clone() else { continue };
            // Beyond the numbers that it uses itself.
            let seq = vote.header.seq + 2_000_000;
            let header = Header { seq, observed_at: vote.header.observed_at, ..header };
            let copied = self.reseal(Vote { header, ..vote.clone() });
            self.books.delivered(scope, &copied);
            self.tell_warden(scope, zeta_bft::protocol::warden::WardenInput::Submitted(copied));
        }
    }
}
