//! Where in a file something was written, and how a complaint about it looks.

use std::fmt;
use std::ops::Range;
use std::sync::Arc;

/// A configuration file as read.
#[derive(Debug)]
pub(super) struct Source {
    /// Its name, as shown in complaints.
    pub name: String,
    /// Its text.
    pub text: String,
}

/// A stretch of a file.
#[derive(Clone, Debug)]
pub(super) struct Place {
    /// The file.
    pub source: Arc<Source>,
    /// The bytes.
    pub span: Range<usize>,
}

impl Place {
    /// A complaint about this place.
    pub fn complain(&self, message: impl Into<String>) -> Complaint {
        Complaint::new(&self.source, self.span.clone(), message.into(), None)
    }

    /// A complaint about this place, with a remark beside the caret.
    pub fn complain_with(&self, message: impl Into<String>, remark: impl Into<String>) -> Complaint {
        Complaint::new(&self.source, self.span.clone(), message.into(), Some(remark.into()))
    }
}

/// What is wrong in a file, with its line and a caret.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Complaint {
    /// The file.
    pub file: String,
    /// Line, from 1.
    pub line: usize,
    /// Column in characters, from 1.
    pub column: usize,
    /// What is wrong.
    pub message: String,
    excerpt: String,
    width: usize,
    remark: Option<String>,
}

impl Complaint {
    pub(super) fn new(source: &Source, span: Range<usize>, message: String, remark: Option<String>) -> Self {
        let text = &source.text;
        let mut start = span.start.min(text.len());
        while !text.is_char_boundary(start) {
            start -= 1;
        }
        let line_start = text[..start].rfind('\n').map_or(0, |at| at + 1);
        let line_end = text[start..].find('\n').map_or(text.len(), |at| start + at);
        let line_text = &text[line_start..line_end];
        let covered = text.get(start..span.end.clamp(start, line_end)).unwrap_or_default();
        Self {
            file: source.name.clone(),
            line: text[..line_start].matches('\n').count() + 1,
            column: text[line_start..start].chars().count() + 1,
            message,
            excerpt: line_text.trim_end().chars().map(|c| if c.is_control() { ' ' } else { c }).collect(),
            width: covered.trim_end().chars().count().max(1),
            remark,
        }
    }
}

impl fmt::Display for Complaint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { file, line, column, message, excerpt, width, remark } = self;
        let number = line.to_string();
        let (gutter, indent) = (" ".repeat(number.len()), " ".repeat(column - 1));
        writeln!(f, "{file}:{line}:{column}: {message}")?;
        writeln!(f, "  {number} | {excerpt}")?;
        write!(f, "  {gutter} | {indent}{}", "^".repeat(*width))?;
        remark.as_ref().map_or(Ok(()), |remark| write!(f, " {remark}"))
    }
}

/// The candidate that was most likely meant.
pub(super) fn nearest<'a>(word: &str, candidates: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    candidates
        .into_iter()
        .map(|candidate| (strsim::damerau_levenshtein(&word.to_lowercase(), candidate), candidate))
        .filter(|(distance, candidate)| *distance <= 1 + candidate.len().max(word.len()) / 4)
        .min()
        .map(|(_, candidate)| candidate)
}

/// The remark on an unknown word: the nearest candidate, or all of them.
pub(super) fn remark_on(word: &str, candidates: &[&str]) -> String {
    match nearest(word, candidates.iter().copied()) {
        Some(candidate) => format!("did you mean `{candidate}`?"),
        None => format!("expected {}", one_of(candidates)),
    }
}

/// "`a`, `b` or `c`".
pub(super) fn one_of(candidates: &[&str]) -> String {
    match candidates {
        [] => "nothing here".into(),
        [only] => format!("`{only}`"),
        [first @ .., last] => {
            let first: Vec<_> = first.iter().map(|c| format!("`{c}`")).collect();
            format!("{} or `{last}`", first.join(", "))
        }
    }
}

/// What the TOML reader found, in our words.
pub(super) fn from_toml(source: &Source, error: &toml::de::Error) -> Complaint {
    let span = error.span().unwrap_or(0..0);
    let message = error.message();
    for (prefix, word) in [("unknown field `", "unknown field"), ("unknown variant `", "unknown value")] {
        if let Some(rest) = message.strip_prefix(prefix)
            && let Some((name, expected)) = rest.split_once('`')
        {
            let candidates: Vec<&str> = expected.split('`').skip(1).step_by(2).collect();
            let remark = remark_on(name, &candidates);
            return Complaint::new(source, span, format!("{word} `{name}`"), Some(remark));
        }
    }
    let mut lines = message.lines().map(str::trim).filter(|line| !line.is_empty());
    let first = lines.next().unwrap_or("not well-formed").to_owned();
    let rest: Vec<_> = lines.collect();
    Complaint::new(source, span, first, (!rest.is_empty()).then(|| rest.join("; ")))
}
