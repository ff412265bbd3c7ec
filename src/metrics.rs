//! Metric families of every daemon.
//!
//! * Label values are closed sets: subjects of the policy, personas of the roster, words of this program. Nothing that a
//!   peer wrote becomes a label; a word outside its set is counted as `other`.
//! * Every label set exists from the start, with 0.
//! * Times are absolute, in seconds of Unix time; 0 means never.
//! * Two formats: text 0.0.4 and OpenMetrics 1.0.0. The registry writes the latter; the former is derived from it.

mod agent;
mod committee;
mod format;
mod warden;
mod wrapper;

pub use agent::AgentMetrics;
pub use format::Format;
pub use warden::WardenMetrics;
pub use wrapper::WrapperMetrics;

use crate::protocol::types::Timestamp;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::{Family, MetricConstructor};
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::Registry;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;

/// Labels of `zeta_bft_statements_rejected_total`; anything else is counted as `other`.
pub const REJECTED: &[&str] = &[
    "wrong_domain",
    "wrong_key",
    "bad_signature",
    "malformed",
    "bad_key",
    "bad_session",
    "bad_proof",
    "bad_receipt",
    "wrong_header",
    "wrong_author",
    "wrong_peer",
    "unknown_persona",
    "unknown_subject",
    "unknown_session",
    "stale_session",
    "old_session",
    "quarantined",
    "wrong_cluster",
    "wrong_node",
    "wrong_boot",
    "roster_mismatch",
    "policy_mismatch",
    "replay",
    "too_old",
    "stale",
    "not_fresh",
    "other_round",
    "other_incarnation",
    "other_rung",
    "other_set_epoch",
    "not_votable",
    "unsupported",
    "own_vendor",
    "unasked_answer",
    "old_episode",
    "rate_limited",
    "queue_full",
    "shutting_down",
    OTHER,
];

/// Labels of `zeta_bft_repairs_refused_total`; anything else is counted as `other`.
pub const REFUSED: &[&str] = &[
    "budget",
    "budget_day",
    "budget_node",
    "budget_vendor",
    "ladder",
    "challenge_answered",
    "starved",
    "blocked",
    "traced",
    "cpu_time_unknown",
    "not_acting",
    "unit_unseen",
    "journal",
    "system_stopping",
    "hold",
    "other_incarnation",
    "job_pending",
    "state_changed",
    "too_late",
    "untouched",
    "not_asked",
    OTHER,
];

/// Labels of `zeta_bft_pages_total`; anything else is counted as `other`.
pub const PAGES: &[&str] = &[
    "journal",
    "equivocation",
    "mass_accusation",
    "mutual_accusation",
    "cpu_time_unknown",
    "kept_from_answering",
    "not_asked",
    "approval_wanted",
    "budget_spent",
    "ladder_page",
    "ladder_spent",
    "unconfirmed",
    "environment",
    "wants_human",
    "copied_aside",
    OTHER,
];

const OTHER: &str = "other";

/// The member of a closed set that a word is counted as.
fn closed(set: &[&'static str], word: &str) -> &'static str {
    set.iter().copied().find(|member| *member == word).unwrap_or(OTHER)
}

/// All metrics of one daemon, ready to be rendered. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Exposition(Arc<Registry>);

impl Exposition {
    fn new(registry: Registry) -> Self {
        Self(Arc::new(registry))
    }

    /// The text that a scraper gets.
    pub fn render(&self, format: Format) -> String {
        let mut text = String::new();
        prometheus_client::encoding::text::encode(&mut text, &self.0).expect("writing to a String does not fail");
        match format {
            Format::OpenMetrics => text,
            Format::Text => format::text_of_open_metrics(&text),
        }
    }
}

/// Labels of one series: `N` names with values.
type Labels<const N: usize> = [(&'static str, String); N];
type FloatGauge = Gauge<f64, AtomicU64>;

/// A family whose label sets are all known from the start.
#[derive(Clone, Debug)]
struct Closed<M, const N: usize> {
    names: [&'static str; N],
    family: Family<Labels<N>, M>,
}

impl<M, const N: usize> Closed<M, N>
where
    M: Clone + Default + std::fmt::Debug + Send + Sync + 'static,
    Family<Labels<N>, M>: prometheus_client::registry::Metric,
    fn() -> M: MetricConstructor<M>,
{
    fn new<'a>(
        registry: &mut Registry,
        name: &str,
        help: &str,
        names: [&'static str; N],
        sets: impl IntoIterator<Item = [&'a str; N]>,
    ) -> Self {
        let this = Self { names, family: Family::default() };
        for set in sets {
            drop(this.family.get_or_create(&this.labels(set)));
        }
        registry.register(name, help, this.family.clone());
        this
    }

    fn labels(&self, values: [&str; N]) -> Labels<N> {
        std::array::from_fn(|i| (self.names[i], values[i].to_owned()))
    }

    /// The series, if it is one of the closed set.
    fn series(&self, values: [&str; N]) -> Option<M> {
        self.family.get(&self.labels(values)).map(|metric| metric.clone())
    }
}

impl<const N: usize> Closed<Counter, N> {
    fn count(&self, values: [&str; N]) {
        if let Some(counter) = self.series(values) {
            counter.inc();
        }
    }
}

impl<const N: usize> Closed<Gauge, N> {
    fn set(&self, values: [&str; N], value: i64) {
        if let Some(gauge) = self.series(values) {
            gauge.set(value);
        }
    }
}

impl<const N: usize> Closed<FloatGauge, N> {
    fn set_float(&self, values: [&str; N], value: f64) {
        if let Some(gauge) = self.series(values) {
            gauge.set(value);
        }
    }
}

/// A registry that already names this build.
fn registry() -> Registry {
    let mut registry = Registry::default();
    Closed::<Gauge, 1>::new(
        &mut registry,
        "zeta_bft_build_info",
        "Always 1; the version is in the label",
        ["version"],
        [[env!("CARGO_PKG_VERSION")]],
    )
    .set([env!("CARGO_PKG_VERSION")], 1);
    registry
}

/// From a repair's milliseconds to a freeze's minutes.
fn seconds_histogram() -> Histogram {
    Histogram::new([0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0, 900.0, 1800.0])
}

/// A point on the boot clock as seconds of Unix time, as both clocks stand now.
fn unix_seconds(at: Timestamp) -> f64 {
    let ago = crate::clock::now().saturating_since(at);
    crate::clock::unix().saturating_sub(ago).as_secs_f64()
}

#[cfg(test)]
mod tests;
