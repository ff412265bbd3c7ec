//! The machine below: clocks, disks, kernel.

use super::finding::{Group, Section};
use super::node::{Node, Unread};
use crate::journal::{MAX_FILE, RESERVE};
use std::path::Path;
use std::time::Duration;

/// 2026-01-01: no node has run this program before.
const FIRST_RELEASE: Duration = Duration::from_secs(1_767_225_600);
const LITTLE_BYTES: u64 = 64 * 1024 * 1024;
const LITTLE_FILES: u64 = 1000;
const SYNCHRONISED: &str = "/run/systemd/timesync/synchronized";
const NEEDED_KERNEL: (u32, u32) = (5, 3);

/// What the clocks say.
#[derive(Clone, Debug)]
pub struct Clocks {
    /// `CLOCK_BOOTTIME`.
    pub boottime: Duration,
    /// `CLOCK_MONOTONIC`, read before it.
    pub monotonic: Duration,
    /// Since 1970.
    pub unix: Duration,
    /// When the program's file was made, since 1970.
    pub program_made: Option<Duration>,
    /// What `timedatectl` says of the synchronisation; `None`: nothing.
    pub synchronised: Option<bool>,
}

/// Checks the clocks.
pub fn clock(node: &Node, clocks: &Clocks) -> Section {
    let mut section = Section::new(Group::Clock);
    match node.read("/proc/sys/kernel/random/boot_id") {
        Ok(text) if is_uuid(text.trim()) => {}
        Ok(text) => section.error(
            "boot-id",
            "boot_id",
            format!(
                "/proc/sys/kernel/random/boot_id holds {:?}, no UUID: no statement can be tied to this boot",
                text.trim()
            ),
            "mount a real /proc",
        ),
        Err(error) => section.error(
            "boot-id",
            "boot_id",
            format!("/proc/sys/kernel/random/boot_id cannot be read ({error}): no daemon starts"),
            "mount /proc",
        ),
    }
    if clocks.boottime.is_zero() || clocks.boottime < clocks.monotonic {
        section.error(
            "boottime",
            "CLOCK_BOOTTIME",
            format!(
                "it stands at {:.1} s and CLOCK_MONOTONIC at {:.1} s: every age that the protocol judges is wrong",
                clocks.boottime.as_secs_f64(),
                clocks.monotonic.as_secs_f64()
            ),
            "leave the time namespace that this runs in, or update the kernel",
        );
    }
    let earliest = clocks.program_made.map_or(FIRST_RELEASE, |made| made.max(FIRST_RELEASE));
    if clocks.unix < earliest {
        let [is, earliest] = [clocks.unix, earliest].map(|time| crate::inspect::rfc3339_s(time.as_secs()));
        section.error(
            "clock-past",
            "real time",
            format!("it is {is} by the clock, before this program was made ({earliest}): logins and certificates of vendors and k3s fail, and receipts carry wrong dates"),
            "set the clock: `timedatectl set-ntp true`, or mend the battery of the hardware clock",
        );
    }
    match clocks.synchronised.or_else(|| node.look(Path::new(SYNCHRONISED)).is_ok().then_some(true)) {
        Some(true) => {}
        Some(false) => section.warning(
            "clock-unsynchronised",
            "real time",
            "nothing synchronises the clock: no safety rule rests on it, but receipts are dated by it and logins fail when it drifts",
            "`timedatectl set-ntp true`, or install chrony",
        ),
        None => section.skipped("clock-unsynchronised", "real time", "`timedatectl` does not answer: whether the clock is synchronised is not known"),
    }
    section.summed_up("boot id readable, clocks sane and synchronised")
}

fn is_uuid(text: &str) -> bool {
    let hex = text.bytes().filter(|b| *b != b'-');
    text.len() == 36 && hex.clone().count() == 32 && hex.clone().all(|b| b.is_ascii_hexdigit())
}

/// What a file system has left.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Space {
    /// Bytes for those who are not root.
    pub bytes: u64,
    /// Files; `None` where the file system does not count them.
    pub files: Option<u64>,
    /// Nothing can be written.
    pub read_only: bool,
}

impl Space {
    /// Of the file system that a path is on.
    ///
    /// # Errors
    /// [`Unread`].
    pub fn of(path: &Path) -> Result<Self, Unread> {
        let stat = rustix::fs::statvfs(path).map_err(std::io::Error::from)?;
        Ok(Self {
            bytes: stat.f_bavail.saturating_mul(stat.f_frsize),
            files: (stat.f_files > 0).then_some(stat.f_favail),
            read_only: stat.f_flag.contains(rustix::fs::StatVfsMountFlags::RDONLY),
        })
    }
}

/// Checks the space of the folders, and the journal's size in bytes.
pub fn disk(spaces: &[(String, Result<Space, Unread>)], journal: &Result<u64, Unread>) -> Section {
    let mut section = Section::new(Group::Disk);
    let mut free = Vec::new();
    for (path, space) in spaces {
        let space = match space {
            Ok(space) => space,
            Err(error) => {
                section.skipped("disk", path, error.to_string());
                continue;
            }
        };
        free.push(format!("{} in {path}", mebibytes(space.bytes)));
        if space.read_only {
            let text = "it is mounted read-only: the journal cannot be written, and without it nothing is repaired";
            section.error(
                "disk-read-only",
                path,
                text,
                "look for disk errors in `journalctl -k`, then mount it writable",
            );
        }
        if space.bytes < RESERVE {
            let text =
                format!("{} are left: no receipt can be written soon, and no repair done", mebibytes(space.bytes));
            section.error("disk-full", path, text, "make room: `journalctl --vacuum-size=200M`, `crictl rmi --prune`");
        } else if space.bytes < LITTLE_BYTES {
            let text = format!(
                "only {} are left: k3s and the vendors' CLIs fail before the journal does",
                mebibytes(space.bytes)
            );
            section.warning("disk-low", path, text, "make room: `journalctl --vacuum-size=200M`, `crictl rmi --prune`");
        }
        if let Some(files) = space.files.filter(|files| *files < LITTLE_FILES) {
            let text = format!("only {files} more files can be made there, however many bytes are free");
            section.warning(
                "inodes-low",
                path,
                text,
                "find the folder with the most files: `du --inodes -x / | sort -n`",
            );
        }
    }
    match journal {
        Ok(size) if *size > MAX_FILE => section.error(
            "journal-size",
            "journal",
            format!(
                "it has {}, more than {} are never opened: the warden does not start",
                mebibytes(*size),
                mebibytes(MAX_FILE)
            ),
            "restore it from a copy",
        ),
        Ok(size) if *size > MAX_FILE / 2 => section.warning(
            "journal-size",
            "journal",
            format!("it has {}: it should have been compacted long before", mebibytes(*size)),
            "restart the warden: `systemctl restart zeta-bft-warden`",
        ),
        // That it is missing is told with the configuration.
        Ok(_) | Err(Unread::Absent) => {}
        Err(error) => section.skipped("journal-size", "journal", error.to_string()),
    }
    section.summed_up(format!("free: {}", free.join(", ")))
}

fn mebibytes(bytes: u64) -> String {
    format!("{:.1} MiB", bytes as f64 / (1024.0 * 1024.0))
}

/// Checks what the kernel offers and shows.
pub fn kernel(node: &Node) -> Section {
    let mut section = Section::new(Group::Kernel);
    match node.read("/proc/self/mounts") {
        Ok(mounts) => mounted(&mounts, &mut section),
        Err(error) => section.skipped("mounts", "/proc/self/mounts", error.to_string()),
    }
    match node.read("/proc/pressure/cpu") {
        Ok(_) => {}
        Err(Unread::Denied) => section.skipped("pressure", "/proc/pressure", Unread::Denied.to_string()),
        Err(error) => section.warning(
            "pressure",
            "/proc/pressure",
            format!("pressure cannot be read ({error}): a starved node is told from a hung process less well"),
            "boot with psi=1, on a kernel with CONFIG_PSI",
        ),
    }
    match node.read("/proc/self/schedstat") {
        Ok(_) => {}
        Err(error) => section.warning(
            "schedstat",
            "/proc/PID/schedstat",
            format!("it cannot be read ({error}): whether a silent process waited for a CPU is not known, so no HANG is repaired"),
            "use a kernel with CONFIG_SCHED_INFO",
        ),
    }
    let release = match node.read("/proc/sys/kernel/osrelease") {
        Ok(release) => release.trim().to_owned(),
        Err(error) => {
            section.skipped("kernel-old", "kernel", error.to_string());
            return section;
        }
    };
    match version(&release) {
        Some(version) if version < NEEDED_KERNEL => section.error(
            "kernel-old",
            "kernel",
            format!(
                "{release} has no pidfd_open (5.3): a process cannot be held on to while its number may be given anew"
            ),
            "update the kernel",
        ),
        Some(_) => {}
        None => section.skipped("kernel-old", "kernel", format!("its release `{release}` is no version")),
    }
    section.summed_up(format!("{release}, cgroup v2, /proc shows every process, pressure readable"))
}

fn version(release: &str) -> Option<(u32, u32)> {
    let mut numbers = release.split(|c: char| !c.is_ascii_digit()).map(str::parse);
    Some((numbers.next()?.ok()?, numbers.next()?.ok()?))
}

fn mounted(mounts: &str, section: &mut Section) {
    let lines = mounts.lines().map(|line| line.split_ascii_whitespace().collect::<Vec<_>>());
    let (mut unified, mut hidden) = (false, None);
    for line in lines {
        let [_, place, kind, options, ..] = line[..] else { continue };
        match (place, kind) {
            ("/sys/fs/cgroup", kind) => unified = kind == "cgroup2",
            // The last mount on a place is the one that is seen.
            ("/proc", "proc") => {
                let hides =
                    |option: &&str| option.strip_prefix("hidepid=").is_some_and(|how| !matches!(how, "0" | "off"));
                hidden = options.split(',').find(hides).map(str::to_owned);
            }
            _ => {}
        }
    }
    if !unified {
        section.error(
            "cgroup",
            "/sys/fs/cgroup",
            "cgroup v2 is not mounted there: limits and the killing of whole process trees rest on it",
            "boot with systemd.unified_cgroup_hierarchy=1",
        );
    }
    if let Some(option) = hidden {
        section.warning(
            "hidepid",
            "/proc",
            format!("it is mounted with {option}: agents cannot see the processes of other users, so to them wrappers are UNKNOWN and they abstain"),
            "take hidepid out of /etc/fstab for /proc, then `mount -o remount,hidepid=0 /proc`",
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::doctor::finding::Level;
    use crate::doctor::tree::Tree;
    use proptest::prelude::*;

    const UUID: &str = "0b7f2f3e-7a1e-4c43-9d5e-0d7a5d2f9a11\n";
    const BOOT_ID: &str = "/proc/sys/kernel/random/boot_id";

    fn ids(section: Section) -> Vec<(&'static str, Level)> {
        section.findings.iter().map(|finding| (finding.id, finding.level)).collect()
    }

    fn clocks() -> Clocks {
        let second = Duration::from_secs(1);
        Clocks {
            boottime: second * 100,
            monotonic: second * 90,
            unix: FIRST_RELEASE + second * 1000,
            program_made: Some(FIRST_RELEASE + second),
            synchronised: Some(true),
        }
    }

    #[test]
    fn sane_clocks_are_well() {
        assert_eq!(ids(clock(&Tree::new().file(BOOT_ID, UUID).node(), &clocks())), []);
    }

    #[test]
    fn a_boot_id_that_is_missing_or_no_uuid_is_an_error() {
        assert_eq!(ids(clock(&Tree::new().node(), &clocks())), [("boot-id", Level::Error)]);
        for text in ["", "not a uuid", "0b7f2f3e-7a1e-4c43-9d5e-0d7a5d2f9aé", &"-".repeat(36)] {
            let tree = Tree::new().file(BOOT_ID, text);
            assert_eq!(ids(clock(&tree.node(), &clocks())), [("boot-id", Level::Error)], "{text:?}");
        }
    }

    #[test]
    fn a_clock_before_the_programs_making_is_an_error_and_one_that_nothing_sets_a_warning() {
        let node = Tree::new().file(BOOT_ID, UUID);
        let past = Clocks { unix: Duration::from_secs(86_400), ..clocks() };
        assert_eq!(ids(clock(&node.node(), &past)), [("clock-past", Level::Error)]);
        let before = Clocks { program_made: Some(clocks().unix + Duration::from_secs(1)), ..clocks() };
        assert_eq!(ids(clock(&node.node(), &before)), [("clock-past", Level::Error)]);
        let free = Clocks { synchronised: Some(false), ..clocks() };
        assert_eq!(ids(clock(&node.node(), &free)), [("clock-unsynchronised", Level::Warning)]);
    }

    #[test]
    fn whether_the_clock_is_synchronised_is_skipped_when_nobody_says_so() {
        let unknown = Clocks { synchronised: None, ..clocks() };
        let tree = Tree::new().file(BOOT_ID, UUID);
        assert_eq!(ids(clock(&tree.node(), &unknown)), [("clock-unsynchronised", Level::Skipped)]);
        assert_eq!(ids(clock(&tree.file(SYNCHRONISED, "").node(), &unknown)), []);
    }

    #[test]
    fn a_boottime_behind_the_monotonic_clock_is_an_error() {
        let behind = Clocks { boottime: Duration::from_secs(1), ..clocks() };
        assert_eq!(ids(clock(&Tree::new().file(BOOT_ID, UUID).node(), &behind)), [("boottime", Level::Error)]);
    }

    fn of_disk(space: Space, journal: Result<u64, Unread>) -> Vec<(&'static str, Level)> {
        ids(disk(&[("/var".into(), Ok(space))], &journal))
    }

    #[test]
    fn a_disk_with_room_is_well_and_one_without_is_not() {
        let roomy = Space { bytes: 1 << 40, files: None, read_only: false };
        assert_eq!(of_disk(roomy, Ok(1000)), []);
        assert_eq!(of_disk(Space { bytes: 1 << 25, ..roomy }, Ok(0)), [("disk-low", Level::Warning)]);
        assert_eq!(of_disk(Space { bytes: 0, ..roomy }, Ok(0)), [("disk-full", Level::Error)]);
        assert_eq!(of_disk(Space { files: Some(3), ..roomy }, Ok(0)), [("inodes-low", Level::Warning)]);
        assert_eq!(of_disk(Space { read_only: true, ..roomy }, Ok(0)), [("disk-read-only", Level::Error)]);
        assert_eq!(of_disk(roomy, Ok(MAX_FILE)), [("journal-size", Level::Warning)]);
        assert_eq!(of_disk(roomy, Ok(MAX_FILE + 1)), [("journal-size", Level::Error)]);
        assert_eq!(of_disk(roomy, Err(Unread::Denied)), [("journal-size", Level::Skipped)]);
        assert_eq!(ids(disk(&[("/var".into(), Err(Unread::Denied))], &Ok(0))), [("disk", Level::Skipped)]);
    }

    const MOUNTS: &str = "proc /proc proc rw,nosuid 0 0\ncgroup2 /sys/fs/cgroup cgroup2 rw 0 0\n";

    fn machine() -> Tree {
        Tree::new()
            .file("/proc/self/mounts", MOUNTS)
            .file("/proc/pressure/cpu", "some")
            .file("/proc/self/schedstat", "1 2 3")
            .file("/proc/sys/kernel/osrelease", "6.1.0-18-amd64\n")
    }

    #[test]
    fn a_kernel_that_shows_everything_is_well() {
        assert_eq!(ids(kernel(&machine().node())), []);
    }

    #[test]
    fn a_hidden_proc_a_missing_cgroup_v2_no_pressure_and_an_old_kernel_are_found() {
        let tree = machine().file("/proc/self/mounts", &MOUNTS.replace("nosuid", "hidepid=invisible"));
        assert_eq!(ids(kernel(&tree.node())), [("hidepid", Level::Warning)]);
        let tree = machine().file("/proc/self/mounts", &MOUNTS.replace("nosuid", "hidepid=off"));
        assert_eq!(ids(kernel(&tree.node())), []);
        let tree = machine().file("/proc/self/mounts", &MOUNTS.replace("cgroup2 rw", "tmpfs rw"));
        assert_eq!(ids(kernel(&tree.node())), [("cgroup", Level::Error)]);
        assert_eq!(ids(kernel(&machine().gone("/proc/pressure/cpu").node())), [("pressure", Level::Warning)]);
        assert_eq!(ids(kernel(&machine().gone("/proc/self/schedstat").node())), [("schedstat", Level::Warning)]);
        let tree = machine().file("/proc/sys/kernel/osrelease", "4.19.0");
        assert_eq!(ids(kernel(&tree.node())), [("kernel-old", Level::Error)]);
        let tree = machine().file("/proc/sys/kernel/osrelease", "rolling");
        assert_eq!(ids(kernel(&tree.node())), [("kernel-old", Level::Skipped)]);
    }

    proptest! {
        #[test]
        fn no_list_of_mounts_makes_the_reader_panic(text in any::<String>()) {
            mounted(&text, &mut Section::new(Group::Kernel));
            let _ = (version(&text), is_uuid(&text));
        }
    }
}
