//! The warden as a process: feeds the core, keeps the journal, serves its sockets.
