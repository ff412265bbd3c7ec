//! What every agent asks: does it live, and how do the ticks go.

use crate::metrics::WrapperMetrics;
use crate::protocol::evidence::{FaultClass, TickEnd, TickState};
use crate::protocol::types::Timestamp;
use crate::wire::v1::wrapper_service_server::WrapperService;
use crate::wire::v1::{PingRequest, PingResponse, TicksRequest, TicksResponse};
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio_stream::{Stream, StreamExt as _};
use tonic::{Request, Response, Status, Streaming};

/// How the ticks go: written by the tick loop, read by the service.
#[derive(Clone, Debug)]
pub struct Progress {
    told: Arc<Mutex<Told>>,
    metrics: WrapperMetrics,
}

#[derive(Debug, Default)]
struct Told {
    state: TickState,
    /// How often the state has changed.
    changes: u64,
}

impl Progress {
    /// Before the first tick.
    pub fn new(interval: Duration, metrics: WrapperMetrics) -> Self {
        let state = TickState { interval, ..TickState::default() };
        Self { told: Arc::new(Mutex::new(Told { state, changes: 0 })), metrics }
    }

    fn told(&self) -> std::sync::MutexGuard<'_, Told> {
        self.told.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn change<T>(&self, change: impl FnOnce(&mut TickState) -> T) -> T {
        let mut told = self.told();
        told.changes += 1;
        change(&mut told.state)
    }

    /// A tick begins. Gives its number.
    pub fn begin(&self, at: Timestamp) -> u64 {
        self.metrics.tick_began();
        self.change(|state| {
            state.begun += 1;
            state.running_since = Some(at);
            state.begun
        })
    }

    /// The tick ended.
    pub fn end(&self, end: TickEnd) {
        self.metrics.tick_ended(&end);
        self.change(|state| {
            state.running_since = None;
            state.broken_in_a_row =
                if end.fault == Some(FaultClass::Broken) { state.broken_in_a_row.saturating_add(1) } else { 0 };
            if end.fault.is_none() {
                state.last_good_at = Some(end.began_at + end.duration);
            }
            state.last = Some(end);
        });
    }
}

/// `WrapperService`.
#[derive(Debug)]
pub struct Service {
    progress: Progress,
}

impl Service {
    /// Over the state that the tick loop keeps.
    pub fn new(progress: Progress) -> Self {
        Self { progress }
    }
}

#[tonic::async_trait]
impl WrapperService for Service {
    type PingStream = Pin<Box<dyn Stream<Item = Result<PingResponse, Status>> + Send>>;

    async fn ping(&self, request: Request<Streaming<PingRequest>>) -> Result<Response<Self::PingStream>, Status> {
        let progress = self.progress.clone();
        let answer = move |PingRequest { number }| PingResponse { number, changes: progress.told().changes };
        Ok(Response::new(Box::pin(request.into_inner().map(move |ping| ping.map(&answer)))))
    }

    async fn ticks(&self, _: Request<TicksRequest>) -> Result<Response<TicksResponse>, Status> {
        Ok(Response::new(TicksResponse::from(&self.progress.told().state)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::evidence::Reason;

    fn ended(fault: Option<FaultClass>) -> TickEnd {
        TickEnd {
            number: 1,
            began_at: Timestamp::from_nanos(1),
            duration: Duration::from_nanos(4),
            exit_code: Some(0),
            signal: None,
            fault,
            reason: Reason::TickOk,
            resume_at: None,
        }
    }

    #[test]
    fn only_broken_ticks_in_a_row_add_up() {
        let progress = Progress::new(Duration::from_secs(1), WrapperMetrics::new());
        let row: Vec<_> = [Some(FaultClass::Broken), Some(FaultClass::Broken), None, Some(FaultClass::Broken)]
            .into_iter()
            .chain([Some(FaultClass::Environment)])
            .map(|fault| {
                progress.begin(Timestamp::from_nanos(1));
                progress.end(ended(fault));
                progress.told().state.broken_in_a_row
            })
            .collect();
        assert_eq!(row, [1, 2, 0, 1, 0]);
        let told = progress.told();
        assert_eq!((told.state.begun, told.state.running_since), (5, None));
        assert_eq!(told.state.last_good_at, Some(Timestamp::from_nanos(5)));
        assert_eq!(told.changes, 10, "each beginning and each end is something new");
    }
}
