//! The wire: generated messages, and the one implementation of the core's `Codec`.

/// Generated from `proto/zeta/bft/v1`.
#[allow(missing_docs, clippy::all, clippy::pedantic)]
pub mod v1 {
    tonic::include_proto!("zeta.bft.v1");
}

/// All descriptors, for server reflection.
pub const DESCRIPTORS: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/descriptors.bin"));
