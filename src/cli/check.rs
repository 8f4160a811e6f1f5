//! `event-router check`: reports all errors of a configuration. With `--connect`, it also tries to
//! reach everything in it.

use std::time::{Duration, Instant};

use anyhow::Context;
use clap::Args;

use super::table::table;
use super::{ConfigArgs, Exit};
use crate::app;
use crate::pipeline::destination::undecided_name;
use crate::settings::{Config, OverflowPolicy, ProcessorConfig, short_secrets};

/// Check a configuration, and report all errors in it.
///
/// Each error names its line. The exit code is 2 if there are any.
///
/// With `--connect`, it also logs in to each vCenter and measures its latency and the offset of its
/// clock. It tries each login only once, since a few wrong passwords lock an account. It contacts
/// each processor without delivering an event: it lists the functions of a gateway, reads the rules
/// of an event bus, or connects to a target. The exit code is 1 if any of this fails.
#[derive(Debug, Args)]
pub struct CheckArgs {
    #[command(flatten)]
    config: ConfigArgs,
    /// Also log in to each vCenter and contact each processor
    #[arg(long)]
    connect: bool,
}

pub(super) fn run(args: &CheckArgs) -> anyhow::Result<Exit> {
    let (file, config) = match super::load(&args.config) {
        Ok(loaded) => loaded,
        Err(end) => return Ok(end),
    };
    // Report processors that cannot be built.
    let file = file.display();
    let errors: Vec<_> =
        config.processors.iter().filter_map(|processor| app::build(processor).err()).collect();
    if !errors.is_empty() {
        errors.iter().for_each(|error| super::complain(&format!("{file}: {error}")));
        return Ok(Exit::Usage);
    }
    for warning in short_secrets(&config) {
        super::complain(&format!("{file}: {warning}"));
    }
    // Summarize the configuration.
    say!(
        "{file}: {} sources, {} processors, {} routes",
        config.sources.len(),
        config.processors.len(),
        config.routes.len()
    )?;
    for source in &config.sources {
        say!("  source {}: {}", source.name, source.kind.as_type().address())?;
    }
    for route in &config.routes {
        let pattern = if route.pattern.is_some() { " by pattern" } else { "" };
        say!(
            "  route {}: {} to {}{pattern}",
            route.name,
            route.sources.join(", "),
            route.processors.join(", ")
        )?;
    }
    if !args.connect {
        return Ok(Exit::Done);
    }
    // Reach everything in it.
    let runtime = tokio::runtime::Runtime::new().context("cannot start the I/O runtime")?;
    let probes = runtime.block_on(connect(&config));
    let rows: Vec<[String; 4]> = probes
        .iter()
        .map(|probe| {
            let (state, text) = match &probe.result {
                Ok(text) => ("ok", text),
                Err(text) => ("failed", text),
            };
            [
                probe.name.clone(),
                state.to_owned(),
                format!("{:.0} ms", probe.took.as_secs_f64() * 1e3),
                text.clone(),
            ]
        })
        .collect();
    say!("")?;
    super::print(table(["CONNECTION", "STATE", "TOOK", "ANSWER"], &rows).as_bytes())?;
    let failed = probes.iter().any(|probe| probe.result.is_err());
    Ok(if failed { Exit::Failed } else { Exit::Done })
}

/// The result of reaching one vCenter or target.
struct Probe {
    name: String,
    took: Duration,
    result: Result<String, String>,
}

/// Reaches all sources and processors at the same time.
async fn connect(config: &Config) -> Vec<Probe> {
    let sources = config.sources.iter().map(|source| async {
        let start = Instant::now();
        let result = source.kind.as_type().connect().await;
        Probe { name: format!("source {}", source.name), took: start.elapsed(), result }
    });
    let processors = config.processors.iter().map(|settings| async {
        let start = Instant::now();
        let result = match app::build(settings) {
            Ok(processor) => processor.check().await.map_err(|failure| match processor.selector() {
                None => failure.reason,
                Some(_) => format!("{}; {}", failure.reason, meanwhile(settings)),
            }),
            Err(error) => Err(error.to_string()),
        };
        Probe { name: format!("processor {}", settings.name), took: start.elapsed(), result }
    });
    let (mut probes, processors) = futures_util::future::join(
        futures_util::future::join_all(sources),
        futures_util::future::join_all(processors),
    )
    .await;
    probes.extend(processors);
    probes
}

/// The fate of events while the functions or rules of this processor cannot be read.
fn meanwhile(settings: &ProcessorConfig) -> String {
    match settings.delivery.overflow.policy {
        OverflowPolicy::Spill => {
            format!(
                "a router that starts now keeps its events on disk as `{}`",
                undecided_name(&settings.name)
            )
        }
        OverflowPolicy::Block | OverflowPolicy::DropNewest | OverflowPolicy::DropOldest => {
            "a router that starts now does not read the sources that are routed to it".into()
        }
    }
}
