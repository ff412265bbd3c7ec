//! `zeta-bft explain`

use super::ask::{block_on, inspect, json_line, plain, print};
use super::history::receipt_line;
use super::quorum::subject_lines;
use crate::config::paths::Paths;
use crate::error::Failure;
use crate::protocol::policy::SubjectKind;
use crate::protocol::types::PersonaId;
use crate::wire::v1::{ExplainRequest, Explanation, LookView, SubjectView};
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
        let mut explanation = asked.map_err(|silence| silence.into_failure())?;
        explanation.looks = looks(paths, explanation.subject.as_ref()).await;
        Ok(explanation)
    })?;
    print(&if args.json { json_line(&explanation)? } else { render(&explanation) })?;
    Ok(ExitCode::SUCCESS)
}

/// What each agent saw of a k3s when it last looked. Each is asked itself: nobody passes another's look on.
async fn looks(paths: &Paths, subject: Option<&SubjectView>) -> Vec<LookView> {
    let Some(subject) = subject.filter(|subject| subject.kind == SubjectKind::K3s.as_str()) else { return Vec::new() };
    let mut looks = Vec::new();
    for verdict in &subject.verdicts {
        let Ok(persona) = PersonaId::new(&verdict.persona) else { continue };
        let request = ExplainRequest { about: subject.name.clone() };
        let socket = paths.agent_socket(&persona);
        // One that does not answer has nothing to show; that it is silent stands elsewhere.
        if let Ok(own) = inspect(&socket, async |mut client| client.explain(request).await).await {
            looks.extend(own.looks);
        }
    }
    looks
}

/// One look, for people.
fn look_lines(look: &LookView) -> Vec<String> {
    let class = look.fault_class.as_deref().unwrap_or("healthy");
    let mut lines = vec![format!("{}: {} ({class}), {} ms ago: {}", look.persona, look.row, look.age_ms, look.says)];
    lines.extend(Some(&look.seen).filter(|seen| !seen.is_empty()).map(|seen| format!("    {seen}")));
    lines.extend(look.held_back.iter().map(|why| format!("    held back: {why}")));
    lines.extend(look.unseen.iter().map(|what| format!("    not seen: {what}")));
    lines
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
    if !explanation.looks.is_empty() {
        text += "\nwhat each saw\n";
    }
    for line in explanation.looks.iter().flat_map(look_lines) {
        let _ = writeln!(text, "  {}", plain(&line));
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
    use crate::wire::v1::{HistoryEntry, TimelineEntry, VerdictView};

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
            looks: vec![LookView {
                persona: "otto".into(),
                row: "disk-full".into(),
                fault_class: Some("ENVIRONMENT".into()),
                says: "A file system is full.".into(),
                held_back: Some("it is young".into()),
                ..LookView::default()
            }],
            receipts: vec![HistoryEntry { seq: 4, outcome: Some("ok".into()), ..HistoryEntry::default() }],
        };
        let text = render(&explanation);
        let wanted = "lior was repaired for CRASH.\n\nepisode 3.2, round 0, rung 0\n  \
                      otto (anthropic) says DOWN CRASH: killed, 12 ms ago\n\nwhat each saw\n  \
                      otto: disk-full (ENVIRONMENT), 0 ms ago: A file system is full.\n      \
                      held back: it is young\n\nwhat happened\n  \
                      2026-11-23T15:00:00Z  certified\u{fffd}[2J\n\nreceipts\n  4  ";
        assert!(text.starts_with(wanted), "{text}");
    }
}
