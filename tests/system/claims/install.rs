//! From the package to a committee.

use crate::lab::Unfit;
use crate::node::{Config, Node, PATIENCE, PERSONAS, WATCH};
use crate::stage::{self, Stage};
use zeta_bft::protocol::statement::ReceiptKind;

super::claims! {
    the_installed_package_ends_in_a_running_committee_after_init,
    an_upgrade_that_breaks_one_agent_leaves_the_others_and_the_former_build_brings_it_back,
    a_package_that_is_removed_leaves_no_unit_and_no_rule_behind,
}

fn the_installed_package_ends_in_a_running_committee_after_init(stage: &'static Stage) -> Result<(), Unfit> {
    let machine = stage.with_package()?;
    stage::install(&machine)?;
    let node = Node::on(machine);
    assert!(!node.exec(&["systemctl", "is-active", "zeta-bft.target"]).ok(), "it runs before anybody set it up");
    node.ask(&["zeta-bft", "init"]);
    for unit in ["zeta-bft.target", "zeta-bft-warden.service"] {
        node.await_until(unit, || node.exec(&["systemctl", "is-active", unit]).ok());
    }
    for persona in PERSONAS {
        for unit in [format!("zeta-{persona}.service"), format!("zeta-bft-agent@{persona}.service")] {
            node.await_until(&unit, || node.unit(&unit).runs());
        }
    }
    node.await_until("three vendors", || node.quorum().view["vendors_live"] == 3);
    let quorum = node.quorum();
    assert_eq!((&quorum.view["mode"], &quorum.view["isolation"]), (&"observe".into(), &true.into()), "{quorum:?}");
    assert_eq!(node.ask(&["systemctl", "is-enabled", "zeta-bft.target"]), "enabled");

    // Observing, it says what it would have done, and does nothing.
    let lior = node.unit("zeta-lior.service");
    node.signal("zeta-lior.service", "KILL");
    let would = |node: &Node| node.receipts_of("lior").iter().any(|receipt| receipt.kind == ReceiptKind::WouldAct);
    node.await_until("WOULD_ACT", || would(&node));
    node.holds_for(WATCH, "lior waits for systemd's own restart", || !node.unit("zeta-lior.service").runs());
    assert_eq!(node.intents("lior"), 0);
    let history = node.history();
    assert_eq!((&history[0]["subject"], &history[0]["outcome"]), (&"lior".into(), &"would_act".into()), "{history:?}");
    let doctor = node.exec(&["zeta-bft", "doctor"]);
    assert!(doctor.out.contains("observe"), "{doctor}");
    node.await_replaced("zeta-lior.service", &lior);

    // One line switches.
    node.sh("sed -i 's/^mode = \"observe\"/mode = \"act\"/' /etc/zeta-bft/node.toml").expect_ok();
    node.ask(&["systemctl", "restart", "zeta-bft.target"]);
    node.await_until("it acts", || {
        let quorum = node.quorum();
        quorum.view["mode"] == "act" && quorum.view["vendors_live"] == 3 && node.unit("zeta-lior.service").runs()
    });
    let lior = node.unit("zeta-lior.service");
    node.await_until("lior is healthy", || node.state("lior") == "healthy");
    node.signal("zeta-lior.service", "KILL");
    node.await_replaced("zeta-lior.service", &lior);
    assert_eq!(node.intents("lior"), 1);
    node.await_until("its receipt", || node.history().iter().any(|entry| entry["outcome"] == "ok"));
    node.verify();
    Ok(())
}

fn an_upgrade_that_breaks_one_agent_leaves_the_others_and_the_former_build_brings_it_back(
    stage: &'static Stage,
) -> Result<(), Unfit> {
    let node = Node::healthy_with(stage, &Config::acting())?;
    let agents = PERSONAS.map(|persona| format!("zeta-bft-agent@{persona}.service"));
    let runs = || agents.each_ref().map(|agent| node.unit(agent).run().to_owned());
    let upgrade = || node.exec_within(PATIENCE * 3, &["/var/lib/dpkg/info/zeta-bft.postinst", "configure", "0.0.1"]);
    let before = runs();
    let build = "#!/bin/sh\n[ \"$1\" != agent ] || exit 1\nexec /usr/lib/zeta-bft.former \"$@\"\n";
    node.sh(&format!(
        "mv /usr/bin/zeta-bft /usr/lib/zeta-bft.former && printf '{build}' >/usr/bin/zeta-bft && chmod 755 /usr/bin/zeta-bft"
    ))
    .expect_ok();
    let bad = upgrade();
    let away: Vec<_> = (0..3).filter(|at| runs()[*at] != before[*at]).collect();
    let [away] = away[..] else { panic!("restarted: {away:?}; {bad}") };
    assert!(bad.ok() && bad.err.contains(&format!("{} did not come back", agents[away])), "{bad}");
    for (at, agent) in agents.iter().enumerate().filter(|(at, _)| *at != away) {
        assert!(bad.err.contains(&format!("systemctl restart {agent}\n")), "{bad}");
        assert_eq!(node.unit(agent).run(), before[at], "{agent}");
    }
    assert_eq!(node.quorum().view["vendors_live"], 2);

    node.sh("mv /usr/lib/zeta-bft.former /usr/bin/zeta-bft").expect_ok();
    let good = upgrade();
    assert!(good.ok() && !good.err.contains("old build"), "{good}");
    assert!(runs().iter().zip(&before).all(|(now, then)| now != then), "not all are new");
    node.await_healthy();
    Ok(())
}

fn a_package_that_is_removed_leaves_no_unit_and_no_rule_behind(stage: &'static Stage) -> Result<(), Unfit> {
    let machine = stage.with_committee()?;
    machine.boot()?;
    let node = Node::on(machine);
    node.ask(&["systemctl", "enable", "--now", "zeta-bft.target"]);
    node.await_until("the warden", || node.unit("zeta-bft-warden.service").runs());
    node.exec_within(PATIENCE, &["dpkg", "--purge", "zeta-bft"]).expect_ok();
    let left = node
        .sh("ls -d /etc/zeta-bft /var/lib/zeta-bft /run/zeta-bft /etc/polkit-1/rules.d/49-zeta-bft.rules 2>/dev/null");
    assert_eq!(left.out, "");
    assert_eq!(node.exec(&["pgrep", "-x", "zeta-bft"]).out, "", "something still runs");
    Ok(())
}
