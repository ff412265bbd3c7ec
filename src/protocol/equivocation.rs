//! Windows of what others said, and proofs that they said two things at once.
