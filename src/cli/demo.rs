//! `event-router demo`: shows the router at work on one machine, without any set-up.
//!
//! It starts a synthetic vCenter on loopback, reads its events over SOAP, and delivers them through
//! the whole pipeline to a local HTTP function that counts and verifies them.

use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::Context;
use clap::Args;
use testbed::sink::{Sink, SinkOptions};
use testbed::vcenter::{Options, Pace, VCenter};
use testbed::verify::{Report, Verifier};

use super::{Exit, LogArgs};
use crate::app::Router;
use crate::settings::{
    Admin, CloudEventsConfig, Config, ContentMode, DeliveryPolicy, Log, LogLevel, ProcessorConfig,
    ProcessorKind, Secret, SourceConfig, SourceKind, StartAt, StateLocation, Vcenter,
};
use crate::telemetry::log;

/// Time to wait for late events after the last one arrived.
const PATIENCE: Duration = Duration::from_secs(30);

/// Watch the router at work, without any set-up.
///
/// Starts a synthetic vCenter on loopback and reads its events by SOAP over HTTP. They pass through
/// the whole pipeline to a local HTTP function, which counts and verifies them. Ends with
/// Ctrl-C or after `--events`. The exit code is 1 if an event was lost or changed.
#[derive(Debug, Args)]
pub struct DemoArgs {
    /// Events per second; by default as many as the router reads
    #[arg(long, value_name = "N", value_parser = rate)]
    rate: Option<f64>,
    /// Stop after N events; by default it does not stop
    #[arg(long, value_name = "N")]
    events: Option<u64>,
    /// Send one HTTP request per event instead of batches
    #[arg(long)]
    per_event: bool,
    #[command(flatten)]
    log: LogArgs,
}

/// Parses a rate. At a rate of 0 the demo would wait for its first event without end.
fn rate(text: &str) -> Result<f64, &'static str> {
    let rate = text.parse().ok().filter(|rate: &f64| rate.is_finite() && *rate > 0.0);
    rate.ok_or("must be a number greater than 0")
}

pub(super) fn run(args: &DemoArgs) -> anyhow::Result<Exit> {
    let quiet = Log { level: LogLevel::Warn, ..Log::default() };
    log::install(&args.log.over(&quiet));
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .context("cannot start the I/O runtime")?;
    runtime.block_on(demo(args))
}

async fn demo(args: &DemoArgs) -> anyhow::Result<Exit> {
    // Start the vCenter, the function and the router.
    let pace = args.rate.map_or(Pace::Endless, Pace::Rate);
    let vcenter = VCenter::start(Options { pace, total: args.events, ..Options::default() }).await?;
    let verifier = Arc::new(Verifier::new());
    verifier.watch(&vcenter);
    let function = Sink::start(SinkOptions::default(), Arc::clone(&verifier)).await?;
    say!("vCenter (synthetic)  {}", vcenter.url())?;
    say!("function (counts)    {}", function.url())?;
    let router = Router::start(Arc::new(config(&vcenter, &function, args.per_event)))?;
    let mut failed = router.supervisor().failed();
    let start = Instant::now();
    // Watch until the end, or Ctrl-C.
    let interrupted = tokio::select! {
        () = watch(&verifier, args.events, start) => false,
        _ = tokio::signal::ctrl_c() => true,
        reason = failed.wait_for(Option::is_some) => anyhow::bail!("{}", reason.ok().and_then(|reason| reason.clone()).unwrap_or_default()),
    };
    // Stop the router, and verify.
    let took = start.elapsed();
    vcenter.set_pace(Pace::Idle);
    let drained = router.stop().await?;
    let report = verifier.report();
    // After Ctrl-C, events that were not read are not lost: the next start would read them.
    let lost = if interrupted { 0 } else { report.total.missing };
    summary(&report, lost, took, drained.settled)?;
    let good =
        lost == 0 && report.total.wrong_ids == 0 && report.total.unknown == 0 && report.unreadable == 0;
    Ok(if good { Exit::Done } else { Exit::Failed })
}

/// Shows a progress line until `events` have arrived, or none has arrived for too long.
async fn watch(verifier: &Verifier, events: Option<u64>, start: Instant) {
    let bar = indicatif::ProgressBar::new_spinner();
    let (mut before, mut since, mut quiet_since) = (0, start, Instant::now());
    loop {
        tokio::time::sleep(Duration::from_millis(100)).await;
        let tally = verifier.progress();
        let done = events.is_some_and(|events| tally.unique >= events);
        if since.elapsed() >= Duration::from_secs(1) || done {
            let rate = (tally.unique - before) as f64 / since.elapsed().as_secs_f64();
            let latency = verifier.take_latency();
            let lag = tally.expected.saturating_sub(tally.unique);
            bar.set_message(format!(
                "{rate:>9.0} events/s   delivered {:>10}   latency p50 {:>6.1} ms  p99 {:>6.1} ms   lag {lag} events",
                tally.unique,
                latency.p50_us as f64 / 1e3,
                latency.p99_us as f64 / 1e3,
            ));
            bar.tick();
            if tally.unique > before {
                quiet_since = Instant::now();
            }
            (before, since) = (tally.unique, Instant::now());
        }
        if done || (events.is_some() && quiet_since.elapsed() > PATIENCE) {
            bar.finish();
            return;
        }
    }
}

fn summary(report: &Report, lost: u64, took: Duration, settled: bool) -> anyhow::Result<()> {
    let total = &report.total;
    say!("")?;
    say!("delivered   {:>12}", total.unique)?;
    say!("lost        {lost:>12}")?;
    say!("duplicated  {:>12}", total.duplicates)?;
    say!("wrong id    {:>12}", total.wrong_ids)?;
    say!("out of order{:>12}", total.out_of_order)?;
    say!("settled     {:>12}", if settled { "all" } else { "not all" })?;
    say!(
        "rate        {:>12.0} events/s over {:.1} s",
        total.unique as f64 / took.as_secs_f64(),
        took.as_secs_f64()
    )?;
    say!(
        "latency     p50 {:.1} ms   p99 {:.1} ms   max {:.1} ms (creation to receipt)",
        report.latency.p50_us as f64 / 1e3,
        report.latency.p99_us as f64 / 1e3,
        report.latency.max_us as f64 / 1e3
    )
}

fn config(vcenter: &VCenter, function: &Sink, per_event: bool) -> Config {
    let options = Options::default();
    let mut source = Vcenter::new(vcenter.url(), options.user, Secret::inline(options.password));
    source.start_at = StartAt::Beginning;
    let mode = if per_event { ContentMode::Structured } else { ContentMode::Batched };
    let target = CloudEventsConfig { mode, ..CloudEventsConfig::new(function.url()) };
    let source = SourceConfig { name: "demo-vcenter".into(), kind: SourceKind::Vcenter(source) };
    let processor = ProcessorConfig {
        name: "demo-function".into(),
        kind: ProcessorKind::CloudEvents(target),
        delivery: DeliveryPolicy::default(),
    };
    Config {
        admin: Admin { bind_address: None, ..Admin::default() },
        ..Config::new(StateLocation::Ephemeral, vec![source], vec![processor])
    }
}
