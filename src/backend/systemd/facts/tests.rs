use super::*;
use crate::protocol::evidence::{ExitZero, Reason, UnitReading, classify_unit};

const RECORDED: &str = include_str!("../../../../tests/fixtures/systemd/units-252.txt");
const BOOT: BootId = BootId([1; 16]);

fn variant(value: &serde_json::Value) -> Variant<'static> {
    match value {
        serde_json::Value::Bool(met) => Variant::from(*met),
        serde_json::Value::String(text) => Variant::from(text.clone()),
        serde_json::Value::Array(items) if items.get(1).is_some_and(serde_json::Value::is_string) => {
            let id = u32::try_from(items[0].as_u64().unwrap()).unwrap();
            Variant::from(zbus::wire::Structure::from((id, items[1].as_str().unwrap().to_owned())))
        }
        serde_json::Value::Array(items) => {
            Variant::from(items.iter().map(|byte| u8::try_from(byte.as_u64().unwrap()).unwrap()).collect::<Vec<_>>())
        }
        other => panic!("{other}"),
    }
}

fn numbered(name: &str, value: u64) -> Variant<'static> {
    match name {
        "MainPID" | "NRestarts" => Variant::from(u32::try_from(value).unwrap()),
        "ExecMainCode" | "ExecMainStatus" => Variant::from(i32::try_from(value).unwrap()),
        _ => Variant::from(value),
    }
}

fn recorded(situation: &str) -> Facts {
    let section = RECORDED.split("\n[").find(|section| section.starts_with(&format!("{situation}]")));
    let mut facts = Facts::default();
    for line in section.unwrap_or_else(|| panic!("no recording of {situation}")).lines().skip(1) {
        let Some((name, value)) = line.split_once('=') else { continue };
        let value: serde_json::Value = serde_json::from_str(value).unwrap();
        match value.as_u64() {
            Some(number) => facts.set(name, &numbered(name, number)),
            None => facts.set(name, &variant(&value)),
        }
    }
    facts
}

/// A moment shortly after the recording, on a node that was suspended for a second.
fn clocks() -> Clocks {
    let monotonic = Timestamp::from_nanos(14_707_000_000_000);
    Clocks { boot: monotonic + Duration::from_secs(1), monotonic }
}

fn state(facts: &Facts, memory: Memory) -> UnitState {
    facts.state(memory, BOOT, clocks()).expect("systemd said enough")
}

/// The unit of the recordings was not enabled, which hides every other reading.
fn reading(situation: &str, exit_zero: ExitZero) -> UnitReading {
    let mut facts = recorded(situation);
    facts.set("UnitFileState", &Variant::from("enabled"));
    classify_unit(&state(&facts, Memory::default()), exit_zero, clocks().boot)
}

#[test]
fn every_recorded_situation_is_read_for_what_it_was() {
    use UnitReading::{Crashed, Operator, Running};
    for (situation, expected) in [
        ("running", Running),
        ("frozen", Operator(Reason::FrozenUnit)),
        ("killed", Crashed(Reason::Killed)),
        ("exited_1", Crashed(Reason::Exited)),
        ("no_program", Crashed(Reason::Exited)),
        ("start_limit", Crashed(Reason::Exited)),
        ("watchdog_struck", Crashed(Reason::Killed)),
        ("long_auto_restart", Crashed(Reason::AutoRestart)),
        ("stop_timed_out", Operator(Reason::Stopped)),
        ("stopped_with_exit_3", Operator(Reason::Stopped)),
        ("stopped_by_term", Operator(Reason::Stopped)),
        ("stopped_in_auto_restart", Operator(Reason::Stopped)),
        ("killed_then_reset", Operator(Reason::Stopped)),
        ("condition_refused", Operator(Reason::Stopped)),
        ("dependency_failed", Operator(Reason::Stopped)),
        ("never_started", Operator(Reason::Stopped)),
        ("file_gone_running", Operator(Reason::NotFound)),
        ("file_gone_killed", Operator(Reason::NotFound)),
    ] {
        for exit_zero in [ExitZero::Operator, ExitZero::Fault] {
            assert_eq!(reading(situation, exit_zero), expected, "{situation}");
        }
    }
    let disabled = classify_unit(&state(&recorded("killed"), Memory::default()), ExitZero::Operator, clocks().boot);
    assert_eq!(disabled, Operator(Reason::Disabled));
}

#[test]
fn a_stop_of_what_had_failed_already_leaves_only_a_memory() {
    let mut facts = recorded("killed_then_stopped");
    facts.set("UnitFileState", &Variant::from("enabled"));
    let run = facts.invocation();
    let read = |memory| classify_unit(&state(&facts, memory), ExitZero::Operator, clocks().boot);
    assert_eq!(read(Memory::default()), UnitReading::Crashed(Reason::Killed));
    let stopped = Memory { stopped: Some(run), ..Memory::default() };
    assert_eq!(read(stopped), UnitReading::Operator(Reason::Stopped));
    let of_another_run = Memory { stopped: Some(InvocationId([7; 16])), ..Memory::default() };
    assert_eq!(read(of_another_run), UnitReading::Crashed(Reason::Killed));
    let dependency = Memory { dependency: Some(run), ..Memory::default() };
    assert_eq!(read(dependency), UnitReading::Operator(Reason::Dependency));
}

#[test]
fn a_refused_start_of_what_was_stopped_before_is_a_refusal() {
    for situation in ["stopped_by_term", "dependency_failed"] {
        let mut facts = recorded(situation);
        facts.set("UnitFileState", &Variant::from("enabled"));
        let memory = Memory { dependency: Some(facts.invocation()), ..Memory::default() };
        let read = classify_unit(&state(&facts, memory), ExitZero::Operator, clocks().boot);
        assert_eq!(read, UnitReading::Operator(Reason::Dependency), "{situation}");
    }
}

#[test]
fn the_run_is_what_systemd_calls_it_and_its_pid_comes_with_it() {
    let running = state(&recorded("running"), Memory::default());
    assert_eq!(running.incarnation.boot, BOOT);
    assert_eq!(running.incarnation.invocation.0[..3], [121, 77, 193]);
    assert_eq!((running.main_pid, running.restarts), (Some(612), 0));
    let since = running.active_since.expect("it is active");
    assert_eq!(since, Timestamp::from_nanos(14_693_121_445_000) + Duration::from_secs(1), "on the clock of the boot");
    assert_eq!(state(&recorded("never_started"), Memory::default()).incarnation.invocation, InvocationId::default());
}

#[test]
fn the_moment_of_systemds_own_restart_is_known() {
    let waiting = state(&recorded("long_auto_restart"), Memory::default());
    let Activity::AutoRestart { due, wait } = waiting.activity else { panic!("{waiting:?}") };
    assert_eq!(wait, Duration::from_secs(30));
    assert_eq!(due, Timestamp::from_nanos(14_727_121_268_000) + Duration::from_secs(1));
    let mut unknown = recorded("long_auto_restart");
    unknown.restart_sec = None;
    assert_eq!(unknown.state(Memory::default(), BOOT, clocks()), None, "unknown is not long");
    let mut never = recorded("long_auto_restart");
    never.set("RestartUSec", &Variant::from(u64::MAX));
    assert!(matches!(state(&never, Memory::default()).activity, Activity::AutoRestart { .. }));
}

#[test]
fn a_running_rung_and_a_queued_job_are_both_a_job() {
    let facts = recorded("running");
    assert!(!state(&facts, Memory::default()).job_pending);
    assert!(state(&facts, Memory { rung_runs: true, ..Memory::default() }).job_pending);
    let mut queued = facts;
    queued.set("Job", &Variant::from(zbus::wire::Structure::from((7u32, "/job/7"))));
    assert!(state(&queued, Memory::default()).job_pending);
}

#[test]
fn what_makes_no_sense_changes_nothing() {
    let before = recorded("running");
    let mut after = before.clone();
    after.set("MainPID", &Variant::from("612"));
    after.set("ActiveState", &Variant::from(3u32));
    after.set("InvocationID", &Variant::from("xyz"));
    after.set("NoSuchThing", &Variant::from(1u8));
    assert_eq!(after, before);
    assert_eq!(Facts::default().state(Memory::default(), BOOT, clocks()), None, "nothing said is nothing seen");
    after.set("ActiveState", &Variant::from("dancing"));
    assert_eq!(after.state(Memory::default(), BOOT, clocks()), None);
}

#[test]
fn what_passes_through_inactive_inside_a_job_was_not_stopped() {
    let mut facts = recorded("killed");
    facts.set("UnitFileState", &Variant::from("enabled"));
    facts.set("ActiveState", &Variant::from("inactive"));
    let read = |facts: &Facts| classify_unit(&state(facts, Memory::default()), ExitZero::Operator, clocks().boot);
    assert_eq!(read(&facts), UnitReading::Operator(Reason::Stopped));
    facts.set("Job", &Variant::from(zbus::wire::Structure::from((7u32, "/job/7"))));
    assert_eq!(read(&facts), UnitReading::Unknown(Reason::JobPending));
}

#[test]
fn failed_for_a_moment_before_an_auto_restart_is_not_failed() {
    let mut facts = recorded("killed");
    facts.set("UnitFileState", &Variant::from("enabled"));
    let died = Timestamp::from_nanos(14_693_488_815_000);
    let read = |facts: &Facts, after: Duration| {
        let clocks = Clocks { boot: died + after, monotonic: died + after };
        let state = facts.state(Memory::default(), BOOT, clocks).unwrap();
        (classify_unit(&state, ExitZero::Operator, clocks.boot), facts.settles_in(clocks))
    };
    let (soon, later) = (Duration::from_millis(10), SETTLES);
    assert_eq!(read(&facts, soon), (UnitReading::Crashed(Reason::Killed), None), "nobody restarts it but us");
    facts.set("Restart", &Variant::from("always"));
    assert_eq!(read(&facts, soon), (UnitReading::Unknown(Reason::Stopping), Some(SETTLES - soon)));
    assert_eq!(read(&facts, later), (UnitReading::Crashed(Reason::Killed), None), "systemd gave up on it");
    facts.set("SubState", &Variant::from("failed-before-auto-restart"));
    assert_eq!(read(&facts, later).0, UnitReading::Unknown(Reason::Stopping));
}
