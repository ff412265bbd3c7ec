//! Reads the output of a tick: fault class, reason, resume time.
