//! `loadtest run`: runs one workload and gives a verdict.

use std::ops::ControlFlow;
use std::path::PathBuf;
use std::time::Duration;

use clap::Args;
use hyper::http::uri::Authority;

use super::End;
use super::options::{LoadFlags, Overrides, OwnRouter};
use super::output::OutputFlags;
use super::progress::{ProgressLine, line};
use crate::result::{Outcome, RunResult};
use crate::run::{self, Progress, RouterUnderTest, RunError, Settings};
use crate::workload::{Workload, fields};

/// Run one workload against a router and check whether events were lost, repeated, overtaken or
/// late, or have a wrong id.
///
/// Everything runs on this machine: the synthetic vCenters and the target in this process, the
/// router in its own. Flags override the workload.
///
/// Ctrl-C, SIGTERM and SIGHUP end the events; those in flight are waited for, and the result is
/// marked as interrupted. A second signal ends everything at once: the router is killed, and
/// missing events do not count as lost.
///
/// Exit code 0 if the run passed, 1 if it failed or broke off, 2 if arguments or workload are
/// wrong, 130 if interrupted.
#[derive(Debug, Args)]
pub struct RunArgs {
    /// Workload: a file or a built-in name (see `loadtest workloads`)
    workload: String,
    /// Keep the router's configuration, log and data in this folder; by default they are removed at
    /// the end, except with `--attach`
    #[arg(long, value_name = "FOLDER")]
    folder: Option<PathBuf>,
    #[command(flatten)]
    output: OutputFlags,
    /// Time between two samples
    #[arg(long, value_name = "TIME", default_value = "1s", value_parser = fields::duration)]
    sample_interval: Duration,
    /// Leave events received before this time out of the latency and load figures; the result
    /// states their number
    #[arg(long, value_name = "TIME", default_value = "0s", value_parser = fields::duration)]
    warm_up: Duration,
    #[command(flatten)]
    router: RouterArgs,
    #[command(flatten)]
    load: LoadFlags,
    #[command(flatten)]
    overrides: Overrides,
}

/// The router to test.
#[derive(Debug, Args)]
#[command(next_help_heading = "Router")]
pub struct RouterArgs {
    #[command(flatten)]
    own: OwnRouter,
    /// Start no router: write its configuration to this file, wait until somebody starts a router
    /// with it, and leave that running
    #[arg(long, value_name = "CONFIG", conflicts_with_all = ["router", "cpus"])]
    attach: Option<PathBuf>,
    /// Address of that router's admin listener
    #[arg(long, value_name = "HOST:PORT", default_value = "127.0.0.1:8082", requires = "attach", value_parser = address)]
    admin: String,
    /// Process id of that router, to measure its memory and CPU time
    #[arg(long, value_name = "PID", requires = "attach")]
    pid: Option<u32>,
}

/// `HOST:PORT`.
fn address(text: &str) -> Result<String, String> {
    let parsed: Option<Authority> = text.parse().ok();
    let known = parsed
        .filter(|address| address.port_u16().is_some_and(|port| port > 0) && !address.host().is_empty());
    known.map(|_| text.to_owned()).ok_or_else(|| "must be HOST:PORT, such as `127.0.0.1:8082`".to_owned())
}

impl RouterArgs {
    pub fn under_test(&self) -> anyhow::Result<RouterUnderTest> {
        Ok(match &self.attach {
            Some(config) => {
                RouterUnderTest::Attached { config: config.clone(), admin: self.admin.clone(), pid: self.pid }
            }
            None => RouterUnderTest::Started { program: self.own.program()?, cpus: self.own.cpus() },
        })
    }
}

pub(super) fn run(args: &RunArgs) -> anyhow::Result<End> {
    if let Err(wrong) = args.output.check(Some(args.workload.as_ref())) {
        return super::usage(&wrong);
    }
    let mut workload = match Workload::load(&args.workload) {
        Ok(workload) => workload,
        Err(errors) => return super::wrong_workload(&errors),
    };
    args.load.apply(&mut workload);
    args.overrides.apply(&mut workload);
    if let Err(errors) = workload.check() {
        return super::wrong_workload(&errors);
    }
    if let Some(length) = workload.length().filter(|length| args.warm_up >= *length) {
        let warm_up = args.warm_up;
        return super::usage(&format!(
            "`--warm-up {warm_up:?}`: events are created for {length:?} only; nothing would be left to measure"
        ));
    }
    // A trouble that never happens is worth a remark, but not an error.
    workload.troubles_too_late().iter().for_each(|late| super::complain(late));
    let settings = Settings {
        router: args.router.under_test()?,
        folder: args.folder.clone(),
        sample_interval: args.sample_interval.max(Duration::from_millis(50)),
        warm_up: args.warm_up,
    };
    let result = match super::runtime()?.block_on(watched(&workload, &settings))? {
        Err(error @ RunError::Interrupted) => {
            super::complain(&error.to_string());
            return Ok(End::Interrupted);
        }
        Err(error @ RunError::Used { .. }) => return super::usage(&error.to_string()),
        result => result?,
    };
    let outcome = Outcome::Run(Box::new(result));
    args.output.write(&outcome)?;
    Ok(End::of(&outcome))
}

/// Runs a workload and shows its progress. [`run::run`] defines the effect of Ctrl-C; this prints
/// it.
async fn watched(workload: &Workload, settings: &Settings) -> anyhow::Result<Result<RunResult, RunError>> {
    let (watch, interrupts) =
        ProgressLine::new(format!("{}: starting", workload.name), |count| match count {
            1 => Some("interrupted: waiting for events in flight; once more ends it at once"),
            2 => Some("ended at once: router killed; missing events do not count as lost"),
            _ => None,
        })?;
    let mut draining = "";
    let mut observe = |progress: Progress<'_>| {
        match progress {
            Progress::WaitingForRouter { config, folder } => {
                watch.say(&format!("start a router: event-router run --config {}", config.display()));
                watch.say(&format!("its data will be kept in {}", folder.display()));
                watch.show("waiting for the router".into());
            }
            Progress::Sample(sample) => watch.show(line(sample) + draining),
            Progress::Draining => draining = "   draining",
        }
        ControlFlow::Continue(())
    };
    Ok(run::run(workload, settings, &interrupts, &mut observe).await)
}
