//! The table and its judge, held against looks and fatal lines that were recorded, against looks in a row, and against chance.

pub(in crate::observe::k3s) mod bench;
mod bounds;
mod chance;
mod rows;
mod time;
