//! What the node is starved of, by `stress-ng`.

use std::path::Path;
use std::process::{Child, Command, Stdio};

/// One kind of want. Each holds for a while, in turn.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Pressure {
    /// Nothing else runs.
    Quiet,
    /// Two busy loops for every core.
    Cpu,
    /// Writers that sync, and callers of `sync`.
    Io,
    /// Most of what is free is taken, and touched again and again.
    Memory,
    /// Open files up to the limit, again and again.
    Files,
    /// All of it at once.
    Everything,
}

impl Pressure {
    pub const ALL: [Self; 6] = [Self::Quiet, Self::Cpu, Self::Io, Self::Memory, Self::Files, Self::Everything];

    pub const fn name(self) -> &'static str {
        match self {
            Self::Quiet => "quiet",
            Self::Cpu => "cpu",
            Self::Io => "io",
            Self::Memory => "memory",
            Self::Files => "files",
            Self::Everything => "everything",
        }
    }

    fn arguments(self) -> Vec<String> {
        let cores = std::thread::available_parallelism().map_or(2, usize::from);
        let words = |text: &str| text.split(' ').map(str::to_owned).collect();
        match self {
            Self::Quiet => Vec::new(),
            Self::Cpu => words(&format!("--cpu {}", cores * 2)),
            Self::Io => words("--hdd 2 --hdd-bytes 256M --hdd-opts fsync --io 2"),
            Self::Memory => words("--vm 2 --vm-bytes 60% --vm-method flip"),
            Self::Files => words("--open 2 --dup 2"),
            Self::Everything => {
                [Self::Cpu, Self::Io, Self::Memory, Self::Files].into_iter().flat_map(Self::arguments).collect()
            }
        }
    }

    /// Begins it; it ends with what is given back.
    pub fn begin(self, folder: &Path) -> Starving {
        let arguments = self.arguments();
        if arguments.is_empty() {
            return Starving(None);
        }
        let mut stress = Command::new("stress-ng");
        // Not all of its stressors ask where they may leave their files.
        stress.current_dir(folder).args(["--quiet", "--temp-path"]).arg(folder).args(arguments);
        stress.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        Starving(Some(stress.spawn().expect("stress-ng is installed")))
    }
}

/// The load.
pub struct Starving(Option<Child>);

impl Starving {
    /// Whether it is still what it should be.
    pub fn holds(&mut self) -> bool {
        self.0.as_mut().is_none_or(|stress| stress.try_wait().is_ok_and(|ended| ended.is_none()))
    }
}

impl Drop for Starving {
    fn drop(&mut self) {
        if let Some(mut stress) = self.0.take() {
            // It ends its own workers.
            super::node::kill(stress.id(), rustix::process::Signal::TERM);
            let _ = stress.wait();
        }
    }
}
