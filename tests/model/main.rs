//! The protocol, explored: every order of every move, from a node at rest and from the places where it matters.
//!
//! The states are the production machines themselves. [`Warden::step`](zeta_bft::protocol::warden::Warden::step) and
//! [`Guardian::step`](zeta_bft::protocol::guardian::Guardian::step) are called for every move, statements are encoded, signed
//! (symbolically, as in the simulator), opened and checked, and a warden that dies comes back over what production's own
//! `recover` reads from the model's disk. Around them stand three or five vendors of which one or two lie ([`moves::Lie`]), units
//! that crash, fall silent, work in vain or are started by somebody else, a network that loses, repeats and reorders, a disk
//! that has not everything that was written, an operator, and time. [`books`] says what must always hold (S1 to S10), from its
//! own records and the truth of the model; each scope in [`holds`] says which paths must be found. [`negative`] voids one
//! rule at a time, outside the machines, and wants just that rule's property to break; the shortest way there is printed.
//!
//! Two states are one when all that decides the future is equal: the machines feed that themselves (`hash_future`), without
//! signatures, hash chains and what is for display. Times and numbers are absolute, and an exploration always begins at the
//! same second, so that moves that commute meet again.
//!
//! What is bounded or left out:
//! * An exploration is complete for all sequences of so many moves from each of its beginnings, with so many harms, lies, crashes
//!   and so on ([`scope::Left`]); beyond that it says nothing. `ZETA_BFT_MODEL_DEPTH=1` goes one move further in each.
//! * Time passes in whole seconds, which all deadlines of the model's policy are multiples of.
//! * Of what a guardian has under way to the warden, the newest heartbeat and its last few votes are kept; older ones are lost.
//!   Of the episodes that it has not yet heard, the newest of each subject.
//! * Guardians say nothing to each other: that two of them find an equivocation together is the simulator's to show (L3). So is
//!   liveness, with a fair network (L1 to L4).
//! * No node reboots, and no process waits for a CPU: the challenged one answers or is silent.

mod books;
mod broken;
mod explore;
mod guards;
mod holds;
mod lies;
mod moves;
mod negative;
mod node;
mod play;
mod scope;
#[path = "../sim/signatures.rs"]
mod signatures;
mod steps;
#[path = "../sim/actors/words.rs"]
mod words;
