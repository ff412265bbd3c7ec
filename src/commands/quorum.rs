//! `zeta-bft quorum`

use super::ask::{Inspect, Remote, Silence, block_on, inspect, json_line, plain, print, subject};
use crate::config::paths::Paths;
use crate::error::Failure;
use crate::grpc::client::Backoff;
use crate::inspect::votes_missing;
use crate::protocol::types::SubjectName;
use crate::wire::v1::{QuorumRequest, QuorumView, SubjectView};
use std::fmt::Write as _;
use std::io::IsTerminal as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

/// Who sees what, who voted, and how much failure can still be borne.
///
/// Asks the warden; if it is silent, the agents, whose word is marked unverified. From elsewhere only agents can be asked.
///
/// Exit code: 0 healthy, 1 degraded, 2 lost, 3 the warden could not be asked.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// This subject alone.
    #[arg(value_parser = subject, value_name = "SUBJECT")]
    subject: Option<SubjectName>,
    /// As JSON, one line for each view.
    #[arg(long)]
    json: bool,
    /// Go on showing it, after every change.
    #[arg(long)]
    watch: bool,
    /// Ask the agent that listens there on TCP, with mutual TLS, instead of this machine's warden.
    #[arg(long, value_name = "HOST:PORT", requires = "identity")]
    connect: Option<String>,
    /// As whom: the folder that `zeta-bft certify --inspector` made.
    #[arg(long, value_name = "DIR", requires = "connect")]
    identity: Option<PathBuf>,
}

/// Who is asked.
#[derive(Debug)]
enum Whom<'a> {
    Here(&'a Paths),
    There(Remote),
}

/// Runs the command.
///
/// # Errors
/// [`Failure`] with exit code 3 when nobody answers.
pub fn run(paths: &Paths, args: Args) -> Result<ExitCode, Failure> {
    let request = QuorumRequest { subject: args.subject.as_ref().map(ToString::to_string) };
    block_on(async {
        let whom = match (&args.connect, &args.identity) {
            (Some(address), Some(folder)) => Whom::There(Remote::new(address, folder).await?),
            _ => Whom::Here(paths),
        };
        if args.watch {
            return watch(&whom, &args, request).await;
        }
        let view = ask(&whom, &request).await?;
        show(&view, args.json)?;
        Ok(ExitCode::from(exit_code(&view)))
    })
}

fn show(view: &QuorumView, json: bool) -> Result<(), Failure> {
    print(&if json { json_line(view)? } else { render(view) })
}

/// The warden's view, or else that of the first agent that answers.
async fn ask(whom: &Whom<'_>, request: &QuorumRequest) -> Result<QuorumView, Failure> {
    let paths = match whom {
        Whom::Here(paths) => paths,
        Whom::There(remote) => {
            let asked = remote.inspect(async |mut client| client.quorum(request.clone()).await);
            let view = asked.await.map_err(Silence::into_failure)?;
            return Ok(QuorumView { verified: false, ..view });
        }
    };
    let silence = match ask_at(&paths.inspect_socket(), request).await {
        Ok(view) => return Ok(view),
        Err(silence) if silence.is_refusal() => return Err(silence.into_failure()),
        Err(silence) => silence,
    };
    let mut silent = Vec::new();
    for socket in agent_sockets(paths.run()) {
        match ask_at(&socket, request).await {
            Ok(mut view) => {
                view.verified = false;
                view.notes.insert(0, format!("the warden is silent ({silence}): nothing is repaired"));
                view.notes.extend(silent);
                return Ok(view);
            }
            Err(why) => silent.push(format!("{} is silent too: {why}", socket.display())),
        }
    }
    Err(silence.into_failure())
}

async fn ask_at(socket: &Path, request: &QuorumRequest) -> Result<QuorumView, Silence> {
    let request = request.clone();
    inspect(socket, async |mut client| client.quorum(request).await).await
}

/// The agents' sockets, in order of name.
fn agent_sockets(run: &Path) -> Vec<PathBuf> {
    let mut sockets: Vec<_> = std::fs::read_dir(run)
        .into_iter()
        .flatten()
        .filter_map(|entry| Some(entry.ok()?.path()))
        .filter(|path| path.file_name().and_then(|name| name.to_str()).is_some_and(|name| name.starts_with("agent-")))
        .map(|folder| folder.join("agent.sock"))
        .filter(|socket| socket.exists())
        .collect();
    sockets.sort();
    sockets
}

/// Shows every view until interrupted; a daemon that went away is asked again.
async fn watch(whom: &Whom<'_>, args: &Args, request: QuorumRequest) -> Result<ExitCode, Failure> {
    let clear = !args.json && std::io::stdout().is_terminal();
    let (mut backoff, mut shown) = (Backoff::new(), false);
    let refresh = |view: &QuorumView| {
        if clear {
            print("\x1b[H\x1b[2J")?;
        }
        show(view, args.json)
    };
    loop {
        let wish = request.clone();
        let question = async |mut client: Inspect| client.watch(wish).await;
        let begun = match whom {
            Whom::Here(paths) => inspect(&paths.inspect_socket(), question).await,
            Whom::There(remote) => remote.inspect(question).await,
        };
        match begun {
            Ok(mut views) => {
                while let Ok(Some(mut view)) = views.message().await {
                    view.verified &= matches!(whom, Whom::Here(_));
                    backoff.reset();
                    shown = true;
                    refresh(&view)?;
                }
            }
            Err(silence) if silence.is_refusal() => return Err(silence.into_failure()),
            Err(_) => match ask(whom, &request).await {
                Ok(view) => refresh(&view)?,
                Err(failure) if !shown => return Err(failure),
                Err(failure) => complain!("{failure}"),
            },
        }
        tokio::time::sleep(backoff.next_delay()).await;
    }
}

fn exit_code(view: &QuorumView) -> u8 {
    match (view.verified, view.status.as_str()) {
        (false, _) => 3,
        (true, "healthy") => 0,
        (true, "degraded") => 1,
        (true, "lost") => 2,
        (true, _) => 3,
    }
}

/// For people: the status first, then what is missing, then every subject.
fn render(view: &QuorumView) -> String {
    let mut vendors: Vec<_> = view.personas.iter().map(|persona| &persona.vendor).collect();
    vendors.sort();
    vendors.dedup();
    let unverified = if view.verified { "" } else { " (unverified)" };
    let margin = match view.margin {
        n if n < 0 => format!("{} to repair some subject", votes_missing(n)),
        0 => "no further failure can be borne".to_owned(),
        1 => "one further failure can be borne".to_owned(),
        n => format!("{n} further failures can be borne"),
    };
    let mut text = format!(
        "{}{unverified}: {} of {} vendors live, {} must agree; {margin}\n",
        plain(&view.status),
        view.vendors_live,
        vendors.len(),
        view.threshold
    );
    for note in &view.notes {
        let _ = writeln!(text, "  {}", plain(note));
    }
    let _ = writeln!(
        text,
        "node {}, roster {}, f = {}, mode {}, warden instance {}\n",
        plain(&view.node),
        view.roster_epoch,
        view.f,
        plain(&view.mode),
        plain(&view.warden_instance)
    );
    text + &table(view)
}

fn table(view: &QuorumView) -> String {
    let personas: Vec<_> = view.personas.iter().map(|persona| persona.persona.as_str()).collect();
    let heads = ["SUBJECT", "STATE", "PID", "INCARNATION", "RUNG", "LEFT"].map(str::to_owned);
    let mut rows =
        vec![heads.into_iter().chain(personas.iter().map(|persona| cell(&persona.to_uppercase()))).collect()];
    for subject in &view.subjects {
        rows.push(row(subject, &personas));
    }
    let columns = rows.iter().map(Vec::len).max().unwrap_or(0);
    let width = |column: usize| rows.iter().filter_map(|row| row.get(column)).map(|cell| cell.chars().count()).max();
    let widths: Vec<_> = (0..columns).map(|column| width(column).unwrap_or(0)).collect();

    let mut text = String::new();
    for (index, row) in rows.iter().enumerate() {
        let line: String = row.iter().zip(&widths).map(|(cell, width)| format!("{cell:width$}  ")).collect();
        let _ = writeln!(text, "{}", line.trim_end());
        let subject = index.checked_sub(1).and_then(|index| view.subjects.get(index));
        for line in subject.map(subject_lines).unwrap_or_default() {
            let _ = writeln!(text, "  {line}");
        }
    }
    text
}

/// What fits into a column; longer names are nobody's.
fn cell(text: &str) -> String {
    plain(text).chars().take(100).collect()
}

fn row(subject: &SubjectView, personas: &[&str]) -> Vec<String> {
    let verdict = |persona: &str| {
        let said = subject.verdicts.iter().find(|verdict| verdict.persona == persona);
        said.map_or("-", |said| match (said.verdict.as_str(), said.fault_class.as_deref()) {
            ("UP", None) => "up",
            (_, Some(class)) => class,
            _ => "unknown",
        })
        .to_owned()
    };
    let run = subject.incarnation.get(..8).unwrap_or(&subject.incarnation);
    let mut cells = vec![
        cell(&subject.name),
        cell(&subject.state),
        subject.pid.map_or("-".to_owned(), |pid| pid.to_string()),
        cell(run),
        subject.rung.to_string(),
        subject.budget.to_string(),
    ];
    cells.extend(personas.iter().map(|persona| cell(&verdict(persona))));
    cells
}

/// What there is to say of a subject beyond its row.
pub fn subject_lines(subject: &SubjectView) -> Vec<String> {
    let mut lines = Vec::new();
    if subject.state != "healthy" {
        let reason = subject.reason.as_deref().map(|reason| format!(" ({})", reason.replace('_', " ")));
        let held = subject.held_by.as_deref().map(|by| format!(", held by {by}"));
        let deadline =
            subject.deadline_ms.map(|ms| format!(", {:.1} s left", std::time::Duration::from_millis(ms).as_secs_f64()));
        let extra: String = [reason, held, deadline].into_iter().flatten().collect();
        lines.push(format!("{} in episode {}{extra}", subject.state.replace('_', " "), subject.episode));
    }
    for vote in &subject.votes {
        let challenged = if vote.challenged { ", seen again after the challenge" } else { "" };
        lines.push(format!(
            "{} ({}) votes {}, {} ms ago{challenged}",
            vote.persona, vote.vendor, vote.fault_class, vote.age_ms
        ));
    }
    if let Some(at) = &subject.resume_at {
        lines.push(format!("ENVIRONMENT: work can go on at {at}"));
    }
    if let Some(last) = &subject.last_action {
        lines.push(format!(
            "last: {} on rung {}, {}, {} (episode {})",
            last.action, last.rung, last.outcome, last.at, last.episode
        ));
    }
    lines.iter().map(|line| plain(line)).collect()
}

#[cfg(test)]
mod tests;
