//! What a liar says: well-formed and well-signed under its one session, and otherwise whatever hurts most.

use crate::guards::Mind;
use crate::moves::{Binding, Lie};
use crate::node::{Message, Node};
use crate::scope::{BOOT, CODEC, S, Scope};
use crate::words;
use zeta_bft::protocol::evidence::{FaultClass, Verdict};
use zeta_bft::protocol::statement::{Choice, Envelope, EpisodeStatement, Header, Heartbeat, JournalHead, Vote};
use zeta_bft::protocol::types::{PersonaId, Round, Rung, SetEpoch, SubjectName, Timestamp};

impl Node {
    pub fn lie(&mut self, scope: &Scope, persona: &PersonaId, lie: &Lie) -> Option<()> {
        let key = self.guards[persona].session_key();
        match lie {
            Lie::Approve(subject, class) => {
                let vote = self.vote(scope, persona, subject, *class, Choice::Approve)?;
                let envelope = Envelope::seal(&vote, &key, &CODEC);
                if self.left.replays > 0 {
                    self.seen.push(envelope.clone());
                }
                self.arrives(scope, persona, Message::Statement(envelope));
            }
            Lie::Withdraw(subject, class) => {
                let vote = self.vote(scope, persona, subject, *class, Choice::Withdraw)?;
                self.arrives(scope, persona, Message::Statement(Envelope::seal(&vote, &key, &CODEC)));
            }
            Lie::Accuse(subject, class) => {
                let beat = self.heartbeat(scope, persona, Some((subject, *class)))?;
                self.arrives(scope, persona, Message::Statement(Envelope::seal(&beat, &key, &CODEC)));
            }
            Lie::Deny => {
                let beat = self.heartbeat(scope, persona, None)?;
                self.arrives(scope, persona, Message::Statement(Envelope::seal(&beat, &key, &CODEC)));
            }
            Lie::Twice(subject, class) => {
                let down = self.heartbeat(scope, persona, Some((subject, *class)))?;
                let up = Heartbeat { attestations: self.heartbeat(scope, persona, None)?.attestations, ..down.clone() };
                for beat in [down, up] {
                    self.arrives(scope, persona, Message::Statement(Envelope::seal(&beat, &key, &CODEC)));
                }
            }
            Lie::Forge(subject, class, binding) => {
                let mut vote = self.vote(scope, persona, subject, *class, Choice::Approve)?;
                let ttl = scope.truth.policy.timing.class(*class, scope.kind(subject))?.vote_ttl;
                match binding {
                    Binding::Round => vote.round = Round(vote.round.0 + 1),
                    Binding::Nonce => vote.nonce.0[0] ^= 1,
                    Binding::Rung => vote.rung = Rung(vote.rung.0 + 1),
                    Binding::Incarnation => vote.incarnation.invocation.0[0] ^= 1,
                    Binding::Future => backdate(&mut vote, self.clock() + 3600 * S),
                    Binding::Past => backdate(&mut vote, self.clock() - ttl - S),
                    Binding::Author => {
                        vote.header.persona = scope.roster.members().find(|m| m.persona != *persona)?.persona.clone();
                    }
                    Binding::Attestation => vote.attestation.verdict = Verdict::Up,
                    Binding::Class => {
                        vote.attestation.class = FaultClass::ALL.iter().copied().find(|other| other != class);
                    }
                    Binding::Epoch => vote.set_epoch = SetEpoch(vote.set_epoch.0 + 1),
                }
                // No rule asks what became of a vote that never was one: the books are not told.
                let envelope = Envelope::seal(&vote, &key, &CODEC);
                self.tell_warden(scope, zeta_bft::protocol::warden::WardenInput::Submitted(envelope));
            }
        }
        Some(())
    }

    fn header(&mut self, scope: &Scope, persona: &PersonaId) -> Option<Header> {
        let (observed_at, session_key) = (self.clock(), self.guards[persona].session_key().public());
        let Mind::Liar(liar) = &mut self.guards.get_mut(persona)?.mind else { return None };
        liar.seq += 1;
        Some(Header {
            cluster: scope.roster.cluster().clone(),
            node: scope.roster.node().clone(),
            boot: BOOT,
            roster_epoch: scope.roster.epoch(),
            roster: scope.roster.digest(),
            policy: scope.policy.digest,
            persona: persona.clone(),
            incarnation: liar.session,
            session_key,
            seq: liar.seq,
            observed_at,
        })
    }

    fn vote(
        &mut self,
        scope: &Scope,
        persona: &PersonaId,
        subject: &SubjectName,
        class: FaultClass,
        choice: Choice,
    ) -> Option<Vote> {
        let Mind::Liar(liar) = &self.guards[persona].mind else { return None };
        let episode = liar.episodes.get(subject)?.clone();
        let header = self.header(scope, persona)?;
        Some(words::vote(header, &episode, class, choice))
    }

    fn heartbeat(
        &mut self,
        scope: &Scope,
        persona: &PersonaId,
        accused: Option<(&SubjectName, FaultClass)>,
    ) -> Option<Heartbeat> {
        let header = self.header(scope, persona)?;
        let Mind::Liar(liar) = &self.guards[persona].mind else { return None };
        let said = |episode: &EpisodeStatement| {
            let class = accused.filter(|(subject, _)| **subject == episode.subject).map(|(_, class)| class);
            words::attest(&episode.subject, episode.incarnation, class, header.observed_at)
        };
        let attestations = liar.episodes.values().map(said).collect();
        Some(Heartbeat { header, attestations, health: 0, heads: Vec::new(), receipt: JournalHead::default() })
    }
}

fn backdate(vote: &mut Vote, to: Timestamp) {
    vote.header.observed_at = to;
    vote.attestation.observed_at = to;
}
