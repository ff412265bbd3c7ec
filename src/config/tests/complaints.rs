//! Bad configurations and their exact complaints.

use super::{GOOD, complaint, with};

#[test]
fn a_complaint_shows_line_caret_and_nearest_name() {
    assert_eq!(
        complaint("cluster = \"home\"\nnode = \"n1\"\nmoed = \"act\"\n"),
        "node.toml:3:1: unknown field `moed`\n  3 | moed = \"act\"\n    | ^^^^ did you mean `mode`?"
    );
}

#[test]
fn every_bad_configuration_gets_its_own_complaint() {
    let run = |argv: &str| with(&format!("[[personas.otto.ladder]]\naction = \"run\"\nargv = {argv}\n"));
    let aside = |action: &str, path: &str| {
        with(&format!("[[personas.otto.ladder]]\naction = \"{action}\"\npath = \"{path}\"\n"))
    };
    let cases: Vec<(String, &str)> = vec![
        (
            GOOD.replace("\"act\"", "\"atc\""),
            "node.toml:3:8: unknown value `atc`\n  3 | mode = \"atc\"\n    |        ^^^^^ did you mean `act`?",
        ),
        (
            GOOD.replace("\"act\"", "act"),
            "node.toml:3:8: string values must be quoted, expected literal string\n  3 | mode = act\n    |        ^^^",
        ),
        (
            GOOD.replace("mode = \"act\"\n", ""),
            "node.toml: `mode` is missing: write mode = \"observe\" or mode = \"act\"",
        ),
        (GOOD.replace("cluster = \"home\"\n", ""), "node.toml: `cluster` is missing"),
        (
            GOOD.replace("\"n1\"", "\"N 1\""),
            "node.toml:2:8: `N 1` is no node name: use 1 to 64 of a-z, 0-9, `-`, `.`, `_`, beginning with a letter or digit\n  2 | node = \"N 1\"\n    |        ^^^^^",
        ),
        (
            GOOD.replace("\"anthropic\"", "\"antropic\""),
            "node.toml:5:10: unknown vendor `antropic`\n  5 | vendor = \"antropic\"\n    |          ^^^^^^^^^^ did you mean `anthropic`?",
        ),
        (
            GOOD.replace("\"openai\"", "\"anthropic\""),
            "node.toml: f = 1 needs at least 3 distinct vendors, but there are 2",
        ),
        (
            format!("f = 2\n{GOOD}"),
            "node.toml:1:5: f = 2 needs at least 5 distinct vendors, but there are 3\n  1 | f = 2\n    |     ^",
        ),
        (
            format!("f = 0\n{GOOD}"),
            "node.toml:1:5: f must be at least 1: with f = 0 a single liar moves everything\n  1 | f = 0\n    |     ^",
        ),
        (
            format!("q = 3\n{GOOD}"),
            "node.toml:1:5: q = 3 does not fit 3 vendors and f = 1: it must be from 2 (f+1) to 2 (the voters a persona has)\n  1 | q = 3\n    |     ^",
        ),
        (
            with("[personas.alexa]\nvendor = \"alibaba-qwen\"\n"),
            "node.toml:13:11: persona alexa has no `command`\n  13 | [personas.alexa]\n     |           ^^^^^",
        ),
        (
            with("[personas.alexa]\ncommand = [\"qwen\"]\n"),
            "node.toml:13:11: persona alexa has no `vendor`\n  13 | [personas.alexa]\n     |           ^^^^^",
        ),
        (
            with("[personas.warden]\nvendor = \"openai\"\ncommand = [\"x\"]\n"),
            "node.toml:13:11: a persona cannot be called `warden`: the word is taken\n  13 | [personas.warden]\n     |           ^^^^^^",
        ),
        (
            with("[personas.alexa]\nvendor = \"alibaba-qwen\"\ncommand = []\n"),
            "node.toml:15:11: a command needs at least a program\n  15 | command = []\n     |           ^^",
        ),
        (
            with("[personas.alexa]\nvendor = \"alibaba-qwen\"\ncommand = [\"x\"]\ntick_intervall = \"60s\"\n"),
            "node.toml:16:1: unknown field `tick_intervall`\n  16 | tick_intervall = \"60s\"\n     | ^^^^^^^^^^^^^^ did you mean `tick_interval`?",
        ),
        (
            with("[personas.alexa]\nvendor = \"alibaba-qwen\"\ncommand = [\"x\"]\ntick_interval = \"60\"\n"),
            "node.toml:16:17: invalid value: string \"60\", expected a duration with its unit, such as \"250ms\", \"60s\" or \"30m\"\n  16 | tick_interval = \"60\"\n     |                 ^^^^",
        ),
        (
            with("[personas.alexa]\nvendor = \"alibaba-qwen\"\ncommand = [\"x\"]\ntick_interval = 60\n"),
            "node.toml:16:17: invalid type: integer `60`, expected a duration with its unit, such as \"250ms\", \"60s\" or \"30m\"\n  16 | tick_interval = 60\n     |                 ^^",
        ),
        (
            with("[personas.alexa]\nvendor = \"alibaba-qwen\"\ncommand = [\"x\"]\ntick_limit = \"0s\"\n"),
            "node.toml:16:14: 0s is out of range: it must be from 100ms to 7days\n  16 | tick_limit = \"0s\"\n     |              ^^^^",
        ),
        (
            with("[personas.alexa]\nvendor = \"alibaba-qwen\"\ncommand = [\"x\"]\nunit = \"zeta-otto.service\"\n"),
            "node.toml:4:11: alexa and otto have one and the same unit, zeta-otto.service\n  4 | [personas.otto]\n    |           ^^^^",
        ),
        (
            with("[personas.alexa]\nvendor = \"alibaba-qwen\"\ncommand = [\"x\"]\nunit = \"k3s-alexa.service\"\n"),
            "node.toml:16:8: `k3s-alexa.service` begins with `k3s`: k3s-killall.sh would stop it together with k3s\n  16 | unit = \"k3s-alexa.service\"\n     |        ^^^^^^^^^^^^^^^^^^^",
        ),
        (
            with("[personas.alexa]\nvendor = \"alibaba-qwen\"\ncommand = [\"x\"]\nunit = \"../alexa.service\"\n"),
            "node.toml:16:8: `../alexa.service` is no name of a service, such as `zeta-otto.service`\n  16 | unit = \"../alexa.service\"\n     |        ^^^^^^^^^^^^^^^^^^",
        ),
        (
            with("[personas.alexa]\nvendor = \"alibaba-qwen\"\ncommand = [\"x\"]\nworking_dir = \"home\"\n"),
            "node.toml:16:15: working_dir must be an absolute path\n  16 | working_dir = \"home\"\n     |               ^^^^^^",
        ),
        (
            with("[[personas.otto.patterns]]\nregex = \"(\"\nreason = \"quota\"\n"),
            "node.toml:14:9: no regular expression\n  14 | regex = \"(\"\n     |         ^^^ unclosed group",
        ),
        (
            with(
                "[personas.alexa]\nvendor = \"alibaba-qwen\"\ncommand = [\"x\"]\n[[personas.alexa.patterns]]\nregex = \".*\"\nreason = \"quota\"\n",
            ),
            "node.toml:17:9: this pattern matches every line: no failed tick would ever count\n  17 | regex = \".*\"\n     |         ^^^^",
        ),
        (
            with(
                "[personas.alexa]\nvendor = \"alibaba-qwen\"\ncommand = [\"x\"]\n[[personas.alexa.patterns]]\nregex = \"a(\"\nreason = \"quota\"\n",
            ),
            "node.toml:17:9: no regular expression\n  17 | regex = \"a(\"\n     |         ^^^^ unclosed group",
        ),
        (
            with(
                "[personas.alexa]\nvendor = \"alibaba-qwen\"\ncommand = [\"x\"]\n[[personas.alexa.patterns]]\nregex = \"a\"\nreason = \"running\"\n",
            ),
            "node.toml:18:10: unknown value `running`\n  18 | reason = \"running\"\n     |          ^^^^^^^^^ expected `quota`, `auth`, `setup`, `vendor_down`, `network_down` or `disk_full`",
        ),
        (
            with("[subjects.\"oto/agent\"]\nexit0 = \"fault\"\n"),
            "node.toml:13:11: unknown persona `oto`\n  13 | [subjects.\"oto/agent\"]\n     |           ^^^^^^^^^^^ did you mean `otto`?",
        ),
        (
            with("[subjects.otto]\nexit0 = \"fault\"\n"),
            "node.toml:13:11: `otto` is a persona: write its options below [personas.otto]\n  13 | [subjects.otto]\n     |           ^^^^",
        ),
        (
            with("[subjects.tunnel]\nunit = \"tunnel.service\"\n"),
            "node.toml:13:11: subject tunnel has no `kind`: write kind = \"unit\" or kind = \"k3s\"\n  13 | [subjects.tunnel]\n     |           ^^^^^^",
        ),
        (
            with("[subjects.tunnel]\nkind = \"unit\"\n"),
            "node.toml:13:11: subject tunnel has no `unit`\n  13 | [subjects.tunnel]\n     |           ^^^^^^",
        ),
        (
            with("[subjects.k3s]\nkind = \"k8s\"\n"),
            "node.toml:14:8: unknown value `k8s`\n  14 | kind = \"k8s\"\n     |        ^^^^^ did you mean `k3s`?",
        ),
        (
            with("[policy]\nheartbeat = \"1s\"\n"),
            "node.toml:14:13: heartbeat = 1s must not exceed a quarter of crash.vote_ttl = 2s: votes must be renewed well before they expire\n  14 | heartbeat = \"1s\"\n     |             ^^^^",
        ),
        (
            with("[policy.hang]\nchallenge = \"1s\"\n"),
            "node.toml:14:13: hang.challenge = 1s must be less than half of hang.vote_ttl = 2s: an answer must come while the votes still hold\n  14 | challenge = \"1s\"\n     |             ^^^^",
        ),
        (
            with("[policy.broken]\nvote_ttl = \"900ms\"\n"),
            "node.toml:14:12: broken.challenge = 500ms must be less than half of broken.vote_ttl = 900ms: an answer must come while the votes still hold\n  14 | vote_ttl = \"900ms\"\n     |            ^^^^^^^",
        ),
        (
            with("[policy]\nbroken_ticks = 0\n"),
            "node.toml:14:16: broken_ticks = 0 must be from 1 to 100\n  14 | broken_ticks = 0\n     |                ^",
        ),
        (
            with("[policy]\nnode_per_day = 0\n"),
            "node.toml:14:16: node_per_day must be at least 1\n  14 | node_per_day = 0\n     |                ^",
        ),
        (
            with("[page]\ncommand = [\"mail\"]\n"),
            "node.toml:14:11: `mail` must be an absolute path: no PATH is searched here\n  14 | command = [\"mail\"]\n     |           ^^^^^^^^",
        ),
        (
            with("[metrics]\nwarden = \"127.0.0.1:9465\"\n"),
            "node.toml: the warden and lior's agent have one scrape address, 127.0.0.1:9465: see [metrics]",
        ),
        (
            with("[subjects.k3s]\nkind = \"k3s\"\n[subjects.k3s.budget]\ncapacity = 0\n"),
            "node.toml:16:12: capacity = 0 must be from 1 to 1000\n  16 | capacity = 0\n     |            ^",
        ),
        (
            with("[[subjects.k3s.ladder]]\naction = \"restrat\"\n"),
            "node.toml:14:10: unknown value `restrat`\n  14 | action = \"restrat\"\n     |          ^^^^^^^^^ did you mean `restart`?",
        ),
        (
            with("[subjects.k3s]\nkind = \"k3s\"\nladder = []\n"),
            "node.toml:13:11: a ladder has from 1 to 16 rungs, this one has 0\n  13 | [subjects.k3s]\n     |           ^^^",
        ),
        (
            with("[subjects.k3s]\nkind = \"k3s\"\nladder = [{ action = \"restart\", path = \"/x\" }]\n"),
            "node.toml:15:40: `path` belongs to `move-aside` and `copy-aside`, not to this action\n  15 | ladder = [{ action = \"restart\", path = \"/x\" }]\n     |                                        ^^^^",
        ),
        (
            with("[subjects.k3s]\nkind = \"k3s\"\nladder = [{ action = \"run\" }]\n"),
            "node.toml:15:22: this action needs an `argv`\n  15 | ladder = [{ action = \"run\" }]\n     |                      ^^^^^",
        ),
        (
            GOOD.replace("node = \"n1\"\n", "node = \"n1\"\nnode = \"n2\"\n"),
            "node.toml:3:1: duplicate key\n  3 | node = \"n2\"\n    | ^^^^",
        ),
        (
            run("[\"k3s\"]"),
            "node.toml:15:8: `k3s` must be an absolute path: no PATH is searched here\n  15 | argv = [\"k3s\"]\n     |        ^^^^^^^",
        ),
        (
            run("[\"/bin/k3s\", \"server\", \"--cluster-reset\"]"),
            "node.toml:15:8: `cluster-reset` is never automatic: it makes this node forget all others\n  15 | argv = [\"/bin/k3s\", \"server\", \"--cluster-reset\"]\n     |        ^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^",
        ),
        (
            run("[\"/bin/k3s-killall.sh\"]"),
            "node.toml:15:8: `k3s-killall` needs the operator: it ends every container of the node; write consent = \"quorum+operator\"\n  15 | argv = [\"/bin/k3s-killall.sh\"]\n     |        ^^^^^^^^^^^^^^^^^^^^^^^",
        ),
        (
            aside("move-aside", "/etc/passwd"),
            "node.toml:15:8: `/etc/passwd` lies outside of /var/lib/rancher/k3s/agent/, /tmp/x/state: nothing else may be touched\n  15 | path = \"/etc/passwd\"\n     |        ^^^^^^^^^^^^^",
        ),
    ];
    let mut wrong = Vec::new();
    for (text, expected) in cases {
        let found = complaint(&text);
        if found != expected {
            wrong.push(format!("--- expected\n{expected}\n--- found\n{found}\n=== {found:?}\n"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.concat());
}
