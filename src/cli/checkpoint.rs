//! `event-router checkpoint`: shows, moves and forgets the position at which a source resumes.

use std::path::Path;

use clap::{Args, Subcommand};
use serde_json::{Map, Value, json};

use super::Exit;
use super::state::{Located, StateArgs, known, shown, spools_json, time};
use super::table::table;
use crate::cluster::settings::ClusterConfig;
use crate::cluster::source_key;
use crate::state::{Checkpoint, Store, StoreError, StoreReader, inbox};

#[derive(Debug, Subcommand)]
pub enum CheckpointCommand {
    Show(CheckpointShowArgs),
    Forget(ForgetArgs),
    Set(SetArgs),
}

/// Show where each source resumes, and the undelivered events of each destination.
///
/// Works while the router runs. The router writes its position twice a second; this command shows
/// the last one, at which a restart after a crash would resume.
///
/// RESUME is that position, a time by vCenter's clock: events created before it are delivered,
/// spooled or dead letters, except for late ones, which count as UNSETTLED. SEEN is the number of
/// events since RESUME (less the overlap) that were read and will not be delivered twice. UNSETTLED
/// is the number of events that were read but that a destination has not taken. After a crash they
/// are read again, and delivered only to that destination. SPOOLED events wait on disk.
#[derive(Debug, Args)]
pub struct CheckpointShowArgs {
    #[command(flatten)]
    state: StateArgs,
    /// Print one JSON object instead of tables
    #[arg(long)]
    json: bool,
}

/// Forget the position of a source, so that it starts at its `startAt` like a new source.
///
/// Needed when a source gets another vCenter. The router must not be running. Spooled events and
/// dead letters stay.
#[derive(Debug, Args)]
pub struct ForgetArgs {
    /// Name of the source
    source: String,
    #[command(flatten)]
    state: StateArgs,
}

/// Move the position of a source: back to deliver events again, or forward to skip them.
///
/// Events created at TIME or later are delivered again, to all destinations and with their old ids.
/// Events from before TIME are not read, and unsettled ones are discarded. The router must not be
/// running.
#[derive(Debug, Args)]
pub struct SetArgs {
    /// Name of the source
    source: String,
    /// The new position, by vCenter's clock: `2026-01-31T12:00:00Z`, a date or a time of this
    /// machine's time zone such as `2026-01-31 12:00`, an age such as `2h`, `now`, or `beginning`
    #[arg(value_parser = time)]
    time: i64,
    /// Print how many events would be delivered again or discarded, and change nothing
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
    let Located { dir, config } = match state.locate()? {
        Ok(located) => located,
        Err(end) => return Ok(end),
    };
    let cluster = config.and_then(|config| config.cluster);
    match command {
        CheckpointCommand::Show(args) => show(&dir, args.json)?,
        CheckpointCommand::Forget(args) => {
            forget(&dir, &args.source)?;
            of_cluster(cluster.as_ref(), &args.source);
        }
        CheckpointCommand::Set(args) => {
            set(&dir, args)?;
            of_cluster(cluster.as_ref().filter(|_| !args.dry_run), &args.source);
        }
    }
    Ok(Exit::Done)
}

/// Says how the position of this node becomes that of its cluster.
fn of_cluster(cluster: Option<&ClusterConfig>, source: &str) {
    if let Some(cluster) = cluster {
        let (bucket, key) = (&cluster.bucket, source_key(source));
        super::complain(&format!(
            "event-router: the other nodes go on with the position in the bucket `{bucket}`, and so does this one: stop all nodes, delete the record `{key}` there (`nats kv del {bucket} {key}`), and start this node first"
        ));
    }
}

fn show(dir: &Path, json: bool) -> anyhow::Result<()> {
    // Read the store.
    let reader = StoreReader::open(dir)?;
    let mut checkpoints = Vec::new();
    for source in reader.sources()? {
        // It is missing if it was forgotten meanwhile.
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
    // Print the table of sources.
    let sources: Vec<[String; 4]> = checkpoints
        .iter()
        .map(|(checkpoint, _)| {
            let owed: usize = checkpoint.unsettled.values().map(Vec::len).sum();
            [
                checkpoint.source.clone(),
                resume(checkpoint),
                checkpoint.seen_since(0).to_string(),
                owed.to_string(),
            ]
        })
        .collect();
    super::print(table(["SOURCE", "RESUME", "SEEN", "UNSETTLED"], &sources).as_bytes())?;
    // Print the table of destinations.
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

/// The position of a source: a time, or a row of its inbox.
fn resume(checkpoint: &Checkpoint) -> String {
    match checkpoint.is_pushed() {
        true => format!("row {} of the inbox", inbox::first_read(checkpoint.resume_us)),
        false => shown(checkpoint.resume_us),
    }
}

fn source_json(checkpoint: &Checkpoint, imported: Option<&str>) -> Value {
    let unsettled: Map<String, Value> =
        checkpoint.unsettled.iter().map(|(name, owed)| (name.clone(), owed.len().into())).collect();
    json!({
        "source": checkpoint.source,
        "instanceUuid": checkpoint.instance_uuid,
        "resume": resume(checkpoint),
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
    say!("{source}: forgotten; the next start begins at its `startAt`")?;
    Ok(())
}

fn set(dir: &Path, args: &SetArgs) -> anyhow::Result<()> {
    let source = &args.source;
    // Move the position, or only compute the effect.
    let (set, would) = if args.dry_run {
        let reader = StoreReader::open(dir)?;
        match reader.load(source)? {
            Some(checkpoint) if checkpoint.is_pushed() => {
                return Err(StoreError::Pushed { source_name: source.to_owned() }.into());
            }
            Some(checkpoint) => (checkpoint.moved_to(args.time), "would be "),
            None => return Err(unknown(&reader, source)?.into()),
        }
    } else {
        let mut store = open(dir)?;
        let set = store.set_resume(source, args.time)?;
        store.close()?;
        (set, "")
    };
    // Report the effect.
    let now_us = crate::clock::now_us();
    if args.time > now_us {
        eprintln!(
            "{source}: {} is ahead of this machine's clock by {} s; events that vCenter creates until then are not read",
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
        "{source}: {would}set to {}; {replayed} events {} delivered again, {} undelivered ones {} discarded",
        shown(args.time),
        if args.dry_run { "would be" } else { "will be" },
        set.skipped,
        if args.dry_run { "would be" } else { "are" },
    )?;
    Ok(())
}

/// Opens an existing store, which no running router may own.
fn open(dir: &Path) -> Result<Store, StoreError> {
    // Check that the store exists, so that a mistyped path does not create one.
    drop(StoreReader::open(dir)?);
    Store::open(dir)
}

fn unknown(reader: &StoreReader, source: &str) -> Result<StoreError, StoreError> {
    Ok(StoreError::UnknownSource { source_name: source.to_owned(), known: known(&reader.sources()?) })
}
