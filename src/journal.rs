//! The warden's journal (DESIGN §8).
