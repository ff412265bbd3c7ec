//! A [`Finding`] in the words of the protocol: what a guardian signs of it.
//!
//! * The step that a row asks for is told by the reason: voters sign it, and the warden takes no step that does not answer it.
//! * A fault that could be voted on, and for which nothing is asked, is for a human.
//! * A damaged datastore is ENVIRONMENT while k3s runs or starts: nobody stops it for a copy, and what it said last may be of the
//!   run before, since when somebody mended it. Only where k3s has ended is it copied.

use super::Look;
use super::classify::{Finding, Withheld};
use super::table::Act;
use crate::protocol::evidence::{
    ExitZero, FaultClass, Reason, ServiceReading, UnitReading, UnitState, Verdict, classify_unit,
};
use crate::protocol::types::{Digest, Timestamp};

/// What is signed of a finding on this look and this state of the unit.
pub fn reading(
    finding: &Finding,
    look: &Look,
    unit: &UnitState,
    exit_zero: ExitZero,
    now: Timestamp,
) -> ServiceReading {
    let unit_reading = classify_unit(unit, exit_zero, now);
    let class = class(finding, unit_reading);
    ServiceReading {
        run: unit.incarnation,
        verdict: finding.verdict,
        class,
        reason: reason(finding, class),
        digest: Digest::of(format!("{look:?} {unit:?}").as_bytes()),
    }
}

fn class(finding: &Finding, reading: UnitReading) -> Option<FaultClass> {
    match (finding.act, reading) {
        (Act::CopyAside, UnitReading::Crashed(_)) => Some(FaultClass::Crash),
        _ => finding.class,
    }
}

fn reason(finding: &Finding, class: Option<FaultClass>) -> Reason {
    let votable = finding.verdict == Verdict::Down && class.is_some_and(FaultClass::is_votable);
    match finding.act {
        Act::MoveAside => Reason::EmptyFile,
        Act::CopyAside => Reason::Datastore,
        Act::PlannedRestart => Reason::CertificateEnds,
        Act::Restart => finding.reason,
        Act::None if matches!(finding.withheld, Some(Withheld::CameBack { .. })) && votable => Reason::CameBack,
        Act::None if votable => Reason::WantsHuman,
        Act::None if finding.page && finding.verdict != Verdict::Down => match finding.reason {
            _ if finding.frozen => Reason::HostInDoubt,
            reason if reason.calls_human() => reason,
            _ => Reason::WantsHuman,
        },
        // What calls for nobody must not seem to.
        Act::None if finding.reason == Reason::WrongPeer => Reason::CannotSee,
        Act::None => finding.reason,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::observe::k3s::classify::tests::bench::well;
    use crate::protocol::evidence::{Activity, Evidence, LastExit, Remedy};
    use crate::protocol::types::Incarnation;

    fn finding(class: Option<FaultClass>, act: Act) -> Finding {
        let mut finding = Finding::of_nothing();
        finding.class = class;
        finding.verdict = match class {
            None => Verdict::Up,
            Some(FaultClass::Unknown | FaultClass::Operator) => Verdict::Unknown,
            Some(_) => Verdict::Down,
        };
        finding.evidence = Evidence::Soft;
        finding.act = act;
        finding.reason = Reason::ProbeFailed;
        finding
    }

    fn ended() -> UnitState {
        let activity = Activity::Failed;
        UnitState { activity, last_exit: LastExit::Code(1), ..UnitState::never_started(Incarnation::default()) }
    }

    fn unit(activity: Activity) -> UnitState {
        UnitState { activity, main_pid: Some(7), ..UnitState::never_started(Incarnation::default()) }
    }

    fn signed(finding: &Finding, unit: &UnitState) -> (Option<FaultClass>, Reason) {
        let reading = reading(finding, &well(), unit, ExitZero::Operator, Timestamp::ZERO);
        (reading.class, reading.reason)
    }

    #[test]
    fn the_reason_tells_the_step_that_the_row_asks_for() {
        for (act, remedy) in [
            (Act::Restart, Remedy::Restart),
            (Act::PlannedRestart, Remedy::Restart),
            (Act::MoveAside, Remedy::MoveAside),
            (Act::None, Remedy::Human),
        ] {
            let (class, reason) = signed(&finding(Some(FaultClass::Broken), act), &unit(Activity::Active));
            assert_eq!((class, reason.remedy()), (Some(FaultClass::Broken), remedy), "{act}");
        }
    }

    #[test]
    fn a_damaged_datastore_is_copied_only_where_nothing_runs_on_it() {
        let damaged = finding(Some(FaultClass::Environment), Act::CopyAside);
        assert_eq!(signed(&damaged, &ended()), (Some(FaultClass::Crash), Reason::Datastore));
        for activity in [Activity::Active, Activity::Activating] {
            assert_eq!(signed(&damaged, &unit(activity)), (Some(FaultClass::Environment), Reason::Datastore));
        }
    }

    #[test]
    fn what_wants_a_human_says_so_and_nothing_else_does() {
        let mut stranger = finding(Some(FaultClass::Unknown), Act::None);
        stranger.reason = Reason::WrongPeer;
        assert!(!signed(&stranger, &unit(Activity::Active)).1.calls_human(), "not yet often enough in a row");
        stranger.page = true;
        assert_eq!(signed(&stranger, &unit(Activity::Active)).1, Reason::WrongPeer);
        stranger.frozen = true;
        assert_eq!(signed(&stranger, &unit(Activity::Active)).1, Reason::HostInDoubt);
        let mut well = finding(None, Act::None);
        assert_eq!(signed(&well, &unit(Activity::Active)), (None, Reason::ProbeFailed));
        well.page = true;
        assert_eq!(signed(&well, &unit(Activity::Active)), (None, Reason::WantsHuman));
    }

    #[test]
    fn what_came_back_is_voted_on_but_no_step_answers_it() {
        let mut again = finding(Some(FaultClass::Crash), Act::None);
        again.withheld = Some(Withheld::CameBack { cause: "x".into() });
        again.page = true;
        assert_eq!(signed(&again, &ended()), (Some(FaultClass::Crash), Reason::CameBack));
    }
}
