//! `zeta-bft explain`

use super::ask::{block_on, inspect, json_line, plain, print};
use super::history::receipt_line;
use super::quorum::subject_lines;
use crate::config::paths::Paths;
use crate::error::Failure;
use crate::wire::v1::{ExplainRequest, Explanation};
use std::fmt::Write as _;
use std::process::ExitCode;

/// Why a subject was, or was not, repaired.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// An episode's number (`3.17`) or a subject's name (`lior`).
    #[arg(value_name = "EPISODE or SUBJECT")]
    about: String,
    /// As JSON.
    #[arg(long)]
    json: bool,
}

/// Runs the command. Exit code 3: nobody could be asked.
///
/// # Errors
/// [`Failure`] for people.
pub fn run(paths: &Paths, args: Args) -> Result<ExitCode, Failure> {
    let request = ExplainRequest { about: args.about };
    let explanation = block_on(async {
        let socket = paths.inspect_socket();
        let asked = inspect(&socket, async |mut client| client.explain(request).await).await;
        asked.map_err(|silence| silence.into_failure())
    })?;
    print(&if args.json { json_line(&explanation)? } else { render(&explanation) })?;
    Ok(ExitCode::SUCCESS)
}

/// For people.
fn render(explanation: &Explanation) -> String {
    let mut text = plain(&explanation.summary) + "\n";
    if let Some(subject) = &explanation.subject {
        let _ = writeln!(text, "\nepisode {}, round {}, rung {}", subject.episode, subject.round, subject.rung);
        for verdict in &subject.verdicts {
            let class = verdict.fault_class.as_deref().map(|class| format!(" {class}")).unwrap_or_default();
            let (persona, vendor, reason) = (&verdict.persona, &verdict.vendor, verdict.reason.replace('_', " "));
            let said =
                format!("{persona} ({vendor}) says {}{class}: {reason}, {} ms ago", verdict.verdict, verdict.age_ms);
            let _ = writeln!(text, "  {}", plain(&said));
        }
        for line in subject_lines(subject) {
            let _ = writeln!(text, "  {line}");
        }
    }
    if !explanation.timeline.is_empty() {
        text += "\nwhat happened\n";
    }
    for entry in &explanation.timeline {
        let _ = writeln!(text, "  {}  {}", plain(&entry.at), plain(&entry.text));
    }
    if !explanation.receipts.is_empty() {
        text += "\nreceipts\n";
    }
    for entry in &explanation.receipts {
        let _ = writeln!(text, "  {}", receipt_line(entry));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::v1::{HistoryEntry, SubjectView, TimelineEntry, VerdictView};

    #[test]
    fn an_explanation_reads_from_the_answer_to_its_grounds() {
        let verdict = VerdictView {
            persona: "otto".into(),
            vendor: "anthropic".into(),
            verdict: "DOWN".into(),
            fault_class: Some("CRASH".into()),
            evidence: "HARD".into(),
            age_ms: 12,
            reason: "killed".into(),
        };
        let explanation = Explanation {
            summary: "lior was repaired for CRASH.".into(),
            subject: Some(SubjectView {
                state: "healthy".into(),
                episode: "3.2".into(),
                verdicts: vec![verdict],
                ..SubjectView::default()
            }),
            timeline: vec![TimelineEntry { at: "2026-11-23T15:00:00Z".into(), text: "certified\u{1b}[2J".into() }],
            receipts: vec![HistoryEntry { seq: 4, outcome: Some("ok".into()), ..HistoryEntry::default() }],
        };
        let text = render(&explanation);
        let wanted = "lior was repaired for CRASH.\n\nepisode 3.2, round 0, rung 0\n  \
                      otto (anthropic) says DOWN CRASH: killed, 12 ms ago\n\nwhat happened\n  \
                      2026-11-23T15:00:00Z  certified\u{fffd}[2J\n\nreceipts\n  4  ";
        assert!(text.starts_with(wanted), "{text}");
    }
}
