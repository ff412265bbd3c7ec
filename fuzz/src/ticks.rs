//! What a persona's CLI prints and how it ends, read with the default patterns of its vendor.

use super::{Reader, is_plain};
use std::sync::OnceLock;
use std::time::Duration;
use zeta_bft::config::patterns;
use zeta_bft::config::settings::FaultPattern;
use zeta_bft::observe::ticks::{Ended, Outcome, Probe, Tail, classify, plain, probed, resume_at, wants_probe};
use zeta_bft::protocol::evidence::{FaultClass, Reason};
use zeta_bft::protocol::types::VendorId;

const VENDORS: [&str; 4] = ["anthropic", "google-gemini", "openai", "xai-grok"];
/// The wall clock of the targets: 2026-01-05, a Monday.
const NOW: i64 = 1_767_600_000;
/// No quota comes back later than that, in seconds: eight days.
const FURTHEST: u64 = 8 * 24 * 3600;

fn of_vendor(number: u8) -> &'static [FaultPattern] {
    static PATTERNS: OnceLock<Vec<Vec<FaultPattern>>> = OnceLock::new();
    let all = PATTERNS.get_or_init(|| {
        VENDORS.iter().map(|name| patterns::defaults(&VendorId::new(name).expect("a vendor"))).collect()
    });
    &all[usize::from(number) % all.len()]
}

fn zone(name: &str) -> jiff::tz::TimeZone {
    static ZONES: OnceLock<Vec<jiff::tz::TimeZone>> = OnceLock::new();
    let zones = ZONES.get_or_init(|| {
        vec![jiff::tz::TimeZone::UTC, jiff::tz::TimeZone::posix("EST5EDT,M3.2.0,M11.1.0").expect("a zone")]
    });
    zones[usize::from(name == "EST")].clone()
}

/// Vendor, end, exit status, tenths of a second, how many bytes go to standard error; then what was printed.
pub(crate) fn ticks(data: &[u8]) {
    let mut data = Reader(data);
    let (vendor, how, status, tenths, errors) = (data.byte(), data.byte(), data.byte(), data.byte(), data.u16());
    let ended = match how % 4 {
        0 => Ended::Exited(i32::from(status)),
        1 => Ended::Signalled(i32::from(status)),
        2 => Ended::TimedOut,
        _ => Ended::NotStarted,
    };
    let now = jiff::Timestamp::from_second(NOW).expect("a time").to_zoned(zone(if vendor & 0x80 == 0 {
        "UTC"
    } else {
        "EST"
    }));
    let on_stderr = data.take(usize::from(errors));
    let (stderr, stdout) = (tail(on_stderr), tail(data.0));
    let duration = Duration::from_millis(100 * u64::from(tenths));
    let tick = Outcome { ended, duration, stdout: &stdout, stderr: &stderr };
    let read = classify(tick, of_vendor(vendor), &now);
    assert_eq!(read, classify(tick, of_vendor(vendor), &now), "the same input, the same word");
    match read.fault {
        None => assert!(ended == Ended::Exited(0) && read.reason == Reason::TickOk && read.resume_at.is_none()),
        Some(FaultClass::Broken) => assert!(read.resume_at.is_none()),
        Some(FaultClass::Environment) => {
            assert!(!matches!(ended, Ended::Signalled(_) | Ended::NotStarted), "not what a dead program printed");
            soon(read.resume_at);
        }
        Some(class) => panic!("a tick is never {class}"),
    }
    if wants_probe(tick, read) {
        assert_ne!(read.fault, Some(FaultClass::Environment));
        for probe in [Probe::Starts, Probe::Fails, Probe::Late, Probe::read(tick)] {
            let told = probed(read, probe);
            assert!(probe != Probe::Fails || told.fault == Some(FaultClass::Broken));
        }
    }
    for line in stdout.lines().iter().chain(&stderr.lines()) {
        assert!(is_plain(line) && !line.is_empty(), "{line:?}");
        soon(resume_at(line, &now));
    }
}

fn soon(resume_at: Option<u64>) {
    let Some(at) = resume_at else { return };
    let wait = at.checked_sub(NOW.unsigned_abs());
    assert!(wait.is_some_and(|wait| wait > 0 && wait <= FURTHEST), "{wait:?}");
}

/// The tail of a stream: the same in whatever pieces it came.
fn tail(bytes: &[u8]) -> Tail {
    let (mut whole, mut pieces) = (Tail::new(), Tail::new());
    whole.push(bytes);
    bytes.chunks(bytes.len() / 3 + 1).for_each(|piece| pieces.push(piece));
    assert_eq!((whole.total(), whole.lines()), (pieces.total(), pieces.lines()));
    assert_eq!(whole.total(), bytes.len() as u64);
    assert!(whole.lines().iter().map(String::len).sum::<usize>() <= 3 * Tail::KEPT);
    let text = String::from_utf8_lossy(bytes);
    let once = plain(&text);
    assert!(once.len() <= text.len() && once.lines().all(|line| line.split('\r').all(is_plain)));
    assert_eq!(plain(&once), once, "nothing is left to be taken out");
    whole
}
