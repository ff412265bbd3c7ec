//! Views of the warden for people and programs.
