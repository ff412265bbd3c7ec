//! Connections: what is sent over them, what arrives, how they break and how they are made anew.

use super::World;
use super::events::{Event, guardian};
use crate::agents::Via;
use crate::network::End;
use crate::schedule;
use zeta_bft::protocol::guardian::GuardianInput;
use zeta_bft::protocol::warden::WardenInput;

impl World {
    /// An input from the agent's own side, at once but for a moment.
    pub(super) fn tell(&mut self, index: usize, input: GuardianInput) {
        if let Some(agent) = &self.agents[index] {
            let pid = agent.pid;
            self.soon(10, 2_000, guardian(pid, input));
        }
    }

    pub(super) fn send_to_agent(&mut self, from: End, index: usize, input: impl Fn() -> GuardianInput) {
        let to = End::Agent(index);
        let Some(pid) = self.agents[index].as_ref().map(|agent| agent.pid) else { return };
        let via = Via { from, to, epoch: self.network.link(from, to).epoch };
        for at in self.network.arrivals(&mut self.rng, self.now, from, to) {
            self.at(at, Event::Guardian { pid, via: Some(via), input: Box::new(input()) });
        }
    }

    pub(super) fn send_to_warden(&mut self, index: usize, input: impl Fn() -> WardenInput) {
        let Some(run) = self.warden.as_ref().map(|warden| warden.run) else { return };
        let (from, to) = (End::Agent(index), End::Warden);
        let via = Via { from, to, epoch: self.network.link(from, to).epoch };
        for at in self.network.arrivals(&mut self.rng, self.now, from, to) {
            self.at(at, Event::Warden { run, via: Some(via), input: Box::new(input()) });
        }
    }

    pub(super) fn arrives(&self, via: Option<Via>) -> bool {
        via.is_none_or(|via| {
            let link = self.network.link(via.from, via.to);
            link.up && link.epoch == via.epoch && !self.network.is_cut(via.from, via.to)
        })
    }

    pub(super) fn dial_warden(&mut self, pid: u32) {
        let Some(index) = self.index_of(pid) else { return };
        self.soon(250_000, 700_000, Event::DialWarden { pid });
        let (mine, silent) = (End::Agent(index), self.is_silent(index));
        let Some(run) = self.warden.as_ref().map(|w| w.run) else { return };
        if silent || self.network.is_cut(mine, End::Warden) {
            return;
        }
        let has_session = self.agents[index].as_ref().is_some_and(|agent| agent.has_session);
        let up = self.network.link(mine, End::Warden).up;
        if up && has_session {
            return;
        }
        if up {
            // No answer: the connection is given up and made anew.
            self.network.disconnect(mine, End::Warden);
            self.step_agent(index, GuardianInput::WardenLost);
        }
        self.soon(50, 2_000, Event::AskNonce { run, pid });
    }

    pub(super) fn dial_peer(&mut self, pid: u32, peer: usize) {
        let Some(index) = self.index_of(pid) else { return };
        let (mine, theirs) = (End::Agent(index), End::Agent(peer));
        if self.network.link(mine, theirs).up {
            return;
        }
        if self.agents[peer].is_none() || self.is_silent(index) || self.network.is_cut(mine, theirs) {
            return self.soon(100_000, 400_000, Event::DialPeer { pid, peer });
        }
        self.network.connect(mine, theirs);
        self.tell(index, GuardianInput::PeerConnected(schedule::persona(peer)));
        self.tell(peer, GuardianInput::PeerConnected(schedule::persona(index)));
    }

    pub(super) fn redial(&mut self, from: usize, peer: usize) {
        if let Some(agent) = &self.agents[from] {
            let pid = agent.pid;
            self.soon(20_000, 300_000, Event::DialPeer { pid, peer });
        }
    }

    pub(super) fn break_link(&mut self, a: End, b: End) {
        if !self.network.link(a, b).up {
            return;
        }
        self.network.disconnect(a, b);
        for (one, other) in [(a, b), (b, a)] {
            match (one, other) {
                (End::Agent(index), End::Agent(peer)) => {
                    self.tell(index, GuardianInput::PeerLost(schedule::persona(peer)));
                    self.redial(index, peer);
                }
                (End::Agent(index), End::Warden) => {
                    if let Some(agent) = &mut self.agents[index] {
                        agent.has_session = false;
                    }
                    self.tell(index, GuardianInput::WardenLost);
                }
                (End::Warden, _) => {}
            }
        }
    }
}
