//! The files merged: `node.toml` first, then `conf.d` by name; of two values for one option the later one counts.

use super::ConfigError;
use super::fragments::{Fragment, Written};
use super::source::{Complaint, Place, Source, from_toml};
use std::collections::BTreeMap;
use std::sync::Arc;
use toml::Spanned;

/// All files, in order.
#[derive(Debug)]
pub(super) struct Inputs {
    files: Vec<(Arc<Source>, Fragment)>,
}

/// A value that counts, and where it was written.
#[derive(Debug)]
pub(super) struct At<'a, T> {
    pub value: &'a T,
    pub place: Place,
}

impl Inputs {
    /// Reads every file.
    pub fn new(sources: Vec<Source>) -> Result<Self, ConfigError> {
        let read = |source: Source| {
            let fragment = toml::from_str(&source.text).map_err(|error| from_toml(&source, &error))?;
            Ok((Arc::new(source), fragment))
        };
        sources.into_iter().map(read).collect::<Result<_, Complaint>>().map(|files| Self { files }).map_err(Into::into)
    }

    /// The last value of an option.
    pub fn last<'a, T>(&'a self, option: impl Fn(&'a Fragment) -> Option<&'a Spanned<T>>) -> Option<At<'a, T>> {
        self.files.iter().rev().find_map(|(source, fragment)| option(fragment).map(|value| at(source, value)))
    }

    /// The last list of an option. An empty one counts.
    pub fn last_list<'a, T>(&'a self, option: impl Fn(&'a Fragment) -> Option<&'a Vec<T>>) -> Option<List<'a, T>> {
        self.files.iter().rev().find_map(|(source, fragment)| option(fragment).map(|items| List { source, items }))
    }

    /// Every name of a table, with the place of its first mention.
    pub fn names<'a, T: 'a>(
        &'a self,
        table: impl Fn(&'a Fragment) -> &'a BTreeMap<Spanned<String>, T>,
    ) -> BTreeMap<&'a str, Place> {
        let mut names = BTreeMap::new();
        for (source, fragment) in &self.files {
            for name in table(fragment).keys() {
                names.entry(name.get_ref().as_str()).or_insert_with(|| at(source, name).place);
            }
        }
        names
    }

    /// A complaint about the configuration as a whole.
    pub fn complain(&self, message: impl Into<String>) -> ConfigError {
        let file = self.files.first().map(|(source, _)| source.name.clone()).unwrap_or_default();
        ConfigError::Whole { file, message: message.into() }
    }

    /// A complaint about an option if it was written, else about the whole.
    pub fn complain_at(&self, place: Option<&Place>, message: impl Into<String>) -> ConfigError {
        match place {
            Some(place) => place.complain(message).into(),
            None => self.complain(message),
        }
    }
}

/// A list that counts, and its file.
#[derive(Debug)]
pub(super) struct List<'a, T> {
    pub source: &'a Arc<Source>,
    pub items: &'a [T],
}

impl<T> List<'_, T> {
    /// A value of this list's file.
    pub fn at<'b, U>(&self, value: &'b Spanned<U>) -> At<'b, U> {
        at(self.source, value)
    }

    /// A value of this list's file, if it was written.
    pub fn at_written<'b, U>(&self, value: &'b Written<U>) -> Option<At<'b, U>> {
        value.as_ref().map(|value| at(self.source, value))
    }
}

fn at<'a, T>(source: &Arc<Source>, value: &'a Spanned<T>) -> At<'a, T> {
    At { value: value.get_ref(), place: Place { source: source.clone(), span: value.span() } }
}
