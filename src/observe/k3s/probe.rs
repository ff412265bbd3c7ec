//! From answers to [`Probe`]s, and what may be made of their bodies.

use super::endpoint::{self, Answer, Endpoint, Question};
use super::tls::Identity;
use super::{Look, Probe};
use crate::observe::ticks::plain;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite};

/// Most bytes of a health port's body that are looked at.
const BODY_MAX: usize = 16 * 1024;
/// Most bytes of a node's object: it lists up to 50 images.
const NODE_MAX: usize = 1024 * 1024;

/// A probe of a health port over TLS.
pub(super) async fn https(
    endpoint: &Endpoint,
    identity: &Result<Arc<Identity>, String>,
    path: &str,
    limit: Duration,
) -> Probe {
    match identity {
        Ok(identity) => seen(endpoint.get(Some(identity), Question { path, keep: BODY_MAX, limit }).await),
        Err(reason) => Probe::Unable(reason.clone()),
    }
}

/// A probe of a health port in the clear.
pub(super) async fn http(endpoint: Option<&Endpoint>, path: &str, limit: Duration) -> Probe {
    match endpoint {
        Some(endpoint) => seen(endpoint.get(None, Question { path, keep: BODY_MAX, limit }).await),
        None => Probe::Off,
    }
}

/// A probe in the clear, on a connection that is there already.
pub async fn probe_over<T>(stream: T, path: &str, limit: Duration) -> Probe
where
    T: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    seen(endpoint::ask_over(stream, Question { path, keep: BODY_MAX, limit }).await)
}

fn seen(answer: Result<Answer, Probe>) -> Probe {
    match answer {
        Ok(Answer { code, body, .. }) => Probe::Status { code, said: said(&body) },
        Err(probe) => probe,
    }
}

/// A body for people: no control characters, at most [`Look::SAID_MAX`] bytes. Of a longer one the checks that are well go
/// first.
fn said(body: &[u8]) -> String {
    let mut text = plain(&String::from_utf8_lossy(body)).trim().to_owned();
    if text.len() > Look::SAID_MAX {
        text = text.lines().filter(|line| !line.starts_with("[+]")).collect::<Vec<_>>().join("\n");
    }
    text.truncate(text.floor_char_boundary(Look::SAID_MAX));
    text
}

/// The Ready condition of a node's object. `None` when it is not to be had: not allowed, no such node, no answer.
pub(super) async fn node_ready(
    endpoint: &Endpoint,
    identity: &Result<Arc<Identity>, String>,
    node: Option<&str>,
    limit: Duration,
) -> Option<bool> {
    let identity = identity.as_ref().ok()?;
    let path = format!("/api/v1/nodes/{}", node?);
    let answer = endpoint.get(Some(identity), Question { path: &path, keep: NODE_MAX, limit }).await.ok()?;
    if answer.code == 200 && answer.whole { ready_condition(&answer.body) } else { None }
}

/// The Ready condition in a node's object. `Unknown` is what the control plane says of a kubelet that it does not hear: not
/// ready.
pub fn ready_condition(object: &[u8]) -> Option<bool> {
    #[derive(serde::Deserialize)]
    struct Node {
        status: Status,
    }
    #[derive(serde::Deserialize)]
    struct Status {
        conditions: Vec<Condition>,
    }
    #[derive(serde::Deserialize)]
    struct Condition {
        r#type: String,
        status: String,
    }
    let node: Node = serde_json::from_slice(object).ok()?;
    let condition = node.status.conditions.into_iter().find(|condition| condition.r#type == "Ready")?;
    match condition.status.as_str() {
        "True" => Some(true),
        "False" | "Unknown" => Some(false),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_nodes_ready_condition_is_read_among_others() {
        let node = |status: &str| {
            format!(
                r#"{{"kind":"Node","status":{{"conditions":[{{"type":"DiskPressure","status":"False"}},
                {{"type":"Ready","status":"{status}","reason":"x"}}],"images":[{{"names":["a"]}}]}}}}"#
            )
        };
        assert_eq!(ready_condition(node("True").as_bytes()), Some(true));
        assert_eq!(ready_condition(node("False").as_bytes()), Some(false));
        assert_eq!(ready_condition(node("Unknown").as_bytes()), Some(false));
        assert_eq!(ready_condition(node("perhaps").as_bytes()), None);
        assert_eq!(ready_condition(br#"{"kind":"Status","status":"Failure","code":403}"#), None);
        assert_eq!(ready_condition(br#"{"status":{"conditions":[]}}"#), None);
    }

    #[test]
    fn of_a_long_answer_the_failed_checks_are_kept() {
        let well: String = (0..200).map(|n| format!("[+]poststarthook/start-{n} ok\n")).collect();
        let said = said(format!("{well}[-]etcd failed: reason withheld\nreadyz check failed\n").as_bytes());
        assert_eq!(said, "[-]etcd failed: reason withheld\nreadyz check failed");
    }

    proptest! {
        #[test]
        fn whatever_is_said_is_short_and_printable(body in proptest::collection::vec(any::<u8>(), 0..8192)) {
            let said = said(&body);
            prop_assert!(said.len() <= Look::SAID_MAX);
            prop_assert!(!said.chars().any(|c| c.is_control() && c != '\n' && c != '\r'));
            let _ = ready_condition(&body);
        }
    }
}
