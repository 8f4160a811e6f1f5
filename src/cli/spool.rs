//! `event-router spool`: lists and drops the events that wait on disk, for a destination or in the
//! inbox of a push source.

use std::collections::BTreeMap;
use std::path::Path;

use anyhow::bail;
use clap::{Args, Subcommand};

use super::Exit;
use super::state::{StateArgs, known, spools_json};
use super::table::table;
use crate::state::{SpoolSize, Storage, Store, StoreError, StoreReader, Write, inbox, spool_owner};

#[derive(Debug, Subcommand)]
pub enum SpoolCommand {
    List(SpoolListArgs),
    Drop(SpoolDropArgs),
}

/// List the events that wait on disk, by destination, with their compressed size.
///
/// Works while the router runs. Events of a destination that is no longer configured stay on disk.
/// They are delivered once a destination of that name is configured again. `#inbox/SOURCE` is the
/// inbox of a push source: events that have not reached their destinations, and the ids of its
/// newest events.
#[derive(Debug, Args)]
pub struct SpoolListArgs {
    #[command(flatten)]
    state: StateArgs,
    /// Print one JSON object instead of a table
    #[arg(long)]
    json: bool,
}

/// Drop the events that wait on disk for a destination, or in the inbox of a source; they are lost.
///
/// Meant for a destination or a push source that will not return. Its dead letters stay; drop them
/// with `event-router dlq drop`. The router must not be running.
#[derive(Debug, Args)]
pub struct SpoolDropArgs {
    /// The destination, as `spool list` shows it: `PROCESSOR`, `PROCESSOR/FUNCTION`,
    /// `PROCESSOR/BUS`, `PROCESSOR#undecided` or `#inbox/SOURCE`
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
    let spools = listed(&StoreReader::open(dir)?)?;
    if json {
        return say!("{:#}", spools_json(&spools));
    }
    let rows: Vec<[String; 3]> = spools
        .iter()
        .map(|(name, size)| [name.clone(), size.events.to_string(), size.bytes.to_string()])
        .collect();
    super::print(table(["DESTINATION", "EVENTS", "BYTES"], &rows).as_bytes())
}

/// The sizes of all spools and inboxes.
fn listed(reader: &StoreReader) -> Result<BTreeMap<String, SpoolSize>, StoreError> {
    let mut all = reader.spools_by_destination()?;
    all.extend(reader.inboxes()?);
    Ok(all)
}

fn drop_spool(dir: &Path, destination: &str) -> anyhow::Result<()> {
    let reader = StoreReader::open(dir)?;
    let spools = listed(&reader)?;
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
    match inbox::source_of(destination) {
        Some(source) => store.drop_inbox(source)?,
        None => store.apply(&writes).map(drop)?,
    }
    store.close()?;
    say!("{destination}: {} events dropped ({} bytes on disk)", size.events, size.bytes)
}
