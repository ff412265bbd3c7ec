//! `zeta-bft up`: the whole committee as child processes, with this process as their PID 1.

pub mod act;
pub mod parent;
pub mod pid1;
pub mod server;
mod tree;
