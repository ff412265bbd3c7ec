//! The wrapper as a process: one command per tick, answers pings, keeps how ticks went.
