//! `zeta-bft up`: the whole committee as child processes, with this process as their PID 1.

pub mod parent;
