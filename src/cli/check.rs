//! `event-router check`: reads a configuration and says all that is wrong with it; with `--connect` also whether everything in it answers.

use std::time::{Duration, Instant};

use anyhow::Context;
use clap::Args;

use super::session::Session;
use super::table::table;
use super::{ConfigArgs, Exit};
use crate::config::{Config, SourceConfig, SourceKind};
use crate::processor;

/// A clock that differs by more than this is worth a word: CloudEvents times and logs of the two machines do not compare.
const CLOCK_OFFSET_WARNED: Duration = Duration::from_secs(2);

/// Read a configuration and say all that is wrong with it.
///
/// Each error names its line. Exit code 2 if there is one.
///
/// With `--connect` it also logs in to each vCenter (one try each: a few wrong passwords lock an account), measures its latency and its clock, and reaches each
/// processor without delivering an event: lists a gateway's functions, reads the rules of an event bus, connects to a target. Exit code 1 if one of them fails.
#[derive(Debug, Args)]
pub struct CheckArgs {
    #[command(flatten)]
    config: ConfigArgs,
    /// Also log in to each vCenter and reach each processor
    #[arg(long)]
    connect: bool,
}

pub(super) fn run(args: &CheckArgs) -> anyhow::Result<Exit> {
    let (file, config) = match super::load(&args.config) {
        Ok(loaded) => loaded,
        Err(end) => return Ok(end),
    };
    let file = file.display();
    let errors: Vec<_> =
        config.processors.iter().filter_map(|processor| processor::build(processor).err()).collect();
    if !errors.is_empty() {
        errors.iter().for_each(|error| eprintln!("{file}: {error}"));
        return Ok(Exit::Usage);
    }
    say!(
        "{file}: {} sources, {} processors, {} routes",
        config.sources.len(),
        config.processors.len(),
        config.routes.len()
    )?;
    for source in &config.sources {
        let SourceKind::Vcenter(vcenter) = &source.kind;
        say!("  source {}: {}", source.name, vcenter.sdk_url)?;
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
    let runtime = tokio::runtime::Runtime::new().context("cannot start the I/O runtime")?;
    let looks = runtime.block_on(connect(&config));
    let rows: Vec<[String; 4]> = looks
        .iter()
        .map(|look| {
            let (state, text) = match &look.result {
                Ok(text) => ("ok", text),
                Err(text) => ("failed", text),
            };
            [
                look.name.clone(),
                state.to_owned(),
                format!("{:.0} ms", look.took.as_secs_f64() * 1e3),
                text.clone(),
            ]
        })
        .collect();
    say!("")?;
    super::print(table(["CONNECTION", "STATE", "TOOK", "ANSWER"], &rows).as_bytes())?;
    let failed = looks.iter().any(|look| look.result.is_err());
    Ok(if failed { Exit::Failed } else { Exit::Done })
}

/// What came of one look at a peer.
struct Look {
    name: String,
    took: Duration,
    result: Result<String, String>,
}

/// Looks at all peers at once.
async fn connect(config: &Config) -> Vec<Look> {
    let sources = config.sources.iter().map(|source| async {
        let start = Instant::now();
        let result = log_in(source).await;
        Look { name: format!("source {}", source.name), took: start.elapsed(), result }
    });
    let processors = config.processors.iter().map(|settings| async {
        let start = Instant::now();
        let result = match processor::build(settings) {
            Ok(processor) => processor.check().await.map_err(|failure| failure.reason),
            Err(error) => Err(error.to_string()),
        };
        Look { name: format!("processor {}", settings.name), took: start.elapsed(), result }
    });
    let (mut looks, processors) = futures_util::future::join(
        futures_util::future::join_all(sources),
        futures_util::future::join_all(processors),
    )
    .await;
    looks.extend(processors);
    looks
}

async fn log_in(source: &SourceConfig) -> Result<String, String> {
    let SourceKind::Vcenter(settings) = &source.kind;
    let session = Session::open(settings).await.map_err(|error| error.to_string())?;
    // Asked before the session is ended, whatever comes of it.
    let looked = async {
        let clock = session.clock().await?;
        session.client.latest_event(&session.content).await?;
        Ok::<_, crate::source::vcenter::client::CallError>(clock)
    };
    let clock = looked.await.map_err(|error| error.to_string());
    let about = session.content.about.clone();
    session.close().await;
    let clock = clock?;
    let warning = match clock.offset_us.unsigned_abs() > CLOCK_OFFSET_WARNED.as_micros() as u64 {
        true => "; set the clocks by one source of time",
        false => "",
    };
    Ok(format!(
        "{}, API {}, latency {:.1} ms, clock {:+.3} s{warning}",
        about.full_name,
        about.api_version,
        clock.latency.as_secs_f64() * 1e3,
        clock.offset_us as f64 / 1e6,
    ))
}
