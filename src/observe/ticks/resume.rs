//! When work can go on, where a refusal names it: `resets 3am (Europe/Berlin)`, `try again in 2 hours 5 minutes`,
//! `retry-after: 30`, `reset at 1719500000`, `until 2026-01-05T10:30:00Z`.
//!
//! * A time of day is the next one in the future, in the zone that the text names, else in `now`'s. A zone that is not
//!   known makes no time rather than a wrong one.
//! * A time in the past, or more than [`FURTHEST`] ahead, is no time.

use jiff::Zoned;
use jiff::civil::{Date, Time, Weekday};
use jiff::tz::{Offset, TimeZone};
use regex::{Captures, Regex};
use std::sync::LazyLock;
use std::time::Duration;

/// A vendor's quota comes back within a week.
pub const FURTHEST: Duration = Duration::from_secs(8 * 24 * 3600);

fn pattern(text: &str) -> Regex {
    Regex::new(text).expect("a constant pattern compiles")
}

/// What a time stands behind. The group tells whether a bare number of seconds may follow.
static CUE: LazyLock<Regex> = LazyLock::new(|| {
    pattern(
        r#"(?i)(?P<bare>\bretry[ _-]?after(?:[ _-]?seconds)?\b)|\bresets?(?:[ _](?:at|in|on|after))?\b|\bresets?_?at\b|\b(?:try|retry|retrying|available|retry again|try it)(?: again)?[ ](?:at|in|after|on)\b|\bretry_?delay\b|\bagain (?:at|in|after|on)\b|\bresumes? (?:at|in|on)\b|\brenews? (?:at|in|on)\b|\buntil\b|\blimit reached\|"#,
    )
});
static FILLER: LazyLock<Regex> =
    LazyLock::new(|| pattern(r#"(?i)^(?:[\s"'`:=,|~∙·*>]+|(?:at|in|on|about|approximately|around)\b)*"#));
static RFC_3339: LazyLock<Regex> = LazyLock::new(|| {
    pattern(r"^\d{4}-\d{2}-\d{2}[Tt ]\d{2}:\d{2}:\d{2}(?:\.\d{1,9})?[ ]?(?:[Zz]|UTC|[+-]\d{2}:?\d{2})")
});
static UNIX: LazyLock<Regex> = LazyLock::new(|| pattern(r"^(\d{10})(\d{3})?(?:\.\d+)?(?:\D|$)"));
static SPAN: LazyLock<Regex> = LazyLock::new(|| {
    pattern(
        r"(?i)^(?:and[ ])?[ ]*(\d{1,9}(?:\.\d{1,9})?|an?)[ ]*(milliseconds?|millis|ms|seconds?|secs?|s|minutes?|mins?|m|hours?|hrs?|h|days?|d|weeks?|w)(?:[^a-zA-Z]|$)",
    )
});
static SECONDS: LazyLock<Regex> = LazyLock::new(|| pattern(r"^(\d{1,7})(?:\D|$)"));
static WEEKDAY: LazyLock<Regex> =
    LazyLock::new(|| pattern(r"(?i)^(mon|tue|wed|thu|fri|sat|sun)(?:day|s|sday|nesday|rs|rsday|ur|urday)?\b"));
static DATE: LazyLock<Regex> = LazyLock::new(|| {
    pattern(
        r"(?i)^(jan|feb|mar|apr|may|jun|jul|aug|sep|oct|nov|dec)[a-z]*\.?[ ]+(\d{1,2})(?:st|nd|rd|th)?(?:,?[ ]+(\d{4}))?\b",
    )
});
static TIME: LazyLock<Regex> = LazyLock::new(|| {
    pattern(r"(?i)^(?:(\d{1,2})(?::(\d{2}))?(?::\d{2})?[ ]?([ap])\.?m\b\.?|(\d{1,2}):(\d{2})(?::\d{2})?(?:\b|$))")
});
static ZONE: LazyLock<Regex> =
    LazyLock::new(|| pattern(r"^[ ]*(?:\(([A-Za-z_]+(?:/[A-Za-z_+-]+)*)\)|((?-i:[A-Z]{2,5})|Z)\b)"));

/// The time that a line names, in seconds of Unix time.
pub fn resume_at(line: &str, now: &Zoned) -> Option<u64> {
    CUE.captures_iter(line).take(8).find_map(|cue| {
        let rest = &line[cue.get(0)?.end()..];
        let rest = &rest[FILLER.find(rest).map_or(0, |filler| filler.end())..];
        let at = moment(rest, cue.name("bare").is_some(), now)?;
        let wait = at.checked_sub(now.timestamp().as_second())?;
        (wait > 0 && wait <= i64::try_from(FURTHEST.as_secs()).ok()?).then_some(u64::try_from(at).ok()?)
    })
}

fn moment(text: &str, bare_seconds: bool, now: &Zoned) -> Option<i64> {
    if let Some(found) = RFC_3339.find(text) {
        let written = found.as_str().replace("UTC", "Z").replace("Z ", "Z").replace(" Z", "Z").replace(" +", "+");
        return written.parse::<jiff::Timestamp>().ok().map(jiff::Timestamp::as_second);
    }
    if let Some(found) = UNIX.captures(text) {
        return found.get(1)?.as_str().parse().ok();
    }
    if let Some(wait) = span(text) {
        return now.timestamp().as_second().checked_add(wait);
    }
    if let Some(at) = civil(text, now) {
        return Some(at);
    }
    let seconds = SECONDS.captures(text).filter(|_| bare_seconds)?.get(1)?.as_str().parse::<i64>().ok()?;
    now.timestamp().as_second().checked_add(seconds)
}

/// `2 hours 5 minutes`, `1m30.5s`, `2h10m5s`: in seconds, rounded up.
fn span(mut text: &str) -> Option<i64> {
    let mut seconds = 0.0_f64;
    let mut found = false;
    while let Some(part) = SPAN.captures(text) {
        let number = match part.get(1)?.as_str() {
            "a" | "an" | "A" | "An" => 1.0,
            digits => digits.parse().ok()?,
        };
        let unit = part.get(2)?.as_str().to_ascii_lowercase();
        seconds += number
            * match unit.as_str() {
                "ms" => 0.001,
                unit if unit.starts_with("mil") => 0.001,
                unit if unit.starts_with('s') => 1.0,
                unit if unit.starts_with('m') => 60.0,
                unit if unit.starts_with('h') => 3600.0,
                unit if unit.starts_with('d') => 86_400.0,
                _ => 604_800.0,
            };
        found = true;
        text = text[part.get(2)?.end()..].trim_start_matches([' ', ',']);
    }
    // Far beyond any limit, still exact enough: the caller refuses it.
    #[allow(clippy::cast_possible_truncation)]
    found.then(|| seconds.ceil().min(1e12) as i64)
}

/// `3pm`, `Oct 9 at 5pm`, `Monday, 15:30 UTC`, `tomorrow at 3 am (Europe/Berlin)`.
fn civil(text: &str, now: &Zoned) -> Option<i64> {
    enum Day {
        Any,
        Tomorrow,
        Week(Weekday),
        Date(i8, i8, Option<i16>),
    }
    let mut rest = text;
    let mut day = Day::Any;
    if let Some(after) = rest.get(..8).filter(|word| word.eq_ignore_ascii_case("tomorrow")).map(|_| &rest[8..]) {
        (day, rest) = (Day::Tomorrow, after);
    } else if let Some(found) = WEEKDAY.captures(rest) {
        day = Day::Week(weekday(&found)?);
        rest = &rest[found.get(0)?.end()..];
    }
    rest = rest.trim_start_matches([' ', ',']);
    if let Some(found) = DATE.captures(rest) {
        let year = found.get(3).map(|year| year.as_str().parse()).transpose().ok()?;
        day = Day::Date(month(&found)?, found.get(2)?.as_str().parse().ok()?, year);
        rest = &rest[found.get(0)?.end()..];
    }
    rest = rest.trim_start_matches([' ', ',']);
    rest = rest.strip_prefix("at ").unwrap_or(rest);
    let time = match TIME.captures(rest) {
        Some(found) => {
            rest = &rest[found.get(0)?.end()..];
            time_of_day(&found)?
        }
        None if matches!(day, Day::Any) => return None,
        None => Time::midnight(),
    };
    let zone = match ZONE.captures(rest) {
        Some(found) => zone(found.get(1).or(found.get(2))?.as_str())?,
        None => now.time_zone().clone(),
    };
    let here = now.with_time_zone(zone.clone());
    let at = |date: Date| zone.to_zoned(date.to_datetime(time)).ok();
    let at = match day {
        Day::Any => at(here.date()).filter(|at| *at > here).or_else(|| at(here.date().tomorrow().ok()?)),
        Day::Tomorrow => at(here.date().tomorrow().ok()?),
        Day::Week(weekday) => {
            let today = Some(here.date()).filter(|date| date.weekday() == weekday).and_then(at);
            today.filter(|at| *at > here).or_else(|| at(here.date().nth_weekday(1, weekday).ok()?))
        }
        Day::Date(month, day, Some(year)) => at(Date::new(year, month, day).ok()?),
        Day::Date(month, day, None) => {
            let of = |year| Date::new(year, month, day).ok().and_then(at);
            of(here.year()).filter(|at| *at > here).or_else(|| of(here.year() + 1))
        }
    }?;
    Some(at.timestamp().as_second())
}

fn time_of_day(found: &Captures<'_>) -> Option<Time> {
    let number = |group: usize| found.get(group).map(|text| text.as_str().parse::<i8>()).transpose().ok();
    match found.get(3).map(|half| half.as_str().eq_ignore_ascii_case("p")) {
        Some(afternoon) => {
            let hour = number(1)??;
            let minute = number(2)?.unwrap_or(0);
            let hour = (1..=12).contains(&hour).then_some(hour % 12 + if afternoon { 12 } else { 0 })?;
            Time::new(hour, minute, 0, 0).ok()
        }
        None => Time::new(number(4)??, number(5)??, 0, 0).ok(),
    }
}

fn weekday(found: &Captures<'_>) -> Option<Weekday> {
    Some(match found.get(1)?.as_str().to_ascii_lowercase().as_str() {
        "mon" => Weekday::Monday,
        "tue" => Weekday::Tuesday,
        "wed" => Weekday::Wednesday,
        "thu" => Weekday::Thursday,
        "fri" => Weekday::Friday,
        "sat" => Weekday::Saturday,
        _ => Weekday::Sunday,
    })
}

fn month(found: &Captures<'_>) -> Option<i8> {
    let months = ["jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec"];
    let word = found.get(1)?.as_str().to_ascii_lowercase();
    i8::try_from(months.iter().position(|month| *month == word)? + 1).ok()
}

/// An IANA name, or one of the abbreviations that vendors use.
fn zone(name: &str) -> Option<TimeZone> {
    let hours = match name {
        "UTC" | "GMT" | "Z" => 0,
        "BST" | "CET" => 1,
        "CEST" => 2,
        "EDT" => -4,
        "EST" | "CDT" => -5,
        "CST" | "MDT" => -6,
        "MST" | "PDT" => -7,
        "PST" => -8,
        name => return TimeZone::get(name).ok(),
    };
    Some(TimeZone::fixed(Offset::from_hours(hours).ok()?))
}
