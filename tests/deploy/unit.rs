//! Unit files, read as what they set.

use crate::shipped::{deploy, read};

/// A unit file: every line that sets something, with its section.
pub struct Unit {
    pub name: String,
    /// Section, key and value.
    pub lines: Vec<(String, String, String)>,
}

impl Unit {
    pub fn read(name: &str) -> Self {
        let mut section = String::new();
        let mut lines = Vec::new();
        for line in read(&format!("systemd/{name}")).lines().filter(|line| !line.is_empty() && !line.starts_with('#')) {
            if let Some(begun) = line.strip_prefix('[') {
                section = begun.trim_end_matches(']').to_owned();
            } else {
                let (key, value) = line.split_once('=').unwrap_or_else(|| panic!("{name}: what is `{line}`?"));
                lines.push((section.clone(), key.to_owned(), value.to_owned()));
            }
        }
        Self { name: name.to_owned(), lines }
    }

    /// All that are shipped, by name.
    pub fn all() -> Vec<Self> {
        let names = std::fs::read_dir(deploy("systemd")).unwrap().map(|file| file.unwrap().file_name());
        let mut names: Vec<_> = names.map(|name| name.into_string().unwrap()).collect();
        names.sort();
        names.iter().map(|name| Self::read(name)).collect()
    }

    /// Those that run something.
    pub fn services() -> Vec<Self> {
        Self::all().into_iter().filter(|unit| unit.name.ends_with(".service")).collect()
    }

    /// All values of a key, in order, joined by a space.
    pub fn value(&self, key: &str) -> Option<String> {
        let values: Vec<_> = self.lines.iter().filter(|(_, k, _)| k == key).map(|(_, _, v)| v.as_str()).collect();
        (!values.is_empty()).then(|| values.join(" "))
    }

    /// Claims that it is the last to be killed when memory runs out.
    pub fn goes_last(&self) {
        let adjust = self.value("OOMScoreAdjust").and_then(|adjust| adjust.parse::<i32>().ok());
        assert!(adjust.is_some_and(|adjust| adjust <= -900), "{}: {adjust:?}", self.name);
    }

    /// Claims that the values of a key are these.
    pub fn is(&self, key: &str, value: &str) {
        assert_eq!(self.value(key).as_deref(), Some(value), "{}: {key}=", self.name);
    }
}
