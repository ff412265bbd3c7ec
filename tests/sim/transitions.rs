//! Every way from one state to another: those that the warden can take, all of which a full run has to see, and those that
//! it cannot, with the reason.

use std::collections::BTreeMap;
use zeta_bft::protocol::statement::StateName;
use zeta_bft::protocol::warden::WardenEvent;

/// From where, to where, and why, as the warden says it.
type Transition = (StateName, StateName, &'static str);

/// What was seen, and how often.
#[derive(Clone, Debug, Default)]
pub struct Seen {
    taken: BTreeMap<Transition, u64>,
    /// A guardian lost its vote, or got it back.
    quarantined: u64,
    readmitted: u64,
}

/// What can be taken.
pub const POSSIBLE: [(StateName, StateName); 37] = {
    use StateName::*;
    [
        (Healthy, Suspect),
        (Healthy, Operator),
        (Suspect, Healthy),
        (Suspect, Challenged),
        (Suspect, Certified),
        (Suspect, Operator),
        (Challenged, Healthy),
        (Challenged, Suspect),
        (Challenged, Certified),
        (Challenged, Operator),
        (Certified, Healthy),
        (Certified, Suspect),
        (Certified, AwaitingApproval),
        (Certified, Acting),
        (Certified, Settling),
        (Certified, Held),
        (Certified, Operator),
        (AwaitingApproval, Healthy),
        (AwaitingApproval, Suspect),
        (AwaitingApproval, Operator),
        (Acting, Healthy),
        (Acting, Suspect),
        (Acting, Settling),
        (Settling, Healthy),
        (Settling, Suspect),
        (Settling, Unconfirmed),
        (Settling, Held),
        (Settling, Operator),
        (Unconfirmed, Healthy),
        (Unconfirmed, Suspect),
        (Unconfirmed, Held),
        (Unconfirmed, Operator),
        (Reconciling, Healthy),
        (Reconciling, Suspect),
        (Reconciling, Settling),
        (Held, Healthy),
        (Operator, Healthy),
    ]
};

/// Why the warden never goes from one state to another; `None` where it does.
pub fn why_never(from: StateName, to: StateName) -> Option<&'static str> {
    use StateName::*;
    if POSSIBLE.contains(&(from, to)) {
        return None;
    }
    Some(match (from, to) {
        (from, to) if from == to => "no transition",
        (Frozen, _) | (_, Frozen) => "frozen is laid over a state when it is shown; the state itself stays",
        (_, Reconciling) => "only a warden that starts finds an INTENT without an end",
        (_, Challenged) => "a challenge needs a quorum of votes, which are counted in Suspect alone",
        (_, Certified) => "a certificate needs a quorum of votes, counted in Suspect or after a challenge",
        (_, AwaitingApproval) => "only what is certified asks for approval",
        (_, Acting) => "nothing but a certified fault is acted on (rule S1)",
        (_, Unconfirmed) => "only a repair that is being judged can stay unconfirmed",
        (Acting | Reconciling, _) => "what was begun ends by its own rules: judged, begun again, or dropped by a hold",
        (Healthy | Suspect | Challenged | AwaitingApproval, Settling) => "what was not acted on is not judged",
        (Settling | Unconfirmed, _) => {
            "a judgement ends with a verdict, the next rung, the operator, or the ladder's end"
        }
        (_, Held) => "ladder and budget end only what is certified, or was acted on",
        (Held | Operator, _) => "what is left alone begins from Healthy, with a new round",
        _ => "unlisted",
    })
}

impl Seen {
    /// The warden tells of a step.
    pub fn event(&mut self, event: &WardenEvent) {
        if let WardenEvent::StateChanged { from, to, reason, .. } = event {
            *self.taken.entry((*from, *to, reason)).or_default() += 1;
        }
    }

    pub fn quarantined(&mut self) {
        self.quarantined += 1;
    }

    pub fn readmitted(&mut self) {
        self.readmitted += 1;
    }

    pub fn add(&mut self, other: &Self) {
        for (transition, count) in &other.taken {
            *self.taken.entry(*transition).or_default() += count;
        }
        self.quarantined += other.quarantined;
        self.readmitted += other.readmitted;
    }

    fn count(&self, from: StateName, to: StateName) -> u64 {
        self.taken.iter().filter(|((a, b, _), _)| (*a, *b) == (from, to)).map(|(_, count)| count).sum()
    }

    /// Transitions that nobody took, though they are possible.
    pub fn missing(&self) -> Vec<String> {
        let states = POSSIBLE.iter().filter(|(from, to)| self.count(*from, *to) == 0);
        let mut missing: Vec<_> = states.map(|(from, to)| format!("{from} -> {to}")).collect();
        let guardians = [("active -> quarantined", self.quarantined), ("quarantined -> active", self.readmitted)];
        missing.extend(guardians.iter().filter(|(_, count)| *count == 0).map(|(name, _)| (*name).to_owned()));
        missing
    }

    /// Transitions that were taken, and that the list calls impossible.
    pub fn unlisted(&self) -> Vec<String> {
        let unlisted = self.taken.keys().filter_map(|(from, to, reason)| {
            why_never(*from, *to).map(|why| format!("{from} -> {to} ({reason}), of which is said: {why}"))
        });
        unlisted.collect()
    }

    /// All of them, a line each.
    pub fn table(&self) -> String {
        let mut lines = Vec::new();
        for (from, to) in POSSIBLE {
            let reasons: Vec<_> = self
                .taken
                .iter()
                .filter(|((a, b, _), _)| (*a, *b) == (from, to))
                .map(|((.., reason), count)| format!("{reason} {count}"))
                .collect();
            let (count, reasons) = (self.count(from, to), reasons.join(", "));
            lines.push(format!("{:>18} -> {:<18} {count:>9}  {reasons}", from.as_str(), to.as_str()));
        }
        lines.push(format!("guardian: active -> quarantined {}, back {}", self.quarantined, self.readmitted));
        let (all, missing) = (POSSIBLE.len() + 2, self.missing().len());
        lines.push(format!("transitions reached: {} of {all}", all - missing));
        lines.join("\n")
    }

    /// Those that cannot be taken, a line for each reason.
    pub fn never() -> String {
        let mut by_reason: BTreeMap<&str, Vec<String>> = BTreeMap::new();
        for from in StateName::ALL {
            for to in StateName::ALL.iter().filter(|to| *to != from) {
                if let Some(why) = why_never(*from, *to) {
                    by_reason.entry(why).or_default().push(format!("{from} -> {to}"));
                }
            }
        }
        let lines = by_reason.into_iter().map(|(why, list)| format!("never, for {why}: {}", list.join(", ")));
        lines.collect::<Vec<_>>().join("\n")
    }
}

#[test]
fn every_transition_is_possible_or_has_a_reason_why_it_is_not() {
    for from in StateName::ALL {
        for to in StateName::ALL {
            assert_ne!(why_never(*from, *to), Some("unlisted"), "{from} -> {to}");
        }
    }
}
