//! One machine.

use super::command::{Done, await_true, must, run_command};
use super::host::remove_cgroup;
use super::{Lab, Layer, Unfit};
use std::fmt::Write as _;
use std::fs::{self, File};
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Mutex;
use std::time::Duration;

/// How long a command in a machine may take that says nothing else.
const LIMIT: Duration = Duration::from_secs(60);

/// Becomes `systemd-nspawn`, in a mount namespace of its own that dies with it. Where the host's tree is not cgroup v2 alone,
/// the machine sees one that is.
const BOOT: &str = r#"
set -eu
echo $$ >"$1/cgroup.procs"
if [ "$(stat -fc %T /sys/fs/cgroup)" != cgroup2fs ]; then
    umount -R /sys/fs/cgroup
    mount -t cgroup2 none /sys/fs/cgroup
fi
mount -t overlay overlay -o "lowerdir=$2,upperdir=$3/upper,workdir=$3/work" "$3/root"
shift 3
exec systemd-nspawn "$@"
"#;

/// Joins the machine's cgroup, so that it is frozen and killed with it, and all its namespaces.
const ENTER: &str = r#"
echo $$ >"$1/cgroup.procs" || exit 125
leader=$2
shift 2
exec nsenter -t "$leader" -m -u -i -n -p -C --root --wd -- /usr/bin/env -i HOME=/root LANG=C.UTF-8 TERM=dumb \
    PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin "$@"
"#;

/// A machine: its disk, its network, and while it runs its processes. Dropped, it is gone.
#[derive(Debug)]
pub struct Machine<'lab> {
    lab: &'lab Lab,
    name: String,
    folder: PathBuf,
    layers: Vec<PathBuf>,
    running: Mutex<Option<Running>>,
}

#[derive(Debug)]
struct Running {
    supervisor: Child,
    /// The machine's PID 1, as the host counts.
    leader: u32,
}

impl<'lab> Machine<'lab> {
    pub(super) fn new(lab: &'lab Lab, name: &str, layers: &[&Layer]) -> Result<Self, Unfit> {
        let folder = lab.folder().join(name);
        let layers = layers.iter().map(|layer| layer.path().to_owned()).collect();
        for part in ["upper", "work", "root"] {
            fs::create_dir_all(folder.join(part))?;
            fs::set_permissions(folder.join(part), fs::Permissions::from_mode(0o755))?;
        }
        let machine = Self { lab, name: name.to_owned(), folder, layers, running: Mutex::new(None) };
        let space = lab.own_name(name);
        must(&["ip", "netns", "add", &space])?;
        must(&["ip", "-n", &space, "link", "set", "lo", "up"])?;
        let id = fs::read_to_string("/proc/sys/kernel/random/uuid")?.replace('-', "");
        machine.prepare("/etc/machine-id", &id)?;
        machine.prepare("/etc/hostname", &format!("{name}\n"))?;
        Ok(machine)
    }

    /// Puts a file on the disk of a machine that does not run. Folders above it keep the owner and mode they have.
    ///
    /// # Errors
    /// Those of the file system.
    pub fn prepare(&self, path: &str, text: &str) -> Result<(), Unfit> {
        let inside = Path::new(path.trim_start_matches('/'));
        let upper = self.folder.join("upper");
        let above: Vec<_> = inside.ancestors().skip(1).filter(|part| !part.as_os_str().is_empty()).collect();
        for part in above.into_iter().rev() {
            let here = upper.join(part);
            if here.exists() {
                continue;
            }
            fs::create_dir(&here)?;
            if let Some(like) = self.layers.iter().find_map(|layer| fs::metadata(layer.join(part)).ok()) {
                fs::set_permissions(&here, like.permissions())?;
                std::os::unix::fs::chown(&here, Some(like.uid()), Some(like.gid()))?;
            }
        }
        Ok(fs::write(upper.join(inside), text)?)
    }

    /// Boots from its disk, and waits until everything that starts with it has started or failed.
    ///
    /// # Errors
    /// [`Unfit::Broken`] with the end of the console.
    pub fn boot(&self) -> Result<(), Unfit> {
        let mut running = self.running.lock().expect("nobody panics with it");
        assert!(running.is_none(), "{} runs already", self.name);
        let cgroup = self.cgroup();
        fs::create_dir_all(cgroup.join("exec"))?;
        let layers: Vec<_> = self.layers.iter().map(|layer| layer.display().to_string()).collect();
        let own_name = self.lab.own_name(&self.name);
        let mut boot = Command::new("unshare");
        boot.args(["--mount", "--propagation", "private", "sh", "-c", BOOT, "sh"]);
        boot.arg(&cgroup).arg(layers.join(":")).arg(&self.folder);
        boot.args(["--quiet", "--register=no", "--keep-unit", "--boot", "--console=read-only", "--resolv-conf=off"]);
        boot.args(["--timezone=off", "--link-journal=no", "--capability=CAP_NET_ADMIN,CAP_IPC_LOCK,CAP_WAKE_ALARM"]);
        boot.arg(format!("--directory={}/root", self.folder.display()));
        boot.arg(format!("--machine={own_name}")).arg(format!("--hostname={}", self.name));
        boot.arg(format!("--network-namespace-path=/run/netns/{own_name}"));
        let console = File::create(self.folder.join("console"))?;
        let mut supervisor = boot.stdin(Stdio::null()).stdout(console.try_clone()?).stderr(console).spawn()?;
        let mut leader = None;
        await_true(Duration::from_secs(30), || {
            leader = leader_of(supervisor.id());
            leader.is_some() || supervisor.try_wait().is_ok_and(|status| status.is_some())
        });
        let Some(leader) = leader else {
            remove_cgroup(&cgroup);
            let _ = supervisor.wait();
            return Err(self.broken("has no PID 1"));
        };
        *running = Some(Running { supervisor, leader });
        drop(running);
        let mut state = String::new();
        let up = await_true(Duration::from_secs(90), || {
            state = self.exec(&["systemctl", "is-system-running"]).out;
            ["running", "degraded"].contains(&state.trim())
        });
        if up { Ok(()) } else { Err(self.broken(&format!("is `{}` and no more", state.trim()))) }
    }

    fn broken(&self, what: &str) -> Unfit {
        let console = fs::read_to_string(self.folder.join("console")).unwrap_or_default();
        let lines: Vec<_> = console.lines().collect();
        let mut said = format!("the machine {} {what}; its console ends:", self.name);
        for line in &lines[lines.len().saturating_sub(15)..] {
            let _ = write!(said, "\n  {line}");
        }
        Unfit::Broken(said)
    }

    /// Runs a command in it as root, to its end, at most a minute.
    pub fn exec(&self, words: &[&str]) -> Done {
        self.exec_within(LIMIT, words)
    }

    /// Runs a command in it as root, to its end, within a limit.
    pub fn exec_within(&self, limit: Duration, words: &[&str]) -> Done {
        let leader = self.leader().expect("the machine runs");
        let mut enter = Command::new("timeout");
        enter.arg("--kill-after=5").arg(limit.as_secs_f64().to_string());
        enter.args(["sh", "-c", ENTER, "sh"]).arg(self.cgroup().join("exec")).arg(leader.to_string()).args(words);
        run_command(&mut enter, words)
    }

    /// Where the host sees a file of the machine that runs. No part of the path may be an absolute symbolic link.
    pub fn file(&self, path: &str) -> PathBuf {
        let leader = self.leader().expect("the machine runs");
        PathBuf::from(format!("/proc/{leader}/root{path}"))
    }

    /// Its PID 1, as the host counts; `None` while it is off.
    pub fn leader(&self) -> Option<u32> {
        self.running.lock().expect("nobody panics with it").as_ref().map(|running| running.leader)
    }

    /// Power loss: everything in it dies at once. The disk stays, with all that was written, synced or not.
    pub fn kill(&self) {
        let Some(mut running) = self.running.lock().expect("nobody panics with it").take() else { return };
        remove_cgroup(&self.cgroup());
        let _ = running.supervisor.wait();
    }

    /// Shuts it down in order.
    ///
    /// # Errors
    /// [`Unfit::Broken`] when it does not end within two minutes.
    pub fn off(&self) -> Result<(), Unfit> {
        let mut running = self.running.lock().expect("nobody panics with it");
        let Some(Running { supervisor, leader }) = running.as_mut() else { return Ok(()) };
        // SIGRTMIN+4 asks systemd to power off: systemd(1).
        must(&["kill", "-s", "RTMIN+4", &leader.to_string()])?;
        if !await_true(Duration::from_secs(120), || supervisor.try_wait().is_ok_and(|status| status.is_some())) {
            return Err(self.broken("does not shut down"));
        }
        *running = None;
        remove_cgroup(&self.cgroup());
        Ok(())
    }

    /// Stops every process of it, PID 1 among them, until [`Machine::thaw`].
    pub fn freeze(&self) {
        self.set_frozen(true);
    }

    /// Lets it go on.
    pub fn thaw(&self) {
        self.set_frozen(false);
    }

    fn set_frozen(&self, frozen: bool) {
        let cgroup = self.cgroup();
        fs::write(cgroup.join("cgroup.freeze"), if frozen { "1" } else { "0" }).expect("a machine's cgroup");
        let state = format!("frozen {}", u8::from(frozen));
        let reached = || {
            fs::read_to_string(cgroup.join("cgroup.events")).is_ok_and(|text| text.lines().any(|line| line == state))
        };
        assert!(await_true(Duration::from_secs(20), reached), "{} does not become {state}", self.name);
    }

    /// Shuts it down and makes what is on its disk a layer for others. Names and logs do not go with it.
    ///
    /// # Errors
    /// [`Unfit::Broken`].
    pub fn into_layer(self) -> Result<Layer, Unfit> {
        self.off()?;
        let path = self.lab.folder().join(format!("{}.layer", self.name));
        fs::rename(self.folder.join("upper"), &path)?;
        for name in ["etc/machine-id", "etc/hostname"] {
            fs::remove_file(path.join(name))?;
        }
        for folder in ["var/log/journal", "tmp", "var/tmp"] {
            if path.join(folder).exists() {
                fs::remove_dir_all(path.join(folder))?;
            }
        }
        Ok(Layer::at(path))
    }

    fn cgroup(&self) -> PathBuf {
        self.lab.cgroup().join(&self.name)
    }
}

impl Drop for Machine<'_> {
    fn drop(&mut self) {
        self.kill();
        let own_name = self.lab.own_name(&self.name);
        let _ = must(&["ip", "netns", "del", &own_name]);
        let _ = fs::remove_dir(Path::new("/run/systemd/nspawn/propagate").join(&own_name));
        if let Err(error) = fs::remove_dir_all(&self.folder) {
            eprintln!("system tests: {} stays: {error}", self.folder.display());
        }
    }
}

/// The child of nspawn that is process 1 of its own namespace.
fn leader_of(supervisor: u32) -> Option<u32> {
    let children = fs::read_to_string(format!("/proc/{supervisor}/task/{supervisor}/children")).ok()?;
    children.split_whitespace().filter_map(|pid| pid.parse().ok()).find(|pid: &u32| {
        let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
        status.lines().any(|line| line.starts_with("NSpid:") && line.split_whitespace().last() == Some("1"))
    })
}
