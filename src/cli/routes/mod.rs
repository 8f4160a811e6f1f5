//! `event-router routes test`: tells which destinations would get an event, and for the others
//! which part of which route, pattern, topic or rule refuses it.
//!
//! Nothing is delivered. The decision is the pipeline's own (`pipeline::route`).

mod given;
mod verdict;

use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, bail};
use clap::{Args, Subcommand, ValueEnum};
use serde_json::json;

pub use self::verdict::{Decider, DestinationVerdict};

use self::given::{GivenEvent, GivenReader};
use super::emit::{decoded, route_of, seeming_source, started};
use super::events::chosen;
use super::table::table;
use super::{ConfigArgs, Exit};
use crate::admin::control::{ControlAnswer, ControlClient, ControlRequest};
use crate::app;
use crate::cloudevents::topic;
use crate::event::{Severity, severity};
use crate::limits::TESTED_BYTES_MAX;
use crate::outside;
use crate::pipeline::destination::Destinations;
use crate::settings::{Config, StateLocation};
use crate::supervise::Supervisor;
use crate::telemetry::log;
use vsphere::sample::Sample;

#[derive(Debug, Subcommand)]
pub enum RoutesCommand {
    Test(RoutesTestArgs),
}

/// Tell which destinations would get an event, and why others would not.
///
/// The event comes from a file, from standard input (`-`), is a sample of its `--type`, or one of
/// the `--last` that the running router has read. A file has CloudEvents as the router delivers
/// them, or their `data` alone with `--type`, one after the other. Nothing is delivered.
///
/// For a destination that does not get the event, the table names the first member of the route's
/// pattern that the event does not meet, and the value found there. The functions of a gateway and
/// the rules of an event bus are read only with `--connect`.
///
/// The exit code is 0 if every event has a destination, and 1 if one has none. With `--to`, it is 0
/// only if this destination gets every event.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  event-router routes test event.json
  event-router routes test --type VmPoweredOnEvent --field vm.name=web-1
  event-router routes test --last 20 --config NEW
  event-router routes test --type com.vmware.vc.HA.DasHostFailedEvent --severity error --connect")]
pub struct RoutesTestArgs {
    /// The file with the events; `-` is standard input
    #[arg(value_name = "FILE", required_unless_present_any = ["kind", "last"])]
    file: Option<PathBuf>,
    #[command(flatten)]
    config: ConfigArgs,
    /// Test recent events that the running router keeps: a sample of up to 256 over all sources
    #[arg(long, value_name = "EVENTS", conflicts_with_all = ["file", "kind"])]
    last: Option<usize>,
    /// The data directory of the running router, if it is not that of the configuration
    #[arg(long, value_name = "DIR", requires = "last")]
    data_dir: Option<PathBuf>,
    /// The event class, or the eventTypeId of an EventEx: of a sample, or of the data in FILE
    #[arg(long = "type", value_name = "TYPE")]
    kind: Option<String>,
    /// A member of the sample, as for `event-router emit`. May be repeated
    #[arg(long = "field", value_name = "NAME=VALUE", requires = "kind", conflicts_with = "file")]
    fields: Vec<String>,
    /// Name of the source that the event comes from; by default the one with its CloudEvents
    /// `source`, or the first one
    #[arg(long, value_name = "NAME")]
    source: Option<String>,
    /// vCenter's category of the event. Without it, patterns see it only if the event names it
    #[arg(long, value_name = "CATEGORY", value_enum)]
    severity: Option<SeverityArg>,
    /// Also read the functions of gateways and the rules of event buses
    #[arg(long)]
    connect: bool,
    /// Time that processors may take to read their functions or rules
    #[arg(long, value_name = "DURATION", default_value = "30s", value_parser = super::duration)]
    timeout: Duration,
    /// Succeed only if this destination gets every event. A function may be named without its
    /// namespace
    #[arg(long, value_name = "DESTINATION")]
    to: Option<String>,
    /// Print a JSON array with one object for each event instead of tables
    #[arg(long)]
    json: bool,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum SeverityArg {
    Info,
    Warning,
    Error,
    User,
}

impl SeverityArg {
    fn word(self) -> &'static str {
        match self {
            SeverityArg::Info => Severity::Info.category(),
            SeverityArg::Warning => Severity::Warning.category(),
            SeverityArg::Error => Severity::Error.category(),
            SeverityArg::User => Severity::User.category(),
        }
    }
}

pub(super) fn run(command: &RoutesCommand) -> anyhow::Result<Exit> {
    let RoutesCommand::Test(args) = command;
    let (_, config) = match super::load(&args.config) {
        Ok(loaded) => loaded,
        Err(end) => return Ok(end),
    };
    let events = match events(args, &config) {
        Ok(events) => events,
        Err(error) => {
            super::complain(&format!("event-router: {error:#}"));
            return Ok(Exit::Usage);
        }
    };
    let routes = app::pipeline_settings::routes(&config);
    let runtime = tokio::runtime::Runtime::new().context("cannot start the I/O runtime")?;
    let supervisor = Supervisor::default();
    let connected = args.connect.then(|| {
        log::install(&settings_of_warnings(&config));
        let processors = runtime.block_on(started(&config, &supervisor, args.timeout))?;
        route_of(&config, &processors, &mut Destinations::default())
    });
    let mut decider = Decider { config: &config, routes: &routes, connected: connected.transpose()? };
    let mut as_json_array = Vec::new();
    let mut is_good = true;
    for (at, event) in events.iter().enumerate() {
        learn(event, args.severity);
        let verdicts = decider.verdicts(&event.batch, 0);
        is_good &= match &args.to {
            Some(to) => verdicts.iter().any(|one| one.is_named(to) && one.takes == Some(true)),
            None => verdicts.iter().any(|one| one.takes != Some(false)),
        };
        match args.json {
            true => as_json_array.push(as_json(event, &verdicts)),
            false => super::print(as_text(event, &verdicts, at == 0).as_bytes())?,
        }
    }
    if args.json {
        let text = serde_json::to_string_pretty(&as_json_array)?;
        let lines = text.lines().map(|line| format!("{}\n", outside::escaped_json(line)));
        super::print(lines.collect::<String>().as_bytes())?;
    }
    Ok(if is_good { Exit::Done } else { Exit::Failed })
}

/// The log of a command: warnings alone.
fn settings_of_warnings(config: &Config) -> crate::settings::Log {
    crate::settings::Log { level: crate::settings::LogLevel::Warn, ..config.log.clone() }
}

/// The events to test.
fn events(args: &RoutesTestArgs, config: &Config) -> anyhow::Result<Vec<GivenEvent>> {
    let index = |name: &str| config.sources.iter().position(|source| source.name == name);
    let asked = match &args.source {
        None => None,
        Some(name) => index(&chosen(config, Some(name))?.name),
    };
    if args.file.is_none() && args.last.is_none() {
        let kind = args.kind.as_deref().unwrap_or_default();
        let sample = Sample::new(kind, &args.fields, crate::clock::now_us())?;
        let batch = decoded(seeming_source(config, asked.unwrap_or(0)), &sample)?;
        return Ok(vec![GivenEvent { batch, category: None }]);
    }
    // One instance for each source, as in a router.
    let sources: Vec<_> = (0..config.sources.len()).map(|at| seeming_source(config, at)).collect();
    let source = |url: Option<&str>, is_pushed: bool| {
        let of_vcenter = |at: &usize| config.sources[*at].kind.vcenter().is_some();
        let same = url.and_then(|url| sources.iter().position(|source| source.url == url));
        let like = (0..sources.len()).find(|at| of_vcenter(at) != is_pushed);
        Arc::clone(&sources[asked.or(same).or(like).unwrap_or(0)])
    };
    let (text, from) = match (&args.file, args.last) {
        (Some(file), _) => (contents(file)?, format!("`{}`", file.display())),
        (None, last) => (recent(args, config, last.unwrap_or_default())?, "the router".to_owned()),
    };
    let events = GivenReader { kind: args.kind.as_deref(), source: &source }.read(&text)?;
    if events.is_empty() {
        bail!("{from} has no events");
    }
    Ok(events)
}

/// The last events of the running router, the latest first, one after the other.
fn recent(args: &RoutesTestArgs, config: &Config, limit: usize) -> anyhow::Result<Vec<u8>> {
    let dir = match (&args.data_dir, &config.state) {
        (Some(dir), _) | (None, StateLocation::Dir(dir)) => dir,
        (None, StateLocation::Ephemeral) => {
            bail!("name the data directory of the running router with `--data-dir`")
        }
    };
    let client = ControlClient::connect(dir)?
        .with_context(|| format!("no router runs on the data directory {}", dir.display()))?;
    let (mut text, mut failed) = (Vec::new(), Ok(()));
    client.ask(&ControlRequest::RecentEvents { source: args.source.clone(), limit }, |answer| {
        if let ControlAnswer::RecentEvent(recent) = answer
            && let Err(error) = serde_json::to_writer(&mut text, &recent.event)
        {
            failed = Err(error);
        }
    })?;
    failed?;
    Ok(text)
}

/// The bytes of a file, or of standard input.
fn contents(file: &Path) -> anyhow::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    let read = match file.as_os_str() == "-" {
        true => std::io::stdin().lock().take(TESTED_BYTES_MAX + 1).read_to_end(&mut bytes),
        false => File::open(file).and_then(|file| file.take(TESTED_BYTES_MAX + 1).read_to_end(&mut bytes)),
    };
    read.with_context(|| format!("cannot read `{}`", file.display()))?;
    if bytes.len() as u64 > TESTED_BYTES_MAX {
        bail!("`{}` has more than {TESTED_BYTES_MAX} bytes; give fewer events", file.display());
    }
    Ok(bytes)
}

/// Makes the severity of the event known, as the router learns it from the vCenter.
fn learn(event: &GivenEvent, asked: Option<SeverityArg>) {
    let batch = &event.batch;
    let word = asked.map(SeverityArg::word).or(event.category.as_deref());
    let types = word.map(|word| (batch.text(batch.records[0].subject), word));
    severity::learn(batch.source.instance_uuid, types.into_iter().collect());
}

/// The CloudEvents id: that of the sender for an event of a push source.
fn delivered_id(event: &GivenEvent) -> String {
    let record = &event.batch.records[0];
    event.batch.attributes(record).map_or_else(|| record.id.to_string(), |own| own.id.to_owned())
}

fn as_json(event: &GivenEvent, verdicts: &[DestinationVerdict]) -> serde_json::Value {
    let (batch, record) = (&event.batch, &event.batch.records[0]);
    json!({
        "id": delivered_id(event),
        "subject": batch.text(record.subject),
        "source": batch.source.name,
        "destinations": verdicts,
    })
}

fn as_text(event: &GivenEvent, verdicts: &[DestinationVerdict], is_first: bool) -> String {
    let (batch, record) = (&event.batch, &event.batch.records[0]);
    let subject = topic::first_name(batch, record);
    let gap = if is_first { "" } else { "\n" };
    let head = format!(
        "{} {} from {}",
        outside::cell(subject),
        outside::cell(&delivered_id(event)),
        batch.source.name
    );
    let rows: Vec<_> = verdicts.iter().flat_map(DestinationVerdict::rows).collect();
    format!("{gap}{head}\n{}", table(["DESTINATION", "GETS IT", "ROUTE", "REASON"], &rows))
}
