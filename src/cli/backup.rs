//! `event-router backup`: the state, whole and as of one moment, in one file.

use std::path::PathBuf;

use clap::Args;

use super::Exit;
use super::state::StateArgs;
use crate::state::StoreReader;

/// Copy the state (positions, spools, dead letters) into a file, beside a running router too.
///
/// The copy is of one moment, and making it does not hold the router up. `event-router restore` puts it back. An event that was delivered after the backup comes again then, with its old id.
#[derive(Debug, Args)]
pub struct BackupArgs {
    /// The file to write; must not be there yet
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
    say!("{}: the state of {}", args.file.display(), dir.display())?;
    Ok(Exit::Done)
}
