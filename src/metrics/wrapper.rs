//! Metrics of a wrapper.

use super::{Closed, Exposition, registry, seconds_histogram, unix_seconds};
use crate::protocol::evidence::{FaultClass, TickEnd};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use std::sync::atomic::AtomicU64;

const GOOD: &str = "good";
const BROKEN: &str = "broken";
const ENVIRONMENT: &str = "environment";

/// What a wrapper shows. Clones share the numbers.
#[derive(Clone, Debug)]
pub struct WrapperMetrics {
    exposition: Exposition,
    ticks: Closed<Counter, 1>,
    duration: Histogram,
    running: Gauge,
    last_good: Gauge<f64, AtomicU64>,
    resume_at: Gauge,
}

impl Default for WrapperMetrics {
    fn default() -> Self {
        Self::new()
    }
}

impl WrapperMetrics {
    /// All families with all their label sets, at 0.
    pub fn new() -> Self {
        let mut r = registry();
        let ticks = Closed::new(
            &mut r,
            "zeta_bft_ticks",
            "Ticks that ended, by how they ended",
            ["result"],
            [GOOD, BROKEN, ENVIRONMENT].map(|result| [result]),
        );
        let duration = seconds_histogram();
        r.register("zeta_bft_tick_duration_seconds", "How long ticks took", duration.clone());
        let running = Gauge::default();
        r.register("zeta_bft_tick_running", "1 while a tick runs", running.clone());
        let last_good = Gauge::<f64, AtomicU64>::default();
        r.register("zeta_bft_tick_last_good_timestamp_seconds", "When the last good tick ended", last_good.clone());
        let resume_at = Gauge::default();
        r.register(
            "zeta_bft_tick_resume_timestamp_seconds",
            "When the vendor says that work can go on; 0 when nothing stands in its way, or no time is known",
            resume_at.clone(),
        );
        Self { exposition: Exposition::new(r), ticks, duration, running, last_good, resume_at }
    }

    /// What `/metrics` renders.
    pub fn exposition(&self) -> Exposition {
        self.exposition.clone()
    }

    /// A tick began.
    pub fn tick_began(&self) {
        self.running.set(1);
    }

    /// A tick ended.
    pub fn tick_ended(&self, end: &TickEnd) {
        self.running.set(0);
        let result = match end.fault {
            None => GOOD,
            Some(FaultClass::Environment) => ENVIRONMENT,
            Some(_) => BROKEN,
        };
        self.ticks.count([result]);
        self.duration.observe(end.duration.as_secs_f64());
        self.resume_at.set(end.resume_at.and_then(|at| i64::try_from(at).ok()).unwrap_or(0));
        if end.fault.is_none() {
            self.last_good.set(unix_seconds(end.began_at + end.duration));
        }
    }
}
