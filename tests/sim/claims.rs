//! Claims about single schedules, on the same node: how soon a repair comes, and what a liar, a whole committee of liars or
//! a damaged journal can bring about.

use crate::actors::{self, Guise};
use crate::campaign::lived;
use crate::k3s::Ailment;
use crate::pid1::{Breath, Fate};
use crate::schedule::{Fault, LIAR, Liars, Meddling, Plan, foreign, k3s, persona};
use crate::world::World;
use std::time::Duration;
use zeta_bft::protocol::statement::StateName;
use zeta_bft::protocol::types::SubjectName;

const S: Duration = Duration::from_secs(1);
const MS: Duration = Duration::from_millis(1);

/// A node on which all is well and everybody has been heard.
fn at_rest(seed: u64, plan: Plan) -> World {
    let mut world = World::new(seed, plan);
    world.run_for(6 * S);
    assert_eq!(world.checker.violation, None, "seed {seed}");
    world
}

/// Time until nothing is wrong with a subject any more.
fn time_to_repair(world: &mut World, subject: &SubjectName, within: Duration) -> Duration {
    let mut waited = Duration::ZERO;
    while world.fault_of(subject).is_some() {
        assert!(waited < within, "{subject} is not repaired after {within:?}: {:?}", world.unfinished());
        world.run_for(5 * MS);
        waited += 5 * MS;
        assert_eq!(world.checker.violation, None);
    }
    waited
}

fn kill(world: &mut World, subject: &SubjectName) {
    world.fault(Fault::Crash { subject: subject.clone(), fate: Fate::Well });
}

#[test]
fn a_crash_is_repaired_within_two_message_delays() {
    for seed in 0..5 {
        let mut world = at_rest(seed, Plan::calm(3));
        for subject in [SubjectName::wrapper(&persona(0)), foreign()] {
            kill(&mut world, &subject);
            let took = time_to_repair(&mut world, &subject, S);
            // News from PID 1, votes, INTENT, the last look, and the start of the process itself: each a few milliseconds.
            assert!(took <= 100 * MS, "seed {seed}: {subject} took {took:?}");
            world.run_for(4 * S);
        }
    }
}

#[test]
fn a_silent_process_is_replaced_within_patience_and_challenge() {
    for seed in 0..5 {
        let mut world = at_rest(seed, Plan::calm(3));
        for subject in [SubjectName::wrapper(&persona(2)), SubjectName::agent(&persona(0))] {
            world.fault(Fault::Silence { subject: subject.clone(), wake_after: None });
            let took = time_to_repair(&mut world, &subject, 6 * S);
            assert!(took <= 3 * S, "seed {seed}: {subject} took {took:?}");
            world.run_for(4 * S);
        }
    }
}

/// Seeds that once broke a rule, and what was mended.
const ONCE_BROKEN: &[u64] = &[
    // A guardian took the older of two sessions that answered its two requests, and was never heard again.
    63_635,
    // The last answer of a process that had been killed was taken for a stranger's on the new one's socket, for ever.
    76_166,
    // No rule of the machines: the checker had not seen the vote of a correct guardian that a liar brought before the warden.
    152_594,
    // A liar that answers no peer, two silent wrappers and a broken k3s were most of the node for ever, and nothing soft was done.
    132_614,
];

#[test]
fn seeds_that_once_broke_a_rule_break_none() {
    for &seed in ONCE_BROKEN {
        let run = lived(seed, World::new(seed, Plan::hostile(seed)));
        assert_eq!(run.violation, None, "seed {seed}");
    }
}

/// As the kernel tells it: a wait for a CPU grows no number before it is over.
#[test]
fn who_waits_for_a_cpu_or_the_disk_through_its_whole_challenge_is_left_alone() {
    for (seed, breath) in (0..6).flat_map(|seed| [(seed, Breath::Starved), (seed, Breath::Blocked)]) {
        for subject in [SubjectName::wrapper(&persona(0)), SubjectName::agent(&persona(1))] {
            let mut world = at_rest(seed, Plan::calm(3));
            let acts = world.checker.acts;
            world.fault(Fault::Starve { subject: subject.clone(), breath, wake_after: 5 * S });
            world.run_for(10 * S);
            assert_eq!(world.checker.violation, None, "seed {seed}: {subject} {breath:?}");
            assert_eq!(world.checker.acts, acts, "seed {seed}: {subject} {breath:?}");
        }
    }
}

#[test]
fn a_run_that_somebody_else_started_is_left_alone_though_it_has_the_same_fault() {
    let subject = SubjectName::wrapper(&persona(0));
    let faults = [
        Fault::Crash { subject: subject.clone(), fate: Fate::Well },
        Fault::Silence { subject: subject.clone(), wake_after: None },
        Fault::BreakTicks { persona: 0, restarts: 2 },
    ];
    for (seed, fault) in (0..4).flat_map(|seed| faults.iter().map(move |fault| (seed, fault))) {
        let mut world = at_rest(seed, Plan::calm(3));
        world.fault(Fault::Meddle(Meddling::SameFault));
        world.fault(fault.clone());
        let mut waited = Duration::ZERO;
        while !world.checker.aborts.contains_key("other_incarnation") {
            assert!(waited < 20 * S, "seed {seed}: {fault:?}, aborts: {:?}", world.checker.aborts);
            world.run_for(5 * MS);
            waited += 5 * MS;
            assert_eq!(world.checker.violation, None, "seed {seed}: {fault:?}");
        }
        assert_eq!(world.checker.acts, 0, "seed {seed}: {fault:?}");
        // The new run is voted on anew.
        time_to_repair(&mut world, &subject, 20 * S);
    }
}

#[test]
fn all_wrappers_killed_at_once_come_back_one_after_the_other() {
    for seed in 0..5 {
        let mut world = at_rest(seed, Plan::calm(3));
        let before = world.checker.acts;
        let subjects: Vec<_> = (0..3).map(|index| SubjectName::wrapper(&persona(index))).collect();
        subjects.iter().for_each(|subject| kill(&mut world, subject));
        for subject in &subjects {
            time_to_repair(&mut world, subject, 2 * S);
        }
        assert_eq!(world.checker.acts - before, 3, "seed {seed}: one repair each");
    }
}

/// Every way of lying, and one that changes.
fn guises() -> impl Iterator<Item = Guise> {
    actors::ALL.iter().map(Guise::Always).chain([Guise::Chameleon; 4])
}

#[test]
fn a_lone_liar_moves_no_healthy_subject() {
    for (seed, guise) in (0..).zip(guises()) {
        let mut world = at_rest(seed, Plan { liars: Liars::One, guise, ..Plan::calm(3) });
        let before = world.checker.acts;
        world.run_for(15 * S);
        assert_eq!(world.checker.violation, None, "seed {seed}, {guise:?}");
        assert_eq!(world.checker.acts, before, "seed {seed}, {guise:?}: nothing was wrong, and something was done");
    }
}

#[test]
fn a_liar_delays_a_repair_that_does_not_need_it_by_at_most_one_act_timeout() {
    for (seed, guise) in (0..).zip(guises()) {
        let plan = Plan { liars: Liars::One, guise, ..Plan::calm(3) };
        let act_timeout = plan.policy.timing.act_timeout;
        let mut world = at_rest(seed, plan);
        // The liar's own wrapper and a foreign unit: otto and vera are a quorum for both.
        for subject in [SubjectName::wrapper(&persona(1)), foreign()] {
            kill(&mut world, &subject);
            let took = time_to_repair(&mut world, &subject, 20 * S);
            assert!(took <= act_timeout + S, "seed {seed}, {guise:?}: {subject} took {took:?}");
        }
    }
}

#[test]
fn a_committee_of_liars_breaks_none_of_the_wardens_own_rules() {
    for seed in 0..20 {
        let mut world = World::new(seed, Plan { liars: Liars::Everybody, ..Plan::hostile(seed) });
        world.settle();
        assert_eq!(world.checker.violation, None, "seed {seed}");
    }
}

#[test]
fn with_a_damaged_journal_nothing_is_done() {
    for seed in 0..5 {
        let mut world = at_rest(seed, Plan::calm(3));
        // A record that others were written after: what stands alone at the end might as well have been torn.
        kill(&mut world, &foreign());
        time_to_repair(&mut world, &foreign(), S);
        world.run_for(4 * S);
        let before = world.checker.acts;
        world.damage_journal();
        let subject = SubjectName::wrapper(&persona(0));
        kill(&mut world, &subject);
        world.run_for(10 * S);
        assert_eq!(world.checker.violation, None, "seed {seed}");
        assert_eq!(world.checker.acts, before, "seed {seed}");
        assert_eq!(world.state_of(&subject), Some(StateName::Held), "seed {seed}");
    }
}

#[test]
fn a_held_subject_stays_down_until_its_release() {
    for seed in 0..5 {
        let mut world = at_rest(seed, Plan::calm(3));
        let subject = SubjectName::wrapper(&persona(0));
        world.fault(Fault::Hold { subject: Some(subject.clone()), release_after: Some(5 * S) });
        world.run_for(S);
        kill(&mut world, &subject);
        world.run_for(3 * S);
        assert!(world.fault_of(&subject).is_some(), "seed {seed}: it is held, and was repaired");
        assert_eq!(world.state_of(&subject), Some(StateName::Held), "seed {seed}");
        time_to_repair(&mut world, &subject, 4 * S);
    }
}

/// A node on which something ails k3s, once its state is `wanted`.
fn ailing(seed: u64, liars: Liars, ailment: Ailment, wanted: StateName) -> World {
    let plan = Plan { liars, guise: guises().nth(seed as usize % 20).expect("twenty"), ..Plan::calm(3) };
    let mut world = at_rest(seed, plan);
    world.fault(Fault::Ail(ailment));
    for _ in 0..400 {
        world.run_for(100 * MS);
        assert_eq!(world.checker.violation, None, "seed {seed}, {ailment:?}");
        if world.state_of(&k3s()) == Some(wanted) || wanted == StateName::Healthy {
            return world;
        }
    }
    panic!("seed {seed}: k3s ails from {ailment:?}, and never is {wanted}: {:?}", world.unfinished());
}

#[test]
fn a_k3s_that_fails_is_restarted_by_two_of_three_vendors_whatever_the_third_says() {
    for seed in 0..20 {
        let mut world = ailing(seed, Liars::One, Ailment::Fails { starts: 1 }, StateName::Settling);
        assert_eq!(world.fault_of(&k3s()), None, "seed {seed}");
        world.run_for(10 * S);
        // A liar may go on calling it suspect, and that is all.
        assert!(matches!(world.state_of(&k3s()), Some(StateName::Healthy | StateName::Suspect)), "seed {seed}");
        assert_eq!(world.done_to(&k3s()), ["restart"], "seed {seed}");
    }
}

#[test]
fn what_ails_a_k3s_decides_the_step_and_no_vendor_alone_does() {
    for seed in 0..20 {
        let moved = ailing(seed, Liars::One, Ailment::EmptyKey, StateName::Settling);
        assert_eq!(moved.done_to(&k3s()), ["move-aside"], "seed {seed}");
        let copied = ailing(seed, Liars::One, Ailment::Datastore, StateName::Held);
        assert_eq!(copied.done_to(&k3s()), ["copy-aside"], "seed {seed}");
        let human = ailing(seed, Liars::One, Ailment::WantsHuman, StateName::Held);
        assert_eq!(human.done_to(&k3s()), Vec::<&str>::new(), "seed {seed}");
    }
}

#[test]
fn a_host_in_doubt_is_shown_as_frozen_and_nothing_is_done_to_its_k3s() {
    for seed in 0..20 {
        // A liar that calls it crashed is shown in the place of the doubt; what is done stays the same.
        let (liars, shown) =
            if seed < 5 { (Liars::Nobody, StateName::Frozen) } else { (Liars::One, StateName::Healthy) };
        let mut world = ailing(seed, liars, Ailment::HostInDoubt, shown);
        world.run_for(10 * S);
        world.fault(Fault::Ail(Ailment::Nothing));
        world.run_for(8 * S);
        assert_eq!(world.done_to(&k3s()), Vec::<&str>::new(), "seed {seed}");
        let state = world.state_of(&k3s());
        assert!(matches!(state, Some(StateName::Healthy | StateName::Suspect)), "seed {seed}: {state:?}");
    }
}

#[test]
fn whoever_signs_two_statements_with_one_number_is_proven_and_nobody_else_is() {
    for (seed, kind) in (0..).zip(&actors::ALL) {
        let plan = Plan { liars: Liars::One, guise: Guise::Always(kind), ..Plan::calm(3) };
        let mut world = World::new(seed, plan);
        world.run_for(20 * S);
        assert_eq!(world.checker.violation, None, "{kind:?}");
        // One of the mutator's fields is the number itself: it may hit on one that it has used.
        if kind.name != "mutator" {
            assert_eq!(world.checker.proven.contains(&persona(LIAR)), kind.is_proven, "{kind:?}");
        }
    }
}
