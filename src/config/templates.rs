//! The configurations that are written for people: by `init` for a real node, by the first `up` for a folder.

use crate::protocol::types::{ClusterId, NodeId};
use std::fmt::Write as _;

/// The example that is shipped, with every option explained.
const EXAMPLE: &str = include_str!("../../deploy/node.toml");

struct Example {
    persona: &'static str,
    vendor: &'static str,
    program: &'static str,
    cli: &'static str,
}

const PERSONAS: [Example; 3] = [
    Example {
        persona: "otto",
        vendor: "anthropic",
        program: "claude",
        cli: r#"["claude", "--print", "<<autonomous-loop>>"]"#,
    },
    Example {
        persona: "lior",
        vendor: "google-gemini",
        program: "gemini",
        cli: r#"["gemini", "-p", "<<autonomous-loop>>"]"#,
    },
    Example { persona: "vera", vendor: "openai", program: "codex", cli: r#"["codex", "exec", "<<autonomous-loop>>"]"# },
];

/// What the first `up` writes: three personas that tick a small real command, or with `vendor_clis` their vendors' own.
pub fn default_up_toml(vendor_clis: bool) -> String {
    up_toml(|_| vendor_clis)
}

/// The same, with a vendor's own CLI only where `wanted` says so of its program.
pub fn up_toml(wanted: impl Fn(&str) -> bool) -> String {
    let mut text = String::from(
        "# Written by `zeta-bft up`. Yours to change; `zeta-bft check-config` says what is wrong with it.\n\n\
         cluster = \"local\"\nnode = \"local\"\n# act: repairs. observe: says what it would do, and touches nothing.\n\
         mode = \"act\"\n# Vendors that may lie or fail at once, and vendors that must agree.\nf = 1\nq = 2\n",
    );
    for Example { persona, vendor, program, cli } in PERSONAS {
        let (command, interval) =
            if wanted(program) { (cli, "60s") } else { (r#"["/bin/sh", "-c", "date; cat /proc/loadavg"]"#, "5s") };
        write!(
            text,
            "\n[personas.{persona}]\nvendor = \"{vendor}\"\ncommand = {command}\ntick_interval = \"{interval}\"\n"
        )
        .expect("writing to a text does not fail");
    }
    text.push_str(METRICS);
    text
}

const METRICS: &str = "\n[metrics]\n# The warden's scrape address, and the first agent's and wrapper's: the others follow \
                       by name of persona.\nwarden = \"127.0.0.1:9464\"\nagents = \"127.0.0.1:9465\"\nwrappers = \
                       \"127.0.0.1:9475\"\n";

/// What `init` writes for a real node: it observes until the operator lets it act.
pub fn default_node_toml(cluster: &ClusterId, node: &NodeId) -> String {
    EXAMPLE
        .replace("cluster = \"zeta\"", &format!("cluster = \"{cluster}\""))
        .replace("node = \"node\"", &format!("node = \"{node}\""))
}
