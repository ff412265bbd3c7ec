//! Metric families of every daemon (DESIGN §7).
