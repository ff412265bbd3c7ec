//! The files merged and defaulted.
