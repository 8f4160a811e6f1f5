//! `event-router events describe`: the members of an event type, its names, and a sample as a
//! function would get it. For authors of functions.

use std::sync::Arc;

use anyhow::Context;
use clap::Args;
use uuid::Uuid;

use super::{ask, chosen};
use crate::app;
use crate::cli::emit::{decoded, seeming_source};
use crate::cli::pretty::pretty;
use crate::cli::table::table;
use crate::cli::{ConfigArgs, DEFAULT_CONFIGS, Exit};
use crate::cloudevents::settings::Payload;
use crate::cloudevents::{Envelope, EnvelopeOptions, topic, type_of};
use crate::config::declare::defaults;
use crate::event::{Batch, SourceInfo};
use crate::limits::EXPLANATION_BYTES_MAX;
use crate::outside;
use crate::settings::Config;
use vsphere::sample::Sample;
use vsphere::schema::{self, Absent, Class, Field, Kind};

/// Describe an event type: its members, its names for topics and patterns, and a sample.
///
/// TYPE is an event class, or the eventTypeId of an EventEx as in the TYPE column of `event-router
/// events list`. The members are those of vSphere 9.1; a newer vCenter may send more.
///
/// If there is a configuration, it also tells which routes take the sample. With `--connect`, it
/// asks a vCenter for the category and the description of the type.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  event-router events describe VmPoweredOnEvent
  event-router events describe com.vmware.vc.HA.DasHostFailedEvent --connect")]
pub struct EventsDescribeArgs {
    /// The event class, or the eventTypeId of an EventEx
    #[arg(value_name = "TYPE")]
    kind: String,
    #[command(flatten)]
    config: ConfigArgs,
    /// Ask the vCenter for category and description
    #[arg(long)]
    connect: bool,
    /// Name of the source to ask; required with `--connect` if there are several
    #[arg(long, value_name = "NAME", requires = "connect")]
    source: Option<String>,
}

/// Members of an object that are listed below it. Larger objects, such as TaskInfo, are only named.
const INNER_MEMBERS_MAX: usize = 10;

pub(super) fn run(args: &EventsDescribeArgs) -> anyhow::Result<Exit> {
    let sample = match Sample::new(&args.kind, &[], crate::clock::now_us()) {
        Ok(sample) => sample,
        Err(error) => {
            crate::cli::complain(&format!("event-router: {error}"));
            return Ok(Exit::Usage);
        }
    };
    // The configuration, if there is one.
    let has_config = args.connect
        || crate::cli::config_or_default(args.config.config.as_deref(), &DEFAULT_CONFIGS).is_some();
    let config = match has_config.then(|| crate::cli::load(&args.config)).transpose() {
        Ok(loaded) => loaded.map(|(_, config)| config),
        Err(end) => return Ok(end),
    };
    let told = match (&config, args.connect) {
        (Some(config), true) => {
            let source = match chosen(config, args.source.as_deref()) {
                Ok(source) => source,
                Err(error) => {
                    crate::cli::complain(&format!("event-router: {error}"));
                    return Ok(Exit::Usage);
                }
            };
            let runtime = tokio::runtime::Runtime::new().context("cannot start the I/O runtime")?;
            let known = runtime.block_on(ask(source))?;
            let info = known.into_iter().find(|info| info.event_type() == args.kind);
            Told::by(&source.name, info.map(|info| (info.category, info.description)))
        }
        _ => Told::default(),
    };
    let source = match &config {
        Some(config) => seeming_source(config, 0),
        None => Arc::new(SourceInfo {
            index: 0,
            name: "vcenter".into(),
            url: "https://vcenter.example/sdk".into(),
            instance_uuid: Uuid::new_v4(),
            api_version: "9.1.0.0".into(),
        }),
    };
    let batch = decoded(source, &sample)?;
    let mut text = names(&batch, &told);
    text.push_str("\nMembers of `data`\n");
    text.push_str(&members(class_of(&batch)));
    text.push_str(&samples(&batch)?);
    if let Some(config) = &config {
        text.push_str("\nRoutes, for this sample\n");
        text.push_str(&routes(config, &batch));
    }
    crate::cli::print(text.as_bytes())?;
    Ok(Exit::Done)
}

/// Category and description of the type, as the vCenter tells them.
struct Told {
    category: String,
    description: String,
}

impl Default for Told {
    fn default() -> Self {
        Told { category: "each vCenter decides; `--connect` asks it".into(), description: String::new() }
    }
}

impl Told {
    fn by(source: &str, told: Option<(String, String)>) -> Self {
        match told {
            Some((category, description)) => Told { category, description },
            None => Told {
                category: format!("the vCenter of source {source} does not list this type"),
                description: String::new(),
            },
        }
    }
}

fn class_of(batch: &Batch) -> &'static Class {
    schema::class(batch.text(batch.records[0].class)).unwrap_or_else(schema::event)
}

/// The classes that `class` extends, the nearest first.
fn ancestors(class: &Class) -> impl Iterator<Item = &'static Class> {
    std::iter::successors(class.parent(), |class| class.parent())
}

/// The names by which an event of this type is selected.
fn names(batch: &Batch, told: &Told) -> String {
    let record = &batch.records[0];
    let (class, subject) = (class_of(batch), batch.text(record.subject));
    let extends: Vec<&str> = ancestors(class).map(|class| class.name).collect();
    let extended: Vec<&str> = schema::classes()
        .filter(|other| other.parent().is_some_and(|parent| parent.name == class.name))
        .map(|class| class.name)
        .collect();
    let topics = topic::names(record.category, subject).into_iter().filter(|name| !name.is_empty());
    let pattern = serde_json::json!({ "subject": [subject] });
    let rows = [
        ("class", class.name.to_owned()),
        ("extends", extends.join(", ")),
        ("extended by", extended.join(", ")),
        ("category", told.category.clone()),
        ("description", told.description.clone()),
        ("CloudEvents", format!("type {}, subject {subject}", type_of(record.category))),
        ("topics", topics.collect::<Vec<_>>().join(", ")),
        ("pattern", pattern.to_string()),
    ];
    let rows = rows.into_iter().filter(|(_, value)| !value.is_empty());
    let rows =
        rows.map(|(name, value)| format!("  {name:<12} {}\n", outside::text(&value, EXPLANATION_BYTES_MAX)));
    format!("{}\n{}", outside::cell(subject), rows.collect::<String>())
}

/// The members in the order in which they are delivered.
fn members(class: &'static Class) -> String {
    let mut rows = Vec::new();
    let mut lineage: Vec<&Class> = std::iter::once(class).chain(ancestors(class)).collect();
    lineage.reverse();
    for from in lineage {
        for field in from.own_fields() {
            rows.push(row("", field, from.name));
            let Kind::Object(id) = field.kind else { continue };
            if id.class().fields.len() <= INNER_MEMBERS_MAX {
                rows.extend(
                    id.class()
                        .fields
                        .iter()
                        .map(|inner| row(&format!("{}.", field.key), inner, id.class().name)),
                );
            }
        }
    }
    table(["MEMBER", "TYPE", "OF", "IF ABSENT"], &rows)
}

fn row(before: &str, field: &Field, from: &str) -> [String; 4] {
    let kind = match (field.many, field.kind) {
        (true, kind) => format!("list of {kind}"),
        (false, Kind::Reference) => "ManagedObjectReference (Type, Value)".to_owned(),
        (false, kind) => kind.to_string(),
    };
    let absent = match &field.absent {
        Absent::Omitted => "left out".to_owned(),
        Absent::Json(json) if json.len() > 40 => "an object of absent members".to_owned(),
        Absent::Json(json) => json.to_string(),
    };
    [format!("{before}{}", field.key), kind, from.to_owned(), absent]
}

/// The sample in each payload.
fn samples(batch: &Batch) -> anyhow::Result<String> {
    let mut text = String::new();
    for (payload, head) in [
        (Payload::Pascal, "Sample, as a function gets it (`payload: pascal`)"),
        (Payload::ViJson, "Its `data` with `payload: vijson`"),
        (Payload::Xml, "Its `data` with `payload: xml`"),
    ] {
        let envelope = Envelope::new(EnvelopeOptions { payload, ..defaults() })?;
        let rendering = envelope.open(batch);
        let shown = match payload {
            Payload::Pascal => {
                let mut event = Vec::new();
                rendering.structured(0, &mut event);
                pretty(&String::from_utf8_lossy(&event))
            }
            Payload::ViJson => pretty(&String::from_utf8_lossy(&rendering.data(0))),
            Payload::Xml => String::from_utf8_lossy(&rendering.data(0)).into_owned(),
        };
        text.push_str(&format!("\n{head}\n{}\n", outside::lines(&shown)));
    }
    Ok(text)
}

/// The decision of each route about the sample.
fn routes(config: &Config, batch: &Batch) -> String {
    let routes = app::pipeline_settings::routes(config);
    let row = |route: &crate::pipeline::settings::RouteSettings| {
        let refusal = route.refusal(batch, 0);
        let takes = if refusal.is_none() { "yes" } else { "no" };
        let reason = refusal.map(|reason| outside::display(reason, EXPLANATION_BYTES_MAX));
        [route.name.clone(), takes.to_owned(), reason.unwrap_or_default()]
    };
    let rows: Vec<_> = routes.iter().map(row).collect();
    table(["ROUTE", "TAKES IT", "REASON"], &rows)
}
