//! The virtual network: connections that can delay, lose, double and reorder what they carry, and partitions.
//!
//! A connection is what production has, a stream; its `epoch` rises when it is made anew, and what was under way on the
//! old one is gone. On a calm network it keeps its order and loses nothing.

use crate::rng::Rng;
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

/// One end of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum End {
    Agent(usize),
    Warden,
}

/// How badly messages fare, in percent.
#[derive(Clone, Copy, Debug, Default)]
pub struct Weather {
    pub loss: u64,
    pub double: u64,
    pub reorder: u64,
    /// Longest delay.
    pub delay: Duration,
}

/// A connection.
#[derive(Clone, Copy, Debug, Default)]
pub struct Link {
    pub epoch: u32,
    pub up: bool,
}

/// All connections.
pub struct Network {
    pub weather: Weather,
    links: BTreeMap<(End, End), Link>,
    cut: BTreeSet<(End, End)>,
    /// When the last message of a direction arrives: what comes after it is not faster, unless reordered.
    last: BTreeMap<(End, End), u64>,
}

fn pair(a: End, b: End) -> (End, End) {
    if a < b { (a, b) } else { (b, a) }
}

impl Network {
    pub fn new() -> Self {
        Self { weather: Weather::default(), links: BTreeMap::new(), cut: BTreeSet::new(), last: BTreeMap::new() }
    }

    pub fn link(&self, a: End, b: End) -> Link {
        self.links.get(&pair(a, b)).copied().unwrap_or_default()
    }

    /// Makes the connection anew.
    pub fn connect(&mut self, a: End, b: End) -> u32 {
        let link = self.links.entry(pair(a, b)).or_default();
        link.epoch += 1;
        link.up = true;
        link.epoch
    }

    pub fn disconnect(&mut self, a: End, b: End) {
        let link = self.links.entry(pair(a, b)).or_default();
        link.epoch += 1;
        link.up = false;
    }

    pub fn is_cut(&self, a: End, b: End) -> bool {
        self.cut.contains(&pair(a, b))
    }

    pub fn cut(&mut self, a: End, b: End) {
        self.cut.insert(pair(a, b));
    }

    pub fn mend(&mut self, a: End, b: End) {
        self.cut.remove(&pair(a, b));
    }

    pub fn mend_all(&mut self) {
        self.cut.clear();
    }

    /// When copies of a message sent at `now` arrive, in nanoseconds; none when it is lost.
    pub fn arrivals(&mut self, rng: &mut Rng, now: u64, from: End, to: End) -> Vec<u64> {
        if !self.link(from, to).up || self.is_cut(from, to) || rng.chance(self.weather.loss) {
            return Vec::new();
        }
        let copies = if rng.chance(self.weather.double) { 2 } else { 1 };
        (0..copies)
            .map(|_| {
                let most = self.weather.delay.max(Duration::from_micros(400));
                let delay = rng.between(Duration::from_micros(30), most);
                let at = now + u64::try_from(delay.as_nanos()).unwrap_or(u64::MAX);
                let last = self.last.entry((from, to)).or_default();
                if rng.chance(self.weather.reorder) {
                    return at;
                }
                *last = at.max(*last + 1);
                *last
            })
            .collect()
    }
}
