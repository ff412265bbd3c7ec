//! Observers: what each agent looks at itself.

pub mod k3s;
pub mod ticks;
