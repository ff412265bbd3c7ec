//! zeta-bft: a per-node committee of three vendors that watches its members and the node's k3s, and repairs by quorum.
#![forbid(unsafe_code)]

pub mod backend;
pub mod clock;
pub mod config;
pub mod protocol;
pub mod wire;
