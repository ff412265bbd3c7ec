//! The vendors' CLIs: how what they print is read, and how they are probed.

use super::{GOOD, complaint, paths};
use crate::config::{parse, patterns};
use crate::protocol::evidence::Reason;
use crate::protocol::types::{PersonaId, VendorId};

/// How a line is read: by the first pattern that matches.
fn reading(vendor: &str, line: &str) -> Option<Reason> {
    let patterns = patterns::defaults(&VendorId::new(vendor).unwrap());
    patterns.iter().find(|pattern| pattern.regex.is_match(line)).map(|pattern| pattern.reason)
}

#[test]
fn what_the_vendors_clis_print_is_read_for_what_it_is() {
    let (claude, gemini, codex) = ("anthropic", "google-gemini", "openai");
    let cases = [
        (claude, "Not logged in · Please run /login", Reason::Auth),
        (claude, "Invalid API key · Please run /login", Reason::Auth),
        (
            claude,
            "API Error: 401 {\"type\":\"error\",\"error\":{\"type\":\"authentication_error\",\"message\":\"invalid x-api-key\"}}",
            Reason::Auth,
        ),
        (claude, "OAuth token has expired. Please obtain a new token or refresh your existing token.", Reason::Auth),
        (claude, "Claude AI usage limit reached|1760000000", Reason::Quota),
        (claude, "5-hour limit reached ∙ resets 3pm", Reason::Quota),
        (claude, "Weekly limit reached ∙ resets Oct 6, 1pm", Reason::Quota),
        (claude, "You've hit your limit · resets 4am (UTC)", Reason::Quota),
        (claude, "You've hit your session limit · resets 3:45pm", Reason::Quota),
        (claude, "Credit balance is too low", Reason::Quota),
        (claude, "API Error: 429 {\"type\":\"error\",\"error\":{\"type\":\"rate_limit_error\"}}", Reason::Quota),
        (
            claude,
            "API Error: 529 {\"type\":\"error\",\"error\":{\"type\":\"overloaded_error\",\"message\":\"Overloaded\"}}",
            Reason::VendorDown,
        ),
        (claude, "API Error: 500 Internal server error", Reason::VendorDown),
        (claude, "API Error: Connection error: getaddrinfo ENOTFOUND api.anthropic.com", Reason::NetworkDown),
        (claude, "API Error: Unable to connect to API (ECONNREFUSED)", Reason::NetworkDown),
        (
            gemini,
            "Please set an Auth method in your /home/zeta/.gemini/settings.json or specify one of the following environment variables before running: GEMINI_API_KEY",
            Reason::Auth,
        ),
        (
            gemini,
            "Gemini CLI is not running in a trusted directory. To proceed, either use `--skip-trust`, set the env",
            Reason::Setup,
        ),
        (gemini, "[API Error: API key not valid. Please pass a valid API key.]", Reason::Auth),
        (
            gemini,
            "[API Error: You exceeded your current quota, please check your plan and billing details.]",
            Reason::Quota,
        ),
        (gemini, "\"status\": \"RESOURCE_EXHAUSTED\"", Reason::Quota),
        (gemini, "You have exhausted your daily quota on this model.", Reason::Quota),
        (gemini, "[API Error: The model is overloaded. Please try again later.]", Reason::VendorDown),
        (gemini, "\"status\": \"UNAVAILABLE\"", Reason::VendorDown),
        (gemini, "TypeError: fetch failed sending request", Reason::NetworkDown),
        (codex, "Not inside a trusted directory and --skip-git-repo-check was not specified.", Reason::Setup),
        (codex, "ERROR: You've hit your usage limit. Upgrade to Pro or try again at 3:05 PM.", Reason::Quota),
        (codex, "error: insufficient_quota: You exceeded your current quota", Reason::Quota),
        (codex, "unexpected status 401 Unauthorized: Missing bearer or basic authentication in header", Reason::Auth),
        (codex, "Incorrect API key provided: sk-xxxx", Reason::Auth),
        (codex, "exceeded retry limit, last status: 429 Too Many Requests", Reason::Quota),
        (codex, "failed to lookup address information: Temporary failure in name resolution", Reason::NetworkDown),
        (codex, "unexpected status 503 Service Unavailable", Reason::VendorDown),
        (codex, "stream disconnected before completion: error sending request", Reason::NetworkDown),
        ("mistral", "quota exceeded, try again at 3pm", Reason::Quota),
        ("mistral", "Error: Quota Exceeded", Reason::Quota),
        ("mistral", "rate limit exceeded", Reason::Quota),
        ("mistral", "HTTP 429", Reason::Quota),
        ("mistral", "402 Payment Required", Reason::Quota),
        ("mistral", "please try again in 2h", Reason::Quota),
        ("mistral", "invalid API key", Reason::Auth),
        ("mistral", "You are not logged in", Reason::Auth),
        ("mistral", "HTTP 503", Reason::VendorDown),
        ("mistral", "502 Bad Gateway", Reason::VendorDown),
        ("mistral", "curl: (6) Could not resolve host: api.openai.com", Reason::NetworkDown),
        ("mistral", "connect: network is unreachable", Reason::NetworkDown),
        ("mistral", "Error: connect ECONNREFUSED 10.0.0.1:443", Reason::NetworkDown),
        ("mistral", "write /tmp/x: no space left on device", Reason::DiskFull),
        ("mistral", "Error: ENOSPC: no space left on device, write", Reason::DiskFull),
        ("mistral", "No space left on device (os error 28)", Reason::DiskFull),
    ];
    let wrong: Vec<_> = cases
        .iter()
        .filter(|(vendor, line, reason)| reading(vendor, line) != Some(*reason))
        .map(|(vendor, line, reason)| format!("{vendor}: {line}: {:?} instead of {reason}", reading(vendor, line)))
        .collect();
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[test]
fn what_is_the_personas_own_fault_is_no_environment() {
    for line in [
        "Segmentation fault (core dumped)",
        "SyntaxError: Unexpected token '<'",
        "Error: Cannot find module '/usr/lib/node_modules/@openai/codex/bin/codex.js'",
        "/bin/sh: 1: claude: not found",
        "thread 'main' panicked at src/main.rs:429:9",
        "error: unexpected argument '--print' found",
        "finished in 503 ms",
        "killed",
        "exit 1",
        "the limit of 401 lines was kept",
    ] {
        for vendor in ["anthropic", "google-gemini", "openai", "mistral"] {
            assert_eq!(reading(vendor, line), None, "{line}");
        }
    }
}

#[test]
fn a_configured_pattern_goes_before_the_defaults() {
    let text = GOOD.replace(
        "command = [\"claude\"]",
        "command = [\"claude\"]\npatterns = [{ regex = \"quota\", reason = \"network_down\" }]",
    );
    let settings = parse(&text, "node.toml", &paths()).unwrap();
    let otto = &settings.personas[&PersonaId::new("otto").unwrap()];
    let first = otto.patterns.iter().find(|pattern| pattern.regex.is_match("Quota exceeded")).unwrap();
    assert_eq!(first.reason, Reason::NetworkDown);
}

#[test]
fn a_vendors_cli_is_probed_by_its_version_and_nothing_else_unless_configured() {
    let probe = |command: &str| {
        let text = GOOD.replace("command = [\"claude\"]", command);
        parse(&text, "node.toml", &paths()).unwrap().personas[&PersonaId::new("otto").unwrap()].probe.clone()
    };
    let argv = |line: &str| Some(line.split(' ').map(str::to_owned).collect::<Vec<_>>());
    assert_eq!(probe("command = [\"claude\", \"--print\"]"), argv("claude --version"));
    assert_eq!(probe("command = [\"/usr/bin/codex\"]"), argv("/usr/bin/codex --version"));
    assert_eq!(probe("command = [\"/bin/sh\", \"-c\", \"claude\"]"), None);
    assert_eq!(probe("command = [\"claude\"]\nprobe = []"), None);
    assert_eq!(probe("command = [\"/bin/sh\"]\nprobe = [\"claude\", \"doctor\"]"), argv("claude doctor"));
    let text = GOOD.replace("command = [\"claude\"]", "command = [\"claude\"]\nprobe = [\" \"]");
    assert!(complaint(&text).contains("a command needs at least a program"));
}
