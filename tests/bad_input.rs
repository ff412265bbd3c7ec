//! Bad input gets a clear error and loses nothing: what the built program says to configurations, keys, rosters, journals,
//! ports and sockets that are wrong or taken, and that nothing is changed or half-done by it.

use rustix::process::{Pid, Signal};
use std::collections::BTreeMap;
use std::io::{BufRead as _, Read as _, Seek as _, SeekFrom, Write as _};
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::{Condvar, Mutex};
use std::time::Duration;
use zeta_bft::clock;
use zeta_bft::config::paths::Paths;
use zeta_bft::config::roster;
use zeta_bft::keys;
use zeta_bft::protocol::roster::RosterStatement;
use zeta_bft::protocol::statement::{Codec, Envelope};
use zeta_bft::protocol::types::{PersonaId, PublicKey};
use zeta_bft::wire::{Proto, encode_envelope};

const LIMIT: Duration = Duration::from_secs(30);
const PAUSE: Duration = Duration::from_millis(20);

const NODE: &str = r#"cluster = "test"
node = "test"
mode = "act"
f = 1
q = 2

[personas.otto]
vendor = "anthropic"
command = ["echo", "done"]

[personas.lior]
vendor = "google-gemini"
command = ["echo", "done"]

[personas.vera]
vendor = "openai"
command = ["echo", "done"]

[metrics]
warden = "127.0.0.1:0"
agents = "127.0.0.1:0"
wrappers = "127.0.0.1:0"
"#;

struct Folder {
    dir: tempfile::TempDir,
    paths: Paths,
}

impl Folder {
    /// With a configuration alone.
    fn configured(node_toml: &str) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let paths = Paths::below(dir.path());
        std::fs::create_dir_all(paths.config()).unwrap();
        std::fs::write(paths.node_toml(), node_toml).unwrap();
        Self { dir, paths }
    }

    /// Set up.
    fn ready() -> Self {
        let folder = Self::configured(NODE);
        let output = folder.run(&["init"]);
        assert!(output.status.success(), "{}", text(&output));
        folder
    }

    fn change_config(&self, from: &str, to: &str) {
        let before = std::fs::read_to_string(self.paths.node_toml()).unwrap();
        assert!(before.contains(from), "{before}");
        std::fs::write(self.paths.node_toml(), before.replacen(from, to, 1)).unwrap();
    }

    fn command(&self, words: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_zeta-bft"));
        command.arg("--dir").arg(self.dir.path()).args(words).stdin(Stdio::null());
        command.env_remove("ZETA_BFT_DIR").env_remove("NOTIFY_SOCKET").env("RUST_LOG", "warn");
        command
    }

    fn run(&self, words: &[&str]) -> Output {
        self.command(words).output().unwrap()
    }

    /// Runs something that must be refused, without a change to any file that lasts; what it says to people.
    fn refused(&self, words: &[&str]) -> String {
        let before = self.files();
        let output = self.run(words);
        let said = text(&output);
        assert_eq!(output.status.code(), Some(1), "{words:?}: {said}");
        assert!(!said.contains("panicked"), "{said}");
        assert!(said.contains("error: "), "{said}");
        assert_eq!(self.files(), before, "{words:?} changed files");
        said
    }

    /// Configuration, keys, roster, journal: everything that lasts.
    fn files(&self) -> BTreeMap<PathBuf, Vec<u8>> {
        let mut found = BTreeMap::new();
        let mut folders = vec![self.paths.config().to_owned(), self.paths.state().to_owned()];
        while let Some(folder) = folders.pop() {
            for entry in std::fs::read_dir(folder).into_iter().flatten() {
                let path = entry.unwrap().path();
                if path.is_dir() {
                    folders.push(path);
                } else if path.extension().is_none_or(|kind| kind != "lock") {
                    found.insert(path.clone(), std::fs::read(&path).unwrap());
                }
            }
        }
        found
    }

    fn up(&self) -> Up {
        let turn = Turn::take();
        let mut child = self.command(&["up"]).stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
        let lines = std::io::BufReader::new(child.stdout.take().expect("it was asked for")).lines();
        Up { child, lines, _turn: turn }
    }

    /// The warden's view, when it answers.
    fn quorum(&self) -> Option<(Option<i32>, serde_json::Value)> {
        let output = self.run(&["quorum", "--json"]);
        let view = serde_json::from_slice(&output.stdout).ok()?;
        Some((output.status.code(), view))
    }

    /// Writes a roster of its own, signed by the operator: `change` is what an honest one never has.
    fn sign_roster(&self, change: impl FnOnce(&mut RosterStatement)) {
        let key = keys::load(&self.paths.operator_key()).unwrap();
        let envelope = roster::read(&self.paths.roster()).unwrap();
        let mut statement = Codec::<RosterStatement>::decode(&Proto, &envelope.payload).unwrap();
        change(&mut statement);
        let signed = Envelope::seal(&statement, &key, &Proto);
        std::fs::write(self.paths.roster(), encode_envelope(&signed)).unwrap();
    }
}

fn text(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr)
}

/// Committees at once: at most two.
struct Turn;

static TURNS: (Mutex<usize>, Condvar) = (Mutex::new(2), Condvar::new());

impl Turn {
    fn take() -> Self {
        let left = TURNS.0.lock().unwrap();
        *TURNS.1.wait_while(left, |left| *left == 0).unwrap() -= 1;
        Self
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        *TURNS.0.lock().unwrap() += 1;
        TURNS.1.notify_one();
    }
}

/// A committee; ends with the test.
struct Up {
    child: Child,
    lines: std::io::Lines<std::io::BufReader<std::process::ChildStdout>>,
    _turn: Turn,
}

impl Up {
    fn until_ready(&mut self) -> String {
        let ready = |line: &String| line.starts_with("ready:");
        self.lines.by_ref().map_while(Result::ok).find(ready).expect("it says that it is ready")
    }

    fn stop(&mut self) {
        send(self.child.id(), Signal::TERM);
        until("it stops", || matches!(self.child.try_wait(), Ok(Some(_))));
    }
}

impl Drop for Up {
    fn drop(&mut self) {
        if matches!(self.child.try_wait(), Ok(None)) {
            send(self.child.id(), Signal::TERM);
            let end = clock::now() + LIMIT;
            while clock::now() < end && matches!(self.child.try_wait(), Ok(None)) {
                std::thread::sleep(PAUSE);
            }
        }
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn send(pid: u32, signal: Signal) {
    let _ = rustix::process::kill_process(Pid::from_raw(i32::try_from(pid).unwrap()).unwrap(), signal);
}

fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let end = clock::now() + LIMIT;
    while !holds() {
        assert!(clock::now() < end, "it never came to this: {what}");
        std::thread::sleep(PAUSE);
    }
}

#[track_caller]
fn says(said: &str, parts: &[&str]) {
    for part in parts {
        assert!(said.contains(part), "`{part}` is missing in:\n{said}");
    }
}

// ---- configuration ----

#[test]
fn a_typo_is_shown_with_line_caret_and_the_nearest_name() {
    let folder = Folder::ready();
    folder.change_config("vendor = \"openai\"", "vendr = \"openai\"");
    for words in [&["check-config"][..], &["up"], &["warden"], &["agent", "--persona", "otto"]] {
        let said = folder.refused(words);
        says(
            &said,
            &["node.toml:16:1: unknown field `vendr`\n  16 | vendr = \"openai\"\n     | ^^^^^ did you mean `vendor`?"],
        );
    }
}

#[test]
fn more_failures_than_the_vendors_can_bear_are_refused_with_how_many_it_would_take() {
    let folder = Folder::configured(&NODE.replace("f = 1\nq = 2", "f = 2\nq = 3"));
    for words in [["check-config"], ["init"], ["up"]] {
        let said = folder.refused(&words);
        says(&said, &["node.toml:4:5: f = 2 needs at least 5 distinct vendors, but there are 3", "4 | f = 2"]);
    }
    assert!(!folder.paths.roster().exists() && !folder.paths.journal().exists() && !folder.paths.keys().exists());
}

#[test]
fn a_persona_that_nobody_configured_is_named_with_those_that_are() {
    let folder = Folder::ready();
    says(&folder.refused(&["wrap", "--persona", "oto"]), &["persona `oto` is not configured", "lior, otto, vera"]);
    says(&folder.refused(&["agent", "--persona", "oto"]), &["oto"]);
}

#[test]
fn a_folder_too_deep_for_a_socket_is_refused_with_what_to_do() {
    let folder = Folder::ready();
    let deep = folder.dir.path().join("x".repeat(100));
    let mut command = Command::new(env!("CARGO_BIN_EXE_zeta-bft"));
    let output = command.arg("--dir").arg(&deep).arg("up").env_remove("ZETA_BFT_DIR").output().unwrap();
    let said = text(&output);
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(!deep.exists(), "nothing was made there");
    says(&said, &["error: the socket ", "more than the kernel takes", "hint: choose a shorter --dir"]);
}

// ---- keys and roster ----

#[test]
fn two_personas_with_one_key_are_refused_by_name() {
    let folder = Folder::configured(NODE);
    std::fs::create_dir_all(folder.paths.keys()).unwrap();
    let file = folder.paths.persona_key(&PersonaId::new("otto").unwrap());
    assert!(folder.run(&["keygen", file.to_str().unwrap()]).status.success());
    std::fs::copy(&file, folder.paths.persona_key(&PersonaId::new("lior").unwrap())).unwrap();
    let output = folder.run(&["init"]);
    let said = text(&output);
    assert_eq!(output.status.code(), Some(1), "{said}");
    says(&said, &["error: the roster breaks a rule: lior and otto have one and the same key: each needs its own"]);
    assert!(!said.contains("because:"), "it says so once: {said}");
    assert!(!folder.paths.roster().exists(), "nothing was signed");

    // One that was signed all the same is refused by everybody who reads it.
    let folder = Folder::ready();
    folder.sign_roster(|roster| roster.members[0].key = roster.members[1].key);
    for words in [["check-config"], ["up"], ["warden"]] {
        says(&folder.refused(&words), &["have one and the same key"]);
    }
}

#[test]
fn a_weak_key_in_a_roster_is_refused_by_name() {
    let folder = Folder::ready();
    // The neutral element: every signature under it can be forged.
    let weak = PublicKey(std::array::from_fn(|at| u8::from(at == 0)));
    folder.sign_roster(|roster| roster.members[0].key = weak);
    for words in [["check-config"], ["up"], ["warden"]] {
        says(&folder.refused(&words), &["error: the roster breaks a rule: ", "lior", "weak"]);
    }
}

#[test]
fn a_key_file_that_others_can_read_is_refused_with_its_mode_and_the_remedy() {
    let folder = Folder::ready();
    let file = folder.paths.persona_key(&PersonaId::new("lior").unwrap());
    std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o644)).unwrap();
    let wanted = format!("others can read the key file {0} (mode 0644): run `chmod 600 {0}`", file.display());
    for words in [&["check-config"][..], &["up"], &["agent", "--persona", "lior"]] {
        let said = folder.refused(words);
        says(&said, &[&format!("error: {wanted}")]);
        assert!(!said.contains("ended with exit status"), "nothing was started for it: {said}");
    }
}

#[test]
fn a_persona_without_a_place_in_the_roster_is_refused_by_name() {
    let folder = Folder::ready();
    folder.change_config(
        "[metrics]",
        "[personas.alexa]\nvendor = \"alibaba-qwen\"\ncommand = [\"echo\", \"done\"]\n\n[metrics]",
    );
    for words in [["check-config"], ["up"], ["warden"]] {
        says(
            &folder.refused(&words),
            &["persona alexa of node.toml is missing in the roster: sign a new roster with it"],
        );
    }
}

#[test]
fn a_roster_that_is_none_or_was_changed_is_refused() {
    let folder = Folder::ready();
    let good = std::fs::read(folder.paths.roster()).unwrap();
    std::fs::write(folder.paths.roster(), "members = [\"otto\"]\n").unwrap();
    for words in [["check-config"], ["up"], ["warden"]] {
        says(&folder.refused(&words), &["etc/roster is no roster: not a well-formed message"]);
    }
    let at = good.windows(6).position(|bytes| bytes == b"openai").unwrap();
    let mut changed = good;
    changed[at] ^= 1;
    std::fs::write(folder.paths.roster(), changed).unwrap();
    for words in [["check-config"], ["up"], ["warden"]] {
        says(&folder.refused(&words), &["the roster was changed after it was signed"]);
    }
}

// ---- journal ----

#[test]
fn a_lost_journal_is_not_replaced_by_an_empty_one() {
    let folder = Folder::ready();
    std::fs::remove_file(folder.paths.journal()).unwrap();
    for words in [["up"], ["warden"]] {
        let said = folder.refused(&words);
        says(&said, &["error: there is no journal at ", "state/warden/warden.journal", "restore it"]);
    }
    assert!(!folder.paths.journal().exists());
}

#[test]
fn a_damaged_journal_holds_everything_says_what_to_do_and_is_not_touched() {
    let folder = Folder::ready();
    for _ in 0..2 {
        let mut up = folder.up();
        up.until_ready();
        up.stop();
    }
    let mut file = std::fs::OpenOptions::new().write(true).open(folder.paths.journal()).unwrap();
    // Into the first record: valid ones follow it.
    file.seek(SeekFrom::Start(64)).unwrap();
    file.write_all(&[0xff; 4]).unwrap();
    drop(file);
    let damaged = std::fs::read(folder.paths.journal()).unwrap();

    let mut up = folder.up();
    let otto = |view: &serde_json::Value| {
        let subjects = view["subjects"].as_array().unwrap();
        subjects.iter().find(|subject| subject["name"] == "otto").unwrap().clone()
    };
    let held = |view: &serde_json::Value| {
        let subjects = view["subjects"].as_array().unwrap();
        view["verified"] == true && subjects.iter().all(|subject| subject["held_by"] == "journal")
    };
    until("all is held, and otto runs", || {
        folder.quorum().is_some_and(|(_, view)| held(&view) && otto(&view)["pid"].is_number())
    });
    let (code, view) = folder.quorum().unwrap();
    assert!(matches!(code, Some(1 | 2)), "{code:?}");
    says(&view["notes"].to_string(), &["the journal is damaged", "at byte ", "restore"]);
    let pid = otto(&view)["pid"].as_u64().unwrap();
    send(u32::try_from(pid).unwrap(), Signal::KILL);
    until("otto is dead", || otto(&folder.quorum().unwrap().1)["pid"].is_null());
    let end = clock::now() + Duration::from_secs(3);
    while clock::now() < end {
        assert!(otto(&folder.quorum().unwrap().1)["pid"].is_null(), "nothing acts");
        std::thread::sleep(PAUSE * 5);
    }
    let order = folder.run(&["hold", "otto", "--reason", "to see"]);
    assert!(!order.status.success(), "an order that cannot be kept is not taken");
    up.stop();
    assert_eq!(std::fs::read(folder.paths.journal()).unwrap(), damaged);
}

// ---- what is taken ----

#[test]
fn a_folder_in_use_is_left_to_those_who_use_it() {
    let folder = Folder::ready();
    let mut up = folder.up();
    up.until_ready();
    says(&folder.refused(&["up"]), &["error: another `zeta-bft up` runs on this folder", "hint: stop that one"]);
    says(
        &folder.refused(&["warden"]),
        &["warden.journal is in use: another warden runs on this folder", "hint: stop the other warden"],
    );
    says(
        &folder.refused(&["agent", "--persona", "otto"]),
        &["agent-otto/agent.sock is in use by a running process (pid ", "hint: stop the other agent"],
    );
    says(
        &folder.refused(&["wrap", "--persona", "otto"]),
        &["wrap-otto/wrap.sock is in use by a running process (pid ", "hint: "],
    );
    let (code, view) = folder.quorum().unwrap();
    assert_eq!((code, &view["status"]), (Some(0), &"healthy".into()), "{view}");
}

#[test]
fn a_scrape_port_in_use_is_named_and_nothing_is_left_running() {
    let folder = Folder::ready();
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    folder.change_config("warden = \"127.0.0.1:0\"", &format!("warden = \"{address}\""));
    let said = folder.refused(&["warden"]);
    says(&said, &["error: ", &address, "in use"]);
    let _turn = Turn::take();
    let output = folder.run(&["up"]);
    let said = text(&output);
    assert_eq!(output.status.code(), Some(1), "{said}");
    says(&said, &[&address, "`warden` ended with exit status 1 before the committee was ready"]);
    let left = std::fs::read_dir(folder.paths.run()).unwrap().map(|entry| entry.unwrap().path());
    let left: Vec<_> = left.filter(|path| !path.is_dir() || path.read_dir().unwrap().next().is_some()).collect();
    assert!(left.is_empty(), "{left:?} is left");
}

#[test]
fn a_socket_that_a_stranger_serves_is_never_taken_and_one_left_behind_is_replaced() {
    let folder = Folder::ready();
    let socket = folder.paths.warden_socket();
    std::fs::create_dir_all(socket.parent().unwrap()).unwrap();
    let stranger = UnixListener::bind(&socket).unwrap();
    let said = folder.refused(&["up"]);
    says(&said, &["error: something still serves ", "warden.sock", "hint: stop the process that serves it"]);
    let said = folder.refused(&["warden"]);
    says(&said, &["warden.sock is in use by a running process (pid "]);
    drop(stranger);
    assert!(socket.exists(), "left behind");
    let mut up = folder.up();
    says(&up.until_ready(), &["ready: 3 vendors"]);
}

#[test]
fn a_file_where_a_socket_should_be_is_not_removed() {
    let folder = Folder::ready();
    let place = folder.paths.agent_socket(&PersonaId::new("otto").unwrap());
    std::fs::create_dir_all(place.parent().unwrap()).unwrap();
    std::fs::write(&place, "somebody's").unwrap();
    says(&folder.refused(&["agent", "--persona", "otto"]), &["agent-otto/agent.sock exists and is no socket"]);
    assert_eq!(read(&place), "somebody's");
}

fn read(path: &Path) -> String {
    let mut text = String::new();
    std::fs::File::open(path).unwrap().read_to_string(&mut text).unwrap();
    text
}
