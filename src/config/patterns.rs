//! How a failed tick's output is read by default: what claude, gemini and codex print when the fault is not theirs. They
//! are tested against recordings of the real CLIs (`tests/vendor_recordings.rs`).
//!
//! A text that matches makes the tick ENVIRONMENT, which is never repaired by a restart; so a pattern must be narrow. The
//! first match counts: particular causes stand before general ones. An option's name is no pattern: a CLI whose update dropped
//! an option prints its whole usage.

use super::settings::{FaultPattern, LineRegex};
use crate::protocol::evidence::Reason;
use crate::protocol::types::VendorId;

const ANTHROPIC: &[(&str, Reason)] = &[
    (r"\b(usage|session|weekly|opus|sonnet|5-hour) limit reached\b", Reason::Quota),
    (r"\byou'?ve (hit|reached) your (\w+ )?limit\b", Reason::Quota),
    (r"\bcredit balance is too low\b", Reason::Quota),
    (r"\bnot logged in\b", Reason::Auth),
    (r"\bplease run /login\b", Reason::Auth),
    (r"\boauth token (has expired|revoked)\b", Reason::Auth),
    (r"\bauthentication_error\b|\bpermission_error\b|\bfailed to authenticate\b", Reason::Auth),
    (r"\brate_limit_error\b|\brequest rejected \(429\)", Reason::Quota),
    (r"\bapi error: 5\d\d\b", Reason::VendorDown),
    (r"\boverloaded_error\b|\b529\b[ -~]*\boverloaded\b|\boverloaded\b[ -~]*\b529\b", Reason::VendorDown),
    (r"\bcan't reach the api server\b", Reason::NetworkDown),
    (r"\bdo you trust the files\b|\baccept the terms\b", Reason::Setup),
];

const GOOGLE: &[(&str, Reason)] = &[
    (r"\bresource_exhausted\b|\bquota_exhausted\b", Reason::Quota),
    (r"\bexhausted your (daily|capacity)\b|\bexhausted your capacity\b", Reason::Quota),
    (r"\bplease set an auth method\b", Reason::Auth),
    (r"\binvalid auth method\b", Reason::Auth),
    (r"\bapi key not valid\b|\bapi_key_invalid\b", Reason::Auth),
    (r"\bpermission_denied\b", Reason::Auth),
    (r"\bgemini_api_key environment variable not found\b", Reason::Auth),
    (r"\bunauthenticated\b", Reason::Auth),
    (r"\bnot running in a trusted directory\b", Reason::Setup),
    (r"\bthe model is overloaded\b", Reason::VendorDown),
    (r#""status": ?"unavailable""#, Reason::VendorDown),
];

const OPENAI: &[(&str, Reason)] = &[
    (r"\byou'?ve hit your usage limit\b", Reason::Quota),
    (r"\binsufficient_quota\b|\bexceeded your current quota\b", Reason::Quota),
    (r"\brate_limit_exceeded\b", Reason::Quota),
    (r"\bincorrect api key provided\b", Reason::Auth),
    (r"\bcodex login\b", Reason::Auth),
    (r"\bnot inside a trusted directory\b", Reason::Setup),
    (r"\bserver_is_overloaded\b|\bslow_down\b", Reason::VendorDown),
    (r"\bmodel is at capacity\b|\bexperiencing high demand\b", Reason::VendorDown),
    (r"\breconnecting\.\.\. waiting for network\b", Reason::NetworkDown),
];

const GENERIC: &[(&str, Reason)] = &[
    (r"\bno space left on device\b|\benospc\b|\bdisk quota exceeded\b|\b(os )?error 28\b", Reason::DiskFull),
    (
        r"\b(usage|rate|quota|token|request|spending)[ _-]limit( has been| was| is)? (reached|exceeded|hit)\b",
        Reason::Quota,
    ),
    (
        r"\bquota[ _](has been |was )?(exceeded|exhausted|reached)\b|\bexceeded[ -~]{0,40}\bquota\b|\bout of quota\b",
        Reason::Quota,
    ),
    (r"\brate[ _-]?limited\b|\brate limit\b|\btoo many requests\b", Reason::Quota),
    (r"\b(http|status|code|error|api error)\b[ -/:-~]{0,12}\b429\b|\b429\b[ -~]{0,12}\btoo many\b", Reason::Quota),
    (
        r"\btry again (at|in|after)\b[ -~]{0,40}\d|\b(limit|quota|usage)\b[ -~]{0,40}\bresets?\b( at| in| on)?\b",
        Reason::Quota,
    ),
    (r"\bpayment required\b|\binsufficient (credits?|funds|balance)\b", Reason::Quota),
    (
        r"\b(http|status|code|error|api error)\b[ -/:-~]{0,12}\b(401|403)\b|\b401\b[ -~]{0,12}\bunauthorized\b",
        Reason::Auth,
    ),
    (
        r"\b(invalid|expired|missing|revoked|incorrect) (api[ _-]?key|x-api-key|access token|auth token|credentials)\b",
        Reason::Auth,
    ),
    (
        r"\b(not|no longer) (logged|signed) in\b|\blogin required\b|\bplease (log|sign) in\b|\bplease run [ -~]{0,20}login\b",
        Reason::Auth,
    ),
    (r"\bauth(entication)? (failed|required)\b|\bunauthorized\b", Reason::Auth),
    (r"\benotfound\b|\beai_again\b|\bfailed to lookup address\b|\bcould not resolve host\b", Reason::NetworkDown),
    (r"\btemporary failure in name resolution\b|\bname or service not known\b|\bdns error\b", Reason::NetworkDown),
    (r"\beconnrefused\b|\beconnreset\b|\benetunreach\b|\behostunreach\b|\betimedout\b", Reason::NetworkDown),
    (
        r"\bnetwork is unreachable\b|\bnetwork unreachable\b|\bno route to host\b|\bconnection refused\b",
        Reason::NetworkDown,
    ),
    (r"\bunable to connect to api\b|\bfetch failed\b|\bstream disconnected before completion\b", Reason::NetworkDown),
    (r"\b(http|status|code|error|api error)\b[ -/:-~]{0,12}\b(500|502|503|504|529)\b", Reason::VendorDown),
    (
        r"\bservice (temporarily )?unavailable\b|\bbad gateway\b|\bgateway time-?out\b|\bmodel is overloaded\b",
        Reason::VendorDown,
    ),
    (r"\b(529|503)\b[ -~]{0,20}\boverloaded\b|\binternal server error\b", Reason::VendorDown),
];

/// The default patterns of a vendor, in order.
pub fn defaults(vendor: &VendorId) -> Vec<FaultPattern> {
    let own = match vendor.as_str() {
        "anthropic" => ANTHROPIC,
        "google-gemini" => GOOGLE,
        "openai" => OPENAI,
        _ => &[],
    };
    own.iter()
        .chain(GENERIC)
        .map(|(text, reason)| FaultPattern { regex: LineRegex::ours(text), reason: *reason })
        .collect()
}

/// A default pattern as it is matched: ASCII alone, which keeps it small.
pub(super) fn compile_ours(text: &str) -> regex::Regex {
    let built = regex::RegexBuilder::new(text).case_insensitive(true).unicode(false).build();
    built.expect("a default pattern compiles: a test compiles them all")
}

/// A configured pattern as it is matched: without regard to case, and bounded in size.
pub(super) fn compile(text: &str) -> Result<regex::Regex, regex::Error> {
    regex::RegexBuilder::new(text).case_insensitive(true).size_limit(1 << 20).build()
}
