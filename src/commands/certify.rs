//! `zeta-bft certify`

use crate::config;
use crate::config::paths::Paths;
use crate::config::roster;
use crate::error::Failure;
use crate::grpc::tls::InspectorName;
use crate::grpc::tls::issue::LEAF_LIFE;
use crate::keys::KeyFileError;
use crate::protocol::roster::Roster;
use crate::setup::certificates::{Ca, CertifyError};
use crate::wire::Proto;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

/// Makes the certificates for TCP, or renews them: for every persona of the roster, or for somebody who may look.
///
/// The first run makes the node's CA as well; its key belongs offline, beside the operator's. Agents take renewed certificates
/// up by themselves.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The CA's private key; the one on this node unless given.
    #[arg(long, value_name = "FILE")]
    ca_key: Option<PathBuf>,
    /// For how many days they hold.
    #[arg(long, default_value_t = LEAF_LIFE.as_secs() / 86_400, value_parser = clap::value_parser!(u64).range(1..=3650))]
    days: u64,
    /// For somebody who may look from elsewhere (`quorum --connect`), and nothing else.
    #[arg(long, value_name = "NAME", value_parser = InspectorName::new, requires = "into")]
    inspector: Option<InspectorName>,
    /// The folder that the inspector is to be given: key, certificate, CA, roster.
    #[arg(long, value_name = "DIR", requires = "inspector")]
    into: Option<PathBuf>,
}

/// Runs the command.
///
/// # Errors
/// [`Failure`] for people.
pub fn run(paths: &Paths, args: Args) -> Result<ExitCode, Failure> {
    // Certificates are read by every agent's user, whatever the shell's mask is.
    rustix::process::umask(rustix::fs::Mode::from_raw_mode(0o022));
    let settings = config::load(paths).map_err(|error| Failure::new(error).hint("run `zeta-bft check-config`"))?;
    let roster = roster::load(&paths.roster(), &Proto)?;
    let life = Duration::from_secs(args.days * 86_400);
    match (args.inspector, args.into) {
        (Some(name), Some(into)) => {
            let (ca, written) = open(paths, &roster, args.ca_key)?;
            said(&written);
            said(&ca.certify_inspector(paths, &roster, &name, &into, life).map_err(explained)?);
            let pin = paths.tls_inspectors().join(format!("{name}.crt"));
            say!("\nnext:");
            say!("  move {} to where it is needed, over a safe way: whoever has it may look", into.display());
            say!("  there: zeta-bft quorum --connect ADDRESS --identity DIR");
            say!("  to end it: rm {}", pin.display());
        }
        _ => {
            let (ca, written) = open(paths, &roster, args.ca_key)?;
            said(&written);
            said(&ca.certify_agents(paths, &roster, life).map_err(explained)?);
            say!("\nnext:");
            if paths.ca_key().exists() {
                say!("  move {} off this node, beside the operator's key", paths.ca_key().display());
            }
            say!("  running agents take them up by themselves; run this again within {} days", args.days);
        }
    }
    if settings.tcp.is_empty() {
        say!("  nobody listens on TCP yet: write [tcp.NAME] in {}", paths.node_toml().display());
    }
    Ok(ExitCode::SUCCESS)
}

/// The first certificates of a node that is configured for TCP.
pub(super) fn first(paths: &Paths, roster: &Roster) -> Result<(), Failure> {
    let (ca, written) = open(paths, roster, None)?;
    said(&written);
    said(&ca.certify_agents(paths, roster, LEAF_LIFE).map_err(explained)?);
    Ok(())
}

fn open(paths: &Paths, roster: &Roster, key: Option<PathBuf>) -> Result<(Ca, Vec<PathBuf>), Failure> {
    Ca::of(paths, roster, &key.unwrap_or_else(|| paths.ca_key())).map_err(explained)
}

fn said(written: &[PathBuf]) {
    for path in written {
        say!("wrote {}", path.display());
    }
}

fn explained(error: CertifyError) -> Failure {
    let hint = match &error {
        CertifyError::Key(KeyFileError::Missing { .. }) | CertifyError::NotTheCa { .. } => {
            "`--ca-key FILE` names the CA's key; if it is lost, move ca.crt away: the next run makes a new CA"
        }
        CertifyError::NotVouched { .. } => "move ca.crt away: the next run makes a new CA, and certificates by it",
        CertifyError::Io { .. } => "run it as root, or with `--dir DIR`",
        _ => return Failure::new(error),
    };
    Failure::new(error).hint(hint)
}
