//! zeta-bft: a per-node committee of three vendors that watches its members and the node's k3s, and repairs by quorum.
#![forbid(unsafe_code)]

pub mod agent;
pub mod backend;
pub mod clock;
pub mod commands;
pub mod config;
pub mod doctor;
pub mod error;
pub mod files;
pub mod grpc;
pub mod hand;
pub mod http;
pub mod inspect;
pub mod journal;
pub mod keys;
pub mod lookout;
pub mod metrics;
pub mod observe;
pub mod page;
pub mod protocol;
pub mod rung;
pub mod service_manager;
pub mod setup;
pub mod up;
pub mod warden;
pub mod wire;
pub mod wrapper;
