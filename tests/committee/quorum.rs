//! What `quorum --json` said.

use serde_json::Value;

/// A view, and the exit code that came with it.
#[derive(Debug)]
pub struct Quorum {
    pub code: i32,
    pub view: Value,
}

impl Quorum {
    /// Of an output that is no JSON the view is null.
    pub fn read(code: i32, output: &str) -> Self {
        Self { code, view: serde_json::from_str(output).unwrap_or(Value::Null) }
    }

    pub fn subject(&self, name: &str) -> &Value {
        let subjects = self.view["subjects"].as_array().map_or(&[][..], Vec::as_slice);
        subjects.iter().find(|subject| subject["name"] == name).unwrap_or(&Value::Null)
    }

    pub fn state(&self, name: &str) -> &str {
        self.subject(name)["state"].as_str().unwrap_or("unknown")
    }

    pub fn notes(&self) -> String {
        let notes = self.view["notes"].as_array().map_or(&[][..], Vec::as_slice);
        notes.iter().filter_map(Value::as_str).collect::<Vec<_>>().join("\n")
    }
}

impl std::fmt::Display for Quorum {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "exit {}: {:#}", self.code, self.view)
    }
}
