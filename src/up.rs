//! `zeta-bft up`: the whole committee as child processes, with this process as their PID 1.
//!
//! * [`folder`] takes the state folder and sets it up; [`pid1`] runs the units; [`act`] carries out the warden's word;
//!   [`server`] is the socket at which warden and agents see all this; [`parent`] is how children notice our end,
//!   and [`leash`] how commands do that know nothing of us.
//! * A unit that ends with a failure before the committee was ever ready stops everything: a port in use does not end in a
//!   loop of restarts.
//! * After SIGTERM, SIGINT or SIGHUP wrappers are stopped first, then agents, then the warden; nothing of ours outlives that.

pub mod act;
pub mod folder;
pub mod leash;
pub mod parent;
pub mod pid1;
pub mod server;
mod tree;

use crate::config::settings::PersonaSettings;
use crate::config::{self, ConfigError, Settings, default_up_toml};
use crate::grpc::client;
use crate::protocol::evidence::LastExit;
use crate::protocol::types::{PersonaId, SubjectName};
use crate::wire::v1::QuorumRequest;
use crate::wire::v1::QuorumView;
use crate::wire::v1::inspect_service_client::InspectServiceClient;
use folder::Folder;
use pid1::{Change, Pid1, Pid1Error, Restart, UnitName, UnitSpec};
use std::collections::BTreeMap;
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::time::Duration;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::broadcast::Receiver;

/// How long the committee may take until it is announced as it is.
const READY_LIMIT: Duration = Duration::from_secs(15);
/// Time between two looks.
const READY_POLL: Duration = Duration::from_millis(100);

/// `up` cannot go on.
#[derive(Debug, thiserror::Error)]
pub enum UpError {
    /// Another `up` has the folder.
    #[error("another `zeta-bft up` runs on this folder: it holds {}", lock.display())]
    InUse {
        /// Its lock.
        lock: PathBuf,
    },
    /// Something else serves a socket of ours.
    #[error("something still serves {}", path.display())]
    StillServed {
        /// The socket.
        path: PathBuf,
    },
    /// No room for a socket's name.
    #[error("the socket {} would have a name of {} bytes, more than the kernel takes", path.display(), path.as_os_str().len())]
    PathTooLong {
        /// The socket.
        path: PathBuf,
    },
    /// The system refused.
    #[error("cannot use {}", path.display())]
    Io {
        /// What.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// The configuration is bad.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// The first set-up failed.
    #[error(transparent)]
    Setup(#[from] crate::setup::SetupError),
    /// Roster and configuration do not go together.
    #[error(transparent)]
    Roster(#[from] config::roster::RosterFileError),
    /// A key cannot be used.
    #[error(transparent)]
    Key(#[from] crate::keys::KeyFileError),
    /// The journal is not there.
    #[error(transparent)]
    Journal(#[from] crate::journal::JournalError),
    /// PID 1.
    #[error(transparent)]
    Pid1(#[from] Pid1Error),
    /// A unit failed before the committee was ready.
    #[error("`{unit}` ended with exit status {code} before the committee was ready; its own words are above")]
    DiedAtOnce {
        /// Which.
        unit: UnitName,
        /// How.
        code: i32,
    },
}

impl UpError {
    fn io(path: &Path) -> impl FnOnce(std::io::Error) -> Self {
        move |source| Self::Io { path: path.to_owned(), source }
    }
}

/// Runs the committee until it is asked to stop, or fails before it was ready.
///
/// `dir` is the absolute folder, `say` gets each line that is meant for the operator.
///
/// # Errors
/// [`UpError`]; whatever it is, no child is left.
pub async fn run(folder: Folder, dir: &Path, say: impl Fn(&str)) -> Result<(), UpError> {
    let stop = StopSignals::catch()?;
    let program = std::env::current_exe().map_err(UpError::io(Path::new("/proc/self/exe")))?;
    let pid1 = Pid1::new(&program)?;
    let socket = folder.paths.pid1_socket();
    let listener = server::bind(&socket).map_err(UpError::io(&socket))?;
    let page = folder.settings.page.clone();
    let served = server::Served { pid1: pid1.clone(), dir: dir.to_owned(), page };
    let server = tokio::spawn(server::serve(listener, served));
    let run = committee(&pid1, &program, &folder, dir, stop, say).await;
    let drained = pid1.drain().await;
    server.abort();
    folder.clear();
    run.and(drained.map_err(UpError::from))
}

async fn committee(
    pid1: &Pid1,
    program: &Path,
    folder: &Folder,
    dir: &Path,
    mut stop: StopSignals,
    say: impl Fn(&str),
) -> Result<(), UpError> {
    let (_, mut changes) = pid1.watch();
    for (unit, spec) in units(&folder.settings, program, dir) {
        pid1.add(unit.clone(), spec);
        pid1.start(&unit)?;
    }
    let view = tokio::select! {
        view = readiness(folder) => view,
        error = early_end(&mut changes) => return Err(error),
        () = stop.come() => return Ok(()),
    };
    remarks(&folder.settings, folder.vendor_clis).iter().for_each(|remark| say(remark));
    say(&ready_line(folder, dir, view.as_ref()));
    stop.come().await;
    say("stopping");
    Ok(())
}

/// Every unit of the committee, in the order of their start.
fn units(settings: &Settings, program: &Path, dir: &Path) -> Vec<(UnitName, UnitSpec)> {
    let spec = |words: &[&str], restart, stop_order| {
        let mut args: Vec<OsString> = vec!["--dir".into(), dir.into()];
        args.extend(words.iter().map(Into::into));
        args.extend(["--parent".into(), std::process::id().to_string().into()]);
        UnitSpec { program: program.to_owned(), args, restart, stop_order }
    };
    let mut units = vec![(UnitName::Warden, spec(&["warden"], Restart::Always, 2))];
    for persona in settings.personas.keys() {
        let agent = spec(&["agent", "--persona", persona.as_str()], Restart::Always, 1);
        units.push((UnitName::Subject(SubjectName::agent(persona)), agent));
    }
    for persona in settings.personas.keys() {
        let wrapper = spec(&["wrap", "--persona", persona.as_str()], Restart::OnWord, 0);
        units.push((UnitName::Subject(SubjectName::wrapper(persona)), wrapper));
    }
    units
}

/// Waits until all is well, or long enough; says what the warden said last.
async fn readiness(folder: &Folder) -> Option<QuorumView> {
    let mut last = None;
    let watch = async {
        loop {
            if let Some(view) = look(folder).await {
                let healthy = view.status == "healthy";
                last = Some(view);
                if healthy {
                    return;
                }
            }
            tokio::time::sleep(READY_POLL).await;
        }
    };
    let _ = tokio::time::timeout(READY_LIMIT, watch).await;
    last
}

async fn look(folder: &Folder) -> Option<QuorumView> {
    let connection = client::connect(&folder.paths.inspect_socket()).await.ok()?;
    let view = InspectServiceClient::new(connection.channel).quorum(QuorumRequest { subject: None }).await;
    view.ok().map(tonic::Response::into_inner)
}

/// The first unit that ends with a failure. Killed units do not count: somebody wanted that.
async fn early_end(changes: &mut Receiver<Change>) -> UpError {
    loop {
        match changes.recv().await {
            Ok(Change::Unit(unit, state)) => {
                if let LastExit::Code(code @ 1..) = state.last_exit {
                    return UpError::DiedAtOnce { unit, code };
                }
            }
            Ok(Change::Stopping) | Err(_) => std::future::pending().await,
        }
    }
}

/// What the operator should know of this run.
fn remarks(settings: &Settings, asked_for_clis: bool) -> Vec<String> {
    let ticking = |vendor_clis| -> Vec<&str> {
        let usual = config::parse(&default_up_toml(vendor_clis), "default", &settings.paths);
        let usual = usual.map_or_else(|_| BTreeMap::new(), |usual| usual.personas);
        let same = |(name, persona): &(&PersonaId, &PersonaSettings)| {
            usual.get(name).is_some_and(|usual| usual.command == persona.command)
        };
        settings.personas.iter().filter(same).map(|(name, _)| name.as_str()).collect()
    };
    let (local, real) = (ticking(false), ticking(true));
    let ticks = if local.len() + real.len() < settings.personas.len() {
        "ticks: the commands of your configuration".to_owned()
    } else if local.is_empty() {
        "ticks: the vendors' own CLIs, with your credentials".to_owned()
    } else if !real.is_empty() {
        let (real, local) = (real.join(", "), local.join(", "));
        format!("ticks: the vendor's own CLI for {real}, with your credentials; a small local command for {local}")
    } else if asked_for_clis {
        "ticks: a small local command; of claude, gemini and codex none is installed".to_owned()
    } else {
        "ticks: a small local command; nobody's credentials are used; --vendor-clis runs the real ones".to_owned()
    };
    let mut remarks = vec![ticks];
    if !settings.isolation {
        remarks.push("isolation off: one user runs all personas".into());
    }
    if settings.policy.drill {
        remarks.push("drill: budgets and cool-downs are lifted".into());
    }
    remarks
}

fn ready_line(folder: &Folder, dir: &Path, view: Option<&QuorumView>) -> String {
    let announced = std::fs::read_to_string(folder.paths.metrics_address("warden"));
    let metrics = announced.map_or_else(|_| folder.settings.warden_metrics.to_string(), |text| text.trim().to_owned());
    let Settings { f, q, .. } = folder.settings;
    let vendors = match view {
        Some(view) if view.status == "healthy" => format!("{} vendors", view.vendors_live),
        Some(view) => format!(
            "{} vendors live and {} after {} s (see `zeta-bft quorum`)",
            view.vendors_live,
            view.status,
            READY_LIMIT.as_secs()
        ),
        None => format!("the warden has not answered within {} s", READY_LIMIT.as_secs()),
    };
    format!("ready: {vendors}, q={q} of f={f}, metrics http://{metrics}/metrics, state in {}", dir.display())
}

struct StopSignals([Signal; 3]);

impl StopSignals {
    fn catch() -> Result<Self, UpError> {
        let catch = |kind| signal(kind).map_err(Pid1Error::kernel("stop signals cannot be caught"));
        Ok(Self([catch(SignalKind::terminate())?, catch(SignalKind::interrupt())?, catch(SignalKind::hangup())?]))
    }

    async fn come(&mut self) {
        let [terminate, interrupt, hangup] = &mut self.0;
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
            _ = hangup.recv() => {}
        }
    }
}
