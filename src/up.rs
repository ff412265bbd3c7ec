//! `up` plays PID 1 for the committee.
