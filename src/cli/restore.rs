//! `event-router restore`: a backup in the place of the state.

use std::path::PathBuf;

use clap::Args;

use super::Exit;
use super::state::StateArgs;
use crate::state;

/// Put a backup in the place of the state.
///
/// The router must not be running; the state that was there is kept beside it as `state.db.replaced`, or with a number behind it where that exists. The backup is checked whole first: one that is damaged changes nothing. Sources go on where they were at the time of the backup, so what was delivered
/// since comes again, with its old id.
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
    say!("{}: the state of {} from now on", args.file.display(), dir.display())?;
    Ok(Exit::Done)
}
