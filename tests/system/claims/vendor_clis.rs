//! The vendors' real CLIs as ticks: away, not set up, broken by their own update, put back.
//!
//! A tick here is what it is on a node, `claude --print`, `gemini -p` and `codex exec`; there is no way out, so their vendors
//! are one small server on loopback (`tests/fixtures/vendor/vendor.mjs`), which is there or not.

use crate::lab::Unfit;
use crate::node::{Node, PERSONAS};
use crate::stage::Stage;
use crate::vendors::{self, ARCHIVES, MODULES};
use std::fmt::Write as _;
use std::time::Duration;

super::claims! {
    a_vendors_cli_without_its_vendor_is_environment_and_nobody_restarts_it,
    a_damaged_vendors_cli_is_put_back_from_a_local_archive_and_ticks_again,
    a_vendors_cli_that_cannot_be_put_back_ends_held_and_a_human_is_called,
}

const VENDOR: &str = include_str!("../../fixtures/vendor/vendor.mjs");
const VENDOR_UNIT: &str = "[Service]\nExecStart=/usr/bin/node /usr/local/lib/vendor.mjs 8999 ok\n";
/// Committee, persona, CLI and its archive, the arguments of a tick, what its environment holds once it is set up.
const CLIS: [(&str, &str, &str, &str); 3] = [
    ("otto", "claude", "\"--print\"", "ANTHROPIC_API_KEY=no-key\nANTHROPIC_BASE_URL=http://127.0.0.1:8999\n"),
    (
        "lior",
        "gemini",
        "\"-p\"",
        "GEMINI_API_KEY=no-key\nGOOGLE_GEMINI_BASE_URL=http://127.0.0.1:8999\nGEMINI_MODEL=gemini-2.5-flash\n\
         GEMINI_CLI_TRUST_WORKSPACE=true\nGEMINI_CLI_NO_RELAUNCH=true\n",
    ),
    ("vera", "codex", "\"exec\"", "CODEX_API_KEY=no-key\n"),
];
const GEMINI_SETTINGS: &str = r#"{"security":{"auth":{"selectedType":"gemini-api-key"}}}"#;
const CODEX_CONFIG: &str = "openai_base_url = \"http://127.0.0.1:8999/v1\"";
/// Real CLIs take seconds, on a busy host many.
const PATIENCE: Duration = Duration::from_secs(180);

/// A node with the CLIs, whose personas tick them all the time, each tick with a limit.
fn node(stage: &'static Stage) -> Result<Node, Unfit> {
    let layer = vendors::layer(&stage.lab)?;
    let machine = stage.with_committee_under(&[&layer])?;
    let mut config = "mode = \"act\"\n[policy.drill]\nenabled = true\n[page]\n\
                      command = [\"/bin/sh\", \"-c\", \"echo $* | systemd-cat -t paged\", \"page\"]\n"
        .to_owned();
    for (persona, cli, argument, _) in CLIS {
        // gemini needs 4 s for a good tick, and 20 s where others want the CPU too.
        let limit = if persona == "lior" { "45s" } else { "20s" };
        let archive = format!("{ARCHIVES}/{cli}.tgz");
        let _ = write!(
            config,
            "[personas.{persona}]\ncommand = [\"{cli}\", {argument}, \"say ok\"]\n\
             tick_interval = \"3s\"\ntick_limit = \"{limit}\"\n\
             [[personas.{persona}.ladder]]\naction = \"restart\"\n\
             [[personas.{persona}.ladder]]\naction = \"run\"\nlimit = \"2m\"\n\
             argv = [\"/bin/tar\", \"-xzf\", \"{archive}\", \"-C\", \"/\"]\n\
             [[personas.{persona}.ladder]]\naction = \"page\"\n"
        );
    }
    machine.prepare("/etc/zeta-bft/conf.d/50-vendors.toml", &config)?;
    machine.prepare("/etc/zeta-bft/env/lior", "GEMINI_API_KEY=no-key\n")?;
    machine.prepare("/usr/local/lib/vendor.mjs", VENDOR)?;
    machine.prepare("/etc/systemd/system/vendor.service", VENDOR_UNIT)?;
    machine.boot()?;
    let node = Node::on(machine);
    node.ask(&["systemctl", "enable", "--now", "zeta-bft.target"]);
    Ok(node)
}

/// Logs everybody in and trusts the folders, as an operator does.
fn set_up(node: &Node) {
    for (persona, _, _, environment) in CLIS {
        node.sh(&format!("mkdir -p /etc/zeta-bft/env && cat >/etc/zeta-bft/env/{persona} <<'.'\n{environment}.\n"))
            .expect_ok();
    }
    // codex trusts what is a git checkout.
    node.sh("mkdir -p /var/lib/zeta/vera/.git/objects /var/lib/zeta/vera/.git/refs").expect_ok();
    for (persona, path, text) in [
        ("lior", ".gemini/settings.json", GEMINI_SETTINGS),
        ("vera", ".codex/config.toml", CODEX_CONFIG),
        ("vera", ".git/HEAD", "ref: refs/heads/main"),
    ] {
        let file = format!("/var/lib/zeta/{persona}/{path}");
        node.sh(&format!(
            "mkdir -p $(dirname {file}) && cat >{file} <<'.'\n{text}\n.\nchown -R zeta-{persona}: $(dirname {file})"
        ))
        .expect_ok();
    }
    for persona in PERSONAS {
        node.ask(&["systemctl", "restart", &format!("zeta-{persona}.service")]);
    }
}

/// Class and reason that the two others see in a persona, when they say the same.
fn seen(node: &Node, persona: &str) -> Option<(String, String)> {
    let quorum = node.quorum();
    let verdicts = quorum.subject(persona)["verdicts"].as_array()?.clone();
    let mut words = verdicts.iter().filter(|said| said["persona"] != persona).map(|said| {
        (said["fault_class"].as_str().unwrap_or("none").to_owned(), said["reason"].as_str().unwrap_or("").to_owned())
    });
    let first = words.next()?;
    (words.next()? == first).then_some(first)
}

#[track_caller]
fn await_seen(node: &Node, persona: &str, class: &str, reasons: &[&str]) {
    let mut last = None;
    let found = crate::lab::await_true(PATIENCE, || {
        std::thread::sleep(Duration::from_millis(300));
        last = seen(node, persona);
        last.as_ref().is_some_and(|(is, why)| is == class && reasons.contains(&why.as_str()))
    });
    assert!(found, "{persona} is not seen as {class} {reasons:?} but {last:?}");
}

#[track_caller]
fn await_good_ticks(node: &Node) {
    let good = |persona| seen(node, persona).is_some_and(|(class, why)| class == "none" && why == "tick_ok");
    let all = crate::lab::await_true(PATIENCE, || {
        std::thread::sleep(Duration::from_millis(300));
        PERSONAS.iter().all(|persona| good(persona))
    });
    assert!(all, "not everybody ticks: {:?}", PERSONAS.map(|persona| seen(node, persona)));
}

fn a_vendors_cli_without_its_vendor_is_environment_and_nobody_restarts_it(stage: &'static Stage) -> Result<(), Unfit> {
    let node = node(stage)?;
    // Nothing is set up: not logged in; a key, but a folder that is not trusted; no folder that is trusted.
    await_seen(&node, "otto", "ENVIRONMENT", &["auth"]);
    await_seen(&node, "lior", "ENVIRONMENT", &["setup"]);
    await_seen(&node, "vera", "ENVIRONMENT", &["setup"]);
    // All is set up, and the vendor is away: one says nothing, the others retry; the tick limit ends it.
    set_up(&node);
    await_seen(&node, "otto", "ENVIRONMENT", &["vendor_silent", "network_down"]);
    await_seen(&node, "lior", "ENVIRONMENT", &["vendor_silent", "network_down"]);
    await_seen(&node, "vera", "ENVIRONMENT", &["vendor_silent", "network_down"]);
    // The vendor is back.
    node.ask(&["systemctl", "start", "vendor.service"]);
    await_good_ticks(&node);
    assert_eq!(PERSONAS.map(|persona| node.intents(persona)), [0; 3], "{:?}", node.history());
    Ok(())
}

/// One way in which an update can leave a CLI, by a shell's lines.
struct Damage {
    persona: &'static str,
    what: &'static str,
    lines: &'static str,
    reasons: &'static [&'static str],
}

/// With `$M` for npm's folder.
const DAMAGES: &[Damage] = &[
    Damage {
        persona: "otto",
        what: "the native binary is truncated",
        lines: "F=$M/@anthropic-ai/claude-code/bin/claude.exe; head -c 8000000 $F >$F.new && chmod 755 $F.new && mv $F.new $F",
        reasons: &["cli_broken"],
    },
    Damage {
        persona: "lior",
        what: "a bundled module is missing",
        lines: "rm $M/@google/gemini-cli/bundle/gemini-*.js",
        reasons: &["cli_broken"],
    },
    Damage {
        persona: "vera",
        what: "the entry file is empty",
        lines: "F=$M/@openai/codex/bin/codex.js; rm $F && install -m 755 /dev/null $F",
        reasons: &["cli_broken", "tick_not_started"],
    },
    Damage {
        persona: "lior",
        what: "the entry file is not executable",
        lines: "chmod 644 $M/@google/gemini-cli/bundle/gemini.js",
        reasons: &["tick_not_started"],
    },
    Damage {
        persona: "otto",
        what: "the binary is gone",
        lines: "rm $M/@anthropic-ai/claude-code/bin/claude.exe",
        reasons: &["tick_not_started"],
    },
];

fn damage(node: &Node, lines: &str) {
    node.sh(&format!("set -e; M={MODULES}; {lines}")).expect_ok();
}

fn a_damaged_vendors_cli_is_put_back_from_a_local_archive_and_ticks_again(stage: &'static Stage) -> Result<(), Unfit> {
    let node = node(stage)?;
    node.ask(&["systemctl", "start", "vendor.service"]);
    set_up(&node);
    await_good_ticks(&node);
    for Damage { persona, what, lines, reasons } in DAMAGES {
        let before = node.receipts_of(persona).len();
        damage(&node, lines);
        await_seen(&node, persona, "BROKEN", reasons);
        await_good_ticks(&node);
        node.await_state(persona, "healthy");
        let history = node.history();
        let ours: Vec<_> = history.iter().filter(|entry| entry["subject"] == *persona).collect();
        let actions: Vec<_> = ours.iter().filter_map(|entry| entry["action"].as_str()).collect();
        assert!(node.receipts_of(persona).len() > before, "{what}");
        assert_eq!(actions.last(), Some(&"run"), "{what}: {actions:?}");
        assert!(actions.contains(&"restart"), "{what}: {actions:?}");
    }
    node.verify();
    Ok(())
}

fn a_vendors_cli_that_cannot_be_put_back_ends_held_and_a_human_is_called(stage: &'static Stage) -> Result<(), Unfit> {
    let node = node(stage)?;
    node.ask(&["systemctl", "start", "vendor.service"]);
    set_up(&node);
    await_good_ticks(&node);
    damage(&node, &format!("rm {ARCHIVES}/codex.tgz $M/@openai/codex/bin/codex.js"));
    let held = crate::lab::await_true(PATIENCE, || {
        std::thread::sleep(Duration::from_millis(300));
        node.state("vera") == "held"
    });
    assert!(held, "{:?}", node.quorum().subject("vera"));
    let pages = || node.ask(&["journalctl", "-t", "paged", "--no-pager", "-o", "cat"]);
    node.await_until("a page", || pages().contains("vera"));
    assert_eq!(["otto", "lior"].map(|persona| node.intents(persona)), [0; 2], "{:?}", node.history());
    Ok(())
}
