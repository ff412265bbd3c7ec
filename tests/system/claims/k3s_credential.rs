//! The credential that the package's own script mints, against a real API server with RBAC: what it opens, and to whom it is open.

use crate::kube::{CREDENTIAL, Kube, TLS, Who, subject};
use crate::lab::{Done, Unfit};
use crate::node::{Config, PERSONAS};
use crate::stage::Stage;
use serde_json::Value;
use std::collections::BTreeSet;

super::claims! {
    the_minted_credential_reads_health_and_a_nodes_object_and_is_refused_all_else,
    agents_alone_can_read_the_key_of_the_minted_credential_and_the_doctor_says_when_others_can,
}

const SCRIPT: &str = "/usr/share/zeta-bft/k3s/mint-credential";
const CORE: &str = "/api/v1";
const RIGHTS: &str = "/apis/rbac.authorization.k8s.io/v1";

/// A node as an operator has it: package installed, k3s running, the shipped rights applied, and no credential yet.
fn without_credential(stage: &'static Stage) -> Result<Kube, Unfit> {
    let kube = Kube::with(stage, &Config::observing().with(&subject("")))?;
    kube.set_ready(true);
    kube.ask(&["rm", "-r", CREDENTIAL]);
    Ok(kube)
}

fn mint(kube: &Kube, words: &[&str]) -> Done {
    kube.exec(&[&[SCRIPT], words].concat())
}

fn the_minted_credential_reads_health_and_a_nodes_object_and_is_refused_all_else(
    stage: &'static Stage,
) -> Result<(), Unfit> {
    let kube = without_credential(stage)?;
    let name = kube.ask(&["hostname"]);
    let said = mint(&kube, &["--days", "30"]).expect_ok().to_owned();
    assert!(said.starts_with(&format!("made a new credential of zeta-bft for node {name}, ")), "{said}");
    let node = format!("{CORE}/nodes/{name}");
    let opens = || {
        for path in ["/livez", "/readyz", "/livez/ping", "/readyz/etcd", "/readyz?verbose", "/version", &node] {
            assert_eq!(kube.get(Who::Probe, path).status, 200, "{path}");
        }
        // k3s' own supervisor answers here; this API server has no such path, and says so to who may ask.
        assert_eq!(kube.get(Who::Probe, "/ping").status, 404);
    };
    opens();
    let object: Value = serde_json::from_str(&kube.get(Who::Probe, &node).body).expect("a node as JSON");
    assert_eq!(object["status"]["conditions"][0]["type"], "Ready", "{object}");

    let closed = [
        "secrets",
        "pods",
        "nodes",
        "nodes?watch=true",
        "configmaps",
        "events",
        "serviceaccounts",
        "namespaces",
        "namespaces/kube-system",
        "namespaces/kube-system/secrets/any",
        "namespaces/default/pods/any/exec?command=sh",
        &format!("watch/nodes/{name}"),
        &format!("nodes/{name}/status"),
        &format!("nodes/{name}/proxy/logs/"),
    ];
    for path in closed {
        assert_eq!(kube.get(Who::Probe, &format!("{CORE}/{path}")).status, 403, "{path}");
    }
    for path in [&format!("{RIGHTS}/clusterroles"), "/metrics", "/logs/", "/debug/pprof/", "/configz", "/livezz"] {
        assert_eq!(kube.get(Who::Probe, path).status, 403, "{path}");
    }
    let with = |words: &[&str], path: &str| {
        kube.call(Who::Probe, &[words, &[&format!("https://127.0.0.1:6443{path}")]].concat()).status
    };
    let json = |verb| ["-X", verb, "-H", "Content-Type: application/json", "--data-binary", "{}"];
    let pods = format!("{CORE}/namespaces/default/pods");
    let bindings = format!("{RIGHTS}/clusterrolebindings");
    for path in [&pods, &bindings, &format!("{CORE}/nodes"), &format!("{CORE}/namespaces"), "/readyz", "/livez/ping"] {
        assert_eq!(with(&json("POST"), path), 403, "POST {path}");
    }
    for path in [&node, &format!("{node}/status"), &format!("{bindings}/zeta-bft"), "/livez"] {
        for verb in ["PUT", "DELETE"] {
            assert_eq!(with(&json(verb), path), 403, "{verb} {path}");
        }
    }
    let patch = ["-X", "PATCH", "-H", "Content-Type: application/merge-patch+json", "--data-binary", "{}"];
    assert_eq!(with(&patch, &node), 403);
    assert_eq!(with(&["-H", "Impersonate-User: system:admin"], "/livez"), 403);

    // The API server's own list of what it may, beside what Kubernetes gives to everybody whom it knows.
    let review =
        r#"{"apiVersion":"authorization.k8s.io/v1","kind":"SelfSubjectRulesReview","spec":{"namespace":"default"}}"#;
    let url = "https://127.0.0.1:6443/apis/authorization.k8s.io/v1/selfsubjectrulesreviews";
    let asked = ["-H", "Content-Type: application/json", "--data-binary", review, url];
    let answer = kube.call(Who::Probe, &asked);
    let rules: Value = serde_json::from_str(&answer.body).unwrap_or_else(|error| panic!("{answer:?}: {error}"));
    let rules = rules["status"]["resourceRules"].as_array().expect("a list of rules");
    let may: BTreeSet<_> = rules.iter().map(|rule| format!("{} {}", rule["verbs"], rule["resources"])).collect();
    let everybody = r#"["create"] ["selfsubjectaccessreviews","selfsubjectrulesreviews"]"#;
    assert_eq!(may, [everybody, r#"["get"] ["nodes"]"#].map(str::to_owned).into());

    // Renewed, it opens the same; and with a CA that is none of k3s' nothing is changed.
    let key = || kube.ask(&["sha256sum", &format!("{CREDENTIAL}/client.key")]);
    let first = key();
    assert!(mint(&kube, &[]).expect_ok().starts_with("renewed the credential"));
    let second = key();
    assert_ne!(second, first);
    opens();
    kube.sh(&format!("cp -a {TLS} /root/damaged && truncate -s 0 /root/damaged/client-ca.key")).expect_ok();
    let refused = mint(&kube, &["--tls", "/root/damaged"]);
    assert!(!refused.ok() && refused.err.contains("is empty"), "{refused}");
    assert_eq!(key(), second);
    Ok(())
}

fn agents_alone_can_read_the_key_of_the_minted_credential_and_the_doctor_says_when_others_can(
    stage: &'static Stage,
) -> Result<(), Unfit> {
    let kube = without_credential(stage)?;
    mint(&kube, &[]).expect_ok();
    let key = format!("{CREDENTIAL}/client.key");
    assert_eq!(kube.ask(&["stat", "-c", "%U:%G %a", &key]), "root:zeta-bft-agents 640");
    assert_eq!(kube.ask(&["stat", "-c", "%U:%G %a", CREDENTIAL]), "root:root 755");
    assert_eq!(kube.ask(&["getent", "group", "zeta-bft-agents"]).rsplit(':').next(), Some(""), "nobody is a member");
    let group = kube.ask(&["sh", "-c", "getent group zeta-bft-agents | cut -d: -f3"]);

    // With all groups that the user has by itself.
    let reads = |user: &str, file: &str| {
        let who = [&format!("--reuid={user}"), &format!("--regid={user}"), "--init-groups", "--inh-caps=-all"];
        kube.exec(&[&["setpriv"], &who[..], &["cat", file]].concat()).ok()
    };
    let mut users: Vec<_> = PERSONAS.map(|persona| format!("zeta-{persona}")).into();
    users.extend(["zeta-bft-warden", "zeta-bft-page", "daemon"].map(str::to_owned));
    for user in &users {
        assert!(!reads(user, &key), "{user} reads {key}");
        assert!(reads(user, &format!("{CREDENTIAL}/ca.crt")), "{user}: the CA is no secret");
    }
    // What runs is in the group where it is an agent, and nowhere else.
    let is_in = |unit: &str| {
        let status = kube.ask(&["cat", &format!("/proc/{}/status", kube.unit(unit).pid())]);
        let groups = status.lines().find_map(|line| line.strip_prefix("Groups:")).expect("a line of groups");
        groups.split_whitespace().any(|one| one == group)
    };
    for persona in PERSONAS {
        assert!(is_in(&format!("zeta-bft-agent@{persona}.service")), "{persona}'s agent");
        assert!(!is_in(&format!("zeta-{persona}.service")), "{persona} itself");
    }
    assert!(!is_in("zeta-bft-warden.service"));

    let found = || {
        let report: Value = serde_json::from_str(&kube.exec(&["zeta-bft", "doctor", "--json"]).out).expect("a report");
        let findings =
            report["findings"].as_array().expect("findings").iter().filter(|finding| finding["group"] == "k3s");
        findings.map(|finding| format!("{} {}", finding["level"], finding["id"]).replace('"', "")).collect::<Vec<_>>()
    };
    assert_eq!(found(), ["ok k3s"]);
    kube.ask(&["chmod", "644", &key]);
    assert_eq!(found(), ["error k3s-key-open"]);
    kube.ask(&["chmod", "600", &key]);
    assert_eq!(found(), ["error k3s-key-unreadable"]);
    mint(&kube, &["--days", "10"]).expect_ok();
    assert_eq!(found(), ["warning k3s-certificate-ends"]);
    Ok(())
}
