//! gRPC over Unix sockets: servers, clients, limits.

pub mod client;
pub mod server;
