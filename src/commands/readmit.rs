//! `zeta-bft readmit`

use super::ask::order;
use crate::config::paths::Paths;
use crate::error::Failure;
use crate::protocol::types::PersonaId;
use crate::wire::v1::ReadmitRequest;
use std::process::ExitCode;

/// Give a quarantined persona its vote back.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Who.
    #[arg(value_name = "PERSONA", value_parser = PersonaId::new)]
    persona: PersonaId,
    /// Why: kept in the journal.
    #[arg(long, default_value = "readmitted by the operator")]
    reason: String,
}

/// Runs the command.
///
/// # Errors
/// [`Failure`] for people.
pub fn run(paths: &Paths, args: Args) -> Result<ExitCode, Failure> {
    let request = ReadmitRequest { persona: args.persona.to_string(), reason: args.reason };
    order(paths, async |mut operator| operator.readmit(request).await)
}
