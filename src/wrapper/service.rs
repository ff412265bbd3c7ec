//! What every agent asks: does it live, and how do the ticks go.

use crate::metrics::WrapperMetrics;
use crate::protocol::evidence::{FaultClass, TickEnd, TickState};
use crate::protocol::types::Timestamp;
use crate::wire::v1::wrapper_service_server::WrapperService;
use crate::wire::v1::{PingRequest, PingResponse, TicksRequest, TicksResponse};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tonic::{Request, Response, Status};

/// How the ticks go: written by the tick loop, read by the service.
#[derive(Clone, Debug)]
pub struct Progress {
    state: Arc<Mutex<TickState>>,
    metrics: WrapperMetrics,
}

impl Progress {
    /// Before the first tick.
    pub fn new(interval: Duration, metrics: WrapperMetrics) -> Self {
        Self { state: Arc::new(Mutex::new(TickState { interval, ..TickState::default() })), metrics }
    }

    fn state(&self) -> std::sync::MutexGuard<'_, TickState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A tick begins. Gives its number.
    pub fn begin(&self, at: Timestamp) -> u64 {
        self.metrics.tick_began();
        let mut state = self.state();
        state.begun += 1;
        state.running_since = Some(at);
        state.begun
    }

    /// The tick ended.
    pub fn end(&self, end: TickEnd) {
        self.metrics.tick_ended(&end);
        let mut state = self.state();
        state.running_since = None;
        state.broken_in_a_row =
            if end.fault == Some(FaultClass::Broken) { state.broken_in_a_row.saturating_add(1) } else { 0 };
        if end.fault.is_none() {
            state.last_good_at = Some(end.began_at + end.duration);
        }
        state.last = Some(end);
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
    async fn ping(&self, request: Request<PingRequest>) -> Result<Response<PingResponse>, Status> {
        Ok(Response::new(PingResponse { number: request.into_inner().number }))
    }

    async fn ticks(&self, _: Request<TicksRequest>) -> Result<Response<TicksResponse>, Status> {
        Ok(Response::new(TicksResponse::from(&*self.progress.state())))
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
                progress.state().broken_in_a_row
            })
            .collect();
        assert_eq!(row, [1, 2, 0, 1, 0]);
        let state = progress.state();
        assert_eq!((state.begun, state.running_since), (5, None));
        assert_eq!(state.last_good_at, Some(Timestamp::from_nanos(5)));
    }
}
