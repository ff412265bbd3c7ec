//! `zeta-bft history`

use super::ask::{Silence, block_on, inspect, json_line, plain, print, subject};
use crate::config::paths::Paths;
use crate::error::Failure;
use crate::protocol::types::SubjectName;
use crate::wire::v1::{HistoryEntry, HistoryRequest};
use std::process::ExitCode;

/// Receipts of what was done, newest last.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Of this subject alone.
    #[arg(value_parser = subject, value_name = "SUBJECT")]
    subject: Option<SubjectName>,
    /// As JSON, one receipt per line, each with what `verify` needs to check it.
    #[arg(long)]
    json: bool,
}

/// Runs the command. Exit code 3: nobody could be asked.
///
/// # Errors
/// [`Failure`] for people.
pub fn run(paths: &Paths, args: Args) -> Result<ExitCode, Failure> {
    let request = HistoryRequest { subject: args.subject.map(|subject| subject.to_string()) };
    let printed = block_on(async {
        let failed = |silence: Silence| silence.into_failure();
        let socket = paths.inspect_socket();
        let mut entries = inspect(&socket, async |mut client| client.history(request).await).await.map_err(failed)?;
        let mut printed = 0;
        while let Some(entry) = entries.message().await.map_err(|status| failed(Silence::Refused(Box::new(status))))? {
            print(&if args.json { json_line(&entry)? } else { receipt_line(&entry) + "\n" })?;
            printed += 1;
        }
        Ok(printed)
    })?;
    if printed == 0 && !args.json {
        print("nothing was done yet\n")?;
    }
    Ok(ExitCode::SUCCESS)
}

/// A receipt in one line for people.
pub fn receipt_line(entry: &HistoryEntry) -> String {
    let outcome = entry.outcome.as_deref().unwrap_or("under way");
    let votes = if entry.voters.is_empty() { String::new() } else { format!(", votes of {}", entry.voters.join(", ")) };
    let detail = entry.detail.trim().lines().next().unwrap_or_default();
    let detail = if detail.is_empty() { String::new() } else { format!(": {detail}") };
    let HistoryEntry { seq, at, action, subject, fault_class, episode, rung, .. } = entry;
    let about = format!("{action} of {subject} after {fault_class}: {outcome}");
    plain(&format!("{seq}  {at}  {about} (episode {episode}, rung {rung}{votes}){detail}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_receipt_reads_as_one_line() {
        let entry = HistoryEntry {
            seq: 20,
            at: "2026-11-23T15:00:00Z".into(),
            episode: "3.2".into(),
            subject: "lior".into(),
            action: "restart".into(),
            fault_class: "CRASH".into(),
            outcome: Some("ok".into()),
            detail: "one\ntwo\u{1b}".into(),
            voters: vec!["otto".into(), "vera".into()],
            ..HistoryEntry::default()
        };
        let line =
            "20  2026-11-23T15:00:00Z  restart of lior after CRASH: ok (episode 3.2, rung 0, votes of otto, vera): one";
        assert_eq!(receipt_line(&entry), line);
    }
}
