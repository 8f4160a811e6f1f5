//! `loadtest run`: one workload, one verdict.

use std::path::PathBuf;
use std::time::Duration;

use clap::Args;

use super::End;
use super::options::{Load, Overrides, OwnRouter};
use super::output::Output;
use super::watch::{Watch, line};
use crate::result::{Outcome, RunResult};
use crate::run::{self, Progress, Settings, Verdict, Whose};
use crate::workload::{Workload, fields};

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
    #[command(flatten)]
    output: Output,
    /// Time between two samples
    #[arg(long, value_name = "TIME", default_value = "1s", value_parser = fields::duration)]
    sample_interval: Duration,
    /// Latency and load count after this time
    #[arg(long, value_name = "TIME", default_value = "0s", value_parser = fields::duration)]
    warm_up: Duration,
    #[command(flatten)]
    router: RouterArgs,
    #[command(flatten)]
    load: Load,
    #[command(flatten)]
    overrides: Overrides,
}

/// Which router is tested.
#[derive(Debug, Args)]
#[command(next_help_heading = "Which router")]
pub struct RouterArgs {
    #[command(flatten)]
    own: OwnRouter,
    /// Start no router: write its configuration to this file, wait until somebody has started one with it, and leave it running
    #[arg(long, value_name = "CONFIG", conflicts_with_all = ["router", "cpus"])]
    attach: Option<PathBuf>,
    /// Where that router's admin listener is, or is to be
    #[arg(long, value_name = "HOST:PORT", default_value = "127.0.0.1:8082", requires = "attach")]
    admin: String,
    /// That router's process, to measure its memory and processor time
    #[arg(long, value_name = "PID", requires = "attach")]
    pid: Option<u32>,
}

impl RouterArgs {
    pub fn whose(&self) -> anyhow::Result<Whose> {
        Ok(match &self.attach {
            Some(config) => {
                Whose::Theirs { config: config.clone(), admin: self.admin.clone(), pid: self.pid }
            }
            None => Whose::Ours { program: self.own.program()?, cpus: self.own.cpus() },
        })
    }
}

pub(super) fn run(args: &RunArgs) -> anyhow::Result<End> {
    let mut workload = match Workload::load(&args.workload) {
        Ok(workload) => workload,
        Err(errors) => return super::usage(&errors),
    };
    args.load.apply(&mut workload);
    args.overrides.apply(&mut workload);
    if let Err(errors) = workload.check() {
        return super::usage(&errors);
    }
    let settings = Settings {
        whose: args.router.whose()?,
        folder: args.folder.clone(),
        sample_interval: args.sample_interval.max(Duration::from_millis(50)),
        warm_up: args.warm_up,
    };
    let result = super::runtime()?.block_on(watched(&workload, &settings))?;
    let outcome = Outcome::Run(Box::new(result));
    args.output.write(&outcome)?;
    Ok(if outcome.passed() { End::Done } else { End::Failed })
}

/// Shows progress; Ctrl-C ends the events and still gives a verdict, a second one ends at once.
async fn watched(workload: &Workload, settings: &Settings) -> anyhow::Result<RunResult> {
    let watch = Watch::new(format!("{}: starting", workload.name));
    let mut draining = "";
    let mut observe = |progress: Progress<'_>| {
        match progress {
            Progress::WaitingForRouter { config } => {
                watch.say(&format!("start a router: event-router run --config {}", config.display()));
                watch.show("waiting for the router".into());
            }
            Progress::Sample(sample) => watch.show(line(sample) + draining),
            Progress::Draining => draining = "   draining",
        }
        match watch.interrupts() {
            0 => Verdict::GoOn,
            1 => Verdict::Enough,
            _ => Verdict::GiveUp,
        }
    };
    Ok(run::run(workload, settings, &mut observe).await?)
}
