//! `event-router spool`: what waits on disk for destinations that could not take it.

use std::path::Path;

use anyhow::bail;
use clap::{Args, Subcommand};

use super::Exit;
use super::state::{StateArgs, known, spools_json};
use super::table::table;
use crate::state::{Storage, Store, StoreReader, Write, spool_owner};

#[derive(Debug, Subcommand)]
pub enum SpoolCommand {
    List(SpoolListArgs),
    Drop(SpoolDropArgs),
}

/// List the events and compressed bytes that wait on disk, by destination.
///
/// Works beside a running router. A destination that is not configured any more keeps what it has: it is delivered when one of that name is configured again.
#[derive(Debug, Args)]
pub struct SpoolListArgs {
    #[command(flatten)]
    state: StateArgs,
    /// One JSON object instead of a table
    #[arg(long)]
    json: bool,
}

/// Drop what waits on disk for a destination: its events are gone.
///
/// For a destination that is not to come back. Its dead letters stay; `event-router dlq drop` is for those. The router must not be running.
#[derive(Debug, Args)]
pub struct SpoolDropArgs {
    /// `PROCESSOR`, `PROCESSOR/FUNCTION` or `PROCESSOR/BUS`, as `spool list` shows it
    destination: String,
    #[command(flatten)]
    state: StateArgs,
}

pub(super) fn run(command: &SpoolCommand) -> anyhow::Result<Exit> {
    let state = match command {
        SpoolCommand::List(args) => &args.state,
        SpoolCommand::Drop(args) => &args.state,
    };
    let dir = match state.locate()? {
        Ok(located) => located.dir,
        Err(end) => return Ok(end),
    };
    match command {
        SpoolCommand::List(args) => list(&dir, args.json)?,
        SpoolCommand::Drop(args) => drop_spool(&dir, &args.destination)?,
    }
    Ok(Exit::Done)
}

fn list(dir: &Path, json: bool) -> anyhow::Result<()> {
    let spools = StoreReader::open(dir)?.spools_by_destination()?;
    if json {
        return say!("{:#}", spools_json(&spools));
    }
    let rows: Vec<[String; 3]> = spools
        .iter()
        .map(|(name, size)| [name.clone(), size.events.to_string(), size.bytes.to_string()])
        .collect();
    super::print(table(["DESTINATION", "EVENTS", "BYTES"], &rows).as_bytes())
}

fn drop_spool(dir: &Path, destination: &str) -> anyhow::Result<()> {
    let reader = StoreReader::open(dir)?;
    let spools = reader.spools_by_destination()?;
    let Some(size) = spools.get(destination) else {
        bail!("no spool of a destination `{destination}`; there are: {}", known(spools.keys()));
    };
    let writes: Vec<Write> = reader
        .spools()?
        .into_keys()
        .filter(|name| spool_owner(name).0 == destination)
        .map(|destination| Write::SpoolClear { destination })
        .collect();
    drop(reader);
    let mut store = Store::open(dir)?;
    store.apply(&writes)?;
    store.close()?;
    say!("{destination}: {} events dropped ({} bytes on disk)", size.events, size.bytes)
}
