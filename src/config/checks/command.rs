//! Commands: a program and its arguments, and how long it may take.

use super::in_range;
use crate::config::ConfigError;
use crate::config::fragments::Length;
use crate::config::inputs::At;
use std::time::Duration;

const LIMIT: Duration = Duration::from_secs(60);
const LIMIT_MAX: Duration = Duration::from_secs(3600);

/// A program and its arguments.
pub(super) fn program(argv: &At<'_, Vec<String>>) -> Result<Vec<String>, ConfigError> {
    if argv.value.first().is_none_or(|program| program.trim().is_empty()) {
        return Err(argv.place.complain("a command needs at least a program").into());
    }
    if argv.value.iter().any(|argument| argument.contains('\0')) {
        return Err(argv.place.complain("an argument cannot hold a NUL").into());
    }
    Ok(argv.value.clone())
}

/// A command that the warden's side runs: its program is not looked up in any PATH.
pub(super) fn of_root(argv: &At<'_, Vec<String>>) -> Result<Vec<String>, ConfigError> {
    let checked = program(argv)?;
    if !checked[0].starts_with('/') {
        let message = format!("`{}` must be an absolute path: no PATH is searched here", checked[0]);
        return Err(argv.place.complain(message).into());
    }
    Ok(checked)
}

/// How long a command may take, as it is written or by default.
pub(super) fn limit(written: Option<At<'_, Length>>) -> Result<Duration, ConfigError> {
    let Some(At { value, place }) = written else { return Ok(LIMIT) };
    in_range(value.0, Duration::from_millis(10), LIMIT_MAX, &place)
}
