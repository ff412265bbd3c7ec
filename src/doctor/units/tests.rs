//! What is found in units as systemd tells of them, each changed in one thing.

use super::*;
use crate::doctor::accounts::fixture::{PASSWD, cast};
use crate::doctor::finding::Level;
use crate::protocol::types::PersonaId;
use proptest::prelude::*;

const AGENT: &str = "zeta-bft-agent@otto.service";

fn parts() -> BTreeMap<String, Part> {
    let otto = PersonaId::new("otto").unwrap();
    [
        ("zeta-bft-warden.service", Part::Warden),
        (AGENT, Part::Of(Role::Agent(otto.clone()))),
        ("zeta-otto.service", Part::Of(Role::Wrapper(otto))),
        ("k3s.service", Part::K3s),
    ]
    .map(|(unit, part)| (unit.to_owned(), part))
    .into()
}

fn good() -> String {
    let unit = |id: &str, user: &str| {
        format!(
            "Id={id}\nLoadState=loaded\nUnitFileState=enabled\nNeedDaemonReload=no\nFragmentPath=/usr/lib/systemd/system/{id}\n\
             DropInPaths=\nUser={user}\nDynamicUser=no\nType=notify\nStartLimitIntervalUSec=0\nTimeoutStopUSec=10s\n\
             WatchdogUSec=0\nRestart=always\nAfter=dbus.socket basic.target network.target\nRequires=system.slice\n\
             PartOf=zeta-bft.target\n\n"
        )
    };
    unit("zeta-bft-warden.service", "zeta-bft-warden")
        + &unit(AGENT, "901")
        + &unit("zeta-otto.service", "zeta-otto")
        + &unit("k3s.service", "").replace("After=", "After=network-online.target ")
}

fn found(said: &str) -> Vec<(&'static str, Level, String)> {
    let section = check(&parts(), &parse(said), &cast(), &Accounts::parse(PASSWD, ""));
    section.findings.into_iter().map(|finding| (finding.id, finding.level, finding.subject)).collect()
}

/// With one unit changed.
fn changed(unit: &str, from: &str, to: &str) -> Vec<(&'static str, Level)> {
    let blocks: String = good()
        .split_inclusive("\n\n")
        .map(|block| {
            let its = block.starts_with(&format!("Id={unit}\n"));
            assert!(!its || block.contains(from), "{block}");
            if its { block.replace(from, to) } else { block.to_owned() }
        })
        .collect();
    found(&blocks)
        .into_iter()
        .map(|(id, level, subject)| {
            assert_eq!(subject, unit);
            (id, level)
        })
        .collect()
}

#[test]
fn units_as_they_are_shipped_are_well() {
    assert_eq!(found(&good()), []);
}

#[test]
fn a_unit_of_ours_that_waits_for_k3s_or_the_network_is_an_error() {
    for (from, to) in [
        ("After=", "After=k3s.service "),
        ("After=", "After=network-online.target "),
        ("Requires=", "Requires=k3s-agent.service "),
        ("PartOf=", "BindsTo=k3s.service\nPartOf="),
        ("PartOf=", "PartOf=k3s.service "),
    ] {
        assert_eq!(changed(AGENT, from, to), [("unit-order", Level::Error)], "{to}");
    }
}

#[test]
fn a_unit_that_is_missing_masked_broken_or_disabled_is_found() {
    let loaded = "LoadState=loaded";
    assert_eq!(changed(AGENT, loaded, "LoadState=not-found"), [("unit-missing", Level::Error)]);
    assert_eq!(changed(AGENT, loaded, "LoadState=masked"), [("unit-masked", Level::Warning)]);
    assert_eq!(changed(AGENT, loaded, "LoadState=bad-setting"), [("unit-bad", Level::Error)]);
    assert_eq!(changed(AGENT, "=enabled", "=disabled"), [("unit-disabled", Level::Warning)]);
    assert_eq!(changed(AGENT, "=enabled", "=disabled\nWantedBy=zeta-bft.target"), []);
    assert_eq!(changed(AGENT, "NeedDaemonReload=no", "NeedDaemonReload=yes"), [("unit-stale", Level::Warning)]);
}

#[test]
fn a_unit_that_systemd_says_nothing_of_is_skipped_and_not_called_missing() {
    assert_eq!(changed(AGENT, "LoadState=loaded\n", ""), [("unit-unread", Level::Skipped)]);
    assert_eq!(found("").iter().filter(|(id, level, _)| (*id, *level) == ("unit-unread", Level::Skipped)).count(), 4);
}

#[test]
fn another_user_than_the_configured_one_is_an_error() {
    let persona = "zeta-otto.service";
    for to in ["User=", "User=zeta", "User=zeta-bft-otto", "User=0"] {
        assert_eq!(changed(persona, "User=zeta-otto", to), [("unit-user", Level::Error)], "{to}");
    }
    assert_eq!(changed(persona, "User=zeta-otto", "User=902"), []);
    assert_eq!(changed(persona, "DynamicUser=no", "DynamicUser=yes"), [("unit-user", Level::Error)]);
}

#[test]
fn settings_that_hinder_repairs_are_found() {
    assert_eq!(changed(AGENT, "Type=notify", "Type=simple"), [("unit-type", Level::Error)]);
    assert_eq!(changed(AGENT, "Type=notify", "Type=notify-reload"), []);
    assert_eq!(
        changed(AGENT, "StartLimitIntervalUSec=0", "StartLimitIntervalUSec=10s"),
        [("unit-start-limit", Level::Warning)]
    );
    for long in ["1min 30s", "infinity", "16s"] {
        let to = format!("TimeoutStopUSec={long}");
        assert_eq!(changed(AGENT, "TimeoutStopUSec=10s", &to), [("unit-stop-timeout", Level::Warning)], "{long}");
    }
    assert_eq!(changed(AGENT, "TimeoutStopUSec=10s", "TimeoutStopUSec=15s"), []);
    assert_eq!(changed(AGENT, "Restart=always", "Restart=on-failure"), [("unit-restart", Level::Error)]);
    assert_eq!(changed("zeta-bft-warden.service", "Restart=always", "Restart=no"), [("unit-restart", Level::Error)]);
    assert_eq!(changed("zeta-otto.service", "Restart=always", "Restart=no"), []);
    assert_eq!(changed("k3s.service", "WatchdogUSec=0", "WatchdogUSec=1min"), [("k3s-watchdog", Level::Error)]);
    assert_eq!(changed("k3s.service", "WatchdogUSec=0", "WatchdogUSec=infinity"), [("k3s-watchdog", Level::Error)]);
}

#[test]
fn a_lookout_is_wanted_where_there_is_a_k3s_and_found_when_it_is_away() {
    let paths = crate::config::paths::Paths::below(std::path::Path::new("/tmp/x"));
    let of = |more: &str| {
        let text = crate::config::default_up_toml(false) + more;
        wanted(&crate::config::parse(&text, "node.toml", &paths).unwrap())
    };
    let unit = "zeta-bft-lookout.service";
    assert_eq!(of("").get(unit), None);
    let parts = of("[subjects.k3s]\nkind = \"k3s\"\n");
    assert_eq!(parts.get(unit), Some(&Part::Lookout));
    let found = |state: &str| {
        let said = parse(&format!("Id={unit}\n{state}\n"));
        let parts = BTreeMap::from([(unit.to_owned(), Part::Lookout)]);
        let section = check(&parts, &said, &Cast::default(), &Accounts::none());
        section.findings.iter().map(|finding| (finding.id, finding.level)).collect::<Vec<_>>()
    };
    assert_eq!(found("LoadState=loaded\nActiveState=active"), []);
    assert_eq!(found("LoadState=loaded\nActiveState=failed"), [("lookout-away", Level::Warning)]);
    assert_eq!(found("LoadState=not-found"), [("unit-missing", Level::Error)]);
}

#[test]
fn the_files_of_the_units_are_told_once_each() {
    let said = parse("Id=a\nFragmentPath=/u/a\nDropInPaths=/e/b /e/c\n\nId=b\nFragmentPath=/u/a\n");
    assert_eq!(files(&said), ["/e/b", "/e/c", "/u/a"]);
}

proptest! {
    #[test]
    fn no_answer_of_systemctl_makes_the_reader_panic(said in "(Id|User|After|[a-z=\n 0-9é]){0,80}", text in any::<String>()) {
        let _ = (found(&said), parse(&text), span(&text));
    }
}
