//! The end of a stream of hostile bytes, bounded.

use std::collections::VecDeque;

/// The last [`Tail::KEPT`] bytes of a stream, and how many there were.
#[derive(Clone, Debug, Default)]
pub struct Tail {
    kept: VecDeque<u8>,
    total: u64,
}

impl Tail {
    /// How much is kept, in bytes.
    pub const KEPT: usize = 16 * 1024;

    /// Nothing yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// More of the stream.
    pub fn push(&mut self, bytes: &[u8]) {
        self.total = self.total.saturating_add(bytes.len() as u64);
        let bytes = &bytes[bytes.len().saturating_sub(Self::KEPT)..];
        let excess = (self.kept.len() + bytes.len()).saturating_sub(Self::KEPT);
        self.kept.drain(..excess);
        self.kept.extend(bytes);
    }

    /// Bytes that the stream had in all.
    pub fn total(&self) -> u64 {
        self.total
    }

    /// Its last lines that have any text, without terminal escapes, blanks at the ends, and control characters.
    pub fn lines(&self) -> Vec<String> {
        let bytes: Vec<u8> = self.kept.iter().copied().collect();
        let text = String::from_utf8_lossy(&bytes);
        plain(&text).split(['\n', '\r']).map(str::trim).filter(|line| !line.is_empty()).map(str::to_owned).collect()
    }
}

/// Text without terminal escapes (ECMA-48: CSI, OSC and the like) and control characters other than line ends.
pub fn plain(text: &str) -> String {
    let mut plain = String::with_capacity(text.len());
    let mut chars = text.chars().peekable();
    while let Some(c) = chars.next() {
        match c {
            '\u{1b}' => match chars.next() {
                // CSI: parameters, then one final character.
                Some('[') => {
                    while chars.peek().is_some_and(|c| (' '..='?').contains(c)) {
                        chars.next();
                    }
                    chars.next_if(|c| ('@'..='~').contains(c));
                }
                // OSC, DCS, PM, APC, SOS: to BEL or ST, within the line.
                Some(']' | 'P' | '^' | '_' | 'X') => {
                    while let Some(c) = chars.next_if(|c| !matches!(c, '\n' | '\r')) {
                        if c == '\u{7}' || (c == '\u{1b}' && chars.next_if_eq(&'\\').is_some()) {
                            break;
                        }
                    }
                }
                // Two-character escapes; a line end is never swallowed.
                Some(end @ ('\n' | '\r')) => plain.push(end),
                Some(_) | None => {}
            },
            '\n' | '\r' => plain.push(c),
            '\t' => plain.push(' '),
            c if c.is_control() => {}
            c => plain.push(c),
        }
    }
    plain
}
