//! `event-router checkpoint`: where each source goes on after a restart, and how to move it.

use std::path::Path;

use clap::{Args, Subcommand};
use serde_json::{Map, Value, json};

use super::Exit;
use super::state::{StateArgs, known, shown, spools_json, time};
use super::table::table;
use crate::state::{Checkpoint, Store, StoreError, StoreReader};

#[derive(Debug, Subcommand)]
pub enum CheckpointCommand {
    Show(CheckpointShowArgs),
    Forget(ForgetArgs),
    Set(SetArgs),
}

/// Show where each source goes on after a restart, and what each destination still owes.
///
/// Works beside a running router, which writes its position twice a second: what it shows is what a crash at this moment would leave.
///
/// RESUME is by vCenter's clock: every event created before it is delivered, spooled or a dead letter. SEEN counts the events since then (less the overlap) that
/// are known and will not be delivered twice. UNSETTLED are events that were read and not yet taken by a destination; after a crash they are read again, and go
/// there alone. SPOOLED events wait on disk.
#[derive(Debug, Args)]
pub struct CheckpointShowArgs {
    #[command(flatten)]
    state: StateArgs,
    /// One JSON object instead of tables
    #[arg(long)]
    json: bool,
}

/// Forget the position of a source: it begins at its `startAt` again, as a new source does.
///
/// Needed when a source's address is to be another vCenter
/// from now on. The router must not be running. Spooled events and dead letters stay.
#[derive(Debug, Args)]
pub struct ForgetArgs {
    /// The source, by its name
    source: String,
    #[command(flatten)]
    state: StateArgs,
}

/// Move the position of a source: back, to deliver again, or on, to let events go.
///
/// Events created from TIME on are delivered again, to all destinations and with their old ids; nothing from before TIME is read, and what a destination still
/// owed of that is let go. The router must not be running.
#[derive(Debug, Args)]
pub struct SetArgs {
    /// The source, by its name
    source: String,
    /// When to go on, by vCenter's clock: `2026-01-31T12:00:00Z`, an age such as `2h`, `now`, or `beginning`
    #[arg(value_parser = time)]
    time: i64,
    /// Say what would be delivered again and what let go, and change nothing
    #[arg(long)]
    dry_run: bool,
    #[command(flatten)]
    state: StateArgs,
}

pub(super) fn run(command: &CheckpointCommand) -> anyhow::Result<Exit> {
    let state = match command {
        CheckpointCommand::Show(args) => &args.state,
        CheckpointCommand::Forget(args) => &args.state,
        CheckpointCommand::Set(args) => &args.state,
    };
    let dir = match state.locate()? {
        Ok(located) => located.dir,
        Err(end) => return Ok(end),
    };
    match command {
        CheckpointCommand::Show(args) => show(&dir, args.json)?,
        CheckpointCommand::Forget(args) => forget(&dir, &args.source)?,
        CheckpointCommand::Set(args) => set(&dir, args)?,
    }
    Ok(Exit::Done)
}

fn show(dir: &Path, json: bool) -> anyhow::Result<()> {
    let reader = StoreReader::open(dir)?;
    let mut checkpoints = Vec::new();
    for source in reader.sources()? {
        // One that is forgotten meanwhile is gone.
        if let Some(checkpoint) = reader.load(&source)? {
            checkpoints.push((checkpoint, reader.imported(&source)?));
        }
    }
    let spools = reader.spools_by_destination()?;
    if json {
        let sources: Vec<Value> = checkpoints
            .iter()
            .map(|(checkpoint, imported)| source_json(checkpoint, imported.as_deref()))
            .collect();
        return say!("{:#}", json!({"sources": sources, "spools": spools_json(&spools)}));
    }
    let sources: Vec<[String; 4]> = checkpoints
        .iter()
        .map(|(checkpoint, _)| {
            let owed: usize = checkpoint.unsettled.values().map(Vec::len).sum();
            [
                checkpoint.source.clone(),
                shown(checkpoint.resume_us),
                checkpoint.seen_since(0).to_string(),
                owed.to_string(),
            ]
        })
        .collect();
    super::print(table(["SOURCE", "RESUME", "SEEN", "UNSETTLED"], &sources).as_bytes())?;
    let destinations: std::collections::BTreeSet<&String> = checkpoints
        .iter()
        .flat_map(|(checkpoint, _)| checkpoint.unsettled.keys())
        .chain(spools.keys())
        .collect();
    if destinations.is_empty() {
        return Ok(());
    }
    let rows: Vec<[String; 3]> = destinations
        .into_iter()
        .map(|name| {
            let owed: usize = checkpoints
                .iter()
                .filter_map(|(checkpoint, _)| checkpoint.unsettled.get(name))
                .map(Vec::len)
                .sum();
            let spooled = spools.get(name).map_or(0, |size| size.events);
            [name.clone(), owed.to_string(), spooled.to_string()]
        })
        .collect();
    say!("")?;
    super::print(table(["DESTINATION", "UNSETTLED", "SPOOLED"], &rows).as_bytes())?;
    Ok(())
}

fn source_json(checkpoint: &Checkpoint, imported: Option<&str>) -> Value {
    let unsettled: Map<String, Value> =
        checkpoint.unsettled.iter().map(|(name, owed)| (name.clone(), owed.len().into())).collect();
    json!({
        "source": checkpoint.source,
        "instanceUuid": checkpoint.instance_uuid,
        "resume": shown(checkpoint.resume_us),
        "first": checkpoint.first_us.map(shown),
        "highKey": checkpoint.high_key,
        "seen": checkpoint.seen_since(0),
        "unsettled": unsettled,
        "importedFrom": imported,
    })
}

fn forget(dir: &Path, source: &str) -> anyhow::Result<()> {
    let mut store = open(dir)?;
    if !store.forget(source)? {
        return Err(unknown(store.reader(), source)?.into());
    }
    store.close()?;
    say!("{source}: forgotten; at the next start it begins at its `startAt`")?;
    Ok(())
}

fn set(dir: &Path, args: &SetArgs) -> anyhow::Result<()> {
    let source = &args.source;
    let (set, would) = if args.dry_run {
        let reader = StoreReader::open(dir)?;
        match reader.load(source)? {
            Some(checkpoint) => (checkpoint.moved_to(args.time), "would be "),
            None => return Err(unknown(&reader, source)?.into()),
        }
    } else {
        let mut store = open(dir)?;
        let set = store.set_resume(source, args.time)?;
        store.close()?;
        (set, "")
    };
    let now_us = crate::clock::now_us();
    if args.time > now_us {
        eprintln!(
            "{source}: {} is ahead of this machine's clock by {} s: what vCenter creates before it is not read",
            shown(args.time),
            (args.time - now_us) / 1_000_000
        );
    }
    let replayed = match (set.replayed, set.replayed_max) {
        _ if set.beyond_known => format!("at least {}", set.replayed_max),
        (min, max) if min == max => min.to_string(),
        (min, max) => format!("{min} to {max}"),
    };
    say!(
        "{source}: {would}set to {}; {replayed} events {} delivered again, {} that a destination owed {} let go",
        shown(args.time),
        if args.dry_run { "would be" } else { "will be" },
        set.skipped,
        if args.dry_run { "would be" } else { "are" },
    )?;
    Ok(())
}

/// The store of a router that does not run, and that there is.
fn open(dir: &Path) -> Result<Store, StoreError> {
    // A store is not made by asking to change it.
    drop(StoreReader::open(dir)?);
    Store::open(dir)
}

fn unknown(reader: &StoreReader, source: &str) -> Result<StoreError, StoreError> {
    Ok(StoreError::UnknownSource { source_name: source.to_owned(), known: known(&reader.sources()?) })
}
