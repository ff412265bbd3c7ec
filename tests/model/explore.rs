//! The model as the checker sees it: which moves there are, what must always hold, and what must sometimes be reached.

use crate::books::RULES;
use crate::moves::{Binding, Deed, Lie, Move, Order, Vigour};
use crate::node::Node;
use crate::scope::{Left, Scope};
use stateright::{Checker, HasDiscoveries, Model, Path, Property};
use std::sync::Arc;

/// One scope, explored.
pub struct Exploration(pub Arc<Scope>);

macro_rules! always {
    ($($rule:literal),+) => {
        [$(Property::<Exploration>::always($rule, |_, node: &Node| {
            node.books.violation.as_ref().is_none_or(|(broken, _)| *broken != $rule)
        })),+]
    };
}

macro_rules! sometimes {
    ($($fact:literal),+ $(,)?) => {
        [$(Property::<Exploration>::sometimes($fact, |_, node: &Node| node.facts.contains($fact))),+]
    };
}

/// Facts that a scope may ask for, as the machines themselves name them: states, reasons, pages, refusals.
fn paths() -> Vec<Property<Exploration>> {
    sometimes![
        "suspect",
        "challenged",
        "certified",
        "awaiting_approval",
        "acting",
        "settling",
        "unconfirmed",
        "reconciling",
        "held",
        "operator",
        "act",
        "outcome ok",
        "outcome failed",
        "outcome inferred",
        "outcome abandoned",
        "outcome unconfirmed",
        "recovered",
        "not_helped",
        "crashed_while_settling",
        "challenge_answered",
        "not_observed_again",
        "votes_gone",
        "new_incarnation",
        "waited_too_long",
        "approval_expired",
        "approved",
        "hold",
        "budget",
        "ladder_spent",
        "page ladder_spent",
        "page budget_spent",
        "page mutual_accusation",
        "page mass_accusation",
        "abort other_incarnation",
        "abort hold",
        "abort too_late",
        "abort state_changed",
        "refused untouched",
        "quarantined",
        "readmitted",
        "page journal",
        "WITHDRAW",
        "frozen",
        "rejected stale",
        "rejected replay",
        "rejected own_vendor",
        "rejected not_fresh",
        "rejected unsupported",
        "rejected other_round",
        "rejected other_rung",
        "rejected other_incarnation",
        "rejected other_set_epoch",
        "rejected wrong_author",
        "rejected quarantined",
    ]
    .into()
}

impl Model for Exploration {
    type State = Node;
    type Action = Move;

    fn init_states(&self) -> Vec<Node> {
        let scope = &self.0;
        let rest = Node::at_rest(scope);
        assert_eq!(rest.books.violation, None, "{}: at rest", scope.name);
        let began = scope.starts.iter().map(|moves| {
            let mut node = rest.clone();
            node.left = Left::PLENTY;
            let mut node = node.script(scope, moves);
            (node.left, node.made) = (scope.left, 0);
            node.seal();
            node
        });
        let from_rest = scope.from_rest.then(|| rest.clone());
        from_rest.into_iter().chain(began).collect()
    }

    fn actions(&self, node: &Node, moves: &mut Vec<Move>) {
        let scope = &self.0;
        if node.books.violation.is_some() || node.made >= scope.moves {
            return;
        }
        let left = &node.left;
        for subject in scope.subjects() {
            if left.harms > 0 {
                let suffers = scope.classes.iter().filter(|class| node.may_suffer(scope, subject, **class));
                moves.extend(suffers.map(|class| Move::Harm(subject.clone(), *class)));
            }
            if left.mends > 0 {
                let unit = &node.units[subject];
                if unit.state.is_running() && (unit.silent || unit.broken) {
                    moves.push(Move::Mend(subject.clone()));
                }
                if unit.silent || unit.broken || !unit.state.is_running() {
                    moves.push(Move::Rerun(subject.clone(), Vigour::Well));
                    moves.push(Move::Rerun(subject.clone(), Vigour::SameFault));
                }
            }
            if node.units[subject].warden_stale {
                moves.push(Move::WardenSees(subject.clone()));
            }
            for guard in node.guards.values().filter(|guard| guard.stale.contains(subject)) {
                moves.push(Move::GuardSees(guard.persona.clone(), subject.clone()));
            }
            if node.rereads.iter().any(|(_, of)| of == subject) {
                moves.push(Move::Reread(subject.clone()));
            }
            if let Some(errand) = node.errands.iter().find(|errand| errand.subject == *subject) {
                moves.push(Move::Act(subject.clone(), Deed::Untouched));
                if errand.run == node.units[subject].state.incarnation {
                    let deeds = [Deed::Done, Deed::InVain, Deed::Unanswered];
                    moves.extend(deeds.map(|deed| Move::Act(subject.clone(), deed)));
                }
            }
        }
        for guard in node.guards.values() {
            if !guard.inbox.is_empty() {
                moves.push(Move::GuardHears(guard.persona.clone()));
            }
            if !guard.connected {
                moves.push(Move::Connect(guard.persona.clone()));
            }
        }
        moves.extend(node.looks.iter().map(|(who, of, _)| Move::GuardLooks(who.clone(), of.clone())));
        moves.extend((0..node.flight.len()).map(Move::Deliver));
        if left.replays > 0 {
            moves.extend((0..node.seen.len()).map(Move::Replay));
        }
        if left.lies > 0 {
            self.lies(moves);
        }
        if !node.disk.loose.is_empty() {
            moves.push(Move::Sync);
        }
        if node.challenge.is_some() {
            moves.push(Move::Answer);
        }
        if left.orders > 0 {
            for subject in scope.subjects() {
                let orders = [Order::Hold, Order::Release, Order::Approve, Order::Stop];
                moves.extend(orders.map(|order| Move::Order(order(subject.clone()))));
            }
            moves.extend(scope.liars.iter().map(|liar| Move::Order(Order::Readmit(liar.clone()))));
        }
        if left.crashes > 0 {
            moves.extend((0..=node.disk.loose.len()).map(Move::WardenDies));
            if node.disk.loose.is_empty() && node.guards.values().any(|guard| guard.receipt.is_some()) {
                moves.push(Move::RollBack);
            }
            let honest = node.guards.values().filter(|guard| guard.is_honest());
            moves.extend(honest.map(|guard| Move::GuardDies(guard.persona.clone())));
        }
        if left.ticks > 0 {
            moves.push(Move::Tick);
        }
        if left.calms > 0 {
            moves.push(Move::Calm);
        }
    }

    fn next_state(&self, node: &Node, step: Move) -> Option<Node> {
        node.play(&self.0, &step)
    }

    fn properties(&self) -> Vec<Property<Self>> {
        let rules = always!["S1", "S2", "S3", "S4", "S5", "S6", "S7", "S8", "S9", "S10"];
        let asked = |path: &Property<Self>| self.0.reaches.contains(&path.name);
        rules.into_iter().chain(paths().into_iter().filter(asked)).collect()
    }
}

impl Exploration {
    fn lies(&self, moves: &mut Vec<Move>) {
        let scope = &self.0;
        for liar in &scope.liars {
            moves.push(Move::Lie(liar.clone(), Lie::Deny));
            for (subject, class) in scope.subjects().flat_map(|s| scope.classes.iter().map(move |class| (s, *class))) {
                let subject = || subject.clone();
                let lies = [
                    Lie::Approve(subject(), class),
                    Lie::Withdraw(subject(), class),
                    Lie::Accuse(subject(), class),
                    Lie::Twice(subject(), class),
                ];
                moves.extend(lies.map(|lie| Move::Lie(liar.clone(), lie)));
                if scope.forges {
                    let forged = Binding::ALL.map(|binding| Lie::Forge(subject(), class, binding));
                    moves.extend(forged.map(|lie| Move::Lie(liar.clone(), lie)));
                }
            }
        }
    }
}

/// What an exploration found.
pub struct Found {
    /// Rules with a counterexample: the moves to it, and what was wrong.
    pub broken: Vec<(&'static str, Vec<Move>, String)>,
    /// Paths that were asked for and never reached.
    pub missed: Vec<&'static str>,
}

/// Explores a scope to its depth, or, of a broken one, to the first rule that breaks; prints what was seen.
pub fn explore(scope: &Arc<Scope>) -> Found {
    let began = zeta_bft::clock::now();
    // Of a broken one the shortest way is wanted: that is what a single thread finds.
    let is_sound = scope.broken.is_none() && !scope.is_misled;
    let until = if is_sound { HasDiscoveries::AllFailures } else { HasDiscoveries::AnyFailures };
    let threads = if is_sound { threads() } else { 1 };
    let builder = Exploration(scope.clone()).checker().threads(threads).finish_when(until);
    let checker = builder.spawn_bfs().join();
    let discoveries = checker.discoveries();
    let took = zeta_bft::clock::now().saturating_since(began);
    println!(
        "{}: {} states, {} of them different, {} moves deep, in {took:.1?}",
        scope.name,
        checker.state_count(),
        checker.unique_state_count(),
        checker.max_depth().saturating_sub(1)
    );
    let told = |path: &Path<Node, Move>| {
        path.last_state().books.violation.as_ref().map(|(_, what)| what.clone()).unwrap_or_default()
    };
    let broken: Vec<_> = RULES
        .iter()
        .filter_map(|rule| Some((*rule, discoveries.get(rule)?)))
        .map(|(rule, path)| (rule, path.clone().into_actions(), told(path)))
        .collect();
    for (rule, moves, what) in &broken {
        println!("  {rule} is broken: {what}. After {:?}, by:", scope.starts);
        moves.iter().for_each(|step| println!("    {step:?}"));
    }
    let missed: Vec<_> = scope.reaches.iter().copied().filter(|path| !discoveries.contains_key(path)).collect();
    Found { broken, missed }
}

fn threads() -> usize {
    std::thread::available_parallelism().map_or(2, usize::from).min(2)
}
