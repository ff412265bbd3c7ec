//! Clients of Unix sockets, with peer credentials, deadlines and backoff.
