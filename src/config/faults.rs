//! Rows of the table of k3s' faults as written, and the checks on them: the built-in ones and an operator's alike.

use super::fragments::{Length, RoleWord, Written};
use super::source::{Complaint, Place, Source, from_toml, one_of};
use crate::observe::k3s::Role;
use crate::observe::k3s::table::{Act, Row};
use crate::observe::k3s::when::{Answer, Checks, ClockWord, LinePattern, Port, UnitWord, When};
use crate::protocol::evidence::{FaultClass, Reason};
use serde::de::{Error, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer};
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::marker::PhantomData;
use std::sync::Arc;
use toml::Spanned;

/// A file of rows alone.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    faults: Vec<FaultFragment>,
}

/// `[[faults]]`
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct FaultFragment {
    pub name: Spanned<String>,
    pub when: Spanned<WhenFragment>,
    pub class: Spanned<Word<ClassWord>>,
    pub act: Written<Word<Act>>,
    pub page: Option<bool>,
    pub frozen: Written<bool>,
    pub veto: Written<bool>,
    pub ignorable: Written<bool>,
    pub reason: Written<Word<Reason>>,
    pub says: Spanned<String>,
}

/// `when = { … }`
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct WhenFragment {
    role: Option<RoleWord>,
    #[serde(default)]
    unit: Words<UnitWord>,
    older_than: Option<Length>,
    #[serde(default)]
    ping: Words<Answer>,
    #[serde(default)]
    livez: Words<Answer>,
    #[serde(default)]
    readyz: Words<Answer>,
    #[serde(default)]
    kubelet: Words<Answer>,
    #[serde(default)]
    kube_proxy: Words<Answer>,
    #[serde(default)]
    any: Words<Answer>,
    #[serde(default)]
    all: Words<Answer>,
    #[serde(default)]
    api: Words<Answer>,
    #[serde(default)]
    answered: Words<Port>,
    checks_only: Option<Vec<String>>,
    checks_any: Option<Vec<String>>,
    checks_unnamed: Option<bool>,
    node_ready: Option<bool>,
    fatal: Written<String>,
    fatal_line: Option<bool>,
    same_fatal: Option<u32>,
    ended_runs: Option<u32>,
    free_bytes_below: Option<Size>,
    free_inodes_below: Option<u64>,
    certificate_within: Option<Length>,
    ca_within: Option<Length>,
    in_window: Option<bool>,
    #[serde(default)]
    clock: Words<ClockWord>,
    empty_files: Option<bool>,
    others_failing: Option<u8>,
    datastore_well: Option<bool>,
}

/// A set of words that are written as text.
pub(super) trait Vocabulary: Copy + 'static {
    fn every() -> Vec<&'static str>;
    fn from_text(text: &str) -> Option<Self>;
}

macro_rules! vocabulary {
    ($($type:ident),*) => { $(
        impl Vocabulary for $type {
            fn every() -> Vec<&'static str> {
                Self::ALL.iter().map(|word| word.as_str()).collect()
            }
            fn from_text(text: &str) -> Option<Self> {
                Self::from_word(text)
            }
        }
    )* };
}
vocabulary!(Act, Answer, ClockWord, Port, Reason, UnitWord);

/// `class`
#[derive(Clone, Copy, Debug)]
pub(super) struct ClassWord(Option<FaultClass>);

impl Vocabulary for ClassWord {
    fn every() -> Vec<&'static str> {
        vec!["healthy", "CRASH", "BROKEN", "ENVIRONMENT", "OPERATOR", "UNKNOWN"]
    }
    fn from_text(text: &str) -> Option<Self> {
        match text {
            "healthy" => Some(Self(None)),
            word => {
                FaultClass::from_word(word).filter(|class| *class != FaultClass::Hang).map(|class| Self(Some(class)))
            }
        }
    }
}

/// One word.
#[derive(Clone, Copy, Debug)]
pub(super) struct Word<T>(pub T);

impl<'de, T: Vocabulary> Deserialize<'de> for Word<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Text<T>(PhantomData<T>);
        impl<T: Vocabulary> Visitor<'_> for Text<T> {
            type Value = Word<T>;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&one_of(&T::every()))
            }
            fn visit_str<E: Error>(self, text: &str) -> Result<Word<T>, E> {
                // Said as serde says it, so that the complaint names the nearest word.
                let unknown =
                    || E::custom(format!("unknown variant `{text}`, expected one of {}", one_of(&T::every())));
                T::from_text(text).map(Word).ok_or_else(unknown)
            }
        }
        deserializer.deserialize_str(Text(PhantomData))
    }
}

/// One word, or a list of them.
#[derive(Clone, Debug)]
pub(super) struct Words<T>(Option<Vec<T>>);

impl<T> Default for Words<T> {
    fn default() -> Self {
        Self(None)
    }
}

impl<'de, T: Vocabulary> Deserialize<'de> for Words<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct OneOrMany<T>(PhantomData<T>);
        impl<'de, T: Vocabulary> Visitor<'de> for OneOrMany<T> {
            type Value = Words<T>;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{}, or a list of them", one_of(&T::every()))
            }
            fn visit_str<E: Error>(self, text: &str) -> Result<Words<T>, E> {
                let Word(word) = Word::<T>::deserialize(serde::de::value::StrDeserializer::new(text))?;
                Ok(Words(Some(vec![word])))
            }
            fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Words<T>, A::Error> {
                let mut words = Vec::new();
                while let Some(Word(word)) = list.next_element()? {
                    words.push(word);
                }
                if words.is_empty() {
                    return Err(A::Error::custom("an empty list is no condition: leave it out"));
                }
                Ok(Words(Some(words)))
            }
        }
        deserializer.deserialize_any(OneOrMany(PhantomData))
    }
}

/// Bytes with their unit.
#[derive(Clone, Copy, Debug)]
struct Size(u64);

impl<'de> Deserialize<'de> for Size {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        let units = [("GiB", 1 << 30), ("MiB", 1 << 20), ("KiB", 1 << 10), ("B", 1)];
        let found = units.iter().find_map(|(unit, bytes)| Some((text.strip_suffix(unit)?.trim(), *bytes)));
        let size = found.and_then(|(number, bytes): (_, u64)| number.parse::<u64>().ok()?.checked_mul(bytes));
        let wrong =
            || D::Error::custom(format!("`{text}` is no size: write a whole number with its unit, such as \"64MiB\""));
        size.map(Size).ok_or_else(wrong)
    }
}

/// The rows of a file that holds nothing else.
///
/// # Errors
/// What is wrong with it, and where.
pub fn read(text: &str, name: &str) -> Result<Vec<Row>, Complaint> {
    let source = Arc::new(Source { name: name.into(), text: text.into() });
    let file: File = toml::from_str(text).map_err(|error| from_toml(&source, &error))?;
    let mut taken = BTreeSet::new();
    file.faults.iter().map(|fault| row(&source, fault, &mut taken)).collect()
}

/// An operator's rows. `built_in` are the names that are taken already.
pub(super) fn rows(
    source: &Arc<Source>,
    fragments: &[FaultFragment],
    built_in: &BTreeSet<&str>,
) -> Result<Vec<Row>, Complaint> {
    let mut taken = BTreeSet::new();
    let checked = |fault: &FaultFragment| {
        let at = |span| Place { source: source.clone(), span };
        let name = fault.name.get_ref();
        if built_in.contains(name.as_str()) {
            let message = format!("`{name}` is a built-in row: give this one a name of its own");
            return Err(at(fault.name.span()).complain(message));
        }
        if let Some(ignorable) = &fault.ignorable {
            return Err(at(ignorable.span()).complain("`ignorable` is for built-in rows: leave this one out instead"));
        }
        let row = row(source, fault, &mut taken)?;
        if row.veto && row.act != Act::None {
            let place = at(fault.veto.as_ref().map_or_else(|| fault.name.span(), Spanned::span));
            return Err(place.complain("a veto row has nothing done: take `act` or `veto` out"));
        }
        Ok(row)
    };
    fragments.iter().map(checked).collect()
}

fn row(source: &Arc<Source>, fault: &FaultFragment, taken: &mut BTreeSet<String>) -> Result<Row, Complaint> {
    let at = |span| Place { source: source.clone(), span };
    let name = fault.name.get_ref();
    let kebab = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-';
    if name.is_empty() || name.len() > 64 || !name.bytes().all(kebab) || name.starts_with('-') || name == "none" {
        let message = format!("`{name}` is no name of a row: use 1 to 64 of a-z, 0-9, `-`, such as `api-silent`");
        return Err(at(fault.name.span()).complain(message));
    }
    if !taken.insert(name.clone()) {
        return Err(at(fault.name.span()).complain(format!("two rows are called `{name}`")));
    }
    let says = fault.says.get_ref();
    if says.trim().is_empty() || says.chars().count() > 200 || says.chars().any(char::is_control) {
        return Err(at(fault.says.span()).complain("`says` is one sentence for people, of at most 200 characters"));
    }
    let when = when(&at(fault.when.span()), fault.when.get_ref(), at)?;
    let class = fault.class.get_ref().0.0;
    let act = fault.act.as_ref().map_or(Act::None, |act| act.get_ref().0);
    let flag = |written: &Written<bool>| written.as_ref().is_some_and(|flag| *flag.get_ref());
    let place_of = |written: Option<std::ops::Range<usize>>| at(written.unwrap_or_else(|| fault.class.span()));
    let acts: &[Act] = match class {
        Some(FaultClass::Crash) => &[Act::None, Act::Restart, Act::MoveAside],
        Some(FaultClass::Broken) => &[Act::None, Act::Restart, Act::PlannedRestart, Act::MoveAside],
        Some(FaultClass::Environment) => &[Act::None, Act::CopyAside],
        _ => &[Act::None],
    };
    if !acts.contains(&act) {
        let words: Vec<_> = acts.iter().map(|act| act.as_str()).collect();
        let class = class.map_or("healthy", FaultClass::as_str);
        let message = format!("`{act}` does not go with {class}: only {} does", one_of(&words));
        return Err(place_of(fault.act.as_ref().map(Spanned::span)).complain(message));
    }
    let ended = [UnitWord::Failed, UnitWord::AutoRestart];
    if class == Some(FaultClass::Crash) && (when.unit.is_empty() || !when.unit.iter().all(|word| ended.contains(word)))
    {
        let message = "CRASH is PID 1's word: it needs unit = \"failed\" or \"auto-restart\" in `when`";
        return Err(at(fault.class.span()).complain(message));
    }
    let (frozen, veto) = (flag(&fault.frozen), flag(&fault.veto));
    let votable = class.is_some_and(FaultClass::is_votable);
    if frozen && !matches!(class, None | Some(FaultClass::Unknown)) {
        let message = "`frozen` goes with UNKNOWN or healthy: it is the host that is in doubt";
        return Err(place_of(fault.frozen.as_ref().map(Spanned::span)).complain(message));
    }
    if veto && (votable || class.is_none()) {
        let message =
            "`veto` does not go with CRASH, BROKEN or healthy: it is to keep others from having something done";
        return Err(place_of(fault.veto.as_ref().map(Spanned::span)).complain(message));
    }
    let reason = fault.reason.as_ref().map(|reason| reason.get_ref().0);
    Ok(Row {
        name: name.clone(),
        when,
        class,
        act,
        page: fault.page.unwrap_or(false),
        frozen,
        veto,
        ignorable: flag(&fault.ignorable),
        reason,
        says: says.clone(),
    })
}

fn when(
    place: &Place,
    written: &WhenFragment,
    at: impl Fn(std::ops::Range<usize>) -> Place,
) -> Result<When, Complaint> {
    let fatal = written.fatal.as_ref().map(|text| pattern(text, at(text.span()))).transpose()?;
    let checks: Vec<_> = [
        written.checks_only.clone().map(Checks::Only),
        written.checks_any.clone().map(Checks::Any),
        written.checks_unnamed.filter(|unnamed| *unnamed).map(|_| Checks::Unnamed),
    ]
    .into_iter()
    .flatten()
    .collect();
    if checks.len() > 1 {
        return Err(place.complain("only one of `checks_only`, `checks_any` and `checks_unnamed` can be asked for"));
    }
    if written.others_failing.is_some_and(|percent| !(1..=100).contains(&percent)) {
        return Err(place.complain("`others_failing` is a share in percent, from 1 to 100"));
    }
    let list = |words: &Words<Answer>| words.0.clone().unwrap_or_default();
    let ports = [
        (Port::Ping, &written.ping),
        (Port::Livez, &written.livez),
        (Port::Readyz, &written.readyz),
        (Port::Kubelet, &written.kubelet),
        (Port::KubeProxy, &written.kube_proxy),
    ];
    let when = When {
        role: written.role.map(|role| match role {
            RoleWord::Server => Role::Server,
            RoleWord::Agent => Role::Agent,
        }),
        unit: written.unit.0.clone().unwrap_or_default(),
        older_than: written.older_than.map(|length| length.0),
        ports: ports.iter().filter_map(|(port, words)| Some((*port, words.0.clone()?))).collect::<BTreeMap<_, _>>(),
        any: list(&written.any),
        all: list(&written.all),
        api: list(&written.api),
        answered: written.answered.0.clone().unwrap_or_default(),
        checks: checks.into_iter().next(),
        node_ready: written.node_ready,
        fatal,
        fatal_line: written.fatal_line,
        same_fatal: written.same_fatal,
        ended_runs: written.ended_runs,
        free_bytes_below: written.free_bytes_below.map(|size| size.0),
        free_inodes_below: written.free_inodes_below,
        certificate_within: written.certificate_within.map(|length| length.0),
        ca_within: written.ca_within.map(|length| length.0),
        in_window: written.in_window,
        clock: written.clock.0.clone().unwrap_or_default(),
        empty_files: written.empty_files,
        others_failing: written.others_failing,
        datastore_well: written.datastore_well,
    };
    if when.is_empty() {
        return Err(place.complain("a row without a condition would match every look"));
    }
    Ok(when)
}

fn pattern(text: &Spanned<String>, place: Place) -> Result<LinePattern, Complaint> {
    let pattern = LinePattern::new(text.get_ref()).map_err(|error| {
        let why = error.to_string();
        let why = why.lines().last().unwrap_or_default().trim_start_matches("error: ").to_owned();
        place.complain_with("no regular expression", why)
    })?;
    if pattern.is_match("") {
        return Err(place.complain("this pattern matches every line"));
    }
    Ok(pattern)
}
