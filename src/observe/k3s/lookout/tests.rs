//! What is believed of a published text, and what is not.

use super::*;
use crate::observe::k3s::{Certificate, Mount};
use proptest::prelude::*;
use std::fs;
use std::os::unix::fs::PermissionsExt as _;

fn me() -> u32 {
    rustix::process::getuid().as_raw()
}

fn subject() -> SubjectName {
    SubjectName::new("k3s").unwrap()
}

fn facts() -> RootFacts {
    let run = InvocationId([7; 16]);
    RootFacts {
        files: FileFacts {
            mounts: vec![Mount { path: "/var/log".into(), free_bytes: 1, bytes: 2, free_inodes: 3, inodes: 4 }],
            certificates: vec![Certificate { place: "/a.crt".into(), is_ca: false, not_after: 5 }],
            empty_files: vec!["/var/lib/rancher/k3s/agent/client-kubelet.key".into()],
            keys_seen: true,
            unseen: vec!["/var/lib/kubelet: gone".into()],
        },
        fatal: Some(Fatal { line: "panic: no".into(), run }),
        run: Some(SeenRun { invocation: run, goes_on: true }),
        journal: true,
    }
}

struct Stand {
    dir: tempfile::TempDir,
    at: Timestamp,
}

impl Stand {
    /// [`facts`] are published at this moment.
    fn new() -> Self {
        let stand = Self { dir: tempfile::tempdir().unwrap(), at: clock::now() };
        stand.tell(clock::boot_id().unwrap(), &facts());
        stand
    }

    fn path(&self) -> PathBuf {
        self.dir.path().join("k3s.json")
    }

    fn tell(&self, boot: BootId, facts: &RootFacts) {
        publish(&self.path(), &subject(), boot, self.at, facts).unwrap();
    }

    fn edit(&self, change: impl FnOnce(&mut serde_json::Value)) {
        let mut text = serde_json::from_slice(&fs::read(self.path()).unwrap()).unwrap();
        change(&mut text);
        fs::write(self.path(), text.to_string()).unwrap();
    }

    fn lookout(&self) -> Lookout {
        Lookout::new(self.path(), subject()).of_user(me())
    }

    fn believed(&self) -> Result<RootFacts, Disbelief> {
        self.lookout().believed(self.at)
    }

    /// Not believed, and unseen with the reason.
    #[track_caller]
    fn unseen(&self, lookout: &Lookout, now: Timestamp, why: &str) {
        let read = lookout.read(now);
        assert_eq!((&read.fatal, read.run, read.files.unseen.len()), (&None, None, 1), "{read:?}");
        assert!(read.files.empty_files.is_empty() && read.files.mounts.is_empty());
        assert!(read.files.unseen[0].contains(why), "{:?}", read.files.unseen);
    }
}

#[test]
fn what_is_published_is_read_as_it_was() {
    let stand = Stand::new();
    assert_eq!(stand.believed().unwrap(), facts());
    assert_eq!(fs::metadata(stand.path()).unwrap().permissions().mode() & 0o7777, 0o644, "open to everybody");
    stand.tell(clock::boot_id().unwrap(), &RootFacts::default());
    assert_eq!(stand.believed().unwrap(), RootFacts::default());
    assert_eq!(fs::read_dir(stand.dir.path()).unwrap().count(), 1, "nothing is left beside it");
}

#[test]
fn what_is_older_than_four_looks_is_stale() {
    let stand = Stand::new();
    assert!(stand.lookout().believed(stand.at + FRESH).is_ok());
    let late = stand.at + FRESH + Duration::from_millis(1);
    assert!(matches!(stand.lookout().believed(late), Err(Disbelief::Stale { age }) if age > FRESH));
    stand.unseen(&stand.lookout(), late, "20.001s old");
    // The file may be written a moment after the clock was read; it may not be kept for ever by a date to come.
    assert!(stand.lookout().believed(stand.at - Duration::from_millis(1)).is_ok());
    let early = stand.at - (FRESH + Duration::from_millis(1));
    assert!(matches!(stand.lookout().believed(early), Err(Disbelief::Ahead { .. })));
}

#[test]
fn what_is_of_another_boot_is_not_believed() {
    let stand = Stand::new();
    stand.tell(BootId([1; 16]), &facts());
    stand.unseen(&stand.lookout(), stand.at, "another boot");
}

#[test]
fn what_another_user_wrote_or_could_have_written_is_not_believed() {
    let stand = Stand::new();
    let of_another = stand.lookout().of_user(me() + 1);
    assert!(matches!(of_another.believed(stand.at), Err(Disbelief::NotRoots(uid)) if uid == me()));
    stand.unseen(&of_another, stand.at, "somebody else wrote it");
    for mode in [0o664, 0o646, 0o666] {
        fs::set_permissions(stand.path(), fs::Permissions::from_mode(mode)).unwrap();
        assert!(matches!(stand.believed(), Err(Disbelief::Writable(found)) if found == mode));
    }
    stand.unseen(&stand.lookout(), stand.at, "0666");
}

#[test]
fn a_cut_file_is_malformed_and_a_huge_one_is_not_read_to_its_end() {
    let stand = Stand::new();
    let whole = fs::read(stand.path()).unwrap();
    for length in 0..whole.len() {
        fs::write(stand.path(), &whole[..length]).unwrap();
        assert!(matches!(stand.believed(), Err(Disbelief::Malformed(_))), "{length} bytes of it");
    }
    stand.unseen(&stand.lookout(), stand.at, "malformed");
    let file = fs::File::create(stand.path()).unwrap();
    file.set_len(1 << 40).unwrap();
    assert!(matches!(stand.believed(), Err(Disbelief::TooLong)));
    stand.unseen(&stand.lookout(), stand.at, "more than 262144 bytes");
}

#[test]
fn what_is_no_file_or_missing_is_unseen_and_nothing_waits() {
    let stand = Stand::new();
    fs::remove_file(stand.path()).unwrap();
    assert!(matches!(stand.believed(), Err(Disbelief::Missing)));
    stand.unseen(&stand.lookout(), stand.at, "systemctl status zeta-bft-lookout");
    let other = stand.dir.path().join("other");
    fs::write(&other, "{}").unwrap();
    std::os::unix::fs::symlink(&other, stand.path()).unwrap();
    assert!(matches!(stand.believed(), Err(Disbelief::Unreadable(_))), "a link");
    fs::remove_file(stand.path()).unwrap();
    let mode = rustix::fs::Mode::from_raw_mode(0o600);
    rustix::fs::mknodat(rustix::fs::CWD, stand.path(), rustix::fs::FileType::Fifo, mode, 0).unwrap();
    assert!(matches!(stand.believed(), Err(Disbelief::Unreadable(_))), "a pipe");
}

#[test]
fn what_is_about_something_else_or_of_another_version_is_not_believed() {
    let stand = Stand::new();
    stand.edit(|text| text["subject"] = "otto".into());
    assert!(matches!(stand.believed(), Err(Disbelief::OtherSubject(other)) if other == "otto"));
    for change in [
        |text: &mut serde_json::Value| text["version"] = 2.into(),
        |text: &mut serde_json::Value| text["more"] = 1.into(),
        |text: &mut serde_json::Value| text["run"]["invocation"] = "../x".into(),
        |text: &mut serde_json::Value| text["fatal"]["run"] = "77".into(),
        |text: &mut serde_json::Value| text["fatal"]["line"] = "x".repeat(FATAL_MAX + 1).into(),
        |text: &mut serde_json::Value| text["files"]["mounts"][0]["free_bytes"] = (-1).into(),
    ] {
        let stand = Stand::new();
        stand.edit(change);
        assert!(matches!(stand.believed(), Err(Disbelief::Malformed(_))));
    }
}

#[test]
fn what_cannot_be_told_is_said_to_be_unseen() {
    use std::os::unix::ffi::OsStringExt as _;
    let stand = Stand::new();
    let mut strange = facts();
    strange.files.empty_files.push(std::ffi::OsString::from_vec(b"/agent/\xff.key".to_vec()).into());
    stand.tell(clock::boot_id().unwrap(), &strange);
    let read = stand.believed().unwrap();
    assert_eq!(read.files.empty_files, facts().files.empty_files);
    assert!(read.files.unseen[1].contains("no text"), "{:?}", read.files.unseen);

    let mut many = facts();
    many.files.empty_files = vec!["x".repeat(4000).into(); 100];
    stand.tell(clock::boot_id().unwrap(), &many);
    let read = stand.believed().unwrap();
    assert!(read.files.empty_files.is_empty() && read.files.unseen[0].contains("too much"), "{:?}", read.files.unseen);
    assert_eq!(read.fatal, facts().fatal);
}

proptest! {
    #[test]
    fn hostile_bytes_are_never_a_panic(bytes in proptest::collection::vec(any::<u8>(), 0..300), at in any::<usize>()) {
        let stand = Stand::new();
        let mut whole = fs::read(stand.path()).unwrap();
        let at = at % whole.len();
        let end = whole.len().min(at + bytes.len());
        whole.splice(at..end, bytes);
        fs::write(stand.path(), whole).unwrap();
        let _ = stand.lookout().read(stand.at);
    }
}
