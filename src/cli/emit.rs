//! `event-router emit`: sends a test event through routes and processors, without a vCenter.
//!
//! The event is generated from the schema as the XML that a vCenter would send. It passes through
//! decoder, routes and processor like any other event. Each destination gets it once; nothing
//! retries, spools or remembers it.

use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use clap::Args;
use tokio::sync::mpsc;
use uuid::Uuid;

use super::events::chosen;
use super::table::table;
use super::{ConfigArgs, Exit, LogArgs};
use crate::app;
use crate::event::{Batch, SourceInfo};
use crate::pipeline::destination::Destinations;
use crate::pipeline::parse::{Content, Parse};
use crate::pipeline::route::Route;
use crate::processor::{BatchSlice, DeliveryOutcome, DeliveryRequest, Processor};
use crate::settings::{Config, RouteConfig};
use crate::source::{Page, PageForm, Wire};
use crate::supervise::Supervisor;
use crate::telemetry::log;
use vsphere::sample::Sample;

/// The `vsphereapiversion` of a test event: the version of the schema.
const API_VERSION: &str = "9.1.0.0";

/// Send a test event through routes and processors, without a vCenter.
///
/// Use it to try out a function. It stores nothing, so a running router is not affected.
///
/// The event conforms to vSphere's schema; members that you do not set have harmless values. Each
/// event has a new id. Its key is 0 unless you set it, so that a function which remembers the
/// highest key does not drop real events afterwards.
///
/// Each destination gets it once, without retries. The exit code is 0 if every destination took it,
/// and 1 if one did not or if there is none.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  event-router emit --type VmPoweredOnEvent --field vm.name=web-1 --field vm.vm=vm-65
  event-router emit --type UserLoginSessionEvent --field userName='CORP\\alice' --to my-gateway
  event-router emit --type com.vmware.vc.HA.DasHostFailedEvent --field message=test")]
pub struct EmitArgs {
    #[command(flatten)]
    config: ConfigArgs,
    /// The event class, or the eventTypeId of an EventEx, as in the TYPE column of `event-router
    /// events list`
    #[arg(long = "type", value_name = "TYPE")]
    kind: String,
    /// A member of the event, named as in vSphere's API reference, with dots for nested members.
    /// May be repeated
    #[arg(long = "field", value_name = "NAME=VALUE")]
    fields: Vec<String>,
    /// Send it to this processor, and ignore the routes
    #[arg(long, value_name = "PROCESSOR")]
    to: Option<String>,
    /// Name of the source that it seems to come from; by default the first one
    #[arg(long, value_name = "NAME")]
    source: Option<String>,
    /// Time that processors may take to read their functions or rules
    #[arg(long, value_name = "DURATION", default_value = "30s", value_parser = super::duration)]
    timeout: Duration,
    #[command(flatten)]
    log: LogArgs,
}

/// The result of one delivery.
struct EmitResult {
    destination: Arc<str>,
    took: Duration,
    outcome: Result<(), String>,
}

pub(super) fn run(args: &EmitArgs) -> anyhow::Result<Exit> {
    let (_, mut config) = match super::load(&args.config) {
        Ok(loaded) => loaded,
        Err(end) => return Ok(end),
    };
    let prepared = prepare(args, &mut config);
    let (sample, source) = match prepared {
        Ok(prepared) => prepared,
        Err(error) => {
            super::complain(&format!("event-router: {error:#}"));
            return Ok(Exit::Usage);
        }
    };
    config.log.level = crate::settings::LogLevel::Warn;
    log::install(&args.log.over(&config.log));
    let runtime = tokio::runtime::Runtime::new().context("cannot start the I/O runtime")?;
    let limit = args.timeout;
    let (batch, deliveries) = runtime.block_on(emit(&config, &sample, source, limit))?;
    let record = &batch.records[0];
    say!("{} {}", batch.text(record.subject), record.id)?;
    if deliveries.is_empty() {
        say!("no destination takes it: no route matches, or no function or rule wants it")?;
        return Ok(Exit::Failed);
    }
    let rows: Vec<[String; 3]> = deliveries
        .iter()
        .map(|delivery| {
            let outcome = match &delivery.outcome {
                Ok(()) => "delivered".to_owned(),
                Err(reason) => format!("failed: {reason}"),
            };
            [
                delivery.destination.to_string(),
                format!("{:.0} ms", delivery.took.as_secs_f64() * 1e3),
                outcome,
            ]
        })
        .collect();
    super::print(table(["DESTINATION", "TOOK", "OUTCOME"], &rows).as_bytes())?;
    let all_took = deliveries.iter().all(|delivery| delivery.outcome.is_ok());
    Ok(if all_took { Exit::Done } else { Exit::Failed })
}

/// Makes the event and finds the index of its source. Replaces the routes if `--to` is given.
fn prepare(args: &EmitArgs, config: &mut Config) -> anyhow::Result<(Sample, usize)> {
    let sample = Sample::new(&args.kind, &args.fields, crate::clock::now_us())?;
    let source = match &args.source {
        None => 0,
        Some(name) => {
            let name = &chosen(config, Some(name))?.name;
            config.sources.iter().position(|source| source.name == *name).unwrap_or_default()
        }
    };
    if let Some(to) = &args.to {
        let Some(processor) = config.processors.iter().find(|processor| processor.name == *to) else {
            let names: Vec<&str> = config.processors.iter().map(|processor| &*processor.name).collect();
            bail!("no processor `{to}`; there are: {}", names.join(", "));
        };
        config.routes = vec![RouteConfig {
            name: "emit".into(),
            sources: vec![config.sources[source].name.clone()],
            processors: vec![processor.name.clone()],
            ..RouteConfig::default()
        }];
    }
    Ok((sample, source))
}

async fn emit(
    config: &Config,
    sample: &Sample,
    source: usize,
    limit: Duration,
) -> anyhow::Result<(Arc<Batch>, Vec<EmitResult>)> {
    let supervisor = Supervisor::default();
    let processors = started(config, &supervisor, limit).await?;
    // Route the event.
    let mut destinations = Destinations::default();
    let mut route = route_of(config, &processors, &mut destinations)?;
    let batch = Arc::new(decoded(seeming_source(config, source), sample)?);
    let routed = route.step(&batch, &[], &mut destinations);
    // Deliver it to all destinations at the same time.
    let tries = routed.all.into_iter().map(|(id, selection)| {
        let destination = destinations.get(id).clone();
        let processor = Arc::clone(&processors[destination.processor]);
        let slice = BatchSlice { batch: Arc::clone(&batch), selection };
        let request = DeliveryRequest {
            function: destination.function,
            slices: vec![slice],
            events: selection.len(),
            attempt: 1,
        };
        async move {
            let start = Instant::now();
            let outcome = match processor.deliver(&request).await {
                DeliveryOutcome::Delivered => Ok(()),
                DeliveryOutcome::Failed(failure) => Err(failure.reason),
                DeliveryOutcome::Partial(each) => {
                    each.into_iter().flatten().next().map_or(Ok(()), |failure| Err(failure.reason))
                }
            };
            EmitResult { destination: destination.name, took: start.elapsed(), outcome }
        }
    });
    let deliveries = futures_util::future::join_all(tries).await;
    Ok((batch, deliveries))
}

/// Makes all processors, and starts those that are part of a route. Waits until their functions or
/// rules are known.
pub(super) async fn started(
    config: &Config,
    supervisor: &Supervisor,
    limit: Duration,
) -> anyhow::Result<Vec<Arc<dyn Processor>>> {
    let is_routed = |name: &String| config.routes.iter().any(|route| route.processors.contains(name));
    let processors: Vec<Arc<dyn Processor>> =
        config.processors.iter().map(app::build).collect::<Result<_, _>>()?;
    for (settings, processor) in config.processors.iter().zip(&processors) {
        if is_routed(&settings.name) {
            Arc::clone(processor).start(supervisor, &settings.name);
            tokio::time::timeout(limit, async { processor.ready().await })
                .await
                .with_context(|| format!("processor {}: cannot read its functions or rules in time; find the cause with `event-router check --connect`", settings.name))?;
        }
    }
    Ok(processors)
}

/// The route stage of `config`.
pub(super) fn route_of(
    config: &Config,
    processors: &[Arc<dyn Processor>],
    destinations: &mut Destinations,
) -> anyhow::Result<Route> {
    let names = config.processors.iter().map(|settings| settings.name.as_str());
    let selectors = processors.iter().map(|processor| processor.selector());
    // All patterns compile: loading the configuration has checked them.
    Route::new(&app::pipeline_settings::routes(config), names.zip(selectors), destinations)
        .map_err(|errors| anyhow::anyhow!("{errors:?}"))
}

/// The facts of the source that a test event seems to come from. Its instance is a random one, so
/// that no two test events have the same id.
pub(super) fn seeming_source(config: &Config, source: usize) -> Arc<SourceInfo> {
    Arc::new(SourceInfo {
        index: source,
        name: config.sources[source].name.clone(),
        url: config.sources[source].kind.as_type().address(),
        instance_uuid: Uuid::new_v4(),
        api_version: API_VERSION.to_owned(),
    })
}

/// The event as the router would read it from a vCenter.
pub(super) fn decoded(source: Arc<SourceInfo>, sample: &Sample) -> anyhow::Result<Batch> {
    page_of(source, Wire::Soap, sample.page())
}

/// The events of a page, which a vCenter could have sent.
pub(super) fn page_of(source: Arc<SourceInfo>, wire: Wire, body: String) -> anyhow::Result<Batch> {
    let page = Page {
        source,
        number: 0,
        reading: None,
        produced_us: crate::clock::now_us(),
        form: PageForm::Vsphere(wire),
        body: body.into(),
        poison: None,
        permit: Default::default(),
        verdicts: mpsc::unbounded_channel().0,
    };
    match (Parse { keep_sent: true }).step(page).0.content {
        Content::Events(batch) => Ok(batch),
        Content::Unreadable(error) => Err(error.into()),
        Content::Poison(poison) => bail!(poison.reason),
    }
}
