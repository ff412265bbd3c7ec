//! What a hostile k3s, or whoever sits on its ports, can say: answers of health ports, lines in the unit's journal, and what a
//! look at both is found to be.

use super::lookout::NOW;
use super::world::RUN;
use super::{Reader, is_plain};
use std::path::PathBuf;
use std::sync::OnceLock;
use std::time::Duration;
use tokio::io::AsyncWriteExt as _;
use zeta_bft::config::k3s::K3sConfig;
use zeta_bft::observe::k3s::classify::{Finding, Judge, Unit};
use zeta_bft::observe::k3s::fatal::{FATAL_MAX, Fatal, is_fatal, last_fatal};
use zeta_bft::observe::k3s::history::{History, signature};
use zeta_bft::observe::k3s::table::Act;
use zeta_bft::observe::k3s::{Certificate, Look, Mount, Probe, Role, probe_over, ready_condition};
use zeta_bft::protocol::evidence::{
    Activity, Enablement, Evidence, ExitZero, FaultClass, LastExit, UnitReading, UnitState, Verdict, classify_unit,
};
use zeta_bft::protocol::types::{Incarnation, InvocationId};

/// Everything that a peer writes on its connection.
pub(crate) fn http(data: &[u8]) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().expect("a runtime");
    let probe = runtime.block_on(async {
        let (ours, mut theirs) = tokio::io::duplex(data.len().max(1) + 4096);
        theirs.write_all(data).await.expect("room for all of it");
        theirs.shutdown().await.expect("no more");
        // Nobody waits: the connection is closed, and every byte is there.
        probe_over(ours, "/healthz", Duration::from_secs(3)).await
    });
    match &probe {
        Probe::Status { code, said } => {
            assert!((100..1000).contains(code));
            assert!(said.len() <= Look::SAID_MAX);
            assert!(said.split(['\n', '\r']).all(is_plain), "{said:?}");
        }
        Probe::TimedOut | Probe::Stranger => {}
        Probe::Off | Probe::Refused | Probe::Unable(_) => panic!("{probe:?} for a peer that said something"),
    }
    assert!(probe.is_ok() <= probe.answers() && !(probe.is_ok() && probe.fails()));
    let _ = ready_condition(data);
}

/// Whether there is a present run, then what `journalctl` prints.
pub(crate) fn journal(data: &[u8]) {
    let mut data = Reader(data);
    let present = (data.byte() & 1 == 1).then_some(RUN.invocation);
    let read = |present| last_fatal(data.0, "k3s.service", present).expect("memory can be read");
    let found = read(present);
    assert_eq!(found, read(present));
    let Some(Fatal { line, run }) = found else { return };
    assert!(line.len() <= FATAL_MAX && is_plain(&line), "{line:?}");
    assert!(is_fatal(&line), "{line:?}");
    assert!(run != InvocationId::default() || line.len() <= FATAL_MAX);
    let short = signature(&line);
    assert!(short.chars().count() <= 200);
}

fn judge(role: Role) -> &'static Judge {
    static JUDGES: OnceLock<[Judge; 2]> = OnceLock::new();
    let judges = JUDGES.get_or_init(|| [Role::Server, Role::Agent].map(|role| Judge::new(&K3sConfig::new(role))));
    &judges[usize::from(role == Role::Agent)]
}

fn probe(data: &mut Reader<'_>) -> Probe {
    match data.byte() % 8 {
        0 => Probe::Off,
        1 => Probe::Refused,
        2 => Probe::TimedOut,
        3 => Probe::Stranger,
        4 => Probe::Unable("no descriptor".to_owned()),
        5 => Probe::Status { code: 200, said: "ok".to_owned() },
        _ => {
            let code = 100 + data.u16() % 900;
            let said = data.frame();
            Probe::Status { code, said: String::from_utf8_lossy(&said[..said.len().min(Look::SAID_MAX)]).into_owned() }
        }
    }
}

fn unit(data: &mut Reader<'_>) -> UnitState {
    let (activity, bits) = (data.byte(), data.byte());
    let bit = |number: u8| bits >> number & 1 == 1;
    UnitState {
        activity: match activity % 6 {
            0 => Activity::Active,
            1 => Activity::Activating,
            2 => Activity::AutoRestart { due: NOW + Duration::from_secs(4), wait: Duration::from_secs(5) },
            3 => Activity::Deactivating,
            4 => Activity::Inactive,
            _ => Activity::Failed,
        },
        last_exit: match activity / 6 % 5 {
            0 => LastExit::None,
            1 => LastExit::Code(i32::from(bits)),
            2 => LastExit::Signal(9),
            3 => LastExit::StartLimit,
            _ => LastExit::Dependency,
        },
        enablement: match activity / 30 % 4 {
            0 => Enablement::Enabled,
            1 => Enablement::Disabled,
            2 => Enablement::Masked,
            _ => Enablement::NotFound,
        },
        job_pending: bit(0),
        stop_requested: bit(1),
        frozen: bit(2),
        main_pid: bit(3).then_some(17),
        ..UnitState::never_started(run(u8::from(bit(4))))
    }
}

fn run(number: u8) -> Incarnation {
    Incarnation { invocation: InvocationId([number; 16]), ..RUN }
}

/// Up to sixteen looks in a row at one k3s.
pub(crate) fn look(data: &[u8]) {
    let mut data = Reader(data);
    let judge = judge(if data.byte() & 1 == 0 { Role::Server } else { Role::Agent });
    let mut history = History::default();
    for number in 1..=16_u64 {
        if data.0.is_empty() {
            return;
        }
        let state = unit(&mut data);
        let at = NOW + Duration::from_secs(5 * number);
        let (bits, age) = (data.byte(), u64::from(data.u16()));
        let bit = |place: u8| bits >> place & 1 == 1;
        let look = Look {
            at,
            run: (!bit(0)).then_some(state.incarnation),
            age: (!bit(1)).then_some(Duration::from_secs(age)),
            ping: probe(&mut data),
            livez: probe(&mut data),
            readyz: probe(&mut data),
            kubelet: probe(&mut data),
            kube_proxy: probe(&mut data),
            node_ready: [None, Some(true), Some(false)][usize::from(bits >> 2) % 3],
            certificates: vec![Certificate {
                place: "port 6443".to_owned(),
                is_ca: bit(3),
                not_after: 1_000_000 + age.wrapping_mul(3600),
            }],
            empty_files: if bit(4) { vec![PathBuf::from("/a/client-kubelet.key")] } else { Vec::new() },
            keys_seen: bit(5),
            mounts: vec![Mount {
                path: PathBuf::from("/var/lib/rancher/k3s"),
                free_bytes: if bit(6) { age } else { 1 << 34 },
                bytes: 1 << 36,
                free_inodes: if bit(7) { age } else { 1 << 20 },
                inodes: 1 << 21,
            }],
            clock_synchronised: [Some(true), Some(false), None][usize::from(data.byte()) % 3],
            unix: 1_000_000,
            fatal: fatal(&mut data),
            others: (u32::from(bits), u32::from(bits / 2)),
        };
        let since = if data.byte() & 1 == 0 { at } else { at + Duration::from_secs(1) };
        let unit = Unit { state: &state, since, exit_zero: ExitZero::Operator };
        let finding = judge.classify(at, &look, unit, &history);
        assert_eq!(finding, judge.classify(at, &look, unit, &history), "the same input, the same word");
        sound(&finding, &look, &state, classify_unit(&state, ExitZero::Operator, at));
        history.note(&look, finding.noted());
        assert_eq!(judge.classify(at, &look, unit, &history).verdict, finding.verdict, "judged again");
    }
}

fn fatal(data: &mut Reader<'_>) -> Option<Fatal> {
    let of = data.byte();
    let line = String::from_utf8_lossy(data.frame()).into_owned();
    let line: String = line.chars().filter(|c| !c.is_control()).take(FATAL_MAX / 4).collect();
    (of & 0x80 != 0).then(|| Fatal { line, run: run(of & 3).invocation })
}

/// What no word of k3s' own can change.
fn sound(finding: &Finding, look: &Look, state: &UnitState, reading: UnitReading) {
    if finding.is_votable() {
        assert!(matches!(finding.class, Some(FaultClass::Crash | FaultClass::Broken)) && finding.act != Act::None);
        assert_eq!(look.run, Some(state.incarnation), "only on the run that was looked at");
        assert!(!matches!(reading, UnitReading::Operator(_)), "what the operator wants is the operator's");
    }
    if finding.class == Some(FaultClass::Crash) && finding.verdict == Verdict::Down {
        assert!(matches!(reading, UnitReading::Crashed(_)), "PID 1's word");
    }
    if finding.evidence == Evidence::Hard {
        assert!(!matches!(reading, UnitReading::Running), "no answer of a port is PID 1's word: {finding:?}");
    }
    if finding.class == Some(FaultClass::Broken) && finding.is_votable() {
        assert!(!state.job_pending || !state.is_running(), "somebody's job is queued");
        let hidden = [&look.ping, &look.livez, &look.readyz]
            .iter()
            .any(|probe| matches!(probe, Probe::Stranger | Probe::Unable(_)));
        assert!(!hidden, "not everything was seen");
    }
    assert!(finding.says.len() <= 1024 && !finding.to_string().is_empty());
}
