//! The last line that k3s called fatal, out of its unit's journal.
//!
//! The journal is open to root and the group `systemd-journal` alone. Who may read it runs [`arguments`] and gives what comes
//! out to [`last_fatal`]. Only what journald itself says of a line (`_…` fields) decides whose it is; the line is whatever k3s
//! and its children printed, and is treated as hostile. What looks like a secret in it is masked before it is cut.
//!
//! A fatal line is a process' last word but for its stacks: what goes on for [`LAST_WORDS`] after one only quoted it. Parts of k3s
//! log what others answer them, line by line, and whoever answers may write `panic: ` in front.

use super::mask::mask;
use crate::observe::ticks::plain;
use crate::protocol::types::InvocationId;
use serde_json::Value;
use std::borrow::Cow;
use std::collections::BTreeMap;
use std::io::{self, BufRead};
use std::str::FromStr;

/// Most bytes of a fatal line that are kept.
pub const FATAL_MAX: usize = 1024;
/// Most entries that are asked for. Behind the fatal line of a Go program stand the stacks of all its goroutines: an API
/// server's are some twenty thousand lines.
const ENTRIES: &str = "40000";
/// How long after a fatal line its process may still write, in microseconds: every part of k3s ends at once after one, and the
/// stacks of an API server are written within a second or two.
const LAST_WORDS: u64 = 10_000_000;
/// An entry longer than this is passed over.
const ENTRY_MAX: usize = 64 * 1024;
/// Most bytes that are read: what is older does not count.
const READ_MAX: u64 = 32 * 1024 * 1024;

/// A line that a run ended by.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fatal {
    /// On one line, at most [`FATAL_MAX`] bytes, without secrets.
    pub line: String,
    /// The run that said it.
    pub run: InvocationId,
}

/// How `journalctl` is asked for what [`last_fatal`] reads: newest first, one JSON object a line. Not `--boot`: in a
/// container the boot's id is not the same for every process.
pub fn arguments(unit: &str) -> Vec<String> {
    let fixed = ["--reverse", "--quiet", "--no-pager", "--output=json"].map(str::to_owned);
    let fields = "--output-fields=MESSAGE,_PID,_SYSTEMD_UNIT,_SYSTEMD_INVOCATION_ID".to_owned();
    fixed.into_iter().chain([fields, format!("--lines={ENTRIES}"), format!("_SYSTEMD_UNIT={unit}")]).collect()
}

/// The newest line that `unit` itself called fatal: in its present run or, without one, in its last; and where the present run
/// said none, in the one before it. `journal` is what [`arguments`] brings. Passed over are entries that make no sense, those of
/// which journald does not say the run: they may be of one long ago, and what was no last word of its process.
///
/// # Errors
/// What the reader says.
pub fn last_fatal(journal: impl BufRead, unit: &str, present: Option<InvocationId>) -> io::Result<Option<Fatal>> {
    let mut runs: Vec<InvocationId> = present.into_iter().collect();
    let most = runs.len() + 1;
    let mut ends: BTreeMap<(InvocationId, u32), u64> = BTreeMap::new();
    let mut journal = journal.take(READ_MAX);
    let mut bytes = Vec::new();
    while let Some(whole) = next_line(&mut journal, &mut bytes)? {
        let entry = whole.then(|| serde_json::from_slice::<Entry>(&bytes).ok()).flatten();
        let Some(entry) = entry.filter(|entry| entry.unit == unit) else { continue };
        let Some(run) = entry.run.as_str().and_then(invocation) else { continue };
        if !runs.contains(&run) {
            if runs.len() == most {
                return Ok(None);
            }
            runs.push(run);
        }
        let (Some(process), Some(at)) = (number(&entry.process), number(&entry.at)) else { continue };
        // The newest comes first.
        let end = *ends.entry((run, process)).or_insert(at);
        if end.saturating_sub(at) > LAST_WORDS {
            continue;
        }
        let Some(message) = text(&entry.message) else { continue };
        // Its first line as it stands: what follows, or is indented, may be the text of somebody else's error.
        let message = plain(&message);
        let line = message.split(['\n', '\r']).next().unwrap_or_default().trim_end();
        if is_fatal(line) {
            let mut line = mask(line).into_owned();
            line.truncate(line.floor_char_boundary(FATAL_MAX));
            return Ok(Some(Fatal { line, run }));
        }
    }
    Ok(None)
}

/// A run as journald and PID 1 write it: 32 hexadecimal digits.
pub(crate) fn invocation(text: &str) -> Option<InvocationId> {
    InvocationId::from_slice(&data_encoding::HEXLOWER.decode(text.as_bytes()).ok()?)
}

#[derive(serde::Deserialize)]
struct Entry {
    #[serde(rename = "MESSAGE", default)]
    message: Value,
    #[serde(rename = "_SYSTEMD_UNIT", default)]
    unit: Value,
    #[serde(rename = "_SYSTEMD_INVOCATION_ID", default)]
    run: Value,
    #[serde(rename = "_PID", default)]
    process: Value,
    /// Microseconds since its boot.
    #[serde(rename = "__MONOTONIC_TIMESTAMP", default)]
    at: Value,
}

/// A number as journald writes it.
fn number<T: FromStr>(value: &Value) -> Option<T> {
    value.as_str()?.parse().ok()
}

/// Text that is no UTF-8 or has control characters comes as a list of bytes; one that is too long as `null`.
fn text(message: &Value) -> Option<Cow<'_, str>> {
    match message {
        Value::String(text) => Some(text.into()),
        Value::Array(bytes) => {
            let bytes: Option<Vec<u8>> = bytes.iter().map(|b| b.as_u64().and_then(|b| u8::try_from(b).ok())).collect();
            Some(String::from_utf8_lossy(&bytes?).into_owned().into())
        }
        _ => None,
    }
}

/// The next line into `line`; whether it is whole, `None` at the end.
fn next_line(reader: &mut impl BufRead, line: &mut Vec<u8>) -> io::Result<Option<bool>> {
    line.clear();
    let mut seen = 0;
    loop {
        let read = reader.fill_buf()?;
        if read.is_empty() {
            return Ok((seen > 0).then_some(seen <= ENTRY_MAX));
        }
        let (part, ends) = match read.iter().position(|byte| *byte == b'\n') {
            Some(end) => (&read[..=end], true),
            None => (read, false),
        };
        let used = part.len();
        line.extend_from_slice(&part[..used.min(ENTRY_MAX.saturating_sub(line.len()))]);
        seen += used;
        reader.consume(used);
        if ends {
            return Ok(Some(seen <= ENTRY_MAX));
        }
    }
}

/// Whether the program itself calls a line fatal: logrus (k3s), klog and cobra (the parts of Kubernetes), zap (etcd), Go's
/// runtime.
pub fn is_fatal(line: &str) -> bool {
    let logrus = || {
        // As for a terminal.
        if line.starts_with("FATA[") || line.starts_with("PANI[") {
            return true;
        }
        let head = line.split(" msg=").next().unwrap_or_default();
        line.starts_with("time=") && head.split_ascii_whitespace().any(|w| matches!(w, "level=fatal" | "level=panic"))
    };
    let klog = || {
        let line = line.as_bytes();
        line.len() > 5 && line[0] == b'F' && line[1..5].iter().all(u8::is_ascii_digit) && line[5] == b' '
    };
    let zap = || {
        let head = &line[..line.floor_char_boundary(64)];
        line.starts_with('{') && [r#""level":"fatal""#, r#""level":"panic""#].iter().any(|level| head.contains(level))
    };
    let go = || line.starts_with("panic: ") || line.starts_with("fatal error: ");
    // The last line of a command that cannot go on.
    let cobra = || line.starts_with("Error: ");
    logrus() || klog() || zap() || go() || cobra()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const NOW: InvocationId = InvocationId([1; 16]);
    const BEFORE: InvocationId = InvocationId([2; 16]);
    const TAKEN: &str = r#"time="2026-01-02T03:04:05Z" level=fatal msg="starting kubernetes: listen tcp :6443: bind: address already in use""#;

    fn entry(unit: &str, run: InvocationId, message: &Value) -> String {
        said_at(1_000_000, 7, unit, run, message)
    }

    fn said_at(at: u64, process: u32, unit: &str, run: InvocationId, message: &Value) -> String {
        let entry = serde_json::json!({
            "__CURSOR": "s=1", "__MONOTONIC_TIMESTAMP": at.to_string(), "_PID": process.to_string(),
            "MESSAGE": message, "_SYSTEMD_UNIT": unit, "_SYSTEMD_INVOCATION_ID": run.to_string(),
        });
        format!("{entry}\n")
    }

    fn read(journal: &str) -> Option<String> {
        last_fatal(journal.as_bytes(), "k3s.service", Some(NOW)).unwrap().map(|fatal| fatal.line)
    }

    #[test]
    fn the_newest_fatal_line_of_this_run_or_the_one_before_is_found() {
        let info = entry("k3s.service", NOW, &r#"time="x" level=info msg="said level=fatal once""#.into());
        let newest = entry("k3s.service", BEFORE, &TAKEN.into());
        let older = entry("k3s.service", BEFORE, &"panic: older".into());
        assert_eq!(read(&format!("{info}{newest}{older}")).as_deref(), Some(TAKEN));
        let found = last_fatal(newest.as_bytes(), "k3s.service", Some(NOW)).unwrap().unwrap();
        assert_eq!(found.run, BEFORE, "and whose it is");
    }

    #[test]
    fn of_a_unit_that_ended_only_the_last_run_is_searched() {
        let cured = entry("k3s.service", BEFORE, &TAKEN.into());
        let silent = entry("k3s.service", NOW, &"going on".into());
        let found = |journal: &str| last_fatal(journal.as_bytes(), "k3s.service", None).unwrap().map(|fatal| fatal.run);
        assert_eq!(found(&format!("{silent}{cured}")), None, "it is of the run before");
        assert_eq!(found(&cured), Some(BEFORE));
    }

    #[test]
    fn a_line_whose_run_nobody_knows_is_nobodys() {
        let unknown = serde_json::json!({ "MESSAGE": TAKEN, "_SYSTEMD_UNIT": "k3s.service" }).to_string() + "\n";
        assert_eq!(read(&unknown), None);
        let known = entry("k3s.service", NOW, &"panic: no".into());
        assert_eq!(read(&format!("{unknown}{known}")).as_deref(), Some("panic: no"));
    }

    #[test]
    fn what_a_process_said_long_before_its_end_is_not_its_last_word() {
        let said = |at, process, message: &str| said_at(at, process, "k3s.service", NOW, &message.into());
        // As an API server logs what somebody else answered it, and goes on.
        let quoted = said(50_000_000, 7, "panic: freepages: failed to get all reachable pages");
        let goes_on = said(60_000_001, 7, "still here");
        assert_eq!(read(&format!("{goes_on}{quoted}")), None);
        assert!(read(&quoted).is_some(), "as long as nothing follows");
        let stacks = said(60_000_000, 7, "goroutine 1 [select]:");
        assert!(read(&format!("{stacks}{quoted}")).is_some(), "its stacks follow");
        // A container's shim outlives it.
        let shim = said(90_000_000, 8, "level=info msg=reaped");
        assert!(read(&format!("{shim}{quoted}")).is_some(), "another process goes on");
        let earlier = said(10_000_000, 7, "panic: earlier");
        let last = said(60_000_000, 7, "Error: the end");
        assert_eq!(read(&format!("{last}{earlier}")).as_deref(), Some("Error: the end"));
    }

    #[test]
    fn lines_of_other_units_other_runs_and_other_levels_do_not_count() {
        let elsewhere = entry("evil.service", NOW, &TAKEN.into());
        let before = entry("k3s.service", BEFORE, &"going on".into());
        let long_ago = entry("k3s.service", InvocationId([3; 16]), &TAKEN.into());
        let quoted = entry("k3s.service", NOW, &r#"time="x" level=error msg="child: level=fatal msg=no""#.into());
        assert_eq!(read(&format!("{elsewhere}{quoted}not json\n{{\n{before}{long_ago}")), None);
        let unknown = last_fatal(long_ago.as_bytes(), "k3s.service", None).unwrap();
        assert!(unknown.is_some(), "the newest runs, if PID 1 names none");
    }

    #[test]
    fn fatal_is_what_each_of_k3s_parts_calls_so() {
        for fatal in [
            TAKEN,
            "F0102 03:04:05.678901   1234 server.go:99] cannot go on",
            "FATA[0004] Failed to reconcile with temporary etcd: walpb: crc mismatch",
            "Error: failed to create listener: listen tcp 127.0.0.1:6443: bind: address already in use",
            r#"{"level":"panic","ts":"2026-01-02T03:04:05Z","msg":"wal: crc mismatch"}"#,
            "panic: runtime error: invalid memory address",
            "fatal error: all goroutines are asleep - deadlock!",
        ] {
            assert!(is_fatal(fatal), "{fatal}");
        }
        for not in
            ["", "Failed to start", "F0102", "E0102 03:04:05 x", r#"{"level":"warn","msg":"a \"level\":\"fatal\""}"#]
        {
            assert!(!is_fatal(not), "{not}");
        }
    }

    #[test]
    fn what_is_indented_or_follows_a_first_line_is_not_k3s_own_word() {
        for quoted in [
            "\tError: file is not a database",
            " panic: wal: crc mismatch",
            "E0102 03:04:05.678901   1234 x.go:9] \"Failed\" err=<\n\tError: file is not a database\n >",
            "\nError: file is not a database",
            "\u{1b}[0m Error: file is not a database",
        ] {
            assert_eq!(read(&entry("k3s.service", NOW, &quoted.into())), None, "{quoted:?}");
        }
        let more = entry("k3s.service", NOW, &"panic: no\nfile is not a database".into());
        assert_eq!(read(&more).as_deref(), Some("panic: no"));
    }

    #[test]
    fn a_hostile_message_is_made_plain_and_short() {
        let bytes: Vec<u8> = [b"panic: \x1b[31mred\x1b[0m \xff".as_slice(), &[b'x'; 5000]].concat();
        let listed = entry("k3s.service", NOW, &bytes.into());
        let read = read(&listed).unwrap();
        assert!(read.starts_with("panic: red \u{fffd}xxx"), "{read}");
        assert!(read.len() <= FATAL_MAX);
    }

    #[test]
    fn a_secret_is_masked_even_where_the_line_is_cut() {
        for before in [0, FATAL_MAX - 70, FATAL_MAX - 10] {
            let token = format!("K10{}::server:hunter2hunter2", "0a".repeat(32));
            let line = format!("panic: {} {token} postgres://k3s:hunter2@db/k3s", "x".repeat(before));
            let read = read(&entry("k3s.service", NOW, &line.into())).unwrap();
            assert!(!read.contains("hunter2") && !read.contains("0a0a"), "{read}");
        }
    }

    #[test]
    fn the_stacks_of_all_goroutines_hide_no_fatal_line() {
        let stack = entry("k3s.service", BEFORE, &"goroutine 1 [select]:".into());
        let journal = format!("{}{}", stack.repeat(20_000), entry("k3s.service", BEFORE, &"panic: no".into()));
        assert_eq!(read(&journal).as_deref(), Some("panic: no"));
    }

    #[test]
    fn an_entry_too_long_hides_none_after_it() {
        let long = entry("k3s.service", NOW, &format!("panic: {}", "x".repeat(ENTRY_MAX)).into());
        let journal = format!("{long}{}", entry("k3s.service", NOW, &"panic: short".into()));
        assert_eq!(read(&journal).as_deref(), Some("panic: short"));
    }

    #[test]
    fn the_question_names_the_unit_as_journald_knows_it() {
        assert_eq!(arguments("k3s.service").last().unwrap(), "_SYSTEMD_UNIT=k3s.service");
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_to_their_end(bytes in proptest::collection::vec(any::<u8>(), 0..2048)) {
            let _ = last_fatal(bytes.as_slice(), "k3s.service", None).unwrap();
        }

        #[test]
        fn any_message_is_judged_without_a_panic(message in ".*") {
            let listed = entry("k3s.service", NOW, &message.as_str().into());
            let read = read(&listed);
            prop_assert!(read.is_none_or(|read| read.len() <= FATAL_MAX && is_fatal(&read)));
        }
    }
}
