//! Users: as whom wrappers, agents and units run, and that nobody shares one unless it is said.

use super::{GOOD, NODE_USERS, complaint, paths, users, with};
use crate::config::paths::Paths;
use crate::config::users::{Account, Users};
use crate::config::{Settings, parse, parse_with};
use crate::protocol::types::SubjectName;

fn on_a_node(text: &str) -> Result<Settings, String> {
    parse_with(text, "node.toml", &Paths::system(), &users(NODE_USERS)).map_err(|error| error.to_string())
}

#[test]
fn on_a_node_wrappers_and_agents_run_as_their_own_users_and_foreign_units_as_whoever() {
    let settings =
        on_a_node(&with("[subjects.tunnel]\nkind = \"unit\"\nunit = \"t.service\"\n[subjects.k3s]\nkind = \"k3s\"\nuser = \"zeta-bft-page\"\n")).unwrap();
    let uid = |name: &str| settings.policy.subjects[&SubjectName::new(name).unwrap()].uid;
    assert_eq!(
        (uid("lior"), uid("lior/agent"), uid("vera"), uid("vera/agent")),
        (Some(902), Some(903), Some(906), Some(907))
    );
    assert_eq!((uid("tunnel"), uid("k3s")), (None, Some(901)));
    assert!(settings.isolation);
    let below_a_folder =
        parse(&with("[subjects.\"otto/agent\"]\nuser = \"nobody-of-this-name\"\n"), "node.toml", &paths()).unwrap();
    assert!(below_a_folder.policy.subjects.values().all(|subject| subject.uid.is_none()));
}

#[test]
fn a_user_that_is_not_there_or_written_twice_is_a_complaint_with_place_and_cure() {
    let otto = |more: &str| GOOD.replace("[\"claude\"]\n", &format!("[\"claude\"]\n{more}"));
    assert_eq!(
        on_a_node(&otto("user = \"zeta-ottto\"\n")).unwrap_err(),
        "node.toml:7:8: there is no user `zeta-ottto` on this node\n  7 | user = \"zeta-ottto\"\n    |        ^^^^^^^^^^^^ \
         `systemd-sysusers` makes those that come with zeta-bft; user = \"NAME\" names another"
    );
    assert!(
        on_a_node(&GOOD.replace("otto]", "otta]"))
            .unwrap_err()
            .starts_with("node.toml:4:11: there is no user `zeta-otta` on this node\n  4 | [personas.otta]")
    );
    assert!(
        on_a_node(&otto("uid = 1\nuser = \"zeta-otto\"\n"))
            .unwrap_err()
            .starts_with("node.toml:8:8: both user = \"zeta-otto\" and uid = 1 are written: one of them is enough")
    );
    assert!(complaint(&otto("uid = 1\nuser = \"x\"\n")).contains("one of them is enough"), "below a folder as well");
}

#[test]
fn nobody_shares_the_user_of_a_wrapper_or_an_agent_unless_it_is_said() {
    let otto = |more: &str| GOOD.replace("[\"claude\"]\n", &format!("[\"claude\"]\n{more}"));
    for (text, place, both) in [
        (otto("user = \"zeta-lior\"\n"), "node.toml:7:8: ", "lior and otto have one user, 902"),
        (otto("uid = 907\n"), "node.toml: ", "otto and vera/agent have one user, 907"),
        (otto("uid = 0\n"), "node.toml:7:7: ", "root and otto have one user, 0"),
        (otto("user = \"zeta-bft-warden\"\n"), "node.toml:7:8: ", "the warden and otto have one user, 900"),
        (otto("user = \"zeta-bft-page\"\n"), "node.toml:7:8: ", "the page unit and otto have one user, 901"),
        (
            with("[subjects.\"otto/agent\"]\nuser = \"zeta-otto\"\n"),
            "node.toml:14:8: ",
            "otto and otto/agent have one user, 904",
        ),
        (
            with("[subjects.tunnel]\nkind = \"unit\"\nunit = \"t.service\"\nuser = \"zeta-vera\"\n"),
            "node.toml: ",
            "tunnel and vera have one user, 906",
        ),
    ] {
        let found = on_a_node(&text).unwrap_err();
        assert!(found.starts_with(&format!("{place}{both}: ")) && found.contains("allow_shared_uid = true"), "{found}");
        let allowed = on_a_node(&format!("allow_shared_uid = true\n{text}")).unwrap();
        assert!(!allowed.isolation, "{text}");
        assert!(parse(&text, "node.toml", &paths()).is_ok(), "below a folder nothing is looked up");
    }
    assert!(on_a_node(&format!("allow_shared_uid = false\n{GOOD}")).unwrap().isolation);
}

#[test]
fn the_digest_covers_the_users_by_their_numbers() {
    let digest = |text: &str| on_a_node(text).unwrap().policy.digest;
    let page = |written: &str| with(&format!("[subjects.k3s]\nkind = \"k3s\"\n{written}\n"));
    assert_eq!(digest(&page("user = \"zeta-bft-page\"")), digest(&page("uid = 901")));
    assert_ne!(digest(&page("uid = 77")), digest(&page("uid = 901")));
    let moved = Users::Only(
        [("zeta-bft-vera", 990)]
            .into_iter()
            .chain(NODE_USERS[..7].iter().copied().zip(900..))
            .map(|(name, id)| (name.to_owned(), Account { uid: id, gid: id }))
            .collect(),
    );
    let elsewhere = parse_with(GOOD, "node.toml", &Paths::system(), &moved).unwrap().policy.digest;
    assert_ne!(elsewhere, digest(GOOD));
}
