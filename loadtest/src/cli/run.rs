//! `loadtest run`: one workload, one verdict.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::Context;
use clap::Args;
use testbed::vcenter::Mix;

use super::End;
use crate::measure::sample::Sample;
use crate::result::RunResult;
use crate::run::{self, Progress, Settings, Verdict, Whose};
use crate::stand::router;
use crate::workload::{Delay, Ordering, Rate, Shape, Workload, fields, mix};

/// Run one workload against a router and say whether anything was lost, repeated, changed or late.
///
/// Everything runs on this machine: the synthetic vCenters and the target in this process, the router in one of its own. Flags override what the workload says.
#[derive(Debug, Args)]
pub struct RunArgs {
    /// A workload file, or the name of one that is built in (`loadtest workloads`)
    workload: String,
    /// Keep the router's configuration, log and data in this folder
    #[arg(long, value_name = "FOLDER")]
    folder: Option<PathBuf>,
    /// Write the result as JSON to this file; `-` is stdout, instead of the table
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// Time between two samples
    #[arg(long, value_name = "TIME", default_value = "1s", value_parser = fields::duration)]
    sample_interval: Duration,
    #[command(flatten)]
    router: RouterArgs,
    #[command(flatten)]
    overrides: Overrides,
}

/// Which router is tested.
#[derive(Debug, Args)]
#[command(next_help_heading = "Which router")]
pub struct RouterArgs {
    /// The router's binary; the one beside this program if left out
    #[arg(long, value_name = "PATH")]
    router: Option<PathBuf>,
    /// Start no router: write its configuration to this file, wait until somebody has started one with it, and leave it running
    #[arg(long, value_name = "CONFIG", conflicts_with = "router")]
    attach: Option<PathBuf>,
    /// Where that router's admin listener is, or is to be
    #[arg(long, value_name = "HOST:PORT", default_value = "127.0.0.1:8082", requires = "attach")]
    admin: String,
    /// That router's process, to measure its memory and processor time
    #[arg(long, value_name = "PID", requires = "attach")]
    pid: Option<u32>,
    /// Processors that the router may use, as `0,2-3`
    #[arg(long, value_name = "LIST", value_parser = cpus, conflicts_with = "attach")]
    cpus: Option<Cpus>,
}

/// Numbers of processors.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cpus(pub Vec<usize>);

fn cpus(text: &str) -> Result<Cpus, String> {
    let wrong = || "must be numbers of processors such as `0,2-3`, each below 1024".to_owned();
    let number = |text: &str| text.parse().ok().filter(|number| *number < 1024).ok_or_else(wrong);
    let mut list = Vec::new();
    for part in text.split(',') {
        let (from, to) = part.split_once('-').unwrap_or((part, part));
        let (from, to): (usize, usize) = (number(from)?, number(to)?);
        if from > to {
            return Err(wrong());
        }
        list.extend(from..=to);
    }
    Ok(Cpus(list))
}

impl RouterArgs {
    pub fn whose(&self) -> anyhow::Result<Whose> {
        Ok(match &self.attach {
            Some(config) => {
                Whose::Theirs { config: config.clone(), admin: self.admin.clone(), pid: self.pid }
            }
            None => {
                let program = router::find(self.router.as_deref())?;
                Whose::Ours { program, cpus: self.cpus.clone().map(|cpus| cpus.0) }
            }
        })
    }
}

/// Fields of the workload that flags override.
#[derive(Debug, Args)]
#[command(next_help_heading = "Instead of what the workload says")]
pub struct Overrides {
    /// Number of vCenters
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=256))]
    vcenters: Option<u32>,
    /// Events a second over all vCenters, or `unbounded`
    #[arg(long, value_name = "RATE", value_parser = Rate::parse)]
    rate: Option<Rate>,
    /// Events to create
    #[arg(long, value_name = "N", value_parser = fields::whole(1, 1 << 40))]
    events: Option<u64>,
    /// How long events are created
    #[arg(long, value_name = "TIME", value_parser = fields::duration)]
    duration: Option<Duration>,
    /// Events that exist at the start
    #[arg(long, value_name = "N", value_parser = fields::whole(0, 1 << 32))]
    backlog: Option<u64>,
    /// steady, bootStorm, drsStorm, alarmFlood, loginStorm, eventExHeavy or largeTasks
    #[arg(long, value_parser = mix)]
    mix: Option<Mix>,
    /// batched, structured, binary, openfaas or eventbridge
    #[arg(long, value_parser = Shape::parse)]
    shape: Option<Shape>,
    /// source, entity or none
    #[arg(long, value_parser = Ordering::parse)]
    ordering: Option<Ordering>,
    /// Requests in flight at most
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=1024))]
    concurrency: Option<u32>,
    /// How long the target takes for a request
    #[arg(long, value_name = "TIME", value_parser = fields::duration)]
    delay: Option<Duration>,
    /// HTTPS to the vCenters
    #[arg(long, value_name = "BOOL", num_args = 0..=1, default_missing_value = "true")]
    https: Option<bool>,
    /// HTTPS to the target
    #[arg(long, value_name = "BOOL", num_args = 0..=1, default_missing_value = "true")]
    target_https: Option<bool>,
    /// Spill to disk what the target cannot take at once; otherwise sources wait
    #[arg(long, value_name = "BOOL", num_args = 0..=1, default_missing_value = "true")]
    spill: Option<bool>,
    /// What makes two runs the same
    #[arg(long, value_name = "N")]
    seed: Option<u64>,
}

impl Overrides {
    fn apply(&self, workload: &mut Workload) {
        fn set<T: Clone>(field: &mut T, value: &Option<T>) {
            if let Some(value) = value {
                field.clone_from(value);
            }
        }
        set(&mut workload.vcenters, &self.vcenters);
        set(&mut workload.rate, &self.rate);
        set(&mut workload.backlog, &self.backlog);
        set(&mut workload.mix, &self.mix);
        set(&mut workload.target.shape, &self.shape);
        set(&mut workload.target.ordering, &self.ordering);
        set(&mut workload.https, &self.https);
        set(&mut workload.target.https, &self.target_https);
        set(&mut workload.target.spill, &self.spill);
        set(&mut workload.seed, &self.seed);
        set(&mut workload.target.delay, &self.delay.map(Delay::Fixed));
        workload.events = self.events.or(workload.events);
        workload.duration = self.duration.or(workload.duration);
        workload.target.concurrency = self.concurrency.or(workload.target.concurrency);
    }
}

pub(super) fn run(args: &RunArgs) -> anyhow::Result<End> {
    let mut workload = match Workload::load(&args.workload) {
        Ok(workload) => workload,
        Err(errors) => return usage(&errors),
    };
    args.overrides.apply(&mut workload);
    if let Err(errors) = workload.check() {
        return usage(&errors);
    }
    let settings = Settings {
        whose: args.router.whose()?,
        folder: args.folder.clone(),
        sample_interval: args.sample_interval.max(Duration::from_millis(50)),
    };
    let result = super::runtime()?.block_on(watched(&workload, &settings))?;
    match &args.json {
        Some(file) if file.as_os_str() == "-" => {
            super::show(&(serde_json::to_string_pretty(&result)? + "\n"))?
        }
        Some(file) => {
            let text = serde_json::to_string_pretty(&result)?;
            std::fs::write(file, text).with_context(|| format!("cannot write {}", file.display()))?;
            super::show(&result.table())?;
        }
        None => super::show(&result.table())?,
    }
    Ok(if result.passed { End::Done } else { End::Failed })
}

fn usage(errors: &crate::workload::tree::WorkloadErrors) -> anyhow::Result<End> {
    eprintln!("{errors}");
    Ok(End::Usage)
}

/// Shows progress; Ctrl-C ends the events and still gives a verdict, a second one ends at once.
async fn watched(workload: &Workload, settings: &Settings) -> anyhow::Result<RunResult> {
    let bar = indicatif::ProgressBar::new_spinner();
    bar.enable_steady_tick(Duration::from_millis(200));
    bar.set_message(format!("{}: starting", workload.name));
    let interrupts = std::sync::Arc::new(std::sync::atomic::AtomicU32::new(0));
    let counted = std::sync::Arc::clone(&interrupts);
    let listener = tokio::spawn(async move {
        while tokio::signal::ctrl_c().await.is_ok() {
            counted.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        }
    });
    let mut draining = false;
    let mut observe = |progress: Progress<'_>| {
        match progress {
            Progress::WaitingForRouter { config } => {
                bar.println(format!("start a router: event-router run --config {}", config.display()));
                bar.set_message("waiting for the router");
            }
            Progress::Sample(sample) => bar.set_message(line(sample, draining)),
            Progress::Draining => draining = true,
        }
        match interrupts.load(std::sync::atomic::Ordering::Relaxed) {
            0 => Verdict::GoOn,
            1 => Verdict::Enough,
            _ => Verdict::GiveUp,
        }
    };
    let result = run::run(workload, settings, &mut observe).await;
    listener.abort();
    bar.finish_and_clear();
    Ok(result?)
}

fn line(sample: &Sample, draining: bool) -> String {
    let ms = |micros: u64| micros as f64 / 1e3;
    let mut line = format!(
        "{:>5.0} s   created {:>8.0}/s   delivered {:>8.0}/s   lag {:>7}   p50 {:>7.1} ms   p99 {:>7.1} ms",
        sample.seconds,
        sample.created_rate,
        sample.delivered_rate,
        sample.lag_events,
        ms(sample.p50_us),
        ms(sample.p99_us),
    );
    if let (Some(cores), Some(rss)) = (sample.router_cores, sample.rss_bytes) {
        line.push_str(&format!("   router {:>3.0} % CPU, {:>5.1} MB", cores * 100.0, rss as f64 / 1e6));
    }
    if draining {
        line.push_str("   draining");
    }
    line
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn processors_are_lists_and_ranges() {
        assert_eq!(cpus("0,2-3"), Ok(Cpus(vec![0, 2, 3])));
        for wrong in ["", "a", "3-1", "1024", "0,,1"] {
            assert!(cpus(wrong).is_err(), "{wrong}");
        }
    }
}
