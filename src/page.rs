//! A page: a human is called, by the command that root configured.
//!
//! Where PID 1 is systemd the warden has no network: it leaves the page in a file and starts `zeta-bft-page@NUMBER.service`,
//! whose `zeta-bft page NUMBER` reads it and runs the command with cause, subject and text.

use crate::config::settings::CommandSettings;
use std::io::{self, Read as _};
use std::path::Path;
use std::process::{Command, Stdio};

/// Longest page that is read, in bytes.
const MAX_BYTES: u64 = 16 * 1024;

/// What a human is told.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Page {
    /// One of the warden's causes: a word.
    pub cause: String,
    /// The subject, or `node`.
    pub subject: String,
    /// The sentence.
    pub text: String,
}

impl Page {
    /// As it lies in a file.
    pub fn to_bytes(&self) -> Vec<u8> {
        serde_json::to_vec(self).expect("texts are JSON")
    }

    /// Reads a page that the warden left.
    ///
    /// # Errors
    /// What the system says, or `InvalidData` when it is too long or no page.
    pub fn read(path: &Path) -> io::Result<Self> {
        let mut bytes = Vec::new();
        crate::files::open_plain(path)?.take(MAX_BYTES + 1).read_to_end(&mut bytes)?;
        if bytes.len() as u64 > MAX_BYTES {
            return Err(io::Error::new(io::ErrorKind::InvalidData, format!("it is longer than {MAX_BYTES} bytes")));
        }
        serde_json::from_slice(&bytes).map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))
    }

    /// The configured command for this page: cause and subject in its environment, the text there and as its last argument.
    /// `None` when the command is empty.
    pub fn command(&self, settings: &CommandSettings) -> Option<Command> {
        let (program, args) = settings.argv.split_first()?;
        let mut command = Command::new(program);
        command.args(args).arg(&self.text).stdin(Stdio::null()).stdout(Stdio::null());
        command.env("ZETA_BFT_PAGE_CAUSE", &self.cause).env("ZETA_BFT_PAGE_SUBJECT", &self.subject);
        command.env("ZETA_BFT_PAGE_TEXT", &self.text);
        Some(command)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_page_is_read_as_it_was_written_and_nothing_else_is_a_page() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("1");
        let page = Page { cause: "ladder_spent".into(), subject: "otto".into(), text: "one \"line\"\nand more".into() };
        std::fs::write(&file, page.to_bytes()).unwrap();
        assert_eq!(Page::read(&file).unwrap(), page);
        for bad in ["", "{}", "{\"cause\":\"a\",\"subject\":\"b\",\"text\":\"c\",\"argv\":[]}"] {
            std::fs::write(&file, bad).unwrap();
            assert_eq!(Page::read(&file).unwrap_err().kind(), io::ErrorKind::InvalidData, "{bad}");
        }
        std::fs::write(&file, vec![b' '; 20_000]).unwrap();
        assert!(Page::read(&file).unwrap_err().to_string().contains("16384"));
    }
}
