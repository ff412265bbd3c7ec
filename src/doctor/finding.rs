//! What the doctor says: one finding per thing found, in groups.

use serde::Serialize;
use std::fmt::{self, Write as _};

/// How bad it is, best first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Level {
    /// Nothing is wrong.
    Ok,
    /// It could not be looked at: neither healthy nor unhealthy.
    Skipped,
    /// Works, but not as it should.
    Warning,
    /// Something does not work, or a promise does not hold.
    Error,
}

impl Level {
    /// The word that is printed.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Skipped => "skipped",
            Self::Warning => "warning",
            Self::Error => "error",
        }
    }
}

/// A theme that is checked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Group {
    /// Files of the configuration, roster, keys, journal.
    Configuration,
    /// The system users.
    Users,
    /// What these users may do beyond their own.
    Rights,
    /// The units, as systemd has loaded them.
    Units,
    /// What the agents need to ask k3s.
    K3s,
    /// systemd, D-Bus, polkit.
    Bus,
    /// Folders, sockets and scrape ports of the running daemons.
    Runtime,
    /// The clocks.
    Clock,
    /// Free space.
    Disk,
    /// What the kernel shows.
    Kernel,
    /// Observing or acting, and what observing has shown.
    Mode,
}

impl Group {
    /// The word that is printed.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Configuration => "configuration",
            Self::Users => "users",
            Self::Rights => "rights",
            Self::Units => "units",
            Self::K3s => "k3s",
            Self::Bus => "bus",
            Self::Runtime => "runtime",
            Self::Clock => "clock",
            Self::Disk => "disk",
            Self::Kernel => "kernel",
            Self::Mode => "mode",
        }
    }
}

impl fmt::Display for Group {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// One thing found.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// Its theme.
    pub group: Group,
    /// A stable word for it.
    pub id: &'static str,
    /// How bad it is.
    pub level: Level,
    /// Which file, user, unit or subject.
    pub subject: String,
    /// What was found, and why it matters.
    pub text: String,
    /// What to do about it.
    pub fix: Option<String>,
}

/// All that was found of one theme.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Section {
    /// The theme.
    pub group: Group,
    /// What is well, in one line, when nothing was found.
    pub summary: String,
    /// What was found, in order.
    pub findings: Vec<Finding>,
}

impl Section {
    /// Nothing found yet.
    pub fn new(group: Group) -> Self {
        Self { group, summary: String::new(), findings: Vec::new() }
    }

    /// A theme that could not be looked at.
    pub fn skipped_whole(group: Group, why: &str) -> Self {
        let mut section = Self::new(group);
        section.skipped("not-checked", group.as_str(), why);
        section
    }

    /// What is well when nothing was found.
    #[must_use]
    pub fn summed_up(mut self, summary: impl Into<String>) -> Self {
        self.summary = summary.into();
        self
    }

    fn push(&mut self, level: Level, id: &'static str, subject: &str, text: String, fix: Option<String>) {
        let finding = Finding { group: self.group, id, level, subject: subject.to_owned(), text, fix };
        // One thing is said once, however many ways lead to it.
        if !self.findings.contains(&finding) {
            self.findings.push(finding);
        }
    }

    /// Something does not work.
    pub fn error(&mut self, id: &'static str, subject: &str, text: impl Into<String>, fix: impl Into<String>) {
        self.push(Level::Error, id, subject, text.into(), Some(fix.into()));
    }

    /// Something is not as it should be.
    pub fn warning(&mut self, id: &'static str, subject: &str, text: impl Into<String>, fix: impl Into<String>) {
        self.push(Level::Warning, id, subject, text.into(), Some(fix.into()));
    }

    /// Something could not be looked at.
    pub fn skipped(&mut self, id: &'static str, subject: &str, why: impl Into<String>) {
        self.push(Level::Skipped, id, subject, why.into(), None);
    }

    /// Something worth knowing.
    pub fn note(&mut self, id: &'static str, subject: &str, text: impl Into<String>, fix: Option<String>) {
        self.push(Level::Ok, id, subject, text.into(), fix);
    }

    /// The worst level found.
    pub fn level(&self) -> Level {
        self.findings.iter().map(|finding| finding.level).max().unwrap_or(Level::Ok)
    }

    /// The finding that stands for a theme in which nothing was found.
    fn all_well(&self) -> Finding {
        Finding {
            group: self.group,
            id: self.group.as_str(),
            level: Level::Ok,
            subject: self.group.to_string(),
            text: self.summary.clone(),
            fix: None,
        }
    }
}

/// What all themes amount to.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Report {
    /// The worst level.
    pub level: Level,
    /// How many errors.
    pub errors: usize,
    /// How many warnings.
    pub warnings: usize,
    /// How many things could not be looked at.
    pub skipped: usize,
    /// Everything, in order.
    pub findings: Vec<Finding>,
}

impl Report {
    /// Of these themes.
    pub fn of(sections: &[Section]) -> Self {
        let mut findings = Vec::new();
        for section in sections {
            if section.findings.is_empty() {
                findings.push(section.all_well());
            }
            findings.extend(section.findings.iter().cloned());
        }
        let count = |level| findings.iter().filter(|finding: &&Finding| finding.level == level).count();
        Self {
            level: sections.iter().map(Section::level).max().unwrap_or(Level::Ok),
            errors: count(Level::Error),
            warnings: count(Level::Warning),
            skipped: count(Level::Skipped),
            findings,
        }
    }

    /// 0 nothing wrong, 1 warnings, 2 errors. What was skipped counts as neither.
    pub fn exit_code(&self) -> u8 {
        match self.level {
            Level::Ok | Level::Skipped => 0,
            Level::Warning => 1,
            Level::Error => 2,
        }
    }

    /// For people: a line for each finding, then what to do.
    pub fn render(&self) -> String {
        let mut text = String::new();
        for Finding { group, level, subject, text: said, fix, .. } in &self.findings {
            let about = if subject == group.as_str() { String::new() } else { format!("{}: ", plain(subject)) };
            let _ = writeln!(text, "{:7}  {group}: {about}{}", level.as_str(), plain(said));
            if let Some(fix) = fix {
                // Where nothing is wrong, it is what comes next.
                let word = if *level == Level::Ok { "next" } else { "fix" };
                let _ = writeln!(text, "         {word}: {}", plain(fix));
            }
        }
        let _ = writeln!(text, "{}", self.verdict());
        text
    }

    fn verdict(&self) -> String {
        let counted = |n: usize, one: &str| match n {
            1 => format!("1 {one}"),
            n => format!("{n} {one}s"),
        };
        let skipped = match self.skipped {
            0 => String::new(),
            n => format!("; {n} not checked"),
        };
        match self.level {
            Level::Error | Level::Warning => {
                format!("{}, {}{skipped}", counted(self.errors, "error"), counted(self.warnings, "warning"))
            }
            Level::Ok | Level::Skipped => format!("nothing wrong was found{skipped}"),
        }
    }
}

/// Names and texts come from files that others may have written: no control character reaches a terminal.
fn plain(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { '\u{fffd}' } else { c }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_theme_in_which_nothing_was_found_is_one_line() {
        let report = Report::of(&[Section::new(Group::Clock).summed_up("synchronised")]);
        assert_eq!(report.render(), "ok       clock: synchronised\nnothing wrong was found\n");
        assert_eq!(report.exit_code(), 0);
    }

    #[test]
    fn what_was_skipped_is_neither_healthy_nor_unhealthy() {
        let report = Report::of(&[Section::skipped_whole(Group::Units, "no systemd here")]);
        assert_eq!(report.render(), "skipped  units: no systemd here\nnothing wrong was found; 1 not checked\n");
        assert_eq!(report.exit_code(), 0);
    }

    #[test]
    fn the_exit_code_is_that_of_the_worst_finding() {
        let mut section = Section::new(Group::Users);
        section.warning("shared-uid", "zeta", "two share it", "give each its own");
        assert_eq!(Report::of(&[section.clone()]).exit_code(), 1);
        section.error("user-missing", "zeta-otto", "there is no such user", "systemd-sysusers");
        let report = Report::of(&[section]);
        assert_eq!(report.exit_code(), 2);
        assert!(report.render().ends_with(
            "error    users: zeta-otto: there is no such user\n         fix: systemd-sysusers\n1 error, 1 warning\n"
        ));
    }

    #[test]
    fn no_control_character_of_a_file_reaches_the_terminal() {
        let mut section = Section::new(Group::Rights);
        section.error("sudo", "a\u{1b}[2J", "b\nc", "d\u{7}");
        let text = Report::of(&[section]).render();
        assert!(!text.contains('\u{1b}') && !text.contains('\u{7}') && text.lines().count() == 3, "{text:?}");
    }

    #[test]
    fn one_thing_is_said_once() {
        let mut section = Section::new(Group::Rights);
        for _ in 0..3 {
            section.error("sudo", "zeta-otto", "may", "do not");
        }
        assert_eq!(section.findings.len(), 1);
    }
}
