//! `zeta-bft release`

use super::ask::{Target, order};
use crate::config::paths::Paths;
use crate::error::Failure;
use crate::wire::v1::ReleaseRequest;
use std::process::ExitCode;

/// End a hold, or bring back what spent its ladder or budget.
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(flatten)]
    target: Target,
    /// Why: kept in the journal.
    #[arg(long, default_value = "released by the operator")]
    reason: String,
}

/// Runs the command.
///
/// # Errors
/// [`Failure`] for people.
pub fn run(paths: &Paths, args: Args) -> Result<ExitCode, Failure> {
    let request = ReleaseRequest { subject: args.target.into_wire(), reason: args.reason };
    order(paths, async |mut operator| operator.release(request).await)
}
