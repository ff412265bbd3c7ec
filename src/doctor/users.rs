//! Every part has a user of its own, and none of them is root: what keeps one AI from another, and all of them from the
//! warden's journal and keys.

use super::accounts::{Accounts, Cast};
use super::finding::{Group, Section};
use std::collections::BTreeMap;

const MAKE: &str = "run `systemd-sysusers`: the package ships /usr/lib/sysusers.d/zeta-bft.conf";

/// Checks the users of the committee. `may_share`: the configuration says `allow_shared_uid`.
pub fn check(cast: &Cast, accounts: &Accounts, may_share: bool) -> Section {
    let mut section = Section::new(Group::Users);
    let mut holders: BTreeMap<u32, Vec<String>> = BTreeMap::new();
    for (role, name) in &cast.names {
        let Some(account) = accounts.user(name) else {
            let text = format!("there is no such user, so {role} cannot start");
            section.error("user-missing", name, text, MAKE);
            continue;
        };
        if account.uid == 0 {
            let text = format!("{role} would run as root: nothing that it does could be contained");
            section.error("user-is-root", name, text, "give it a system user of its own; `user` in node.toml names it");
        }
        holders.entry(account.uid).or_default().push(role.to_string());
    }
    for (uid, roles) in holders.iter().filter(|(uid, roles)| **uid != 0 && roles.len() > 1) {
        let (name, roles) = (accounts.name_of(*uid), roles.join(" and "));
        let text = format!("isolation off: {roles} run as one user, and each can read, trace and kill the other");
        let fix = "give each its own system user";
        if may_share {
            section.warning("shared-uid", &name, text, format!("{fix} and take `allow_shared_uid` out of node.toml"));
        } else {
            section.error("shared-uid", &name, text, fix);
        }
    }
    section.summed_up(format!("{} users, each of its own, none is root", cast.names.len()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::doctor::accounts::fixture::{PASSWD, cast};
    use crate::doctor::finding::Level;

    fn found(passwd: &str, may_share: bool) -> Vec<(&'static str, Level, String)> {
        let section = check(&cast(), &Accounts::parse(passwd, ""), may_share);
        section.findings.into_iter().map(|finding| (finding.id, finding.level, finding.subject)).collect()
    }

    #[test]
    fn users_of_their_own_are_well() {
        assert_eq!(found(PASSWD, false), []);
    }

    #[test]
    fn a_missing_user_is_an_error() {
        let found = found("zeta-bft-warden:x:900:900\nzeta-otto:x:902:902\n", false);
        assert_eq!(found, [("user-missing", Level::Error, "zeta-bft-otto".to_owned())]);
    }

    #[test]
    fn an_ai_that_is_root_is_an_error() {
        let found = found("zeta-bft-warden:x:900:900\nzeta-bft-otto:x:901:901\nzeta-otto:x:0:0\n", true);
        assert_eq!(found, [("user-is-root", Level::Error, "zeta-otto".to_owned())]);
    }

    #[test]
    fn a_shared_user_is_an_error_and_a_warning_where_the_configuration_allows_it() {
        let passwd = "zeta-bft-warden:x:900:900\nzeta-bft-otto:x:901:901\nzeta-otto:x:901:901\n";
        assert_eq!(found(passwd, false), [("shared-uid", Level::Error, "zeta-bft-otto".to_owned())]);
        assert_eq!(found(passwd, true), [("shared-uid", Level::Warning, "zeta-bft-otto".to_owned())]);
        let text = &check(&cast(), &Accounts::parse(passwd, ""), true).findings[0].text;
        assert!(text.contains("isolation off: otto's agent and otto itself"), "{text}");
    }
}
