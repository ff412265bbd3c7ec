//! The committee as its operator runs it: `zeta-bft up` with three agents, three wrappers and their ticks as real processes
//! over real sockets, and signals from outside.
//!
//! However many threads the tests have, at most two committees run at once ([`turn`]), and one alone where time is measured.

mod budgets;
mod drill;
mod ends;
mod frozen;
mod kills;
mod node;
mod operator;
mod quorum;
mod ticks;
mod turn;
