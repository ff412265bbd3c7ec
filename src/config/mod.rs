//! Configuration: files as written ([`fragments`]), merged and defaulted ([`inputs`]), checked ([`settings`]). Only
//! settings reach the program.

pub mod fragments;
pub mod inputs;
pub mod paths;
pub mod settings;
