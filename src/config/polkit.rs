//! The polkit rule of the node: text for polkit 0.106 or newer.
//!
//! Rules:
//! * the warden's user may start pages by number, and nothing else: what it decides about units is done by the hand, which
//!   needs nobody's leave. polkit can be kept busy by anybody on the bus, so it must not stand between a last look and an act;
//!   a page that comes late is a page;
//! * everything else is none of this rule's business: it returns nothing, so that other rules and polkit's defaults decide;
//! * a transient unit is never meant: asked about one, systemd 252 names no unit, and newer ones name it as if it were
//!   started, but say so in the message for people.

use super::users::WARDEN;

/// The rule.
pub fn rule() -> String {
    format!(
        "// What the warden of zeta-bft may ask PID 1 for: that a page be sent. `zeta-bft polkit` prints this rule, and\n\
         // `zeta-bft init --refresh` writes it anew.\n\
         polkit.addRule(function (action, subject) {{\n\
         \x20   if (action.id !== \"org.freedesktop.systemd1.manage-units\" || subject.user !== \"{WARDEN}\") {{\n\
         \x20       return undefined;\n\
         \x20   }}\n\
         \x20   var unit = action.lookup(\"unit\"), verb = action.lookup(\"verb\");\n\
         \x20   if (typeof unit !== \"string\" || verb !== \"start\") {{\n\
         \x20       return undefined;\n\
         \x20   }}\n\
         \x20   // Units that exist, not such as are made up in the call.\n\
         \x20   if (/transient/.test(action.lookup(\"polkit.message\"))) {{\n\
         \x20       return undefined;\n\
         \x20   }}\n\
         \x20   if (/^zeta-bft-page@[0-9]{{1,20}}\\.service$/.test(unit)) {{\n\
         \x20       return polkit.Result.YES;\n\
         \x20   }}\n\
         \x20   return undefined;\n\
         }});\n"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_rule_lets_pages_be_started_and_nothing_else() {
        let text = rule();
        assert_eq!(text.matches("polkit.Result.YES").count(), 1);
        assert_eq!(text.matches(".service").count(), 1);
        assert!(text.contains(r"/^zeta-bft-page@[0-9]{1,20}\.service$/.test(unit)"), "{text}");
        assert!(text.is_ascii());
    }
}
