//! Checks of single fields.

use crate::protocol::statement::DecodeError;
use crate::protocol::types::NameError;
use std::time::Duration;

/// A message that must be there.
pub(super) fn required<T>(value: Option<T>, field: &'static str) -> Result<T, DecodeError> {
    value.ok_or(DecodeError::Missing(field))
}

/// Bytes of a fixed length.
pub(super) fn bytes<T>(
    value: &[u8],
    field: &'static str,
    from_slice: fn(&[u8]) -> Option<T>,
) -> Result<T, DecodeError> {
    if value.is_empty() {
        return Err(DecodeError::Missing(field));
    }
    from_slice(value).ok_or(DecodeError::OutOfRange(field))
}

/// A name that keeps its rule.
pub(super) fn name<T>(
    value: &str,
    field: &'static str,
    new: fn(&str) -> Result<T, NameError>,
) -> Result<T, DecodeError> {
    if value.is_empty() {
        return Err(DecodeError::Missing(field));
    }
    new(value).map_err(|_| DecodeError::OutOfRange(field))
}

/// A word of a closed set.
pub(super) fn word<T>(value: &str, field: &'static str, from_word: fn(&str) -> Option<T>) -> Result<T, DecodeError> {
    if value.is_empty() {
        return Err(DecodeError::Missing(field));
    }
    from_word(value).ok_or(DecodeError::OutOfRange(field))
}

/// A list within its bound.
pub(super) fn at_most<T>(list: Vec<T>, field: &'static str, max: usize) -> Result<Vec<T>, DecodeError> {
    let len = list.len();
    if len > max { Err(DecodeError::TooMany { field, len, max }) } else { Ok(list) }
}

/// Every element converted, within the list's bound.
pub(super) fn list<M, T: TryFrom<M, Error = DecodeError>>(
    messages: Vec<M>,
    field: &'static str,
    max: usize,
) -> Result<Vec<T>, DecodeError> {
    at_most(messages, field, max)?.into_iter().map(T::try_from).collect()
}

/// A text within its bound.
pub(super) fn text(value: String, field: &'static str, max: usize) -> Result<String, DecodeError> {
    if value.len() > max { Err(DecodeError::OutOfRange(field)) } else { Ok(value) }
}

/// The longest beginning of a text that keeps the bound.
pub(super) fn cut(text: &str, max: usize) -> String {
    let mut end = text.len().min(max);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    text[..end].to_owned()
}

/// Nanoseconds of a duration, at most `u64::MAX` (584 years).
pub(super) fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}
