//! Tick states: unsigned, from a wrapper to whoever asks.

use super::fields::{nanos, word};
use super::v1;
use crate::protocol::evidence::{FaultClass, Reason, TickEnd, TickState};
use crate::protocol::statement::DecodeError;
use crate::protocol::types::Timestamp;
use std::time::Duration;

impl From<&TickState> for v1::TicksResponse {
    fn from(state: &TickState) -> Self {
        Self {
            begun: state.begun,
            running_since_ns: state.running_since.map(Timestamp::as_nanos),
            broken_in_a_row: state.broken_in_a_row,
            last: state.last.as_ref().map(|end| v1::TickEnd {
                number: end.number,
                began_at_ns: end.began_at.as_nanos(),
                duration_ns: nanos(end.duration),
                exit_code: end.exit_code,
                signal: end.signal,
                fault_class: end.fault.map_or("", FaultClass::as_str).to_owned(),
                reason: end.reason.as_str().to_owned(),
                resume_at: end.resume_at,
            }),
            last_good_at_ns: state.last_good_at.map(Timestamp::as_nanos),
            interval_ns: nanos(state.interval),
        }
    }
}

impl TryFrom<v1::TicksResponse> for TickState {
    type Error = DecodeError;

    fn try_from(message: v1::TicksResponse) -> Result<Self, DecodeError> {
        Ok(Self {
            begun: message.begun,
            running_since: message.running_since_ns.map(Timestamp::from_nanos),
            broken_in_a_row: message.broken_in_a_row,
            last: message.last.map(TickEnd::try_from).transpose()?,
            last_good_at: message.last_good_at_ns.map(Timestamp::from_nanos),
            interval: Duration::from_nanos(message.interval_ns),
        })
    }
}

impl TryFrom<v1::TickEnd> for TickEnd {
    type Error = DecodeError;

    fn try_from(message: v1::TickEnd) -> Result<Self, DecodeError> {
        let fault = match message.fault_class.as_str() {
            "" => None,
            text => match word(text, "fault_class", FaultClass::from_word)? {
                class @ (FaultClass::Broken | FaultClass::Environment) => Some(class),
                _ => return Err(DecodeError::OutOfRange("fault_class")),
            },
        };
        Ok(Self {
            number: message.number,
            began_at: Timestamp::from_nanos(message.began_at_ns),
            duration: Duration::from_nanos(message.duration_ns),
            exit_code: message.exit_code,
            signal: message.signal,
            fault,
            reason: word(&message.reason, "reason", Reason::from_word)?,
            resume_at: message.resume_at,
        })
    }
}
