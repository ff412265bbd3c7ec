//! Servers on Unix sockets, with peer credentials, limits, health and reflection.
