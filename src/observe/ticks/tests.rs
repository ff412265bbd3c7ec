use super::*;
use jiff::civil::date;
use jiff::tz::TimeZone;
use jiff::{ToSpan as _, Zoned};

/// 27 June 2024 is a Thursday; 12:00 in Berlin is 10:00 UTC.
fn now() -> Zoned {
    let berlin = TimeZone::posix("CET-1CEST,M3.5.0,M10.5.0/3").unwrap();
    date(2024, 6, 27).at(12, 0, 0, 0).to_zoned(berlin).unwrap()
}

fn unix(at: &Zoned) -> Option<u64> {
    u64::try_from(at.timestamp().as_second()).ok()
}

fn at(day: i8, hour: i8, minute: i8) -> Option<u64> {
    unix(&now().with().day(day).hour(hour).minute(minute).build().unwrap())
}

fn pattern(regex: &str, reason: Reason) -> FaultPattern {
    FaultPattern { regex: regex::RegexBuilder::new(regex).case_insensitive(true).build().unwrap().into(), reason }
}

fn patterns() -> Vec<FaultPattern> {
    vec![
        pattern(r"usage limit|limit reached|hit your limit|quota", Reason::Quota),
        pattern(r"not logged in|set an auth method|unauthorized", Reason::Auth),
        pattern(r"not running in a trusted directory|not inside a trusted directory", Reason::Setup),
        pattern(r"failed to lookup address information|network is unreachable", Reason::NetworkDown),
        pattern(r"no space left", Reason::DiskFull),
    ]
}

fn tail(text: impl AsRef<[u8]>) -> Tail {
    let mut tail = Tail::new();
    tail.push(text.as_ref());
    tail
}

fn read(ended: Ended, millis: u64, stdout: &str, stderr: &str) -> Reading {
    let (stdout, stderr) = (tail(stdout), tail(stderr));
    let duration = Duration::from_millis(millis);
    classify(Outcome { ended, duration, stdout: &stdout, stderr: &stderr }, &patterns(), &now())
}

fn environment(reason: Reason) -> Reading {
    Reading { fault: Some(FaultClass::Environment), reason, resume_at: None }
}

#[test]
fn what_the_vendors_clis_say_without_login_or_network_is_environment() {
    use Ended::{Exited, TimedOut};
    let auth = "Please set an Auth method in your /home/x/.gemini/settings.json or specify one of …";
    let trust = "Gemini CLI is not running in a trusted directory. To proceed, use --skip-trust";
    let checkout = "Not inside a trusted directory and --skip-git-repo-check was not specified.";
    let offline = "\u{1b}[31mReconnecting... 3/5\u{1b}[0m\nerror: failed to lookup address information\nFalling back from WebSockets to HTTPS\n";
    for (ended, millis, stdout, stderr, reason) in [
        (Exited(1), 600, "Not logged in · Please run /login\n", "", Reason::Auth),
        (Exited(41), 1600, "", auth, Reason::Auth),
        (Exited(55), 1800, "", trust, Reason::Setup),
        (Exited(1), 200, "", checkout, Reason::Setup),
        (TimedOut, 90_000, "", offline, Reason::NetworkDown),
    ] {
        assert_eq!(read(ended, millis, stdout, stderr), environment(reason), "{stdout}{stderr}");
    }
}

#[test]
fn a_fault_without_a_known_text_is_broken() {
    for (ended, millis, reason) in [
        (Ended::TimedOut, 45_000, Reason::TickTimeout),
        (Ended::Signalled(11), 3, Reason::TickFailed),
        (Ended::Exited(1), 3, Reason::TickFailed),
        (Ended::NotStarted, 0, Reason::TickNotStarted),
        (Ended::Exited(0), 3, Reason::TickHollow),
    ] {
        assert_eq!(read(ended, millis, "", ""), Reading::broken(reason));
    }
    assert_eq!(read(Ended::Signalled(11), 3, "quota exceeded", ""), Reading::broken(Reason::TickFailed));
}

#[test]
fn a_probe_tells_a_program_that_does_not_start_from_a_vendor_that_is_away() {
    let reading = |ended, millis, stdout: &str, probe| {
        let (stdout, stderr) = (tail(stdout), tail(""));
        let tick = Outcome { ended, duration: Duration::from_millis(millis), stdout: &stdout, stderr: &stderr };
        let reading = classify(tick, &patterns(), &now());
        if wants_probe(tick, reading) { probed(reading, probe) } else { reading }
    };
    let silent = environment(Reason::VendorSilent);
    let broken = Reading::broken;
    for (ended, millis, stdout, starts, fails, late) in [
        (Ended::TimedOut, 45_000, "", silent, broken(Reason::CliBroken), broken(Reason::TickTimeout)),
        (Ended::TimedOut, 45_000, "working …\n", silent, broken(Reason::CliBroken), broken(Reason::TickTimeout)),
        (Ended::Exited(1), 900, "", broken(Reason::TickFailed), broken(Reason::CliBroken), broken(Reason::TickFailed)),
        (
            Ended::Signalled(11),
            3,
            "",
            broken(Reason::TickFailed),
            broken(Reason::CliBroken),
            broken(Reason::TickFailed),
        ),
        (Ended::Exited(0), 3, "", broken(Reason::TickHollow), broken(Reason::CliBroken), broken(Reason::TickHollow)),
        (Ended::Exited(0), 9000, "", Reading::GOOD, broken(Reason::CliBroken), Reading::GOOD),
    ] {
        for (probe, expected) in [(Probe::Starts, starts), (Probe::Fails, fails), (Probe::Late, late)] {
            assert_eq!(reading(ended, millis, stdout, probe), expected, "{ended:?} {probe:?}");
        }
    }
    // Where the tick itself has said it all, nobody is asked.
    for (ended, stdout, expected) in [
        (Ended::Exited(0), "ok\n", Reading::GOOD),
        (Ended::Exited(1), "Not logged in\n", environment(Reason::Auth)),
        (Ended::TimedOut, "network is unreachable\n", environment(Reason::NetworkDown)),
        (Ended::NotStarted, "", broken(Reason::TickNotStarted)),
    ] {
        assert_eq!(reading(ended, 900, stdout, Probe::Fails), expected);
    }
}

#[test]
fn a_probe_starts_its_program_only_if_it_ends_well_and_says_something() {
    let probe = |ended, stdout: &str, stderr: &str| {
        let (stdout, stderr) = (tail(stdout), tail(stderr));
        Probe::read(Outcome { ended, duration: Duration::from_millis(3), stdout: &stdout, stderr: &stderr })
    };
    assert_eq!(probe(Ended::Exited(0), "1.2.3\n", ""), Probe::Starts);
    assert_eq!(probe(Ended::Exited(0), "", ""), Probe::Fails, "an empty executable does that");
    assert_eq!(probe(Ended::Exited(0), "", "a warning\n"), Probe::Fails);
    assert_eq!(probe(Ended::Exited(1), "1.2.3\n", ""), Probe::Fails);
    assert_eq!(probe(Ended::Signalled(11), "", ""), Probe::Fails);
    assert_eq!(probe(Ended::NotStarted, "", ""), Probe::Fails);
    assert_eq!(probe(Ended::TimedOut, "1.2.3\n", ""), Probe::Late);
}

#[test]
fn exit_0_is_good_whatever_the_output_talks_about() {
    let report = "I looked at the ingress: its rate limit and the namespace quota are fine.\n".repeat(40);
    assert_eq!(read(Ended::Exited(0), 9000, &report, ""), Reading::GOOD);
    assert_eq!(read(Ended::Exited(0), 9000, "", ""), Reading::GOOD, "slow and silent is not hollow");
    assert_eq!(read(Ended::Exited(0), 3, "ok\n", ""), Reading::GOOD);
}

#[test]
fn a_short_refusal_with_exit_0_is_environment() {
    let reading = read(Ended::Exited(0), 900, "You've hit your limit · resets 3pm\n", "");
    assert_eq!(reading, Reading { resume_at: at(27, 15, 0), ..environment(Reason::Quota) });
    let reading = read(Ended::Exited(0), 900, "no space left, cleaned up\n", "");
    assert_eq!(reading, Reading::GOOD, "only quota and login are read so");
}

#[test]
fn an_over_time_tick_is_judged_by_its_last_lines_only() {
    let early = format!("the quota of team a is 5\n{}", "step done\n".repeat(30));
    assert_eq!(read(Ended::TimedOut, 9000, &early, ""), Reading::broken(Reason::TickTimeout));
}

#[test]
fn the_first_pattern_counts_over_both_streams() {
    let reading = read(Ended::Exited(1), 900, "quota exceeded", "401 unauthorized");
    assert_eq!(reading, environment(Reason::Quota));
}

#[test]
fn the_resume_time_may_stand_on_a_line_beside_the_refusal() {
    let reading = read(Ended::Exited(1), 900, "", "Quota exceeded.\nDetails below.\nPlease try again at 3pm.\n");
    assert_eq!(reading.resume_at, at(27, 15, 0));
}

#[test]
fn a_resume_time_is_read_as_it_is_written() {
    let after = |span: jiff::Span| unix(&now().checked_add(span).unwrap());
    for (text, expected) in [
        ("quota exceeded, try again at 3pm", at(27, 15, 0)),
        ("Try again at 3:04 PM.", at(27, 15, 4)),
        ("limit reached ∙ resets at 3:30 PM", at(27, 15, 30)),
        ("5-hour limit reached ∙ resets 11am", at(28, 11, 0)),
        ("resets 12am", at(28, 0, 0)),
        ("resets 12pm", at(28, 12, 0)),
        ("try again at 15:30", at(27, 15, 30)),
        ("Access resets at 2:00 AM PDT.", unix(&now().with().hour(11).build().unwrap().checked_add(1.day()).unwrap())),
        ("resets 1pm (UTC)", at(27, 15, 0)),
        ("Weekly limit reached ∙ resets Jun 29 at 5pm", at(29, 17, 0)),
        ("resets Jun 29, 5:15pm", at(29, 17, 15)),
        (
            "try again at Jul 1st, 2024 3:04 PM.",
            unix(&date(2024, 7, 1).at(15, 4, 0, 0).to_zoned(now().time_zone().clone()).unwrap()),
        ),
        ("resets Saturday at 9am", at(29, 9, 0)),
        ("resets Thursday, 9:00", unix(&date(2024, 7, 4).at(9, 0, 0, 0).to_zoned(now().time_zone().clone()).unwrap())),
        ("try again tomorrow", None),
        ("resets tomorrow at 8am", at(28, 8, 0)),
        ("try again in 2 hours 5 minutes", after(2.hours().minutes(5))),
        ("Try again in 3 days, 4 hours and 22 minutes.", after((3 * 24 + 4).hours().minutes(22))),
        ("try again in an hour", after(1.hour())),
        ("Please retry in 34.074824224s.", after(35.seconds())),
        ("Please try again in 1m30.5s.", after(91.seconds())),
        ("Please try again in 6ms", after(1.second())),
        ("Your quota will reset after 2h10m5s.", after(2.hours().minutes(10).seconds(5))),
        (r#""retryDelay": "34s""#, after(34.seconds())),
        ("retry after 30s", after(30.seconds())),
        ("Retry-After: 120", after(120.seconds())),
        (r#"{"retry_after": 7}"#, after(7.seconds())),
        ("Claude AI usage limit reached|1719500000", Some(1_719_500_000)),
        ("reset at 1719500000", Some(1_719_500_000)),
        (r#""resets_at": 1719500000000,"#, Some(1_719_500_000)),
        ("resets_at=2024-06-27T15:00:00Z", at(27, 17, 0)),
        ("blocked until 2024-06-27 15:00:00+02:00", at(27, 15, 0)),
        ("blocked until 2024-06-27 15:00:00 UTC", at(27, 17, 0)),
    ] {
        assert_eq!(resume_at(text, &now()), expected, "{text}");
    }
}

#[test]
fn a_named_zone_is_the_one_that_counts() {
    if TimeZone::get("Europe/Berlin").is_err() {
        return; // no zone data on this machine
    }
    let utc = now().with_time_zone(TimeZone::UTC);
    assert_eq!(resume_at("resets 3am (Europe/Berlin)", &utc), at(28, 3, 0));
}

#[test]
fn a_time_that_makes_no_sense_is_no_time() {
    for text in [
        "reset at 1600000000",
        "resets_at=2020-01-01T00:00:00Z",
        "try again in 9 days",
        "try again in 999999999 weeks",
        "try again at 25:00",
        "try again at 13pm",
        "try again at 3:61 pm",
        "resets 3pm (Nowhere/Land)",
        "resets 3pm XYZ",
        "resets Feb 31 at 3pm",
        "reset",
        "until further notice",
        "try again in",
        "try again in a moment",
        "resets in 99999999999999999999999999 s",
        "2024-06-27T11:59:59Z ERROR something",
    ] {
        assert_eq!(resume_at(text, &now()), None, "{text}");
    }
}

#[test]
fn escapes_bad_utf_8_and_endless_lines_are_read_without_harm() {
    let mut tail = Tail::new();
    tail.push(&[b'x'; 100_000]);
    let hostile = b"\xff\xfe\x1b[1;31mquo\x1b[0mta\x1b]8;;http://x\x07 exceeded\x1b[";
    tail.push(hostile);
    assert_eq!(tail.total(), 100_000 + hostile.len() as u64);
    let lines = tail.lines();
    assert_eq!(lines.len(), 1);
    assert!(lines[0].len() <= 2 * Tail::KEPT);
    assert!(lines[0].ends_with("quota exceeded"), "{:?}", &lines[0][lines[0].len() - 40..]);
    let one_byte_at_a_time = b"a\r\nb\x1b\nc\x1b]0;title".iter().fold(Tail::new(), |mut tail, byte| {
        tail.push(&[*byte]);
        tail
    });
    assert_eq!(one_byte_at_a_time.lines(), ["a", "b", "c"]);
}

proptest::proptest! {
    #[test]
    fn no_output_panics(bytes: Vec<u8>, line in "(resets|try again (at|in)|until|retry after) ?[ -~∙·é]{0,40}") {
        let mut text = line.into_bytes();
        text.extend(bytes);
        let tail = tail(&text);
        let outcome = Outcome { ended: Ended::Exited(1), duration: Duration::ZERO, stdout: &tail, stderr: &tail };
        classify(outcome, &patterns(), &now());
        resume_at(&String::from_utf8_lossy(&text), &now());
    }
}

#[test]
fn the_default_patterns_know_what_their_own_vendors_cli_says() {
    let auth = "Please set an Auth method in your /home/x/.gemini/settings.json or specify one of the following";
    for (vendor, ended, text, reason) in [
        ("anthropic", Ended::Exited(1), "Not logged in · Please run /login", Reason::Auth),
        ("anthropic", Ended::Exited(1), "Claude AI usage limit reached|1719500000", Reason::Quota),
        ("anthropic", Ended::Exited(1), "You've hit your limit · resets 3am (Europe/Berlin)", Reason::Quota),
        ("google-gemini", Ended::Exited(41), auth, Reason::Auth),
        (
            "google-gemini",
            Ended::Exited(55),
            "Gemini CLI is not running in a trusted directory … --skip-trust",
            Reason::Setup,
        ),
        (
            "openai",
            Ended::Exited(1),
            "Not inside a trusted directory and --skip-git-repo-check was not specified.",
            Reason::Setup,
        ),
        ("openai", Ended::TimedOut, "Reconnecting... 3/5\nfailed to lookup address information", Reason::NetworkDown),
        ("other", Ended::Exited(1), "quota exceeded, try again at 3pm", Reason::Quota),
    ] {
        let vendor = crate::protocol::types::VendorId::new(vendor).unwrap();
        let (stdout, stderr) = (Tail::new(), tail(text));
        let outcome = Outcome { ended, duration: Duration::from_secs(1), stdout: &stdout, stderr: &stderr };
        let reading = classify(outcome, &crate::config::patterns::defaults(&vendor), &now());
        assert_eq!((reading.fault, reading.reason), (Some(FaultClass::Environment), reason), "{vendor}: {text}");
    }
}
