//! The agent (sidecar) as a process: feeds the guardian core and carries out its effects.
