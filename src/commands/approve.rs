//! `zeta-bft approve`

use super::ask::order;
use crate::config::paths::Paths;
use crate::error::Failure;
use crate::protocol::types::EpisodeId;
use crate::wire::v1::ApproveRequest;
use std::process::ExitCode;

/// Let a rung that waits for the operator go on.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The episode, as `quorum` and `explain` show it: `3.17`.
    #[arg(value_name = "EPISODE")]
    episode: EpisodeId,
    /// Why: kept in the journal.
    #[arg(long, default_value = "approved by the operator")]
    reason: String,
}

/// Runs the command.
///
/// # Errors
/// [`Failure`] for people.
pub fn run(paths: &Paths, args: Args) -> Result<ExitCode, Failure> {
    let request = ApproveRequest { episode: args.episode.to_string(), reason: args.reason };
    order(paths, async |mut operator| operator.approve(request).await)
}
