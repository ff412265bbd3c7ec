//! The names under which PID 1 carries rungs out: instances of `zeta-bft-rung@.service`.
//!
//! The warden says only which rung of which subject; what is to be done stands in root's configuration, and root reads it
//! there (rule S7).

use crate::protocol::policy::{Action, Policy, RungPolicy};
use crate::protocol::types::SubjectName;

/// The instance of a rung, numbered from 0: the subject with `/` written `-` and `-` written `\x2d`, as systemd escapes
/// paths, so that no two subjects share one.
pub fn instance(subject: &SubjectName, rung: usize) -> String {
    format!("{}-{rung}", subject.as_str().replace('-', "\\x2d").replace('/', "-"))
}

/// The unit of a rung.
pub fn unit(subject: &SubjectName, rung: usize) -> String {
    format!("zeta-bft-rung@{}.service", instance(subject, rung))
}

/// Every rung that root carries out for the warden: subject, number, rung.
pub fn of_root(policy: &Policy) -> impl Iterator<Item = (&SubjectName, usize, &RungPolicy)> {
    policy.subjects.iter().flat_map(|(subject, configured)| {
        let rungs = configured.ladder.iter().enumerate();
        rungs
            .filter(|(_, rung)| {
                matches!(rung.action, Action::Run { .. } | Action::MoveAside { .. } | Action::CopyAside { .. })
            })
            .map(move |(number, rung)| (subject, number, rung))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_two_subjects_share_the_name_of_a_rung() {
        let name = |subject: &str, rung| instance(&SubjectName::new(subject).unwrap(), rung);
        assert_eq!(name("otto", 1), "otto-1");
        assert_eq!(name("otto/agent", 1), "otto-agent-1");
        assert_eq!(name("otto-agent", 1), "otto\\x2dagent-1");
    }
}
