//! The polkit rule that lets the warden act: text for polkit 0.106 or newer, made from the configuration.
//!
//! Rules:
//! * the warden's user may start, restart, stop and kill the configured units, and reset their failures; it may start (no
//!   more) the rungs that the configuration has, and pages by number;
//! * units are named one by one. Everything else is none of this rule's business: it returns nothing, so that other rules
//!   and polkit's defaults decide;
//! * a transient unit is never meant: a unit whose file is gone must not come back with a command of the warden's choice.
//!   Asked about one, systemd 252 names no unit, and newer ones name it as if it were started, but say so in the message for
//!   people;
//! * the text depends on the configuration alone, so that it can be compared.

use super::rung;
use super::users::WARDEN;
use crate::protocol::policy::Policy;
use std::collections::BTreeSet;
use std::fmt::Write as _;

/// What may be done with a configured unit, in PID 1's words.
const VERBS: [&str; 5] = ["start", "restart", "stop", "kill", "reset-failed"];

/// The rule for what is configured.
pub fn rule(policy: &Policy) -> String {
    let units: BTreeSet<_> = policy.subjects.values().map(|subject| subject.unit.clone()).collect();
    let rungs: BTreeSet<_> = rung::of_root(policy).map(|(subject, number, _)| rung::unit(subject, number)).collect();
    let verbs = VERBS.map(literal).join(", ");
    format!(
        "// What the warden of zeta-bft may ask PID 1 for. Made from node.toml: `zeta-bft polkit` prints it, and after a change\n\
         // `zeta-bft init --refresh` writes it anew.\n\
         polkit.addRule(function (action, subject) {{\n\
         \x20   if (action.id !== \"org.freedesktop.systemd1.manage-units\" || subject.user !== {user}) {{\n\
         \x20       return undefined;\n\
         \x20   }}\n\
         \x20   var unit = action.lookup(\"unit\"), verb = action.lookup(\"verb\");\n\
         \x20   if (typeof unit !== \"string\" || typeof verb !== \"string\") {{\n\
         \x20       return undefined;\n\
         \x20   }}\n\
         \x20   // Units that exist, not such as are made up in the call.\n\
         \x20   if (/transient/.test(action.lookup(\"polkit.message\"))) {{\n\
         \x20       return undefined;\n\
         \x20   }}\n\
         \x20   var units = {units};\n\
         \x20   var verbs = [{verbs}];\n\
         \x20   if (units.indexOf(unit) >= 0 && verbs.indexOf(verb) >= 0) {{\n\
         \x20       return polkit.Result.YES;\n\
         \x20   }}\n\
         \x20   // What root's configuration says of a rung is done as written: there is only whether.\n\
         \x20   var rungs = {rungs};\n\
         \x20   if (verb === \"start\" && (rungs.indexOf(unit) >= 0 || /^zeta-bft-page@[0-9]{{1,20}}\\.service$/.test(unit))) {{\n\
         \x20       return polkit.Result.YES;\n\
         \x20   }}\n\
         \x20   return undefined;\n\
         }});\n",
        user = literal(WARDEN),
        units = list(&units),
        rungs = list(&rungs),
    )
}

/// An array of texts, one to a line.
fn list(texts: &BTreeSet<String>) -> String {
    if texts.is_empty() {
        return "[]".to_owned();
    }
    let lines: Vec<_> = texts.iter().map(|text| format!("\n        {}", literal(text))).collect();
    format!("[{}\n    ]", lines.join(","))
}

/// A text as JavaScript writes it: whatever is not plain is written as its number.
fn literal(text: &str) -> String {
    let mut quoted = String::from("\"");
    for unit in text.encode_utf16() {
        match char::from_u32(unit.into()) {
            Some(c) if c.is_ascii_alphanumeric() || "@._:- ".contains(c) => quoted.push(c),
            _ => write!(quoted, "\\u{unit:04x}").expect("writing to a text does not fail"),
        }
    }
    quoted.push('"');
    quoted
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::paths::Paths;
    use crate::config::{default_up_toml, parse};
    use std::path::Path;

    fn of(more: &str) -> String {
        let text = default_up_toml(false) + more;
        rule(
            &parse(&text, "node.toml", &Paths::below(Path::new("/tmp/x")))
                .unwrap_or_else(|error| panic!("{error}"))
                .policy,
        )
    }

    #[test]
    fn the_rule_names_every_unit_once_and_is_the_same_each_time() {
        let text = of("");
        for unit in ["otto", "lior", "vera"]
            .map(|name| [format!("zeta-{name}.service"), format!("zeta-bft-agent@{name}.service")])
            .concat()
        {
            assert_eq!(text.matches(&format!("\"{unit}\"")).count(), 1, "{text}");
        }
        assert!(text.contains("var rungs = [];"), "{text}");
        assert!(text.contains("var verbs = [\"start\", \"restart\", \"stop\", \"kill\", \"reset-failed\"];"), "{text}");
        assert_eq!(text, of(""));
        assert_eq!(text.matches("polkit.Result.YES").count(), 2);
    }

    #[test]
    fn only_rungs_that_root_carries_out_may_be_started() {
        let ladder = |subject: &str| {
            format!(
                "[[subjects.{subject}.ladder]]\naction = \"restart\"\n[[subjects.{subject}.ladder]]\naction = \"run\"\nargv = [\"/bin/true\"]\n"
            )
        };
        let foreign = "[subjects.a-b]\nkind = \"unit\"\nunit = \"x@y\\\\x2dz.service\"\n";
        let text = of(&format!("{foreign}{}{}", ladder("a-b"), ladder("\"otto/agent\"")));
        assert!(text.contains("\"zeta-bft-rung@otto-agent-1.service\"\n    ]"), "{text}");
        assert!(text.contains("\"zeta-bft-rung@a\\u005cx2db-1.service\","), "{text}");
        assert!(text.contains("\"x@y\\u005cx2dz.service\","), "{text}");
        assert_eq!(text.matches("zeta-bft-rung@").count(), 2);
    }

    #[test]
    fn whatever_a_unit_is_called_it_stays_a_text() {
        let mut policy =
            parse(&default_up_toml(false), "node.toml", &Paths::below(Path::new("/tmp/x"))).unwrap().policy;
        let evil = "\"];return polkit.Result.YES;//\\\n\u{2028}\u{1f600}";
        std::sync::Arc::make_mut(&mut policy).subjects.values_mut().next().unwrap().unit = evil.to_owned();
        let text = rule(&policy);
        let written =
            "\"\\u0022\\u005d\\u003breturn polkit.Result.YES\\u003b\\u002f\\u002f\\u005c\\u000a\\u2028\\ud83d\\ude00\"";
        assert!(text.contains(written), "{text}");
        assert!(text.is_ascii());
    }
}
