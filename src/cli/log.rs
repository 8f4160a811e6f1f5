//! `event-router log`: makes and inspects the streams of processors of type `nats`, and the bucket
//! of a cluster.

use clap::{Args, Subcommand};

use super::{ConfigArgs, Exit, load};
use crate::cluster::make::{inspect_bucket, make_bucket};
use crate::cluster::settings::ClusterConfig;
use crate::limits::NATS_MAKE_WAIT;
use crate::processor::Failure;
use crate::processor::nats::settings::NatsConfig;
use crate::processor::nats::stream::{self, StreamReport, StreamSize};
use crate::settings::{Config, ProcessorKind};

#[derive(Debug, Subcommand)]
pub enum LogCommand {
    Init(LogInitArgs),
    Check(LogCheckArgs),
}

/// Make the streams of a processor of type `nats` and the bucket of a cluster, once and before the
/// first `run`.
///
/// Makes the stream of events, the stream of dead letters (an eighth of its size) and the bucket
/// for the state of routers. Their names, the subjects and the number of partitions come from the
/// configuration. What exists stays as it is. No other command makes any.
#[derive(Debug, Args)]
pub struct LogInitArgs {
    #[command(flatten)]
    processor: ProcessorArgs,
    /// Size of the stream; when it is full, events wait. Needed if there is a processor of type
    /// `nats`
    #[arg(long, value_name = "SIZE", value_parser = bytes)]
    max_bytes: Option<i64>,
    /// Number of servers that store each event
    #[arg(long, value_name = "N", default_value_t = 3, value_parser = clap::value_parser!(u8).range(1..=5))]
    replicas: u8,
}

/// Inspect the server, the streams and the bucket of a processor of type `nats` and of a cluster,
/// and say what is wrong. `check --connect` does the same.
#[derive(Debug, Args)]
pub struct LogCheckArgs {
    #[command(flatten)]
    processor: ProcessorArgs,
}

#[derive(Debug, Args)]
struct ProcessorArgs {
    #[command(flatten)]
    config: ConfigArgs,
    /// Name of the processor [default: the only one of type `nats`]
    #[arg(long, value_name = "NAME")]
    processor: Option<String>,
}

pub(super) fn run(command: &LogCommand) -> anyhow::Result<Exit> {
    let args = match command {
        LogCommand::Init(args) => &args.processor,
        LogCommand::Check(args) => &args.processor,
    };
    let config = match load(&args.config) {
        Ok((_, config)) => config,
        Err(end) => return Ok(end),
    };
    let settings = match choose(&config, args.processor.as_deref()) {
        Ok(settings) => Some(settings),
        // The only thing to make or inspect is the bucket.
        Err(_) if config.cluster.is_some() && args.processor.is_none() && !has_stream(&config) => None,
        Err(message) => {
            super::complain(&format!("event-router: {message}"));
            return Ok(Exit::Usage);
        }
    };
    let runtime = tokio::runtime::Runtime::new()?;
    match command {
        LogCommand::Init(args) => {
            let replicas = usize::from(args.replicas);
            if let Some(settings) = settings {
                let Some(bytes_max) = args.max_bytes else {
                    super::complain(
                        "event-router: `--max-bytes` is missing: the size of the stream, such as `100GiB`",
                    );
                    return Ok(Exit::Usage);
                };
                for line in runtime
                    .block_on(stream::make(settings, StreamSize { replicas, bytes_max }))
                    .map_err(reason)?
                {
                    say!("{line}")?;
                }
            }
            if let Some(cluster) = of_its_own(&config, settings) {
                let connection = cluster.connection()?;
                let made = make_bucket(&connection, &cluster.bucket, replicas, NATS_MAKE_WAIT);
                say!("{}", runtime.block_on(made).map_err(anyhow::Error::msg)?)?;
            }
            Ok(Exit::Done)
        }
        LogCommand::Check(_) => {
            let mut report = match settings {
                Some(settings) => runtime.block_on(stream::examine(settings)).map_err(reason)?,
                None => StreamReport::default(),
            };
            if let Some(cluster) = of_its_own(&config, settings) {
                let connection = cluster.connection()?;
                let found = inspect_bucket(&connection, &cluster.bucket, NATS_MAKE_WAIT);
                report.add_bucket(runtime.block_on(found).map_err(anyhow::Error::msg)?);
            }
            for (state, lines) in
                [("ok", &report.good), ("unknown", &report.unknown), ("wrong", &report.problems)]
            {
                for line in lines {
                    super::print(format!("{state}: {}\n", crate::outside::lines(line)).as_bytes())?;
                }
            }
            Ok(if report.problems.is_empty() { Exit::Done } else { Exit::Failed })
        }
    }
}

fn reason(failure: Failure) -> anyhow::Error {
    anyhow::Error::msg(failure.reason)
}

fn has_stream(config: &Config) -> bool {
    config.processors.iter().any(|processor| matches!(processor.kind, ProcessorKind::Nats(_)))
}

/// The cluster, unless its bucket is that of the stream on the same servers.
fn of_its_own<'a>(config: &'a Config, stream: Option<&NatsConfig>) -> Option<&'a ClusterConfig> {
    let is_shared = |cluster: &&ClusterConfig| {
        stream.is_some_and(|of| of.bucket() == cluster.bucket && of.servers == cluster.servers)
    };
    config.cluster.as_ref().filter(|cluster| !is_shared(cluster))
}

/// The settings of the processor `name`, or of the only one of its type.
fn choose<'a>(config: &'a Config, name: Option<&str>) -> Result<&'a NatsConfig, String> {
    let mut all = config.processors.iter().filter_map(|processor| match &processor.kind {
        ProcessorKind::Nats(settings) => Some((processor.name.as_str(), settings)),
        _ => None,
    });
    if let Some(name) = name {
        let found = all.find(|(known, _)| *known == name);
        return found
            .map(|(_, settings)| settings)
            .ok_or_else(|| format!("no processor `{name}` of type `nats` in the configuration"));
    }
    match (all.next(), all.next()) {
        (Some((_, settings)), None) => Ok(settings),
        (None, _) => Err("no processor of type `nats` in the configuration; add one".into()),
        (Some((one, _)), Some((other, _))) => Err(format!(
            "several processors of type `nats`; choose with `--processor {one}` or `--processor {other}`"
        )),
    }
}

/// A size such as `10GiB`.
fn bytes(text: &str) -> Result<i64, String> {
    let bytes = crate::config::scalar::size(text).ok_or("must be a size such as `10GiB`")?;
    i64::try_from(bytes).ok().filter(|bytes| *bytes > 0).ok_or_else(|| "must be more than 0".to_owned())
}
