//! The backend under `up`: a client of its PID 1 socket.
