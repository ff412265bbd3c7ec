//! What is done to whom, and what was noted of it.

use super::node::{Node, PERSONAS, comes_true, kill};
use super::pressure::Pressure;
use super::record::{Fault, Record, Sample, Suspicion, Who};
use super::rng::Rng;
use super::serf::{MEMBERS, Ring, What};
use rustix::process::{Pid, Signal, setpriority_process};
use std::collections::BTreeSet;
use std::time::Duration;
use zeta_bft::clock;
use zeta_bft::protocol::types::Incarnation;

/// For how long a detection is awaited.
const LIMIT: Duration = Duration::from_secs(60);
/// For how long everything may take to be well again.
const RECOVERY: Duration = Duration::from_secs(240);
/// What was harmed may be suspected so long after it is well: words travel.
const GRACE: Duration = Duration::from_secs(1);
/// serf's members hold one for dead, or alive, for a while longer.
const RING_GRACE: Duration = Duration::from_secs(5);

#[derive(Clone, Copy, Debug)]
enum Deed {
    KillWrapper,
    StopWrapper,
    KillAgent,
    FreezeAgent(Duration),
    PauseWrapper(Duration),
    PauseAgent(Duration),
    StarveAgent(Duration),
    Nothing(Duration),
}

impl Deed {
    fn draw(rng: &mut Rng) -> Self {
        match rng.below(100) {
            0..24 => Self::KillWrapper,
            24..44 => Self::StopWrapper,
            44..50 => Self::KillAgent,
            50..56 => Self::FreezeAgent(rng.ms(2000, 8000)),
            56..70 => Self::PauseWrapper(rng.ms(20, 300)),
            70..84 => Self::PauseAgent(rng.ms(20, 300)),
            84..92 => Self::StarveAgent(rng.ms(3000, 8000)),
            _ => Self::Nothing(rng.ms(2000, 5000)),
        }
    }
}

/// From when until when something was harmed, in Unix time.
#[derive(Clone, Debug)]
struct Harm {
    subject: String,
    from: Duration,
    until: Duration,
}

/// The committee, the ring, and what happened.
pub struct Stage {
    node: Node,
    ring: Ring,
    record: Record,
    /// The runs that were harmed.
    harmed: BTreeSet<(String, Incarnation)>,
    ours: Vec<Harm>,
    serfs: Vec<Harm>,
    pressure: Pressure,
    /// Which want began when, in Unix time.
    turns: Vec<(Duration, Pressure)>,
}

impl Stage {
    pub fn new(node: Node, ring: Ring, seed: u64) -> Self {
        node.wait_healthy();
        Self {
            node,
            ring,
            record: Record::new(seed),
            harmed: BTreeSet::new(),
            ours: Vec::new(),
            serfs: Vec::new(),
            pressure: Pressure::Quiet,
            turns: Vec::new(),
        }
    }

    pub fn under(&mut self, pressure: Pressure) {
        self.pressure = pressure;
        self.turns.push((clock::unix(), pressure));
    }

    /// One deed, to its end: everything is well after it.
    pub fn step(&mut self, rng: &mut Rng) {
        let (deed, index) = (Deed::draw(rng), rng.index(PERSONAS.len()));
        self.record.deeds += 1;
        let wrapper = PERSONAS[index].0.to_owned();
        let agent = format!("{wrapper}/agent");
        match deed {
            Deed::KillWrapper => self.harm(index, &wrapper, Signal::KILL, Fault::Kill),
            Deed::StopWrapper => self.harm(index, &wrapper, Signal::STOP, Fault::Stop),
            Deed::KillAgent => {
                let old = self.node.unit(&agent);
                self.harm_ours(&agent, |pid| kill(pid, Signal::KILL));
                let node = &self.node;
                let anew = comes_true(RECOVERY, &mut || {
                    let unit = node.unit(&agent);
                    unit.is_running() && unit.incarnation != old.incarnation && node.quorum().code == 0
                });
                assert!(anew, "{agent} was killed and does not run again: {}", node.quorum());
            }
            Deed::FreezeAgent(time) => {
                let member = self.ring.pid(index);
                let from = clock::unix();
                kill(member, Signal::STOP);
                self.harm_ours(&agent, |pid| {
                    kill(pid, Signal::STOP);
                    std::thread::sleep(time);
                    kill(pid, Signal::CONT);
                });
                kill(member, Signal::CONT);
                self.member_is_well(index, from);
            }
            Deed::PauseWrapper(time) => self.pause(index, &wrapper, time),
            Deed::PauseAgent(time) => self.pause(index, &agent, time),
            Deed::StarveAgent(time) => {
                let pids = self.both(index, &agent);
                pids.iter().for_each(|pid| set_priority(*pid, 19));
                std::thread::sleep(time);
                pids.iter().for_each(|pid| set_priority(*pid, 0));
            }
            Deed::Nothing(time) => std::thread::sleep(time),
        }
    }

    /// Harms one of ours and a member alike, and measures how long either takes.
    fn harm(&mut self, index: usize, subject: &str, signal: Signal, fault: Fault) {
        let old = self.node.unit(subject);
        let Some(pid) = old.main_pid.filter(|_| old.is_running()) else { return };
        self.harmed.insert((subject.to_owned(), old.incarnation));
        let from = clock::unix();
        kill(pid, signal);
        self.ring.signal(index, signal);
        let (mut ours, mut theirs) = (None, None);
        comes_true(LIMIT, &mut || {
            ours = ours.or_else(|| {
                let unit = self.node.unit(subject);
                (unit.is_running() && unit.incarnation != old.incarnation).then(|| clock::unix().saturating_sub(from))
            });
            theirs = theirs.or_else(|| Some(self.ring.failed(index, from)?.saturating_sub(from)));
            ours.is_some() && theirs.is_some()
        });
        for (who, took) in [(Who::ZetaBft, ours), (Who::Serf, theirs)] {
            self.record.samples.push(Sample { who, fault, pressure: self.pressure, took });
        }
        self.all_well(subject, from);
        match fault {
            Fault::Kill => self.ring.revive(index),
            Fault::Stop => self.ring.signal(index, Signal::CONT),
        }
        self.member_is_well(index, from);
    }

    fn harm_ours(&mut self, subject: &str, deed: impl FnOnce(u32)) {
        let unit = self.node.unit(subject);
        let Some(pid) = unit.main_pid.filter(|_| unit.is_running()) else { return };
        self.harmed.insert((subject.to_owned(), unit.incarnation));
        let from = clock::unix();
        deed(pid);
        self.all_well(subject, from);
    }

    fn all_well(&mut self, subject: &str, from: Duration) {
        let node = &self.node;
        let well = comes_true(RECOVERY, &mut || node.quorum().code == 0);
        assert!(well, "{subject} was harmed and not all is well again after {RECOVERY:?}: {}", node.quorum());
        self.ours.push(Harm { subject: subject.to_owned(), from, until: clock::unix() + GRACE });
    }

    /// Waits until the others know it, whether they ever took it for dead or not.
    fn member_is_well(&mut self, index: usize, from: Duration) {
        let ring = &self.ring;
        let failed = ring.said().iter().any(|said| said.of == index && said.what == What::Failed && said.at >= from);
        if failed {
            let known = comes_true(LIMIT, &mut || ring.joined(index, from).is_some());
            assert!(known, "serf's {} is not known again", MEMBERS[index]);
        }
        self.serfs.push(Harm { subject: MEMBERS[index].to_owned(), from, until: clock::unix() + RING_GRACE });
    }

    /// One of ours, if it runs, and a member.
    fn both(&self, index: usize, subject: &str) -> Vec<u32> {
        self.node.unit(subject).main_pid.into_iter().chain([self.ring.pid(index)]).collect()
    }

    /// So short that nobody may be called silent.
    fn pause(&mut self, index: usize, subject: &str, time: Duration) {
        let pids = self.both(index, subject);
        pids.iter().for_each(|pid| kill(*pid, Signal::STOP));
        std::thread::sleep(time);
        pids.iter().for_each(|pid| kill(*pid, Signal::CONT));
    }

    /// How it stands, for whoever watches.
    pub fn line(&self) -> String {
        format!(
            "{:10} {} deeds, {} measured, {} runs harmed, {} repairs, {} wrong",
            self.pressure.name(),
            self.record.deeds,
            self.record.samples.len() / 2,
            self.harmed.len(),
            self.node.receipts().iter().filter(|receipt| receipt.outcome.is_some()).count(),
            self.wrong().len()
        )
    }

    /// Every INTENT against a run that was not harmed.
    fn wrong(&self) -> Vec<String> {
        let receipts = self.node.receipts();
        let unharmed = receipts.iter().filter(|receipt| {
            receipt.kind == zeta_bft::protocol::statement::ReceiptKind::Intent
                && !self.harmed.contains(&(receipt.subject.to_string(), receipt.before))
        });
        unharmed
            .map(|receipt| format!("{} {} {} {}", receipt.subject, receipt.class, receipt.before, receipt.seq))
            .collect()
    }

    /// The last word, and what the committee said. It must be well, and its receipts in order.
    pub fn end(mut self) -> (Record, String) {
        self.node.wait_healthy();
        self.node.verify();
        self.node.nobody_is_accused();
        self.record.wrong = self.wrong();
        self.record.repairs = self.node.receipts().iter().filter(|receipt| receipt.outcome.is_some()).count();
        let end = clock::unix();
        let ends = self.turns.iter().skip(1).map(|(from, _)| *from).chain([end]);
        for ((from, pressure), until) in self.turns.iter().zip(ends) {
            *self.record.lasted.entry(*pressure).or_default() += until.saturating_sub(*from);
        }
        let log = self.node.log();
        let ours = log.lines().filter_map(down).filter(|(at, subject)| is_false(&self.ours, *at, subject));
        let ours: Vec<(Duration, String)> = ours.collect();
        let of_serf = |what| {
            let said = self.ring.said().into_iter().filter(|said| said.by != said.of);
            let said = said.filter(|said| said.what == what && is_false(&self.serfs, said.at, MEMBERS[said.of]));
            said.map(|said| (said.at, MEMBERS[said.of].to_owned())).collect::<Vec<_>>()
        };
        self.record.dead_by_mistake = of_serf(What::Failed).len();
        for (who, suspicions) in [(Who::ZetaBft, ours), (Who::Serf, of_serf(What::Suspect))] {
            for (at, of) in suspicions {
                let turn = self.turns.iter().rev().find(|(from, _)| *from <= at);
                let Some((_, pressure)) = turn else { continue };
                self.record.suspicions.push(Suspicion { who, of, under: *pressure });
            }
        }
        (self.record, log)
    }
}

fn is_false(harms: &[Harm], at: Duration, subject: &str) -> bool {
    !harms.iter().any(|harm| harm.subject == subject && (harm.from..=harm.until).contains(&at))
}

/// When an agent first found a subject DOWN, and which. What calls for no repair is no suspicion.
fn down(line: &str) -> Option<(Duration, String)> {
    let (time, rest) = line.split_once(' ')?;
    let (subject, why) = rest.split_once("verdict changed subject=")?.1.split_once(" verdict=DOWN")?;
    let at: jiff::Timestamp = time.parse().ok()?;
    (!why.contains("ENVIRONMENT")).then_some((at.as_duration().try_into().ok()?, subject.to_owned()))
}

/// Of every thread of a process; one that is gone does not matter.
fn set_priority(pid: u32, priority: i32) {
    let Ok(tasks) = std::fs::read_dir(format!("/proc/{pid}/task")) else { return };
    let ids = tasks.filter_map(|task| task.ok()?.file_name().to_str()?.parse().ok());
    for id in ids.filter_map(Pid::from_raw) {
        let _ = setpriority_process(Some(id), priority);
    }
}
