//! The seeds: real encodings of every kind, made anew from the committee of the targets and from the project's own fixtures.
//!
//! `BLESS=1 cargo test --test corpus` writes them to `fuzz/corpus`. What the fuzzer found is kept beside them as `found-…`.

use super::config::PARTING;
use super::framed;
use super::journal::{OTHER_SALT, empty, script};
use super::lookout::{BOOT, NOW};
use super::world::{
    episode, heartbeat, intent, key, outcome, proof, request, roster_statement, sealed_roster, session, session_key,
    vote,
};
use prost::Message as _;
use std::path::Path;
use std::time::Duration;
use zeta_bft::config::default_up_toml;
use zeta_bft::inspect::receipts::Receipts;
use zeta_bft::journal::{compact, scan};
use zeta_bft::protocol::evidence::{FaultClass, Reason, TickEnd, TickState};
use zeta_bft::protocol::record::{CompactedHead, Forgiveness, LedgerEntry, OperatorOrder, Record};
use zeta_bft::protocol::roster::RosterStatement;
use zeta_bft::protocol::statement::{Codec, Envelope, JournalHead, Receipt};
use zeta_bft::protocol::types::{PersonaId, Rung, SessionIncarnation, SubjectName, Timestamp, WardenInstance};
use zeta_bft::wire::{Proto, encode_envelope, v1};

/// A seed: its target, its name, its bytes.
pub type Seed = (&'static str, String, Vec<u8>);

/// Every seed. `root` is the project's folder, where the fixtures are.
pub fn all(root: &Path) -> Vec<Seed> {
    let mut seeds = statements();
    seeds.extend(journals());
    seeds.extend(good_files().into_iter().map(|(name, bytes)| seed("verify", name, &[&[0], &bytes[..]].concat())));
    let records = journal_records().iter().flat_map(|(_, bytes)| framed(bytes)).collect::<Vec<_>>();
    seeds.push(seed("verify", "records", &[&[1], &records[..]].concat()));
    let mallory = RosterStatement { epoch: 2, operator: key("mallory").public(), ..roster_statement() };
    let strangers = encode_envelope(&Envelope::seal(&mallory, &key("mallory"), &Proto));
    seeds.push(seed("verify", "roster-of-another", &[&[0], &strangers[..]].concat()));
    seeds.extend(configurations(root));
    seeds.extend(vendors(root));
    seeds.extend(k3s(root));
    seeds.extend(lines());
    seeds
}

fn seed(target: &'static str, name: &str, bytes: &[u8]) -> Seed {
    (target, format!("seed-{name}"), bytes.to_vec())
}

fn receipts() -> [Receipt; 2] {
    let begin = intent(JournalHead::default(), 0, &["otto", "vera"]);
    let end = outcome(&begin, JournalHead { seq: 1, ..JournalHead::default() });
    [begin, end]
}

fn tick_state() -> TickState {
    TickState {
        begun: 3,
        running_since: None,
        broken_in_a_row: 2,
        last: Some(TickEnd {
            number: 3,
            began_at: NOW,
            duration: Duration::from_secs(2),
            exit_code: Some(1),
            signal: None,
            fault: Some(FaultClass::Environment),
            reason: Reason::Quota,
            resume_at: Some(1_767_700_000),
        }),
        last_good_at: Some(NOW),
        interval: Duration::from_secs(60),
    }
}

fn statements() -> Vec<Seed> {
    let [begin, end] = receipts();
    let mut twice = heartbeat("otto", 8, 1);
    twice.attestations.push(twice.attestations[0].clone());
    let payloads: [(u8, &str, Vec<u8>); 13] = [
        (0, "request", Proto.encode(&request("otto"))),
        (1, "session", Proto.encode(&session("otto"))),
        (2, "heartbeat", Proto.encode(&heartbeat("otto", 8, 1))),
        (2, "two-words", Proto.encode(&twice)),
        (3, "episode", Proto.encode(&episode(0))),
        (4, "vote", Proto.encode(&vote("otto", 0))),
        (5, "intent", Proto.encode(&begin)),
        (5, "outcome", Proto.encode(&end)),
        (6, "roster", Proto.encode(&roster_statement())),
        (7, "head", Proto.encode(&CompactedHead(JournalHead { seq: 7, ..JournalHead::default() }))),
        (8, "record", Proto.encode(&Record::Receipt(Envelope::seal(&end, &key("warden"), &Proto)))),
        (9, "proof", Proto.encode(&proof())),
        (10, "ticks", v1::TicksResponse::from(&tick_state()).encode_to_vec()),
    ];
    let mut seeds: Vec<Seed> =
        payloads.iter().map(|(kind, name, bytes)| seed("statement", name, &[&[*kind], &bytes[..]].concat())).collect();
    let sealed = [
        ("session", Envelope::seal(&session("otto"), &key("warden"), &Proto)),
        ("vote", Envelope::seal(&vote("otto", 0), &session_key("otto"), &Proto)),
        ("roster", sealed_roster()),
    ];
    seeds.extend(sealed.iter().map(|(name, envelope)| seed("envelope", name, &encode_envelope(envelope))));
    let alone = intent(JournalHead::default(), 0, &["otto"]);
    let with_own = intent(JournalHead::default(), 0, &["lior", "otto", "vera"]);
    for (name, receipt) in [("intent", &begin), ("outcome", &end), ("alone", &alone), ("own-vendor", &with_own)] {
        seeds.push(seed("certificate", name, &Proto.encode(receipt)));
    }
    seeds.push(seed("proof", "heartbeats", &Proto.encode(&proof())));
    let mut votes = proof();
    votes.second = Envelope::seal(&vote("otto", 0), &session_key("otto"), &Proto);
    seeds.push(seed("proof", "heartbeat-and-vote", &Proto.encode(&votes)));
    seeds
}

/// Kinds and payloads as the script of the journal's target takes them, and as the records that they make.
fn journal_records() -> Vec<(u8, Vec<u8>)> {
    let otto = PersonaId::new("otto").expect("a persona");
    let subject = || SubjectName::new("lior").ok();
    let ledger = LedgerEntry {
        subject: subject(),
        tokens: 4,
        spent_today: 1,
        day_began: Duration::ZERO,
        accumulated: Duration::from_secs(9),
        rung: Rung(0),
        tried: 1,
        cool_down: Duration::from_secs(1),
        cool_down_from: Duration::from_secs(9),
        exhausted: false,
    };
    let operator = |order| {
        let readmits = matches!(order, OperatorOrder::Readmit { .. });
        let before = SessionIncarnation::new(WardenInstance(3), 2);
        let forgiveness = readmits.then_some(Forgiveness { before, burnt: None, answered: None });
        Record::Operator { uid: 0, order, reason: "upgrade".to_owned(), wall: 1_700_000_000, forgiveness }
    };
    [
        Record::Boot { instance: WardenInstance(3), boot: BOOT, at: Timestamp::ZERO },
        Record::Roster(sealed_roster()),
        Record::Ledger(ledger),
        Record::Quarantine { persona: otto.clone(), proof: proof() },
        operator(OperatorOrder::Hold { subject: subject(), until: Some(1_800_000_000) }),
        operator(OperatorOrder::Release { subject: None }),
        operator(OperatorOrder::Readmit { persona: otto }),
    ]
    .iter()
    .map(|record| (0x80, Proto.encode(record)))
    .collect()
}

/// A journal with two repairs, and its receipts.
fn repaired(compacted: bool) -> (Vec<u8>, Vec<Envelope>) {
    let (disk, mut journal) = empty();
    let mut receipts = Vec::new();
    let write = |journal: &mut zeta_bft::journal::Journal<_>, encoded: &[u8]| {
        let head = journal.head();
        journal.append(head.seq + 1, head.hash, encoded).expect("it follows");
        journal.sync().expect("a disk that does not fail");
    };
    for (_, encoded) in journal_records() {
        write(&mut journal, &encoded);
    }
    for round in 0..2 {
        let begin = intent(journal.head(), round, &["otto", "vera"]);
        let sealed = Envelope::seal(&begin, &key("warden"), &Proto);
        write(&mut journal, &Proto.encode(&Record::Receipt(sealed.clone())));
        receipts.push(sealed);
        let sealed = Envelope::seal(&outcome(&begin, journal.head()), &key("warden"), &Proto);
        write(&mut journal, &Proto.encode(&Record::Receipt(sealed.clone())));
        receipts.push(sealed);
    }
    if compacted {
        let records = scan(&disk.bytes()).records;
        compact(&mut journal, OTHER_SALT, &records, &key("warden"), &Proto).expect("room for it");
    }
    (disk.bytes(), receipts)
}

/// Files of which `verify` says nothing but well.
pub(crate) fn good_files() -> Vec<(&'static str, Vec<u8>)> {
    let (journal, receipts) = repaired(false);
    let mut shown = Receipts::default();
    receipts.iter().for_each(|receipt| shown.insert(receipt.clone()));
    let history: String =
        shown.ended(0, u64::MAX, |_| true).map(|entry| serde_json::to_string(&entry).expect("a line") + "\n").collect();
    let head = CompactedHead(JournalHead { seq: 7, ..JournalHead::default() });
    vec![
        ("journal", journal),
        ("compacted", repaired(true).0),
        ("history", history.into_bytes()),
        ("intent", encode_envelope(&receipts[0])),
        ("outcome", encode_envelope(&receipts[1])),
        ("roster", encode_envelope(&sealed_roster())),
        ("session", encode_envelope(&Envelope::seal(&session("otto"), &key("warden"), &Proto))),
        ("head", encode_envelope(&Envelope::seal(&head, &key("warden"), &Proto))),
        ("proof", Proto.encode(&proof())),
    ]
}

fn journals() -> Vec<Seed> {
    let (whole, _) = repaired(false);
    let mut torn = whole[..whole.len() - 100].to_vec();
    torn.extend_from_slice(&[0; 64]);
    let mut damaged = whole.clone();
    damaged[200] ^= 1;
    let mut seeds: Vec<Seed> =
        [("whole", &whole), ("compacted", &repaired(true).0), ("torn", &torn), ("damaged", &damaged)]
            .iter()
            .map(|(name, bytes)| seed("journal", name, &[&[0], &bytes[..]].concat()))
            .collect();
    let [begin, end] = receipts();
    let mut records = journal_records();
    records.push((0x81, Proto.encode(&begin)));
    records.push((0x01, Proto.encode(&end)));
    seeds.push(seed("journal", "written", &script(&records, 900, 300)));
    let head = Proto.encode(&CompactedHead(JournalHead::default()));
    seeds.push(seed("journal", "written-head", &script(&[(0x82, head.clone()), (0x03, head)], 40, 20)));
    seeds
}

fn configurations(root: &Path) -> Vec<Seed> {
    let read = |path: &str| std::fs::read_to_string(root.join(path)).expect("a file of the project's");
    let up = default_up_toml(true);
    let node = read("deploy/node.toml");
    let k3s = "[subjects.k3s]\nkind = \"k3s\"\nrole = \"server\"\nwindow = \"02:00-04:00\"\n[[subjects.k3s.faults]]\nname = \"slow\"\n\
               when = { readyz = \"error\", checks_any = [\"etcd*\"], older_than = \"5m\" }\nclass = \"ENVIRONMENT\"\npage = true\n\
               says = \"It is slow.\"\n";
    let unit = "[subjects.web]\nunit = \"nginx.service\"\n[[subjects.web.ladder]]\naction = \"restart\"\n[[subjects.web.ladder]]\n\
                action = \"run\"\nargv = [\"/usr/bin/true\"]\nlimit = \"5s\"\nconsent = \"quorum+operator\"\n\
                [subjects.web.budget]\ncapacity = 2\nrefill = \"1h\"\nper_day = 3\n";
    let policy = "[policy]\nheartbeat = \"250ms\"\nact_timeout = \"10s\"\n[policy.crash]\npatience = \"0s\"\nvote_ttl = \"3s\"\n\
                  [[personas.otto.patterns]]\nregex = \"usage limit\"\nreason = \"quota\"\n[page]\ncommand = [\"/bin/true\"]\n";
    vec![
        seed("config", "up", &[&[0], up.as_bytes()].concat()),
        seed("config", "node", &[&[1], node.as_bytes()].concat()),
        seed("config", "k3s", &[&[0], up.as_bytes(), PARTING.as_bytes(), k3s.as_bytes()].concat()),
        seed("config", "unit", &[&[0], up.as_bytes(), PARTING.as_bytes(), unit.as_bytes()].concat()),
        seed("config", "policy", &[&[0], up.as_bytes(), PARTING.as_bytes(), policy.as_bytes()].concat()),
        seed("config", "misspelt", &[&[0], up.as_bytes(), PARTING.as_bytes(), b"[polcy]\nheartbeat = 3\n"].concat()),
    ]
}

/// What real CLIs printed.
fn vendors(root: &Path) -> Vec<Seed> {
    #[derive(serde::Deserialize)]
    struct Recording {
        ended: String,
        exit: Option<i32>,
        stdout: String,
        stderr: String,
    }
    let folder = root.join("tests/fixtures/vendor");
    let recordings = [
        (0, "claude-2.1.330/vendor_quota"),
        (0, "claude-2.1.330/not_logged_in"),
        (0, "claude-2.1.330/no_network"),
        (1, "gemini-0.61.0/vendor_daily_quota"),
        (1, "gemini-0.61.0/not_trusted"),
        (2, "codex-0.169.0/vendor_quota"),
        (2, "codex-0.169.0/no_network"),
    ];
    let mut seeds: Vec<Seed> = recordings
        .iter()
        .map(|(vendor, name)| {
            let text = std::fs::read_to_string(folder.join(format!("{name}.toml"))).expect("a recording");
            let Recording { ended, exit, stdout, stderr } = toml::from_str(&text).expect("a recording");
            let how = u8::from(ended == "timed_out") * 2;
            let errors = u16::try_from(stderr.len()).expect("a short one").to_le_bytes();
            let head = [*vendor, how, exit.unwrap_or(1).to_le_bytes()[0], 20, errors[0], errors[1]];
            let name = name.replace(['/', '.'], "-");
            seed("ticks", &name, &[&head, stderr.as_bytes(), stdout.as_bytes()].concat())
        })
        .collect();
    let times = "Error: usage limit reached, resets 3am (Europe/Berlin)\nretry-after: 30\ntry again in 2 hours 5 minutes\n\
                 \u{1b}[31mquota exceeded\u{1b}[0m, reset\u{8} at 1767700000\nuntil 2026-01-05T10:30:00Z; resets Oct 9 at 5pm\n";
    seeds.push(seed("ticks", "times", &[&[0, 0, 1, 20, 0, 0], times.as_bytes()].concat()));
    seeds
}

fn k3s(root: &Path) -> Vec<Seed> {
    let mut seeds = Vec::new();
    let failing = "[+]ping ok\n[-]etcd failed: reason withheld\nreadyz check failed";
    for (name, answer) in [
        ("ok", "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok".to_owned()),
        ("unwell", format!("HTTP/1.1 500 Internal Server Error\r\nContent-Length: {}\r\n\r\n{failing}", failing.len())),
        ("chunked", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n".to_owned()),
        ("cut", "HTTP/1.1 401 Unauthorized\r\nContent-Length: 200\r\n\r\n{\"kind\":\"Status\"".to_owned()),
        ("stranger", "SSH-2.0-OpenSSH_9.2\r\n".to_owned()),
        (
            "node",
            "{\"kind\":\"Node\",\"status\":{\"conditions\":[{\"type\":\"Ready\",\"status\":\"True\"}]}}".to_owned(),
        ),
    ] {
        seeds.push(seed("k3s_http", name, answer.as_bytes()));
    }
    let entry = |run: u8, message: &serde_json::Value| {
        let run = data_encoding::HEXLOWER.encode(&[run; 16]);
        let entry = serde_json::json!({
            "MESSAGE": message, "_SYSTEMD_UNIT": "k3s.service", "_SYSTEMD_INVOCATION_ID": run,
            "_PID": "7", "__MONOTONIC_TIMESTAMP": "1000000",
        });
        format!("{entry}\n")
    };
    #[derive(serde::Deserialize)]
    struct Lines {
        line: Vec<Line>,
    }
    #[derive(serde::Deserialize)]
    struct Line {
        text: String,
    }
    let text = std::fs::read_to_string(root.join("tests/fixtures/k3s/fatal-lines.toml")).expect("the lines");
    let lines: Lines = toml::from_str(&text).expect("the lines");
    for (number, Line { text }) in lines.line.iter().enumerate().step_by(9) {
        let quiet = entry(2, &"I0102 03:04:05 all is well".into());
        let journal = [&[1], quiet.as_bytes(), entry(2, &text.as_str().into()).as_bytes()].concat();
        seeds.push(seed("k3s_journal", &format!("line-{number}"), &journal));
        // A unit that failed, seen by its last words alone: ports refuse.
        let mut look = vec![0];
        for _ in 0..3 {
            look.extend_from_slice(&[5 + 12, 0, 0x20, 200, 0]);
            look.extend_from_slice(&[1; 5]);
            look.push(0);
            look.push(0x80);
            look.extend_from_slice(&framed(text.as_bytes()));
            look.push(0);
        }
        seeds.push(seed("k3s_look", &format!("line-{number}"), &look));
    }
    let secret = format!("panic: K10{}::server:hunter2 postgres://k3s:hunter2@db/k3s", "0a".repeat(32));
    seeds.push(seed("k3s_journal", "secret", &[&[0], entry(2, &secret.as_str().into()).as_bytes()].concat()));
    let bytes: serde_json::Value = b"panic: \x1b[31mred\x08\xff".as_slice().into();
    seeds.push(seed("k3s_journal", "bytes", &[&[0], entry(3, &bytes).as_bytes()].concat()));
    // One that runs for an hour, and whose readiness fails by its datastore.
    let mut look = vec![0];
    for _ in 0..4 {
        look.extend_from_slice(&[0, 0, 0x20, 0x10, 0x0e, 5, 5, 6, 0x90, 0x01]);
        look.extend_from_slice(&framed(failing.as_bytes()));
        look.extend_from_slice(&[5, 5, 0, 0, 0, 0, 0]);
    }
    seeds.push(seed("k3s_look", "unready", &look));
    seeds
}

fn lines() -> Vec<Seed> {
    let hex = |byte: u8| data_encoding::HEXLOWER.encode(&[byte; 16]);
    let published = serde_json::json!({
        "version": 1, "subject": "k3s", "boot": BOOT.to_string(), "taken_at": NOW.as_nanos(),
        "run": { "invocation": hex(2), "goes_on": true }, "journal": true,
        "files": serde_json::to_value(zeta_bft::observe::k3s::FileFacts::default()).expect("facts"),
        "fatal": { "line": "panic: once", "run": hex(2) },
    });
    let act = format!(
        "{{\"act\":{{\"subject\":\"otto\",\"boot\":\"{}\",\"invocation\":\"{}\",\"class\":\"CRASH\",\"action\":\"restart\"}}}}\n\
         {{\"read\":{{\"subject\":\"otto\"}}}}\n\"watch\"\n",
        hex(1),
        hex(2)
    );
    let unit = format!(
        "{{\"unit\":{{\"subject\":\"otto\",\"boot\":\"{}\",\"invocation\":\"{}\",\"activity\":{{\"auto_restart\":{{\"due_ns\":5,\
         \"wait_ms\":200}}}},\"main_pid\":7,\"exit\":{{\"code\":1}},\"job_pending\":false,\"stop_requested\":false,\
         \"active_since_ns\":4,\"restarts\":2}}}}\n\"stopping\"\n",
        hex(1),
        hex(2)
    );
    vec![
        seed("lookout", "published", &serde_json::to_vec(&published).expect("a text")),
        seed("pid1_line", "requests", &[&[0], act.as_bytes()].concat()),
        seed("pid1_line", "answers", &[&[1], unit.as_bytes()].concat()),
    ]
}
