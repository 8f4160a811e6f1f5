//! `event-router restore`: replaces the state with a backup.

use std::path::PathBuf;

use clap::Args;

use super::Exit;
use super::state::StateArgs;
use crate::state;

/// Replace the state with a backup.
///
/// The router must not be running. The replaced state is kept as `state.db.replaced`, with a number
/// appended if that exists. The backup is checked completely first; a damaged one changes nothing.
/// Sources resume where they were at the time of the backup, so events that were delivered since
/// then are delivered again, with their old ids.
#[derive(Debug, Args)]
pub struct RestoreArgs {
    /// A file that `event-router backup` wrote
    file: PathBuf,
    #[command(flatten)]
    state: StateArgs,
}

pub(super) fn run(args: &RestoreArgs) -> anyhow::Result<Exit> {
    let dir = match args.state.locate()? {
        Ok(located) => located.dir,
        Err(end) => return Ok(end),
    };
    state::restore(&args.file, &dir)?;
    say!("{}: restored into {}", args.file.display(), dir.display())?;
    Ok(Exit::Done)
}
