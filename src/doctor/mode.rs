//! Observing or acting; and while it observes, what the node would have done.

use super::finding::{Group, Section};
use crate::config::Settings;
use crate::protocol::policy::Mode;
use crate::protocol::statement::ReceiptKind;
use crate::wire::v1::HistoryEntry;
use std::collections::BTreeMap;

/// Says what mode the node is in. `history`: the receipts that the warden shows, or why there are none.
pub fn check(settings: &Settings, history: &Result<Vec<HistoryEntry>, String>) -> Section {
    let mut section = Section::new(Group::Mode);
    if settings.policy.drill {
        section.warning(
            "drill",
            "policy",
            "drill: budgets or cool-downs are lifted, so a repair that does not help is repeated without end",
            "take [policy.drill] out of node.toml, then restart the warden",
        );
    }
    match settings.policy.mode {
        Mode::Act => return section.summed_up("act: what a quorum certifies is repaired"),
        Mode::Observe => would_have(settings, history, &mut section),
    }
    section
}

fn would_have(settings: &Settings, history: &Result<Vec<HistoryEntry>, String>, section: &mut Section) {
    let restart = match settings.paths.dir() {
        None => "then `systemctl restart zeta-bft-hand zeta-bft-warden`",
        Some(_) => "then start it again",
    };
    let file = settings.paths.node_toml();
    let switch = format!("to let it repair, write mode = \"act\" in {}, {restart}", file.display());
    let entries = match history {
        Ok(entries) => entries,
        Err(why) => {
            section.note("observe", "observe", "nothing is touched", Some(switch));
            let text = format!("the warden does not tell what it would have done: {why}");
            return section.skipped("would-act", "history", text);
        }
    };
    let would: BTreeMap<_, Vec<&HistoryEntry>> = entries
        .iter()
        .filter(|entry| entry.kind == ReceiptKind::WouldAct.as_str())
        .map(|entry| ((&entry.subject, &entry.fault_class, &entry.action), entry))
        .fold(BTreeMap::new(), |mut grouped, (key, entry)| {
            grouped.entry(key).or_insert_with(Vec::new).push(entry);
            grouped
        });
    let summary = match would.values().map(Vec::len).sum::<usize>() {
        0 => "nothing is touched, and nothing would have been done so far".to_owned(),
        1 => "nothing is touched; one repair would have been made".to_owned(),
        n => format!("nothing is touched; {n} repairs would have been made"),
    };
    section.note("observe", "observe", summary, Some(switch));
    for ((subject, class, action), entries) in would {
        let times = match entries.len() {
            1 => "once".to_owned(),
            n => format!("{n} times"),
        };
        // RFC 3339 of one zone: the greatest text is the latest time.
        let last = entries.iter().map(|entry| entry.at.as_str()).max().unwrap_or_default();
        let text = format!("WOULD_ACT: {action} after {class}, {times}, last at {last}");
        section.note("would-act", subject, text, None);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::paths::Paths;
    use crate::config::{self, default_up_toml};
    use crate::doctor::finding::{Level, Report};

    fn settings(mode: &str) -> Settings {
        let text = default_up_toml(false).replace("mode = \"act\"", &format!("mode = \"{mode}\""));
        config::parse(&text, "node.toml", &Paths::below("/d".as_ref())).unwrap()
    }

    fn entry(subject: &str, kind: &str, at: &str) -> HistoryEntry {
        HistoryEntry {
            subject: subject.into(),
            kind: kind.into(),
            at: at.into(),
            action: "restart".into(),
            fault_class: "CRASH".into(),
            ..HistoryEntry::default()
        }
    }

    #[test]
    fn a_node_that_observes_tells_what_it_would_have_done_and_how_to_let_it() {
        let history = vec![
            entry("lior", "WOULD_ACT", "2026-02-01T00:00:00Z"),
            entry("lior", "WOULD_ACT", "2026-03-01T00:00:00Z"),
            entry("otto/agent", "WOULD_ACT", "2026-01-01T00:00:00Z"),
            entry("vera", "OUTCOME", "2026-01-01T00:00:00Z"),
        ];
        let section = check(&settings("observe"), &Ok(history));
        let report = Report::of(&[section]);
        let text = report.render();
        assert!(text.contains("observe: nothing is touched; 3 repairs would have been made"), "{text}");
        assert!(text.contains("next: to let it repair, write mode = \"act\" in /d/etc/node.toml"), "{text}");
        assert!(text.contains("lior: WOULD_ACT: restart after CRASH, 2 times, last at 2026-03-01T00:00:00Z"), "{text}");
        assert!(text.contains("otto/agent: WOULD_ACT: restart after CRASH, once"), "{text}");
        assert!(!text.contains("vera") && report.exit_code() == 0, "{text}");
    }

    #[test]
    fn a_node_that_acts_says_so_in_one_line() {
        let section = check(&settings("act"), &Err("silent".into()));
        assert_eq!((section.findings.len(), section.summary.starts_with("act: ")), (0, true));
    }

    #[test]
    fn what_would_have_been_done_is_skipped_when_the_warden_does_not_tell() {
        let section = check(&settings("observe"), &Err("nothing serves it".into()));
        assert_eq!(section.findings.last().unwrap().level, Level::Skipped);
    }

    #[test]
    fn a_drill_on_a_node_is_a_warning() {
        let section = check(&settings("act").into_drill(true, true), &Ok(Vec::new()));
        assert_eq!(section.findings[0].id, "drill");
    }
}
