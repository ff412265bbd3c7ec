//! The two text formats, and how a scraper chooses.

/// A format of `/metrics`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// Prometheus text format 0.0.4: the default.
    Text,
    /// OpenMetrics 1.0.0.
    OpenMetrics,
}

impl Format {
    /// Its media type.
    pub const fn content_type(self) -> &'static str {
        match self {
            Self::Text => "text/plain; version=0.0.4; charset=utf-8",
            Self::OpenMetrics => "application/openmetrics-text; version=1.0.0; charset=utf-8",
        }
    }

    /// What an `Accept` header wants: OpenMetrics where it is named with at least the weight of plain text.
    pub fn preferred(accept: &str) -> Self {
        let (mut open, mut text) = (0.0_f32, 0.0_f32);
        for entry in accept.split(',') {
            let mut parts = entry.split(';').map(str::trim);
            let media = parts.next().unwrap_or_default().to_ascii_lowercase();
            let weight = parts
                .find_map(|part| part.strip_prefix("q=").or_else(|| part.strip_prefix("Q=")))
                .map_or(1.0, |q| q.parse().unwrap_or(0.0));
            match media.as_str() {
                "application/openmetrics-text" => open = open.max(weight),
                "text/plain" | "text/*" | "*/*" => text = text.max(weight),
                _ => {}
            }
        }
        if open > 0.0 && open >= text { Self::OpenMetrics } else { Self::Text }
    }
}

/// Turns what the registry writes into text format 0.0.4: a counter's `HELP` and `TYPE` bear the name of its samples
/// (`…_total`), and `UNIT` and `EOF` do not exist.
pub(super) fn text_of_open_metrics(open: &str) -> String {
    let mut text = String::with_capacity(open.len());
    let mut help: Option<(&str, &str)> = None;
    let mut line_to = |line: std::fmt::Arguments<'_>| {
        use std::fmt::Write as _;
        writeln!(text, "{line}").expect("writing to a String does not fail");
    };
    for line in open.lines() {
        if let Some(rest) = line.strip_prefix("# HELP ") {
            help = rest.split_once(' ');
        } else if let Some((name, kind)) = line.strip_prefix("# TYPE ").and_then(|rest| rest.split_once(' ')) {
            let suffix = if kind == "counter" { "_total" } else { "" };
            let kind = if kind == "unknown" { "untyped" } else { kind };
            if let Some((_, words)) = help.take().filter(|(helped, _)| *helped == name) {
                line_to(format_args!("# HELP {name}{suffix} {words}"));
            }
            line_to(format_args!("# TYPE {name}{suffix} {kind}"));
        } else if !line.starts_with('#') && !line.is_empty() {
            line_to(format_args!("{line}"));
        }
    }
    text
}
