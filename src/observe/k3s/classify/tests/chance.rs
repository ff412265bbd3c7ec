//! Looks by chance: what must hold of every one.

use super::super::*;
use super::bench::*;
use crate::observe::k3s::{Certificate, Mount};
use proptest::prelude::*;
use std::sync::{Arc, LazyLock};

fn probe() -> impl Strategy<Value = Probe> {
    prop_oneof![
        4 => Just(Probe::Off),
        8 => Just(ok()),
        4 => Just(Probe::Refused),
        4 => Just(Probe::TimedOut),
        1 => Just(Probe::Stranger),
        1 => Just(Probe::Unable("no CA file".into())),
        4 => (100u16..600, "(\\[[-+]\\][a-z/*-]{0,9}( failed| ok)?\n){0,4}")
            .prop_map(|(code, said)| Probe::Status { code, said }),
        1 => (100u16..600, ".{0,40}").prop_map(|(code, said)| Probe::Status { code, said }),
    ]
}

fn fatal() -> impl Strategy<Value = Option<String>> {
    prop_oneof![
        2 => Just(None),
        1 => ".{0,60}".prop_map(Some),
        1 => Just(Some("panic: freepages: failed to get all reachable pages".to_owned())),
        1 => (0u8..3).prop_map(|n| Some(format!("time=\"{n}\" level=fatal msg=\"listen tcp :6443: bind: address already in use\""))),
    ]
}

prop_compose! {
    fn any_look()(
        ping in probe(), livez in probe(), readyz in probe(), kubelet in probe(), kube_proxy in probe(),
        age in proptest::option::of(0u64..4000),
        node_ready in any::<Option<bool>>(),
        free in proptest::collection::vec((0u64..1 << 30, 0u64..20_000, 0u64..3), 0..3),
        certificates in proptest::collection::vec((any::<bool>(), prop_oneof![0..u64::MAX, UNIX - 9..UNIX + 90 * DAY]), 0..3),
        empty in any::<bool>(),
        clock_synchronised in any::<Option<bool>>(),
        unix in prop_oneof![Just(UNIX), any::<u64>()],
        fatal in fatal(),
        others in (0u32..4, 0u32..4),
        (number, before) in (0u8..4, 0u8..2),
    ) -> Look {
        let mount = |(free_bytes, free_inodes, inodes)| Mount { path: "/x".into(), free_bytes, bytes: 1 << 40, free_inodes, inodes };
        let certificate = |(is_ca, not_after)| Certificate { place: "p".into(), is_ca, not_after };
        Look {
            run: (number > 0).then(|| run(number)),
            age: age.map(Duration::from_secs),
            ping, livez, readyz, kubelet, kube_proxy, node_ready, clock_synchronised, unix, others,
            fatal: fatal.and_then(|line| words(number.saturating_sub(before), line)),
            mounts: free.into_iter().map(mount).collect(),
            certificates: certificates.into_iter().map(certificate).collect(),
            empty_files: if empty { vec!["/var/lib/rancher/k3s/agent/x.key".into()] } else { Vec::new() },
            ..well()
        }
    }
}

fn any_state() -> impl Strategy<Value = UnitState> {
    let words = proptest::sample::select(UnitWord::ALL);
    (words, 1u8..4, any::<bool>()).prop_map(|(word, number, job_pending)| {
        let state = unit(word);
        UnitState { incarnation: run(number), job_pending: job_pending || state.job_pending, ..state }
    })
}

/// A judge with rows of an operator's that would restart on anything.
fn reckless() -> Arc<Judge> {
    static JUDGE: LazyLock<Arc<Judge>> = LazyLock::new(|| judge_with(RECKLESS).into());
    JUDGE.clone()
}

const RECKLESS: &str = r#"
[[faults]]
name = "always"
when = { older_than = "0s" }
class = "BROKEN"
act = "restart"
says = "x"

[[faults]]
name = "always-ended"
when = { unit = ["failed", "auto-restart"] }
class = "CRASH"
act = "restart"
says = "x"
"#;

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn every_row_of_looks_is_judged_and_harms_nobody(
        looks in proptest::collection::vec((any_look(), any_state(), 1u32..5), 1..5),
        bold in any::<bool>(),
    ) {
        let mut eye = Eye::new(if bold { reckless() } else { judge() });
        for (look, state, times) in looks {
            let finding = eye.looks(times, &look, &state);
            let about = format!("{finding}\n{look:?}\n{state:?}");
            prop_assert_eq!(finding.verdict == Verdict::Up, finding.class.is_none());
            if finding.is_votable() {
                let seen = |probe: &Probe| !matches!(probe, Probe::Unable(_));
                let probes = [&look.ping, &look.livez, &look.readyz, &look.kubelet, &look.kube_proxy];
                if finding.class == Some(FaultClass::Broken) {
                    prop_assert!(probes.iter().all(|probe| seen(probe)), "in doubt: {}", about);
                    let strange = |probe: &Probe| matches!(probe, Probe::Stranger);
                    prop_assert!(!probes[..3].iter().any(|probe| strange(probe)), "a stranger: {}", about);
                    prop_assert!(look.age.is_some_and(|age| age >= Duration::from_secs(120)), "young: {}", about);
                    prop_assert!(!look.mounts.is_empty(), "disks unseen: {}", about);
                    let fails = probes.iter().any(|probe| probe.fails());
                    prop_assert!(fails || !probes.iter().any(|probe| strange(probe)), "only a stranger: {}", about);
                    prop_assert!(look.clock_synchronised != Some(false) || !fails, "frozen by the clock: {}", about);
                    prop_assert!(matches!(state.activity, Activity::Active | Activity::Activating), "{}", about);
                }
                prop_assert!(look.mounts.iter().all(|mount| mount.free_bytes >= 64 << 20), "a full disk: {}", about);
                prop_assert!(look.run == Some(state.incarnation), "another run: {}", about);
                prop_assert!(!state.frozen && !state.stop_requested, "the operator's: {}", about);
            }
        }
    }

    #[test]
    fn a_full_disk_always_wins_over_what_would_be_done(look in any_look(), state in any_state(), free in 0u64..64 << 20) {
        let mut look = look;
        look.mounts.push(Mount { path: "/full".into(), free_bytes: free, bytes: 1 << 40, free_inodes: 1 << 20, inodes: 1 << 20 });
        for judge in [judge(), reckless()] {
            let finding = Eye::new(judge).looks(4, &look, &state);
            prop_assert_eq!(finding.act, Act::None, "{}", finding);
        }
    }
}
