//! Takes secrets out of a line that is shown to everybody.
//!
//! What masks too much costs an operator a glance into the journal, which has the whole line; what masks too little gives a
//! cluster away. Words that only speak of secrets (`token CA hash does not match`, `Node password rejected`) stay: they tell
//! one fault from another.

use regex::Regex;
use std::borrow::Cow;
use std::sync::LazyLock;

/// What stands in a secret's place.
pub const MASK: &str = "[masked]";

/// A pattern, and how much of its beginning stays (its first group).
const SECRETS: [&str; 10] = [
    // A private key, whole or cut.
    r"(-----BEGIN [A-Z ]*PRIVATE KEY-----).*",
    // k3s: `K10<hash of the CA>::<user>:<secret>`; without the hash it is a secret alone.
    r#"\bK1[0-9][0-9A-Fa-f]{8,}(?:::[^\s"'`\\,;()<>]*)?"#,
    r#"::(?:server|node|agent):[^\s"'`\\,;()<>]+"#,
    // Who somebody is in a URL: `postgres://user:password@host`.
    r#"(://)[^\s"'`\\<>]*@"#,
    // In the words of Go's MySQL driver: `user:password@tcp(host:3306)/`.
    r#"[^\s"'`\\=]*:[^\s"'`\\]*(@(?:tcp|unix)\()"#,
    // `"password":"…"`, `token=…`, `K3S_TOKEN=…`; and what follows `--agent-token`. Not `token: …`, where words follow.
    r#"(?i)((?:token|passw(?:or)?d|passphrase|secret|api[_-]?key|access[_-]?key)[a-z0-9_-]*\\?["']?[=:] ?\\?["'])[^"'\\]+"#,
    r#"(?i)((?:token|passw(?:or)?d|passphrase|secret|api[_-]?key|access[_-]?key)[a-z0-9_-]*[=:])[^\s"'`\\,;&\[]+"#,
    r#"(?i)((?:^|\s)--?[a-z0-9-]*(?:token|passw(?:or)?d|secret)[a-z0-9-]*\s+)[^\s"'`\\]+"#,
    // What HTTP carries.
    r#"(?i)(\bauthorization:?\s*\w+\s+|\bbearer\s+)[^\s"'`\\]{8,}"#,
    // A JSON web token; a token of kubeadm's form.
    r"\beyJ[A-Za-z0-9_-]{8,}(?:\.[A-Za-z0-9_-]*){0,2}|\b[a-z0-9]{6}\.[a-z0-9]{16}\b",
];

static PATTERNS: LazyLock<Vec<Regex>> =
    LazyLock::new(|| SECRETS.iter().map(|text| Regex::new(text).expect("a pattern of ours")).collect());

/// The line without what looks like a token, a password or a key. Linear in its length.
pub fn mask(line: &str) -> Cow<'_, str> {
    let mut masked = Cow::Borrowed(line);
    for pattern in PATTERNS.iter() {
        if pattern.is_match(&masked) {
            let replaced = pattern.replace_all(&masked, |found: &regex::Captures<'_>| {
                let kept = found.get(1);
                let (whole, kept_text) = (&found[0], kept.map_or("", |kept| kept.as_str()));
                // What is kept stands before the secret, or behind it.
                if kept.is_some_and(|kept| kept.start() > found.get(0).map_or(0, |whole| whole.start())) {
                    format!("{MASK}{kept_text}")
                } else {
                    let end = if whole.ends_with('@') { "@" } else { "" };
                    format!("{kept_text}{MASK}{end}")
                }
            });
            masked = Cow::Owned(replaced.into_owned());
        }
    }
    masked
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn tokens_passwords_and_keys_are_masked() {
        let hash = "0123456789abcdef".repeat(4);
        for (line, masked) in [
            (format!("token K10{hash}::server:s3cret-s3cret is wrong"), "token [masked] is wrong".to_owned()),
            (format!(r#"msg="bad token \"K10{hash}::node:s3cret\"""#), r#"msg="bad token \"[masked]\"""#.to_owned()),
            ("::server:s3cret".into(), MASK.into()),
            (
                "at postgres://k3s:s3cret@db:5432/k3s: refused".into(),
                "at postgres://[masked]@db:5432/k3s: refused".into(),
            ),
            ("https://u:p/s3cret@x@host/".into(), "https://[masked]@host/".into()),
            ("root:s3cret@tcp(db:3306)/k3s".into(), "[masked]@tcp(db:3306)/k3s".into()),
            ("K3S_TOKEN=s3cret k3s agent".into(), "K3S_TOKEN=[masked] k3s agent".into()),
            (r#"{"node-token":"s3cret","x":1}"#.into(), r#"{"node-token":"[masked]","x":1}"#.into()),
            (r#"password="s3cret two words" x"#.into(), r#"password="[masked]" x"#.into()),
            (r#"msg="password=\"s3cret two\" x""#.into(), r#"msg="password=\"[masked]\" x""#.into()),
            ("k3s server --agent-token s3cret --x".into(), "k3s server --agent-token [masked] --x".into()),
            ("Authorization: Basic czNjcmV0OnMzY3JldA==".into(), "Authorization: Basic [masked]".into()),
            ("Bearer s3crets3cret".into(), "Bearer [masked]".into()),
            ("got eyJhbGciOiJSUzI1NiJ9.eyJzM2NyZXQiOjF9.c2ln".into(), "got [masked]".into()),
            ("kubeadm abcdef.0123456789abcdef".into(), "kubeadm [masked]".into()),
            ("-----BEGIN EC PRIVATE KEY----- s3cret -----END".into(), "-----BEGIN EC PRIVATE KEY-----[masked]".into()),
        ] {
            assert_eq!(mask(&line), masked);
            assert!(!mask(&line).contains("s3cret"), "{line}");
        }
    }

    #[test]
    fn what_tells_faults_apart_stays() {
        for line in [
            r#"time="x" level=fatal msg="starting kubernetes: preparing server: token CA hash does not match the Cluster CA certificate hash: f08676bf4f7418e46f692f21543118417d2698b7f758027b352dd87cfd6de3ab != 8e7d""#,
            "Node password rejected, duplicate hostname or contents of '/etc/rancher/node/password' may not match server node-passwd entry",
            "bootstrap data already found and encrypted with different token",
            "failed to validate token: failed to get CA certs: Get \"https://k3s-server-0:6443/cacerts\": dial tcp 127.0.1.1:6443: connect: connection refused",
            r#"Error: missing content for serving cert "serving-cert::/var/lib/rancher/k3s/server/tls/serving-kube-apiserver.crt::/var/lib/rancher/k3s/server/tls/serving-kube-apiserver.key""#,
            "panic: freepages: failed to get all reachable pages (page 2475294449906223648: out of bounds: 3758)",
            "Found [del-1-b19343fd=https://192.168.205.201:2380], expect: del-1-b19343fd=192.168.205.202",
        ] {
            assert_eq!(mask(line), line);
        }
    }

    proptest! {
        #[test]
        fn no_token_of_any_secret_is_left_in_any_line(
            before in "[ -~é]{0,40}", hash in "[0-9a-f]{64}", user in "server|node", secret in "[A-Za-z0-9+/=_.-]{6,40}",
        ) {
            let line = format!("{before} K10{hash}::{user}:{secret} end");
            let masked = mask(&line);
            prop_assert!(!masked.contains(&format!(":{secret} ")) && !masked.contains(&hash), "{masked}");
        }

        #[test]
        fn any_line_is_masked_without_a_panic_and_a_second_time_changes_nothing_back(line in "\\PC{0,200}") {
            let once = mask(&line).into_owned();
            let _ = mask(&once);
        }
    }
}
