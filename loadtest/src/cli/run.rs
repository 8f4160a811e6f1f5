//! `loadtest run`: one workload, one verdict.

use std::ops::ControlFlow;
use std::path::PathBuf;
use std::time::Duration;

use clap::Args;
use hyper::http::uri::Authority;

use super::End;
use super::options::{Load, Overrides, OwnRouter};
use super::output::Output;
use super::watch::{Watch, line};
use crate::result::{Outcome, RunResult};
use crate::run::{self, Progress, RunError, Settings, Whose};
use crate::workload::{Workload, fields};

/// Run one workload against a router and say whether anything was lost, repeated, overtaken or late, or has a wrong id.
///
/// Everything runs on this machine: the synthetic vCenters and the target in this process, the router in one of its own. Flags override what the workload says.
///
/// Ctrl-C, SIGTERM and SIGHUP end the events; those under way are waited for, and the result says that it was interrupted. Again, and all ends at once: the router is killed, and what has not arrived does not count as lost.
///
/// Exit code 0 if the run passed, 1 if it failed or broke off, 2 if arguments or workload are wrong, 130 if it was interrupted.
#[derive(Debug, Args)]
pub struct RunArgs {
    /// A workload file, or the name of one that is built in (`loadtest workloads`)
    workload: String,
    /// Keep the router's configuration, log and data in this folder; without it they are removed at the end, but for `--attach`
    #[arg(long, value_name = "FOLDER")]
    folder: Option<PathBuf>,
    #[command(flatten)]
    output: Output,
    /// Time between two samples
    #[arg(long, value_name = "TIME", default_value = "1s", value_parser = fields::duration)]
    sample_interval: Duration,
    /// Leave events received before this time out of the latency and load figures; the result says
    /// how many they are
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
    #[arg(long, value_name = "HOST:PORT", default_value = "127.0.0.1:8082", requires = "attach", value_parser = address)]
    admin: String,
    /// That router's process, to measure its memory and CPU time
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
            "`--warm-up {warm_up:?}`: events are created for {length:?}, nothing would be left to measure"
        ));
    }
    workload.troubles_too_late().iter().for_each(|late| super::complain(late));
    let settings = Settings {
        whose: args.router.whose()?,
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

/// Shows progress; what Ctrl-C does is [`run::run`]'s business, and is said here.
async fn watched(workload: &Workload, settings: &Settings) -> anyhow::Result<Result<RunResult, RunError>> {
    let (watch, interrupts) = Watch::new(format!("{}: starting", workload.name), |count| match count {
        1 => Some("interrupted: the run comes to its end; once more ends it at once"),
        2 => Some("ended at once: the router is killed, and what has not arrived does not count as lost"),
        _ => None,
    })?;
    let mut draining = "";
    let mut observe = |progress: Progress<'_>| {
        match progress {
            Progress::WaitingForRouter { config, folder } => {
                watch.say(&format!("start a router: event-router run --config {}", config.display()));
                watch.say(&format!("its data will be in {}, and stay there", folder.display()));
                watch.show("waiting for the router".into());
            }
            Progress::Sample(sample) => watch.show(line(sample) + draining),
            Progress::Draining => draining = "   draining",
        }
        ControlFlow::Continue(())
    };
    Ok(run::run(workload, settings, &interrupts, &mut observe).await)
}
