//! What `zeta.bft.k3s` makes of a node: a subject, the rights of the agents' credential, the way to mint it, and whom they reach.

use crate::Claim;
use crate::configuration::settings;
use crate::nix::{Node, evaluate, node, strings};
use std::path::Path;
use zeta_bft::config::k3s::K3sConfig;
use zeta_bft::observe::k3s::{Credential, Role};
use zeta_bft::protocol::types::SubjectName;

pub const CLAIMS: &[Claim] = &[
    (
        "k3s_is_watched_by_its_role_and_with_the_minted_credential",
        k3s_is_watched_by_its_role_and_with_the_minted_credential,
    ),
    (
        "a_server_gives_the_agents_their_rights_in_the_way_that_it_has",
        a_server_gives_the_agents_their_rights_in_the_way_that_it_has,
    ),
    (
        "agents_reach_the_servers_that_are_named_and_nobody_else",
        agents_reach_the_servers_that_are_named_and_nobody_else,
    ),
    ("the_credential_is_minted_by_the_shipped_script", the_credential_is_minted_by_the_shipped_script),
];

const LINK: &str = "L+ /var/lib/rancher/k3s/server/manifests/zeta-bft.yaml - - - - ";
const RIGHTS: &str = "/share/zeta-bft/k3s/rbac.yaml";
/// As of 24.11.
const NEWER: &str = r#"options.services.k3s.manifests = lib.mkOption {
    type = lib.types.attrsOf (lib.types.submodule { options.source = lib.mkOption { type = lib.types.path; }; });
    default = { };
  };"#;

fn with(k3s: &str) -> Node {
    node(&format!("{{ networking.hostName = \"Box\"; zeta.bft = {{ active = true; node = \"n1\"; {k3s} }}; }}"))
}

fn configured(node: &Node) -> (K3sConfig, String) {
    let settings = settings(&node.node_toml());
    let name = SubjectName::new("k3s").unwrap();
    (settings.k3s[&name].clone(), settings.policy.subjects[&name].unit.clone())
}

fn link(node: &Node) -> Option<&str> {
    strings(&node.0["tmpfiles"]).into_iter().find_map(|rule| rule.strip_prefix(LINK))
}

fn k3s_is_watched_by_its_role_and_with_the_minted_credential() {
    let (k3s, unit) = configured(&with("k3s.enable = true;"));
    let observer = k3s.observer();
    assert_eq!((observer.role, observer.address.port(), &*unit), (Role::Server, 6443, "k3s.service"));
    assert_eq!(observer.node.as_deref(), Some("box"), "k3s writes it small");
    assert_eq!(observer.ca, Path::new("/etc/zeta-bft/k3s/ca.crt"));
    let [certificate, key] = ["client.crt", "client.key"].map(|file| Path::new("/etc/zeta-bft/k3s").join(file));
    assert_eq!(observer.credential, Credential::Certificate { certificate, key });

    // NixOS calls the unit of an agent node k3s.service, too.
    let agent = node("{ services.k3s.role = \"agent\"; zeta.bft = { active = true; k3s.enable = true; }; }");
    let (k3s, unit) = configured(&agent);
    assert_eq!((k3s.role, k3s.observer().address.port(), &*unit), (Role::Agent, 6444, "k3s.service"));
    // What the operator says of the subject counts.
    let (k3s, _) = configured(&with(r#"k3s.enable = true; subjects.k3s = { node_name = "n7"; kube_proxy = false; };"#));
    assert_eq!((k3s.node.as_deref(), k3s.kube_proxy), (Some("n7"), false));
    assert!(!with("").node_toml().contains("k3s"), "nothing unless asked");
}

fn a_server_gives_the_agents_their_rights_in_the_way_that_it_has() {
    let older = with("k3s.enable = true;");
    assert!(link(&older).unwrap().ends_with(RIGHTS));
    let newer = |runs: &str| {
        node(&format!(
            "{{ lib, ... }}: {{ {NEWER} config = {{ {runs} zeta.bft = {{ active = true; k3s.enable = true; }}; }}; }}"
        ))
    };
    let by_nixos = newer("services.k3s.enable = true;");
    assert!(by_nixos.0["manifests"]["zeta-bft"]["source"].as_str().unwrap().ends_with(RIGHTS));
    assert_eq!(link(&by_nixos), None);
    // A k3s that NixOS does not run does not read that option.
    let by_others = newer("");
    assert_eq!(by_others.0["manifests"], serde_json::json!({}));
    assert_eq!(link(&by_others), link(&older));
    for none in ["", "k3s = { enable = true; role = \"agent\"; };", "k3s = { enable = true; giveRights = false; };"] {
        assert_eq!(link(&with(none)), None, "{none}");
    }
}

fn agents_reach_the_servers_that_are_named_and_nobody_else() {
    let named =
        with(r#"k3s = { enable = true; otherServers = [ "https://10.0.0.2:6443" "https://[fd00::3]:6443/" ]; };"#);
    let allowed = |node: &Node, unit: &str| node.service(unit)["serviceConfig"]["IPAddressAllow"].clone();
    assert_eq!(allowed(&named, "zeta-bft-agent@"), serde_json::json!(["localhost", "10.0.0.2", "fd00::3"]));
    assert_eq!(named.service("zeta-bft-agent@")["serviceConfig"]["IPAddressDeny"], "any");
    let (k3s, _) = configured(&named);
    assert_eq!(k3s.others, ["10.0.0.2:6443", "[fd00::3]:6443"].map(|address| address.parse().unwrap()));
    // Also those that the subject itself names; and without any it is the package's unit.
    let own = with(r#"subjects.k3s = { kind = "k3s"; others = [ "https://10.0.0.9:6443" ]; };"#);
    assert_eq!(allowed(&own, "zeta-bft-agent@"), serde_json::json!(["localhost", "10.0.0.9"]));
    assert_eq!(allowed(&with("k3s.enable = true;"), "zeta-bft-agent@"), "localhost");
    let idle =
        evaluate(r#"{ zeta.bft = { active = true; k3s.otherServers = [ "https://10.0.0.2:6443" ]; }; }"#).unwrap();
    assert!(idle.failed()[0].contains("count only with zeta.bft.k3s.enable"), "{:?}", idle.failed());
}

fn the_credential_is_minted_by_the_shipped_script() {
    let node = with("k3s.enable = true;");
    let command = node.0["commands"]["zeta-bft-k3s-credential"].as_str().unwrap();
    assert!(command.contains("/share/zeta-bft/k3s/mint-credential \"$@\""), "{command}");
    assert!(command.contains("openssl/bin"), "{command}");
    let install = node.0["package"]["postInstall"].as_str().unwrap();
    for file in ["mint-credential", "rbac.yaml"] {
        assert!(install.contains(&format!("deploy/k3s/{file} $out/share/zeta-bft/k3s/{file}")), "{install}");
    }
    assert!(strings(&node.0["groups"]).contains(&"zeta-bft-agents"));
    for (k3s, says) in [
        ("k3s.enable = true;", "  zeta-bft-k3s-credential "),
        ("k3s = { enable = true; role = \"agent\"; };", "zeta-bft-k3s-credential --for box --out DIR"),
    ] {
        let node = with(k3s);
        let hint = node.0["etc"]["zeta-bft/README"]["text"].as_str().unwrap();
        assert!(hint.contains(says), "{hint}");
    }
    assert!(!with("").0["etc"]["zeta-bft/README"]["text"].as_str().unwrap().contains("zeta-bft-k3s-credential"));
}
