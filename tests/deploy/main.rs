//! What `deploy/` ships, as claims about its files: the units' bonds and sandboxes, the users, the package, and the page that
//! tells operators of it.

mod judged;
mod operations;
mod package;
mod shipped;
mod unit;
mod units;
mod upgrade;
