//! `event-router completions`: prints the script by which a shell completes commands and flags.

use clap::{Args, CommandFactory};
use clap_complete::Shell;

use super::{Cli, Exit};

/// Print the completion script for a shell.
///
/// For bash: `event-router completions bash > /etc/bash_completion.d/event-router`; for zsh a file
/// `_event-router` in a directory of `$fpath`; for fish
/// `~/.config/fish/completions/event-router.fish`.
#[derive(Debug, Args)]
pub struct CompletionsArgs {
    /// The shell
    shell: Shell,
}

pub(super) fn run(args: &CompletionsArgs) -> anyhow::Result<Exit> {
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut Cli::command(), "event-router", &mut script);
    super::print(&script)?;
    Ok(Exit::Done)
}
