//! What the lookout tells agents of each k3s: whether it does, and whether agents believe it.

use super::finding::Section;
use crate::config::Settings;
use crate::observe::k3s::lookout::{Disbelief, Lookout};
use crate::protocol::types::{SubjectName, Timestamp};

const UNIT: &str = "zeta-bft-lookout.service";

/// Where agents read it, for each k3s of a configuration.
pub fn of(settings: &Settings) -> Vec<(SubjectName, Lookout)> {
    let k3s = settings.k3s.keys();
    k3s.map(|name| (name.clone(), Lookout::new(settings.paths.lookout(name), name.clone()))).collect()
}

/// Reads what agents read.
pub fn check(lookouts: &[(SubjectName, Lookout)], now: Timestamp, section: &mut Section) {
    // Said once, of all.
    if section.findings.iter().any(|finding| finding.id == "not-running") {
        return;
    }
    for (subject, lookout) in lookouts {
        let subject = subject.as_str();
        match lookout.believed(now) {
            Ok(facts) if facts.files.unseen.is_empty() => {}
            Ok(facts) => section.skipped("lookout-unseen", subject, facts.files.unseen.join("; ")),
            // In a container the boot's id is not the same for every process: agents, in a sandbox as the lookout is, may see it
            // as the lookout does.
            Err(Disbelief::OtherBoot) => section.skipped("lookout-unread", subject, Disbelief::OtherBoot.to_string()),
            Err(disbelief) => {
                let text = format!(
                    "{disbelief}; so agents see neither its empty keys nor the line that it ended by, and judge it without"
                );
                let fix = format!("`journalctl -u {UNIT}` says what it does; then `systemctl restart {UNIT}`");
                match disbelief {
                    Disbelief::NotRoots(_) | Disbelief::Writable(_) => {
                        let fix =
                            "find out who wrote it, with root's rights; then make its folder anew: ".to_owned() + &fix;
                        section.error("lookout-forged", subject, text, fix);
                    }
                    _ => section.warning("lookout-silent", subject, text, fix),
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::finding::{Group, Level};
    use super::*;
    use crate::clock;
    use crate::observe::k3s::FileFacts;
    use crate::observe::k3s::lookout::{FRESH, RootFacts, publish};
    use std::time::Duration;

    fn found(lookout: &Lookout, subject: &SubjectName, now: Timestamp) -> Vec<(&'static str, Level)> {
        let mut section = Section::new(Group::Runtime);
        check(&[(subject.clone(), lookout.clone())], now, &mut section);
        section.findings.iter().map(|finding| (finding.id, finding.level)).collect()
    }

    #[test]
    fn a_lookout_that_is_missing_stale_or_forged_is_found() {
        let dir = tempfile::tempdir().unwrap();
        let (path, subject) = (dir.path().join("k3s.json"), SubjectName::new("k3s").unwrap());
        let me = rustix::process::getuid().as_raw();
        let lookout = Lookout::new(path.clone(), subject.clone()).of_user(me);
        let now = clock::now();
        assert_eq!(found(&lookout, &subject, now), [("lookout-silent", Level::Warning)]);
        let tell = |unseen: &[&str]| {
            let files = FileFacts { unseen: unseen.iter().map(ToString::to_string).collect(), ..FileFacts::default() };
            let facts = RootFacts { files, ..RootFacts::default() };
            publish(&path, &subject, clock::boot_id().unwrap(), now, &facts).unwrap();
        };
        tell(&[]);
        assert_eq!(found(&lookout, &subject, now), []);
        let late = now + FRESH + Duration::from_secs(1);
        assert_eq!(found(&lookout, &subject, late), [("lookout-silent", Level::Warning)]);
        assert_eq!(found(&lookout.clone().of_user(me + 1), &subject, now), [("lookout-forged", Level::Error)]);
        let facts = RootFacts::default();
        publish(&path, &subject, crate::protocol::types::BootId([1; 16]), now, &facts).unwrap();
        assert_eq!(found(&lookout, &subject, now), [("lookout-unread", Level::Skipped)]);
        tell(&["/var/lib/kubelet: gone"]);
        assert_eq!(found(&lookout, &subject, now), [("lookout-unseen", Level::Skipped)]);
    }

    #[test]
    fn of_a_committee_that_does_not_run_nothing_more_is_said() {
        let mut section = Section::new(Group::Runtime);
        section.error("not-running", "committee", "x", "y");
        let subject = SubjectName::new("k3s").unwrap();
        let lookout = Lookout::new("/nowhere/at/all".into(), subject.clone());
        check(&[(subject, lookout)], clock::now(), &mut section);
        assert_eq!(section.findings.len(), 1);
    }
}
