//! The agents' processes: their steps, the effects of their machines, their timers and pings, and the liar among them.

use super::events::{Event, guardian};
use super::healing::true_fault;
use super::{MS, READ, World};
use crate::actors::{Keys, Liar, Lie, Scene, Voice};
use crate::agents::{AgentProcess, Mind, Via};
use crate::network::End;
use crate::pid1::Breath;
use crate::schedule;
use std::time::Duration;
use zeta_bft::protocol::guardian::{Guardian, GuardianConfig, GuardianEffect, GuardianEvent, GuardianInput};
use zeta_bft::protocol::signing::{Domain, SigningKey};
use zeta_bft::protocol::statement::{Codec, EpisodeStatement, Session};
use zeta_bft::protocol::types::{Nonce, PersonaId, SubjectName};
use zeta_bft::protocol::warden::WardenInput;
use zeta_bft::wire::Proto;

impl World {
    pub(super) fn agent_begins(&mut self, index: usize, pid: u32) {
        let persona = schedule::persona(index);
        let persona_key = SigningKey::from_seed(&self.persona_seeds[index]);
        let session_key = SigningKey::from_seed(&self.rng.bytes());
        let mind = if self.checker.is_liar(&persona) {
            let (roster, digest, boot) = (self.roster.clone(), self.policy.digest, self.pid1.boot);
            self.soon(1_000, 300_000, Event::LiarSpeaks { pid });
            let victim = (index + 1) % self.plan.personas;
            let stolen = (schedule::persona(victim), SigningKey::from_seed(&self.persona_seeds[victim]));
            let keys = Keys { persona: persona_key, session: session_key, stolen, codec: self.codec };
            let voice = Voice::new(persona, keys, roster, digest, boot);
            Mind::Liar(Box::new(Liar::new(voice, self.plan.guise, &mut self.rng)))
        } else {
            Mind::Correct(Box::new(Guardian::new(GuardianConfig {
                persona,
                persona_key,
                session_key,
                roster: self.roster.clone(),
                policy: self.policy.clone(),
                boot: self.pid1.boot,
                codec: self.codec,
                last_receipt: self.receipts[index].clone(),
            })))
        };
        self.agents[index] = Some(AgentProcess::new(pid, mind));
        for (subject, unit) in self.pid1.units.clone() {
            let input = GuardianInput::UnitChanged { subject, state: Some(unit.state) };
            self.after(READ, guardian(pid, input));
        }
        for peer in (0..self.plan.personas).filter(|peer| *peer != index) {
            self.soon(500, 20_000, Event::DialPeer { pid, peer });
        }
        self.soon(500, 20_000, Event::DialWarden { pid });
        self.soon(1_000, 300_000, Event::Ping { pid });
        self.soon(1_000, 600_000, Event::LookAtK3s { pid, challenge: None });
        self.rearm_agent(index);
    }

    pub(super) fn agent_ends(&mut self, index: usize) {
        if self.agents[index].take().is_none() {
            return;
        }
        let mine = End::Agent(index);
        self.network.disconnect(mine, End::Warden);
        for peer in 0..self.plan.personas {
            if peer != index && self.network.link(mine, End::Agent(peer)).up {
                self.network.disconnect(mine, End::Agent(peer));
                self.tell(peer, GuardianInput::PeerLost(schedule::persona(index)));
                self.redial(peer, index);
            }
        }
    }

    pub(super) fn index_of(&self, pid: u32) -> Option<usize> {
        self.agents.iter().position(|agent| agent.as_ref().is_some_and(|agent| agent.pid == pid))
    }

    pub(super) fn index_of_persona(&self, persona: &PersonaId) -> Option<usize> {
        (0..self.plan.personas).find(|index| schedule::PERSONAS[*index].0 == persona.as_str())
    }

    pub(super) fn is_silent(&self, index: usize) -> bool {
        self.pid1.unit(&schedule::agent(index)).breath != Breath::Well
    }

    pub(super) fn step_agent(&mut self, index: usize, input: GuardianInput) {
        let silent = self.is_silent(index);
        let now = self.boottime();
        self.mix_words(&input);
        let Some(agent) = &mut self.agents[index] else { return };
        if silent {
            if agent.backlog.len() < 4096 {
                agent.backlog.push_back(input);
            }
            return;
        }
        match &mut agent.mind {
            Mind::Correct(guardian) => {
                let effects = guardian.step(now, input);
                // The answer to a connection that is gone opens nothing.
                let opened = GuardianEffect::Event(GuardianEvent::SessionOpened);
                agent.has_session |= effects.contains(&opened);
                self.guardian_effects(index, effects);
            }
            Mind::Liar(liar) => match input {
                GuardianInput::WardenConnected { nonce } => {
                    let request = liar.request(nonce, &mut self.rng);
                    self.guardian_effects(index, vec![GuardianEffect::RequestSession(request)]);
                }
                GuardianInput::SessionOpened(envelope) => {
                    if let Ok(session) = Codec::<Session>::decode(&Proto, &envelope.payload) {
                        liar.voice.session_opened(session.incarnation);
                    }
                    agent.has_session = true;
                    agent.own = Some(envelope.clone());
                    self.guardian_effects(index, vec![GuardianEffect::Broadcast(envelope)]);
                }
                GuardianInput::PeerConnected(peer) => {
                    if let Some(session) = agent.own.clone() {
                        self.guardian_effects(index, vec![GuardianEffect::ToPeer(peer, session)]);
                    }
                }
                GuardianInput::FromWarden(envelope) => {
                    if let Ok(episode) = Codec::<EpisodeStatement>::decode(&Proto, &envelope.payload)
                        && envelope.domain == Domain::Episode
                    {
                        liar.voice.published(episode);
                    }
                    liar.voice.overheard(envelope, &mut self.rng);
                }
                GuardianInput::FromPeer { envelope, .. } => liar.voice.overheard(envelope, &mut self.rng),
                _ => {}
            },
        }
    }

    pub(super) fn guardian_effects(&mut self, index: usize, effects: Vec<GuardianEffect>) {
        self.mix(effects.len() as u64);
        for effect in effects {
            self.mix_words(&effect);
            self.guardian_effect(index, effect);
        }
        self.rearm_agent(index);
    }

    pub(super) fn guardian_effect(&mut self, index: usize, effect: GuardianEffect) {
        let from = End::Agent(index);
        match effect {
            GuardianEffect::RequestSession(request) => {
                self.mix_envelope(&request);
                let Some(run) = self.warden.as_ref().map(|w| w.run) else { return };
                let Some(pid) = self.agents[index].as_ref().map(|a| a.pid) else { return };
                let via = Via { from, to: End::Warden, epoch: self.network.link(from, End::Warden).epoch };
                self.soon(50, 2_000, Event::AskSession { run, pid, via, request });
            }
            GuardianEffect::ToWarden(envelope) => {
                self.mix_envelope(&envelope);
                self.send_to_warden(index, || WardenInput::Submitted(envelope.clone()));
            }
            GuardianEffect::ProofToWarden(proof) => {
                self.send_to_warden(index, || WardenInput::ProofSubmitted(proof.clone()));
            }
            GuardianEffect::ReceiptToWarden(envelope) => {
                self.send_to_warden(index, || WardenInput::ReceiptShown(envelope.clone()));
            }
            GuardianEffect::Broadcast(envelope) => {
                self.mix_envelope(&envelope);
                for peer in (0..self.plan.personas).filter(|peer| *peer != index) {
                    let from_persona = schedule::persona(index);
                    self.send_to_agent(from, peer, || GuardianInput::FromPeer {
                        from: from_persona.clone(),
                        envelope: envelope.clone(),
                    });
                }
            }
            GuardianEffect::BroadcastProof(proof) => {
                for peer in (0..self.plan.personas).filter(|peer| *peer != index) {
                    self.send_to_agent(from, peer, || GuardianInput::ProofFromPeer(proof.clone()));
                }
            }
            GuardianEffect::ProofToPeer(persona, proof) => {
                if let Some(peer) = self.index_of_persona(&persona) {
                    self.send_to_agent(from, peer, || GuardianInput::ProofFromPeer(proof.clone()));
                }
            }
            GuardianEffect::ToPeer(persona, envelope) => {
                if let Some(peer) = self.index_of_persona(&persona) {
                    let from_persona = schedule::persona(index);
                    self.send_to_agent(from, peer, || GuardianInput::FromPeer {
                        from: from_persona.clone(),
                        envelope: envelope.clone(),
                    });
                }
            }
            GuardianEffect::Fetch { from: asked, session_key, seq } => {
                let Some(asked) = self.index_of_persona(&asked) else { return };
                let to = End::Agent(asked);
                let via = Via { from, to, epoch: self.network.link(from, to).epoch };
                for at in self.network.arrivals(&mut self.rng, self.now, from, to) {
                    self.at(at, Event::Fetch { from: index, asked, via, key: session_key, seq });
                }
            }
            GuardianEffect::Observe { subject, challenge } => {
                let Some(agent) = &self.agents[index] else { return };
                let pid = agent.pid;
                if subject == schedule::k3s() {
                    self.soon(100, 5_000, Event::LookAtK3s { pid, challenge: Some(challenge) });
                }
                if let Some(wrapper) = self.wrappers.get(&subject)
                    && self.pid1.unit(&subject).breath == Breath::Well
                {
                    let (ticks, process) = (wrapper.ticks.clone(), wrapper.pid);
                    let input = GuardianInput::TicksRead { subject, pid: process, ticks, challenge: Some(challenge) };
                    self.soon(100, 5_000, guardian(pid, input));
                }
            }
            GuardianEffect::KeepReceipt(envelope) => self.receipts[index] = Some(envelope),
            GuardianEffect::Event(event) => {
                self.note(|| format!("{}: {event:?}", schedule::PERSONAS[index].0));
                if let GuardianEvent::Equivocated { persona, .. } = event {
                    self.accused(&persona);
                }
            }
        }
    }

    pub(super) fn rearm_agent(&mut self, index: usize) {
        let booted_at = self.booted_at;
        let Some(agent) = &mut self.agents[index] else { return };
        let Mind::Correct(guardian) = &agent.mind else { return };
        let due = guardian.next_deadline().map(|t| t.as_nanos() + booted_at);
        let pid = agent.pid;
        if let Some((due, seq)) = agent.timer.arm(due) {
            let late = self.rng.below(MS);
            self.at(due.max(self.now) + late, Event::AgentTimer { pid, seq });
        }
    }

    pub(super) fn agent_timer(&mut self, pid: u32, seq: u64) {
        let Some(index) = self.index_of(pid) else { return };
        if self.is_silent(index) {
            return;
        }
        let Some(agent) = &mut self.agents[index] else { return };
        if agent.timer.seq != seq {
            return;
        }
        agent.timer.due = None;
        self.step_agent(index, GuardianInput::Timer);
        let now = self.now;
        let Some(agent) = &mut self.agents[index] else { return };
        if agent.timer.is_stuck(now) {
            self.checker.broken("L2", format_args!("{}'s deadline stays in the past", schedule::PERSONAS[index].0));
        }
    }

    pub(super) fn ping(&mut self, pid: u32) {
        let Some(index) = self.index_of(pid) else { return };
        if !self.is_silent(index) {
            let wrappers: Vec<_> = (0..self.plan.personas).map(schedule::wrapper).collect();
            for subject in wrappers {
                self.step_agent(index, GuardianInput::PingSent { subject: subject.clone() });
                let unit = self.pid1.unit(&subject);
                if unit.breath != Breath::Well || unit.state.frozen {
                    continue;
                }
                if let Some(wrapper) = self.wrappers.get(&subject) {
                    let (process, ticks) = (wrapper.pid, wrapper.ticks.clone());
                    let round_trip = self.rng.between(Duration::from_micros(100), Duration::from_millis(30));
                    let answer = GuardianInput::PingAnswered { subject: subject.clone(), pid: process, round_trip };
                    self.after(round_trip, guardian(pid, answer));
                    let read = GuardianInput::TicksRead { subject, pid: process, ticks, challenge: None };
                    self.after(round_trip, guardian(pid, read));
                }
            }
        }
        let every = self.policy.timing.ping;
        let jitter = self.rng.ms(0, 10);
        self.after(every + jitter, Event::Ping { pid });
    }

    pub(super) fn liar_speaks(&mut self, pid: u32) {
        let Some(index) = self.index_of(pid) else { return };
        if !self.is_silent(index) {
            let now = self.boottime();
            let (pid1, work, ailment, wrappers) = (&self.pid1, &self.work, self.ailment, &self.wrappers);
            let truth = |subject: &SubjectName| true_fault(pid1, work, ailment, wrappers, subject);
            let Some(agent) = &mut self.agents[index] else { return };
            if let Mind::Liar(liar) = &mut agent.mind {
                let scene = Scene { now, personas: self.plan.personas, truth: &truth };
                let lies = liar.speak(&scene, &mut self.rng);
                if liar.voice.has_session() {
                    self.fates.count(liar.name(), "turns");
                }
                for lie in &lies {
                    self.mix_words(lie);
                    self.carry(index, lie);
                }
                if lies.len() > 24 {
                    // A flood pauses now and then, or nobody's tests would end.
                    return self.soon(800_000, 1_500_000, Event::LiarSpeaks { pid });
                }
            }
        }
        self.soon(200_000, 600_000, Event::LiarSpeaks { pid });
    }

    /// A correct agent's own look at k3s: its probes take a moment, and a run that changed meanwhile was not seen.
    pub(super) fn look_at_k3s(&mut self, pid: u32, challenge: Option<Nonce>) {
        let Some(index) = self.index_of(pid) else { return };
        let subject = schedule::k3s();
        if !self.is_silent(index) && self.rng.chance(97) {
            let reading = self.ailment.look(&self.pid1.unit(&subject).state);
            self.soon(500, 40_000, guardian(pid, GuardianInput::ServiceRead { subject, reading, challenge }));
        }
        if challenge.is_none() {
            self.soon(500_000, 700_000, Event::LookAtK3s { pid, challenge });
        }
    }

    /// Hands a lie to the network.
    fn carry(&mut self, index: usize, lie: &Lie) {
        let (from, me) = (End::Agent(index), schedule::persona(index));
        match lie {
            Lie::ToWarden(envelope) => {
                self.mix_envelope(envelope);
                self.send_to_warden(index, || WardenInput::Submitted(envelope.clone()));
            }
            Lie::ProofToWarden(proof) => {
                self.send_to_warden(index, || WardenInput::ProofSubmitted(proof.clone()));
            }
            Lie::ReceiptToWarden(envelope) => {
                self.send_to_warden(index, || WardenInput::ReceiptShown(envelope.clone()));
            }
            Lie::ToPeer(peer, envelope) if *peer != index => {
                self.mix_envelope(envelope);
                self.send_to_agent(from, *peer, || GuardianInput::FromPeer {
                    from: me.clone(),
                    envelope: envelope.clone(),
                });
            }
            Lie::ProofToPeer(peer, proof) if *peer != index => {
                self.send_to_agent(from, *peer, || GuardianInput::ProofFromPeer(proof.clone()));
            }
            Lie::ToPeer(..) | Lie::ProofToPeer(..) => {}
        }
    }

    /// Somebody holds a proof against a persona.
    pub(super) fn accused(&mut self, persona: &PersonaId) {
        self.checker.accused(persona);
        let index = self.index_of_persona(persona);
        if let Some(actor) = index.and_then(|index| self.actor_at(End::Agent(index))) {
            self.fates.count(actor, "proven");
        }
    }

    /// Which actor sits at an end, if one does.
    pub(super) fn actor_at(&self, end: End) -> Option<&'static str> {
        let End::Agent(index) = end else { return None };
        match &self.agents[index].as_ref()?.mind {
            Mind::Liar(liar) => Some(liar.name()),
            Mind::Correct(_) => None,
        }
    }
}
