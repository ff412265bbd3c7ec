//! Errors as people read them: what happened, where, what to do. Modules have their own typed errors; this is the edge.

use std::fmt;
use std::io::Write as _;
use std::process::ExitCode;

/// A command that failed: a sentence, its causes, and what to do about it.
#[derive(Debug)]
pub struct Failure {
    source: Box<dyn std::error::Error + Send + Sync>,
    hint: Option<String>,
    code: u8,
}

impl Failure {
    /// From any error. The exit code is 1.
    pub fn new(source: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Self {
        Self { source: source.into(), hint: None, code: 1 }
    }

    /// Says what to do about it.
    #[must_use]
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    /// Another exit code.
    #[must_use]
    pub fn code(mut self, code: u8) -> Self {
        self.code = code;
        self
    }

    /// Prints it to standard error and gives the exit code: the one place where an error becomes one.
    pub fn report(&self) -> ExitCode {
        // Nobody is left to be told when that fails.
        let _ = writeln!(std::io::stderr(), "{self}");
        ExitCode::from(self.code)
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut said = self.source.to_string();
        write!(f, "error: {said}")?;
        let mut cause = self.source.source();
        while let Some(error) = cause {
            // Many an error names its cause itself.
            let text = error.to_string();
            if !said.contains(&text) {
                write!(f, "\n  because: {text}")?;
                said = text;
            }
            cause = error.source();
        }
        if let Some(hint) = &self.hint {
            write!(f, "\n  hint: {hint}")?;
        }
        Ok(())
    }
}

impl<E: std::error::Error + Send + Sync + 'static> From<E> for Failure {
    fn from(error: E) -> Self {
        Self::new(error)
    }
}
