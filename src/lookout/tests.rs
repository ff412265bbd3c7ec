//! What is seen and published, with a journal that says what the test wants.

use super::*;
use crate::config::paths::Paths;
use crate::config::{default_up_toml, parse};
use crate::observe::k3s::Role;
use crate::observe::k3s::lookout::Lookout;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::sync::mpsc;

const RUN: InvocationId = InvocationId([1; 16]);
/// Long enough for what does not hang.
const PATIENT: Duration = Duration::from_secs(30);
const SHORT: Duration = Duration::from_millis(100);

fn me() -> u32 {
    rustix::process::getuid().as_raw()
}

struct Stand {
    dir: tempfile::TempDir,
    watched: Watched,
}

impl Stand {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let mut settings = K3sSettings::new(Role::Server);
        settings.agent_folder = dir.path().join("agent");
        settings.mounts = vec![dir.path().to_owned()];
        std::fs::create_dir(&settings.agent_folder).unwrap();
        let place = dir.path().join("k3s.json");
        let subject = SubjectName::new("k3s").unwrap();
        Self { dir, watched: Watched { subject, unit: "k3s.service".to_owned(), settings, place } }
    }

    fn watch<F: Look>(&self, files: F, journal: PathBuf, limit: Duration) -> Watch<F> {
        let watch = Watch::new(self.watched.clone(), clock::boot_id().unwrap(), files, Journal::of(journal));
        Watch { limit, ..watch }
    }

    fn files(&self) -> Files {
        Files::new(&self.watched.settings)
    }

    /// A program that stands where `journalctl` does.
    fn journalctl(&self, lines: &str) -> PathBuf {
        let path = self.dir.path().join("journalctl");
        let write = |path: &Path| {
            std::fs::write(path, format!("#!/bin/sh\n{lines}\n"))?;
            std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o755))
        };
        // Renamed into place: nobody has it open for writing when it is run.
        let new = self.dir.path().join("new");
        write(&new).and_then(|()| std::fs::rename(&new, &path)).unwrap();
        path
    }

    fn said(&self, line: &str) -> PathBuf {
        let entry = entry(line);
        self.journalctl(&format!("cat <<'END'\n{entry}\nEND"))
    }

    fn read(&self) -> RootFacts {
        let lookout = Lookout::new(self.watched.place.clone(), self.watched.subject.clone()).of_user(me());
        lookout.believed(clock::now()).unwrap()
    }
}

/// Looks that come back when they are told to.
struct Hanging(mpsc::Receiver<()>);

impl Look for Hanging {
    fn look(&mut self) -> FileFacts {
        let _ = self.0.recv();
        FileFacts { empty_files: vec!["late.key".into()], ..FileFacts::default() }
    }
}

/// An entry of k3s' journal, as `journalctl` prints it.
fn entry(line: &str) -> serde_json::Value {
    serde_json::json!({
        "MESSAGE": line, "_SYSTEMD_UNIT": "k3s.service", "_SYSTEMD_INVOCATION_ID": RUN.to_string(),
        "_PID": "7", "__MONOTONIC_TIMESTAMP": "1000000",
    })
}

#[tokio::test]
async fn what_root_sees_is_published_without_the_secrets_in_it() {
    let stand = Stand::new();
    let key = stand.watched.settings.agent_folder.join("client-kubelet.key");
    std::fs::write(&key, "").unwrap();
    let token = format!("K10{}::server:hunter2", "ab".repeat(32));
    let journal = stand.said(&format!("time=\"x\" level=fatal msg=\"token {token} refused\""));
    let mut watch = stand.watch(stand.files(), journal, PATIENT);
    watch.glance(Some(RUN)).await;
    let first = stand.read();
    assert_eq!((first.files.mounts.len(), first.files.empty_files.len()), (1, 0), "empty once may be in writing");
    assert_eq!(first.run, Some(SeenRun { invocation: RUN, goes_on: true }));
    let fatal = first.fatal.unwrap();
    assert_eq!((fatal.line.as_str(), fatal.run), ("time=\"x\" level=fatal msg=\"token [masked] refused\"", RUN));
    let text = std::fs::read_to_string(&stand.watched.place).unwrap();
    assert!(!text.contains("hunter2") && !text.contains("abab"), "{text}");

    // The next look, of which the run has ended.
    watch.turns = Turns::default();
    watch.glance(None).await;
    let second = stand.read();
    assert_eq!(second.files.empty_files, [key]);
    assert_eq!(second.run, Some(SeenRun { invocation: RUN, goes_on: false }));
    assert!(second.files.unseen.is_empty(), "{:?}", second.files.unseen);
}

#[tokio::test]
async fn a_disk_that_hangs_is_unseen_and_stops_neither_the_journal_nor_the_next_look() {
    let stand = Stand::new();
    let (end, ended) = mpsc::channel();
    let mut watch = stand.watch(Hanging(ended), stand.said("panic: no"), PATIENT);
    watch.limit = SHORT;
    for _ in 0..2 {
        watch.turns = Turns::default();
        watch.glance(Some(RUN)).await;
        let read = stand.read();
        assert!(read.files.unseen[0].starts_with("no file answers within"), "{:?}", read.files.unseen);
        assert!(read.files.empty_files.is_empty());
    }
    drop(end);
    watch.limit = PATIENT;
    watch.turns = Turns::default();
    watch.glance(Some(RUN)).await;
    assert_eq!(stand.read().files.empty_files, [Path::new("late.key")]);
    assert_eq!(stand.read().fatal.map(|fatal| fatal.line).as_deref(), Some("panic: no"));
}

#[tokio::test]
async fn a_journal_that_hangs_fails_or_is_missing_is_unseen_and_hides_no_file() {
    let stand = Stand::new();
    let hangs = stand.journalctl("exec sleep 1000");
    let fails = "exit 3";
    let mut watch = stand.watch(stand.files(), hangs, PATIENT);
    watch.limit = SHORT;
    watch.glance(Some(RUN)).await;
    let unseen = |why: &str| {
        let read = stand.read();
        assert_eq!((read.fatal, read.run, read.journal, read.files.mounts.len()), (None, None, false, 1));
        assert!(read.files.unseen.iter().any(|line| line.contains(why)), "{:?}", read.files.unseen);
    };
    unseen("the journal of k3s.service: journalctl did not end within 100ms");

    watch.limit = PATIENT;
    watch.journal = Journal::of(stand.journalctl(fails));
    watch.turns = Turns::default();
    watch.glance(Some(RUN)).await;
    unseen("journalctl ended with exit status: 3");
    watch.journal = Journal::of("/nowhere/at/all".into());
    watch.turns = Turns::default();
    watch.glance(Some(RUN)).await;
    unseen("journalctl: No such file");
    watch.journal = Journal::of(stand.said("panic: no"));
    watch.turns = Turns::default();
    watch.glance(Some(RUN)).await;
    let read = stand.read();
    assert!(read.fatal.is_some() && read.journal && read.files.unseen.is_empty());
}

#[tokio::test]
async fn what_still_waits_for_journald_is_taken_in_before_the_journal_is_asked() {
    let stand = Stand::new();
    let taken = stand.dir.path().join("taken-in").display().to_string();
    let said = std::fs::read_to_string(stand.said("panic: no")).unwrap();
    let late = format!("[ \"$1\" = --sync ] && exec touch {taken}\ntest -e {taken} || exit 0\n{said}");
    let mut journal = Journal::of(stand.journalctl(&late));
    let found = journal.last_fatal("k3s.service", Some(RUN), PATIENT).await.unwrap();
    assert_eq!(found.map(|fatal| fatal.line).as_deref(), Some("panic: no"));
}

#[tokio::test]
async fn a_journal_of_more_than_two_runs_is_not_read_to_its_end_and_is_seen_all_the_same() {
    let stand = Stand::new();
    let entry = |run: u8| {
        serde_json::json!({
            "MESSAGE": "well", "_SYSTEMD_UNIT": "k3s.service", "_SYSTEMD_INVOCATION_ID": InvocationId([run; 16]).to_string(),
        })
    };
    let runs = format!("cat <<'END'\n{}\n{}\n{}\nEND\nexec yes", entry(3), entry(2), entry(1));
    let mut journal = Journal::of(stand.journalctl(&format!("[ \"$1\" = --sync ] && exit\n{runs}")));
    assert_eq!(journal.last_fatal("k3s.service", Some(InvocationId([3; 16])), PATIENT).await, Ok(None));
}

#[tokio::test]
async fn a_journal_that_was_killed_is_asked_anew_and_never_twice_at_once() {
    let stand = Stand::new();
    let mut journal = Journal::of(stand.journalctl("exec sleep 1000"));
    journal.last_fatal("k3s.service", None, SHORT).await.unwrap_err();
    stand.said("panic: no");
    // Until the process that was killed is gone, nobody is asked.
    let deadline = clock::deadline(PATIENT);
    let answer = loop {
        match journal.last_fatal("k3s.service", None, PATIENT).await {
            Err(why) if !clock::is_past(deadline) => assert!(why.contains("was killed"), "{why}"),
            answer => break answer,
        }
        tokio::task::yield_now().await;
    };
    assert_eq!(answer.unwrap().unwrap().line, "panic: no");
}

#[tokio::test]
async fn a_journal_without_end_is_read_no_further_than_its_line() {
    let stand = Stand::new();
    let mut journal = Journal::of(stand.journalctl(&format!("while :; do echo '{}'; done", entry("panic: no"))));
    assert!(journal.last_fatal("k3s.service", None, PATIENT).await.unwrap().is_some());
}

#[test]
fn every_k3s_of_the_configuration_is_watched_and_nothing_else() {
    let paths = Paths::below(Path::new("/tmp/x"));
    let of = |more: &str| watched(&parse(&(default_up_toml(false) + more), "node.toml", &paths).unwrap());
    assert!(of("").is_empty());
    let found = of("[subjects.k3s]\nkind = \"k3s\"\nrole = \"agent\"\nmounts = [\"/srv\"]\n");
    let [one] = &found[..] else { panic!("{found:?}") };
    assert_eq!((one.subject.as_str(), one.unit.as_str()), ("k3s", "k3s-agent.service"));
    assert_eq!((one.settings.role, &one.settings.mounts[..]), (Role::Agent, &["/srv".into()][..]));
    assert_eq!(one.place, Path::new("/tmp/x/run/lookout/k3s.json"));
}

#[test]
fn a_unit_that_pid_1_does_not_know_has_no_run() {
    assert_eq!(present_run("no-such-unit-as-this.service"), None);
}
