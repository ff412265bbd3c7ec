//! Observers: what each agent looks at itself.

pub mod ticks;
