//! `zeta-bft man`

use super::Cli;
use crate::error::Failure;
use clap::CommandFactory as _;
use std::io::Write as _;
use std::process::ExitCode;

/// Runs the command.
///
/// # Errors
/// [`Failure`] when the text cannot be written.
pub fn run() -> Result<ExitCode, Failure> {
    let mut text = Vec::new();
    clap_mangen::Man::new(Cli::command()).render(&mut text)?;
    // Of each command, what it does and takes: one page, as nobody looks for twenty.
    for mut command in Cli::command().get_subcommands().filter(|command| !command.is_hide_set()).cloned() {
        command.build();
        writeln!(text, ".SH \"{}\"", command.get_name().to_uppercase())?;
        let page = clap_mangen::Man::new(command);
        page.render_description_section(&mut text)?;
        page.render_options_section(&mut text)?;
    }
    std::io::stdout().write_all(&text)?;
    Ok(ExitCode::SUCCESS)
}
