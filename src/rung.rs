//! The hands of a rung: running a command to its end or limit, and putting files aside ([`aside`]).
//!
//! `up` uses them on its own children and files. Where PID 1 is systemd, `zeta-bft rung INSTANCE` does, as root in a unit of
//! its own ([`carry_out`]): the action comes from root's configuration, found by the instance's name, and from nowhere else.

use crate::config::Settings;
use crate::config::{
    never::{self, Never},
    rung,
};
use crate::doctor::node::{Kind, Node, Writer, weaknesses};
use crate::protocol::policy::Action;
use std::collections::VecDeque;
use std::io::{self, PipeReader};
use std::os::unix::process::ExitStatusExt as _;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::io::AsyncReadExt as _;
use tokio::net::unix::pipe;

mod aside;
pub use aside::{Place, Put, copy_file, move_file};

/// How much of a command's output is kept: its end, in bytes.
pub const OUTPUT_MAX: usize = 4096;
/// How long the rest of the output is waited for once the command has ended.
const OUTPUT_WAIT: Duration = Duration::from_millis(200);

/// A rung was not carried out.
#[derive(Debug, thiserror::Error)]
pub enum RungError {
    /// The configuration has no such rung.
    #[error("no rung of the configuration is called `{0}`")]
    Unknown(String),
    /// What no rung may do.
    #[error("rung `{rung}` is not carried out: {why}")]
    Refused {
        /// Its name.
        rung: String,
        /// Why not.
        why: Never,
    },
    /// Nothing to run.
    #[error("the command is empty")]
    NoCommand,
    /// A command could not be started or waited for.
    #[error("`{program}` cannot be run: {source}")]
    NotRun {
        /// Program.
        program: String,
        /// What the system said.
        source: io::Error,
    },
    /// Somebody else than root can put another program in its place.
    #[error("root does not run `{}`: {} {why} (fix: {fix})", program.display(), step.display())]
    NotRoots {
        /// Program.
        program: PathBuf,
        /// The folder, link or file on the way to it.
        step: PathBuf,
        /// What is wrong with that.
        why: String,
        /// What to do.
        fix: String,
    },
    /// A command failed.
    #[error("`{program}` ended with {how}: {output}")]
    Failed {
        /// Program.
        program: String,
        /// Exit status or signal.
        how: String,
        /// The end of its output.
        output: String,
    },
    /// A command ran into its limit and was killed with all its children.
    #[error("`{program}` was killed after {limit:?}: {output}")]
    OverTime {
        /// Program.
        program: String,
        /// The limit.
        limit: Duration,
        /// The end of its output.
        output: String,
    },
    /// A file outside of the folders that may be touched.
    #[error("{path} is not below {allowed}: no other file is touched")]
    Outside {
        /// The file.
        path: PathBuf,
        /// The folders.
        allowed: String,
    },
    /// A path leads where no rung may touch anything.
    #[error("{} is really {real}: {why}", path.display())]
    Never {
        /// As configured.
        path: PathBuf,
        /// Where it is.
        real: String,
        /// Why not.
        why: Never,
    },
    /// A copy would fill the file system.
    #[error(
        "{path} is not copied: it holds {bytes} bytes, and {free} are free beside it, less than twice as many; make room there"
    )]
    NoRoom {
        /// The folder.
        path: PathBuf,
        /// What its files hold.
        bytes: u64,
        /// What may still be written beside it.
        free: u64,
    },
    /// A file could not be moved or copied.
    #[error("{path} cannot be put aside: {source}")]
    Aside {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
}

/// How a process ended, in words.
pub fn how(code: Option<i32>, signal: Option<i32>) -> String {
    match (code, signal) {
        (Some(code), _) => format!("exit status {code}"),
        (None, Some(signal)) => format!("signal {signal}"),
        (None, None) => "an unknown status".into(),
    }
}

/// Carries out the rung of this name; gives back what its command printed, or what was put where.
///
/// # Errors
/// [`RungError`].
pub async fn carry_out(settings: &Settings, instance: &str) -> Result<String, RungError> {
    let mut rungs = rung::of_root(&settings.policy);
    let found = rungs.find(|(subject, number, _)| rung::instance(subject, *number) == instance);
    let (_, _, rung) = found.ok_or_else(|| RungError::Unknown(instance.to_owned()))?;
    let state = settings.paths.state();
    // Root looks once more: not every rung need have come by way of `check-config`.
    never::check(rung, state).map_err(|why| RungError::Refused { rung: instance.to_owned(), why })?;
    match &rung.action {
        Action::Run { argv, limit } => {
            // Below a folder of his own everybody runs what he likes.
            if settings.paths.dir().is_none() && rustix::process::geteuid().is_root() {
                check_argv(&Node::this(), argv)?;
            }
            run(argv, *limit).await
        }
        Action::MoveAside { path } => aside::put_aside(state, path, false),
        Action::CopyAside { path } => aside::put_aside(state, path, true),
        Action::Restart | Action::ResetFailed | Action::Stop | Action::Page => {
            Err(RungError::Unknown(instance.to_owned()))
        }
    }
}

/// Runs a command to its end or limit. What it leaves behind is in this process's group and unit, and ends with the unit.
async fn run(argv: &[String], limit: Duration) -> Result<String, RungError> {
    let [program, args @ ..] = argv else { return Err(RungError::NoCommand) };
    let program = program.clone();
    let not_run = |source| RungError::NotRun { program: program.clone(), source };
    let (reader, writer) = io::pipe().map_err(not_run)?;
    let second = writer.try_clone().map_err(not_run)?;
    let mut command = tokio::process::Command::new(&program);
    command.args(args).stdin(Stdio::null()).stdout(writer).stderr(second).process_group(0).kill_on_drop(true);
    let mut child = command.spawn().map_err(not_run)?;
    // The command holds the writing ends; as long as this process does, too, the output has no end.
    drop(command);
    let output = Output::collect(reader).map_err(not_run)?;
    let ended = tokio::time::timeout(limit, child.wait()).await;
    if ended.is_err()
        && let Some(group) = child.id().and_then(|id| rustix::process::Pid::from_raw(i32::try_from(id).ok()?))
    {
        let _ = rustix::process::kill_process_group(group, rustix::process::Signal::KILL);
        let _ = child.wait().await;
    }
    let output = output.finish().await;
    match ended {
        Ok(Ok(status)) if status.success() => Ok(output),
        Ok(Ok(status)) => Err(RungError::Failed { program, how: how(status.code(), status.signal()), output }),
        Ok(Err(source)) => Err(RungError::NotRun { program, source }),
        Err(_) => Err(RungError::OverTime { program, limit, output }),
    }
}

/// Root reads what it runs, and the files that are named to it: a script, a package to be installed.
fn check_argv(node: &Node, argv: &[String]) -> Result<(), RungError> {
    let (program, arguments) = argv.split_first().ok_or(RungError::NoCommand)?;
    check_program(node, program.as_ref())?;
    let paths = arguments.iter().map(Path::new).filter(|path| path.is_absolute());
    paths
        .filter(|path| node.look(path).is_ok_and(|look| look.kind == Kind::File))
        .try_for_each(|path| check_program(node, path))
}

/// Who runs as root runs no program that anybody else could have put there or changed.
fn check_program(node: &Node, program: &Path) -> Result<(), RungError> {
    let refused = |step: &Path, why, fix| {
        let (program, step) = (program.to_owned(), step.to_owned());
        Err(RungError::NotRoots { program, step, why, fix })
    };
    let steps = match node.steps(program) {
        Ok(steps) => steps,
        Err(error) => return refused(program, error.to_string(), "install it, or change argv in node.toml".into()),
    };
    // The doctor's own judgement: what it finds well is run.
    if let Some(weak) = weaknesses(&steps).first() {
        let place = weak.path.display();
        let (why, fix) = match weak.writer {
            Writer::User(uid) => (format!("belongs to uid {uid}"), format!("chown -h root {place}")),
            Writer::Group(gid) => (format!("can be written by group {gid}"), format!("chmod g-w {place}")),
            Writer::Everybody => ("can be written by everybody".into(), format!("chmod o-w {place}")),
        };
        return refused(&weak.path, why, fix);
    }
    match steps.last() {
        Some(end) if end.kind == Kind::File => Ok(()),
        _ => refused(program, "is no regular file".into(), "change argv in node.toml".into()),
    }
}

/// The end of a command's output.
#[derive(Debug)]
pub struct Output {
    tail: Arc<Mutex<VecDeque<u8>>>,
    reader: tokio::task::JoinHandle<()>,
}

impl Output {
    /// Begins to read, in a task of its own.
    ///
    /// # Errors
    /// What the system says of the pipe.
    pub fn collect(from: PipeReader) -> io::Result<Self> {
        let mut pipe = pipe::Receiver::from_owned_fd(from.into())?;
        let tail = Arc::new(Mutex::new(VecDeque::with_capacity(OUTPUT_MAX)));
        let into = Arc::clone(&tail);
        let reader = tokio::spawn(async move {
            let mut chunk = [0; 4096];
            while let Ok(read @ 1..) = pipe.read(&mut chunk).await {
                let mut tail = into.lock().unwrap_or_else(PoisonError::into_inner);
                tail.extend(&chunk[..read]);
                let surplus = tail.len().saturating_sub(OUTPUT_MAX);
                tail.drain(..surplus);
            }
        });
        Ok(Self { tail, reader })
    }

    /// What was read; the rest is waited for a moment.
    pub async fn finish(mut self) -> String {
        if tokio::time::timeout(OUTPUT_WAIT, &mut self.reader).await.is_err() {
            self.reader.abort();
        }
        let mut tail = self.tail.lock().unwrap_or_else(PoisonError::into_inner);
        String::from_utf8_lossy(tail.make_contiguous()).into_owned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::doctor::tree::Tree;

    #[test]
    fn root_runs_no_program_that_another_could_have_changed() {
        let tree = || Tree::new().file("/usr/bin/tar", "x").link("/bin", "usr/bin").mode("/usr/bin/tar", 0o755);
        let check = |tree: &Tree| check_program(&tree.node(), Path::new("/bin/tar"));
        check(&tree()).unwrap();
        let step = |tree: Tree| match check(&tree).unwrap_err() {
            RungError::NotRoots { step, fix, .. } => (step.display().to_string(), fix),
            other => panic!("{other}"),
        };
        assert_eq!(step(tree().mode("/usr", 0o775).owner("/usr", 0, 50)), ("/usr".into(), "chmod g-w /usr".into()));
        assert_eq!(step(tree().mode("/usr/bin/tar", 0o757)).0, "/usr/bin/tar");
        assert_eq!(step(tree().owner("/usr/bin", 1001, 0)), ("/usr/bin".into(), "chown -h root /usr/bin".into()));
        assert_eq!(
            step(tree().mode("/", 0o1777).owner("/bin", 1001, 0)).0,
            "/bin",
            "whose link it is puts another there"
        );
        assert_eq!(step(tree().gone("/usr/bin/tar")).0, "/bin/tar");
        // As /nix/store is: others may add to it, and change nothing.
        check(&tree().mode("/usr", 0o1775)).unwrap();
    }
}
