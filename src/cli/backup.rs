//! `event-router backup`: copies the state at one point in time into a file.

use std::path::PathBuf;

use clap::Args;

use super::Exit;
use super::state::StateArgs;
use crate::state::StoreReader;

/// Copy the state (positions, spools, dead letters) into a file, even while the router runs.
///
/// The copy is consistent, and the router does not wait for it. `event-router restore` restores it.
/// Events that were delivered after the backup are then delivered again, with their old ids.
#[derive(Debug, Args)]
pub struct BackupArgs {
    /// The file to write; it must not exist
    file: PathBuf,
    #[command(flatten)]
    state: StateArgs,
}

pub(super) fn run(args: &BackupArgs) -> anyhow::Result<Exit> {
    let dir = match args.state.locate()? {
        Ok(located) => located.dir,
        Err(end) => return Ok(end),
    };
    StoreReader::open(&dir)?.backup(&args.file)?;
    say!("{}: a backup of {}", args.file.display(), dir.display())?;
    Ok(Exit::Done)
}
