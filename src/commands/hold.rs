//! `zeta-bft hold`

use super::ask::{Target, order};
use crate::config::paths::Paths;
use crate::error::Failure;
use crate::wire::v1::HoldRequest;
use std::process::ExitCode;
use std::time::Duration;

/// Leave a subject alone.
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(flatten)]
    target: Target,
    /// For how long, such as `2h` or `30m`; until released, if not given.
    #[arg(long = "for", value_name = "TIME", value_parser = humantime::parse_duration)]
    duration: Option<Duration>,
    /// Why: kept in the journal and shown to everybody who asks.
    #[arg(long)]
    reason: String,
}

/// Runs the command.
///
/// # Errors
/// [`Failure`] for people.
pub fn run(paths: &Paths, args: Args) -> Result<ExitCode, Failure> {
    // A part of a second counts as a whole one: a hold is never shorter than asked for.
    let for_seconds = args.duration.map(|d| d.as_secs().saturating_add(u64::from(d.subsec_nanos() > 0)));
    if for_seconds == Some(0) {
        return Err(Failure::new("a hold of no time holds nothing")
            .hint("leave --for out to hold until released")
            .code(2));
    }
    let request = HoldRequest { subject: args.target.into_wire(), for_seconds, reason: args.reason };
    order(paths, async |mut operator| operator.hold(request).await)
}
