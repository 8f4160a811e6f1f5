//! `event-router events`: the event types of a vCenter, the form of one of them, and their counts
//! in a running router.

mod counts;
mod describe;

use anyhow::{Context, anyhow};
use clap::{Args, Subcommand};
use serde_json::json;

use super::table::table;
use super::{ConfigArgs, Exit};
use crate::cloudevents::topic;
use crate::outside;
use crate::settings::{Config, SourceConfig};
use crate::source::vcenter::probe::Session;
use vsphere::api::EventInfo;

#[derive(Debug, Subcommand)]
pub enum EventsCommand {
    List(EventsListArgs),
    Describe(describe::EventsDescribeArgs),
    Top(counts::EventsTopArgs),
}

pub(super) fn run(command: &EventsCommand) -> anyhow::Result<Exit> {
    match command {
        EventsCommand::List(args) => list(args),
        EventsCommand::Describe(args) => describe::run(args),
        EventsCommand::Top(args) => counts::run(args),
    }
}

/// List every event type that a vCenter knows.
///
/// Use these types in the pattern of a route, the `topic` annotation of a function or the
/// `filter.eventTypes` of a source. They differ by release and installed extensions, so only the
/// vCenter itself has the complete list.
///
/// TYPE is the CloudEvents `subject`: the class, or the eventTypeId of an EventEx or ExtendedEvent.
#[derive(Debug, Args)]
pub struct EventsListArgs {
    #[command(flatten)]
    config: ConfigArgs,
    /// Name of the source to ask; required if there are several
    #[arg(long, value_name = "NAME")]
    source: Option<String>,
    /// Print a JSON array instead of a table: type, class, category, topic, description
    #[arg(long)]
    json: bool,
}

fn list(args: &EventsListArgs) -> anyhow::Result<Exit> {
    let (_, config) = match super::load(&args.config) {
        Ok(loaded) => loaded,
        Err(end) => return Ok(end),
    };
    let source = match chosen(&config, args.source.as_deref()) {
        Ok(source) => source,
        Err(error) => {
            super::complain(&format!("event-router: {error}"));
            return Ok(Exit::Usage);
        }
    };
    let runtime = tokio::runtime::Runtime::new().context("cannot start the I/O runtime")?;
    let mut known = runtime.block_on(ask(source))?;
    known.sort_by(|a, b| a.event_type().cmp(b.event_type()));
    let text = if args.json { as_json(&known)? } else { as_table(&known) };
    super::print(text.as_bytes())?;
    Ok(Exit::Done)
}

/// The source of this name, or the only one.
pub(super) fn chosen<'c>(config: &'c Config, name: Option<&str>) -> anyhow::Result<&'c SourceConfig> {
    let names = || config.sources.iter().map(|source| &*source.name).collect::<Vec<_>>().join(", ");
    match (name, &*config.sources) {
        (None, [source]) => Ok(source),
        (None, _) => Err(anyhow!("there are several sources; choose one with `--source`: {}", names())),
        (Some(name), sources) => sources
            .iter()
            .find(|source| source.name == name)
            .ok_or_else(|| anyhow!("no source `{name}`; there are: {}", names())),
    }
}

/// The event types that a vCenter knows.
async fn ask(source: &SourceConfig) -> anyhow::Result<Vec<EventInfo>> {
    let Some(settings) = source.kind.vcenter() else {
        let kind = source.kind.word();
        return Err(anyhow!(
            "source `{}` is a {kind}; only a vCenter has a list of event types",
            source.name
        ));
    };
    let session = Session::open(settings).await.with_context(|| format!("source {}", source.name))?;
    let known = session.client.event_info(&session.content).await;
    session.close().await;
    known.with_context(|| format!("source {}: cannot read its event types", source.name))
}

fn as_json(known: &[EventInfo]) -> anyhow::Result<String> {
    let entries: Vec<_> = known
        .iter()
        .map(|info| {
            json!({
                "type": info.event_type(),
                "class": info.key,
                "category": info.category,
                "topic": topic::dotted(&info.key),
                "description": info.description,
            })
        })
        .collect();
    let text = serde_json::to_string_pretty(&entries)?;
    // The line breaks between the members stay: inside of text there are none.
    Ok(text.lines().map(|line| format!("{}\n", outside::escaped_json(line))).collect())
}

fn as_table(known: &[EventInfo]) -> String {
    let rows: Vec<[String; 4]> = known
        .iter()
        .map(|info| [info.event_type(), &info.key, &info.category, &info.description].map(str::to_owned))
        .collect();
    table(["TYPE", "CLASS", "CATEGORY", "DESCRIPTION"], &rows)
}
