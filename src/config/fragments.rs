//! The files as written: every option optional, every value with its place, no option that nobody reads.

use super::faults::FaultFragment;
use serde::Deserialize;
use serde::de::{Error, Unexpected, Visitor};
use std::collections::BTreeMap;
use std::fmt;
use std::net::SocketAddr;
use std::time::Duration;
use toml::Spanned;

/// A value with its place, if it was written.
pub(super) type Written<T> = Option<Spanned<T>>;

/// One file.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Fragment {
    pub cluster: Written<String>,
    pub node: Written<String>,
    pub mode: Written<ModeWord>,
    pub f: Written<u32>,
    pub q: Written<u32>,
    pub allow_shared_uid: Written<bool>,
    #[serde(default)]
    pub personas: BTreeMap<Spanned<String>, PersonaFragment>,
    #[serde(default)]
    pub subjects: BTreeMap<Spanned<String>, SubjectFragment>,
    #[serde(default)]
    pub tcp: BTreeMap<Spanned<String>, TcpFragment>,
    #[serde(default)]
    pub policy: PolicyFragment,
    pub page: Written<PageFragment>,
    #[serde(default)]
    pub metrics: MetricsFragment,
}

/// `[personas.NAME]`
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct PersonaFragment {
    pub vendor: Written<String>,
    pub command: Written<Vec<String>>,
    pub probe: Written<Vec<String>>,
    pub tick_interval: Written<Length>,
    pub tick_limit: Written<Length>,
    pub working_dir: Written<String>,
    pub unit: Written<String>,
    pub user: Written<String>,
    pub uid: Written<u32>,
    pub patterns: Option<Vec<PatternFragment>>,
    pub ladder: Option<Vec<Spanned<RungFragment>>>,
    #[serde(default)]
    pub budget: BudgetFragment,
    pub agent_metrics: Written<SocketAddr>,
    pub wrapper_metrics: Written<SocketAddr>,
}

/// `[[personas.NAME.patterns]]`
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct PatternFragment {
    pub regex: Spanned<String>,
    pub reason: Spanned<ReasonWord>,
}

/// `[subjects.NAME]`
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct SubjectFragment {
    pub kind: Written<KindWord>,
    pub unit: Written<String>,
    pub user: Written<String>,
    pub uid: Written<u32>,
    pub exit0: Written<ExitWord>,
    pub ladder: Option<Vec<Spanned<RungFragment>>>,
    #[serde(default)]
    pub budget: BudgetFragment,
    pub role: Written<RoleWord>,
    pub api: Written<String>,
    pub ca: Written<String>,
    pub credential: Written<CredentialFragment>,
    pub node_name: Written<String>,
    pub kubelet: Written<bool>,
    pub kube_proxy: Written<bool>,
    pub mounts: Written<Vec<String>>,
    pub others: Written<Vec<String>>,
    pub grace: Written<Length>,
    pub failed_looks: Written<u32>,
    pub window: Written<String>,
    pub faults: Option<Vec<FaultFragment>>,
    pub ignored_faults: Option<Vec<Spanned<String>>>,
}

/// `credential`
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct CredentialFragment {
    pub token: Option<String>,
    pub certificate: Option<String>,
    pub key: Option<String>,
}

/// `[[….ladder]]`
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RungFragment {
    pub action: Spanned<ActionWord>,
    pub argv: Written<Vec<String>>,
    pub limit: Written<Length>,
    pub path: Written<String>,
    pub consent: Written<ConsentWord>,
}

/// `[….budget]`
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct BudgetFragment {
    pub capacity: Written<u32>,
    pub refill: Written<Length>,
    pub per_day: Written<u32>,
}

/// `[tcp.NAME]`
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct TcpFragment {
    pub listen: Written<SocketAddr>,
    pub address: Written<SocketAddr>,
}

/// `[policy]`
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct PolicyFragment {
    pub node_per_day: Written<u32>,
    pub heartbeat: Written<Length>,
    pub ping: Written<Length>,
    pub act_timeout: Written<Length>,
    pub cool_down: Written<Length>,
    pub cool_down_max: Written<Length>,
    pub ladder_reset: Written<Length>,
    pub unconfirmed_max: Written<Length>,
    pub approval: Written<Length>,
    pub pair_freeze: Written<Length>,
    pub page_interval: Written<Length>,
    pub start_grace: Written<Length>,
    pub resume_grace: Written<Length>,
    pub broken_ticks: Written<u32>,
    #[serde(default)]
    pub crash: ClassFragment,
    #[serde(default)]
    pub hang: ClassFragment,
    #[serde(default)]
    pub broken: ClassFragment,
    #[serde(default)]
    pub broken_k3s: ClassFragment,
    #[serde(default)]
    pub drill: DrillFragment,
}

/// `[policy.CLASS]`
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct ClassFragment {
    pub patience: Written<Length>,
    pub challenge: Written<Length>,
    pub vote_ttl: Written<Length>,
    pub settle: Written<Length>,
}

/// `[policy.drill]`
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct DrillFragment {
    pub enabled: Written<bool>,
    pub lift_budgets: Written<bool>,
    pub lift_cool_downs: Written<bool>,
}

/// `[page]`
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct PageFragment {
    pub command: Spanned<Vec<String>>,
    pub limit: Written<Length>,
}

/// `[metrics]`
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct MetricsFragment {
    pub warden: Written<SocketAddr>,
    pub agents: Written<SocketAddr>,
    pub wrappers: Written<SocketAddr>,
}

/// `mode`
#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum ModeWord {
    Observe,
    Act,
}

/// `kind`
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum KindWord {
    Unit,
    K3s,
}

/// `role`
#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum RoleWord {
    Server,
    Agent,
}

/// `exit0`
#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum ExitWord {
    Fault,
    Operator,
}

/// `action`
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum ActionWord {
    Restart,
    ResetFailed,
    Run,
    Stop,
    MoveAside,
    CopyAside,
    Page,
}

/// `consent`
#[derive(Clone, Copy, Debug, Deserialize)]
pub(super) enum ConsentWord {
    #[serde(rename = "quorum")]
    Quorum,
    #[serde(rename = "quorum+operator")]
    QuorumAndOperator,
}

/// `reason` of a pattern.
#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum ReasonWord {
    Quota,
    Auth,
    Setup,
    VendorDown,
    NetworkDown,
    DiskFull,
}

/// A duration with its unit.
#[derive(Clone, Copy, Debug)]
pub(super) struct Length(pub Duration);

impl<'de> Deserialize<'de> for Length {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Text;
        impl Visitor<'_> for Text {
            type Value = Length;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a duration with its unit, such as \"250ms\", \"60s\" or \"30m\"")
            }
            fn visit_str<E: Error>(self, text: &str) -> Result<Length, E> {
                humantime::parse_duration(text).map(Length).map_err(|_| E::invalid_value(Unexpected::Str(text), &self))
            }
        }
        deserializer.deserialize_str(Text)
    }
}
